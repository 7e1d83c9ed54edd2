//! Log events can be queried: their fields have the names of `node/src/telemetry/fields.rs`, and their messages are short and constant.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../node/src/telemetry/fields.rs"]
#[expect(unreachable_pub, reason = "the node's crate exports it")]
mod fields;

/// Crates that log.
const SOURCES: [&str; 5] = ["node/src", "cluster/src", "storage/src", "api/src", "api/cli/src"];
/// Macros of `tracing` that name fields.
const MACROS: [&str; 10] =
    ["trace", "debug", "info", "warn", "error", "trace_span", "debug_span", "info_span", "warn_span", "error_span"];
/// Longest message of an event, in characters.
const LONGEST_MESSAGE: usize = 64;
/// Faults that were there before this test: a file, and a field or [`MESSAGE`]. A fault that is mended leaves this list.
const KNOWN: &[(&str, &str)] = &[];
/// How [`KNOWN`] names a message.
const MESSAGE: &str = "message";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace").to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension() == Some("rs".as_ref()) {
            found.push(path);
        }
    }
    Ok(())
}

/// The arguments of every event and span in a source.
fn events(source: &str) -> Vec<Vec<String>> {
    let begins = source.match_indices("tracing::").filter_map(|(at, name)| {
        let (called, rest) = source[at + name.len()..].split_once("!(")?;
        MACROS.contains(&called).then_some(rest)
    });
    begins.map(arguments).collect()
}

/// What is between commas, up to the bracket that closes the call.
fn arguments(call: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut before, mut found) = (0, false, ' ', vec![String::new()]);
    for letter in call.chars() {
        let was_quoted = quoted;
        match letter {
            '"' if before != '\\' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        before = letter;
        if letter == ',' && depth == 0 && !was_quoted {
            found.push(String::new());
        } else {
            found.last_mut().expect("it begins with one").push(letter);
        }
    }
    let trimmed = found.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// What is wrong with an event: names of fields that are not in the list, and [`MESSAGE`].
fn faults(arguments: &[String]) -> Vec<String> {
    let (texts, named): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|argument| argument.starts_with('"'));
    let names = named.iter().map(|argument| {
        let name = argument.split_once(" = ").map_or(argument.as_str(), |(name, _)| name);
        name.trim_start_matches(['%', '?'])
    });
    let unknown = names.filter(|name| fields::FIELDS.iter().all(|(field, _)| field != name));
    let mut wrong: Vec<String> = unknown.map(str::to_owned).collect();
    let constant = |text: &String| text.chars().count() <= LONGEST_MESSAGE + 2 && !text.contains(['{', '\n']);
    if !matches!(texts[..], [text] if constant(text)) {
        wrong.push(MESSAGE.to_owned());
    }
    wrong
}

#[test]
fn fields_and_messages_of_log_events_are_those_of_the_list() -> std::io::Result<()> {
    let (mut found, mut count) = (BTreeSet::new(), 0);
    for folder in SOURCES {
        let mut files = Vec::new();
        rust_files(&root().join(folder), &mut files)?;
        for path in files {
            let name = path.strip_prefix(root()).expect("it was found below the root").to_string_lossy().into_owned();
            for event in events(&fs::read_to_string(&path)?) {
                count += 1;
                found.extend(faults(&event).into_iter().map(|fault| (name.clone(), fault)));
            }
        }
    }
    assert!(count > 50, "the sources have {count} events");
    let known: BTreeSet<_> = KNOWN.iter().map(|(file, fault)| ((*file).to_owned(), (*fault).to_owned())).collect();
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "other than node/src/telemetry/fields.rs has it, or a message that is long or varies: {new:?}");
    let mended: Vec<_> = known.difference(&found).collect();
    assert!(mended.is_empty(), "no longer there, so no longer excused: {mended:?}");
    Ok(())
}

#[test]
fn a_field_is_listed_once() {
    let names: BTreeSet<_> = fields::FIELDS.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), fields::FIELDS.len());
}

#[test]
fn the_faults_of_an_event_are_found() {
    let long = format!("tracing::warn!(\"{}\")", "x".repeat(LONGEST_MESSAGE + 1));
    // source, faults
    for (source, expected) in [
        (r#"tracing::warn!(shard = %group, peer = from, ?error, "two leaders, one term");"#, &[][..]),
        (r#"tracing::info!(%group, "leadership changed")"#, &["group"]),
        (r#"tracing::info!(shard.id = %host.shard, error = format!("a, {b}"), "leading")"#, &["shard.id"]),
        (r#"tracing::debug_span!("request", route = route.label(), id = id.as_str())"#, &["id"]),
        (r#"tracing::error!("{error}")"#, &[MESSAGE]),
        (r#"tracing::error!(%error)"#, &[MESSAGE]),
        (&long, &[MESSAGE]),
        (r#"tracing::subscriber::set(whatever)"#, &[]),
    ] {
        let found: Vec<String> = events(source).iter().flat_map(|event| faults(event)).collect();
        assert_eq!(found, expected, "{source}");
    }
}

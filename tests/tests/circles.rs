//! The rooms of a crate (the modules and folders directly in its `src`) do not import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Each crate with the rooms that take part in circles, from before this test. A room that leaves its circles leaves the list; no room
/// joins.
const CRATES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("api/cli", &[]),
    ("cluster", &[]),
    (
        "node",
        &[
            "adapters",
            "agreement",
            "clocks",
            "config",
            "context",
            "founding",
            "front",
            "health",
            "meta",
            "node",
            "operators",
            "peers",
            "platform",
            "recovery",
            "replicas",
            "room",
            "shard",
            "telemetry",
        ],
    ),
    ("node/domain", &["audit", "command", "encoding", "machine", "order", "reconcile", "rejection", "repair", "rows", "sku"]),
    ("node/domain/rows", &["checkpoint", "decoded", "maps", "row_table"]),
    ("sim", &["faults", "plan"]),
    ("storage", &["engine", "log", "records"]),
];

/// Rooms that a room imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_room_joins_a_circle_of_imports() -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project is above its tests")?;
    for (name, known) in CRATES {
        let found = in_circles(&imports(&project.join(name).join("src"))?);
        let known: BTreeSet<_> = known.iter().map(|room| (*room).to_owned()).collect();
        let joined: Vec<_> = found.difference(&known).collect();
        assert!(joined.is_empty(), "rooms of {name} that import each other in a circle now: {joined:?}");
        let left: Vec<_> = known.difference(&found).collect();
        assert!(left.is_empty(), "rooms of {name} that are in no circle any more: take them off the list: {left:?}");
    }
    Ok(())
}

#[test]
fn circles_are_found() {
    let imports = |edges: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in edges {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        in_circles(&imports).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(imports(&[("a", "b"), ("b", "c"), ("a", "c")]), "");
    assert_eq!(imports(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]), "b c");
    assert_eq!(imports(&[("a", "b"), ("b", "c"), ("c", "a")]), "a b c");
}

#[test]
fn what_a_file_imports_is_read_from_its_paths() {
    let rooms: BTreeSet<_> = ["engine", "log", "codec"].map(str::to_owned).into();
    let faces = BTreeMap::from([("SharedLog".to_owned(), "log".to_owned())]);
    let named = |text: &str, top: bool| named(text, top, &rooms, &faces).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(named("use crate::engine::{Batch, Engine};\nfn f() { crate::codec::seal() }", false), "codec engine");
    assert_eq!(named("use crate::{codec::Kind,\n    SharedLog};", false), "codec log");
    assert_eq!(named("//! See [`crate::engine`].\nuse super::log::keys;", false), "", "its own room");
    assert_eq!(named("use super::log::keys;", true), "log", "a file in `src` itself");
    assert_eq!(named("use crate::engine;\n#[cfg(test)]\nmod tests { use crate::log; }", false), "engine");
}

/// Rooms that can be reached from themselves.
fn in_circles(imports: &Imports) -> BTreeSet<String> {
    let reaches_itself = |room: &&String| {
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<_> = imports[*room].iter().collect();
        while let Some(next) = ahead.pop() {
            if seen.insert(next) {
                ahead.extend(imports.get(next).into_iter().flatten());
            }
        }
        seen.contains(*room)
    };
    imports.keys().filter(reaches_itself).cloned().collect()
}

fn imports(source: &Path) -> Result<Imports> {
    let files = files(source)?;
    let room = |file: &Path| -> Option<String> {
        let first = file.strip_prefix(source).ok()?.components().next()?;
        let name = first.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
        (!["lib", "main", "bin", "tests"].contains(&name.as_str())).then_some(name)
    };
    let rooms: BTreeSet<_> = files.iter().filter_map(|file| room(file)).collect();
    let faces = faces(&fs::read_to_string(source.join("lib.rs")).unwrap_or_default(), &rooms);
    let mut imports = Imports::new();
    for file in &files {
        let Some(own) = room(file) else { continue };
        let top = file.parent() == Some(source);
        let mut named = named(&fs::read_to_string(file)?, top, &rooms, &faces);
        named.remove(&own);
        imports.entry(own).or_default().append(&mut named);
    }
    Ok(imports)
}

/// The files of the product in a folder, without those of its tests.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["tests", "tests.rs", "testing.rs"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Names that the face of a crate re-exports, by the room that they are from.
fn faces(lib: &str, rooms: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut faces = BTreeMap::new();
    for statement in code(lib).split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else { continue };
        let room = words(path).next().unwrap_or_default();
        if rooms.contains(room) {
            faces.extend(words(path).skip(1).map(|name| (name.to_owned(), room.to_owned())));
        }
    }
    faces
}

/// The rooms that a file names. `top`: it is directly in `src`, so that `super` is the crate.
fn named(text: &str, top: bool, rooms: &BTreeSet<String>, faces: &BTreeMap<String, String>) -> BTreeSet<String> {
    let code = code(text);
    let mut found = BTreeSet::new();
    for root in ["crate::", "super::"].into_iter().filter(|root| top || *root == "crate::") {
        for (at, _) in code.match_indices(root) {
            let path = &code[at + root.len()..];
            for name in heads(path) {
                found.extend(rooms.get(name).or_else(|| faces.get(name)).cloned());
            }
        }
    }
    found
}

/// The first names of a path: one, or those of the braces that it begins with.
fn heads(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else { return words(path).take(1).collect() };
    let (mut depth, mut begins, mut heads) = (0, true, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                heads.extend(words(&group[at..]).next());
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').filter(|word| !word.is_empty())
}

/// A file without comments and without its tests.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

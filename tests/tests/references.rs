//! Whatever a comment or a Markdown file names has to exist: files, rules of placing, transitions of an order, scenarios,
//! planted bugs, tests, functions. And the rule book names what cites it.
//!
//! [`Repository`] knows what there is, [`missing`] says what a line of text names that is not there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

const BOOK: &str = "node/domain/src/protocol.md";
const LIFECYCLE: &str = "node/domain/src/order/lifecycle.md";
/// Folders of the repository whose paths are told from other words with a slash by how they begin.
const FOLDERS: [&str; 6] = ["node/", "cluster/", "storage/", "api/", "sim/", "tests/"];
/// Endings by which a word is a file.
const ENDINGS: [&str; 5] = [".md", ".rs", ".toml", ".sh", ".patch"];
/// What is named and is not ours: a file that a user writes, a header, an algorithm.
const FOREIGN: [&str; 3] = ["n1.toml", "ETag", "SplitMix64"];
/// Files that name what is not code: the columns of a table; names that are made up.
const NO_CODE: [&str; 2] = ["tests/data/README.md", "tests/tests/references.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace").to_owned()
}

/// Everything that a reference may name.
#[derive(Default)]
struct Repository {
    /// Files and folders, from the root.
    paths: BTreeSet<String>,
    /// Every identifier in Rust code, comments aside, by file.
    words: BTreeMap<String, HashSet<String>>,
    /// Every quoted name in Rust code that is words joined by hyphens.
    quoted: HashSet<String>,
    functions: HashSet<String>,
    /// Planted bugs, with the rules that each breaks.
    planted: BTreeMap<String, Vec<String>>,
    /// Scenarios, with the rules that each shows.
    scenarios: BTreeMap<String, Vec<String>>,
    /// Numbers of the rules, in the order of the book.
    rules: Vec<String>,
    transitions: BTreeSet<String>,
}

/// The readable part of a file: line numbers, and what a person reads there.
type Prose = Vec<(usize, String)>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git", "bench-out"].contains(&name.as_str()) {
            found.push(path.clone());
            files(&path, found)?;
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

impl Repository {
    /// What there is below the root, and the prose of every file that has any.
    fn read() -> Result<(Self, BTreeMap<String, Prose>)> {
        let (mut repository, mut prose, mut found) = (Self::default(), BTreeMap::new(), Vec::new());
        files(&root(), &mut found)?;
        for path in found {
            let name = path.strip_prefix(root()).expect("it was found below the root").to_string_lossy().into_owned();
            let readable = ENDINGS.iter().any(|ending| name.ends_with(ending)) || name == "Makefile";
            if readable && path.is_file() {
                let text = fs::read_to_string(&path)?;
                if !NO_CODE.contains(&name.as_str()) {
                    repository.take(&name, &text);
                }
                prose.insert(name.clone(), prose_of(&name, &text));
            }
            repository.paths.insert(name);
        }
        Ok((repository, prose))
    }

    /// Learns what a file defines.
    fn take(&mut self, name: &str, text: &str) {
        if name == BOOK {
            self.rules = headings(text).map(|(number, _)| number.to_owned()).collect();
        } else if name == LIFECYCLE {
            let first = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
            self.transitions = first.filter(|word| is_transition(word)).map(str::to_owned).collect();
        } else if let Some(bug) = name.strip_prefix("sim/mutants/").and_then(|name| name.strip_suffix(".patch")) {
            let breaks = text.lines().find_map(|line| line.strip_prefix("# breaks: ")).unwrap_or_default();
            self.planted.insert(bug.to_owned(), cited_rules(breaks));
        } else if name.ends_with(".rs") {
            let code: Vec<&str> = text.lines().map(|line| split_comment(line).0).collect();
            if name.starts_with("sim/src/scenarios/") {
                self.take_scenarios(&code);
            }
            let words = self.words.entry(name.to_owned()).or_default();
            for line in code {
                words.extend(identifiers(line).map(str::to_owned));
                self.quoted.extend(line.split('"').skip(1).step_by(2).filter(|name| is_kebab(name)).map(str::to_owned));
                let named = line.split("fn ").skip(1).filter_map(|rest| identifiers(rest).next());
                self.functions.extend(named.map(str::to_owned));
            }
        }
    }

    fn take_scenarios(&mut self, code: &[&str]) {
        let field = |line: &str, name: &str| {
            let value = line.trim().strip_prefix(name)?.strip_prefix(": \"")?;
            Some(value.split('"').next()?.to_owned())
        };
        let mut scenario = None;
        for line in code {
            scenario = field(line, "name").or(scenario);
            if let (Some(rule), Some(name)) = (field(line, "rule"), &scenario) {
                self.scenarios.insert(name.clone(), cited_rules(&rule));
            }
        }
    }

    fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let behind = format!("/{path}");
        self.paths.contains(path) || self.paths.iter().any(|known| known.ends_with(&behind)) || FOREIGN.contains(&path)
    }

    fn has_word(&self, word: &str) -> bool {
        self.words.values().any(|words| words.contains(word))
    }

    /// Whether all parts of a path of code exist, as `Order::place` or `crate::machine`. What begins with neither a type nor
    /// a module of ours is not judged.
    fn has_item(&self, path: &str, cited_in: &str) -> bool {
        let parts: Vec<&str> = path.split("::").map(|part| part.trim_end_matches("()")).collect();
        let is_word = |part: &&str| identifiers(part).next() == Some(*part);
        let [first, second, ..] = parts[..] else { return true };
        let source = cited_in.find("/src/").map_or("", |at| &cited_in[..at]);
        let ours = match first {
            "crate" => return self.has_module(source, second) && parts[2..].iter().all(|part| self.has_word(part)),
            _ => {
                first.starts_with(char::is_uppercase)
                    || self.has_path(&format!("src/{first}.rs"))
                    || self.has_path(&format!("{first}/mod.rs"))
            }
        };
        !ours || !parts.iter().all(is_word) || parts.iter().all(|part| self.has_word(part))
    }

    /// Whether a crate has a module of this name, or its root names it.
    fn has_module(&self, source: &str, name: &str) -> bool {
        let files = [format!("{source}/src/{name}.rs"), format!("{source}/src/{name}/mod.rs")];
        let roots = ["lib.rs", "main.rs"].map(|file| self.words.get(&format!("{source}/src/{file}")));
        files.iter().any(|file| self.paths.contains(file)) || roots.iter().flatten().any(|words| words.contains(name))
    }
}

/// Headings of the rule book: number and name.
fn headings(book: &str) -> impl Iterator<Item = (&str, &str)> {
    book.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(". "))
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_'))
}

/// Words of small letters and digits, joined by hyphens.
fn is_kebab(name: &str) -> bool {
    let small = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.contains('-') && name.split('-').all(|word| !word.is_empty() && word.chars().all(small))
}

/// A line of Rust as code and comment.
fn split_comment(line: &str) -> (&str, &str) {
    let (mut quoted, mut before) = (false, ' ');
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if before != '\\' && before != '\'' => quoted = !quoted,
            '/' if before == '/' && !quoted => return (&line[..at - 1], line[at + 1..].trim_start_matches(['/', '!'])),
            _ => {}
        }
        before = letter;
    }
    (line, "")
}

/// What a person reads in a file: Markdown outside of examples, comments, and the headers of patches.
fn prose_of(name: &str, text: &str) -> Prose {
    let part = |line: &str| -> String {
        if name.ends_with(".md") {
            line.to_owned()
        } else if name.ends_with(".rs") {
            split_comment(line).1.to_owned()
        } else {
            line.strip_prefix('#').or_else(|| Some(line.split_once(" # ")?.1)).unwrap_or_default().to_owned()
        }
    };
    let mut example = false;
    let outside = text.lines().map(part).enumerate().filter(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        example ^= fence;
        !fence && !example
    });
    outside.map(|(index, line)| (index + 1, line)).collect()
}

/// Numbers of the rules that a text cites: "rule 9", "rules 8, 10 and 15", "rules 26 to 28".
fn cited_rules(text: &str) -> Vec<String> {
    let (mut cited, mut citing, mut range) = (Vec::new(), false, None);
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|letter: char| !letter.is_alphanumeric());
        let number = bare.strip_suffix('a').unwrap_or(bare).parse::<u32>().ok();
        match number {
            Some(last) if citing => {
                cited.extend(range.take().into_iter().flat_map(|first: u32| first + 1..last).map(|rule| rule.to_string()));
                cited.push(bare.to_owned());
                citing = !word.ends_with([')', '.', ':', ';']);
            }
            _ if citing && bare == "to" => range = cited.last().and_then(|rule| rule.parse().ok()),
            _ if citing && bare == "and" => {}
            _ => (citing, range) = (matches!(bare.to_ascii_lowercase().as_str(), "rule" | "rules"), None),
        }
    }
    cited
}

/// Paths that a text names, with or without backticks.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let apart = |letter: char| letter.is_whitespace() || "`()[]{},;\"'<>|*=".contains(letter);
    let whole = text.split(apart).filter(|word| !word.contains("://") && !word.contains(['…', '$', '%', '~']));
    let words = whole.map(|word| word.trim_end_matches(['.', ':', '!', '?']).trim_start_matches("./"));
    words.filter(|word| {
        let begins = FOLDERS.iter().any(|folder| word.starts_with(folder) && word.len() > folder.len());
        // An ending alone is no file.
        begins || ENDINGS.iter().any(|ending| word.len() > ending.len() && word.ends_with(ending))
    })
}

/// What a line of prose names that does not exist.
fn missing(line: &str, cited_in: &str, repository: &Repository) -> Vec<String> {
    let mut missing = Vec::new();
    missing.extend(paths(line).filter(|path| !repository.has_path(path)).map(|path| format!("file {path}")));
    let rules = cited_rules(line).into_iter().filter(|rule| !repository.rules.contains(rule));
    missing.extend(rules.map(|rule| format!("rule {rule}")));
    let transitions = identifiers(line).filter(|word| is_transition(word) && !repository.transitions.contains(*word));
    missing.extend(transitions.map(|word| format!("transition {word}")));
    let played = line.contains("cenario") || line.contains("lanted bug");
    let named = names(line).into_iter().filter(|name| !FOREIGN.contains(name));
    missing.extend(named.filter_map(|name| missing_name(name, played, cited_in, repository)));
    missing
}

/// What is not there of a name between backticks. In a line about scenarios or planted bugs, two words are a name of one.
fn missing_name(name: &str, played: bool, cited_in: &str, repository: &Repository) -> Option<String> {
    if is_kebab(name) && (played || name.matches('-').count() > 1) {
        let there = repository.quoted.contains(name) || repository.planted.contains_key(name);
        return (!there).then(|| format!("scenario or planted bug {name}"));
    }
    if NO_CODE.contains(&cited_in) {
        return None;
    }
    let all = |of: fn(&char) -> bool| name.chars().all(|letter| of(&letter));
    let is_snake = name.contains('_') && all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == '_');
    let capitals = name.chars().filter(char::is_ascii_uppercase).count();
    let is_camel = capitals > 1
        && name.contains(char::is_lowercase)
        && name.starts_with(char::is_uppercase)
        && all(char::is_ascii_alphanumeric);
    let there = if is_snake || is_camel { repository.has_word(name) } else { repository.has_item(name, cited_in) };
    (!there).then(|| format!("item or test {name}"))
}

/// A number of the table of transitions: T14a.
fn is_transition(word: &str) -> bool {
    let digits = word.strip_prefix('T').map(|rest| rest.trim_end_matches(['a', 'b']));
    digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit()))
}

#[test]
fn what_comments_and_pages_name_is_there() -> Result<()> {
    let (repository, prose) = Repository::read()?;
    assert!(prose.len() > 300 && repository.rules.len() > 20, "{} files, rules {:?}", prose.len(), repository.rules);
    let mut wrong = Vec::new();
    for (file, lines) in &prose {
        for (number, line) in lines {
            let missing = missing(line, file, &repository);
            wrong.extend(missing.into_iter().map(|what| format!("{file}:{number}: there is no {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} references name what is not there:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The parts of a rule in the book: what stands behind "- Code:", "- Test:" and so on.
fn fields(section: &str) -> BTreeMap<&str, String> {
    let items = section.split("\n- ").skip(1).filter_map(|item| item.split_once(':'));
    items.map(|(name, text)| (name, text.split("\n\n").next().unwrap_or_default().replace("\n ", ""))).collect()
}

fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with one rule of the book.
fn faults_of_rule(number: &str, section: &str, repository: &Repository) -> Vec<String> {
    let mut faults = Vec::new();
    for part in ["Rule", "Why"] {
        faults.extend((!section.contains(&format!("\n**{part}.** "))).then(|| format!("{part} is missing")));
    }
    let fields = fields(section);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    for name in ["Code", "Test", "Scenario", "Planted bug"] {
        let empty = names(field(name)).is_empty() && !field(name).contains("none yet");
        faults.extend(empty.then(|| format!("{name} names nothing and does not say \"none yet\"")));
    }
    let mut file = "";
    for name in names(field("Code")) {
        if repository.paths.contains(name) {
            file = name;
        } else if !repository.words.get(file).is_some_and(|words| words.contains(name)) {
            faults.push(format!("{name} is not in `{file}`"));
        }
    }
    let tests = names(field("Test")).into_iter().filter(|name| !repository.functions.contains(*name));
    faults.extend(tests.map(|name| format!("there is no test {name}")));
    for (kind, known) in [("Scenario", &repository.scenarios), ("Planted bug", &repository.planted)] {
        let named = names(field(kind));
        let unknown = named.iter().filter(|name| !known.contains_key(**name));
        faults.extend(unknown.map(|name| format!("there is no {kind} {name}")));
        let citing = known.iter().filter(|(_, rules)| rules.iter().any(|rule| rule == number)).map(|(name, _)| name);
        let left_out = citing.filter(|name| !named.contains(&name.as_str()));
        faults.extend(left_out.map(|name| format!("{kind} {name} cites the rule and is not named by it")));
    }
    faults
}

#[test]
fn the_rule_book_has_each_rule_once_and_says_where_it_is_seen() -> Result<()> {
    let (repository, _) = Repository::read()?;
    let book = fs::read_to_string(root().join(BOOK))?;
    let mut expected: Vec<String> = (1..=29).map(|rule| rule.to_string()).collect();
    expected.insert(28, "28a".to_owned());
    assert_eq!(repository.rules, expected, "the numbers of the rules, in their order");
    let named: BTreeSet<&str> = headings(&book).map(|(_, name)| name).collect();
    assert_eq!(named.len(), expected.len(), "each rule has a name of its own: {named:?}");
    let camel = |name: &&str| name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
    assert!(named.iter().all(camel), "names are CamelCase: {named:?}");
    let mut faults = Vec::new();
    for section in book.split("\n## ").skip(1) {
        let (number, _) = section.split_once(". ").expect("the heading of a rule has its number");
        faults.extend(faults_of_rule(number, section, &repository).into_iter().map(|fault| format!("rule {number}: {fault}")));
    }
    assert!(faults.is_empty(), "{BOOK}:\n{}", faults.join("\n"));
    Ok(())
}

#[test]
fn the_page_of_the_simulation_names_every_planted_bug() -> Result<()> {
    let (repository, _) = Repository::read()?;
    let page = fs::read_to_string(root().join("sim/README.md"))?;
    let named: HashSet<&str> = page.lines().flat_map(names).collect();
    let left_out: Vec<_> = repository.planted.keys().filter(|bug| !named.contains(bug.as_str())).collect();
    assert!(left_out.is_empty(), "sim/README.md does not name {left_out:?}");
    let count = format!("`sim/mutants/` has {} planted bugs", repository.planted.len());
    assert!(page.contains(&count), "sim/README.md should say \"{count}\"");
    Ok(())
}

/// A repository of one crate, one page and one rule book.
fn small() -> Repository {
    let mut small = Repository::default();
    let path = |path: &str| path.to_owned();
    small.paths = ["node/src/there.rs", "node/src/rows/mod.rs", "node/src", "PAGE.md"].map(path).into();
    small.take(BOOK, "## 1. FirstEntryFirst\n\ntext\n\n## 2. TermFence\n\n## 3. TableLives\n\n## 28a. ExplainedEnd\n");
    small.take(LIFECYCLE, "| # | Transition |\n|---|---|\n| T1 place | x |\n| T14a lost | x |\n");
    small.take("sim/mutants/term-fence-dropped.patch", "# name: term-fence-dropped\n# breaks: rules 1 and 2: told\n");
    small.take("sim/src/scenarios/x.rs", "    name: \"an-old-term-places-nothing\",\n    rule: \"rule 2, corner\",\n");
    let code = "mod rows; // gone_for_good_now\nimpl Order { fn place() {} }\nfn a_hold_is_kept_once() {}\n";
    small.take("node/src/there.rs", code);
    small
}

#[test]
fn a_wrong_reference_is_named() {
    let small = small();
    #[rustfmt::skip]
    let cases = [
        ("see `node/src/there.rs`, there.rs and PAGE.md.",       ""),
        ("see node/src/gone.rs (and GONE.md)",                    "file node/src/gone.rs, file GONE.md"),
        ("below node/src and in sim/gone/",                       "file sim/gone/"),
        ("https://example.org/x.md and either/or",                ""),
        ("obeys rule 2 and rule 28a",                             ""),
        ("Rule 4: not",                                           "rule 4"),
        ("(rules 1 to 3, 9)",                                     "rule 9"),
        ("rules 1, 2 and 30. The 40 others",                      "rule 30"),
        ("rules 1 to 5",                                          "rule 4, rule 5"),
        ("the rule that 7 is odd",                                ""),
        ("T1 and T14a",                                           ""),
        ("T2, then T14",                                          "transition T2, transition T14"),
        ("`an-old-term-places-nothing`, `term-fence-dropped`",    ""),
        ("scenario `an-old-term`",                                "scenario or planted bug an-old-term"),
        ("`a-new-term-places-nothing`, a `read-mix`",             "scenario or planted bug a-new-term-places-nothing"),
        ("`a_hold_is_kept_once`",                                 ""),
        ("`a_hold_is_kept_twice`",                                "item or test a_hold_is_kept_twice"),
        ("a comment is no code: `gone_for_good_now`",             "item or test gone_for_good_now"),
        ("`Order`, `OrderBook`, `ETag`, `POST`",                  "item or test OrderBook"),
        ("`Order::place()` and `crate::rows`",                    ""),
        ("`Order::pay`, `crate::columns`, `tokio::spawn`",        "item or test Order::pay, item or test crate::columns"),
        ("`rows::place` and `rows::pay`",                         "item or test rows::pay"),
    ];
    for (text, expected) in cases {
        assert_eq!(missing(text, "node/src/there.rs", &small).join(", "), expected, "{text}");
    }
}

#[test]
fn a_rule_that_says_too_little_is_named() {
    let small = small();
    let whole = "2. TermFence\n\n**Rule.** x\n\n**Why.** x\n\n- Code: `node/src/there.rs` (`place`)\n\
                 - Test: `a_hold_is_kept_once`\n- Scenario: `an-old-term-places-nothing`\n- Planted bug:\n  `term-fence-dropped`\n";
    #[rustfmt::skip]
    let cases = [
        ("",                             "",             ""),
        ("**Why.** x",                   "",             "Why is missing"),
        ("(`place`)",                    "(`pay`)",      "pay is not in `node/src/there.rs`"),
        ("`a_hold_is_kept_once`",        "`place_twice`", "there is no test place_twice"),
        ("`a_hold_is_kept_once`",        "",             "Test names nothing and does not say \"none yet\""),
        ("`an-old-term-places-nothing`", "none yet",     "Scenario an-old-term-places-nothing cites the rule and is not named by it"),
        ("`a_hold_is_kept_once`",        "none yet",     ""),
    ];
    for (part, instead, expected) in cases {
        let section = if part.is_empty() { whole.to_owned() } else { whole.replace(part, instead) };
        assert_eq!(faults_of_rule("2", &section, &small).join(", "), expected, "{part} -> {instead}");
    }
}

#[test]
fn prose_is_what_a_person_reads() {
    let rust = "let x = \"http://a\"; // why\n//! What.\n/// ```\n/// code\n/// ```\nfn f() {}\n";
    let page = "One.\n```\ntwo\n```\nThree.\n";
    let patch = "# breaks: rule 2\n-x\n";
    #[rustfmt::skip]
    let cases = [
        ("x.rs",    rust,  vec![(1, " why"), (2, " What."), (6, "")]),
        ("x.md",    page,  vec![(1, "One."), (5, "Three.")]),
        ("x.patch", patch, vec![(1, " breaks: rule 2"), (2, "")]),
    ];
    for (name, text, expected) in cases {
        let expected: Prose = expected.into_iter().map(|(line, text)| (line, text.to_owned())).collect();
        assert_eq!(prose_of(name, text), expected, "{name}");
    }
}

//! A type's name is used once in the product, so that who reads it knows which type it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Folders of the product.
const PRODUCT: [&str; 4] = ["node", "cluster", "storage", "api"];
/// What declares a type.
const DECLARES: [&str; 4] = ["struct ", "enum ", "trait ", "union "];
/// Names of several types, from before this test, and in how many files each is declared. A type that is renamed lowers its
/// number here; no name joins.
const SHARED: &[(&str, usize)] = &[
    ("AcceptArgs", 2),
    ("Account", 2),
    ("Answer", 4),
    ("Asked", 2),
    ("Batch", 3),
    ("Broken", 3),
    ("Buckets", 2),
    ("Call", 2),
    ("CallError", 2),
    ("Change", 2),
    ("Changed", 2),
    ("Client", 2),
    ("Command", 2),
    ("ConfigError", 2),
    ("Count", 2),
    ("Counters", 2),
    ("Course", 2),
    ("Deadline", 2),
    ("Fault", 2),
    ("Flight", 2),
    ("Found", 3),
    ("Front", 2),
    ("Gather", 2),
    ("Head", 2),
    ("Heard", 3),
    ("Held", 2),
    ("InFlight", 3),
    ("Incoming", 2),
    ("Inner", 3),
    ("Install", 2),
    ("Kept", 3),
    ("Kind", 5),
    ("Lane", 2),
    ("Limits", 2),
    ("Line", 3),
    ("Loaded", 2),
    ("Machine", 2),
    ("Member", 2),
    ("Message", 2),
    ("Meters", 2),
    ("Node", 2),
    ("Operation", 2),
    ("OrderCommand", 2),
    ("Orders", 2),
    ("Outgoing", 2),
    ("Pace", 2),
    ("Parcel", 2),
    ("Part", 2),
    ("Parts", 2),
    // The attempt of the domain, and how it is told: shared of old, and not seen by this test before it had a file of its own.
    ("Payment", 2),
    ("Progress", 3),
    ("Proposal", 2),
    ("Question", 3),
    ("RawBatch", 2),
    ("Reading", 3),
    ("Recalled", 2),
    ("Refusal", 3),
    ("Register", 2),
    ("Results", 2),
    ("Right", 2),
    ("Route", 3),
    ("Row", 3),
    ("Run", 2),
    ("Running", 3),
    ("Said", 2),
    ("Scale", 2),
    ("Seen", 5),
    ("Shard", 2),
    ("Shared", 5),
    ("Sku", 2),
    ("SkuCommand", 2),
    ("Stage", 2),
    ("StartError", 2),
    ("State", 4),
    ("StateView", 2),
    ("Step", 4),
    ("Stock", 2),
    ("Stream", 4),
    ("Table", 3),
    ("Taken", 2),
    ("Tally", 2),
    ("Target", 2),
    ("Told", 7),
    ("TooFew", 2),
    ("UnderWay", 3),
    ("UnitsFound", 2),
    ("UserOrders", 2),
    ("Verb", 2),
    ("Waiter", 2),
    ("Work", 2),
    ("Writer", 2),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace").to_owned()
}

/// Rust files without those of tests.
fn product_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["tests", "tests.rs", "benches", "target"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            product_files(&path, found)?;
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let rest = DECLARES.iter().find_map(|word| line.strip_prefix(word))?;
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
    rest[..end].starts_with(|letter: char| letter.is_ascii_uppercase()).then_some(&rest[..end])
}

/// The files before their tests in which each type is declared.
fn types() -> Result<BTreeMap<String, BTreeSet<PathBuf>>> {
    let mut files = Vec::new();
    for folder in PRODUCT {
        product_files(&root().join(folder), &mut files)?;
    }
    let mut types: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        for name in text.lines().take_while(|line| *line != "#[cfg(test)]").filter_map(declared) {
            types.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    Ok(types)
}

#[test]
fn a_type_has_a_name_of_its_own() -> Result<()> {
    let types = types()?;
    assert!(types.len() > 500, "only {} types were found", types.len());
    let shared: BTreeMap<&str, usize> = SHARED.iter().copied().collect();
    for (name, files) in types.iter().filter(|(_, files)| files.len() > 1) {
        let known = shared.get(name.as_str()).copied().unwrap_or(1);
        assert!(files.len() <= known, "{name} is the name of several types, find another for the new one: {files:#?}");
    }
    for (name, known) in SHARED {
        let now = types.get(*name).map_or(0, BTreeSet::len);
        assert_eq!(now, *known, "{name} is shared by fewer types than the list says: lower its number, or take it out at 1");
    }
    Ok(())
}

#[test]
fn declarations_are_found_as_people_write_them() {
    #[rustfmt::skip]
    let cases = [
        ("struct Place;",                         Some("Place")),
        ("    pub(super) enum Place<T> {",        Some("Place")),
        ("pub trait Place: Send {",               Some("Place")),
        ("pub(in crate::shard) struct Place(u8)", Some("Place")),
        ("/// struct Place",                      None),
        ("let structure = 1;",                    None),
        ("struct place;",                         None),
    ];
    for (line, expected) in cases {
        assert_eq!(declared(line), expected, "{line}");
    }
}

//! The table of faults in ARCHITECTURE.md says which test shows what: each of them must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ordergrid_tests::torture::Kind;

/// Where the table begins; it ends with the section.
const SECTION: &str = "## What can go wrong";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace").to_owned()
}

/// What the last column of the table names, in backticks.
fn named(text: &str) -> Result<BTreeSet<String>> {
    let (_, section) = text.split_once(SECTION).with_context(|| format!("ARCHITECTURE.md has no section `{SECTION}`"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let last = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    Ok(last.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect())
}

/// All Rust code and the names of all planted bugs.
fn read(folder: &Path, code: &mut String, planted: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().unwrap_or_default();
        if path.is_dir() {
            read(&path, code, planted)?;
        } else if ending == "rs" {
            code.push_str(&fs::read_to_string(&path)?);
        } else if ending == "patch" {
            planted.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_table_of_faults_names_is_there() -> Result<()> {
    let (mut code, mut planted) = (String::new(), BTreeSet::new());
    for folder in ["node", "cluster", "storage", "api", "sim", "tests"] {
        read(&root().join(folder), &mut code, &mut planted)?;
    }
    let named = named(&fs::read_to_string(root().join("ARCHITECTURE.md"))?)?;
    assert!(named.len() > 20, "the table names few tests: {named:?}");
    let is_there = |name: &String| {
        let scenario = code.contains(&format!("name: \"{name}\""));
        code.contains(&format!("fn {name}(")) || scenario || planted.contains(name) || !Kind::named(name).is_empty()
    };
    let missing: Vec<_> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "these are neither tests, scenarios, planted bugs nor kinds of trouble: {missing:?}");
    Ok(())
}

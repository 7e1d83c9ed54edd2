//! Who may know whom, held against what the manifests and the folders really say (ARCHITECTURE.md, the map).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Crate, its folder, every crate of ours it may import, every crate of others it must never see.
const STAR: &[(&str, &str, &[&str], &[&str])] = &[
    ("ordergrid-rows", "node/domain/rows", &[], IMPURE),
    ("ordergrid-domain", "node/domain", &["rows"], IMPURE),
    ("ordergrid-storage", "storage", &[], &["axum", "hyper", "ractor", "turmoil"]),
    ("ordergrid-cluster", "cluster", &["domain"], &["rocksdb", "librocksdb-sys", "ractor", "axum", "hyper", "turmoil"]),
    (
        "ordergrid-api",
        "api",
        &["domain"],
        &[
            "openraft",
            "ractor",
            "rocksdb",
            "librocksdb-sys",
            "turmoil",
            // What only the command line needs.
            "clap",
            "csv",
            "flate2",
            "hdrhistogram",
            "indicatif",
            "rustix",
        ],
    ),
    ("ordergrid-cli", "api/cli", &["domain", "api"], &["axum", "openraft", "ractor", "rocksdb", "librocksdb-sys", "turmoil"]),
    ("ordergrid-node", "node", &["domain", "storage", "cluster", "api", "cli"], &["turmoil", "madsim", "rocksdb", "axum"]),
    ("ordergrid-sim", "sim", &["domain", "storage", "cluster", "api", "node"], &["axum", "rocksdb"]),
    ("ordergrid-tests", "tests", &["api"], &["openraft", "ractor", "rocksdb", "turmoil"]),
];

/// What has a clock, chance, I/O or a log, or waits.
const IMPURE: &[&str] =
    &["tokio", "futures", "async-trait", "rand", "getrandom", "time", "chrono", "tracing", "log", "metrics", "serde_json"];

/// Folders that hold code; no other may.
const FOLDERS: [&str; 6] = ["node", "cluster", "storage", "api", "sim", "tests"];

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace").to_owned()
}

fn workspace() -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    Ok(command.manifest_path(root().join("Cargo.toml")).no_deps().exec()?)
}

/// What a crate names in its manifest, for building, running and testing alike.
fn named(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn every_crate_stands_where_the_map_says() -> Result<()> {
    let workspace = workspace()?;
    let found: BTreeMap<String, PathBuf> = workspace
        .packages
        .iter()
        .map(|package| (package.name.to_string(), package.manifest_path.parent().expect("a file is in a folder").into()))
        .collect();
    let expected = STAR.iter().map(|(name, folder, ..)| ((*name).to_owned(), root().join(folder))).collect();
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn no_crate_imports_another_than_the_map_allows() -> Result<()> {
    let workspace = workspace()?;
    for (name, _, allowed, banned) in STAR {
        let package = workspace.packages.iter().find(|package| package.name.as_str() == *name);
        let named = named(package.with_context(|| format!("no crate {name}"))?);
        let ours: BTreeSet<&str> = named.iter().filter_map(|crate_name| crate_name.strip_prefix("ordergrid-")).collect();
        let too_many: Vec<_> = ours.iter().filter(|import| !allowed.contains(import)).collect();
        assert!(too_many.is_empty(), "{name} may import {allowed:?} of ours, not {too_many:?}");
        let unwanted: Vec<_> = banned.iter().filter(|crate_name| named.contains(**crate_name)).collect();
        assert!(unwanted.is_empty(), "{name} must never see {unwanted:?}");
    }
    Ok(())
}

#[test]
fn only_the_harness_crates_are_not_in_the_product() -> Result<()> {
    let workspace = workspace()?;
    for package in &workspace.packages {
        for harness in ["ordergrid-sim", "ordergrid-tests"] {
            assert!(!named(package).contains(harness), "{} depends on {harness}", package.name);
        }
    }
    Ok(())
}

/// Every Rust file below a folder.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn our_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        rust_files(&root().join(folder), &mut files)?;
    }
    assert!(files.len() > 50, "only {} Rust files were found below {}", files.len(), root().display());
    Ok(files)
}

#[test]
fn no_other_folder_holds_code() -> Result<()> {
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = FOLDERS.contains(&name.as_str());
        if ours || name.starts_with('.') || name == "target" || !entry.file_type()?.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        rust_files(&entry.path(), &mut files)?;
        assert!(files.is_empty(), "the folder {name} holds code and is not on the map: {files:?}");
    }
    Ok(())
}

#[test]
fn no_file_is_longer_than_one_can_read() -> Result<()> {
    let mut too_long = Vec::new();
    for file in our_files()? {
        let text = fs::read_to_string(&file)?;
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LONGEST_FILE {
            too_long.push(format!("{}: {lines}", file.display()));
        }
    }
    assert!(too_long.is_empty(), "more than {LONGEST_FILE} lines before the tests:\n{}", too_long.join("\n"));
    Ok(())
}

/// The product runs in the simulation as it is.
#[test]
fn no_product_code_knows_that_it_is_simulated() -> Result<()> {
    for file in our_files()? {
        let path = file.strip_prefix(root())?;
        if path.starts_with("sim") || path.starts_with("tests") {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        for word in ["cfg(sim", "cfg(turmoil", "cfg(madsim", "feature = \"sim"] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
    Ok(())
}

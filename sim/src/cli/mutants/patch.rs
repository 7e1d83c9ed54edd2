//! A planted bug as its file says it: five lines of header, then a unified diff of product code.
//!
//! ```text
//! # name: ack-before-sync
//! # breaks: AcknowledgedIsDurable: durable means on disk on a majority
//! # caught by: CommittedIsDurable
//! # profile: storage
//! # seeds: 1000
//! ```
//!
//! One that no longer applies is drawn anew: make its change by hand, and put `git diff` below the header.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// Folders that a mutant may change: the product, never what judges it.
const PRODUCT: [&str; 4] = ["node/", "storage/", "cluster/", "api/"];

/// A planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, which is the name of its file too.
    pub name: String,
    /// The rule of placing or the law that it breaks.
    pub breaks: String,
    /// The judge that is expected to catch it.
    pub expected: String,
    /// The profile of the runs that are to catch it.
    pub profile: String,
    /// How many of them it may take.
    pub seeds: u64,
    /// The files it changes, below the root of the tree.
    pub files: Vec<String>,
    /// Where the patch is.
    pub path: PathBuf,
}

/// Every mutant of a folder, ordered by name.
///
/// # Errors
/// The folder cannot be read or has none, or one is not understood; says which.
pub(super) fn all(folder: &Path) -> anyhow::Result<Vec<Mutant>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut mutants = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            mutants.push(parse(&path, &text).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(!mutants.is_empty(), "there are no patches in {}", folder.display());
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    ensure!(names.len() == mutants.len(), "two mutants in {} have one name", folder.display());
    Ok(mutants)
}

/// Reads one patch: every header line once and not empty, the name that of the file, a diff of product code alone.
fn parse(path: &Path, text: &str) -> anyhow::Result<Mutant> {
    let header: Vec<&str> = text.lines().take_while(|line| !line.starts_with("diff --git ")).collect();
    let said = |word: &str| {
        let mut values = header.iter().filter_map(|line| line.strip_prefix('#')?.trim().strip_prefix(word)?.strip_prefix(':'));
        let value = values.next().map(str::trim).filter(|value| !value.is_empty());
        ensure!(values.next().is_none(), "\"# {word}:\" is there twice");
        Ok(value.with_context(|| format!("a line \"# {word}: ...\" is missing"))?.to_owned())
    };
    let seeds = said("seeds")?;
    let mutant = Mutant {
        name: said("name")?,
        breaks: said("breaks")?,
        expected: said("caught by")?,
        profile: said("profile")?,
        seeds: seeds.parse().ok().filter(|seeds| *seeds > 0).with_context(|| format!("{seeds} is no number of seeds"))?,
        files: changed_files(text)?,
        path: path.to_owned(),
    };
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    ensure!(mutant.name == stem, "the file is called {stem}, the mutant {}", mutant.name);
    Ok(mutant)
}

/// The files that a diff changes. None is created, removed or renamed: a mutant is a slip of the pen.
fn changed_files(text: &str) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("diff --git ")) {
        let names = line.split_once(' ').and_then(|(old, new)| Some((old.strip_prefix("a/")?, new.strip_prefix("b/")?)));
        match names {
            Some((old, new)) if old == new && PRODUCT.iter().any(|folder| new.starts_with(folder)) => {
                files.push(new.to_owned())
            }
            _ => bail!("\"{line}\" is not a change of one file of the product"),
        }
    }
    ensure!(!files.is_empty(), "there is no diff in it");
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SAMPLE: &str = "# name: one\n# breaks: rule 7: nothing is released\n# caught by: AllOrNothing\n# profile: quick\n\
                          # seeds: 1000\n\ndiff --git a/node/src/x.rs b/node/src/x.rs\n--- a/node/src/x.rs\n+++ b/node/src/x.rs\n\
                          @@ -1 +1 @@\n-old\n+new\n";

    pub(in super::super) fn sample(name: &str) -> Mutant {
        let text = SAMPLE.replace("name: one", &format!("name: {name}"));
        parse(&PathBuf::from(format!("sim/mutants/{name}.patch")), &text).expect("the sample is understood")
    }

    #[test]
    fn a_patch_says_what_it_breaks_and_who_catches_it() {
        let expected = Mutant {
            name: "one".to_owned(),
            breaks: "rule 7: nothing is released".to_owned(),
            expected: "AllOrNothing".to_owned(),
            profile: "quick".to_owned(),
            seeds: 1_000,
            files: vec!["node/src/x.rs".to_owned()],
            path: PathBuf::from("sim/mutants/one.patch"),
        };
        assert_eq!(sample("one"), expected);
    }

    #[test]
    fn what_is_wrong_with_a_patch_is_named() {
        let second = "diff --git a/sim/src/y.rs b/sim/src/y.rs\n";
        #[rustfmt::skip]
        let cases = [
            // replaced,                 by,                       said
            ("# breaks: rule 7: nothing is released\n", "",       "a line \"# breaks: ...\" is missing"),
            ("caught by: AllOrNothing", "caught by:",             "a line \"# caught by: ...\" is missing"),
            ("# profile: quick",        "# profile: quick\n# profile: flash", "\"# profile:\" is there twice"),
            ("seeds: 1000",             "seeds: many",            "many is no number of seeds"),
            ("seeds: 1000",             "seeds: 0",               "0 is no number of seeds"),
            ("name: one",               "name: other",            "the file is called one, the mutant other"),
            ("diff --git",              "diff",                   "there is no diff in it"),
            ("a/node/src/x.rs b/node/src/x.rs", "a/sim/x.rs b/sim/x.rs", "\"a/sim/x.rs b/sim/x.rs\" is not a change of one file of the product"),
            ("b/node/src/x.rs\n---",    "b/node/src/y.rs\n---",   "\"a/node/src/x.rs b/node/src/y.rs\" is not a change of one file of the product"),
        ];
        let read = |text: &str| parse(Path::new("one.patch"), text).map_err(|error| error.to_string());
        for (old, new, said) in cases {
            assert!(SAMPLE.contains(old), "{old}");
            assert_eq!(read(&SAMPLE.replacen(old, new, 1)), Err(said.to_owned()), "{old} -> {new}");
        }
        assert!(read(&format!("{SAMPLE}{second}")).is_err(), "the second file counts too");
    }
}

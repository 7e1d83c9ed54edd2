//! The copy of the tree: made from what git tracks, brought back to that before every mutant, patched and built.
//!
//! A file is written only if its content differs, so that the next build recompiles what two mutants changed and no more.
//! The original is only ever read.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, bail, ensure};

use super::FOLDER;
use super::patch::Mutant;
use super::trial::last_words;

/// Says that a folder is ours to clear.
const MARKER: &str = ".ordergrid-mutants";

/// The root of the tree that the current folder is part of.
pub(super) fn root() -> anyhow::Result<PathBuf> {
    let mut command = Command::new("git");
    let told = succeeded(command.args(["rev-parse", "--show-toplevel"]), "git rev-parse")?;
    let root = PathBuf::from(String::from_utf8(told.stdout).context("the path of the tree is not UTF-8")?.trim_end());
    ensure!(root.join(FOLDER).is_dir(), "{} has no {FOLDER}: run this inside the source tree", root.display());
    Ok(root)
}

/// Every patch on its own applies to the tree at `root`; else names all that do not.
pub(super) fn check_patches(root: &Path, mutants: &[Mutant]) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for mutant in mutants {
        let checked = git_apply(root, &mutant.path)?.arg("--check").output().context("cannot run git")?;
        if !checked.status.success() {
            stale.push(format!("{}: {}", mutant.name, last_words(&String::from_utf8_lossy(&checked.stderr))));
        }
    }
    ensure!(stale.is_empty(), "patches that no longer apply, to be drawn anew:\n{}", stale.join("\n"));
    Ok(())
}

/// `git apply` of a patch in a folder, as if there were no repository around it: inside one, git would skip the files of a
/// folder that it takes for another part of the repository, and say nothing.
fn git_apply(folder: &Path, patch: &Path) -> anyhow::Result<Command> {
    let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    let patch = patch.canonicalize().with_context(|| format!("cannot find {}", patch.display()))?;
    let mut command = Command::new("git");
    command.args(["apply", "--whitespace=nowarn"]).arg(patch).current_dir(&folder);
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(&folder));
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// A copy of the tree, and its builds beside it.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The original.
    root: PathBuf,
    /// The copy.
    tree: PathBuf,
    target: PathBuf,
    /// What git tracks, below the root.
    tracked: BTreeSet<PathBuf>,
}

impl Scratch {
    /// Takes `folder`, which must be new, empty, or one that was taken before: what is in it will be overwritten.
    pub(super) fn open(folder: &Path, root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let root = root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
        let empty = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?.next().is_none();
        let marker = folder.join(MARKER);
        ensure!(!root.starts_with(&folder), "the scratch folder {} holds the source tree", folder.display());
        ensure!(empty || marker.is_file(), "the scratch folder {} is not empty and not one of mine", folder.display());
        fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))?;
        let tracked = tracked(&root)?;
        Ok(Self { tree: folder.join("tree"), target: folder.join("target"), root, tracked })
    }

    /// Makes the copy equal to the original.
    pub(super) fn reset(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.tree).with_context(|| format!("cannot make {}", self.tree.display()))?;
        for file in &self.tracked {
            let (from, to) = (self.root.join(file), self.tree.join(file));
            let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            }
            // Written anew, so that the build sees a younger file.
            fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
            let permissions = fs::metadata(&from).with_context(|| format!("cannot read {}", from.display()))?.permissions();
            fs::set_permissions(&to, permissions).with_context(|| format!("cannot write {}", to.display()))?;
        }
        self.remove_others(Path::new(""))
    }

    /// Removes what the original does not have.
    fn remove_others(&self, below: &Path) -> anyhow::Result<()> {
        let folder = self.tree.join(below);
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let file = below.join(entry.file_name());
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder {
                self.remove_others(&file)?;
            } else if !self.tracked.contains(&file) {
                fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Every patch on its own applies to the copy.
    pub(super) fn check_patches(&self, mutants: &[Mutant]) -> anyhow::Result<()> {
        check_patches(&self.tree, mutants)
    }

    /// Plants the bug in the copy, and sees that every file it names has changed.
    pub(super) fn apply(&self, mutant: &Mutant) -> anyhow::Result<()> {
        let mut command = git_apply(&self.tree, &mutant.path)?;
        succeeded(&mut command, "git apply").context("the patch no longer applies")?;
        for file in &mutant.files {
            let read = |root: &Path| fs::read(root.join(file)).with_context(|| format!("cannot read {file}"));
            ensure!(read(&self.root)? != read(&self.tree)?, "the patch applies and leaves {file} as it was");
        }
        Ok(())
    }

    /// Builds the simulator in the copy. Whatever the environment says of libraries and tools holds here too.
    pub(super) fn build(&self) -> anyhow::Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--locked", "--quiet", "--profile", "sim", "-p", "ordergrid-sim"]);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        succeeded(&mut command, "cargo build").context("the mutant does not build")?;
        Ok(self.target.join("sim").join("ordergrid-sim"))
    }
}

/// Files that git tracks and that are there, with their content of now: what has not been committed counts too.
fn tracked(root: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let told = succeeded(Command::new("git").args(["ls-files", "-z", "--cached"]).current_dir(root), "git ls-files")?;
    let names = String::from_utf8(told.stdout).context("the name of a tracked file is not UTF-8")?;
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(files.filter(|file| root.join(file).is_file()).collect())
}

/// Runs a program to its end; fails with its last words unless it succeeds.
fn succeeded(command: &mut Command, name: &str) -> anyhow::Result<Output> {
    let ended = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{name}: the program is not installed"),
        ended => ended.with_context(|| format!("cannot run {name}"))?,
    };
    ensure!(ended.status.success(), "{name}: {}", last_words(&String::from_utf8_lossy(&ended.stderr)));
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mutants::patch;

    const PATCH: &str = "# name: one\n# breaks: b\n# caught by: c\n# profile: quick\n# seeds: 5\n\n\
                         diff --git a/node/x.rs b/node/x.rs\n--- a/node/x.rs\n+++ b/node/x.rs\n@@ -1 +1 @@\n-old\n+new\n";

    /// A repository with two tracked files, one patch and one file that git knows nothing of.
    fn repository(folder: &Path) -> PathBuf {
        let root = folder.join("root");
        for (file, content) in
            [("node/x.rs", "old\n"), ("Cargo.toml", "kept\n"), ("junk", "?"), ("sim/mutants/one.patch", PATCH)]
        {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let git = |arguments: &[&str]| succeeded(Command::new("git").args(arguments).current_dir(&root), "git").unwrap();
        git(&["init", "-q"]);
        git(&["add", "node", "Cargo.toml", "sim"]);
        root
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|_| "nothing".to_owned())
    }

    #[test]
    fn the_copy_is_patched_and_brought_back_and_the_original_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = repository(folder.path());
        let mutants = patch::all(&root.join(FOLDER)).unwrap();
        // Inside the repository, where git would skip the files of a patch.
        let scratch = Scratch::open(&root.join("target/mutants"), &root).unwrap();
        scratch.reset().unwrap();
        assert_eq!([text(&scratch.tree.join("node/x.rs")), text(&scratch.tree.join("junk"))], ["old\n", "nothing"]);
        let modified = |file: &str| fs::metadata(scratch.tree.join(file)).unwrap().modified().unwrap();
        let before = modified("Cargo.toml");

        scratch.check_patches(&mutants).unwrap();
        assert_eq!(text(&scratch.tree.join("node/x.rs")), "old\n", "a check changes nothing");
        scratch.apply(&mutants[0]).unwrap();
        fs::write(scratch.tree.join("node/left.rs"), "by a build").unwrap();
        assert_eq!([text(&scratch.tree.join("node/x.rs")), text(&root.join("node/x.rs"))], ["new\n", "old\n"]);
        assert!(scratch.apply(&mutants[0]).is_err(), "it does not apply twice");

        scratch.reset().unwrap();
        assert_eq!([text(&scratch.tree.join("node/x.rs")), text(&scratch.tree.join("node/left.rs"))], ["old\n", "nothing"]);
        assert_eq!(modified("Cargo.toml"), before, "what is equal is not written");
    }

    #[test]
    fn patches_that_no_longer_apply_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = repository(folder.path());
        let mutants = patch::all(&root.join(FOLDER)).unwrap();
        check_patches(&root, &mutants).unwrap();
        fs::write(root.join("node/x.rs"), "rewritten\n").unwrap();
        let refused = check_patches(&root, &mutants).unwrap_err().to_string();
        assert!(refused.starts_with("patches that no longer apply, to be drawn anew:\none: error: patch failed"), "{refused}");
    }

    #[test]
    fn a_folder_that_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = repository(folder.path());
        let foreign = folder.path().join("foreign");
        fs::create_dir_all(&foreign).unwrap();
        fs::write(foreign.join("thesis"), "years of work").unwrap();
        let refused = |scratch: &Path| Scratch::open(scratch, &root).unwrap_err().to_string();
        assert!(refused(&foreign).ends_with("is not empty and not one of mine"));
        assert!(refused(folder.path()).ends_with("holds the source tree"));
        assert!(refused(&root).ends_with("holds the source tree"));
        let ours = folder.path().join("ours");
        for _ in 0..2 {
            Scratch::open(&ours, &root).unwrap().reset().unwrap();
        }
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let missing = succeeded(&mut Command::new("no-such-program-anywhere"), "git apply").unwrap_err().to_string();
        assert_eq!(missing, "git apply: the program is not installed");
    }
}

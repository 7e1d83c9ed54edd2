//! `ordergrid-sim mutants`: plants one bug at a time and demands that the simulation catches it.
//!
//! The bugs are patches of product code in `sim/mutants/`, so that the product carries no hook for them. Each is applied to
//! a copy of the tree, built there, and run until a judge objects or its seeds are used up. What catches a mutant must be
//! clean without it: the seed that did is run once more by the program that is running now.
//!
//! | Module | Decides |
//! |---|---|
//! | `patch` | what a patch file says of its bug |
//! | `tree` | the copy of the tree: made, reset, patched, built |
//! | `trial` | whether a run caught the bug, let it live, or proves nothing |
//! | `scorecard` | how the results are told |

mod patch;
mod scorecard;
mod tree;
mod trial;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

pub use patch::Mutant;
pub use trial::{Caught, Fate};

use scorecard::Row;
use tree::Scratch;
use trial::Trial;

/// Where the patches are, below the root of the tree.
const FOLDER: &str = "sim/mutants";

/// Asked whether every mutant is caught, and the answer is no.
const SURVIVED: u8 = 10;
/// The harness failed: nothing is known of at least one mutant.
const FAILED: u8 = 1;

/// What `mutants` is told on the command line.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// This mutant alone; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Seeds that run at the same time.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// At most so many seeds for a mutant, whatever its patch says.
    #[arg(long, value_name = "MAX")]
    pub seeds: Option<u64>,
    /// Where the copy of the tree and its builds are kept [default: mutants in the cache folder of OrderGrid].
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Answer with the table for the README of sim.
    #[arg(long, conflicts_with = "output")]
    pub markdown: bool,
}

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs every mutant that is asked for, tells the scorecard on standard output, and returns the exit code: 0 when all were
/// caught, 10 when one survives, 1 when the harness failed.
///
/// # Errors
/// Nothing was run: no tree, no patches, a patch that is not understood or no longer applies, no place for the copy.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let root = tree::root()?;
    let mutants = chosen(patch::all(&root.join(FOLDER))?, &arguments.only)?;
    let scratch = Scratch::open(&scratch_folder(arguments.scratch.as_deref())?, &root)?;
    scratch.reset()?;
    scratch.check_patches(&mutants)?;
    let sound = std::env::current_exe().context("this program has no path, so a catch cannot be checked without its mutant")?;
    let mut rows = Vec::with_capacity(mutants.len());
    for mutant in mutants {
        eprintln!("{}: building", mutant.name);
        let fate = fate(&scratch, &sound, &mutant, arguments);
        eprintln!("{}: {fate}", mutant.name);
        rows.push(Row { mutant, fate });
    }
    let told = match (arguments.markdown, arguments.output) {
        (true, _) => scorecard::markdown(&rows),
        (false, Output::Table) => scorecard::table(&rows),
        (false, Output::Json) => scorecard::json(&rows),
    };
    std::io::stdout().lock().write_all(told.as_bytes()).context("the scorecard cannot be written")?;
    Ok(exit_code(&rows))
}

/// The mutants to run: all, or those named.
fn chosen(all: Vec<Mutant>, only: &[String]) -> anyhow::Result<Vec<Mutant>> {
    for name in only {
        ensure!(all.iter().any(|mutant| mutant.name == *name), "there is no mutant {name}");
    }
    Ok(all.into_iter().filter(|mutant| only.is_empty() || only.contains(&mutant.name)).collect())
}

/// One mutant from patch to verdict. What fails on the way proves nothing, and the next one is tried all the same.
fn fate(scratch: &Scratch, sound: &Path, mutant: &Mutant, arguments: &Arguments) -> Fate {
    let seeds = arguments.seeds.map_or(mutant.seeds, |most| most.min(mutant.seeds));
    let trial = Trial { profile: &mutant.profile, seeds, jobs: arguments.jobs };
    let built = scratch.reset().and_then(|()| scratch.apply(mutant)).and_then(|()| scratch.build());
    let judged =
        built.and_then(|program| trial.run(trial::at(&program))).and_then(|fate| trial.confirm(fate, trial::at(sound)));
    judged.unwrap_or_else(|failed| Fate::Unproven(format!("{failed:#}")))
}

/// A failure of the harness outranks a survivor: nobody may read "one survived" where nothing was learnt of another.
fn exit_code(rows: &[Row]) -> u8 {
    if rows.iter().any(|row| matches!(row.fate, Fate::Unproven(_))) {
        return FAILED;
    }
    if rows.iter().any(|row| matches!(row.fate, Fate::Survived { .. })) {
        return SURVIVED;
    }
    0
}

/// The folder that was asked for, or one in the cache that the build uses too.
fn scratch_folder(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(asked) = asked {
        return std::path::absolute(asked).context("the scratch folder has no path");
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("ORDERGRID_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("ordergrid")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/ordergrid")));
    let cache = cache.context("no cache folder is known: say --scratch DIR")?;
    Ok(std::path::absolute(cache)?.join("mutants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str) -> Mutant {
        patch::tests::sample(name)
    }

    fn row(fate: Fate) -> Row {
        Row { mutant: mutant("one"), fate }
    }

    #[test]
    fn one_survivor_says_no_and_one_failure_says_failed() {
        let caught = || row(Fate::Caught(trial::tests::caught(7)));
        let survived = || row(Fate::Survived { seeds: 1_000 });
        let failed = || row(Fate::Unproven("no compiler".to_owned()));
        #[rustfmt::skip]
        let cases = [
            (vec![],                               0),
            (vec![caught(), caught()],             0),
            (vec![caught(), survived()],           SURVIVED),
            (vec![caught(), failed()],             FAILED),
            (vec![survived(), failed(), caught()], FAILED),
        ];
        for (rows, expected) in cases {
            assert_eq!(exit_code(&rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn only_takes_names_that_exist() {
        let all = || vec![mutant("one"), mutant("two"), mutant("three")];
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            let chosen = chosen(all(), &only).map_err(|error| error.to_string())?;
            Ok::<_, String>(chosen.into_iter().map(|mutant| mutant.name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&[]), Ok("one two three".to_owned()));
        assert_eq!(names(&["three", "one"]), Ok("one three".to_owned()));
        assert_eq!(names(&["four"]), Err("there is no mutant four".to_owned()));
    }

    #[test]
    fn the_patches_in_the_tree_are_at_least_sixteen_and_all_apply() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        let mutants = patch::all(&root.join(FOLDER)).expect("every patch says what it is");
        assert!(mutants.len() >= 16, "only {} mutants", mutants.len());
        tree::check_patches(root, &mutants).expect("every patch applies to the tree as it is");
    }
}

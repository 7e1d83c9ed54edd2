//! The verbs of `ordergrid-sim`.
//!
//! Every history runs in a process of its own (`one`), started with its seed in the environment: what is global in a process
//! (hash keys, counters, registries) is then part of the seed too.

mod campaign;
mod domain;
mod hang;
mod minimise;
pub mod mutants;
mod nightly;
mod one;
mod report;
mod scenarios;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::Profile;
pub use one::SEED_VARIABLE;

/// Nothing was violated.
const HELD: u8 = 0;
/// The harness failed: nothing is known.
const HARNESS: u8 = 1;
/// Asked whether everything holds, and the answer is no.
const VIOLATED: u8 = 10;

/// Whole clusters of OrderGrid in one process: one seed, one history, every fault, strict judges.
///
/// Exit codes: 0 everything held, 10 a property was violated, 1 the harness failed.
#[derive(Debug, Parser)]
#[command(name = "ordergrid-sim", version, max_term_width = 120)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the histories of seeds N, N+1, ... and print one line for each failure that repeats it.
    Run(campaign::RunArguments),
    /// Run one history again, with its story.
    Replay(one::OneArguments),
    /// Leave out troubles and clients while the history still fails.
    Minimise(minimise::MinimiseArguments),
    /// Run each history twice, in fresh processes: the trace hashes must be equal.
    Meta(campaign::MetaArguments),
    /// Run the fixed scripts, one for each rule of placing and each nasty corner.
    Scenarios(scenarios::ScenarioArguments),
    /// Try every planted bug until a judge sees it.
    Mutants(mutants::Arguments),
    /// Run all profiles in turn, unattended, and keep a ledger of seeds done per commit.
    Nightly(nightly::NightlyArguments),
    /// Run the domain alone against an independent model.
    Domain(domain::DomainArguments),
    /// Run one history in this process; what the other verbs start.
    #[command(hide = true)]
    One(one::OneArguments),
}

/// What a history is drawn from.
#[derive(Clone, Debug, Args)]
struct Drawn {
    /// The kind of history.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// The real storage engine instead of the simulated one: slower.
    #[arg(long)]
    rocksdb: bool,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Does what was asked, and says with which code the process ends.
#[must_use]
pub fn main() -> u8 {
    let code = match Arguments::parse().verb {
        Verb::Run(arguments) => campaign::run(&arguments),
        Verb::Replay(arguments) => one::replay(&arguments),
        Verb::Minimise(arguments) => minimise::run(&arguments),
        Verb::Meta(arguments) => campaign::meta(&arguments),
        Verb::Scenarios(arguments) => scenarios::run(&arguments),
        Verb::Mutants(arguments) => mutants::run(&arguments),
        Verb::Nightly(arguments) => nightly::run(&arguments),
        Verb::Domain(arguments) => domain::run(&arguments),
        Verb::One(arguments) => one::run(&arguments),
    };
    code.unwrap_or_else(|error| {
        eprintln!("ordergrid-sim: {error:#}");
        HARNESS
    })
}

/// This very program.
fn this_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

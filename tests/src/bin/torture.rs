//! `make torture`: rounds of the black-box run, one after the other. See `ordergrid_tests::torture`.
//!
//! Exit codes: 0 everything held, 10 a law was broken (the round's folder is kept), 1 the harness failed, 2 usage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use ordergrid_tests::torture::{Kind, Network, Plan, Report, Round, Site, play};

/// Runs real clusters under a load, hurts them in ways drawn from a seed, and judges what clients were told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Seed of the first round; each next one has the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of trouble to leave out, or beginnings of their names: `clock,bit-log`.
    #[arg(long, value_delimiter = ',', value_parser = kinds)]
    without: Vec<Kinds>,
    /// Kinds of trouble to draw from, and no others.
    #[arg(long, value_delimiter = ',', value_parser = kinds)]
    only: Vec<Kinds>,
    /// Where rounds are played. Folders of rounds in which a law was broken stay there, and the report.
    #[arg(long, default_value = "target/torture")]
    folder: PathBuf,
    /// Go on after a round in which a law was broken.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Debug)]
struct Kinds(Vec<Kind>);

fn kinds(word: &str) -> Result<Kinds, String> {
    let kinds = Kind::named(word);
    let names = || Kind::all().map(Kind::name).collect::<Vec<_>>().join(", ");
    if kinds.is_empty() { Err(format!("no kind of trouble is named so; there are {}", names())) } else { Ok(Kinds(kinds)) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(10),
        Err(error) => {
            eprintln!("the harness failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every law held.
fn run(arguments: &Arguments) -> Result<bool> {
    Site::enter()?;
    let site = Site::survey();
    let named = |list: &[Kinds], kind: Kind| list.iter().any(|kinds| kinds.0.contains(&kind));
    let wanted: Vec<Kind> = Kind::all()
        .filter(|kind| arguments.only.is_empty() || named(&arguments.only, *kind))
        .filter(|kind| !named(&arguments.without, *kind))
        .collect();
    for kind in &wanted {
        if let Err(why) = site.can(*kind) {
            println!("without {}: {why}", kind.name());
        }
    }
    let network = Network::for_site(&site)?;
    fs::create_dir_all(&arguments.folder)?;
    let base = fs::canonicalize(&arguments.folder)?;
    let mut report = Report::default();
    for seed in arguments.seed..arguments.seed + arguments.rounds {
        let plan = Plan::draw(seed, &wanted, &site);
        let folder = base.join(format!("seed-{seed}"));
        let round = one(&plan, &folder, &site, network.as_ref())
            .with_context(|| format!("seed {seed}, kept in {}", folder.display()))?;
        say(&round, &folder);
        let broken = !round.violations.is_empty();
        report.rounds.push(round);
        fs::write(base.join("report.json"), report.json().to_string())?;
        if broken && !arguments.keep_going {
            break;
        }
    }
    println!("{}", report.table());
    Ok(report.broken() == 0)
}

fn one(plan: &Plan, folder: &Path, site: &Site, network: Option<&Network>) -> Result<Round> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let round = play(plan, folder, site, network)?;
    if round.violations.is_empty() {
        fs::remove_dir_all(folder)?;
    }
    Ok(round)
}

fn say(round: &Round, folder: &Path) {
    let strikes: Vec<&str> = round.strikes.iter().map(|(_, words, _)| words.as_str()).collect();
    let [done, refused, later, unknown] = round.ends;
    println!(
        "seed {} nodes {} {:.1} s: {}; {done} done, {refused} refused, {later} refused for now, {unknown} unknown, {} orders, ready {} ms",
        round.seed,
        round.nodes,
        round.took.as_secs_f64(),
        strikes.join("; "),
        round.orders,
        round.ready_ms
    );
    round.notes.iter().for_each(|note| println!("  {note}"));
    if !round.violations.is_empty() {
        println!(
            "  {} VIOLATIONS; repeat with --seed {} --rounds 1; kept in {}",
            round.violations.len(),
            round.seed,
            folder.display()
        );
    }
    round
        .violations
        .iter()
        .take(12)
        .for_each(|one| println!("  {}: {}", one.law, one.text.chars().take(500).collect::<String>()));
}

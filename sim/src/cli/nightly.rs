//! All profiles in turn, unattended, with a ledger of what was done.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::campaign::{Campaign, jobs};
use super::report::Report;
use super::{Drawn, Output};
use crate::plan::Profile;

#[derive(Clone, Debug, Args)]
pub(super) struct NightlyArguments {
    /// The ledger: a line for each share of seeds that was run. It is read first, and what it has is not run again.
    #[arg(long)]
    ledger: PathBuf,
    /// The commit that is tested, under which the ledger keeps it.
    #[arg(long)]
    commit: String,
    /// Begin nothing new after so many minutes.
    #[arg(long, default_value_t = 480)]
    minutes: u64,
    /// Seeds in one share.
    #[arg(long, default_value_t = 50)]
    share: u64,
    /// Only these profiles.
    #[arg(long, value_enum, value_delimiter = ',')]
    profiles: Vec<Profile>,
    /// Processes at a time; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
}

/// A line of the ledger.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    commit: String,
    profile: String,
    from: u64,
    count: u64,
    failures: serde_json::Value,
    rare: BTreeMap<String, u64>,
}

/// The verb `nightly`.
pub(super) fn run(arguments: &NightlyArguments) -> anyhow::Result<u8> {
    let began = Instant::now();
    let profiles = if arguments.profiles.is_empty() { Profile::value_variants().to_vec() } else { arguments.profiles.clone() };
    let mut next = done(arguments)?;
    let mut worst = 0;
    'all: loop {
        for profile in &profiles {
            if began.elapsed() > Duration::from_secs(60 * arguments.minutes) {
                break 'all;
            }
            let drawn = Drawn { profile: *profile, rocksdb: false };
            let first = *next.entry(profile.to_string()).or_insert(1);
            let share = Instant::now();
            let campaign =
                Campaign { first, count: arguments.share, drawn: &drawn, jobs: jobs(arguments.jobs), until_violation: false };
            let told = campaign.run()?;
            let report = Report::of(&drawn, &told, share.elapsed());
            enter(arguments, &report, first)?;
            next.insert(profile.to_string(), first + arguments.share);
            worst = worst.max(report.code());
            if report.code() != 0 {
                report.print(Output::Table)?;
            }
        }
    }
    let all: u64 = next.values().map(|next| next - 1).sum();
    println!("{all} seeds done for {}: {next:?} come next", arguments.commit);
    Ok(worst)
}

/// The next seed of each profile.
fn done(arguments: &NightlyArguments) -> anyhow::Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(&arguments.ledger) {
        Ok(text) => text,
        Err(none) if none.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("the ledger cannot be read"),
    };
    let mut next = BTreeMap::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).context("a line of the ledger cannot be read")?;
        if line.commit == arguments.commit {
            let after = next.entry(line.profile).or_insert(1);
            *after = (*after).max(line.from + line.count);
        }
    }
    Ok(next)
}

fn enter(arguments: &NightlyArguments, report: &Report, from: u64) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().create(true).append(true).open(&arguments.ledger).context("the ledger cannot be written")?;
    let told = serde_json::to_value(report)?;
    let line = Line {
        commit: arguments.commit.clone(),
        profile: report.profile().to_owned(),
        from,
        count: arguments.share,
        failures: told["failures"].clone(),
        rare: report.rare().clone(),
    };
    writeln!(file, "{}", serde_json::to_string(&line)?).context("the ledger cannot be written")
}

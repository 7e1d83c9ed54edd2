//! What many histories came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::one::{OneArguments, Told};
use super::{Drawn, HARNESS, HELD, Output, VIOLATED};

/// A history that failed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    seed: String,
    kind: String,
    judge: String,
    violation: String,
    repeat: String,
}

impl Failure {
    /// The line that repeats a history.
    pub(super) fn repeat(seed: u64, drawn: &Drawn) -> String {
        format!("ordergrid-sim replay {}", OneArguments::of(seed, drawn).words().join(" "))
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    profile: String,
    seeds: u64,
    seeds_per_minute: f64,
    simulated_seconds: f64,
    simulated_seconds_per_second: f64,
    operations: u64,
    digest: String,
    rare: BTreeMap<String, u64>,
    pub(super) failures: Vec<Failure>,
}

impl Report {
    pub(super) fn of(drawn: &Drawn, told: &BTreeMap<u64, Told>, took: Duration) -> Self {
        let mut rare = BTreeMap::new();
        let mut hashes = String::new();
        for one in told.values() {
            hashes += &one.hash;
            for (state, times) in &one.rare {
                *rare.entry(state.clone()).or_default() += times;
            }
        }
        let failures = told.iter().filter(|(_, one)| one.end != "held").map(|(seed, one)| Failure {
            seed: seed.to_string(),
            kind: one.end.clone(),
            judge: one.judge.clone(),
            violation: one.text.clone(),
            repeat: Failure::repeat(*seed, drawn),
        });
        let took = took.as_secs_f64().max(0.001);
        let simulated: f64 = told.values().map(|one| one.seconds).sum();
        Self {
            profile: drawn.profile.to_string(),
            seeds: told.len() as u64,
            seeds_per_minute: (told.len() as f64 * 60.0 / took).round(),
            simulated_seconds: simulated.round(),
            simulated_seconds_per_second: (simulated / took).round(),
            operations: told.values().map(|one| one.operations).sum(),
            digest: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(hashes.as_bytes())),
            rare,
            failures: failures.collect(),
        }
    }

    /// The kind of its histories.
    pub(super) fn profile(&self) -> &str {
        &self.profile
    }

    /// How often rare states were met.
    pub(super) fn rare(&self) -> &BTreeMap<String, u64> {
        &self.rare
    }

    /// A failed harness is not a violation, and outranks it: nothing is known then.
    pub(super) fn code(&self) -> u8 {
        if self.failures.iter().any(|failure| failure.kind != "violated") {
            HARNESS
        } else if self.failures.is_empty() {
            HELD
        } else {
            VIOLATED
        }
    }

    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        let text = match output {
            Output::Json => serde_json::to_string(self)?,
            Output::Table => self.table()?,
        };
        writeln!(std::io::stdout().lock(), "{text}")?;
        Ok(())
    }

    fn table(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for (state, times) in &self.rare {
            writeln!(text, "{times:>10}  {state}")?;
        }
        for failure in &self.failures {
            writeln!(text, "{} {}: {}\n  {}", failure.kind, failure.judge, failure.violation, failure.repeat)?;
        }
        write!(
            text,
            "{}: {} seeds, {} failed; {} seeds/min, {} simulated s ({} per s), {} operations, trace {}",
            self.profile,
            self.seeds,
            self.failures.len(),
            self.seeds_per_minute,
            self.simulated_seconds,
            self.simulated_seconds_per_second,
            self.operations,
            self.digest
        )?;
        Ok(text)
    }
}

//! One history in this process.

use std::io::{BufWriter, Write};
use std::process::Command;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Drawn, HARNESS, HELD, VIOLATED, this_program};
use crate::history::SimTime;
use crate::plan::Plan;
use crate::run::{Outcome, Stop, history, watch_panics};
use crate::trace;

/// Carries the seed into a process, from where the C library's random numbers begin.
pub const SEED_VARIABLE: &str = "ORDERGRID_SIM_SEED";

#[derive(Clone, Debug, Args)]
pub(super) struct OneArguments {
    /// The seed.
    #[arg(long)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) drawn: Drawn,
    /// Print everything that happens, on standard error.
    #[arg(long)]
    pub(super) trace: bool,
    /// Stop at this simulated second.
    #[arg(long)]
    pub(super) until: Option<u64>,
    /// Troubles to leave out, by their numbers.
    #[arg(long, value_delimiter = ',')]
    pub(super) skip: Vec<usize>,
    /// Fewer clients than drawn.
    #[arg(long)]
    pub(super) clients: Option<u32>,
}

/// What a history's process says on standard output, as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// `held`, `violated` or `harness`.
    pub(super) end: String,
    /// The judge that objected.
    pub(super) judge: String,
    /// In its words.
    pub(super) text: String,
    /// Hash of the trace.
    pub(super) hash: String,
    /// Events in it.
    pub(super) events: u64,
    /// Simulated seconds.
    pub(super) seconds: f64,
    /// Operations of clients.
    pub(super) operations: u64,
    /// Troubles planned.
    pub(super) troubles: usize,
    /// Clients.
    pub(super) clients: u32,
    /// How often rare states were met.
    pub(super) rare: std::collections::BTreeMap<String, u64>,
}

impl OneArguments {
    pub(super) fn of(seed: u64, drawn: &Drawn) -> Self {
        Self { seed, drawn: drawn.clone(), trace: false, until: None, skip: Vec::new(), clients: None }
    }

    /// The plan, with what is left out left out.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::drawn(self.seed, self.drawn.profile);
        plan.shape.rocksdb = self.drawn.rocksdb;
        let mut number = 0;
        plan.troubles.retain(|_| {
            number += 1;
            !self.skip.contains(&(number - 1))
        });
        plan.mix.clients = self.clients.unwrap_or(plan.mix.clients);
        plan
    }

    /// The arguments after the verb that say the same.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words =
            vec!["--profile".to_owned(), self.drawn.profile.to_string(), "--seed".to_owned(), self.seed.to_string()];
        words.extend(self.drawn.rocksdb.then(|| "--rocksdb".to_owned()));
        if !self.skip.is_empty() {
            let numbers: Vec<_> = self.skip.iter().map(ToString::to_string).collect();
            words.extend(["--skip".to_owned(), numbers.join(",")]);
        }
        words.extend(self.clients.into_iter().flat_map(|clients| ["--clients".to_owned(), clients.to_string()]));
        words.extend(self.until.into_iter().flat_map(|until| ["--until".to_owned(), until.to_string()]));
        words.extend(self.trace.then(|| "--trace".to_owned()));
        words
    }

    /// The process that runs it.
    pub(super) fn process(&self) -> anyhow::Result<Command> {
        let mut process = Command::new(this_program()?);
        process.arg("one").args(self.words());
        process.env_clear().env(SEED_VARIABLE, format!("{}-{}", self.drawn.profile, self.seed));
        for kept in ["RUST_BACKTRACE", "ORDERGRID_SIM_LOG"] {
            process.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        Ok(process)
    }
}

/// Runs it here, and tells.
pub(super) fn run(arguments: &OneArguments) -> anyhow::Result<u8> {
    anyhow::ensure!(std::env::var_os(SEED_VARIABLE).is_some(), "`one` is started by the other verbs; use `replay`");
    if arguments.trace {
        trace::tell(Box::new(BufWriter::new(std::io::stderr())));
    }
    // Always there, so that looking closer does not change the history.
    let filter = std::env::var("ORDERGRID_SIM_LOG").unwrap_or_else(|_| "off".to_owned());
    let log = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false);
    log.with_writer(std::io::stderr).init();
    watch_panics();
    let plan = arguments.plan();
    let outcome = history(&plan, arguments.until.map(SimTime::secs));
    trace::flush();
    let told = tell(&plan, &outcome);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&told)?)?;
    out.flush()?;
    Ok(match outcome.stop {
        None => HELD,
        Some(Stop::Violation(_)) => VIOLATED,
        Some(Stop::Harness(_)) => HARNESS,
    })
}

pub(super) fn tell(plan: &Plan, outcome: &Outcome) -> Told {
    let (end, judge, text) = match &outcome.stop {
        None => ("held", String::new(), String::new()),
        Some(Stop::Violation(violation)) => ("violated", violation.property.to_string(), violation.text.clone()),
        Some(Stop::Harness(text)) => ("harness", String::new(), text.clone()),
    };
    Told {
        end: end.to_owned(),
        judge,
        text,
        hash: format!("{:016x}", outcome.digest.0),
        events: outcome.digest.1,
        seconds: outcome.length.since_start().as_secs_f64(),
        operations: outcome.operations,
        troubles: plan.troubles.len(),
        clients: plan.mix.clients,
        rare: outcome.rare.clone(),
    }
}

/// Runs it in a process of its own, with its story on this one's standard error, and tells how it ended.
pub(super) fn replay(arguments: &OneArguments) -> anyhow::Result<u8> {
    let plan = arguments.plan();
    eprintln!(
        "{:?}\n{:?}\nlatency {:?}, sync {:?}, reads {:?}, messages {:?}, clocks {:?}",
        plan.shape, plan.mix, plan.latency, plan.sync, plan.reads, plan.frames, plan.clocks
    );
    for (number, planned) in plan.troubles.iter().enumerate() {
        eprintln!(
            "{number:>3}  after {:>7.3} s, for {:>6.3} s: {:?}",
            planned.at.as_secs_f64(),
            planned.lasts.as_secs_f64(),
            planned.trouble
        );
    }
    let status = arguments.process()?.status().context("the history's process")?;
    status.code().and_then(|code| u8::try_from(code).ok()).context("the history's process was ended by a signal")
}

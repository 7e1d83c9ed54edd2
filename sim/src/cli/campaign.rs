//! Many histories, each in a process of its own.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::hang::HangWatch;
use super::one::{OneArguments, Told};
use super::report::{Failure, Report};
use super::{Drawn, HELD, Output, VIOLATED};

/// How often a process is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    count: u64,
    #[command(flatten)]
    drawn: Drawn,
    /// Processes at a time; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop at the first failure.
    #[arg(long)]
    until_violation: bool,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Debug, Args)]
pub(super) struct MetaArguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, each twice.
    #[arg(long, default_value_t = 20)]
    count: u64,
    #[command(flatten)]
    drawn: Drawn,
    /// Processes at a time; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
}

/// The histories of some seeds.
pub(super) struct Campaign<'a> {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) drawn: &'a Drawn,
    pub(super) jobs: usize,
    pub(super) until_violation: bool,
}

/// One process per core.
pub(super) fn jobs(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

impl Campaign<'_> {
    /// Runs them all, and gives what each came to, by seed.
    pub(super) fn run(&self) -> anyhow::Result<BTreeMap<u64, Told>> {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let told = Mutex::new(BTreeMap::new());
        let work = || -> anyhow::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.count {
                    break;
                }
                let seed = self.first + number;
                let one = told_by(&OneArguments::of(seed, self.drawn))?;
                if one.end != "held" && self.until_violation {
                    stop.store(true, Ordering::Relaxed);
                }
                let mut told = told.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
                told.insert(seed, one);
                progress(told.len() as u64, self.count);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
        })?;
        told.into_inner().context("a worker panicked")
    }
}

/// Runs a history in a process of its own. A process that says nothing has failed as a harness.
pub(super) fn told_by(arguments: &OneArguments) -> anyhow::Result<Told> {
    told_by_process(arguments.process()?)
}

/// What a process tells that runs one history.
pub(super) fn told_by_process(mut process: Command) -> anyhow::Result<Told> {
    let mut process = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = process.stdout.take().context("it has a standard output")?;
    let mut err = process.stderr.take().context("it has a standard error")?;
    let (began, mut progress) = (Instant::now(), HangWatch::of(process.id()));
    let (said, complained, status) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let said = scope.spawn(move || read_all(&mut out));
        let complained = scope.spawn(move || read_all(&mut err));
        let status = loop {
            if let Some(status) = process.try_wait()? {
                break Ok(status);
            }
            if let Some(hangs) = progress.hangs(began.elapsed()) {
                process.kill()?;
                process.wait()?;
                break Err(hangs);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let join = |reader: std::thread::ScopedJoinHandle<'_, String>| reader.join().unwrap_or_default();
        Ok((join(said), join(complained), status))
    })?;
    let why = match status {
        Ok(status) => format!("the process ended with {status} and said nothing: {}", complained.trim()),
        Err(hangs) => format!("the process hung: it {hangs}, and was ended"),
    };
    Ok(serde_json::from_str(said.trim()).unwrap_or_else(|_| harness(why)))
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read until then is told.
    from.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn harness(text: String) -> Told {
    Told {
        end: "harness".to_owned(),
        judge: String::new(),
        text,
        hash: String::new(),
        events: 0,
        seconds: 0.0,
        operations: 0,
        troubles: 0,
        clients: 0,
        rare: BTreeMap::new(),
    }
}

fn progress(done: u64, of: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} of {of} ");
        if done == of {
            eprintln!();
        }
    }
}

/// The verb `run`.
pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<u8> {
    let began = Instant::now();
    let campaign = Campaign {
        first: arguments.seed,
        count: arguments.count,
        drawn: &arguments.drawn,
        jobs: jobs(arguments.jobs),
        until_violation: arguments.until_violation,
    };
    let told = campaign.run()?;
    let report = Report::of(&arguments.drawn, &told, began.elapsed());
    report.print(arguments.output)?;
    Ok(report.code())
}

/// The verb `meta`.
pub(super) fn meta(arguments: &MetaArguments) -> anyhow::Result<u8> {
    let campaign = Campaign {
        first: arguments.seed,
        count: arguments.count,
        drawn: &arguments.drawn,
        jobs: jobs(arguments.jobs),
        until_violation: false,
    };
    let (first, second) = (campaign.run()?, campaign.run()?);
    let differ =
        |seed: &u64, one: &Told| second.get(seed).is_none_or(|other| (&one.hash, one.events) != (&other.hash, other.events));
    let failures: Vec<_> = first
        .iter()
        .filter(|(seed, one)| differ(seed, one))
        .map(|(seed, _)| Failure::repeat(*seed, &arguments.drawn))
        .collect();
    println!("{} seeds twice, {} with another trace", first.len(), failures.len());
    for repeat in &failures {
        println!("another trace: {repeat}");
    }
    Ok(if failures.is_empty() { HELD } else { VIOLATED })
}

//! `bench`: load on a grid, and what it makes of it.
//!
//! In a closed loop every connection asks again as soon as it was answered; in an open one requests follow a schedule that
//! waits for nobody, and their latency counts from their place in it. Nothing is retried, so that what is measured is the
//! grid and not the client's patience. What the grid spent is the difference of its own `/metrics`.
//!
//! Read next: `workload` (what is asked), `pace` (when), `worker` (how), `tally` (what was seen), `meters` (what the grid
//! says it took), `profile` (where that goes), `report` (what comes out), `page` (how it looks).

mod figures;
mod machine;
mod meters;
mod options;
mod pace;
mod page;
mod pipe;
mod profile;
mod progress;
mod report;
mod seeding;
mod table;
mod tally;
mod worker;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::{Either, select};
use ordergrid_api::client::{Call, Client, ClientOptions, CoalesceOptions, Coalescer, Connector, Endpoint, RetryPolicy};
use ordergrid_api::wire::cluster::ShardStatus;
use ordergrid_api::wire::{Verdict, VerifyReport};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use machine::Machine;
pub use options::{BenchArgs, BenchOptions, Coalescing, Lines, Route, Workload};
pub use profile::{CpuPart, Profile, ProfileStage};
pub use progress::Progress;
pub use report::{BenchReport, Cost, Course, Document, Flash, Latencies, RunReport, ScheduleReport, Setup, StageReport};

use self::machine::CpuTimes;
use self::meters::Meters;
use self::pace::{Pace, Schedule, Timer, Window};
use self::pipe::{DEADLINE, Pipe, Target, Trunk};
use self::report::Measured;
use self::tally::Book;
use self::worker::Worker;
use crate::context::{Context, Ended};
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::screen::{Format, Screen};

/// How long proving the laws may take; a node itself gives up after as long.
const VERIFY_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The grid that is measured.
#[derive(Clone)]
pub struct Subject {
    /// Its nodes.
    pub endpoints: Vec<Endpoint>,
    /// How they are reached.
    pub connector: Arc<dyn Connector>,
    /// Nodes and shards, if it was started for this on this machine.
    pub started: Option<(u8, u16)>,
}

/// Puts load on a grid and measures it, as often as asked.
///
/// # Errors
/// When the SKUs cannot be stocked, or the laws not be proven: no node answers, or the grid refuses.
pub async fn run(options: &BenchOptions, subject: &Subject, progress: &Progress) -> Result<BenchReport, VerbFailure> {
    let timer = Timer::fine().map_err(|wrong| VerbFailure::new(Exit::Failed, "no_timer", format!("no timer: {wrong}")))?;
    run_by(options, subject, progress, &timer).await
}

async fn run_by(
    options: &BenchOptions,
    subject: &Subject,
    progress: &Progress,
    timer: &Timer,
) -> Result<BenchReport, VerbFailure> {
    let seed = ClientOptions { seed: options.run, ..ClientOptions::default() };
    let client = Client::new(&subject.endpoints, Arc::clone(&subject.connector), seed);
    let meters = Meters::new(&subject.endpoints, &subject.connector);
    let mut reports = Vec::new();
    for number in 0..options.runs {
        let options = options.of_run(number);
        if number == 0 || options.workload == Workload::Flash {
            progress.says("stocking SKUs");
            seeding::stock(&client, &options).await?;
        }
        let turns = turns(&options, subject, &client).await;
        let measured = measure(&options, number, subject, &turns, &meters, progress, timer).await;
        reports.push(BenchReport::new(&options, subject.endpoints.len(), subject.started, &measured));
    }
    let mut report = BenchReport::median(reports);
    if options.verify {
        progress.says("proving laws");
        let policy = RetryPolicy { attempt_timeout: VERIFY_PATIENCE, ..RetryPolicy::patient(VERIFY_PATIENCE) };
        let proof = client.send(&Call::cluster_verify(None), &policy).await?.read::<VerifyReport>()?.value;
        report.laws_hold = match proof.verdict() {
            Verdict::Holds => Some(true),
            Verdict::Broken => Some(false),
            Verdict::Unjudged => None,
        };
    }
    progress.ends();
    Ok(report)
}

/// Which endpoint each connection begins with, over and over.
async fn turns(options: &BenchOptions, subject: &Subject, client: &Client) -> Vec<usize> {
    let all = (0..subject.endpoints.len()).collect();
    if options.to == Route::All || subject.endpoints.len() == 1 {
        return all;
    }
    // Without an answer, or if the nodes know themselves by other addresses, all are asked alike.
    let Ok(status) = client.cluster_status().await.map(|answer| answer.value) else { return all };
    let leads = |shard: &ShardStatus| {
        let node = status.nodes.iter().find(|node| Some(node.id) == shard.leader)?;
        let endpoint = node.http.parse::<Endpoint>().ok()?;
        subject.endpoints.iter().position(|known| *known == endpoint)
    };
    let leaders: Option<Vec<usize>> = status.shards.iter().filter(|shard| shard.first_slot.is_some()).map(leads).collect();
    leaders.filter(|leaders| !leaders.is_empty()).unwrap_or(all)
}

/// One run: the warm-up, the window, and the end of what was under way.
async fn measure(
    options: &BenchOptions,
    number: u32,
    subject: &Subject,
    turns: &[usize],
    meters: &Meters,
    progress: &Progress,
    timer: &Timer,
) -> Measured {
    let starts = Instant::now();
    let begins = starts + options.warmup;
    let window = Window { begins, ends: options.total.is_none().then_some(begins + options.duration) };
    let pace = Arc::new(match options.rate {
        Some(rate) => Pace::Open(Schedule::new(starts, window, rate, options.batch)),
        None => Pace::Closed { window, left: options.total.map(AtomicU64::new), batch: u64::from(options.batch) },
    });
    let book = Arc::new(Book::new(window, options.rate.is_some()));
    let mut workers = workers(options, subject, turns, &pace, &book);
    let schedule = async {
        if let Pace::Open(schedule) = &*pace {
            schedule.keep(timer).await;
        }
    };
    let readings = async {
        sleep_until(window.begins).await;
        let before = (meters.read().await, CpuTimes::now());
        match window.ends {
            Some(ends) => sleep_until(ends).await,
            None => all_ended(&mut workers).await,
        }
        let (ended, cpu) = (Instant::now(), CpuTimes::now());
        (ended, before.0.zip(meters.read().await), cpu.since(before.1))
    };
    let (ended, metrics, cpu) = {
        let measuring = std::pin::pin!(async { tokio::join!(schedule, readings).1 });
        let following = std::pin::pin!(progress.follow(options, number, starts, &book));
        match select(measuring, following).await {
            Either::Left((measured, _)) => measured,
            Either::Right((never, _)) => match never {},
        }
    };
    all_ended(&mut workers).await;
    let kept = match &*pace {
        Pace::Open(schedule) => Some(schedule.kept(|waited| book.never_sent(waited))),
        Pace::Closed { .. } => None,
    };
    let (tally, step) = book.close();
    Measured { tally, step, lasted: window.ends.unwrap_or(ended) - window.begins, kept, metrics, cpu }
}

async fn all_ended(workers: &mut JoinSet<()>) {
    while let Some(ended) = workers.join_next().await {
        ended.expect("a worker neither panics nor is aborted");
    }
}

/// Starts all connections, or all callers whose orders are gathered.
fn workers(options: &BenchOptions, subject: &Subject, turns: &[usize], pace: &Arc<Pace>, book: &Arc<Book>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let gathered = options.gather.map(|gather| (gather, coalescer(options, gather, subject, turns, &mut workers)));
    let mut start = |number: u32, pipe: Pipe| {
        let worker = Worker::new(number, options, pipe, Arc::clone(pace), Arc::clone(book));
        workers.spawn(worker.run());
    };
    let target = |connection: u32| {
        let turn = turns[connection as usize % turns.len()];
        Target::new(&subject.endpoints, turn, Arc::clone(&subject.connector))
    };
    if let Some((gather, coalescer)) = gathered {
        (0..gather.callers).for_each(|caller| start(caller, Pipe::Gathered(coalescer.clone())));
        return workers;
    }
    for connection in 0..options.connections {
        let Some(streams) = options.streams else {
            start(connection, Pipe::Own(target(connection), None));
            continue;
        };
        let trunk = Arc::new(Trunk::new(target(connection)));
        for stream in 0..streams {
            start(connection * streams + stream, Pipe::Shared(Arc::clone(&trunk)));
        }
    }
    workers
}

/// Gathers the orders of all callers; its work is one of the workers.
fn coalescer(
    options: &BenchOptions,
    gather: Coalescing,
    subject: &Subject,
    turns: &[usize],
    workers: &mut JoinSet<()>,
) -> Coalescer {
    let endpoints: Vec<_> = turns.iter().map(|turn| subject.endpoints[*turn].clone()).collect();
    let settings = ClientOptions { retry: RetryPolicy::once(DEADLINE), seed: options.run, ..ClientOptions::default() };
    let client = Client::new(&endpoints, Arc::clone(&subject.connector), settings);
    let (coalescer, work) = Coalescer::new(
        client,
        CoalesceOptions {
            orders: gather.orders as usize,
            requests: options.connections as usize,
            minimal: true,
            ..CoalesceOptions::default()
        },
    );
    workers.spawn(work);
    coalescer
}

/// Runs `bench` against the endpoints; a grid of its own is the business of the binary, which then calls [`run`].
pub(super) async fn verb(arguments: BenchArgs, context: &Context<'_>) -> Ended {
    context.refuse_curl("bench")?;
    if !arguments.merge.is_empty() {
        let mut document = read_all(&arguments.merge)?;
        document.written_at = now();
        write_all(&arguments.out, &document)?;
        return Ok(Exit::Done);
    }
    if arguments.nodes.is_some() {
        return Err(VerbFailure::new(Exit::Usage, "usage", "--nodes needs a binary that can start nodes"));
    }
    let options = arguments.options()?;
    let endpoints = context.global.endpoints_or_default();
    let subject = Subject { endpoints, connector: Arc::clone(&context.connector), started: None };
    let report = run(&options, &subject, &Progress::new(context.screen)).await?;
    end(&report, &arguments, context.global.output, context.screen)
}

/// Writes a report everywhere it is wanted and says how the process ends.
///
/// # Errors
/// When nothing was done that the workload is about: there is no measurement; when a flash sale sold more than it had; when
/// a file cannot be written.
pub fn end(report: &BenchReport, arguments: &BenchArgs, output: Format, screen: &Screen) -> Result<Exit, VerbFailure> {
    match output {
        Format::Json => screen.data(&(serde_json::to_string(report).expect("a report is JSON") + "\n")),
        Format::Table => screen.data(&report.table(screen.paint())),
    }
    let document = Document {
        written_at: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: Machine::this(),
        benches: vec![report.clone()],
    };
    write_all(&arguments.out, &document)?;
    if let Some(flash) = report.flash.filter(|flash| flash.sold > flash.units) {
        let detail = format!("{} units were sold and there were {}", flash.sold, flash.units);
        return Err(VerbFailure::new(Exit::Failed, "oversold", detail));
    }
    if report.work_per_s <= 0.0 {
        let reasons: Vec<_> = report.refused_by_code.iter().map(|(code, number)| format!("{code} {number}")).collect();
        let detail = format!("not one {} was done: unknown {}, refused: {}", report.work, report.unknown, reasons.join(", "));
        return Err(VerbFailure::new(Exit::Failed, "nothing_done", detail));
    }
    Ok(if report.laws_hold == Some(false) { Exit::AnswerIsNo } else { Exit::Done })
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).expect("the present can be written")
}

fn read_all(files: &[std::path::PathBuf]) -> Result<Document, VerbFailure> {
    let mut documents = files.iter().map(|file| read_one(file)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut first: Document = documents.next().expect("there is a first file");
    first.benches.extend(documents.flat_map(|document| document.benches));
    Ok(first)
}

fn read_one(file: &Path) -> Result<Document, VerbFailure> {
    let wrong = |wrong: String| VerbFailure::new(Exit::Failed, "unreadable_report", format!("{}: {wrong}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

fn write_all(files: &[std::path::PathBuf], document: &Document) -> Result<(), VerbFailure> {
    for file in files {
        let text = match file.extension().and_then(|ending| ending.to_str()) {
            Some("html") => page::page(document),
            _ => serde_json::to_string_pretty(document).expect("a report is JSON") + "\n",
        };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written = folder.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(file, text));
        written.map_err(|wrong| {
            VerbFailure::new(Exit::Failed, "unwritable", format!("cannot write {}: {wrong}", file.display()))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

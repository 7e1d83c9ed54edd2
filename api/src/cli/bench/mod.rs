//! `bench`: load on a grid, and what it makes of it.
//!
//! Closed loop: every connection asks again as soon as it was answered, and nothing is retried, so that what is measured is
//! the grid and not the client's patience. A worker draws its requests from a [`Workload`] and hands what it saw to the
//! report; a loop that asks at set times belongs between the two. Read next: `workload` (what is asked), `worker` (how),
//! `report` (what comes out).

mod report;
mod seeding;
mod worker;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use report::BenchReport;
pub use workload::Workload;

use self::report::{Tally, cpu_time};
use self::worker::{Window, Worker};
use super::{Context, Ended, Exit, Format, VerbFailure, duration};
use crate::client::{Client, ClientOptions, Connector, Endpoint};

/// The command line of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to ask for
    #[arg(long, value_enum, default_value_t, value_name = "WORKLOAD")]
    pub workload: Workload,
    /// SKUs that the orders are spread over
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub skus: u32,
    /// Users that the orders are spread over
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub users: u32,
    /// Connections, each with one request under way; spread over the endpoints
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    pub connections: u32,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Orders per request; 1 places each with a request of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    pub batch: u32,
    /// Start a grid of so many nodes in this process and measure that
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1|3")]
    pub nodes: Option<u8>,
}

/// What is measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// What is asked for.
    pub workload: Workload,
    /// SKUs that the orders are spread over, at least 3.
    pub skus: u32,
    /// Users that the orders are spread over, at least 1.
    pub users: u32,
    /// Connections, at least 1.
    pub connections: u32,
    /// Length of the measured window.
    pub duration: Duration,
    /// Time before it.
    pub warm_up: Duration,
    /// Orders per request.
    pub batch: u32,
    /// Sets this run's idempotency keys apart from those of every other, and seeds its draws.
    pub run: u64,
}

impl BenchArgs {
    /// The options, checked.
    ///
    /// # Errors
    /// A usage error.
    pub fn options(&self) -> Result<BenchOptions, VerbFailure> {
        let usage = |detail: &str| Err(VerbFailure::new(Exit::Usage, "usage", detail));
        if self.batch > 1 && self.workload == Workload::Lifecycle {
            return usage("--batch places only; the workload lifecycle goes on with every order by itself");
        }
        if self.workload == Workload::Cart && self.skus < workload::CART_LINES {
            return usage("the workload cart needs at least 3 SKUs");
        }
        if self.duration.is_zero() {
            return usage("--duration must be longer than nothing");
        }
        Ok(BenchOptions {
            workload: self.workload,
            skus: self.skus,
            users: self.users,
            connections: self.connections,
            duration: self.duration,
            warm_up: self.warm_up,
            batch: self.batch,
            run: rand::random(),
        })
    }
}

/// Puts load on the grid that the endpoints belong to and measures it.
///
/// # Errors
/// When the SKUs cannot be stocked: no node answers, or the grid refuses.
pub async fn run(
    options: &BenchOptions,
    endpoints: &[Endpoint],
    connector: Arc<dyn Connector>,
) -> Result<BenchReport, VerbFailure> {
    let client =
        Client::new(endpoints, Arc::clone(&connector), ClientOptions { seed: options.run, ..ClientOptions::default() });
    seeding::stock(&client, options).await?;
    drop(client);
    let begins = Instant::now() + options.warm_up;
    let window = Window { begins, ends: begins + options.duration };
    let mut workers = JoinSet::new();
    for number in 0..options.connections {
        let worker = Worker::new(number, options, endpoints, Arc::clone(&connector));
        workers.spawn(worker.run(window));
    }
    sleep_until(window.begins).await;
    let cpu_before = cpu_time();
    sleep_until(window.ends).await;
    let cpu = cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let mut tally = Tally::new();
    while let Some(ended) = workers.join_next().await {
        tally.add(&ended.expect("a worker neither panics nor is aborted"));
    }
    Ok(BenchReport::new(options, endpoints.len(), &tally, cpu))
}

/// Runs `bench` against the endpoints; a grid of its own is the business of the binary, which then calls [`run`].
pub(super) async fn verb(arguments: BenchArgs, context: &Context<'_>) -> Ended {
    context.refuse_curl("bench")?;
    if arguments.nodes.is_some() {
        return Err(VerbFailure::new(Exit::Usage, "usage", "--nodes needs a binary that can start nodes"));
    }
    let options = arguments.options()?;
    if context.screen.talk_is_watched() {
        let seconds = (options.warm_up + options.duration).as_secs();
        context.screen.talk(&format!("stocking SKUs, then {seconds} s of load\n"));
    }
    let report = run(&options, &context.global.endpoints_or_default(), Arc::clone(&context.connector)).await?;
    show(&report, context.global.output, context.screen)
}

/// Writes a report and says how the process ends.
///
/// # Errors
/// When not one order was placed: there is no measurement.
pub fn show(report: &BenchReport, output: Format, screen: &super::Screen) -> Result<Exit, VerbFailure> {
    match output {
        Format::Json => screen.data(&(serde_json::to_string(report).expect("a report is JSON") + "\n")),
        Format::Table => screen.data(&report.table(screen.paint())),
    }
    if report.placed == 0 {
        let reasons: Vec<_> = report.refused_by_code.iter().map(|(code, number)| format!("{code} {number}")).collect();
        let detail = format!("not one order was placed: unknown {}, refused: {}", report.unknown, reasons.join(", "));
        return Err(VerbFailure::new(Exit::Failed, "nothing_placed", detail));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;

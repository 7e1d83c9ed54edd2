//! What a bench is asked to do: as typed, then checked once.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::units::duration;

/// The command line of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Kind of requests to send
    #[arg(long, value_enum, default_value_t, value_name = "WORKLOAD")]
    pub workload: Workload,
    /// Open loop: start N orders (lifecycles, requests of `read-mix`) per second on a fixed schedule; latency counts from the
    /// scheduled start [default: closed loop, each connection sends the next request once the last one is answered]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000), value_name = "N")]
    pub rate: Option<u64>,
    /// Number of SKUs that the orders are spread over
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub skus: u32,
    /// Number of users that the orders are spread over
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub users: u32,
    /// Lines per order, each of a different SKU: 3, or 1-5 for a uniform choice [default: 3 for cart, otherwise 1]
    #[arg(long, value_parser = lines, value_name = "N[-M]")]
    pub lines: Option<Lines>,
    /// Workload `flash`: units on sale
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), value_name = "N")]
    pub units: u64,
    /// Workload `read-mix`: percentage of requests that read, half of them orders, half SKUs; the others place orders
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=99), value_name = "PERCENT")]
    pub reads: u8,
    /// Number of connections, each with one request in flight; with --rate, a request uses the most recently used free one
    /// [default: 64; with --coalesce 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    pub connections: Option<u32>,
    /// Callers that come one by one: each has one order in flight, and the client gathers their orders into requests of up to
    /// --batch orders
    #[arg(long, conflicts_with = "http2")]
    pub coalesce: bool,
    /// With --coalesce: number of callers
    #[arg(long, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=1_000_000), requires = "coalesce", value_name = "N")]
    pub callers: u32,
    /// Which nodes the connections go to
    #[arg(long, value_enum, default_value_t = Route::Leaders, value_name = "NODES")]
    pub to: Route,
    /// Use HTTP/2, with several requests in flight per connection
    #[arg(long)]
    pub http2: bool,
    /// Requests in flight per HTTP/2 connection
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    pub streams: u32,
    /// Orders per request; 1 sends each order as a request of its own [default: 1; with --coalesce up to 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    pub batch: Option<u32>,
    /// Length of a measured run
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// Warm-up before each measured run
    #[arg(long, visible_alias = "warm-up", default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Number of measured runs; reports the median run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99), value_name = "N")]
    pub runs: u32,
    /// Instead of a duration: start N orders (lifecycles, requests) in whole batches and measure until the last one has ended
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["rate", "duration", "warmup"], value_name = "N")]
    pub total: Option<u64>,
    /// Prove the laws of stock on the grid afterwards; exit 10 if one is broken
    #[arg(long)]
    pub verify: bool,
    /// Report where the time goes: every stage of an order in the grid, and the CPU time of the grid's threads per order
    ///
    /// The figures come from the nodes' own metrics. The time of stages that never wait (parse, pack, encode, unpack, apply,
    /// reply, write, freeze) is reported as CPU time, which is too high when the machine has more work than processors.
    #[arg(long)]
    pub profile: bool,
    /// Also write a report, as a page (.html) or as data with every figure (.json); may be repeated
    #[arg(long, value_parser = report_file, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// Title of the run in reports
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Do not measure: merge these reports (.json) into --out
    #[arg(long, value_name = "FILE", requires = "out", num_args = 1..)]
    pub merge: Vec<PathBuf>,
    /// Start a temporary cluster of N node processes and benchmark it
    #[arg(long, value_parser = nodes, value_name = "1|3|5")]
    pub nodes: Option<u8>,
    /// With --nodes: number of shards
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024), requires = "nodes", value_name = "N")]
    pub shards: u16,
    /// With --nodes: set a configuration key on every node, such as limits.memory=2GiB; may be repeated
    #[arg(long = "set", requires = "nodes", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// With --nodes: parent folder of the cluster's data, on the disk to measure [default: the system's temporary folder]
    #[arg(long, requires = "nodes", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What is asked for.
    pub workload: Workload,
    /// Orders (lifecycles, requests) per second of a fixed schedule; none: a connection asks again when it was answered.
    pub rate: Option<u64>,
    /// SKUs that the orders are spread over, at least as many as an order has lines.
    pub skus: u32,
    /// Users that the orders are spread over, at least 1.
    pub users: u32,
    /// Lines of an order.
    pub lines: Lines,
    /// Units on sale, for `flash`.
    pub units: u64,
    /// Requests in a hundred that read, for `read-mix`.
    pub reads: u8,
    /// Connections, at least 1.
    pub connections: u32,
    /// Which nodes they go to.
    pub to: Route,
    /// Requests under way on one HTTP/2 connection; none: HTTP/1.1, where it is one.
    pub streams: Option<u32>,
    /// Orders per request; 1 if they are gathered.
    pub batch: u32,
    /// Orders of callers that come one by one are gathered.
    pub gather: Option<Coalescing>,
    /// Length of the measured window.
    pub duration: Duration,
    /// Time before it.
    pub warmup: Duration,
    /// How often.
    pub runs: u32,
    /// Orders to begin, instead of a time.
    pub total: Option<u64>,
    /// The laws are proven afterwards.
    pub verify: bool,
    /// Where the time goes is told.
    pub profile: bool,
    /// Its name in reports; none: what it does.
    pub title: Option<String>,
    /// Sets this run's idempotency keys apart from those of every other, and seeds its draws.
    pub run: u64,
}

/// How orders of callers that come one by one are gathered into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// Callers, each with one order under way, at least 1.
    pub callers: u32,
    /// Most orders in a request, at least 1.
    pub orders: u32,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// One unit of one SKU, chosen uniformly
    #[default]
    Uniform,
    /// One unit of the same SKU every time
    Hot,
    /// One unit each of three different SKUs
    Cart,
    /// One unit of one SKU; the order is then paid, picked, shipped and delivered
    Lifecycle,
    /// Many buyers of a SKU that has few units; measures the refusals once it is sold out
    Flash,
    /// Reads of orders and SKUs, and some new orders
    ReadMix,
}

impl Workload {
    /// The word on the command line and in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Hot => "hot",
            Self::Cart => "cart",
            Self::Lifecycle => "lifecycle",
            Self::Flash => "flash",
            Self::ReadMix => "read-mix",
        }
    }

    /// What is counted: an order placed, a lifecycle, a refusal, a request that was answered.
    pub(super) fn work(self) -> &'static str {
        match self {
            Self::Uniform | Self::Hot | Self::Cart => "order",
            Self::Lifecycle => "lifecycle",
            Self::Flash => "refusal",
            Self::ReadMix => "request",
        }
    }

    /// SKUs that it touches, of so many.
    pub(super) fn skus(self, of: u32) -> u32 {
        if matches!(self, Self::Hot | Self::Flash) { 1 } else { of }
    }
}

/// Which nodes the connections of a bench go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    /// The nodes that lead shards, in proportion to the shards they lead: most requests arrive at their leader
    Leaders,
    /// All nodes equally, as behind a load balancer: a node forwards a request to the leader of its shard
    All,
}

impl Route {
    /// As it is typed.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Leaders => "leaders",
            Self::All => "all",
        }
    }
}

/// How many lines an order has: any number in the range, all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The fewest, at least 1.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Lines {
    /// Always as many.
    pub(super) const fn just(lines: u32) -> Self {
        Self { least: lines, most: lines }
    }

    pub(super) fn range(self) -> RangeInclusive<u32> {
        self.least..=self.most
    }
}

impl BenchArgs {
    /// The options, checked.
    ///
    /// # Errors
    /// A usage error.
    pub fn options(&self) -> Result<BenchOptions, VerbFailure> {
        let usage = |detail: &str| Err(VerbFailure::new(Exit::Usage, "usage", detail));
        let lines = self.lines.unwrap_or(Lines::just(if self.workload == Workload::Cart { 3 } else { 1 }));
        let one_sku = matches!(self.workload, Workload::Hot | Workload::Flash);
        if self.coalesce && matches!(self.workload, Workload::ReadMix | Workload::Lifecycle) {
            return usage("--coalesce gathers orders that are placed; this workload does more");
        }
        let orders = self.batch.unwrap_or(if self.coalesce { 1_000 } else { 1 });
        let gather = self.coalesce.then_some(Coalescing { callers: self.callers, orders });
        let batch = if self.coalesce { 1 } else { orders };
        if batch > 1 && self.workload == Workload::ReadMix {
            return usage("--batch places only; the workload read-mix reads as well");
        }
        if one_sku && lines != Lines::just(1) {
            return usage("an order has one line per SKU, and this workload has one SKU: omit --lines");
        }
        if !one_sku && self.skus < lines.most {
            return usage("each line of an order is of a different SKU: --skus must not be less than --lines");
        }
        if self.duration.is_zero() {
            return usage("--duration must be longer than 0");
        }
        if self.total.is_some() && self.runs > 1 {
            return usage("--total is counted once: omit --runs");
        }
        Ok(BenchOptions {
            workload: self.workload,
            rate: self.rate,
            skus: self.skus,
            users: self.users,
            lines,
            units: self.units,
            reads: self.reads,
            connections: self.connections.unwrap_or(if self.coalesce { 4 } else { 64 }),
            to: self.to,
            streams: self.http2.then_some(self.streams),
            batch,
            gather,
            duration: self.duration,
            warmup: if self.total.is_some() { Duration::ZERO } else { self.warmup },
            runs: self.runs,
            total: self.total,
            verify: self.verify,
            profile: self.profile,
            title: self.title.clone(),
            run: rand::random(),
        })
    }
}

impl BenchOptions {
    /// The same for one of several runs, with keys of its own.
    pub(super) fn of_run(&self, number: u32) -> Self {
        Self { run: self.run.wrapping_add(u64::from(number)), ..self.clone() }
    }
}

fn lines(text: &str) -> Result<Lines, String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u32>().ok().filter(|lines| (1..=1_000).contains(lines));
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Ok(Lines { least, most }),
        _ => Err(format!("`{text}` is neither a number of lines from 1 to 1000, such as 3, nor a range such as 1-5")),
    }
}

fn nodes(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("must be 1, 3 or 5".to_owned()),
    }
}

fn report_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("html" | "json") => Ok(file),
        _ => Err("must end in .html or .json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn options(line: &str) -> Result<BenchOptions, String> {
        let words = ["bench"].into_iter().chain(line.split_ascii_whitespace());
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.bench;
        args.options().map_err(|failure| failure.detail().to_owned())
    }

    #[test]
    fn what_is_not_said_is_measured_plainly() {
        let plain = options("").expect("everything has a default");
        assert_eq!((plain.rate, plain.streams, plain.lines, plain.runs), (None, None, Lines::just(1), 1));
        assert_eq!((plain.warmup, plain.duration), (Duration::from_secs(2), Duration::from_secs(10)));
        assert_eq!(options("--workload cart").expect("cart").lines, Lines::just(3));
        assert_eq!(options("--workload cart --lines 1-5").expect("carts").lines, Lines { least: 1, most: 5 });
        assert_eq!(options("--http2").expect("http2").streams, Some(8));
        assert_eq!((plain.connections, plain.batch, plain.gather), (64, 1, None));
        let gathered = options("--coalesce --callers 100").expect("gathered");
        let gather = Some(Coalescing { callers: 100, orders: 1_000 });
        assert_eq!((gathered.connections, gathered.batch, gathered.gather), (4, 1, gather));
        let total = options("--total 100 --workload lifecycle --batch 10").expect("a total");
        assert_eq!((total.total, total.warmup), (Some(100), Duration::ZERO));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--batch 2 --workload read-mix",
            "--coalesce --workload lifecycle",
            "--coalesce --http2",
            "--callers 5",
            "--workload hot --lines 2",
            "--workload flash --lines 1-2",
            "--workload cart --skus 2",
            "--lines 5-1",
            "--lines 0",
            "--lines x",
            "--duration 0",
            "--total 5 --rate 5",
            "--total 5 --runs 2",
            "--nodes 2",
            "--shards 8",
            "--out report.pdf",
            "--merge a.json",
            "--rate 0",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_run_has_keys_of_its_own() {
        let options = options("").expect("everything has a default");
        assert_ne!(options.of_run(0).run, options.of_run(1).run);
    }
}

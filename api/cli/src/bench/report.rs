//! What came out of a bench.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::figures::nanos;
use super::machine::Machine;
use super::meters::Reading;
use super::options::{BenchOptions, Workload};
use super::pace::Kept;
use super::profile::Profile;
use super::tally::{Step, Tally};
use crate::units;

/// Where a curve of latencies is drawn.
const QUANTILES: [f64; 15] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];

/// Several benches and the machine they ran on: what `--out report.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// When it was written, RFC 3339.
    pub written_at: String,
    /// Version of the program.
    pub version: String,
    /// The machine of the client, and of the grid if the client started it.
    pub machine: Machine,
    /// What was measured, in the order in which it was.
    pub benches: Vec<BenchReport>,
}

/// What came out of a bench; its JSON is the output of the verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Its name, given or made of what it does.
    pub title: String,
    /// What the workload counts: `order`, `lifecycle`, `refusal` or `request`.
    pub work: String,
    /// So many of them per second.
    pub work_per_s: f64,
    /// Orders placed per second of the window.
    pub orders_per_s: f64,
    /// Median latency of a request that places (of a whole batch, where there is one), milliseconds.
    pub p50_ms: f64,
    /// 90th percentile of the same.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Orders placed.
    pub placed: u64,
    /// Orders refused, and other requests.
    pub refused: u64,
    /// Orders, and other requests, whose outcome is unknown.
    pub unknown: u64,
    /// The refusals by code.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Requests that were answered, or broke, per second.
    pub requests_per_s: f64,
    /// Latencies by kind of request, each sent by itself; `lifecycle` is all of one from placing to delivery.
    pub latencies: BTreeMap<String, Latencies>,
    /// How an open loop kept its schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleReport>,
    /// Workload `flash`: what became of the units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash: Option<Flash>,
    /// What it took.
    pub cost: Cost,
    /// The same for one order (lifecycle, refusal, request).
    pub cost_of_one: Cost,
    /// The course of the run.
    pub course: Course,
    /// Time spent in the stages that the grid measures, longest in all first.
    pub stages: Vec<StageReport>,
    /// Where the time goes, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Every run, in order; the figures above are of the one with the median rate.
    pub runs: Vec<RunReport>,
    /// Every law of stock held afterwards, where that was looked at and could be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub laws_hold: Option<bool>,
    /// How it was measured.
    #[serde(flatten)]
    pub setup: Setup,
}

/// How a bench was set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The workload.
    pub workload: String,
    /// `closed`: a connection asks again when it was answered; `open`: on a schedule.
    pub r#loop: String,
    /// `1.1` or `2`.
    pub http: String,
    /// Nodes of a grid that was started for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u8>,
    /// Shards of that grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u16>,
    /// Nodes that were asked.
    pub endpoints: usize,
    /// SKUs that the orders were spread over.
    pub skus: u32,
    /// Users that the orders were spread over.
    pub users: u32,
    /// Lines of an order, the fewest and the most.
    pub lines: (u32, u32),
    /// Orders per request; with callers the most.
    pub batch: u32,
    /// Callers whose orders were gathered into requests, each with one order under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<u32>,
    /// Connections.
    pub connections: u32,
    /// Which nodes they went to: `leaders` of shards, or `all`.
    #[serde(default)]
    pub to: String,
    /// Requests under way on a connection.
    pub streams: u32,
    /// Length of the window, seconds.
    pub duration_s: f64,
    /// Time before it, seconds; nothing of it is counted.
    pub warm_up_s: f64,
}

/// Latencies of one kind of request, milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Requests.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Quantile, from 0 to 1, and latency.
    pub curve: Vec<(f64, f64)>,
}

/// How an open loop kept its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleReport {
    /// Orders (lifecycles, requests) per second that it asks for.
    pub rate: u64,
    /// Requests that it has in the window.
    pub scheduled: u64,
    /// Those of them that were sent more than a millisecond late.
    pub late: u64,
    /// Those that were never sent: no connection was free before the end. They count as latencies with the time they had waited.
    pub never_sent: u64,
    /// How late requests were sent: 99th percentile, milliseconds. It is part of their latency.
    pub late_p99_ms: f64,
    /// The latest, milliseconds.
    pub late_max_ms: f64,
}

/// What became of the units of a flash sale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flash {
    /// Units on sale.
    pub units: u64,
    /// Units sold in all, the warm-up included, as far as answers tell.
    pub sold: u64,
    /// Orders refused for want of stock, per second of the window.
    pub refusals_per_s: f64,
    /// Entries of the log per such refusal.
    pub log_entries_per_refusal: Option<f64>,
}

/// What a run took, of everything that could be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds of the grid's processes.
    pub server_cpu_s: Option<f64>,
    /// CPU seconds of this process.
    pub client_cpu_s: Option<f64>,
    /// CPU seconds of everything else on this machine, if the grid is on it too: the more, the less the figures are worth.
    pub other_cpu_s: Option<f64>,
    /// Syncs of the logs.
    pub log_syncs: Option<f64>,
    /// Bytes written to the logs.
    pub log_bytes: Option<f64>,
    /// Bytes that the processes have written to disks in all: logs, checkpoints, compaction.
    pub disk_bytes: Option<f64>,
    /// Entries proposed.
    pub log_entries: Option<f64>,
    /// Commands in them.
    pub log_commands: Option<f64>,
    /// Bytes of memory of all processes at the end; the same for one.
    pub resident_bytes: Option<f64>,
}

/// The course of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Length of a stretch, seconds.
    pub step_s: f64,
    /// Orders (lifecycles, refusals, requests) per second in each stretch.
    pub work_per_s: Vec<f64>,
    /// The slowest request that ended in each, milliseconds.
    pub slowest_ms: Vec<f64>,
}

/// One stage, over all nodes. Stages overlap: one that waits for another has the other's time in its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name, as the metric has it without `ordergrid_` and `_seconds`, and its labels.
    pub name: String,
    /// How often.
    pub count: u64,
    /// All of them together, seconds.
    pub total_s: f64,
    /// Mean, milliseconds.
    pub mean_ms: f64,
    /// Median, as far as the buckets tell.
    pub p50_ms: f64,
    /// 99th percentile, as far as the buckets tell.
    pub p99_ms: f64,
}

/// One of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Orders (lifecycles, refusals, requests) per second.
    pub work_per_s: f64,
    /// Median latency of placing, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// What one run gave.
pub(super) struct Measured {
    pub(super) tally: Tally,
    /// Length of a stretch of the course.
    pub(super) step: Duration,
    /// Length of the window as it was.
    pub(super) lasted: Duration,
    pub(super) kept: Option<Kept>,
    pub(super) metrics: Option<(Reading, Reading)>,
    /// CPU seconds of this process and of the whole machine.
    pub(super) cpu: (f64, Option<f64>),
}

impl BenchReport {
    /// The report of one run.
    pub(super) fn new(options: &BenchOptions, endpoints: usize, grid: Option<(u8, u16)>, run: &Measured) -> Self {
        let (tally, seconds) = (&run.tally, run.lasted.as_secs_f64().max(1e-3));
        let per_s = |number: u64| units::rounded(number as f64 / seconds);
        let latencies: BTreeMap<_, _> =
            tally.latencies().map(|(step, of)| (step.word().to_owned(), Latencies::of(of))).collect();
        let nothing = Latencies::of(&Histogram::new(3).expect("three digits are supported"));
        let placing = latencies.get(Step::Place.word()).unwrap_or(&nothing).clone();
        let metrics = run.metrics.as_ref().and_then(|(before, after)| Some((after.since(before)?, after)));
        let since = metrics.as_ref().map(|(since, _)| since);
        let cost = Cost::of(metrics.as_ref().map(|(since, after)| (since, *after)), run.cpu, grid.is_some());
        let mut report = Self {
            title: options.title.clone().unwrap_or_else(|| title(options, grid)),
            work: options.workload.work().to_owned(),
            work_per_s: per_s(tally.work),
            orders_per_s: per_s(tally.placed),
            p50_ms: placing.p50_ms,
            p90_ms: placing.p90_ms,
            p99_ms: placing.p99_ms,
            p999_ms: placing.p999_ms,
            max_ms: placing.max_ms,
            placed: tally.placed,
            refused: tally.refused.values().sum(),
            unknown: tally.unknown,
            refused_by_code: tally.refused.clone(),
            requests_per_s: per_s(tally.requests),
            latencies,
            schedule: options.rate.zip(run.kept).map(|(rate, kept)| ScheduleReport::of(rate, kept, tally)),
            flash: None,
            cost,
            cost_of_one: cost.divided_by(tally.work),
            course: Course::of(tally, run.step, run.lasted),
            stages: since.map(stages).unwrap_or_default(),
            profile: options.profile.then(|| Profile::of(since, tally.work)),
            runs: Vec::new(),
            laws_hold: None,
            setup: Setup::of(options, endpoints, grid, seconds),
        };
        if options.workload == Workload::Flash {
            let (units, sold) = (options.units, tally.placed_ever);
            let log_entries_per_refusal = report.cost_of_one.log_entries;
            report.flash = Some(Flash { units, sold, refusals_per_s: report.work_per_s, log_entries_per_refusal });
        }
        report
    }

    /// Latencies by kind of request, in the order in which an order goes through them.
    pub(super) fn latencies_in_order(&self) -> Vec<(&str, &Latencies)> {
        let mut latencies: Vec<_> = self.latencies.iter().map(|(kind, of)| (kind.as_str(), of)).collect();
        latencies.sort_by_key(|(kind, _)| Step::ALL.iter().position(|step| step.word() == *kind));
        latencies
    }

    /// That of the run with the median rate, the lower of two; the others are told in short.
    pub(super) fn median(mut reports: Vec<Self>) -> Self {
        let short = |report: &Self| {
            let Self { work_per_s, p50_ms, p99_ms, max_ms, .. } = *report;
            RunReport { work_per_s, p50_ms, p99_ms, max_ms }
        };
        let runs: Vec<_> = reports.iter().map(short).collect();
        reports.sort_by(|one, other| one.work_per_s.total_cmp(&other.work_per_s));
        let median = reports.swap_remove((reports.len() - 1) / 2);
        Self { runs, ..median }
    }
}

/// What a bench does, in a few words.
fn title(options: &BenchOptions, grid: Option<(u8, u16)>) -> String {
    let mut words = vec![options.workload.word().to_owned()];
    if options.batch > 1 {
        words.push(format!("batches of {}", options.batch));
    }
    if let Some(gather) = options.gather {
        words.push(format!("{} callers coalesced", units::count(u64::from(gather.callers))));
    }
    if options.streams.is_some() {
        words.push("HTTP/2".to_owned());
    }
    if let Some(rate) = options.rate {
        words.push(format!("open loop {}/s", units::count(rate)));
    }
    if let Some((nodes, _)) = grid {
        words.push(if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") });
    }
    words.join(", ")
}

impl Setup {
    /// Where the connections went, as the end of a phrase; nothing where there was no choice.
    pub(super) fn whither(&self) -> &'static str {
        match self.to.as_str() {
            "leaders" if self.endpoints > 1 => " to the leaders",
            "all" if self.endpoints > 1 => " to all nodes",
            _ => "",
        }
    }

    fn of(options: &BenchOptions, endpoints: usize, grid: Option<(u8, u16)>, seconds: f64) -> Self {
        Self {
            workload: options.workload.word().to_owned(),
            r#loop: if options.rate.is_some() { "open" } else { "closed" }.to_owned(),
            http: if options.streams.is_some() { "2" } else { "1.1" }.to_owned(),
            nodes: grid.map(|(nodes, _)| nodes),
            shards: grid.map(|(_, shards)| shards),
            endpoints,
            skus: options.workload.skus(options.skus),
            users: options.users,
            lines: (options.lines.least, options.lines.most),
            batch: options.gather.map_or(options.batch, |gather| gather.orders),
            callers: options.gather.map(|gather| gather.callers),
            connections: options.connections,
            to: options.to.word().to_owned(),
            streams: options.streams.unwrap_or(1),
            duration_s: units::rounded(seconds),
            warm_up_s: options.warmup.as_secs_f64(),
        }
    }
}

impl Latencies {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean_ms: units::rounded(histogram.mean() / 1e3),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
            curve: QUANTILES.map(|quantile| (quantile, at(quantile))).to_vec(),
        }
    }
}

fn ms(micros: u64) -> f64 {
    units::rounded(micros as f64 / 1e3)
}

impl ScheduleReport {
    fn of(rate: u64, kept: Kept, tally: &Tally) -> Self {
        let Kept { scheduled, never_sent } = kept;
        let (p99, max) = (tally.delays.value_at_quantile(0.99), tally.delays.max());
        Self { rate, scheduled, late: tally.late, never_sent, late_p99_ms: ms(p99), late_max_ms: ms(max) }
    }
}

impl Course {
    fn of(tally: &Tally, step: Duration, lasted: Duration) -> Self {
        let step_s = step.as_secs_f64();
        let rate = |(at, work): (usize, u64)| {
            // The last stretch is cut off by the end of the run.
            let length = (lasted.as_secs_f64() - at as f64 * step_s).clamp(step_s / 1e3, step_s);
            units::rounded(work as f64 / length)
        };
        Self {
            step_s,
            work_per_s: tally.course.iter().map(|point| point.work).enumerate().map(rate).collect(),
            slowest_ms: tally.course.iter().map(|point| ms(point.slowest)).collect(),
        }
    }
}

impl Cost {
    /// `here`: the grid is on this machine.
    fn of(metrics: Option<(&Reading, &Reading)>, (own, all): (f64, Option<f64>), here: bool) -> Self {
        let since = |name| metrics.and_then(|(since, _)| since.number(name));
        let server_cpu_s = since("process_cpu_seconds_total").map(nanos);
        let other = all.filter(|_| here).zip(server_cpu_s).map(|(all, server)| (all - own - server).max(0.0));
        // A counter that is not there has not been counted yet.
        let counted = |name| metrics.filter(|(_, after)| after.processes() > 0).map(|_| since(name).unwrap_or(0.0));
        Self {
            server_cpu_s,
            client_cpu_s: Some(nanos(own)),
            other_cpu_s: other.map(nanos),
            log_syncs: counted("ordergrid_log_syncs_total"),
            log_bytes: counted("ordergrid_log_written_bytes_total"),
            disk_bytes: since("process_written_bytes_total"),
            log_entries: counted("ordergrid_log_entries_total"),
            log_commands: counted("ordergrid_log_commands_total"),
            resident_bytes: metrics.and_then(|(_, after)| after.number("process_resident_memory_bytes")),
        }
    }

    fn divided_by(self, work: u64) -> Self {
        let share = |total: Option<f64>| total.filter(|_| work > 0).map(|total| nanos(total / work as f64));
        Self {
            server_cpu_s: share(self.server_cpu_s),
            client_cpu_s: share(self.client_cpu_s),
            other_cpu_s: share(self.other_cpu_s),
            log_syncs: share(self.log_syncs),
            log_bytes: share(self.log_bytes),
            disk_bytes: share(self.disk_bytes),
            log_entries: share(self.log_entries),
            log_commands: share(self.log_commands),
            resident_bytes: self.resident_bytes,
        }
    }
}

fn stages(since: &Reading) -> Vec<StageReport> {
    let stage = |(name, buckets): (&str, &super::meters::Buckets)| StageReport {
        name: name.to_owned(),
        count: buckets.count.round() as u64,
        total_s: units::rounded(buckets.sum),
        mean_ms: nanos(buckets.sum / buckets.count * 1e3),
        p50_ms: nanos(buckets.quantile(0.5) * 1e3),
        p99_ms: nanos(buckets.quantile(0.99) * 1e3),
    };
    // What reading the metrics took is no part of what is measured.
    let mut stages: Vec<_> = since.histograms().filter(|(name, _)| !name.contains("/metrics")).map(stage).collect();
    stages.sort_by(|one, other| other.total_s.total_cmp(&one.total_s));
    stages
}

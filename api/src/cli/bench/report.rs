//! What a bench saw.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::BenchOptions;
use crate::cli::screen::Paint;
use crate::cli::units;

/// What came of one request.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) placed: u64,
    /// Orders refused, by code; a code may stand here several times.
    pub(super) refused: Vec<(String, u64)>,
    pub(super) unknown: u64,
}

/// What one worker, or all together, saw inside the window.
pub(super) struct Tally {
    placed: u64,
    refused: BTreeMap<String, u64>,
    unknown: u64,
    requests: u64,
    lives: u64,
    /// Microseconds of every request that places.
    placing: Histogram<u64>,
    /// Microseconds from placing to delivery.
    living: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are supported");
        let (placing, living) = (histogram(), histogram());
        Self { placed: 0, refused: BTreeMap::new(), unknown: 0, requests: 0, lives: 0, placing, living }
    }

    /// A request that places, however it ended.
    pub(super) fn saw(&mut self, seen: &Seen, latency: Duration) {
        self.placed += seen.placed;
        self.requests += 1;
        self.placing.record(micros(latency)).expect("the histogram grows");
        self.stumbled(seen);
    }

    /// Refusals and doubts of a later request.
    pub(super) fn stumbled(&mut self, seen: &Seen) {
        self.unknown += seen.unknown;
        for (code, orders) in &seen.refused {
            *self.refused.entry(code.clone()).or_default() += orders;
        }
    }

    /// An order that was delivered.
    pub(super) fn lived(&mut self, latency: Duration) {
        self.lives += 1;
        self.living.record(micros(latency)).expect("the histogram grows");
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.placed += other.placed;
        self.unknown += other.unknown;
        self.requests += other.requests;
        self.lives += other.lives;
        for (code, number) in &other.refused {
            *self.refused.entry(code.clone()).or_default() += number;
        }
        self.placing.add(&other.placing).expect("the histogram grows");
        self.living.add(&other.living).expect("the histogram grows");
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// What came out of a bench; its JSON is the output of the verb.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// Orders placed per second of the window.
    pub orders_per_s: f64,
    /// Median latency of a request that places (of a whole batch, where there is one), milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Orders placed in the window.
    pub placed: u64,
    /// Orders refused in the window.
    pub refused: u64,
    /// Orders whose outcome is unknown.
    pub unknown: u64,
    /// 99.9th percentile, milliseconds.
    pub p999_ms: f64,
    /// The longest, milliseconds.
    pub max_ms: f64,
    /// The refusals by code.
    pub refused_by_code: BTreeMap<String, u64>,
    /// Requests that place, per second.
    pub requests_per_s: f64,
    /// Workload `lifecycle`: orders delivered in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// Workload `lifecycle`: median time from placing to delivery, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_p50_ms: Option<f64>,
    /// Workload `lifecycle`: 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_p99_ms: Option<f64>,
    /// CPU seconds that this process spent per order placed; with a grid in the same process, the grid's too.
    pub process_cpu_s_per_order: Option<f64>,
    /// The workload.
    pub workload: &'static str,
    /// Always `closed`: a connection asks again when it was answered.
    pub r#loop: &'static str,
    /// SKUs that the orders were spread over.
    pub skus: u32,
    /// Users that the orders were spread over.
    pub users: u32,
    /// Orders per request.
    pub batch: u32,
    /// Connections.
    pub connections: u32,
    /// Nodes that were asked.
    pub endpoints: usize,
    /// Length of the window, seconds.
    pub duration_s: f64,
    /// Time before it, seconds; nothing of it is counted.
    pub warm_up_s: f64,
}

impl BenchReport {
    pub(super) fn new(options: &BenchOptions, endpoints: usize, tally: &Tally, cpu: Option<Duration>) -> Self {
        let seconds = options.duration.as_secs_f64();
        let ms = |histogram: &Histogram<u64>, quantile| units::rounded(histogram.value_at_quantile(quantile) as f64 / 1_000.0);
        let living = |quantile| (tally.lives > 0).then(|| ms(&tally.living, quantile));
        Self {
            orders_per_s: units::rounded(tally.placed as f64 / seconds),
            p50_ms: ms(&tally.placing, 0.5),
            p99_ms: ms(&tally.placing, 0.99),
            placed: tally.placed,
            refused: tally.refused.values().sum(),
            unknown: tally.unknown,
            p999_ms: ms(&tally.placing, 0.999),
            max_ms: units::rounded(tally.placing.max() as f64 / 1_000.0),
            refused_by_code: tally.refused.clone(),
            requests_per_s: units::rounded(tally.requests as f64 / seconds),
            delivered: (tally.lives > 0).then_some(tally.lives),
            lifecycle_p50_ms: living(0.5),
            lifecycle_p99_ms: living(0.99),
            process_cpu_s_per_order: cpu.filter(|_| tally.placed > 0).map(|cpu| cpu.as_secs_f64() / tally.placed as f64),
            workload: options.workload.word(),
            r#loop: "closed",
            skus: options.workload.skus(options),
            users: options.users,
            batch: options.batch,
            connections: options.connections,
            endpoints,
            duration_s: seconds,
            warm_up_s: options.warm_up.as_secs_f64(),
        }
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self, paint: Paint) -> String {
        let title = format!("BENCH {} over {} SKUs", self.workload, units::count(u64::from(self.skus)));
        let mut text = format!(
            "{}  {} connections  {} orders a request  {} s after {} s of warm-up\n",
            paint.bold(&title),
            units::count(u64::from(self.connections)),
            self.batch,
            self.duration_s,
            self.warm_up_s,
        );
        let mut row = |name: &str, value: String| text += &format!("{name:<18}{value:>12}\n");
        row("orders/s", units::count(self.orders_per_s.round() as u64));
        row("placed", units::count(self.placed));
        row("refused", units::count(self.refused));
        for (code, number) in &self.refused_by_code {
            row(&format!("  {code}"), units::count(*number));
        }
        row("unknown", units::count(self.unknown));
        for (name, latency) in [("p50", self.p50_ms), ("p99", self.p99_ms), ("p99.9", self.p999_ms), ("max", self.max_ms)] {
            row(name, units::latency(latency));
        }
        if let (Some(delivered), Some(p50), Some(p99)) = (self.delivered, self.lifecycle_p50_ms, self.lifecycle_p99_ms) {
            row("delivered", units::count(delivered));
            row("to delivery p50", units::latency(p50));
            row("to delivery p99", units::latency(p99));
        }
        if let Some(cpu) = self.process_cpu_s_per_order {
            row("CPU per order", format!("{:.1} us", cpu * 1e6));
        }
        text
    }
}

/// CPU time of this process so far, where the system tells (Linux).
pub(super) fn cpu_time() -> Option<Duration> {
    of_stat(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time of `/proc/self/stat`, in hundredths of a second on every Linux there is.
fn of_stat(stat: &str) -> Option<Duration> {
    // The name of the process stands in brackets and may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::super::Workload;
    use super::*;

    fn report(workload: Workload) -> BenchReport {
        let options = BenchOptions {
            workload,
            skus: 10,
            users: 1_000,
            connections: 2,
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            batch: 1,
            run: 0,
        };
        let mut one = Tally::new();
        one.saw(&Seen { placed: 1, ..Seen::default() }, Duration::from_micros(900));
        one.saw(&Seen { refused: vec![("out_of_stock".to_owned(), 1)], ..Seen::default() }, Duration::from_micros(300));
        if workload == Workload::Lifecycle {
            one.lived(Duration::from_millis(5));
        }
        let mut all = Tally::new();
        all.add(&one);
        all.saw(&Seen { unknown: 1, ..Seen::default() }, Duration::from_micros(1_100));
        BenchReport::new(&options, 3, &all, Some(Duration::from_millis(2)))
    }

    #[test]
    fn the_json_has_what_scripts_read() {
        let json = serde_json::to_value(report(Workload::Uniform)).expect("a report is JSON");
        let expected = serde_json::json!({
            "orders_per_s": 0.5, "p50_ms": 0.9, "p99_ms": 1.1, "placed": 1, "refused": 1, "unknown": 1,
            "p999_ms": 1.1, "max_ms": 1.1, "refused_by_code": {"out_of_stock": 1}, "requests_per_s": 1.5,
            "process_cpu_s_per_order": 0.002, "workload": "uniform", "loop": "closed", "skus": 10, "users": 1000,
            "batch": 1, "connections": 2, "endpoints": 3, "duration_s": 2.0, "warm_up_s": 0.5,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_report_as_people_see_it() {
        let expected = "\
BENCH lifecycle over 10 SKUs  2 connections  1 orders a request  2 s after 0.5 s of warm-up
orders/s                     1
placed                       1
refused                      1
  out_of_stock               1
unknown                      1
p50                    0.90 ms
p99                    1.10 ms
p99.9                  1.10 ms
max                    1.10 ms
delivered                    1
to delivery p50        5.00 ms
to delivery p99        5.00 ms
CPU per order        2000.0 us
";
        assert_eq!(report(Workload::Lifecycle).table(Paint::plain()), expected);
    }

    #[test]
    fn cpu_time_is_read_behind_the_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(1_500)));
        assert_eq!(of_stat("no"), None);
    }
}

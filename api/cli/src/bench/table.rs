//! A report for people at a terminal.

use super::report::{BenchReport, Cost};
use crate::screen::Paint;
use crate::table::{Align, Table};
use crate::units;

impl BenchReport {
    /// The report for people.
    #[must_use]
    pub fn table(&self, paint: Paint) -> String {
        let setup = &self.setup;
        let under_way = u64::from(setup.connections) * u64::from(setup.streams);
        let orders = if setup.batch == 1 { "order" } else { "orders" };
        let mut text = format!(
            "{}\n{} SKUs  {} requests under way{}, {} {orders} each  {} s after {} s of warm-up\n",
            paint.bold(&format!("BENCH {}", self.title)),
            units::count(u64::from(setup.skus)),
            units::count(under_way),
            setup.whither(),
            setup.batch,
            setup.duration_s,
            setup.warm_up_s,
        );
        for (name, value) in self.rows() {
            text += &format!("{name:<26}{value:>14}\n");
        }
        text += &self.latency_table().text(paint);
        if let Some(profile) = &self.profile {
            text += &profile.text(&self.work, paint);
        }
        if self.runs.len() > 1 {
            let rates: Vec<_> = self.runs.iter().map(|run| units::count(run.work_per_s.round() as u64)).collect();
            text += &format!("the median of {} runs: {}\n", rates.len(), rates.join("  "));
        }
        match self.laws_hold {
            Some(true) => text += &format!("{}\n", paint.good("EVERY LAW HOLDS")),
            Some(false) => text += &format!("{}\n", paint.bad("A LAW IS BROKEN")),
            None => {}
        }
        text
    }

    fn latency_table(&self) -> Table {
        let mut table = Table::new(&[
            ("LATENCY", Align::Left),
            ("P50", Align::Right),
            ("P90", Align::Right),
            ("P99", Align::Right),
            ("P99.9", Align::Right),
            ("MAX", Align::Right),
        ]);
        for (kind, of) in self.latencies_in_order() {
            let points = [of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms].map(units::latency);
            table.row([kind.replace('_', " ")].into_iter().chain(points));
        }
        table
    }

    fn rows(&self) -> Vec<(String, String)> {
        let count = |number: f64| units::count(number.round() as u64);
        let mut rows = vec![(format!("{}s/s", self.work), count(self.work_per_s))];
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        if self.work != "order" {
            row("orders/s", count(self.orders_per_s));
        }
        row("placed", units::count(self.placed));
        row("refused", units::count(self.refused));
        for (code, number) in &self.refused_by_code {
            row(&format!("  {code}"), units::count(*number));
        }
        row("unknown", units::count(self.unknown));
        if let Some(schedule) = &self.schedule {
            row("scheduled requests", units::count(schedule.scheduled));
            row("  sent > 1 ms late", units::count(schedule.late));
            row("  never sent", units::count(schedule.never_sent));
        }
        if let Some(flash) = &self.flash {
            row("units sold", format!("{} of {}", units::count(flash.sold), units::count(flash.units)));
        }
        for (name, value) in costs(&self.cost_of_one) {
            row(&format!("{name}/{}", self.work), value);
        }
        rows
    }
}

/// What one order (lifecycle, refusal, request) takes, as far as it is known.
pub(super) fn costs(of_one: &Cost) -> Vec<(&'static str, String)> {
    let micros = |seconds: f64| format!("{:.1} us", seconds * 1e6);
    let number = |number: f64| format!("{number:.3}");
    let bytes = |bytes: f64| units::size(bytes.round() as u64);
    let known = [
        ("server CPU", of_one.server_cpu_s.map(micros)),
        ("client CPU", of_one.client_cpu_s.map(micros)),
        ("syncs", of_one.log_syncs.map(number)),
        ("log entries", of_one.log_entries.map(number)),
        ("log bytes", of_one.log_bytes.map(bytes)),
        ("disk bytes", of_one.disk_bytes.map(bytes)),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BenchReport {
        let latencies = serde_json::json!({
            "count": 3, "mean_ms": 0.8, "p50_ms": 0.9, "p90_ms": 1.0, "p99_ms": 1.1, "p999_ms": 1.2, "max_ms": 1.3, "curve": [],
        });
        let cost = serde_json::json!({
            "server_cpu_s": 0.000_02, "client_cpu_s": 0.000_009, "log_syncs": 0.05, "log_entries": 0.1, "disk_bytes": 1_500.0,
        });
        serde_json::from_value(serde_json::json!({
            "title": "uniform, 1 node", "work": "order", "work_per_s": 1_234.4, "orders_per_s": 1_234.4, "p50_ms": 0.9,
            "p90_ms": 1.0, "p99_ms": 1.1, "p999_ms": 1.2, "max_ms": 1.3, "placed": 2_469, "refused": 1, "unknown": 0,
            "refused_by_code": {"out_of_stock": 1}, "requests_per_s": 1_235.0, "latencies": {"place": latencies},
            "schedule": {"rate": 1_000, "scheduled": 2_000, "late": 7, "never_sent": 0, "late_p99_ms": 0.1, "late_max_ms": 3.0},
            "cost": cost, "cost_of_one": cost, "course": {"step_s": 0.1, "work_per_s": [], "slowest_ms": []}, "stages": [],
            "runs": [
                {"work_per_s": 1_234.4, "p50_ms": 0.9, "p99_ms": 1.1, "max_ms": 1.3},
                {"work_per_s": 1_300.0, "p50_ms": 0.9, "p99_ms": 1.1, "max_ms": 1.3},
            ],
            "laws_hold": true, "workload": "uniform", "loop": "open", "http": "1.1", "endpoints": 1, "skus": 10_000,
            "users": 1_000, "lines": [1, 1], "batch": 1, "connections": 64, "streams": 1, "duration_s": 2.0, "warm_up_s": 0.5,
        }))
        .expect("a report")
    }

    #[test]
    fn the_report_as_people_see_it() {
        let expected = "\
BENCH uniform, 1 node
10,000 SKUs  64 requests under way, 1 order each  2 s after 0.5 s of warm-up
orders/s                           1,234
placed                             2,469
refused                                1
  out_of_stock                         1
unknown                                0
scheduled requests                 2,000
  sent > 1 ms late                     7
  never sent                           0
server CPU/order                 20.0 us
client CPU/order                  9.0 us
syncs/order                        0.050
log entries/order                  0.100
disk bytes/order                  1.5 kB
LATENCY      P50      P90      P99    P99.9      MAX
place    0.90 ms  1.00 ms  1.10 ms  1.20 ms  1.30 ms
the median of 2 runs: 1,234  1,300
EVERY LAW HOLDS
";
        assert_eq!(report().table(Paint::plain()), expected);
    }

    #[test]
    fn the_json_has_what_scripts_read() {
        let json = serde_json::to_value(report()).expect("a report is JSON");
        for name in ["orders_per_s", "p50_ms", "p99_ms", "placed", "refused", "unknown", "workload", "loop", "duration_s"] {
            assert!(!json[name].is_null(), "{name}");
        }
    }
}

//! Where the time of an order goes: the stages that the grid measures, in their order, and the CPU of the grid's threads.
//!
//! Nothing is sampled. A stage that never waits is taken for CPU for as long as it takes, which is too much where the
//! machine has more to do than processors; what the threads took in all is the system's own account of them.

use serde::{Deserialize, Serialize};

use super::figures::{nanos, picos, time};
use super::meters::Reading;
use crate::screen::Paint;
use crate::table::{Align, Table};

/// Stages in the order in which an order goes through them, the checkpoint's last; and whether they never wait.
const STAGES: [(&str, bool); 17] = [
    ("body", false),
    ("parse", true),
    ("admission", false),
    ("batch_wait", false),
    ("pack", true),
    ("encode", true),
    ("log_write", false),
    ("log_sync", false),
    ("replicate", false),
    ("unpack", true),
    ("apply", true),
    ("reply", true),
    ("grid", false),
    ("write", true),
    ("freeze", true),
    ("state_write", false),
    ("state_sync", false),
];
/// The threads that run everything but the disk: stages that never wait are on them.
const RUNTIME: &str = "runtime";

/// Where the time goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The stages, in the order in which an order goes through them; those that the grid does not tell are left out.
    pub stages: Vec<ProfileStage>,
    /// The CPU of the grid's processes in parts that add up; empty if its nodes do not tell that of their threads.
    pub cpu: Vec<CpuPart>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileStage {
    /// The label of `ordergrid_stage_seconds`.
    pub name: String,
    /// How often it was measured per order (lifecycle, refusal, request).
    pub each: f64,
    /// Median of its time, milliseconds, as far as the buckets tell.
    pub p50_ms: f64,
    /// 99th percentile, likewise.
    pub p99_ms: f64,
    /// Mean.
    pub mean_ms: f64,
    /// CPU seconds per order, if it never waits: its time.
    pub cpu_s: Option<f64>,
}

/// A part of the CPU of the grid's processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuPart {
    /// `stages` and `everything_else` are of the runtime's threads, the others threads by what they are for.
    pub name: String,
    /// CPU seconds per order (lifecycle, refusal, request).
    pub cpu_s: f64,
    /// Share of the whole, from 0 to 1.
    pub share: f64,
}

impl Profile {
    /// Of what has happened in the window, while `work` was done.
    pub(super) fn of(since: Option<&Reading>, work: u64) -> Self {
        let nothing = Self { stages: Vec::new(), cpu: Vec::new() };
        let Some(since) = since.filter(|_| work > 0) else { return nothing };
        let stages: Vec<_> = STAGES.iter().filter_map(|(name, never_waits)| stage(since, name, *never_waits, work)).collect();
        let in_stages = stages.iter().filter_map(|stage| stage.cpu_s).sum();
        Self { stages, cpu: parts(since, in_stages, work) }
    }

    /// The profile for people.
    pub(super) fn text(&self, work: &str, paint: Paint) -> String {
        if self.stages.is_empty() {
            return "WHERE THE TIME GOES: not in the grid's metrics\n".to_owned();
        }
        let mut text = self.stage_table(work).text(paint);
        text += "replicate has the log's part in it, grid all from admission to reply; one admission in 16 is timed\n";
        if self.cpu.is_empty() {
            return text + "the nodes do not report the CPU time of their threads\n";
        }
        text += &self.cpu_table(work).text(paint);
        if self.were_interrupted() {
            text += "the stages took longer than their threads ran: the machine is too busy for a CPU by stage\n";
        }
        text
    }

    /// The stages together took more time than their threads took CPU, so that their times are none of CPU.
    pub(super) fn were_interrupted(&self) -> bool {
        let in_stages: f64 = self.stages.iter().filter_map(|stage| stage.cpu_s).sum();
        self.cpu.iter().any(|part| part.name == "stages" && part.cpu_s < in_stages * 0.999)
    }

    fn stage_table(&self, work: &str) -> Table {
        let mut table = Table::new(&[
            ("WHERE THE TIME GOES", Align::Left),
            (per(work), Align::Right),
            ("P50", Align::Right),
            ("P99", Align::Right),
            ("MEAN", Align::Right),
            ("CPU EACH", Align::Right),
        ]);
        for stage in &self.stages {
            let cpu = stage.cpu_s.map_or_else(|| "-".to_owned(), micros);
            let [p50, p99, mean] = [stage.p50_ms, stage.p99_ms, stage.mean_ms].map(time);
            table.row([stage.name.replace('_', " "), format!("{:.5}", stage.each), p50, p99, mean, cpu]);
        }
        table
    }

    fn cpu_table(&self, work: &str) -> Table {
        let mut table = Table::new(&[("CPU OF THE GRID", Align::Left), (per(work), Align::Right), ("SHARE", Align::Right)]);
        for part in &self.cpu {
            table.row([part.called(), micros(part.cpu_s), format!("{:.0} %", part.share * 100.0)]);
        }
        table
    }
}

impl CpuPart {
    /// Its name for people.
    pub(super) fn called(&self) -> String {
        match self.name.as_str() {
            "stages" => "stages that never wait".to_owned(),
            "everything_else" => "everything else (HTTP, scheduling)".to_owned(),
            "other" => "other threads".to_owned(),
            threads => threads.replace('_', " "),
        }
    }
}

fn per(work: &str) -> &'static str {
    match work {
        "lifecycle" => "PER LIFECYCLE",
        "refusal" => "PER REFUSAL",
        "request" => "PER REQUEST",
        _ => "PER ORDER",
    }
}

fn micros(seconds: f64) -> String {
    format!("{:.2} us", seconds * 1e6)
}

fn stage(since: &Reading, name: &str, never_waits: bool, work: u64) -> Option<ProfileStage> {
    let buckets = since.stage(name).filter(|buckets| buckets.count > 0.0)?;
    Some(ProfileStage {
        name: name.to_owned(),
        each: nanos(buckets.count / work as f64),
        p50_ms: nanos(buckets.quantile(0.5) * 1e3),
        p99_ms: nanos(buckets.quantile(0.99) * 1e3),
        mean_ms: nanos(buckets.sum / buckets.count * 1e3),
        cpu_s: never_waits.then(|| picos(buckets.sum / work as f64)),
    })
}

/// What the threads took, the most first, after the runtime's part. `in_stages` is not more than the runtime took: where it
/// is, the stages were interrupted.
fn parts(since: &Reading, in_stages: f64, work: u64) -> Vec<CpuPart> {
    let threads = since.threads();
    let Some(runtime) = threads.get(RUNTIME) else { return Vec::new() };
    // Of a thread that has ended meanwhile less is told than before.
    let each = |seconds: f64| seconds.max(0.0) / work as f64;
    let in_stages = in_stages.min(each(*runtime));
    let mut others: Vec<_> = threads.iter().filter(|(name, _)| *name != RUNTIME).collect();
    others.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut parts = vec![("stages", in_stages), ("everything_else", each(*runtime) - in_stages)];
    parts.extend(others.into_iter().map(|(name, seconds)| (name.as_str(), each(*seconds))));
    let whole = parts.iter().map(|(_, seconds)| seconds).sum::<f64>().max(f64::MIN_POSITIVE);
    let part = |(name, cpu_s): (&str, f64)| CpuPart { name: name.to_owned(), cpu_s: picos(cpu_s), share: nanos(cpu_s / whole) };
    parts.into_iter().filter(|(_, cpu_s)| *cpu_s > 0.0).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(runtime: &str, writer: f64) -> Reading {
        Reading::of(&format!("{runtime}\nprocess_thread_cpu_seconds_total{{threads=\"log_writer\"}} {writer}\n"))
    }

    #[test]
    fn the_parts_of_the_cpu_add_up() {
        let runtime = "process_thread_cpu_seconds_total{threads=\"runtime\"} 6";
        #[rustfmt::skip]
        let cases = [
            // runtime, writer, in stages, parts for each of two orders
            (runtime,   2.0,    1.0,       vec![("stages", 1.0), ("everything_else", 2.0), ("log_writer", 1.0)]),
            (runtime,   0.0,    1.0,       vec![("stages", 1.0), ("everything_else", 2.0)]),
            // Stages that were interrupted have taken longer than their threads ran.
            (runtime,   2.0,    9.0,       vec![("stages", 3.0), ("log_writer", 1.0)]),
            // A thread has ended in between.
            (runtime,   -1.0,   1.0,       vec![("stages", 1.0), ("everything_else", 2.0)]),
            ("",        2.0,    1.0,       vec![]),
        ];
        for (runtime, writer, in_stages, expected) in cases {
            let parts = parts(&threads(runtime, writer), in_stages, 2);
            let found: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.cpu_s)).collect();
            assert_eq!(found, expected, "{runtime}, {writer}, {in_stages}");
            let whole: f64 = parts.iter().map(|part| part.share).sum();
            assert!(parts.is_empty() || (whole - 1.0).abs() < 1e-6, "{parts:?}");
        }
    }

    #[test]
    fn the_profile_as_people_see_it() {
        let text = "ordergrid_stage_seconds_bucket{work=\"place\",stage=\"parse\",le=\"0.00001\"} 100\n\
                    ordergrid_stage_seconds_sum{work=\"place\",stage=\"parse\"} 0.0005\n\
                    ordergrid_stage_seconds_count{work=\"place\",stage=\"parse\"} 100\n\
                    ordergrid_stage_seconds_bucket{stage=\"log_sync\",le=\"0.002\"} 4\n\
                    ordergrid_stage_seconds_sum{stage=\"log_sync\"} 0.006\n\
                    ordergrid_stage_seconds_count{stage=\"log_sync\"} 4\n";
        let stages = "\
WHERE THE TIME GOES  PER ORDER   P50      P99     MEAN  CPU EACH
parse                  1.00000  5 us  9.90 us     5 us   5.00 us
log sync               0.04000  1 ms  1.98 ms  1.50 ms         -
replicate has the log's part in it, grid all from admission to reply; one admission in 16 is timed
";
        let untold = "the nodes do not report the CPU time of their threads\n";
        let profile = Profile::of(Some(&Reading::of(text)), 100);
        assert_eq!(profile.text("order", Paint::plain()), stages.to_owned() + untold);

        let cpu = "process_thread_cpu_seconds_total{threads=\"runtime\"} 0.0015\n\
                   process_thread_cpu_seconds_total{threads=\"log_writer\"} 0.0005\n";
        let told = "\
CPU OF THE GRID                     PER ORDER  SHARE
stages that never wait                5.00 us   25 %
everything else (HTTP, scheduling)   10.00 us   50 %
log writer                            5.00 us   25 %
";
        let profile = Profile::of(Some(&Reading::of(&(text.to_owned() + cpu))), 100);
        assert_eq!(profile.text("order", Paint::plain()), stages.to_owned() + told);
        assert!(!profile.were_interrupted());
        let interrupted = "the stages took longer than their threads ran: the machine is too busy for a CPU by stage\n";
        let busy = Profile::of(Some(&Reading::of(&(text.to_owned() + &cpu.replace("0.0015", "0.0004")))), 100);
        assert!(busy.text("order", Paint::plain()).ends_with(interrupted));
        let nothing = "WHERE THE TIME GOES: not in the grid's metrics\n";
        for (since, work) in [(None, 100), (Some(&Reading::of(text)), 0), (Some(&Reading::default()), 100)] {
            assert_eq!(Profile::of(since, work).text("order", Paint::plain()), nothing);
        }
    }
}

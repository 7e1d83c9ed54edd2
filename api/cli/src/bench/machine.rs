//! The machine that a bench runs on, and the time that its processors spend.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What figures depend on, beside the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name for itself, where the system tells.
    pub cpu: Option<String>,
    /// Processors that this process may use.
    pub cores: usize,
    /// Bytes of memory, where the system tells.
    pub memory_bytes: Option<u64>,
    /// Name and release of the system.
    pub system: String,
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").map(str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory(&read("/proc/meminfo")),
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_owned(),
        }
    }
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.trim(), value.trim())).find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?.trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// What the processors have spent so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuTimes {
    /// On this process.
    own: Duration,
    /// On everything on this machine, where the system tells.
    all: Option<Duration>,
}

impl CpuTimes {
    pub(super) fn now() -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own = Duration::new(own.tv_sec.cast_unsigned(), u32::try_from(own.tv_nsec).unwrap_or(0));
        Self { own, all: std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(busy) }
    }

    /// Seconds spent since, on this process and on everything.
    pub(super) fn since(self, before: Self) -> (f64, Option<f64>) {
        let all = self.all.zip(before.all).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        (self.own.saturating_sub(before.own).as_secs_f64(), all)
    }
}

/// Time that was not idle of `/proc/stat`, in hundredths of a second on every Linux there is.
fn busy(stat: &str) -> Option<Duration> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times.split_ascii_whitespace().filter_map(|time| time.parse().ok()).collect();
    // user, nice, system, idle, waiting for a disk, interrupts, soft interrupts; what follows is other machines' or counted.
    let [user, nice, system, _, _, interrupts, soft, ..] = times[..] else { return None };
    Some(Duration::from_millis((user + nice + system + interrupts + soft) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_as_it_writes() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2.3GHz\nprocessor\t: 1\nmodel name\t: B\n";
        assert_eq!(field(cpuinfo, "model name"), Some("A CPU @ 2.3GHz"));
        assert_eq!(memory("MemTotal:       24 kB\nMemFree: 1 kB\n"), Some(24 << 10));
        assert_eq!(busy("cpu  100 5 50 9000 7 1 2 99 3 0\ncpu0 1\n"), Some(Duration::from_millis(1_580)));
        assert_eq!((busy("cpu0 1 2"), memory(""), field("", "model name")), (None, None, None));
    }

    #[test]
    fn time_goes_on() {
        let before = CpuTimes::now();
        let spent =
            std::hint::black_box((0..1_000_000_u64).fold(1, |sum: u64, one| std::hint::black_box(sum.wrapping_mul(one + 3))));
        let (own, _) = CpuTimes::now().since(before);
        assert!(own > 0.0, "{spent}");
    }
}

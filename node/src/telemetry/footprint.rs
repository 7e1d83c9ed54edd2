//! Metrics of the process, under the names that Prometheus' own clients use if there is one.
//!
//! Read on every scrape. Values that the system does not provide (`/proc` exists only on Linux) are left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use rustix::time::{ClockId, clock_gettime};

/// Prometheus text. `instance` is random per process. Nodes in one process have the same value, so that sums count it once; a
/// restart changes it.
pub(crate) fn text(instance: u64) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let mut text = String::new();
    let mut put = |kind: &str, name: &str, help: &str, labels: &str, value: String| {
        let lines = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n");
        lines.expect("writing to a string cannot fail");
    };
    put(
        "gauge",
        "ordergrid_process_info",
        "Drawn when the process started; nodes that share one tell the same.",
        &format!("{{instance=\"{instance:016x}\"}}"),
        "1".to_owned(),
    );
    put("counter", "process_cpu_seconds_total", "CPU time of the process.", "", format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec));
    if let Some(bytes) = resident() {
        put("gauge", "process_resident_memory_bytes", "Memory that is resident.", "", bytes.to_string());
    }
    if let Some(bytes) = field(&read("/proc/self/io"), "write_bytes") {
        put("counter", "process_written_bytes_total", "Bytes that the process had written to disks.", "", bytes.to_string());
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        put("gauge", "process_open_fds", "Descriptors that are open.", "", open.count().to_string());
    }
    put("gauge", "process_max_fds", "Descriptors that may be open.", "", crate::platform::descriptors::limit().to_string());
    text + &threads_text(&threads(task_stats()))
}

/// Bytes of memory that are resident, where the system tells.
pub(crate) fn resident() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS").map(|kib| kib << 10)
}

/// With less memory than this, huge pages waste more of a node's memory than its other parts leave unused.
const FRUGAL: u64 = 512 << 20;

/// Makes a process with little memory use small pages. The allocator cannot return a huge page while a part of it is in use: a
/// node of 256 MiB took 348 MiB with huge pages and 281 MiB without, at the same speed.
pub(crate) fn suit(memory: u64) {
    #[cfg(target_os = "linux")]
    if memory < FRUGAL
        && let Err(error) = rustix::thread::disable_transparent_huge_pages(true)
    {
        tracing::debug!(%error, effect = "the process takes more than limits.memory", "huge pages cannot be turned off");
    }
}

/// The `stat` file of every thread of this process.
fn task_stats() -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // A thread may end meanwhile.
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok())
}

/// CPU time of the living threads by purpose, in hundredths of a second (as on every Linux system). The time of ended threads
/// is not included.
fn threads(stats: impl Iterator<Item = String>) -> BTreeMap<&'static str, u64> {
    let mut threads = BTreeMap::new();
    for stat in stats {
        if let Some((name, ticks)) = thread(&stat) {
            *threads.entry(group(name)).or_default() += ticks;
        }
    }
    threads
}

/// Name and CPU time in `/proc/.../stat`: the name is in brackets and may hold any character.
fn thread(stat: &str) -> Option<(&str, u64)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut times = rest.split_ascii_whitespace().skip(11).map(|ticks| ticks.parse::<u64>().ok());
    Some((name, times.next()?? + times.next()??))
}

/// The purpose of a thread. Its name is set where it is started: by the runtime, by storage's engine, by RocksDB.
fn group(name: &str) -> &'static str {
    const GROUPS: [(&str, &str); 8] = [
        ("ordergrid", "runtime"),
        ("log-writer", "log_writer"),
        ("log-reader", "log_readers"),
        ("state-writer", "state_writer"),
        ("state-reader", "state_readers"),
        ("rocksdb:high", "flush"),
        ("rocksdb:low", "compaction"),
        ("rocksdb:bottom", "compaction"),
    ];
    GROUPS.iter().find(|(begins, _)| name.starts_with(begins)).map_or("other", |(_, group)| group)
}

fn threads_text(threads: &BTreeMap<&'static str, u64>) -> String {
    const NAME: &str = "process_thread_cpu_seconds_total";
    if threads.is_empty() {
        return String::new();
    }
    let help = "CPU time of the threads that are alive, by what they are for.";
    let mut text = format!("# HELP {NAME} {help}\n# TYPE {NAME} counter\n");
    for (group, ticks) in threads {
        let (seconds, hundredths) = (ticks / 100, ticks % 100);
        writeln!(text, "{NAME}{{threads=\"{group}\"}} {seconds}.{hundredths:02}").expect("writing to a string cannot fail");
    }
    text + "\n"
}

/// The number in the line `name: number`, whatever follows it.
fn field(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| line.split_once(':')).filter(|(found, _)| *found == name);
    values.map(|(_, value)| value).next()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_with_little_memory_has_small_pages() {
        suit(FRUGAL);
        let disabled = || rustix::thread::transparent_huge_pages_are_disabled().expect("the system tells");
        assert!(!disabled());
        suit(FRUGAL - 1);
        assert!(disabled());
    }

    #[test]
    fn fields_are_read_as_the_system_writes_them() {
        let status = "Name:\tordergrid\nVmHWM:\t  9 kB\nVmRSS:\t   17404 kB\n";
        assert_eq!((field(status, "VmRSS"), field(status, "VmSwap"), field(status, "Name")), (Some(17_404), None, None));
    }

    #[test]
    fn every_figure_has_its_type_and_the_instance_its_label() {
        let text = text(0xab);
        assert!(text.contains("ordergrid_process_info{instance=\"00000000000000ab\"} 1\n"), "{text}");
        let seconds = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total ")).expect("it is known");
        assert!(seconds.parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "{seconds}");
        let figures = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let names: BTreeSet<_> = figures.filter_map(|line| line.split(['{', ' ']).next()).collect();
        assert_eq!(text.matches("# TYPE ").count(), names.len(), "{text}");
    }

    #[test]
    fn threads_are_told_by_what_they_are_for() {
        let stat = |name: &str, user: u64, system: u64| {
            format!("7 ({name}) S 1 1 1 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 1 0 353478 3133440")
        };
        #[rustfmt::skip]
        let cases = [
            // name,             user, system, group,           hundredths
            ("ordergrid",        100,  50,     "runtime",       150),
            ("log-writer-0",     3,    4,      "log_writer",    7),
            ("log-reader-1",     0,    1,      "log_readers",   1),
            ("state-writer-0",   9,    0,      "state_writer",  9),
            ("state-reader-0",   1,    0,      "state_readers", 1),
            ("rocksdb:high0",    8,    0,      "flush",         8),
            ("rocksdb:low1",     2,    2,      "compaction",    4),
            ("a (b) c) S 1 2 3", 0,    6,      "other",         6),
        ];
        for (name, user, system, group, hundredths) in cases {
            let read = threads(std::iter::once(stat(name, user, system)));
            assert_eq!(read, BTreeMap::from([(group, hundredths)]), "{name}");
        }
        let both = threads(["log-reader-0", "log-reader-1", ""].map(|name| stat(name, 60, 1)).into_iter());
        let text = "# HELP process_thread_cpu_seconds_total CPU time of the threads that are alive, by what they are for.\n\
                    # TYPE process_thread_cpu_seconds_total counter\n\
                    process_thread_cpu_seconds_total{threads=\"log_readers\"} 1.22\n\
                    process_thread_cpu_seconds_total{threads=\"other\"} 0.61\n\n";
        assert_eq!(threads_text(&both), text);
        assert_eq!(thread("no thread"), None);
    }
}

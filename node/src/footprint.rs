//! What this process has taken of its machine, under the names that Prometheus' own clients use where there is one.
//!
//! Read when metrics are asked for. What the system does not tell (`/proc` is Linux) is left out.

use std::fmt::Write;

use rustix::time::{ClockId, clock_gettime};

/// Prometheus text. `instance` was drawn when the process started: nodes that share a process are counted once by whoever
/// adds them up, and one that was started anew is noticed.
pub(crate) fn text(instance: u64) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let mut text = String::new();
    let mut put = |kind: &str, name: &str, labels: &str, value: String| {
        writeln!(text, "# TYPE {name} {kind}\n{name}{labels} {value}\n").expect("writing to a string cannot fail");
    };
    put("gauge", "ordergrid_process_info", &format!("{{instance=\"{instance:016x}\"}}"), "1".to_owned());
    put("counter", "process_cpu_seconds_total", "", format!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec));
    if let Some(kib) = field(&read("/proc/self/status"), "VmRSS") {
        put("gauge", "process_resident_memory_bytes", "", (kib << 10).to_string());
    }
    if let Some(bytes) = field(&read("/proc/self/io"), "write_bytes") {
        put("counter", "process_written_bytes_total", "", bytes.to_string());
    }
    text
}

/// The number in the line `name: number`, whatever follows it.
fn field(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| line.split_once(':')).filter(|(found, _)| *found == name);
    values.map(|(_, value)| value).next()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let names = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        assert_eq!(text.matches("# TYPE ").count(), names, "{text}");
    }
}

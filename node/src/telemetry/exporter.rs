//! Metrics of the process as Prometheus text, and log events on stderr.
//!
//! Both are global to a process. The binary installs them once and passes the metrics on; several nodes in one process share
//! them and differ by a label. The library installs nothing.

mod catalogue;

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::config::TraceConfig;
use crate::telemetry::footprint;

/// Upper bounds of latencies in seconds: from 50 us for a hop to 10 s for a request.
const LATENCIES: [f64; 17] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of an order's stages in seconds, from 1 us for a small step.
const STAGES: [f64; 25] = [
    0.000_001, 0.000_002, 0.000_003, 0.000_005, 0.000_01, 0.000_02, 0.000_03, 0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5,
    0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0,
];

/// Upper bounds of sizes in bytes: 64 B to 64 MiB.
const SIZES: [f64; 11] =
    [64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Upper bounds of batch sizes: commands in an entry, entries in a sync.
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];

/// Interval at which samples are sorted into buckets. Until then, each sample is kept.
const UPKEEP: Duration = Duration::from_secs(1);

/// The environment variable that takes precedence over `trace.filter`.
pub const FILTER_VARIABLE: &str = "ORDERGRID_LOG";

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct Exporter {
    counted: PrometheusHandle,
    /// Random number that identifies this process.
    instance: u64,
}

/// Why metrics or log events cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// Another recorder was installed before.
    #[error("metrics were installed before")]
    MetricsInstalled,
    /// The buckets are invalid.
    #[error("metrics: {0}")]
    Metrics(#[from] BuildError),
    /// The filter is invalid.
    #[error("the log filter {filter:?}: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: ParseError,
    },
    /// Another subscriber was installed before.
    #[error("traces: {0}")]
    Traces(#[from] TryInitError),
}

impl Exporter {
    /// Installs the process's metrics. The binary calls this once per process.
    ///
    /// # Errors
    /// If metrics were installed before.
    pub fn install() -> Result<Self, ExporterError> {
        let recorder = recorder()?;
        let exporter = Self { counted: recorder.handle(), instance: rand::random() };
        metrics::set_global_recorder(recorder).map_err(|_| ExporterError::MetricsInstalled)?;
        catalogue::begin();
        Ok(exporter)
    }

    /// Prometheus text of all metrics, including those of the process.
    #[must_use]
    pub fn render(&self) -> String {
        self.counted.render() + &footprint::text(self.instance)
    }

    /// Sorts samples into buckets as long as it is polled. Without it, they accumulate between two scrapes.
    pub async fn keep_up(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.counted.run_upkeep();
        }
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let suffix = |suffix: &str| Matcher::Suffix(suffix.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("ordergrid_stage_seconds".to_owned()), &STAGES)?
        .set_buckets_for_metric(suffix("_seconds"), &LATENCIES)?
        .set_buckets_for_metric(suffix("_bytes"), &SIZES)?
        .set_buckets(&COUNTS)?;
    Ok(builder.build_recorder())
}

/// Sends log events to stderr. `ORDERGRID_LOG` takes precedence over the configured filter.
///
/// # Errors
/// If the filter is invalid, or log events were set up before.
pub fn init_traces(config: &TraceConfig, variable: Option<String>) -> Result<(), ExporterError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = variable.unwrap_or_else(|| config.filter.clone());
    let filter = EnvFilter::builder().parse(&filter).map_err(|reason| ExporterError::Filter { filter, reason })?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    if config.json {
        lines.json().finish().try_init()?;
    } else {
        lines.finish().try_init()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn histograms_are_bucketed_by_their_unit() {
        let recorder = recorder().expect("the buckets are valid");
        let exporter = Exporter { counted: recorder.handle(), instance: 7 };
        metrics::with_local_recorder(&recorder, || {
            for node in ["n1", "n2"] {
                metrics::histogram!("ordergrid_place_seconds", "node" => node).record(0.000_07);
            }
            metrics::histogram!("ordergrid_stage_seconds", "stage" => "pack").record(0.000_002_5);
            metrics::histogram!("ordergrid_entry_bytes").record(300.0);
            metrics::histogram!("ordergrid_entry_commands").record(3.0);
            metrics::counter!("ordergrid_orders_total").increment(2);
        });
        let text = exporter.render();
        #[rustfmt::skip]
        let lines = [
            "ordergrid_place_seconds_bucket{node=\"n1\",le=\"0.00005\"} 0",
            "ordergrid_place_seconds_bucket{node=\"n1\",le=\"0.0001\"} 1",
            "ordergrid_place_seconds_bucket{node=\"n2\",le=\"10\"} 1",
            "ordergrid_stage_seconds_bucket{stage=\"pack\",le=\"0.000002\"} 0",
            "ordergrid_stage_seconds_bucket{stage=\"pack\",le=\"0.000003\"} 1",
            "ordergrid_entry_bytes_bucket{le=\"256\"} 0",
            "ordergrid_entry_bytes_bucket{le=\"1024\"} 1",
            "ordergrid_entry_commands_bucket{le=\"2\"} 0",
            "ordergrid_entry_commands_bucket{le=\"4\"} 1",
            "ordergrid_orders_total 2",
            "ordergrid_process_info{instance=\"0000000000000007\"} 1",
        ];
        for line in lines {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    /// What Prometheus' own linter asks of a text.
    fn lint(text: &str) {
        let mut families = BTreeSet::new();
        let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("HELP says something");
                assert!(helped.insert(name) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("TYPE names one");
                assert!(typed.insert(name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                families.insert(whole.filter(|whole| typed.contains(whole)).unwrap_or(name));
            }
        }
        assert_eq!(families, typed, "TYPE: {text}");
        assert_eq!(families, helped, "HELP: {text}");
    }

    #[test]
    fn families_begin_at_zero_with_type_and_help() {
        let recorder = recorder().expect("the buckets are valid");
        let exporter = Exporter { counted: recorder.handle(), instance: 7 };
        metrics::with_local_recorder(&recorder, catalogue::begin);
        let text = exporter.render();
        lint(&text);
        for line in ["ordergrid_log_syncs_total 0", "ordergrid_http_connections 0", "ordergrid_log_sync_seconds_count 0"] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let config = TraceConfig { filter: "info".to_owned(), json: false };
        let wrong = init_traces(&config, Some("ordergrid=loud".to_owned())).expect_err("loud is no level");
        assert!(wrong.to_string().starts_with("the log filter \"ordergrid=loud\": "), "{wrong}");
    }
}

//! The metrics of this crate. Names follow `ordergrid_…_{seconds,bytes,total}`; only the node installs an exporter.

use std::time::Duration;

use metrics::{Histogram, counter, histogram};
use tokio::time::Instant;

/// A stage of a request's processing, as in `ordergrid_stage_seconds{stage}`. The handle is created once. The node uses it for
/// its own stages, too.
pub struct Stage(Histogram);

impl Stage {
    /// The handle of `stage`.
    #[must_use]
    pub fn of(stage: &'static str) -> Self {
        Self(histogram!("ordergrid_stage_seconds", "stage" => stage))
    }

    /// Runs `what` and records its duration.
    pub fn time<T>(&self, what: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = what();
        self.took(started.elapsed());
        done
    }

    /// Records a duration.
    pub fn took(&self, time: Duration) {
        self.0.record(time);
    }
}

/// Records a log sync in `took`: one batch with `entries` entries of all groups and `bytes` bytes.
pub(crate) fn log_synced(took: Duration, entries: u64, bytes: usize) {
    histogram!("ordergrid_log_sync_seconds").record(took.as_secs_f64());
    histogram!("ordergrid_log_entries_per_sync").record(entries as f64);
    counter!("ordergrid_log_syncs_total").increment(1);
    counter!("ordergrid_log_written_bytes_total").increment(bytes as u64);
    counter!("ordergrid_log_appended_entries_total").increment(entries);
}

/// Counts log rows that were written without a sync (purges, commit marks).
pub(crate) fn log_written(bytes: usize) {
    counter!("ordergrid_log_written_bytes_total").increment(bytes as u64);
}

/// Counts entries that had left the tail and were read from the disk.
pub(crate) fn log_read_cold(entries: usize) {
    counter!("ordergrid_log_cold_entries_total").increment(entries as u64);
}

/// Records a checkpoint of `rows` rows and `bytes` bytes that became durable in `took`.
pub(crate) fn checkpointed(took: Duration, rows: usize, bytes: usize) {
    histogram!("ordergrid_checkpoint_seconds").record(took.as_secs_f64());
    histogram!("ordergrid_checkpoint_bytes").record(bytes as f64);
    counter!("ordergrid_checkpoint_rows_total").increment(rows as u64);
}

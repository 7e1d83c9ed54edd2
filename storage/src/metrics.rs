//! What this crate counts about itself. Names follow `ordergrid_…_{seconds,bytes,total}`; only the node installs an exporter.

use std::time::Duration;

use metrics::{Histogram, counter, histogram};
use tokio::time::Instant;

/// A part of the way from a request to its answer, as `ordergrid_stage_seconds{stage}`; the handle is taken once. The node
/// times its own stages with it, too.
pub struct Stage(Histogram);

impl Stage {
    /// The handle of `stage`.
    #[must_use]
    pub fn of(stage: &'static str) -> Self {
        Self(histogram!("ordergrid_stage_seconds", "stage" => stage))
    }

    /// Does `what` and measures how long it took.
    pub fn time<T>(&self, what: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = what();
        self.took(started.elapsed());
        done
    }

    /// It took so long.
    pub fn took(&self, time: Duration) {
        self.0.record(time);
    }
}

/// The log was written and synced in `took`, with `entries` entries of all groups and `bytes` bytes in one batch.
pub(crate) fn log_synced(took: Duration, entries: u64, bytes: usize) {
    histogram!("ordergrid_log_sync_seconds").record(took.as_secs_f64());
    histogram!("ordergrid_log_entries_per_sync").record(entries as f64);
    counter!("ordergrid_log_syncs_total").increment(1);
    counter!("ordergrid_log_written_bytes_total").increment(bytes as u64);
    counter!("ordergrid_log_appended_entries_total").increment(entries);
}

/// Log rows that wait for no sync (purges, commit marks) were written.
pub(crate) fn log_written(bytes: usize) {
    counter!("ordergrid_log_written_bytes_total").increment(bytes as u64);
}

/// Entries that had left the in-memory tail were read from the disk.
pub(crate) fn log_read_cold(entries: usize) {
    counter!("ordergrid_log_cold_entries_total").increment(entries as u64);
}

/// A checkpoint of `rows` rows and `bytes` bytes became durable in `took`.
pub(crate) fn checkpointed(took: Duration, rows: usize, bytes: usize) {
    histogram!("ordergrid_checkpoint_seconds").record(took.as_secs_f64());
    histogram!("ordergrid_checkpoint_bytes").record(bytes as f64);
    counter!("ordergrid_checkpoint_rows_total").increment(rows as u64);
}

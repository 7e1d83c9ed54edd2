//! The metrics of a node. Names follow `ordergrid_…_{seconds,bytes,total}`; only the binary installs an exporter.
//!
//! `ordergrid_stage_seconds{stage}` is one histogram over all crates. An order's way is `body`, `parse`, `admission`,
//! `batch_wait`, `pack`, `encode` (for the disk), `log_write` and `log_sync` (each batch of the log), `replicate` (from the
//! proposal until the run of entries that applies it begins, so with the log's part in it), `unpack`, `apply`, `reply` and
//! `write`; HTTP's stages say for which `work`, and its `grid` is all from `admission` to `reply`. A checkpoint's way is
//! `freeze`, `state_write`, `state_sync`. Single requests are timed by HTTP alone, the rest by entry or batch.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, counter, gauge, histogram};
use ordergrid_cluster::NodeId;
use ordergrid_domain::GroupId;
use ordergrid_storage::Stage;
use tokio::time::Instant;

/// The stages of a committed entry; none of them includes a wait.
pub(crate) struct ApplyStages {
    /// Decoding commands from bytes, unless this node created the entry.
    pub(crate) unpack: Stage,
    /// Executing the commands. A run that finds rows missing counts as well.
    pub(crate) apply: Stage,
    /// Answering the callers that wait for an outcome.
    pub(crate) reply: Stage,
}

impl ApplyStages {
    pub(crate) fn new() -> Self {
        Self { unpack: Stage::of("unpack"), apply: Stage::of("apply"), reply: Stage::of("reply") }
    }
}

/// Messages with places between two that are timed: a look at the clock for every order would be felt.
const ADMISSIONS: u32 = 16;

/// From a request's arrival at its shard until the shard's actor has taken it up.
pub(crate) struct Admission {
    seen: u32,
    stage: Stage,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self { seen: 0, stage: Stage::of("admission") }
    }

    /// What arrived at `asked` was taken up, or refused; `None` for what was taken up before and comes again.
    pub(crate) fn took(&mut self, asked: Option<Instant>) {
        let Some(asked) = asked else { return };
        if self.seen.is_multiple_of(ADMISSIONS) {
            self.stage.took(asked.elapsed());
        }
        self.seen = self.seen.wrapping_add(1);
    }
}

/// How long the first command of each entry has waited to be packed. Only the first one that waits looks at the clock.
pub(crate) struct BatchWait {
    epoch: Instant,
    /// Nanoseconds from `epoch` to when the first that waits came; 0: nobody waits.
    since: AtomicU64,
    stage: Stage,
}

impl BatchWait {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), since: AtomicU64::new(0), stage: Stage::of("batch_wait") }
    }

    /// A command is about to be queued.
    pub(crate) fn begins(&self) {
        if self.since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.since.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Everything that was queued has been taken. A command that comes at this very moment may go untimed.
    pub(crate) fn ends(&self) {
        let since = self.since.swap(0, Ordering::Relaxed);
        if since != 0 {
            self.stage.took(self.epoch.elapsed().saturating_sub(std::time::Duration::from_nanos(since)));
        }
    }
}

/// What is counted with every entry that is proposed; the handles are taken once.
pub(crate) struct EntryMeters {
    entries: Counter,
    commands: Counter,
    /// Encoding commands into an entry.
    pub(crate) pack: Stage,
}

impl EntryMeters {
    pub(crate) fn new() -> Self {
        let (entries, commands) = (counter!("ordergrid_log_entries_total"), counter!("ordergrid_log_commands_total"));
        Self { entries, commands, pack: Stage::of("pack") }
    }

    /// Counts an entry that was proposed with this many commands.
    pub(crate) fn proposed(&self, commands: usize) {
        self.entries.increment(1);
        self.commands.increment(commands as u64);
    }
}

/// Counts damage found in a replica's rows.
pub(crate) fn damage_found(group: GroupId) {
    counter!("ordergrid_state_damaged_total", "shard" => group.to_string()).increment(1);
}

/// Sets whether a replica's rows are intact, as far as is known.
pub(crate) fn replica_whole(group: GroupId, whole: bool) {
    gauge!("ordergrid_state_whole", "shard" => group.to_string()).set(f64::from(u8::from(whole)));
}

/// Counts rows that were refilled from another replica.
pub(crate) fn refilled(bytes: usize) {
    counter!("ordergrid_refill_bytes_total").increment(bytes as u64);
}

/// Counts rows that the scrub has read.
pub(crate) fn scrubbed_rows(group: GroupId, rows: usize, bytes: usize) {
    counter!("ordergrid_scrub_rows_total", "shard" => group.to_string()).increment(rows as u64);
    counter!("ordergrid_scrub_bytes_total", "shard" => group.to_string()).increment(bytes as u64);
}

/// Records a scrub of all replicas in `took`. `whole` means that all rows were read and none was damaged.
pub(crate) fn scrubbed(whole: bool, took: std::time::Duration) {
    histogram!("ordergrid_scrub_seconds").record(took.as_secs_f64());
    counter!("ordergrid_scrub_rounds_total", "whole" => if whole { "yes" } else { "no" }).increment(1);
}

/// Shows where the captured money of all orders was when the laws were last proven here.
pub(crate) fn money(currency: &str, place: &'static str, amount: i64) {
    gauge!("ordergrid_money", "currency" => currency.to_owned(), "place" => place).set(amount as f64);
}

/// Counts a command that was refused because the batcher's queue was full.
pub(crate) fn batcher_refused() {
    counter!("ordergrid_refused_total", "reason" => "batcher_full").increment(1);
}

/// Counts an order that was refused because too many attempts run, or wait for one key.
pub(crate) fn admission_refused() {
    counter!("ordergrid_refused_total", "reason" => "admission").increment(1);
}

/// Counts a hold that was refused because too many wait for one SKU.
pub(crate) fn sku_refused() {
    counter!("ordergrid_refused_total", "reason" => "sku_busy").increment(1);
}

/// Counts "sold out" that was answered without a log entry.
pub(crate) fn sold_out_from_memory() -> Counter {
    counter!("ordergrid_sold_out_from_memory_total")
}

/// Counts an entity actor that failed and was restarted from the machine's state.
pub(crate) fn entity_restarted() {
    counter!("ordergrid_entity_restarts_total").increment(1);
}

/// Sets the number of SKU actors of a led shard.
pub(crate) fn actors_live(shard: GroupId, actors: usize) {
    gauge!("ordergrid_actors", "shard" => shard.to_string()).set(actors as f64);
}

/// Sets whether a group has a working leader as far as `node` knows, and whether that leader is `node`.
pub(crate) fn led(node: u64, group: GroupId, led: bool, here: bool) {
    let (node, shard) = (node.to_string(), group.to_string());
    gauge!("ordergrid_shard_led", "node" => node.clone(), "shard" => shard.clone()).set(f64::from(u8::from(led)));
    gauge!("ordergrid_leading", "node" => node, "shard" => shard).set(f64::from(u8::from(here)));
}

/// Sets whether `node` may accept requests.
pub(crate) fn ready(node: u64, ready: bool) {
    gauge!("ordergrid_ready", "node" => node.to_string()).set(f64::from(u8::from(ready)));
}

/// Sets the result of a readiness check.
pub(crate) fn check(node: u64, name: &str, ok: bool) {
    gauge!("ordergrid_check", "node" => node.to_string(), "check" => name.to_owned()).set(f64::from(u8::from(ok)));
}

/// A stream was stopped because one of its ends has lost entries (protocol.md, rule 20).
pub(crate) fn stream_stopped(from: GroupId) {
    counter!("ordergrid_streams_stopped_total", "from" => from.to_string()).increment(1);
}

/// So many streams of a shard that is led here are stopped.
pub(crate) fn streams_stopped(from: GroupId, streams: usize) {
    gauge!("ordergrid_streams_stopped", "from" => from.to_string()).set(streams as f64);
}

/// Registers the series of a shard with a replica on this node, at 0.
pub(crate) fn shard_begins(shard: GroupId) {
    counter!("ordergrid_streams_stopped_total", "from" => shard.to_string()).increment(0);
    streams_stopped(shard, 0);
    actors_live(shard, 0);
    replica_memory(shard, 0);
}

/// Registers the series of refusals at the node's start.
pub(crate) fn refusals_begin() {
    for reason in ["batcher_full", "admission", "sku_busy"] {
        counter!("ordergrid_refused_total", "reason" => reason).increment(0);
    }
}

/// Counts tentative holds that were released because their attempt will never be placed.
pub(crate) fn orphans_freed(holds: usize) {
    counter!("ordergrid_orphaned_holds_freed_total").increment(holds as u64);
}

/// Counts look-ups of rows in the state database.
pub(crate) fn cold_rows_loaded(rows: usize) {
    counter!("ordergrid_cold_rows_loaded_total").increment(rows as u64);
}

/// Sets the distance of the wall clock from grid time, and whether anything is wrong with it.
pub(crate) fn clock(node: NodeId, off_ms: i64, skewed: bool) {
    gauge!("ordergrid_clock_offset_seconds", "node" => node.to_string()).set(off_ms as f64 / 1_000.0);
    gauge!("ordergrid_clock_skew", "node" => node.to_string()).set(f64::from(u8::from(skewed)));
}

/// Sets the bytes of rows in memory.
pub(crate) fn replica_memory(shard: GroupId, bytes: u64) {
    gauge!("ordergrid_replica_memory_bytes", "shard" => shard.to_string()).set(bytes as f64);
}

/// Share of their part of the memory that rows may use.
pub(crate) fn row_room(share: f64) {
    gauge!("ordergrid_row_memory_ratio").set(share);
}

/// Sets the number of peers with other values of settings that must be the same.
pub(crate) fn settings_differ(peers: usize) {
    gauge!("ordergrid_settings_differ").set(peers as f64);
}

/// Counts a request that was forwarded to another node and answered.
pub(crate) fn forwarded(seconds: f64) {
    histogram!("ordergrid_forward_seconds").record(seconds);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics::with_local_recorder;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_timed_by_the_command_that_waited_longest() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let wait = with_local_recorder(&recorder, BatchWait::new);
        for _ in 0..2 {
            advance(Duration::from_millis(1)).await;
            wait.begins();
            advance(Duration::from_millis(5)).await;
            wait.begins();
            advance(Duration::from_millis(3)).await;
            wait.ends();
        }
        // Nobody waited.
        wait.ends();
        let text = recorder.handle().render();
        for line in ["_sum{stage=\"batch_wait\"} 0.016", "_count{stage=\"batch_wait\"} 2"] {
            assert!(text.contains(&format!("ordergrid_stage_seconds{line}\n")), "{line}: {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_admission_in_sixteen_is_timed() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut admission = with_local_recorder(&recorder, Admission::new);
        for message in 0..33 {
            let asked = Instant::now();
            advance(Duration::from_millis(if message % 16 == 0 { 2 } else { 50 })).await;
            admission.took(Some(asked));
            admission.took(None);
        }
        let text = recorder.handle().render();
        for line in ["_sum{stage=\"admission\"} 0.006", "_count{stage=\"admission\"} 3"] {
            assert!(text.contains(&format!("ordergrid_stage_seconds{line}\n")), "{line}: {text}");
        }
    }
}

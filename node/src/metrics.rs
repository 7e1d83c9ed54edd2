//! What a node counts about itself. Names follow `ordergrid_…_{seconds,bytes,total}`; only the binary installs an exporter.

use metrics::{Counter, counter, gauge, histogram};
use ordergrid_domain::GroupId;

/// What is counted with every entry that is proposed; the handles are taken once.
pub(crate) struct EntryMeters {
    entries: Counter,
    commands: Counter,
}

impl EntryMeters {
    pub(crate) fn new() -> Self {
        Self { entries: counter!("ordergrid_log_entries_total"), commands: counter!("ordergrid_log_commands_total") }
    }

    /// An entry is proposed, with so many commands.
    pub(crate) fn proposed(&self, commands: usize) {
        self.entries.increment(1);
        self.commands.increment(commands as u64);
    }
}

/// A command was refused because the batcher's queue was full.
pub(crate) fn batcher_refused() {
    counter!("ordergrid_refused_total", "reason" => "batcher_full").increment(1);
}

/// A place was refused because too many run, or wait for one key.
pub(crate) fn admission_refused() {
    counter!("ordergrid_refused_total", "reason" => "admission").increment(1);
}

/// A hold was refused because too many wait for one SKU.
pub(crate) fn sku_refused() {
    counter!("ordergrid_refused_total", "reason" => "sku_busy").increment(1);
}

/// "Sold out" was answered without a log entry.
pub(crate) fn sold_out_from_memory() {
    counter!("ordergrid_sold_out_from_memory_total").increment(1);
}

/// An entity actor had failed and was started anew from the machine's state.
pub(crate) fn entity_restarted() {
    counter!("ordergrid_entity_restarts_total").increment(1);
}

/// SKU actors alive on a led shard.
pub(crate) fn actors_live(shard: GroupId, actors: usize) {
    gauge!("ordergrid_actors", "shard" => shard.to_string()).set(actors as f64);
}

/// This node leads a shard, or no longer does.
pub(crate) fn leading(shard: GroupId, leading: bool) {
    gauge!("ordergrid_leading", "shard" => shard.to_string()).set(if leading { 1.0 } else { 0.0 });
}

/// A stream was stopped because its destination had forgotten messages (placing.md, rule 20).
pub(crate) fn stream_stopped(from: GroupId, to: GroupId) {
    counter!("ordergrid_streams_stopped_total", "from" => from.to_string(), "to" => to.to_string()).increment(1);
}

/// Tentative holds whose attempt will never be placed were freed.
pub(crate) fn orphans_freed(holds: usize) {
    counter!("ordergrid_orphaned_holds_freed_total").increment(holds as u64);
}

/// Rows were looked up in the state database.
pub(crate) fn cold_rows_loaded(rows: usize) {
    counter!("ordergrid_cold_rows_loaded_total").increment(rows as u64);
}

/// Bytes of rows in memory.
pub(crate) fn replica_memory(shard: GroupId, bytes: u64) {
    gauge!("ordergrid_replica_memory_bytes", "shard" => shard.to_string()).set(bytes as f64);
}

/// A request was forwarded to another node and answered.
pub(crate) fn forwarded(seconds: f64) {
    histogram!("ordergrid_forward_seconds").record(seconds);
}

//! The catalogue of all metric families of a node, with their help texts.
//!
//! A family that is missing here fails a test. Families without labels are registered here, at 0. Families with labels are
//! registered when their labels are known: when a group, a peer's lanes, or a server starts.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram.
    Histogram,
}

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    /// Whether the family has labels.
    labelled: bool,
    help: &'static str,
}

macro_rules! families {
    ($($kind:ident $name:literal $($label:literal),* => $help:literal;)*) => {
        /// All families, by crate.
        pub(super) const FAMILIES: &[Family] = &[
            $(Family { kind: Kind::$kind, name: $name, labelled: !<[&str]>::is_empty(&[$($label),*]), help: $help }),*
        ];
    };
}

families! {
    // What clients see.
    Histogram "ordergrid_http_request_seconds" "route", "outcome" => "Time from a request to its answer, by how it ended.";
    Histogram "ordergrid_stage_seconds" "stage" => "Time of one stage of an order's way; HTTP's stages by kind of work.";
    Counter   "ordergrid_http_problems_total" "code" => "Errors told to clients, by code.";
    Gauge     "ordergrid_http_connections" => "Client connections that are open.";
    Counter   "ordergrid_http_connections_refused_total" => "Client connections turned away at the limit.";
    Gauge     "ordergrid_http_requests_in_flight" => "Requests under way.";
    Gauge     "ordergrid_memory_account_bytes" "use" => "Memory that requests have taken, by what for.";
    Gauge     "ordergrid_memory_account_limit_bytes" "use" => "Most memory that a use of requests may take; of all of them together under requests.";
    Counter   "ordergrid_refused_total" "reason" => "Commands refused because a queue or a limit was full.";
    Counter   "ordergrid_sold_out_from_memory_total" => "Holds refused as out of stock without an entry in the log.";
    // Whether the node serves.
    Gauge     "ordergrid_ready" "node" => "1 while the node may take requests.";
    Gauge     "ordergrid_check" "node", "check" => "1 while the check of readiness holds.";
    Gauge     "ordergrid_shard_led" "node", "shard" => "1 while the shard has a leader that a quorum answers, as the node can tell; 0 is the meta group.";
    Gauge     "ordergrid_clock_offset_seconds" "node" => "How far the wall clock is ahead of what the node takes for the time.";
    Gauge     "ordergrid_clock_skew" "node" => "1 while something is wrong with the node's clock, as readiness says.";
    Gauge     "ordergrid_leading" "node", "shard" => "1 while the node leads the shard and a quorum answers it.";
    Gauge     "ordergrid_settings_differ" => "Nodes whose settings differ where they must be the same.";
    // Consensus.
    Counter   "ordergrid_mesh_refused_total" "reason" => "Messages of nodes that no honest one sends.";
    Gauge     "ordergrid_replica_lag_entries" "group" => "Entries that the replica is behind its leader.";
    Counter   "ordergrid_replica_stalls_total" "group", "restarted" => "Times that a replica stood while its leader went on.";
    Counter   "ordergrid_leader_changes_total" "group" => "Times that the group got another leader or term.";
    Counter   "ordergrid_proposals_total" "group", "outcome" => "Entries proposed here, by outcome.";
    Histogram "ordergrid_proposal_seconds" "group" => "Time from a proposal until it is applied here.";
    Histogram "ordergrid_apply_seconds" "group" => "Time to apply a run of committed entries.";
    Counter   "ordergrid_barriers_total" "group", "by" => "Reads let through, by lease or by a round to a quorum.";
    Counter   "ordergrid_replicated_entries_total" "peer" => "Entries sent to a node.";
    Counter   "ordergrid_replicated_bytes_total" "peer" => "Bytes of entries sent to a node.";
    Histogram "ordergrid_rpc_seconds" "peer", "lane", "outcome" => "Time of a call to a node.";
    Gauge     "ordergrid_peer_connected" "peer", "lane" => "1 while there is a connection to the node.";
    Histogram "ordergrid_forward_seconds" => "Time of a request that another node answered.";
    // The shards.
    Counter   "ordergrid_log_entries_total" => "Entries proposed by the shards that this process leads.";
    Counter   "ordergrid_log_commands_total" => "Commands in those entries.";
    Gauge     "ordergrid_actors" "shard" => "SKU actors alive on a led shard.";
    Gauge     "ordergrid_replica_memory_bytes" "shard" => "Bytes of rows in memory.";
    Gauge     "ordergrid_row_memory_ratio" => "Share of their part of limits.memory that rows may use: less than 1 while the process takes more than its limit.";
    Counter   "ordergrid_entity_restarts_total" => "Actors that had failed and were started anew.";
    Counter   "ordergrid_streams_stopped_total" "from" => "Times that a stream was stopped because one end has lost entries.";
    Gauge     "ordergrid_streams_stopped" "from" => "Streams of a led shard that are stopped now.";
    Gauge     "ordergrid_money" "currency", "place" => "Minor units of captured money by where they are, when this node last proved the laws.";
    Counter   "ordergrid_orphaned_holds_freed_total" => "Holds freed because no order came of them.";
    Counter   "ordergrid_cold_rows_loaded_total" => "Rows looked up in the state database.";
    Gauge     "ordergrid_state_whole" "shard" => "1 while the stored rows of the shard are whole here.";
    Counter   "ordergrid_state_damaged_total" "shard" => "Times that stored rows were found damaged.";
    Counter   "ordergrid_refill_bytes_total" => "Bytes of rows that refilled a replica.";
    Counter   "ordergrid_scrub_rows_total" "shard" => "Stored rows read to see whether they are whole.";
    Counter   "ordergrid_scrub_bytes_total" "shard" => "Bytes of those rows.";
    Histogram "ordergrid_scrub_seconds" => "Time to read all stored rows once.";
    Counter   "ordergrid_scrub_rounds_total" "whole" => "Times that all stored rows were read, by what was found.";
    // The disk.
    Histogram "ordergrid_log_sync_seconds" => "Time to write and sync one batch of the log.";
    Histogram "ordergrid_log_entries_per_sync" => "Entries in one batch of the log.";
    Counter   "ordergrid_log_syncs_total" => "Syncs of the log.";
    Counter   "ordergrid_log_written_bytes_total" => "Bytes written to the log.";
    Counter   "ordergrid_log_appended_entries_total" => "Entries appended to the log, of all groups.";
    Counter   "ordergrid_log_cold_entries_total" => "Entries of the log read from the disk.";
    Histogram "ordergrid_checkpoint_seconds" "group" => "Time from the beginning of a checkpoint until it is durable.";
    Counter   "ordergrid_checkpoint_bytes_total" "group" => "Bytes of rows in checkpoints.";
    Histogram "ordergrid_checkpoint_bytes" => "Bytes of one checkpoint.";
    Counter   "ordergrid_checkpoint_rows_total" => "Rows in checkpoints.";
}

/// Describes every family to the current recorder, and registers those without labels.
pub(super) fn begin() {
    for Family { kind, name, labelled, help } in FAMILIES.iter().copied() {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
        match kind {
            _ if labelled => {}
            Kind::Counter => counter!(name).increment(0),
            Kind::Gauge => gauge!(name).increment(0.0),
            Kind::Histogram => drop(histogram!(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn names_follow_the_convention() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len(), "a family stands here once");
        for Family { kind, name, help, .. } in FAMILIES {
            let plain = name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            assert!(plain && name.starts_with("ordergrid_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let suffixes =
                ["_sum", "_count", "_bucket", "_counter", "_gauge", "_histogram", "_ms", "_milliseconds", "_kb", "_mb"];
            assert!(!suffixes.iter().any(|suffix| name.ends_with(suffix)), "{name}");
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
        }
    }

    /// The `.rs` files below a folder.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("the crate has sources");
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn whatever_is_counted_anywhere_stands_here() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let crates = [here.join("src"), here.join("../api/src"), here.join("../cluster/src"), here.join("../storage/src")];
        for file in crates.iter().flat_map(|folder| sources(folder)) {
            let text = fs::read_to_string(&file).expect("sources are text");
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (macro_name, kind) in [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Histogram)]
            {
                for call in product.split(macro_name).skip(1) {
                    let Some(name) = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                        continue;
                    };
                    let known = FAMILIES.iter().any(|family| family.name == name && family.kind == kind);
                    assert!(known, "{name} of {} is no {kind:?} here", file.display());
                }
            }
        }
    }
}

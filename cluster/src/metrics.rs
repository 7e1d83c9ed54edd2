//! Counters and histograms of this crate, as functions with typed arguments. Only the node installs an exporter.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use ordergrid_domain::GroupId;

use crate::ids::NodeId;

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Applied here.
    Applied,
    /// Not appended.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A proposal ended after `took`.
pub fn proposed(group: GroupId, outcome: Proposal, took: Duration) {
    let outcome = match outcome {
        Proposal::Applied => "applied",
        Proposal::Refused => "refused",
        Proposal::Unknown => "unknown",
    };
    counter!("ordergrid_proposals_total", "group" => group.0.to_string(), "outcome" => outcome).increment(1);
    if outcome == "applied" {
        histogram!("ordergrid_proposal_seconds", "group" => group.0.to_string()).record(took.as_secs_f64());
    }
}

/// A run of committed entries was applied in `took`.
pub fn applied(group: GroupId, took: Duration) {
    histogram!("ordergrid_apply_seconds", "group" => group.0.to_string()).record(took.as_secs_f64());
}

/// A group has another leader, or another term.
pub fn leader_changed(group: GroupId) {
    counter!("ordergrid_leader_changes_total", "group" => group.0.to_string()).increment(1);
}

/// `entries` with `bytes` of bodies were sent to `peer`.
pub fn replicated(peer: NodeId, entries: usize, bytes: usize) {
    counter!("ordergrid_replicated_entries_total", "peer" => peer.to_string()).increment(entries as u64);
    counter!("ordergrid_replicated_bytes_total", "peer" => peer.to_string()).increment(bytes as u64);
}

/// A call to `peer` over `lane` ended after `took`.
pub fn called(peer: NodeId, lane: &'static str, ok: bool, took: Duration) {
    let outcome = if ok { "ok" } else { "failed" };
    histogram!("ordergrid_rpc_seconds", "peer" => peer.to_string(), "lane" => lane, "outcome" => outcome)
        .record(took.as_secs_f64());
}

/// A connection to `peer` came up or went down.
pub fn connected(peer: NodeId, lane: &'static str, up: bool) {
    gauge!("ordergrid_peer_connected", "peer" => peer.to_string(), "lane" => lane).set(f64::from(u8::from(up)));
}

/// A checkpoint of `bytes` became durable after `took`.
pub fn checkpointed(group: GroupId, took: Duration, bytes: usize) {
    histogram!("ordergrid_checkpoint_seconds", "group" => group.0.to_string()).record(took.as_secs_f64());
    counter!("ordergrid_checkpoint_bytes_total", "group" => group.0.to_string()).increment(bytes as u64);
}

/// A barrier round was answered to `readers`; `by_lease` without any message.
pub fn barrier(group: GroupId, readers: usize, by_lease: bool) {
    let by = if by_lease { "lease" } else { "quorum" };
    counter!("ordergrid_barriers_total", "group" => group.0.to_string(), "by" => by).increment(readers as u64);
}

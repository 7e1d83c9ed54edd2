//! Counters and histograms of this crate, as functions with typed arguments. Only the node installs an exporter.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use ordergrid_domain::GroupId;
use tokio::time::Instant;

use crate::ids::NodeId;

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Applied here.
    Applied,
    /// Not appended.
    Refused,
    /// The outcome is unknown.
    Unknown,
}

/// Metric handles of a group that are used with every entry. They are created once: a look-up by name, with a label made of a
/// number, costs more than the increment.
pub struct GroupMeters {
    proposals: [Counter; 3],
    proposal_seconds: Histogram,
    apply_seconds: Histogram,
    replicate: Histogram,
    freeze: Histogram,
    barriers: [Counter; 2],
}

impl GroupMeters {
    /// The handles of `group`.
    #[must_use]
    pub fn of(group: GroupId) -> Self {
        let group = group.0.to_string();
        counter!("ordergrid_leader_changes_total", "group" => group.clone()).increment(0);
        counter!("ordergrid_checkpoint_bytes_total", "group" => group.clone()).increment(0);
        drop(histogram!("ordergrid_checkpoint_seconds", "group" => group.clone()));
        let proposals = |outcome| counter!("ordergrid_proposals_total", "group" => group.clone(), "outcome" => outcome);
        let barriers = |by| counter!("ordergrid_barriers_total", "group" => group.clone(), "by" => by);
        Self {
            proposals: [proposals("applied"), proposals("refused"), proposals("unknown")],
            proposal_seconds: histogram!("ordergrid_proposal_seconds", "group" => group.clone()),
            apply_seconds: histogram!("ordergrid_apply_seconds", "group" => group.clone()),
            replicate: histogram!("ordergrid_stage_seconds", "stage" => "replicate"),
            freeze: histogram!("ordergrid_stage_seconds", "stage" => "freeze"),
            barriers: [barriers("quorum"), barriers("lease")],
        }
    }

    /// Counts a proposal that ended after `took`.
    pub fn proposed(&self, outcome: Proposal, took: Duration) {
        self.proposals[outcome as usize].increment(1);
        if outcome == Proposal::Applied {
            self.proposal_seconds.record(took.as_secs_f64());
        }
    }

    /// Records the time for applying a run of committed entries.
    pub fn applied(&self, took: Duration) {
        self.apply_seconds.record(took.as_secs_f64());
    }

    /// Records the replication time of an entry that this node proposed at `proposed`. The run that applies the entry began at
    /// `applying`.
    pub fn replicated(&self, proposed: Instant, applying: Instant) {
        self.replicate.record(applying.saturating_duration_since(proposed));
    }

    /// Runs `what`, which collects rows of a checkpoint while entries wait, and records its time. A checkpoint runs it several
    /// times.
    pub fn freezing<T>(&self, what: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let frozen = what();
        self.freeze.record(started.elapsed());
        frozen
    }

    /// Counts a barrier round that answered `readers`; `by_lease` if no message was needed.
    pub fn barrier(&self, readers: usize, by_lease: bool) {
        self.barriers[usize::from(by_lease)].increment(readers as u64);
    }
}

/// Counts a change of a group's leader or term.
pub fn leader_changed(group: GroupId) {
    counter!("ordergrid_leader_changes_total", "group" => group.0.to_string()).increment(1);
}

/// Counts `entries` with `bytes` of bodies that were sent to `peer`.
pub fn replicated(peer: NodeId, entries: usize, bytes: usize) {
    counter!("ordergrid_replicated_entries_total", "peer" => peer.to_string()).increment(entries as u64);
    counter!("ordergrid_replicated_bytes_total", "peer" => peer.to_string()).increment(bytes as u64);
}

/// Metric handles of the calls to a peer over one lane, created once.
pub struct CallMeters([Histogram; 2]);

impl CallMeters {
    /// The handles of `lane` to `peer`.
    #[must_use]
    pub fn of(peer: NodeId, lane: &'static str) -> Self {
        connected(peer, lane, false);
        replicated(peer, 0, 0);
        let seconds =
            |outcome| histogram!("ordergrid_rpc_seconds", "peer" => peer.to_string(), "lane" => lane, "outcome" => outcome);
        Self([seconds("failed"), seconds("ok")])
    }

    /// Records a call that ended after `took`.
    pub fn called(&self, ok: bool, took: Duration) {
        self.0[usize::from(ok)].record(took.as_secs_f64());
    }
}

/// Records whether there is a connection to `peer`.
pub fn connected(peer: NodeId, lane: &'static str, up: bool) {
    gauge!("ordergrid_peer_connected", "peer" => peer.to_string(), "lane" => lane).set(f64::from(u8::from(up)));
}

/// Records a checkpoint of `bytes` that became durable after `took`.
pub fn checkpointed(group: GroupId, took: Duration, bytes: usize) {
    histogram!("ordergrid_checkpoint_seconds", "group" => group.0.to_string()).record(took.as_secs_f64());
    counter!("ordergrid_checkpoint_bytes_total", "group" => group.0.to_string()).increment(bytes as u64);
}

/// Counts a message that was refused because no honest peer sends it.
pub fn refused_message(why: &'static str) {
    counter!("ordergrid_mesh_refused_total", "reason" => why).increment(1);
}

/// Records how many committed entries a replica has not applied.
pub fn replica_lag(group: GroupId, entries: u64) {
    gauge!("ordergrid_replica_lag_entries", "group" => group.0.to_string()).set(entries as f64);
}

/// Counts a stalled replica, by what was restarted.
pub fn replica_stalled(group: GroupId, restarted: &'static str) {
    counter!("ordergrid_replica_stalls_total", "group" => group.0.to_string(), "restarted" => restarted).increment(1);
}

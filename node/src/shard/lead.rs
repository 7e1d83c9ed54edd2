//! One term's leadership of a shard: what every actor and task of that term shares.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_cluster::GroupRef;
use ordergrid_domain::GroupId;

use super::batcher::{BatchLimits, Batcher};
use super::pace::Pace;
use super::replica::ShardReplica;
use super::stopped::StoppedStreams;
use crate::context::NodeContext;

/// Bounds of what a led shard has in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeadLimits {
    /// Orders being placed.
    pub(crate) running_per_shard: usize,
    /// Requests that wait for one idempotency key.
    pub(crate) waiting_per_key: usize,
    /// Holds that wait for one SKU's account.
    pub(crate) parked_per_sku: usize,
    /// SKU actors alive.
    pub(crate) actors_per_shard: usize,
    /// Times an attempt is taken anew after `expired`.
    pub(crate) renewals: u8,
    /// How long a hold is valid, and how long it may be tentative before its SKU asks.
    pub(crate) hold_validity: Duration,
    /// How long shards without a leader are asked for holds again.
    pub(crate) hold_patience: Duration,
    /// A reference is good for one order of a user, whatever becomes of it.
    pub(crate) references_once: bool,
    /// How long an entity actor may be idle.
    pub(crate) idle: Duration,
    /// How long a batch may take.
    pub(crate) request: Duration,
    /// Bounds of the batcher.
    pub(crate) batch: BatchLimits,
}

/// One term of one led shard.
pub(crate) struct Lead {
    /// The node, and through it every other shard.
    pub(crate) node: Arc<NodeContext>,
    /// Which shard.
    pub(crate) shard: GroupId,
    /// Its consensus group.
    pub(crate) group: GroupRef,
    /// The term that fences every proposal (rule 2).
    pub(crate) term: u64,
    /// The state.
    pub(crate) replica: Arc<ShardReplica>,
    /// The way into the log.
    pub(crate) batcher: Batcher,
    /// What it gets done of batches.
    pub(crate) pace: Arc<Pace>,
    /// Its streams that are stopped.
    pub(crate) stopped: StoppedStreams,
    /// Bounds.
    pub(crate) limits: LeadLimits,
}

impl Lead {
    /// The leadership of `term`, with a batcher of its own.
    pub(crate) fn new(
        node: Arc<NodeContext>,
        shard: GroupId,
        group: GroupRef,
        term: u64,
        replica: Arc<ShardReplica>,
        limits: LeadLimits,
    ) -> Self {
        let (batcher, packing) = Batcher::start(Arc::clone(&group), term, Arc::clone(&node.time), limits.batch);
        tokio::spawn(node.or_fails(format!("shard {shard}, term {term}: packing"), packing));
        let pace = Pace::new(limits.request);
        let stopped = StoppedStreams::of(shard);
        Self { node, shard, group, term, replica, batcher, pace, stopped, limits }
    }
}

//! The shard map: which group owns a slot, and which nodes have its replicas.

use bincode::{Decode, Encode};
use ordergrid_domain::{GroupId, Slot};

use crate::ids::{NodeId, ReplicaId};

/// A replica and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Placement {
    /// The replica.
    pub replica: ReplicaId,
    /// The replica's node.
    pub node: NodeId,
}

/// A range of slots and the group that stores it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Shard {
    /// The group.
    pub group: GroupId,
    /// First slot of the range.
    pub first: u16,
    /// Last slot of the range, inclusive.
    pub last: u16,
    /// The replicas; the first is the preferred leader.
    pub replicas: Vec<Placement>,
}

impl Shard {
    /// The preferred leader.
    #[must_use]
    pub fn preferred(&self) -> Option<NodeId> {
        self.replicas.first().map(|placement| placement.node)
    }

    /// The replica on `node`.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.replicas.iter().find(|placement| placement.node == node).map(|placement| placement.replica)
    }
}

/// The shard map. Shards are sorted by slot and cover each slot once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ShardMap {
    /// Version of the map; grows with every change.
    pub epoch: u64,
    /// The replicas of group 0.
    pub meta: Vec<Placement>,
    /// The shards.
    pub shards: Vec<Shard>,
}

impl ShardMap {
    /// The shard that owns `slot`.
    ///
    /// # Panics
    /// If the map does not cover the slot, which no map does.
    #[must_use]
    pub fn shard_of(&self, slot: Slot) -> &Shard {
        let slot = slot.index();
        let after = self.shards.partition_point(|shard| usize::from(shard.first) <= slot);
        let shard = &self.shards[after.checked_sub(1).expect("the first shard starts at slot 0")];
        assert!(slot <= usize::from(shard.last), "no shard owns slot {slot} in epoch {}", self.epoch);
        shard
    }

    /// The shard of `group`.
    #[must_use]
    pub fn shard(&self, group: GroupId) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.group == group)
    }

    /// The groups with a replica on `node`, group 0 first, with their members.
    #[must_use]
    pub fn groups_on(&self, node: NodeId) -> Vec<(GroupId, &[Placement])> {
        let meta = (GroupId::META, self.meta.as_slice());
        let shards = self.shards.iter().map(|shard| (shard.group, shard.replicas.as_slice()));
        std::iter::once(meta)
            .chain(shards)
            .filter(|(_, replicas)| replicas.iter().any(|placement| placement.node == node))
            .collect()
    }

    /// Whether the shards cover every slot exactly once, in order.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let mut next = 0;
        for shard in &self.shards {
            if usize::from(shard.first) != next || shard.last < shard.first || shard.replicas.is_empty() {
                return false;
            }
            next = usize::from(shard.last) + 1;
        }
        next == Slot::COUNT
    }
}

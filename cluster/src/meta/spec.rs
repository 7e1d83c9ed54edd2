//! The operator's description of a cluster, and the first shard map, which is derived from it alone.
//!
//! Every node derives the same map, so nothing has to be sent before the groups can start.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use ordergrid_domain::{GroupId, Slot};

use super::map::{Placement, Shard, ShardMap};
use crate::ids::NodeId;

/// Replicas per shard, if there are enough nodes.
const COPIES: usize = 3;

/// A node as the operator describes it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeSpec {
    /// The node's id, which is never reused.
    pub id: NodeId,
    /// The node's name, for operators.
    pub name: String,
    /// The failure domain of the node, such as a rack or a data centre.
    pub zone: String,
    /// Address for other nodes.
    pub mesh_addr: String,
    /// Address for clients.
    pub http_addr: String,
}

/// A cluster as the operator describes it; the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterSpec {
    /// The cluster's name, for operators.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// Number of shards; fixed when the cluster is founded.
    pub shards: u32,
}

/// Why no cluster can be founded on a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The number of nodes is even: one more node than the odd number below it tolerates no more failures.
    #[error("a cluster is founded with an odd number of nodes, not {0}")]
    EvenNodes(usize),
    /// A node has the id 0; ids start at 1.
    #[error("0 is not a node id")]
    ZeroId,
    /// Two nodes share a value that must be unique.
    #[error("two nodes have the {what} {value}")]
    Twice {
        /// The name of the field.
        what: &'static str,
        /// The shared value.
        value: String,
    },
    /// The number of shards is out of range: every shard owns at least one slot.
    #[error("the number of shards must be between 1 and {max}, not {0}", max = Slot::COUNT)]
    Shards(u32),
}

impl ClusterSpec {
    /// Validates the description.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.nodes.len().is_multiple_of(2) {
            return Err(SpecError::EvenNodes(self.nodes.len()));
        }
        if self.nodes.iter().any(|node| node.id == 0) {
            return Err(SpecError::ZeroId);
        }
        unique("id", self.nodes.iter().map(|node| node.id.to_string()))?;
        unique("name", self.nodes.iter().map(|node| node.name.clone()))?;
        unique("mesh address", self.nodes.iter().map(|node| node.mesh_addr.clone()))?;
        if self.shards == 0 || self.shards as usize > Slot::COUNT {
            return Err(SpecError::Shards(self.shards));
        }
        Ok(())
    }

    /// The description of node `id`.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The first shard map: slot ranges of equal size, up to three replicas per shard, and preferred leaders in rotation. Group
    /// 0 has a replica on every node, so that every node knows the map.
    #[must_use]
    pub fn shard_map(&self) -> ShardMap {
        let mut nodes: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        nodes.sort_unstable();
        let mut replicas = 1..;
        let mut place = |node: NodeId| Placement { replica: replicas.next().expect("endless"), node };
        let meta = nodes.iter().map(|node| place(*node)).collect();
        let copies = COPIES.min(nodes.len());
        let shards = (0..self.shards as usize)
            .map(|shard| Shard {
                group: GroupId(u32::try_from(shard + 1).expect("at most 4,096 shards")),
                first: bound(shard, self.shards),
                last: bound(shard + 1, self.shards) - 1,
                replicas: (0..copies).map(|copy| place(nodes[(shard + copy) % nodes.len()])).collect(),
            })
            .collect();
        ShardMap { epoch: 1, meta, shards }
    }

    /// The first replica id that [`shard_map`](Self::shard_map) has not assigned.
    #[must_use]
    pub fn next_replica(&self) -> u64 {
        let copies = COPIES.min(self.nodes.len());
        1 + (self.nodes.len() + copies * self.shards as usize) as u64
    }

    /// A hash of the description. Nodes compare it before they found a cluster together.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut sorted = self.clone();
        sorted.nodes.sort_by_key(|node| node.id);
        // FNV-1a: it guards against mistakes, not against malice.
        super::encode(sorted)
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

fn bound(shard: usize, shards: u32) -> u16 {
    u16::try_from(shard * Slot::COUNT / shards as usize).expect("at most 4,096")
}

fn unique(what: &'static str, values: impl Iterator<Item = String>) -> Result<(), SpecError> {
    let mut seen = BTreeSet::new();
    for value in values {
        if let Some(value) = seen.replace(value) {
            return Err(SpecError::Twice { what, value });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::meta) fn spec(nodes: u64, shards: u32) -> ClusterSpec {
        let node = |id: u64| NodeSpec {
            id,
            name: format!("n{id}"),
            zone: "a".into(),
            mesh_addr: format!("mesh-{id}"),
            http_addr: format!("http-{id}"),
        };
        ClusterSpec { name: "shop".into(), nodes: (1..=nodes).map(node).collect(), shards }
    }

    #[test]
    fn every_map_covers_every_slot_and_spreads_its_leaders() {
        for nodes in [1, 3, 5] {
            for shards in [1, 2, 3, 4, 7, 16, 4_096] {
                let spec = spec(nodes, shards);
                let map = spec.shard_map();
                assert!(map.is_complete(), "{nodes} nodes, {shards} shards");
                let led = |node| map.shards.iter().filter(|shard| shard.preferred() == Some(node)).count();
                let counts: Vec<usize> = (1..=nodes).map(led).collect();
                let (fewest, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(most - fewest <= 1, "{nodes} nodes, {shards} shards: {counts:?}");
                let mut ids: Vec<u64> =
                    map.meta.iter().chain(map.shards.iter().flat_map(|s| &s.replicas)).map(|p| p.replica).collect();
                ids.sort_unstable();
                assert_eq!(ids, (1..spec.next_replica()).collect::<Vec<_>>(), "replica ids are used once");
            }
        }
    }

    #[test]
    fn slots_find_their_shard() {
        let map = spec(3, 4).shard_map();
        for name in ["a", "b", "BANK CHARGES", "85123A", "guest-536365"] {
            let slot = Slot::of(name);
            let shard = map.shard_of(slot);
            assert!((usize::from(shard.first)..=usize::from(shard.last)).contains(&slot.index()), "{name}");
        }
        assert_eq!(map.groups_on(2).len(), 5);
        assert_eq!(map.groups_on(9).len(), 0);
    }

    #[test]
    fn descriptions_that_cannot_work_are_refused() {
        let twice = |change: fn(&mut NodeSpec)| {
            let mut spec = spec(3, 4);
            change(&mut spec.nodes[1]);
            spec.validate().unwrap_err().to_string()
        };
        assert_eq!(spec(3, 4).validate(), Ok(()));
        assert_eq!(spec(2, 4).validate(), Err(SpecError::EvenNodes(2)));
        assert_eq!(spec(0, 4).validate(), Err(SpecError::EvenNodes(0)));
        assert_eq!(spec(1, 0).validate(), Err(SpecError::Shards(0)));
        assert_eq!(spec(1, 4_097).validate(), Err(SpecError::Shards(4_097)));
        assert_eq!(twice(|node| node.id = 1), "two nodes have the id 1");
        assert_eq!(twice(|node| node.id = 0), "0 is not a node id");
        assert_eq!(twice(|node| node.name = "n3".into()), "two nodes have the name n3");
        assert_eq!(twice(|node| node.mesh_addr = "mesh-1".into()), "two nodes have the mesh address mesh-1");
    }

    #[test]
    fn fingerprints_ignore_the_order_of_nodes_and_nothing_else() {
        let one = spec(3, 4);
        let mut reordered = one.clone();
        reordered.nodes.reverse();
        assert_eq!(one.fingerprint(), reordered.fingerprint());
        let mut moved = one.clone();
        moved.nodes[0].mesh_addr = "elsewhere".into();
        assert_ne!(one.fingerprint(), moved.fingerprint());
        assert_ne!(one.fingerprint(), spec(3, 5).fingerprint());
    }
}

//! Leader hints for shards whose leader no local replica knows: shards without a replica on this node, or with one that does
//! not run. The hints are learned from answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ordergrid_cluster::{NodeId, ShardMap};
use ordergrid_domain::GroupId;

/// The hints. A wrong hint costs one refused request, which is then sent to another node.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    shards: BTreeMap<GroupId, Belief>,
}

#[derive(Debug)]
struct Belief {
    /// The other nodes with a replica, the preferred leader first.
    replicas: Vec<NodeId>,
    /// The node that is asked next.
    leader: AtomicU64,
}

impl Elsewhere {
    /// Initially every shard's hint is its preferred leader.
    pub(crate) fn new(map: &ShardMap, here: NodeId) -> Self {
        let beliefs = map.shards.iter().filter_map(|shard| {
            // The first replica in the map is the preferred leader.
            let others = shard.replicas.iter().map(|placement| placement.node).filter(|node| *node != here);
            let replicas: Vec<_> = others.collect();
            let first = *replicas.first()?;
            Some((shard.group, Belief { replicas, leader: AtomicU64::new(first) }))
        });
        Self { shards: beliefs.collect() }
    }

    /// The hint for a shard, if it is another node; `None` if no other node has a replica.
    pub(crate) fn leader(&self, shard: GroupId) -> Option<NodeId> {
        self.shards.get(&shard).map(|belief| belief.leader.load(Ordering::Relaxed))
    }

    /// Records that `asked` does not lead the shard. The hint becomes the node that it named, or else the next replica.
    pub(crate) fn not_at(&self, shard: GroupId, asked: NodeId, named: Option<NodeId>) {
        let Some(belief) = self.shards.get(&shard) else { return };
        let next = named.filter(|named| *named != asked).unwrap_or_else(|| belief.after(asked));
        // Keeps a hint that was updated meanwhile.
        belief.leader.compare_exchange(asked, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

impl Belief {
    fn after(&self, asked: NodeId) -> NodeId {
        let at = self.replicas.iter().position(|node| *node == asked);
        let next = at.map_or(0, |at| (at + 1) % self.replicas.len());
        self.replicas[next]
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_cluster::{ClusterSpec, NodeSpec};

    use super::*;

    fn five() -> ShardMap {
        let node = |id| NodeSpec {
            id,
            name: format!("n{id}"),
            zone: format!("z{id}"),
            mesh_addr: format!("n{id}:1"),
            http_addr: format!("http://n{id}:2"),
        };
        ClusterSpec { name: "five".to_owned(), nodes: (1..=5).map(node).collect(), shards: 5 }.shard_map()
    }

    #[test]
    fn every_shard_is_believed_to_be_led_on_another_node_that_has_it() {
        let map = five();
        for here in 1..=5 {
            let elsewhere = Elsewhere::new(&map, here);
            for shard in &map.shards {
                let believed = elsewhere.leader(shard.group);
                let believed = believed.expect("three of five have a replica");
                assert!(believed != here && shard.replica_on(believed).is_some());
                assert!(Some(believed) == shard.preferred() || shard.preferred() == Some(here));
            }
        }
    }

    #[test]
    fn a_named_leader_is_asked_next_and_without_a_name_every_replica_in_turn() {
        let map = five();
        let elsewhere = Elsewhere::new(&map, 1);
        let shard = map.shards.iter().find(|shard| shard.replica_on(1).is_none()).expect("three of five have a replica");
        let first = elsewhere.leader(shard.group).expect("it is elsewhere");
        let mut asked = vec![first];
        for _ in 1..shard.replicas.len() {
            elsewhere.not_at(shard.group, *asked.last().expect("not empty"), None);
            asked.push(elsewhere.leader(shard.group).expect("it is elsewhere"));
        }
        asked.sort_unstable();
        let mut replicas: Vec<_> = shard.replicas.iter().map(|placement| placement.node).collect();
        replicas.sort_unstable();
        assert_eq!(asked, replicas);
        let (last, named) = (elsewhere.leader(shard.group).expect("it is elsewhere"), first);
        elsewhere.not_at(shard.group, last, Some(named));
        assert_eq!(elsewhere.leader(shard.group), Some(named));
        // Late news about somebody else changes nothing.
        elsewhere.not_at(shard.group, last, None);
        assert_eq!(elsewhere.leader(shard.group), Some(named));
    }
}

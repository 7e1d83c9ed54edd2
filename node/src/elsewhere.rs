//! Where shards are led of which no replica on this node knows, because it has none or its own does not run: learnt from
//! answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ordergrid_cluster::{NodeId, ShardMap};
use ordergrid_domain::GroupId;

/// What is believed of every shard that has a replica on another node. Wrong beliefs cost a refused request each, which is asked again.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    shards: BTreeMap<GroupId, Belief>,
}

#[derive(Debug)]
struct Belief {
    /// The other nodes with a replica, the preferred one first.
    replicas: Vec<NodeId>,
    /// Who is asked next.
    leader: AtomicU64,
}

impl Elsewhere {
    /// Everything is believed to be led where the map prefers it.
    pub(crate) fn new(map: &ShardMap, here: NodeId) -> Self {
        let beliefs = map.shards.iter().filter_map(|shard| {
            // The first of the map is the preferred one.
            let others = shard.replicas.iter().map(|placement| placement.node).filter(|node| *node != here);
            let replicas: Vec<_> = others.collect();
            let first = *replicas.first()?;
            Some((shard.group, Belief { replicas, leader: AtomicU64::new(first) }))
        });
        Self { shards: beliefs.collect() }
    }

    /// Who is believed to lead a shard, if it is another node; `None` if no other node can.
    pub(crate) fn leader(&self, shard: GroupId) -> Option<NodeId> {
        self.shards.get(&shard).map(|belief| belief.leader.load(Ordering::Relaxed))
    }

    /// `asked` does not lead the shard. It named who does, or the next replica is tried.
    pub(crate) fn not_at(&self, shard: GroupId, asked: NodeId, named: Option<NodeId>) {
        let Some(belief) = self.shards.get(&shard) else { return };
        let next = named.filter(|named| *named != asked).unwrap_or_else(|| belief.after(asked));
        // Unless somebody has learnt better meanwhile.
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

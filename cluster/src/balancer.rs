//! Moves leaderships back to their preferred nodes.
//!
//! After a failure or a restart, a shard may be led by another node than its preferred one, and one node then does the work of
//! several. Each node looks at the shards that it leads. It transfers one at a time to the preferred node, once that node has
//! caught up and answers. After a failed transfer the shard is left alone for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::GroupId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::group::{GroupStatus, Role};
use crate::ids::NodeId;
use crate::meta::ShardMap;
use crate::router::Router;

/// Settings of the balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerConfig {
    /// Pause between two looks, and so the shortest pause between two transfers.
    pub every: Duration,
    /// Most entries that the target may lack.
    pub lag: u64,
    /// Time for which a shard is left alone after a failed transfer.
    pub rest: Duration,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), lag: 1_000, rest: Duration::from_secs(60) }
    }
}

/// Balances forever. While `paused` is true (the node is draining or stopping), nothing is moved.
pub async fn balance(router: Arc<Router>, node: NodeId, config: BalancerConfig, paused: watch::Receiver<bool>) {
    let mut resting: BTreeMap<GroupId, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(config.every).await;
        if *paused.borrow() {
            continue;
        }
        let now = Instant::now();
        resting.retain(|_, until| *until > now);
        let groups = router.groups();
        let statuses = groups.iter().map(|group| group.status()).filter(|status| !resting.contains_key(&status.group));
        let Some((group, to)) = next_move(&router.map(), node, config.lag, &|node| router.avoids(node), statuses) else {
            continue;
        };
        let Some(led) = router.group(group) else {
            continue;
        };
        tracing::info!(node, shard = %group, peer = to, "leadership returns to its preferred node");
        if let Err(error) = led.transfer(to).await {
            tracing::info!(node, shard = %group, peer = to, %error, "leadership transfer failed");
            resting.insert(group, now + config.rest);
        }
    }
}

/// The first shard that this node leads, that prefers another node, and that can be transferred.
fn next_move(
    map: &ShardMap,
    node: NodeId,
    lag: u64,
    avoids: &dyn Fn(NodeId) -> bool,
    statuses: impl Iterator<Item = GroupStatus>,
) -> Option<(GroupId, NodeId)> {
    statuses.filter(|status| status.role == Role::Leader && status.leader == Some(node)).find_map(|status| {
        let preferred = match map.shard(status.group) {
            Some(shard) => shard.preferred()?,
            // The meta group may be led by any node.
            None => return None,
        };
        let target = status.members.iter().find(|member| member.node == preferred && member.voter)?;
        let caught_up = target.matched? + lag >= status.last_log;
        (preferred != node && caught_up && !avoids(preferred)).then_some((status.group, preferred))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Member;
    use crate::meta::{ClusterSpec, NodeSpec};

    fn map() -> ShardMap {
        let node = |id: u64| NodeSpec {
            id,
            name: format!("n{id}"),
            zone: "a".into(),
            mesh_addr: format!("m{id}"),
            http_addr: format!("h{id}"),
        };
        ClusterSpec { name: "shop".into(), nodes: (1..=3).map(node).collect(), shards: 3 }.shard_map()
    }

    fn status(group: u32, role: Role, leader: NodeId, matched: [Option<u64>; 3]) -> GroupStatus {
        let member = |node: NodeId, matched| Member { replica: node, node, voter: true, matched };
        GroupStatus {
            group: GroupId(group),
            replica: 1,
            role,
            term: 1,
            leader: Some(leader),
            led: true,
            last_log: 10_000,
            committed: 10_000,
            applied: 10_000,
            checkpoint: 0,
            purged: 0,
            vouched: None,
            members: (1..).zip(matched).map(|(node, matched)| member(node, matched)).collect(),
        }
    }

    #[test]
    fn one_shard_moves_home_at_a_time() {
        let all = [Some(10_000); 3];
        let behind = [Some(10_000), Some(100), Some(10_000)];
        let unknown = [Some(10_000), None, None];
        #[rustfmt::skip]
        let cases = [
            // what node 1 sees                                              what it does
            ("its own shard",       vec![status(1, Role::Leader, 1, all)],     None),
            ("somebody else's",     vec![status(2, Role::Leader, 1, all)],     Some((GroupId(2), 2))),
            ("two of them",         vec![status(3, Role::Leader, 1, all), status(2, Role::Leader, 1, all)],
                                                                               Some((GroupId(3), 3))),
            ("target is behind",    vec![status(2, Role::Leader, 1, behind)],  None),
            ("target is unknown",   vec![status(2, Role::Leader, 1, unknown)], None),
            ("it does not lead",    vec![status(2, Role::Follower, 3, all)],   None),
            ("the meta group",      vec![status(0, Role::Leader, 1, all)],     None),
        ];
        for (name, statuses, expected) in cases {
            assert_eq!(next_move(&map(), 1, 1_000, &|_| false, statuses.into_iter()), expected, "{name}");
        }
        let avoided = next_move(&map(), 1, 1_000, &|node| node == 2, [status(2, Role::Leader, 1, all)].into_iter());
        assert_eq!(avoided, None, "node 2 should not lead");
    }
}

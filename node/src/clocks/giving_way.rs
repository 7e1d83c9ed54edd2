//! Makes a node with a wrong wall clock transfer its leaderships and stop campaigning, while other nodes have right clocks.
//!
//! Its timestamps are bounded by grid time until then, so this is not urgent, and a group without a leader would be worse. If
//! no other node becomes the leader, because the others lack entries or are gone, the node campaigns after all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ordergrid_cluster::{GroupRef, NodeId, Role, Router};
use ordergrid_domain::GroupId;
use tokio::time::Instant;

use super::grid_time::Seen;
use crate::context::NodeContext;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// After this many maximum election timeouts without a leader, a group needs any leader it can get.
const PATIENCE: u32 = 3;

/// Runs until dropped.
pub(crate) async fn give_way(node: Arc<NodeContext>, router: Arc<Router>, election: Duration) {
    let mut leaderless: BTreeMap<GroupId, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        let seen = node.time.seen();
        router.avoid(seen.unsound.clone());
        let groups = router.groups();
        for group in &groups {
            if group.leadership().borrow().leader.is_some() {
                leaderless.remove(&group.id());
            } else {
                leaderless.entry(group.id()).or_insert_with(Instant::now);
            }
            let needed = leaderless.get(&group.id()).is_some_and(|since| since.elapsed() > PATIENCE * election);
            group.stand(!seen.gives_way() || needed);
        }
        if seen.gives_way() && !node.stopping() {
            join_all(groups.iter().map(|group| hand_over(group, node.id, &seen))).await;
        }
    }
}

/// Transfers leadership to the most advanced replica on a node with a right clock.
async fn hand_over(group: &GroupRef, here: NodeId, seen: &Seen) {
    let status = group.status();
    if status.role != Role::Leader || status.leader != Some(here) {
        return;
    }
    let voters = status.members.iter().filter(|member| member.voter && seen.sound.contains(&member.node));
    let Some(to) = voters.max_by_key(|member| member.matched) else { return };
    if let Err(error) = group.transfer(to.node).await {
        tracing::info!(node = here, shard = %status.group, peer = to.node, %error, "leadership transfer away from a wrong clock failed");
    }
}

//! A node whose wall clock is wrong leads nothing and does not stand, while there are others whose clocks are right.
//!
//! What it stamps until then is bounded by grid time, so there is no haste, and a group that has no leader at all is worse:
//! where nobody else comes to lead, because the others lack entries or are gone, it stands after all.

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
/// A group without a leader for so many of the longest election timeouts needs whoever can lead it.
const PATIENCE: u32 = 3;

/// Sees to it until dropped.
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

/// To whoever has the most of the log and a clock that is right.
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

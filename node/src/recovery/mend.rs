//! Repairs a replica with damaged rows while the node runs, without an operator: the replica stops serving at once, its
//! leadership is transferred, its rows are refilled from another replica, and it starts again.
//!
//! The damage is recorded first, next to the log, so that a restart at any moment continues the repair. The log is intact:
//! votes and entries are kept, so nothing that the replica has acknowledged is forgotten. A node without peers stops, and its
//! next start rebuilds the rows from the logs if they are complete (`aside`). If they are not, the node keeps running without
//! this shard, so that the rest stays readable, and reports the damage in `/readyz` and in every answer.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_cluster::{NodeId, Router};
use ordergrid_domain::GroupId;

use crate::context::NodeContext;
use crate::recovery::refill;
use crate::replicas::{Replicas, Then};
use crate::shard::{Seat, ShardHost};
use crate::telemetry::metrics;

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Watches one shard's replica until dropped.
pub(crate) async fn keep_whole(node: Arc<NodeContext>, host: Arc<ShardHost>, replicas: Arc<Replicas>, router: Arc<Router>) {
    loop {
        let what = host.found().await;
        metrics::replica_whole(host.shard, false);
        host.mending(&what, "it hands its leadership over");
        let before = host.replace(replicas.vacant(host.shard));
        router.add(host.group());
        retire(node.id, before).await;
        if replicas.others(host.shard).is_empty() {
            return alone(&node, &host, &what, &replicas).await;
        }
        let Some(seat) = mend(&node, &host, &what, &replicas).await else { return };
        router.add(Arc::clone(&seat.group));
        tracing::info!(shard = %host.shard, "replica is whole again");
        host.replace(seat);
        host.mended();
        metrics::replica_whole(host.shard, true);
    }
}

/// Handles damage that no other node can repair.
async fn alone(node: &NodeContext, host: &ShardHost, what: &str, replicas: &Replicas) {
    let forsaken = replicas.alone(host.shard, what).await;
    host.mending(what, &forsaken.then.to_string());
    match forsaken.then {
        Then::Begin => node.fail_for_now(forsaken.to_string()),
        Then::Stop => node.fail(forsaken.to_string()),
        Then::Stay(_) => tracing::error!(shard = %host.shard, error = %forsaken, "damaged replica cannot be rebuilt"),
    }
}

/// Handles damage to the meta group's rows: the node stops, because it cannot work without them.
pub(crate) async fn meta(node: &NodeContext, replicas: &Replicas, what: &str) {
    if replicas.others(GroupId::META).is_empty() {
        let forsaken = replicas.alone(GroupId::META, what).await;
        match forsaken.begins_again() {
            true => node.fail_for_now(forsaken.to_string()),
            false => node.fail(forsaken.to_string()),
        }
        return;
    }
    let noted = replicas.note_damage(GroupId::META, what).await;
    let next = noted.map_or_else(|why| why, |()| "the next start refills them from another node".to_owned());
    node.fail_for_now(format!("the stored rows of the meta group are damaged ({what}); {next}"));
}

/// Transfers the replica's leadership and stops the replica.
async fn retire(here: NodeId, seat: Seat) {
    let group = seat.group;
    let status = group.status();
    if status.leader == Some(here) {
        let mut others: Vec<_> = status.members.iter().filter(|member| member.voter && member.node != here).collect();
        others.sort_by_key(|member| std::cmp::Reverse(member.matched));
        for other in others {
            // If no transfer succeeds, there will be an election.
            if group.transfer(other.node).await.is_ok() {
                break;
            }
        }
    }
    group.shutdown().await;
}

/// Refills the replica and starts it, however long that takes. `None` if this process cannot: after damage during a compaction,
/// a database accepts no more writes, and the next start creates it anew.
async fn mend(node: &NodeContext, host: &ShardHost, what: &str, replicas: &Replicas) -> Option<Seat> {
    loop {
        let why = match attempt(host, what, replicas).await {
            Ok(seat) => return Some(seat),
            Err(why) => why,
        };
        if let Some(damage) = replicas.refuses_writes().await {
            node.fail_for_now(format!(
                "the state database accepts no more writes ({damage}); the next start puts it aside and refills it from the other nodes"
            ));
            return None;
        }
        tracing::warn!(shard = %host.shard, error = why, "replica refill failed");
        host.mending(what, &why);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn attempt(host: &ShardHost, what: &str, replicas: &Replicas) -> Result<Seat, String> {
    replicas.note_damage(host.shard, what).await?;
    host.mending(what, "its rows are fetched from another replica");
    refilled(replicas, host.shard).await?;
    let seat = replicas.shard(host.shard).await.map_err(|error| error.to_string())?;
    replicas.forget_damage(host.shard).await?;
    Ok(seat)
}

/// Refills the rows of a replica that does not run from another node.
///
/// # Errors
/// The reason, in words. Try again later.
pub(crate) async fn refilled(replicas: &Replicas, group: GroupId) -> Result<(), String> {
    let purged = replicas.purged(group).await?;
    let mut failed = Vec::new();
    for node in replicas.others(group) {
        match filled_from(replicas, group, node, purged).await {
            Ok(()) => return Ok(()),
            Err(why) => failed.push(why),
        }
    }
    Err(failed.join("; "))
}

/// Refills from one node. The damaged rows are removed only after that node has offered replacements.
async fn filled_from(replicas: &Replicas, group: GroupId, node: NodeId, purged: u64) -> Result<(), String> {
    let offer = refill::offer(replicas.mesh(), node, group, purged).await?;
    let store = replicas.emptied(group).await?;
    let index = offer.take(replicas.mesh(), &*store).await?;
    tracing::info!(shard = %group, peer = node, index, "replica refilled");
    Ok(())
}

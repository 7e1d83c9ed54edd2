//! Checks that every replica's disk holds what was written: each replica reads all its stored rows, cold ones too.

use bincode::{Decode, Encode};
use futures::future::join_all;
use ordergrid_api::wire::cluster::LawReport;
use ordergrid_cluster::{StateStore, StoreError};
use ordergrid_domain::{GroupId, Stored};

use super::cuts::each_row;
use crate::front::grid::NodeGrid;
use crate::recovery::wholeness::Wholeness;

/// The state of one replica's disk for a shard.
#[derive(Debug, Encode, Decode)]
pub(crate) enum OnDisk {
    /// Every row is readable, and their sum is that of the checkpoint.
    Whole,
    /// Damage was found, in words.
    Damaged(String),
    /// The disk could not be checked.
    Unjudged,
}

/// Makes every replica read all its stored rows. A replica that does not answer counts as unchecked.
pub(super) async fn state_whole(grid: &NodeGrid) -> LawReport {
    let (mut violations, mut unjudged) = (Vec::new(), Vec::new());
    let map = &grid.reporter.map;
    let shards = map.shards.iter().map(|shard| (shard.group, &shard.replicas));
    for (group, replicas) in std::iter::once((GroupId::META, &map.meta)).chain(shards) {
        let asked = replicas.iter().map(|replica| async move {
            let here = replica.node == grid.node.id;
            let found = if here { on_disk(grid, group).await } else { grid.on_disk_of(replica.node, group).await };
            (replica.node, found)
        });
        let name = if group == GroupId::META { "the meta group".to_owned() } else { format!("shard {group}") };
        for (node, found) in join_all(asked).await {
            match found {
                OnDisk::Whole => {}
                OnDisk::Damaged(what) => violations.push(format!("{name}: the replica on node {node}: {what}")),
                OnDisk::Unjudged => {
                    unjudged.push(format!("{name}: the replica on node {node} did not read what it has stored"));
                }
            }
        }
    }
    LawReport::new("StateWhole", violations, unjudged)
}

/// Reads all rows that this node has stored of a group: for a shard as of a new checkpoint, for the meta group as of the last.
pub(crate) async fn on_disk(grid: &NodeGrid, group: GroupId) -> OnDisk {
    if group == GroupId::META {
        return look(group, grid.meta.store.as_ref(), &grid.meta.whole).await;
    }
    let Some(host) = grid.node.host(group) else { return OnDisk::Unjudged };
    if let Some(damage) = host.damage() {
        return OnDisk::Damaged(format!("{}; {}", damage.what, damage.doing));
    }
    let seat = host.seat();
    match seat.group.checkpoint().await {
        Ok(_) => look(group, seat.replica.store().as_ref(), &seat.whole).await,
        Err(error) => {
            tracing::debug!(shard = %group, %error, "checkpoint for verification failed");
            OnDisk::Unjudged
        }
    }
}

async fn look(group: GroupId, store: &dyn StateStore, whole: &Wholeness) -> OnDisk {
    if let Some(what) = whole.damage() {
        return OnDisk::Damaged(what);
    }
    match judged(group, store).await {
        Ok(()) => OnDisk::Whole,
        Err(error) if error.is_damage() => {
            let what = error.to_string();
            whole.damaged(&what);
            OnDisk::Damaged(what)
        }
        Err(error) => {
            tracing::warn!(shard = %group, %error, "stored rows not read");
            OnDisk::Unjudged
        }
    }
}

/// Reads all stored rows of a replica of `group`, and checks that they are intact.
///
/// # Errors
/// Damage, or a disk failure.
pub(crate) async fn judged(group: GroupId, store: &dyn StateStore) -> Result<(), StoreError> {
    let stored = read_all(store).await?;
    // The meta group has rows in a format of its own, which only checksums cover.
    if group == GroupId::META { Ok(()) } else { stored.judge().map_err(StoreError::damaged) }
}

async fn read_all(store: &dyn StateStore) -> Result<Stored, StoreError> {
    let mut stored = Stored::default();
    if let Some(view) = store.view().await? {
        each_row(&*view, |key, value| stored.add(key, value)).await?;
    }
    Ok(stored)
}

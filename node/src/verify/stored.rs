//! Whether what every replica has on its disk is what it wrote: all of it is read there, cold rows too.

use bincode::{Decode, Encode};
use futures::future::join_all;
use ordergrid_api::wire::cluster::LawReport;
use ordergrid_cluster::{StateStore, StoreError};
use ordergrid_domain::{GroupId, Stored};
use tokio::time::Instant;

use crate::grid::NodeGrid;
use crate::shard::ShardHost;

/// Bytes of rows read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What one replica's disk has of a shard.
#[derive(Debug, Encode, Decode)]
pub(crate) enum OnDisk {
    /// Every row can be read, and together they come to what the checkpoint says.
    Whole,
    /// Something is wrong, in words.
    Damaged(String),
    /// Nothing can be said.
    Unjudged,
}

/// Every replica reads all that it has stored, cold rows too. One that does not answer is not judged.
pub(super) async fn state_whole(grid: &NodeGrid) -> LawReport {
    let (mut violations, mut unjudged) = (Vec::new(), Vec::new());
    for shard in &grid.reporter.map.shards {
        let asked = shard.replicas.iter().map(|replica| async move {
            let found = match grid.node.host(shard.group).filter(|_| replica.node == grid.node.id) {
                Some(host) => on_disk(host).await,
                None => grid.on_disk_of(replica.node, shard.group).await,
            };
            (replica.node, found)
        });
        for (node, found) in join_all(asked).await {
            match found {
                OnDisk::Whole => {}
                OnDisk::Damaged(what) => {
                    violations.push(format!("shard {}: the replica on node {node}: {what}", shard.group));
                }
                OnDisk::Unjudged => {
                    unjudged.push(format!("shard {}: the replica on node {node} did not read what it has stored", shard.group));
                }
            }
        }
    }
    LawReport::new("StateWhole", violations, unjudged)
}

/// Reads everything that the replica here has stored, as of a checkpoint taken now.
pub(crate) async fn on_disk(host: &ShardHost) -> OnDisk {
    if let Some(damage) = host.damage() {
        return OnDisk::Damaged(format!("{}; {}", damage.what, damage.doing));
    }
    let seat = host.seat();
    if seat.group.checkpoint().await.is_err() {
        return OnDisk::Unjudged;
    }
    match read_all(seat.replica.store().as_ref()).await {
        Ok(stored) => match stored.judge() {
            Ok(()) => OnDisk::Whole,
            Err(what) => {
                seat.whole.damaged(&what);
                OnDisk::Damaged(what)
            }
        },
        Err(error) if error.is_damage() => OnDisk::Damaged(error.to_string()),
        Err(_) => OnDisk::Unjudged,
    }
}

/// Reads everything that a replica of `group` has stored: whether it is what was written.
///
/// # Errors
/// Damage, or a disk that fails.
pub(crate) async fn judged(group: GroupId, store: &dyn StateStore) -> Result<(), StoreError> {
    let stored = read_all(store).await?;
    // The meta group has rows of its own kind: of those the checksums tell.
    if group == GroupId::META { Ok(()) } else { stored.judge().map_err(StoreError::damaged) }
}

/// Rests as long as it works, so that whoever orders meanwhile feels little of it.
async fn read_all(store: &dyn StateStore) -> Result<Stored, StoreError> {
    let mut stored = Stored::default();
    let Some(view) = store.view().await? else { return Ok(stored) };
    let mut after = None;
    loop {
        let began = Instant::now();
        let rows = view.next_chunk(after, CHUNK_BYTES).await?;
        let Some((last, _)) = rows.last() else { return Ok(stored) };
        after = Some(last.clone());
        for (key, value) in &rows {
            stored.add(key, value);
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(began.elapsed()).await;
    }
}

//! Cuts: the rows of a shard at one moment, to be read by a verification. A cut is taken on this node, or kept here for another
//! node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ordergrid_api::{Failure, Refusal};
use ordergrid_cluster::{StateView, StoreError};
use ordergrid_domain::GroupId;
use ordergrid_domain::audit::{Audit, Moment};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::shard::ShardHost;

/// Bytes of rows read at a time. Small, because orders wait while they are checked.
const CHUNK_BYTES: usize = 128 << 10;
/// A cut that is not read for this long is dropped, because it keeps its files on the disk.
const HELD: Duration = Duration::from_secs(60);

/// The rows of one shard at one moment.
pub(crate) struct Cut {
    shard: GroupId,
    retention: Duration,
    /// `None` before the shard's first checkpoint: there are no rows.
    view: Option<Arc<dyn StateView>>,
    /// The position of its streams.
    pub(crate) moment: Moment,
    /// The index applied when the cut was requested. The cut is not older.
    pub(crate) applied: u64,
}

fn unreadable(_: impl std::fmt::Display) -> Failure {
    Failure::refused(Refusal::NotReady)
}

impl Cut {
    /// Takes a cut: the moment of a checkpoint that is written now on this node.
    pub(crate) async fn take(host: &ShardHost) -> Result<Self, Failure> {
        let applied = host.group().applied();
        host.group().checkpoint().await.map_err(unreadable)?;
        let view = host.replica().store().view().await.map_err(unreadable)?;
        let moment = match &view {
            Some(view) => streams(&**view).await?,
            None => Moment::default(),
        };
        Ok(Self { shard: host.shard, retention: host.replica().retention(), view, moment, applied })
    }

    /// The result over all rows.
    pub(crate) async fn audit(self) -> Result<Audit, Failure> {
        let mut audit = Audit::new(self.shard, self.retention);
        if let Some(view) = self.view {
            each_row(&*view, |key, value| audit.add(key, value)).await.map_err(unreadable)?;
        }
        Ok(audit)
    }

    /// Passes every row, in key order, until one is refused.
    pub(crate) async fn each(self, mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let Some(view) = self.view else { return Ok(()) };
        let mut seen = Ok(());
        let show = |key: &Bytes, value: &Bytes| {
            if seen.is_ok() {
                seen = see(key, value);
            }
        };
        each_row(&*view, show).await.map_err(unreadable)?;
        seen
    }
}

/// Passes every row. Rests as long as it works, so that orders are hardly delayed.
pub(super) async fn each_row(view: &dyn StateView, mut show: impl FnMut(&Bytes, &Bytes)) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let began = Instant::now();
        let rows = view.next_chunk(after, CHUNK_BYTES).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, value) in &rows {
            show(key, value);
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(began.elapsed()).await;
    }
}

async fn streams(view: &dyn StateView) -> Result<Moment, Failure> {
    let mut moment = Moment::default();
    // A key shorter than any other: the table's first key follows it.
    let mut after = Bytes::from_static(&[Moment::FIRST]);
    loop {
        let rows = view.next_chunk(Some(after), CHUNK_BYTES).await.map_err(unreadable)?;
        let Some((last, _)) = rows.last() else { return Ok(moment) };
        after = last.clone();
        for (key, value) in &rows {
            if !moment.add(key, value).map_err(unreadable)? {
                return Ok(moment);
            }
        }
    }
}

/// The cuts that other nodes have requested: the newest of each shard.
#[derive(Default)]
pub(crate) struct Cuts {
    last: AtomicU64,
    held: Mutex<BTreeMap<GroupId, (u64, Cut)>>,
}

impl Cuts {
    /// Keeps a cut for a while, and returns its number.
    pub(crate) fn hold(self: &Arc<Self>, cut: Cut) -> u64 {
        let (number, shard) = (self.last.fetch_add(1, Ordering::Relaxed) + 1, cut.shard);
        self.held.lock().insert(shard, (number, cut));
        let held = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(HELD).await;
            if let Some(cuts) = held.upgrade() {
                drop(cuts.release(shard, number));
            }
        });
        number
    }

    /// Returns a cut, unless it was dropped meanwhile.
    pub(crate) fn release(&self, shard: GroupId, number: u64) -> Option<Cut> {
        let mut held = self.held.lock();
        let known = held.get(&shard).is_some_and(|(known, _)| *known == number);
        if known { held.remove(&shard).map(|(_, cut)| cut) } else { None }
    }
}

//! The disk in memory: writes that are not durable are lost when [`crash`](MemEngine::crash) is called.
//!
//! It has no thread and reads no clock, so a simulation on it is repeatable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;

use super::batch::{Batch, Operation};
use super::{Durability, Engine, EngineError, EngineStats, EngineView, Gather, KeyRange, Row, ScanLimit};

type Rows = BTreeMap<Bytes, Bytes>;
type Damaged = Arc<Mutex<BTreeSet<Bytes>>>;

/// A handle of a disk in memory.
///
/// A handle is one opening of the disk, as by a process. It ends with the next crash or kill; then every call on it returns
/// [`EngineError::Closed`], so that tasks from before the crash cannot reach the disk. A clone opens the same disk anew.
pub struct MemEngine {
    disk: Arc<Mutex<Disk>>,
    /// Number of crashes and kills before this handle.
    life: u64,
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of the batch reached the disk.
    NotWritten,
    /// The batch was written, but whether it is durable is unknown: a crash keeps it or loses it.
    NotSynced,
}

#[derive(Default)]
struct Disk {
    /// The readable content. Shared with views, and copied at the first write after a view was taken.
    live: Arc<Rows>,
    /// The durable content.
    durable: Rows,
    /// Batches written since, in order.
    unsynced: Vec<Batch>,
    crashes: u64,
    /// The fault, and the number of writes before it.
    planted: Option<(u64, Fault)>,
    failed: Option<EngineError>,
    /// Keys with damaged values. Views share them, because they read the same blocks.
    damaged: Damaged,
    stats: EngineStats,
    vouch: Option<Bytes>,
    /// The content when [`remember`](MemEngine::remember) was called, and the batches since.
    history: Option<(Arc<Rows>, Vec<Batch>)>,
}

impl MemEngine {
    /// An empty disk.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a disk is made on purpose, and a default one would be another disk")]
    pub fn new() -> Self {
        Self { disk: Arc::default(), life: 0 }
    }

    /// Loses power: writes that are not durable are gone, and all handles end. Clone a handle to open the disk again.
    pub fn crash(&self) {
        self.disk.lock().crash(0);
    }

    /// Like [`crash`](Self::crash), but a prefix of the batches that are not durable survives. `seed` decides its length. A
    /// file system that writes back at any time behaves like this.
    pub fn crash_keeping_some(&self, seed: u64) {
        let mut disk = self.disk.lock();
        let choices = disk.unsynced.len() as u64 + 1;
        let kept = usize::try_from(scramble(seed) % choices).expect("at most the number of batches");
        disk.crash(kept);
    }

    /// Like [`crash`](Self::crash), but the first `kept` of the batches that are not durable survive. Panics if there are
    /// fewer.
    pub fn crash_keeping(&self, kept: usize) {
        self.disk.lock().crash(kept);
    }

    /// Kills the process: all handles end. Written batches stay readable, and a crash may still lose those that are not
    /// durable.
    pub fn kill(&self) {
        self.disk.lock().end_handles();
    }

    /// Makes the first `count` of the batches that are not durable durable, as if a sync had started before the others were
    /// written. Panics if there are fewer.
    pub fn settle(&self, count: usize) {
        self.disk.lock().settle(count);
    }

    /// Remembers the current content and each further batch, so that [`rot`](Self::rot) can remove batches.
    pub fn remember(&self) {
        let mut disk = self.disk.lock();
        disk.history = Some((disk.live.clone(), Vec::new()));
    }

    /// Flips a bit of the log on the medium: of the batches since [`remember`](Self::remember), or since the last
    /// [`keep`](Engine::keep), only the first `kept` stay readable, even if others were durable. All handles end. Panics if the
    /// disk remembers nothing.
    pub fn rot(&self, kept: usize) {
        let mut disk = self.disk.lock();
        let (base, batches) = disk.history.take().expect("the disk was told to remember");
        let mut left = Rows::clone(&base);
        batches[..kept].iter().for_each(|batch| apply(batch, &mut left));
        disk.durable = left;
        disk.crash(0);
    }

    /// A copy of the disk with its current readable content, all of it durable.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let disk = self.disk.lock();
        let copy = Disk {
            live: disk.live.clone(),
            durable: Rows::clone(&disk.live),
            damaged: Arc::new(Mutex::new(disk.damaged.lock().clone())),
            vouch: disk.vouch.clone(),
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(copy)), life: 0 }
    }

    /// Replaces the vouch: after a power loss an older one may be found.
    pub fn set_vouched(&self, vouch: Option<Bytes>) {
        self.disk.lock().vouch = vouch;
    }

    /// Makes a write or flush fail after `after` successful ones. From then on the disk refuses every write, until a crash.
    pub fn fail_write(&self, after: u64, fault: Fault) {
        self.disk.lock().planted = Some((after, fault));
    }

    /// Damages the current rows of `range`: reading one of them fails, also after a crash and through views, until the row is
    /// written again or removed. Returns their number.
    pub fn damage(&self, range: &KeyRange) -> usize {
        let disk = self.disk.lock();
        let keys: Vec<_> = rows_of(&disk.live, range).map(|(key, _)| key.clone()).collect();
        let count = keys.len();
        disk.damaged.lock().extend(keys);
        count
    }

    /// Number of batches that a crash would lose.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.disk.lock().unsynced.len()
    }

    fn with<T>(&self, then: impl FnOnce(&mut Disk) -> Result<T, EngineError>) -> BoxFuture<'static, Result<T, EngineError>>
    where
        T: Send + 'static,
    {
        let mut disk = self.disk.lock();
        let answer = if disk.crashes == self.life { then(&mut disk) } else { Err(EngineError::Closed) };
        ready(answer).boxed()
    }
}

impl Clone for MemEngine {
    fn clone(&self) -> Self {
        let life = self.disk.lock().crashes;
        Self { disk: self.disk.clone(), life }
    }
}

impl Engine for MemEngine {
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        self.with(|disk| disk.write(batch, durability))
    }

    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        self.with(|disk| {
            disk.write(batch, Durability::Synced)?;
            disk.vouch = Some(vouch);
            Ok(())
        })
    }

    fn vouched(&self) -> Option<Bytes> {
        self.disk.lock().vouch.clone()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.with(|disk| disk.write(Batch::new(), Durability::Synced))
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.with(|disk| {
            disk.write(Batch::new(), Durability::Synced)?;
            let live = disk.live.clone();
            if let Some(history) = &mut disk.history {
                *history = (live, Vec::new());
            }
            Ok(())
        })
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        self.with(|disk| get_many(&disk.live, &disk.damaged, &keys))
    }

    fn may_have(&self, key: &[u8]) -> bool {
        let disk = self.disk.lock();
        // A handle from before a crash has ended.
        disk.crashes != self.life || disk.live.contains_key(key)
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.with(|disk| scan(&disk.live, &disk.damaged, &range, limit))
    }

    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.with(|disk| gather(rows_of(&disk.live, &range).rev(), &disk.damaged, limit))
    }

    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>> {
        self.with(|disk| {
            let view: Arc<dyn EngineView> = Arc::new(MemView(disk.live.clone(), disk.damaged.clone()));
            Ok(view)
        })
    }

    fn stats(&self) -> EngineStats {
        let disk = self.disk.lock();
        let disk_bytes = disk.durable.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        EngineStats { disk_bytes, ..disk.stats }
    }
}

struct MemView(Arc<Rows>, Damaged);

impl EngineView for MemView {
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        ready(get_many(&self.0, &self.1, &keys)).boxed()
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        ready(scan(&self.0, &self.1, &range, limit)).boxed()
    }
}

impl Disk {
    fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let fault = self.due_fault();
        if fault == Some(Fault::NotWritten) {
            return Err(self.fail());
        }
        self.stats.written_bytes += batch.bytes() as u64;
        apply(&batch, Arc::make_mut(&mut self.live));
        forget_damage(&batch, &self.damaged);
        if !batch.is_empty() {
            if let Some((_, batches)) = &mut self.history {
                batches.push(batch.clone());
            }
            self.unsynced.push(batch);
        }
        if fault == Some(Fault::NotSynced) {
            return Err(self.fail());
        }
        if durability == Durability::Synced {
            self.stats.syncs += 1;
            self.settle(self.unsynced.len());
        }
        Ok(())
    }

    fn due_fault(&mut self) -> Option<Fault> {
        match &mut self.planted {
            None => None,
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
        }
    }

    fn fail(&mut self) -> EngineError {
        let error = EngineError::Disk("a planted fault".to_owned());
        self.planted = None;
        self.failed = Some(error.clone());
        error
    }

    /// The first `count` unsynced batches become durable.
    fn settle(&mut self, count: usize) {
        for batch in self.unsynced.drain(..count) {
            apply(&batch, &mut self.durable);
        }
    }

    fn crash(&mut self, kept: usize) {
        self.settle(kept);
        self.unsynced.clear();
        self.live = Arc::new(self.durable.clone());
        self.end_handles();
    }

    fn end_handles(&mut self) {
        self.crashes += 1;
        self.planted = None;
        self.failed = None;
        self.stats = EngineStats::default();
    }
}

/// Keys and values are copied: a slice would keep the whole batch in memory.
fn apply(batch: &Batch, rows: &mut Rows) {
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, value } => {
                rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            Operation::Delete { key } => {
                rows.remove(key);
            }
            Operation::DeleteRange { from, to } => {
                let doomed: Vec<Bytes> =
                    rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).map(|(key, _)| key.clone()).collect();
                for key in doomed {
                    rows.remove(&key);
                }
            }
        }
    }
}

/// Rows that are written again or removed are no longer damaged.
fn forget_damage(batch: &Batch, damaged: &Damaged) {
    let mut damaged = damaged.lock();
    if damaged.is_empty() {
        return;
    }
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => {
                damaged.remove(key);
            }
            Operation::DeleteRange { from, to } => damaged.retain(|key| key[..] < *from || key[..] >= *to),
        }
    }
}

fn readable(key: &Bytes, damaged: &BTreeSet<Bytes>) -> Result<(), EngineError> {
    match damaged.contains(key) {
        true => Err(EngineError::Damaged(format!("a block's checksum is wrong, at key {key:02x}"))),
        false => Ok(()),
    }
}

fn get_many(rows: &Rows, damaged: &Damaged, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
    let damaged = damaged.lock();
    keys.iter().map(|key| readable(key, &damaged).map(|()| rows.get(key).cloned())).collect()
}

fn scan(rows: &Rows, damaged: &Damaged, range: &KeyRange, limit: ScanLimit) -> Result<Vec<Row>, EngineError> {
    gather(rows_of(rows, range), damaged, limit)
}

fn rows_of<'a>(rows: &'a Rows, range: &KeyRange) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> + use<'a> {
    // A map panics on a range whose end is before its start.
    let to = match &range.to {
        Some(to) => Bound::Excluded(to.max(&range.from)),
        None => Bound::Unbounded,
    };
    rows.range::<Bytes, _>((Bound::Included(&range.from), to))
}

fn gather<'a>(
    rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
    damaged: &Damaged,
    limit: ScanLimit,
) -> Result<Vec<Row>, EngineError> {
    let damaged = damaged.lock();
    let mut gathered = Gather::new(limit);
    for (key, value) in rows {
        if gathered.offer(key.len() + value.len(), || (key.clone(), value.clone())).is_break() {
            break;
        }
        readable(key, &damaged)?;
    }
    Ok(gathered.rows)
}

/// `SplitMix64`: neighbouring seeds give unrelated numbers.
fn scramble(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! The guarantees of a disk: atomic batches, in order, durable on request; reads; frozen views.
//!
//! Everything above [`Engine`] runs unchanged on [`RocksEngine`] and on [`MemEngine`], whose crashes a simulation controls. One
//! test suite, `storage/tests/storage/engine.rs`, checks both against these guarantees.

mod batch;
mod mem;
mod rocks;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use batch::{Batch, Operation};
pub use mem::{Fault, MemEngine};
pub use rocks::{RocksBounds, RocksEngine};

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// An ordered key-value store on one disk.
///
/// Calls take effect in the order in which they are made, even before their futures are awaited, and also when a
/// future is dropped. A crash keeps a prefix of the batches, never a part of one, and never less than what was made durable.
///
/// An engine whose write has failed refuses every later one: nobody knows what the disk has, and a failed sync must
/// not be tried again. The process should stop.
pub trait Engine: Send + Sync + 'static {
    /// Applies `batch` as a whole. Readable on return; durable on return if asked for, and then so is everything
    /// written before it.
    ///
    /// # Errors
    /// Whether the batch survives is unknown. Stop.
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Applies the rows that `show` shows, as one batch that is durable on return. They are shown where nobody waits for a
    /// thread meanwhile, if the engine has such a place, and are not kept; in their turn in any case.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_rows(&self, show: ShowRows) -> BoxFuture<'_, Result<(), EngineError>> {
        self.write(Batch::of_rows(show), Durability::Synced)
    }

    /// As [`write`](Self::write) with [`Durability::Synced`], also of an empty batch; and when it is durable, before the answer,
    /// `vouch` is left beside the database: what the caller vouches for from now on. That waits for no disk: it survives the end
    /// of the process, and after a loss of power an older one may be found.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>>;

    /// The last vouch that was found when the database was opened, or left since; `None` if there is none that can be read.
    fn vouched(&self) -> Option<Bytes>;

    /// The damage that was met since the database was opened, for which it must not be opened again; always `None` where damage
    /// leaves no mark.
    fn damaged(&self) -> Option<String> {
        None
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// As [`flush`](Self::flush), and afterwards no damage to a log of later writes can take away what was written so far.
    /// Dear: for what a node cannot do without and seldom writes.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn keep(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.flush()
    }

    /// Removes the rows from `from`, inclusive, to `to`, exclusive, durably, and from the files themselves: what is damaged there
    /// is met now, and not by a later merge of files. May take long.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn erase(&self, from: &[u8], to: &[u8]) -> BoxFuture<'_, Result<(), EngineError>> {
        let mut batch = Batch::new();
        batch.delete_range(from, to);
        self.write(batch, Durability::Synced)
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// If the disk cannot be read. Stop.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>>;

    /// Whether there may be a value under `key`: `false` only if no write that has been answered left one. Looks in memory
    /// alone (RocksDB: memtables and bloom filters), so it may be asked anywhere; `true` also when that does not tell.
    fn may_have(&self, key: &[u8]) -> bool;

    /// Rows of `range` in ascending order of their keys, from its start, until a limit is reached.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;

    /// Rows of `range` in descending order of their keys, from its end, until a limit is reached.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;

    /// Everything as it is now, whatever is written later. A view costs disk space while it lives: drop it soon.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>>;

    /// What the engine has done since it was opened, and its size. May look at the disk: for metrics, not for hot paths.
    fn stats(&self) -> EngineStats;
}

/// Everything an engine held at one moment.
pub trait EngineView: Send + Sync + 'static {
    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// If the disk cannot be read. Stop.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>>;

    /// Rows of `range` in ascending order of their keys, from its start, until a limit is reached.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;
}

/// Takes rows one by one: a key, and its value or `None` for one that goes.
pub type RowSink<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// Shows rows when they are to be written, in the ascending order of their keys, none twice.
pub type ShowRows = Box<dyn FnOnce(RowSink<'_>) + Send>;

/// When a write may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is readable. A crash may lose it, and with it everything written later.
    Buffered,
    /// Once it, and everything before it, survives a loss of power.
    Synced,
}

/// The disk, or what is on it, cannot be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Reading or writing failed.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// The database is open already, here or in another process.
    #[error("the database is locked: {0}")]
    InUse(String),
    /// The disk has no room left.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What is stored is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// What is relied on does not hold: nothing more may be written.
    #[error("the program broke a rule of its own: {0}")]
    Broken(String),
    /// The engine was shut, or, in a simulation, its machine has crashed.
    #[error("the database is closed")]
    Closed,
}

impl EngineError {
    /// What is stored is not what was written: no later try finds it whole, and nothing else is wrong with the disk.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

/// Keys from `from`, inclusive, to `to`, exclusive; to the last key if `to` is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub from: Bytes,
    /// The key after the last.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// From `from`, inclusive, to `to`, exclusive.
    #[must_use]
    pub fn new(from: impl Into<Bytes>, to: impl Into<Bytes>) -> Self {
        Self { from: from.into(), to: Some(to.into()) }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let to = end.last_mut().map(|last| *last += 1).map(|()| Bytes::from(end));
        Self { from: prefix, to }
    }

    /// The part after `key`, if `key` is inside; all of it if `key` is before.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        if key >= &self.from[..] {
            self.from = [key, &[0]].concat().into();
        }
        self
    }

    fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// How much a scan may return. It stops once either is reached; the first row is returned whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of keys and values together.
    pub bytes: usize,
}

impl ScanLimit {
    /// Up to `rows` rows of any size.
    #[must_use]
    pub fn rows(rows: usize) -> Self {
        Self { rows, bytes: usize::MAX }
    }

    /// About `bytes` bytes.
    #[must_use]
    pub fn bytes(bytes: usize) -> Self {
        Self { rows: usize::MAX, bytes }
    }
}

/// What an engine has done since it was opened, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes on the disk now.
    pub disk_bytes: u64,
    /// Times something was made durable.
    pub syncs: u64,
    /// Bytes of keys and values handed over for writing.
    pub written_bytes: u64,
}

/// Gathers the rows of a scan up to its limit.
struct Gather {
    rows: Vec<Row>,
    bytes: usize,
    limit: ScanLimit,
}

impl Gather {
    fn new(limit: ScanLimit) -> Self {
        Self { rows: Vec::new(), bytes: 0, limit }
    }

    /// Takes a row unless the limit is reached; the row is made only then.
    fn offer(&mut self, bytes: usize, row: impl FnOnce() -> Row) -> ControlFlow<()> {
        if self.rows.len() >= self.limit.rows || self.bytes >= self.limit.bytes {
            return ControlFlow::Break(());
        }
        self.bytes += bytes;
        self.rows.push(row());
        ControlFlow::Continue(())
    }
}

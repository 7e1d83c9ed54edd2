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
/// Calls take effect in the order in which they are made, even before their futures are awaited, and also if a future is
/// dropped. A crash keeps a prefix of the batches: never a part of a batch, and never less than what was durable.
///
/// An engine whose write has failed refuses every later one: the content of the disk is unknown, and a failed sync must not be
/// retried. The process should stop.
pub trait Engine: Send + Sync + 'static {
    /// Applies `batch` atomically. Readable on return. With [`Durability::Synced`] it is also durable on return, with
    /// everything written before it.
    ///
    /// # Errors
    /// It is unknown whether the batch survives. Stop.
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Applies the rows that `show` passes, as one batch that is durable on return. `show` is called in the order of the
    /// writes, and if possible on a thread that delays nobody. The rows are not kept.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_rows(&self, show: ShowRows) -> BoxFuture<'_, Result<(), EngineError>> {
        self.write(Batch::of_rows(show), Durability::Synced)
    }

    /// Like [`write`](Self::write) with [`Durability::Synced`], also for an empty batch. When the batch is durable, and before
    /// the call returns, `vouch` is stored next to the database. Storing it waits for no disk: it survives the end of the
    /// process, but after a power loss an older vouch may be found.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>>;

    /// The last vouch, stored since the database was opened or found then; `None` if there is no readable one.
    fn vouched(&self) -> Option<Bytes>;

    /// The damage found since the database was opened, which forbids opening it again; always `None` for engines that leave no
    /// mark.
    fn damaged(&self) -> Option<String> {
        None
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Like [`flush`](Self::flush), and afterwards damage to a log of later writes cannot affect what was written so far.
    /// Expensive: for rare writes that a node cannot do without.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn keep(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.flush()
    }

    /// Removes the rows from `from`, inclusive, to `to`, exclusive, durably, and from the files themselves, so that damage in
    /// them is found now and not by a later compaction. May take long.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn erase(&self, from: &[u8], to: &[u8]) -> BoxFuture<'_, Result<(), EngineError>> {
        let mut batch = Batch::new();
        batch.delete_range(from, to);
        self.write(batch, Durability::Synced)
    }

    /// The values of `keys`, in the same order.
    ///
    /// # Errors
    /// The disk cannot be read. Stop.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>>;

    /// Whether there may be a value for `key`; `false` is certain for all answered writes. Looks in memory only (RocksDB:
    /// memtables and bloom filters), so it may be called anywhere.
    fn may_have(&self, key: &[u8]) -> bool;

    /// Rows of `range` in ascending key order, from its start, up to a limit.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;

    /// Rows of `range` in descending key order, from its end, up to a limit.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;

    /// A consistent view of the current content. A view costs disk space while it lives, so drop it soon.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>>;

    /// Counters since the engine was opened, and its size. May read the disk: for metrics, not for hot paths.
    fn stats(&self) -> EngineStats;
}

/// The content of an engine at one moment.
pub trait EngineView: Send + Sync + 'static {
    /// The values of `keys`, in the same order.
    ///
    /// # Errors
    /// The disk cannot be read. Stop.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>>;

    /// Rows of `range` in ascending key order, from its start, up to a limit.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>;
}

/// Receives rows one by one: a key, and its value or `None` for a removal.
pub type RowSink<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// Passes rows when they are written, in ascending key order, each key once.
pub type ShowRows = Box<dyn FnOnce(RowSink<'_>) + Send>;

/// When a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is readable. A crash may lose it, with everything written later.
    Buffered,
    /// When it, and everything before it, survives a power loss.
    Synced,
}

/// Why the disk, or its content, cannot be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Reading or writing failed.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// The database is open already, here or in another process.
    #[error("the database is locked: {0}")]
    InUse(String),
    /// The disk is full.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Stored data is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// What is relied on does not hold: nothing more may be written.
    #[error("the program broke a rule of its own: {0}")]
    Broken(String),
    /// The engine was closed, or, in a simulation, its machine has crashed.
    #[error("the database is closed")]
    Closed,
}

impl EngineError {
    /// Whether stored data is damaged: no retry helps, and nothing else is wrong with the disk.
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

    /// Keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let to = end.last_mut().map(|last| *last += 1).map(|()| Bytes::from(end));
        Self { from: prefix, to }
    }

    /// The part of the range after `key`, if `key` is inside; the whole range if `key` is before.
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

/// Limits of a scan. It stops when one is reached; the first row is returned whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimit {
    /// Most rows.
    pub rows: usize,
    /// Most bytes of keys and values together.
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

/// Counters of an engine since it was opened, and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Current bytes on the disk.
    pub disk_bytes: u64,
    /// Number of times that writes were made durable.
    pub syncs: u64,
    /// Bytes of keys and values written.
    pub written_bytes: u64,
}

/// Collects the rows of a scan up to its limit.
struct Gather {
    rows: Vec<Row>,
    bytes: usize,
    limit: ScanLimit,
}

impl Gather {
    fn new(limit: ScanLimit) -> Self {
        Self { rows: Vec::new(), bytes: 0, limit }
    }

    /// Adds a row unless the limit is reached. The row is built only then.
    fn offer(&mut self, bytes: usize, row: impl FnOnce() -> Row) -> ControlFlow<()> {
        if self.rows.len() >= self.limit.rows || self.bytes >= self.limit.bytes {
            return ControlFlow::Break(());
        }
        self.bytes += bytes;
        self.rows.push(row());
        ControlFlow::Continue(())
    }
}

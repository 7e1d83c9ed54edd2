//! What a replica needs from the state database: rows with a checkpoint's atomicity, views, and installs.
//!
//! The node adapts `ordergrid-storage` to these traits; this crate never sees the database.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::machine::DirtyRows;

/// A row as stored: key and value.
pub type Row = (Bytes, Bytes);

/// The durable rows of one replica.
///
/// `meta` is written together with the rows it describes; what it says is this crate's business.
pub trait StateStore: Send + Sync + 'static {
    /// The meta of the last checkpoint or install, if there has been one.
    fn meta(&self) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// The values of `keys`, in their order.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, StoreError>>;

    /// Whether there may be a row under `key`: `false` is certain. Looks in memory alone.
    fn may_have(&self, key: &[u8]) -> bool;

    /// Rows whose keys start with `prefix`, in key order, those after `after` only, until about `max_bytes` are
    /// gathered. Empty means the end.
    fn scan(&self, prefix: Bytes, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// Writes rows, in any order, and meta as one atomic batch; durable on return. Never overlaps with another checkpoint
    /// or install.
    fn checkpoint(&self, meta: Bytes, rows: DirtyRows) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A consistent view as of the last checkpoint or install; `None` before the first.
    fn view(&self) -> BoxFuture<'_, Result<Option<Arc<dyn StateView>>, StoreError>>;

    /// Starts a replacement of everything, beside what is there. Dropped without `commit`, it leaves no trace.
    fn install(&self) -> BoxFuture<'_, Result<Box<dyn Install>, StoreError>>;
}

/// Everything a replica had at one checkpoint, readable while later checkpoints are written.
pub trait StateView: Send + Sync + 'static {
    /// The meta written with that checkpoint.
    fn meta(&self) -> Bytes;

    /// Rows in key order after `after`, until about `max_bytes`. Empty means the end.
    fn next_chunk(&self, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;
}

/// A replacement being written: rows of a new generation, invisible until committed.
pub trait Install: Send + 'static {
    /// Adds rows. Keys ascend from call to call.
    fn put(&mut self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Switches to the new rows with `meta`, atomically across a crash; durable on return.
    fn commit(self: Box<Self>, meta: Bytes) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// The state database failed. The process should stop: a write that failed once is never tried again. If what is stored
/// is damaged, the replica alone is lost, and can be filled anew from the others.
#[derive(Debug, thiserror::Error)]
#[error("the state store failed: {reason}")]
pub struct StoreError {
    reason: String,
    damage: bool,
}

impl StoreError {
    /// With the reason, as the operator will read it.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), damage: false }
    }

    /// What is stored is not what was written.
    pub fn damaged(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), damage: true }
    }

    /// Whether the rows are damaged, where nothing else is wrong with the disk.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.damage
    }
}

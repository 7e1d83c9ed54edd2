//! The state store of a replica: rows, atomic checkpoints, views and installs.
//!
//! The node adapts `ordergrid-storage` to these traits. This crate never uses the database directly.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::machine::DirtyRows;

/// A row as stored: key and value.
pub type Row = (Bytes, Bytes);

/// The durable rows of one replica.
///
/// `meta` is written together with the rows that it describes. Only this crate interprets it.
pub trait StateStore: Send + Sync + 'static {
    /// The meta of the last checkpoint or install; `None` before the first.
    fn meta(&self) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// The values of `keys`, in the same order.
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, StoreError>>;

    /// Whether there may be a row with this key; `false` is certain. Looks in memory only.
    fn may_have(&self, key: &[u8]) -> bool;

    /// Rows whose keys start with `prefix` and come after `after`, in key order, until about `max_bytes` are collected. An
    /// empty result means the end.
    fn scan(&self, prefix: Bytes, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// Writes rows, in any order, and meta as one atomic batch. Durable on return. Never runs at the same time as another
    /// checkpoint or install.
    fn checkpoint(&self, meta: Bytes, rows: DirtyRows) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A consistent view of the last checkpoint or install; `None` before the first.
    fn view(&self) -> BoxFuture<'_, Result<Option<Arc<dyn StateView>>, StoreError>>;

    /// Starts to replace all rows; the current rows stay readable. If it is dropped without `commit`, it leaves no trace.
    fn install(&self) -> BoxFuture<'_, Result<Box<dyn Install>, StoreError>>;
}

/// All rows of a replica at one checkpoint, readable while later checkpoints are written.
pub trait StateView: Send + Sync + 'static {
    /// The meta of that checkpoint.
    fn meta(&self) -> Bytes;

    /// Rows in key order after `after`, until about `max_bytes` are collected. An empty result means the end.
    fn next_chunk(&self, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;
}

/// A replacement that is being written: rows of a new generation, invisible until committed.
pub trait Install: Send + 'static {
    /// Adds rows. Keys ascend from call to call.
    fn put(&mut self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Switches to the new rows with `meta`, atomically across a crash. Durable on return.
    fn commit(self: Box<Self>, meta: Bytes) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// The state store failed. The process should stop: a failed write is never retried. If stored rows are damaged, only the
/// replica is lost, and it can be refilled from the others.
#[derive(Debug, thiserror::Error)]
#[error("the state store failed: {reason}")]
pub struct StoreError {
    reason: String,
    damage: bool,
}

impl StoreError {
    /// An error with this reason, which an operator reads.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), damage: false }
    }

    /// An error that reports damaged rows.
    pub fn damaged(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), damage: true }
    }

    /// Whether rows are damaged, rather than the disk failing.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.damage
    }
}

//! Replaces all rows: the new ones are written next to the current ones.

use std::sync::Arc;

use bytes::Bytes;

use super::{Head, Shared, StateError, keys, sealed};
use crate::engine::{Batch, Durability, Row};

/// Rows of a new generation, invisible until committed.
///
/// If it is dropped without a commit, its rows stay invisible. The next commit or the next start removes them.
pub struct Install {
    shared: Arc<Shared>,
    generation: u64,
}

impl Install {
    pub(super) fn new(shared: Arc<Shared>, generation: u64) -> Self {
        Self { shared, generation }
    }

    /// Adds rows; a later row with the same key replaces an earlier one. Returns once the rows are written, so that the sender
    /// of a large snapshot is slowed to the speed of the disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn put(&mut self, rows: Vec<Row>) -> Result<(), StateError> {
        let mut batch = Batch::new();
        let mut prefixed = keys::PrefixedKey::new(self.shared.replica, self.generation);
        for (key, value) in &rows {
            batch.put(prefixed.of(key), value);
        }
        Ok(self.shared.engine.write(batch, Durability::Buffered).await?)
    }

    /// Switches to the new rows with `meta`; durable on return. A crash leaves either all old rows or all new ones.
    ///
    /// # Errors
    /// After [`StateError::Overtaken`] and [`StateError::Abandoned`] nothing was switched. Otherwise the disk failed: stop.
    pub async fn commit(self, meta: Bytes) -> Result<(), StateError> {
        let shared = &self.shared;
        // The rows must be durable before the head names them. This part needs no turn.
        shared.engine.flush().await?;
        let mut turn = shared.turn.lock().await;
        if shared.head.read().generation >= self.generation {
            return Err(StateError::Overtaken);
        }
        let head = Head { generation: self.generation, meta: Some(meta) };
        let mut batch = Batch::new();
        batch.put(&keys::head(shared.replica), &sealed(&head));
        shared.switch(&mut turn, head, || shared.engine.write(batch, Durability::Synced)).await?;
        let mut old = Batch::new();
        let (from, to) = keys::generations_before(shared.replica, self.generation);
        old.delete_range(&from, &to);
        Ok(shared.engine.write(old, Durability::Buffered).await?)
    }
}

//! Small records of a node about itself, such as the cluster of its disk and its identity.
//!
//! They are in the log database, under a replica id that is never assigned.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{FrameError, Kind, open_bytes, seal};
use crate::engine::{Batch, Durability, Engine, EngineError, KeyRange, ScanLimit};

/// A key prefix that sorts after every replica.
const PREFIX: [u8; 8] = u64::MAX.to_be_bytes();

/// A record cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The disk failed: stop the process.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The record is damaged.
    #[error("the record {name:?}: {reason}")]
    Damaged {
        /// The record.
        name: String,
        /// The fault.
        reason: FrameError,
    },
}

/// Small named records of a node, each written durably.
#[derive(Clone)]
pub struct NodeRecords {
    engine: Arc<dyn Engine>,
}

impl NodeRecords {
    /// The records in `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// Whether the database is empty: no record, no vote, no entry, no row. Only such a disk may join a new cluster.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn disk_is_empty(&self) -> Result<bool, RecordError> {
        Ok(self.engine.scan(KeyRange::all(), ScanLimit::rows(1)).await?.is_empty())
    }

    /// Reads all records, whatever their content.
    ///
    /// # Errors
    /// If the disk fails, or is damaged where they are.
    pub async fn look(&self) -> Result<(), RecordError> {
        let records = KeyRange { from: Bytes::from_static(&PREFIX), to: None };
        Ok(self.engine.scan(records, ScanLimit::rows(usize::MAX)).await.map(drop)?)
    }

    /// The last record stored under `name`.
    ///
    /// # Errors
    /// If the disk fails, or the record is damaged.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, RecordError> {
        let Some(frame) = self.engine.get_many(vec![key(name)]).await?.pop().flatten() else { return Ok(None) };
        let damaged = |reason| RecordError::Damaged { name: name.to_owned(), reason };
        open_bytes(Kind::NODE_RECORD, frame).map(Some).map_err(damaged)
    }

    /// Stores `record` under `name`; durable on return.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn put(&self, name: &str, record: &[u8]) -> Result<(), RecordError> {
        let mut batch = Batch::new();
        put_record(&mut batch, name, record);
        self.engine.write(batch, Durability::Synced).await?;
        // Without its records a node cannot interpret its log.
        Ok(self.engine.keep().await?)
    }

    /// Stores `record` under `name`; durable with the next durable write.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn put_soon(&self, name: &str, record: &[u8]) -> Result<(), RecordError> {
        let mut batch = Batch::new();
        put_record(&mut batch, name, record);
        Ok(self.engine.write(batch, Durability::Buffered).await?)
    }

    /// Removes the record under `name`, if there is one; durable on return.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn remove(&self, name: &str) -> Result<(), RecordError> {
        let mut batch = Batch::new();
        batch.delete(&key(name));
        Ok(self.engine.write(batch, Durability::Synced).await?)
    }
}

/// Adds a record to a batch.
pub(crate) fn put_record(batch: &mut Batch, name: &str, record: &[u8]) {
    batch.put(&key(name), &seal(Kind::NODE_RECORD, record));
}

fn key(name: &str) -> Bytes {
    [&PREFIX, name.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemEngine;

    #[tokio::test]
    async fn records_are_durable_at_once() {
        let disk = MemEngine::new();
        let records = || NodeRecords::new(Arc::new(disk.clone()));
        assert_eq!(records().disk_is_empty().await, Ok(true));
        assert_eq!(records().get("cluster").await, Ok(None));
        records().put("cluster", b"eu-1").await.expect("the disk works");
        disk.crash();
        assert_eq!(records().get("cluster").await, Ok(Some(Bytes::from_static(b"eu-1"))));
        assert_eq!(records().disk_is_empty().await, Ok(false));
        records().remove("cluster").await.expect("the disk works");
        disk.crash();
        assert_eq!(records().get("cluster").await, Ok(None));
    }
}

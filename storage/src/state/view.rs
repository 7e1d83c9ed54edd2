//! All rows of a replica at one checkpoint, while later ones are written.

use std::sync::Arc;

use bytes::Bytes;

use super::{StateError, keys};
use crate::engine::{EngineView, Row, ScanLimit};

/// All rows and the meta of one checkpoint or install. A view holds disk space, so drop it soon.
#[derive(Clone)]
pub struct StateView {
    view: Arc<dyn EngineView>,
    replica: u64,
    generation: u64,
    meta: Bytes,
}

impl StateView {
    pub(super) fn new(view: Arc<dyn EngineView>, replica: u64, generation: u64, meta: Bytes) -> Self {
        Self { view, replica, generation, meta }
    }

    /// The meta of that checkpoint.
    #[must_use]
    pub fn meta(&self) -> Bytes {
        self.meta.clone()
    }

    /// Rows in key order after `after`, until about `max_bytes` are collected. An empty result means the end.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn next_chunk(&self, after: Option<Bytes>, max_bytes: usize) -> Result<Vec<Row>, StateError> {
        let range = keys::rows(self.replica, self.generation, b"", after.as_deref());
        let rows = self.view.scan(range, ScanLimit::bytes(max_bytes)).await?;
        Ok(keys::bare(rows))
    }
}

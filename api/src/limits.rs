//! Everything that HTTP bounds, with its default. Past a limit the answer is a clear refusal.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::{Fault, kinds};

/// Bounds of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of every body but a batch; default 1 MiB.
    pub body_bytes: usize,
    /// Bytes of a batch; default 32 MiB.
    pub batch_bytes: usize,
    /// Orders of a batch; default 1,000.
    pub batch_orders: usize,
    /// Lines of an order; default 1,000.
    pub order_lines: usize,
    /// Bytes that large bodies may take in memory together; default 256 MiB.
    pub buffered_bytes: usize,
    /// How long a body may take to arrive; default 30 s.
    pub body_patience: Duration,
    /// How long the grid may take for an answer, after which it is unknown; default 30 s.
    pub grid_patience: Duration,
    /// The same for proving the laws; default 30 min.
    pub verify_patience: Duration,
    /// Orders that may be skipped by page numbers; default 10,000.
    pub page_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            batch_bytes: 32 << 20,
            batch_orders: 1_000,
            order_lines: 1_000,
            buffered_bytes: 256 << 20,
            body_patience: Duration::from_secs(30),
            grid_patience: Duration::from_secs(30),
            verify_patience: Duration::from_secs(30 * 60),
            page_depth: 10_000,
        }
    }
}

/// Bodies up to this size are not counted.
const SMALL: u64 = 64 << 10;
/// The unit that memory is counted in.
const UNIT: usize = 1 << 10;

/// Memory for large bodies, shared by all connections.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Takes room for a body before it is read: as much as it says it is, or as it may be.
    pub(crate) fn take(&self, body: &Body, limit: usize) -> Result<Option<OwnedSemaphorePermit>, Fault> {
        let size = body.size_hint().upper().unwrap_or(limit as u64).min(limit as u64);
        if size <= SMALL {
            return Ok(None);
        }
        let units = u32::try_from(size / UNIT as u64).unwrap_or(u32::MAX);
        let full = |_| Fault::new(&kinds::OVERLOADED, "too many large bodies are under way");
        Arc::clone(&self.0).try_acquire_many_owned(units).map(Some).map_err(full)
    }
}

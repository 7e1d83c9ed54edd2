//! Frozen views. Each lives on a thread of its own, because a RocksDB snapshot borrows the database it is of.
//!
//! Views are rare and short: a replica takes one to send its state to another.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use rocksdb::{DB, SnapshotWithThreadMode};
use tokio::sync::oneshot;

use super::read::{get_many, scan};
use super::threads::Workers;
use super::threads_missing;
use crate::engine::{EngineError, EngineView, KeyRange, Row, ScanLimit};

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;
type ViewJob = Box<dyn FnOnce(&DB, &Snapshot<'_>) + Send>;

/// A snapshot of a database. Dropping it releases the snapshot.
pub(super) struct RocksView {
    thread: Workers<ViewJob>,
}

impl RocksView {
    /// Takes a snapshot; it has been taken once this returns.
    pub(super) async fn take(db: Arc<DB>) -> Result<Self, EngineError> {
        let thread = Workers::<ViewJob>::start("view", 1, move |jobs| {
            let snapshot = db.snapshot();
            while let Some(job) = jobs.next() {
                job(&db, &snapshot);
            }
        });
        let view = Self { thread: thread.map_err(threads_missing)? };
        view.read(|_, _| Ok(())).await?;
        Ok(view)
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DB, &Snapshot<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, EngineError>> {
        let (done, answer) = oneshot::channel();
        self.thread.submit(Box::new(move |db: &DB, snapshot: &Snapshot<'_>| {
            // Nobody waits any more: nothing is lost.
            let _ = done.send(read(db, snapshot));
        }));
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }
}

impl EngineView for RocksView {
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        self.read(move |db, snapshot| get_many(db, snapshot.multi_get(&keys)))
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.read(move |db, snapshot| scan(db, &range, limit, |options| snapshot.raw_iterator_opt(options)))
    }
}

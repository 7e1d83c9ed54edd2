//! What a process sees of its disk: an engine for each database, and views.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use ordergrid_storage::{Batch, Durability, Engine, EngineError, EngineStats, EngineView, KeyRange, Row, ScanLimit};

use super::platter::{Platter, Reader, Source};
use super::{Database, SimDisk};
use crate::history::SimTime;
use crate::trace;

/// One opening of one database.
pub(super) struct SimEngine {
    disk: SimDisk,
    database: Database,
    life: u64,
}

impl SimEngine {
    pub(super) fn new(disk: SimDisk, database: Database, life: u64) -> Self {
        Self { disk, database, life }
    }

    fn with<T>(&self, then: impl FnOnce(&mut Platter) -> Result<T, EngineError>) -> Result<T, EngineError> {
        self.disk.with(self.database, self.life, then)
    }

    /// Waits until a sync has ended. Its end does not depend on this: who does not wait changes nothing on the disk.
    ///
    /// The disk's time is the simulation's, while waiting goes by the clock of the node, which may run fast: hence again
    /// and again. A stall may have moved the end, too.
    async fn synced(&self, sync: u64) -> Result<(), EngineError> {
        while let Some(ends) = self.with(|platter| Ok(platter.sync_ends(sync)))? {
            let left = ends.0.saturating_sub(trace::now().0);
            tokio::time::sleep(Duration::from_micros(left)).await;
        }
        Ok(())
    }

    /// What was read is of now, and is handed out later: meanwhile others may write.
    async fn handed_out<T>(&self, read: T, at: SimTime) -> Result<T, EngineError> {
        while let Some(left) = at.0.checked_sub(trace::now().0).filter(|left| *left > 0) {
            tokio::time::sleep(Duration::from_micros(left)).await;
            self.with(|_| Ok(()))?;
        }
        Ok(read)
    }

    fn write_then_wait(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        match self.with(|platter| platter.write(batch, durability)) {
            Ok(Some(sync)) => self.synced(sync).boxed(),
            Ok(None) => ready(Ok(())).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl Engine for SimEngine {
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        self.write_then_wait(batch, durability)
    }

    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        let written = self.write_then_wait(batch, Durability::Synced);
        async move {
            written.await?;
            self.with(|platter| platter.vouch(vouch))
        }
        .boxed()
    }

    fn vouched(&self) -> Option<Bytes> {
        self.with(|platter| Ok(platter.vouched())).ok().flatten()
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let written = self.write_then_wait(Batch::new(), Durability::Synced);
        async move {
            written.await?;
            self.with(Platter::keep)
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.write_then_wait(Batch::new(), Durability::Synced)
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        match self.with(|platter| Ok((platter.get_many(Source::Now, keys)?, platter.read_ends()))) {
            Ok((values, Some(ends))) => self.handed_out(values, ends).boxed(),
            Ok((values, None)) => ready(Ok(values)).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.with(|platter| Ok(platter.may_have(key))).unwrap_or(true)
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        ready(self.with(|platter| platter.rows(Source::Now, |reader| scan(reader, range, limit)))).boxed()
    }

    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        ready(self.with(|platter| platter.rows(Source::Now, |reader| scan_back(reader, range, limit)))).boxed()
    }

    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>> {
        let view = self.with(Platter::take_view).map(|number| {
            let view: Arc<dyn EngineView> =
                Arc::new(SimView { disk: self.disk.clone(), database: self.database, life: self.life, number });
            view
        });
        ready(view).boxed()
    }

    /// Nothing once the opening has ended.
    fn stats(&self) -> EngineStats {
        self.with(|platter| Ok(platter.stats())).unwrap_or_default()
    }
}

fn scan(reader: Reader<'_>, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
    match reader {
        Reader::Engine(engine) => engine.scan(range, limit),
        Reader::View(view) => view.scan(range, limit),
    }
}

fn scan_back(reader: Reader<'_>, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
    match reader {
        Reader::Engine(engine) => engine.scan_back(range, limit),
        Reader::View(_) => unreachable!("views are scanned forwards only"),
    }
}

/// A view of one opening; it ends with it.
struct SimView {
    disk: SimDisk,
    database: Database,
    life: u64,
    number: u64,
}

impl SimView {
    fn with<T>(&self, then: impl FnOnce(&mut Platter, Source) -> Result<T, EngineError>) -> Result<T, EngineError> {
        self.disk.with(self.database, self.life, |platter| then(platter, Source::View(self.number)))
    }
}

impl EngineView for SimView {
    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        ready(self.with(|platter, source| platter.get_many(source, keys))).boxed()
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        ready(self.with(|platter, source| platter.rows(source, |reader| scan(reader, range, limit)))).boxed()
    }
}

impl Drop for SimView {
    fn drop(&mut self) {
        // An opening that has ended has dropped its views already.
        let dropped = self.with(|platter, _| {
            platter.drop_view(self.number);
            Ok(())
        });
        dropped.ok();
    }
}

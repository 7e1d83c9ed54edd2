//! The disks that tests run on, each of which can be lost power to, or at least be closed and opened again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use ordergrid_storage::{
    Batch, Durability, Engine, EngineError, EngineStats, EngineView, KeyRange, MemEngine, RocksEngine, Row, ScanLimit,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Something that keeps bytes, and can be opened, by one at a time.
pub(crate) trait Disk: Send + Sync {
    fn open(&self) -> Arc<dyn Engine>;

    /// Ends whatever is open, losing as much as this disk can be made to lose.
    fn stop(&self);
}

impl Disk for MemEngine {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new(self.clone())
    }

    fn stop(&self) {
        self.crash();
    }
}

/// A RocksDB database in a folder of its own, which goes away with it.
pub(crate) struct RocksDisk {
    folder: TempDir,
    open: fn(&Path) -> Result<RocksEngine, EngineError>,
}

impl RocksDisk {
    pub(crate) fn log() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), open: RocksEngine::open_log }
    }

    pub(crate) fn state() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), open: RocksEngine::open_state }
    }

    /// The disk as a crash of the process would leave it now: a copy of the files of the open database.
    pub(crate) fn crashed(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("a temporary folder"), open: self.open };
        for file in std::fs::read_dir(self.folder.path()).expect("the folder") {
            let file = file.expect("a file of the database");
            std::fs::copy(file.path(), copy.folder.path().join(file.file_name())).expect("a copy of the file");
        }
        copy
    }
}

impl Disk for RocksDisk {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new((self.open)(self.folder.path()).expect("nobody else has it open"))
    }

    /// Its last handle has closed it already.
    fn stop(&self) {}
}

/// An engine whose writes wait until they are let through, so that a test decides what gathers meanwhile.
pub(crate) struct Gated {
    engine: Arc<dyn Engine>,
    gate: Arc<Semaphore>,
}

impl Gated {
    /// Above `engine`, closed; the semaphore lets one write through per permit.
    pub(crate) fn above(engine: Arc<dyn Engine>) -> (Arc<Self>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        (Arc::new(Self { engine, gate: gate.clone() }), gate)
    }
}

impl Engine for Gated {
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            self.gate.acquire().await.expect("never closed").forget();
            self.engine.write(batch, durability).await
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.flush()
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        self.engine.get_many(keys)
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.engine.scan(range, limit)
    }

    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.engine.scan_back(range, limit)
    }

    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>> {
        self.engine.view()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

//! The disks that tests run on, each of which can be lost power to, or at least be closed and opened again.

use std::path::{Path, PathBuf};
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

    /// In a folder of `parent`, which cleans up after databases that outlive their disks.
    pub(crate) fn log_in(parent: &Path) -> Self {
        Self { folder: tempfile::tempdir_in(parent).expect("a temporary folder"), open: RocksEngine::open_log }
    }

    pub(crate) fn state() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), open: RocksEngine::open_state }
    }

    /// Its write-ahead logs, and what is in them.
    pub(crate) fn logs(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = std::fs::read_dir(self.folder.path()).expect("the folder");
        let paths = files.map(|file| file.expect("a file of the database").path());
        let logs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| (path.clone(), std::fs::read(path).expect("a log"))).collect()
    }

    /// Takes away what the log vouched for, as a loss of power may do.
    pub(crate) fn forget_vouch(&self) {
        std::fs::remove_file(self.folder.path().join("VOUCHED")).expect("the log vouched for something");
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The disk as a crash of the process would leave it now: a copy of the files of the open database.
    pub(crate) fn crashed(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("a temporary folder"), open: self.open };
        copy_files(self.folder.path(), copy.folder.path());
        copy
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("the folder") {
        let file = file.expect("a file of the database");
        let to = to.join(file.file_name());
        if file.file_type().expect("a file of the database").is_dir() {
            std::fs::create_dir(&to).expect("a folder of the copy");
            copy_files(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).expect("a copy of the file");
        }
    }
}

impl Disk for RocksDisk {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new((self.open)(self.folder.path()).expect("nobody else has it open"))
    }

    /// Its last handle has closed it already.
    fn stop(&self) {}
}

/// Runs `test` on a runtime of its own. Once this returns, its tasks have ended and with them whatever was open, so
/// that disks made outside can be removed.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(test)
}

/// An engine whose writes, or scans, wait until they are let through, so that a test decides what happens meanwhile.
pub(crate) struct Gated {
    engine: Arc<dyn Engine>,
    writes: Gate,
    scans: Gate,
}

/// Lets one through per permit; everything if there is no semaphore.
type Gate = Option<Arc<Semaphore>>;

impl Gated {
    /// Above `engine`, closed to writes.
    pub(crate) fn above(engine: Arc<dyn Engine>) -> (Arc<Self>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        (Arc::new(Self { engine, writes: Some(gate.clone()), scans: None }), gate)
    }

    /// Above `engine`, with as many scans let through as its gate has permits, which are `open` at first.
    pub(crate) fn scans_above(engine: Arc<dyn Engine>, open: usize) -> (Arc<Self>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(open));
        (Arc::new(Self { engine, writes: None, scans: Some(gate.clone()) }), gate)
    }

    /// Above `engine`, where a write takes a while, in which others get on.
    pub(crate) fn slow_above(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { engine, writes: None, scans: None })
    }
}

/// Turns that a write takes where there is no gate; a scan takes one.
const WRITE_TURNS: usize = 4;

async fn pass(gate: &Gate, turns: usize) {
    if let Some(gate) = gate {
        gate.acquire().await.expect("never closed").forget();
        return;
    }
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

impl Engine for Gated {
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            pass(&self.writes, WRITE_TURNS).await;
            self.engine.write(batch, durability).await
        }
        .boxed()
    }

    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            pass(&self.writes, WRITE_TURNS).await;
            self.engine.write_vouched(batch, vouch).await
        }
        .boxed()
    }

    fn vouched(&self) -> Option<Bytes> {
        self.engine.vouched()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.flush()
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        self.engine.get_many(keys)
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.engine.may_have(key)
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        async move {
            pass(&self.scans, 1).await;
            self.engine.scan(range, limit).await
        }
        .boxed()
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

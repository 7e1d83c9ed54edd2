//! The production disk: RocksDB. Its blocking calls run on this engine's threads and nowhere else.
//!
//! There are two flavours, because a database that recycles its write-ahead log refuses writes without one. The *log* syncs its
//! write-ahead log, recycles full files (overwriting a file costs an eighth of the CPU of growing one) and defers the writing
//! to the sync. The *state* has no write-ahead log: a batch is durable once its memtable is on disk, and a memtable has whole
//! batches in the order of writing. A checkpoint may also be written as a file of its own (`ingest`).

mod direct;
mod ingest;
mod marker;
mod priority;
mod read;
mod threads;
mod view;
mod vouch;
mod wal;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    UniversalCompactOptions,
};

use super::{Batch, Durability, Engine, EngineError, EngineStats, EngineView, KeyRange, Row, ScanLimit, ShowRows};
use ingest::Ingest;
use marker::Marker;
use read::{get_many, scan, scan_back};
use threads::{Jobs, Workers};
use view::RocksView;
use vouch::VouchFile;
use write::{Beside, WriteJob};

use crate::log::vouch::{Vouch, WRITTEN_KEY, Written};

const MEBI: usize = 1 << 20;
/// Reader threads: for rows that have left memory, and for entries of lagging replicas.
const READERS: usize = 2;

/// A RocksDB database. Clones share it. It is closed, and its threads have ended, when the last clone and the last view are
/// dropped.
#[derive(Clone)]
pub struct RocksEngine {
    inner: Arc<Inner>,
}

/// The threads are declared before the database: fields are dropped in order, and each thread also holds the database.
struct Inner {
    writer: Workers<WriteJob>,
    readers: Workers<ReadJob>,
    counters: Arc<Counters>,
    /// Only for the log.
    vouch: Option<Arc<Mutex<VouchFile>>>,
    flavour: Flavour,
    marker: Arc<Marker>,
    path: PathBuf,
    db: Arc<DB>,
}

/// Limits on a database's memory and descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksBounds {
    /// Size of a write buffer in bytes; a full buffer becomes a file.
    pub write_buffer: usize,
    /// Most write buffers, including those being flushed. Writes wait at this limit.
    pub write_buffers: u8,
    /// Size of the block cache in bytes.
    pub blocks: usize,
    /// Most open files other than those being written; others are reopened for each read. `None` means no limit.
    pub files: Option<u32>,
}

impl Default for RocksBounds {
    fn default() -> Self {
        Self { write_buffer: 64 * MEBI, write_buffers: 4, blocks: 32 * MEBI, files: None }
    }
}

type ReadJob = Box<dyn FnOnce(&DB) + Send>;

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    written_bytes: AtomicU64,
}

/// How a database makes writes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Log,
    State,
}

impl RocksEngine {
    /// Opens the log database in the folder `path`, which is created if it does not exist. Blocking.
    ///
    /// # Errors
    /// If another process has it open, or it is damaged. A database in which damage was found counts as damaged until
    /// [`try_again`](Self::try_again) is called.
    pub fn open_log(path: &Path) -> Result<Self, EngineError> {
        Self::open_log_within(path, RocksBounds { blocks: 8 * MEBI, ..RocksBounds::default() })
    }

    /// Like [`open_log`](Self::open_log), with other limits. Blocking.
    ///
    /// # Errors
    /// As [`open_log`](Self::open_log).
    pub fn open_log_within(path: &Path, bounds: RocksBounds) -> Result<Self, EngineError> {
        Self::open(path, Flavour::Log, bounds)
    }

    /// Opens the state database in the folder `path`, which is created if it does not exist. Blocking.
    ///
    /// # Errors
    /// See [`open_log`](Self::open_log). If a write has found damage, the database is damaged for good.
    pub fn open_state(path: &Path) -> Result<Self, EngineError> {
        Self::open_state_within(path, RocksBounds::default())
    }

    /// Like [`open_state`](Self::open_state), with other limits. Blocking.
    ///
    /// # Errors
    /// As [`open_log`](Self::open_log).
    pub fn open_state_within(path: &Path, bounds: RocksBounds) -> Result<Self, EngineError> {
        Self::open(path, Flavour::State, bounds)
    }

    /// Allows the database in the folder `path` to be opened again after damage was found.
    pub fn try_again(path: &Path) {
        Marker::of(path).clear();
    }

    /// The vouch next to the log database in the folder `path`, which must not be open, and may be damaged; `None` if there is
    /// no readable one. Blocking.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn vouched_in(path: &Path) -> Result<Option<Bytes>, EngineError> {
        VouchFile::read(path)
    }

    /// Makes the folder `to`, which must not exist, a copy of the database with everything written so far. Files that do not
    /// change are shared. For tests and tools: blocks, and flushes.
    ///
    /// # Errors
    /// If the disk fails, or `to` exists.
    pub fn copy_to(&self, to: &Path) -> Result<(), EngineError> {
        Checkpoint::new(&self.inner.db).and_then(|copy| copy.create_checkpoint(to)).map_err(failure)
    }

    fn open(path: &Path, flavour: Flavour, bounds: RocksBounds) -> Result<Self, EngineError> {
        let mut options = match flavour {
            Flavour::Log => log_options(bounds),
            Flavour::State => state_options(bounds, path),
        };
        // Without a limit every file stays open.
        options.set_max_open_files(bounds.files.map_or(-1, |files| i32::try_from(files).unwrap_or(i32::MAX)));
        let marker = Arc::new(Marker::of(path));
        if let Some(damage) = marker.found().or_else(|| read::without_list(path)) {
            return Err(EngineError::Damaged(damage));
        }
        priority::start_mergers();
        let behind = if flavour == Flavour::Log { wal::behind_damage(path)? } else { Vec::new() };
        let db = Arc::new(DB::open(&options, path).map_err(|error| read::unopened(path, error))?);
        let counters = Arc::<Counters>::default();
        let name = match flavour {
            Flavour::Log => "log",
            Flavour::State => "state",
        };
        let (beside, vouch) = match flavour {
            Flavour::Log => {
                let mut vouch = VouchFile::open(path)?;
                learn(&db, &mut vouch, behind)?;
                let vouch = Arc::new(Mutex::new(vouch));
                (Beside::Vouch(vouch.clone()), Some(vouch))
            }
            Flavour::State => (Beside::Ingest(Ingest::open(path, checkpoint_options())?), None),
        };
        let writer = {
            let (db, counters, marker) = (db.clone(), counters.clone(), marker.clone());
            Workers::start(&format!("{name}-writer"), 1, move |jobs| {
                if flavour == Flavour::State {
                    priority::give_way();
                }
                write::run(&db, flavour, &counters, &beside, &marker, jobs);
            })
        };
        let readers = {
            let db = db.clone();
            Workers::start(&format!("{name}-reader"), READERS, move |jobs: &Jobs<ReadJob>| {
                while let Some(job) = jobs.next() {
                    job(&db);
                }
            })
        };
        let inner = Inner {
            writer: writer.map_err(threads_missing)?,
            readers: readers.map_err(threads_missing)?,
            counters,
            vouch,
            flavour,
            marker,
            path: path.to_owned(),
            db,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `read` on a reader thread.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DB) -> Result<T, EngineError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, EngineError>> {
        let (done, answer) = tokio::sync::oneshot::channel();
        // Damaged rows of a state are repaired one replica at a time. A damaged log is lost as a whole, so it is marked.
        let marker = (self.inner.flavour == Flavour::Log).then(|| self.inner.marker.clone());
        self.inner.readers.submit(Box::new(move |db: &DB| {
            let found = read(db);
            if let (Err(EngineError::Damaged(damage)), Some(marker)) = (&found, marker) {
                marker.set(damage);
            }
            // The receiver is gone if the caller has left.
            let _ = done.send(found);
        }));
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch, durability: Durability) -> BoxFuture<'_, Result<(), EngineError>> {
        let (job, answer) = WriteJob::write(batch, durability);
        self.inner.writer.submit(job);
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }

    fn write_rows(&self, show: ShowRows) -> BoxFuture<'_, Result<(), EngineError>> {
        let (job, answer) = WriteJob::rows(show);
        self.inner.writer.submit(job);
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }

    fn write_vouched(&self, batch: Batch, vouch: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        let (job, answer) = WriteJob::vouched(batch, vouch);
        self.inner.writer.submit(job);
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }

    fn vouched(&self) -> Option<Bytes> {
        self.inner.vouch.as_ref()?.lock().newest()
    }

    fn damaged(&self) -> Option<String> {
        self.inner.marker.met()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let (job, answer) = WriteJob::flush();
        self.inner.writer.submit(job);
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let (job, answer) = WriteJob::keep();
        self.inner.writer.submit(job);
        async { answer.await.unwrap_or(Err(EngineError::Closed)) }.boxed()
    }

    fn erase(&self, from: &[u8], to: &[u8]) -> BoxFuture<'_, Result<(), EngineError>> {
        let (from, to) = (from.to_vec(), to.to_vec());
        let mut batch = Batch::new();
        batch.delete_range(&from, &to);
        async move {
            self.write(batch, Durability::Synced).await?;
            self.read(move |db| {
                // Files with nothing else are skipped; the rest is compacted.
                db.delete_file_in_range(&from, &to).map_err(failure)?;
                db.compact_range(Some(&from), Some(&to));
                Ok(())
            })
            .await?;
            // A compaction does not itself report damage.
            self.flush().await
        }
        .boxed()
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EngineError>> {
        self.read(move |db| get_many(db, db.multi_get(&keys)))
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.inner.db.key_may_exist(key)
    }

    fn scan(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.read(move |db| scan(db, &range, limit, |options| db.raw_iterator_opt(options)))
    }

    fn scan_back(&self, range: KeyRange, limit: ScanLimit) -> BoxFuture<'_, Result<Vec<Row>, EngineError>> {
        self.read(move |db| scan_back(db, &range, limit, |options| db.raw_iterator_opt(options)))
    }

    fn view(&self) -> BoxFuture<'_, Result<Arc<dyn EngineView>, EngineError>> {
        let db = self.inner.db.clone();
        async {
            let view: Arc<dyn EngineView> = Arc::new(RocksView::take(db).await?);
            Ok(view)
        }
        .boxed()
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: folder_bytes(&self.inner.path),
            syncs: self.inner.counters.syncs.load(Ordering::Relaxed),
            written_bytes: self.inner.counters.written_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Batches behind damage may show that other batches were durable that are missing now. These are then vouched for.
fn learn(db: &DB, file: &mut VouchFile, behind: Vec<Written>) -> Result<(), EngineError> {
    let row = db.get(WRITTEN_KEY).map_err(failure)?.map(|frame| Written::open(frame.into())).transpose();
    let found = row.map_err(|reason| EngineError::Damaged(format!("the number of the last batch: {reason}")))?;
    let found = found.map_or(0, |row| row.number);
    if found > 0 && file.is_new() {
        // A log with batch numbers was written by a release that vouches.
        tracing::warn!(
            batches = found,
            effect = "if damage has cut off the end of the log, this start does not notice it, and acknowledged orders may be missing on \
                      this node; the file is written anew and protects from now on",
            "file VOUCHED is missing"
        );
    }
    let mut vouch = file.newest().and_then(Vouch::decode).unwrap_or_default();
    let known = vouch.number;
    behind.iter().filter(|row| row.durable > found).for_each(|row| vouch.learn(row));
    if vouch.number == known {
        return Ok(());
    }
    file.write(vouch.encode())?;
    // Nothing is left of the damaged log now.
    file.sync()
}

fn common_options(bounds: RocksBounds) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(bounds.write_buffer);
    options.set_max_write_buffer_number(bounds.write_buffers.into());
    options.set_max_background_jobs(2);
    // Background files are written out bit by bit: one large write-back would delay the next sync.
    options.set_bytes_per_sync(MEBI as u64);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 * MEBI);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn log_options(bounds: RocksBounds) -> Options {
    let mut options = common_options(bounds);
    options.set_compression_type(DBCompressionType::None);
    options.set_recycle_log_file_num(4);
    // Recycling requires a recovery that stops at the first inconsistent record: the default, stated explicitly.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_manual_wal_flush(true);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(bounds.blocks));
    options.set_block_based_table_factory(&blocks);
    options
}

/// The last level of the state database has its oldest and largest run; all other runs will be compacted again.
const LEVELS: [DBCompressionType; 7] = {
    let mut levels = [DBCompressionType::None; 7];
    levels[6] = DBCompressionType::Lz4;
    levels
};

fn state_options(bounds: RocksBounds, path: &Path) -> Options {
    let mut options = common_options(bounds);
    direct::merge(&mut options, path, bounds);
    options.set_compression_type(DBCompressionType::Lz4);
    // Each replica's checkpoint is a file of its own and is soon compacted, so compressing it first would be wasted work. Files
    // of similar size are compacted together: every checkpoint touches whole tables, so compacting it into a level would
    // rewrite that level every time.
    options.set_compression_per_level(&LEVELS);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_level_zero_file_num_compaction_trigger(8);
    let mut runs = UniversalCompactOptions::default();
    runs.set_size_ratio(20);
    runs.set_min_merge_width(4);
    options.set_universal_compaction_options(&runs);
    let mut blocks = state_blocks();
    blocks.set_block_cache(&Cache::new_lru_cache(bounds.blocks));
    options.set_block_based_table_factory(&blocks);
    options
}

/// The options of a checkpoint's file: not compressed, like everything that is soon compacted.
fn checkpoint_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&state_blocks());
    options
}

/// Filters and indexes grow with what is stored, 14 bits a row and more while files are merged. They are kept in parts, in the
/// cache beside the rows' blocks, so that the cache bounds them: parts that nobody asks for leave it first.
fn state_blocks() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    // A new key is looked up in every file. One false positive in a thousand: a read costs more than the memory.
    blocks.set_bloom_filter(14.0, false);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks
}

fn failure(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => EngineError::Damaged(error.into_string()),
        rocksdb::ErrorKind::IOError => in_words(error.into_string()),
        _ => EngineError::Disk(error.into_string()),
    }
}

/// RocksDB has one error kind for all operating system errors. The lock is taken first, before any other file is opened.
fn in_words(text: String) -> EngineError {
    let locked_elsewhere = text.starts_with("IO error: While lock file:") && text.contains("Resource temporarily unavailable");
    if text.contains("No space left on device") {
        EngineError::Full(text)
    } else if text.starts_with("IO error: lock hold by") || locked_elsewhere {
        EngineError::InUse(text)
    } else {
        EngineError::Disk(text)
    }
}

fn threads_missing(error: std::io::Error) -> EngineError {
    EngineError::Disk(format!("cannot start a thread: {error}"))
}

/// RocksDB keeps all its files in one flat folder. A file that vanishes meanwhile counts 0.
fn folder_bytes(path: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(path) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

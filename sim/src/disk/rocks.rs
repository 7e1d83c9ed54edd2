//! The same disk on real RocksDB databases, whose files are cut as a power loss would cut them.
//!
//! The *log* has a write-ahead log, which the writer of the engine writes out and syncs only when asked to. Here every
//! batch is written out, and the length of the file after it noted: a power loss closes the database and cuts the file
//! behind the last batch that survives, or inside the next one's record. The *state* has no write-ahead log: what was not
//! flushed is gone. Here a copy is taken at every flush (files that do not change are shared), and a power loss puts back
//! the newest copy that may have survived, so it keeps only what a flush that was asked for has reached.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ordergrid_storage::{Batch, Durability, Engine, EngineError, RocksEngine};

use super::medium::{Medium, answer_of, index};

/// Memory that looks like a disk, if the machine has it.
const SHARED_MEMORY: &str = "/dev/shm";

/// A folder of this process alone, which is removed with its last user.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Named without chance, of which a simulated process has only the simulated kind.
    pub(super) fn make() -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new(SHARED_MEMORY);
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("ordergrid-sim-{}-{number}", std::process::id()));
        if path.exists() {
            // Of a process that had the same number and did not end in peace.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The log database.
pub(super) struct RocksLog {
    engine: Option<RocksEngine>,
    path: PathBuf,
    written: u64,
    /// Batches that were there when it was opened. They are in files that are not cut.
    found: u64,
    /// The write-ahead log of this opening.
    wal: PathBuf,
    /// Its length when it was opened, and after each batch since.
    lengths: Vec<u64>,
    /// RocksDB has begun another write-ahead log, and may have moved the batches of this one to other files: nothing
    /// that this opening has written can be taken away any more.
    moved_on: bool,
    /// Last: removed after the database is closed.
    _folder: Arc<Folder>,
}

impl RocksLog {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        let path = folder.0.join("log");
        Self {
            engine: None,
            path,
            written: 0,
            found: 0,
            wal: PathBuf::new(),
            lengths: Vec::new(),
            moved_on: false,
            _folder: folder,
        }
    }
}

impl RocksLog {
    /// What was written so far is in files that are neither cut nor damaged.
    fn begin_wal(&mut self) -> Result<(), EngineError> {
        self.wal = newest_wal(&self.path).map_err(unreadable)?;
        self.lengths = vec![length(&self.wal).map_err(unreadable)?];
        (self.found, self.moved_on) = (self.written, false);
        Ok(())
    }
}

impl Medium for RocksLog {
    fn open(&mut self) -> Result<(), EngineError> {
        self.engine = Some(RocksEngine::open_log(&self.path)?);
        self.begin_wal()
    }

    fn close(&mut self) {
        self.engine = None;
    }

    fn engine(&self) -> Option<&dyn Engine> {
        self.engine.as_ref().map(|engine| -> &dyn Engine { engine })
    }

    /// Always synced as far as RocksDB is concerned, so that the file is as long as it says.
    fn write(&mut self, batch: Batch, _durability: Durability) -> Result<(), EngineError> {
        let engine = self.engine.as_ref().ok_or(EngineError::Closed)?;
        let counts = !batch.is_empty();
        answer_of(engine.write(batch, Durability::Synced))?;
        if counts {
            self.moved_on |= newest_wal(&self.path).map_err(unreadable)? != self.wal;
            self.lengths.push(length(&self.wal).unwrap_or(u64::MAX));
            self.written += 1;
        }
        Ok(())
    }

    fn settle(&mut self, _count: u64) {}

    fn lose(&mut self, kept: u64, torn: u64) -> u64 {
        if self.moved_on || kept >= self.written || kept < self.found {
            return self.written;
        }
        let at = index(kept - self.found);
        let (end, next) = (self.lengths[at], self.lengths[at + 1]);
        assert!(end < next, "a batch added nothing to the write-ahead log: {end} to {next}");
        cut(&self.wal, end + torn % (next - end)).expect("a file of ours that nobody has open can be cut");
        self.lengths.truncate(at + 1);
        self.written = kept;
        kept
    }

    /// One bit in the middle of the record of the batch after those that are kept.
    fn rot(&mut self, kept: u64) -> u64 {
        if self.moved_on || kept >= self.written || kept < self.found {
            return self.written;
        }
        let at = index(kept - self.found);
        flip(&self.wal, u64::midpoint(self.lengths[at], self.lengths[at + 1])).expect("a file of ours that nobody has open");
        self.lengths.truncate(at + 1);
        self.written = kept;
        kept
    }

    fn safe_from_rot(&self) -> u64 {
        if self.moved_on { self.written } else { self.found }
    }

    fn keep(&mut self) -> Result<(), EngineError> {
        answer_of(self.engine.as_ref().ok_or(EngineError::Closed)?.keep())?;
        self.begin_wal()
    }

    fn vouch(&mut self, vouch: Bytes) -> Result<(), EngineError> {
        answer_of(self.engine.as_ref().ok_or(EngineError::Closed)?.write_vouched(Batch::new(), vouch))
    }

    fn vouched(&self) -> Option<Bytes> {
        self.engine.as_ref()?.vouched()
    }

    /// The file has only its newest ones.
    fn keep_older_vouch(&mut self, _vouch: Bytes) {}

    fn wipe(&mut self) {
        self.close();
        remove(&self.path);
        (self.written, self.found) = (0, 0);
        self.lengths.clear();
    }
}

/// The state database.
pub(super) struct RocksState {
    engine: Option<RocksEngine>,
    path: PathBuf,
    copies_path: PathBuf,
    written: u64,
    /// How many batches a copy has, and where it is; in the order in which they were taken.
    copies: Vec<(u64, PathBuf)>,
    copies_taken: u64,
    _folder: Arc<Folder>,
}

impl RocksState {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        let (path, copies_path) = (folder.0.join("state"), folder.0.join("copies"));
        Self { engine: None, path, copies_path, written: 0, copies: Vec::new(), copies_taken: 0, _folder: folder }
    }

    /// Takes a copy of what there is now.
    fn copy(&mut self) -> Result<(), EngineError> {
        let engine = self.engine.as_ref().ok_or(EngineError::Closed)?;
        fs::create_dir_all(&self.copies_path).map_err(unreadable)?;
        let copy = self.copies_path.join(self.copies_taken.to_string());
        self.copies_taken += 1;
        engine.copy_to(&copy)?;
        self.copies.push((self.written, copy));
        Ok(())
    }

    /// Removes the copies before number `first`.
    fn forget_before(&mut self, first: usize) {
        for (_, copy) in self.copies.drain(..first) {
            remove(&copy);
        }
    }
}

impl Medium for RocksState {
    fn open(&mut self) -> Result<(), EngineError> {
        self.engine = Some(RocksEngine::open_state(&self.path)?);
        self.forget_before(self.copies.len());
        self.copy()
    }

    /// RocksDB flushes when it is closed: everything written stays.
    fn close(&mut self) {
        self.engine = None;
    }

    fn engine(&self) -> Option<&dyn Engine> {
        self.engine.as_ref().map(|engine| -> &dyn Engine { engine })
    }

    fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let engine = self.engine.as_ref().ok_or(EngineError::Closed)?;
        let counts = u64::from(!batch.is_empty());
        answer_of(engine.write(batch, durability))?;
        self.written += counts;
        if durability == Durability::Synced { self.copy() } else { Ok(()) }
    }

    fn settle(&mut self, count: u64) {
        let newest = self.copies.iter().rposition(|(batches, _)| *batches <= count);
        self.forget_before(newest.unwrap_or(0));
    }

    fn lose(&mut self, kept: u64, _torn: u64) -> u64 {
        // There is none after an earlier loss, and before the first opening.
        let Some(newest) = self.copies.iter().rposition(|(batches, _)| *batches <= kept) else { return self.written };
        let (batches, copy) = self.copies[newest].clone();
        remove(&self.path);
        fs::rename(&copy, &self.path).expect("a copy of ours can be moved to a place that is free");
        self.forget_before(self.copies.len());
        self.written = batches;
        batches
    }

    /// Its files have checksums block by block: damage shows when they are read.
    fn rot(&mut self, _kept: u64) -> u64 {
        self.written
    }

    fn safe_from_rot(&self) -> u64 {
        self.written
    }

    fn keep(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn vouch(&mut self, _vouch: Bytes) -> Result<(), EngineError> {
        Ok(())
    }

    fn vouched(&self) -> Option<Bytes> {
        None
    }

    fn keep_older_vouch(&mut self, _vouch: Bytes) {}

    fn wipe(&mut self) {
        self.close();
        self.forget_before(self.copies.len());
        remove(&self.path);
        self.written = 0;
    }
}

fn newest_wal(folder: &Path) -> io::Result<PathBuf> {
    let mut newest = PathBuf::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        // Their names are numbers of the same width, ascending.
        if path.extension().is_some_and(|extension| extension == "log") {
            newest = newest.max(path);
        }
    }
    Ok(newest)
}

fn length(file: &Path) -> io::Result<u64> {
    Ok(fs::metadata(file)?.len())
}

fn flip(file: &Path, at: u64) -> io::Result<()> {
    let mut bytes = fs::read(file)?;
    bytes[index(at)] ^= 1;
    fs::write(file, bytes)
}

fn cut(file: &Path, length: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.set_len(length)
}

fn unreadable(error: io::Error) -> EngineError {
    EngineError::Disk(error.to_string())
}

/// A folder that is not there is removed already.
fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "a folder of ours cannot be removed: {error}");
    }
}

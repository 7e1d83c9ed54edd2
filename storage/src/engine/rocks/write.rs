//! The one thread that writes to a database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use super::ingest::Ingest;
use super::marker::Marker;
use super::threads::Jobs;
use super::vouch::VouchFile;
use super::{Counters, Flavour, failure};
use crate::engine::batch::{Batch, Operation};
use crate::engine::{Durability, EngineError, ShowRows};
use crate::metrics::Stage;

type Answer = oneshot::Sender<Result<(), EngineError>>;

/// Jobs written before those that wait for a sync get it, at most: writers that need none could come without end.
const JOBS_PER_SYNC: usize = 64;

/// What to write, or nothing; and whether all so far must be durable before the answer.
pub(super) struct WriteJob {
    what: What,
    durability: Durability,
    answer: Answer,
}

enum What {
    Batch(Batch),
    Rows(ShowRows),
    /// A batch, and what to vouch for once it is durable.
    Vouched(Batch, Bytes),
    /// Nothing; but what there is goes where a damaged write-ahead log does not matter.
    Keep,
}

impl WriteJob {
    pub(super) fn write(batch: Batch, durability: Durability) -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { what: What::Batch(batch), durability, answer }, receiver)
    }

    pub(super) fn rows(show: ShowRows) -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { what: What::Rows(show), durability: Durability::Synced, answer }, receiver)
    }

    pub(super) fn vouched(batch: Batch, vouch: Bytes) -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { what: What::Vouched(batch, vouch), durability: Durability::Synced, answer }, receiver)
    }

    pub(super) fn keep() -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { what: What::Keep, durability: Durability::Synced, answer }, receiver)
    }

    pub(super) fn flush() -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        Self::write(Batch::new(), Durability::Synced)
    }
}

/// Takes jobs until the engine is gone. Those that wait for durability share one sync, after what is queued has been
/// written: a flush of the state costs a file.
pub(super) fn run(db: &DB, flavour: Flavour, counters: &Counters, beside: &Beside, marker: &Marker, jobs: &Jobs<WriteJob>) {
    let (options, stages) = (write_options(flavour), stages(flavour));
    let (buffered, vouch, failed) = (false, None, None);
    let mut writer = Writer { db, flavour, counters, options, beside, marker, buffered, vouch, stages, failed };
    let mut waiting = Vec::new();
    while let Some(job) = jobs.next() {
        writer.take(job, &mut waiting);
        for _ in 1..JOBS_PER_SYNC {
            let Some(job) = jobs.try_next() else { break };
            writer.take(job, &mut waiting);
        }
        if !waiting.is_empty() {
            let result = writer.sync();
            for answer in waiting.drain(..) {
                tell(answer, result.clone());
            }
        }
    }
}

/// What a database has beside RocksDB's own files.
pub(super) enum Beside {
    /// The log: what it vouches for.
    Vouch(Arc<Mutex<VouchFile>>),
    /// The state: a place where rows become files.
    Ingest(Ingest),
}

struct Writer<'a> {
    db: &'a DB,
    flavour: Flavour,
    counters: &'a Counters,
    options: WriteOptions,
    beside: &'a Beside,
    marker: &'a Marker,
    /// What to vouch for once all so far is durable.
    vouch: Option<Bytes>,
    /// Something has been written that is not durable yet: what comes after it must not be so earlier.
    buffered: bool,
    /// Writing a batch, and making all so far durable. Of the log, the first ends in memory: its file is written by the
    /// sync. Rows that become a file have the second alone.
    stages: (Stage, Stage),
    /// The first failure. Nothing is written after it.
    failed: Option<EngineError>,
}

impl Writer<'_> {
    fn take(&mut self, job: WriteJob, waiting: &mut Vec<Answer>) {
        let batch = match (job.what, self.beside) {
            (What::Batch(batch), _) => batch,
            (What::Vouched(batch, vouch), _) => {
                self.vouch = Some(vouch);
                batch
            }
            (What::Keep, _) => {
                let kept = self.attempt(|writer| flush(writer.db, Flavour::State));
                tell(job.answer, kept);
                return;
            }
            (What::Rows(show), Beside::Ingest(ingest)) if !self.buffered => {
                let taken = self.ingest(ingest, show);
                tell(job.answer, taken);
                return;
            }
            (What::Rows(show), _) => Batch::of_rows(show),
        };
        let written = self.write(&batch);
        if written.is_ok() && job.durability == Durability::Synced {
            waiting.push(job.answer);
        } else {
            tell(job.answer, written);
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if batch.is_empty() {
            return self.attempt(|_| Ok(()));
        }
        self.buffered = true;
        self.counters.written_bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        self.attempt(|writer| writer.stages.0.time(|| writer.db.write_opt(converted(batch), &writer.options)))
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.buffered = false;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.attempt(|writer| writer.stages.1.time(|| flush(writer.db, writer.flavour)))?;
        match (self.vouch.take(), self.beside) {
            (Some(vouch), Beside::Vouch(file)) => {
                file.lock().write(vouch).inspect_err(|error| self.failed = Some(error.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Rows become a file of the database.
    fn ingest(&mut self, ingest: &Ingest, show: ShowRows) -> Result<(), EngineError> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.attempt(|writer| {
            let bytes = writer.stages.1.time(|| ingest.take(writer.db, show))?;
            writer.counters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    }

    fn attempt(&mut self, what: impl FnOnce(&Self) -> Result<(), rocksdb::Error>) -> Result<(), EngineError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let result = what(self).map_err(failure);
        if let Err(EngineError::Damaged(damage)) = &result {
            // Merging files reads what nobody asks for; once it has met a damaged block, RocksDB refuses every write, and after
            // another opening it meets the same block again.
            self.marker.set(damage);
        }
        self.failed = result.as_ref().err().cloned();
        result
    }
}

fn stages(flavour: Flavour) -> (Stage, Stage) {
    match flavour {
        Flavour::Log => (Stage::of("log_write"), Stage::of("log_sync")),
        Flavour::State => (Stage::of("state_write"), Stage::of("state_sync")),
    }
}

fn flush(db: &DB, flavour: Flavour) -> Result<(), rocksdb::Error> {
    match flavour {
        Flavour::Log => db.flush_wal(true),
        Flavour::State => {
            let mut options = FlushOptions::default();
            options.set_wait(true);
            db.flush_opt(&options)
        }
    }
}

fn write_options(flavour: Flavour) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(flavour == Flavour::State);
    options
}

fn converted(batch: &Batch) -> WriteBatch {
    // RocksDB adds a tag and two lengths to each change.
    let mut converted = WriteBatch::with_capacity_bytes(batch.bytes() + 12 * batch.len() + 12);
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, value } => converted.put(key, value),
            Operation::Delete { key } => converted.delete(key),
            Operation::DeleteRange { from, to } => converted.delete_range(from, to),
        }
    }
    converted
}

fn tell(answer: Answer, result: Result<(), EngineError>) {
    // Nobody waits any more: the write counts all the same.
    let _ = answer.send(result);
}

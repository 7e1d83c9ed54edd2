//! The log writer: collects what all groups have queued since the last sync, writes one batch, syncs once.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::error::stopped;
use super::vouch::{Account, Marks, ReplicaMark};
use crate::engine::{Batch, Durability, Engine, EngineError};
use crate::metrics;

/// Limits on queued requests, and on the size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterLimits {
    /// Most queued requests. A group that would queue one more waits.
    pub queued_requests: usize,
    /// Most queued bytes. A single larger request is accepted if nothing else is queued.
    pub queued_bytes: usize,
    /// Bytes at which a batch is written, even if more is queued.
    pub batch_bytes: usize,
    /// How long a request that needs no sync may wait for others.
    pub linger: Duration,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { queued_requests: 4096, queued_bytes: 64 << 20, batch_bytes: 8 << 20, linger: Duration::from_millis(20) }
    }
}

/// The log cannot be written any more: the disk failed, and it is unknown how much of the last batch it has. Stop the process
/// and start it again; the log is then read from the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be written: {0}")]
pub struct LogFailure(pub EngineError);

/// Counters of a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Batches written and synced.
    pub syncs: u64,
    /// Batches written without a sync.
    pub buffered: u64,
    /// Requests in these batches.
    pub requests: u64,
    /// Entries in these batches.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A handle of the node's one log writer. When all handles and all stores on it are dropped, it writes the queued requests,
/// syncs, and ends.
#[derive(Clone)]
pub struct LogWriter {
    queue: mpsc::Sender<Queued>,
    room: Arc<Room>,
    engine: Arc<dyn Engine>,
    failed: watch::Receiver<Option<LogFailure>>,
    counters: Arc<Counters>,
}

/// A record that is only written to get a batch with a new number.
const ADVANCED: &str = "advanced";

/// Notified of the fate of a group's requests.
pub(super) trait Progress: Send + Sync {
    /// Every request up to `request` is durable.
    fn durable(&self, request: u64);

    /// No further request will become durable.
    fn failed(&self);
}

/// A group's write. Requests of a group are written in the order in which they were queued.
pub(super) struct Request {
    /// Number of the request, ascending within the group.
    pub(super) number: u64,
    pub(super) batch: Batch,
    /// Number of entries in the batch, for counters.
    pub(super) entries: u64,
    /// Whether a caller waits for durability.
    pub(super) sync: bool,
    pub(super) group: Arc<dyn Progress>,
    /// The replica's new mark, or its removal; `None` if neither changes.
    pub(super) mark: Option<(u64, Option<ReplicaMark>)>,
    /// The batch gets a number above this one.
    pub(super) above: u64,
}

/// Bytes that may still be queued, in KiB.
struct Room {
    permits: Semaphore,
    total: u32,
}

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    buffered: AtomicU64,
    requests: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    durable: AtomicU64,
}

impl LogWriter {
    /// Starts the writer over `engine`. `spawn` runs its task.
    pub fn start(engine: Arc<dyn Engine>, limits: WriterLimits, spawn: impl FnOnce(BoxFuture<'static, ()>)) -> Self {
        let (queue, requests) = mpsc::channel(limits.queued_requests);
        let (failure, failed) = watch::channel(None);
        let (room, counters) = (Arc::new(Room::of(limits.queued_bytes)), Arc::<Counters>::default());
        let failure = Arc::new(failure);
        let task = Task {
            engine: engine.clone(),
            limits,
            requests,
            room: room.clone(),
            failure: failure.clone(),
            counters: counters.clone(),
        };
        spawn(Box::pin(task.run_or_fail(failure, room.clone())));
        Self { queue, room, engine, failed, counters }
    }

    /// Completes when the log cannot be written any more; the node must then stop its process. Never completes if the writer
    /// ends without a failure. May be called any number of times.
    pub async fn failed(&self) -> LogFailure {
        let mut failed = self.failed.clone();
        let failure = match failed.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone(),
            Err(_) => None,
        };
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Waits until everything queued so far, by any group, is durable.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn flush(&self) -> Result<(), LogFailure> {
        self.written(Batch::new(), 0).await
    }

    /// The number of the last durable batch; 0 until the first flush. It never decreases while the disk keeps its content, not
    /// through restarts either: a log that comes back with a lower number than it has reported is an older copy.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.counters.durable.load(Ordering::Acquire)
    }

    /// Writes a batch with a number above all earlier ones and above `number`. Returns its number once it is durable.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn advance(&self, number: u64) -> Result<u64, LogFailure> {
        let mut batch = Batch::new();
        crate::records::put_record(&mut batch, ADVANCED, &[]);
        self.written(batch, number).await?;
        Ok(self.reached())
    }

    /// Writes a batch with a number above `above`. Durable on return.
    pub(super) async fn written(&self, batch: Batch, above: u64) -> Result<(), LogFailure> {
        let (done, answer) = oneshot::channel();
        let group = Arc::new(Flush(parking_lot::Mutex::new(Some(done))));
        let request = Request { number: 0, batch, entries: 0, sync: true, group, mark: None, above };
        if let Ok(slot) = self.slot(0).await {
            slot.queue(request);
            if answer.await.is_ok() {
                return Ok(());
            }
        }
        Err(self.failed.borrow().clone().unwrap_or(LogFailure(EngineError::Closed)))
    }

    /// The writer's counters.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterStats {
            syncs: read(&self.counters.syncs),
            buffered: read(&self.counters.buffered),
            requests: read(&self.counters.requests),
            entries: read(&self.counters.entries),
            bytes: read(&self.counters.bytes),
        }
    }

    /// The database that it writes to.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Waits for a slot in the queue for a request of `bytes` bytes. Dropping the slot releases it.
    pub(super) async fn slot(&self, bytes: usize) -> io::Result<QueuePlace<'_>> {
        let kibibytes = self.room.kibibytes(bytes);
        let room = self.room.permits.acquire_many(kibibytes).await.map_err(|_| stopped())?;
        let place = self.queue.reserve().await.map_err(|_| stopped())?;
        Ok(QueuePlace { place, room: Some(room), kibibytes })
    }

    /// A slot for a request too small to count, if one is free now.
    pub(super) fn slot_now(&self) -> Option<QueuePlace<'_>> {
        let place = self.queue.try_reserve().ok()?;
        Some(QueuePlace { place, room: None, kibibytes: 0 })
    }
}

/// A slot in the queue.
pub(super) struct QueuePlace<'a> {
    place: mpsc::Permit<'a, Queued>,
    room: Option<SemaphorePermit<'a>>,
    kibibytes: u32,
}

impl QueuePlace<'_> {
    pub(super) fn queue(self, request: Request) {
        self.place.send(Queued { request, kibibytes: self.kibibytes });
        if let Some(room) = self.room {
            // The writer releases it.
            room.forget();
        }
    }
}

/// A request, and the room it takes until it is written.
struct Queued {
    request: Request,
    kibibytes: u32,
}

/// Waits for a sync, independent of any group.
struct Flush(parking_lot::Mutex<Option<oneshot::Sender<()>>>);

impl Progress for Flush {
    fn durable(&self, _request: u64) {
        if let Some(done) = self.0.lock().take() {
            // The receiver is gone if the caller has left; everything is durable all the same.
            let _ = done.send(());
        }
    }

    fn failed(&self) {
        self.0.lock().take();
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        let total = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        Self { permits: Semaphore::new(total as usize), total }
    }

    /// Gives back what requests have taken that are written.
    fn give_back(&self, kibibytes: usize) {
        self.permits.add_permits(kibibytes);
        let free = self.permits.available_permits();
        assert!(free <= self.total as usize, "{free} KiB of {} KiB are free in the queue of the log", self.total);
    }

    /// A request larger than all the room takes all of it.
    fn kibibytes(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.total)
    }
}

/// The task at the other end of the queue.
struct Task {
    engine: Arc<dyn Engine>,
    limits: WriterLimits,
    requests: mpsc::Receiver<Queued>,
    room: Arc<Room>,
    failure: Arc<watch::Sender<Option<LogFailure>>>,
    counters: Arc<Counters>,
}

/// The next batch.
#[derive(Default)]
struct Round {
    batch: Batch,
    requests: u64,
    entries: u64,
    sync: bool,
    /// Room to release.
    kibibytes: usize,
    /// When its first request arrived.
    first_came: Option<Instant>,
    /// Each group once, with its latest request. A node has few groups.
    groups: Vec<(Arc<dyn Progress>, u64)>,
    /// The replicas' marks with this batch.
    marks: Marks,
    /// The batch gets a number above this one.
    above: u64,
}

impl Task {
    /// As [`run`](Self::run). A rule that does not hold ends the log as a disk does that fails: nothing is written after it.
    async fn run_or_fail(self, failure: Arc<watch::Sender<Option<LogFailure>>>, room: Arc<Room>) {
        if let Err(panic) = AssertUnwindSafe(self.run()).catch_unwind().await {
            let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            let error = EngineError::Broken(said.unwrap_or("no word").to_owned());
            tracing::error!(%error, "the log is not written any more; this node must stop");
            room.permits.close();
            failure.send_replace(Some(LogFailure(error)));
        }
    }

    async fn run(mut self) {
        let mut round = Round::default();
        // Before anything else is written: it would hide what is missing.
        let mut account = match Account::open(&self.engine).await {
            Ok(account) => account,
            Err(error) => return self.fail(round, error).await,
        };
        self.counters.durable.store(account.durable(), Ordering::Release);
        while self.gather(&mut round).await {
            if let Err(error) = self.write(&mut round, &mut account).await {
                return self.fail(round, error).await;
            }
        }
        round.sync = true;
        if let Err(error) = self.write(&mut round, &mut account).await {
            self.fail(round, error).await;
        }
    }

    /// Fills `round` until it should be written. Returns `false` when the queue has closed.
    async fn gather(&mut self, round: &mut Round) -> bool {
        loop {
            let next = match round.first_came {
                None => self.requests.recv().await,
                Some(first) => match timeout_at(first + self.limits.linger, self.requests.recv()).await {
                    Ok(next) => next,
                    Err(_) => return true,
                },
            };
            let Some(request) = next else { return false };
            round.add(request);
            // The first request wakes this task before other tasks that are ready. Let those queue their entries too, since the
            // sync costs the same with them.
            tokio::task::yield_now().await;
            while round.batch.bytes() < self.limits.batch_bytes {
                let Ok(request) = self.requests.try_recv() else { break };
                round.add(request);
            }
            if round.sync || round.batch.bytes() >= self.limits.batch_bytes {
                return true;
            }
        }
    }

    /// Writes `round` and notifies its groups. It is empty afterwards.
    async fn write(&self, round: &mut Round, account: &mut Account) -> Result<(), EngineError> {
        let mut batch = std::mem::take(&mut round.batch);
        account.raise(round.above);
        let vouch = account.number(&mut batch, std::mem::take(&mut round.marks));
        let (bytes, started) = (batch.bytes(), Instant::now());
        if batch.is_empty() && !account.is_ahead() {
            self.engine.flush().await?;
        } else if round.sync || batch.is_empty() {
            self.engine.write_vouched(batch, vouch).await?;
        } else {
            self.engine.write(batch, Durability::Buffered).await?;
        }
        if round.sync {
            account.synced();
            let before = self.counters.durable.swap(account.durable(), Ordering::AcqRel);
            let now = account.durable();
            assert!(now >= before, "AcknowledgedIsDurable: batch {now} is the last durable one after batch {before}");
        }
        self.room.give_back(round.kibibytes);
        if round.sync {
            round.groups.iter().for_each(|(group, request)| group.durable(*request));
            metrics::log_synced(started.elapsed(), round.entries, bytes);
        } else {
            metrics::log_written(bytes);
        }
        self.count(round, bytes);
        round.restart();
        Ok(())
    }

    fn count(&self, round: &Round, bytes: usize) {
        let counters = &self.counters;
        let batches = if round.sync { &counters.syncs } else { &counters.buffered };
        batches.fetch_add(1, Ordering::Relaxed);
        counters.requests.fetch_add(round.requests, Ordering::Relaxed);
        counters.entries.fetch_add(round.entries, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Completes no request, refuses all further ones, and reports the cause.
    async fn fail(mut self, round: Round, error: EngineError) {
        tracing::error!(%error, effect = "this node stops", "log write failed");
        self.requests.close();
        self.room.permits.close();
        self.failure.send_replace(Some(LogFailure(error)));
        round.groups.iter().for_each(|(group, _)| group.failed());
        // Until callers with a slot have used it.
        while let Some(queued) = self.requests.recv().await {
            queued.request.group.failed();
        }
    }
}

impl Round {
    fn add(&mut self, Queued { request, kibibytes }: Queued) {
        self.first_came.get_or_insert_with(Instant::now);
        self.requests += 1;
        self.entries += request.entries;
        self.sync |= request.sync;
        self.kibibytes += kibibytes as usize;
        self.marks.extend(request.mark);
        self.above = self.above.max(request.above);
        self.batch.append(request.batch);
        match self.groups.iter_mut().find(|(group, _)| Arc::ptr_eq(group, &request.group)) {
            Some((_, newest)) => {
                let number = request.number;
                assert!(*newest < number, "AcknowledgedIsDurable: request {number} of a group comes after {newest}");
                *newest = number;
            }
            None => self.groups.push((request.group, request.number)),
        }
    }

    fn restart(&mut self) {
        self.groups.clear();
        *self = Self { groups: std::mem::take(&mut self.groups), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemEngine;

    /// A rule that is broken wherever the writer tells of progress ends the log, and so the node, in its words.
    #[tokio::test]
    async fn a_broken_rule_ends_the_log_as_a_failed_disk_does() {
        let writer = LogWriter::start(Arc::new(MemEngine::new()), WriterLimits::default(), |task| drop(tokio::spawn(task)));
        let group: Arc<dyn Progress> = Arc::new(super::super::store::Nobody);
        for number in [2, 1] {
            let (batch, group) = (Batch::new(), Arc::clone(&group));
            let request = Request { number, batch, entries: 0, sync: false, group, mark: None, above: 0 };
            writer.slot(0).await.expect("the log works").queue(request);
        }
        let failure = writer.failed().await.to_string();
        assert!(failure.contains("AcknowledgedIsDurable: request 1 of a group comes after 2"), "{failure}");
        assert!(writer.flush().await.is_err());
        assert!(writer.slot(9).await.is_err());
    }
}

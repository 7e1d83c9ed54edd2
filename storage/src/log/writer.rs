//! The log writer: gathers what all groups have queued since the last sync, writes one batch, syncs once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::error::stopped;
use super::vouch::{Account, Mark, Marks};
use crate::engine::{Batch, Durability, Engine, EngineError};
use crate::metrics;

/// How much may wait for the disk, and how much goes to it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterLimits {
    /// Requests that wait; a group that would queue one more waits itself.
    pub queued_requests: usize,
    /// Bytes that wait. One larger request is let through when nothing else waits.
    pub queued_bytes: usize,
    /// Bytes after which a batch is written, whatever else waits.
    pub batch_bytes: usize,
    /// How long something that needs no sync may wait for company.
    pub linger: Duration,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { queued_requests: 4096, queued_bytes: 64 << 20, batch_bytes: 8 << 20, linger: Duration::from_millis(20) }
    }
}

/// The log is no longer written: the disk failed, and what it holds of the last batch is unknown. Stop the process
/// and start it again; the log is then read from what the disk really holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be written: {0}")]
pub struct LogFailure(pub EngineError);

/// What a writer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Batches written and synced.
    pub syncs: u64,
    /// Batches written without a sync.
    pub buffered: u64,
    /// Requests gathered into them.
    pub requests: u64,
    /// Entries among them.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A handle of the one log writer of a node. When all handles and all stores on it are gone, it writes what is
/// queued, syncs, and ends.
#[derive(Clone)]
pub struct LogWriter {
    queue: mpsc::Sender<Queued>,
    room: Arc<Room>,
    engine: Arc<dyn Engine>,
    failed: watch::Receiver<Option<LogFailure>>,
    counters: Arc<Counters>,
}

/// The record that is written for the sake of its number.
const ADVANCED: &str = "advanced";

/// Told what became of a group's requests.
pub(super) trait Progress: Send + Sync {
    /// Every request up to `request` is durable.
    fn durable(&self, request: u64);

    /// None will ever be.
    fn failed(&self);
}

/// What a group wants written. Requests of one group are written in the order in which they were queued.
pub(super) struct Request {
    /// Numbered by the group, ascending.
    pub(super) number: u64,
    pub(super) batch: Batch,
    /// Entries in the batch, to be counted.
    pub(super) entries: u64,
    /// Whether somebody waits for it to be durable.
    pub(super) sync: bool,
    pub(super) group: Arc<dyn Progress>,
    /// What a replica has with it, or that it is gone; nothing if that does not change.
    pub(super) mark: Option<(u64, Option<Mark>)>,
    /// Its batch has a higher number than this one.
    pub(super) above: u64,
}

/// Bytes that may still be queued, counted in KiB.
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
    /// Starts the writer above `engine`; `spawn` runs its task.
    pub fn start(engine: Arc<dyn Engine>, limits: WriterLimits, spawn: impl FnOnce(BoxFuture<'static, ()>)) -> Self {
        let (queue, requests) = mpsc::channel(limits.queued_requests);
        let (failure, failed) = watch::channel(None);
        let (room, counters) = (Arc::new(Room::of(limits.queued_bytes)), Arc::<Counters>::default());
        let task = Task { engine: engine.clone(), limits, requests, room: room.clone(), failure, counters: counters.clone() };
        spawn(Box::pin(task.run()));
        Self { queue, room, engine, failed, counters }
    }

    /// Completes when the log cannot be written any more, which a node must answer by stopping its process; never
    /// completes if the writer ends in peace. May be called any number of times.
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

    /// The number of the last batch that is durable; 0 until something was flushed. It never falls while the disk keeps what it
    /// has, not through restarts either: a log that comes back with less than it has shown is an older one.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.counters.durable.load(Ordering::Acquire)
    }

    /// Writes a batch with a higher number than any before, and than `number`; answers its number once it is durable.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn advance(&self, number: u64) -> Result<u64, LogFailure> {
        let mut batch = Batch::new();
        crate::records::put_record(&mut batch, ADVANCED, &[]);
        self.written(batch, number).await?;
        Ok(self.reached())
    }

    /// Writes a batch with a higher number than `above`; durable on return.
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

    /// What the writer has done so far.
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

    pub(super) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Waits for a place in the queue for a request of `bytes` bytes. Dropping the slot gives it back.
    pub(super) async fn slot(&self, bytes: usize) -> io::Result<Slot<'_>> {
        let kibibytes = self.room.kibibytes(bytes);
        let room = self.room.permits.acquire_many(kibibytes).await.map_err(|_| stopped())?;
        let place = self.queue.reserve().await.map_err(|_| stopped())?;
        Ok(Slot { place, room: Some(room), kibibytes })
    }

    /// A place for a request that is too small to count, if there is one just now.
    pub(super) fn slot_now(&self) -> Option<Slot<'_>> {
        let place = self.queue.try_reserve().ok()?;
        Some(Slot { place, room: None, kibibytes: 0 })
    }
}

/// A place in the queue.
pub(super) struct Slot<'a> {
    place: mpsc::Permit<'a, Queued>,
    room: Option<SemaphorePermit<'a>>,
    kibibytes: u32,
}

impl Slot<'_> {
    pub(super) fn queue(self, request: Request) {
        self.place.send(Queued { request, kibibytes: self.kibibytes });
        if let Some(room) = self.room {
            // The writer gives it back.
            room.forget();
        }
    }
}

/// A request and the room it takes until it is written.
struct Queued {
    request: Request,
    kibibytes: u32,
}

/// Waits for a sync without belonging to a group.
struct Flush(parking_lot::Mutex<Option<oneshot::Sender<()>>>);

impl Progress for Flush {
    fn durable(&self, _request: u64) {
        if let Some(done) = self.0.lock().take() {
            // The caller has gone: durable all the same.
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

    /// Larger than all the room there is: take all of it.
    fn kibibytes(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.total)
    }
}

/// The task that owns the other end of the queue.
struct Task {
    engine: Arc<dyn Engine>,
    limits: WriterLimits,
    requests: mpsc::Receiver<Queued>,
    room: Arc<Room>,
    failure: watch::Sender<Option<LogFailure>>,
    counters: Arc<Counters>,
}

/// What is written next.
#[derive(Default)]
struct Round {
    batch: Batch,
    requests: u64,
    entries: u64,
    sync: bool,
    /// Room to give back.
    kibibytes: usize,
    /// When its first request came.
    first_came: Option<Instant>,
    /// Each group once, with its newest request. A node has few groups.
    groups: Vec<(Arc<dyn Progress>, u64)>,
    /// What the replicas have with it.
    marks: Marks,
    /// It has a higher number than this one.
    above: u64,
}

impl Task {
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

    /// Fills `round` until it should be written; `false` once no more can come.
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
            // The first request wakes this task before whatever else is ready to run: let that queue its entries too,
            // for the sync costs the same with them.
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

    /// Writes `round` and tells its groups. It is empty afterwards.
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
            self.counters.durable.store(account.durable(), Ordering::Release);
        }
        self.room.permits.add_permits(round.kibibytes);
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

    /// Completes nothing, refuses everything from now on, and says why.
    async fn fail(mut self, round: Round, error: EngineError) {
        tracing::error!(%error, effect = "this node stops", "log write failed");
        self.requests.close();
        self.room.permits.close();
        self.failure.send_replace(Some(LogFailure(error)));
        round.groups.iter().for_each(|(group, _)| group.failed());
        // Until those who have a place already have used it.
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
            Some((_, newest)) => *newest = request.number,
            None => self.groups.push((request.group, request.number)),
        }
    }

    fn restart(&mut self) {
        self.groups.clear();
        *self = Self { groups: std::mem::take(&mut self.groups), ..Self::default() };
    }
}

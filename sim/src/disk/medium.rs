//! Where the bytes of one database are.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use ordergrid_storage::{Batch, Durability, Engine, EngineError, KeyRange, MemEngine};

/// Keeps the batches of one database through the ends of processes and power. Counts are of all batches kept since it
/// was new or wiped.
pub(super) trait Medium: Send {
    /// A process opens it. Whatever is found is durable.
    fn open(&mut self) -> Result<(), EngineError>;

    /// The process ends; everything written stays.
    fn close(&mut self);

    /// What reads, while a process has it open.
    fn engine(&self) -> Option<&dyn Engine>;

    /// Writes `batch`, which is not empty, or nothing. For a synced write, what is written so far can be kept by
    /// [`lose`](Self::lose) as it is; it is durable once [`settle`](Self::settle) says so.
    fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// The first `count` batches are durable.
    fn settle(&mut self, count: u64);

    /// The power was lost after [`close`](Self::close): the first `kept` batches survive, or fewer if those cannot be told from
    /// later ones, but all that were settled; and of the record after them a part that `torn` decides, short of its end.
    /// Answers how many survived.
    fn lose(&mut self, kept: u64, torn: u64) -> u64;

    /// A bit has flipped on the medium, after [`close`](Self::close): of what this opening has written, only the first `kept` of all
    /// batches can still be read, however durable the others were, or as many as its files had by themselves. Answers how many.
    fn rot(&mut self, kept: u64) -> u64;

    /// How many batches of all a flipped bit cannot take away.
    fn safe_from_rot(&self) -> u64;

    /// From now on a flipped bit cannot take away what was written so far.
    fn keep(&mut self) -> Result<(), EngineError>;

    /// A copy of everything that was written, all of it durable; none where that is out of reach.
    fn copy(&self) -> Option<Box<dyn Medium>> {
        None
    }

    /// Leaves a vouch beside what was written.
    fn vouch(&mut self, vouch: Bytes) -> Result<(), EngineError>;

    /// The vouch that a process finds.
    fn vouched(&self) -> Option<Bytes>;

    /// A loss of power has kept an older one.
    fn keep_older_vouch(&mut self, vouch: Bytes);

    /// The rows of `range` are damaged from now on, until they are written again or removed; answers how many there are. None
    /// where the bytes are out of reach.
    fn damage(&mut self, range: &KeyRange) -> usize {
        let _ = range;
        0
    }

    /// It is empty again.
    fn wipe(&mut self);
}

/// The disk in memory.
pub(super) struct Memory {
    disk: MemEngine,
    open: Option<MemEngine>,
    settled: u64,
    /// Batches before the first that the disk remembers by itself.
    found: u64,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { disk: MemEngine::new(), open: None, settled: 0, found: 0 }
    }

    fn remember(&mut self) {
        self.found = self.settled + self.disk.unsynced() as u64;
        self.disk.remember();
    }
}

impl Medium for Memory {
    fn open(&mut self) -> Result<(), EngineError> {
        self.open = Some(self.disk.clone());
        self.remember();
        Ok(())
    }

    fn close(&mut self) {
        self.disk.kill();
        self.open = None;
    }

    fn engine(&self) -> Option<&dyn Engine> {
        self.open.as_ref().map(|engine| -> &dyn Engine { engine })
    }

    fn write(&mut self, batch: Batch, _durability: Durability) -> Result<(), EngineError> {
        let engine = self.open.as_ref().ok_or(EngineError::Closed)?;
        answer_of(engine.write(batch, Durability::Buffered))
    }

    fn settle(&mut self, count: u64) {
        self.disk.settle(index(count - self.settled));
        self.settled = count;
    }

    fn lose(&mut self, kept: u64, _torn: u64) -> u64 {
        self.disk.crash_keeping(index(kept - self.settled));
        self.settled = kept;
        kept
    }

    fn rot(&mut self, kept: u64) -> u64 {
        self.disk.rot(index(kept - self.found));
        self.settled = kept;
        kept
    }

    fn safe_from_rot(&self) -> u64 {
        self.found
    }

    fn keep(&mut self) -> Result<(), EngineError> {
        self.remember();
        Ok(())
    }

    fn copy(&self) -> Option<Box<dyn Medium>> {
        let settled = self.settled + self.disk.unsynced() as u64;
        Some(Box::new(Self { disk: self.disk.duplicate(), open: None, settled, found: settled }))
    }

    fn vouch(&mut self, vouch: Bytes) -> Result<(), EngineError> {
        self.disk.set_vouched(Some(vouch));
        Ok(())
    }

    fn vouched(&self) -> Option<Bytes> {
        self.disk.vouched()
    }

    fn keep_older_vouch(&mut self, vouch: Bytes) {
        self.disk.set_vouched(Some(vouch));
    }

    fn damage(&mut self, range: &KeyRange) -> usize {
        self.disk.damage(range)
    }

    fn wipe(&mut self) {
        *self = Self::new();
    }
}

pub(super) fn index(count: u64) -> usize {
    usize::try_from(count).expect("batches in memory are fewer than addresses")
}

/// Blocks until `call` has ended: time stands still for the simulation meanwhile.
///
/// Without tokio's budget, which a task that has done much may have used up: it would not come back before the task yields.
pub(super) fn answer_of<T>(call: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut call, mut context) = (pin!(tokio::task::unconstrained(call)), Context::from_waker(&waker));
    loop {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

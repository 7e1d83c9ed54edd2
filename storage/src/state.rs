//! A replica's rows: changed all at once by a checkpoint, replaced all at once by an install, readable as of one moment.
//!
//! Rows lie under (replica, generation). A head row names the current generation and holds the meta of the last
//! checkpoint; whatever lies under another generation does not exist. So a replacement is written beside what is
//! there, and one small durable write switches to it (protocol.md, rules 26 and 27).

mod install;
mod keys;
mod view;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::codec::{FrameError, Kind, open_bytes, seal_with};
use crate::engine::{Batch, Durability, Engine, EngineError, KeyRange, Row, RowSink, ScanLimit};
use crate::metrics;

pub use install::Install;
pub use view::StateView;

/// The largest checkpoint in bytes. It is held in memory while it is written; checkpoint long before this. A replacement of
/// everything is an install, which has no limit.
pub const MAX_CHECKPOINT_BYTES: usize = 1 << 30;

/// The state cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The disk failed. What became of a write is unknown: stop the process.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What says where the rows are is damaged: the replica must be replaced.
    #[error("replica {replica}: the head of its state: {reason}")]
    Head {
        /// The replica.
        replica: u64,
        /// What is wrong.
        reason: FrameError,
    },
    /// More than [`MAX_CHECKPOINT_BYTES`] at once. Nothing was written.
    #[error("a checkpoint of {found} bytes is larger than {MAX_CHECKPOINT_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// An install was overtaken by another one. Nothing was switched.
    #[error("another install was committed first")]
    Overtaken,
    /// An earlier change failed, or its future was dropped while it was written. Which state is on the disk is
    /// unknown: open the rows again.
    #[error("an earlier change of the state was abandoned")]
    Abandoned,
}

impl StateError {
    /// Rows, or what says where they are, are damaged: the replica must be filled anew, and can be; see
    /// [`EngineError::is_damage`].
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_damage(),
            Self::Head { .. } => true,
            Self::TooLarge { .. } | Self::Overtaken | Self::Abandoned => false,
        }
    }
}

/// The rows that a checkpoint changes.
pub trait ChangedRows: Send + 'static {
    /// How many.
    fn count(&self) -> usize;

    /// Bytes of keys and values.
    fn bytes(&self) -> usize;

    /// Shows each row once, in the ascending order of their keys. Called where taking time holds nobody up.
    fn show(self, to: RowSink<'_>);
}

/// The durable rows of one replica. Clones are the same replica; there is one opening of it at a time.
#[derive(Clone)]
pub struct StateRows {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    replica: u64,
    head: RwLock<Head>,
    /// Held by whoever changes the head, and while a view is taken.
    turn: Mutex<Turn>,
}

/// What only the one whose turn it is may know and change.
struct Turn {
    /// The newest generation ever started.
    newest: u64,
    /// A head is being written. Still so when a turn begins: the one before was cut short.
    writing: bool,
}

/// Where the rows are, and what was said about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Head {
    generation: u64,
    meta: Option<Bytes>,
}

impl StateRows {
    /// The rows of replica `replica_id`; none if there have been none. What an unfinished install left is removed.
    ///
    /// # Errors
    /// If the disk fails, or the head is damaged.
    pub async fn open(engine: Arc<dyn Engine>, replica_id: u64) -> Result<Self, StateError> {
        let head = stored_head(engine.as_ref(), replica_id).await?;
        remove_others(engine.as_ref(), replica_id, head.generation).await?;
        let turn = Mutex::new(Turn { newest: head.generation, writing: false });
        let shared = Shared { engine, replica: replica_id, head: RwLock::new(head), turn };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes all that a replica has, durably. The replica is gone for good, its rows closed before.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn destroy(engine: &dyn Engine, replica_id: u64) -> Result<(), StateError> {
        let (from, to) = keys::all(replica_id);
        Ok(engine.erase(&from, &to).await?)
    }

    /// What was written with the last checkpoint or install; `None` before the first.
    #[must_use]
    pub fn meta(&self) -> Option<Bytes> {
        self.shared.head.read().meta.clone()
    }

    /// The values of `keys`, in their order, as of the last checkpoint or install.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, StateError> {
        loop {
            let generation = self.generation();
            let keys = keys.iter().map(|key| keys::row(self.shared.replica, generation, key)).collect();
            let values = self.shared.engine.get_many(keys).await?;
            if self.generation() == generation {
                return Ok(values);
            }
        }
    }

    /// Whether there may be a row under `key`, as of the last checkpoint or install: `false` is certain. Does not wait.
    #[must_use]
    pub fn may_have(&self, key: &[u8]) -> bool {
        let generation = self.generation();
        self.shared.engine.may_have(&keys::row(self.shared.replica, generation, key)) || self.generation() != generation
    }

    /// Rows whose keys start with `prefix`, in order, those after `after` only, until about `max_bytes` bytes are
    /// gathered. Empty means the end. Each call sees the last checkpoint or install; for one moment use [`view`](Self::view).
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn scan(&self, prefix: Bytes, after: Option<Bytes>, max_bytes: usize) -> Result<Vec<Row>, StateError> {
        loop {
            let generation = self.generation();
            let range = keys::rows(self.shared.replica, generation, &prefix, after.as_deref());
            let rows = self.shared.engine.scan(range, ScanLimit::bytes(max_bytes)).await?;
            if self.generation() == generation {
                return Ok(keys::bare(rows));
            }
        }
    }

    /// Changes `rows` and the meta, all or nothing, durable on return. The rows and the meta are one batch, so a crash at
    /// any moment leaves one checkpoint or the other.
    ///
    /// Dropping the future does not stop what was queued, and every later change is refused as abandoned.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] and [`StateError::Abandoned`] wrote nothing. Else the disk failed.
    pub async fn checkpoint(&self, meta: Bytes, rows: impl ChangedRows) -> Result<(), StateError> {
        let shared = &self.shared;
        let (count, found) = (rows.count(), rows.bytes());
        if found > MAX_CHECKPOINT_BYTES {
            return Err(StateError::TooLarge { found });
        }
        let mut turn = shared.turn.lock().await;
        let started = Instant::now();
        let head = Head { generation: self.generation(), meta: Some(meta) };
        let (replica, written) = (shared.replica, head.clone());
        let show = move |to: RowSink<'_>| {
            // The key of the head comes before those of the rows.
            to(&keys::head(replica), Some(&sealed(&written)));
            let mut key = keys::RowKey::new(replica, written.generation);
            rows.show(&mut |row, value| to(key.of(row), value));
        };
        shared.switch(&mut turn, head, || shared.engine.write_rows(Box::new(show))).await?;
        metrics::checkpointed(started.elapsed(), count, found);
        Ok(())
    }

    /// All rows and the meta as of the last checkpoint or install, which are durable; `None` before the first.
    /// Waits for a checkpoint that is being written.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn view(&self) -> Result<Option<StateView>, StateError> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let head = shared.head.read().clone();
        let Some(meta) = head.meta else { return Ok(None) };
        let view = shared.engine.view().await?;
        Ok(Some(StateView::new(view, shared.replica, head.generation, meta)))
    }

    /// Starts a replacement of all rows, beside those that are there. Dropped without a commit, it leaves no trace.
    pub async fn install(&self) -> Install {
        let mut turn = self.shared.turn.lock().await;
        turn.newest += 1;
        Install::new(self.shared.clone(), turn.newest)
    }

    fn generation(&self) -> u64 {
        self.shared.head.read().generation
    }
}

impl Shared {
    /// Writes what has `head` in it, durably, and makes `head` the current one.
    async fn switch<W>(&self, turn: &mut Turn, head: Head, write: impl FnOnce() -> W) -> Result<(), StateError>
    where
        W: Future<Output = Result<(), EngineError>>,
    {
        if turn.writing {
            return Err(StateError::Abandoned);
        }
        turn.writing = true;
        write().await?;
        *self.head.write() = head;
        turn.writing = false;
        Ok(())
    }
}

/// A head as it is stored.
fn sealed(head: &Head) -> BytesMut {
    let meta = head.meta.as_ref().expect("a head is written together with a meta");
    let mut frame = BytesMut::new();
    seal_with(Kind::STATE_HEAD, &mut frame, |out| {
        out.put_u64_le(head.generation);
        out.put_slice(meta);
    });
    frame
}

async fn stored_head(engine: &dyn Engine, replica: u64) -> Result<Head, StateError> {
    let key = Bytes::copy_from_slice(&keys::head(replica));
    let Some(frame) = engine.get_many(vec![key]).await?.pop().flatten() else { return Ok(Head::default()) };
    let damaged = |reason| StateError::Head { replica, reason };
    let mut body = open_bytes(Kind::STATE_HEAD, frame).map_err(damaged)?;
    if body.len() < 8 {
        return Err(damaged(FrameError::Length { needed: 8, found: body.len() }));
    }
    let generation = body.get_u64_le();
    Ok(Head { generation, meta: Some(body) })
}

/// Removes the rows of every generation but one, if there are any. Not durable: at worst it is done again.
async fn remove_others(engine: &dyn Engine, replica: u64, kept: u64) -> Result<(), StateError> {
    let mut batch = Batch::new();
    for KeyRange { from, to } in keys::other_generations(replica, kept) {
        let to = to.expect("a replica's rows end before the next one's");
        let range = KeyRange { from: from.clone(), to: Some(to.clone()) };
        if !engine.scan(range, ScanLimit::rows(1)).await?.is_empty() {
            batch.delete_range(&from, &to);
        }
    }
    if batch.is_empty() { Ok(()) } else { Ok(engine.write(batch, Durability::Buffered).await?) }
}

//! A replica's rows: changed atomically by a checkpoint, replaced atomically by an install, and readable as of one moment.
//!
//! Rows are stored under (replica, generation). A head row names the current generation and has the meta of the last
//! checkpoint; rows of other generations are ignored. So a replacement is written next to the current rows, and one small
//! durable write switches to it (protocol.md, rules 26 and 27).

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

/// The largest checkpoint in bytes. It is held in memory while it is written, so write checkpoints long before. An install,
/// which replaces all rows, has no such limit.
pub const MAX_CHECKPOINT_BYTES: usize = 1 << 30;

/// Why the state cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The disk failed. The result of a write is unknown: stop the process.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The head is damaged: the replica must be replaced.
    #[error("replica {replica}: the head of its state: {reason}")]
    Head {
        /// The replica.
        replica: u64,
        /// The fault.
        reason: FrameError,
    },
    /// More than [`MAX_CHECKPOINT_BYTES`] at once. Nothing was written.
    #[error("a checkpoint of {found} bytes is larger than {MAX_CHECKPOINT_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// Another install was committed meanwhile. Nothing was switched.
    #[error("another install was committed first")]
    Overtaken,
    /// An earlier change failed, or its future was dropped while it was written. It is unknown which state is on the disk: open
    /// the rows again.
    #[error("an earlier change of the state was abandoned")]
    Abandoned,
}

impl StateError {
    /// Whether rows or the head are damaged: the replica must be refilled, and can be; see [`EngineError::is_damage`].
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
    /// Number of rows.
    fn count(&self) -> usize;

    /// Bytes of keys and values.
    fn bytes(&self) -> usize;

    /// Passes each row once, in ascending order of the keys. Called where it delays nobody.
    fn show(self, to: RowSink<'_>);
}

/// The durable rows of one replica, shared by clones. A replica is opened once at a time.
#[derive(Clone)]
pub struct StateRows {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    replica: u64,
    head: RwLock<Head>,
    /// Held while the head is changed, and while a view is taken.
    turn: Mutex<Turn>,
}

/// State that only the holder of `turn` may use.
struct Turn {
    /// The newest generation ever started.
    newest: u64,
    /// Whether a head is being written. If it is set when a turn begins, the previous change was interrupted.
    writing: bool,
}

/// The current generation and meta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Head {
    generation: u64,
    meta: Option<Bytes>,
}

impl StateRows {
    /// Opens the rows of replica `replica_id`; empty if there were none. Removes the remains of an unfinished install.
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

    /// Removes all rows of a replica, durably. The replica is removed for good, and its rows are closed before.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn destroy(engine: &dyn Engine, replica_id: u64) -> Result<(), StateError> {
        let (from, to) = keys::all(replica_id);
        Ok(engine.erase(&from, &to).await?)
    }

    /// The meta of the last checkpoint or install; `None` before the first.
    #[must_use]
    pub fn meta(&self) -> Option<Bytes> {
        self.shared.head.read().meta.clone()
    }

    /// The values of `keys`, in the same order, as of the last checkpoint or install.
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

    /// Whether there may be a row with this key, as of the last checkpoint or install; `false` is certain. Does not wait.
    #[must_use]
    pub fn may_have(&self, key: &[u8]) -> bool {
        let generation = self.generation();
        self.shared.engine.may_have(&keys::row(self.shared.replica, generation, key)) || self.generation() != generation
    }

    /// Rows whose keys start with `prefix` and come after `after`, in key order, until about `max_bytes` are collected. An
    /// empty result means the end. Each call sees the last checkpoint or install; for one moment use [`view`](Self::view).
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

    /// Changes `rows` and the meta atomically; durable on return. Both are in one batch, so a crash leaves one checkpoint or
    /// the other.
    ///
    /// Dropping the future does not stop the queued write, and every later change is refused as abandoned.
    ///
    /// # Errors
    /// After [`StateError::TooLarge`] and [`StateError::Abandoned`] nothing was written. Otherwise the disk failed.
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
            // The key of the head sorts before those of the rows.
            to(&keys::head(replica), Some(&sealed(&written)));
            let mut key = keys::PrefixedKey::new(replica, written.generation);
            rows.show(&mut |row, value| to(key.of(row), value));
        };
        shared.switch(&mut turn, head, || shared.engine.write_rows(Box::new(show))).await?;
        metrics::checkpointed(started.elapsed(), count, found);
        Ok(())
    }

    /// All rows and the meta as of the last durable checkpoint or install; `None` before the first. Waits for a checkpoint that
    /// is being written.
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

    /// Starts a replacement of all rows, next to the current ones. If it is dropped without a commit, it leaves no trace.
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
    /// Writes a batch that contains `head`, durably, and makes `head` the current one.
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

/// The stored form of a head.
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

/// Removes the rows of every generation but one. Not durable: at worst it is repeated.
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

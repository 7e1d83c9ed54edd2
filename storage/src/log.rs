//! One log for all Raft groups of a node, and one sync for all that they appended meanwhile.
//!
//! ```text
//! group 0: LogStore --\
//! group 1: LogStore ---> queue -> LogWriter's task: gather, one batch, one sync -> Engine
//! group 2: LogStore --/                  \-> each group's watermark: durable up to here
//! ```
//!
//! Votes, entries, truncations, purges and commit marks of a group take the same ordered path: `store` encodes and
//! queues them, `writer` gathers and syncs, `watermark` completes what openraft waits for. Readers are served from
//! `tail`; only what has left it is read from the disk. `recover` finds all of it again after a restart, `vouch` tells whether
//! that is all there was, `floor` what a replica is held to that has lost something, and `anew` what becomes of all replicas when
//! the database cannot be read any more. [`row`] and [`cut`] say to tools what a
//! disk holds, [`without_beginning`] which logs cannot make everything again.

mod anew;
mod beginning;
mod error;
mod floor;
mod inspect;
mod keys;
mod reader;
mod recover;
mod shared;
mod store;
mod tail;
pub(crate) mod vouch;
mod watermark;
mod writer;

use std::error::Error;

use bytes::{Bytes, BytesMut};
use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};

pub use anew::{VouchedFor, begin_anew, begun_anew, forget_promises, vouched_for};
pub use beginning::without_beginning;
pub use inspect::{LogCut, LogRow, cut, row};
pub use reader::LogReader;
pub use store::LogStore;
pub use writer::{LogFailure, LogWriter, WriterLimits, WriterStats};

/// Any error, from a codec this crate knows nothing about.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Turns what openraft stores into bytes and back. Frames and checksums are added here, around those bytes.
///
/// What was encoded by an older release must decode for ever.
pub trait EntryCodec<C: RaftTypeConfig>: Send + Sync + 'static {
    /// Appends the bytes of `entry`, its log id included, to `out`.
    fn encode_entry(&self, entry: &C::Entry, out: &mut BytesMut);

    /// The entry whose bytes these are; it may keep them.
    ///
    /// # Errors
    /// If they are not an entry's.
    fn decode_entry(&self, body: Bytes) -> Result<C::Entry, BoxError>;

    /// Whether somebody in this process waits for what the entry comes to, so that it must not be read from the disk for apply.
    fn is_awaited(&self, _entry: &C::Entry) -> bool {
        false
    }

    /// Appends the bytes of `vote` to `out`.
    fn encode_vote(&self, vote: &VoteOf<C>, out: &mut BytesMut);

    /// The vote whose bytes these are.
    ///
    /// # Errors
    /// If they are not a vote's.
    fn decode_vote(&self, body: Bytes) -> Result<VoteOf<C>, BoxError>;

    /// Appends the bytes of `id` to `out`.
    fn encode_log_id(&self, id: &LogIdOf<C>, out: &mut BytesMut);

    /// The log id whose bytes these are.
    ///
    /// # Errors
    /// If they are not a log id's.
    fn decode_log_id(&self, body: Bytes) -> Result<LogIdOf<C>, BoxError>;
}

/// How much of a group's log is kept in memory, and read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of encoded entries kept in memory for readers. Kept beyond it are entries that are not durable yet, and those that
    /// somebody waits for until they are applied.
    pub tail_bytes: usize,
    /// Bytes of encoded entries that replication or apply gets in one piece; at least one entry, whatever its size.
    pub read_bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { tail_bytes: 32 << 20, read_bytes: 2 << 20 }
    }
}

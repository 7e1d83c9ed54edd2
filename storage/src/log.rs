//! One log for all Raft groups of a node, with one sync for all their concurrent appends.
//!
//! ```text
//! group 0: LogStore --\
//! group 1: LogStore ---> queue -> LogWriter's task: gather, one batch, one sync -> Engine
//! group 2: LogStore --/                  \-> each group's watermark: durable up to here
//! ```
//!
//! Votes, entries, truncations, purges and commit marks of a group use the same ordered queue: `store` encodes and queues them,
//! `writer` collects and syncs them, `watermark` completes what openraft waits for. Readers are served from `tail`, and from
//! the disk only for entries that have left it. `recover` restores this state after a restart, `vouch` detects missing batches,
//! `floor` restricts a replica that has lost entries, and `anew` handles an unreadable database. [`row`] and [`cut`] decode a
//! disk for tools, [`without_beginning`] finds logs that have lost their first entry.

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

/// Any error of a codec, which this crate does not interpret.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Encodes and decodes what openraft stores. This crate adds frames and checksums around the bytes.
///
/// Bytes of an older release must stay decodable forever.
pub trait EntryCodec<C: RaftTypeConfig>: Send + Sync + 'static {
    /// Appends the bytes of `entry`, its log id included, to `out`.
    fn encode_entry(&self, entry: &C::Entry, out: &mut BytesMut);

    /// Decodes an entry, which may keep the bytes.
    ///
    /// # Errors
    /// If the bytes are not an entry.
    fn decode_entry(&self, body: Bytes) -> Result<C::Entry, BoxError>;

    /// Whether a caller in this process waits for the entry's outcome. Apply must then get the entry from memory, not from the
    /// disk.
    fn is_awaited(&self, _entry: &C::Entry) -> bool {
        false
    }

    /// Appends the bytes of `vote` to `out`.
    fn encode_vote(&self, vote: &VoteOf<C>, out: &mut BytesMut);

    /// Decodes a vote.
    ///
    /// # Errors
    /// If the bytes are not a vote.
    fn decode_vote(&self, body: Bytes) -> Result<VoteOf<C>, BoxError>;

    /// Appends the bytes of `id` to `out`.
    fn encode_log_id(&self, id: &LogIdOf<C>, out: &mut BytesMut);

    /// Decodes a log id.
    ///
    /// # Errors
    /// If the bytes are not a log id.
    fn decode_log_id(&self, body: Bytes) -> Result<LogIdOf<C>, BoxError>;
}

/// How much of a group's log is kept in memory, and read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of encoded entries kept in memory for readers. Entries that are not durable yet, and entries with waiting callers
    /// that are not applied yet, are kept in addition.
    pub tail_bytes: usize,
    /// Bytes of encoded entries that replication or apply gets at a time; at least one entry, whatever its size.
    pub read_bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { tail_bytes: 32 << 20, read_bytes: 2 << 20 }
    }
}

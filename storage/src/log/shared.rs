//! What the writing and the reading side of a group's log share.

use std::ops::Range;
use std::sync::Arc;

use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};
use parking_lot::RwLock;

use super::tail::Tail;
use super::watermark::Watermark;
use super::writer::{LogWriter, Progress};
use super::{EntryCodec, LogLimits};
use crate::metrics::Stage;

/// The log of one replica.
pub(super) struct Shared<C: RaftTypeConfig, K> {
    pub(super) replica: u64,
    pub(super) codec: K,
    pub(super) limits: LogLimits,
    pub(super) writer: LogWriter,
    pub(super) log: RwLock<Log<C>>,
    pub(super) watermark: Watermark<C>,
    /// Entries become bytes for the disk.
    pub(super) encode: Stage,
}

/// What a reader may see: everything queued, durable or not.
pub(super) struct Log<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) committed: Option<LogIdOf<C>>,
    pub(super) purged: Option<LogIdOf<C>>,
    /// The last entry, or what was purged if there is none.
    pub(super) last: Option<LogIdOf<C>>,
    /// Index of the first entry, in memory or on the disk.
    pub(super) first: u64,
    pub(super) tail: Tail<C::Entry>,
    /// Counts truncations and purges, so that a reader of the disk sees that one came between.
    pub(super) cuts: u64,
    /// The number of the last request.
    pub(super) requests: u64,
}

impl<C, K> Shared<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    pub(super) fn progress(self: &Arc<Self>) -> Arc<dyn Progress> {
        self.clone()
    }
}

impl<C, K> Progress for Shared<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    fn durable(&self, request: u64) {
        self.watermark.reached(request);
        self.log.write().tail.evict(request, self.limits.tail_bytes);
    }

    fn failed(&self) {
        self.watermark.abandon();
    }
}

impl<C> Log<C>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
{
    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Makes an empty log start at `first`.
    pub(super) fn restart_at(&mut self, first: u64) {
        self.first = first;
        self.tail = Tail::starting_at(first);
    }

    /// The part of `indexes` that the log has.
    pub(super) fn present(&self, indexes: Range<u64>) -> Range<u64> {
        indexes.start.max(self.first)..indexes.end.min(self.tail.next())
    }
}

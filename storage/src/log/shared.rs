//! State shared by the writing and the reading side of a group's log.

use std::ops::Range;
use std::sync::Arc;

use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::floor::{self, Floor};
use super::tail::Tail;
use super::vouch::ReplicaMark;
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
    /// The last entry that the replica vouched for, while its log does not reach it.
    pub(super) floor: watch::Sender<Option<LogIdOf<C>>>,
    /// The codec of entries.
    pub(super) encode: Stage,
}

/// The entries that a reader may see: everything queued, durable or not.
pub(super) struct Log<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) committed: Option<LogIdOf<C>>,
    pub(super) purged: Option<LogIdOf<C>>,
    /// The last entry, or the last purged one if there is none.
    pub(super) last: Option<LogIdOf<C>>,
    /// Index of the first entry, in memory or on the disk.
    pub(super) first: u64,
    pub(super) tail: Tail<C::Entry>,
    /// Counts truncations and purges, so that a reader of the disk detects a concurrent one.
    pub(super) cuts: u64,
    /// The number of the last request.
    pub(super) requests: u64,
    /// For a log below its floor: the vote and the last entry that it vouches for.
    pub(super) floor: Option<Floor<C>>,
    /// The request with which the log reaches its floor.
    pub(super) reaches_floor: Option<u64>,
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

    /// What the replica vouches for with its current log. Below a floor this is the floor: another loss must not lower it.
    pub(super) fn mark(&self, log: &Log<C>, vote: Option<&VoteOf<C>>) -> Option<(u64, Option<ReplicaMark>)> {
        let below = log.floor.as_ref().and_then(|floor| floor.last.as_ref());
        let last = log.last.as_ref().max(below);
        Some((self.replica, Some(floor::mark(&self.codec, vote.or(log.vote.as_ref()), last))))
    }

    /// The log is durable past its floor. The floor's row may stay until a later start, which comes to the same result.
    fn leave_floor(&self, log: &mut Log<C>) {
        log.reaches_floor = None;
        log.floor = None;
        tracing::info!(replica = self.replica, "log refilled");
        self.floor.send_replace(None);
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
        let mut log = self.log.write();
        log.tail.written(request, self.limits.tail_bytes);
        if log.reaches_floor.is_some_and(|reaches| reaches <= request) {
            self.leave_floor(&mut log);
        }
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

    /// The last entry has changed with `request`.
    pub(super) fn look_at_floor(&mut self, request: u64) {
        let Some(floor) = &self.floor else { return };
        self.reaches_floor = if self.last < floor.last { None } else { self.reaches_floor.or(Some(request)) };
    }

    /// Makes an empty log start at `first`.
    pub(super) fn restart_at(&mut self, first: u64) {
        self.first = first;
        self.tail.restart_at(first);
    }

    /// The part of `indexes` that the log has.
    pub(super) fn present(&self, indexes: Range<u64>) -> Range<u64> {
        indexes.start.max(self.first)..indexes.end.min(self.tail.next())
    }
}

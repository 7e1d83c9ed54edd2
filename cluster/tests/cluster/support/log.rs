//! A log in memory that is always durable: what consensus needs of a disk, without one.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend};
use ordergrid_cluster::{LogId, Promised, RaftEntry, RaftTypes, Vote};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Clones share the log, as a restart would.
#[derive(Clone, Default)]
pub(crate) struct MemLog(Arc<Mutex<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, RaftEntry>,
    /// What was vouched for and is lost, until entries up to there have come.
    floor: watch::Sender<Option<LogId>>,
    stalled: watch::Sender<bool>,
}

impl MemLog {
    /// A copy of the disk.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// A copy is put in the place of the disk.
    pub(crate) fn go_back_to(&self, copy: &Self) {
        *self.0.lock() = copy.0.lock().clone();
    }

    /// Entries are taken from now on, or nothing ends that would append some.
    pub(crate) fn stall(&self, stalled: bool) {
        self.0.lock().stalled.send_replace(stalled);
    }

    /// Indexes of the entries that are still there.
    pub(crate) fn indexes(&self) -> Vec<u64> {
        self.0.lock().entries.keys().copied().collect()
    }

    /// The medium loses the entries after `index`, and with them what stood behind them. Answers the last one there was.
    pub(crate) fn lose_after(&self, index: u64) -> LogId {
        let mut inner = self.0.lock();
        let lost = inner.entries.split_off(&(index + 1));
        inner.committed = inner.committed.filter(|committed| committed.index <= index);
        lost.last_key_value().expect("there were entries after it").1.log_id
    }

    /// It is noticed that the log has lost entries up to this one.
    pub(crate) fn stand_below(&self, vouched: LogId) {
        self.0.lock().floor.send_replace(Some(vouched));
    }

    /// All of it is lost, and it is held to what the replica can have promised.
    pub(crate) fn begin_anew(&self, promised: &Promised) {
        let mut inner = self.0.lock();
        *inner = Inner { vote: Some(promised.vote), floor: inner.floor.clone(), ..Inner::default() };
        inner.floor.send_replace(promised.last);
    }

    pub(crate) fn floor(&self) -> watch::Receiver<Option<LogId>> {
        self.0.lock().floor.subscribe()
    }
}

impl<RT: AsyncRuntime> RaftLogReader<RaftTypes<RT>> for MemLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<RaftEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        Ok(self.0.lock().entries.range(start..end.max(start)).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.lock().vote)
    }
}

impl<RT: AsyncRuntime> RaftLogStorage<RaftTypes<RT>> for MemLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<RaftTypes<RT>>, io::Error> {
        let inner = self.0.lock();
        let last = inner.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<RaftTypes<RT>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut stalled = self.0.lock().stalled.subscribe();
        stalled.wait_for(|stalled| !stalled).await.expect("this log can tell");
        let mut inner = self.0.lock();
        inner.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        let last = inner.entries.last_key_value().map(|(_, entry)| entry.log_id);
        inner.floor.send_if_modified(|floor| floor.take_if(|floor| last >= Some(*floor)).is_some());
        drop(inner);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.lock().entries.split_off(&last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut inner = self.0.lock();
        inner.entries = inner.entries.split_off(&(upto.index + 1));
        inner.purged = Some(upto);
        Ok(())
    }
}

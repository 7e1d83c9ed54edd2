//! The Raft log of one replica, as openraft writes it.

use std::cmp::Ordering;
use std::io;
use std::sync::Arc;

use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::vote::RaftVote;
use openraft::{OptionalSend, RaftTypeConfig};
use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};

use super::error::stopped;
use super::reader::LogReader;
use super::shared::{Log, Shared};
use super::watermark::{Waiter, Watermark};
use super::writer::{LogFailure, LogWriter, Progress, Request};
use super::{EntryCodec, LogLimits, floor, keys, recover};
use crate::codec::{Kind, seal_with};
use crate::engine::Batch;
use crate::metrics::Stage;

/// The Raft log of one replica: openraft's `RaftLogStorage` over a shared [`LogWriter`].
///
/// A replica has one store at a time. Its readers ([`LogReader`]) may outlive it.
pub struct LogStore<C: RaftTypeConfig, K> {
    shared: Arc<Shared<C, K>>,
}

impl<C, K> LogStore<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    /// The log of replica `replica_id` on the disk; empty if there was none.
    ///
    /// # Errors
    /// If the disk cannot be read, or the log is damaged (`InvalidData`): the replica must be replaced.
    pub async fn open(writer: LogWriter, replica_id: u64, codec: K, limits: LogLimits) -> io::Result<Self> {
        // Requests that an earlier store of this replica queued may not be on the disk yet.
        writer.flush().await.map_err(io::Error::other)?;
        let log = recover::log(writer.engine().as_ref(), replica_id, &codec, limits.tail_bytes).await?;
        let (floor, _) = watch::channel(None);
        let (log, watermark, encode) = (RwLock::new(log), Watermark::new(), Stage::of("encode"));
        let shared = Shared { replica: replica_id, codec, limits, writer, log, watermark, floor, encode };
        let mut store = Self { shared: Arc::new(shared) };
        store.stand_on_floor().await?;
        Ok(store)
    }

    /// The last entry that this replica vouched for, while its log is not durable up to it. Until then the replica must not
    /// vote, campaign, lead, or found its group. `None` for an intact log.
    #[must_use]
    pub fn floor(&self) -> watch::Receiver<Option<LogIdOf<C>>> {
        self.shared.floor.subscribe()
    }

    /// Discards the entries of a replica whose state is unusable, durably: a leader must send everything again. The vote stays.
    /// The floor is what the replica had, and at least `applied`, which was in its state. The replica's store must not be open,
    /// and its rows are destroyed afterwards, not before. Not for a group of one replica: nobody could refill it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn forget(writer: &LogWriter, replica_id: u64, codec: &K, applied: Option<LogIdOf<C>>) -> io::Result<()> {
        writer.flush().await.map_err(io::Error::other)?;
        let log = recover::log::<C, K>(writer.engine().as_ref(), replica_id, codec, 0).await?;
        let below = log.floor.and_then(|floor| floor.last);
        let mark = floor::mark::<C, K>(codec, log.vote.as_ref(), log.last.max(below).max(applied).as_ref());
        let mut batch = Batch::new();
        batch.delete_range(&keys::entry(replica_id, 0), &keys::entries_end(replica_id));
        batch.delete(&keys::committed(replica_id));
        batch.delete(&keys::purged(replica_id));
        floor::put(&mut batch, replica_id, &mark);
        if let Ok(slot) = writer.slot(0).await {
            let mark = Some((replica_id, Some(mark)));
            slot.queue(Request { number: 0, batch, entries: 0, sync: true, group: Arc::new(Nobody), mark, above: 0 });
        }
        writer.flush().await.map_err(io::Error::other)
    }

    /// Accepts that entries below the floor are lost, durably. Entries acknowledged because of this replica are lost unless
    /// another replica has them: an operator's decision.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn accept_loss(&mut self) -> io::Result<()> {
        let shared = &self.shared;
        let mut batch = Batch::new();
        batch.delete(&keys::floor(shared.replica));
        let slot = shared.writer.slot(batch.bytes()).await?;
        let request = {
            let mut log = shared.log.write();
            (log.floor, log.reaches_floor) = (None, None);
            let number = log.next_request();
            self.moves(&mut log, number, batch, 0, true)
        };
        slot.queue(request);
        shared.writer.flush().await.map_err(io::Error::other)?;
        shared.floor.send_replace(None);
        Ok(())
    }

    /// Restores a vote that was vouched for. The floor stays unless the log reaches it.
    async fn stand_on_floor(&mut self) -> io::Result<()> {
        let (vote, below) = {
            let mut log = self.shared.log.write();
            let Some(floor) = log.floor.clone() else { return Ok(()) };
            let below = (log.last < floor.last).then(|| floor.last.clone()).flatten();
            if below.is_none() {
                log.floor = None;
            }
            (floor.vote.filter(|vote| is_later::<C>(log.vote.as_ref(), vote)), below)
        };
        self.shared.floor.send_replace(below);
        match vote {
            Some(vote) => self.save_vote(&vote).await,
            None => Ok(()),
        }
    }

    fn put_log_id(&self, batch: &mut Batch, key: keys::Key, id: &LogIdOf<C>) {
        batch.put_with(&key, |out| seal_with(Kind::LOG_ID, out, |out| self.shared.codec.encode_log_id(id, out)));
    }

    fn request(&self, number: u64, batch: Batch, entries: usize, sync: bool) -> Request {
        Request { number, batch, entries: entries as u64, sync, group: self.shared.progress(), mark: None, above: 0 }
    }

    /// A request that changes the replica's last entry.
    fn moves(&self, log: &mut Log<C>, number: u64, batch: Batch, entries: usize, sync: bool) -> Request {
        log.look_at_floor(number);
        // Synced at once: no other request may follow for a long time, and until then the replica could not vote.
        let sync = sync || log.reaches_floor == Some(number);
        Request { mark: self.shared.mark(log, None), ..self.request(number, batch, entries, sync) }
    }

    /// Encodes `entries` for the disk, each with its size in bytes.
    fn encoded(&self, entries: impl IntoIterator<Item = C::Entry>) -> (Batch, Vec<(C::Entry, usize)>) {
        let mut batch = Batch::new();
        let encode = |entry: C::Entry| {
            let key = keys::entry(self.shared.replica, entry.index());
            let write_entry = |out: &mut _| self.shared.codec.encode_entry(&entry, out);
            let size = batch.put_with(&key, |out| seal_with(Kind::LOG_ENTRY, out, write_entry));
            (entry, size)
        };
        let sized = entries.into_iter().map(encode).collect();
        (batch, sized)
    }

    /// Refuses entries that would leave a gap, or that are older than what they follow. The first entry of an empty log may have
    /// any index.
    fn check_follows(&self, entries: &[(C::Entry, usize)]) -> io::Result<()> {
        let log = self.shared.log.read();
        let fresh = log.last.is_none().then(|| entries.first().map(|(entry, _)| entry.index())).flatten();
        let first = fresh.unwrap_or_else(|| log.tail.next());
        for (expected, (entry, _)) in (first..).zip(entries) {
            if entry.index() != expected {
                let hole = format!("entry {} where entry {expected} should follow", entry.index());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, hole));
            }
        }
        let mut last = log.last.clone();
        for (entry, _) in entries {
            let id = Some(entry.log_id());
            if id <= last {
                let (id, last) = (entry.log_id().to_string(), last.map_or_else(String::new, |last| last.to_string()));
                let older = format!("entry {id} is older than entry {last}, which it follows");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, older));
            }
            last = id;
        }
        Ok(())
    }
}

impl<C: RaftTypeConfig, K> LogStore<C, K> {
    /// Removes everything that a replica has in the log, durably. The replica is removed for good, and its store is closed
    /// before.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn destroy(writer: &LogWriter, replica_id: u64) -> Result<(), LogFailure> {
        let mut batch = Batch::new();
        let (from, to) = keys::all(replica_id);
        batch.delete_range(&from, &to);
        if let Ok(slot) = writer.slot(0).await {
            let mark = Some((replica_id, None));
            slot.queue(Request { number: 0, batch, entries: 0, sync: false, group: Arc::new(Nobody), mark, above: 0 });
        }
        writer.flush().await
    }
}

fn is_later<C: RaftTypeConfig>(than: Option<&VoteOf<C>>, vote: &VoteOf<C>) -> bool {
    than.is_none_or(|than| RaftVote::partial_cmp(than, vote) == Some(Ordering::Less))
}

/// Waits for nothing.
pub(super) struct Nobody;

impl Progress for Nobody {
    fn durable(&self, _request: u64) {}
    fn failed(&self) {}
}

impl<C, K> RaftLogStorage<C> for LogStore<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    type LogReader = LogReader<C, K>;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let log = self.shared.log.read();
        Ok(LogState { last_purged_log_id: log.purged.clone(), last_log_id: log.last.clone() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Durable on return, with everything appended before: openraft assumes that a vote is newer than all of it.
    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        let shared = &self.shared;
        let mut batch = Batch::new();
        let key = keys::vote(shared.replica);
        batch.put_with(&key, |out| seal_with(Kind::VOTE, out, |out| shared.codec.encode_vote(vote, out)));
        let slot = shared.writer.slot(batch.bytes()).await?;
        let (done, durable) = oneshot::channel();
        let (number, mark) = {
            let mut log = shared.log.write();
            (log.next_request(), shared.mark(&log, Some(vote)))
        };
        shared.watermark.wait(number, Waiter::Caller(done));
        slot.queue(Request { mark, ..self.request(number, batch, 0, true) });
        durable.await.map_err(|_| stopped())?;
        shared.log.write().vote = Some(vote.clone());
        Ok(())
    }

    /// Never waits: if the queue is full, this mark is skipped, and a later one covers it. Marks use the same queue as entries,
    /// so a mark is never on the disk without its entries.
    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        let Some(id) = committed else { return Ok(()) };
        let mut batch = Batch::new();
        self.put_log_id(&mut batch, keys::committed(self.shared.replica), &id);
        let mut log = self.shared.log.write();
        log.committed = Some(id);
        if let Some(slot) = self.shared.writer.slot_now() {
            let number = log.next_request();
            slot.queue(self.request(number, batch, 0, false));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.shared.log.read().committed.clone())
    }

    /// Readable on return. The log writer's task calls `callback` when the entries are durable, unless a later append of this
    /// group became durable with them.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (batch, entries) = self.shared.encode.time(|| self.encoded(entries));
        self.check_follows(&entries)?;
        let count = entries.len();
        let slot = self.shared.writer.slot(batch.bytes()).await?;
        let request = {
            let mut log = self.shared.log.write();
            let number = log.next_request();
            if let Some((last, _)) = entries.last() {
                if log.last.is_none() {
                    log.restart_at(last.index() + 1 - count as u64);
                }
                log.last = Some(last.log_id());
            }
            for (entry, size) in entries {
                let awaited = self.shared.codec.is_awaited(&entry);
                log.tail.push(entry, size, number, awaited);
            }
            let (next, last) = (log.tail.next(), log.last.as_ref().map_or(0, |last| last.index));
            assert!(count == 0 || next == last + 1, "the log ends with entry {last}, and entry {next} comes next");
            self.moves(&mut log, number, batch, count, true)
        };
        self.shared.watermark.wait(request.number, Waiter::Appended(callback));
        slot.queue(request);
        Ok(())
    }

    /// Not synced: the entries that replace the truncated ones follow in the same queue.
    async fn truncate_after(&mut self, last: Option<LogIdOf<C>>) -> io::Result<()> {
        let shared = &self.shared;
        let slot = shared.writer.slot(0).await?;
        let mut log = shared.log.write();
        let from = last.as_ref().map_or(log.first, |id| id.index + 1);
        assert!(from >= log.first, "cutting off from entry {from} on, of a log purged before {}", log.first);
        if from >= log.tail.next() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.delete_range(&keys::entry(shared.replica, from), &keys::entries_end(shared.replica));
        log.cuts += 1;
        log.tail.truncate_from(from);
        log.last = last.or_else(|| log.purged.clone());
        let number = log.next_request();
        slot.queue(self.moves(&mut log, number, batch, 0, false));
        Ok(())
    }

    /// The purged id and the deletion are in one batch, so neither is ever on the disk without the other. A later sync makes
    /// them durable.
    async fn purge(&mut self, id: LogIdOf<C>) -> io::Result<()> {
        let shared = &self.shared;
        let slot = shared.writer.slot(0).await?;
        let mut log = shared.log.write();
        let next = id.index + 1;
        let mut batch = Batch::new();
        self.put_log_id(&mut batch, keys::purged(shared.replica), &id);
        batch.delete_range(&keys::entry(shared.replica, log.first), &keys::entry(shared.replica, next));
        log.cuts += 1;
        if next >= log.tail.next() {
            log.last = Some(id.clone());
        }
        if next > log.tail.first() {
            log.tail.drop_before(next);
        }
        log.first = log.first.max(next);
        log.purged = Some(id);
        let number = log.next_request();
        slot.queue(self.moves(&mut log, number, batch, 0, false));
        Ok(())
    }
}

//! A group's side of the log: what openraft writes.

use std::io;
use std::sync::Arc;

use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::error::stopped;
use super::reader::LogReader;
use super::shared::Shared;
use super::watermark::{Waiter, Watermark};
use super::writer::{LogFailure, LogWriter, Progress, Request};
use super::{EntryCodec, LogLimits, keys, recover};
use crate::codec::{Kind, seal_with};
use crate::engine::Batch;
use crate::metrics::Stage;

/// The Raft log of one replica: openraft's `RaftLogStorage` above a shared [`LogWriter`].
///
/// There is one at a time per replica. Its readers ([`LogReader`]) may outlive it.
pub struct LogStore<C: RaftTypeConfig, K> {
    shared: Arc<Shared<C, K>>,
}

impl<C, K> LogStore<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    /// The log of replica `replica_id`, as the disk has it; empty if there has been none.
    ///
    /// # Errors
    /// If the disk cannot be read, or what it has is damaged (`InvalidData`): the replica must be replaced.
    pub async fn open(writer: LogWriter, replica_id: u64, codec: K, limits: LogLimits) -> io::Result<Self> {
        // What an earlier store of this replica queued is not on the disk yet.
        writer.flush().await.map_err(io::Error::other)?;
        let log = recover::log(writer.engine().as_ref(), replica_id, &codec, limits.tail_bytes).await?;
        let (log, watermark, encode) = (RwLock::new(log), Watermark::new(), Stage::of("encode"));
        let shared = Shared { replica: replica_id, codec, limits, writer, log, watermark, encode };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn put_log_id(&self, batch: &mut Batch, key: keys::Key, id: &LogIdOf<C>) {
        batch.put_with(&key, |out| seal_with(Kind::LOG_ID, out, |out| self.shared.codec.encode_log_id(id, out)));
    }

    fn request(&self, number: u64, batch: Batch, entries: usize, sync: bool) -> Request {
        Request { number, batch, entries: entries as u64, sync, group: self.shared.progress() }
    }

    /// Encodes `entries` for the disk, with each one's size in bytes.
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

    /// Refuses entries that would leave a hole. The first entry of an empty log may have any index.
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
        Ok(())
    }
}

impl<C: RaftTypeConfig, K> LogStore<C, K> {
    /// Removes everything a replica has in the log, durably. The replica is gone for good, its store closed before.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn destroy(writer: &LogWriter, replica_id: u64) -> Result<(), LogFailure> {
        let mut batch = Batch::new();
        let (from, to) = keys::all(replica_id);
        batch.delete_range(&from, &to);
        if let Ok(slot) = writer.slot(0).await {
            slot.queue(Request { number: 0, batch, entries: 0, sync: false, group: Arc::new(Nobody) });
        }
        writer.flush().await
    }
}

/// Waits for nothing.
struct Nobody;

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

    /// Durable on return, and with it everything appended before: openraft takes a vote for newer than all of it.
    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        let shared = &self.shared;
        let mut batch = Batch::new();
        let key = keys::vote(shared.replica);
        batch.put_with(&key, |out| seal_with(Kind::VOTE, out, |out| shared.codec.encode_vote(vote, out)));
        let slot = shared.writer.slot(batch.bytes()).await?;
        let (done, durable) = oneshot::channel();
        let number = shared.log.write().next_request();
        shared.watermark.wait(number, Waiter::Caller(done));
        slot.queue(self.request(number, batch, 0, true));
        durable.await.map_err(|_| stopped())?;
        shared.log.write().vote = Some(vote.clone());
        Ok(())
    }

    /// Never waits: when the queue is full the mark is left out, and a later one says more. It takes the same path
    /// as the entries, so it is never on the disk without those it names.
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

    /// Readable on return; `callback` is called once durable, from the log writer's task, or left out when a later
    /// append of this group became durable with it.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (batch, entries) = self.shared.encode.time(|| self.encoded(entries));
        self.check_follows(&entries)?;
        let count = entries.len();
        let slot = self.shared.writer.slot(batch.bytes()).await?;
        let number = {
            let mut log = self.shared.log.write();
            let number = log.next_request();
            if let Some((last, _)) = entries.last() {
                if log.last.is_none() {
                    log.restart_at(last.index() + 1 - count as u64);
                }
                log.last = Some(last.log_id());
            }
            for (entry, size) in entries {
                log.tail.push(entry, size, number);
            }
            number
        };
        self.shared.watermark.wait(number, Waiter::Appended(callback));
        slot.queue(self.request(number, batch, count, true));
        Ok(())
    }

    /// Not synced by itself: the entries that replace what was cut follow on the same path.
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
        slot.queue(self.request(number, batch, 0, false));
        Ok(())
    }

    /// The purged id and the removal are one batch, so neither is ever on the disk without the other; a later sync
    /// makes them durable.
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
        slot.queue(self.request(number, batch, 0, false));
        Ok(())
    }
}

//! Reads a group's log for replication and apply: from memory, and from the disk only entries that have left memory.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use openraft::alias::VoteOf;
use openraft::entry::RaftEntry;
use openraft::{OptionalSend, RaftLogReader, RaftTypeConfig};

use super::error::{DamagedLog, disk};
use super::shared::Shared;
use super::{BoxError, EntryCodec, keys};
use crate::codec::{Kind, open_bytes};
use crate::engine::{Row, ScanLimit};
use crate::metrics;

/// Bytes read from the disk at a time.
const COLD_CHUNK: usize = 4 << 20;

/// Reads the log of one replica, at any time. There may be any number of readers.
pub struct LogReader<C: RaftTypeConfig, K> {
    shared: Arc<Shared<C, K>>,
}

impl<C: RaftTypeConfig, K> Clone for LogReader<C, K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<C, K> LogReader<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    pub(super) fn new(shared: Arc<Shared<C, K>>) -> Self {
        Self { shared }
    }

    /// The available entries of `indexes`, up to `budget` bytes, but at least one if there is any.
    ///
    /// Entries that have left memory are read from the disk without a lock. If the log is truncated or purged meanwhile,
    /// reading starts again, so the answer is the log at one moment.
    async fn read(&self, indexes: Range<u64>, budget: usize) -> io::Result<Vec<C::Entry>> {
        let mut entries = Vec::new();
        let (mut left, mut seen_cuts) = (budget, None);
        loop {
            let (wanted, hot_from, cuts) = {
                let log = self.shared.log.read();
                if seen_cuts.is_some_and(|cuts| cuts != log.cuts) {
                    left = budget;
                    entries.clear();
                }
                let mut wanted = log.present(indexes.clone());
                if let Some(last) = entries.last() {
                    wanted.start = C::Entry::index(last) + 1;
                }
                if wanted.is_empty() || left == 0 {
                    return Ok(entries);
                }
                if wanted.start >= log.tail.first() {
                    log.tail.read(wanted, &mut left, &mut entries);
                    return Ok(entries);
                }
                (wanted, log.tail.first(), log.cuts)
            };
            seen_cuts = Some(cuts);
            let cold = wanted.start..wanted.end.min(hot_from);
            self.read_cold(cold, &mut left, &mut entries, cuts).await?;
        }
    }

    /// Adds a chunk of the entries of `indexes` from the disk. Entries are missing only if the log was cut since `cuts`.
    async fn read_cold(&self, indexes: Range<u64>, left: &mut usize, entries: &mut Vec<C::Entry>, cuts: u64) -> io::Result<()> {
        let shared = &self.shared;
        let range = keys::entries(shared.replica, indexes.clone());
        let rows = shared.writer.engine().scan(range, ScanLimit::bytes((*left).min(COLD_CHUNK))).await.map_err(disk)?;
        metrics::log_read_cold(rows.len());
        let (mut expected, found) = (indexes.start, rows.len());
        for row in rows {
            let (index, size) = (keys::index_of(&row.0), row.1.len());
            if index != Some(expected) {
                return self.hole_unless_cut(expected, index, cuts);
            }
            entries.push(decode_entry(shared.replica, &shared.codec, row)?);
            *left = left.saturating_sub(size);
            expected += 1;
        }
        if found == 0 { self.hole_unless_cut(expected, None, cuts) } else { Ok(()) }
    }

    /// Apply has received the entries before `index`, with their waiting callers.
    fn given_to_apply(&self, index: u64) {
        self.shared.log.write().tail.given(index, self.shared.limits.tail_bytes);
    }

    fn hole_unless_cut(&self, missing: u64, found: Option<u64>, cuts: u64) -> io::Result<()> {
        if self.shared.log.read().cuts != cuts {
            return Ok(());
        }
        Err(DamagedLog::Hole { replica: self.shared.replica, missing, found }.into())
    }
}

/// Decodes the entry in a row of the log database.
pub(super) fn decode_entry<C, K>(replica: u64, codec: &K, (key, frame): Row) -> io::Result<C::Entry>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let index = keys::index_of(&key).ok_or(DamagedLog::Key { replica, length: key.len() })?;
    let what = || format!("entry {index}");
    let body = open_bytes(Kind::LOG_ENTRY, frame).map_err(|reason| DamagedLog::Frame { replica, what: what(), reason })?;
    let undecodable = |reason: BoxError| DamagedLog::Body { replica, what: what(), reason };
    let entry = codec.decode_entry(body).map_err(undecodable)?;
    let says = C::Entry::index(&entry);
    if says != index {
        return Err(DamagedLog::Index { replica, index, says }.into());
    }
    Ok(entry)
}

/// The range with an inclusive start and an exclusive end.
fn indexes_of(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl<C, K> RaftLogReader<C> for LogReader<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<C::Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(indexes_of(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<C>>> {
        Ok(self.shared.log.read().vote.clone())
    }

    /// Ends after [`LogLimits::read_bytes`](super::LogLimits::read_bytes), but not before the first entry. If the first entry
    /// was purged, nothing is returned: a follower must never be sent entries after a gap. A stream that is ending may still
    /// ask for purged entries.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        let entries = self.read(start..end, self.shared.limits.read_bytes).await?;
        let whole = entries.first().is_none_or(|first| C::Entry::index(first) == start);
        Ok(if whole { entries } else { Vec::new() })
    }

    /// For apply only: streams the entries in chunks, so that a replay after a restart does not load the whole log at once.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<C::Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let pieces = stream::try_unfold((self.clone(), indexes_of(&range)), |(reader, rest)| async move {
            let piece = reader.read(rest.clone(), reader.shared.limits.read_bytes).await?;
            let Some(last) = piece.last() else { return Ok(None) };
            let rest = C::Entry::index(last) + 1..rest.end;
            reader.given_to_apply(rest.start);
            Ok::<_, io::Error>(Some((piece, (reader, rest))))
        });
        pieces
            .flat_map(|piece| {
                let (entries, error) = match piece {
                    Ok(entries) => (entries, None),
                    Err(error) => (Vec::new(), Some(Err(error))),
                };
                stream::iter(entries.into_iter().map(Ok).chain(error))
            })
            .boxed()
    }
}

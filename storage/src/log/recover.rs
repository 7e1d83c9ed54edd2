//! Recovers a group's log after a restart: its bounds, and its newest entries in memory.

use std::io;

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::alias::LogIdOf;
use openraft::entry::RaftEntry;

use super::error::{DamagedLog, disk};
use super::reader::decode_entry;
use super::shared::Log;
use super::tail::Tail;
use super::{BoxError, EntryCodec, floor, keys};
use crate::codec::{Kind, open_bytes};
use crate::engine::{Engine, ScanLimit};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// The log of `replica` on the disk, with about `tail_bytes` of its newest entries in memory.
pub(super) async fn log<C, K>(engine: &dyn Engine, replica: u64, codec: &K, tail_bytes: usize) -> io::Result<Log<C>>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    let marks = [keys::vote(replica), keys::committed(replica), keys::purged(replica), keys::floor(replica)];
    let marks = marks.iter().map(|key| Bytes::copy_from_slice(key)).collect();
    let mut marks = engine.get_many(marks).await.map_err(disk)?.into_iter();
    let mut next = || marks.next().expect("an engine answers for every key");

    let vote = opened(replica, "the vote", Kind::VOTE, next(), |body| codec.decode_vote(body))?;
    let log_id = |body| codec.decode_log_id(body);
    let committed = opened(replica, "the commit mark", Kind::LOG_ID, next(), log_id)?;
    let purged: Option<LogIdOf<C>> = opened(replica, "the purge mark", Kind::LOG_ID, next(), log_id)?;
    let floor = match next().map(|frame| floor::open(replica, codec, frame)).transpose()? {
        Some(floor::Row::Forgotten) => return Err(DamagedLog::Forgotten { replica }.into()),
        Some(floor::Row::Known(floor)) => Some(floor),
        None => None,
    };

    let after_purged = purged.as_ref().map(|id| id.index + 1);
    let (first, tail, last) = match first_entry(engine, replica, after_purged).await? {
        Some(first) => {
            let (tail, last) = newest::<C, K>(engine, replica, codec, first, tail_bytes).await?;
            (first, tail, last)
        }
        None => {
            let next = after_purged.unwrap_or(0);
            (next, Tail::starting_at(next), None)
        }
    };
    let last = last.or_else(|| purged.clone());
    Ok(Log { vote, committed, purged, last, first, tail, cuts: 0, requests: 0, floor, reaches_floor: None })
}

fn opened<T>(
    replica: u64,
    what: &str,
    kind: Kind,
    frame: Option<Bytes>,
    decode: impl FnOnce(Bytes) -> Result<T, BoxError>,
) -> io::Result<Option<T>> {
    let Some(frame) = frame else { return Ok(None) };
    let what = || what.to_owned();
    let body = open_bytes(kind, frame).map_err(|reason| DamagedLog::Frame { replica, what: what(), reason })?;
    Ok(Some(decode(body).map_err(|reason| DamagedLog::Body { replica, what: what(), reason })?))
}

/// The index of the first entry, which must follow the purged ones. The scan starts there, so that it skips the tombstones of
/// removed entries.
async fn first_entry(engine: &dyn Engine, replica: u64, after_purged: Option<u64>) -> io::Result<Option<u64>> {
    let range = keys::entries_from(replica, after_purged.unwrap_or(0));
    let rows = engine.scan(range, ScanLimit::rows(1)).await.map_err(disk)?;
    let Some((key, _)) = rows.first() else { return Ok(None) };
    let first = keys::index_of(key).ok_or(DamagedLog::Key { replica, length: key.len() })?;
    if let Some(missing) = after_purged.filter(|expected| *expected != first) {
        return Err(DamagedLog::Hole { replica, missing, found: Some(first) }.into());
    }
    Ok(Some(first))
}

/// The entries from the last one back to `first`, or until there are `limit` bytes of them, and the last one's id.
async fn newest<C, K>(
    engine: &dyn Engine,
    replica: u64,
    codec: &K,
    first: u64,
    limit: usize,
) -> io::Result<(Tail<C::Entry>, Option<LogIdOf<C>>)>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    let (mut tail, mut last) = (Tail::starting_at(first), None);
    loop {
        let range =
            if last.is_none() { keys::entries_from(replica, first) } else { keys::entries(replica, first..tail.first()) };
        let rows = engine.scan_back(range, ScanLimit::bytes(CHUNK)).await.map_err(disk)?;
        if rows.is_empty() {
            return Err(DamagedLog::Hole { replica, missing: tail.first() - 1, found: None }.into());
        }
        for (key, frame) in rows {
            let size = frame.len();
            let entry = decode_entry::<C, K>(replica, codec, (key, frame))?;
            let index = C::Entry::index(&entry);
            if last.is_none() {
                last = Some(entry.log_id());
                tail = Tail::starting_at(index + 1);
            }
            if index + 1 != tail.first() {
                return Err(DamagedLog::Hole { replica, missing: tail.first() - 1, found: Some(index) }.into());
            }
            tail.push_front(entry, size);
            if index == first || tail.bytes() >= limit {
                return Ok((tail, last));
            }
        }
    }
}

//! Decodes rows and range deletions of the log database, for tools that inspect a disk from outside.

use std::ops::Range;

use bytes::Bytes;

use super::keys;
use crate::codec::{FrameError, Kind, open};

/// A row of the log database. Bodies are in the encoding of an [`EntryCodec`](super::EntryCodec), without their frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRow {
    /// The replica's vote.
    Vote {
        /// The replica.
        replica: u64,
        /// An encoded vote.
        body: Bytes,
    },
    /// The index up to which the replica knew its log to be committed.
    Committed {
        /// The replica.
        replica: u64,
        /// An encoded log id.
        body: Bytes,
    },
    /// The index up to which the log was purged.
    Purged {
        /// The replica.
        replica: u64,
        /// An encoded log id.
        body: Bytes,
    },
    /// An entry.
    Entry {
        /// The replica.
        replica: u64,
        /// Its index in the replica's log.
        index: u64,
        /// An encoded entry.
        body: Bytes,
    },
}

/// The meaning of a range deletion in the log database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogCut {
    /// Entries of a replica: from the start of a log when purged, to [`u64::MAX`] when truncated.
    Entries {
        /// The replica.
        replica: u64,
        /// Their indexes.
        indexes: Range<u64>,
    },
    /// All rows of a replica, which is removed for good.
    Replica {
        /// The replica.
        replica: u64,
    },
}

/// Decodes a row of the log database; `None` if it is a record of the node.
///
/// # Errors
/// If it is damaged.
pub fn row(key: &[u8], value: &[u8]) -> Result<Option<LogRow>, FrameError> {
    let Some(place) = keys::place(key) else { return Ok(None) };
    let body = |kind| open(kind, value).map(Bytes::copy_from_slice);
    let replica = place.replica;
    Ok(match place.kind {
        keys::VOTE => Some(LogRow::Vote { replica, body: body(Kind::VOTE)? }),
        keys::COMMITTED => Some(LogRow::Committed { replica, body: body(Kind::LOG_ID)? }),
        keys::PURGED => Some(LogRow::Purged { replica, body: body(Kind::LOG_ID)? }),
        keys::ENTRY => Some(LogRow::Entry { replica, index: place.index, body: body(Kind::LOG_ENTRY)? }),
        _ => None,
    })
}

/// The meaning of deleting the keys from `from`, inclusive, to `to`, exclusive; `None` if no store deletes that range.
#[must_use]
pub fn cut(from: &[u8], to: &[u8]) -> Option<LogCut> {
    let (first, end) = (keys::place(from)?, keys::place(to)?);
    let replica = first.replica;
    if end.replica != replica {
        return None;
    }
    if keys::all(replica) == (first.key(), end.key()) {
        return Some(LogCut::Replica { replica });
    }
    let to = match end.kind {
        keys::ENTRY => end.index,
        keys::END => u64::MAX,
        _ => return None,
    };
    (first.kind == keys::ENTRY).then_some(LogCut::Entries { replica, indexes: first.index..to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::seal;

    #[test]
    fn rows_say_what_was_stored() {
        let body = Bytes::from_static(b"body");
        #[rustfmt::skip]
        let rows = [
            // key                     kind              row
            (keys::vote(7),            Kind::VOTE,       LogRow::Vote { replica: 7, body: body.clone() }),
            (keys::committed(7),       Kind::LOG_ID,     LogRow::Committed { replica: 7, body: body.clone() }),
            (keys::purged(8),          Kind::LOG_ID,     LogRow::Purged { replica: 8, body: body.clone() }),
            (keys::entry(8, 70_000),   Kind::LOG_ENTRY,  LogRow::Entry { replica: 8, index: 70_000, body: body.clone() }),
        ];
        for (key, kind, says) in rows {
            assert_eq!(row(&key, &seal(kind, &body)), Ok(Some(says)));
            assert!(row(&key, &seal(Kind::STATE_HEAD, &body)).is_err(), "a frame of another kind");
        }
    }

    #[test]
    fn records_of_the_node_are_no_log() {
        let record = [&u64::MAX.to_be_bytes()[..], &[keys::VOTE], &[0; 8]].concat();
        assert_eq!(row(&record, &seal(Kind::NODE_RECORD, b"a")), Ok(None));
        assert_eq!(row(b"short", b"anything"), Ok(None));
    }

    #[test]
    fn cuts_say_what_was_removed() {
        let (all_from, all_to) = keys::all(3);
        #[rustfmt::skip]
        let rows = [
            // what               from               to                      takes
            ("a purge",           keys::entry(3, 0), keys::entry(3, 9),      Some(LogCut::Entries { replica: 3, indexes: 0..9 })),
            ("a truncation",      keys::entry(3, 5), keys::entries_end(3),   Some(LogCut::Entries { replica: 3, indexes: 5..u64::MAX })),
            ("a replica's end",   all_from,          all_to,                 Some(LogCut::Replica { replica: 3 })),
            ("two replicas",      keys::entry(3, 0), keys::entries_end(4),   None),
            ("a vote as well",    keys::vote(3),     keys::entries_end(3),   None),
        ];
        for (what, from, to, takes) in rows {
            assert_eq!(cut(&from, &to), takes, "{what}");
        }
    }
}

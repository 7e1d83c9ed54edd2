//! Keys of a group's log in the log database: replica id, kind, index, big endian, 17 bytes.
//!
//! Replica ids are never reused, so neither are their key ranges.

use std::ops::Range;

use crate::engine::KeyRange;

/// A key of the log database.
pub(super) type Key = [u8; 17];

pub(super) const VOTE: u8 = 1;
pub(super) const COMMITTED: u8 = 2;
pub(super) const PURGED: u8 = 3;
pub(super) const ENTRY: u8 = 4;
pub(super) const END: u8 = 5;
const FLOOR: u8 = 6;

/// A replica's key, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyParts {
    pub(super) replica: u64,
    pub(super) kind: u8,
    pub(super) index: u64,
}

impl KeyParts {
    pub(super) fn key(&self) -> Key {
        key(self.replica, self.kind, self.index)
    }
}

fn key(replica: u64, kind: u8, index: u64) -> Key {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&replica.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The replica's vote.
pub(super) fn vote(replica: u64) -> Key {
    key(replica, VOTE, 0)
}

/// The last log id that the replica knew to be committed.
pub(super) fn committed(replica: u64) -> Key {
    key(replica, COMMITTED, 0)
}

/// The last log id that was purged.
pub(super) fn purged(replica: u64) -> Key {
    key(replica, PURGED, 0)
}

/// The entry at `index`.
pub(super) fn entry(replica: u64, index: u64) -> Key {
    key(replica, ENTRY, index)
}

/// What the replica has vouched for and lost.
pub(super) fn floor(replica: u64) -> Key {
    key(replica, FLOOR, 0)
}

/// The end of all possible entries.
pub(super) fn entries_end(replica: u64) -> Key {
    key(replica, END, 0)
}

/// The entries from one index, inclusive, to another, exclusive.
pub(super) fn entries(replica: u64, indexes: Range<u64>) -> KeyRange {
    KeyRange::new(entry(replica, indexes.start).to_vec(), entry(replica, indexes.end).to_vec())
}

/// The entries from `first` on.
pub(super) fn entries_from(replica: u64, first: u64) -> KeyRange {
    KeyRange::new(entry(replica, first).to_vec(), entries_end(replica).to_vec())
}

/// From the replica's first key to after its last.
pub(super) fn all(replica: u64) -> (Key, Key) {
    (key(replica, 0, 0), key(replica, u8::MAX, u64::MAX))
}

/// The index in the key of an entry.
pub(super) fn index_of(key: &[u8]) -> Option<u64> {
    let index = key.get(9..)?;
    Some(u64::from_be_bytes(index.try_into().ok()?))
}

/// Decodes a replica's key; `None` for a record of the node, whose key begins with a replica id that is never assigned.
pub(super) fn place(key: &[u8]) -> Option<KeyParts> {
    let (replica, rest) = key.split_first_chunk()?;
    let (kind, index) = rest.split_first()?;
    let (replica, index) = (u64::from_be_bytes(*replica), u64::from_be_bytes(index.try_into().ok()?));
    (replica != u64::MAX).then_some(KeyParts { replica, kind: *kind, index })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These keys are on disks; they never change.
    #[test]
    fn golden_keys() {
        #[rustfmt::skip]
        let rows = [
            (vote(1),            "0000000000000001" , "01", "0000000000000000"),
            (committed(1),       "0000000000000001" , "02", "0000000000000000"),
            (purged(258),        "0000000000000102" , "03", "0000000000000000"),
            (entry(1, 65_536),   "0000000000000001" , "04", "0000000000010000"),
            (entries_end(1),     "0000000000000001" , "05", "0000000000000000"),
            (floor(1),           "0000000000000001" , "06", "0000000000000000"),
        ];
        for (key, replica, kind, index) in rows {
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, [replica, kind, index].concat());
        }
    }

    #[test]
    fn entries_sort_by_index_and_stay_inside_their_replica() {
        assert!(entry(1, 255) < entry(1, 256));
        assert!(entry(1, u64::MAX) < entries_end(1));
        let (first, end) = all(1);
        assert!(first < vote(1) && entries_end(1) < end && end < vote(2));
        assert_eq!(index_of(&entry(7, 99)), Some(99));
        assert_eq!(index_of(b"short"), None);
    }
}

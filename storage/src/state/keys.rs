//! Keys of a replica's rows in the state database: replica id, kind, generation, big endian, then the row's own key.

use bytes::Bytes;

use crate::engine::{KeyRange, Row};

/// Bytes before a row's own key.
pub(super) const ROW_PREFIX: usize = 17;

type Prefix = [u8; ROW_PREFIX];

const HEAD: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;

fn prefix(replica: u64, kind: u8, generation: u64) -> Prefix {
    let mut key = [0; ROW_PREFIX];
    key[..8].copy_from_slice(&replica.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&generation.to_be_bytes());
    key
}

/// The head of a replica's state.
pub(super) fn head(replica: u64) -> Prefix {
    prefix(replica, HEAD, 0)
}

/// A row.
pub(super) fn row(replica: u64, generation: u64, key: &[u8]) -> Bytes {
    [&prefix(replica, ROW, generation), key].concat().into()
}

/// The rows whose own keys start with `start` and come after `after`.
pub(super) fn rows(replica: u64, generation: u64, start: &[u8], after: Option<&[u8]>) -> KeyRange {
    let range = KeyRange::prefix(row(replica, generation, start));
    match after {
        Some(after) => range.after(&row(replica, generation, after)),
        None => range,
    }
}

/// The rows as they were stored, with their own keys only.
pub(super) fn bare(mut rows: Vec<Row>) -> Vec<Row> {
    for (key, _) in &mut rows {
        *key = key.slice(ROW_PREFIX..);
    }
    rows
}

/// The generations before `newer`.
pub(super) fn generations_before(replica: u64, newer: u64) -> (Prefix, Prefix) {
    (prefix(replica, ROW, 0), prefix(replica, ROW, newer))
}

/// All generations but `kept`.
pub(super) fn other_generations(replica: u64, kept: u64) -> [KeyRange; 2] {
    let (first, end) = generations_before(replica, kept);
    let after = match kept.checked_add(1) {
        Some(next) => prefix(replica, ROW, next),
        None => prefix(replica, END, 0),
    };
    [KeyRange::new(first.to_vec(), end.to_vec()), KeyRange::new(after.to_vec(), prefix(replica, END, 0).to_vec())]
}

/// From the replica's first key to after its last.
pub(super) fn all(replica: u64) -> (Prefix, Prefix) {
    (prefix(replica, 0, 0), prefix(replica, END, 0))
}

/// Builds the keys of many rows in one buffer.
pub(super) struct PrefixedKey(Vec<u8>);

impl PrefixedKey {
    pub(super) fn new(replica: u64, generation: u64) -> Self {
        Self(prefix(replica, ROW, generation).to_vec())
    }

    pub(super) fn of(&mut self, key: &[u8]) -> &[u8] {
        self.0.truncate(ROW_PREFIX);
        self.0.extend_from_slice(key);
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These keys are on disks; they never change.
    #[test]
    fn golden_keys() {
        let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&head(258)), "0000000000000102010000000000000000");
        assert_eq!(hex(&row(1, 2, b"ab")), "00000000000000010200000000000000026162");
        assert_eq!(PrefixedKey::new(1, 2).of(b"ab"), row(1, 2, b"ab"));
    }

    #[test]
    fn a_generation_ends_where_the_next_begins() {
        #[rustfmt::skip]
        let rows = [
            // generation, key,            others have it
            (0,            &b"a"[..],      true),
            (4,            b"\xff\xff",    true),
            (5,            b"",            false),
            (5,            b"\xff\xff",    false),
            (6,            b"",            true),
            (u64::MAX,     b"\xff",        true),
        ];
        for (generation, key, others) in rows {
            let key = row(9, generation, key);
            let inside = |range: &KeyRange| range.from <= key && range.to.as_ref().is_some_and(|to| key < *to);
            assert_eq!(other_generations(9, 5).iter().any(inside), others, "{key:?}");
        }
    }

    #[test]
    fn scanning_goes_on_after_the_last_row() {
        let range = rows(1, 0, b"a", Some(b"ab"));
        assert!(range.from > row(1, 0, b"ab") && range.from <= row(1, 0, b"ab\0"));
        assert_eq!(range.to, Some(row(1, 0, b"b")));
    }
}

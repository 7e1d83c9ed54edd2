//! What a group runs: a deterministic machine, seen as bytes in and rows out.
//!
//! `applier` drives a [`Machine`] and its [`StateStore`](crate::StateStore) as openraft wants it.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::ids::EntryId;
use crate::packed::Packed;

/// The state machine of one replica. The node adapts the shard's machine; [`MetaMachine`](crate::MetaMachine) is the
/// other.
///
/// Calls never overlap, except that a checkpoint goes on, and is written, while later entries are applied.
pub trait Machine: Send + Sync + 'static {
    /// Applies the entry at `at`. Entries come in log order, each once after the last checkpoint, again after a
    /// restart. May wait for cold rows. Waiters for the entry's outcome are answered in here.
    ///
    /// # Errors
    /// Ends the group: a machine that cannot apply a committed entry can only be restarted.
    fn apply<'a>(&'a self, at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>>;

    /// Begins a checkpoint of what changed since the last one began. Called between two applies and awaited by the next:
    /// it hands out what it has at hand, and leaves the rest to [`freeze_more`](Self::freeze_more).
    fn freeze(&self) -> DirtyRows;

    /// Adds more rows of the checkpoint, as they were when it began, in no particular order; true once that is all of
    /// them. Entries are applied between calls and wait for one, so a call takes few.
    fn freeze_more(&self, rows: &mut DirtyRows) -> bool {
        let _ = rows;
        true
    }

    /// The rows of the checkpoint are durable: clean ones may leave memory.
    fn frozen_durable(&self);

    /// Lets some of them leave; true once those have that should. Entries are applied between calls and wait for one.
    fn tidy(&self) -> bool {
        true
    }

    /// Whether the checkpoint under way should be over soon, because much changes meanwhile. Else it rests between calls, so
    /// that those who are being served do not notice it.
    fn in_haste(&self) -> bool {
        true
    }

    /// Forgets everything in memory and loads the resident rows from the store: at start and after a snapshot.
    ///
    /// # Errors
    /// Ends the group.
    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>>;

    /// An estimate, in bytes, of what the next freeze would write.
    fn dirty_bytes(&self) -> u64;
}

/// Rows to write at the next checkpoint: a key each, and a value or `None` for "deleted". One buffer holds them all, since
/// apply waits while some are taken: nothing is allocated for a row.
#[derive(Clone, Debug, Default)]
pub struct DirtyRows {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<DirtyRow>,
}

/// Bytes of a row, roughly: for room.
const ROW_BYTES: usize = 128;

#[derive(Clone, Copy, Debug)]
struct DirtyRow {
    /// How the key begins, padded with zeros: what most comparisons need.
    start: u128,
    at: usize,
    key: u32,
    value: Option<u32>,
}

impl DirtyRows {
    /// No rows, with room for `bytes` bytes of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), rows: Vec::with_capacity(bytes / ROW_BYTES) }
    }

    /// Adds a row.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a row is far below 4 GiB");
        let mut start = [0; 16];
        let shown = key.len().min(start.len());
        start[..shown].copy_from_slice(&key[..shown]);
        let row = DirtyRow { start: u128::from_be_bytes(start), at: self.bytes.len(), key: len(key), value: value.map(len) };
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.rows.push(row);
    }

    /// Puts the rows into the order of their keys.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |row: &DirtyRow| &bytes[row.at..row.at + row.key as usize];
        self.rows.sort_unstable_by(|one, other| one.start.cmp(&other.start).then_with(|| key(one).cmp(key(other))));
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        self.rows.iter().map(|row| {
            let (key, rest) = self.bytes[row.at..].split_at(row.key as usize);
            (key, row.value.map(|len| &rest[..len as usize]))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys and values together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// A machine cannot go on. Says nothing about any single command.
#[derive(Debug, thiserror::Error)]
#[error("the state machine cannot go on: {0}")]
pub struct MachineError(String);

impl MachineError {
    /// With the reason, as the operator will read it.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_their_whole_keys() {
        let mut rows = DirtyRows::with_capacity(16);
        let long = ["a key that is longer than its start b", "a key that is longer than its start a"];
        for (key, value) in [("b", Some("2")), (long[0], None), ("a\0", Some("")), (long[1], Some("1")), ("a", Some("3"))] {
            rows.add(key.as_bytes(), value.map(str::as_bytes));
        }
        rows.sort();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen: Vec<_> = rows.iter().map(|(key, value)| (text(key), value.map(text))).collect();
        let row = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let expected =
            [row("a", Some("3")), row("a\0", Some("")), row(long[1], Some("1")), row(long[0], None), row("b", Some("2"))];
        assert_eq!(seen, expected);
        assert_eq!(rows.size(), 1 + 1 + 37 + 2 + 37 + 1 + 1 + 1);
    }
}

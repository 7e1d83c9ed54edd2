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

    /// At a start: the last entry with a body that the log holds. It may never be applied.
    fn logged(&self, entry: &Packed) {
        let _ = entry;
    }

    /// An estimate, in bytes, of what the next freeze would write.
    fn dirty_bytes(&self) -> u64;

    /// Whether it holds more than it may: nothing more is applied while a checkpoint is under way that will make room.
    fn is_full(&self) -> bool {
        false
    }

    /// Leadership is about to be handed over: from now on nothing is begun that would end with it, and what is under way
    /// is waited for, though not for ever.
    fn quiesce(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The hand-over is over, whatever came of it.
    fn resume(&self) {}
}

/// Rows to write at the next checkpoint: a key each, and a value or `None` for "deleted". Apply waits while some are taken, so
/// nothing is allocated for a row, and nothing grows by moving: chunks hold them, and the memory of those that a checkpoint
/// was written from is there for the next one. Memory fresh from the system costs more than all that is copied into it.
#[derive(Clone, Debug, Default)]
pub struct DirtyRows {
    chunks: Vec<Chunk>,
    rows: usize,
    bytes: usize,
}

/// Bytes of a chunk. A row that is larger is a chunk by itself.
const CHUNK: usize = 256 << 10;
/// Bytes of a small row, so that a chunk has room to note all of its rows.
const ROW: usize = 32;

#[derive(Clone, Debug)]
struct Chunk {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<DirtyRow>,
}

#[derive(Clone, Copy, Debug)]
struct DirtyRow {
    /// How the key begins, padded with zeros: what most comparisons need.
    start: [u64; 2],
    chunk: u32,
    at: u32,
    value: u32,
    key: u16,
    deleted: bool,
}

impl DirtyRows {
    /// Adds a row. A key is added once.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        const SMALL: &str = "a row is far below 4 GiB, its key below 64 KiB";
        let size = key.len() + value.map_or(0, <[u8]>::len);
        let full = |chunk: &Chunk| chunk.bytes.capacity() - chunk.bytes.len() < size;
        if self.chunks.last().is_none_or(full) {
            let (bytes, rows) = (Vec::with_capacity(CHUNK.max(size)), Vec::with_capacity(CHUNK / ROW));
            self.chunks.push(Chunk { bytes, rows });
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let mut start = [[0; 8]; 2];
        let shown = key.len().min(16);
        start.as_flattened_mut()[..shown].copy_from_slice(&key[..shown]);
        chunk.rows.push(DirtyRow {
            start: start.map(u64::from_be_bytes),
            chunk: u32::try_from(number).expect(SMALL),
            at: u32::try_from(chunk.bytes.len()).expect(SMALL),
            value: u32::try_from(size - key.len()).expect(SMALL),
            key: u16::try_from(key.len()).expect(SMALL),
            deleted: value.is_none(),
        });
        chunk.bytes.extend_from_slice(key);
        chunk.bytes.extend_from_slice(value.unwrap_or_default());
        self.rows += 1;
        self.bytes += size;
    }

    /// Shows each row, in the order of their keys.
    pub fn show(&self, mut to: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut rows = Vec::with_capacity(self.rows);
        for chunk in &self.chunks {
            rows.extend_from_slice(&chunk.rows);
        }
        rows.sort_unstable_by(|one, other| one.start.cmp(&other.start).then_with(|| self.row(one).0.cmp(self.row(other).0)));
        for row in &rows {
            let (key, value) = self.row(row);
            to(key, value);
        }
    }

    fn row(&self, row: &DirtyRow) -> (&[u8], Option<&[u8]>) {
        let (key, rest) = self.chunks[row.chunk as usize].bytes[row.at as usize..].split_at(usize::from(row.key));
        (key, (!row.deleted).then(|| &rest[..row.value as usize]))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of keys and values together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
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

    fn shown(rows: &DirtyRows) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut shown = Vec::new();
        rows.show(|key, value| shown.push((text(key), value.map(text))));
        shown
    }

    #[test]
    fn rows_are_sorted_by_their_whole_keys() {
        let mut rows = DirtyRows::default();
        let long = ["a key that is longer than its start b", "a key that is longer than its start a"];
        for (key, value) in [("b", Some("2")), (long[0], None), ("a\0", Some("")), (long[1], Some("1")), ("a", Some("3"))] {
            rows.add(key.as_bytes(), value.map(str::as_bytes));
        }
        let row = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let expected =
            [row("a", Some("3")), row("a\0", Some("")), row(long[1], Some("1")), row(long[0], None), row("b", Some("2"))];
        assert_eq!(shown(&rows), expected);
        assert_eq!((rows.len(), rows.size()), (5, 1 + 1 + 37 + 2 + 37 + 1 + 1 + 1));
    }

    #[test]
    fn rows_lie_in_many_chunks() {
        let sizes = [CHUNK, 3, CHUNK / 2, CHUNK / 2, CHUNK + 1, 0, CHUNK - 9];
        let mut rows = DirtyRows::default();
        for (number, size) in sizes.iter().enumerate().rev() {
            rows.add(&[b'0' + number as u8], Some(&vec![b'0' + number as u8; *size]));
        }
        let expected: Vec<_> =
            (0..).zip(sizes).map(|(number, size)| (number.to_string(), Some(number.to_string().repeat(size)))).collect();
        assert!(shown(&rows) == expected, "each whole, and in order");
        assert!(rows.chunks.len() > 3 && rows.chunks.iter().all(|chunk| !chunk.rows.is_empty()));
        assert_eq!((rows.len(), rows.size()), (sizes.len(), sizes.len() + sizes.iter().sum::<usize>()));
    }
}

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
    /// Applies the entry at `at`. Entries arrive in log order. Between two starts each arrives once; after a restart those
    /// after the last checkpoint arrive again. May wait for cold rows. Callers that wait for the entry's outcome are answered
    /// in here.
    ///
    /// # Errors
    /// The machine cannot apply a committed entry. The group ends; only a restart helps.
    fn apply<'a>(&'a self, at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>>;

    /// Begins a checkpoint of everything that changed since the last one began. Called between two applies, and the next apply
    /// waits for it. So it returns the rows that are at hand, and leaves the rest to [`freeze_more`](Self::freeze_more).
    fn freeze(&self) -> DirtyRows;

    /// Adds more rows of the checkpoint, in any order, as they were when the checkpoint began. Returns true once all rows were
    /// added. Entries are applied between calls, and wait during a call, so a call adds few rows.
    fn freeze_more(&self, rows: &mut DirtyRows) -> bool {
        let _ = rows;
        true
    }

    /// The rows of the checkpoint are durable: clean ones may leave memory.
    fn frozen_durable(&self);

    /// Evicts some of the clean rows. Returns true once enough rows are evicted. Entries are applied between calls, and wait
    /// during a call.
    fn tidy(&self) -> bool {
        true
    }

    /// Whether the current checkpoint should end soon, because much changes meanwhile. Otherwise it pauses between calls, so
    /// that requests are not delayed.
    fn in_haste(&self) -> bool {
        true
    }

    /// Discards everything in memory and loads the resident rows from the store: at start and after a snapshot.
    ///
    /// # Errors
    /// Ends the group.
    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>>;

    /// Called at a start with the last entry of the log that has a body. The entry may never be applied.
    fn logged(&self, entry: &Packed) {
        let _ = entry;
    }

    /// Estimated size, in bytes, of the next checkpoint.
    fn dirty_bytes(&self) -> u64;

    /// Whether the machine holds more than its limit. Nothing is applied then until the current checkpoint has made room.
    fn is_full(&self) -> bool {
        false
    }

    /// A leadership transfer is about to begin. From now on no work starts that would end with the leadership. Resolves when
    /// such work has ended, or after a bounded wait.
    fn quiesce(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The leadership transfer has ended, successfully or not.
    fn resume(&self) {}
}

/// Rows to write at the next checkpoint: each has a key, and a value or `None` for "deleted". Apply waits while rows are added.
/// So nothing is allocated per row and nothing moves when the list grows: rows are stored in chunks, and the memory of a
/// written checkpoint is reused for the next one. Fresh memory from the system costs more than everything that is copied into
/// it.
#[derive(Clone, Debug, Default)]
pub struct DirtyRows {
    chunks: Vec<Chunk>,
    rows: usize,
    bytes: usize,
}

/// Bytes of a chunk. A larger row gets a chunk of its own.
const CHUNK: usize = 256 << 10;
/// Bytes of a small row. A chunk has an entry for each of its rows, even if all are this small.
const ROW: usize = 32;

#[derive(Clone, Debug)]
struct Chunk {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<DirtyRow>,
}

#[derive(Clone, Copy, Debug)]
struct DirtyRow {
    /// The first bytes of the key, padded with zeros. Most comparisons need no more.
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

    /// Passes each row to `to`, in the order of their keys.
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

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
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

/// The machine cannot go on. This says nothing about any single command.
#[derive(Debug, thiserror::Error)]
#[error("the state machine cannot go on: {0}")]
pub struct MachineError(String);

impl MachineError {
    /// An error with this reason, which an operator reads.
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

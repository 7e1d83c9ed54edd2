//! What every table can do. Whoever owns tables lists them once, and goes through the list for everything that concerns all of
//! them: checkpoints, start, hash, export, memory. What is evicted when differs, and is not asked of every table.

use crate::BytesError;

/// Takes the rows of a checkpoint one by one: key, and bytes or a deletion.
pub type RowSink<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// A table: rows in memory, which checkpoints write to the store. One checkpoint runs at a time: it begins, hands its rows
/// out step by step while rows go on changing, and becomes durable.
pub trait Table {
    /// Tags of its rows: the first byte of their keys.
    fn tags(&self) -> &[u8];

    /// Whether a start reads all of its rows. Of any other table the store may have rows that are not in memory, so that
    /// what they add to the state hash is stored beside them.
    fn is_resident(&self) -> bool;

    /// Takes a row from the store, at start, each row once. Rows of tables that are not resident may be given too: they are
    /// in memory then, as far as the table keeps such rows there.
    ///
    /// # Errors
    /// The row cannot be read: stop the process.
    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError>;

    /// The store may have rows that are not in memory.
    fn set_cold(&mut self);

    /// Every row of the store has been restored.
    fn set_warm(&mut self);

    /// Begins a checkpoint of what changed since the last one began.
    fn begin_checkpoint(&mut self);

    /// Hands out rows of the checkpoint, as they were when it began, after looking at `limit` of them at the most; true once
    /// it has handed out all of them.
    fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool;

    /// The last checkpoint is in the store and survives a crash: its rows may leave memory, its deletions may be forgotten.
    fn checkpoint_durable(&mut self);

    /// What its rows add to the state hash: the wrapping sum of their hashes, rows that are in the store alone included.
    fn state_sum(&mut self) -> u64;

    /// The part of the state sum that a start cannot add up, since the rows stay in the store: stored with every checkpoint, as
    /// of the moment at which it began. Told once all its rows are handed out; zero for a resident table.
    fn checkpoint_sum(&self) -> u64;

    /// Every row in memory as the store would hold it.
    fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>);

    /// Rough size of what is in memory.
    fn byte_counts(&self) -> ByteCounts;
}

/// Rough sizes of a table, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// Everything that is in memory.
    pub resident: u64,
    /// What the next checkpoint hands out.
    pub dirty: u64,
}

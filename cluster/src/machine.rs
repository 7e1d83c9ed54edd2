//! What a group runs: a deterministic machine, seen as bytes in and rows out.
//!
//! `applier` drives a [`Machine`] and its [`StateStore`](crate::StateStore) as openraft wants it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::ids::EntryId;
use crate::packed::Packed;

/// A row to write at the next checkpoint: its key, and its value or `None` for "deleted".
pub type DirtyRow = (Bytes, Option<Bytes>);

/// The state machine of one replica. The node adapts the shard's machine; [`MetaMachine`](crate::MetaMachine) is the
/// other.
///
/// Calls never overlap, except that the rows of a [`freeze`](Self::freeze) are written while later entries are applied.
pub trait Machine: Send + Sync + 'static {
    /// Applies the entry at `at`. Entries come in log order, each once after the last checkpoint, again after a
    /// restart. May wait for cold rows. Waiters for the entry's outcome are answered in here.
    ///
    /// # Errors
    /// Ends the group: a machine that cannot apply a committed entry can only be restarted.
    fn apply<'a>(&'a self, at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>>;

    /// The rows that changed since the last freeze, in no particular order. Called between two applies and awaited by
    /// the next, so it only swaps tables and does not encode more than it must.
    fn freeze(&self) -> Vec<DirtyRow>;

    /// The rows of the last freeze are durable: clean ones may leave memory.
    fn frozen_durable(&self);

    /// Forgets everything in memory and loads the resident rows from the store: at start and after a snapshot.
    ///
    /// # Errors
    /// Ends the group.
    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>>;

    /// An estimate, in bytes, of what the next freeze would write.
    fn dirty_bytes(&self) -> u64;
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

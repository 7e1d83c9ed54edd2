//! One node's log database: what can be read, what can no longer be lost, and the batches in between.

use std::collections::{BTreeMap, VecDeque};

use super::log::{Change, ReplicaLog};

type Logs = BTreeMap<u64, ReplicaLog>;

/// The log database of one node.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What a process would read now, by replica.
    pub(super) live: Logs,
    /// What would be left of it after the worst power loss.
    pub(super) safe: Logs,
    /// Changes that may still be lost, batch by batch.
    unsafe_yet: VecDeque<Vec<(u64, Change)>>,
    /// Batches that cannot be lost.
    durable: u64,
    /// Everything on it was taken away once: what it held is no longer held by anybody for it.
    pub(super) wiped: bool,
}

impl Disk {
    /// A batch was written; its changes have been made in `live` already.
    pub(super) fn wrote(&mut self, changes: Vec<(u64, Change)>) {
        self.unsafe_yet.push_back(changes);
    }

    /// So many batches can no longer be lost.
    pub(super) fn durable(&mut self, batches: u64) {
        while self.durable < batches {
            let Some(changes) = self.unsafe_yet.pop_front() else { return };
            for (replica, change) in changes {
                self.safe.entry(replica).or_default().change(&change);
            }
            self.durable += 1;
        }
    }

    /// The power was lost, and only so many batches were kept.
    pub(super) fn lost(&mut self, kept: u64) {
        if kept == 0 && self.durable > 0 {
            *self = Self { wiped: true, ..Self::default() };
            return;
        }
        assert!(kept >= self.durable, "a disk kept {kept} batches of which {} were durable", self.durable);
        self.durable(kept);
        self.unsafe_yet.clear();
        self.live = self.safe.clone();
    }
}

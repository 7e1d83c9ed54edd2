//! One node's log database: what can be read, what can no longer be lost, and the batches in between.

use std::collections::{BTreeMap, VecDeque};

use ordergrid_cluster::EntryId;

use super::log::{Change, ReplicaLog, VoteRow};

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
    /// What there was when a process opened it last, in how many batches, and the changes since, batch by batch.
    opened: (Logs, u64),
    since: Vec<Vec<(u64, Change)>>,
    /// A copy of what could be read, and of how many batches.
    copy: (Logs, u64),
    /// What it held before a bit flipped, or an older copy was put back: the replica knows that it vouched for it, or is told so, and
    /// takes part in no election before it has it again.
    vouched: Logs,
    /// The votes, given to others, that it held before it could not be opened any more, or an older copy was put back: they are not known
    /// to it, and bind it all the same.
    pub(super) forgotten: BTreeMap<u64, VoteRow>,
    /// Everything on it was taken away once: what it held is no longer held by anybody for it.
    pub(super) wiped: bool,
}

impl Disk {
    /// A batch was written; its changes have been made in `live` already.
    pub(super) fn wrote(&mut self, changes: Vec<(u64, Change)>) {
        self.since.push(changes.clone());
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
        let safe = &self.safe;
        self.vouched.retain(|replica, log| safe.get(replica).and_then(ReplicaLog::last) < log.last());
    }

    /// A process opened it: everything on it is durable.
    pub(super) fn opened(&mut self) {
        self.opened = (self.live.clone(), self.durable);
        self.since.clear();
    }

    /// A bit flipped: only so many batches can still be read.
    pub(super) fn rotted(&mut self, kept: u64) {
        let (mut left, found) = std::mem::take(&mut self.opened);
        assert!(kept >= found, "a flipped bit left {kept} batches where {found} were in other files");
        let readable = usize::try_from(kept - found).expect("batches in memory are fewer than addresses");
        for (replica, change) in self.since.drain(..).take(readable).flatten() {
            left.entry(replica).or_default().change(&change);
        }
        self.go_back_to(left, kept);
    }

    /// It cannot be opened any more: an empty one is in its place, whose replicas know that they have promised something.
    pub(super) fn vanished(&mut self) {
        (self.opened, self.since) = Default::default();
        self.forget();
        self.go_back_to(Logs::new(), 0);
    }

    /// A copy is taken of what can be read.
    pub(super) fn copied(&mut self) {
        self.copy = (self.live.clone(), self.durable + self.unsafe_yet.len() as u64);
    }

    /// The copy is in its place. The others tell the node that it is one, and it has no say before it has again what it held.
    pub(super) fn put_back(&mut self) {
        let (left, kept) = self.copy.clone();
        self.opened = (left.clone(), kept);
        self.since.clear();
        self.forget();
        self.go_back_to(left, kept);
    }

    /// The votes that it held bind it.
    fn forget(&mut self) {
        let given = |(replica, log): (&u64, &ReplicaLog)| Some((*replica, log.vote.filter(|vote| vote.voted_for != *replica)?));
        self.forgotten.extend(self.safe.iter().filter_map(given));
    }

    /// The replicas hold themselves to what is there.
    fn go_back_to(&mut self, left: Logs, kept: u64) {
        for (replica, log) in std::mem::replace(&mut self.safe, left.clone()) {
            let known = self.vouched.entry(replica).or_default();
            if known.last() < log.last() {
                *known = log;
            }
        }
        (self.live, self.durable) = (left, kept);
        self.unsafe_yet.clear();
    }

    /// Whether the worst power loss would leave it this entry, or it vouches for it.
    pub(super) fn holds(&self, replica: u64, id: EntryId) -> bool {
        let purged = self.live.get(&replica).is_some_and(|log| log.is_purged(id.index));
        let holds = |logs: &Logs| logs.get(&replica).is_some_and(|log| log.holds(id));
        purged || holds(&self.safe) || holds(&self.vouched)
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
        let left = kept.saturating_sub(self.opened.1);
        self.since.truncate(usize::try_from(left).expect("batches in memory are fewer than addresses"));
    }
}

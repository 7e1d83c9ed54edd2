//! Timers: when what is to be looked at. Memory has those that are due soon and those that the store may not have
//! yet; the others are read from the store before a tick can reach them.
//!
//! A timer is its key and nothing more. So a checkpoint is the set of keys that came and went before it began, nothing has
//! to be copied when one of them changes again, and what all timers add to the state hash follows from these sets,
//! wherever the timers are.

#[cfg(test)]
mod tests;

use std::collections::btree_map::{Entry, Range};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::Bound;

use crate::encoding::{EMPTY, read_row};
use crate::table::{ByteCounts, RowSink, Table};
use crate::{BytesError, RowKey, TableKey, row_hash};

/// What a key costs in a map: nodes of maps that grow at their end are little more than half full.
const EACH: u64 = 48;

/// A timer: when it is due, and what then. Ordered by the time first; all keys are equally long.
pub trait TimerKey: TableKey + Copy + Debug {
    /// The time by which timers are ordered.
    type Time: Copy + Ord + Debug;
    /// No timer is before this one.
    const FIRST: Self;
    /// Rough size of a row.
    const BYTES: u64;

    /// When it is due.
    fn due(&self) -> Self::Time;

    /// The key behind this one.
    #[must_use]
    fn following(&self) -> Self;
}

/// What happened to a timer between the beginnings of two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Set,
    Cleared,
}

impl Change {
    /// What the store is to have under the key.
    fn value(self) -> Option<&'static [u8]> {
        match self {
            Self::Set => Some(&EMPTY),
            Self::Cleared => None,
        }
    }

    /// The sum of row hashes after it.
    fn added_to(self, sum: u64, key: &RowKey) -> u64 {
        let hash = row_hash(key.hash(), &EMPTY);
        match self {
            Self::Set => sum.wrapping_add(hash),
            Self::Cleared => sum.wrapping_sub(hash),
        }
    }
}

type Changes<K> = BTreeMap<K, Change>;

/// A read of timers from the store that is due. Good until another checkpoint is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerScan<K> {
    /// The first timer that may be in the store alone.
    from: K,
    epoch: u64,
}

impl<K: TimerKey> TimerScan<K> {
    /// The rows that are wanted are those of the table of timers whose keys are greater than this, in their order: as many
    /// as fit.
    #[must_use]
    pub fn after(&self) -> Vec<u8> {
        let mut key = self.from.write().as_bytes().to_vec();
        // Keys are equally long: the one before has a last byte that is less by one, or an end that is left out.
        let last = key.pop().unwrap_or_default();
        key.extend(last.checked_sub(1));
        key
    }
}

/// A table of timers. How many run in all, the caller knows.
#[derive(Debug)]
pub struct Timers<K> {
    /// Those in memory.
    here: BTreeSet<K>,
    /// From this one on, timers may be in the store alone; all before it are here. `None`: all are.
    cold_from: Option<K>,
    /// What came and went since the last checkpoint began.
    changed: Changes<K>,
    /// What came and went before, until the store has it: a read that began earlier must not bring back what went, and
    /// what came must not leave.
    frozen: Changes<K>,
    /// The last of them that the checkpoint has handed out.
    taken: Option<K>,
    /// What the store has and nobody has looked at since: what came may leave.
    stored: Changes<K>,
    /// Counts durable checkpoints.
    epoch: u64,
    /// Wrapping sum of the hashes of all rows, as far as checkpoints have handed them out; without those from before this
    /// process began.
    sum: u64,
}

/// What of a checkpoint has not been handed out.
fn rest<K: TimerKey>(frozen: &Changes<K>, taken: Option<K>) -> Range<'_, K, Change> {
    frozen.range((taken.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            here: BTreeSet::new(),
            cold_from: None,
            changed: Changes::new(),
            frozen: Changes::new(),
            taken: None,
            stored: Changes::new(),
            epoch: 0,
            sum: 0,
        }
    }
}

impl<K: TimerKey> Timers<K> {
    /// A timer that does not run yet begins to.
    pub fn put(&mut self, timer: K) {
        assert!(self.here.insert(timer), "timer {timer:?} is set twice");
        self.note(timer, Change::Set);
    }

    /// A timer that runs ends. It need not be here: its key is all there is to it.
    pub fn remove(&mut self, timer: K) {
        if !self.here.remove(&timer) {
            assert!(self.cold_from.is_some_and(|cold| cold <= timer), "timer {timer:?} ends and does not run");
        }
        self.note(timer, Change::Cleared);
    }

    /// Of two changes between checkpoints nothing is left: the second takes back the first.
    fn note(&mut self, timer: K, change: Change) {
        match self.changed.entry(timer) {
            Entry::Vacant(free) => drop(free.insert(change)),
            Entry::Occupied(before) => assert!(before.remove() != change, "timer {timer:?}: {change:?} again"),
        }
    }

    /// The first timer that may be in the store alone, when `running` run in all.
    fn first_cold(&self, running: u64) -> Option<K> {
        self.cold_from.filter(|_| (self.here.len() as u64) < running)
    }

    /// Whether some may be in the store alone.
    #[must_use]
    pub fn is_partial(&self, running: u64) -> bool {
        self.first_cold(running).is_some()
    }

    /// Those in memory, in the order in which they are due.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.here.iter()
    }

    /// When the next one is due, or the first of which only the store can tell.
    #[must_use]
    pub fn next(&self, running: u64) -> Option<K::Time> {
        self.here.first().copied().into_iter().chain(self.first_cold(running)).min().map(|timer| timer.due())
    }

    /// The first timer if it is due at `now`. Panics when one before it could be in the store alone: apply never reads the
    /// store, and a guess would be a fork.
    #[must_use]
    pub fn due(&self, now: K::Time, running: u64) -> Option<K> {
        let first = self.here.first().copied().filter(|timer| timer.due() <= now);
        let known = self.first_cold(running).is_none_or(|cold| first.map_or(now < cold.due(), |first| first < cold));
        assert!(known, "timers that are due at {now:?} were not loaded");
        first
    }

    /// What has to be read before up to `wanted` timers that are due at `now` can be told. Not more: those that piled up
    /// while nobody could fire them need not all be here for the first of them to fire.
    #[must_use]
    pub fn missing(&self, now: K::Time, running: u64, wanted: usize) -> Option<TimerScan<K>> {
        let from = self.first_cold(running).filter(|cold| cold.due() <= now)?;
        let known = self.here.range(..from).take(wanted).count();
        (known < wanted).then_some(TimerScan { from, epoch: self.epoch })
    }

    /// Takes what a scan found, no row at all being the end of the table. False when a checkpoint became durable
    /// since, or when earlier timers left: ask again.
    ///
    /// # Errors
    /// A row cannot be read.
    pub fn admit<'a>(
        &mut self,
        scan: &TimerScan<K>,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<bool, BytesError> {
        if scan.epoch != self.epoch || self.cold_from.is_some_and(|cold| cold < scan.from) {
            return Ok(false);
        }
        let mut end = None;
        for (key, value) in rows {
            let timer = parse::<K>(key, value)?;
            end = Some(timer.following());
            // What changed lately is here if it runs.
            if !self.changed.contains_key(&timer) && !self.frozen.contains_key(&timer) {
                self.here.insert(timer);
            }
        }
        self.cold_from = self.cold_from.and(end);
        Ok(true)
    }

    /// Looks at `limit` timers that the store has got, and lets those leave memory that are due after `near`. True once that
    /// was all.
    pub fn evict_step(&mut self, near: K::Time, running: u64, limit: usize) -> bool {
        // Should all be here again, only those that leave now are not.
        self.cold_from = self.first_cold(running);
        for _ in 0..limit {
            let Some((timer, _)) = self.stored.pop_first() else { break };
            // Of one that changed again, the store has no longer what is true.
            let stays = timer.due() <= near || self.changed.contains_key(&timer) || self.frozen.contains_key(&timer);
            if !stays && self.here.remove(&timer) {
                self.cold_from = self.cold_from.into_iter().chain([timer]).min();
            }
        }
        self.stored.is_empty()
    }
}

impl<K: TimerKey> Table for Timers<K> {
    fn tags(&self) -> &[u8] {
        &[K::TAG]
    }

    fn is_resident(&self) -> bool {
        false
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        let timer = parse::<K>(key, value)?;
        assert!(self.here.insert(timer), "timer {timer:?} was restored twice");
        Ok(())
    }

    /// Any timer may be in the store.
    fn set_cold(&mut self) {
        self.cold_from = Some(K::FIRST);
    }

    fn set_warm(&mut self) {
        self.cold_from = None;
    }

    fn begin_checkpoint(&mut self) {
        assert!(self.frozen.is_empty(), "a checkpoint is still running");
        std::mem::swap(&mut self.changed, &mut self.frozen);
        self.taken = None;
    }

    fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        let mut rest = rest(&self.frozen, self.taken);
        for (timer, change) in rest.by_ref().take(limit) {
            let key = timer.write();
            out(key.as_bytes(), change.value());
            self.sum = change.added_to(self.sum, &key);
            self.taken = Some(*timer);
        }
        rest.next().is_none()
    }

    /// What the checkpoint set may leave from now on, bit by bit: [`Timers::evict_step`].
    fn checkpoint_durable(&mut self) {
        self.epoch += 1;
        self.stored.append(&mut self.frozen);
    }

    fn state_sum(&mut self) -> u64 {
        let changes = rest(&self.frozen, self.taken).chain(&self.changed);
        changes.fold(self.sum, |sum, (timer, change)| change.added_to(sum, &timer.write()))
    }

    fn checkpoint_sum(&self) -> u64 {
        assert!(rest(&self.frozen, self.taken).next().is_none(), "a checkpoint is still being taken");
        self.sum
    }

    fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        out.extend(self.here.iter().map(|timer| (timer.write().as_bytes().to_vec(), EMPTY.to_vec())));
    }

    fn byte_counts(&self) -> ByteCounts {
        let changes = [&self.changed, &self.frozen, &self.stored].map(BTreeMap::len);
        let resident = (self.here.len() + changes.iter().sum::<usize>()) as u64 * EACH;
        ByteCounts { resident, dirty: self.changed.len() as u64 * K::BYTES }
    }
}

fn parse<K: TimerKey>(key: &[u8], value: &[u8]) -> Result<K, BytesError> {
    read_row::<()>(value)?;
    if key.first() != Some(&K::TAG) {
        return Err(BytesError::Key);
    }
    K::parse(key)
}

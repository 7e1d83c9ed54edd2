//! The tail: a group's newest entries in memory, for replication and apply.

use std::collections::VecDeque;
use std::ops::Range;

/// Entries without gaps, up to the last of the log.
///
/// Each entry has the number of the request that wrote it. Only entries whose request has been written may leave, because until
/// then they exist only here. Entries with waiting callers stay until apply has received them, because the callers go with
/// them. The proposer keeps their number small.
#[derive(Debug)]
pub(super) struct Tail<E> {
    slots: VecDeque<TailCell<E>>,
    /// Index of the first entry in memory, or of the next one if there is none.
    first: u64,
    /// Sum of the encoded sizes.
    bytes: usize,
    /// Requests up to this one are on the disk.
    written: u64,
    /// Apply has received the entries before this index.
    given: u64,
}

#[derive(Debug)]
struct TailCell<E> {
    entry: E,
    /// Encoded size in bytes.
    size: usize,
    request: u64,
    /// Whether a caller waits for the entry's outcome.
    awaited: bool,
}

impl<E: Clone> Tail<E> {
    /// An empty tail; the next entry has the index `next`.
    pub(super) fn starting_at(next: u64) -> Self {
        Self { slots: VecDeque::new(), first: next, bytes: 0, written: 0, given: 0 }
    }

    /// Index of the first entry in memory; earlier ones must be read from the disk.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Index of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next entry, of `size` encoded bytes, which `request` writes.
    pub(super) fn push(&mut self, entry: E, size: usize, request: u64, awaited: bool) {
        let last = self.slots.back().map_or(0, |slot| slot.request);
        assert!(request >= last, "AcknowledgedIsDurable: request {request} writes what follows request {last}");
        self.bytes += size;
        self.slots.push_back(TailCell { entry, size, request, awaited });
    }

    /// Adds the entry before the first one, for recovery, which reads backwards.
    pub(super) fn push_front(&mut self, entry: E, size: usize) {
        self.first = self.first.checked_sub(1).expect("no entry comes before index 0");
        self.bytes += size;
        self.slots.push_front(TailCell { entry, size, request: 0, awaited: false });
    }

    /// Copies the entries of `indexes`, which must be in memory, to `out`, up to `budget` bytes. The first entry in `out` is
    /// taken whatever its size.
    pub(super) fn read(&self, indexes: Range<u64>, budget: &mut usize, out: &mut Vec<E>) {
        let (from, to) = (self.position(indexes.start), self.position(indexes.end));
        for slot in self.slots.range(from..to) {
            if slot.size > *budget && !out.is_empty() {
                *budget = 0;
                return;
            }
            *budget = budget.saturating_sub(slot.size);
            out.push(slot.entry.clone());
        }
    }

    /// Removes the entries from `index` on.
    pub(super) fn truncate_from(&mut self, index: u64) {
        if index < self.first {
            self.restart_at(index);
            return;
        }
        let kept = self.position(index.min(self.next()));
        let gone: usize = self.slots.drain(kept..).map(|slot| slot.size).sum();
        self.forget(gone);
        debug_assert_eq!(self.bytes, self.slots.iter().map(|slot| slot.size).sum(), "the bytes of the tail are counted");
    }

    /// Removes the entries before `index`. If none is left, the next entry has this index.
    pub(super) fn drop_before(&mut self, index: u64) {
        if index >= self.next() {
            self.restart_at(index);
            return;
        }
        while self.first < index {
            self.pop_front();
        }
    }

    /// Removes all entries; the next entry has the index `next`.
    pub(super) fn restart_at(&mut self, next: u64) {
        *self = Self { written: self.written, given: self.given, ..Self::starting_at(next) };
    }

    /// Requests up to this one are on the disk: evicts the oldest entries down to `limit` bytes.
    pub(super) fn written(&mut self, request: u64, limit: usize) {
        assert!(request >= self.written, "AcknowledgedIsDurable: request {request} is written after {}", self.written);
        self.written = request;
        self.evict(limit);
    }

    /// Apply has received the entries before `index`: evicts the oldest entries down to `limit` bytes.
    pub(super) fn given(&mut self, index: u64, limit: usize) {
        self.given = self.given.max(index);
        self.evict(limit);
    }

    fn evict(&mut self, limit: usize) {
        while self.bytes > limit && self.slots.front().is_some_and(|slot| self.may_go(slot)) {
            self.pop_front();
        }
    }

    /// Whether the first entry, which this is, may go.
    fn may_go(&self, slot: &TailCell<E>) -> bool {
        slot.request <= self.written && (!slot.awaited || self.first < self.given)
    }

    fn pop_front(&mut self) {
        let slot = self.slots.pop_front().expect("callers have seen that there is one");
        self.forget(slot.size);
        self.first += 1;
    }

    fn forget(&mut self, bytes: usize) {
        assert!(self.bytes >= bytes, "{bytes} bytes leave a tail of {}", self.bytes);
        self.bytes -= bytes;
    }

    fn position(&self, index: u64) -> usize {
        let position = index.checked_sub(self.first).expect("callers ask for what is here");
        usize::try_from(position).expect("an index of what is in memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 10 to 14 of 10 bytes each, written by requests 1 to 5. Nobody waits for them.
    fn tail() -> Tail<u64> {
        tail_of(&[])
    }

    /// The same, and somebody waits for those that are named.
    fn tail_of(awaited: &[u64]) -> Tail<u64> {
        let mut tail = Tail::starting_at(10);
        (0..5).for_each(|n| tail.push(10 + n, 10, 1 + n, awaited.contains(&(10 + n))));
        tail
    }

    fn read(tail: &Tail<u64>, indexes: Range<u64>, mut budget: usize) -> Vec<u64> {
        let mut out = Vec::new();
        tail.read(indexes, &mut budget, &mut out);
        out
    }

    #[test]
    fn reading_ends_where_the_budget_does() {
        #[rustfmt::skip]
        let rows = [
            // indexes, budget,     read
            (10..15,    usize::MAX, vec![10, 11, 12, 13, 14]),
            (11..13,    usize::MAX, vec![11, 12]),
            (10..15,    30,         vec![10, 11, 12]),
            (10..15,    29,         vec![10, 11]),
            (10..15,    1,          vec![10]),
            (12..12,    100,        vec![]),
        ];
        for (indexes, budget, expected) in rows {
            assert_eq!(read(&tail(), indexes.clone(), budget), expected, "{indexes:?} {budget}");
        }
    }

    #[test]
    #[should_panic(expected = "AcknowledgedIsDurable: request 4 writes what follows request 5")]
    fn no_entry_is_written_before_the_one_that_it_follows() {
        tail().push(15, 10, 4, false);
    }

    #[test]
    #[should_panic(expected = "AcknowledgedIsDurable: request 2 is written after 3")]
    fn what_is_on_the_disk_does_not_become_less() {
        let mut tail = tail();
        tail.written(3, usize::MAX);
        tail.written(2, usize::MAX);
    }

    type Change = fn(&mut Tail<u64>);

    #[test]
    fn what_is_cut_off_is_gone() {
        #[rustfmt::skip]
        let rows: [(&str, Change, u64, u64, usize); 9] = [
            // what                 change                      first next bytes
            ("truncate the end",    |t| t.truncate_from(13),    10,   13,  30),
            ("truncate all",        |t| t.truncate_from(10),    10,   10,  0),
            ("truncate below",      |t| t.truncate_from(7),      7,    7,  0),
            ("truncate nothing",    |t| t.truncate_from(15),    10,   15,  50),
            ("purge the start",     |t| t.drop_before(12),      12,   15,  30),
            ("purge all",           |t| t.drop_before(15),      15,   15,  0),
            ("purge beyond",        |t| t.drop_before(20),      20,   20,  0),
            ("purge nothing",       |t| t.drop_before(9),       10,   15,  50),
            ("recover backwards",   |t| t.push_front(9, 10),     9,   15,  60),
        ];
        for (what, change, first, next, bytes) in rows {
            let mut tail = tail();
            change(&mut tail);
            assert_eq!((tail.first(), tail.next(), tail.bytes()), (first, next, bytes), "{what}");
        }
    }

    #[test]
    fn only_what_is_on_the_disk_leaves_and_what_is_awaited_only_to_apply() {
        #[rustfmt::skip]
        let rows: [(&[u64], u64, u64, usize, u64); 13] = [
            // awaited,     written, given, limit, first
            (&[],           0,       0,     0,     10),
            (&[],           2,       0,     0,     12),
            (&[],           5,       0,     0,     15),
            (&[],           5,       0,     25,    13),
            (&[],           5,       0,     50,    10),
            (&[],           1,       0,     25,    11),
            (&[10],         5,       0,     0,     10),
            (&[10],         5,       11,    0,     15),
            (&[12, 13],     5,       0,     0,     12),
            (&[12, 13],     5,       13,    0,     13),
            (&[12, 13],     5,       14,    25,    13),
            (&[12, 13],     2,       15,    0,     12),
            (&[10, 14],     5,       14,    0,     14),
        ];
        for (awaited, written, given, limit, first) in rows {
            for written_first in [false, true] {
                let mut tail = tail_of(awaited);
                if written_first {
                    tail.written(written, limit);
                }
                tail.given(given, limit);
                tail.written(written, limit);
                assert_eq!(tail.first(), first, "{awaited:?} {written} {given} {limit}");
                assert_eq!(tail.next(), 15, "{awaited:?} {written} {given} {limit}");
            }
        }
    }
}

//! A table that is always in memory, decoded. Its rows are encoded only for a checkpoint or a hash: what comes and goes
//! between two checkpoints costs neither. Checkpoints are taken bit by bit, as in `checkpoint`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;
use std::ops::RangeBounds;

use crate::checkpoint::Copies;
use crate::encoding::{encode, encoded, read_row};
use crate::table::{ByteCounts, RowSink, Table};
use crate::{BytesError, TableKey, row_hash};

/// What a row costs beside its value: two map nodes, roughly.
const OVERHEAD: u64 = 64;

/// What is known of the rows of a table beside them, to find them by something else than their keys. The table keeps it true,
/// at a start too.
pub trait RowIndex<K, V>: Default + PartialEq + Debug {
    /// How many times as much memory as the table it takes, roughly.
    const COPIES: u64;

    /// There is a row that was not there.
    fn added(&mut self, key: &K, value: &V);

    /// A row has another value.
    fn changed(&mut self, key: &K, before: &V, now: &V) {
        self.removed(key, before);
        self.added(key, now);
    }

    /// A row is gone.
    fn removed(&mut self, key: &K, before: &V);
}

/// No index.
impl<K, V> RowIndex<K, V> for () {
    const COPIES: u64 = 0;

    fn added(&mut self, _: &K, _: &V) {}

    fn removed(&mut self, _: &K, _: &V) {}
}

/// What the rows of a resident table may be.
pub trait ResidentValue: bincode::Encode + for<'a> bincode::BorrowDecode<'a, ()> {}

impl<V: bincode::Encode + for<'a> bincode::BorrowDecode<'a, ()>> ResidentValue for V {}

/// A row, with what is known of it.
#[derive(Debug)]
struct Kept<V> {
    value: V,
    /// What the row adds to the sum; zero when it adds nothing.
    settled: u64,
    /// Some checkpoint has taken it.
    stored: bool,
    /// Number of the checkpoint that is to take it as it is now; zero when one has.
    changed: u32,
}

impl<V: bincode::Encode> Kept<V> {
    /// Moves the sum from what the row added to what it adds now; gives its bytes, which lie in `scratch`.
    fn settle<'a>(&mut self, key_hash: u64, sum: &mut u64, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let bytes = encode(scratch, &self.value);
        let now = row_hash(key_hash, bytes);
        *sum = sum.wrapping_sub(self.settled).wrapping_add(now);
        self.settled = now;
        bytes
    }
}

/// What is left of a row that the sum or the store has seen.
#[derive(Debug)]
struct Gone {
    settled: u64,
    stored: bool,
    /// Number of the checkpoint that is to take the deletion.
    changed: u32,
}

/// A resident table, with an index if it has one.
#[derive(Debug)]
pub struct Resident<K, V, I = ()> {
    rows: BTreeMap<K, Kept<V>>,
    index: I,
    /// Deletions that the store has not seen yet.
    gone: BTreeMap<K, Gone>,
    /// Rows that changed since the last checkpoint began, some of them more than once or in vain.
    dirty: Vec<K>,
    /// Number of the last checkpoint, from 1; the rows that it takes, and how many of them have been looked at.
    number: u32,
    due: Vec<K>,
    seen: usize,
    /// Rows that it took before it came to them.
    early: Copies,
    sum: u64,
    scratch: Vec<u8>,
    /// Rough size of a value in memory and on disk.
    each: u64,
}

impl<K: TableKey, V: ResidentValue, I: RowIndex<K, V>> Resident<K, V, I> {
    /// An empty table whose values take about `each` bytes.
    #[must_use]
    pub fn new(each: u64) -> Self {
        Self {
            rows: BTreeMap::new(),
            index: I::default(),
            gone: BTreeMap::new(),
            dirty: Vec::new(),
            number: 0,
            due: Vec::new(),
            seen: 0,
            early: Copies::default(),
            sum: 0,
            scratch: Vec::new(),
            each,
        }
    }

    /// A row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|kept| &kept.value)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every row, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, kept)| (key, &kept.value))
    }

    /// The rows whose keys are in a range.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, kept)| (key, &kept.value))
    }

    /// What is known of the rows beside them.
    #[must_use]
    pub fn index(&self) -> &I {
        &self.index
    }

    /// Writes a row.
    pub fn put(&mut self, key: K, value: V) {
        self.before_change(&key);
        let next = self.number + 1;
        match self.rows.entry(key) {
            Entry::Occupied(mut known) => {
                self.index.changed(known.key(), &known.get().value, &value);
                let kept = known.get_mut();
                kept.value = value;
                if std::mem::replace(&mut kept.changed, next) != next {
                    self.dirty.push(known.key().clone());
                }
                return;
            }
            Entry::Vacant(free) => {
                self.index.added(free.key(), &value);
                let before = if self.gone.is_empty() { None } else { self.gone.remove(free.key()) };
                let (settled, stored) = before.map_or((0, false), |gone| (gone.settled, gone.stored));
                self.dirty.push(free.key().clone());
                free.insert(Kept { value, settled, stored, changed: next });
            }
        }
        self.forget_stale();
    }

    /// Rows that came and went leave keys in the dirty list: it must not grow with them.
    fn forget_stale(&mut self) {
        if self.dirty.len() > 1_024 + 2 * (self.rows.len() + self.gone.len()) {
            let (rows, gone) = (&self.rows, &self.gone);
            self.dirty.retain(|key| rows.get(key).is_some_and(|kept| kept.changed != 0) || gone.contains_key(key));
            self.dirty.sort_unstable();
            self.dirty.dedup();
        }
    }

    /// Deletes a row; what it was.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.before_change(key);
        let kept = self.rows.remove(key)?;
        self.index.removed(key, &kept.value);
        // A row that neither the sum nor a checkpoint has seen never was; its entry in the dirty list is skipped.
        if kept.settled != 0 || kept.stored {
            let changed = self.number + 1;
            if kept.changed != changed {
                self.dirty.push(key.clone());
            }
            self.gone.insert(key.clone(), Gone { settled: kept.settled, stored: kept.stored, changed });
        }
        Some(kept.value)
    }

    /// The row is about to change: a checkpoint that has not come to it takes it first.
    fn before_change(&mut self, key: &K) {
        if self.seen < self.due.len() {
            let mut early = std::mem::take(&mut self.early);
            self.take(key, &mut |key, value| early.add(key, value));
            self.early = early;
        }
    }

    /// Takes a row, or its deletion, that the checkpoint has not taken yet and that has not changed since it began.
    fn take(&mut self, key: &K, out: RowSink<'_>) {
        if let Some(kept) = self.rows.get_mut(key) {
            if kept.changed == self.number {
                (kept.changed, kept.stored) = (0, true);
                let row = key.write();
                out(row.as_bytes(), Some(kept.settle(row.hash(), &mut self.sum, &mut self.scratch)));
            }
        } else if self.gone.get(key).is_some_and(|gone| gone.changed == self.number)
            && let Some(gone) = self.gone.remove(key)
        {
            self.sum = self.sum.wrapping_sub(gone.settled);
            if gone.stored {
                out(key.write().as_bytes(), None);
            }
        }
    }

    /// Panics when the index says anything else than one that is made of the rows as they are.
    pub fn check(&self) {
        let mut anew = I::default();
        self.iter().for_each(|(key, value)| anew.added(key, value));
        assert!(anew == self.index, "the rows make {anew:?}, the index is {:?}", self.index);
    }
}

impl<K: TableKey, V: ResidentValue, I: RowIndex<K, V>> Table for Resident<K, V, I> {
    fn tags(&self) -> &[u8] {
        &[K::TAG]
    }

    fn is_resident(&self) -> bool {
        true
    }

    fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), BytesError> {
        let value = read_row::<V>(bytes)?;
        let key = K::parse(key)?;
        let settled = row_hash(key.write().hash(), bytes);
        self.sum = self.sum.wrapping_add(settled);
        self.index.added(&key, &value);
        let before = self.rows.insert(key, Kept { value, settled, stored: true, changed: 0 });
        assert!(before.is_none(), "a row was restored twice");
        Ok(())
    }

    /// A start reads all rows: none is in the store alone.
    fn set_cold(&mut self) {}

    fn set_warm(&mut self) {}

    fn begin_checkpoint(&mut self) {
        assert!(self.seen == self.due.len(), "a checkpoint is still being taken");
        self.number += 1;
        self.seen = 0;
        self.due.clear();
        std::mem::swap(&mut self.due, &mut self.dirty);
    }

    fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        self.early.empty(out);
        let end = self.due.len().min(self.seen.saturating_add(limit));
        while self.seen < end {
            let key = self.due[self.seen].clone();
            self.seen += 1;
            self.take(&key, out);
        }
        end == self.due.len()
    }

    /// Nothing leaves memory, and a deletion was forgotten when the checkpoint took it.
    fn checkpoint_durable(&mut self) {}

    fn state_sum(&mut self) -> u64 {
        for key in self.due[self.seen..].iter().chain(&self.dirty) {
            if let Some(kept) = self.rows.get_mut(key).filter(|kept| kept.changed != 0) {
                kept.settle(key.write().hash(), &mut self.sum, &mut self.scratch);
            } else if let Some(gone) = self.gone.get_mut(key) {
                self.sum = self.sum.wrapping_sub(std::mem::take(&mut gone.settled));
            }
        }
        self.sum
    }

    fn checkpoint_sum(&self) -> u64 {
        0
    }

    fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, kept) in &self.rows {
            out.push((key.write().as_bytes().to_vec(), encoded(&kept.value)));
        }
    }

    fn byte_counts(&self) -> ByteCounts {
        let rows = (self.rows.len() + self.gone.len()) as u64;
        ByteCounts { resident: (1 + I::COPIES) * rows * (OVERHEAD + self.each), dirty: self.dirty.len() as u64 * self.each }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowKey;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Name(u64);

    impl TableKey for Name {
        const TAG: u8 = 2;

        fn write(&self) -> RowKey {
            RowKey::of(Self::TAG, &[&self.0.to_be_bytes()])
        }

        fn parse(key: &[u8]) -> Result<Self, BytesError> {
            let bytes = key.get(1..).and_then(|bytes| bytes.try_into().ok()).ok_or(BytesError::Key)?;
            Ok(Self(u64::from_be_bytes(bytes)))
        }
    }

    /// The names of a value.
    #[derive(Debug, Default, PartialEq)]
    struct ByValue(BTreeMap<u64, Vec<u64>>);

    impl RowIndex<Name, u64> for ByValue {
        const COPIES: u64 = 1;

        fn added(&mut self, key: &Name, value: &u64) {
            let names = self.0.entry(*value).or_default();
            names.push(key.0);
            names.sort_unstable();
        }

        fn removed(&mut self, key: &Name, value: &u64) {
            let names = self.0.get_mut(value).expect("it was added");
            names.retain(|name| *name != key.0);
            if names.is_empty() {
                self.0.remove(value);
            }
        }
    }

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn sum(rows: &Rows) -> u64 {
        rows.iter().map(|(key, value)| row_hash(RowKey::new(key).hash(), value)).fold(0, u64::wrapping_add)
    }

    #[test]
    fn a_checkpoint_is_of_the_moment_at_which_it_began() {
        let (mut table, mut plain, mut disk) = (Resident::<Name, u64, ByValue>::new(16), Rows::new(), Rows::new());
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..3_000 {
            let (mut then, mut taken) = (None, Vec::new());
            loop {
                for _ in 0..draw(5) {
                    let (key, value) = (Name(draw(12)), draw(9));
                    let row = key.write().as_bytes().to_vec();
                    if draw(3) == 0 {
                        assert_eq!(table.remove(&key).is_some(), plain.remove(&row).is_some());
                    } else {
                        plain.insert(row, encoded(&value));
                        table.put(key, value);
                    }
                }
                if then.is_none() {
                    then = Some(plain.clone());
                    table.begin_checkpoint();
                    continue;
                }
                if draw(10) == 0 {
                    assert_eq!(table.state_sum(), sum(&plain));
                }
                let (limit, mut take) = (draw(3) as usize, |key: &[u8], value: Option<&[u8]>| {
                    taken.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                });
                if table.checkpoint_step(limit, &mut take) {
                    break;
                }
            }
            table.check();
            for (key, value) in taken {
                match value {
                    Some(value) => drop(disk.insert(key, value)),
                    None => drop(disk.remove(&key)),
                }
            }
            assert_eq!(Some(&disk), then.as_ref());
            let mut restored = Resident::<Name, u64, ByValue>::new(16);
            disk.iter().for_each(|(key, value)| restored.restore(key, value).unwrap());
            restored.check();
            assert_eq!((restored.state_sum(), restored.len()), (sum(&disk), disk.len()));
        }
    }
}

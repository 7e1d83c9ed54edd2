//! A table that is always in memory, decoded. Its rows are encoded only for a checkpoint or a hash: what comes and goes
//! between two checkpoints costs neither.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeBounds;

use super::keys::TableKey;
use super::{RowSink, row_hash};
use crate::encoding::{BytesError, append, read_row};

/// What a row costs beside its value: two map nodes, roughly.
const OVERHEAD: u64 = 64;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    /// What the row adds to the sum; zero when it adds nothing.
    settled: u64,
    /// Some checkpoint has taken it.
    stored: bool,
    /// Changed since the last freeze.
    dirty: bool,
}

impl<V: bincode::Encode> Slot<V> {
    /// Moves the sum from what the row added to what it adds now; leaves its bytes in `scratch`.
    fn settle(&mut self, key_hash: u64, sum: &mut u64, scratch: &mut Vec<u8>) {
        scratch.clear();
        append(scratch, &self.value);
        let now = row_hash(key_hash, scratch);
        *sum = sum.wrapping_sub(self.settled).wrapping_add(now);
        self.settled = now;
    }
}

/// What is left of a row that the sum or the store has seen.
#[derive(Debug)]
struct Gone {
    settled: u64,
    stored: bool,
}

/// A resident table.
#[derive(Debug)]
pub(crate) struct Resident<K, V> {
    rows: BTreeMap<K, Slot<V>>,
    /// Deletions that the store has not seen yet.
    gone: BTreeMap<K, Gone>,
    dirty: Vec<K>,
    sum: u64,
    /// Rough size of a value in memory and on disk.
    each: u64,
}

impl<K: TableKey, V: bincode::Encode + for<'a> bincode::BorrowDecode<'a, ()> + PartialEq> Resident<K, V> {
    /// An empty table whose values take about `each` bytes.
    pub(crate) fn new(each: u64) -> Self {
        Self { rows: BTreeMap::new(), gone: BTreeMap::new(), dirty: Vec::new(), sum: 0, each }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|slot| &slot.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, slot)| (key, &slot.value))
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, slot)| (key, &slot.value))
    }

    pub(crate) fn first(&self) -> Option<&K> {
        self.rows.first_key_value().map(|(key, _)| key)
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        match self.rows.entry(key) {
            Entry::Occupied(mut known) => {
                let slot = known.get_mut();
                slot.value = value;
                if !std::mem::replace(&mut slot.dirty, true) {
                    self.dirty.push(known.key().clone());
                }
                return;
            }
            Entry::Vacant(free) => {
                let before = if self.gone.is_empty() { None } else { self.gone.remove(free.key()) };
                let (settled, stored) = before.map_or((0, false), |gone| (gone.settled, gone.stored));
                self.dirty.push(free.key().clone());
                free.insert(Slot { value, settled, stored, dirty: true });
            }
        }
        self.forget_stale();
    }

    /// Rows that came and went leave keys in the dirty list: it must not grow with them.
    fn forget_stale(&mut self) {
        if self.dirty.len() > 1_024 + 2 * (self.rows.len() + self.gone.len()) {
            let (rows, gone) = (&self.rows, &self.gone);
            self.dirty.retain(|key| rows.get(key).is_some_and(|slot| slot.dirty) || gone.contains_key(key));
            self.dirty.sort_unstable();
            self.dirty.dedup();
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.rows.remove(key)?;
        // A row that neither the sum nor a checkpoint has seen never was; its entry in the dirty list is skipped.
        if slot.settled != 0 || slot.stored {
            if !slot.dirty {
                self.dirty.push(key.clone());
            }
            self.gone.insert(key.clone(), Gone { settled: slot.settled, stored: slot.stored });
        }
        Some(slot.value)
    }

    /// Brings the sum of row hashes up to date and returns it.
    pub(crate) fn settle(&mut self, scratch: &mut Vec<u8>) -> u64 {
        for key in &self.dirty {
            if let Some(slot) = self.rows.get_mut(key).filter(|slot| slot.dirty) {
                slot.settle(key.write().hash(), &mut self.sum, scratch);
            } else if let Some(gone) = self.gone.get_mut(key) {
                self.sum = self.sum.wrapping_sub(gone.settled);
                gone.settled = 0;
            }
        }
        self.sum
    }

    /// Hands out what changed since the last freeze.
    pub(crate) fn freeze(&mut self, scratch: &mut Vec<u8>, out: RowSink<'_>) {
        for key in std::mem::take(&mut self.dirty) {
            let row = key.write();
            if let Some(slot) = self.rows.get_mut(&key) {
                if std::mem::take(&mut slot.dirty) {
                    slot.stored = true;
                    slot.settle(row.hash(), &mut self.sum, scratch);
                    out(row.as_bytes(), Some(scratch));
                }
            } else if let Some(gone) = self.gone.remove(&key) {
                self.sum = self.sum.wrapping_sub(gone.settled);
                if gone.stored {
                    out(row.as_bytes(), None);
                }
            }
        }
    }

    /// Takes a row from the store, at start.
    pub(crate) fn restore(&mut self, key: &[u8], bytes: &[u8]) -> Result<K, BytesError> {
        let value = read_row::<V>(bytes)?;
        let key = K::parse(key)?;
        let settled = row_hash(key.write().hash(), bytes);
        self.sum = self.sum.wrapping_add(settled);
        let before = self.rows.insert(key.clone(), Slot { value, settled, stored: true, dirty: false });
        assert!(before.is_none(), "a row was restored twice");
        Ok(key)
    }

    /// All rows as the store would hold them.
    pub(crate) fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, slot) in &self.rows {
            let mut bytes = Vec::new();
            append(&mut bytes, &slot.value);
            out.push((key.write().as_bytes().to_vec(), bytes));
        }
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        (self.rows.len() + self.gone.len()) as u64 * (OVERHEAD + self.each)
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty.len() as u64 * self.each
    }
}

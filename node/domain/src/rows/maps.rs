//! The slots of rows, in many small maps, so that none ever grows large. Ordered by the hash of the key alone: comparing
//! keys byte by byte would touch a cache line for each, and this is where apply spends its time.
//!
//! Two keys of one hash are no accident that must not happen but a case like any other, only slow: the second one lives
//! aside.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::RowKey;
use super::table::Slot;

/// Number of maps, as a power of two: of a shard that holds little, and of every other one. Not part of any format.
const BITS: [u32; 2] = [6, 16];
/// Rows that make a shard one that holds more than a little: moving them takes a few milliseconds, once.
const LITTLE: usize = 1 << 13;

#[derive(Debug)]
pub(super) struct Maps {
    maps: Vec<BTreeMap<u64, (RowKey, Slot)>>,
    bits: u32,
    /// Rows ever added, until they are spread.
    rows: usize,
    /// Keys whose hash another key had first.
    aside: BTreeMap<RowKey, Slot>,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self { maps: empty(BITS[0]), bits: BITS[0], rows: 0, aside: BTreeMap::new() }
    }

    /// Number of maps.
    pub(super) fn count(&self) -> usize {
        self.maps.len()
    }

    /// The high bits choose the map: keys sorted by hash walk through the maps in their order, however many there are.
    fn index(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.bits)) as usize
    }

    fn spread(&mut self) {
        self.bits = BITS[1];
        for (hash, row) in std::mem::replace(&mut self.maps, empty(BITS[1])).into_iter().flatten() {
            let map = self.index(hash);
            self.maps[map].insert(hash, row);
        }
    }

    pub(super) fn get(&self, key: &RowKey) -> Option<&Slot> {
        match self.maps[self.index(key.hash())].get(&key.hash()) {
            Some((first, slot)) if first == key => Some(slot),
            _ => self.aside.get(key),
        }
    }

    pub(super) fn get_mut(&mut self, key: &RowKey) -> Option<&mut Slot> {
        let map = self.index(key.hash());
        match self.maps[map].get_mut(&key.hash()) {
            Some((first, slot)) if first == key => Some(slot),
            _ => self.aside.get_mut(key),
        }
    }

    /// Adds a slot for a key that has none.
    pub(super) fn insert(&mut self, key: RowKey, slot: Slot) {
        self.rows += 1;
        if self.rows > LITTLE && self.bits == BITS[0] {
            self.spread();
        }
        let map = self.index(key.hash());
        match self.maps[map].entry(key.hash()) {
            Entry::Vacant(free) => drop(free.insert((key, slot))),
            Entry::Occupied(_) => drop(self.aside.insert(key, slot)),
        }
    }

    pub(super) fn remove(&mut self, key: &RowKey) -> Option<Slot> {
        let map = self.index(key.hash());
        let map = &mut self.maps[map];
        if map.get(&key.hash()).is_some_and(|(first, _)| first == key) {
            return map.remove(&key.hash()).map(|(_, slot)| slot);
        }
        self.aside.remove(key)
    }

    /// Drops the slots of one map that are not to be kept. What lives aside stays.
    pub(super) fn sweep(&mut self, map: usize, mut keep: impl FnMut(&RowKey, &mut Slot) -> bool) {
        self.maps[map].retain(|_, (key, slot)| keep(key, slot));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Slot)> {
        self.maps.iter().flat_map(BTreeMap::values).map(|(key, slot)| (key, slot)).chain(&self.aside)
    }
}

fn empty(bits: u32) -> Vec<BTreeMap<u64, (RowKey, Slot)>> {
    std::iter::repeat_with(BTreeMap::new).take(1 << bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::table::Value;

    fn slot(settled: u64) -> Slot {
        Slot { value: Value::Gone, settled, stored: false, dirty: false, frozen: false, recent: false }
    }

    #[test]
    fn keys_of_one_hash_live_side_by_side() {
        let (a, b, c) = (RowKey::with_hash(b"a", 7), RowKey::with_hash(b"b", 7), RowKey::with_hash(b"c", 7));
        let mut maps = Maps::new();
        maps.insert(a.clone(), slot(1));
        maps.insert(b.clone(), slot(2));
        let seen = |maps: &Maps| [&a, &b, &c].map(|key| maps.get(key).map(|slot| slot.settled));
        assert_eq!(seen(&maps), [Some(1), Some(2), None]);
        maps.get_mut(&b).unwrap().settled = 20;
        assert_eq!(maps.iter().count(), 2);
        // The first leaves; the second stays where it is; a third takes the place.
        assert!(maps.remove(&a).is_some() && maps.remove(&a).is_none());
        assert_eq!(seen(&maps), [None, Some(20), None]);
        maps.insert(c.clone(), slot(3));
        assert_eq!(seen(&maps), [None, Some(20), Some(3)]);
        assert!(maps.remove(&b).is_some());
        assert_eq!(seen(&maps), [None, None, Some(3)]);
    }

    #[test]
    fn rows_are_found_after_they_were_spread() {
        let mut maps = Maps::new();
        let keys: Vec<RowKey> = (0..2 * LITTLE).map(|n| RowKey::new(format!("key {n}").as_bytes())).collect();
        for (n, key) in keys.iter().enumerate() {
            maps.insert(key.clone(), slot(n as u64));
        }
        assert_eq!(maps.count(), 1 << BITS[1]);
        assert!(keys.iter().enumerate().all(|(n, key)| maps.get(key).is_some_and(|slot| slot.settled == n as u64)));
        let seen: Vec<&RowKey> = maps.iter().map(|(key, _)| key).collect();
        assert!(seen.len() == keys.len() && seen.is_sorted());
    }
}

//! The slots of rows, in many small sorted lists, so that none ever grows large. Sorted by the hash of the key alone:
//! apply spends its time waiting for memory, and here a look-up waits three times, for the list, its hashes, the row.

use super::RowKey;
use super::table::Slot;

/// Number of lists, as a power of two: of a shard that holds little, and of every other one. Not part of any format.
const BITS: [u32; 2] = [6, 16];
/// Rows that make a shard one that holds more than a little: moving them takes a few milliseconds, once.
const LITTLE: usize = 1 << 13;

/// Rows sorted by hash, their hashes beside them. Two keys of one hash stand side by side.
#[derive(Debug, Default)]
struct List {
    hashes: Vec<u64>,
    rows: Vec<(RowKey, Slot)>,
}

#[derive(Debug)]
pub(super) struct Maps {
    lists: Vec<List>,
    bits: u32,
    /// Rows ever added, until they are spread.
    rows: usize,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self { lists: empty(BITS[0]), bits: BITS[0], rows: 0 }
    }

    /// Number of lists.
    pub(super) fn count(&self) -> usize {
        self.lists.len()
    }

    pub(super) fn get(&self, key: &RowKey) -> Option<&Slot> {
        let list = &self.lists[self.index(key.hash())];
        list.find(key, self.bits).ok().map(|at| &list.rows[at].1)
    }

    pub(super) fn get_mut(&mut self, key: &RowKey) -> Option<&mut Slot> {
        let index = self.index(key.hash());
        let list = &mut self.lists[index];
        list.find(key, self.bits).ok().map(|at| &mut list.rows[at].1)
    }

    /// Adds a slot for a key that has none.
    pub(super) fn insert(&mut self, key: RowKey, slot: Slot) {
        self.rows += 1;
        if self.rows > LITTLE && self.bits == BITS[0] {
            self.spread();
        }
        let index = self.index(key.hash());
        let list = &mut self.lists[index];
        let at = list.find(&key, self.bits).expect_err("a key has one slot");
        list.hashes.insert(at, key.hash());
        list.rows.insert(at, (key, slot));
    }

    pub(super) fn remove(&mut self, key: &RowKey) -> Option<Slot> {
        let index = self.index(key.hash());
        let list = &mut self.lists[index];
        let at = list.find(key, self.bits).ok()?;
        list.hashes.remove(at);
        Some(list.rows.remove(at).1)
    }

    /// Drops the slots of one list that are not to be kept.
    pub(super) fn sweep(&mut self, list: usize, mut keep: impl FnMut(&RowKey, &mut Slot) -> bool) {
        let list = &mut self.lists[list];
        list.rows.retain_mut(|(key, slot)| keep(key, slot));
        if list.rows.len() < list.hashes.len() {
            list.hashes.clear();
            list.hashes.extend(list.rows.iter().map(|(key, _)| key.hash()));
            list.hashes.shrink_to_fit();
            list.rows.shrink_to_fit();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Slot)> {
        self.lists.iter().flat_map(|list| &list.rows).map(|(key, slot)| (key, slot))
    }

    /// The high bits choose the list: keys sorted by hash walk through the lists in their order, however many there are.
    fn index(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.bits)) as usize
    }

    fn spread(&mut self) {
        self.bits = BITS[1];
        for list in std::mem::replace(&mut self.lists, empty(BITS[1])) {
            for (hash, row) in list.hashes.into_iter().zip(list.rows) {
                let index = self.index(hash);
                self.lists[index].hashes.push(hash);
                self.lists[index].rows.push(row);
            }
        }
    }
}

impl List {
    /// Where the key is, or where it belongs. `bits` of the hash have chosen the list; what follows them is spread
    /// evenly, so that it says about where the key is: one line of memory instead of the several that halving touches.
    fn find(&self, key: &RowKey, bits: u32) -> Result<usize, usize> {
        let (hash, hashes) = (key.hash(), self.hashes.as_slice());
        let share = u128::from(hash << bits);
        let mut at = ((share * hashes.len() as u128) >> u64::BITS) as usize;
        while at > 0 && hashes[at - 1] >= hash {
            at -= 1;
        }
        while at < hashes.len() && hashes[at] < hash {
            at += 1;
        }
        while hashes.get(at) == Some(&hash) {
            if self.rows[at].0 == *key {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }
}

fn empty(bits: u32) -> Vec<List> {
    std::iter::repeat_with(List::default).take(1 << bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::table::Value;

    fn slot(settled: u64) -> Slot {
        Slot { value: Value::Gone, settled, stored: false, dirty: false, frozen: 0, recent: false }
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
    fn a_key_is_found_however_unevenly_the_hashes_lie() {
        // All in one list, and crowded at its ends.
        let hashes: Vec<u64> = (0..200).chain((0..200).map(|n| (1 << 57) - 1 - n)).chain([1 << 50, 1 << 56]).collect();
        let mut maps = Maps::new();
        for (n, hash) in hashes.iter().enumerate() {
            maps.insert(RowKey::with_hash(&hash.to_be_bytes(), *hash), slot(n as u64));
        }
        for (n, hash) in hashes.iter().enumerate() {
            let found = maps.get(&RowKey::with_hash(&hash.to_be_bytes(), *hash)).map(|slot| slot.settled);
            assert_eq!(found, Some(n as u64), "{hash:x}");
            assert!(maps.get(&RowKey::with_hash(b"another", *hash)).is_none());
        }
        assert!(maps.get(&RowKey::with_hash(b"another", 1 << 49)).is_none());
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

//! The rows in memory, found by the hash of their keys: many small tables, so that none ever grows large.
//!
//! Apply spends its time waiting for memory. A look-up here waits twice, for a slot and for the row. The slots of a
//! table are *ordered*: the high bits of a hash say where its row belongs, and rows that belong to one place stand behind
//! each other by hash. So the order of all rows is that of their hashes, whatever happened before, a walk in that order
//! walks through memory, and growing copies without looking at any key.

use super::RowKey;
use super::row_table::Row;

/// The bits of a hash that choose the table. Not part of any format.
const BITS: u32 = 10;
/// Slots of the smallest table, as a power of two.
const LEAST: u32 = 3;

#[derive(Debug)]
struct Slot {
    hash: u64,
    row: Box<Row>,
}

/// A table: rows from the place where they belong on, without a gap before them, ordered by hash.
#[derive(Debug, Default)]
struct Table {
    /// `1 << bits` places where rows can belong, and behind them those that the last ones have been pushed to.
    slots: Vec<Option<Slot>>,
    bits: u32,
    rows: usize,
}

/// All tables. Two keys of one hash stand side by side.
#[derive(Debug)]
pub(super) struct Maps {
    tables: Vec<Table>,
}

/// Where a row is, or where it belongs: good until something is added or removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    table: usize,
    slot: usize,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self { tables: std::iter::repeat_with(Table::default).take(1 << BITS).collect() }
    }

    /// Number of tables.
    pub(super) fn count(&self) -> usize {
        self.tables.len()
    }

    /// Where the row of a key is, else where it belongs.
    pub(super) fn find(&self, key: &RowKey) -> Result<Place, Place> {
        let table = (key.hash() >> (u64::BITS - BITS)) as usize;
        let place = |slot| Place { table, slot };
        self.tables[table].find(key).map(place).map_err(place)
    }

    pub(super) fn get(&self, key: &RowKey) -> Option<&Row> {
        self.find(key).ok().map(|place| self.at(place))
    }

    /// The row that was found there.
    pub(super) fn at(&self, place: Place) -> &Row {
        &self.tables[place.table].slots[place.slot].as_ref().expect("a row was found here").row
    }

    /// The row that was found there, to be changed.
    pub(super) fn at_mut(&mut self, place: Place) -> &mut Row {
        &mut self.tables[place.table].slots[place.slot].as_mut().expect("a row was found here").row
    }

    /// Adds a row where it belongs.
    pub(super) fn insert(&mut self, place: Place, row: Box<Row>) {
        self.tables[place.table].insert(place.slot, Slot { hash: row.key.hash(), row });
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.tables[place.table].remove(place.slot);
    }

    /// Where the first row of a hash is; the others of that hash follow.
    pub(super) fn first_of(&self, hash: u64) -> Place {
        let table = (hash >> (u64::BITS - BITS)) as usize;
        Place { table, slot: self.tables[table].first_of(hash) }
    }

    /// The row at the place of a hash, most likely one of that hash.
    pub(super) fn near(&self, hash: u64) -> Option<&Row> {
        let Place { table, slot } = self.first_of(hash);
        Some(&self.tables[table].slots.get(slot)?.as_ref()?.row)
    }

    /// The row there, if there is one and it is of that hash.
    pub(super) fn of_hash(&mut self, hash: u64, place: Place) -> Option<&mut Row> {
        let slot = self.tables[place.table].slots.get_mut(place.slot)?.as_mut()?;
        (slot.hash == hash).then_some(&mut slot.row)
    }

    /// Drops the rows of one table that are not to be kept.
    pub(super) fn sweep(&mut self, table: usize, keep: impl FnMut(&mut Row) -> bool) {
        self.tables[table].sweep(keep);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.tables.iter().flat_map(|table| table.slots.iter().flatten()).map(|slot| &*slot.row)
    }
}

impl Place {
    /// The place behind this one.
    pub(super) fn next(self) -> Self {
        Self { slot: self.slot + 1, ..self }
    }
}

impl Table {
    /// Where a row of this hash belongs, when nothing stands in its way.
    fn home(&self, hash: u64) -> usize {
        ((hash << BITS) >> (u64::BITS - self.bits)) as usize
    }

    /// The first slot that is empty or holds a row of this hash or of a higher one.
    fn first_of(&self, hash: u64) -> usize {
        if self.slots.is_empty() {
            return 0;
        }
        let mut at = self.home(hash);
        while matches!(self.slots.get(at), Some(Some(slot)) if slot.hash < hash) {
            at += 1;
        }
        at
    }

    fn find(&self, key: &RowKey) -> Result<usize, usize> {
        let mut at = self.first_of(key.hash());
        while let Some(Some(slot)) = self.slots.get(at)
            && slot.hash == key.hash()
        {
            if slot.row.key == *key {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// Adds a row at the slot where [`Table::find`] missed it.
    fn insert(&mut self, at: usize, slot: Slot) {
        self.rows += 1;
        if !self.slots.is_empty() && self.rows * 4 <= 3 << self.bits {
            return self.put(at, slot);
        }
        self.lay_out(if self.slots.is_empty() { LEAST } else { self.bits + 1 });
        let at = self.find(&slot.row.key).expect_err("a key has one row");
        self.put(at, slot);
    }

    /// Puts a row into a slot; what stands there and behind it up to the next gap moves on by one.
    fn put(&mut self, at: usize, slot: Slot) {
        let gap = self.slots[at..].iter().position(Option::is_none).map(|length| at + length);
        let gap = gap.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at..=gap].rotate_right(1);
        self.slots[at] = Some(slot);
    }

    fn remove(&mut self, at: usize) {
        self.rows -= 1;
        self.slots[at] = None;
        // What had to make way for it comes back by one.
        let behind = |slot: usize| matches!(self.slots.get(slot), Some(Some(other)) if self.home(other.hash) < slot);
        let mut end = at + 1;
        while behind(end) {
            end += 1;
        }
        self.slots[at..end].rotate_left(1);
    }

    fn sweep(&mut self, mut keep: impl FnMut(&mut Row) -> bool) {
        let mut kept = 0;
        for slot in &mut self.slots {
            let stays = slot.as_mut().is_some_and(|slot| keep(&mut slot.row));
            kept += usize::from(stays);
            if !stays {
                *slot = None;
            }
        }
        if kept == self.rows {
            return;
        }
        self.rows = kept;
        let bits = (kept * 2).next_power_of_two().ilog2().clamp(LEAST, self.bits);
        self.lay_out(bits);
    }

    /// Lays the rows out anew, over so many places.
    fn lay_out(&mut self, bits: u32) {
        let before = std::mem::take(&mut self.slots);
        self.bits = bits;
        self.slots.resize_with(1 << bits, || None);
        let mut free = 0;
        for slot in before.into_iter().flatten() {
            let at = free.max(self.home(slot.hash));
            if at == self.slots.len() {
                self.slots.push(None);
            }
            self.slots[at] = Some(slot);
            free = at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn add(maps: &mut Maps, key: &RowKey, mark: u64) {
        let place = maps.find(key).expect_err("a key has one row");
        maps.insert(place, Box::new(Row::marked(key.clone(), mark)));
    }

    fn take(maps: &mut Maps, key: &RowKey) -> bool {
        let found = maps.find(key);
        found.is_ok_and(|place| {
            maps.remove(place);
            true
        })
    }

    fn mark_of(maps: &Maps, key: &RowKey) -> Option<u64> {
        maps.get(key).map(|row| row.settled)
    }

    #[test]
    fn keys_of_one_hash_live_side_by_side() {
        let (a, b, c) = (RowKey::with_hash(b"a", 7), RowKey::with_hash(b"b", 7), RowKey::with_hash(b"c", 7));
        let mut maps = Maps::new();
        add(&mut maps, &a, 1);
        add(&mut maps, &b, 2);
        let seen = |maps: &Maps| [&a, &b, &c].map(|key| mark_of(maps, key));
        assert_eq!(seen(&maps), [Some(1), Some(2), None]);
        let at = maps.find(&b).unwrap();
        maps.at_mut(at).settled = 20;
        assert_eq!(maps.iter().count(), 2);
        // The first leaves; the second stays; a third takes the place.
        assert!(take(&mut maps, &a) && !take(&mut maps, &a));
        assert_eq!(seen(&maps), [None, Some(20), None]);
        add(&mut maps, &c, 3);
        assert_eq!(seen(&maps), [None, Some(20), Some(3)]);
        let mut place = maps.first_of(7);
        let mut marks = Vec::new();
        while let Some(row) = maps.of_hash(7, place) {
            marks.push(row.settled);
            place = place.next();
        }
        assert_eq!(marks, [20, 3]);
        assert!(take(&mut maps, &b));
        assert_eq!(seen(&maps), [None, None, Some(3)]);
    }

    #[test]
    fn a_key_is_found_however_unevenly_the_hashes_lie() {
        // All in one table, and crowded at its ends.
        let top = (1 << (u64::BITS - BITS)) - 1;
        let hashes: Vec<u64> = (0..200).chain((0..200).map(|n| top - n)).chain([1 << 50, 1 << 51]).collect();
        let mut maps = Maps::new();
        for (n, hash) in hashes.iter().enumerate() {
            add(&mut maps, &RowKey::with_hash(&hash.to_be_bytes(), *hash), n as u64);
        }
        for (n, hash) in hashes.iter().enumerate() {
            assert_eq!(mark_of(&maps, &RowKey::with_hash(&hash.to_be_bytes(), *hash)), Some(n as u64), "{hash:x}");
            assert!(maps.get(&RowKey::with_hash(b"another", *hash)).is_none());
        }
        assert!(maps.get(&RowKey::with_hash(b"another", 1 << 49)).is_none());
        // Those at the end stand behind the last place; all the same none is lost when others go.
        for hash in (0..200).map(|n| top - n).filter(|hash| hash % 3 == 0) {
            assert!(take(&mut maps, &RowKey::with_hash(&hash.to_be_bytes(), hash)), "{hash:x}");
        }
        for (n, hash) in hashes.iter().enumerate() {
            let gone = hash % 3 == 0 && (200..400).contains(&n);
            let found = mark_of(&maps, &RowKey::with_hash(&hash.to_be_bytes(), *hash));
            assert_eq!(found, (!gone).then_some(n as u64), "{hash:x}");
        }
    }

    /// What comes and goes, against a map that is simple; hashes are few, so that rows stand in each other's way.
    #[test]
    fn rows_come_and_go_as_in_a_plain_map() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut maps = Maps::new();
        let mut plain: BTreeMap<RowKey, u64> = BTreeMap::new();
        for step in 0..40_000 {
            let hash = draw(3) << (u64::BITS - BITS) | draw(40) << 40 | draw(4);
            let key = RowKey::with_hash(&draw(3).to_be_bytes(), hash);
            match (draw(10), plain.contains_key(&key)) {
                (0..6, false) => {
                    plain.insert(key.clone(), step);
                    add(&mut maps, &key, step);
                }
                (0..6, true) => assert!(plain.remove(&key).is_some() && take(&mut maps, &key)),
                (6, _) if draw(50) == 0 => {
                    let table = draw(3);
                    let goes = |row: &Row| row.settled.is_multiple_of(2);
                    plain.retain(|key, mark| key.hash() >> (u64::BITS - BITS) != table || !mark.is_multiple_of(2));
                    maps.sweep(table as usize, |row| !goes(row));
                }
                _ => assert_eq!(mark_of(&maps, &key), plain.get(&key).copied()),
            }
        }
        let seen: Vec<(u64, u64)> = maps.iter().map(|row| (row.key.hash(), row.settled)).collect();
        assert!(seen.iter().map(|(hash, _)| hash).is_sorted(), "in the order of hashes");
        let mut seen: Vec<u64> = seen.into_iter().map(|(_, mark)| mark).collect();
        let mut expected: Vec<u64> = plain.into_values().collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn tables_grow_and_shrink_with_their_rows() {
        let mut maps = Maps::new();
        let keys: Vec<RowKey> = (0..100_000).map(|n| RowKey::new(format!("key {n}").as_bytes())).collect();
        for (n, key) in keys.iter().enumerate() {
            add(&mut maps, key, n as u64);
        }
        assert!(keys.iter().enumerate().all(|(n, key)| mark_of(&maps, key) == Some(n as u64)));
        let slots = |maps: &Maps| maps.tables.iter().map(|table| table.slots.len()).sum::<usize>();
        let full = slots(&maps);
        assert!(full < 100_000 * 4, "{full} slots");
        (0..maps.count()).for_each(|table| maps.sweep(table, |row| row.settled.is_multiple_of(10)));
        assert!(slots(&maps) < full / 3);
        let kept = |n: usize| n.is_multiple_of(10).then_some(n as u64);
        assert!(keys.iter().enumerate().all(|(n, key)| mark_of(&maps, key) == kept(n)));
    }
}

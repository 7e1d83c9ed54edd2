//! The rows in memory, found by the hash of their keys: many small maps, so that none ever grows large.
//!
//! Who applies entries spends the time waiting for memory. A look-up here waits twice, for a cell and for the row. The cells of a
//! map are *ordered*: the high bits of a hash say where its row belongs, and rows that belong to one place stand behind
//! each other by hash. So the order of all rows is that of their hashes, whatever happened before, a walk in that order
//! walks through memory, and growing copies without looking at any key.

use crate::RowKey;
use crate::row_table::Row;

/// The bits of a hash that choose the map. Not part of any format.
const BITS: u32 = 10;
/// Cells of the smallest map, as a power of two.
const LEAST: u32 = 3;

#[derive(Debug)]
struct Cell<D> {
    hash: u64,
    row: Box<Row<D>>,
}

/// A map: rows from the cell where they belong on, without a gap before them, ordered by hash.
#[derive(Debug)]
struct Map<D> {
    /// `1 << bits` cells where rows can belong, and behind them those that the last ones have been pushed to.
    cells: Vec<Option<Cell<D>>>,
    bits: u32,
    rows: usize,
}

/// All maps. Two keys of one hash stand side by side.
#[derive(Debug)]
pub(crate) struct Maps<D> {
    maps: Vec<Map<D>>,
}

/// Where a row is, or where it belongs: good until a row is added or removed.
#[derive(Clone, Copy, Debug)]
pub struct RowAt {
    map: usize,
    cell: usize,
}

impl<D> Maps<D> {
    pub(crate) fn new() -> Self {
        let empty = || Map { cells: Vec::new(), bits: 0, rows: 0 };
        Self { maps: std::iter::repeat_with(empty).take(1 << BITS).collect() }
    }

    /// Number of maps.
    pub(crate) fn count(&self) -> usize {
        self.maps.len()
    }

    /// Where the row of a key is, else where it belongs.
    pub(crate) fn find(&self, key: &RowKey) -> Result<RowAt, RowAt> {
        let map = (key.hash() >> (u64::BITS - BITS)) as usize;
        let at = |cell| RowAt { map, cell };
        self.maps[map].find(key).map(at).map_err(at)
    }

    pub(crate) fn get(&self, key: &RowKey) -> Option<&Row<D>> {
        self.find(key).ok().map(|at| self.at(at))
    }

    /// The row that was found there.
    pub(crate) fn at(&self, at: RowAt) -> &Row<D> {
        &self.maps[at.map].cells[at.cell].as_ref().expect("a row was found here").row
    }

    /// The row that was found there, to be changed.
    pub(crate) fn at_mut(&mut self, at: RowAt) -> &mut Row<D> {
        &mut self.maps[at.map].cells[at.cell].as_mut().expect("a row was found here").row
    }

    /// Adds a row where it belongs.
    pub(crate) fn insert(&mut self, at: RowAt, row: Box<Row<D>>) {
        self.maps[at.map].insert(at.cell, Cell { hash: row.key.hash(), row });
    }

    pub(crate) fn remove(&mut self, at: RowAt) {
        self.maps[at.map].remove(at.cell);
    }

    /// Where the first row of a hash is; the others of that hash follow.
    pub(crate) fn first_of(&self, hash: u64) -> RowAt {
        let map = (hash >> (u64::BITS - BITS)) as usize;
        RowAt { map, cell: self.maps[map].first_of(hash) }
    }

    /// The row where one of this hash would be, most likely one of that hash.
    pub(crate) fn likely(&self, hash: u64) -> Option<&Row<D>> {
        let RowAt { map, cell } = self.first_of(hash);
        Some(&self.maps[map].cells.get(cell)?.as_ref()?.row)
    }

    /// The row there, if there is one and it is of that hash.
    pub(crate) fn of_hash(&mut self, hash: u64, at: RowAt) -> Option<&mut Row<D>> {
        let cell = self.maps[at.map].cells.get_mut(at.cell)?.as_mut()?;
        (cell.hash == hash).then_some(&mut cell.row)
    }

    /// Drops the rows of one map that are not to be kept.
    pub(crate) fn sweep(&mut self, map: usize, keep: impl FnMut(&mut Row<D>) -> bool) {
        self.maps[map].sweep(keep);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row<D>> {
        self.maps.iter().flat_map(|map| map.cells.iter().flatten()).map(|cell| &*cell.row)
    }
}

impl RowAt {
    /// The cell behind this one.
    pub(crate) fn next(self) -> Self {
        Self { cell: self.cell + 1, ..self }
    }
}

impl<D> Map<D> {
    /// Where a row of this hash belongs, when nothing stands in its way.
    fn home(&self, hash: u64) -> usize {
        ((hash << BITS) >> (u64::BITS - self.bits)) as usize
    }

    /// The first cell that is empty or holds a row of this hash or of a higher one.
    fn first_of(&self, hash: u64) -> usize {
        if self.cells.is_empty() {
            return 0;
        }
        let mut at = self.home(hash);
        while matches!(self.cells.get(at), Some(Some(cell)) if cell.hash < hash) {
            at += 1;
        }
        at
    }

    fn find(&self, key: &RowKey) -> Result<usize, usize> {
        let mut at = self.first_of(key.hash());
        while let Some(Some(cell)) = self.cells.get(at)
            && cell.hash == key.hash()
        {
            if cell.row.key == *key {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// Adds a row at the cell where [`Map::find`] missed it.
    fn insert(&mut self, at: usize, cell: Cell<D>) {
        self.rows += 1;
        if !self.cells.is_empty() && self.rows * 4 <= 3 << self.bits {
            return self.put(at, cell);
        }
        self.lay_out(if self.cells.is_empty() { LEAST } else { self.bits + 1 });
        let at = self.find(&cell.row.key).expect_err("a key has one row");
        self.put(at, cell);
    }

    /// Puts a row into a cell; what stands there and behind it up to the next gap moves on by one.
    fn put(&mut self, at: usize, cell: Cell<D>) {
        let gap = self.cells[at..].iter().position(Option::is_none).map(|length| at + length);
        let gap = gap.unwrap_or_else(|| {
            self.cells.push(None);
            self.cells.len() - 1
        });
        self.cells[at..=gap].rotate_right(1);
        self.cells[at] = Some(cell);
    }

    fn remove(&mut self, at: usize) {
        self.rows -= 1;
        self.cells[at] = None;
        // What had to make way for it comes back by one.
        let behind = |cell: usize| matches!(self.cells.get(cell), Some(Some(other)) if self.home(other.hash) < cell);
        let mut end = at + 1;
        while behind(end) {
            end += 1;
        }
        self.cells[at..end].rotate_left(1);
    }

    fn sweep(&mut self, mut keep: impl FnMut(&mut Row<D>) -> bool) {
        let mut kept = 0;
        for cell in &mut self.cells {
            let stays = cell.as_mut().is_some_and(|cell| keep(&mut cell.row));
            kept += usize::from(stays);
            if !stays {
                *cell = None;
            }
        }
        if kept == self.rows {
            return;
        }
        self.rows = kept;
        let bits = (kept * 2).next_power_of_two().ilog2().clamp(LEAST, self.bits);
        self.lay_out(bits);
    }

    /// Lays the rows out anew, over so many cells.
    fn lay_out(&mut self, bits: u32) {
        let before = std::mem::take(&mut self.cells);
        self.bits = bits;
        self.cells.resize_with(1 << bits, || None);
        let mut free = 0;
        for cell in before.into_iter().flatten() {
            let at = free.max(self.home(cell.hash));
            if at == self.cells.len() {
                self.cells.push(None);
            }
            self.cells[at] = Some(cell);
            free = at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::samples::Sample;

    fn add(maps: &mut Maps<Sample>, key: &RowKey, mark: u64) {
        let at = maps.find(key).expect_err("a key has one row");
        maps.insert(at, Box::new(Row::marked(key.clone(), mark)));
    }

    fn take(maps: &mut Maps<Sample>, key: &RowKey) -> bool {
        let found = maps.find(key);
        found.is_ok_and(|at| {
            maps.remove(at);
            true
        })
    }

    fn mark_of(maps: &Maps<Sample>, key: &RowKey) -> Option<u64> {
        maps.get(key).map(|row| row.settled)
    }

    #[test]
    fn keys_of_one_hash_live_side_by_side() {
        let (a, b, c) = (RowKey::with_hash(b"a", 7), RowKey::with_hash(b"b", 7), RowKey::with_hash(b"c", 7));
        let mut maps = Maps::new();
        add(&mut maps, &a, 1);
        add(&mut maps, &b, 2);
        let seen = |maps: &Maps<Sample>| [&a, &b, &c].map(|key| mark_of(maps, key));
        assert_eq!(seen(&maps), [Some(1), Some(2), None]);
        let at = maps.find(&b).unwrap();
        maps.at_mut(at).settled = 20;
        assert_eq!(maps.iter().count(), 2);
        // The first leaves; the second stays; a third takes its cell.
        assert!(take(&mut maps, &a) && !take(&mut maps, &a));
        assert_eq!(seen(&maps), [None, Some(20), None]);
        add(&mut maps, &c, 3);
        assert_eq!(seen(&maps), [None, Some(20), Some(3)]);
        let mut at = maps.first_of(7);
        let mut marks = Vec::new();
        while let Some(row) = maps.of_hash(7, at) {
            marks.push(row.settled);
            at = at.next();
        }
        assert_eq!(marks, [20, 3]);
        assert!(take(&mut maps, &b));
        assert_eq!(seen(&maps), [None, None, Some(3)]);
    }

    #[test]
    fn a_key_is_found_however_unevenly_the_hashes_lie() {
        // All in one map, and crowded at its ends.
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
        // Those at the end stand behind the last cell; all the same none is lost when others go.
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
                    let map = draw(3);
                    let goes = |row: &Row<Sample>| row.settled.is_multiple_of(2);
                    plain.retain(|key, mark| key.hash() >> (u64::BITS - BITS) != map || !mark.is_multiple_of(2));
                    maps.sweep(map as usize, |row| !goes(row));
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
    fn maps_grow_and_shrink_with_their_rows() {
        let mut maps = Maps::new();
        let keys: Vec<RowKey> = (0..100_000).map(|n| RowKey::new(format!("key {n}").as_bytes())).collect();
        for (n, key) in keys.iter().enumerate() {
            add(&mut maps, key, n as u64);
        }
        assert!(keys.iter().enumerate().all(|(n, key)| mark_of(&maps, key) == Some(n as u64)));
        let cells = |maps: &Maps<Sample>| maps.maps.iter().map(|map| map.cells.len()).sum::<usize>();
        let full = cells(&maps);
        assert!(full < 100_000 * 4, "{full} cells");
        (0..maps.count()).for_each(|map| maps.sweep(map, |row| row.settled.is_multiple_of(10)));
        assert!(cells(&maps) < full / 3);
        let kept = |n: usize| n.is_multiple_of(10).then_some(n as u64);
        assert!(keys.iter().enumerate().all(|(n, key)| mark_of(&maps, key) == kept(n)));
    }
}

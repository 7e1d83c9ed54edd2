//! Checkpoints of the rows that may be cold, taken bit by bit while apply goes on: a checkpoint is of the moment at which
//! it began, so a row that is about to change and has not been taken yet is copied first.

use crate::decoded::Decoded;
use crate::row_table::{Row, RowTable, Tags, Value, cost, size};
use crate::table::{ByteCounts, RowSink, Table};
use crate::{BytesError, RowKey};

/// Where the checkpoints of a table stand.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// Number of the last checkpoint, from 1.
    number: u32,
    /// It is still to become durable.
    running: bool,
    /// Hashes of the keys of the rows that it is still to look at.
    due: Hashes,
    /// Rows that it took before it came to them.
    early: Copies,
    /// Hashes of the keys whose deletion it takes.
    gone: Vec<u64>,
    /// The sum of row hashes at its beginning, once all its rows are taken.
    sum: Option<u64>,
}

/// Parts of [`Hashes`], as a power of two: a part of a large checkpoint is sorted in well under a millisecond.
const PARTS: u32 = 8;

/// Hashes that are taken in ascending order: in the order of hashes the walk goes through memory instead of jumping.
/// They lie in parts by their highest bits, and a part is sorted when it is come to, since apply waits meanwhile.
#[derive(Debug)]
pub(crate) struct Hashes {
    parts: Vec<Vec<u64>>,
    /// The part that is being taken from, and how many of its hashes have been taken.
    part: usize,
    taken: usize,
}

impl Default for Hashes {
    fn default() -> Self {
        Self { parts: vec![Vec::new(); 1 << PARTS], part: 0, taken: 0 }
    }
}

impl Hashes {
    #[inline]
    pub(crate) fn push(&mut self, hash: u64) {
        self.parts[(hash >> (u64::BITS - PARTS)) as usize].push(hash);
    }

    /// The least that has not been taken; each once.
    #[inline]
    fn next(&mut self) -> Option<u64> {
        while let Some(part) = self.parts.get_mut(self.part) {
            if self.taken == 0 {
                part.sort_unstable();
                part.dedup();
            }
            if let Some(hash) = part.get(self.taken) {
                self.taken += 1;
                return Some(*hash);
            }
            part.clear();
            (self.part, self.taken) = (self.part + 1, 0);
        }
        None
    }

    /// Whether all have been taken.
    fn is_done(&self) -> bool {
        self.parts.iter().skip(self.part).map(Vec::len).sum::<usize>() == self.taken
    }

    /// All of them, in no particular order, if none has been taken.
    fn iter(&self) -> impl Iterator<Item = &u64> {
        self.parts.iter().flatten()
    }

    /// Forgets all of them and keeps their room.
    fn clear(&mut self) {
        self.parts.iter_mut().for_each(Vec::clear);
        (self.part, self.taken) = (0, 0);
    }
}

/// Copies of rows, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    bytes: Vec<u8>,
    /// Lengths of keys, and of values.
    rows: Vec<(usize, Option<usize>)>,
}

impl Copies {
    pub(crate) fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.rows.push((key.len(), value.map(<[u8]>::len)));
    }

    /// Hands all of them out.
    pub(crate) fn empty(&mut self, out: RowSink<'_>) {
        let mut rest = self.bytes.as_slice();
        for (key_len, value_len) in self.rows.drain(..) {
            let (key, after) = rest.split_at(key_len);
            let (value, after) = after.split_at(value_len.unwrap_or(0));
            out(key, value_len.map(|_| value));
            rest = after;
        }
        self.bytes = Vec::new();
    }
}

impl Checkpoint {
    /// What a row that changes now is marked with: the number of the checkpoint that will take it.
    pub(crate) fn next(&self) -> u32 {
        self.number + 1
    }

    /// Whether the running checkpoint is still to take the row.
    fn is_due<D>(&self, row: &Row<D>) -> bool {
        self.running && row.changed == self.number
    }

    /// Whether the store has no version of the row that is as new as this one.
    pub(crate) fn holds<D>(&self, row: &Row<D>) -> bool {
        row.changed != 0 || (self.running && row.taken == self.number)
    }

    /// The row is about to change: the running checkpoint takes it first.
    #[inline]
    pub(crate) fn before_change<D: Decoded>(&mut self, row: &mut Row<D>, sum: &mut u64, scratch: &mut Vec<u8>) {
        if self.is_due(row) {
            let mut early = std::mem::take(&mut self.early);
            self.take(row, sum, scratch, |key, value| early.add(key, value));
            self.early = early;
        }
    }

    /// Takes a row: as it is now is how it was when the checkpoint began.
    #[inline]
    fn take<D: Decoded>(
        &mut self,
        row: &mut Row<D>,
        sum: &mut u64,
        scratch: &mut Vec<u8>,
        out: impl FnOnce(&[u8], Option<&[u8]>),
    ) {
        row.changed = 0;
        row.taken = self.number;
        row.settle(sum, scratch, out);
        if matches!(row.value, Value::Gone) {
            self.gone.push(row.key.hash());
        } else {
            row.stored = true;
        }
    }
}

impl<D: Decoded> Table for RowTable<D> {
    fn tags(&self) -> &[u8] {
        self.tags
    }

    fn is_resident(&self) -> bool {
        false
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        self.admit(RowKey::new(key), Some(value), self.epoch);
        Ok(())
    }

    fn set_cold(&mut self) {
        self.cold = Tags::of(self.tags);
    }

    fn set_warm(&mut self) {
        self.cold = Tags::default();
    }

    /// Its rows stay in memory, and cannot be evicted, until [`Table::checkpoint_durable`].
    fn begin_checkpoint(&mut self) {
        let checkpoint = &mut self.checkpoint;
        assert!(!checkpoint.running, "a checkpoint is still running");
        self.epoch += 1;
        checkpoint.number += 1;
        (checkpoint.running, checkpoint.sum) = (true, None);
        checkpoint.due.clear();
        std::mem::swap(&mut checkpoint.due, &mut self.dirty);
        self.dirty_bytes = 0;
    }

    fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        self.checkpoint.early.empty(out);
        for _ in 0..limit {
            let Some(hash) = self.checkpoint.due.next() else { break };
            let mut at = self.maps.first_of(hash);
            while let Some(row) = self.maps.of_hash(hash, at) {
                at = at.next();
                if self.checkpoint.is_due(row) {
                    let (rests, mut rest) = (matches!(&row.value, Value::Decoded(decoded) if decoded.rests()), None);
                    self.checkpoint.take(row, &mut self.sum, &mut self.scratch, |key, bytes| {
                        rest = bytes.filter(|_| rests).map(Box::from);
                        out(key, bytes);
                    });
                    if let Some(rest) = rest.map(Value::Bytes) {
                        // Its work is over, most likely: at rest it takes less memory.
                        self.resident_bytes = self.resident_bytes + size(&rest) - size(&row.value);
                        row.value = rest;
                    }
                }
            }
        }
        let all = self.checkpoint.due.is_done();
        if all && self.checkpoint.sum.is_none() {
            self.checkpoint.sum = Some(self.sum);
        }
        all
    }

    /// Its rows may be evicted: [`RowTable::evict_step`].
    fn checkpoint_durable(&mut self) {
        self.epoch += 1;
        self.checkpoint.running = false;
        for hash in std::mem::take(&mut self.checkpoint.gone) {
            let mut at = self.maps.first_of(hash);
            while let Some(row) = self.maps.of_hash(hash, at) {
                if matches!(row.value, Value::Gone) && row.changed == 0 {
                    self.resident_bytes -= cost(&row.key);
                    self.maps.remove(at);
                } else {
                    at = at.next();
                }
            }
        }
    }

    /// A running checkpoint takes what is left first.
    fn state_sum(&mut self) -> u64 {
        if self.checkpoint.running && self.checkpoint.sum.is_none() {
            let mut early = Copies::default();
            self.checkpoint_step(usize::MAX, &mut |key, value| early.add(key, value));
            self.checkpoint.early = early;
        }
        for &hash in self.dirty.iter() {
            let mut at = self.maps.first_of(hash);
            while let Some(row) = self.maps.of_hash(hash, at) {
                at = at.next();
                if row.changed != 0 {
                    row.settle(&mut self.sum, &mut self.scratch, |_, _| {});
                }
            }
        }
        self.sum
    }

    fn checkpoint_sum(&self) -> u64 {
        self.checkpoint.sum.expect("every row of the checkpoint has been handed out")
    }

    fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, value) in self.iter() {
            let bytes = match value {
                Value::Bytes(bytes) => bytes.to_vec(),
                Value::Decoded(decoded) => decoded.encode(&mut Vec::new()).to_vec(),
                Value::Gone => continue,
            };
            out.push((key.as_bytes().to_vec(), bytes));
        }
    }

    fn byte_counts(&self) -> ByteCounts {
        ByteCounts { resident: self.resident_bytes, dirty: self.dirty_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::encoded;
    use crate::row_hash;
    use crate::samples::{COUNTED, Count, NAMED, NOTED, Note, Sample, TABLES};
    use std::collections::BTreeMap;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    /// A table, what should be in it, and what its checkpoints have written.
    struct Trial {
        table: RowTable<Sample>,
        plain: Rows,
        disk: Rows,
        random: u64,
    }

    impl Trial {
        fn draw(&mut self, below: u64) -> u64 {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) % below
        }

        /// A row comes, changes or goes; or one that is worked on decoded does, and stays so or rests.
        fn change(&mut self) {
            let n = self.draw(30);
            let key = RowKey::of(NAMED, &[&n.to_be_bytes()]);
            match self.draw(5) {
                4 => self.note(n),
                0 => {
                    self.plain.remove(key.as_bytes());
                    self.table.remove(key);
                }
                1 => self.count(n),
                _ => {
                    let value = self.draw(1_000).to_be_bytes();
                    self.plain.insert(key.as_bytes().to_vec(), value.to_vec());
                    self.table.put(key, Value::Bytes(value.as_slice().into()));
                }
            }
        }

        fn count(&mut self, n: u64) {
            let (key, mut count) = (RowKey::of(COUNTED, &[&n.to_be_bytes()]), Count(self.draw(1_000)));
            self.plain.insert(key.as_bytes().to_vec(), encoded(&count));
            match self.table.get_mut::<Count>(&key) {
                Some(known) => std::mem::swap(known, &mut count),
                None => self.table.put_decoded(key, Box::new(count)),
            }
        }

        /// A note is taken out, and put back as it was or changed; a new one is at rest.
        fn note(&mut self, n: u64) {
            let (key, text, refused) = (RowKey::of(NOTED, &[&n.to_be_bytes()]), self.draw(1_000), self.draw(3) == 0);
            let Some(mut note) = self.table.take::<Note>(&key) else {
                let bytes = encoded(&Note(text.to_string()));
                self.plain.insert(key.as_bytes().to_vec(), bytes.clone());
                self.table.put_bytes(key, bytes.into());
                return;
            };
            assert_eq!(self.plain.get(key.as_bytes()), Some(&encoded(note.as_ref())));
            if refused {
                self.table.give_back(&key, note);
            } else {
                note.0 = text.to_string();
                self.plain.insert(key.as_bytes().to_vec(), encoded(note.as_ref()));
                self.table.put_decoded(key, note);
            }
        }

        /// A checkpoint, with changes while its rows are taken.
        fn checkpoint(&mut self) {
            let (then, mut taken) = (self.plain.clone(), Vec::new());
            self.table.begin_checkpoint();
            loop {
                for _ in 0..self.draw(4) {
                    self.change();
                }
                if self.draw(20) == 0 {
                    assert_eq!(self.table.state_sum(), sum(&self.plain));
                }
                let limit = self.draw(4) as usize;
                if self.table.checkpoint_step(limit, &mut |key, value| taken.push((key.to_vec(), value.map(<[u8]>::to_vec)))) {
                    break;
                }
            }
            assert_eq!(self.table.checkpoint_sum(), sum(&then));
            let count = taken.len();
            for (key, value) in taken {
                match value {
                    Some(value) => drop(self.disk.insert(key, value)),
                    None => drop(self.disk.remove(&key)),
                }
            }
            assert_eq!(self.disk, then, "a checkpoint of {count} rows");
            (0..self.draw(3)).for_each(|_| self.change());
            self.table.checkpoint_durable();
        }
    }

    fn sum(rows: &Rows) -> u64 {
        rows.iter().map(|(key, value)| row_hash(RowKey::new(key).hash(), value)).fold(0, u64::wrapping_add)
    }

    #[test]
    fn a_checkpoint_is_of_the_moment_at_which_it_began() {
        let mut trial = Trial { table: RowTable::new(&TABLES), plain: Rows::new(), disk: Rows::new(), random: 7 };
        for _ in 0..2_000 {
            (0..trial.draw(12)).for_each(|_| trial.change());
            trial.checkpoint();
        }
        assert_eq!(trial.table.state_sum(), sum(&trial.plain));
        for table in TABLES {
            let rows = trial.plain.keys().filter(|key| key[0] == table).count();
            assert_eq!(trial.table.count(table), rows as u64, "rows of table {table}");
        }
    }
}

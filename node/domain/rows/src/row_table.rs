//! Rows that may be cold. Decides what is in memory, what a checkpoint
//! takes, what may be evicted and what the rows add to the state hash.
//!
//! A row that does not exist may still have a place here: a deletion that no checkpoint has stored yet, or the knowledge
//! that the store has no such row (deletions are rows in memory).

use crate::checkpoint::{Checkpoint, Hashes};
use crate::decoded::Decoded;
use crate::maps::{Maps, RowAt};
use crate::{RowKey, row_hash};

/// What a row costs beside a long key and the value: its cell and those left free, its own fields, the allocator.
const OVERHEAD: u64 = 140;

/// A row, as it is kept in memory.
#[derive(Debug)]
pub enum Value<D> {
    /// There is no such row.
    Gone,
    /// At rest.
    Bytes(Box<[u8]>),
    /// It is being worked on: encoded once per checkpoint, not once per change.
    Decoded(D),
}

/// A row, with what is known of it.
#[derive(Debug)]
pub(crate) struct Row<D> {
    pub(crate) key: RowKey,
    pub(crate) value: Value<D>,
    /// What the row adds to the settled hash; zero when it adds nothing.
    pub(crate) settled: u64,
    /// The store may have a version of it, now or once the running checkpoint is durable.
    pub(crate) stored: bool,
    /// Number of the checkpoint that is to take it as it is now; zero when one has.
    pub(crate) changed: u32,
    /// Number of the last checkpoint that took it.
    pub(crate) taken: u32,
    /// Used since the last sweep.
    pub(crate) recent: bool,
}

/// Tables whose tags are below this one can be cold.
const TAGS: usize = 64;

/// Which tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags(u64);

impl Tags {
    pub(crate) fn of(tags: &[u8]) -> Self {
        let mut set = Self::default();
        tags.iter().for_each(|tag| set.insert(*tag));
        set
    }

    fn insert(&mut self, tag: u8) {
        assert!(usize::from(tag) < TAGS, "tag {tag} is too large");
        self.0 |= 1 << tag;
    }

    fn remove(&mut self, tag: u8) {
        self.0 &= !(1 << tag);
    }

    fn has(self, tag: u8) -> bool {
        usize::from(tag) < TAGS && self.0 >> tag & 1 == 1
    }
}

/// What went to and fro between memory and the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Rows evicted so far.
    pub evicted: u64,
    /// Rows admitted so far.
    pub admitted: u64,
}

/// The rows of some tables that may be cold, found by their keys. `D` is what they are while they are worked on.
#[derive(Debug)]
pub struct RowTable<D> {
    /// Tags of the tables.
    pub(crate) tags: &'static [u8],
    pub(crate) maps: Maps<D>,
    /// Hashes of the keys of rows that changed since the last checkpoint began, some of them more than once or in vain.
    pub(crate) dirty: Hashes,
    pub(crate) checkpoint: Checkpoint,
    /// Tables of which the store may hold rows that are not in memory.
    pub(crate) cold: Tags,
    /// Counts the moments at which a row read before may have become older than the store's.
    pub(crate) epoch: u64,
    pub(crate) resident_bytes: u64,
    /// Bytes of keys and values that the next checkpoint takes, roughly.
    pub(crate) dirty_bytes: u64,
    /// Rows in memory, by table.
    pub(crate) rows: [u64; TAGS],
    /// Wrapping sum of the hashes of all rows, cold ones included, as of the last settling.
    pub(crate) sum: u64,
    pub(crate) scratch: Vec<u8>,
    /// Which map the next eviction starts at.
    hand: usize,
    traffic: Traffic,
}

/// The answer of a look at memory. What it is cold with says what to load: nothing, where the key is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T, C = Vec<RowKey>> {
    /// It is there.
    Found(T),
    /// There is no such thing.
    Absent,
    /// It may be in the store alone: load it and ask again.
    Cold(C),
}

impl<T, C> Lookup<T, C> {
    /// The same of something that is made of what was found.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Lookup<U, C> {
        match self {
            Self::Found(value) => Lookup::Found(make(value)),
            Self::Absent => Lookup::Absent,
            Self::Cold(cold) => Lookup::Cold(cold),
        }
    }
}

impl<D: Decoded> RowTable<D> {
    /// Without rows; the tables have these tags.
    #[must_use]
    pub fn new(tags: &'static [u8]) -> Self {
        Self {
            tags,
            maps: Maps::new(),
            dirty: Hashes::default(),
            checkpoint: Checkpoint::default(),
            cold: Tags::default(),
            epoch: 0,
            resident_bytes: 0,
            dirty_bytes: 0,
            rows: [0; TAGS],
            sum: 0,
            scratch: Vec::new(),
            hand: 0,
            traffic: Traffic::default(),
        }
    }

    /// Looks without marking the row as used.
    pub fn find(&self, key: &RowKey) -> Lookup<&Value<D>, ()> {
        match self.maps.get(key) {
            Some(Row { value: Value::Gone, .. }) => Lookup::Absent,
            Some(row) => Lookup::Found(&row.value),
            None if self.cold.has(key.tag()) => Lookup::Cold(()),
            None => Lookup::Absent,
        }
    }

    /// Whether the row has to be loaded before it can be used.
    #[must_use]
    pub fn is_cold(&self, key: &RowKey) -> bool {
        self.cold.has(key.tag()) && self.maps.get(key).is_none()
    }

    /// Whether any row of a table may be cold.
    #[must_use]
    pub fn may_be_cold(&self, table: u8) -> bool {
        self.cold.has(table)
    }

    /// Whether any row of any table may be cold.
    #[must_use]
    pub fn any_cold(&self) -> bool {
        self.cold != Tags::default()
    }

    /// Reads rows of these hashes right after each other: the processor waits for memory once, where looking for one after
    /// another, with work in between, waits each time. Results do not depend on it.
    pub fn warm_cache(&self, hashes: &[u64]) {
        let read = |hash: &u64| match self.maps.likely(*hash).map(|row| &row.value) {
            Some(Value::Bytes(bytes)) => bytes.first().map_or(0, |byte| u64::from(*byte)),
            Some(Value::Decoded(decoded)) => decoded.glance(),
            Some(Value::Gone) | None => 0,
        };
        std::hint::black_box(hashes.iter().map(read).fold(0, u64::wrapping_add));
    }

    /// Where the row is, for apply. Panics when it could be cold: apply never reads the store, and a guess would be a fork.
    pub(crate) fn locate(&mut self, key: &RowKey) -> Option<RowAt> {
        let at = self.maps.find(key).ok();
        match at {
            Some(at) => self.maps.at_mut(at).recent = true,
            None => assert!(!self.cold.has(key.tag()), "row not loaded: {key:?}"),
        }
        at
    }

    /// The bytes of a row, for apply.
    pub fn bytes(&mut self, key: &RowKey) -> Option<&[u8]> {
        let at = self.locate(key)?;
        match &self.maps.at(at).value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Gone => None,
            Value::Decoded(_) => panic!("row {key:?} is kept decoded"),
        }
    }

    /// Writes a row that has been looked for, or which cannot exist yet.
    pub fn put(&mut self, key: RowKey, value: Value<D>) {
        let (hash, tag, length, size) = (key.hash(), usize::from(key.tag()), key.as_bytes().len() as u64, size(&value));
        let written = written(&value, size);
        let next = self.checkpoint.next();
        self.rows[tag] += exists(&value);
        let before = match self.maps.find(&key) {
            Ok(at) => {
                let row = self.maps.at_mut(at);
                self.checkpoint.before_change(row, &mut self.sum, &mut self.scratch);
                self.resident_bytes = self.resident_bytes + size - self::size(&row.value);
                self.rows[tag] -= exists(&row.value);
                row.value = value;
                row.recent = true;
                std::mem::replace(&mut row.changed, next)
            }
            Err(at) => {
                self.resident_bytes += cost(&key) + size;
                let row = Row { key, value, settled: 0, stored: false, changed: next, taken: 0, recent: true };
                self.maps.insert(at, Box::new(row));
                0
            }
        };
        if before != next {
            self.dirty_bytes += length + written;
            self.dirty.push(hash);
        }
    }

    /// Writes a row at rest.
    pub fn put_bytes(&mut self, key: RowKey, bytes: Box<[u8]>) {
        self.put(key, Value::Bytes(bytes));
    }

    /// Deletes a row that has been looked for.
    pub fn remove(&mut self, key: RowKey) {
        let Ok(at) = self.maps.find(&key) else { return };
        let row = self.maps.at_mut(at);
        self.checkpoint.before_change(row, &mut self.sum, &mut self.scratch);
        if row.settled == 0 && !row.stored && !self.cold.has(key.tag()) {
            // Neither the hash nor any checkpoint has seen it: it never was. The dirty list names it in vain.
            self.resident_bytes -= cost(&key) + size(&row.value);
            self.rows[usize::from(key.tag())] -= exists(&row.value);
            self.maps.remove(at);
        } else {
            self.put(key, Value::Gone);
        }
    }

    /// The sum that the cold rows of a restored state are part of.
    pub fn restore_sum(&mut self, sum: u64) {
        self.sum = sum;
    }

    /// Names the moment of a read from the store: taken before it begins, given to [`RowTable::admit`].
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Keeps a row that was read from the store at `epoch`, `None` when it has no such row. False when a version of the row may
    /// have come and gone since: read it again.
    pub fn admit(&mut self, key: RowKey, value: Option<&[u8]>, epoch: u64) -> bool {
        let Err(at) = self.maps.find(&key) else { return true };
        if epoch != self.epoch {
            return false;
        }
        let settled = value.map_or(0, |value| row_hash(key.hash(), value));
        let stored = value.is_some();
        let value = value.map_or(Value::Gone, |value| Value::Bytes(value.into()));
        self.resident_bytes += cost(&key) + size(&value);
        self.rows[usize::from(key.tag())] += exists(&value);
        self.traffic.admitted += 1;
        let row = Row { key, value, settled, stored, changed: 0, taken: 0, recent: true };
        self.maps.insert(at, Box::new(row));
        true
    }

    /// A table has so many rows in all: none is cold while all of them are in memory.
    pub fn know_count(&mut self, table: u8, count: u64) {
        if self.rows[usize::from(table)] == count {
            self.cold.remove(table);
        }
    }

    /// Rows of a table in memory.
    #[must_use]
    pub fn count(&self, table: u8) -> u64 {
        self.rows[usize::from(table)]
    }

    /// Looks through `steps` of the parts that rows lie in, and drops clean rows that were not used since the last look,
    /// until memory is down to `target`. Only rows whose last version is in the store go.
    pub fn evict_step(&mut self, target: u64, steps: usize) {
        if self.resident_bytes <= target {
            return;
        }
        self.epoch += 1;
        for _ in 0..steps {
            if self.resident_bytes <= target {
                return;
            }
            self.sweep_one();
        }
    }

    /// Steps after which nothing more can go: the first round clears the marks of use, the second takes what was marked and
    /// not used again.
    #[must_use]
    pub fn eviction_steps(&self) -> usize {
        2 * self.maps.count()
    }

    fn sweep_one(&mut self) {
        let map = self.hand % self.maps.count();
        self.hand = map + 1;
        let (cold, freed, rows) = (&mut self.cold, &mut self.resident_bytes, &mut self.rows);
        let (evicted, checkpoint) = (&mut self.traffic.evicted, &self.checkpoint);
        self.maps.sweep(map, |row| {
            let keep = checkpoint.holds(row) || std::mem::take(&mut row.recent);
            if !keep {
                cold.insert(row.key.tag());
                *freed -= cost(&row.key) + size(&row.value);
                rows[usize::from(row.key.tag())] -= exists(&row.value);
                *evicted += 1;
            }
            keep
        });
    }

    /// What went to and fro between memory and the store.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Rows in memory, in an order that is the same everywhere but means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&RowKey, &Value<D>)> {
        self.maps.iter().map(|row| (&row.key, &row.value)).filter(|(_, value)| !matches!(value, Value::Gone))
    }
}

impl<D: Decoded> Row<D> {
    /// Moves the sum from what the row added to what it adds now, and shows the row's bytes.
    #[inline]
    pub(crate) fn settle(&mut self, sum: &mut u64, scratch: &mut Vec<u8>, show: impl FnOnce(&[u8], Option<&[u8]>)) {
        let bytes: Option<&[u8]> = match &self.value {
            Value::Gone => None,
            Value::Bytes(bytes) => Some(bytes),
            Value::Decoded(decoded) => Some(decoded.encode(scratch)),
        };
        let now = bytes.map_or(0, |bytes| row_hash(self.key.hash(), bytes));
        *sum = sum.wrapping_sub(self.settled).wrapping_add(now);
        self.settled = now;
        show(self.key.as_bytes(), bytes);
    }

    /// A row that is told from others by a number.
    #[cfg(test)]
    pub(crate) fn marked(key: RowKey, mark: u64) -> Self {
        Self { key, value: Value::Gone, settled: mark, stored: false, changed: 0, taken: 0, recent: false }
    }
}

/// What a row costs in memory beside its value.
pub(crate) fn cost(key: &RowKey) -> u64 {
    OVERHEAD + key.heap_bytes()
}

/// One for a row that exists, and nothing for any other.
fn exists<D>(value: &Value<D>) -> u64 {
    u64::from(!matches!(value, Value::Gone))
}

/// What a checkpoint writes of a value of that size, roughly.
fn written<D: Decoded>(value: &Value<D>, size: u64) -> u64 {
    if let Value::Decoded(decoded) = value { decoded.stored_bytes(size) } else { size }
}

/// What a value costs in memory, roughly.
pub(crate) fn size<D: Decoded>(value: &Value<D>) -> u64 {
    match value {
        Value::Gone => 0,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Decoded(decoded) => decoded.bytes_in_memory(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{NAMED, Sample, TABLES};
    use crate::table::Table;

    fn key(name: &str) -> RowKey {
        RowKey::of(NAMED, &[name.as_bytes()])
    }

    fn bytes(content: &str) -> Value<Sample> {
        Value::Bytes(content.as_bytes().into())
    }

    /// A checkpoint: what it writes, as text.
    fn checkpoint(table: &mut RowTable<Sample>) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut out = Vec::new();
        table.begin_checkpoint();
        table.checkpoint_step(usize::MAX, &mut |key, row| {
            out.push(format!("{} {}", text(&key[1..]), row.map_or("-".into(), text)))
        });
        table.checkpoint_durable();
        out.sort();
        out
    }

    #[test]
    fn a_checkpoint_hears_of_every_row_that_the_store_may_have() {
        // What happens between two checkpoints, with a hash asked for at each bar; what the second one writes.
        let cases = [
            (true, "put", vec!["k new"]),
            (true, "del", vec!["k -"]),
            (true, "del|put", vec!["k new"]),
            (true, "del|put|del", vec!["k -"]),
            (true, "del put del", vec!["k -"]),
            (true, "put|put", vec!["k new"]),
            (false, "put", vec!["k new"]),
            (false, "put del", vec![]),
            (false, "put|del put", vec!["k new"]),
            (false, "put del put", vec!["k new"]),
        ];
        for (stored, steps, expected) in cases {
            let mut table = RowTable::<Sample>::new(&TABLES);
            if stored {
                table.put(key("k"), bytes("old"));
                assert_eq!(checkpoint(&mut table), ["k old"]);
            }
            for part in steps.split('|') {
                for step in part.split(' ') {
                    match step {
                        "put" => table.put(key("k"), bytes("new")),
                        _ => table.remove(key("k")),
                    }
                }
                table.state_sum();
            }
            assert_eq!(checkpoint(&mut table), expected, "{stored} {steps}");
        }
    }

    #[test]
    fn the_sum_is_that_of_the_rows_whatever_happened() {
        let plain = |rows: &[(&str, &str)]| {
            let mut table = RowTable::<Sample>::new(&TABLES);
            rows.iter().for_each(|(name, content)| table.put(key(name), bytes(content)));
            table.state_sum()
        };
        let mut table = RowTable::<Sample>::new(&TABLES);
        table.put(key("a"), bytes("1"));
        table.put(key("b"), bytes("2"));
        assert_eq!(table.state_sum(), plain(&[("a", "1"), ("b", "2")]));
        checkpoint(&mut table);
        table.evict_step(0, table.eviction_steps());
        assert_eq!(table.state_sum(), plain(&[("a", "1"), ("b", "2")]), "cold rows count");
        assert!(table.admit(key("a"), Some(b"1"), table.epoch()));
        table.put(key("a"), bytes("3"));
        assert_eq!(table.state_sum(), plain(&[("a", "3"), ("b", "2")]));
        table.remove(key("a"));
        assert_eq!(table.state_sum(), plain(&[("b", "2")]));
    }

    #[test]
    fn memory_is_counted_down_to_nothing() {
        let mut table = RowTable::<Sample>::new(&TABLES);
        for n in 0..1_000 {
            table.put(key(&format!("row number {n}, whose name is too long to be kept inline")), bytes("content"));
        }
        assert!(table.byte_counts().resident > 1_000 * OVERHEAD && table.byte_counts().dirty > 1_000 * 60);
        checkpoint(&mut table);
        assert_eq!(table.byte_counts().dirty, 0);
        let all = table.byte_counts().resident;
        table.evict_step(all / 2, table.eviction_steps());
        assert!(table.byte_counts().resident <= all / 2 && table.byte_counts().resident > 0, "down to the budget, not further");
        assert!(table.is_cold(&key("any")), "what was evicted may be anything");
        table.evict_step(0, table.eviction_steps());
        assert_eq!((table.byte_counts().resident, table.traffic()), (0, Traffic { evicted: 1_000, admitted: 0 }));
    }

    #[test]
    fn what_was_used_lately_goes_last() {
        let mut table = RowTable::<Sample>::new(&TABLES);
        for n in 0..200 {
            table.put(key(&n.to_string()), bytes("content"));
        }
        checkpoint(&mut table);
        let all = table.byte_counts().resident;
        table.evict_step(all - 1, table.eviction_steps()); // clears the marks of use on its way to the first victim
        for n in 0..10 {
            assert!(table.is_cold(&key(&n.to_string())) || table.bytes(&key(&n.to_string())).is_some());
        }
        table.evict_step(all / 4, table.eviction_steps());
        let kept = (0..10).filter(|n| !table.is_cold(&key(&n.to_string()))).count();
        assert!(kept >= 8, "only {kept} of 10 used rows were kept");
    }

    #[test]
    fn a_row_known_to_be_absent_is_not_asked_for_again() {
        let mut table = RowTable::<Sample>::new(&TABLES);
        table.set_cold();
        assert!(matches!(table.find(&key("k")), Lookup::Cold(())));
        assert!(table.admit(key("k"), None, table.epoch()));
        assert!(matches!(table.find(&key("k")), Lookup::Absent));
        table.put(key("k"), bytes("new"));
        assert!(matches!(table.find(&key("k")), Lookup::Found(_)));
        assert_eq!(checkpoint(&mut table), ["k new"]);
    }
}

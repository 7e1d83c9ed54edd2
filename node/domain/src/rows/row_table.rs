//! Rows that may be cold. Decides what is in memory, what a checkpoint
//! takes, what may be evicted and what the rows add to the state hash.
//!
//! A row that does not exist may still have a place here: a deletion that no checkpoint has stored yet, or the knowledge
//! that the store has no such row (rule 28: deletions are rows in memory).

use super::decoded::order_bytes;
use super::freeze::{Freeze, Hashes};
use super::kinds::OrderRow;
use super::maps::{Maps, Place};
use super::{RowKey, RowSink, SKU, TAGS, row_hash};
use crate::encoding::encode;
use crate::sku::Sku;

/// What a row costs beside a long key and the value: its slot and those left free, its own fields, the allocator.
const OVERHEAD: u64 = 140;
/// What a decoded SKU costs, roughly; its stock is one or two warehouses.
pub(super) const SKU_BYTES: u64 = 320;
/// How many times as much memory a decoded order takes as its bytes, at the least.
const ORDER_TO_BYTES: u64 = 3;

/// A row, as it is kept in memory.
#[derive(Debug)]
pub(crate) enum Value {
    /// There is no such row.
    Gone,
    /// At rest.
    Bytes(Box<[u8]>),
    /// A SKU that is being worked on: encoded once per checkpoint, not once per change.
    Sku(Box<Sku>),
    /// The same of an order, decoded by the first command on it.
    Order(Box<OrderRow>),
}

/// A row, with what is known of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: RowKey,
    pub(super) value: Value,
    /// What the row adds to the settled hash; zero when it adds nothing.
    pub(super) settled: u64,
    /// The store may have a version of it, now or once the running checkpoint is durable.
    pub(super) stored: bool,
    /// Number of the checkpoint that is to take it as it is now; zero when one has.
    pub(super) changed: u32,
    /// Number of the last checkpoint that took it.
    pub(super) frozen: u32,
    /// Used since the last sweep.
    pub(super) recent: bool,
}

/// The rows of a shard that may be cold.
#[derive(Debug)]
pub(crate) struct RowTable {
    pub(super) maps: Maps,
    /// Hashes of the keys of rows that changed since the last checkpoint began, some of them more than once or in vain.
    pub(super) dirty: Hashes,
    pub(super) freeze: Freeze,
    /// Per table: the store may hold rows that are not in memory.
    pub(super) cold: [bool; TAGS],
    /// Counts the moments at which a row read before may have become older than the store's.
    pub(super) epoch: u64,
    pub(super) resident_bytes: u64,
    /// Bytes of keys and values that the next checkpoint takes, roughly.
    pub(super) dirty_bytes: u64,
    /// SKUs in memory.
    skus: u64,
    /// Wrapping sum of the hashes of all rows, cold ones included, as of the last settling.
    pub(super) sum: u64,
    pub(super) scratch: Vec<u8>,
    /// Which map the next eviction starts at.
    hand: usize,
    evicted: u64,
    admitted: u64,
}

/// Where a row is.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// In memory.
    Here(T),
    /// Nowhere.
    Absent,
    /// Perhaps in the store.
    Cold,
}

impl RowTable {
    pub(crate) fn new() -> Self {
        Self {
            maps: Maps::new(),
            dirty: Hashes::default(),
            freeze: Freeze::default(),
            cold: [false; TAGS],
            epoch: 0,
            resident_bytes: 0,
            dirty_bytes: 0,
            skus: 0,
            sum: 0,
            scratch: Vec::new(),
            hand: 0,
            evicted: 0,
            admitted: 0,
        }
    }

    /// Looks without marking the row as used.
    pub(crate) fn find(&self, key: &RowKey) -> Found<&Value> {
        match self.maps.get(key) {
            Some(Row { value: Value::Gone, .. }) => Found::Absent,
            Some(row) => Found::Here(&row.value),
            None => self.not_here(key),
        }
    }

    /// What it means that a row is not in memory.
    pub(super) fn not_here<T>(&self, key: &RowKey) -> Found<T> {
        if self.cold[usize::from(key.tag())] { Found::Cold } else { Found::Absent }
    }

    /// Whether the row has to be loaded before it can be used.
    pub(crate) fn is_cold(&self, key: &RowKey) -> bool {
        self.cold[usize::from(key.tag())] && self.maps.get(key).is_none()
    }

    /// Whether any row of a table may be cold.
    pub(crate) fn may_be_cold(&self, table: u8) -> bool {
        self.cold[usize::from(table)]
    }

    /// Whether any row of any table may be cold.
    pub(crate) fn any_cold(&self) -> bool {
        self.cold.iter().any(|cold| *cold)
    }

    /// Reads rows of these hashes right after each other: the processor waits for memory once, where looking for one after
    /// another, with work in between, waits each time. Results do not depend on it.
    pub(crate) fn approach(&self, hashes: &[u64]) {
        let read = |hash: &u64| match self.maps.near(*hash).map(|row| &row.value) {
            Some(Value::Bytes(bytes)) => bytes.first().map_or(0, |byte| u64::from(*byte)),
            Some(Value::Sku(sku)) => sku.version,
            Some(Value::Order(order)) => order.order.version,
            Some(Value::Gone) | None => 0,
        };
        std::hint::black_box(hashes.iter().map(read).fold(0, u64::wrapping_add));
    }

    /// Where the row is, for apply. Panics when it could be cold: apply never reads the store, and a guess would be a fork.
    pub(super) fn place(&mut self, key: &RowKey) -> Option<Place> {
        let place = self.maps.find(key).ok();
        match place {
            Some(place) => self.maps.at_mut(place).recent = true,
            None => assert!(!self.cold[usize::from(key.tag())], "row not loaded: {key:?}"),
        }
        place
    }

    /// The bytes of a row, for apply.
    pub(crate) fn bytes(&mut self, key: &RowKey) -> Option<&[u8]> {
        let place = self.place(key)?;
        match &self.maps.at(place).value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Gone => None,
            Value::Sku(_) | Value::Order(_) => panic!("row {key:?} is kept decoded"),
        }
    }

    /// Writes a row whose place has been looked at, or which cannot exist yet.
    pub(crate) fn put(&mut self, key: RowKey, value: Value) {
        let (hash, length, size) = (key.hash(), key.as_bytes().len() as u64, size(&value));
        let written = written(&value, size);
        let next = self.freeze.next();
        self.skus += sku(&key, &value);
        let before = match self.maps.find(&key) {
            Ok(place) => {
                self.before_change(place);
                let row = self.maps.at_mut(place);
                self.resident_bytes = self.resident_bytes + size - self::size(&row.value);
                self.skus -= sku(&row.key, &row.value);
                row.value = value;
                row.recent = true;
                std::mem::replace(&mut row.changed, next)
            }
            Err(place) => {
                self.resident_bytes += cost(&key) + size;
                let row = Row { key, value, settled: 0, stored: false, changed: next, frozen: 0, recent: true };
                self.maps.insert(place, Box::new(row));
                0
            }
        };
        if before != next {
            self.dirty_bytes += length + written;
            self.dirty.push(hash);
        }
    }

    /// Deletes a row that has been looked at.
    pub(crate) fn remove(&mut self, key: RowKey) {
        let Ok(place) = self.maps.find(&key) else { return };
        self.before_change(place);
        let row = self.maps.at(place);
        if row.settled == 0 && !row.stored && !self.cold[usize::from(key.tag())] {
            // Neither the hash nor any checkpoint has seen it: it never was. The dirty list names it in vain.
            self.resident_bytes -= cost(&key) + size(&row.value);
            self.skus -= sku(&key, &row.value);
            self.maps.remove(place);
        } else {
            self.put(key, Value::Gone);
        }
    }

    /// The sum that the cold rows of a restored state are part of.
    pub(crate) fn restore_sum(&mut self, sum: u64) {
        self.sum = sum;
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rule 28: keeps a row that was read at `epoch`, unless a version of it may have come and gone since.
    pub(crate) fn admit(&mut self, key: RowKey, value: Option<Value>, settled: u64, epoch: u64) -> bool {
        let Err(place) = self.maps.find(&key) else { return true };
        if epoch != self.epoch {
            return false;
        }
        let stored = value.is_some();
        let value = value.unwrap_or(Value::Gone);
        self.resident_bytes += cost(&key) + size(&value);
        self.skus += sku(&key, &value);
        self.admitted += 1;
        let row = Row { key, value, settled, stored, changed: 0, frozen: 0, recent: true };
        self.maps.insert(place, Box::new(row));
        true
    }

    /// There are so many SKUs: none is cold while all of them are in memory.
    pub(crate) fn know_skus(&mut self, count: u64) {
        self.cold[usize::from(SKU)] &= self.skus != count;
    }

    /// SKUs in memory.
    pub(crate) fn skus(&self) -> u64 {
        self.skus
    }

    /// Looks through `steps` of the parts that rows lie in, and drops clean rows that were not used since the last look,
    /// until memory is down to `target`. Only rows whose last version is in the store go (rule 28).
    pub(crate) fn evict_step(&mut self, target: u64, steps: usize) {
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
    pub(crate) fn eviction_steps(&self) -> usize {
        2 * self.maps.count()
    }

    fn sweep_one(&mut self) {
        let map = self.hand % self.maps.count();
        self.hand = map + 1;
        let (cold, freed, evicted, freeze) = (&mut self.cold, &mut self.resident_bytes, &mut self.evicted, &self.freeze);
        let skus = &mut self.skus;
        self.maps.sweep(map, |row| {
            let keep = freeze.holds(row) || std::mem::take(&mut row.recent);
            if !keep {
                cold[usize::from(row.key.tag())] = true;
                *freed -= cost(&row.key) + size(&row.value);
                *skus -= sku(&row.key, &row.value);
                *evicted += 1;
            }
            keep
        });
    }

    /// Rows evicted and rows admitted so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.evicted, self.admitted)
    }

    /// Rows in memory, in an order that is the same everywhere but means nothing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Value)> {
        self.maps.iter().map(|row| (&row.key, &row.value)).filter(|(_, value)| !matches!(value, Value::Gone))
    }
}

impl Row {
    /// Moves the sum from what the row added to what it adds now, and shows the row's bytes.
    pub(super) fn settle(&mut self, sum: &mut u64, scratch: &mut Vec<u8>, show: RowSink<'_>) {
        let bytes: Option<&[u8]> = match &self.value {
            Value::Gone => None,
            Value::Bytes(bytes) => Some(bytes),
            Value::Sku(sku) => Some(encode(scratch, sku.as_ref())),
            Value::Order(order) => Some(encode(scratch, order.as_ref())),
        };
        let now = bytes.map_or(0, |bytes| row_hash(self.key.hash(), bytes));
        *sum = sum.wrapping_sub(self.settled).wrapping_add(now);
        self.settled = now;
        show(self.key.as_bytes(), bytes);
    }

    /// A row that is told from others by a number.
    #[cfg(test)]
    pub(super) fn marked(key: RowKey, mark: u64) -> Self {
        Self { key, value: Value::Gone, settled: mark, stored: false, changed: 0, frozen: 0, recent: false }
    }
}

/// What a row costs in memory beside its value.
pub(super) fn cost(key: &RowKey) -> u64 {
    OVERHEAD + key.heap_bytes()
}

/// One for a SKU, and nothing for any other row.
fn sku(key: &RowKey, value: &Value) -> u64 {
    u64::from(key.tag() == SKU && !matches!(value, Value::Gone))
}

/// What a checkpoint writes of a value of that size, roughly.
fn written(value: &Value, size: u64) -> u64 {
    if let Value::Order(_) = value { size / ORDER_TO_BYTES } else { size }
}

pub(super) fn size(value: &Value) -> u64 {
    match value {
        Value::Gone => 0,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Sku(_) => SKU_BYTES,
        Value::Order(row) => order_bytes(row),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    fn key(name: &str) -> RowKey {
        RowKey::new(&[&[super::super::HOLD], name.as_bytes()].concat())
    }

    fn bytes(content: &str) -> Value {
        Value::Bytes(content.as_bytes().into())
    }

    /// A checkpoint: what it writes, as text.
    fn checkpoint(table: &mut RowTable) -> Vec<String> {
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
            let mut table = RowTable::new();
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
            let mut table = RowTable::new();
            rows.iter().for_each(|(name, content)| table.put(key(name), bytes(content)));
            table.state_sum()
        };
        let mut table = RowTable::new();
        table.put(key("a"), bytes("1"));
        table.put(key("b"), bytes("2"));
        assert_eq!(table.state_sum(), plain(&[("a", "1"), ("b", "2")]));
        checkpoint(&mut table);
        table.evict_step(0, table.eviction_steps());
        assert_eq!(table.state_sum(), plain(&[("a", "1"), ("b", "2")]), "cold rows count");
        let hash = row_hash(key("a").hash(), b"1");
        assert!(table.admit(key("a"), Some(bytes("1")), hash, table.epoch()));
        table.put(key("a"), bytes("3"));
        assert_eq!(table.state_sum(), plain(&[("a", "3"), ("b", "2")]));
        table.remove(key("a"));
        assert_eq!(table.state_sum(), plain(&[("b", "2")]));
    }

    #[test]
    fn memory_is_counted_down_to_nothing() {
        let mut table = RowTable::new();
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
        assert_eq!((table.byte_counts().resident, table.traffic()), (0, (1_000, 0)));
    }

    #[test]
    fn what_was_used_lately_goes_last() {
        let mut table = RowTable::new();
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
        let mut table = RowTable::new();
        table.set_cold();
        assert!(matches!(table.find(&key("k")), Found::Cold));
        assert!(table.admit(key("k"), None, 0, table.epoch()));
        assert!(matches!(table.find(&key("k")), Found::Absent));
        table.put(key("k"), bytes("new"));
        assert!(matches!(table.find(&key("k")), Found::Here(_)));
        assert_eq!(checkpoint(&mut table), ["k new"]);
    }
}

//! Rows that may be cold, in many small maps so that none ever grows large. Decides what is in memory, what a checkpoint
//! takes, what may be evicted and what the rows add to the state hash.
//!
//! A row that does not exist may still have a slot here: a deletion that no checkpoint has stored yet, or the knowledge
//! that the store has no such row (rule 28: deletions are rows in memory).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kinds::sku_bytes;
use super::{FIRST_COLD, RowKey, TAGS, row_hash};
use crate::encoding::read_row;
use crate::sku::Sku;

/// Number of small maps, a power of two. Not part of any format.
const MAPS: usize = 1 << 10;
/// What a slot costs beside key and value: the map's node, the reference counts, the allocator.
const OVERHEAD: u64 = 120;
/// What a decoded SKU costs, roughly; its stock is one or two warehouses.
const SKU_BYTES: u64 = 320;

/// A row, as it is kept in memory.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// There is no such row.
    Gone,
    /// At rest.
    Bytes(Arc<[u8]>),
    /// A SKU that is being worked on: encoded once per checkpoint, not once per change.
    Sku(Box<Sku>),
}

#[derive(Debug)]
struct Slot {
    value: Value,
    /// What the row adds to the settled hash; zero when it adds nothing.
    settled: u64,
    /// The store may have a version of it, now or once the running checkpoint is durable.
    stored: bool,
    /// Changed since the last freeze.
    dirty: bool,
    /// Part of a checkpoint that is not durable yet.
    frozen: bool,
    /// Used since the last sweep.
    recent: bool,
}

/// The rows of a shard that may be cold.
#[derive(Debug)]
pub(crate) struct RowTable {
    maps: Vec<BTreeMap<RowKey, Slot>>,
    dirty: Vec<RowKey>,
    frozen: Vec<RowKey>,
    /// Per table: the store may hold rows that are not in memory.
    cold: [bool; TAGS],
    /// Counts the moments at which a row read before may have become older than the store's.
    epoch: u64,
    resident_bytes: u64,
    dirty_bytes: u64,
    /// Wrapping sum of the hashes of all rows, cold ones included, as of the last settling.
    sum: u64,
    /// Which map the next eviction starts at.
    hand: usize,
    evicted: u64,
    admitted: u64,
}

/// Where a row is.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// In memory.
    Here(&'a Value),
    /// Nowhere.
    Absent,
    /// Perhaps in the store.
    Cold,
}

impl RowTable {
    pub(crate) fn new() -> Self {
        Self {
            maps: std::iter::repeat_with(BTreeMap::new).take(MAPS).collect(),
            dirty: Vec::new(),
            frozen: Vec::new(),
            cold: [false; TAGS],
            epoch: 0,
            resident_bytes: 0,
            dirty_bytes: 0,
            sum: 0,
            hand: 0,
            evicted: 0,
            admitted: 0,
        }
    }

    /// Looks without marking the row as used.
    pub(crate) fn find(&self, key: &RowKey) -> Found<'_> {
        match self.map(key).get(key) {
            Some(Slot { value: Value::Gone, .. }) => Found::Absent,
            Some(slot) => Found::Here(&slot.value),
            None if self.cold[usize::from(key.tag())] => Found::Cold,
            None => Found::Absent,
        }
    }

    /// Whether the row has to be loaded before it can be used.
    pub(crate) fn is_cold(&self, key: &RowKey) -> bool {
        self.cold[usize::from(key.tag())] && !self.map(key).contains_key(key)
    }

    /// Whether any row of any table may be cold.
    pub(crate) fn any_cold(&self) -> bool {
        self.cold.iter().any(|cold| *cold)
    }

    /// The row, for apply. Panics when it could be cold: apply never reads the store, and a guess would be a fork.
    fn get(&mut self, key: &RowKey) -> Option<&Value> {
        let cold = self.cold[usize::from(key.tag())];
        match self.map_mut(key).get_mut(key) {
            Some(slot) => {
                slot.recent = true;
                (!matches!(slot.value, Value::Gone)).then_some(&slot.value)
            }
            None => {
                assert!(!cold, "row not loaded: {key:?}");
                None
            }
        }
    }

    /// The bytes of a row, for apply.
    pub(crate) fn bytes(&mut self, key: &RowKey) -> Option<Arc<[u8]>> {
        match self.get(key)? {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Sku(_) | Value::Gone => panic!("row {key:?} is kept decoded"),
        }
    }

    /// A SKU, decoded and kept decoded: it will be needed again.
    pub(crate) fn sku(&mut self, key: &RowKey) -> Option<&Sku> {
        self.sku_slot(key).map(|(sku, _)| &*sku)
    }

    /// A SKU, to be changed.
    pub(crate) fn sku_mut(&mut self, key: &RowKey) -> Option<&mut Sku> {
        let (_, dirty) = self.sku_slot(key)?;
        if !std::mem::replace(dirty, true) {
            self.dirty_bytes += OVERHEAD + key.as_bytes().len() as u64 + SKU_BYTES;
            self.dirty.push(key.clone());
        }
        self.sku_slot(key).map(|(sku, _)| sku)
    }

    fn sku_slot(&mut self, key: &RowKey) -> Option<(&mut Sku, &mut bool)> {
        let (resident, cold) = (&mut self.resident_bytes, self.cold[usize::from(key.tag())]);
        let Some(slot) = self.maps[index(key)].get_mut(key) else {
            assert!(!cold, "row not loaded: {key:?}");
            return None;
        };
        slot.recent = true;
        if let Value::Bytes(bytes) = &slot.value {
            let sku = read_row(bytes).expect("a stored SKU decodes");
            *resident = *resident + SKU_BYTES - bytes.len() as u64;
            slot.value = Value::Sku(Box::new(sku));
        }
        match &mut slot.value {
            Value::Sku(sku) => Some((sku, &mut slot.dirty)),
            Value::Gone | Value::Bytes(_) => None,
        }
    }

    /// Writes a row whose place has been looked at, or which cannot exist yet.
    pub(crate) fn put(&mut self, key: RowKey, value: Value) {
        let size = size(&value);
        let map = &mut self.maps[index(&key)];
        let slot = map.entry(key.clone()).or_insert_with(|| {
            self.resident_bytes += OVERHEAD + key.as_bytes().len() as u64;
            Slot { value: Value::Gone, settled: 0, stored: false, dirty: false, frozen: false, recent: true }
        });
        self.resident_bytes = self.resident_bytes + size - self::size(&slot.value);
        slot.value = value;
        slot.recent = true;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty_bytes += OVERHEAD + key.as_bytes().len() as u64 + size;
            self.dirty.push(key);
        }
    }

    /// Deletes a row that has been looked at.
    pub(crate) fn remove(&mut self, key: RowKey) {
        let map = &mut self.maps[index(&key)];
        let Some(slot) = map.get(&key) else { return };
        if slot.settled == 0 && !slot.stored && !self.cold[usize::from(key.tag())] {
            // Neither the hash nor any checkpoint has seen it: it never was. The stale entry of the dirty list is skipped.
            let slot = map.remove(&key).expect("the slot was just seen");
            self.resident_bytes -= OVERHEAD + key.as_bytes().len() as u64 + size(&slot.value);
        } else {
            self.put(key, Value::Gone);
        }
    }

    /// Brings the sum of row hashes up to date and returns it.
    pub(crate) fn settle(&mut self, scratch: &mut Vec<u8>) -> u64 {
        for key in &self.dirty {
            let Some(slot) = self.maps[index(key)].get_mut(key) else { continue };
            if slot.dirty {
                let now = match &slot.value {
                    Value::Gone => 0,
                    Value::Bytes(bytes) => row_hash(key.hash(), bytes),
                    Value::Sku(sku) => {
                        sku_bytes(scratch, sku);
                        row_hash(key.hash(), scratch)
                    }
                };
                self.sum = self.sum.wrapping_sub(slot.settled).wrapping_add(now);
                slot.settled = now;
            }
        }
        self.sum
    }

    /// The sum that the cold rows of a restored state are part of.
    pub(crate) fn restore_sum(&mut self, sum: u64) {
        self.sum = sum;
    }

    /// Hands out what changed since the last freeze. The rows stay, and stay unevictable until [`RowTable::durable`].
    pub(crate) fn freeze(&mut self, scratch: &mut Vec<u8>, out: &mut Vec<(Vec<u8>, Option<Arc<[u8]>>)>) {
        assert!(self.frozen.is_empty(), "a checkpoint is still running");
        self.settle(scratch);
        self.epoch += 1;
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|key| {
            let Some(slot) = self.maps[index(key)].get_mut(key) else { return false };
            if !slot.dirty {
                return false;
            }
            slot.dirty = false;
            slot.frozen = true;
            slot.stored |= !matches!(slot.value, Value::Gone);
            let bytes = match &slot.value {
                Value::Gone => None,
                Value::Bytes(bytes) => Some(bytes.clone()),
                Value::Sku(sku) => {
                    sku_bytes(scratch, sku);
                    Some(Arc::from(scratch.as_slice()))
                }
            };
            out.push((key.as_bytes().to_vec(), bytes));
            true
        });
        self.frozen = dirty;
        self.dirty_bytes = 0;
    }

    /// The last freeze is in the store: its rows may be evicted, its deletions forgotten.
    pub(crate) fn durable(&mut self) {
        self.epoch += 1;
        for key in std::mem::take(&mut self.frozen) {
            let map = &mut self.maps[index(&key)];
            let Some(slot) = map.get_mut(&key) else { continue };
            slot.frozen = false;
            if matches!(slot.value, Value::Gone) && !slot.dirty {
                map.remove(&key);
                self.resident_bytes -= OVERHEAD + key.as_bytes().len() as u64;
            }
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rule 28: keeps a row that was read at `epoch`, unless a version of it may have come and gone since.
    pub(crate) fn admit(&mut self, key: RowKey, value: Option<Value>, settled: u64, epoch: u64) -> bool {
        if self.map(&key).contains_key(&key) {
            return true;
        }
        if epoch != self.epoch {
            return false;
        }
        let stored = value.is_some();
        let value = value.unwrap_or(Value::Gone);
        self.resident_bytes += OVERHEAD + key.as_bytes().len() as u64 + size(&value);
        self.admitted += 1;
        let slot = Slot { value, settled, stored, dirty: false, frozen: false, recent: true };
        self.map_mut(&key).insert(key, slot);
        true
    }

    /// Every table may have rows in the store from now on.
    pub(crate) fn set_cold(&mut self) {
        self.cold[usize::from(FIRST_COLD)..].fill(true);
    }

    /// Every row of the store is in memory.
    pub(crate) fn set_warm(&mut self) {
        self.cold = [false; TAGS];
    }

    /// Drops clean rows, those not used lately first, until memory is down to `target` or nothing can go. Only rows
    /// whose last version is in the store go (rule 28).
    pub(crate) fn evict(&mut self, target: u64) {
        if self.resident_bytes <= target {
            return;
        }
        self.epoch += 1;
        // Two rounds: the first clears the marks of use, the second takes what was marked and not used again.
        for _ in 0..2 * MAPS {
            if self.resident_bytes <= target {
                return;
            }
            self.sweep_one();
        }
    }

    fn sweep_one(&mut self) {
        let map = &mut self.maps[self.hand];
        self.hand = (self.hand + 1) % MAPS;
        let (cold, freed, evicted) = (&mut self.cold, &mut self.resident_bytes, &mut self.evicted);
        map.retain(|key, slot| {
            let keep = slot.dirty || slot.frozen || std::mem::take(&mut slot.recent);
            if !keep {
                cold[usize::from(key.tag())] = true;
                *freed -= OVERHEAD + key.as_bytes().len() as u64 + size(&slot.value);
                *evicted += 1;
            }
            keep
        });
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// Rows evicted and rows admitted so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.evicted, self.admitted)
    }

    /// Rows in memory, in an order that is the same everywhere but means nothing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Value)> {
        self.maps.iter().flatten().map(|(key, slot)| (key, &slot.value)).filter(|(_, value)| !matches!(value, Value::Gone))
    }

    fn map(&self, key: &RowKey) -> &BTreeMap<RowKey, Slot> {
        &self.maps[index(key)]
    }

    fn map_mut(&mut self, key: &RowKey) -> &mut BTreeMap<RowKey, Slot> {
        &mut self.maps[index(key)]
    }
}

/// The low bits choose the map, the high ones order the rows in it.
fn index(key: &RowKey) -> usize {
    key.hash() as usize % MAPS
}

fn size(value: &Value) -> u64 {
    match value {
        Value::Gone => 0,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Sku(_) => SKU_BYTES,
    }
}

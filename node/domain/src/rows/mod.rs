//! Rows: what a shard remembers, as key and bytes. Decides the tables, their keys and their order on disk; `table`, `resident`,
//! `timers` and `lists` keep them in memory, `freeze` takes checkpoints of them, `kinds` says what is in them.
//!
//! The first byte of a key is the tag of its table. Tables below [`FIRST_COLD`] are *resident*: scanned at start and
//! never evicted, but for those of [`TIMER`]. The others may be cold: in the store alone until somebody needs them.

pub(crate) mod decoded;
mod freeze;
pub(crate) mod keys;
pub(crate) mod kinds;
pub(crate) mod lists;
mod maps;
pub(crate) mod resident;
pub(crate) mod row_table;
pub(crate) mod table;
pub(crate) mod timers;

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::BytesError;
use crate::ids::{OrderId, UserId};

/// Time, id sequence, counters, hash: one row, written by every checkpoint.
pub const META: u8 = 0;
/// Timers by due time. Those that are due later are in the store alone: see `timers`.
pub const TIMER: u8 = 1;
/// Messages that other shards have not confirmed, by destination and number.
pub const OUTBOX: u8 = 2;
/// Streams to other shards: next number, trimmed number.
pub const STREAM_OUT: u8 = 3;
/// Streams from other shards: highest number applied.
pub const STREAM_IN: u8 = 4;
/// Attempt to order, until every keep of it is trimmed (rule 16).
pub const ATTEMPT: u8 = 5;
/// What an attempt did to a SKU lately: tentative hold, kept, ended (rules 9 and 10).
pub const MARK: u8 = 6;
/// Repairs of log time, by their number.
pub const REPAIR: u8 = 7;
/// The first table whose rows may be cold.
pub const FIRST_COLD: u8 = 16;
/// Orders by id, which is by time.
pub const ORDER: u8 = 16;
/// SKUs by id.
pub const SKU: u8 = 17;
/// Kept holds by attempt and SKU, which is by time within a term.
pub const HOLD: u8 = 18;
/// Idempotency records of placing, by user and key.
pub const PLACED: u8 = 19;
/// The orders of users, by user and order id, newest first: see `lists`.
pub const LIST: u8 = 20;
/// The client's own names of orders, by user and reference.
pub const REFERENCE: u8 = 22;
/// Idempotency records of commands on SKUs, by SKU and key.
pub const SKU_KEY: u8 = 23;
/// One more than the last tag.
pub(crate) const TAGS: usize = 24;

/// Where the list of a user begins in the store: the keys of its rows all start with this.
#[must_use]
pub fn list_of(user: &UserId) -> RowKey {
    RowKey::of(LIST, &[user.as_str().as_bytes(), &[0]])
}

/// Where in the list of a user an order stands. Newer ones are before it.
#[must_use]
pub fn listed_at(user: &UserId, order: OrderId) -> RowKey {
    keys::list(user, order)
}

/// The order that a row of a list names.
///
/// # Errors
/// The key is not one of a list.
pub fn listed_order(key: &[u8]) -> Result<OrderId, BytesError> {
    keys::listed(key).map(|(_, order)| order)
}

/// Takes the rows of a checkpoint one by one: key, and bytes or a deletion.
pub type RowSink<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// Longest key that is kept without an allocation, in bytes.
const INLINE: usize = 46;

/// The key of a row: table tag and name, with its hash. Ordered by hash, so that comparing is one integer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    hash: u64,
    bytes: KeyBytes,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyBytes {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl RowKey {
    /// The key with these bytes, tag first.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self::with_hash(key, xxh3_64(key))
    }

    /// The key that is made of these parts.
    pub(crate) fn of(tag: u8, parts: &[&[u8]]) -> Self {
        let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > INLINE {
            let mut bytes = Vec::with_capacity(length);
            bytes.push(tag);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return Self { hash: xxh3_64(&bytes), bytes: KeyBytes::Heap(bytes.into()) };
        }
        let mut bytes = [0; INLINE];
        bytes[0] = tag;
        let mut end = 1;
        for part in parts {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Self { hash: xxh3_64(&bytes[..length]), bytes: KeyBytes::Inline { length: length as u8, bytes } }
    }

    pub(crate) fn with_hash(key: &[u8], hash: u64) -> Self {
        let bytes = if key.len() <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..key.len()].copy_from_slice(key);
            KeyBytes::Inline { length: key.len() as u8, bytes }
        } else {
            KeyBytes::Heap(key.into())
        };
        Self { hash, bytes }
    }

    /// The bytes under which the store keeps the row.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            KeyBytes::Inline { length, bytes } => &bytes[..usize::from(*length)],
            KeyBytes::Heap(bytes) => bytes,
        }
    }

    /// Tag of its table.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.as_bytes().first().copied().unwrap_or(u8::MAX)
    }

    /// Bytes that are allocated for it.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match &self.bytes {
            KeyBytes::Inline { .. } => 0,
            KeyBytes::Heap(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tag(), self.as_bytes().get(1..).unwrap_or_default().escape_ascii())
    }
}

/// What a row adds to the state hash. A row that does not exist adds zero.
pub(crate) fn row_hash(key_hash: u64, value: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(value, key_hash)
}

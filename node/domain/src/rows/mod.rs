//! Rows: what a shard remembers, as key and bytes. Decides the tables, their keys and their order on disk (`keys`), what is in
//! them (`kinds`) and what is worked on decoded (`work`). How rows are kept in memory, and how checkpoints take them, is the
//! business of `ordergrid-rows`.
//!
//! The first byte of a key is the tag of its table. Tables below [`FIRST_COLD`] are *resident*: scanned at start and
//! never evicted, but for those of [`TIMER`]. The others may be cold: in the store alone until somebody needs them.

pub(crate) mod keys;
pub(crate) mod kinds;
pub(crate) mod work;

use crate::encoding::BytesError;
use crate::ids::{OrderId, Reference, UserId};

pub(crate) use ordergrid_rows::row_hash;
pub use ordergrid_rows::{RowKey, RowSink};

/// Time, id sequence, counters, hash: one row, written by every checkpoint.
pub const META: u8 = 0;
/// Timers by due time. Those that are due later are in the store alone.
pub const TIMER: u8 = 1;
/// Messages that other shards have not confirmed, by destination and number.
pub const OUTBOX: u8 = 2;
/// Streams to other shards: next number, trimmed number.
pub const STREAM_OUT: u8 = 3;
/// Streams from other shards: highest number applied.
pub const STREAM_IN: u8 = 4;
/// Attempt to order, until every claim of it is trimmed (rule 16).
pub const ATTEMPT: u8 = 5;
/// What an attempt did to a SKU lately: tentative hold, kept, ended (rules 9 and 10).
pub const MARK: u8 = 6;
/// Repairs of log time, by their number.
pub const REPAIR: u8 = 7;
/// Attempts whose holds were kept lately, 64 numbers to a row (rules 9 and 10).
pub const KEPT: u8 = 8;
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
/// The orders of users, by user and order id, newest first, and those of references: only ever added.
pub const LIST: u8 = 20;
/// The client's own names of orders, by user and reference.
pub const REFERENCE: u8 = 22;
/// Idempotency records of commands on SKUs, by SKU and key.
pub const SKU_KEY: u8 = 23;
/// The tables whose rows are found one by one.
pub(crate) const KEYED: [u8; 6] = [ORDER, SKU, HOLD, PLACED, REFERENCE, SKU_KEY];

/// Where the list of a user begins in the store: the keys of its rows all start with this.
#[must_use]
pub fn list_of(user: &UserId) -> RowKey {
    RowKey::of(LIST, &[user.as_str().as_bytes(), &[0]])
}

/// Where the list of a reference begins in the store, which has the orders of all users of the shard.
#[must_use]
pub fn list_of_reference(reference: &Reference) -> RowKey {
    keys::list_by_reference(reference.as_str().as_bytes())
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

//! What is in the rows. These layouts are stored: a change needs a new version in `encoding` and its golden bytes.

use bincode::{Decode, Encode};

use crate::command::{Created, Position};
use crate::encoding::{BytesError, append};
use crate::ids::{Key, OrderId, Slot, WarehouseId};
use crate::money::Quantity;
use crate::order::Order;
use crate::order::TimerKind;
use crate::sku::Sku;
use crate::time::Timestamp;

/// An order with what the machine keeps for it: one row, so that a command on an order touches one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct OrderRow {
    pub(crate) order: Order,
    /// The timers that run, as they stand in the timer table.
    pub(crate) timers: Vec<(TimerKind, Timestamp)>,
    /// Idempotency records of the commands on it, oldest first.
    pub(crate) keys: Vec<OrderKey>,
}

/// A command that an order has seen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct OrderKey {
    pub(crate) key: Key,
    pub(crate) body_hash: u64,
    pub(crate) created: Option<Created>,
    /// The order's version after it.
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
}

/// The order that a key of a user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PlacedRow {
    pub(crate) order: OrderId,
    pub(crate) body_hash: u64,
    pub(crate) at: Timestamp,
}

/// A command that a SKU has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SkuKeyRow {
    pub(crate) body_hash: u64,
    /// The SKU's version after it.
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
}

/// The order that a reference of a user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ReferenceRow {
    pub(crate) order: OrderId,
}

/// Units that belong to an order: a hold whose *keep* has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HoldRow {
    pub(crate) order: OrderId,
    pub(crate) quantity: Quantity,
    /// Counted as committed, else as reserved.
    pub(crate) committed: bool,
    pub(crate) warehouse: WarehouseId,
}

/// What an attempt did to a SKU lately. A tentative hold lives here alone; a kept one has a [`HoldRow`] as well, and
/// its mark until the valid-until has passed, so that a late repeat of the hold needs no cold row.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Mark {
    /// Units are taken; nobody knows yet whether an order comes of it.
    Tentative { quantity: Quantity, warehouse: WarehouseId, granted_at: Timestamp, valid_until: Timestamp },
    /// The order exists.
    Kept { quantity: Quantity, valid_until: Timestamp },
    /// A tombstone (rule 10).
    Ended { valid_until: Timestamp },
}

/// Where a placed attempt's order is, for those that ask (rule 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AttemptRow {
    pub(crate) order: OrderId,
    /// *Keep* messages that are not trimmed yet.
    pub(crate) outstanding: u32,
}

/// A stream to another shard. Numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StreamOut {
    /// The number of the next message.
    pub(crate) next: u64,
    /// Highest number that the destination has told to be applied.
    pub(crate) trimmed: u64,
}

impl Default for StreamOut {
    fn default() -> Self {
        Self { next: 1, trimmed: 0 }
    }
}

/// A stream from another shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StreamIn {
    /// Highest number applied.
    pub(crate) high: u64,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Counts {
    /// Orders by status, in the order of [`crate::order::Status`].
    pub(crate) orders: [u64; 8],
    pub(crate) skus: u64,
    pub(crate) holds: u64,
}

/// What a shard remembers of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Meta {
    /// The entry that was applied last.
    pub(crate) position: At,
    /// Log time (rule 21).
    pub(crate) time: Timestamp,
    /// Millisecond since the epoch of order ids that the last id was made in.
    pub(crate) id_ms: u64,
    /// Ids made in that millisecond.
    pub(crate) id_sequence: u16,
    /// Sum of the row hashes of the tables that may be cold.
    pub(crate) sum: u64,
    pub(crate) counts: Counts,
}

/// A position that can be zero: nothing applied yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct At {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<At> for Position {
    fn from(at: At) -> Self {
        Self { term: at.term, index: at.index }
    }
}

impl Meta {
    /// A new order id: never twice, and never behind the last one of this shard. Ids of one millisecond are used up by
    /// going on into the next.
    pub(crate) fn next_order(&mut self, slot: Slot) -> OrderId {
        let now = self.time.as_ms().saturating_sub(OrderId::EPOCH_MS);
        if now > self.id_ms {
            (self.id_ms, self.id_sequence) = (now, 0);
        } else if self.id_sequence == OrderId::SEQUENCES {
            (self.id_ms, self.id_sequence) = (self.id_ms + 1, 0);
        }
        let id = OrderId::new(Timestamp::from_ms(self.id_ms + OrderId::EPOCH_MS), slot, self.id_sequence);
        self.id_sequence += 1;
        id
    }
}

/// Writes a SKU's bytes into `scratch`.
pub(crate) fn sku_bytes(scratch: &mut Vec<u8>, sku: &Sku) {
    scratch.clear();
    append(scratch, sku);
}

/// Order ids per chunk.
pub(crate) const CHUNK_IDS: usize = 128;
const USER_VERSION: u8 = 1;
const HEAD: usize = 5;
const ID: usize = 8;

/// The newest orders of a user, as bytes: version, number of sealed chunks, ids from old to new. Adding an id copies
/// bytes and decodes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserRow<'a> {
    pub(crate) sealed: u32,
    ids: &'a [u8],
}

impl<'a> UserRow<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, BytesError> {
        let (version, rest) = bytes.split_first().ok_or(BytesError::Empty)?;
        if *version != USER_VERSION {
            return Err(BytesError::Version(*version));
        }
        let (sealed, ids) = rest.split_first_chunk::<4>().ok_or(BytesError::Empty)?;
        if ids.len() % ID != 0 || ids.len() > CHUNK_IDS * ID {
            return Err(BytesError::Trailing(ids.len() % ID));
        }
        Ok(Self { sealed: u32::from_le_bytes(*sealed), ids })
    }

    /// From new to old.
    pub(crate) fn newest_first(self) -> impl Iterator<Item = OrderId> {
        self.ids.rchunks_exact(ID).map(|id| OrderId(u64::from_le_bytes(id.try_into().expect("a chunk is eight bytes"))))
    }

    pub(crate) fn total(self) -> u64 {
        u64::from(self.sealed) * CHUNK_IDS as u64 + (self.ids.len() / ID) as u64
    }

    pub(crate) fn is_full(self) -> bool {
        self.ids.len() == CHUNK_IDS * ID
    }

    /// These ids as a chunk of their own. A chunk has the layout of a head that has sealed nothing.
    pub(crate) fn chunk(self) -> Box<[u8]> {
        Self { sealed: 0, ids: self.ids }.write(&[])
    }

    /// The head with one more id.
    pub(crate) fn with(self, id: OrderId) -> Box<[u8]> {
        self.write(&id.0.to_le_bytes())
    }

    /// The head after sealing, with its first id.
    pub(crate) fn first(sealed: u32, id: OrderId) -> Box<[u8]> {
        UserRow { sealed, ids: &[] }.with(id)
    }

    fn write(self, more: &[u8]) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(HEAD + self.ids.len() + more.len());
        bytes.push(USER_VERSION);
        bytes.extend_from_slice(&self.sealed.to_le_bytes());
        bytes.extend_from_slice(self.ids);
        bytes.extend_from_slice(more);
        bytes.into_boxed_slice()
    }
}

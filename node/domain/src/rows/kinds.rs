//! What is in the rows. These layouts are stored: a change needs a new version in `encoding` and its golden bytes.

use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::command::{Created, Position};
use crate::ids::{Key, OrderId, Slot, WarehouseId};
use crate::money::Quantity;
use crate::order::Order;
use crate::order::TimerKind;
use crate::time::Timestamp;

/// An order with what the machine keeps for it: one row, so that a command on an order touches one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct OrderRow {
    /// Shared with the answer to the last command, until that has been written.
    pub(crate) order: Arc<Order>,
    /// The timers that run, as they stand in the timer table.
    pub(crate) timers: Vec<(TimerKind, Timestamp)>,
    /// Idempotency records of the commands on it, oldest first.
    pub(crate) keys: Vec<OrderKey>,
    /// What it holds, if all its SKUs live in its own shard: such units change with the order alone and need no row of
    /// their own. Of any other order each SKU's shard has a [`HoldRow`].
    pub(crate) local_holds: Option<Vec<LocalHold>>,
}

/// Units of one SKU that an order holds in its own shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LocalHold {
    /// The first line of the SKU, from 1.
    pub(crate) line: u32,
    pub(crate) held: Held,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReferenceRow {
    pub(crate) order: OrderId,
    /// The ids of the orders that had the reference before and ended without a parcel, added up, by which the audit finds them.
    pub(crate) before: u64,
    /// The ids of all orders that had it and are in the list of the reference, added up. Orders of before there was one are not.
    pub(crate) listed: u64,
}

/// Stands before the fields of a row that has more than the order. No order has it as its id.
const MORE: OrderId = OrderId(0);

/// Rows of before references were free again, and had lists, are an id alone.
impl Encode for ReferenceRow {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if (self.before, self.listed) == (0, 0) {
            return self.order.encode(encoder);
        }
        MORE.encode(encoder)?;
        self.order.encode(encoder)?;
        self.before.encode(encoder)?;
        self.listed.encode(encoder)
    }
}

impl<C> Decode<C> for ReferenceRow {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match OrderId::decode(decoder)? {
            MORE => {
                let order = OrderId::decode(decoder)?;
                Ok(Self { order, before: u64::decode(decoder)?, listed: u64::decode(decoder)? })
            }
            order => Ok(Self { order, before: 0, listed: 0 }),
        }
    }
}

bincode::impl_borrow_decode!(ReferenceRow);

/// Units that belong to an order: a hold whose *keep* has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HoldRow {
    pub(crate) order: OrderId,
    pub(crate) held: Held,
}

/// Units that are kept for an order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Held {
    pub(crate) quantity: Quantity,
    /// Counted as committed, else as reserved.
    pub(crate) committed: bool,
    pub(crate) warehouse: WarehouseId,
}

/// What an attempt did to a SKU lately. A tentative hold lives here alone; a kept one is a [`HoldRow`], and its attempt is in a
/// [`KeptRow`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Mark {
    /// Units are taken; nobody knows yet whether an order comes of it.
    Tentative { quantity: Quantity, warehouse: WarehouseId, granted_at: Timestamp, valid_until: Timestamp },
    /// The order exists, and was claimed: nobody knows whether the hold itself is still to come.
    Kept { quantity: Quantity, valid_until: Timestamp },
    /// A tombstone (rule 10).
    Ended { valid_until: Timestamp },
}

/// Attempts whose holds were kept, until the valid-until of each of them has passed: a late repeat of a hold needs no cold row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct KeptRow {
    /// A bit for each attempt of the block.
    pub(crate) attempts: u64,
    /// The latest valid-until.
    pub(crate) until: Timestamp,
}

/// Where the order of a claimed attempt is, for those that ask (rule 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AttemptRow {
    pub(crate) order: OrderId,
    /// Messages that are not trimmed yet.
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
    pub(crate) orders: [u64; 9],
    pub(crate) skus: u64,
    pub(crate) holds: u64,
    /// Timers that run.
    pub(crate) timers: u64,
}

/// What a shard remembers of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Meta {
    /// The entry that was applied last.
    pub(crate) position: At,
    /// Machine time: log time (rule 21), and all that repairs have taken off it.
    pub(crate) time: Timestamp,
    /// Millisecond since the epoch of order ids that the last id was made in.
    pub(crate) id_ms: u64,
    /// Ids made in that millisecond.
    pub(crate) id_sequence: u16,
    /// Sum of the row hashes of the tables that may be cold, that of timers included.
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
    /// going on into the next; so are those of a log time that ran away and was set back, until the time has passed them.
    pub(crate) fn next_order(&mut self, slot: Slot, now: Timestamp) -> OrderId {
        let now = now.as_ms().saturating_sub(OrderId::EPOCH_MS);
        if now > self.id_ms {
            (self.id_ms, self.id_sequence) = (now, 0);
        } else if self.id_sequence == OrderId::SEQUENCES {
            (self.id_ms, self.id_sequence) = (self.id_ms + 1, 0);
        }
        let id = OrderId::new(Timestamp::from_ms(self.id_ms + OrderId::EPOCH_MS), slot, self.id_sequence);
        self.id_sequence += 1;
        id
    }

    /// Parts the ids that are made from now on from those made before: tells the first millisecond of the later ones.
    pub(crate) fn part_ids(&mut self, now: Timestamp) -> u64 {
        let now = now.as_ms().saturating_sub(OrderId::EPOCH_MS);
        (self.id_ms, self.id_sequence) = (self.id_ms.max(now) + 1, 0);
        self.id_ms
    }
}

//! Names of things: slots, shards, users, SKUs, orders, attempts. All cheap to copy or clone, all ordered, all with a
//! stable byte form. Read next: `command` for what is asked of these things.

use std::fmt;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use smol_str::SmolStr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::time::Timestamp;

/// Seed of the hash that maps names to slots. Part of the stored format: it never changes.
const SLOT_SEED: u64 = 0x6f72_6465_7267_7264;

/// One of the 4,096 hash slots that users and SKUs are spread over. A shard owns a range of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Slot(u16);

impl Slot {
    /// Number of slots, fixed for ever.
    pub const COUNT: usize = 4_096;

    /// The slot of a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = xxh3_64_with_seed(name.as_bytes(), SLOT_SEED);
        Self((hash % Self::COUNT as u64) as u16)
    }

    /// The slot with this number, or `None` when it is 4,096 or more.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (usize::from(number) < Self::COUNT).then_some(Self(number))
    }

    /// Position in a table of all slots, below [`Slot::COUNT`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Raft group: 0 is the meta group, every other one is a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group that holds nodes, the shard map and the settings.
    pub const META: Self = Self(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no valid id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Longer than the limit, both in bytes.
    #[error("is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A control character, which no id may contain.
    #[error("contains a control character")]
    ControlCharacter,
    /// A number was expected.
    #[error("is not a valid id")]
    Malformed,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $limit:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Longest id in bytes.
            pub const LIMIT: usize = $limit;

            /// Checks and keeps `text`, letter case and inner spaces included.
            ///
            /// # Errors
            /// The text is empty, too long or holds a control character: answer 422, nothing happened.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                if text.is_empty() {
                    return Err(IdError::Empty);
                }
                if text.len() > Self::LIMIT {
                    return Err(IdError::TooLong { length: text.len(), limit: Self::LIMIT });
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::ControlCharacter);
                }
                Ok(Self(SmolStr::new(text)))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.as_str().encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Ok(Self(SmolStr::from(String::decode(decoder)?)))
            }
        }

        impl<'de, C> BorrowDecode<'de, C> for $name {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok(Self(SmolStr::new(<&str>::borrow_decode(decoder)?)))
            }
        }
    };
}

text_id!(
    /// A buyer. The orders of a user live in the user's slot.
    UserId, 255
);
text_id!(
    /// A stock keeping unit. Letter case counts; spaces are allowed (`BANK CHARGES`).
    SkuId, 255
);
text_id!(
    /// A place that stock is in. Only [`WarehouseId::default`] exists so far; the formats know many.
    WarehouseId, 64
);
text_id!(
    /// An idempotency key, as the client sent it.
    Key, 255
);
text_id!(
    /// The client's own name of an order, unique per user.
    Reference, 255
);
text_id!(
    /// The payment provider's id of a payment.
    ProviderPaymentId, 255
);
text_id!(
    /// A payment provider, by the name that the shop gives it. A payment's id counts within its provider.
    Provider, 64
);
text_id!(
    /// Free text of a client: names, reasons, tracking numbers.
    Text, 1_024
);

impl UserId {
    /// The slot that the user's orders live in.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of(&self.0)
    }
}

impl SkuId {
    /// The slot that the SKU lives in.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of(&self.0)
    }
}

impl Default for WarehouseId {
    fn default() -> Self {
        Self(SmolStr::new_static("default"))
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self(SmolStr::new_static("default"))
    }
}

/// An order: 42 bits of milliseconds since 2020, 12 of slot, 10 of sequence. Ordered by time, made in apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct OrderId(pub u64);

impl OrderId {
    /// 2020-01-01T00:00:00Z in milliseconds since 1970.
    pub const EPOCH_MS: u64 = 1_577_836_800_000;
    /// Ids that one slot can make in one millisecond.
    pub const SEQUENCES: u16 = 1 << 10;

    /// Packs an id.
    #[must_use]
    pub fn new(at: Timestamp, slot: Slot, sequence: u16) -> Self {
        assert!(sequence < Self::SEQUENCES, "sequence {sequence} does not fit into an order id");
        let ms = at.as_ms().saturating_sub(Self::EPOCH_MS);
        Self(ms << 22 | (slot.index() as u64) << 10 | u64::from(sequence))
    }

    /// When the id was made, to the millisecond.
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 22) + Self::EPOCH_MS)
    }

    /// The slot of the order's user.
    #[must_use]
    pub fn slot(self) -> Slot {
        Slot((self.0 >> 10 & 0xfff) as u16)
    }

    /// The sequence within slot and millisecond.
    #[must_use]
    pub fn sequence(self) -> u16 {
        (self.0 & 0x3ff) as u16
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for OrderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::Malformed)
    }
}

macro_rules! part_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name {
            /// The order it belongs to.
            pub order: OrderId,
            /// Its number within the order, from 1.
            pub number: u32,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}-", $letter, "{}"), self.order, self.number)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let (order, number) = text.split_once(concat!("-", $letter)).ok_or(IdError::Malformed)?;
                let number = number.parse().map_err(|_| IdError::Malformed)?;
                Ok(Self { order: order.parse()?, number })
            }
        }
    };
}

part_id!(
    /// A fulfilment of an order, written `<order>-f<number>`.
    FulfilmentId, "f"
);
part_id!(
    /// A refund of an order, written `<order>-r<number>`.
    RefundId, "r"
);

/// One try to place an order. A term has one leader, so group, term and counter are unique (protocol.md, rule 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct AttemptId {
    /// The user's slot: where to ask about the attempt.
    pub slot: Slot,
    /// The order shard's group.
    pub group: GroupId,
    /// The term of the leader that made it.
    pub term: u64,
    /// Counts the attempts of the term.
    pub counter: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.slot, self.group, self.term, self.counter)
    }
}

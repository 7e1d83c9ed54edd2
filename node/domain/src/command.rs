//! What can be asked of a shard, and what it answers. Every command is one of these; an entry of the log holds many.

mod message;

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::ids::{
    AttemptId, FulfilmentId, GroupId, Key, OrderId, Provider, ProviderPaymentId, Reference, RefundId, SkuId, Slot, Text,
    UserId, WarehouseId,
};
use crate::money::{Currency, Money, Quantity};
use crate::order::{Address, CancelReason, LineRequest, Operator, Order, PaymentState, RefundState, Terms};
use crate::reconcile::{Claims, Restart};
use crate::rejection::Rejection;
use crate::repair::Repair;
use crate::sku::Sku;
use crate::time::Timestamp;

pub use message::{HeldPart, KeptAttempt, KeptList, Message};

/// The body of one log entry: commands that were packed together, with the leader's clock.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The leader's clock; apply takes the maximum of this and the last (protocol.md, rule 21).
    pub at: Timestamp,
    /// What is asked, in order.
    pub commands: Vec<Command>,
}

/// Where an entry stands in its group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Position {
    /// The term it was proposed in.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// What is asked of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Order shard: the commit point of an order whose holds are granted.
    Place(Box<Place>),
    /// Order shard that also owns every SKU of the order: hold and place in one step (rule 13).
    PlaceLocal(Box<Place>),
    /// Order shard: something happens to an order.
    Order(Box<OrderCommand>),
    /// SKU shard: something happens to a SKU.
    Sku(Box<SkuCommand>),
    /// SKU shard: hold units for an attempt.
    Hold(Hold),
    /// SKU shard: an attempt gives up (rules 8, 10, 15).
    Release(Release),
    /// SKU shard: the order shard answered *gone* about these tentative holds (rule 14).
    Gone(Vec<(AttemptId, SkuId)>),
    /// Any shard: a run of another shard's stream (rule 17).
    Deliver(Deliver),
    /// Any shard: the destination has applied this stream up to here.
    Trim {
        /// The destination.
        to: GroupId,
        /// Highest number it has applied.
        high: u64,
    },
    /// Any shard: the only command that expires anything (rule 22).
    Tick,
    /// Any shard: log time ran away, and is set back.
    Repair(Repair),
    /// Any shard: what is under way to other shards is dropped, and nothing passes before they agree (rule 20).
    Restart(Restart),
    /// Any shard: what its orders count on is told to the SKUs' shard anew (rule 20).
    Claims(Claims),
    /// Any shard: goes on with another one's stream above this number (rule 20).
    Agree {
        /// The source.
        from: GroupId,
        /// The number.
        high: u64,
    },
    /// SKU shard: hold units for attempts that ask together.
    Holds(Holds),
}

/// Everything of an order that the client decides.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OrderRequest {
    /// Whose it is.
    pub user: UserId,
    /// Idempotency key, scoped to the user.
    pub key: Key,
    /// Hash of the canonical body: another body under the same key is refused.
    pub body_hash: u64,
    /// The client's own name of it, unique per user.
    pub reference: Option<Reference>,
    /// Currency of every amount here.
    pub currency: Currency,
    /// 1 to 1,000 lines.
    pub lines: Vec<LineRequest>,
    /// Taken off the order as a whole.
    pub discount: Money,
    /// Carriage.
    pub shipping_fee: Money,
    /// The client's own total; refused when it differs from ours.
    pub total: Option<Money>,
    /// Payment terms.
    pub terms: Terms,
    /// How the buyer pays.
    pub payment_method: Option<Text>,
    /// How long the buyer has to pay: 1 s to 30 d.
    pub payment_window: Duration,
    /// Where it goes.
    pub ship_to: Option<Address>,
    /// The client's own pairs.
    pub metadata: Vec<(Text, Text)>,
}

/// An order with its attempt and the names its SKUs answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// The attempt whose holds are granted.
    pub attempt: AttemptId,
    /// What the client asked; shared, because whoever asks may have to ask again.
    pub request: Arc<OrderRequest>,
    /// The catalogue name per line, as its SKU's shard answered; empty for [`Command::PlaceLocal`].
    pub names: Vec<Text>,
}

/// A command on one order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OrderCommand {
    /// Which order.
    pub order: OrderId,
    /// Idempotency key, scoped to the order.
    pub key: Key,
    /// Hash of the canonical body.
    pub body_hash: u64,
    /// Refused unless the order has this version.
    pub expect_version: Option<u64>,
    /// Who asks.
    pub operator: Operator,
    /// What is asked.
    pub action: OrderAction,
}

/// What can be asked of an order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum OrderAction {
    /// T5, and T9's refund: the provider tells of a payment attempt.
    Pay(PaymentTold),
    /// T7, or T8 when lines are named.
    Cancel {
        /// Why.
        reason: CancelReason,
        /// In whose words.
        note: Option<Text>,
        /// Units per line (number from 1); empty cancels all that is not picked.
        lines: Vec<(u32, Quantity)>,
    },
    /// T10: start a fulfilment; no lines picks all that is held.
    Pick {
        /// Units per line (number from 1).
        lines: Vec<(u32, Quantity)>,
        /// From where.
        warehouse: WarehouseId,
    },
    /// T11.
    Ship {
        /// Which parcel.
        fulfilment: FulfilmentId,
        /// Who carries it.
        carrier: Option<Text>,
        /// The carrier's number.
        tracking: Option<Text>,
    },
    /// T13, first half.
    Deliver {
        /// Which parcel.
        fulfilment: FulfilmentId,
    },
    /// T12.
    Unpick {
        /// Which parcel.
        fulfilment: FulfilmentId,
    },
    /// T13, second half, by hand.
    Complete,
    /// T15: ask for a refund.
    Refund(RefundAsked),
    /// T15: the provider tells how a refund ended.
    RefundOutcome {
        /// Which refund.
        refund: RefundId,
        /// `Succeeded` or `Failed`.
        state: RefundState,
        /// When it ended so, by the provider's clock.
        occurred_at: Option<Timestamp>,
    },
}

/// A fact of a payment attempt, as its provider tells it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PaymentTold {
    /// Whose the id is.
    pub provider: Provider,
    /// The provider's id of the attempt.
    pub provider_payment_id: ProviderPaymentId,
    /// What happened.
    pub state: PaymentState,
    /// How much of the attempt it happened to by now; with a part, to the part alone.
    pub amount: Money,
    /// Must be the order's.
    pub currency: Currency,
    /// The provider's id of one capture, one dispute.
    pub part: Option<ProviderPaymentId>,
    /// When it happened, by the provider's clock.
    pub occurred_at: Option<Timestamp>,
}

impl PaymentTold {
    /// A fact about a whole attempt, of the provider that is meant when none is named.
    #[must_use]
    pub fn new(provider_payment_id: ProviderPaymentId, state: PaymentState, amount: Money, currency: Currency) -> Self {
        let provider = Provider::default();
        Self { provider, provider_payment_id, state, amount, currency, part: None, occurred_at: None }
    }
}

/// A payment attempt by the names that its provider has for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Purse {
    /// Whose the id is.
    pub provider: Provider,
    /// The provider's id of the attempt.
    pub provider_payment_id: ProviderPaymentId,
}

/// What a refund is to pay back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RefundAsked {
    /// What it comes to; `None` when that is the sum of the parts. Less than the parts keeps a fee, more is a free amount.
    pub amount: Option<Money>,
    /// Units of a line that are paid back at their frozen price (number from 1).
    pub lines: Vec<(u32, Quantity)>,
    /// How much of the carriage.
    pub carriage: Money,
    /// How much of the tax, whatever happens to the units.
    pub tax: Money,
    /// Where the money goes back to; `None` leaves it to the order of the payments, the last one first.
    pub purse: Option<Purse>,
    /// In whose words.
    pub reason: Option<Text>,
}

/// A command on one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SkuCommand {
    /// Which SKU.
    pub sku: SkuId,
    /// Idempotency key, scoped to the SKU; `None` for `Put`, which is idempotent by itself.
    pub key: Option<Key>,
    /// Hash of the canonical body.
    pub body_hash: u64,
    /// Refused unless the SKU has this version.
    pub expect_version: Option<u64>,
    /// What is asked.
    pub action: SkuAction,
}

/// What can be asked of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SkuAction {
    /// Create or rename the catalogue row.
    Put {
        /// Its name.
        name: Text,
    },
    /// Goods arrived.
    Receive {
        /// Where.
        warehouse: WarehouseId,
        /// Units.
        quantity: Quantity,
    },
    /// Goods were found or lost: a delta, refused when it would take units that are promised.
    Adjust {
        /// Where.
        warehouse: WarehouseId,
        /// Units, not zero.
        delta: i64,
        /// In whose words.
        reason: Option<Text>,
    },
    /// Create the catalogue row; refused if there is one, as another version than 0.
    Create {
        /// Its name.
        name: Text,
    },
}

/// Ask for units of one SKU, summed over the lines of an order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hold {
    /// For which attempt.
    pub attempt: AttemptId,
    /// Of which SKU.
    pub sku: SkuId,
    /// How many.
    pub quantity: Quantity,
    /// Refused as expired once this shard's log time has passed this (rule 11).
    pub valid_until: Timestamp,
}

/// Holds that the leader of an order shard asks a shard for together: what they share is said once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Holds {
    /// The order shard's group.
    pub group: GroupId,
    /// The term of its leader.
    pub term: u64,
    /// Each is refused as expired once this shard's log time has passed this (rule 11).
    pub valid_until: Timestamp,
    /// What to hold. Those of one attempt stand together.
    pub rows: Vec<HoldAsked>,
}

/// One of several holds that are asked for together.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HoldAsked {
    /// The slot of the attempt.
    pub slot: Slot,
    /// The number of the attempt.
    pub counter: u64,
    /// Of which SKU.
    pub sku: SkuId,
    /// How many.
    pub quantity: Quantity,
}

impl Holds {
    /// The attempt that a row is for.
    #[must_use]
    pub fn attempt(&self, row: &HoldAsked) -> AttemptId {
        AttemptId { slot: row.slot, group: self.group, term: self.term, counter: row.counter }
    }

    /// Each hold by itself, in order.
    pub fn each(&self) -> impl Iterator<Item = Hold> + '_ {
        let one = |row: &HoldAsked| Hold {
            attempt: self.attempt(row),
            sku: row.sku.clone(),
            quantity: row.quantity,
            valid_until: self.valid_until,
        };
        self.rows.iter().map(one)
    }
}

/// End the tentative holds of an attempt, known or unknown.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Release {
    /// Of which attempt.
    pub attempt: AttemptId,
    /// On which SKUs of this shard.
    pub skus: Vec<SkuId>,
    /// The valid-until of the holds: how long the tombstone is kept (rule 10).
    pub valid_until: Timestamp,
}

/// A run of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Deliver {
    /// The source.
    pub from: GroupId,
    /// Number of the first message.
    pub first: u64,
    /// The messages, numbered from `first` without gaps.
    pub messages: Vec<Message>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Place: the order, or the first one of the same key.
    Placed {
        /// The order as it was placed.
        order: Arc<Order>,
        /// The key had been used with the same body: `order` is the first answer.
        replayed: bool,
    },
    /// A command on an order was done.
    Order {
        /// The order now.
        order: Arc<Order>,
        /// What it created.
        created: Option<Created>,
        /// The key had been used with the same body.
        replayed: bool,
        /// The version that the command made, now or when the key was first used.
        version: u64,
    },
    /// A command on a SKU was done.
    Sku {
        /// The SKU now.
        sku: Box<Sku>,
        /// The row did not exist before.
        created: bool,
        /// The key had been used with the same body.
        replayed: bool,
        /// The version that the command made, now or when the key was first used.
        version: u64,
    },
    /// The units are held, now or already.
    Held {
        /// Name of the SKU in the catalogue.
        name: Text,
    },
    /// Holds that were asked for together: of each, in order, the SKU's name if its units are held, or a final no.
    Holds(Vec<Result<Text, Rejection>>),
    /// A delivery was applied.
    Delivered {
        /// Highest number applied of that stream.
        high: u64,
    },
    /// A tick was applied.
    Ticked {
        /// Items that expired.
        expired: u32,
        /// More are due.
        more: bool,
    },
    /// Streams were started anew.
    Restarted {
        /// The destinations, and the number above which each stream goes on.
        streams: Vec<(GroupId, u64)>,
        /// Orders that are made later have ids of this time or a later one.
        before: Timestamp,
        /// When that was, as changes of orders are stamped.
        at: Timestamp,
    },
    /// Done, with nothing to tell.
    Done,
    /// A final no: nothing happened.
    Rejected(Rejection),
}

/// What a command on an order created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Created {
    /// A fulfilment.
    Fulfilment(FulfilmentId),
    /// A refund.
    Refund(RefundId),
    /// A payment attempt was heard of for the first time.
    Payment,
}

//! Every final "no". A rejection is replicated and deterministic, and it means that nothing happened.

use bincode::{Decode, Encode};

use crate::ids::{FulfilmentId, OrderId, ProviderPaymentId, RefundId, SkuId};
use crate::money::{Money, Quantity};
use crate::order::{FulfilmentState, OrderHold, Phase};
use crate::time::Timestamp;

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Rejection {
    /// Not enough units.
    #[error("{} is out of stock: asked {asked}, available {available}", .sku)]
    OutOfStock {
        /// Which SKU.
        sku: SkuId,
        /// Units asked for, summed over the order.
        asked: Quantity,
        /// Units there were.
        available: Quantity,
    },
    /// Several SKUs at once could not be held.
    #[error("{} SKUs are out of stock", .0.len())]
    OutOfStocks(Vec<(SkuId, Quantity, Quantity)>),
    /// No such SKU.
    #[error("there is no SKU {0}")]
    NoSuchSku(SkuId),
    /// No such order.
    #[error("there is no order {0}")]
    NoSuchOrder(OrderId),
    /// No such fulfilment.
    #[error("there is no fulfilment {0}")]
    NoSuchFulfilment(FulfilmentId),
    /// No such refund.
    #[error("there is no refund {0}")]
    NoSuchRefund(RefundId),
    /// No such line; lines count from 1.
    #[error("the order has no line {0}")]
    NoSuchLine(u32),
    /// No such warehouse.
    #[error("there is no such warehouse")]
    NoSuchWarehouse,
    /// The key was used with another body.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// The user has another order of this reference.
    #[error("the reference is taken by order {0}")]
    ReferenceTaken(OrderId),
    /// The hold came after its valid-until (rule 11).
    #[error("the hold came too late: it was valid until {valid_until:?}, log time is {now:?}")]
    HoldExpired {
        /// When it stopped being valid.
        valid_until: Timestamp,
        /// This shard's log time.
        now: Timestamp,
    },
    /// The attempt was ended here before (a tombstone), or asks for another quantity than before.
    #[error("the attempt cannot hold here any more")]
    HoldEnded,
    /// Place of an attempt of another term (rule 2).
    #[error("the attempt is of term {attempt}, the entry of term {entry}")]
    StaleAttempt {
        /// Term of the attempt.
        attempt: u64,
        /// Term of the entry.
        entry: u64,
    },
    /// The order is at another version.
    #[error("version {expected} was expected, it is {actual}")]
    StaleVersion {
        /// What the client expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The phase does not allow it.
    #[error("not possible while the order is {phase:?}")]
    WrongPhase {
        /// The order's phase.
        phase: Phase,
    },
    /// The fulfilment's state does not allow it.
    #[error("not possible while the fulfilment is {state:?}")]
    WrongFulfilmentState {
        /// Its state.
        state: FulfilmentState,
    },
    /// What is told contradicts what the provider told before: a sum that has become smaller, a part with two amounts.
    #[error("{told} is told, and {known} was told before: a sum never becomes smaller, a part keeps its amount")]
    WrongPaymentState {
        /// The amount now.
        told: Money,
        /// The amount before.
        known: Money,
    },
    /// The order has no such payment.
    #[error("the order has no payment {0}")]
    NoSuchPayment(ProviderPaymentId),
    /// The order is prepaid and its payments do not cover it, or contradict one another.
    #[error("the order is on hold: {}", .hold.why())]
    OnHold {
        /// Why.
        hold: OrderHold,
    },
    /// Another currency than the order's.
    #[error("the order is in another currency")]
    WrongCurrency,
    /// The client's total differs from the sum of the order.
    #[error("the total is {actual}, not {claimed}")]
    TotalMismatch {
        /// What the client sent.
        claimed: Money,
        /// What it adds up to.
        actual: Money,
    },
    /// An amount or a sum does not fit, or a total is negative.
    #[error("an amount is out of range")]
    AmountOutOfRange,
    /// A quantity is zero or above the limit.
    #[error("quantity {0} is out of range")]
    QuantityOutOfRange(Quantity),
    /// More units than the line has for this.
    #[error("line {line} has {available} units for this, asked {asked}")]
    NotEnoughOnLine {
        /// Line number from 1.
        line: u32,
        /// Units asked for.
        asked: Quantity,
        /// Units there are.
        available: Quantity,
    },
    /// Nothing is left to do this with.
    #[error("nothing is left for this")]
    NothingLeft,
    /// More than what is left of the captured money, or of the line.
    #[error("at most {available} can be refunded, asked {asked}")]
    RefundTooLarge {
        /// Amount asked for.
        asked: Money,
        /// Amount left.
        available: Money,
    },
    /// Something is still open: completing has to wait.
    #[error("the order still has open units or parcels on the way")]
    StillOpen,
    /// The adjustment would take units that are promised to orders.
    #[error("only {available} units are not promised, the change asks for {asked}")]
    WouldOversell {
        /// Units the change takes.
        asked: Quantity,
        /// Units that are free.
        available: Quantity,
    },
    /// A run of a stream starts above the next number (rule 17).
    #[error("the run starts at {first}, the next number is {next}")]
    StreamGap {
        /// Where the run starts.
        first: u64,
        /// Which number is next.
        next: u64,
    },
    /// This shard does not own the slot.
    #[error("this shard does not own the slot")]
    WrongShard,
    /// An order needs a line.
    #[error("an order needs at least one line")]
    NoLines,
    /// More lines than an order may have.
    #[error("{count} lines are too many, the limit is {limit}")]
    TooManyLines {
        /// Lines given.
        count: usize,
        /// Lines allowed.
        limit: usize,
    },
    /// More metadata pairs than an order may have.
    #[error("{count} metadata pairs are too many, the limit is {limit}")]
    TooManyMetadata {
        /// Pairs given.
        count: usize,
        /// Pairs allowed.
        limit: usize,
    },
    /// The time to pay is too short or too long.
    #[error("the payment window must be between 1 second and 30 days")]
    PaymentWindowOutOfRange,
    /// A line's quantity is zero or above the limit.
    #[error("line {line} has quantity {quantity}, it must be between 1 and {}", Quantity::LIMIT)]
    LineQuantityOutOfRange {
        /// Line number from 1.
        line: u32,
        /// Units given.
        quantity: Quantity,
    },
    /// A line's price, discount or tax is negative, or its discount is above its worth, or its sum is too large.
    #[error("line {line} has an amount that is out of range")]
    LineAmountOutOfRange {
        /// Line number from 1.
        line: u32,
    },
    /// Only the system cancels for this reason.
    #[error("this reason of cancelling is the system's own")]
    ReasonReserved,
    /// The order's timeline is full: only what ends its open business is still done. Or so much was told of one payment.
    #[error("the order has {limit} events, or one payment has {limit} facts, which is the limit")]
    HistoryFull {
        /// Events of an order, or facts of a payment, allowed.
        limit: usize,
    },
    /// Log time is another one than was to be set back, or is not ahead of the time.
    #[error("log time is {log:?}: it was changed meanwhile, or is not ahead")]
    NotAhead {
        /// This shard's log time.
        log: Timestamp,
    },
}

impl Rejection {
    /// The refusal of an order some of whose SKUs fall short, if any does: each with the units asked for and those there are.
    #[must_use]
    pub fn short_of(skus: Vec<(SkuId, Quantity, Quantity)>) -> Option<Self> {
        Some(match <[_; 1]>::try_from(skus) {
            Ok([(sku, asked, available)]) => Self::OutOfStock { sku, asked, available },
            Err(none) if none.is_empty() => return None,
            Err(several) => Self::OutOfStocks(several),
        })
    }
}

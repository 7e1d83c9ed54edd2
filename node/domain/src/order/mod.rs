//! An order: four stored phases, quantities per line, a payment ledger, and words derived from them.
//!
//! Here are the stored shapes. What may happen to them stands by matter: `place`, `pay` (attempts: `payment`), `cancel`, `fulfil`, `refund`
//! (purses: `purse`), `expire` and `shortfall`, all entered through `command` and closed by its one `finish`. What is derived stands in
//! `words`, `ledger` and `share`; what must always hold in `check`.
//!
#![doc = include_str!("lifecycle.md")]

mod cancel;
mod check;
mod command;
mod effects;
mod expire;
mod fulfil;
mod ledger;
pub mod limits;
mod pay;
mod payment;
mod place;
mod purse;
mod refund;
mod share;
mod shortfall;
#[cfg(test)]
pub(crate) mod testing;
mod units;
mod weight;
mod words;

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::ids::{
    AttemptId, FulfilmentId, Key, OrderId, ProviderPaymentId, Reference, RefundId, SkuId, Text, UserId, WarehouseId,
};
use crate::money::{Currency, Money, Quantity};
use crate::time::Timestamp;

pub use effects::{Effects, StockEffect, TimerKind};
pub use ledger::MoneyEnds;
pub use payment::{Payment, PaymentFact, PaymentState};

/// The stored phase of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Phase {
    /// Every hold is granted, the payment deadline runs.
    PendingPayment,
    /// The shop owes the goods.
    Confirmed,
    /// Nothing is open.
    Completed,
    /// Ended, see [`Order::cancel_reason`].
    Cancelled,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum CancelReason {
    /// The buyer asked.
    User,
    /// Not paid in time.
    Timeout,
    /// The shop decided.
    Merchant,
    /// A risk check decided.
    Risk,
    /// Stock that was held turned out not to exist.
    Shortfall,
}

/// The word a person reads, derived from phase, quantities and payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Status {
    /// Phase cancelled.
    Cancelled,
    /// Phase completed.
    Completed,
    /// Phase pending payment.
    PendingPayment,
    /// Nothing open, everything shipped was delivered.
    Delivered,
    /// Nothing open.
    Shipped,
    /// Some units shipped, some open.
    PartiallyShipped,
    /// Covered by payments, nothing shipped.
    Paid,
    /// Owed, but not covered (on delivery, on invoice).
    Confirmed,
    /// Prepaid, and the cover is gone: nothing is picked or shipped until it is paid again.
    OnHold,
}

/// Why the goods of a confirmed order stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum OrderHold {
    /// Payments do not cover what is due any more. A deadline runs.
    NoCover,
    /// The provider told a failure after a capture: nothing is done before it has said which of them holds.
    PaymentInDoubt,
}

/// The payment word, derived from the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum PaymentStatus {
    /// Nothing captured or authorised.
    Unpaid,
    /// Authorised in full, not captured.
    Authorized,
    /// Captured in part.
    PartiallyPaid,
    /// Captured in full.
    Paid,
    /// Some of the captured money was refunded.
    PartiallyRefunded,
    /// All of it was.
    Refunded,
    /// Some of it is disputed, or was lost in a dispute.
    Disputed,
}

/// When the money is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Terms {
    /// Before anything is picked: the payment deadline runs.
    #[default]
    Prepaid,
    /// When the goods arrive: confirmed at once.
    OnDelivery,
    /// Later, by invoice: confirmed at once.
    Invoice,
}

/// Who did something to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Operator {
    /// The buyer.
    User,
    /// The shop, its warehouse included.
    Merchant,
    /// OrderGrid itself: timers, shortfalls.
    System,
    /// The payment provider.
    Provider,
}

/// One line as the buyer asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LineRequest {
    /// What is bought. A SKU may stand on several lines.
    pub sku: SkuId,
    /// Units, 1 to 1,000,000,000.
    pub quantity: Quantity,
    /// Price of one unit in minor units, zero allowed.
    pub unit_price: Money,
    /// Taken off the line as a whole, 0 to quantity times price.
    pub discount: Money,
    /// Added to the line as a whole.
    pub tax: Money,
}

/// Where an order goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Address {
    /// Who receives it.
    pub recipient: Option<Text>,
    /// Street and the like, in the order of printing.
    pub lines: Vec<Text>,
    /// Town.
    pub city: Option<Text>,
    /// Postal code.
    pub postal_code: Option<Text>,
    /// Country, as the client writes it.
    pub country: Option<Text>,
    /// Telephone.
    pub phone: Option<Text>,
}

/// A line of an order. `ordered = cancelled + backordered + held + picking + shipped`, `delivered <= shipped`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Line {
    /// What was bought.
    pub sku: SkuId,
    /// Its name when it was bought.
    pub name: Text,
    /// Price of one unit, frozen.
    pub unit_price: Money,
    /// Taken off the line as a whole, frozen.
    pub discount: Money,
    /// Added to the line as a whole, frozen.
    pub tax: Money,
    /// Units bought.
    pub ordered: Quantity,
    /// Units cancelled before they were picked.
    pub cancelled: Quantity,
    /// Units promised beyond stock.
    pub backordered: Quantity,
    /// Units held for this line, not being picked.
    pub held: Quantity,
    /// Units in fulfilments that are not shipped.
    pub picking: Quantity,
    /// Units that left.
    pub shipped: Quantity,
    /// Units that arrived.
    pub delivered: Quantity,
    /// Units that came back.
    pub returned: Quantity,
}

/// State of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum RefundState {
    /// Asked for, outcome unknown.
    Requested,
    /// The buyer has the money.
    Succeeded,
    /// Came to nothing; the amount may be refunded again.
    Failed,
}

/// Why money goes back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RefundCause {
    /// Somebody asked, with these words.
    Asked(Option<Text>),
    /// The order or a part of it was cancelled.
    Cancelled,
    /// More was captured than was due, or after the order had ended, by this payment (T9).
    Surplus(ProviderPaymentId),
}

/// A refund.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refund {
    /// From 1, in the order of asking.
    pub number: u32,
    /// How much.
    pub amount: Money,
    /// What it settles: (line number from 1, amount), the carriage as line 0.
    pub lines: Vec<(u32, Money)>,
    /// Where it stands.
    pub state: RefundState,
    /// Why.
    pub cause: RefundCause,
    /// When it was asked for.
    pub at: Timestamp,
    /// Units that `lines` pays back, when units were asked for: (line number from 1, units).
    pub units: Vec<(u32, Quantity)>,
    /// How much of the amount lowers what is due (a price given up), 0 to `amount`; the rest returns what was overpaid
    /// or paid in part.
    pub forgiven: Money,
    /// How much of `lines` is tax that was asked for by itself.
    pub tax: Money,
    /// The payment that the money goes back to, by its place in the ledger, from 1.
    pub payment: u32,
    /// When it ended, by the provider's clock.
    pub occurred_at: Option<Timestamp>,
    /// It was told to have ended one way, and then the other way.
    pub turned: bool,
}

/// State of a fulfilment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum FulfilmentState {
    /// Being picked.
    Picking,
    /// Left the warehouse.
    Shipped,
    /// Arrived.
    Delivered,
    /// Put back on the shelf before it left.
    Cancelled,
}

/// A parcel: units of some lines, from one warehouse.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fulfilment {
    /// From 1, in the order of picking.
    pub number: u32,
    /// Where it stands.
    pub state: FulfilmentState,
    /// Where the goods come from.
    pub warehouse: WarehouseId,
    /// Units per line: (line number from 1, units).
    pub lines: Vec<(u32, Quantity)>,
    /// Who carries it.
    pub carrier: Option<Text>,
    /// The carrier's tracking number.
    pub tracking: Option<Text>,
    /// When it was created.
    pub at: Timestamp,
}

/// What happened, as an event is named (`order.paid`).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventKind {
    /// `order.created`
    Created,
    /// `order.paid`
    Paid,
    /// `order.status_changed`
    StatusChanged,
    /// `order.cancel_requested`
    CancelRequested,
    /// `order.cancelled`
    Cancelled,
    /// `order.line_changed`
    LineChanged,
    /// `payment.recorded`: an attempt changed that decides nothing by itself
    PaymentRecorded,
    /// `payment.void_requested`
    VoidRequested,
    /// `fulfilment.created`
    FulfilmentCreated(u32),
    /// `fulfilment.cancelled`
    FulfilmentCancelled(u32),
    /// `fulfilment.shipped`
    FulfilmentShipped(u32),
    /// `fulfilment.delivered`
    FulfilmentDelivered(u32),
    /// `order.completed`
    Completed,
    /// `refund.requested`
    RefundRequested(u32),
    /// `refund.succeeded`
    RefundSucceeded(u32),
    /// `refund.failed`
    RefundFailed(u32),
    /// `stock.shortfall`
    Shortfall,
    /// `order.deadline_extended`: the single grace for a payment in processing
    DeadlineExtended,
    /// `payment.capture_due`: goods left that are authorised, not captured
    CaptureDue,
    /// `order.on_hold`: goods stay where they are
    OnHold,
    /// `order.released`: they may leave again
    Released,
}

/// One entry of an order's timeline. Numbered from 1 without gaps; the status history is the same list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// From 1, per order.
    pub number: u32,
    /// Log time of the entry that made it.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// Status before; `None` on creation.
    pub from: Option<Status>,
    /// Status after.
    pub to: Status,
    /// Who did it.
    pub operator: Operator,
    /// In whose words.
    pub reason: Option<Text>,
}

/// An order, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub user: UserId,
    /// The idempotency key it was placed with.
    pub key: Key,
    /// The attempt that placed it; its holds are keyed by this.
    pub attempt: AttemptId,
    /// The client's own name of it.
    pub reference: Option<Reference>,
    /// Currency of every amount here.
    pub currency: Currency,
    /// Stored phase.
    pub phase: Phase,
    /// Set when the phase is cancelled.
    pub cancel_reason: Option<CancelReason>,
    /// Counts changes, from 1.
    pub version: u64,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Payment deadline while it runs: before the order is confirmed, and again while it has no cover.
    pub payment_due_at: Option<Timestamp>,
    /// The deadline has been moved once for a payment in processing.
    pub grace_used: bool,
    /// When it completes by itself.
    pub completes_at: Option<Timestamp>,
    /// Payment terms.
    pub terms: Terms,
    /// How the buyer pays, in the client's words.
    pub payment_method: Option<Text>,
    /// The lines, numbered from 1 by position.
    pub lines: Vec<Line>,
    /// Taken off the order as a whole.
    pub discount: Money,
    /// Carriage.
    pub shipping_fee: Money,
    /// What is due: lines, less discounts, plus tax and carriage.
    pub total: Money,
    /// Where it goes.
    pub ship_to: Option<Address>,
    /// The client's own pairs, at most 50.
    pub metadata: Vec<(Text, Text)>,
    /// Payment attempts, in the order first heard of.
    pub payments: Vec<Payment>,
    /// Refunds, by number.
    pub refunds: Vec<Refund>,
    /// Fulfilments, by number.
    pub fulfilments: Vec<Fulfilment>,
    /// The timeline, by number.
    pub events: Vec<Event>,
    /// How long the buyer had to pay when it was placed.
    pub payment_window: Duration,
}

impl Order {
    /// The id of one of its refunds.
    #[must_use]
    pub fn refund_id(&self, number: u32) -> RefundId {
        RefundId { order: self.id, number }
    }

    /// The id of one of its fulfilments.
    #[must_use]
    pub fn fulfilment_id(&self, number: u32) -> FulfilmentId {
        FulfilmentId { order: self.id, number }
    }
}

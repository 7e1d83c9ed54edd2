//! An order as clients see it, and other answers about orders.

use ordergrid_domain::order::{
    CancelReason, FulfilmentState, Operator, OrderHold, PaymentState, PaymentStatus, Phase, RefundState, Status, Terms,
};
use ordergrid_domain::{
    Currency, FulfilmentId, OrderId, Provider, ProviderPaymentId, Reference, RefundId, SkuId, Text, Timestamp, UserId,
    WarehouseId,
};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::text;

/// A delivery address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The recipient.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Text>,
    /// Street and similar lines, in printing order, at most 10.
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Text>,
    /// The town.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub city: Option<Text>,
    /// Postal code.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Text>,
    /// Country, as the client writes it.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub country: Option<Text>,
    /// Telephone.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub phone: Option<Text>,
}

/// An order. Amounts are minor units of `currency`; fields that do not apply are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    #[serde(with = "text")]
    pub id: OrderId,
    /// The user who placed the order.
    #[serde(with = "text")]
    pub user_id: UserId,
    /// The client's own reference of the order.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// The id of the fulfilment or refund that the answered command created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The stored phase.
    #[serde(with = "text")]
    pub phase: Phase,
    /// The status, for display.
    #[serde(with = "text")]
    pub status: Status,
    /// The payment status.
    #[serde(with = "text")]
    pub payment_status: PaymentStatus,
    /// The reason why the order was cancelled.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<CancelReason>,
    /// Version of the order: counts changes from 1; for `If-Match`.
    pub version: u64,
    /// Currency of every amount of the order.
    #[serde(with = "text")]
    pub currency: Currency,
    /// The total: lines, minus discounts, plus tax and shipping fee.
    pub total: i64,
    /// Discount on the whole order.
    pub discount: i64,
    /// Shipping fee.
    pub shipping_fee: i64,
    /// The amount that the shop keeps in the end: the total, minus what was cancelled, and minus what refunds have waived.
    #[serde(default)]
    pub due: i64,
    /// Amount captured so far.
    pub captured: i64,
    /// Amount of all refunds that have not failed.
    pub refunded: i64,
    /// Captured amount that providers hold back, or took, for disputes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disputed: i64,
    /// Captured amount beyond what is due: a refund of it has failed and has to be requested again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surplus: i64,
    /// Amount that the buyer still has to pay for a confirmed order, or to pay back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub owed: i64,
    /// Authorized amount to capture now: the share of the units that are shipped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub capture_due: i64,
    /// Why nothing of the order may be picked or shipped: `no_cover` or `payment_in_doubt`.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub on_hold: Option<OrderHold>,
    /// When the payment is due.
    #[serde(with = "text")]
    pub terms: Terms,
    /// The payment method, in the client's words.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<Text>,
    /// When the order was placed.
    #[serde(with = "text")]
    pub created_at: Timestamp,
    /// When the order last changed.
    #[serde(with = "text")]
    pub updated_at: Timestamp,
    /// Payment deadline, while the order waits for payment, or is on hold without cover.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub payment_due_at: Option<Timestamp>,
    /// When the order completes automatically.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub completes_at: Option<Timestamp>,
    /// The delivery address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<Address>,
    /// The lines, sorted by number.
    pub lines: Vec<Line>,
    /// Payment attempts, in the order in which they were first reported.
    #[serde(default)]
    pub payments: Vec<Payment>,
    /// Refunds, sorted by number.
    #[serde(default)]
    pub refunds: Vec<Refund>,
    /// Fulfilments, sorted by number.
    #[serde(default)]
    pub fulfilments: Vec<Fulfilment>,
    /// The client's own key-value pairs.
    #[serde(default, with = "text::pairs")]
    pub metadata: Vec<(Text, Text)>,
}

/// A line: `ordered = cancelled + backordered + held + picking + shipped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The line's number, from 1.
    pub line: u32,
    /// The SKU.
    #[serde(with = "text")]
    pub sku: SkuId,
    /// The SKU's name when it was bought.
    #[serde(with = "text")]
    pub name: Text,
    /// Price of one unit.
    pub unit_price: i64,
    /// Discount on the whole line.
    pub discount: i64,
    /// Tax on the whole line.
    pub tax: i64,
    /// Units bought.
    pub ordered: u64,
    /// Units cancelled before they were picked.
    pub cancelled: u64,
    /// Units promised beyond stock.
    pub backordered: u64,
    /// Units held and not yet picked.
    pub held: u64,
    /// Units in fulfilments that are not shipped.
    pub picking: u64,
    /// Units shipped.
    pub shipped: u64,
    /// Units delivered.
    pub delivered: u64,
    /// Units returned.
    pub returned: u64,
}

fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

/// A payment attempt: what its provider reported, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider.
    #[serde(with = "text")]
    pub provider: Provider,
    /// The provider's id of the payment.
    #[serde(with = "text")]
    pub provider_payment_id: ProviderPaymentId,
    /// The payment's state.
    #[serde(with = "text")]
    pub status: PaymentState,
    /// The amount in this state.
    pub amount: i64,
    /// Authorized amount that can still be captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub authorized: i64,
    /// Amount captured, refunded or disputed or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub captured: i64,
    /// Amount of an authorization that was given up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub voided: i64,
    /// Amount that was reported as captured, and then as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub capture_failed: i64,
    /// Amount that goes back to this payment in refunds that have not failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refunded: i64,
    /// Amount that the provider holds back, or took, for disputes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disputed: i64,
    /// What the provider reported, the last at the end.
    pub facts: Vec<FactTold>,
    /// When the payment was first reported.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// Whether its cancellation (void) was requested because the order ended.
    pub void_requested: bool,
}

/// One thing that a provider reported of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactTold {
    /// What happened.
    #[serde(with = "text")]
    pub status: PaymentState,
    /// The sum so far, or the amount of the part.
    pub amount: i64,
    /// The provider's id of the capture or dispute.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub part: Option<ProviderPaymentId>,
    /// When it happened, by the provider's clock.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
}

/// A refund, to one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id.
    #[serde(with = "text")]
    pub id: RefundId,
    /// The refund's state.
    #[serde(with = "text")]
    pub status: RefundState,
    /// The refund's amount.
    pub amount: i64,
    /// `asked`, `cancelled` or `surplus`.
    pub cause: String,
    /// The reason, in the words of the person who asked for the refund.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// The provider of the payment that the money goes back to.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The payment that the money goes back to.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub provider_payment_id: Option<ProviderPaymentId>,
    /// What the refund settles, per line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RefundPart>,
    /// What it settles of the shipping fee.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carriage: i64,
    /// How much of `lines` is tax that was requested apart from units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tax: i64,
    /// When the refund ended, by the provider's clock.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// When the refund was requested.
    #[serde(with = "text")]
    pub at: Timestamp,
}

/// The part of a refund that belongs to one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPart {
    /// Line number from 1.
    pub line: u32,
    /// Minor units.
    pub amount: i64,
    /// Refunded units, if the refund was requested in units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u64>,
}

/// A fulfilment, which is one parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// Its id.
    #[serde(with = "text")]
    pub id: FulfilmentId,
    /// The fulfilment's state.
    #[serde(with = "text")]
    pub status: FulfilmentState,
    /// The warehouse that ships the parcel.
    #[serde(with = "text")]
    pub warehouse: WarehouseId,
    /// Units per line.
    pub lines: Vec<Part>,
    /// The carrier.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Text>,
    /// The carrier's tracking number.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Text>,
    /// When it was created.
    #[serde(with = "text")]
    pub at: Timestamp,
}

/// Units of one line in a fulfilment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Line number from 1.
    pub line: u32,
    /// Units.
    pub quantity: u64,
}

/// Answer of `POST /v1/orders/{id}/fulfilments`: the fulfilment, with its own `id`, and the whole new order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentChanged {
    /// The fulfilment.
    #[serde(flatten)]
    pub fulfilment: Fulfilment,
    /// The order now.
    pub order: Order,
}

/// Answer of `GET /v1/orders/{id}/status-history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusHistory {
    /// The order.
    #[serde(with = "text")]
    pub order_id: OrderId,
    /// The order's version.
    pub version: u64,
    /// The current status.
    #[serde(with = "text")]
    pub status: Status,
    /// The events, sorted by number.
    pub history: Vec<Happening>,
}

/// One entry of an order's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Number of the event, from 1, without gaps.
    pub number: u32,
    /// When the event happened.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// The event's name, for example `order.paid`.
    pub event: String,
    /// The fulfilment or refund that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Status before; left out on creation.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub from: Option<Status>,
    /// Status after.
    #[serde(with = "text")]
    pub to: Status,
    /// The role that caused the event.
    #[serde(with = "text")]
    pub operator: Operator,
    /// The reason, in the words of the person who caused the event.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// Answer of `GET /v1/users/{id}/orders`: newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOrders {
    /// The orders of this page.
    pub orders: Vec<Order>,
    /// Number of orders on all pages, if it is known without reading them: not with a status, nor above 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The value of `cursor=` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Answer of `POST /v1/orders/batch` and of `POST /v1/commands/batch`, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// One result per order, or per command.
    pub results: Vec<BatchResult>,
}

/// Result of one order or command of a batch: an order or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The status that a separate request would have had.
    pub status: u16,
    /// Whether the key was used before with the same body: this is the first answer again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// The `Grid-Token` that a separate request would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The id of the fulfilment or refund that a command created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<BatchOrder>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// An order in the answer of a batch: the whole order, or its id and statuses with `?return=minimal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchOrder {
    /// The whole order.
    Whole(Box<Order>),
    /// The order's id and statuses.
    Words(OrderWords),
}

impl BatchOrder {
    /// The order's id.
    #[must_use]
    pub fn id(&self) -> OrderId {
        match self {
            Self::Whole(order) => order.id,
            Self::Words(words) => words.id,
        }
    }
}

/// Id and statuses of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderWords {
    /// Its id.
    #[serde(with = "text")]
    pub id: OrderId,
    /// The stored phase.
    #[serde(with = "text")]
    pub phase: Phase,
    /// The status, for display.
    #[serde(with = "text")]
    pub status: Status,
    /// The payment status.
    #[serde(with = "text")]
    pub payment_status: PaymentStatus,
}

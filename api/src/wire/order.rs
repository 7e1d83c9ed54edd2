//! An order as clients see it, and the other answers about orders.

use ordergrid_domain::order::{
    CancelReason, FulfilmentState, Operator, PaymentState, PaymentStatus, Phase, RefundState, Status, Terms,
};
use ordergrid_domain::{
    Currency, FulfilmentId, OrderId, ProviderPaymentId, Reference, RefundId, SkuId, Text, Timestamp, UserId, WarehouseId,
};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::text;

/// Where an order goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Who receives it.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Text>,
    /// Street and the like, in the order of printing, at most 10.
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Text>,
    /// Town.
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
    /// Whose it is.
    #[serde(with = "text")]
    pub user_id: UserId,
    /// The client's own name of it.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What the command that this answers has created: the id of a fulfilment or refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The stored phase.
    #[serde(with = "text")]
    pub phase: Phase,
    /// The word a person reads.
    #[serde(with = "text")]
    pub status: Status,
    /// The word for its money.
    #[serde(with = "text")]
    pub payment_status: PaymentStatus,
    /// Why it was cancelled.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<CancelReason>,
    /// Counts changes from 1; for `If-Match`.
    pub version: u64,
    /// Currency of every amount here.
    #[serde(with = "text")]
    pub currency: Currency,
    /// What is due in all: lines, less discounts, plus tax and carriage.
    pub total: i64,
    /// Taken off the order as a whole.
    pub discount: i64,
    /// Carriage.
    pub shipping_fee: i64,
    /// What the shop is to keep in the end: the total, less what was cancelled or given up by refunds.
    #[serde(default)]
    pub due: i64,
    /// Captured so far.
    pub captured: i64,
    /// Refunds that have not failed.
    pub refunded: i64,
    /// When the money is due.
    #[serde(with = "text")]
    pub terms: Terms,
    /// How the buyer pays, in the client's words.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<Text>,
    /// When it was placed.
    #[serde(with = "text")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[serde(with = "text")]
    pub updated_at: Timestamp,
    /// Payment deadline while it runs.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub payment_due_at: Option<Timestamp>,
    /// When it completes by itself.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub completes_at: Option<Timestamp>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<Address>,
    /// The lines, by number.
    pub lines: Vec<Line>,
    /// Payment attempts, in the order first heard of.
    #[serde(default)]
    pub payments: Vec<Payment>,
    /// Refunds, by number.
    #[serde(default)]
    pub refunds: Vec<Refund>,
    /// Fulfilments, by number.
    #[serde(default)]
    pub fulfilments: Vec<Fulfilment>,
    /// The client's own pairs.
    #[serde(default, with = "text::pairs")]
    pub metadata: Vec<(Text, Text)>,
}

/// A line: `ordered = cancelled + backordered + held + picking + shipped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub line: u32,
    /// What was bought.
    #[serde(with = "text")]
    pub sku: SkuId,
    /// Its name when it was bought.
    #[serde(with = "text")]
    pub name: Text,
    /// Price of one unit.
    pub unit_price: i64,
    /// Taken off the line as a whole.
    pub discount: i64,
    /// Added to the line as a whole.
    pub tax: i64,
    /// Units bought.
    pub ordered: u64,
    /// Units cancelled before they were picked.
    pub cancelled: u64,
    /// Units promised beyond stock.
    pub backordered: u64,
    /// Units held, not being picked.
    pub held: u64,
    /// Units in fulfilments that are not shipped.
    pub picking: u64,
    /// Units that left.
    pub shipped: u64,
    /// Units that arrived.
    pub delivered: u64,
    /// Units that came back.
    pub returned: u64,
}

/// A payment attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider's id.
    #[serde(with = "text")]
    pub provider_payment_id: ProviderPaymentId,
    /// Where it stands.
    #[serde(with = "text")]
    pub status: PaymentState,
    /// Its amount.
    pub amount: i64,
    /// When it was first heard of.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// A void of it was asked for, because the order ended.
    pub void_requested: bool,
}

/// A refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id.
    #[serde(with = "text")]
    pub id: RefundId,
    /// Where it stands.
    #[serde(with = "text")]
    pub status: RefundState,
    /// How much.
    pub amount: i64,
    /// `asked`, `cancelled` or `surplus`.
    pub cause: String,
    /// Words of whoever asked.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// The payment that brought the surplus.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub provider_payment_id: Option<ProviderPaymentId>,
    /// How much of it for which line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RefundPart>,
    /// When it was asked for.
    #[serde(with = "text")]
    pub at: Timestamp,
}

/// How much of a refund is for one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPart {
    /// Line number from 1.
    pub line: u32,
    /// Minor units.
    pub amount: i64,
    /// Units that are paid back, where units were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u64>,
}

/// A fulfilment: a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// Its id.
    #[serde(with = "text")]
    pub id: FulfilmentId,
    /// Where it stands.
    #[serde(with = "text")]
    pub status: FulfilmentState,
    /// Where the goods come from.
    #[serde(with = "text")]
    pub warehouse: WarehouseId,
    /// Units per line.
    pub lines: Vec<Part>,
    /// Who carries it.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Text>,
    /// The carrier's number.
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
    /// Whose history.
    #[serde(with = "text")]
    pub order_id: OrderId,
    /// The order's version.
    pub version: u64,
    /// The word now.
    #[serde(with = "text")]
    pub status: Status,
    /// What happened, by number.
    pub history: Vec<Happening>,
}

/// One entry of an order's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// From 1, without gaps.
    pub number: u32,
    /// When.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// What, as `order.paid`.
    pub event: String,
    /// The fulfilment or refund it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Status before; left out on creation.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub from: Option<Status>,
    /// Status after.
    #[serde(with = "text")]
    pub to: Status,
    /// Who did it.
    #[serde(with = "text")]
    pub operator: Operator,
    /// In whose words.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// Answer of `GET /v1/users/{id}/orders`: newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOrders {
    /// The orders of this page.
    pub orders: Vec<Order>,
    /// How many there are on all pages, where that is known without reading them: not with a status, nor above 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// For `cursor=` of the next page; left out on the last.
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
    /// The status that a request of its own would have had.
    pub status: u16,
    /// The key had been used with the same body: this is the first answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// The `Grid-Token` of a request of its own.
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

/// An order in the answer of a batch: whole, or with `?return=minimal` its id and words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchOrder {
    /// The whole order.
    Whole(Box<Order>),
    /// Its id and words.
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

/// Id and words of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderWords {
    /// Its id.
    #[serde(with = "text")]
    pub id: OrderId,
    /// The stored phase.
    #[serde(with = "text")]
    pub phase: Phase,
    /// The word a person reads.
    #[serde(with = "text")]
    pub status: Status,
    /// The word for its money.
    #[serde(with = "text")]
    pub payment_status: PaymentStatus,
}

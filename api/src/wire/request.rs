//! Bodies of requests. Unknown fields are refused by name.

use ordergrid_domain::order::{CancelReason, Operator, PaymentState, RefundState, Terms};
use ordergrid_domain::{Currency, Key, Provider, ProviderPaymentId, Reference, SkuId, Text, Timestamp, UserId, WarehouseId};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::order::Address;
use super::{identifier, text};

fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

fn is_prepaid(terms: &Terms) -> bool {
    *terms == Terms::Prepaid
}

/// `POST /v1/orders`, and one order of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// Only in a batch, where it is required. A single order has the key in the header.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Key>,
    /// The user who places the order.
    #[serde(with = "identifier")]
    pub user_id: UserId,
    /// The client's own reference of the order, unique per user.
    #[serde(default, with = "identifier::option", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Currency of every amount of the order.
    #[serde(with = "text")]
    pub currency: Currency,
    /// 1 to 1,000 lines. A SKU may be on several lines.
    pub lines: Vec<PlaceLine>,
    /// Discount on the whole order, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discount: i64,
    /// Shipping fee, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shipping_fee: i64,
    /// The client's total, in minor units. The order is refused if the grid computes another total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// When the payment is due; prepaid by default.
    #[serde(default, with = "text", skip_serializing_if = "is_prepaid")]
    pub terms: Terms,
    /// The payment method, in the client's words.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<Text>,
    /// Payment window in seconds, 1 to 2,592,000 (30 days); 900 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_window_seconds: Option<u64>,
    /// The delivery address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<Address>,
    /// The client's own key-value pairs, at most 50.
    #[serde(default, with = "text::pairs", skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(Text, Text)>,
}

impl PlaceOrder {
    /// An order with only the required fields.
    #[must_use]
    pub fn new(user_id: UserId, currency: Currency, lines: Vec<PlaceLine>) -> Self {
        Self {
            idempotency_key: None,
            user_id,
            reference: None,
            currency,
            lines,
            discount: 0,
            shipping_fee: 0,
            total: None,
            terms: Terms::Prepaid,
            payment_method: None,
            payment_window_seconds: None,
            ship_to: None,
            metadata: Vec::new(),
        }
    }
}

/// A line of an order to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceLine {
    /// The SKU.
    #[serde(with = "identifier")]
    pub sku: SkuId,
    /// Units, 1 to 1,000,000,000.
    pub quantity: u64,
    /// Price of one unit in minor units, zero allowed.
    pub unit_price: i64,
    /// Discount on the whole line, at most quantity times price.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discount: i64,
    /// Tax on the whole line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tax: i64,
}

/// `POST /v1/orders/batch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceBatch {
    /// 1 to 1,000 orders, each with its own idempotency key and its own result.
    pub orders: Vec<PlaceOrder>,
}

/// `POST /v1/commands/batch`: commands on orders, each with the meaning of a separate request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandBatch {
    /// 1 to 1,000 commands, each with its own result. Commands on the same order take effect in this order.
    pub commands: Vec<Command>,
}

/// A command of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The path of a separate request: `/v1/orders/17/payments`.
    pub path: String,
    /// The idempotency key of the command.
    #[serde(with = "text")]
    pub idempotency_key: Key,
    /// The command is refused if the order has another version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// The body of a separate request; absent if that body may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

/// `POST /v1/orders/{id}/payments`: a fact of a payment attempt, as its provider reports it. Facts may come in any order and
/// repeatedly; none is refused because of the order's state or the attempt's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayOrder {
    /// The provider; `default` by default.
    #[serde(default, with = "identifier::option", skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The provider's id of the payment. A payment is counted once per provider and id.
    #[serde(with = "identifier")]
    pub provider_payment_id: ProviderPaymentId,
    /// What happened: `processing`, `authorized`, `captured`, `failed`, `voided`, `expired`, `capture_failed`, `disputed`,
    /// `dispute_won` or `dispute_lost`.
    #[serde(with = "text")]
    pub status: PaymentState,
    /// Minor units, above zero: the sum that it has happened to so far under this id. With `part`, the amount of that part
    /// alone.
    pub amount: i64,
    /// Must be the order's currency.
    #[serde(with = "text")]
    pub currency: Currency,
    /// The provider's id of one capture or one dispute, if the provider reports each of them with its own amount.
    #[serde(default, with = "identifier::option", skip_serializing_if = "Option::is_none")]
    pub part: Option<ProviderPaymentId>,
    /// When it happened, by the provider's clock. Decides which of two contradicting facts is the later one; without it, the
    /// order of arrival does.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
}

impl PayOrder {
    /// A fact about a whole payment of the default provider.
    #[must_use]
    pub fn new(provider_payment_id: ProviderPaymentId, status: PaymentState, amount: i64, currency: Currency) -> Self {
        Self { provider: None, provider_payment_id, status, amount, currency, part: None, occurred_at: None }
    }
}

/// Units of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineUnits {
    /// Line number from 1.
    pub line: u32,
    /// Units, 1 or more.
    pub quantity: u64,
}

/// `POST /v1/orders/{id}/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// `user`, `merchant` or `risk`.
    #[serde(with = "text")]
    pub reason: CancelReason,
    /// The operator, `user` or `merchant`; by default derived from the reason.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// A note for the history.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
    /// Units per line. If absent, all units that are not picked are cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<LineUnits>>,
}

impl CancelOrder {
    /// The default operator of a reason.
    #[must_use]
    pub fn usual_operator(reason: CancelReason) -> Operator {
        match reason {
            CancelReason::User => Operator::User,
            CancelReason::Merchant | CancelReason::Risk => Operator::Merchant,
            CancelReason::Timeout | CancelReason::Shortfall => Operator::System,
        }
    }
}

/// `POST /v1/orders/{id}/fulfilments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PickOrder {
    /// Units per line. If absent, all held units are picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<LineUnits>>,
    /// The warehouse; `default` by default.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<WarehouseId>,
}

/// `POST /v1/fulfilments/{id}/ship`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipFulfilment {
    /// The carrier.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Text>,
    /// The carrier's tracking number.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Text>,
}

/// `POST /v1/orders/{id}/complete`: `{}`, or no body at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompleteOrder {}

/// `POST /v1/fulfilments/{id}/deliver`: `{}`, or no body at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliverFulfilment {}

/// `POST /v1/fulfilments/{id}/cancel`: `{}`, or no body at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpickFulfilment {}

/// `POST /v1/orders/{id}/refunds`: units of lines, carriage, tax, an amount, in any combination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundOrder {
    /// The amount of the refund in minor units, above zero; by default the sum of its parts. A smaller amount keeps a fee, a
    /// larger one gives more than the parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// Units to refund at the price of the order, without the shipping fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<LineUnits>>,
    /// Refunded part of the shipping fee, in minor units.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carriage: i64,
    /// Refunded tax, in minor units, apart from what the units of `lines` include.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tax: i64,
    /// The provider of the payment that the money goes back to; `default` by default.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The payment that the money goes back to; by default the last one first.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub provider_payment_id: Option<ProviderPaymentId>,
    /// A reason for the history.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

/// `POST /v1/orders/{id}/refunds/{refund}`: the outcome of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundOutcome {
    /// `succeeded` or `failed`. A refund that was reported to have ended one way may be reported to have ended the other way.
    #[serde(with = "text")]
    pub status: RefundState,
    /// When it ended, by the provider's clock: the later outcome counts. Without it, the order of arrival decides.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
}

impl RefundOutcome {
    /// An outcome without its time.
    #[must_use]
    pub fn new(status: RefundState) -> Self {
        Self { status, occurred_at: None }
    }
}

/// `PUT /v1/skus/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSku {
    /// The SKU's name in the catalogue.
    #[serde(with = "text")]
    pub name: Text,
    /// Not implemented: must be zero.
    #[serde(default, skip_serializing)]
    pub backorder_limit: Unbuilt,
    /// Not implemented: must be zero.
    #[serde(default, skip_serializing)]
    pub purchase_limit: Unbuilt,
    /// Not implemented: must be zero.
    #[serde(default, skip_serializing)]
    pub safety_stock: Unbuilt,
}

/// `POST /v1/skus/{id}/receive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveStock {
    /// Units, 1 to 1,000,000,000.
    pub quantity: u64,
    /// The warehouse; `default` by default.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<WarehouseId>,
}

/// `POST /v1/skus/{id}/adjust`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// Units found (positive) or lost (negative).
    pub delta: i64,
    /// A reason for the history.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// The warehouse; `default` by default.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<WarehouseId>,
}

/// A field of the API that this version does not implement. Only absence, `null` or zero is accepted, so that a policy is never
/// silently ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unbuilt {
    /// Absent, `null` or zero.
    #[default]
    Unset,
}

/// Prefix of the error message for an [`Unbuilt`] field that is set.
pub(crate) const UNBUILT: &str = "not supported yet";

impl Serialize for Unbuilt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(0)
    }
}

impl<'de> Deserialize<'de> for Unbuilt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnbuiltVisitor)
    }
}

struct UnbuiltVisitor;

impl UnbuiltVisitor {
    fn set<T, E: de::Error>() -> Result<T, E> {
        Err(E::custom(UNBUILT))
    }
}

/// Lists and objects are refused unread, so nested values are not walked into.
impl<'de> Visitor<'de> for UnbuiltVisitor {
    type Value = Unbuilt;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing or zero")
    }

    fn visit_unit<E>(self) -> Result<Unbuilt, E> {
        Ok(Unbuilt::Unset)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Unbuilt, E> {
        if number == 0 { Ok(Unbuilt::Unset) } else { Self::set() }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Unbuilt, E> {
        Self::set()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Unbuilt, E> {
        Self::set()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Unbuilt, E> {
        Self::set()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Unbuilt, E> {
        Self::set()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Unbuilt, A::Error> {
        Self::set()
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Unbuilt, A::Error> {
        Self::set()
    }
}

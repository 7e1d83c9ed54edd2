//! Writes an order's JSON directly from the domain's order, without intermediate values: this is the most frequent answer.
//! [`super::Order`] defines the format, and a test compares both.

use ordergrid_domain::Text;
use ordergrid_domain::command::Created;
use ordergrid_domain::order::{Line, Order};
use serde::{Serialize, Serializer};

use super::text::{self, WireText};
use super::{Address, Fulfilment, Payment, Refund, created_id, owed};

/// Number of lines that are written at a time, if an order is written in parts.
const LINES_AT_ONCE: usize = 16;

/// Appends JSON to a buffer. Names are passed with their punctuation, for example `,"name":`.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    #[inline]
    pub(crate) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    #[inline]
    pub(crate) fn number(&mut self, name: &str, number: impl itoa::Integer) {
        self.raw(name);
        self.raw(itoa::Buffer::new().format(number));
    }

    #[inline]
    fn some_amount(&mut self, name: &str, amount: i64) {
        if amount != 0 {
            self.number(name, amount);
        }
    }

    #[inline]
    fn text(&mut self, name: &str, text: &impl WireText) {
        self.raw(name);
        text.write(|text| self.quoted(text));
    }

    #[inline]
    fn some(&mut self, name: &str, text: Option<&impl WireText>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Writes a rare value through its wire type.
    pub(crate) fn value(&mut self, name: &str, value: &impl Serialize) {
        self.raw(name);
        sonic_rs::to_writer(&mut *self.0, value).expect("wire types have only texts, numbers and lists");
    }

    /// Writes a list with rare items.
    fn list<T, W: Serialize>(&mut self, name: &str, items: &[T], wire: impl FnMut(&T) -> W) {
        if items.is_empty() {
            self.raw(name);
            self.raw("[]");
        } else {
            self.value(name, &items.iter().map(wire).collect::<Vec<_>>());
        }
    }

    fn quoted(&mut self, text: &str) {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.raw("\"");
            self.raw(text);
            self.raw("\"");
        } else {
            self.value("", &text);
        }
    }

    /// An order after a command, with what the command created.
    pub(crate) fn changed(&mut self, order: &Order, created: Option<Created>) {
        self.head(order, created);
        self.lines(order, 0, order.lines.len());
        self.tail(order);
    }

    /// Writes the next part of such an order: some lines at a time. `at` is the next line, or `None` before the first part.
    /// Returns true once the order is complete; `at` is then `None` again.
    pub(crate) fn part(&mut self, order: &Order, created: Option<Created>, at: &mut Option<usize>) -> bool {
        let from = at.unwrap_or_else(|| {
            self.head(order, created);
            0
        });
        let to = order.lines.len().min(from + LINES_AT_ONCE);
        self.lines(order, from, to);
        if to < order.lines.len() {
            *at = Some(to);
            return false;
        }
        self.tail(order);
        *at = None;
        true
    }

    fn head(&mut self, order: &Order, created: Option<Created>) {
        self.text("{\"id\":", &order.id);
        self.text(",\"user_id\":", &order.user);
        self.some(",\"reference\":", order.reference.as_ref());
        self.created(created);
        self.text(",\"phase\":", &order.phase);
        self.text(",\"status\":", &order.status());
        self.text(",\"payment_status\":", &order.payment_status());
        self.some(",\"cancel_reason\":", order.cancel_reason.as_ref());
        self.number(",\"version\":", order.version);
        self.text(",\"currency\":", &order.currency);
        self.number(",\"total\":", order.total.0);
        self.number(",\"discount\":", order.discount.0);
        self.number(",\"shipping_fee\":", order.shipping_fee.0);
        self.number(",\"due\":", order.due().0);
        self.number(",\"captured\":", order.captured().0);
        self.number(",\"refunded\":", order.refunded().0);
        self.some_amount(",\"disputed\":", order.disputed().0);
        self.some_amount(",\"surplus\":", order.surplus().0);
        self.some_amount(",\"owed\":", owed(order));
        self.some_amount(",\"capture_due\":", order.capture_due().0);
        self.some(",\"on_hold\":", order.hold().as_ref());
        self.text(",\"terms\":", &order.terms);
        self.some(",\"payment_method\":", order.payment_method.as_ref());
        self.text(",\"created_at\":", &order.created_at);
        self.text(",\"updated_at\":", &order.updated_at);
        self.some(",\"payment_due_at\":", order.payment_due_at.as_ref());
        self.some(",\"completes_at\":", order.completes_at.as_ref());
        if let Some(ship_to) = &order.ship_to {
            self.value(",\"ship_to\":", &Address::from(ship_to));
        }
        self.raw(",\"lines\":[");
    }

    fn lines(&mut self, order: &Order, from: usize, to: usize) {
        for (at, one) in (from..to).zip(&order.lines[from..to]) {
            self.line(if at == 0 { "{\"line\":" } else { ",{\"line\":" }, at + 1, one);
        }
    }

    fn tail(&mut self, order: &Order) {
        self.raw("]");
        let mut number = 0;
        self.list(",\"payments\":", &order.payments, |one| {
            number += 1;
            Payment::of(order, number, one)
        });
        self.list(",\"refunds\":", &order.refunds, |one| Refund::of(order, one));
        self.list(",\"fulfilments\":", &order.fulfilments, |one| Fulfilment::of(order, one));
        if order.metadata.is_empty() {
            self.raw(",\"metadata\":{}}");
        } else {
            self.value(",\"metadata\":", &Pairs(&order.metadata));
            self.raw("}");
        }
    }

    /// The id of what a command created, if it has one.
    pub(crate) fn created(&mut self, created: Option<Created>) {
        if let Some(id) = created.and_then(created_id) {
            self.raw(",\"created\":");
            self.quoted(&id);
        }
    }

    fn line(&mut self, begin: &str, number: usize, line: &Line) {
        self.number(begin, number);
        self.text(",\"sku\":", &line.sku);
        self.text(",\"name\":", &line.name);
        self.number(",\"unit_price\":", line.unit_price.0);
        self.number(",\"discount\":", line.discount.0);
        self.number(",\"tax\":", line.tax.0);
        self.number(",\"ordered\":", line.ordered.0);
        self.number(",\"cancelled\":", line.cancelled.0);
        self.number(",\"backordered\":", line.backordered.0);
        self.number(",\"held\":", line.held.0);
        self.number(",\"picking\":", line.picking.0);
        self.number(",\"shipped\":", line.shipped.0);
        self.number(",\"delivered\":", line.delivered.0);
        self.number(",\"returned\":", line.returned.0);
        self.raw("}");
    }
}

struct Pairs<'a>(&'a [(Text, Text)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text::pairs::serialize(self.0, serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ordergrid_domain::command::OrderRequest;
    use ordergrid_domain::order::{self, LineRequest, PaymentState, RefundCause, RefundState, Terms};
    use ordergrid_domain::{AttemptId, Currency, GroupId, Key, Money, OrderId, Quantity, Reference, SkuId, Timestamp, UserId};
    use serde_json::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_183_506_007);

    fn words(text: &str) -> Text {
        Text::new(text).expect("a valid text")
    }

    /// A plain order with one line per named SKU.
    fn plain(skus: &[&str]) -> Order {
        let line = |sku: &&str| LineRequest {
            sku: SkuId::new(sku).expect("a valid SKU"),
            quantity: Quantity(6),
            unit_price: Money(255),
            discount: Money(30),
            tax: Money(5),
        };
        let request = OrderRequest {
            user: UserId::new("17850").expect("a valid user"),
            key: Key::new("k").expect("a valid key"),
            body_hash: 7,
            reference: None,
            currency: Currency::new("GBP").expect("a currency"),
            lines: skus.iter().map(line).collect(),
            discount: Money(1),
            shipping_fee: Money(2),
            total: None,
            terms: Terms::Prepaid,
            payment_method: None,
            payment_window: Duration::from_secs(60),
            ship_to: None,
            metadata: Vec::new(),
        };
        let attempt = AttemptId { slot: request.user.slot(), group: GroupId(1), term: 1, counter: 1 };
        let names: Vec<_> = skus.iter().map(|sku| words(&format!("name \"of\" \\ {sku}"))).collect();
        Order::place(OrderId::new(NOW, request.user.slot(), 1), attempt, &request, &names, NOW).0
    }

    /// An order with every optional part.
    fn full() -> Order {
        let payment = ordergrid_domain::ProviderPaymentId::new("p-1").expect("a valid id");
        let refund = |number, cause| order::Refund {
            number,
            amount: Money(9),
            lines: vec![(0, Money(4)), (1, Money(5))],
            state: RefundState::Requested,
            cause,
            at: NOW,
            units: vec![(1, Quantity(1))],
            forgiven: Money::ZERO,
            tax: Money(2),
            payment: 1,
            occurred_at: Some(NOW),
            turned: false,
        };
        Order {
            reference: Some(Reference::new("caf\u{e9} \"1\"").expect("a valid reference")),
            cancel_reason: Some(order::CancelReason::User),
            payment_method: Some(words("card\\cash")),
            payment_due_at: Some(NOW),
            completes_at: Some(NOW),
            terms: Terms::Invoice,
            ship_to: Some(order::Address {
                recipient: Some(words("A")),
                lines: vec![words("b"), words("c")],
                city: None,
                postal_code: Some(words("N1")),
                country: None,
                phone: None,
            }),
            metadata: vec![(words("a"), words("1")), (words("b\""), words("2"))],
            payments: vec![order::Payment {
                provider: ordergrid_domain::Provider::default(),
                provider_payment_id: payment.clone(),
                at: NOW,
                void_requested: false,
                facts: [(PaymentState::Authorized, 9_000), (PaymentState::Captured, 1_500), (PaymentState::Disputed, 20)]
                    .map(|(state, amount)| order::PaymentFact {
                        state,
                        part: None,
                        amount: Money(amount),
                        occurred_at: Some(NOW),
                    })
                    .to_vec(),
            }],
            refunds: vec![refund(1, RefundCause::Asked(Some(words("late")))), refund(2, RefundCause::Surplus(payment))],
            fulfilments: vec![order::Fulfilment {
                number: 1,
                state: order::FulfilmentState::Shipped,
                warehouse: ordergrid_domain::WarehouseId::default(),
                lines: vec![(1, Quantity(2))],
                carrier: Some(words("c")),
                tracking: None,
                at: NOW,
            }],
            ..plain(&["85123A", "BANK CHARGES", "\u{fc}/\""])
        }
    }

    #[test]
    fn it_is_what_the_wire_type_says_down_to_the_order_of_names() {
        for order in [plain(&["85123A"]), full(), plain(&["85123A"; 3 * LINES_AT_ONCE]), plain(&["b"; LINES_AT_ONCE + 1])] {
            let mut written = Vec::new();
            Writer(&mut written).changed(&order, None);
            let expected = serde_json::to_string(&crate::wire::Order::from(&order)).expect("it can be written");
            assert_eq!(String::from_utf8(written).expect("it is text"), expected);
            let (mut parts, mut at) = (Vec::new(), None);
            while !Writer(&mut parts).part(&order, None, &mut at) {}
            assert_eq!(String::from_utf8(parts).expect("it is text"), expected, "part by part");
            for created in [Created::Fulfilment(order.fulfilment_id(1)), Created::Refund(order.refund_id(2)), Created::Payment]
            {
                let mut written = Vec::new();
                Writer(&mut written).changed(&order, Some(created));
                let expected = serde_json::to_string(&crate::wire::Order::changed(&order, Some(created)));
                assert_eq!(String::from_utf8(written).expect("it is text"), expected.expect("it can be written"));
            }
        }
    }

    #[test]
    fn every_text_is_read_as_it_was_written() {
        for code in 0..0x300 {
            let text = format!("a{}b", char::from_u32(code).expect("below the surrogates"));
            let mut written = Vec::new();
            Writer(&mut written).quoted(&text);
            assert_eq!(serde_json::from_slice::<Value>(&written).expect("it is JSON"), text);
        }
    }
}

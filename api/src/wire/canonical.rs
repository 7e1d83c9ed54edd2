//! The meaning of an idempotency key: the hash of a request's meaning, not of its bytes.
//!
//! White space, the order of fields, and fields that are set to their default do not change the hash. The hash is stored with
//! the key, and outlives a version of this program. So every field has a number that is never reused, and a field that is
//! absent or at its default is left out: a field added later does not change the hash of a request without it. (The default
//! payment window is not part of the format, so an explicit window always counts.)

use ordergrid_domain::{FulfilmentId, OrderId, Provider, RefundId};
use xxhash_rust::xxh3::xxh3_64;

use super::order::Address;
use super::request::{
    AdjustStock, CancelOrder, CompleteOrder, DeliverFulfilment, LineUnits, PayOrder, PickOrder, PlaceLine, PlaceOrder, PutSku,
    ReceiveStock, RefundOrder, RefundOutcome, ShipFulfilment, UnpickFulfilment,
};
use super::text::WireText;

/// Collects the meaning of one request after another and reuses its buffer.
#[derive(Debug, Default)]
pub struct Canon(Vec<u8>);

impl Canon {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    /// The hash of a request's meaning.
    pub fn hash(&mut self, request: &impl Meaning) -> u64 {
        self.0.clear();
        request.tell(self);
        xxh3_64(&self.0)
    }

    fn kind(&mut self, kind: u8) {
        self.0.push(kind);
    }

    fn text(&mut self, field: u8, text: &impl WireText) {
        self.0.push(field);
        text.write(|text| self.bytes(text.as_bytes()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn some(&mut self, field: u8, text: Option<&impl WireText>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    fn amount(&mut self, field: u8, amount: i64) {
        if amount != 0 {
            self.0.push(field);
            self.0.extend_from_slice(&amount.to_le_bytes());
        }
    }

    fn number(&mut self, field: u8, number: u64) {
        self.amount(field, number.cast_signed());
    }

    fn some_amount(&mut self, field: u8, amount: Option<i64>) {
        if let Some(amount) = amount {
            self.0.push(field);
            self.0.extend_from_slice(&amount.to_le_bytes());
        }
    }

    fn each<T>(&mut self, field: u8, items: &[T], mut tell: impl FnMut(&mut Self, &T)) {
        if items.is_empty() {
            return;
        }
        self.0.push(field);
        self.0.extend_from_slice(&(items.len() as u64).to_le_bytes());
        for item in items {
            tell(self, item);
            self.0.push(END);
        }
    }

    fn units(&mut self, field: u8, lines: Option<&Vec<LineUnits>>) {
        let lines = lines.map(Vec::as_slice).unwrap_or_default();
        self.each(field, lines, |canon, units| {
            canon.number(1, u64::from(units.line));
            canon.number(2, units.quantity);
        });
    }
}

/// Marks the end of a list item. No field has this number.
const END: u8 = 0;

/// A request with a canonical form.
pub trait Meaning {
    /// Adds the kind and the fields of the request.
    fn tell(&self, canon: &mut Canon);
}

impl Meaning for PlaceOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(1);
        canon.text(1, &self.user_id);
        canon.some(2, self.reference.as_ref());
        canon.text(3, &self.currency);
        canon.each(4, &self.lines, line);
        canon.amount(5, self.discount);
        canon.amount(6, self.shipping_fee);
        canon.some_amount(7, self.total);
        if self.terms != ordergrid_domain::order::Terms::Prepaid {
            canon.text(8, &self.terms);
        }
        canon.some(9, self.payment_method.as_ref());
        canon.some_amount(10, self.payment_window_seconds.map(u64::cast_signed));
        if let Some(ship_to) = &self.ship_to {
            canon.0.push(11);
            address(canon, ship_to);
            canon.0.push(END);
        }
        canon.each(12, &self.metadata, |canon, (name, value)| {
            canon.text(1, name);
            canon.text(2, value);
        });
    }
}

fn line(canon: &mut Canon, line: &PlaceLine) {
    canon.text(1, &line.sku);
    canon.number(2, line.quantity);
    canon.amount(3, line.unit_price);
    canon.amount(4, line.discount);
    canon.amount(5, line.tax);
}

fn address(canon: &mut Canon, address: &Address) {
    canon.some(1, address.recipient.as_ref());
    canon.each(2, &address.lines, |canon, line| canon.text(1, line));
    canon.some(3, address.city.as_ref());
    canon.some(4, address.postal_code.as_ref());
    canon.some(5, address.country.as_ref());
    canon.some(6, address.phone.as_ref());
}

impl Meaning for PayOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(2);
        canon.text(1, &self.provider_payment_id);
        canon.text(2, &self.status);
        canon.amount(3, self.amount);
        canon.text(4, &self.currency);
        canon.some(5, named(self.provider.as_ref()));
        canon.some(6, self.part.as_ref());
        canon.some(7, self.occurred_at.as_ref());
    }
}

/// A provider, unless it is the one that is meant when none is named.
fn named(provider: Option<&Provider>) -> Option<&Provider> {
    provider.filter(|provider| **provider != Provider::default())
}

impl Meaning for CancelOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(3);
        canon.text(1, &self.reason);
        canon.some(2, self.operator.as_ref().filter(|operator| **operator != Self::usual_operator(self.reason)));
        canon.some(3, self.note.as_ref());
        canon.units(4, self.lines.as_ref());
    }
}

impl Meaning for PickOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(4);
        canon.units(1, self.lines.as_ref());
        canon.some(2, self.warehouse.as_ref().filter(|warehouse| **warehouse != Default::default()));
    }
}

/// Keys of commands on an order are scoped to the order, so the order's id is left out.
impl<Body: Meaning> Meaning for (OrderId, Body) {
    fn tell(&self, canon: &mut Canon) {
        self.1.tell(canon);
    }
}

/// The fulfilment and its parcel: keys of commands on fulfilments are scoped to the order.
impl Meaning for (FulfilmentId, ShipFulfilment) {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(5);
        canon.text(1, &self.0);
        canon.some(2, self.1.carrier.as_ref());
        canon.some(3, self.1.tracking.as_ref());
    }
}

impl Meaning for (FulfilmentId, DeliverFulfilment) {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(6);
        canon.text(1, &self.0);
    }
}

impl Meaning for (FulfilmentId, UnpickFulfilment) {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(7);
        canon.text(1, &self.0);
    }
}

impl Meaning for CompleteOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(8);
    }
}

impl Meaning for RefundOrder {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(9);
        canon.some_amount(1, self.amount);
        canon.units(2, self.lines.as_ref());
        canon.some(3, self.reason.as_ref());
        canon.amount(4, self.carriage);
        canon.amount(5, self.tax);
        canon.some(6, named(self.provider.as_ref()));
        canon.some(7, self.provider_payment_id.as_ref());
    }
}

impl Meaning for (RefundId, RefundOutcome) {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(10);
        canon.text(1, &self.0);
        canon.text(2, &self.1.status);
        canon.some(3, self.1.occurred_at.as_ref());
    }
}

impl Meaning for PutSku {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(11);
        canon.text(1, &self.name);
    }
}

impl Meaning for ReceiveStock {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(12);
        canon.number(1, self.quantity);
        canon.some(2, self.warehouse.as_ref().filter(|warehouse| **warehouse != Default::default()));
    }
}

impl Meaning for AdjustStock {
    fn tell(&self, canon: &mut Canon) {
        canon.kind(13);
        canon.amount(1, self.delta);
        canon.some(2, self.reason.as_ref());
        canon.some(3, self.warehouse.as_ref().filter(|warehouse| **warehouse != Default::default()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn hash(body: &str) -> u64 {
        let request: PlaceOrder = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {body}"));
        Canon::new().hash(&request)
    }

    fn text() -> impl Strategy<Value = Value> {
        "[a-z0-9 \"\u{e9}]{1,30}".prop_map(Value::from)
    }

    /// White space is no end of an identifier.
    fn identifier() -> impl Strategy<Value = Value> {
        "[a-z0-9\"\u{e9}]([a-z0-9 \"\u{e9}]{0,28}[a-z0-9\"\u{e9}])?".prop_map(Value::from)
    }

    fn maybe(of: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
        proptest::option::of(of)
    }

    fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
        let present = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(present.collect())
    }

    fn line() -> impl Strategy<Value = Value> {
        (identifier(), 1..9_u64, 0..9_i64, maybe((0..9_i64).prop_map(Value::from)), maybe((0..9_i64).prop_map(Value::from)))
            .prop_map(|(sku, quantity, price, discount, tax)| {
                let required = [("sku", Some(sku)), ("quantity", Some(json!(quantity))), ("unit_price", Some(json!(price)))];
                object([&required[..], &[("discount", discount), ("tax", tax)]].concat())
            })
    }

    fn order() -> impl Strategy<Value = Value> {
        let lines = proptest::collection::vec(line(), 1..4);
        let pairs = proptest::collection::btree_map("[a-c]{1,2}", text(), 0..4);
        let pairs = pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect()));
        let amount = || maybe((0..3_i64).prop_map(Value::from));
        let address = (maybe(text()), maybe(text())).prop_map(|(city, phone)| object(vec![("city", city), ("phone", phone)]));
        let names = (identifier(), maybe(identifier()));
        (names, lines, maybe(pairs), amount(), amount(), amount(), maybe(address)).prop_map(
            |((user, reference), lines, metadata, discount, fee, total, ship_to)| {
                object(vec![
                    ("user_id", Some(user)),
                    ("currency", Some(json!("GBP"))),
                    ("lines", Some(Value::Array(lines))),
                    ("metadata", metadata),
                    ("discount", discount),
                    ("shipping_fee", fee),
                    ("total", total),
                    ("reference", reference),
                    ("ship_to", ship_to),
                ])
            },
        )
    }

    /// The same JSON with its fields in reverse order, additional white space, and unneeded escapes.
    fn rewritten(value: &Value, out: &mut String) {
        match value {
            Value::Object(fields) => {
                out.push_str("{ ");
                for (count, (name, value)) in fields.iter().rev().enumerate() {
                    out.push_str(if count == 0 { "" } else { " ,\n" });
                    rewritten(&Value::from(name.as_str()), out);
                    out.push_str("\t: ");
                    rewritten(value, out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (count, item) in items.iter().enumerate() {
                    out.push_str(if count == 0 { " " } else { " , " });
                    rewritten(item, out);
                }
                out.push(']');
            }
            Value::String(text) => {
                out.push('"');
                text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
                out.push('"');
            }
            other => out.push_str(&other.to_string()),
        }
    }

    proptest! {
        #[test]
        fn spelling_does_not_matter(order in order()) {
            let mut other = String::new();
            rewritten(&order, &mut other);
            prop_assert_eq!(hash(&order.to_string()), hash(&other));
        }

        #[test]
        fn meaning_does(one in order(), other in order()) {
            let read = |order: &Value| serde_json::from_value::<PlaceOrder>(order.clone()).expect("a valid order");
            let same = read(&one) == read(&other);
            prop_assert_eq!(hash(&one.to_string()) == hash(&other.to_string()), same);
        }

        #[test]
        fn what_the_client_writes_the_server_reads(order in order()) {
            let read: PlaceOrder = serde_json::from_value(order).expect("a valid order");
            let written = serde_json::to_string(&read).expect("JSON");
            prop_assert_eq!(sonic_rs::from_str::<PlaceOrder>(&written).expect("the same"), read.clone());
            prop_assert_eq!(hash(&written), Canon::new().hash(&read));
        }
    }

    #[test]
    fn saying_a_default_aloud_does_not_matter() {
        let short = r#"{"user_id":"u","currency":"GBP","lines":[{"sku":"A","quantity":1,"unit_price":2}]}"#;
        let long = r#"{"user_id":"u","currency":"GBP","discount":0,"shipping_fee":0,"terms":"prepaid","reference":null,
            "metadata":{},"lines":[{"sku":"A","quantity":1,"unit_price":2,"discount":0,"tax":0}]}"#;
        assert_eq!(hash(short), hash(long));
        let cancel = |body| Canon::new().hash(&serde_json::from_str::<CancelOrder>(body).expect("a valid request"));
        assert_eq!(cancel(r#"{"reason":"user"}"#), cancel(r#"{"operator":"user","reason":"user"}"#));
        assert_ne!(cancel(r#"{"reason":"user"}"#), cancel(r#"{"operator":"merchant","reason":"user"}"#));
    }

    #[test]
    fn each_field_counts() {
        let base = json!({"user_id": "u", "currency": "GBP", "lines": [{"sku": "A", "quantity": 1, "unit_price": 2}]});
        let mut hashes = vec![hash(&base.to_string())];
        for (pointer, name, value) in [
            ("", "user_id", json!("v")),
            ("", "currency", json!("EUR")),
            ("", "reference", json!("r")),
            ("", "discount", json!(1)),
            ("", "shipping_fee", json!(1)),
            ("", "total", json!(0)),
            ("", "terms", json!("invoice")),
            ("", "terms", json!("on_delivery")),
            ("", "payment_method", json!("r")),
            ("", "payment_window_seconds", json!(900)),
            ("", "ship_to", json!({"city": "r"})),
            ("", "ship_to", json!({"phone": "r"})),
            ("", "ship_to", json!({"lines": ["r"]})),
            ("", "metadata", json!({"r": "r"})),
            ("/lines/0", "sku", json!("a")),
            ("/lines/0", "quantity", json!(2)),
            ("/lines/0", "unit_price", json!(1)),
            ("/lines/0", "discount", json!(1)),
            ("/lines/0", "tax", json!(1)),
        ] {
            let mut order = base.clone();
            let object: &mut Map<_, _> = order.pointer_mut(pointer).and_then(Value::as_object_mut).expect("an object");
            object.insert(name.to_owned(), value);
            hashes.push(hash(&order.to_string()));
        }
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count, "two different orders have one hash");
    }

    /// These hashes are stored with keys, and outlive a version of this program. They never change.
    #[test]
    fn hashes_are_for_ever() {
        let order = r#"{"user_id":"17850","currency":"GBP","lines":[{"sku":"85123A","quantity":6,"unit_price":255}]}"#;
        let pay = PayOrder {
            provider: None,
            part: None,
            occurred_at: None,
            provider_payment_id: WireText::read("pi_1").expect("valid"),
            status: ordergrid_domain::order::PaymentState::Captured,
            amount: 1_530,
            currency: WireText::read("GBP").expect("valid"),
        };
        let found = [hash(order), Canon::new().hash(&pay), Canon::new().hash(&CompleteOrder {})];
        assert_eq!(found.map(|hash| format!("{hash:016x}")), ["918bc81684a26f84", "3b34496770b2b0fd", "dc4d00f78ae4972d"]);
    }
}

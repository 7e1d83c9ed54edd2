//! A small language for the tests of this folder, so that a case is a row: orders, steps and what became of them, as text.
//!
//! An order: `A*6@255 B*2@100-30+5 discount=50 shipping=30 terms=invoice window=60 total=1730`, where `-30` is the line's
//! discount and `+5` its tax. A step: `pay p captured 1530 [EUR] [part=c1] [by=card] [told=5]`, `cancel user [1:3]`,
//! `pick [1:3 2:1]`, `ship 1`, `unpick 1`, `deliver 1`, `complete`, `refund 100`, `refund 1:2 [carriage=5] [tax=2] [to=p]`,
//! `refund-succeeded 1 [told=5]`, `refund-failed 1`, `deadline`, `clock` and `short A 3`. `told=5` is a provider's clock. `@900 step` moves the time to 900 seconds after the order was placed.

use std::time::Duration;

use super::{
    CancelReason, Effects, EventKind, LineRequest, Operator, Order, PaymentState, RefundState, StockEffect, Terms, TimerKind,
    limits,
};
use crate::command::{Created, OrderAction, OrderRequest, PaymentTold, Purse, RefundAsked};
use crate::ids::{
    AttemptId, FulfilmentId, GroupId, Key, OrderId, Provider, ProviderPaymentId, RefundId, SkuId, Slot, Text, UserId,
    WarehouseId,
};
use crate::money::{Currency, Money, Quantity};
use crate::rejection::Rejection;
use crate::time::Timestamp;

const PLACED_AT: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// So many seconds after the order was placed.
pub(super) fn at(seconds: u64) -> Timestamp {
    PLACED_AT.after(Duration::from_secs(seconds))
}

pub(super) fn sku(id: &str) -> SkuId {
    SkuId::new(id).expect("a test's SKU is valid")
}

pub(super) fn text(words: &str) -> Text {
    Text::new(words).expect("a test's text is valid")
}

fn number<T: std::str::FromStr>(digits: &str) -> T {
    digits.parse().unwrap_or_else(|_| panic!("{digits:?} is no number"))
}

/// The request that a spec describes.
pub(crate) fn request(spec: &str) -> OrderRequest {
    let mut request = OrderRequest {
        user: UserId::new("17850").expect("valid"),
        key: Key::new("key-1").expect("valid"),
        body_hash: 7,
        reference: None,
        currency: Currency::new("GBP").expect("valid"),
        lines: Vec::new(),
        discount: Money::ZERO,
        shipping_fee: Money::ZERO,
        total: None,
        terms: Terms::Prepaid,
        payment_method: None,
        payment_window: limits::PAYMENT_WINDOW,
        ship_to: None,
        metadata: Vec::new(),
    };
    for word in spec.split_whitespace() {
        match word.split_once('=') {
            None => request.lines.push(line(word)),
            Some(("discount", amount)) => request.discount = Money(number(amount)),
            Some(("shipping", amount)) => request.shipping_fee = Money(number(amount)),
            Some(("total", amount)) => request.total = Some(Money(number(amount))),
            Some(("window", seconds)) => request.payment_window = Duration::from_secs(number(seconds)),
            Some(("terms", "invoice")) => request.terms = Terms::Invoice,
            Some(("terms", "on_delivery")) => request.terms = Terms::OnDelivery,
            _ => panic!("no such word of an order: {word}"),
        }
    }
    request
}

fn line(word: &str) -> LineRequest {
    let (id, rest) = word.split_once('*').expect("SKU*quantity@price");
    let (quantity, rest) = rest.split_once('@').expect("SKU*quantity@price");
    let (rest, tax) = rest.split_once('+').unwrap_or((rest, "0"));
    let (price, discount) = rest.split_once('-').unwrap_or((rest, "0"));
    LineRequest {
        sku: sku(id),
        quantity: Quantity(number(quantity)),
        unit_price: Money(number(price)),
        discount: Money(number(discount)),
        tax: Money(number(tax)),
    }
}

/// Places the order that a spec describes.
pub(super) fn place(spec: &str) -> (Order, Effects) {
    let request = request(spec);
    request.check().unwrap_or_else(|rejection| panic!("{spec}: {rejection}"));
    let slot = request.user.slot();
    let attempt = AttemptId { slot, group: GroupId(1), term: 1, counter: 1 };
    let names: Vec<Text> = request.lines.iter().map(|line| text(&format!("NAME OF {}", line.sku))).collect();
    Order::place(order_id(slot), attempt, &request, &names, at(0))
}

fn order_id(slot: Slot) -> OrderId {
    OrderId::new(at(0), slot, 0)
}

/// What a step came to.
pub(super) type Done = Result<(Option<Created>, Effects), Rejection>;

/// An order and the time.
#[derive(Clone, Debug)]
pub(super) struct Play {
    pub(super) order: Order,
    pub(super) now: u64,
}

impl Play {
    /// Places an order and does steps, divided by `;`, none of which may be refused.
    pub(super) fn new(spec: &str, steps: &str) -> Self {
        let mut play = Self { order: place(spec).0, now: 0 };
        for step in steps.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            play.step(step).unwrap_or_else(|rejection| panic!("{spec} | {steps} | {step}: {rejection}"));
        }
        play
    }

    /// Does a step.
    pub(super) fn step(&mut self, step: &str) -> Done {
        let (when, step) = match step.strip_prefix('@') {
            Some(rest) => rest.split_once(' ').expect("a step after the time"),
            None => ("", step),
        };
        if !when.is_empty() {
            self.now = number(when);
        }
        let now = at(self.now);
        let words: Vec<&str> = step.split_whitespace().collect();
        match words[..] {
            ["deadline"] => Ok((None, self.order.expire(TimerKind::PaymentDeadline, now))),
            ["clock"] => Ok((None, self.order.expire(TimerKind::AutoComplete, now))),
            ["short", id, units] => Ok((None, self.order.shortfall(&sku(id), Quantity(number(units)), now))),
            _ => {
                let (operator, action) = action(&self.order, &words);
                self.order.command(operator, &action, now)
            }
        }
    }

    /// Does a step and says what became of it, in three texts: the words, the events, the effects. A refusal, in which
    /// `#` is the order's id, leaves the last two empty, and must have changed nothing.
    pub(super) fn told(&mut self, step: &str) -> [String; 3] {
        let before = self.order.clone();
        match self.step(step) {
            Err(rejection) => {
                assert_eq!(self.order, before, "refused, but changed: {step}");
                [rejection.to_string().replace(&before.id.to_string(), "#"), String::new(), String::new()]
            }
            Ok((_, effects)) => {
                assert_eq!(self.order.events[..before.events.len()], before.events, "the past changed: {step}");
                let changed = u64::from(self.order != before);
                assert_eq!(self.order.version, before.version + changed, "{step}");
                let events = self.order.events[before.events.len()..].iter();
                let events: Vec<String> = events.map(|event| event_name(&event.kind)).collect();
                [words(&self.order), events.join(" "), effects_text(&effects)]
            }
        }
    }
}

/// Status word and payment word.
pub(super) fn words(order: &Order) -> String {
    format!("{:?} {:?}", order.status(), order.payment_status())
}

/// The units of every line that are not zero: `6 held`, lines divided by `, `.
pub(super) fn units(order: &Order) -> String {
    let line = |line: &super::Line| {
        let all = [
            (line.cancelled, "cancelled"),
            (line.backordered, "backordered"),
            (line.held, "held"),
            (line.picking, "picking"),
            (line.shipped, "shipped"),
            (line.delivered, "delivered"),
        ];
        let some: Vec<String> =
            all.iter().filter(|(units, _)| units.0 > 0).map(|(units, name)| format!("{units} {name}")).collect();
        some.join(" ")
    };
    order.lines.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Every refund as `amount cause state`.
pub(super) fn refunds(order: &Order) -> String {
    let cause = |refund: &super::Refund| match &refund.cause {
        super::RefundCause::Asked(_) => "asked".to_owned(),
        super::RefundCause::Cancelled => "cancelled".to_owned(),
        super::RefundCause::Surplus(id) => format!("surplus of {id}"),
    };
    let all: Vec<String> =
        order.refunds.iter().map(|refund| format!("{} {} {:?}", refund.amount, cause(refund), refund.state)).collect();
    all.join(", ").to_lowercase()
}

fn event_name(kind: &EventKind) -> String {
    let name = kind.name().trim_start_matches("order.");
    match kind {
        EventKind::FulfilmentCreated(number)
        | EventKind::FulfilmentCancelled(number)
        | EventKind::FulfilmentShipped(number)
        | EventKind::FulfilmentDelivered(number)
        | EventKind::RefundRequested(number)
        | EventKind::RefundSucceeded(number)
        | EventKind::RefundFailed(number) => format!("{name}#{number}"),
        _ => name.to_owned(),
    }
}

/// Effects as `commit A B; free A*3; ship A*2; deadline +900; clock off`.
pub(super) fn effects_text(effects: &Effects) -> String {
    let items =
        |items: &[(SkuId, Quantity)]| items.iter().map(|(sku, units)| format!("{sku}*{units}")).collect::<Vec<_>>().join(" ");
    let stock = effects.stock.iter().map(|effect| match effect {
        StockEffect::Keep { committed: false, items: kept } => format!("reserve {}", items(kept)),
        StockEffect::Keep { committed: true, items: kept } => format!("keep committed {}", items(kept)),
        StockEffect::Commit { skus } => {
            format!("commit {}", skus.iter().map(SkuId::as_str).collect::<Vec<_>>().join(" "))
        }
        StockEffect::Free { items: freed } => format!("free {}", items(freed)),
        StockEffect::Ship { items: shipped } => format!("ship {}", items(shipped)),
    });
    let timers = effects.timers.iter().map(|(kind, due)| {
        let name = if *kind == TimerKind::PaymentDeadline { "deadline" } else { "clock" };
        match due {
            Some(due) => format!("{name} +{}", due.since(at(0)).as_secs()),
            None => format!("{name} off"),
        }
    });
    stock.chain(timers).collect::<Vec<_>>().join("; ")
}

fn action(order: &Order, words: &[&str]) -> (Operator, OrderAction) {
    let parts = |words: &[&str]| -> Vec<(u32, Quantity)> {
        let part = |word: &&str| word.split_once(':').map(|(line, units)| (number(line), Quantity(number(units))));
        words.iter().map(|word| part(word).unwrap_or_else(|| panic!("{word} is no line:units"))).collect()
    };
    let fulfilment = |digits: &str| FulfilmentId { order: order.id, number: number(digits) };
    let outcome = |digits: &str, rest: &[&str], state| {
        let refund = RefundId { order: order.id, number: number(digits) };
        let occurred_at = rest.iter().find_map(|word| word.strip_prefix("told=")).map(|seconds| at(number(seconds)));
        (Operator::Provider, OrderAction::RefundOutcome { refund, state, occurred_at })
    };
    match words {
        ["pay", _, state, amount, rest @ ..] => {
            let id = |id: &str| ProviderPaymentId::new(id).expect("a test's payment id is valid");
            let mut told = PaymentTold::new(id(words[1]), payment_state(state), Money(number(amount)), order.currency);
            for word in rest {
                match word.split_once('=') {
                    None => told.currency = Currency::new(word).expect("a currency"),
                    Some(("part", part)) => told.part = Some(id(part)),
                    Some(("by", provider)) => told.provider = Provider::new(provider).expect("a provider"),
                    Some(("told", seconds)) => told.occurred_at = Some(at(number(seconds))),
                    _ => panic!("no such word of a payment: {word}"),
                }
            }
            (Operator::Provider, OrderAction::Pay(told))
        }
        ["cancel", reason, lines @ ..] => {
            let (operator, reason) = cancel_reason(reason);
            (operator, OrderAction::Cancel { reason, note: None, lines: parts(lines) })
        }
        ["pick-at", warehouse] => {
            let warehouse = WarehouseId::new(warehouse).expect("a test's warehouse is valid");
            (Operator::Merchant, OrderAction::Pick { lines: Vec::new(), warehouse })
        }
        ["pick", lines @ ..] => {
            (Operator::Merchant, OrderAction::Pick { lines: parts(lines), warehouse: WarehouseId::default() })
        }
        ["ship", digits] => {
            let (carrier, tracking) = (Some(text("RM")), Some(text("T-1")));
            (Operator::Merchant, OrderAction::Ship { fulfilment: fulfilment(digits), carrier, tracking })
        }
        ["unpick", digits] => (Operator::Merchant, OrderAction::Unpick { fulfilment: fulfilment(digits) }),
        ["deliver", digits] => (Operator::Merchant, OrderAction::Deliver { fulfilment: fulfilment(digits) }),
        ["deliver-of-another-order", digits] => {
            let fulfilment = FulfilmentId { order: OrderId(1), number: number(digits) };
            (Operator::Merchant, OrderAction::Deliver { fulfilment })
        }
        ["complete"] => (Operator::Merchant, OrderAction::Complete),
        ["refund", rest @ ..] => (Operator::Merchant, OrderAction::Refund(refund_asked(rest))),
        ["refund-requested", digits, rest @ ..] => outcome(digits, rest, RefundState::Requested),
        ["refund-succeeded", digits, rest @ ..] => outcome(digits, rest, RefundState::Succeeded),
        ["refund-failed", digits, rest @ ..] => outcome(digits, rest, RefundState::Failed),
        _ => panic!("no such step: {words:?}"),
    }
}

fn refund_asked(words: &[&str]) -> RefundAsked {
    let mut asked = RefundAsked::default();
    for word in words {
        match word.split_once(['=', ':']) {
            None => asked.amount = Some(Money(number(word))),
            Some(("carriage", amount)) => asked.carriage = Money(number(amount)),
            Some(("tax", amount)) => asked.tax = Money(number(amount)),
            Some(("to", id)) => {
                let provider_payment_id = ProviderPaymentId::new(id).expect("a test's payment id is valid");
                asked.purse = Some(Purse { provider: Provider::default(), provider_payment_id });
            }
            Some((line, units)) => asked.lines.push((number(line), Quantity(number(units)))),
        }
    }
    asked
}

fn payment_state(word: &str) -> PaymentState {
    match word {
        "processing" => PaymentState::Processing,
        "authorized" => PaymentState::Authorized,
        "captured" => PaymentState::Captured,
        "failed" => PaymentState::Failed,
        "voided" => PaymentState::Voided,
        "expired" => PaymentState::Expired,
        "capture_failed" => PaymentState::CaptureFailed,
        "disputed" => PaymentState::Disputed,
        "dispute_won" => PaymentState::DisputeWon,
        "dispute_lost" => PaymentState::DisputeLost,
        _ => panic!("no such payment state: {word}"),
    }
}

fn cancel_reason(word: &str) -> (Operator, CancelReason) {
    match word {
        "user" => (Operator::User, CancelReason::User),
        "merchant" => (Operator::Merchant, CancelReason::Merchant),
        "risk" => (Operator::Merchant, CancelReason::Risk),
        "timeout" => (Operator::User, CancelReason::Timeout),
        "shortfall" => (Operator::User, CancelReason::Shortfall),
        _ => panic!("no such reason: {word}"),
    }
}

/// A row of a table of transitions: the order, the steps before, the step, and what it must come to.
pub(super) struct Row {
    pub(super) order: &'static str,
    pub(super) given: &'static str,
    pub(super) when: &'static str,
    pub(super) words: &'static str,
    pub(super) events: &'static str,
    pub(super) effects: &'static str,
}

/// Checks a table: (order, given, when, words or refusal, events, effects).
pub(super) fn check_table(rows: &[(&'static str, &'static str, &'static str, &'static str, &'static str, &'static str)]) {
    for &(order, given, when, words, events, effects) in rows {
        check_row(&Row { order, given, when, words, events, effects });
    }
}

fn check_row(row: &Row) {
    let told = Play::new(row.order, row.given).told(row.when);
    assert_eq!(told, [row.words, row.events, row.effects], "{} | {} | {}", row.order, row.given, row.when);
}

/// Checks a table of refusals: (order, given, when, refusal). Each must leave the order as it was.
pub(super) fn check_refusals(rows: &[(&'static str, &'static str, &'static str, &'static str)]) {
    for &(order, given, when, words) in rows {
        check_row(&Row { order, given, when, words, events: "", effects: "" });
    }
}

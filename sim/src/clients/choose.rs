//! What a client does next.

use std::time::Duration;

use ordergrid_api::wire::{
    AdjustStock, CancelOrder, LineUnits, Order, PayOrder, PickOrder, PlaceLine, PlaceOrder, ReceiveStock, RefundOrder,
    RefundOutcome, ShipFulfilment,
};
use ordergrid_domain::order::{CancelReason, FulfilmentState, PaymentState, RefundState, Terms};
use ordergrid_domain::{Currency, ProviderPaymentId, SkuId, UserId};

use super::Record;
use crate::dice::Dice;
use crate::history::Ask;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Place an order.
    Place,
    /// Place several in one request.
    PlaceBatch,
    /// Tell of a payment.
    Pay,
    /// Cancel all or a part.
    Cancel,
    /// Start a parcel.
    Pick,
    /// Ship, deliver or take back a parcel.
    MoveParcel,
    /// Complete by hand.
    Complete,
    /// Ask for a refund, or tell how one ended.
    Refund,
    /// Receive or adjust stock.
    Stock,
    /// Read an order, its history, a SKU or a user.
    Read,
    /// Ask again what was asked before, as a client does that forgot the answer.
    Repeat,
    /// Use a key again for something else.
    MisuseKey,
    /// Have the laws proven, in the middle of it all.
    Verify,
}

/// How clients behave.
#[derive(Clone, Debug)]
pub struct Mix {
    /// How many there are.
    pub clients: u32,
    /// Pause before each operation, at least and at most.
    pub pause: (Duration, Duration),
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// Users that buy.
    pub users: u64,
    /// SKUs that are sold.
    pub skus: u64,
    /// Purchases of the first SKU, in a hundred.
    pub hot_percent: u64,
    /// Most lines of an order.
    pub lines: u64,
    /// Most units of a line.
    pub units: u64,
    /// Seconds to pay, at least and at most.
    pub window: (u64, u64),
    /// Orders on invoice or on delivery, in a hundred.
    pub owed_percent: u64,
    /// Times an operation is asked at most.
    pub attempts: u32,
    /// Ask again when the end is open, in a hundred.
    pub retry_percent: u64,
    /// Go away before the answer, in a hundred.
    pub abandon_percent: u64,
    /// What is done, and how often.
    pub weights: Vec<(Action, u64)>,
}

impl Mix {
    pub(super) fn think(&self, dice: &mut Dice) -> Duration {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(dice.between(ms(self.pause.0), ms(self.pause.1)))
    }

    /// The SKUs, the hot one first.
    #[must_use]
    pub fn sku(&self, number: u64) -> SkuId {
        SkuId::new(format!("s{number}")).expect("short and plain")
    }

    fn drawn_sku(&self, dice: &mut Dice) -> SkuId {
        let number = if dice.percent(self.hot_percent) { 0 } else { dice.below(self.skus) };
        self.sku(number)
    }

    /// The buyers.
    #[must_use]
    pub fn user(&self, number: u64) -> UserId {
        UserId::new(format!("u{number}")).expect("short and plain")
    }
}

/// What is asked next; `None` when what was drawn makes no sense yet.
pub(super) fn next(mix: &Mix, dice: &mut Dice, record: &Record) -> Option<Ask> {
    let all: u64 = mix.weights.iter().map(|(_, weight)| weight).sum();
    let mut drawn = dice.below(all.max(1));
    let action = mix.weights.iter().find(|(_, weight)| {
        let here = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        here
    });
    match action?.0 {
        Action::Place => Some(Ask::Place(record.key(), Box::new(order(mix, dice)))),
        Action::PlaceBatch => Some(Ask::PlaceBatch(batch(mix, dice, record))),
        Action::Pay => pay(dice, record),
        Action::Cancel => cancel(dice, record),
        Action::Pick => pick(dice, record),
        Action::MoveParcel => move_parcel(dice, record),
        Action::Complete => Some(Ask::Complete(record.key(), some_order(dice, record)?.id)),
        Action::Refund => refund(dice, record),
        Action::Stock => Some(stock(mix, dice, record)),
        Action::Read => read(mix, dice, record),
        Action::Repeat => repeat(dice, record),
        Action::MisuseKey => misuse(mix, dice, record),
        Action::Verify => Some(Ask::Verify),
    }
}

fn order(mix: &Mix, dice: &mut Dice) -> PlaceOrder {
    let lines = (0..dice.between(1, mix.lines)).map(|_| PlaceLine {
        sku: mix.drawn_sku(dice),
        quantity: dice.between(1, mix.units),
        unit_price: i64::try_from(dice.between(1, 5_000)).expect("small"),
        discount: 0,
        tax: 0,
    });
    let lines = lines.collect();
    let mut order = PlaceOrder::new(mix.user(dice.below(mix.users)), Currency::new("GBP").expect("a currency"), lines);
    if dice.percent(mix.owed_percent) {
        order.terms = if dice.percent(50) { Terms::Invoice } else { Terms::OnDelivery };
    } else {
        order.payment_window_seconds = Some(dice.between(mix.window.0, mix.window.1));
    }
    order
}

fn batch(mix: &Mix, dice: &mut Dice, record: &Record) -> Vec<PlaceOrder> {
    let many = dice.between(2, 20);
    (0..many).map(|_| PlaceOrder { idempotency_key: Some(record.key()), ..order(mix, dice) }).collect()
}

/// An order that somebody knows, rather a new one.
fn some_order(dice: &mut Dice, record: &Record) -> Option<Order> {
    let known = record.known();
    let count = known.orders.len() as u64;
    if count == 0 {
        return None;
    }
    let back = if dice.percent(80) { dice.below(count.min(20)) } else { dice.below(count) };
    known.orders.values().nth_back(usize::try_from(back).expect("orders are in memory")).cloned()
}

fn pay(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let order = some_order(dice, record)?;
    let status = match dice.below(28) {
        0 | 1 => PaymentState::Failed,
        2 => PaymentState::Processing,
        3 | 4 => PaymentState::Authorized,
        5 => PaymentState::Voided,
        6 => PaymentState::CaptureFailed,
        7 => PaymentState::Disputed,
        8 => PaymentState::DisputeWon,
        9 => PaymentState::DisputeLost,
        _ => PaymentState::Captured,
    };
    let amount = match dice.below(10) {
        0 => (order.total / 2).max(1),
        1 => order.total + 1,
        _ => order.due.max(1),
    };
    // The provider tells of the same payment more than once, and of another one now and then.
    let attempt = dice.below(3);
    let provider_payment_id = ProviderPaymentId::new(format!("p{}-{attempt}", order.id)).expect("short and plain");
    Some(Ask::Pay(record.key(), order.id, PayOrder::new(provider_payment_id, status, amount, order.currency)))
}

fn cancel(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let order = some_order(dice, record)?;
    let reason = *dice.pick(&[CancelReason::User, CancelReason::Merchant, CancelReason::Risk]);
    let lines = dice.percent(40).then(|| part(dice, &order));
    Some(Ask::Cancel(record.key(), order.id, CancelOrder { reason, operator: None, note: None, lines }))
}

fn part(dice: &mut Dice, order: &Order) -> Vec<LineUnits> {
    let line = dice.pick(&order.lines);
    vec![LineUnits { line: line.line, quantity: dice.between(1, line.ordered.max(1)) }]
}

fn pick(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let order = some_order(dice, record)?;
    let lines = dice.percent(40).then(|| part(dice, &order));
    Some(Ask::Pick(record.key(), order.id, PickOrder { lines, warehouse: None }))
}

fn move_parcel(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let order = some_order(dice, record)?;
    if order.fulfilments.is_empty() {
        return None;
    }
    let parcel = dice.pick(&order.fulfilments);
    let key = record.key();
    Some(match parcel.status {
        FulfilmentState::Picking if dice.percent(25) => Ask::Unpick(key, parcel.id),
        FulfilmentState::Picking => Ask::Ship(key, parcel.id, ShipFulfilment::default()),
        _ => Ask::Deliver(key, parcel.id),
    })
}

fn refund(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let order = some_order(dice, record)?;
    let key = record.key();
    if !order.refunds.is_empty() && dice.percent(60) {
        let refund = dice.pick(&order.refunds).id;
        let status = if dice.percent(80) { RefundState::Succeeded } else { RefundState::Failed };
        return Some(Ask::RefundOutcome(key, refund, RefundOutcome::new(status)));
    }
    let whole = dice.percent(40);
    let (amount, lines) = if whole {
        (Some((order.captured - order.refunded - order.disputed).max(1)), None)
    } else {
        (None, Some(part(dice, &order)))
    };
    Some(Ask::Refund(key, order.id, RefundOrder { amount, lines, ..RefundOrder::default() }))
}

fn stock(mix: &Mix, dice: &mut Dice, record: &Record) -> Ask {
    let (key, sku) = (record.key(), mix.drawn_sku(dice));
    if dice.percent(60) {
        return Ask::Receive(key, sku, ReceiveStock { quantity: dice.between(1, 20), warehouse: None });
    }
    let units = i64::try_from(dice.between(1, 8)).expect("small");
    let delta = if dice.percent(80) { -units } else { units };
    Ask::Adjust(key, sku, AdjustStock { delta, reason: None, warehouse: None })
}

fn read(mix: &Mix, dice: &mut Dice, record: &Record) -> Option<Ask> {
    match dice.below(10) {
        0..4 => Some(Ask::ReadSku(mix.drawn_sku(dice))),
        4 => Some(Ask::ReadHistory(some_order(dice, record)?.id)),
        5 => Some(Ask::ReadUser(mix.user(dice.below(mix.users)))),
        _ => Some(Ask::ReadOrder(some_order(dice, record)?.id)),
    }
}

/// One of the last hundred writes, once more, word by word.
fn repeat(dice: &mut Dice, record: &Record) -> Option<Ask> {
    let known = record.known();
    let last = known.history.operations.len();
    let from = last.saturating_sub(100);
    let asked = &known.history.operations.get(from..last).filter(|some| !some.is_empty())?[dice.index(last - from)].ask;
    (!matches!(asked, Ask::Status | Ask::Verify)).then(|| asked.clone())
}

/// The key of an earlier order with another body.
fn misuse(mix: &Mix, dice: &mut Dice, record: &Record) -> Option<Ask> {
    let Ask::Place(key, first) = repeat(dice, record)? else { return None };
    let other = PlaceOrder { user_id: first.user_id.clone(), ..order(mix, dice) };
    Some(Ask::Place(key, Box::new(other)))
}

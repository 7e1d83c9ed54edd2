//! Tests of the machine: one file per subject. Here is what they share.

mod audit;
mod golden;
mod history;
mod mailbox;
mod orders;
mod place;
mod reads;
mod reconcile;
mod repair;
mod stock;
mod store;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use super::{MissingRows, ShardConfig, ShardMachine, SlotOwners};
use crate::command::{
    Command, Deliver, Entry, Hold, OrderAction, OrderCommand, OrderRequest, Outcome, PaymentTold, Place, Position, RefundAsked,
    Release, SkuAction, SkuCommand,
};
use crate::ids::{AttemptId, GroupId, Key, OrderId, ProviderPaymentId, SkuId, Text, UserId, WarehouseId};
use crate::money::{Currency, Money, Quantity};
use crate::order::{CancelReason, LineRequest, Operator, Order, PaymentState, Terms};
use crate::rejection::Rejection;
use crate::sku::Sku;
use crate::time::Timestamp;

/// Where the tests' clocks start: some time in 2026.
const START: u64 = 1_790_000_000_000;

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(START + ms)
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn text(content: &str) -> Text {
    Text::new(content).unwrap()
}

/// The groups of a grid of `count` shards.
fn groups(count: u32) -> Vec<GroupId> {
    (1..=count).map(GroupId).collect()
}

/// The nth SKU that lives in a shard.
pub(crate) fn sku_of(shard: &ShardMachine, n: usize) -> SkuId {
    let ids = (0..).map(|i| SkuId::new(format!("sku-{i}")).unwrap());
    ids.filter(|id| shard.owner(id.slot()) == Some(shard.shard())).nth(n).unwrap()
}

/// The nth user who lives in a shard.
pub(crate) fn user_of(shard: &ShardMachine, n: usize) -> UserId {
    let ids = (0..).map(|i| UserId::new(format!("user-{i}")).unwrap());
    ids.filter(|id| shard.owner(id.slot()) == Some(shard.shard())).nth(n).unwrap()
}

/// A shard with a log: entries of term 1, one after the other.
pub(crate) struct Shard {
    pub(crate) machine: ShardMachine,
    index: u64,
    term: u64,
    now: Timestamp,
    counter: u64,
    log: Vec<(Position, Entry)>,
}

impl Shard {
    /// Shard `id` of `count`.
    pub(crate) fn of(id: u32, count: u32) -> Self {
        let config = ShardConfig::new(GroupId(id), SlotOwners::even(&groups(count)));
        Self { machine: ShardMachine::new(config), index: 0, term: 1, now: at(0), counter: 0, log: Vec::new() }
    }

    /// The only shard.
    fn alone() -> Self {
        Self::of(1, 1)
    }

    fn run(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        self.index += 1;
        let entry = Entry { at: self.now, commands };
        let position = Position { term: self.term, index: self.index };
        assert_eq!(self.machine.missing_timers(&entry), None, "timers are missing");
        self.machine.warm(&entry);
        assert_eq!(self.machine.missing(&entry, &|_| true), MissingRows::default(), "rows are missing");
        let outcomes = self.machine.apply(position, &entry);
        self.log.push((position, entry));
        outcomes
    }

    pub(crate) fn one(&mut self, command: Command) -> Outcome {
        self.run(vec![command]).pop().unwrap()
    }

    fn attempt(&mut self, user: &UserId) -> AttemptId {
        self.counter += 1;
        AttemptId { slot: user.slot(), group: self.machine.shard(), term: self.term, counter: self.counter }
    }

    /// A SKU of this shard with stock.
    pub(crate) fn stocked(&mut self, n: usize, units: u64) -> SkuId {
        let id = sku_of(&self.machine, n);
        self.one(put(&id));
        if units > 0 {
            self.one(receive(&id, &format!("stock-{n}"), units));
        }
        id
    }

    /// Places an order of local SKUs.
    pub(crate) fn place_local(&mut self, request: OrderRequest) -> Outcome {
        let attempt = self.attempt(&request.user);
        self.one(Command::PlaceLocal(Box::new(Place { attempt, request: request.into(), names: Vec::new() })))
    }

    /// An order of the first user.
    fn ordered(&mut self, name: &str, lines: &[(&SkuId, u64)]) -> Order {
        let user = user_of(&self.machine, 0);
        placed(self.place_local(request(&user, name, lines)))
    }

    fn sku(&self, id: &SkuId) -> Sku {
        found(self.machine.sku(id))
    }

    fn order(&self, id: OrderId) -> Order {
        found(self.machine.order(id))
    }

    /// Buckets of the only warehouse: on hand, reserved, committed, sold.
    fn buckets(&self, id: &SkuId) -> [u64; 4] {
        let sku = self.sku(id);
        let buckets = sku.stock[0].1;
        [buckets.on_hand.0, buckets.reserved.0, buckets.committed.0, buckets.sold.0]
    }
}

fn found<T: std::fmt::Debug>(lookup: super::Lookup<T>) -> T {
    match lookup {
        super::Lookup::Found(value) => value,
        other => panic!("expected to find it, got {other:?}"),
    }
}

fn placed(outcome: Outcome) -> Order {
    match outcome {
        Outcome::Placed { order, .. } => Arc::unwrap_or_clone(order),
        other => panic!("expected an order, got {other:?}"),
    }
}

fn rejection(outcome: Outcome) -> Rejection {
    match outcome {
        Outcome::Rejected(rejection) => rejection,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

pub(crate) fn request(user: &UserId, name: &str, lines: &[(&SkuId, u64)]) -> OrderRequest {
    let line = |&(sku, units): &(&SkuId, u64)| LineRequest {
        sku: sku.clone(),
        quantity: Quantity(units),
        unit_price: Money(100),
        discount: Money::ZERO,
        tax: Money::ZERO,
    };
    OrderRequest {
        user: user.clone(),
        key: key(name),
        body_hash: 1,
        reference: None,
        currency: Currency::new("GBP").unwrap(),
        lines: lines.iter().map(line).collect(),
        discount: Money::ZERO,
        shipping_fee: Money::ZERO,
        total: None,
        terms: Terms::Prepaid,
        payment_method: None,
        payment_window: Duration::from_secs(900),
        ship_to: None,
        metadata: Vec::new(),
    }
}

fn put(sku: &SkuId) -> Command {
    let action = SkuAction::Put { name: text(&format!("name of {sku}")) };
    Command::Sku(Box::new(SkuCommand { sku: sku.clone(), key: None, body_hash: 0, expect_version: None, action }))
}

fn receive(sku: &SkuId, name: &str, units: u64) -> Command {
    sku_command(sku, name, SkuAction::Receive { warehouse: WarehouseId::default(), quantity: Quantity(units) })
}

fn adjust(sku: &SkuId, name: &str, delta: i64) -> Command {
    sku_command(sku, name, SkuAction::Adjust { warehouse: WarehouseId::default(), delta, reason: None })
}

fn sku_command(sku: &SkuId, name: &str, action: SkuAction) -> Command {
    let command = SkuCommand { sku: sku.clone(), key: Some(key(name)), body_hash: 1, expect_version: None, action };
    Command::Sku(Box::new(command))
}

fn hold(attempt: AttemptId, sku: &SkuId, units: u64, valid_until: Timestamp) -> Command {
    Command::Hold(Hold { attempt, sku: sku.clone(), quantity: Quantity(units), valid_until })
}

fn release(attempt: AttemptId, sku: &SkuId, valid_until: Timestamp) -> Command {
    Command::Release(Release { attempt, skus: vec![sku.clone()], valid_until })
}

fn act(order: OrderId, name: &str, action: OrderAction) -> Command {
    Command::Order(Box::new(OrderCommand {
        order,
        key: key(name),
        body_hash: 1,
        expect_version: None,
        operator: Operator::Merchant,
        action,
    }))
}

fn pay(amount: Money) -> OrderAction {
    let id = ProviderPaymentId::new("pi_1").unwrap();
    OrderAction::Pay(PaymentTold::new(id, PaymentState::Captured, amount, Currency::new("GBP").unwrap()))
}

fn cancel() -> OrderAction {
    OrderAction::Cancel { reason: CancelReason::User, note: None, lines: Vec::new() }
}

fn pick() -> OrderAction {
    OrderAction::Pick { lines: Vec::new(), warehouse: WarehouseId::default() }
}

/// Everything that `from` has for `to` and that `to` has not applied, as one run.
fn run_between(from: &Shard, to: &Shard) -> Option<Deliver> {
    let first = to.machine.high(from.machine.shard()) + 1;
    from.machine.outbox(to.machine.shard(), first, usize::MAX, usize::MAX).unwrap()
}

/// Delivers and trims until nothing is under way between two shards.
fn settle(a: &mut Shard, b: &mut Shard) {
    loop {
        let moved = carry(a, b) | carry(b, a);
        if !moved {
            return;
        }
    }
}

fn carry(from: &mut Shard, to: &mut Shard) -> bool {
    let Some(run) = run_between(from, to) else { return false };
    let source = run.from;
    assert!(matches!(to.one(Command::Deliver(run)), Outcome::Delivered { .. }));
    let high = to.machine.high(source);
    assert_eq!(from.one(Command::Trim { to: to.machine.shard(), high }), Outcome::Done);
    true
}

/// Runs a command that must be refused, and checks that nothing changed (RefusedMeansNothing).
fn check_refused(shard: &mut Shard, case: &str, command: Command, expected: Rejection) {
    let before = (shard.machine.state_hash(), shard.machine.counters());
    assert_eq!(rejection(shard.one(command)), expected, "{case}");
    assert_eq!((shard.machine.state_hash(), shard.machine.counters()), before, "{case}: a refusal changed something");
    shard.machine.check();
}

//! A shop and the entries that it takes: what the benches measure.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::command::{
    Hold, OrderAction, OrderCommand, OrderRequest, PaymentTold, Place, Position, SkuAction, SkuCommand,
};
use ordergrid_domain::order::{LineRequest, Operator, PaymentState, Terms};
use ordergrid_domain::{
    AttemptId, Command, Currency, Entry, GroupId, Key, Money, Order, Outcome, ProviderPaymentId, Quantity, ShardConfig,
    ShardMachine, SkuId, Slot, SlotOwners, Text, Timestamp, UserId, WarehouseId,
};

/// The one shard.
const SHARD: GroupId = GroupId(1);
/// SKUs on sale.
const SKUS: u64 = 1_000;
/// Commands in an entry.
pub(crate) const COMMANDS: u64 = 100;

/// A shard with goods, and what comes next.
pub(crate) struct Shop {
    machine: ShardMachine,
    index: u64,
    orders: u64,
}

impl Shop {
    /// Every SKU has more units than anybody can buy.
    pub(crate) fn new() -> Self {
        let slot = |number| Slot::new(number).expect("below 4,096");
        let owners = SlotOwners::from_ranges(&[(SHARD, slot(0), slot(4_095))]);
        let mut shop = Self { machine: ShardMachine::new(ShardConfig::new(SHARD, owners)), index: 0, orders: 0 };
        let stock = |n| {
            let name = Text::new(format!("name of {n}")).expect("short");
            let put =
                SkuCommand { sku: sku(n), key: None, body_hash: 0, expect_version: None, action: SkuAction::Put { name } };
            let receive = SkuAction::Receive { warehouse: WarehouseId::default(), quantity: Quantity(1_000_000_000) };
            let receive = SkuCommand { action: receive, key: Some(key(n)), ..put.clone() };
            [put, receive].map(|command| Command::Sku(Box::new(command)))
        };
        let entry = shop.entry((0..SKUS).flat_map(stock).collect());
        shop.apply(&entry);
        shop
    }

    /// Orders of so many lines, whose SKUs all live here.
    pub(crate) fn places(&mut self, lines: u64) -> Entry {
        let commands = (0..COMMANDS).map(|_| self.place(lines)).collect();
        self.entry(commands)
    }

    /// Holds of one SKU for orders that live elsewhere.
    pub(crate) fn holds(&mut self) -> Entry {
        let commands = (0..COMMANDS).map(|_| {
            self.orders += 1;
            let attempt = AttemptId { slot: sku(7).slot(), group: GroupId(2), term: 1, counter: self.orders };
            Command::Hold(Hold { attempt, sku: sku(7), quantity: Quantity(1), valid_until: Timestamp::from_ms(u64::MAX >> 8) })
        });
        let commands = commands.collect();
        self.entry(commands)
    }

    /// Applies an entry; tells the number of outcomes.
    pub(crate) fn apply(&mut self, entry: &Entry) -> usize {
        self.index += 1;
        self.machine.apply(Position { term: 1, index: self.index }, entry).len()
    }

    /// Orders of so many lines, from being placed to being delivered; tells the number of outcomes.
    pub(crate) fn lives(&mut self, lines: u64) -> usize {
        let places = self.places(lines);
        self.index += 1;
        let outcomes = self.machine.apply(Position { term: 1, index: self.index }, &places);
        let placed: Vec<Arc<Order>> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Placed { order, .. } => order,
                other => panic!("there is enough of everything: {other:?}"),
            })
            .collect();
        type Step = (&'static str, fn(&Order) -> OrderAction);
        let steps: [Step; 4] = [
            ("pay", |order| {
                let id = ProviderPaymentId::new(format!("pi-{}", order.id)).expect("short");
                OrderAction::Pay(PaymentTold::new(id, PaymentState::Captured, order.total, order.currency))
            }),
            ("pick", |_| OrderAction::Pick { lines: Vec::new(), warehouse: WarehouseId::default() }),
            ("ship", |order| OrderAction::Ship { fulfilment: order.fulfilment_id(1), carrier: None, tracking: None }),
            ("deliver", |order| OrderAction::Deliver { fulfilment: order.fulfilment_id(1) }),
        ];
        let mut done = placed.len();
        for (name, action) in steps {
            let command = |order: &Arc<Order>| {
                let key = Key::new(format!("{}-{name}", order.key)).expect("short");
                let (order, action) = (order.id, action(order));
                let operator = Operator::Merchant;
                Command::Order(Box::new(OrderCommand { order, key, body_hash: 1, expect_version: None, operator, action }))
            };
            let entry = self.entry(placed.iter().map(command).collect());
            done += self.apply(&entry);
        }
        done
    }

    /// A checkpoint; tells the number of rows.
    pub(crate) fn checkpoint(&mut self) -> usize {
        let mut rows = 0;
        self.machine.checkpoint_at_once(&mut |_, _| rows += 1);
        self.machine.checkpoint_durable();
        self.machine.evict_timers(usize::MAX);
        rows
    }

    fn entry(&self, commands: Vec<Command>) -> Entry {
        Entry { at: Timestamp::from_ms(1_767_225_600_000 + self.index), commands }
    }

    fn place(&mut self, lines: u64) -> Command {
        self.orders += 1;
        let n = self.orders;
        let user = UserId::new(format!("user-{}", n % 100_000)).expect("short");
        let line = |line| LineRequest {
            sku: sku((n * 7 + line * 331) % SKUS),
            quantity: Quantity(1),
            unit_price: Money(1_999),
            discount: Money::ZERO,
            tax: Money::ZERO,
        };
        let request = OrderRequest {
            key: key(n),
            body_hash: n,
            reference: None,
            currency: Currency::new("EUR").expect("a currency"),
            lines: (0..lines).map(line).collect(),
            discount: Money::ZERO,
            shipping_fee: Money::ZERO,
            total: None,
            terms: Terms::Prepaid,
            payment_method: None,
            payment_window: Duration::from_secs(900),
            ship_to: None,
            metadata: Vec::new(),
            user: user.clone(),
        };
        let attempt = AttemptId { slot: user.slot(), group: SHARD, term: 1, counter: n };
        Command::PlaceLocal(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
    }
}

fn sku(n: u64) -> SkuId {
    SkuId::new(format!("sku-{n}")).expect("short")
}

fn key(n: u64) -> Key {
    Key::new(format!("0190a8b4-7c1e-7{:03x}-8000-{n:012x}", n % 4_096)).expect("short")
}

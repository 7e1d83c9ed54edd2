//! Histories made by hand for the judges' tests: a shop of one machine that never fails answers every call at once, so that
//! what it says is right; a test then bends one answer.

mod commands;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::wire::{
    AdjustStock, BatchResult, CancelOrder, ClockRepair, ClusterClock, ClusterStatus, Fulfilment, FulfilmentChanged, Health,
    InFlight, LawReport, NodeStatus, Order, PayOrder, PickOrder, PlaceLine, PlaceOrder, Problem, PutSku, ReceiveStock,
    Reconciliation, RefundOrder, RefundOutcome, ShipFulfilment, Sku, StatusHistory, UserOrders, VerifyReport, WireText,
};
use ordergrid_domain::command::{
    Created, OrderAction, OrderCommand, OrderRequest, PaymentTold, Place, Position, RefundAsked, SkuAction, SkuCommand,
};
use ordergrid_domain::order::{CancelReason, LineRequest, PaymentState, RefundState};
use ordergrid_domain::{
    AttemptId, Command, Currency, Entry, FulfilmentId, GroupId, Key, Lookup, Money, OrderId, Outcome, ProviderPaymentId,
    Quantity, RefundId, Rejection, ShardConfig, ShardMachine, SkuId, SlotOwners, Text, Timestamp, UserId, WarehouseId,
};

use super::evidence::book::{Book, FINAL_CLIENT, Setting};
use super::evidence::standard::Standard;
use crate::chronicle::reference::Version;
use crate::history::{Ask, Ending, History, Operation, Said, Seen, SimTime};
use crate::verdict::Violation;
use commands::command;

const GROUP: GroupId = GroupId(1);
/// What the shop's clock said at the beginning.
pub(crate) const EPOCH: Timestamp = Timestamp::from_ms(1_800_000_000_000);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a test's key is valid")
}

pub(crate) fn sku(text: &str) -> SkuId {
    SkuId::new(text).expect("a test's SKU is valid")
}

pub(crate) fn user(text: &str) -> UserId {
    UserId::new(text).expect("a test's user is valid")
}

fn number<T: std::str::FromStr>(digits: &str) -> T {
    digits.parse().unwrap_or_else(|_| panic!("{digits:?} is no number"))
}

/// `A*6@255 B*2@100`, and `window=60`.
pub(crate) fn body(of: &str, spec: &str) -> PlaceOrder {
    let mut order = PlaceOrder::new(user(of), Currency::new("GBP").expect("valid"), Vec::new());
    for word in spec.split_whitespace() {
        if let Some(seconds) = word.strip_prefix("window=") {
            order.payment_window_seconds = Some(number(seconds));
            continue;
        }
        let (id, rest) = word.split_once('*').expect("SKU*quantity@price");
        let (quantity, price) = rest.split_once('@').expect("SKU*quantity@price");
        let (quantity, unit_price) = (number(quantity), number(price));
        order.lines.push(PlaceLine { sku: sku(id), quantity, unit_price, discount: 0, tax: 0 });
    }
    order
}

/// A step on an order as a call: `pay p captured 1730`, `cancel`, `pick`, `ship 1`, `unpick 1`, `deliver 1`, `complete`,
/// `refund 5`, `refund-succeeded 1`.
pub(crate) fn step(key: Key, order: OrderId, step: &str) -> Ask {
    let parcel = |digits| FulfilmentId { order, number: number(digits) };
    let words: Vec<&str> = step.split_whitespace().collect();
    match words[..] {
        ["pay", id, state, amount] => {
            let status = PaymentState::read(state).expect("a state of a payment");
            let provider_payment_id = ProviderPaymentId::new(id).expect("valid");
            let currency = Currency::new("GBP").expect("valid");
            Ask::Pay(key, order, PayOrder::new(provider_payment_id, status, number(amount), currency))
        }
        ["cancel"] => {
            Ask::Cancel(key, order, CancelOrder { reason: CancelReason::User, operator: None, note: None, lines: None })
        }
        ["complete"] => Ask::Complete(key, order),
        ["pick"] => Ask::Pick(key, order, PickOrder::default()),
        ["ship", at] => Ask::Ship(key, parcel(at), ShipFulfilment::default()),
        ["unpick", at] => Ask::Unpick(key, parcel(at)),
        ["deliver", at] => Ask::Deliver(key, parcel(at)),
        ["refund", amount] => Ask::Refund(key, order, RefundOrder { amount: Some(number(amount)), ..RefundOrder::default() }),
        ["refund-succeeded", at] => {
            Ask::RefundOutcome(key, RefundId { order, number: number(at) }, RefundOutcome::new(RefundState::Succeeded))
        }
        _ => panic!("no such step: {step}"),
    }
}

/// One machine that answers, and the record of it.
pub(crate) struct Shop {
    machine: ShardMachine,
    outcomes: BTreeMap<u64, Vec<Outcome>>,
    orders: BTreeMap<OrderId, Vec<Version<ordergrid_domain::Order>>>,
    skus: BTreeMap<SkuId, Vec<Version<ordergrid_domain::Sku>>>,
    index: u64,
    /// The time.
    pub(crate) now: SimTime,
    /// What was asked and answered.
    pub(crate) history: History,
    asked: u64,
}

impl Shop {
    /// With so many units of the SKUs A and B.
    pub(crate) fn with(units: u64) -> Self {
        let machine = ShardMachine::new(ShardConfig::new(GROUP, SlotOwners::even(&[GROUP])));
        let mut shop = Self {
            machine,
            outcomes: BTreeMap::new(),
            orders: BTreeMap::new(),
            skus: BTreeMap::new(),
            index: 0,
            now: SimTime::default(),
            history: History::default(),
            asked: 0,
        };
        for id in ["A", "B"] {
            let name = Text::new(format!("name of {id}")).expect("valid");
            let put = PutSku {
                name,
                backorder_limit: Default::default(),
                purchase_limit: Default::default(),
                safety_stock: Default::default(),
            };
            shop.ask(0, Ask::PutSku(sku(id), put));
            shop.receive(id, units);
        }
        shop
    }

    /// The time passes, and timers fire.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.apply(Command::Tick);
    }

    /// Places an order under a key; the number of the call.
    pub(crate) fn place(&mut self, of: &str, under: &str, spec: &str) -> usize {
        self.ask(1, Ask::Place(key(under), Box::new(body(of, spec))))
    }

    /// Places an order and gives its id.
    pub(crate) fn order(&mut self, of: &str, under: &str, spec: &str) -> OrderId {
        let at = self.place(of, under, spec);
        self.answer(at).id
    }

    /// Does steps, divided by `;`, each under a key of its own; the number of the last call.
    pub(crate) fn steps(&mut self, order: OrderId, steps: &str) -> usize {
        let mut last = 0;
        for one in steps.split(';') {
            self.asked += 1;
            last = self.ask(1, step(key(&format!("step {}", self.asked)), order, one.trim()));
        }
        last
    }

    pub(crate) fn receive(&mut self, id: &str, quantity: u64) -> usize {
        self.asked += 1;
        let under = key(&format!("receive {}", self.asked));
        self.ask(0, Ask::Receive(under, sku(id), ReceiveStock { quantity, warehouse: None }))
    }

    /// The order that a call was answered.
    pub(crate) fn answer(&mut self, at: usize) -> &mut Order {
        match &mut self.history.operations[at].ending {
            Ending::Done { answer, .. } => match &mut **answer {
                Said::Order(order) => order,
                Said::Fulfilment(changed) => &mut changed.order,
                other => panic!("no order: {other:?}"),
            },
            other => panic!("refused: {other:?}"),
        }
    }

    /// The SKU that a call was answered.
    pub(crate) fn answered_sku(&mut self, at: usize) -> &mut Sku {
        match &mut self.history.operations[at].ending {
            Ending::Done { answer, .. } => match &mut **answer {
                Said::Sku(sku) => sku,
                other => panic!("no SKU: {other:?}"),
            },
            other => panic!("refused: {other:?}"),
        }
    }

    /// The answer of a call never came.
    pub(crate) fn lose(&mut self, at: usize) {
        self.history.operations[at].ending = Ending::Unknown("lost".to_owned());
    }

    /// Asks, and the question never arrives.
    pub(crate) fn vanish(&mut self, ask: Ask) {
        let (number, began) = (self.history.operations.len() as u64, self.now);
        let ending = Ending::Unknown("vanished".to_owned());
        self.history.operations.push(Operation { number, client: 1, node: 1, began, ended: Some(began), ask, ending });
    }

    /// A call is refused instead.
    pub(crate) fn refuse(&mut self, at: usize, status: u16, code: &str) {
        self.history.operations[at].ending = Ending::Refused { status, code: code.to_owned(), detail: String::new() };
    }

    /// Asks and is answered; the number of the call.
    pub(crate) fn ask(&mut self, client: u32, ask: Ask) -> usize {
        let began = self.now;
        self.now = self.now.after(Duration::from_millis(1));
        let ending = self.end(&ask);
        self.now = self.now.after(Duration::from_millis(1));
        let ended = Some(self.now);
        self.now = self.now.after(Duration::from_millis(1));
        let number = self.history.operations.len();
        self.history.operations.push(Operation { number: number as u64, client, node: 1, began, ended, ask, ending });
        number
    }

    /// The last reads of all.
    pub(crate) fn finish(&mut self) {
        let book = Book::new(&self.history, Setting::default());
        let orders: Vec<OrderId> = book.known().keys().copied().collect();
        let skus: Vec<SkuId> = book.skus.keys().cloned().collect();
        let users: Vec<UserId> = book.places.keys().map(|(user, _)| user.clone()).collect();
        self.ask(FINAL_CLIENT, Ask::Verify);
        for id in orders {
            self.ask(FINAL_CLIENT, Ask::ReadOrder(id));
            self.ask(FINAL_CLIENT, Ask::ReadHistory(id));
        }
        for id in skus {
            self.ask(FINAL_CLIENT, Ask::ReadSku(id));
        }
        for id in users {
            self.ask(FINAL_CLIENT, Ask::ReadUser(id));
        }
        self.ask(FINAL_CLIENT, Ask::Status);
        self.ask(FINAL_CLIENT, Ask::Verify);
    }

    /// What a judge says.
    pub(crate) fn judged(&self, judge: fn(&Book<'_>) -> Vec<Violation>) -> Vec<String> {
        self.judged_as(judge, setting())
    }

    /// What a judge says who knows this of the history.
    pub(crate) fn judged_as(&self, judge: fn(&Book<'_>) -> Vec<Violation>, setting: Setting) -> Vec<String> {
        judge(&Book::new(&self.history, setting)).iter().map(ToString::to_string).collect()
    }

    fn end(&mut self, ask: &Ask) -> Ending {
        let said = match ask {
            Ask::PlaceBatch(orders) => {
                let results = orders.iter().map(|order| self.batch_result(order)).collect();
                Said::Batch(ordergrid_api::wire::Batch { results })
            }
            Ask::ReadOrder(id) => match self.machine.order(*id) {
                Lookup::Found(order) => Said::Order((&order).into()),
                _ => return refused(404, "no_such_order"),
            },
            Ask::ReadHistory(id) => match self.machine.order(*id) {
                Lookup::Found(order) => Said::History(StatusHistory::from(&order)),
                _ => return refused(404, "no_such_order"),
            },
            Ask::ReadSku(id) => match self.machine.sku(id) {
                Lookup::Found(sku) => Said::Sku(Sku::new(&sku, self.index)),
                _ => return refused(404, "no_such_sku"),
            },
            Ask::ReadUser(of) => {
                let ids: Vec<_> = self.machine.unlisted(of).collect();
                let Lookup::Found(orders) = self.machine.orders(&ids) else { panic!("the shop never forgets") };
                let (orders, total) = (orders.iter().map(Order::from).collect(), Some(ids.len() as u64));
                Said::User(UserOrders { orders, total, next_cursor: None })
            }
            Ask::Status => Said::Status(Box::new(status())),
            Ask::Verify => Said::Verify(Box::new(verified())),
            Ask::AcceptWall => Said::Clock(ClusterClock { nodes: Vec::new() }),
            Ask::RepairClock(_) => Said::Repair(ClockRepair { dry_run: false, shards: Vec::new() }),
            Ask::Reconcile { dry_run } => Said::Reconciled(Reconciliation { dry_run: *dry_run, streams: Vec::new() }),
            _ => {
                let outcome = self.apply(command(ask, self.index));
                return self.ending(ask, outcome);
            }
        };
        let token = Some(Seen { group: GROUP.0, index: self.index });
        Ending::Done { answer: Box::new(said), token, replayed: false }
    }

    fn batch_result(&mut self, order: &PlaceOrder) -> BatchResult {
        let under = order.idempotency_key.clone().expect("an order of a batch has a key");
        let ask = Ask::Place(under, Box::new(order.clone()));
        match self.end(&ask) {
            Ending::Done { answer, replayed, token } => {
                let Said::Order(order) = *answer else { panic!("placing answers an order") };
                let token = token.map(|token| format!("{}:{}", token.group, token.index));
                let order = Some(ordergrid_api::wire::BatchOrder::Whole(Box::new(order)));
                BatchResult { status: 201, replayed, replayed_version: None, token, created: None, order, error: None }
            }
            Ending::Refused { status, code, .. } => {
                let error = Some(Problem { code, status, outcome: "refused".to_owned(), ..Problem::default() });
                BatchResult { status, replayed: false, replayed_version: None, token: None, created: None, order: None, error }
            }
            other => panic!("the shop always answers: {other:?}"),
        }
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let at = EPOCH.after(self.now.since_start());
        let entry = Entry { at, commands: vec![command] };
        let outcomes = self.machine.apply(Position { term: 1, index: self.index }, &entry);
        let outcome = outcomes.last().expect("one command, one outcome").clone();
        self.outcomes.insert(self.index, outcomes);
        self.remember(&outcome);
        outcome
    }

    /// Keeps the states of everything that the entry has changed.
    fn remember(&mut self, outcome: &Outcome) {
        if let Outcome::Placed { order, .. } = outcome {
            self.orders.entry(order.id).or_default();
        }
        if let Outcome::Sku { sku, .. } = outcome {
            self.skus.entry(sku.id.clone()).or_default();
        }
        let index = self.index;
        for (id, versions) in &mut self.orders {
            let Lookup::Found(state) = self.machine.order(*id) else { continue };
            if versions.last().is_none_or(|last| *last.state != state) {
                versions.push(Version { index, state: Arc::new(state) });
            }
        }
        for (id, versions) in &mut self.skus {
            let Lookup::Found(state) = self.machine.sku(id) else { continue };
            if versions.last().is_none_or(|last| *last.state != state) {
                versions.push(Version { index, state: Arc::new(state) });
            }
        }
    }

    fn ending(&self, ask: &Ask, outcome: Outcome) -> Ending {
        let (said, replayed) = match outcome {
            Outcome::Placed { order, replayed } => (Said::Order((&*order).into()), replayed),
            Outcome::Order { order, created: Some(Created::Fulfilment(id)), replayed, version }
                if matches!(ask, Ask::Pick(..)) =>
            {
                let parcel = &order.fulfilments[id.number as usize - 1];
                let fulfilment = Fulfilment::of(&order, parcel);
                let order = Order::changed(&order, None, replayed.then_some(version));
                (Said::Fulfilment(FulfilmentChanged { fulfilment, order }), replayed)
            }
            Outcome::Order { order, created, replayed, version } => {
                (Said::Order(Order::changed(&order, created, replayed.then_some(version))), replayed)
            }
            Outcome::Sku { sku, replayed, version, .. } => {
                let replayed_version = replayed.then_some(version);
                (Said::Sku(Sku { replayed_version, ..Sku::new(&sku, self.index) }), replayed)
            }
            Outcome::Rejected(Rejection::OutOfStock { .. } | Rejection::OutOfStocks(_)) => return refused(409, "out_of_stock"),
            Outcome::Rejected(Rejection::KeyReused) => return refused(422, "idempotency_key_reused"),
            Outcome::Rejected(rejection) => return refused(409, &format!("{rejection}")),
            other => panic!("not asked by clients: {other:?}"),
        };
        let token = Some(Seen { group: GROUP.0, index: self.index });
        Ending::Done { answer: Box::new(said), token, replayed }
    }
}

impl Standard for Shop {
    fn outcomes(&self, _: GroupId, index: u64) -> &[Outcome] {
        self.outcomes.get(&index).map_or(&[], Vec::as_slice)
    }

    fn order_versions(&self, id: OrderId) -> &[Version<ordergrid_domain::Order>] {
        self.orders.get(&id).map_or(&[], Vec::as_slice)
    }

    fn sku_versions(&self, id: &SkuId) -> &[Version<ordergrid_domain::Sku>] {
        self.skus.get(id).map_or(&[], Vec::as_slice)
    }

    fn asked(&self, _: &SkuId) -> Option<&BTreeMap<u64, u64>> {
        None
    }
}

/// Everything is known of the shop.
pub(crate) fn setting() -> Setting {
    Setting {
        one_attempt: true,
        epoch: Some(EPOCH),
        skew: Duration::ZERO,
        behind: Duration::ZERO,
        timer_slack: Duration::from_secs(1),
        memory_budget: Some(1 << 20),
    }
}

/// One order that goes its way.
pub(crate) struct Play {
    shop: Shop,
    id: OrderId,
}

impl Play {
    pub(crate) fn new(of: &str, under: &str, spec: &str) -> Self {
        let mut shop = Shop::with(100);
        let id = shop.order(of, under, spec);
        Self { shop, id }
    }

    pub(crate) fn step(&mut self, step: &str) {
        let at = self.shop.steps(self.id, step);
        self.shop.answer(at);
    }

    pub(crate) fn order(&self) -> Order {
        match self.shop.machine.order(self.id) {
            Lookup::Found(order) => (&order).into(),
            other => panic!("{other:?}"),
        }
    }
}

fn refused(status: u16, code: &str) -> Ending {
    Ending::Refused { status, code: code.to_owned(), detail: String::new() }
}

/// A proof without a flaw.
pub(crate) fn verified() -> VerifyReport {
    let law = |name: &str| LawReport::new(name, Vec::new(), Vec::new());
    VerifyReport {
        ok: true,
        shards: Vec::new(),
        counts: BTreeMap::new(),
        laws: vec![law("NoOversell"), law("AllOrNothing")],
        in_flight: InFlight::default(),
    }
}

fn status() -> ClusterStatus {
    let node = NodeStatus {
        id: 1,
        name: "one".to_owned(),
        zone: "a".to_owned(),
        http: String::new(),
        state: "ok".to_owned(),
        reachable: true,
        leaders: 1,
        replicas: 1,
        lag: Some(0),
        disk_bytes: None,
        resident_bytes: Some(1_000),
        uptime_seconds: None,
        failing: Vec::new(),
        clock: None,
    };
    ClusterStatus {
        cluster: "shop".to_owned(),
        cluster_id: String::new(),
        version: String::new(),
        health: Health::Healthy,
        orders_per_s: None,
        nodes: vec![node],
        shards: Vec::new(),
        stopped_streams: Vec::new(),
    }
}

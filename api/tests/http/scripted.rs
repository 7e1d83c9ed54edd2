//! A grid in memory: orders obey the domain, stock does not run out unless a script says so, and it keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, pending, ready};
use ordergrid_api::grid::{
    Answer, Failure, Grid, OrderChanged, ReadOptions, ReferenceQuery, Reply, SkuChanged, Token, UserOrders, UserOrdersQuery,
};
use ordergrid_api::wire::{
    AcceptClock, AskedRepair, Check, ClockRepair, ClusterClock, ClusterStatus, Health, InFlight, LawReport, NodeClock,
    Reconciliation, RepairState, ShardRepair, StreamReport, StreamState, UnitsFound, VerifyReport,
};
use ordergrid_domain::command::{OrderCommand, OrderRequest, SkuAction, SkuCommand};
use ordergrid_domain::sku::Buckets;
use ordergrid_domain::{AttemptId, GroupId, Key, Order, OrderId, Quantity, Rejection, Sku, SkuId, Text, Timestamp, UserId};

/// When everything happens here: 2026-11-20T14:05:06.007Z.
pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_795_183_506_007);

/// Where everything happens here.
pub(crate) const TOKEN: Token = Token { shard: 3, index: 1_234 };

/// What a script does instead of answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Answers this.
    Fails(Failure),
    /// Never answers.
    Hangs,
    /// Panics.
    Panics,
}

/// What the grid was asked to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Place(Box<OrderRequest>),
    Order(OrderCommand),
    Sku(SkuCommand),
}

#[derive(Debug, Default)]
struct State {
    script: Option<Script>,
    out_of: BTreeMap<SkuId, Quantity>,
    not_ready: bool,
    orders: BTreeMap<OrderId, Order>,
    keys: BTreeMap<(UserId, Key), (u64, OrderId)>,
    skus: BTreeMap<SkuId, Sku>,
    asked: Vec<Asked>,
    reads: Vec<ReadOptions>,
    queries: Vec<UserOrdersQuery>,
    run: Option<usize>,
    many: usize,
}

/// The grid.
#[derive(Debug, Default)]
pub(crate) struct Scripted(Mutex<State>);

impl Scripted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the state")
    }

    /// From now on every question ends like this.
    pub(crate) fn script(&self, script: Script) {
        self.state().script = Some(script);
    }

    /// Of this SKU, orders can have so many units and no more.
    pub(crate) fn runs_out_of(&self, sku: &str, left: u64) {
        self.state().out_of.insert(SkuId::new(sku).expect("a valid SKU"), Quantity(left));
    }

    /// No more than so many orders of a page are answered at once.
    pub(crate) fn gives_runs_of(&self, orders: usize) {
        self.state().run = Some(orders);
    }

    /// One check of readiness does not hold.
    pub(crate) fn is_not_ready(&self) {
        self.state().not_ready = true;
    }

    /// Everything it was asked to change.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// The options of every read.
    pub(crate) fn reads(&self) -> Vec<ReadOptions> {
        self.state().reads.clone()
    }

    /// Every query for a user's orders.
    pub(crate) fn queries(&self) -> Vec<UserOrdersQuery> {
        self.state().queries.clone()
    }

    fn answers<T: Send + 'static>(&self, answer: impl FnOnce(&mut State) -> Reply<T>) -> BoxFuture<'_, Reply<T>> {
        let script = self.state().script.clone();
        match script {
            None => ready(answer(&mut self.state())).boxed(),
            Some(Script::Fails(failure)) => ready(Err(failure)).boxed(),
            Some(Script::Hangs) => pending().boxed(),
            Some(Script::Panics) => async { panic!("scripted") }.boxed(),
        }
    }
}

impl State {
    fn place(&mut self, request: OrderRequest) -> Reply<Arc<Order>> {
        self.asked.push(Asked::Place(Box::new(request.clone())));
        let key = (request.user.clone(), request.key.clone());
        if let Some((body_hash, order)) = self.keys.get(&key) {
            if *body_hash != request.body_hash {
                return Err(Rejection::KeyReused.into());
            }
            let first = Answer::new(Arc::new(self.orders[order].as_placed()), TOKEN);
            return Ok(Answer { replayed: true, ..first });
        }
        let short: Vec<_> = request
            .wanted()
            .into_iter()
            .filter_map(|(sku, asked)| self.out_of.get(&sku).map(|left| (sku, asked, *left)))
            .filter(|(_, asked, left)| asked > left)
            .collect();
        match short.as_slice() {
            [] => {}
            [(sku, asked, available)] => {
                let (sku, asked, available) = (sku.clone(), *asked, *available);
                return Err(Rejection::OutOfStock { sku, asked, available }.into());
            }
            _ => return Err(Rejection::OutOfStocks(short).into()),
        }
        let sequence = u16::try_from(self.orders.len()).expect("few orders");
        let id = OrderId::new(NOW, request.user.slot(), sequence);
        let attempt = AttemptId { slot: request.user.slot(), group: GroupId(3), term: 1, counter: u64::from(sequence) };
        let names: Vec<_> =
            request.lines.iter().map(|line| Text::new(format!("name of {}", line.sku)).expect("short")).collect();
        let (order, _) = Order::place(id, attempt, &request, &names, NOW);
        self.keys.insert(key, (request.body_hash, id));
        self.orders.insert(id, order.clone());
        Ok(Answer::new(Arc::new(order), TOKEN))
    }

    fn command_order(&mut self, command: OrderCommand) -> Reply<OrderChanged> {
        self.asked.push(Asked::Order(command.clone()));
        let order = self.orders.get_mut(&command.order).ok_or(Rejection::NoSuchOrder(command.order))?;
        if let Some(expected) = command.expect_version.filter(|expected| *expected != order.version) {
            return Err(Rejection::StaleVersion { expected, actual: order.version }.into());
        }
        let (created, _) = order.command(command.operator, &command.action, NOW)?;
        let version = order.version;
        Ok(Answer::new(OrderChanged { order: Arc::new(order.clone()), created, version }, TOKEN))
    }

    fn command_sku(&mut self, command: SkuCommand) -> Reply<SkuChanged> {
        self.asked.push(Asked::Sku(command.clone()));
        let created = !self.skus.contains_key(&command.sku);
        let name = Text::new("?").expect("a valid text");
        let sku = self.skus.entry(command.sku.clone()).or_insert_with(|| Sku::new(command.sku, name));
        match command.action {
            SkuAction::Create { .. } if !created => {
                return Err(Rejection::StaleVersion { expected: 0, actual: sku.version }.into());
            }
            SkuAction::Put { name } | SkuAction::Create { name } => sku.name = name,
            SkuAction::Receive { warehouse, quantity } => {
                let buckets = Buckets { on_hand: quantity, received: quantity, ..Buckets::default() };
                sku.stock = vec![(warehouse, buckets)];
            }
            SkuAction::Adjust { delta, .. } => {
                let buckets = &mut sku.stock[0].1;
                buckets.on_hand = Quantity(buckets.on_hand.0.checked_add_signed(delta).expect("small figures"));
                buckets.adjusted += delta;
            }
        }
        sku.version += u64::from(!created);
        let version = sku.version;
        Ok(Answer::new(SkuChanged { sku: Box::new(sku.clone()), created, version }, TOKEN))
    }

    fn orders_of(&mut self, query: UserOrdersQuery) -> UserOrders {
        let before = query.cursor.unwrap_or(OrderId(u64::MAX));
        let matching = || {
            let of_user = self.orders.values().rev().filter(|order| order.user == query.user);
            of_user.filter(|order| query.status.is_none_or(|status| order.status() == status))
        };
        let total = matching().count() as u64;
        let skipped = (query.page as usize - 1) * query.size as usize;
        let mut rest = matching().filter(|order| order.id < before).skip(skipped);
        let most = self.run.unwrap_or(usize::MAX).min(query.size as usize);
        let orders: Vec<_> = rest.by_ref().take(most).cloned().collect();
        let next = rest.next().and(orders.last()).map(|order| order.id);
        UserOrders { orders, next, total: Some(total) }
    }
}

impl Grid for Scripted {
    fn place(&self, request: OrderRequest) -> BoxFuture<'_, Reply<Arc<Order>>> {
        self.answers(|state| state.place(request))
    }

    fn place_many(&self, requests: Vec<OrderRequest>) -> BoxFuture<'_, Vec<Reply<Arc<Order>>>> {
        self.state().many += 1;
        Box::pin(async move {
            let mut answers = Vec::new();
            for request in requests {
                answers.push(self.place(request).await);
            }
            answers
        })
    }

    fn order(&self, id: OrderId, options: ReadOptions) -> BoxFuture<'_, Reply<Arc<Order>>> {
        self.answers(|state| {
            state.reads.push(options);
            let order = state.orders.get(&id).cloned().ok_or(Rejection::NoSuchOrder(id))?;
            Ok(Answer { age_ms: options.stale.then_some(250), ..Answer::new(Arc::new(order), TOKEN) })
        })
    }

    fn orders_of(&self, query: UserOrdersQuery, options: ReadOptions) -> BoxFuture<'_, Reply<UserOrders>> {
        self.answers(|state| {
            state.reads.push(options);
            state.queries.push(query.clone());
            Ok(Answer::new(state.orders_of(query), TOKEN))
        })
    }

    fn orders_by_reference(&self, query: ReferenceQuery, options: ReadOptions) -> BoxFuture<'_, Reply<Vec<Order>>> {
        self.answers(|state| {
            state.reads.push(options);
            let of = |order: &&Order| query.user.as_ref().is_none_or(|user| *user == order.user);
            let named = state.orders.values().rev().filter(|order| order.reference.as_ref() == Some(&query.reference));
            Ok(Answer::new(named.filter(of).cloned().collect(), TOKEN))
        })
    }

    fn command_order(&self, command: OrderCommand) -> BoxFuture<'_, Reply<OrderChanged>> {
        self.answers(|state| state.command_order(command))
    }

    fn command_orders(&self, commands: Vec<OrderCommand>) -> BoxFuture<'_, Vec<Reply<OrderChanged>>> {
        self.state().many += 1;
        Box::pin(async move {
            let mut answers = Vec::new();
            for command in commands {
                answers.push(self.command_order(command).await);
            }
            answers
        })
    }

    fn sku(&self, id: SkuId, options: ReadOptions) -> BoxFuture<'_, Reply<Box<Sku>>> {
        self.answers(|state| {
            state.reads.push(options);
            let sku = state.skus.get(&id).cloned().ok_or(Rejection::NoSuchSku(id))?;
            Ok(Answer::new(Box::new(sku), TOKEN))
        })
    }

    fn command_sku(&self, command: SkuCommand) -> BoxFuture<'_, Reply<SkuChanged>> {
        self.answers(|state| state.command_sku(command))
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<Check>> {
        let ok = !self.state().not_ready;
        let check = |name: &str, ok, detail: &str| Check { name: name.to_owned(), ok, detail: detail.to_owned() };
        ready(vec![check("log", true, ""), check("leaders", ok, "3 of 4 shards have a leader")]).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Reply<ClusterStatus>> {
        self.answers(|_| {
            let status = ClusterStatus {
                cluster: "shop".to_owned(),
                cluster_id: "c1".to_owned(),
                version: "0.1.0".to_owned(),
                health: Health::Healthy,
                orders_per_s: None,
                nodes: Vec::new(),
                shards: Vec::new(),
                stopped_streams: Vec::new(),
            };
            Ok(Answer::new(status, TOKEN))
        })
    }

    fn clocks(&self, accept: Option<AcceptClock>) -> BoxFuture<'_, Reply<ClusterClock>> {
        let right = accept.filter(|accept| !accept.dry_run);
        self.answers(|_| {
            let node = NodeClock {
                id: 1,
                name: "n1".to_owned(),
                reachable: true,
                wall: Some(Timestamp::from_ms(1_795_183_506_007)),
                grid: None,
                log: None,
                becomes: accept.filter(|accept| accept.dry_run).map(|_| Timestamp::from_ms(1_795_183_506_007)),
                expires: right.is_some(),
                wrong: right.is_none().then(|| "clock_skew: nothing expires".to_owned()),
            };
            Ok(Answer::new(ClusterClock { nodes: vec![node] }, TOKEN))
        })
    }

    fn repair_clock(&self, asked: AskedRepair) -> BoxFuture<'_, Reply<ClockRepair>> {
        self.answers(move |_| {
            let shard = ShardRepair {
                shard: 1,
                state: if asked.dry_run { RepairState::Ahead } else { RepairState::Repaired },
                log: Some(Timestamp::from_ms(1_795_183_506_007)),
                right: None,
                since: asked.since,
                why: None,
                deadlines: Vec::new(),
            };
            Ok(Answer::new(ClockRepair { dry_run: asked.dry_run, shards: vec![shard] }, TOKEN))
        })
    }

    fn reconcile_streams(&self, dry_run: bool) -> BoxFuture<'_, Reply<Reconciliation>> {
        self.answers(move |_| {
            let stream = StreamReport {
                from: 1,
                to: 2,
                state: if dry_run { StreamState::Stopped } else { StreamState::Reconciled },
                why: None,
                missing: UnitsFound::default(),
                surplus: UnitsFound::default(),
                orderless: UnitsFound::default(),
                unkept: 3,
            };
            Ok(Answer::new(Reconciliation { dry_run, streams: vec![stream] }, TOKEN))
        })
    }

    fn verify(&self, _: Duration) -> BoxFuture<'_, Reply<VerifyReport>> {
        self.answers(|_| {
            let violations = vec!["SKU A: 3 promised, 2 on hand".to_owned()];
            let report = VerifyReport {
                ok: false,
                shards: Vec::new(),
                counts: BTreeMap::from([("orders".to_owned(), 7)]),
                laws: vec![LawReport::new("NoOversell", violations, Vec::new())],
                in_flight: InFlight::default(),
            };
            Ok(Answer::new(report, TOKEN))
        })
    }

    fn metrics(&self) -> String {
        "ordergrid_up 1\n".to_owned()
    }
}

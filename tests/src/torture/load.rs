//! Clients that place, pay, cancel, receive and read, each one thing at a time, through any node, while the grid is hurt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use ordergrid_api::client::{Call, Endpoint};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::asker::{Asker, WINDOW_S};
use super::history::{Ask, End, LineAsked, Operation};
use super::plan::Plan;

/// Longest a client keeps asking for one thing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest everything may take to be answered once the grid is healed.
const LATE_PATIENCE: Duration = Duration::from_secs(30);

/// The load of a round.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

struct Shared {
    plan: Plan,
    endpoints: Vec<Endpoint>,
    started: Instant,
    over: AtomicBool,
    keys: AtomicU64,
    /// Places that were acknowledged: id, total, key and what was asked.
    placed: std::sync::Mutex<Vec<Placed>>,
}

#[derive(Clone)]
struct Placed {
    id: String,
    total: i64,
    key: String,
    ask: Ask,
}

/// The name of a SKU.
pub(super) fn sku_name(number: usize) -> String {
    format!("sku-{number}")
}

/// The name of a user.
pub(super) fn user_name(number: usize) -> String {
    format!("user-{number}")
}

/// Names the SKUs and receives what the plan says of each.
///
/// # Errors
/// If the grid does not do it.
pub(super) async fn stock_up(plan: &Plan, endpoints: &[Endpoint], started: Instant) -> Result<()> {
    let mut asker = Asker::new(endpoints, started);
    for (number, quantity) in plan.stock.iter().enumerate() {
        let sku = sku_name(number);
        let named = Call::new(Method::PUT, &format!("/v1/skus/{sku}")).with_json(&json!({"name": sku}));
        let receive = Ask::Receive { sku: sku.clone(), quantity: *quantity };
        let key = format!("first-{sku}");
        let done = async {
            // A grid that has just been founded may still be choosing its leaders.
            while !asker.send(1, &named, PATIENCE).await.is_ok_and(|answer| answer.status.is_success()) {
                sleep(Duration::from_millis(20)).await;
            }
            while !matches!(asker.ask(1, &receive, Some(&key)).await.end, End::Done(_)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LATE_PATIENCE, done).await.with_context(|| format!("{sku} cannot be stocked"))?;
    }
    Ok(())
}

impl Load {
    /// Lets the clients begin. Must be called within a runtime.
    pub(super) fn begin(plan: &Plan, endpoints: &[Endpoint], started: Instant) -> Self {
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            endpoints: endpoints.to_vec(),
            started,
            over: AtomicBool::new(false),
            keys: AtomicU64::new(0),
            placed: std::sync::Mutex::default(),
        });
        let clients = (0..plan.clients).map(|number| tokio::spawn(Client::new(number, shared.clone()).live())).collect();
        Self { shared, clients }
    }

    /// Asks the clients to end, and waits for what they were doing.
    ///
    /// # Errors
    /// If one does not end, or fails: that is this harness.
    pub(super) async fn end(self) -> Result<Vec<Operation>> {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut operations = Vec::new();
        for client in self.clients {
            operations.extend(timeout(LATE_PATIENCE, client).await.context("a client does not end")??);
        }
        ensure!(!operations.is_empty(), "no client did anything");
        Ok(operations)
    }
}

struct Client {
    number: usize,
    dice: StdRng,
    asker: Asker,
    shared: Arc<Shared>,
    done: Vec<Operation>,
}

impl Client {
    fn new(number: usize, shared: Arc<Shared>) -> Self {
        let dice = StdRng::seed_from_u64(shared.plan.seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let asker = Asker::new(&shared.endpoints, shared.started);
        Self { number, dice, asker, shared, done: Vec::new() }
    }

    async fn live(mut self) -> Vec<Operation> {
        while !self.shared.over.load(Ordering::Relaxed) {
            match self.dice.random_range(0..100) {
                0..36 => self.place().await,
                36..48 => self.command(|order, amount| Ask::Pay { order, amount }).await,
                48..58 => self.command(|order, _| Ask::Cancel { order }).await,
                58..62 => self.receive().await,
                62..68 => self.place_again().await,
                68..80 => self.read_order().await,
                80..92 => {
                    let sku = self.sku();
                    self.run(Ask::Sku { sku }, None, true).await;
                }
                _ => {
                    let user = self.user();
                    self.run(Ask::List { user }, None, true).await;
                }
            }
            let rest = self.dice.random_range(0..=self.shared.plan.rest_ms);
            sleep(Duration::from_millis(rest)).await;
        }
        self.done
    }

    async fn place(&mut self) {
        let user = self.user();
        let count = *[1, 1, 2, 3].choose(&mut self.dice).expect("four");
        let lines = (0..count)
            .map(|_| LineAsked {
                sku: self.sku(),
                quantity: self.dice.random_range(1..=4),
                unit_price: self.dice.random_range(1..500),
            })
            .collect();
        let window_s = if self.dice.random_ratio(1, 20) { 3 } else { WINDOW_S };
        let ask = Ask::Place { user, lines, window_s };
        let key = self.key();
        let once = self.dice.random_ratio(1, 7);
        // Twice at the same time, now and then, as a client does that lost its patience.
        let mut twin = (!once && self.dice.random_ratio(1, 20)).then(|| Self::new(self.number + 1_000, self.shared.clone()));
        let twin_runs = async {
            if let Some(twin) = &mut twin {
                twin.run(ask.clone(), Some(key.clone()), false).await;
            }
        };
        tokio::join!(self.run(ask.clone(), Some(key.clone()), once), twin_runs);
        self.done.extend(twin.map(|twin| twin.done).unwrap_or_default());
    }

    /// An order that was placed long ago or just now, asked for again under its key.
    async fn place_again(&mut self) {
        if let Some(placed) = self.known() {
            self.run(placed.ask, Some(placed.key), false).await;
        }
    }

    async fn command(&mut self, ask: impl FnOnce(String, i64) -> Ask) {
        let Some(placed) = self.known() else { return };
        let key = self.key();
        let once = self.dice.random_ratio(1, 7);
        self.run(ask(placed.id, placed.total), Some(key), once).await;
    }

    async fn receive(&mut self) {
        let (sku, quantity) = (self.sku(), self.dice.random_range(1..=5));
        let key = self.key();
        let once = self.dice.random_ratio(1, 3);
        self.run(Ask::Receive { sku, quantity }, Some(key), once).await;
    }

    async fn read_order(&mut self) {
        if let Some(placed) = self.known() {
            self.run(Ask::Order { order: placed.id }, None, true).await;
        }
    }

    /// Asks one node after the other until there is an answer, or once.
    async fn run(&mut self, ask: Ask, key: Option<String>, once: bool) {
        let since = Instant::now();
        let mut attempts = Vec::new();
        loop {
            let node = self.dice.random_range(1..=self.shared.plan.nodes);
            let attempt = self.asker.ask(node, &ask, key.as_deref()).await;
            let settled = matches!(attempt.end, End::Done(_) | End::Odd(_) | End::Refused { retryable: false, .. });
            attempts.push(attempt);
            if settled || once || since.elapsed() > PATIENCE || self.shared.over.load(Ordering::Relaxed) {
                break;
            }
            sleep(Duration::from_millis(self.dice.random_range(10..80))).await;
        }
        let operation = Operation { client: self.number, key, ask, attempts, once, late: false };
        if let (Ask::Place { .. }, Some((_, seen, order))) = (&operation.ask, operation.order())
            && !seen.replayed
        {
            let key = operation.key.clone().unwrap_or_default();
            let placed = Placed { id: order.id.clone(), total: order.total, key, ask: operation.ask.clone() };
            self.shared.placed.lock().expect("nobody panics while holding it").push(placed);
        } else if operation.order().is_none() && matches!(operation.attempts.last().map(|last| &last.end), Some(End::NotSent)) {
            // Nobody was there: a client does not ask as fast as it can.
            sleep(Duration::from_millis(10)).await;
        }
        self.done.push(operation);
    }

    /// An order that exists, rather a young one.
    fn known(&mut self) -> Option<Placed> {
        let placed = self.shared.placed.lock().expect("nobody panics while holding it");
        let young = placed.len().saturating_sub(60);
        let from = if self.dice.random_ratio(2, 3) { young } else { 0 };
        placed[from..].choose(&mut self.dice).cloned()
    }

    fn key(&self) -> String {
        format!("k{}", self.shared.keys.fetch_add(1, Ordering::Relaxed))
    }

    fn sku(&mut self) -> String {
        sku_name(self.dice.random_range(0..self.shared.plan.stock.len()))
    }

    fn user(&mut self) -> String {
        user_name(self.dice.random_range(0..self.shared.plan.users))
    }
}

/// Asks again for everything that may have happened and had no answer, under its key, on a grid that is healed; but not for
/// what a client asked once and never again.
pub(super) async fn ask_again(operations: &[Operation], nodes: &[usize], asker: &mut Asker) -> Vec<Operation> {
    let mut late = Vec::new();
    let since = Instant::now();
    let open = operations.iter().filter(|op| op.key.is_some() && !op.once && op.done().is_none() && !op.refused());
    for operation in open.filter(|op| op.may_have_happened()) {
        let mut attempts = Vec::new();
        for turn in 0.. {
            let attempt = asker.ask(nodes[turn % nodes.len()], &operation.ask, operation.key.as_deref()).await;
            let settled = matches!(attempt.end, End::Done(_) | End::Odd(_) | End::Refused { retryable: false, .. });
            attempts.push(attempt);
            if settled || since.elapsed() > LATE_PATIENCE {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        late.push(Operation { attempts, late: true, ..operation.clone() });
    }
    late
}

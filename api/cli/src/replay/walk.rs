//! Walks orders through their lives: place, pay, pick, ship, deliver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ordergrid_api::client::{Call, CallError, Client, path_segment};
use ordergrid_api::wire::{PayOrder, PickOrder, PlaceLine, PlaceOrder, ShipFulfilment, WireText};
use ordergrid_domain::order::PaymentState;
use ordergrid_domain::{FulfilmentId, Key, OrderId, ProviderPaymentId, SkuId};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_128;

use super::options::ReplayOptions;
use super::progress::Progress;
use super::sales::{Sale, Sales};
use super::summary::{Frame, Summary, Tally};

/// Between two rounds over orders that found too little where there is enough.
const NEXT_ROUND: Duration = Duration::from_millis(500);

/// What a replay needs to know of a placed order; the rest of the answer is not looked at.
#[derive(Deserialize)]
struct Placed {
    #[serde(with = "ordergrid_api::wire::text")]
    id: OrderId,
    total: i64,
}

/// The same of a fulfilment.
#[derive(Deserialize)]
struct Parcel {
    #[serde(with = "ordergrid_api::wire::text")]
    id: FulfilmentId,
}

/// An answer of which nothing is looked at.
#[derive(Deserialize)]
struct Whatever {}

/// Replays in progress: shared by its walkers.
struct Walk {
    client: Client,
    sales: Arc<Sales>,
    options: ReplayOptions,
    progress: Progress,
    started: Instant,
    next: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    /// Per sale: it was acknowledged.
    placed: Vec<bool>,
    /// Sales whose placing has ended, whatever the end.
    settled: u64,
    /// Sales that found too little although there is enough: an attempt that died may still hold it for some seconds.
    later: Vec<usize>,
}

/// Walks all sales. Comes back with the summary and the units per SKU of the orders that were placed.
pub(super) async fn all(
    client: Client,
    sales: Arc<Sales>,
    options: ReplayOptions,
    progress: Progress,
) -> (Summary, BTreeMap<SkuId, u64>) {
    let state = State { tally: Tally::new(), placed: vec![false; sales.sales.len()], settled: 0, later: Vec::new() };
    let walkers = options.concurrency.min(sales.sales.len());
    let (started, next, state) = (Instant::now(), AtomicUsize::new(0), Mutex::new(state));
    let walk = Arc::new(Walk { client, sales, options, progress, started, next, state });
    let mut running = JoinSet::new();
    for _ in 0..walkers {
        let walk = Arc::clone(&walk);
        running.spawn(async move { walk.take_turns().await });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a walker neither panics nor is aborted");
    }
    walk.try_later_ones().await;
    walk.summary()
}

impl Walk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    async fn take_turns(&self) {
        while !self.is_over() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= self.sales.sales.len() {
                return;
            }
            self.walk(at, !self.options.stock.suffices()).await;
        }
    }

    /// No further order is to be taken.
    fn is_over(&self) -> bool {
        let state = self.state();
        state.tally.gave_up.is_some() || self.options.stop_after.is_some_and(|limit| state.tally.placed >= limit)
    }

    async fn try_later_ones(&self) {
        let gives_up_at = Instant::now() + self.options.patience;
        loop {
            let waiting = std::mem::take(&mut self.state().later);
            if waiting.is_empty() || self.is_over() {
                return;
            }
            sleep(NEXT_ROUND).await;
            let last_round = Instant::now() >= gives_up_at;
            for at in waiting {
                self.walk(at, last_round).await;
            }
        }
    }

    /// Walks one order as far as it goes. `no_is_final`: it is not tried again when there is too little stock.
    async fn walk(&self, at: usize, no_is_final: bool) {
        let sale = &self.sales.sales[at];
        let asked = Instant::now();
        match self.client.ask::<Placed>(&self.place(sale)).await {
            Ok(answer) => {
                self.acknowledged(at, answer.replayed, asked.elapsed());
                if answer.value.total != sale.total_minor {
                    let (grid, file) = (answer.value.total, sale.total_minor);
                    self.state()
                        .tally
                        .wonders(format!("order {}: the grid's total is {grid}, the file's {file}", sale.order.as_str()));
                }
                if let Err((step, error)) = self.fulfil(sale, &answer.value).await {
                    self.stumbled(sale, step, error);
                }
            }
            Err(error) if error.code() == "out_of_stock" && !no_is_final => self.state().later.push(at),
            Err(error) => self.not_placed(sale, error),
        }
    }

    fn place(&self, sale: &Sale) -> Call {
        let line = |line: &super::SaleLine| PlaceLine {
            sku: line.sku.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount: 0,
            tax: 0,
        };
        let mut order = PlaceOrder::new(sale.user.clone(), self.options.currency, sale.lines.iter().map(line).collect());
        order.reference = Some(sale.order.clone());
        order.total = Some(sale.total_minor);
        Call::place(&order, &key(sale, ""))
    }

    /// The rest of an order's life.
    async fn fulfil(&self, sale: &Sale, placed: &Placed) -> Result<(), (&'static str, CallError)> {
        if placed.total > 0 {
            let id = ProviderPaymentId::new(key(sale, "").as_str()).expect("a key is short enough");
            let payment = PayOrder::new(id, PaymentState::Captured, placed.total, self.options.currency);
            self.does("pay", &Call::pay(placed.id, &payment, &key(sale, "-pay"))).await?;
            self.state().tally.paid += 1;
        }
        let pick = Call::pick(placed.id, &PickOrder::default(), &key(sale, "-pick"));
        let parcel = self.client.ask::<Parcel>(&pick).await.map_err(|error| ("pick", error))?.value;
        self.does("ship", &Call::ship(parcel.id, &ShipFulfilment::default(), &key(sale, "-ship"))).await?;
        self.state().tally.shipped += 1;
        self.does("deliver", &Call::deliver(parcel.id, &key(sale, "-deliver"))).await?;
        self.state().tally.delivered += 1;
        Ok(())
    }

    async fn does(&self, step: &'static str, call: &Call) -> Result<(), (&'static str, CallError)> {
        self.client.ask::<Whatever>(call).await.map(drop).map_err(|error| (step, error))
    }

    fn acknowledged(&self, at: usize, replayed: bool, latency: Duration) {
        let sale = &self.sales.sales[at];
        let mut state = self.state();
        state.placed[at] = true;
        state.settled += 1;
        state.tally.placed += 1;
        state.tally.replayed += u64::from(replayed);
        state.tally.total_minor += sale.total_minor;
        state.tally.took(latency);
        self.progress.acknowledged(&state.tally, self.started.elapsed());
    }

    fn not_placed(&self, sale: &Sale, error: CallError) {
        let mut state = self.state();
        match &error {
            CallError::Refused(refusal) if !refusal.retryable => {
                state.settled += 1;
                state.tally.refuses(&refusal.code);
                if refusal.code != "out_of_stock" || self.options.stock.suffices() {
                    state.tally.wonders(format!("order {} was refused: {error}", sale.order.as_str()));
                }
            }
            CallError::Unknown(_) => {
                state.settled += 1;
                state.tally.unknown += 1;
                state.tally.gives_up(error);
            }
            CallError::Refused(_) | CallError::Unreachable(_) | CallError::Unreadable(_) => state.tally.gives_up(error),
        }
    }

    fn stumbled(&self, sale: &Sale, step: &str, error: CallError) {
        let mut state = self.state();
        match &error {
            CallError::Refused(refusal) if !refusal.retryable => {
                state.tally.wonders(format!("order {}, {step}: {error}", sale.order.as_str()));
            }
            _ => {
                state.tally.unknown += u64::from(error.outcome_unknown());
                state.tally.gives_up(error);
            }
        }
    }

    fn summary(&self) -> (Summary, BTreeMap<SkuId, u64>) {
        let mut state = self.state();
        let tally = std::mem::replace(&mut state.tally, Tally::new());
        let mut sold = BTreeMap::new();
        for (sale, _) in self.sales.sales.iter().zip(&state.placed).filter(|(_, placed)| **placed) {
            for line in &sale.lines {
                *sold.entry(line.sku.clone()).or_default() += line.quantity;
            }
        }
        let orders = self.sales.sales.len() as u64;
        let frame = Frame {
            orders,
            skus: self.sales.units.len() as u64,
            units: sold.values().sum(),
            currency: self.options.currency.write(str::to_owned),
            stock: self.options.stock.to_string(),
            elapsed: self.started.elapsed(),
            stopped: self.options.stop_after.is_some_and(|limit| tally.placed >= limit),
            not_tried: orders - state.settled,
        };
        (Summary::new(tally, frame), sold)
    }
}

/// What is left of a key for an order's id.
const ROOM_IN_KEY: usize = 200;

/// The key of a step of an order: the same in every replay.
fn key(sale: &Sale, step: &str) -> Key {
    // A key is visible ASCII, an order's id may be anything, and longer.
    let order = match path_segment(sale.order.as_str()) {
        id if id.len() <= ROOM_IN_KEY => id,
        id => format!("{:032x}", xxh3_128(id.as_bytes())),
    };
    Key::new(format!("replay-{order}{step}")).expect("an order's id leaves room in a key")
}

//! Clients: what a shop's services ask of the grid, through any node, with doubts, repetitions and second thoughts.

mod call;
mod choose;
mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ordergrid_api::client::{Client, ClientOptions, RetryPolicy};
use tokio::time::{sleep, timeout};

pub use choose::{Action, Mix};
pub use record::Record;

use crate::dice::Dice;
use crate::grid::{CLIENTS, SimGrid};
use crate::history::{Ask, Ending};
use crate::net::Net;

/// All clients of a history.
pub struct Clients {
    /// What they asked and were answered.
    pub record: Record,
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicUsize>,
    nodes: u64,
    net: Net,
}

impl Clients {
    /// Nobody asks anything yet.
    #[must_use]
    pub fn new(nodes: u64, net: &Net) -> Self {
        Self { record: Record::default(), stop: Arc::default(), busy: Arc::default(), nodes, net: net.clone() }
    }

    /// Clients begin to ask, each with its own chance.
    pub fn start(&self, grid: &mut SimGrid, mix: &Mix, dice: &mut Dice) {
        let mix = Arc::new(mix.clone());
        for number in 1..=mix.clients {
            let client = Buyer {
                number,
                dice: dice.fork(),
                mix: Arc::clone(&mix),
                ways: self.ways(dice.below(u64::MAX), mix.patience),
                record: self.record.clone(),
            };
            self.spawn(grid, client.live(Arc::clone(&self.stop)));
        }
    }

    /// Asks something once, in the background, as client `number`, through `node`.
    pub fn ask(&self, grid: &mut SimGrid, number: u32, node: u64, ask: Ask) {
        let ways = self.ways(u64::from(number), Duration::from_secs(30));
        let record = self.record.clone();
        self.spawn(grid, async move {
            ways.ask(&record, number, node, ask).await;
        });
    }

    /// Asks one thing after the other, each until it is done or refused for good, as client `number`.
    pub fn insist(&self, grid: &mut SimGrid, number: u32, asks: Vec<Ask>) {
        let ways = self.ways(u64::from(number), Duration::from_secs(30));
        let (record, stop) = (self.record.clone(), Arc::clone(&self.stop));
        let nodes = self.nodes;
        self.spawn(grid, async move {
            for (turn, ask) in asks.into_iter().enumerate() {
                let mut node = turn as u64 % nodes;
                while !settled(&ways.ask(&record, number, node + 1, ask.clone()).await) && !stop.load(Ordering::Relaxed) {
                    node = (node + 1) % nodes;
                    sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }

    /// Nobody begins anything new from now on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Clients may begin again.
    pub fn reopen(&self) {
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Nobody waits for anything.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    fn spawn(&self, grid: &mut SimGrid, work: impl Future<Output = ()> + Send + 'static) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let busy = Arc::clone(&self.busy);
        grid.driver.spawn(CLIENTS, async move {
            work.await;
            busy.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn ways(&self, seed: u64, patience: Duration) -> Ways {
        let options = ClientOptions { retry: RetryPolicy::once(patience), seed, ..ClientOptions::default() };
        let to = |node| Client::new(&[SimGrid::endpoint(node)], Arc::new(self.net.at(CLIENTS)), options);
        Ways { to: (1..=self.nodes).map(to).collect() }
    }
}

/// No use in asking again.
#[must_use]
pub fn settled(ending: &Ending) -> bool {
    match ending {
        Ending::Done { .. } => true,
        Ending::Refused { status, .. } => !matches!(status, 0 | 429 | 503),
        Ending::Unknown(_) | Ending::Abandoned => false,
    }
}

/// One client's connections to every node.
struct Ways {
    to: Vec<Client>,
}

impl Ways {
    async fn ask(&self, record: &Record, number: u32, node: u64, ask: Ask) -> Ending {
        let at = record.begin(number, node, &ask);
        let client = &self.to[usize::try_from(node - 1).expect("nodes are few")];
        let ending = call::perform(client, &ask).await;
        record.end(at, ending.clone());
        ending
    }
}

/// A client that lives by its mix.
struct Buyer {
    number: u32,
    dice: Dice,
    mix: Arc<Mix>,
    ways: Ways,
    record: Record,
}

impl Buyer {
    async fn live(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            sleep(self.mix.think(&mut self.dice)).await;
            let Some(ask) = choose::next(&self.mix, &mut self.dice, &self.record) else { continue };
            self.pursue(ask).await;
        }
    }

    /// Asks, and perhaps again if the end is open.
    async fn pursue(&mut self, ask: Ask) {
        for _ in 0..self.mix.attempts {
            let node = 1 + self.dice.below(self.ways.to.len() as u64);
            let open = if self.dice.percent(self.mix.abandon_percent) {
                let patience = Duration::from_millis(self.dice.between(1, 400));
                // The record keeps it as abandoned, which is what it is until an end is told.
                timeout(patience, self.ways.ask(&self.record, self.number, node, ask.clone())).await.ok()
            } else {
                Some(self.ways.ask(&self.record, self.number, node, ask.clone()).await)
            };
            if open.as_ref().is_some_and(settled) || !self.dice.percent(self.mix.retry_percent) {
                return;
            }
            sleep(Duration::from_millis(self.dice.between(5, 1_500))).await;
        }
    }
}

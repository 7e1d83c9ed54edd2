//! One request at a time, from the first to the last: a connection's share of the load, or a stream's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::http::uri::Uri;
use ordergrid_api::client::{Call, CallError, RawAnswer};
use ordergrid_domain::{FulfilmentId, OrderId};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::options::{BenchOptions, Workload};
use super::pace::Pace;
use super::pipe::Pipe;
use super::tally::{Book, Seen, Step, Times};
use super::workload::{Orders, PRICE, Wish};

/// The longest wait after a refusal that names one; in a closed loop a longer one would only measure itself.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Why a flash sale refuses.
const OUT_OF_STOCK: &str = "out_of_stock";
/// The smallest body.
const NOTHING: Bytes = Bytes::from_static(b"{}");

/// A connection of its own, or a stream of one, with one request under way.
pub(super) struct Worker {
    number: u32,
    workload: Workload,
    batch: u32,
    orders: Orders,
    pipe: Pipe,
    pace: Arc<Pace>,
    book: Arc<Book>,
    place_at: Uri,
    command_at: Uri,
}

#[derive(Deserialize)]
struct Made {
    #[serde(with = "ordergrid_api::wire::text")]
    id: OrderId,
}

#[derive(Deserialize)]
struct Parcel {
    #[serde(with = "ordergrid_api::wire::text")]
    id: FulfilmentId,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<OneResult>,
}

#[derive(Deserialize)]
struct OneResult {
    status: u16,
    created: Option<String>,
    order: Option<Made>,
    error: Option<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    outcome: String,
}

impl Worker {
    pub(super) fn new(number: u32, options: &BenchOptions, pipe: Pipe, pace: Arc<Pace>, book: Arc<Book>) -> Self {
        let path = if options.batch > 1 { "/v1/orders/batch?return=minimal" } else { "/v1/orders" };
        Self {
            number,
            workload: options.workload,
            batch: options.batch,
            orders: Orders::new(options, number),
            pipe,
            pace,
            book,
            place_at: Uri::from_static(path),
            command_at: Uri::from_static("/v1/commands/batch?return=minimal"),
        }
    }

    /// Asks until there is nothing left to ask.
    pub(super) async fn run(mut self) {
        while let Some(intended) = self.pace.clone().next().await {
            match self.orders.next() {
                Wish::Place(body) => self.place(body, intended).await,
                Wish::Order(order) => self.look(Step::ReadOrder, &format!("/v1/orders/{order}"), intended).await,
                Wish::Sku(sku) => self.look(Step::ReadSku, &format!("/v1/skus/{sku}"), intended).await,
            }
        }
    }

    /// Places, and goes on with what was placed.
    async fn place(&mut self, body: Bytes, intended: Instant) {
        let sent = Instant::now();
        let placed = if self.batch > 1 { self.place_many(body).await } else { self.place_one(body).await };
        let ended = Instant::now();
        let (seen, orders, wait) = match placed {
            Ok((seen, orders)) => (seen, orders, Duration::ZERO),
            Err(error) => (not_done(&error, u64::from(self.batch)), Vec::new(), self.wait(&error)),
        };
        let work = match self.workload {
            Workload::Uniform | Workload::Hot | Workload::Cart => seen.placed,
            Workload::Flash => seen.refused.iter().filter(|(code, _)| code == OUT_OF_STOCK).map(|(_, orders)| orders).sum(),
            Workload::ReadMix => seen.placed,
            Workload::Lifecycle => 0,
        };
        self.book.saw(self.number, Step::Place, Times { intended, sent, ended }, &seen, work);
        pause(wait).await;
        match (self.workload, orders.as_slice()) {
            (Workload::Lifecycle, []) => {}
            (Workload::Lifecycle, &[(at, order)]) if self.batch == 1 => self.live(order, at, intended).await,
            (Workload::Lifecycle, many) => {
                let alive = many.iter().map(|(at, order)| (*at, order.to_string())).collect();
                self.live_many(alive, intended).await;
            }
            (_, placed) => placed.iter().for_each(|(_, order)| self.orders.remember(*order)),
        }
    }

    async fn place_one(&mut self, body: Bytes) -> Result<(Seen, Vec<(u32, OrderId)>), CallError> {
        let call = Call::to(Method::POST, self.place_at.clone()).with_key(self.orders.key(0, "")).with_body(body);
        let answer = self.pipe.ask(&call).await?;
        let wanted = matches!(self.workload, Workload::Lifecycle | Workload::ReadMix);
        let orders = if wanted { vec![(0, answer.read::<Made>()?.value.id)] } else { Vec::new() };
        Ok((Seen { placed: 1, ..Seen::default() }, orders))
    }

    async fn place_many(&mut self, body: Bytes) -> Result<(Seen, Vec<(u32, OrderId)>), CallError> {
        let call = Call::to(Method::POST, self.place_at.clone()).with_body(body);
        let results = self.pipe.ask(&call).await?.read::<Results>()?.value.results;
        let seen = sorted(&results);
        let orders = match self.workload {
            Workload::Lifecycle => (0..).zip(results).filter_map(|(at, result)| Some((at, result.order?.id))).collect(),
            _ => Vec::new(),
        };
        Ok((seen, orders))
    }

    /// Pays, picks, ships and delivers order `at` of the last request.
    async fn live(&mut self, order: OrderId, at: u32, intended: Instant) {
        match self.steps(order, at).await {
            Some(sent) => {
                let times = Times { intended, sent, ended: Instant::now() };
                self.book.saw(self.number, Step::Life, times, &Seen::default(), 1);
            }
            None => tracing::debug!(%order, "a lifecycle ended early"),
        }
    }

    async fn steps(&mut self, order: OrderId, at: u32) -> Option<Instant> {
        let began = Instant::now();
        let amount = i64::from(self.orders.lines_of(at)) * PRICE;
        let payment = format!(r#"{{"provider_payment_id":"{order}","status":"captured","amount":{amount},"currency":"GBP"}}"#);
        self.step(Step::Pay, &format!("/v1/orders/{order}/payments"), at, "-pay", payment.into()).await?;
        let picked = self.step(Step::Pick, &format!("/v1/orders/{order}/fulfilments"), at, "-pick", NOTHING).await?;
        let parcel = picked.read::<Parcel>().ok()?.value.id;
        self.step(Step::Ship, &format!("/v1/fulfilments/{parcel}/ship"), at, "-ship", NOTHING).await?;
        self.step(Step::Deliver, &format!("/v1/fulfilments/{parcel}/deliver"), at, "-deliver", NOTHING).await?;
        Some(began)
    }

    /// The same for the orders of a batch, each step for all of them at once; `alive`: which, and what each is called.
    async fn live_many(&mut self, mut alive: Vec<(u32, String)>, intended: Instant) {
        let sent = Instant::now();
        for step in [Step::Pay, Step::Pick, Step::Ship, Step::Deliver] {
            let body = self.orders.commands(step, &alive);
            alive = self.step_many(step, body, alive).await;
            if alive.is_empty() {
                return;
            }
        }
        let times = Times { intended, sent, ended: Instant::now() };
        for _ in alive {
            self.book.saw(self.number, Step::Life, times, &Seen::default(), 1);
        }
    }

    /// A step for many; those that took it come back, under the name that the next step asks for.
    async fn step_many(&mut self, step: Step, body: Bytes, alive: Vec<(u32, String)>) -> Vec<(u32, String)> {
        let sent = Instant::now();
        let asked = self.pipe.ask(&Call::to(Method::POST, self.command_at.clone()).with_body(body)).await;
        let results = asked.and_then(|answer| Ok(answer.read::<Results>()?.value.results));
        let times = Times { intended: sent, sent, ended: Instant::now() };
        match results {
            Ok(results) => {
                self.book.saw(self.number, step, times, &Seen { placed: 0, ..sorted(&results) }, 0);
                let done = alive.into_iter().zip(results).filter(|(_, result)| result.error.is_none());
                done.map(|((at, name), result)| (at, result.created.unwrap_or(name))).collect()
            }
            Err(error) => {
                self.book.saw(self.number, step, times, &not_done(&error, alive.len() as u64), 0);
                let wait = self.wait(&error);
                pause(wait).await;
                Vec::new()
            }
        }
    }

    async fn step(&mut self, step: Step, path: &str, at: u32, key: &str, body: Bytes) -> Option<RawAnswer> {
        let call = Call::post(path, self.orders.key(at, key)).with_body(body);
        self.ask(step, &call, Instant::now(), 0).await
    }

    async fn look(&mut self, step: Step, path: &str, intended: Instant) {
        self.ask(step, &Call::get(path), intended, 1).await;
    }

    /// A request that does not place; nothing comes back where it was not done.
    async fn ask(&mut self, step: Step, call: &Call, intended: Instant, work: u64) -> Option<RawAnswer> {
        let sent = Instant::now();
        let asked = self.pipe.ask(call).await;
        let times = Times { intended, sent, ended: Instant::now() };
        match asked {
            Ok(answer) => {
                self.book.saw(self.number, step, times, &Seen::default(), work);
                Some(answer)
            }
            Err(error) => {
                self.book.saw(self.number, step, times, &not_done(&error, 1), 0);
                let wait = self.wait(&error);
                pause(wait).await;
                None
            }
        }
    }

    /// How long to wait where asking again at once makes no sense.
    fn wait(&self, error: &CallError) -> Duration {
        match error {
            CallError::Unreachable(_) => LONGEST_WAIT,
            _ if self.pace.is_open() => Duration::ZERO,
            _ => error.retry_after().unwrap_or_default().min(LONGEST_WAIT),
        }
    }
}

async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

/// A request for `orders` orders that was not done.
fn not_done(error: &CallError, orders: u64) -> Seen {
    if error.outcome_unknown() {
        return Seen { unknown: orders, ..Seen::default() };
    }
    Seen { refused: vec![(error.code().to_owned(), orders)], ..Seen::default() }
}

fn sorted(results: &[OneResult]) -> Seen {
    let mut seen = Seen::default();
    for result in results {
        match &result.error {
            None if result.status < 300 => seen.placed += 1,
            Some(error) if error.outcome == "refused" => seen.refused.push((error.code.clone(), 1)),
            _ => seen.unknown += 1,
        }
    }
    seen
}

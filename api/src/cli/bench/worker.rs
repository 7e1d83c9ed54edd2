//! One connection's share of the load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::http::uri::Uri;
use ordergrid_domain::{FulfilmentId, OrderId};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::report::{Seen, Tally};
use super::workload::{Orders, PRICE};
use super::{BenchOptions, Workload};
use crate::client::{Broken, Call, CallError, Connector, Endpoint, Lane, RawAnswer};

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest wait after a refusal that names one; the loop is closed, so a longer one would only measure itself.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

const NO_ANSWER: &str = "no answer in time";
/// The smallest body.
const NOTHING: Bytes = Bytes::from_static(b"{}");

/// When to measure.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) begins: Instant,
    pub(super) ends: Instant,
}

/// One connection with one request under way.
pub(super) struct Worker {
    orders: Orders,
    batch: u32,
    lifecycle: bool,
    endpoints: Vec<Endpoint>,
    /// The endpoint in use; the next one when it breaks.
    turn: usize,
    connector: Arc<dyn Connector>,
    lane: Option<Lane>,
    place_at: Uri,
    tally: Tally,
}

#[derive(Deserialize)]
struct Made {
    #[serde(with = "crate::wire::text")]
    id: OrderId,
}

#[derive(Deserialize)]
struct Parcel {
    #[serde(with = "crate::wire::text")]
    id: FulfilmentId,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<OneResult>,
}

#[derive(Deserialize)]
struct OneResult {
    status: u16,
    error: Option<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    outcome: String,
}

impl Worker {
    pub(super) fn new(number: u32, options: &BenchOptions, endpoints: &[Endpoint], connector: Arc<dyn Connector>) -> Self {
        let path = if options.batch > 1 { "/v1/orders/batch?return=minimal" } else { "/v1/orders" };
        Self {
            orders: Orders::new(options, number),
            batch: options.batch,
            lifecycle: options.workload == Workload::Lifecycle,
            endpoints: endpoints.to_vec(),
            turn: number as usize,
            connector,
            lane: None,
            place_at: Uri::from_static(path),
            tally: Tally::new(),
        }
    }

    /// Asks until the window closes; what ended inside it is in the tally.
    pub(super) async fn run(mut self, window: Window) -> Tally {
        loop {
            let asked = Instant::now();
            if asked >= window.ends {
                return self.tally;
            }
            let (seen, order) = self.place().await;
            let answered = Instant::now();
            if window.has(answered) {
                self.tally.saw(&seen, answered - asked);
            }
            let Some(order) = order else { continue };
            match self.live(order).await {
                Ok(()) if window.has(Instant::now()) => self.tally.lived(asked.elapsed()),
                Ok(()) => {}
                Err(error) => {
                    let seen = self.failed(&error, 1).await;
                    if window.has(Instant::now()) {
                        self.tally.stumbled(&seen);
                    }
                }
            }
        }
    }

    /// Places; what comes back besides is the order that is to live on.
    async fn place(&mut self) -> (Seen, Option<OrderId>) {
        let placed = if self.batch > 1 { self.place_many().await } else { self.place_one().await };
        match placed {
            Ok(end) => end,
            Err(error) => (self.failed(&error, u64::from(self.batch)).await, None),
        }
    }

    async fn place_one(&mut self) -> Result<(Seen, Option<OrderId>), CallError> {
        let body = self.orders.one();
        let call = Call::to(Method::POST, self.place_at.clone()).with_key(self.orders.key("")).with_body(body);
        let answer = self.ask(&call).await?;
        let order = if self.lifecycle { Some(answer.read::<Made>()?.value.id) } else { None };
        Ok((Seen { placed: 1, ..Seen::default() }, order))
    }

    async fn place_many(&mut self) -> Result<(Seen, Option<OrderId>), CallError> {
        let call = Call::to(Method::POST, self.place_at.clone()).with_body(self.orders.many());
        let results = self.ask(&call).await?.read::<Results>()?.value.results;
        Ok((sorted(&results), None))
    }

    /// Pays, picks, ships and delivers.
    async fn live(&mut self, order: OrderId) -> Result<(), CallError> {
        let payment = format!(r#"{{"provider_payment_id":"{order}","status":"captured","amount":{PRICE},"currency":"GBP"}}"#);
        self.step(&format!("/v1/orders/{order}/payments"), "-pay", payment.into()).await?;
        let picked = self.step(&format!("/v1/orders/{order}/fulfilments"), "-pick", NOTHING).await?;
        let parcel = picked.read::<Parcel>()?.value.id;
        self.step(&format!("/v1/fulfilments/{parcel}/ship"), "-ship", NOTHING).await?;
        self.step(&format!("/v1/fulfilments/{parcel}/deliver"), "-deliver", NOTHING).await?;
        Ok(())
    }

    async fn step(&mut self, path: &str, step: &str, body: Bytes) -> Result<RawAnswer, CallError> {
        let call = Call::post(path, self.orders.key(step)).with_body(body);
        self.ask(&call).await
    }

    async fn ask(&mut self, call: &Call) -> Result<RawAnswer, CallError> {
        let endpoint = &self.endpoints[self.turn % self.endpoints.len()];
        let mut lane = match self.lane.take() {
            Some(lane) => lane,
            None => match timeout(DEADLINE, Lane::open(&*self.connector, endpoint)).await {
                Ok(Ok(lane)) => lane,
                Ok(Err(broken)) => return Err(self.breaks(broken)),
                Err(_) => return Err(self.breaks(Broken::NotSent { endpoint: endpoint.clone(), cause: NO_ANSWER.to_owned() })),
            },
        };
        match timeout(DEADLINE, lane.call(call)).await {
            Ok(Ok(answer)) => {
                self.lane = lane.is_open().then_some(lane);
                answer.done(false)
            }
            Ok(Err(broken)) => Err(self.breaks(broken)),
            Err(_) => Err(self.breaks(Broken::Lost { endpoint: lane.endpoint().clone(), cause: NO_ANSWER.to_owned() })),
        }
    }

    fn breaks(&mut self, broken: Broken) -> CallError {
        self.turn += 1;
        CallError::of_broken(broken, false)
    }

    /// Counts a request for `orders` orders that was not done, and waits where asking again at once makes no sense.
    async fn failed(&mut self, error: &CallError, orders: u64) -> Seen {
        let wait = match error {
            CallError::Unreachable(_) => LONGEST_WAIT,
            _ => error.retry_after().unwrap_or_default().min(LONGEST_WAIT),
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if error.outcome_unknown() {
            return Seen { unknown: orders, ..Seen::default() };
        }
        Seen { refused: vec![(error.code().to_owned(), orders)], ..Seen::default() }
    }
}

impl Window {
    fn has(&self, moment: Instant) -> bool {
        self.begins <= moment && moment < self.ends
    }
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

//! Orders of many callers, gathered into requests for many orders, so that callers that come one by one share what a request costs.
//!
//! Nobody waits for a timer: while requests are under way, what comes meanwhile is gathered for the next one. Under load requests
//! grow, and a caller alone is sent at once.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use ordergrid_domain::Key;
use serde::Deserialize;
use sonic_rs::LazyValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::{Answer, Call, CallError, Client, RawAnswer, RetryPolicy};
use crate::wire::{BatchOrder, PlaceOrder};

/// Most bytes of orders in a request, unless a single order has more. A node takes 32 MiB by default.
const BYTES: usize = 4 << 20;
/// Times that those who are ready get the chance to hand their orders in before a request is sent.
const TURNS: usize = 2;

/// Settings of a [`Coalescer`].
#[derive(Clone, Copy, Debug)]
pub struct CoalesceOptions {
    /// Most orders in a request, 1 to 1,000 (the limit of a node, unless it is configured otherwise).
    pub orders: usize,
    /// Most requests under way, at least 1.
    pub requests: usize,
    /// How long a request waits for more orders after its first one. Zero: until those who are ready have handed theirs in.
    pub linger: Duration,
    /// Most orders that wait to be sent, at least 1. Further callers wait until there is room.
    pub waiting: usize,
    /// Answers have ids and statuses only ([`BatchOrder::Words`]), not whole orders.
    pub minimal: bool,
}

impl Default for CoalesceOptions {
    fn default() -> Self {
        Self { orders: 1_000, requests: 4, linger: Duration::ZERO, waiting: 16_384, minimal: false }
    }
}

/// Places orders together with those of other callers. Clones share requests.
///
/// Each order has its own idempotency key, its own result and its own retries, as if it had been sent by itself.
#[derive(Clone)]
pub struct Coalescer {
    client: Client,
    queue: mpsc::Sender<Ungathered>,
}

type OrderEnded = Result<RawAnswer, CallError>;

/// An order that waits to be sent, then for its result.
struct Ungathered {
    /// The order as JSON, its key included.
    order: Bytes,
    caller: oneshot::Sender<OrderEnded>,
}

impl Coalescer {
    /// A coalescer, and its work. Spawn the work: it sends the requests, and ends once every clone of the coalescer was dropped
    /// and everything was answered.
    ///
    /// # Panics
    /// If `orders`, `requests` or `waiting` is zero.
    #[must_use = "nothing is sent unless the work is spawned"]
    pub fn new(client: Client, options: CoalesceOptions) -> (Self, impl Future<Output = ()> + Send + use<>) {
        assert!(options.orders > 0 && options.requests > 0, "a coalescer sends requests that have orders");
        let (queue, waiting) = mpsc::channel(options.waiting);
        let gatherer = Gatherer { client: client.clone(), options, next: Vec::new(), sends_at: Instant::now() };
        (Self { client, queue }, gatherer.run(waiting))
    }

    /// Places an order, with the retries of the client's own policy. If the future is dropped, the outcome is unknown.
    ///
    /// # Errors
    /// [`CallError`], as for [`Client::place`].
    pub async fn place(&self, order: &PlaceOrder, key: &Key) -> Result<Answer<BatchOrder>, CallError> {
        let order = PlaceOrder { idempotency_key: Some(key.clone()), ..order.clone() };
        let order = sonic_rs::to_vec(&order).expect("wire types have string keys only");
        self.send(order.into(), self.client.policy()).await?.read()
    }

    /// Places an order that is written down already: a JSON object as in a batch, its key included.
    ///
    /// # Errors
    /// [`CallError`], as for [`Client::send`].
    pub async fn send(&self, order: Bytes, policy: &RetryPolicy) -> Result<RawAnswer, CallError> {
        self.client.retried(policy, true, |_, limit| self.once(order.clone(), limit)).await
    }

    async fn once(&self, order: Bytes, limit: Duration) -> OrderEnded {
        let (caller, answer) = oneshot::channel();
        let asked = async {
            // Only a coalescer whose work is gone takes no order.
            let stopped = |_| CallError::Unreachable("the coalescer's work has ended".to_owned());
            self.queue.send(Ungathered { order, caller }).await.map_err(stopped)?;
            answer.await.unwrap_or_else(|_| Err(CallError::Unknown("the coalescer's work was dropped".to_owned())))
        };
        let late = || CallError::Unknown(format!("nothing came within {} ms", limit.as_millis()));
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Gathers orders and sends them.
struct Gatherer {
    client: Client,
    options: CoalesceOptions,
    /// Orders of the next request.
    next: Vec<Ungathered>,
    /// When the next request is sent, although it may have room.
    sends_at: Instant,
}

impl Gatherer {
    async fn run(mut self, mut queue: mpsc::Receiver<Ungathered>) {
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !self.next.is_empty() || !under_way.is_empty() {
            let room = self.options.orders.saturating_sub(self.next.len());
            let may_send = !self.next.is_empty() && under_way.len() < self.options.requests;
            if may_send && (room == 0 || !open || Instant::now() >= self.sends_at) {
                self.fill(&mut queue).await;
                let orders = self.take();
                under_way.push(place(self.client.clone(), orders, self.options.minimal));
                continue;
            }
            let first = self.next.is_empty();
            tokio::select! {
                Some(()) = under_way.next() => {}
                taken = queue.recv_many(&mut self.next, room), if open && room > 0 => {
                    open = taken > 0;
                    if first {
                        self.sends_at = Instant::now() + self.options.linger;
                    }
                }
                () = sleep_until(self.sends_at), if may_send => {}
            }
        }
    }

    /// Those who are ready now hand their orders in. An answer wakes all its callers together, and the first to ask again would
    /// be sent alone otherwise.
    async fn fill(&mut self, queue: &mut mpsc::Receiver<Ungathered>) {
        for _ in 0..TURNS {
            yield_now().await;
            while self.next.len() < self.options.orders
                && let Ok(waiting) = queue.try_recv()
            {
                self.next.push(waiting);
            }
        }
    }

    /// The orders of a request: as many as fit, at least one.
    fn take(&mut self) -> Vec<Ungathered> {
        let mut bytes = 0;
        let fits = |waiting: &Ungathered| {
            bytes += waiting.order.len();
            bytes <= BYTES
        };
        let fitting = self.next.iter().map(fits).take_while(|fits| *fits).count().max(1);
        let rest = self.next.split_off(fitting);
        std::mem::replace(&mut self.next, rest)
    }
}

/// Sends orders in one request. Where that is refused as a whole and for good, one of the orders may be to blame: each half is sent
/// by itself then, so that in the end it alone is refused.
async fn place(client: Client, orders: Vec<Ungathered>, minimal: bool) {
    let mut parts = vec![orders];
    while let Some(mut orders) = parts.pop() {
        match ask(&client, &orders, minimal).await {
            Ok(results) => orders.into_iter().zip(results).for_each(|(order, result)| order.answer(result)),
            Err(CallError::Refused(refusal)) if !refusal.retryable && orders.len() > 1 => {
                let half = orders.split_off(orders.len() / 2);
                parts.extend([half, orders]);
            }
            Err(error) => orders.into_iter().for_each(|order| order.answer(Err(error.clone()))),
        }
    }
}

impl Ungathered {
    fn answer(self, result: OrderEnded) {
        // A caller that went away has its answer under its key.
        self.caller.send(result).ok();
    }
}

/// Sends orders in one request, once: whoever waits for an order tries again. One result per order.
async fn ask(client: &Client, orders: &[Ungathered], minimal: bool) -> Result<Vec<OrderEnded>, CallError> {
    let once = RetryPolicy::once(client.policy().attempt_timeout);
    let answer = client.send(&Call::place_written(body(orders), minimal), &once).await?;
    let results = split(&answer.body)?;
    if results.len() != orders.len() {
        let (results, orders) = (results.len(), orders.len());
        return Err(CallError::Unreadable(format!("{results} results for {orders} orders")));
    }
    Ok(results)
}

fn body(orders: &[Ungathered]) -> Bytes {
    let (head, tail) = (br#"{"orders":["#, b"]}");
    let length: usize = orders.iter().map(|waiting| waiting.order.len() + 1).sum();
    let mut body = BytesMut::with_capacity(head.len() + length + tail.len());
    body.put_slice(head);
    for (at, waiting) in orders.iter().enumerate() {
        if at > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&waiting.order);
    }
    body.put_slice(tail);
    body.freeze()
}

/// The answer of a batch; orders and errors are left as they are written.
#[derive(Deserialize)]
struct BatchSaid<'a> {
    #[serde(borrow)]
    results: Vec<SaidOfOne<'a>>,
}

#[derive(Deserialize)]
struct SaidOfOne<'a> {
    status: u16,
    #[serde(default)]
    replayed: bool,
    #[serde(default, borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    order: Option<LazyValue<'a>>,
    #[serde(default, borrow)]
    error: Option<LazyValue<'a>>,
}

/// The answer of a batch as the answers that separate requests would have had.
fn split(body: &Bytes) -> Result<Vec<OrderEnded>, CallError> {
    let unreadable = |error: sonic_rs::Error| {
        // Further lines of the message quote the body.
        CallError::Unreadable(error.to_string().lines().next().unwrap_or_default().to_owned())
    };
    let said: BatchSaid<'_> = sonic_rs::from_slice(body).map_err(unreadable)?;
    Ok(said.results.into_iter().map(|said| said.apart(body)).collect())
}

impl SaidOfOne<'_> {
    fn apart(self, body: &Bytes) -> OrderEnded {
        let status = StatusCode::from_u16(self.status).map_err(|error| CallError::Unreadable(error.to_string()))?;
        let part = self.order.or(self.error).map(|part| body.slice_ref(part.as_raw_str().as_bytes())).unwrap_or_default();
        let token = self.token.and_then(|token| HeaderValue::from_str(&token).ok());
        RawAnswer { status, replayed: self.replayed, retry_after: None, token, body: part }.done(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use serde_json::{Value, json};

    use super::super::scripted::{Asked, Scripted, Told};
    use super::super::{ClientOptions, Endpoint};
    use super::*;

    fn order(key: &str) -> Bytes {
        json!({"idempotency_key": key}).to_string().into()
    }

    fn keys(asked: &Asked) -> Vec<String> {
        let orders = asked.json()["orders"].as_array().cloned().expect("a batch has orders");
        orders.iter().map(|order| order["idempotency_key"].as_str().expect("each has a key").to_owned()).collect()
    }

    /// A network whose node answers each order by its key.
    fn network(result: impl Fn(&str) -> Value + Send + Sync + 'static) -> Scripted {
        Scripted::new(move |asked| {
            let results: Vec<_> = keys(asked).iter().map(|key| result(key)).collect();
            Told::json(200, &json!({"results": results}))
        })
    }

    fn made(key: &str) -> Value {
        json!({"status": 201, "token": format!("1:{key}"), "order": {"id": key}})
    }

    fn refused(status: u16, code: &str, retryable: bool) -> Value {
        let error = json!({"code": code, "detail": code, "retryable": retryable, "outcome": "refused"});
        json!({"status": status, "error": error})
    }

    /// What becomes of orders whose callers come together, by the id or the code they are told.
    async fn placed(network: &Scripted, options: CoalesceOptions, orders: &[&str]) -> Vec<String> {
        let settings = ClientOptions::default();
        let client = Client::new(&[Endpoint::new("a", 80)], Arc::new(network.clone()), settings);
        let (coalescer, work) = Coalescer::new(client, options);
        let work = tokio::spawn(work);
        let place = async |key: &&str| match coalescer.send(order(key), &settings.retry).await {
            Ok(answer) => answer.read::<Value>().expect("JSON").value["id"].as_str().expect("an id").to_owned(),
            Err(error) => error.code().to_owned(),
        };
        let told = join_all(orders.iter().map(place)).await;
        drop(coalescer);
        work.await.expect("the work ends with the last coalescer");
        told
    }

    fn asked(network: &Scripted) -> Vec<Vec<String>> {
        network.asked().iter().map(keys).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_come_together_share_requests_of_so_many_orders() {
        let network = network(made);
        let options = CoalesceOptions { orders: 2, requests: 9, ..CoalesceOptions::default() };
        assert_eq!(placed(&network, options, &["1", "2", "3", "4", "5"]).await, ["1", "2", "3", "4", "5"]);
        assert_eq!(asked(&network), [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
        assert!(network.asked().iter().all(|asked| asked.line() == "POST /v1/orders/batch"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_requests_are_under_way_is_gathered() {
        let network = network(made);
        let options = CoalesceOptions { orders: 2, requests: 1, ..CoalesceOptions::default() };
        assert_eq!(placed(&network, options, &["1", "2", "3", "4"]).await, ["1", "2", "3", "4"]);
        assert_eq!(asked(&network), [["1", "2"], ["3", "4"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_lingers_for_callers_that_come_a_little_later() {
        let network = network(made);
        let client = Client::new(&[Endpoint::new("a", 80)], Arc::new(network.clone()), ClientOptions::default());
        let linger = Duration::from_millis(5);
        let (coalescer, work) = Coalescer::new(client, CoalesceOptions { linger, ..CoalesceOptions::default() });
        let work = tokio::spawn(work);
        let place = async |key: &str, after| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            coalescer.send(order(key), &RetryPolicy::default()).await.expect("placed");
        };
        tokio::join!(place("1", 0), place("2", 4), place("3", 20));
        drop(coalescer);
        work.await.expect("the work ends with the last coalescer");
        assert_eq!(asked(&network), [vec!["1", "2"], vec!["3"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_order_has_its_own_end_and_only_what_may_be_retried_is_asked_again() {
        let busy = AtomicUsize::new(0);
        let network = network(move |key| match key {
            "sold" => refused(409, "out_of_stock", false),
            "busy" if busy.fetch_add(1, Ordering::Relaxed) == 0 => refused(503, "no_leader", true),
            key => made(key),
        });
        let options = CoalesceOptions::default();
        assert_eq!(placed(&network, options, &["1", "sold", "busy"]).await, ["1", "out_of_stock", "busy"]);
        assert_eq!(asked(&network), [vec!["1", "sold", "busy"], vec!["busy"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_lost_leaves_a_doubt_and_every_order_is_asked_again_with_its_key() {
        let first = AtomicUsize::new(0);
        let network = Scripted::new(move |asked| {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                return Told::HangUp;
            }
            let results: Vec<_> = keys(asked).iter().map(|_| refused(503, "overloaded", true)).collect();
            Told::json(200, &json!({"results": results}))
        });
        assert_eq!(placed(&network, CoalesceOptions::default(), &["1", "2"]).await, ["outcome_unknown", "outcome_unknown"]);
        let asked: Vec<_> = asked(&network).concat();
        assert_eq!((asked.iter().filter(|key| *key == "1").count(), asked.len()), (5, 10), "five attempts each: {asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_spoils_its_request_is_refused_alone() {
        let network = Scripted::new(|asked| {
            let keys = keys(asked);
            if keys.iter().any(|key| key == "bad") {
                return Told::problem(400, "unknown_field", false);
            }
            Told::json(200, &json!({"results": keys.iter().map(|key| made(key)).collect::<Vec<_>>()}))
        });
        let told = placed(&network, CoalesceOptions::default(), &["1", "2", "bad", "4"]).await;
        assert_eq!(told, ["1", "2", "unknown_field", "4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_with_too_few_results_is_not_shared_out() {
        let network = Scripted::new(|_| Told::json(200, &json!({"results": [made("1")]})));
        let told = placed(&network, CoalesceOptions::default(), &["1", "2"]).await;
        assert_eq!(told, ["unreadable_answer", "unreadable_answer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_bounded_by_bytes_too_but_one_order_always_goes() {
        let network = network(made);
        let client = Client::new(&[Endpoint::new("a", 80)], Arc::new(network.clone()), ClientOptions::default());
        let (coalescer, work) = Coalescer::new(client, CoalesceOptions::default());
        let work = tokio::spawn(work);
        let big = |key: &str| json!({"idempotency_key": key, "note": "x".repeat(BYTES * 2 / 3)}).to_string().into();
        let place = async |key: &str| coalescer.send(big(key), &RetryPolicy::default()).await.expect("placed");
        tokio::join!(place("1"), place("2"));
        drop(coalescer);
        work.await.expect("the work ends with the last coalescer");
        assert_eq!(asked(&network), [["1"], ["2"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn replays_and_tokens_are_those_of_the_order() {
        let network = network(|key| json!({"status": 200, "replayed": key == "again", "token": "1:7", "order": {"id": key}}));
        let client = Client::new(&[Endpoint::new("a", 80)], Arc::new(network), ClientOptions::default());
        let (coalescer, work) = Coalescer::new(client, CoalesceOptions::default());
        let work = tokio::spawn(work);
        for key in ["first", "again"] {
            let answer = coalescer.send(order(key), &RetryPolicy::default()).await.expect("placed");
            assert_eq!((answer.replayed, answer.token), (key == "again", Some(HeaderValue::from_static("1:7"))));
        }
        work.abort();
        work.await.expect_err("it was aborted");
        let error = coalescer.send(order("late"), &RetryPolicy::once(Duration::from_secs(1))).await.expect_err("nobody sends");
        assert_eq!((error.code(), error.outcome_unknown()), ("unreachable", false));
    }
}

//! Asking a node once, and what came of it: done, refused, unknown, or nobody was there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use ordergrid_api::client::{Broken, Call, Endpoint, Lane, RawAnswer, TcpConnector, path_segment};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::history::{Ask, Attempt, End, LineAsked, Moment, Seen, What, order_seen, sku_seen};

/// Longest a connection may take: the nodes are near.
const CONNECT: Duration = Duration::from_secs(1);

/// Longest an answer may take before the client turns away and the outcome is unknown to it.
const ANSWER: Duration = Duration::from_secs(4);

/// Seconds to pay, unless told otherwise; the grid's own default.
pub(super) const WINDOW_S: u64 = 900;

/// A client's connections, one to each node.
pub(super) struct Asker {
    endpoints: Vec<Endpoint>,
    lanes: BTreeMap<usize, Lane>,
    started: Instant,
}

impl Asker {
    /// A client without connections; moments are counted from `started`.
    pub(super) fn new(endpoints: &[Endpoint], started: Instant) -> Self {
        Self { endpoints: endpoints.to_vec(), lanes: BTreeMap::new(), started }
    }

    /// Now.
    pub(super) fn now(&self) -> Moment {
        Moment::try_from(self.started.elapsed().as_micros()).expect("a round is short")
    }

    /// Asks one node, once.
    pub(super) async fn ask(&mut self, node: usize, ask: &Ask, key: Option<&str>) -> Attempt {
        let began = self.now();
        let end = match self.send(node, &call(ask, key), ANSWER).await {
            Ok(answer) => end(ask, &answer),
            Err(end) => end,
        };
        Attempt { node, began, ended: self.now(), end }
    }

    /// Sends something to a node, numbered from 1.
    ///
    /// # Errors
    /// How it ended without an answer.
    pub(super) async fn send(&mut self, node: usize, call: &Call, patience: Duration) -> Result<RawAnswer, End> {
        let mut lane = match self.lanes.remove(&node).map(|mut lane| (lane.usable(), lane)) {
            Some((true, lane)) => lane,
            _ => match timeout(CONNECT, Lane::open(&TcpConnector, &self.endpoints[node - 1])).await {
                Ok(Ok(lane)) => lane,
                _ => return Err(End::NotSent),
            },
        };
        match timeout(patience, lane.call(call)).await {
            Ok(Ok(answer)) => {
                self.lanes.insert(node, lane);
                Ok(answer)
            }
            Ok(Err(Broken::NotSent { .. })) => Err(End::NotSent),
            Ok(Err(Broken::Lost { .. })) => Err(End::Unknown("lost".to_owned())),
            Err(_) => Err(End::Unknown("no answer in time".to_owned())),
        }
    }

    /// Reads something from a node; none if it is not answered with 200.
    pub(super) async fn read(&mut self, node: usize, path: &str, patience: Duration) -> Option<Value> {
        let answer = self.send(node, &Call::get(path), patience).await.ok()?;
        answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }
}

impl Asker {
    /// What a node says, whatever it is, or that it says nothing.
    pub(super) async fn send_for_text(&mut self, node: usize, path: &str) -> String {
        match self.send(node, &Call::get(path), ANSWER).await {
            Ok(answer) => String::from_utf8_lossy(&answer.body).chars().take(600).collect(),
            Err(end) => format!("{end:?}"),
        }
    }
}

/// The request.
fn call(ask: &Ask, key: Option<&str>) -> Call {
    let name = key.unwrap_or_default();
    let header = || HeaderValue::from_str(name).expect("keys are plain letters");
    match ask {
        Ask::Place { user, lines, window_s } => {
            let line = |LineAsked { sku, quantity, unit_price }: &LineAsked| json!({"sku": sku, "quantity": quantity, "unit_price": unit_price});
            let lines: Vec<Value> = lines.iter().map(line).collect();
            let body = json!({
                "user_id": user, "currency": "GBP", "lines": lines, "metadata": {"key": name},
                "payment_window_seconds": window_s,
            });
            Call::post("/v1/orders", header()).with_json(&body)
        }
        Ask::Pay { order, amount } => {
            let body = json!({"provider_payment_id": name, "status": "captured", "amount": amount, "currency": "GBP"});
            Call::post(&format!("/v1/orders/{order}/payments"), header()).with_json(&body)
        }
        Ask::Cancel { order } => {
            Call::post(&format!("/v1/orders/{order}/cancel"), header()).with_json(&json!({"reason": "user"}))
        }
        Ask::Receive { sku, quantity } => {
            Call::post(&format!("/v1/skus/{}/receive", path_segment(sku)), header()).with_json(&json!({"quantity": quantity}))
        }
        Ask::Order { order } => Call::get(&format!("/v1/orders/{order}")),
        Ask::Sku { sku } => Call::get(&format!("/v1/skus/{}", path_segment(sku))),
        Ask::List { user } => Call::get(&format!("/v1/users/{}/orders?size=100", path_segment(user))),
    }
}

/// What an answer means.
fn end(ask: &Ask, answer: &RawAnswer) -> End {
    let status = answer.status.as_u16();
    let odd = || {
        let text = String::from_utf8_lossy(&answer.body);
        End::Odd(format!("{status}: {}", text.chars().take(200).collect::<String>()))
    };
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return odd() };
    if answer.status.is_success() {
        let token = answer.token.as_ref().and_then(|token| token.to_str().ok()).and_then(token);
        let what = match ask {
            Ask::Receive { .. } | Ask::Sku { .. } => sku_seen(&body).map(What::Sku),
            Ask::List { .. } => list(&body),
            Ask::Place { .. } | Ask::Pay { .. } | Ask::Cancel { .. } | Ask::Order { .. } => {
                order_seen(&body).map(|order| What::Order(Box::new(order)))
            }
        };
        return what.map_or_else(odd, |what| End::Done(Seen { replayed: answer.replayed, token, what }));
    }
    problem(&body, status).unwrap_or_else(odd)
}

/// A problem that says which of the three ends it is, and everything a client needs.
fn problem(body: &Value, status: u16) -> Option<End> {
    let code = body["code"].as_str()?.to_owned();
    let retryable = body["retryable"].as_bool()?;
    match body["outcome"].as_str()? {
        _ if status == 500 => None,
        "refused" => Some(End::Refused { code, retryable }),
        "unknown" => Some(End::Unknown(code)),
        _ => None,
    }
}

fn list(body: &Value) -> Option<What> {
    let orders = body["orders"].as_array()?.iter().map(order_seen).collect::<Option<_>>()?;
    Some(What::List(orders, body.as_object().is_some_and(|body: &Map<String, Value>| body.contains_key("next_cursor"))))
}

fn token(text: &str) -> Option<(u64, u64)> {
    let (shard, index) = text.split_once(':')?;
    Some((shard.parse().ok()?, index.parse().ok()?))
}

//! Placing many orders at once: each has its own key and its own result, and none can spoil another.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::Order;
use ordergrid_domain::command::OrderRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::call::Call;
use super::{Api, Ended, orders, reply};
use crate::body;
use crate::fault::{Fault, kinds};
use crate::grid::{Answer, Failure, Reply, UnknownCause};
use crate::metrics::Stage;
use crate::wire::canonical::Canon;
use crate::wire::written::Writer;
use crate::wire::{OrderWords, PlaceBatch, PlaceOrder};

/// `POST /v1/orders/batch`
pub(super) async fn place(api: Arc<Api>, mut call: Call) -> Ended {
    let minimal = wants_minimal(&call)?;
    let bytes = call.body(&api, api.limits.batch_bytes).await?;
    let orders = read(&bytes)?;
    check_count(orders.len(), api.limits.batch_orders)?;
    let (requests, mut results) = check(orders, api.limits.order_lines);
    call.ends(&api, Stage::Parse);
    let count = requests.len();
    let answers = if count == 0 { Vec::new() } else { placed(&api, requests).await };
    call.ends(&api, Stage::Grid);
    fill(&mut results, answers, &bytes);
    count_problems(&api, &results);
    let (bytes, id) = (results.len() * if minimal { 160 } else { 1_024 }, call.id.as_str());
    let response = reply::written(StatusCode::OK, bytes, |json| write(json, &results, id, minimal));
    call.ends(&api, Stage::Write);
    Ok(response)
}

fn wants_minimal(call: &Call) -> Result<bool, Fault> {
    match call.query(["return"])? {
        [None] => Ok(false),
        [Some(word)] if word == "minimal" => Ok(true),
        [Some(word)] if word == "representation" => Ok(false),
        [Some(_)] => Err(Fault::new(&kinds::INVALID_PARAMETER, "must be one of minimal representation").at("return")),
    }
}

fn check_count(count: usize, most: usize) -> Result<(), Fault> {
    if count == 0 {
        return Err(Fault::new(&kinds::INVALID_ORDERS, "a batch has at least one order").at("orders"));
    }
    if count > most {
        return Err(Fault::new(&kinds::TOO_MANY_ORDERS, format!("{count} orders, the limit is {most}")).at("orders"));
    }
    Ok(())
}

/// Reads the batch in one go; when something in it is wrong, each order by itself, so that the others are placed.
fn read(bytes: &[u8]) -> Result<Vec<Result<PlaceOrder, Fault>>, Fault> {
    if let Some(batch) = body::parse_fast::<PlaceBatch>(bytes) {
        return Ok(batch.orders.into_iter().map(Ok).collect());
    }
    let batch: RawBatch<'_> = body::parse_exactly(bytes)?;
    Ok(batch.orders.into_iter().map(|order| body::parse(order.get().as_bytes())).collect())
}

/// [`PlaceBatch`] with its orders unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    orders: Vec<&'a RawValue>,
}

/// What became of one order of the batch.
enum Item {
    /// It could not even be asked.
    Wrong(Fault),
    /// It waits for its answer.
    Asked,
    /// It was placed.
    Placed(Answer<Box<Order>>),
}

/// Checks every order, and keeps the place of those that are wrong.
fn check(orders: Vec<Result<PlaceOrder, Fault>>, most_lines: usize) -> (Vec<OrderRequest>, Vec<Item>) {
    let mut canon = Canon::new();
    let mut requests = Vec::with_capacity(orders.len());
    let results = orders
        .into_iter()
        .map(|order| match order.and_then(|order| request(order, &mut canon, most_lines)) {
            Ok(request) => {
                requests.push(request);
                Item::Asked
            }
            Err(fault) => Item::Wrong(fault),
        })
        .collect();
    (requests, results)
}

fn request(mut order: PlaceOrder, canon: &mut Canon, most_lines: usize) -> Result<OrderRequest, Fault> {
    let missing = || Fault::new(&kinds::MISSING_IDEMPOTENCY_KEY, "every order of a batch has its own").at("idempotency_key");
    let key = order.idempotency_key.take().ok_or_else(missing)?;
    orders::request(order, key, canon, most_lines)
}

async fn placed(api: &Api, requests: Vec<OrderRequest>) -> Vec<Reply<Box<Order>>> {
    let count = requests.len();
    match tokio::time::timeout(api.limits.grid_patience, api.grid.place_many(requests)).await {
        Ok(answers) => {
            assert_eq!(answers.len(), count, "the grid answered another number of orders than it was asked for");
            answers
        }
        Err(_) => (0..count).map(|_| Err(Failure::unknown(UnknownCause::TimedOut))).collect(),
    }
}

/// Puts the answers where their orders stand.
fn fill(results: &mut [Item], answers: Vec<Reply<Box<Order>>>, bytes: &[u8]) {
    let mut sent: Option<Vec<Result<PlaceOrder, Fault>>> = None;
    let asked = results.iter_mut().enumerate().filter(|(_, item)| matches!(item, Item::Asked));
    for ((index, item), answer) in asked.zip(answers) {
        *item = match answer {
            Ok(answer) => Item::Placed(answer),
            Err(failure) => {
                let lines = || {
                    let sent = sent.get_or_insert_with(|| read(bytes).unwrap_or_default());
                    let order = sent.get(index).and_then(|order| order.as_ref().ok());
                    order.map(|order| order.lines.clone()).unwrap_or_default()
                };
                Item::Wrong(orders::of_place(failure, lines))
            }
        };
    }
}

fn count_problems(api: &Api, results: &[Item]) {
    let faults = results.iter().filter_map(|item| if let Item::Wrong(fault) = item { Some(fault) } else { None });
    let mut unknown = 0;
    for fault in faults {
        api.meters.problem(fault.kind());
        unknown += u32::from(fault.outcome_unknown());
    }
    if unknown > 0 {
        tracing::warn!(unknown, of = results.len(), "outcomes of a batch are unknown");
    }
}

/// [`wire::Batch`](crate::wire::Batch), written from what the grid answered, one order after the other.
fn write(json: &mut Writer<'_>, results: &[Item], request_id: &str, minimal: bool) {
    json.raw("{\"results\":[");
    for (index, item) in results.iter().enumerate() {
        json.number(if index == 0 { "{\"status\":" } else { ",{\"status\":" }, status(item));
        match item {
            Item::Placed(answer) => {
                if answer.replayed {
                    json.raw(",\"replayed\":true");
                }
                json.number(",\"token\":\"", answer.token.shard);
                json.number(":", answer.token.index);
                json.raw("\",\"order\":");
                if minimal {
                    json.value("", &OrderWords::from(&*answer.value));
                } else {
                    json.order(&answer.value);
                }
            }
            Item::Wrong(fault) if minimal => json.value(",\"error\":", &fault.body(request_id).minimal()),
            Item::Wrong(fault) => json.value(",\"error\":", &fault.body(request_id)),
            Item::Asked => unreachable!("every order that was asked has its answer"),
        }
        json.raw("}");
    }
    json.raw("]}");
}

fn status(item: &Item) -> u16 {
    match item {
        Item::Wrong(fault) => fault.kind().status,
        Item::Asked | Item::Placed(_) => StatusCode::CREATED.as_u16(),
    }
}

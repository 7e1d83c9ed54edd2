//! `POST /v1/orders/batch`: places many orders.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use ordergrid_domain::Order;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Count, Item, Told, answered, fill, its_own, respond, sort, turned_away, wants_minimal};
use crate::body;
use crate::fault::{Fault, kinds};
use crate::grid::Grid;
use crate::routes::call::Call;
use crate::routes::meters::Stage;
use crate::routes::{Api, Ended, orders};
use crate::wire::canonical::Canon;
use crate::wire::{PlaceBatch, PlaceOrder};

const COUNT: Count = Count { one: "order", field: "orders", none: &kinds::INVALID_ORDERS, many: &kinds::TOO_MANY_ORDERS };

/// `POST /v1/orders/batch`
pub(in crate::routes) async fn place(api: Arc<Api>, mut call: Call) -> Ended {
    let minimal = wants_minimal(&call)?;
    let bytes = call.body(&api, api.limits.batch_bytes).await?;
    let orders = read(&bytes)?;
    COUNT.check(orders.len(), api.limits.batch_orders)?;
    let mut canon = Canon::new();
    let checked = orders.into_iter().map(|order| {
        let mut order = order?;
        let key = its_own(order.idempotency_key.take())?;
        orders::request(order, key, &mut canon, api.limits.order_lines)
    });
    let (requests, mut items): (Vec<_>, Vec<Item<Arc<Order>>>) = sort(checked);
    let count = requests.len();
    call.ends(&api, Stage::Parse);
    let place = |grid: Arc<dyn Grid>| async move { grid.place_many(requests).await }.boxed();
    let answers = answered(&api, call.taken(), count, place).await;
    call.ends(&api, Stage::Grid);
    if let Some(fault) = turned_away(&items, &answers) {
        return Err(fault);
    }
    let mut sent: Option<Vec<Result<PlaceOrder, Fault>>> = None;
    fill(&mut items, answers, |index, failure| {
        let lines = || {
            let sent = sent.get_or_insert_with(|| read(&bytes).unwrap_or_default());
            let order = sent.get(index).and_then(|order| order.as_ref().ok());
            order.map(|order| order.lines.clone()).unwrap_or_default()
        };
        orders::of_place(failure, lines)
    });
    // Placing answers exactly what it answered first.
    let told =
        Told { status: |_| StatusCode::CREATED, order: |order: &Arc<Order>| order, created: |_| None, version: |_| None };
    Ok(respond(&api, &mut call, items, minimal, told))
}

/// Parses the batch as a whole. If that fails, parses each order separately, so that the valid ones are placed.
fn read(bytes: &[u8]) -> Result<Vec<Result<PlaceOrder, Fault>>, Fault> {
    if let Some(batch) = body::parse_fast::<PlaceBatch>(bytes) {
        return Ok(batch.orders.into_iter().map(Ok).collect());
    }
    let batch: RawBatch<'_> = body::parse_exactly(bytes)?;
    Ok(batch.orders.into_iter().map(|order| body::parse(order.get().as_bytes())).collect())
}

/// [`PlaceBatch`] with unparsed orders.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    orders: Vec<&'a RawValue>,
}

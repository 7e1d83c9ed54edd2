//! Commands on an order: each reads its body, says who asks for what, and answers the whole new order.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::OrderId;
use ordergrid_domain::command::{Created, OrderAction, OrderCommand};
use ordergrid_domain::order::{Operator, Order};
use serde::Deserialize;

use super::call::Call;
use super::{Api, Ended, reply};
use crate::body;
use crate::check;
use crate::fault::Fault;
use crate::grid::{Answer, OrderChanged};
use crate::metrics::Stage;
use crate::wire::canonical::{Bare, Canon};
use crate::wire::{
    self, CancelOrder, Empty, FulfilmentChanged, PayOrder, PickOrder, RefundOrder, RefundOutcome, ShipFulfilment,
};

/// `POST /v1/orders/{id}/payments`
pub(super) async fn pay(api: Arc<Api>, mut call: Call) -> Ended {
    let order = call.order()?;
    let request: PayOrder = required(&api, &mut call).await?;
    let hash = Canon::new().hash(&request);
    command(&api, call, order, Operator::Provider, check::pay(request)?, hash).await
}

/// `POST /v1/orders/{id}/cancel`
pub(super) async fn cancel(api: Arc<Api>, mut call: Call) -> Ended {
    let order = call.order()?;
    let request: CancelOrder = required(&api, &mut call).await?;
    let hash = Canon::new().hash(&request);
    let (operator, action) = check::cancel(request)?;
    command(&api, call, order, operator, action, hash).await
}

/// `POST /v1/orders/{id}/complete`
pub(super) async fn complete(api: Arc<Api>, mut call: Call) -> Ended {
    let order = call.order()?;
    let Empty {} = optional(&api, &mut call).await?;
    bare(&api, call, order, Bare::Complete, OrderAction::Complete).await
}

/// `POST /v1/orders/{id}/fulfilments`
pub(super) async fn pick(api: Arc<Api>, mut call: Call) -> Ended {
    let order = call.order()?;
    let request: PickOrder = optional(&api, &mut call).await?;
    let hash = Canon::new().hash(&request);
    let action = check::pick(request)?;
    let answer = changed(&api, &mut call, order, Operator::Merchant, action, hash).await?;
    let response = match picked(&answer.value) {
        Some(body) => reply::versioned(StatusCode::CREATED, &answer, body.order.version, &body),
        None => whole_order(&answer),
    };
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// The fulfilment that was created, in its order.
fn picked(changed: &OrderChanged) -> Option<FulfilmentChanged> {
    let order: &Order = &changed.order;
    let Some(Created::Fulfilment(id)) = changed.created else {
        return None;
    };
    let fulfilment = order.fulfilments.iter().find(|fulfilment| fulfilment.number == id.number)?;
    Some(FulfilmentChanged { fulfilment: wire::Fulfilment::of(order, fulfilment), order: order.into() })
}

/// `POST /v1/fulfilments/{id}/ship`
pub(super) async fn ship(api: Arc<Api>, mut call: Call) -> Ended {
    let fulfilment = call.fulfilment()?;
    let parcel: ShipFulfilment = optional(&api, &mut call).await?;
    let request = (fulfilment, parcel);
    let hash = Canon::new().hash(&request);
    command(&api, call, fulfilment.order, Operator::Merchant, check::ship(request.0, request.1), hash).await
}

/// `POST /v1/fulfilments/{id}/deliver`
pub(super) async fn deliver(api: Arc<Api>, mut call: Call) -> Ended {
    let fulfilment = call.fulfilment()?;
    let Empty {} = optional(&api, &mut call).await?;
    bare(&api, call, fulfilment.order, Bare::Deliver(fulfilment), OrderAction::Deliver { fulfilment }).await
}

/// `POST /v1/fulfilments/{id}/cancel`
pub(super) async fn unpick(api: Arc<Api>, mut call: Call) -> Ended {
    let fulfilment = call.fulfilment()?;
    let Empty {} = optional(&api, &mut call).await?;
    bare(&api, call, fulfilment.order, Bare::Unpick(fulfilment), OrderAction::Unpick { fulfilment }).await
}

/// `POST /v1/orders/{id}/refunds`
pub(super) async fn refund(api: Arc<Api>, mut call: Call) -> Ended {
    let order = call.order()?;
    let request: RefundOrder = required(&api, &mut call).await?;
    let hash = Canon::new().hash(&request);
    command(&api, call, order, Operator::Merchant, check::refund(request)?, hash).await
}

/// `POST /v1/orders/{id}/refunds/{refund}`
pub(super) async fn refund_outcome(api: Arc<Api>, mut call: Call) -> Ended {
    let refund = call.refund()?;
    let outcome: RefundOutcome = required(&api, &mut call).await?;
    let hash = Canon::new().hash(&(refund, outcome));
    let action = check::refund_outcome(refund, outcome)?;
    command(&api, call, refund.order, Operator::Provider, action, hash).await
}

async fn bare(api: &Api, call: Call, order: OrderId, meaning: Bare, action: OrderAction) -> Ended {
    let hash = Canon::new().hash(&meaning);
    command(api, call, order, Operator::Merchant, action, hash).await
}

/// Reads a body that must be there. The key is looked at first: without one nothing else matters.
pub(super) async fn required<T>(api: &Api, call: &mut Call) -> Result<T, Fault>
where
    T: for<'a> Deserialize<'a>,
{
    call.key()?;
    let [] = call.query([])?;
    let bytes = call.body(api, api.limits.body_bytes).await?;
    body::parse(&bytes)
}

/// Reads a body that may be left out.
async fn optional<T>(api: &Api, call: &mut Call) -> Result<T, Fault>
where
    T: for<'a> Deserialize<'a> + Default,
{
    call.key()?;
    let [] = call.query([])?;
    let bytes = call.body(api, api.limits.body_bytes).await?;
    body::parse_optional(&bytes)
}

async fn command(api: &Api, mut call: Call, order: OrderId, operator: Operator, action: OrderAction, body_hash: u64) -> Ended {
    let answer = changed(api, &mut call, order, operator, action, body_hash).await?;
    let response = whole_order(&answer);
    call.ends(api, Stage::Write);
    Ok(response)
}

async fn changed(
    api: &Api,
    call: &mut Call,
    order: OrderId,
    operator: Operator,
    action: OrderAction,
    body_hash: u64,
) -> Result<Answer<OrderChanged>, Fault> {
    let (key, expect_version) = (call.key()?, call.expected_version()?);
    call.ends(api, Stage::Parse);
    let command = OrderCommand { order, key, body_hash, expect_version, operator, action };
    let answer = api.done(api.grid.command_order(command)).await;
    call.ends(api, Stage::Grid);
    Ok(answer?)
}

fn whole_order(answer: &Answer<OrderChanged>) -> axum::http::Response<axum::body::Body> {
    let OrderChanged { order, created } = &answer.value;
    let status = reply::created_or_ok(created.is_some());
    reply::versioned(status, answer, order.version, &wire::Order::changed(order, *created))
}

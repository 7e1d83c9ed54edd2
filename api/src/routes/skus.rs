//! SKUs: the catalogue row and its stock.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::command::{SkuAction, SkuCommand};
use ordergrid_domain::{Key, SkuId};
use serde::Deserialize;

use super::call::Call;
use super::{Api, Ended, reply};
use crate::body;
use crate::check;
use crate::fault::Fault;
use crate::metrics::Stage;
use crate::wire::canonical::Canon;
use crate::wire::{AdjustStock, PutSku, ReceiveStock, Sku};

/// `GET /v1/skus/{id}`
pub(super) async fn sku(api: Arc<Api>, mut call: Call) -> Ended {
    let [consistency] = call.query(["consistency"])?;
    let options = call.read_options(consistency.as_deref())?;
    let answer = api.seen(api.grid.sku(call.sku()?, options)).await?;
    call.ends(&api, Stage::Grid);
    let body = Sku::new(&answer.value, answer.token.index);
    Ok(reply::versioned(api.account(), StatusCode::OK, &answer, body.version, &body))
}

/// `PUT /v1/skus/{id}`: idempotent by itself, so a key is not asked for.
pub(super) async fn put(api: Arc<Api>, mut call: Call) -> Ended {
    let sku = call.sku()?;
    let [] = call.query([])?;
    let bytes = call.body(&api, api.limits.body_bytes).await?;
    let request: PutSku = body::parse(&bytes)?;
    let hash = Canon::new().hash(&request);
    command(&api, call, sku, None, check::put(request), hash).await
}

/// `POST /v1/skus/{id}/receive`
pub(super) async fn receive(api: Arc<Api>, mut call: Call) -> Ended {
    let sku = call.sku()?;
    let request: ReceiveStock = required(&api, &mut call).await?;
    let (key, hash) = (call.key()?, Canon::new().hash(&request));
    command(&api, call, sku, Some(key), check::receive(request)?, hash).await
}

/// `POST /v1/skus/{id}/adjust`
pub(super) async fn adjust(api: Arc<Api>, mut call: Call) -> Ended {
    let sku = call.sku()?;
    let request: AdjustStock = required(&api, &mut call).await?;
    let (key, hash) = (call.key()?, Canon::new().hash(&request));
    command(&api, call, sku, Some(key), check::adjust(request)?, hash).await
}

async fn command(api: &Api, mut call: Call, sku: SkuId, key: Option<Key>, action: SkuAction, body_hash: u64) -> Ended {
    let expect_version = call.expected_version()?;
    call.ends(api, Stage::Parse);
    let command = SkuCommand { sku, key, body_hash, expect_version, action };
    let answer = api.done(api.grid.command_sku(command)).await;
    call.ends(api, Stage::Grid);
    let answer = answer?;
    let body = Sku::new(&answer.value.sku, answer.token.index);
    let response = reply::versioned(api.account(), reply::created_or_ok(answer.value.created), &answer, body.version, &body);
    call.ends(api, Stage::Write);
    Ok(response)
}

/// Reads a body that must be there. The key is looked at first: without one nothing else matters.
async fn required<T>(api: &Api, call: &mut Call) -> Result<T, Fault>
where
    T: for<'a> Deserialize<'a>,
{
    call.key()?;
    let [] = call.query([])?;
    let bytes = call.body(api, api.limits.body_bytes).await?;
    body::parse(&bytes)
}

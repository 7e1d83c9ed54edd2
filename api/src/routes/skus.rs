//! SKUs: the catalogue row and its stock.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::command::{SkuAction, SkuCommand};
use ordergrid_domain::{Rejection, SkuId};

use super::call::Call;
use super::entry::SkuReader;
use super::{Api, Ended, reply};
use crate::fault::{Fault, kinds};
use crate::grid::Failure;
use crate::routes::meters::Stage;
use crate::wire::canonical::{Canon, Meaning};
use crate::wire::{Figures, Sku, identifier};

/// `GET /v1/skus/{id}`
pub(super) async fn sku(api: Arc<Api>, mut call: Call) -> Ended {
    let [consistency] = call.query(["consistency"])?;
    let options = call.read_options(consistency.as_deref())?;
    let answer = api.seen(api.grid.sku(call.at()?, options)).await?;
    call.ends(&api, Stage::Grid);
    let body = Sku::new(&answer.value, answer.token.index);
    Ok(reply::versioned(api.account(), StatusCode::OK, &answer, body.version, &body))
}

/// A command on a SKU. A required key is checked first, because a request without a key is refused anyway.
pub(super) async fn command(api: Arc<Api>, mut call: Call, read: SkuReader) -> Ended {
    let sku: SkuId = call.at()?;
    let key = if call.needs_key() { Some(call.key()?) } else { None };
    let [] = call.query([])?;
    let bytes = call.body(&api, api.limits.body_bytes).await?;
    let (mut action, body_hash) = read(&bytes, &mut Canon::new())?;
    if matches!(action, SkuAction::Put { .. }) {
        // A SKU that is there under an id of before can be read, and its stock changed.
        identifier::check(sku.as_str()).map_err(|detail| Fault::new(&kinds::INVALID_SKU, detail).at("sku"))?;
    }
    let expect_version = match action {
        SkuAction::Put { name } if call.must_be_new()? => {
            action = SkuAction::Create { name };
            None
        }
        put_or_other => {
            action = put_or_other;
            call.expected_version()?
        }
    };
    let is_new = matches!(action, SkuAction::Create { .. });
    call.ends(&api, Stage::Parse);
    let command = SkuCommand { sku, key, body_hash, expect_version, action };
    let answer = api.done(api.grid.command_sku(command)).await;
    call.ends(&api, Stage::Grid);
    let answer = answer.map_err(|failure| if is_new { there_already(failure) } else { failure.into() })?;
    let replayed_version = answer.replayed.then_some(answer.value.version);
    let body = Sku { replayed_version, ..Sku::new(&answer.value.sku, answer.token.index) };
    let response = reply::versioned(api.account(), reply::created_or_ok(answer.value.created), &answer, body.version, &body);
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// The fault of a SKU that was to be new.
fn there_already(failure: Failure) -> Fault {
    let Failure::Rejected(Rejection::StaleVersion { actual, .. }) = &failure else { return failure.into() };
    let detail = format!("the SKU exists, at version {actual}");
    let figures = Figures { current_version: Some(*actual), ..Figures::default() };
    Fault::new(&kinds::STALE_VERSION, detail).with(figures).at("If-None-Match")
}

/// Checks a command on a SKU. The hash is of the request's meaning, before defaults are applied.
pub(super) fn ask<Body: Meaning>(
    body: Body,
    canon: &mut Canon,
    check: fn(Body) -> Result<SkuAction, Fault>,
) -> Result<(SkuAction, u64), Fault> {
    let body_hash = canon.hash(&body);
    Ok((check(body)?, body_hash))
}

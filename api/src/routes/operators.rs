//! Routes of operators and probes. Liveness, readiness and metrics need no quorum.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Response, StatusCode, header};
use ordergrid_domain::Timestamp;
use serde::Serialize;

use super::call::Call;
use super::{Api, Ended, pieces, reply};
use crate::fault::{Fault, kinds};
use crate::metrics;
use crate::wire::{AcceptClock, AskedRepair, Readiness, RightClock, WireText};

/// `GET /livez`: the process answers.
pub(super) async fn live(api: Arc<Api>, _: Call) -> Ended {
    #[derive(Serialize)]
    struct Live {
        live: bool,
    }
    Ok(reply::json(api.account(), StatusCode::OK, &Live { live: true }, 16))
}

/// `GET /readyz`: whether this node can accept requests. `?verbose` lists every check; otherwise only failing checks are
/// listed.
pub(super) async fn ready(api: Arc<Api>, call: Call) -> Ended {
    let [verbose] = call.query(["verbose"])?;
    let verbose = verbose.is_some_and(|value| value != "false");
    let checks = api.grid.readiness().await;
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = checks.into_iter().filter(|check| verbose || !check.ok).collect();
    Ok(reply::json(api.account(), status, &Readiness { ready, checks }, 256))
}

/// `GET /metrics`
pub(super) async fn measures(api: Arc<Api>, _: Call) -> Ended {
    metrics::account(api.account());
    let mut response = Response::new(pieces::whole(api.account(), api.grid.metrics().into_bytes()));
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, prometheus);
    Ok(response)
}

/// `GET /admin/v1/cluster/status`
pub(super) async fn status(api: Arc<Api>, call: Call) -> Ended {
    let [] = call.query([])?;
    let answer = api.seen(api.grid.status()).await?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 4_096))
}

/// `GET /admin/v1/cluster/clock`
pub(super) async fn clock(api: Arc<Api>, call: Call) -> Ended {
    let [] = call.query([])?;
    let answer = api.seen(api.grid.clocks(None)).await?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 1_024))
}

/// `POST /admin/v1/cluster/clock/accept?right=wall|log&dry_run=`. Idempotent.
pub(super) async fn accept_clock(api: Arc<Api>, call: Call) -> Ended {
    let [right, dry_run] = call.query(["right", "dry_run"])?;
    let right = right.as_deref().and_then(RightClock::of_word);
    let right = right.ok_or_else(|| Fault::new(&kinds::INVALID_PARAMETER, "is required: wall or log").at("right"))?;
    let accept = AcceptClock { right, dry_run: said("dry_run", dry_run.as_deref())? };
    let answer = api.seen(api.grid.clocks(Some(accept))).await?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 1_024))
}

/// `POST /admin/v1/cluster/clock/repair?dry_run=&since=`. Idempotent. A dry run reads every row.
pub(super) async fn repair_clock(api: Arc<Api>, call: Call) -> Ended {
    let [dry_run, since] = call.query(["dry_run", "since"])?;
    let since = since.map(|text| Timestamp::read(&text)).transpose();
    let since = since.map_err(|wrong| Fault::new(&kinds::INVALID_PARAMETER, wrong).at("since"))?;
    let asked = AskedRepair { dry_run: said("dry_run", dry_run.as_deref())?, since };
    let answer = api.at_length(api.grid.repair_clock(asked), api.limits.verify_patience).await?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 4_096))
}

/// `POST /admin/v1/cluster/streams/reconcile?dry_run=`. Said twice, there is nothing left to do; it reads every row.
pub(super) async fn reconcile_streams(api: Arc<Api>, call: Call) -> Ended {
    let [dry_run] = call.query(["dry_run"])?;
    let dry_run = said("dry_run", dry_run.as_deref())?;
    let answer = api.at_length(api.grid.reconcile_streams(dry_run), api.limits.verify_patience).await?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 4_096))
}

/// A boolean parameter; false if absent.
fn said(name: &'static str, value: Option<&str>) -> Result<bool, Fault> {
    match value {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(_) => Err(Fault::new(&kinds::INVALID_PARAMETER, "must be true or false").at(name)),
    }
}

/// `POST /admin/v1/cluster/verify?within_ms=`, and `GET`: it changes nothing. A violation is part of the answer, not an error, and
/// so is what was not judged within the time that the caller waits.
pub(super) async fn verify(api: Arc<Api>, call: Call) -> Ended {
    let [within] = call.query(["within_ms"])?;
    let within = within.map(|text| u64::read(&text)).transpose();
    let within = within.map_err(|wrong| Fault::new(&kinds::INVALID_PARAMETER, wrong).at("within_ms"))?;
    let most = api.limits.verify_patience;
    let within = within.map_or(most, |within| Duration::from_millis(within).min(most));
    let answer = api.at_length(api.grid.verify(within), most).await;
    let answer = answer.map_err(|failure| Fault::from(failure).of_a_read())?;
    Ok(reply::json(api.account(), StatusCode::OK, &answer.value, 4_096))
}

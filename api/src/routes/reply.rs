//! Successful answers: serialised directly into one buffer, or in pieces if they are large.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use ordergrid_domain::Order;
use serde::Serialize;

use super::pieces::{self, LargeOrder};
use crate::account::{Account, Use};
use crate::grid::{Answer, Token};
use crate::wire::written::{OfCommand, Writer};
use crate::wire::{GRID_AGE, GRID_TOKEN, IDEMPOTENT_REPLAYED, JSON};

static TOKEN: HeaderName = HeaderName::from_static(GRID_TOKEN);
static REPLAYED: HeaderName = HeaderName::from_static(IDEMPOTENT_REPLAYED);
static AGE: HeaderName = HeaderName::from_static(GRID_AGE);

/// Initial buffer size, enough for an order of a few lines. A larger answer grows the buffer.
const USUAL_BYTES: usize = 1_536;

/// A JSON answer.
pub(super) fn json(account: &Account, status: StatusCode, value: &impl Serialize, bytes: usize) -> Response<Body> {
    written(account, status, bytes, |json| json.value("", value))
}

/// A JSON answer of about `bytes` bytes.
fn written(account: &Account, status: StatusCode, bytes: usize, write: impl FnOnce(&mut Writer<'_>)) -> Response<Body> {
    let mut buffer = Vec::with_capacity(bytes);
    write(&mut Writer(&mut buffer));
    with(status, pieces::whole(account, buffer))
}

/// An answer whose body is JSON.
pub(super) fn with(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// An answer with a versioned value: adds `Grid-Token`, `ETag`, and `Idempotent-Replayed` for a replay.
pub(super) fn versioned<T>(
    account: &Account,
    status: StatusCode,
    answer: &Answer<T>,
    version: u64,
    body: &impl Serialize,
) -> Response<Body> {
    stamped(json(account, status, body, USUAL_BYTES), answer, version)
}

/// An answer with an order.
pub(super) fn order<T>(account: &Account, status: StatusCode, answer: &Answer<T>, order: &Arc<Order>) -> Response<Body> {
    changed(account, status, answer, order, OfCommand::default())
}

/// An answer with an order after a command, and what is to be said of the command.
pub(super) fn changed<T>(
    account: &Account,
    status: StatusCode,
    answer: &Answer<T>,
    order: &Arc<Order>,
    of: OfCommand,
) -> Response<Body> {
    let response = match LargeOrder::of(order, of) {
        None => written(account, status, USUAL_BYTES, |json| json.changed(order, of)),
        Some(large) => {
            let taken = account.owe(Use::Answers, order.bytes_in_memory());
            with(status, pieces::in_pieces(account, usize::MAX, large, Some(taken)))
        }
    };
    stamped(response, answer, order.version)
}

fn stamped<T>(mut response: Response<Body>, answer: &Answer<T>, version: u64) -> Response<Body> {
    stamp(&mut response, answer);
    response.headers_mut().insert(header::ETAG, text(&["\"", itoa::Buffer::new().format(version), "\""]));
    response
}

/// Adds the headers of every answer of the grid.
pub(super) fn stamp<T>(response: &mut Response<Body>, answer: &Answer<T>) {
    let headers = response.headers_mut();
    headers.insert(TOKEN.clone(), token(answer.token));
    if answer.replayed {
        headers.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    if let Some(age) = answer.age_ms {
        headers.insert(AGE.clone(), HeaderValue::from(age));
    }
}

fn token(token: Token) -> HeaderValue {
    text(&[itoa::Buffer::new().format(token.shard), ":", itoa::Buffer::new().format(token.index)])
}

fn text(parts: &[&str]) -> HeaderValue {
    let mut text = [0; 48];
    let mut length = 0;
    for part in parts {
        text[length..length + part.len()].copy_from_slice(part.as_bytes());
        length += part.len();
    }
    HeaderValue::from_bytes(&text[..length]).expect("only digits and punctuation are written")
}

/// 201 if something was created, else 200.
pub(super) fn created_or_ok(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}

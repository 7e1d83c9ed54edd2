//! Parses a body into a typed request: fast if it is valid, with an exact error if it is not.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::Deserialize;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::account::{Account, Full, Taken, Use};
use crate::fault::{Fault, kinds};
use crate::wire::request::UNBUILT;
pub(crate) use strict::Strictly;

mod strict;

/// Memory of bodies up to this size is not accounted for separately: each connection's account includes one.
const SMALL: u64 = 4 << 10;
/// Step in which memory for a body is taken, in bytes.
const STEP: u64 = 64 << 10;

/// Reads a whole body. Memory for the body and for the request made of it is taken as the body arrives, so a body that is
/// announced and never arrives takes nothing. Before anything is read, there must be room for the announced length.
///
/// If this is dropped while it waits, the rest of the body is not read and nothing has happened.
pub(crate) async fn read(
    body: Body,
    limit: usize,
    patience: Duration,
    account: &Account,
) -> Result<(Bytes, Option<Taken>), Fault> {
    let (least, exact) = (body.size_hint().lower(), body.size_hint().exact());
    if least > limit as u64 {
        return Err(too_large(limit));
    }
    if exact.is_some_and(|size| size <= SMALL) {
        let whole = pin!(Limited::new(body, limit).collect());
        return Ok((in_time(whole, patience).await?.map_err(|error| broken(&*error, limit))?.to_bytes(), None));
    }
    if least > SMALL && !account.has(Use::Bodies, Account::cost_of_body(least)) {
        return Err(Full.into());
    }
    let whole = pin!(counted(body, limit, account));
    let (whole, taken) = in_time(whole, patience).await??;
    Ok((whole, Some(taken)))
}

async fn in_time<F: Future>(mut whole: Pin<&mut F>, patience: Duration) -> Result<F::Output, Fault> {
    if let Some(read) = soon(whole.as_mut()).await {
        return Ok(read);
    }
    let late = |_| Fault::new(&kinds::BODY_TOO_SLOW, format!("the body did not arrive within {} s", patience.as_secs()));
    tokio::time::timeout(patience, whole).await.map_err(late)
}

async fn counted(body: Body, limit: usize, account: &Account) -> Result<(Bytes, Taken), Fault> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut taken = account.take(Use::Bodies, 0)?;
    // The system provides its pages only when they are written to.
    let mut whole = BytesMut::with_capacity(announced);
    let mut body = Limited::new(body, limit);
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|error| broken(&*error, limit))?.into_data() else { continue };
        let size = (whole.len() + bytes.len()) as u64;
        let counted = if size <= STEP { size } else { size.next_multiple_of(STEP) };
        taken.grow_to(Account::cost_of_body(counted))?;
        whole.extend_from_slice(&bytes);
    }
    Ok((whole.freeze(), taken))
}

fn broken(error: &(dyn Error + 'static), limit: usize) -> Fault {
    if error.is::<LengthLimitError>() {
        return too_large(limit);
    }
    Fault::new(&kinds::INCOMPLETE_BODY, "the connection ended before the body did")
}

/// The output of `future` if it is ready at the first or the second poll. Most bodies arrive together with their headers, and a
/// timer for each would be measurable.
pub(crate) async fn soon<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let mut looked = false;
    let look = poll_fn(|context| match future.poll_unpin(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    look.await
}

fn too_large(limit: usize) -> Fault {
    Fault::new(&kinds::BODY_TOO_LARGE, format!("the limit is {limit} bytes"))
}

/// Parses a request with the fast parser, which does not report errors.
pub(crate) fn parse_fast<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    sonic_rs::from_slice::<Strictly<T>>(bytes).ok().map(|request| request.0)
}

/// Parses a request. If the fast parser fails, the exact parser finds the error.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    parse_fast(bytes).map_or_else(|| parse_exactly(bytes), Ok)
}

/// Parses a request whose fields are all optional: an empty body is `{}`.
pub(crate) fn parse_optional<'a, T: Deserialize<'a> + Default>(bytes: &'a [u8]) -> Result<T, Fault> {
    if bytes.is_empty() { Ok(T::default()) } else { parse(bytes) }
}

/// Parses a request and tracks the path of the current field.
pub(crate) fn parse_exactly<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Strictly(request) =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| explain(error.path(), error.inner()))?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(request)
}

fn malformed(error: &serde_json::Error) -> Fault {
    Fault::new(&kinds::MALFORMED_JSON, error.to_string())
}

/// Converts serde's error. Its message is its only information, so a test pins the messages.
fn explain(path: &Path, error: &serde_json::Error) -> Fault {
    if error.classify() != Category::Data {
        return malformed(error);
    }
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned();
    if let Some(field) = quoted(&message, "missing field ") {
        let param = inside(path, field);
        return Fault::new(&kinds::MISSING_FIELD, message).at(param);
    }
    if let Some(field) = quoted(&message, "unknown field ") {
        let param = inside(path, field);
        return Fault::new(&kinds::UNKNOWN_FIELD, message).at(param);
    }
    if let Some(field) = quoted(&message, "duplicate field ") {
        let param = inside(path, field);
        return Fault::new(&kinds::DUPLICATE_FIELD, message).at(param);
    }
    let kind = if message == UNBUILT { &kinds::UNSUPPORTED } else { kinds::invalid(field_of(path)) };
    let fault = Fault::new(kind, message);
    let place = path.to_string();
    if place == "." { fault } else { fault.at(place) }
}

/// The name in backticks after `prefix`.
fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// The path of a field in the object at `path`. The tracker may already have added the field's name.
fn inside(path: &Path, field: &str) -> String {
    let place = path.to_string();
    let seen = matches!(path.iter().next_back(), Some(Segment::Map { key }) if key == field);
    match (place.as_str(), seen) {
        (".", _) => field.to_owned(),
        (_, true) => place,
        (_, false) => format!("{place}.{field}"),
    }
}

/// The field that decides the code: the last one named, but the whole of an address or of metadata.
fn field_of(path: &Path) -> &str {
    let mut last = "";
    for segment in path.iter() {
        if let Segment::Map { key } = segment {
            last = key;
            if key == "ship_to" || key == "metadata" {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{PlaceBatch, PlaceOrder, PutSku};

    const ORDER: &str = r#"{"user_id":"17850","reference":"r\u00e9\n\"","currency":"GBP","discount":0,"total":1530,
        "lines":[{"sku":"85123A","quantity":6,"unit_price":255,"tax":0},{"sku":"b","quantity":1,"unit_price":0}],
        "ship_to":{"lines":["a","b"],"city":null},"metadata":{"k":"v"},"payment_window_seconds":60}"#;

    /// The results of both parsers for the same bytes.
    fn both(bytes: &[u8]) -> [Option<PlaceOrder>; 2] {
        [parse_fast(bytes), parse_exactly(bytes).ok()]
    }

    proptest! {
        /// The fast parser must not accept what the exact parser refuses, nor read it differently.
        #[test]
        fn both_parsers_agree(at in 0..ORDER.len(), byte in any::<u8>(), how in 0..3) {
            let mut bytes = ORDER.as_bytes().to_vec();
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
            let [fast, exact] = both(&bytes);
            prop_assert_eq!(fast, exact, "{}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn whatever_is_sent_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(parse::<PlaceBatch>(&bytes).is_err());
        }
    }

    #[test]
    fn both_parsers_agree_on_numbers() {
        for number in ["6", "06", "-0", "+6", "6.0", "6e0", "0x6", "1e400", "18446744073709551616", "NaN", "\"6\"", "6 6"] {
            let [fast, exact] = both(ORDER.replace(":6,", &format!(":{number},")).as_bytes());
            assert_eq!(fast, exact, "{number}");
        }
    }

    #[test]
    fn depth_overflows_no_stack() {
        for body in [
            format!(r#"{{"user_id":{}"#, "[".repeat(500_000)),
            format!(r#"{{"user_id":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            "[".repeat(500_000),
            "{\"user_id\":".repeat(50_000),
        ] {
            assert!(parse::<PlaceOrder>(body.as_bytes()).is_err());
        }
        let policy = format!(r#"{{"name":"a","purchase_limit":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse::<PutSku>(policy.as_bytes()).is_err());
        for field in ["user_id", "lines", "discount", "total", "terms", "ship_to", "metadata", "reference"] {
            let body = format!(r#"{{"{field}":{}"#, "[".repeat(100_000));
            assert!(parse::<PlaceOrder>(body.as_bytes()).is_err());
            let body = format!(r#"{{"{field}":{}"#, r#"{"x":"#.repeat(100_000));
            assert!(parse::<PlaceOrder>(body.as_bytes()).is_err());
        }
        let batch = format!(r#"{{"orders":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse::<PlaceBatch>(batch.as_bytes()).is_err());
    }

    #[test]
    fn fields_have_names() {
        for body in [
            r#"[null,"17850",null,"GBP",[{"sku":"a","quantity":1,"unit_price":1}],0,0,null,"prepaid",null,null,null,{}]"#,
            r#"{"user_id":"17850","currency":"GBP","lines":[["a",1,1,0,0]]}"#,
            r#"{"user_id":"17850","currency":"GBP","lines":[],"ship_to":[null,[],null,null,null,null]}"#,
        ] {
            let [fast, exact] = both(body.as_bytes());
            assert_eq!((fast, exact), (None, None), "{body}");
        }
        assert!(parse::<PlaceBatch>(b"[[]]").is_err());
    }
}

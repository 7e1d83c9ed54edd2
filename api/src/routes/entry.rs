//! The columns of the table of routes, and how ids in a path are found and parsed.

use std::sync::Arc;

use axum::http::Method;
use futures::future::BoxFuture;
use ordergrid_domain::command::SkuAction;
use ordergrid_domain::{FulfilmentId, OrderId, RefundId, SkuId, UserId};
use percent_encoding::{PercentDecode, percent_decode_str};

use super::call::Call;
use super::commands::{self, OrderAsk};
use super::meters::Work;
use super::{Api, Ended, Route, skus};
use crate::fault::kinds::{self, Kind};
use crate::fault::{Fault, nothing_by};
use crate::wire::WireText;
use crate::wire::canonical::Canon;

/// One route: everything about it that does not depend on a request.
pub struct RouteEntry {
    /// Accepted methods, the usual one first. A route that accepts GET also accepts HEAD.
    pub methods: &'static [Method],
    /// Path, with a parameter in braces for each id.
    pub path: &'static str,
    /// Method and path, or only the path if several methods do the same. The name of the route in metrics and logs.
    pub label: &'static str,
    /// A summary in one line of Markdown.
    pub summary: &'static str,
    /// Types of the path's parameters, in order.
    pub params: &'static [&'static str],
    /// The body of a request.
    pub body: RequestBody,
    /// The intended user.
    pub class: Class,
    /// What happens if a request is repeated.
    pub idempotency: Idempotency,
    /// Errors in addition to those of every similar route.
    pub(super) errors: &'static [&'static Kind],
    pub(super) route: Route,
    pub(super) work: Work,
    pub(super) does: Does,
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// No body is read.
    Nothing,
    /// JSON of this wire type.
    Required(&'static str),
    /// Optional JSON of this wire type.
    Optional(&'static str),
}

/// The intended user of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The shop's own services.
    Shop,
    /// Operators of the grid.
    Operator,
    /// Load balancers and metric collectors.
    Probe,
}

/// Why a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// The request changes nothing.
    Reads,
    /// A second request has no further effect.
    Natural,
    /// The request needs the header `Idempotency-Key`.
    Key,
    /// Each item of the body needs a key.
    ItemKeys,
}

/// The function behind a route.
pub(super) type Handler = fn(Arc<Api>, Call) -> BoxFuture<'static, Ended>;

/// How a route is handled.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// By a handler function.
    Handler(Handler),
    /// As a command on an order. The same path may be used in a batch of commands.
    OrderCommand(OrderReader),
    /// As a command on a SKU.
    SkuCommand(SkuReader),
}

/// Parses the order from the path and, if the path is valid, the command from the body.
#[derive(Clone, Copy)]
pub(super) struct OrderReader {
    pub(super) order: fn(&Segments<'_>) -> Result<OrderId, Fault>,
    pub(super) ask: fn(&Segments<'_>, &[u8], &mut Canon) -> Result<OrderAsk, Fault>,
}

/// Parses a command on a SKU from a body, and hashes its meaning.
pub(super) type SkuReader = fn(&[u8], &mut Canon) -> Result<(SkuAction, u64), Fault>;

impl RouteEntry {
    /// Whether the route accepts this method and path (without a query).
    #[must_use]
    pub fn takes(&self, method: &Method, path: &str) -> bool {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let full = |segments: Segments<'_>| segments.0[..self.params.len()].iter().all(|segment| !segment.is_empty());
        self.methods.contains(method) && Segments::of(self.path, path).is_some_and(full)
    }

    /// Every problem that the route may answer. For batches, also the problems that only items of a batch can have.
    pub fn errors(&self) -> impl Iterator<Item = &'static Kind> {
        let nothing: &[&Kind] = &[];
        let body = if self.body == RequestBody::Nothing { nothing } else { BODY };
        let query = if self.class == Class::Probe { nothing } else { QUERY };
        let (key, grid) = match self.idempotency {
            Idempotency::Reads if self.class == Class::Probe => (nothing, nothing),
            Idempotency::Reads => (nothing, READ),
            Idempotency::Natural => (nothing, CHANGE),
            Idempotency::Key => (KEY, CHANGE),
            Idempotency::ItemKeys => (KEY, nothing),
        };
        let command = match self.does {
            Does::Handler(_) => nothing,
            Does::OrderCommand(_) => ORDER_COMMAND,
            Does::SkuCommand(_) => SKU_COMMAND,
        };
        let path = if self.params.is_empty() { nothing } else { PATH };
        [ANY, path, query, body, key, grid, command, self.errors].into_iter().flatten().copied()
    }

    /// Answers a request.
    pub(super) fn answer(&self, api: Arc<Api>, call: Call) -> BoxFuture<'static, Ended> {
        match self.does {
            Does::Handler(handler) => handler(api, call),
            Does::OrderCommand(reader) => Box::pin(commands::command(api, call, reader)),
            Does::SkuCommand(reader) => Box::pin(skus::command(api, call, reader)),
        }
    }
}

/// Errors of every route.
const ANY: &[&Kind] = &[&kinds::INTERNAL_ERROR, &kinds::OVERLOADED, &kinds::TOO_MANY_CONNECTIONS];
/// Errors of routes with ids in their path.
const PATH: &[&Kind] = &[&kinds::MALFORMED_PATH];
/// Errors of routes that use the query.
const QUERY: &[&Kind] = &[&kinds::UNKNOWN_PARAMETER, &kinds::INVALID_PARAMETER];
/// Errors of routes with a body.
const BODY: &[&Kind] = &[
    &kinds::UNSUPPORTED_ENCODING,
    &kinds::BODY_TOO_LARGE,
    &kinds::BODY_TOO_SLOW,
    &kinds::INCOMPLETE_BODY,
    &kinds::MALFORMED_JSON,
    &kinds::UNKNOWN_FIELD,
    &kinds::DUPLICATE_FIELD,
    &kinds::MISSING_FIELD,
    &kinds::INVALID_BODY,
];
/// Errors of routes with an idempotency key.
const KEY: &[&Kind] = &[&kinds::MISSING_IDEMPOTENCY_KEY, &kinds::INVALID_IDEMPOTENCY_KEY, &kinds::IDEMPOTENCY_KEY_REUSED];
/// Errors of reads that the grid does not answer.
const READ: &[&Kind] = &[
    &kinds::NO_LEADER,
    &kinds::NOT_READY,
    &kinds::UNREACHABLE,
    &kinds::CLOCK_SKEW,
    &kinds::DAMAGED,
    &kinds::NOT_ANSWERED,
    &kinds::TIMED_OUT,
];
/// Errors of changes that the grid does not execute.
const CHANGE: &[&Kind] = &[
    &kinds::NO_LEADER,
    &kinds::NOT_READY,
    &kinds::UNREACHABLE,
    &kinds::CLOCK_SKEW,
    &kinds::DAMAGED,
    &kinds::HOLD_TIMED_OUT,
    &kinds::OUTCOME_UNKNOWN,
    &kinds::TIMED_OUT,
];
/// Errors of every command on an order.
const ORDER_COMMAND: &[&Kind] = &[
    &kinds::INVALID_IF_MATCH,
    &kinds::INVALID_IF_NONE_MATCH,
    &kinds::STALE_VERSION,
    &kinds::NO_SUCH_ORDER,
    &kinds::WRONG_PHASE,
    &kinds::HISTORY_FULL,
];
/// Errors of every command on a SKU.
const SKU_COMMAND: &[&Kind] =
    &[&kinds::INVALID_IF_MATCH, &kinds::INVALID_IF_NONE_MATCH, &kinds::STALE_VERSION, &kinds::INVALID_SKU];

/// Most parameters of a path.
const PARAMS: usize = 2;

/// The segments of a path in the places of its template's parameters, as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments<'a>([&'a str; PARAMS]);

impl<'a> Segments<'a> {
    /// The segments of a path that matches the template.
    pub(super) fn of(template: &str, path: &'a str) -> Option<Self> {
        let mut found = Self::default();
        let mut params = found.0.iter_mut();
        let mut segments = path.split('/');
        for expected in template.split('/') {
            let segment = segments.next()?;
            if expected.starts_with('{') {
                *params.next()? = segment;
            } else if segment != expected {
                return None;
            }
        }
        segments.next().is_none().then_some(found)
    }
}

/// The ids that the parameters of a path name.
pub(super) trait PathId: Sized {
    /// The types of the parameters.
    const PARAMS: &'static [&'static str];

    /// Parses the ids. A text that is not an id refers to nothing that exists.
    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault>;
}

impl PathId for () {
    const PARAMS: &'static [&'static str] = &[];

    fn from_path(_: &Segments<'_>) -> Result<Self, Fault> {
        Ok(())
    }
}

impl PathId for OrderId {
    const PARAMS: &'static [&'static str] = &["OrderId"];

    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault> {
        existing(segments.0[0], &kinds::NO_SUCH_ORDER, "order")
    }
}

impl PathId for FulfilmentId {
    const PARAMS: &'static [&'static str] = &["FulfilmentId"];

    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault> {
        existing(segments.0[0], &kinds::NO_SUCH_FULFILMENT, "fulfilment")
    }
}

/// A refund of the order before it.
impl PathId for RefundId {
    const PARAMS: &'static [&'static str] = &["OrderId", "RefundId"];

    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault> {
        let order = OrderId::from_path(segments)?;
        let refund: Self = existing(segments.0[1], &kinds::NO_SUCH_REFUND, "refund")?;
        if refund.order != order {
            return Err(nothing_by(&kinds::NO_SUCH_REFUND, "refund", &refund.to_string()));
        }
        Ok(refund)
    }
}

impl PathId for UserId {
    const PARAMS: &'static [&'static str] = &["UserId"];

    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault> {
        valid(segments.0[0], &kinds::INVALID_USER_ID, "user_id")
    }
}

impl PathId for SkuId {
    const PARAMS: &'static [&'static str] = &["SkuId"];

    fn from_path(segments: &Segments<'_>) -> Result<Self, Fault> {
        valid(segments.0[0], &kinds::INVALID_SKU, "sku")
    }
}

/// An id that the grid created. A text that is not an id refers to nothing.
fn existing<T: WireText>(segment: &str, kind: &'static Kind, what: &str) -> Result<T, Fault> {
    let given = unescaped(segment)?.decode_utf8_lossy();
    T::read(&given).map_err(|_| nothing_by(kind, what, &given))
}

/// An id that a client chose: `BANK%20CHARGES` is `BANK CHARGES`.
fn valid<T: WireText>(segment: &str, kind: &'static Kind, param: &'static str) -> Result<T, Fault> {
    let given = unescaped(segment)?.decode_utf8().map_err(|_| Fault::new(kind, "is not UTF-8").at(param))?;
    T::read(&given).map_err(|detail| Fault::new(kind, detail).at(param))
}

/// The bytes of a segment. Each percent sign begins an escape of two hexadecimal digits.
fn unescaped(segment: &str) -> Result<PercentDecode<'_>, Fault> {
    let broken = segment.split('%').skip(1).find(|after| {
        let digits = after.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    match broken {
        None => Ok(percent_decode_str(segment)),
        Some(after) => {
            let escape: String = after.chars().take(2).collect();
            let detail = format!("`%{escape}` is no escape of two hexadecimal digits; a percent sign itself is `%25`");
            Err(Fault::new(&kinds::MALFORMED_PATH, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_like_its_template() {
        let two = "/v1/orders/{id}/refunds/{refund}";
        #[rustfmt::skip]
        let cases = [
            ("/livez",                   "/livez",                  Some(["", ""])),
            ("/v1/orders/{id}/payments", "/v1/orders/17/payments",  Some(["17", ""])),
            ("/v1/orders/{id}/payments", "/v1/orders//payments",    Some(["", ""])),
            ("/v1/orders/{id}/payments", "/v1/orders/17/payments/", None),
            ("/v1/orders/{id}/payments", "/v1/orders/17/paymens",   None),
            ("/v1/orders/{id}/payments", "v1/orders/17/payments",   None),
            ("/v1/orders/{id}/payments", "/v1/orders/17",           None),
            (two,                        "/v1/orders/17/refunds/4", Some(["17", "4"])),
            (two,                        "/v1/orders/17/refunds",   None),
            ("/v1/skus/{id}",            "/v1/skus/a%2Fb",          Some(["a%2Fb", ""])),
        ];
        for (template, path, found) in cases {
            assert_eq!(Segments::of(template, path), found.map(Segments), "{template} {path}");
        }
    }
}

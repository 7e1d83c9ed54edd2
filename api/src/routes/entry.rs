//! What the table of routes says of a route, and how the ids in a path are found and read.

use std::sync::Arc;

use axum::http::Method;
use futures::future::BoxFuture;
use ordergrid_domain::command::SkuAction;
use ordergrid_domain::{FulfilmentId, OrderId, RefundId, SkuId, UserId};
use percent_encoding::percent_decode_str;

use super::call::Call;
use super::commands::{self, OrderAsk};
use super::{Api, Ended, Route, skus};
use crate::fault::kinds::{self, Kind};
use crate::fault::{Fault, nothing_by};
use crate::metrics::Work;
use crate::wire::WireText;
use crate::wire::canonical::Canon;

/// One route: everything that is known of it before a request comes.
pub struct RouteEntry {
    /// Methods that it answers, the usual one first; a route that answers GET answers HEAD too.
    pub methods: &'static [Method],
    /// Path, with a parameter in braces for each id.
    pub path: &'static str,
    /// Method and path; the path alone where several methods do the same. Metrics and logs name the route by it.
    pub label: &'static str,
    /// What it does, in one line of Markdown.
    pub summary: &'static str,
    /// Types of the parameters of the path, in their order.
    pub params: &'static [&'static str],
    /// The body of a request.
    pub body: RequestBody,
    /// Who has business with it.
    pub class: Class,
    /// What happens when the same request comes again.
    pub idempotency: Idempotency,
    /// Errors that it has beside those of every route that is like it.
    pub(super) errors: &'static [&'static Kind],
    pub(super) route: Route,
    pub(super) work: Work,
    pub(super) does: Does,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// No body is read.
    Nothing,
    /// JSON of this wire type.
    Required(&'static str),
    /// The same, or no body at all.
    Optional(&'static str),
}

/// Whom a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The shop's own services.
    Shop,
    /// Those who operate the grid.
    Operator,
    /// Balancers and collectors of metrics.
    Probe,
}

/// Why a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// It changes nothing.
    Reads,
    /// Done twice it is the same as done once.
    Natural,
    /// It needs the header `Idempotency-Key`.
    Key,
    /// Each item of its body needs a key.
    ItemKeys,
}

/// The function behind a route.
pub(super) type Handler = fn(Arc<Api>, Call) -> BoxFuture<'static, Ended>;

/// How a route answers.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// By a function of its own.
    Handler(Handler),
    /// As a command on an order; the same path may stand in a batch of commands.
    OrderCommand(OrderReader),
    /// As a command on the stock of a SKU.
    SkuCommand(SkuReader),
}

/// Finds the order in a path and, once that is known to be right, reads the command from a body.
#[derive(Clone, Copy)]
pub(super) struct OrderReader {
    pub(super) order: fn(&Segments<'_>) -> Result<OrderId, Fault>,
    pub(super) ask: fn(&Segments<'_>, &[u8], &mut Canon) -> Result<OrderAsk, Fault>,
}

/// Reads a command on a SKU from a body, with the hash of what it means.
pub(super) type SkuReader = fn(&[u8], &mut Canon) -> Result<(SkuAction, u64), Fault>;

impl RouteEntry {
    /// Whether a request with this method and path (without a query) comes here.
    #[must_use]
    pub fn takes(&self, method: &Method, path: &str) -> bool {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let full = |segments: Segments<'_>| segments.0[..self.params.len()].iter().all(|segment| !segment.is_empty());
        self.methods.contains(method) && Segments::of(self.path, path).is_some_and(full)
    }

    /// Every problem that may be answered; for batches, also those of an item that is none of the other routes'.
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
        [ANY, query, body, key, grid, command, self.errors].into_iter().flatten().copied()
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
/// Those of routes whose query is looked at.
const QUERY: &[&Kind] = &[&kinds::UNKNOWN_PARAMETER, &kinds::INVALID_PARAMETER];
/// Those of routes that read a body.
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
/// Those of idempotency keys.
const KEY: &[&Kind] = &[&kinds::MISSING_IDEMPOTENCY_KEY, &kinds::INVALID_IDEMPOTENCY_KEY, &kinds::IDEMPOTENCY_KEY_REUSED];
/// Those of what the grid does not answer.
const READ: &[&Kind] = &[
    &kinds::NO_LEADER,
    &kinds::NOT_READY,
    &kinds::UNREACHABLE,
    &kinds::CLOCK_SKEW,
    &kinds::DAMAGED,
    &kinds::NOT_ANSWERED,
    &kinds::TIMED_OUT,
];
/// Those of what the grid does not do.
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
/// Those of every command on an order.
const ORDER_COMMAND: &[&Kind] =
    &[&kinds::INVALID_IF_MATCH, &kinds::STALE_VERSION, &kinds::NO_SUCH_ORDER, &kinds::WRONG_PHASE, &kinds::HISTORY_FULL];
/// Those of every command on a SKU.
const SKU_COMMAND: &[&Kind] = &[&kinds::INVALID_IF_MATCH, &kinds::STALE_VERSION, &kinds::INVALID_SKU];

/// Most parameters of a path.
const PARAMS: usize = 2;

/// The segments of a path that stand where its template has parameters, as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments<'a>([&'a str; PARAMS]);

impl<'a> Segments<'a> {
    /// Of a path that is like the template.
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

/// What the parameters of a path name.
pub(super) trait PathId: Sized {
    /// The types of the parameters.
    const PARAMS: &'static [&'static str];

    /// Reads it. What is no id names nothing that exists.
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

/// An id that the grid has given: a text that is none names nothing.
fn existing<T: WireText>(segment: &str, kind: &'static Kind, what: &str) -> Result<T, Fault> {
    let given = percent_decode_str(segment).decode_utf8_lossy();
    T::read(&given).map_err(|_| nothing_by(kind, what, &given))
}

/// An id that a client has given: `BANK%20CHARGES` is `BANK CHARGES`.
fn valid<T: WireText>(segment: &str, kind: &'static Kind, param: &'static str) -> Result<T, Fault> {
    let given = percent_decode_str(segment).decode_utf8().map_err(|_| Fault::new(kind, "is not UTF-8").at(param))?;
    T::read(&given).map_err(|detail| Fault::new(kind, detail).at(param))
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

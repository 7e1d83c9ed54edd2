//! Routes: a request from its bytes to the bytes of its answer.
//!
//! `table` has an entry for each route. A handler is a function from a `Call` to an answer or a `Fault`. `Api::answer` does
//! what all handlers share: the request's id, the clock, the panic guard and the problem body. Read next: `table`, `entry`
//! (its columns), `orders`, `commands`, `skus`, `operators`.

mod batch;
mod call;
mod commands;
mod entry;
mod meters;
mod operators;
mod orders;
mod pages;
mod pieces;
mod reply;
mod skus;
mod table;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Request, Response};
use axum::routing::{MethodFilter, on};
use futures::FutureExt;
use futures::future::ready;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;
use tracing::Instrument;

use crate::account::{Account, Full};
use crate::fault::{Fault, kinds};
use crate::grid::{Failure, Grid, Refusal, Reply, UnknownCause};
use crate::limits::Limits;
use crate::request_id::{self, RequestId, RequestIds};
use call::Call;
pub use entry::{Class, Idempotency, RequestBody, RouteEntry};
use meters::{Ending, Meters};
use table::ROUTES;
pub(crate) use table::Route;

/// The table of routes, for other crates, which generate code and documents from it.
#[must_use]
pub fn entries() -> &'static [RouteEntry] {
    ROUTES
}

/// State shared by all handlers.
pub(crate) struct Api {
    grid: Arc<dyn Grid>,
    limits: Limits,
    meters: Meters,
    ids: RequestIds,
}

/// The routes of a server. `request_id_prefix` is random, drawn once per start.
pub fn router(grid: Arc<dyn Grid>, limits: Limits, request_id_prefix: u64) -> Router {
    Routes::new(grid, limits, request_id_prefix).router
}

/// The routes of a server. Single orders bypass the router: only they are so frequent that its cost is measurable.
#[derive(Clone)]
pub(crate) struct Routes {
    api: Arc<Api>,
    router: Router,
}

impl Routes {
    pub(crate) fn new(grid: Arc<dyn Grid>, limits: Limits, request_id_prefix: u64) -> Self {
        let api = Arc::new(Api { grid, meters: Meters::new(), ids: RequestIds::new(request_id_prefix), limits });
        Self { router: all(Arc::clone(&api)), api }
    }

    /// The refusal of a request for which there is no memory.
    pub(crate) fn refuse(&self, full: Full) -> Response<Body> {
        let fault = Fault::from(full);
        self.api.meters.problem(fault.kind());
        fault.answer("")
    }

    /// Answers a request.
    pub(crate) fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        if Route::Place.entry().is_some_and(|place| request.method() == Method::POST && request.uri().path() == place.path) {
            let answer = Arc::clone(&self.api).answer(Route::Place, request);
            return answer.map(Ok).left_future();
        }
        TowerToHyperService::new(self.router.clone()).call(request).right_future()
    }
}

fn all(api: Arc<Api>) -> Router {
    let answered = |route| move |State(api): State<Arc<Api>>, request| api.answer(route, request);
    let mut router = Router::new();
    for entry in ROUTES {
        for method in entry.methods {
            let filter = MethodFilter::try_from(method.clone()).expect("the table has usual methods");
            router = router.route(entry.path, on(filter, answered(entry.route)));
        }
    }
    router.fallback(answered(Route::Nowhere)).method_not_allowed_fallback(answered(Route::WrongMethod)).with_state(api)
}

type Ended = Result<Response<Body>, Fault>;

/// The error of a request that matches no route.
fn astray(route: Route, call: &Call) -> Fault {
    let (method, path) = (&call.head.method, call.head.uri.path());
    if route == Route::WrongMethod {
        return Fault::new(&kinds::METHOD_NOT_ALLOWED, format!("method {method} is not allowed for {path}"));
    }
    Fault::new(&kinds::NO_SUCH_ROUTE, format!("no route matches {path}"))
}

impl Api {
    /// Runs a handler and converts its result, error or panic into an answer.
    ///
    /// If the client disconnects, this future is dropped, and the grid continues (see [`Grid`]).
    async fn answer(self: Arc<Self>, route: Route, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let id = self.ids.of(&head.headers);
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let span = tracing::debug_span!("request", route = route.label(), path = head.uri.path(), request = id.as_str());
        let _in_flight = self.meters.enter();
        let call = Call::new(head, body, id.clone(), route, started);
        let ended = match route.entry() {
            Some(entry) => entry.answer(Arc::clone(&self), call),
            None => ready(Err(astray(route, &call))).boxed(),
        };
        let ended = AssertUnwindSafe(ended).catch_unwind().instrument(span.clone()).await;
        let ended =
            ended.unwrap_or_else(|_| Err(Fault::new(&kinds::INTERNAL_ERROR, "internal error while handling the request")));
        let (mut response, ending) = match ended {
            Ok(response) => (response, Ending::Done),
            Err(fault) => span.in_scope(|| self.tell(if reads { fault.of_a_read() } else { fault }, &id)),
        };
        response.headers_mut().insert(request_id::HEADER.clone(), id.header());
        self.meters.request(route, ending, started.elapsed());
        response
    }

    fn tell(&self, fault: Fault, id: &RequestId) -> (Response<Body>, Ending) {
        let kind = fault.kind();
        self.meters.problem(kind);
        if kind == &kinds::INTERNAL_ERROR {
            tracing::error!(request = id.as_str(), "handler panicked");
        } else if fault.outcome_unknown() {
            tracing::warn!(request = id.as_str(), code = kind.code, error = fault.detail(), "outcome unknown");
        }
        let ending = if fault.outcome_unknown() { Ending::Unknown } else { Ending::Refused };
        (fault.answer(id.as_str()), ending)
    }

    /// The memory account of all requests.
    fn account(&self) -> &Account {
        &self.limits.account
    }

    /// Waits for a command. Without an answer in time, the outcome is unknown.
    async fn done<T>(&self, answer: impl Future<Output = Reply<T>>) -> Reply<T> {
        let late = |_| Err(Failure::unknown(UnknownCause::TimedOut));
        tokio::time::timeout(self.limits.grid_patience, answer).await.unwrap_or_else(late)
    }

    /// Waits for a read.
    async fn seen<T>(&self, answer: impl Future<Output = Reply<T>>) -> Reply<T> {
        self.done(answer).await
    }

    /// Waits for a read of all rows, which takes longer the more data there is.
    async fn at_length<T>(&self, answer: impl Future<Output = Reply<T>>, patience: Duration) -> Reply<T> {
        let late = |_| Err(Failure::refused(Refusal::Overloaded));
        tokio::time::timeout(patience, answer).await.unwrap_or_else(late)
    }
}

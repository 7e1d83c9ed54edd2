//! Routes: one request from bytes to bytes.
//!
//! Every handler is a function from a [`Call`] to an answer or a [`Fault`]; [`Api::answer`] is what they share: the
//! request's name, the clock, the panic guard and the problem body. Read next: `orders`, `commands`, `skus`, `operators`.

mod batch;
mod call;
mod commands;
mod operators;
mod orders;
mod pages;
mod pieces;
mod reply;
mod skus;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Request, Response};
use axum::routing::{MethodRouter, get, post};
use futures::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;
use tracing::Instrument;

use crate::account::{Account, Full};
use crate::fault::{Fault, kinds};
use crate::grid::{Failure, Grid, Refusal, Reply, UnknownCause};
use crate::limits::Limits;
use crate::metrics::{Ending, Meters, Work};
use crate::request_id::{self, RequestId, RequestIds};
use call::Call;

/// What handlers share.
pub(crate) struct Api {
    grid: Arc<dyn Grid>,
    limits: Limits,
    meters: Meters,
    ids: RequestIds,
}

macro_rules! routes {
    ($($name:ident $work:ident $template:literal;)*) => {
        /// What a request asks for, as metrics and logs name it.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Route {
            $(#[doc = $template] $name),*
        }

        impl Route {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// Method and path.
            pub(crate) fn template(self) -> &'static str {
                match self { $(Self::$name => $template),* }
            }

            fn work(self) -> Work {
                match self { $(Self::$name => Work::$work),* }
            }
        }
    };
}

routes! {
    Place           Place   "POST /v1/orders";
    PlaceBatch      Batch   "POST /v1/orders/batch";
    CommandBatch    Batch   "POST /v1/commands/batch";
    Order           Read    "GET /v1/orders/{id}";
    StatusHistory   Read    "GET /v1/orders/{id}/status-history";
    UserOrders      Read    "GET /v1/users/{id}/orders";
    Pay             Command "POST /v1/orders/{id}/payments";
    Cancel          Command "POST /v1/orders/{id}/cancel";
    Complete        Command "POST /v1/orders/{id}/complete";
    Pick            Command "POST /v1/orders/{id}/fulfilments";
    Ship            Command "POST /v1/fulfilments/{id}/ship";
    Deliver         Command "POST /v1/fulfilments/{id}/deliver";
    Unpick          Command "POST /v1/fulfilments/{id}/cancel";
    Refund          Command "POST /v1/orders/{id}/refunds";
    RefundOutcome   Command "POST /v1/orders/{id}/refunds/{refund}";
    PutSku          Command "PUT /v1/skus/{id}";
    Sku             Read    "GET /v1/skus/{id}";
    Receive         Command "POST /v1/skus/{id}/receive";
    Adjust          Command "POST /v1/skus/{id}/adjust";
    ClusterStatus   Read    "GET /admin/v1/cluster/status";
    ClusterClock    Read    "GET /admin/v1/cluster/clock";
    ClockAccept     Read    "POST /admin/v1/cluster/clock/accept";
    ClockRepair     Read    "POST /admin/v1/cluster/clock/repair";
    Reconcile       Read    "POST /admin/v1/cluster/streams/reconcile";
    ClusterVerify   Read    "/admin/v1/cluster/verify";
    Livez           Read    "GET /livez";
    Readyz          Read    "GET /readyz";
    Metrics         Read    "GET /metrics";
    Nowhere         Read    "unknown";
    WrongMethod     Read    "wrong method";
}

/// What the router calls: a handler with everything around it that all share.
macro_rules! entry {
    ($route:expr, $handler:expr) => {
        move |State(api): State<Arc<Api>>, request: Request<Body>| api.answer($route, request, $handler)
    };
}

/// The routes of a server. `request_id_prefix` is drawn at random by whoever starts the server, once per start.
pub fn router(grid: Arc<dyn Grid>, limits: Limits, request_id_prefix: u64) -> Router {
    Routes::new(grid, limits, request_id_prefix).router
}

/// The routes of a server, with a short cut past the router for orders that come one by one: of all requests they alone are
/// so many that its work is felt.
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

    /// The answer to a request for which there is no memory.
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
        if request.method() == Method::POST && request.uri().path() == PLACE {
            let answer = Arc::clone(&self.api).answer(Route::Place, request, orders::place);
            return answer.map(Ok).left_future();
        }
        TowerToHyperService::new(self.router.clone()).call(request).right_future()
    }
}

/// Where single orders are placed.
const PLACE: &str = "/v1/orders";

fn all(api: Arc<Api>) -> Router {
    Router::new()
        .route(PLACE, post_to(Route::Place, orders::place))
        .route("/v1/orders/batch", post_to(Route::PlaceBatch, batch::place))
        .route("/v1/commands/batch", post_to(Route::CommandBatch, batch::command))
        .route("/v1/orders/{id}", get_from(Route::Order, orders::order))
        .route("/v1/orders/{id}/status-history", get_from(Route::StatusHistory, orders::status_history))
        .route("/v1/users/{id}/orders", get_from(Route::UserOrders, orders::of_user))
        .route("/v1/orders/{id}/payments", post_to(Route::Pay, commands::command))
        .route("/v1/orders/{id}/cancel", post_to(Route::Cancel, commands::command))
        .route("/v1/orders/{id}/complete", post_to(Route::Complete, commands::command))
        .route("/v1/orders/{id}/fulfilments", post_to(Route::Pick, commands::command))
        .route("/v1/fulfilments/{id}/ship", post_to(Route::Ship, commands::command))
        .route("/v1/fulfilments/{id}/deliver", post_to(Route::Deliver, commands::command))
        .route("/v1/fulfilments/{id}/cancel", post_to(Route::Unpick, commands::command))
        .route("/v1/orders/{id}/refunds", post_to(Route::Refund, commands::command))
        .route("/v1/orders/{id}/refunds/{refund}", post_to(Route::RefundOutcome, commands::command))
        .route("/v1/skus/{id}", get_from(Route::Sku, skus::sku).put(entry!(Route::PutSku, skus::put)))
        .route("/v1/skus/{id}/receive", post_to(Route::Receive, skus::receive))
        .route("/v1/skus/{id}/adjust", post_to(Route::Adjust, skus::adjust))
        .route("/admin/v1/cluster/status", get_from(Route::ClusterStatus, operators::status))
        .route("/admin/v1/cluster/clock", get_from(Route::ClusterClock, operators::clock))
        .route("/admin/v1/cluster/clock/accept", post_to(Route::ClockAccept, operators::accept_clock))
        .route("/admin/v1/cluster/clock/repair", post_to(Route::ClockRepair, operators::repair_clock))
        .route("/admin/v1/cluster/streams/reconcile", post_to(Route::Reconcile, operators::reconcile_streams))
        .route(
            "/admin/v1/cluster/verify",
            get_from(Route::ClusterVerify, operators::verify).post(entry!(Route::ClusterVerify, operators::verify)),
        )
        .route("/livez", get_from(Route::Livez, operators::live))
        .route("/readyz", get_from(Route::Readyz, operators::ready))
        .route("/metrics", get_from(Route::Metrics, operators::measures))
        .fallback(entry!(Route::Nowhere, no_such_route))
        .method_not_allowed_fallback(entry!(Route::WrongMethod, wrong_method))
        .with_state(api)
}

type Ended = Result<Response<Body>, Fault>;

fn get_from<F>(route: Route, handler: fn(Arc<Api>, Call) -> F) -> MethodRouter<Arc<Api>>
where
    F: Future<Output = Ended> + Send + 'static,
{
    get(entry!(route, handler))
}

fn post_to<F>(route: Route, handler: fn(Arc<Api>, Call) -> F) -> MethodRouter<Arc<Api>>
where
    F: Future<Output = Ended> + Send + 'static,
{
    post(entry!(route, handler))
}

async fn no_such_route(_: Arc<Api>, call: Call) -> Ended {
    Err(Fault::new(&kinds::NO_SUCH_ROUTE, format!("there is nothing at {}", call.head.uri.path())))
}

async fn wrong_method(_: Arc<Api>, call: Call) -> Ended {
    Err(Fault::new(&kinds::METHOD_NOT_ALLOWED, format!("{} is not for {}", call.head.uri.path(), call.head.method)))
}

impl Api {
    /// Runs a handler and turns whatever comes of it into an answer.
    ///
    /// Dropped by a client that goes away, it leaves the grid to finish by itself (see [`Grid`]).
    async fn answer<F>(
        self: Arc<Self>,
        route: Route,
        request: Request<Body>,
        handler: fn(Arc<Self>, Call) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let id = self.ids.of(&head.headers);
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let span = tracing::debug_span!("request", route = route.template(), path = head.uri.path(), id = id.as_str());
        let _in_flight = self.meters.enter();
        let call = Call::new(head, body, id.clone(), route.work(), started);
        // On the heap, because what is wrapped around it would move it each time.
        let ended = AssertUnwindSafe(Box::pin(handler(Arc::clone(&self), call)));
        let ended = ended.catch_unwind().instrument(span.clone()).await;
        let ended = ended.unwrap_or_else(|_| Err(Fault::new(&kinds::INTERNAL_ERROR, "the request broke something here")));
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
            tracing::error!(id = id.as_str(), "a handler panicked");
        } else if fault.outcome_unknown() {
            tracing::warn!(id = id.as_str(), code = kind.code, detail = fault.detail(), "outcome unknown");
        }
        let ending = if fault.outcome_unknown() { Ending::Unknown } else { Ending::Refused };
        (fault.answer(id.as_str()), ending)
    }

    /// The memory that all requests share.
    fn account(&self) -> &Account {
        &self.limits.account
    }

    /// Waits for a command: no answer in time is an unknown outcome.
    async fn done<T>(&self, answer: impl Future<Output = Reply<T>>) -> Reply<T> {
        let late = |_| Err(Failure::unknown(UnknownCause::TimedOut));
        tokio::time::timeout(self.limits.grid_patience, answer).await.unwrap_or_else(late)
    }

    /// Waits for a read of the grid.
    async fn seen<T>(&self, answer: impl Future<Output = Reply<T>>) -> Reply<T> {
        self.done(answer).await
    }

    /// Waits for something that takes as long as there is data.
    async fn at_length<T>(&self, answer: impl Future<Output = Reply<T>>, patience: Duration) -> Reply<T> {
        let late = |_| Err(Failure::refused(Refusal::Overloaded));
        tokio::time::timeout(patience, answer).await.unwrap_or_else(late)
    }
}

//! What is measured of HTTP. Handles are taken once per server, so that a request costs no look-up by name.
//!
//! `ordergrid_http_request_seconds{route,outcome}`, `ordergrid_stage_seconds{work,stage}`,
//! `ordergrid_http_problems_total{code}`, `ordergrid_http_connections`, `ordergrid_http_connections_refused_total`,
//! `ordergrid_http_requests_in_flight`, `ordergrid_memory_account_bytes{use}`,
//! `ordergrid_memory_account_limit_bytes{use}`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::account::{Account, Use};
use crate::fault::kinds::{self, Kind};
use crate::routes::Route;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// As asked.
    Done,
    /// Nothing happened.
    Refused,
    /// It may have happened.
    Unknown,
}

/// What a request costs most by: stages are measured per kind of work, not per route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// One order.
    Place,
    /// A batch of orders.
    Batch,
    /// A command on an order or SKU.
    Command,
    /// Everything that changes nothing.
    Read,
}

/// The parts of a request's time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Waiting for the body.
    Body,
    /// Reading and checking it.
    Parse,
    /// Waiting for the grid.
    Grid,
    /// Writing the answer.
    Write,
}

const WORKS: [&str; 4] = ["place", "batch", "command", "read"];
const STAGES: [&str; 4] = ["body", "parse", "grid", "write"];
const ENDINGS: [&str; 3] = ["done", "refused", "unknown"];

/// The handles of one server.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Vec<[OnceLock<Histogram>; 3]>,
    stages: [[OnceLock<Histogram>; 4]; 4],
    problems: Vec<OnceLock<Counter>>,
    in_flight: Gauge,
}

impl Meters {
    /// Begins with what may never happen: every code of an error, and every route that is answered.
    pub(crate) fn new() -> Self {
        let meters = Self::unbegun();
        for kind in kinds::ALL {
            meters.problems(kind).increment(0);
        }
        for route in Route::ALL {
            drop(meters.requests(*route, Ending::Done).clone());
        }
        meters
    }

    fn unbegun() -> Self {
        Self {
            requests: Route::ALL.iter().map(|_| Default::default()).collect(),
            stages: Default::default(),
            problems: kinds::ALL.iter().map(|_| OnceLock::new()).collect(),
            in_flight: gauge!("ordergrid_http_requests_in_flight"),
        }
    }

    /// A request was answered.
    pub(crate) fn request(&self, route: Route, ending: Ending, took: Duration) {
        self.requests(route, ending).record(took);
    }

    fn requests(&self, route: Route, ending: Ending) -> &Histogram {
        let cell = &self.requests[route as usize][ending as usize];
        cell.get_or_init(
            || histogram!("ordergrid_http_request_seconds", "route" => route.label(), "outcome" => ENDINGS[ending as usize]),
        )
    }

    /// A part of a request was done.
    pub(crate) fn stage(&self, work: Work, stage: Stage, took: Duration) {
        let cell = &self.stages[work as usize][stage as usize];
        let histogram = cell.get_or_init(
            || histogram!("ordergrid_stage_seconds", "work" => WORKS[work as usize], "stage" => STAGES[stage as usize]),
        );
        histogram.record(took);
    }

    /// A client is told of a problem.
    pub(crate) fn problem(&self, kind: &'static Kind) {
        self.problems(kind).increment(1);
    }

    fn problems(&self, kind: &'static Kind) -> &Counter {
        let place = kinds::ALL.iter().position(|known| known.code == kind.code).expect("every kind is in the list");
        self.problems[place].get_or_init(|| counter!("ordergrid_http_problems_total", "code" => kind.code))
    }

    /// Counts a request as under way for as long as the answer lives.
    pub(crate) fn enter(&self) -> InFlight {
        self.in_flight.increment(1.0);
        InFlight(self.in_flight.clone())
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Connections that are open.
pub(crate) fn connections() -> Gauge {
    gauge!("ordergrid_http_connections")
}

/// Connections that were turned away at the limit.
pub(crate) fn connections_refused() -> Counter {
    counter!("ordergrid_http_connections_refused_total")
}

/// What the memory account stands at: asked for when metrics are, since it moves with every request.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; bytes of memory are far below 2^53")]
pub(crate) fn account(account: &Account) {
    for what in Use::ALL {
        gauge!("ordergrid_memory_account_bytes", "use" => what.word()).set(account.taken(what) as f64);
        gauge!("ordergrid_memory_account_limit_bytes", "use" => what.word()).set(account.most(what) as f64);
    }
    gauge!("ordergrid_memory_account_limit_bytes", "use" => "requests").set(account.limit() as f64);
}

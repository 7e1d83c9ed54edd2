//! The metrics of HTTP. Handles are created once per server, so that a request needs no look-up by name.
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
    /// The request succeeded.
    Done,
    /// The request was refused: nothing happened.
    Refused,
    /// The request may have taken effect.
    Unknown,
}

/// The kind of work that dominates a request. Stages are measured by kind of work, not by route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// One order.
    Place,
    /// A batch.
    Batch,
    /// A command on an order or SKU.
    Command,
    /// A request that changes nothing.
    Read,
}

/// The stages of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Waiting for the body.
    Body,
    /// Parsing and checking the body.
    Parse,
    /// Waiting for the grid.
    Grid,
    /// Writing the answer.
    Write,
}

const WORKS: [&str; 4] = ["place", "batch", "command", "read"];
const STAGES: [&str; 4] = ["body", "parse", "grid", "write"];
const ENDINGS: [&str; 3] = ["done", "refused", "unknown"];

/// The metric handles of one server.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Vec<[OnceLock<Histogram>; 3]>,
    stages: [[OnceLock<Histogram>; 4]; 4],
    problems: Vec<OnceLock<Counter>>,
    in_flight: Gauge,
}

impl Meters {
    /// Registers every series at 0, also those that may never be counted: every error code and every route.
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

    /// Records an answered request.
    pub(crate) fn request(&self, route: Route, ending: Ending, took: Duration) {
        self.requests(route, ending).record(took);
    }

    fn requests(&self, route: Route, ending: Ending) -> &Histogram {
        let cell = &self.requests[route as usize][ending as usize];
        cell.get_or_init(
            || histogram!("ordergrid_http_request_seconds", "route" => route.label(), "outcome" => ENDINGS[ending as usize]),
        )
    }

    /// Records a stage of a request.
    pub(crate) fn stage(&self, work: Work, stage: Stage, took: Duration) {
        let cell = &self.stages[work as usize][stage as usize];
        let histogram = cell.get_or_init(
            || histogram!("ordergrid_stage_seconds", "work" => WORKS[work as usize], "stage" => STAGES[stage as usize]),
        );
        histogram.record(took);
    }

    /// Counts a problem that was sent to a client.
    pub(crate) fn problem(&self, kind: &'static Kind) {
        self.problems(kind).increment(1);
    }

    fn problems(&self, kind: &'static Kind) -> &Counter {
        let place = kinds::ALL.iter().position(|known| known.code == kind.code).expect("every kind is in the list");
        self.problems[place].get_or_init(|| counter!("ordergrid_http_problems_total", "code" => kind.code))
    }

    /// Counts a request as in flight until the returned value is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        self.in_flight.increment(1.0);
        InFlight(self.in_flight.clone())
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Number of open connections.
pub(crate) fn connections() -> Gauge {
    gauge!("ordergrid_http_connections")
}

/// Number of connections refused at the limit.
pub(crate) fn connections_refused() -> Counter {
    counter!("ordergrid_http_connections_refused_total")
}

/// Sets the gauges of the memory account. Called when metrics are read, since the account changes with every request.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; bytes of memory are far below 2^53")]
pub(crate) fn account(account: &Account) {
    for what in Use::ALL {
        gauge!("ordergrid_memory_account_bytes", "use" => what.word()).set(account.taken(what) as f64);
        gauge!("ordergrid_memory_account_limit_bytes", "use" => what.word()).set(account.most(what) as f64);
    }
    gauge!("ordergrid_memory_account_limit_bytes", "use" => "requests").set(account.limit() as f64);
}

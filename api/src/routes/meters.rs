//! The metrics of requests. Handles are created once per server, so that a request needs no look-up by name.
//!
//! `ordergrid_http_request_seconds{route,outcome}`, `ordergrid_stage_seconds{work,stage}`,
//! `ordergrid_http_problems_total{code}`, `ordergrid_http_requests_in_flight`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::Route;
use crate::fault::kinds::{self, Kind};

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The request succeeded.
    Done,
    /// The request was refused: nothing happened.
    Refused,
    /// The request may have taken effect.
    Unknown,
}

/// The kind of work that dominates a request. Stages are measured by kind of work, not by route.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
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
pub(super) enum Stage {
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
pub(super) struct Meters {
    requests: Vec<[OnceLock<Histogram>; 3]>,
    stages: [[OnceLock<Histogram>; 4]; 4],
    problems: Vec<OnceLock<Counter>>,
    in_flight: Gauge,
}

impl Meters {
    /// Registers every series at 0, also those that may never be counted: every error code and every route.
    pub(super) fn new() -> Self {
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
    pub(super) fn request(&self, route: Route, ending: Ending, took: Duration) {
        self.requests(route, ending).record(took);
    }

    fn requests(&self, route: Route, ending: Ending) -> &Histogram {
        let cell = &self.requests[route as usize][ending as usize];
        cell.get_or_init(
            || histogram!("ordergrid_http_request_seconds", "route" => route.label(), "outcome" => ENDINGS[ending as usize]),
        )
    }

    /// Records a stage of a request.
    pub(super) fn stage(&self, work: Work, stage: Stage, took: Duration) {
        let cell = &self.stages[work as usize][stage as usize];
        let histogram = cell.get_or_init(
            || histogram!("ordergrid_stage_seconds", "work" => WORKS[work as usize], "stage" => STAGES[stage as usize]),
        );
        histogram.record(took);
    }

    /// Counts a problem that was sent to a client.
    pub(super) fn problem(&self, kind: &'static Kind) {
        self.problems(kind).increment(1);
    }

    fn problems(&self, kind: &'static Kind) -> &Counter {
        let place = kinds::ALL.iter().position(|known| known.code == kind.code).expect("every kind is in the list");
        self.problems[place].get_or_init(|| counter!("ordergrid_http_problems_total", "code" => kind.code))
    }

    /// Counts a request as in flight until the returned value is dropped.
    pub(super) fn enter(&self) -> InFlight {
        self.in_flight.increment(1.0);
        InFlight(self.in_flight.clone())
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

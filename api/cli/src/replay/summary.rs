//! What came out of a replay.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use ordergrid_api::client::CallError;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::screen::Paint;
use crate::units;

/// Oddities that are told one by one; the others are counted.
const TOLD: usize = 100;

/// Counts while a replay runs.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) placed: u64,
    pub(super) replayed: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) unknown: u64,
    pub(super) paid: u64,
    pub(super) shipped: u64,
    pub(super) delivered: u64,
    pub(super) total_minor: i64,
    pub(super) unexplained: Vec<String>,
    pub(super) more_unexplained: u64,
    pub(super) gave_up: Option<VerbFailure>,
    /// Microseconds from the first attempt to place to the answer.
    latencies: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            placed: 0,
            replayed: 0,
            refused: BTreeMap::new(),
            unknown: 0,
            paid: 0,
            shipped: 0,
            delivered: 0,
            total_minor: 0,
            unexplained: Vec::new(),
            more_unexplained: 0,
            gave_up: None,
            latencies: Histogram::new(3).expect("three digits are supported"),
        }
    }

    pub(super) fn took(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.record(us.max(1)).expect("the histogram grows");
    }

    pub(super) fn refuses(&mut self, code: &str) {
        *self.refused.entry(code.to_owned()).or_default() += 1;
    }

    /// Something that a replay of these sales cannot explain.
    pub(super) fn wonders(&mut self, what: String) {
        if self.unexplained.len() < TOLD {
            self.unexplained.push(what);
        } else {
            self.more_unexplained += 1;
        }
    }

    /// The grid does not come back: there is no use in trying the next order.
    pub(super) fn gives_up(&mut self, error: CallError) {
        self.gave_up.get_or_insert_with(|| error.into());
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        units::rounded(self.latencies.value_at_quantile(quantile) as f64 / 1_000.0)
    }
}

/// What came out of a replay; its JSON is the output of the verb.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Orders that the grid has acknowledged, in this replay or in an earlier one.
    pub placed: u64,
    /// Orders that were refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Orders of which some step's outcome is unknown.
    pub unknown: u64,
    /// Orders paid.
    pub paid: u64,
    /// Orders shipped whole.
    pub shipped: u64,
    /// Orders delivered whole.
    pub delivered: u64,
    /// Orders placed per second, all their steps included.
    pub orders_per_s: f64,
    /// Median time to place an order, retries included, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Sales in the files.
    pub orders: u64,
    /// Placed orders that were answered with an earlier answer: by an earlier replay, which this one changes nothing of, or
    /// by an attempt of this one whose answer was lost.
    pub replayed: u64,
    /// Sales that were not tried, because the replay stopped or gave up.
    pub not_tried: u64,
    /// SKUs in the files.
    pub skus: u64,
    /// Units on the lines of the placed orders.
    pub units: u64,
    /// Sum of the totals of the placed orders, minor units.
    pub total_minor: i64,
    /// Its currency.
    pub currency: String,
    /// Stock received first, as it was asked for.
    pub stock: String,
    /// The same in units.
    pub received_units: u64,
    /// Seconds that the orders took.
    pub elapsed_s: f64,
    /// It stopped where it was told to.
    pub stopped: bool,
    /// What cannot be explained, in words; the first 100.
    pub unexplained: Vec<String>,
    /// How many there are.
    pub unexplained_count: u64,
    /// The stock compared with what was sold; `null` where it was not looked at.
    pub check: Option<StockCheck>,
    #[serde(skip)]
    pub(super) gave_up: Option<VerbFailure>,
}

/// The stock compared with what was sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StockCheck {
    /// Every SKU adds up.
    pub ok: bool,
    /// SKUs compared.
    pub skus: u64,
    /// SKUs that do not add up.
    pub wrong: u64,
    /// What is wrong with them; the first 100.
    pub violations: Vec<String>,
}

/// What a summary needs besides the counts.
pub(super) struct Frame {
    pub(super) orders: u64,
    pub(super) skus: u64,
    pub(super) units: u64,
    pub(super) currency: String,
    pub(super) stock: String,
    pub(super) elapsed: Duration,
    pub(super) stopped: bool,
    pub(super) not_tried: u64,
}

impl Summary {
    pub(super) fn new(tally: Tally, frame: Frame) -> Self {
        let (p50_ms, p99_ms) = (tally.quantile_ms(0.5), tally.quantile_ms(0.99));
        let seconds = frame.elapsed.as_secs_f64();
        Self {
            orders_per_s: if seconds > 0.0 { units::rounded(tally.placed as f64 / seconds) } else { 0.0 },
            p50_ms,
            p99_ms,
            placed: tally.placed,
            refused: tally.refused,
            unknown: tally.unknown,
            paid: tally.paid,
            shipped: tally.shipped,
            delivered: tally.delivered,
            orders: frame.orders,
            replayed: tally.replayed,
            not_tried: frame.not_tried,
            skus: frame.skus,
            units: frame.units,
            total_minor: tally.total_minor,
            currency: frame.currency,
            stock: frame.stock,
            received_units: 0,
            elapsed_s: units::rounded(seconds),
            stopped: frame.stopped,
            unexplained_count: tally.unexplained.len() as u64 + tally.more_unexplained,
            unexplained: tally.unexplained,
            check: None,
            gave_up: tally.gave_up,
        }
    }

    /// Every sale was walked to its end: the stock can be judged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.not_tried == 0 && self.unknown == 0 && self.unexplained_count == 0 && self.gave_up.is_none()
    }

    /// How the process ends: well only if nothing is unexplained.
    ///
    /// # Errors
    /// What is to be told on stderr.
    pub fn end(&self) -> Result<Exit, VerbFailure> {
        if self.unknown > 0 {
            let cause = self.gave_up.as_ref().map(|failure| format!("; {}", failure.detail())).unwrap_or_default();
            let detail = format!("the outcome of {} orders is not known{cause}", units::count(self.unknown));
            return Err(VerbFailure::new(Exit::Unknown, "outcome_unknown", detail)
                .with_hint("run the replay again: nothing is done twice"));
        }
        if let Some(failure) = &self.gave_up {
            return Err(failure.clone());
        }
        if let Some(first) = self.unexplained.first() {
            let detail = format!("{} unexplained, the first: {first}", units::count(self.unexplained_count));
            return Err(VerbFailure::new(Exit::Failed, "unexplained", detail));
        }
        match &self.check {
            Some(check) if !check.ok => {
                let first = check.violations.first().map_or("", String::as_str);
                let detail = format!("the stock of {} SKUs does not add up, the first: {first}", units::count(check.wrong));
                Err(VerbFailure::new(Exit::AnswerIsNo, "stock_does_not_add_up", detail))
            }
            _ => Ok(Exit::Done),
        }
    }

    /// The summary for people.
    #[must_use]
    pub fn table(&self, paint: Paint) -> String {
        let refused: u64 = self.refused.values().sum();
        let mut text =
            format!("{}\n", paint.bold(&format!("REPLAY of {} orders, stock {}", units::count(self.orders), self.stock)));
        let mut row = |name: &str, value: String| text += &format!("{name:<12}{value:>14}\n");
        row("placed", units::count(self.placed));
        row("  replayed", units::count(self.replayed));
        row("refused", units::count(refused));
        for (code, number) in &self.refused {
            row(&format!("  {code}"), units::count(*number));
        }
        row("unknown", units::count(self.unknown));
        row("paid", units::count(self.paid));
        row("shipped", units::count(self.shipped));
        row("delivered", units::count(self.delivered));
        if self.not_tried > 0 {
            row("not tried", units::count(self.not_tried));
        }
        row("units", units::count(self.units));
        row(&format!("total {}", self.currency), units::amount(self.total_minor));
        row("orders/s", units::count(self.orders_per_s.round() as u64));
        row("p50", units::latency(self.p50_ms));
        row("p99", units::latency(self.p99_ms));
        row("seconds", format!("{:.1}", self.elapsed_s));
        if self.orders > 0 && self.replayed == self.orders {
            text += "every order had been placed before: nothing has changed\n";
        }
        match &self.check {
            Some(check) if check.ok => {
                text += &format!("{} the stock of {} SKUs adds up\n", paint.good("OK"), units::count(check.skus));
            }
            Some(check) => {
                for violation in &check.violations {
                    text += &format!("{} {violation}\n", paint.bad("VIOLATION"));
                }
            }
            None => text += "the stock was not checked\n",
        }
        for what in &self.unexplained {
            text += &format!("{} {what}\n", paint.bad("UNEXPLAINED"));
        }
        text
    }
}

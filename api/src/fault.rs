//! The errors that clients see: one table maps every rejection and failure to a status, a code and an outcome.
//!
//! Read next: `wire::problem` for the body, `body` and `check` for faults of requests.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use ordergrid_domain::Rejection;
use serde::Serialize;

use crate::account::Full;
use crate::fault::kinds::{Kind, OVERLOADED};
use crate::grid::{Failure, Refusal, UnknownCause};
use crate::wire::{Figures, PROBLEM_JSON, ShortLine};

pub mod kinds;

/// Initial buffer size, enough for most problems. A larger problem grows the buffer.
const USUAL_BYTES: usize = 1_024;

/// An error on its way to a client. Boxed, so that successful results stay small.
#[derive(Debug)]
pub(crate) struct Fault(Box<Told>);

#[derive(Debug)]
struct Told {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    lines: Vec<ShortLine>,
    cursor: Option<String>,
    figures: Figures,
    nothing_happened: bool,
}

impl Fault {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Told {
            kind,
            detail: detail.into(),
            param: None,
            retry_after: None,
            lines: Vec::new(),
            cursor: None,
            figures: Figures::default(),
            nothing_happened: false,
        }))
    }

    /// Adds the faulty part: a JSON path, a query parameter or a header.
    #[must_use]
    pub(crate) fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// Adds the lines without enough stock.
    #[must_use]
    pub(crate) fn short(mut self, lines: Vec<ShortLine>) -> Self {
        self.0.lines = lines;
        self
    }

    /// Adds the cursor of the next page.
    #[must_use]
    pub(crate) fn go_on_with(mut self, cursor: String) -> Self {
        self.0.cursor = Some(cursor);
        self
    }

    /// Adds what the detail says in words, for programs.
    #[must_use]
    pub(crate) fn with(mut self, figures: Figures) -> Self {
        self.0.figures = figures;
        self
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Marks the request as a read: whatever failed, nothing can have happened.
    #[must_use]
    pub(crate) fn of_a_read(mut self) -> Self {
        self.0.nothing_happened = true;
        if self.0.kind == &kinds::OUTCOME_UNKNOWN {
            self.0.kind = &kinds::NOT_ANSWERED;
        }
        self
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Whether the request may have taken effect.
    pub(crate) fn outcome_unknown(&self) -> bool {
        self.0.kind.unknown && !self.0.nothing_happened
    }

    /// The body, borrowed.
    pub(crate) fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            kind: self.0.kind.uri,
            title: self.0.kind.title,
            status: self.0.kind.status,
            detail: &self.0.detail,
            code: self.0.kind.code,
            param: self.0.param.as_deref(),
            retryable: self.0.kind.retryable,
            outcome: if self.outcome_unknown() { "unknown" } else { "refused" },
            request_id,
            lines: &self.0.lines,
            cursor: self.0.cursor.as_deref(),
            figures: &self.0.figures,
        }
    }

    /// The complete HTTP response.
    pub(crate) fn answer(&self, request_id: &str) -> Response<Body> {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        sonic_rs::to_writer(&mut body, &self.body(request_id)).expect("a problem has only texts and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.0.kind.status).expect("the table has valid statuses only");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait) = self.wait() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }

    /// Whole seconds for `Retry-After`, at least one. Every 429 and 503 has this header.
    fn wait(&self) -> Option<u64> {
        let given = self.0.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        match (given, self.0.kind.status) {
            (Some(seconds), _) => Some(seconds.max(1)),
            (None, 429 | 503) => Some(1),
            (None, _) => None,
        }
    }
}

impl From<Full> for Fault {
    fn from(full: Full) -> Self {
        Self::new(&OVERLOADED, full.to_string())
    }
}

/// [`crate::wire::Problem`] with borrowed values: the same members in the same order.
#[derive(Serialize)]
pub(crate) struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    retryable: bool,
    outcome: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[ShortLine]>::is_empty")]
    lines: &'a [ShortLine],
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(flatten)]
    figures: &'a Figures,
}

impl ProblemBody<'_> {
    /// The short form, for `?return=minimal`.
    pub(crate) fn minimal(self) -> MinimalProblem {
        MinimalProblem { code: self.code, retryable: self.retryable, outcome: self.outcome }
    }
}

/// Only code and outcome.
#[derive(Serialize)]
pub(crate) struct MinimalProblem {
    code: &'static str,
    retryable: bool,
    outcome: &'static str,
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        let fault = Self::new(kind_of_rejection(&rejection), rejection.to_string()).with(Figures::of(&rejection));
        match param_of(&rejection) {
            Some(param) => fault.at(param),
            None => fault,
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => rejection.into(),
            Failure::Refused { reason, retry_after } => {
                Self::new(kind_of_refusal(reason), reason.to_string()).retry_after(retry_after)
            }
            Failure::Unknown { cause } => Self::new(kind_of_unknown(cause), cause.to_string()),
        }
    }
}

/// The fault of an id that does not exist.
pub(crate) fn nothing_by(kind: &'static Kind, what: &str, given: &str) -> Fault {
    Fault::new(kind, format!("there is no {what} {given}"))
}

/// Maps rejections, which are final, to kinds.
pub(crate) fn kind_of_rejection(rejection: &Rejection) -> &'static Kind {
    match rejection {
        Rejection::OutOfStock { .. } | Rejection::OutOfStocks(_) => &kinds::OUT_OF_STOCK,
        Rejection::NoSuchSku(_) => &kinds::NO_SUCH_SKU,
        Rejection::NoSuchOrder(_) => &kinds::NO_SUCH_ORDER,
        Rejection::NoSuchFulfilment(_) => &kinds::NO_SUCH_FULFILMENT,
        Rejection::NoSuchRefund(_) => &kinds::NO_SUCH_REFUND,
        Rejection::NoSuchPayment(_) => &kinds::NO_SUCH_PAYMENT,
        Rejection::OnHold { .. } => &kinds::ON_HOLD,
        Rejection::NoSuchLine(_) => &kinds::NO_SUCH_LINE,
        Rejection::NoSuchWarehouse => &kinds::NO_SUCH_WAREHOUSE,
        Rejection::KeyReused => &kinds::IDEMPOTENCY_KEY_REUSED,
        Rejection::ReferenceTaken(_) => &kinds::REFERENCE_TAKEN,
        Rejection::StaleVersion { .. } => &kinds::STALE_VERSION,
        Rejection::WrongPhase { .. } => &kinds::WRONG_PHASE,
        Rejection::WrongFulfilmentState { .. } => &kinds::WRONG_FULFILMENT_STATE,
        Rejection::WrongPaymentState { .. } => &kinds::WRONG_PAYMENT_STATE,
        Rejection::WrongCurrency => &kinds::WRONG_CURRENCY,
        Rejection::TotalMismatch { .. } => &kinds::TOTAL_MISMATCH,
        Rejection::AmountOutOfRange => &kinds::INVALID_AMOUNT,
        Rejection::QuantityOutOfRange(_) => &kinds::INVALID_QUANTITY,
        Rejection::NotEnoughOnLine { .. } => &kinds::NOT_ENOUGH_ON_LINE,
        Rejection::NothingLeft => &kinds::NOTHING_LEFT,
        Rejection::RefundTooLarge { .. } => &kinds::REFUND_TOO_LARGE,
        Rejection::StillOpen => &kinds::STILL_OPEN,
        Rejection::WouldOversell { .. } => &kinds::WOULD_OVERSELL,
        Rejection::NoLines => &kinds::INVALID_LINES,
        Rejection::TooManyLines { .. } => &kinds::TOO_MANY_LINES,
        Rejection::TooManyMetadata { .. } => &kinds::INVALID_METADATA,
        Rejection::PaymentWindowOutOfRange => &kinds::INVALID_PAYMENT_WINDOW,
        Rejection::LineQuantityOutOfRange { .. } => &kinds::INVALID_QUANTITY,
        Rejection::LineAmountOutOfRange { .. } => &kinds::INVALID_AMOUNT,
        Rejection::ReasonReserved => &kinds::INVALID_REASON,
        Rejection::HistoryFull { .. } => &kinds::HISTORY_FULL,
        // These occur between shards. The node retries by itself, so a client sees them only if all retries failed.
        Rejection::HoldExpired { .. } | Rejection::HoldEnded | Rejection::StaleAttempt { .. } => &kinds::HOLD_TIMED_OUT,
        Rejection::StreamGap { .. } | Rejection::WrongShard => &kinds::NO_LEADER,
        Rejection::NotAhead { .. } => &kinds::LOG_TIME_NOT_AHEAD,
    }
}

/// The part of the request that a rejection is about.
fn param_of(rejection: &Rejection) -> Option<Cow<'static, str>> {
    let fixed = match *rejection {
        Rejection::LineQuantityOutOfRange { line, .. } => return Some(format!("lines[{}].quantity", line - 1).into()),
        Rejection::LineAmountOutOfRange { line } => return Some(format!("lines[{}]", line - 1).into()),
        Rejection::KeyReused => "Idempotency-Key",
        Rejection::StaleVersion { .. } => "If-Match",
        Rejection::ReferenceTaken(_) => "reference",
        Rejection::WrongCurrency => "currency",
        Rejection::TotalMismatch { .. } => "total",
        Rejection::RefundTooLarge { .. } | Rejection::WrongPaymentState { .. } => "amount",
        Rejection::NoSuchPayment(_) => "provider_payment_id",
        Rejection::WouldOversell { .. } => "delta",
        Rejection::NoSuchWarehouse => "warehouse",
        Rejection::QuantityOutOfRange(_) => "quantity",
        Rejection::TooManyMetadata { .. } => "metadata",
        Rejection::PaymentWindowOutOfRange => "payment_window_seconds",
        Rejection::ReasonReserved => "reason",
        Rejection::NoSuchLine(_) | Rejection::NotEnoughOnLine { .. } | Rejection::NoLines | Rejection::TooManyLines { .. } => {
            "lines"
        }
        _ => return None,
    };
    Some(fixed.into())
}

/// Maps temporary refusals to kinds.
pub(crate) fn kind_of_refusal(reason: Refusal) -> &'static Kind {
    match reason {
        Refusal::Overloaded => &kinds::OVERLOADED,
        Refusal::NoLeader => &kinds::NO_LEADER,
        Refusal::NotReady => &kinds::NOT_READY,
        Refusal::ClockSkew => &kinds::CLOCK_SKEW,
        Refusal::HoldTimedOut => &kinds::HOLD_TIMED_OUT,
        Refusal::Unreachable | Refusal::NotUnderstood => &kinds::UNREACHABLE,
        Refusal::TokenAhead => &kinds::TOKEN_AHEAD,
        Refusal::Damaged => &kinds::DAMAGED,
    }
}

/// Maps unknown outcomes to kinds.
pub(crate) fn kind_of_unknown(cause: UnknownCause) -> &'static Kind {
    match cause {
        UnknownCause::TimedOut => &kinds::TIMED_OUT,
        UnknownCause::LeaderChanged
        | UnknownCause::ConnectionLost
        | UnknownCause::ActorFailed
        | UnknownCause::Stopped
        | UnknownCause::Unreadable => &kinds::OUTCOME_UNKNOWN,
    }
}

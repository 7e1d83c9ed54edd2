//! Every rejection and every failure, as clients are told: one row each.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::time::Duration;

use ordergrid_api::{Failure, Refusal, UnknownCause};
use ordergrid_domain::order::{FulfilmentState, OrderHold, Phase};
use ordergrid_domain::{FulfilmentId, Money, OrderId, ProviderPaymentId, Quantity, RefundId, Rejection, SkuId, Timestamp};

use crate::scripted::Script;
use crate::site::{SMALLEST, Site, request};

/// Rows of a table that must have every variant: a new one does not compile without its row.
macro_rules! table {
    ($enum:ident: $($pattern:pat => $value:expr, $status:literal, $code:literal, $param:expr;)*) => {{
        let _complete = |value: &$enum| match value { $($pattern => {}),* };
        vec![$(($value, $status, $code, $param)),*]
    }};
}

fn sku() -> SkuId {
    SkuId::new("85123A").expect("a valid SKU")
}

#[tokio::test]
async fn every_rejection() {
    use Rejection as R;
    let (order, q, m, t) = (OrderId(9), Quantity, Money, Timestamp::from_ms);
    let (fulfilment, refund) = (FulfilmentId { order, number: 1 }, RefundId { order, number: 1 });
    let payment = ProviderPaymentId::new("pi_1").expect("a valid id");
    let (phase, state) = (Phase::Cancelled, FulfilmentState::Shipped);
    let rows: Vec<(Rejection, u16, &str, Option<&str>)> = table! { Rejection:
        R::OutOfStock { .. }             => R::OutOfStock { sku: sku(), asked: q(6), available: q(2) }, 409, "out_of_stock", Some("lines[0].quantity");
        R::OutOfStocks(_)                => R::OutOfStocks(vec![(sku(), q(6), q(2))]), 409, "out_of_stock", Some("lines[0].quantity");
        R::NoSuchSku(_)                  => R::NoSuchSku(sku()), 404, "no_such_sku", Some("lines[0].sku");
        R::NoSuchOrder(_)                => R::NoSuchOrder(order), 404, "no_such_order", None;
        R::NoSuchFulfilment(_)           => R::NoSuchFulfilment(fulfilment), 404, "no_such_fulfilment", None;
        R::NoSuchRefund(_)               => R::NoSuchRefund(refund), 404, "no_such_refund", None;
        R::NoSuchLine(_)                 => R::NoSuchLine(7), 422, "no_such_line", Some("lines");
        R::NoSuchWarehouse               => R::NoSuchWarehouse, 422, "no_such_warehouse", Some("warehouse");
        R::KeyReused                     => R::KeyReused, 422, "idempotency_key_reused", Some("Idempotency-Key");
        R::ReferenceTaken(_)             => R::ReferenceTaken(order), 409, "reference_taken", Some("reference");
        R::HoldExpired { .. }            => R::HoldExpired { valid_until: t(1), now: t(2) }, 503, "hold_timed_out", None;
        R::HoldEnded                     => R::HoldEnded, 503, "hold_timed_out", None;
        R::StaleAttempt { .. }           => R::StaleAttempt { attempt: 1, entry: 2 }, 503, "hold_timed_out", None;
        R::StaleVersion { .. }           => R::StaleVersion { expected: 1, actual: 2 }, 412, "stale_version", Some("If-Match");
        R::WrongPhase { .. }             => R::WrongPhase { phase }, 409, "wrong_phase", None;
        R::WrongFulfilmentState { .. }   => R::WrongFulfilmentState { state }, 409, "wrong_fulfilment_state", None;
        R::WrongPaymentState { .. }      => R::WrongPaymentState { told: m(1), known: m(2) }, 409, "wrong_payment_state", Some("amount");
        R::NoSuchPayment(_)              => R::NoSuchPayment(payment.clone()), 404, "no_such_payment", Some("provider_payment_id");
        R::OnHold { .. }                 => R::OnHold { hold: OrderHold::NoCover }, 409, "on_hold", None;
        R::WrongCurrency                 => R::WrongCurrency, 422, "wrong_currency", Some("currency");
        R::TotalMismatch { .. }          => R::TotalMismatch { claimed: m(1), actual: m(2) }, 422, "total_mismatch", Some("total");
        R::AmountOutOfRange              => R::AmountOutOfRange, 422, "invalid_amount", None;
        R::QuantityOutOfRange(_)         => R::QuantityOutOfRange(q(0)), 422, "invalid_quantity", Some("quantity");
        R::NotEnoughOnLine { .. }        => R::NotEnoughOnLine { line: 1, asked: q(2), available: q(1) }, 409, "not_enough_on_line", Some("lines");
        R::NothingLeft                   => R::NothingLeft, 409, "nothing_left", None;
        R::RefundTooLarge { .. }         => R::RefundTooLarge { asked: m(2), available: m(1) }, 409, "refund_too_large", Some("amount");
        R::StillOpen                     => R::StillOpen, 409, "still_open", None;
        R::WouldOversell { .. }          => R::WouldOversell { asked: q(2), available: q(1) }, 409, "would_oversell", Some("delta");
        R::NotAhead { .. }               => R::NotAhead { log: t(1) }, 409, "log_time_not_ahead", None;
        R::StreamGap { .. }              => R::StreamGap { first: 2, next: 1 }, 503, "no_leader", None;
        R::WrongShard                    => R::WrongShard, 503, "no_leader", None;
        R::NoLines                       => R::NoLines, 422, "invalid_lines", Some("lines");
        R::TooManyLines { .. }           => R::TooManyLines { count: 2, limit: 1 }, 422, "too_many_lines", Some("lines");
        R::TooManyMetadata { .. }        => R::TooManyMetadata { count: 2, limit: 1 }, 422, "invalid_metadata", Some("metadata");
        R::PaymentWindowOutOfRange       => R::PaymentWindowOutOfRange, 422, "invalid_payment_window", Some("payment_window_seconds");
        R::LineQuantityOutOfRange { .. } => R::LineQuantityOutOfRange { line: 3, quantity: q(0) }, 422, "invalid_quantity", Some("lines[2].quantity");
        R::LineAmountOutOfRange { .. }   => R::LineAmountOutOfRange { line: 3 }, 422, "invalid_amount", Some("lines[2]");
        R::ReasonReserved                => R::ReasonReserved, 422, "invalid_reason", Some("reason");
        R::HistoryFull { .. }            => R::HistoryFull { limit: 9 }, 409, "history_full", None;
    };
    let different: BTreeSet<_> = rows.iter().map(|row| format!("{:?}", discriminant(&row.0))).collect();
    assert_eq!(different.len(), rows.len(), "each row has a variant of its own");
    for (rejection, status, code, param) in rows {
        let refused = format!("{rejection:?}");
        let problem = told(Failure::Rejected(rejection), status, code, param).await;
        assert_eq!(
            (problem["outcome"].as_str(), problem["retryable"].as_bool()),
            (Some("refused"), Some(status == 503)),
            "{refused}"
        );
    }
}

/// Tells a client of a failure to place, and checks how.
async fn told(failure: Failure, status: u16, code: &str, param: Option<&str>) -> serde_json::Value {
    let site = Site::new();
    let name = format!("{failure:?}");
    site.grid.script(Script::Fails(failure));
    let told = site.send_for_anything(request("POST", "/v1/orders", &[("idempotency-key", "k1")], SMALLEST)).await;
    assert_eq!((told.status, told.problem()), (status, (code.to_owned(), param.map(str::to_owned))), "{name}");
    told.json()
}

#[tokio::test]
async fn every_refusal() {
    use Refusal as R;
    let rows: Vec<(Refusal, u16, &str, Option<&str>)> = table! { Refusal:
        R::Overloaded   => R::Overloaded,   503, "overloaded",     None;
        R::NoLeader     => R::NoLeader,     503, "no_leader",      None;
        R::NotReady     => R::NotReady,     503, "not_ready",      None;
        R::ClockSkew    => R::ClockSkew,    503, "clock_skew",     None;
        R::HoldTimedOut => R::HoldTimedOut, 503, "hold_timed_out", None;
        R::Unreachable  => R::Unreachable,  503, "unreachable",    None;
        R::TokenAhead   => R::TokenAhead,   503, "token_ahead",    None;
        R::Damaged      => R::Damaged,      503, "damaged",        None;
        R::NotUnderstood => R::NotUnderstood, 503, "unreachable",  None;
    };
    for (reason, status, code, param) in rows {
        let problem = told(Failure::refused(reason), status, code, param).await;
        assert_eq!((problem["outcome"].as_str(), problem["retryable"].as_bool()), (Some("refused"), Some(true)));
    }
}

#[tokio::test]
async fn every_unknown_outcome() {
    use UnknownCause as U;
    let rows: Vec<(UnknownCause, u16, &str, Option<&str>)> = table! { UnknownCause:
        U::TimedOut       => U::TimedOut,       504, "timed_out",       None;
        U::LeaderChanged  => U::LeaderChanged,  503, "outcome_unknown", None;
        U::ConnectionLost => U::ConnectionLost, 503, "outcome_unknown", None;
        U::ActorFailed    => U::ActorFailed,    503, "outcome_unknown", None;
        U::Stopped        => U::Stopped,        503, "outcome_unknown", None;
        U::Unreadable     => U::Unreadable,     503, "outcome_unknown", None;
    };
    for (cause, status, code, param) in rows {
        let problem = told(Failure::unknown(cause), status, code, param).await;
        assert_eq!((problem["outcome"].as_str(), problem["retryable"].as_bool()), (Some("unknown"), Some(true)));
    }
}

#[tokio::test]
async fn retry_after_is_whole_seconds_and_never_zero() {
    for (wait_ms, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")] {
        let site = Site::new();
        let retry_after = Duration::from_millis(wait_ms);
        site.grid.script(Script::Fails(Failure::Refused { reason: Refusal::Overloaded, retry_after }));
        assert_eq!(site.post("/v1/orders", "k1", SMALLEST).await.header("retry-after"), Some(seconds), "{wait_ms} ms");
    }
}

#[tokio::test]
async fn out_of_stock_names_the_lines_that_are_short() {
    let site = Site::new();
    site.grid.runs_out_of("A", 5);
    site.grid.runs_out_of("C", 0);
    let body = r#"{"user_id":"u","currency":"GBP","lines":[
        {"sku":"A","quantity":3,"unit_price":1},{"sku":"B","quantity":9,"unit_price":1},
        {"sku":"C","quantity":1,"unit_price":1},{"sku":"A","quantity":4,"unit_price":1}]}"#;
    let told = site.post("/v1/orders", "k1", body).await;
    assert_eq!((told.status, told.problem().1.as_deref()), (409, Some("lines[2].quantity")));
    let short = serde_json::json!([
        {"line": 3, "sku": "C", "asked": 1, "available": 0},
        {"line": 4, "sku": "A", "asked": 4, "available": 2},
    ]);
    assert_eq!(told.json()["lines"], short, "line 1 gets what there is of A first");
}

#[tokio::test]
async fn a_problem_is_written_whole() {
    let site = Site::new();
    site.grid.script(Script::Fails(Rejection::TotalMismatch { claimed: Money(1), actual: Money(1_530) }.into()));
    let headers = [("idempotency-key", "k"), ("x-request-id", "r-1")];
    let told = site.send(request("POST", "/v1/orders", &headers, SMALLEST)).await;
    let expected = concat!(
        r#"{"type":"urn:ordergrid:problem:total_mismatch","title":"The total does not add up","status":422,"#,
        r#""detail":"the total is 1530, not 1","code":"total_mismatch","param":"total","retryable":false,"#,
        r#""outcome":"refused","request_id":"r-1","total":1530}"#,
    );
    assert_eq!(std::str::from_utf8(&told.bytes), Ok(expected));
}

#[tokio::test]
async fn a_panic_is_an_unknown_outcome() {
    let site = Site::new();
    let id = site.placed("k1").await;
    site.grid.script(Script::Panics);
    let told = site.post("/v1/orders", "k2", SMALLEST).await;
    assert_eq!((told.status, told.problem().0.as_str()), (500, "internal_error"));
    assert_eq!(told.text("outcome"), "unknown");
    let told = site.get(&format!("/v1/orders/{id}")).await;
    assert_eq!((told.status, told.text("outcome").as_str()), (500, "refused"), "a read changes nothing");
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_time_is_an_unknown_outcome_except_for_reads() {
    let site = Site::tight();
    let id = site.placed("k1").await;
    site.grid.script(Script::Hangs);
    let order = format!("/v1/orders/{id}");
    for (method, path, body) in [
        ("POST", "/v1/orders".to_owned(), SMALLEST),
        ("POST", format!("{order}/complete"), ""),
        ("POST", "/v1/skus/A/receive".to_owned(), r#"{"quantity":1}"#),
        ("PUT", "/v1/skus/A".to_owned(), r#"{"name":"a"}"#),
    ] {
        let told = site.send(request(method, &path, &[("idempotency-key", "k")], body)).await;
        assert_eq!((told.status, told.problem().0.as_str()), (504, "timed_out"), "{path}");
        assert_eq!(told.text("outcome"), "unknown", "{path}");
    }
    for path in [order, "/v1/users/u/orders".to_owned(), "/v1/skus/A".to_owned()] {
        let told = site.get(&path).await;
        assert_eq!((told.status, told.text("outcome").as_str()), (504, "refused"), "{path}");
    }
}

//! The client against nodes that fail in every way they can.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::json;
use tokio::time::Instant;

use super::scripted::{Scripted, Told};
use super::*;

fn done() -> Told {
    Told::json(201, &json!({}))
}

fn client(network: &Scripted, nodes: &[&str], retry: RetryPolicy) -> Client {
    let endpoints: Vec<_> = nodes.iter().map(|node| Endpoint::new(*node, 80)).collect();
    Client::new(&endpoints, Arc::new(network.clone()), ClientOptions { retry, ..ClientOptions::default() })
}

fn post() -> Call {
    Call::post("/v1/orders", HeaderValue::from_static("k1")).with_json(&json!({"a": 1}))
}

async fn ask(client: &Client, call: &Call) -> Result<serde_json::Value, CallError> {
    client.ask::<serde_json::Value>(call).await.map(|answer| answer.value)
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_or_retryable_is_asked_again_with_the_same_key_and_body() {
    let lost = json!({"code": "outcome_unknown", "retryable": true, "outcome": "unknown"});
    for first in [Told::HangUp, Told::Silence, Told::problem(503, "overloaded", true), Told::json(503, &lost)] {
        let network = Scripted::in_turn(vec![first.clone(), done()]);
        let client = client(&network, &["a", "b"], RetryPolicy::default());
        assert_eq!(ask(&client, &post()).await, Ok(json!({})), "{first:?}");
        let asked = network.asked();
        assert_eq!((asked[0].key.as_deref(), &asked[0].body), (Some("k1"), &asked[1].body), "{first:?}");
        assert_eq!((&asked[0].key, asked.len()), (&asked[1].key, 2), "{first:?}");
        assert_ne!(asked[0].node, asked[1].node, "the second attempt goes to the other node: {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_no_is_asked_once() {
    let network = Scripted::in_turn(vec![Told::problem(409, "out_of_stock", false)]);
    let error = ask(&client(&network, &["a", "b"], RetryPolicy::default()), &post()).await.expect_err("refused");
    let CallError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!((refusal.status, refusal.code.as_str(), refusal.detail.as_str()), (409, "out_of_stock", "it is out_of_stock"));
    assert_eq!(refusal.problem["request_id"], "r1");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let busy = Told::Answer(
        503,
        vec![("retry-after", "7".to_owned())],
        json!({"code": "no_leader", "retryable": true, "outcome": "refused"}).to_string(),
    );
    let network = Scripted::in_turn(vec![busy, done()]);
    let started = Instant::now();
    assert_eq!(ask(&client(&network, &["a"], RetryPolicy::default()), &post()).await, Ok(json!({})));
    assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&started.elapsed()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_costs_no_time_while_another_is_up() {
    let network = Scripted::new(|_| done());
    network.stop("a");
    let client = client(&network, &["a", "b"], RetryPolicy::default());
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(ask(&client, &post()).await, Ok(json!({})));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(network.connections(), 1, "the connection is used again");
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_be_reached_nothing_has_changed() {
    let network = Scripted::new(|_| done());
    for node in ["a", "b"] {
        network.stop(node);
    }
    let error = ask(&client(&network, &["a", "b"], RetryPolicy::default()), &post()).await.expect_err("nobody is there");
    assert!(matches!(&error, CallError::Unreachable(text) if text.contains("connection refused")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_heard_is_told_though_the_last_node_was_not_reached() {
    let network = Scripted::new(|_| Told::problem(503, "no_leader", true));
    network.stop("a");
    // One attempt at a node that is away is the last one, for each number of attempts.
    for attempts in 2..6 {
        let policy = RetryPolicy { attempts, ..RetryPolicy::default() };
        let client = client(&network, &["a", "b"], policy);
        let error = ask(&client, &post()).await.expect_err("nobody leads");
        assert_eq!(error.code(), "no_leader", "{attempts}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn doubt_stays_when_the_grid_goes_away() {
    let network = Scripted::in_turn(vec![Told::HangUp]);
    let client = client(&network, &["a"], RetryPolicy::default());
    let (stopper, call) = (network.clone(), post());
    let (result, ()) = futures::join!(ask(&client, &call), async move {
        // The first attempt is on its way when the node goes.
        while stopper.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        stopper.stop("a");
    });
    let error = result.expect_err("the node is gone");
    assert!(error.outcome_unknown(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_final_no_takes_doubt_away() {
    let network = Scripted::in_turn(vec![Told::HangUp, Told::problem(409, "out_of_stock", false)]);
    let error = ask(&client(&network, &["a"], RetryPolicy::default()), &post()).await.expect_err("refused");
    assert_eq!((error.code(), error.outcome_unknown()), ("out_of_stock", false));
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let network = Scripted::new(|_| Told::Silence);
    let started = Instant::now();
    let error =
        ask(&client(&network, &["a"], RetryPolicy::patient(Duration::from_secs(25))), &post()).await.expect_err("silence");
    assert!(error.outcome_unknown(), "{error:?}");
    assert!(started.elapsed() <= Duration::from_secs(25), "{:?}", started.elapsed());
    assert!(network.asked().len() >= 3, "{}", network.asked().len());
}

#[tokio::test(start_paused = true)]
async fn a_read_without_answer_is_no_doubt() {
    let network = Scripted::new(|_| Told::HangUp);
    let error = ask(&client(&network, &["a"], RetryPolicy::default()), &Call::get("/v1/orders/1")).await.expect_err("hung up");
    assert!(matches!(error, CallError::Unreachable(_)), "{error:?}");
    assert_eq!(network.asked().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_could_be_done_twice_is_asked_once() {
    let network = Scripted::new(|_| Told::HangUp);
    let call = Call::new(Method::POST, "/v1/orders/batch").with_json(&json!({"orders": []}));
    let error = ask(&client(&network, &["a"], RetryPolicy::default()), &call).await.expect_err("hung up");
    assert!(error.outcome_unknown(), "{error:?}");
    assert_eq!(network.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_node_closed_while_idle_is_no_failure() {
    let closing = Told::Answer(200, vec![("connection", "close".to_owned())], "{}".to_owned());
    let network = Scripted::in_turn(vec![closing, done()]);
    let client = client(&network, &["a"], RetryPolicy::once(Duration::from_secs(1)));
    assert_eq!(ask(&client, &post()).await, Ok(json!({})));
    assert_eq!(ask(&client, &post()).await, Ok(json!({})));
    assert_eq!(network.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn long_answers_come_whole() {
    let long = json!({"text": "x".repeat(3 << 20)});
    let network = Scripted::in_turn(vec![Told::json(200, &long)]);
    assert_eq!(ask(&client(&network, &["a"], RetryPolicy::default()), &Call::get("/")).await, Ok(long));
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_says_besides_its_body_is_kept() {
    let headers = vec![("idempotent-replayed", "true".to_owned()), ("grid-token", "3:17".to_owned())];
    let network =
        Scripted::in_turn(vec![Told::Answer(201, headers, "{}".to_owned()), Told::Answer(200, Vec::new(), "no".to_owned())]);
    let client = client(&network, &["a"], RetryPolicy::default());
    let answer = client.ask::<serde_json::Value>(&post()).await.expect("done");
    assert_eq!((answer.replayed, answer.status.as_u16()), (true, 201));
    assert_eq!(answer.token, Some(HeaderValue::from_static("3:17")));
    let error = ask(&client, &post()).await.expect_err("`no` is no JSON");
    assert!(matches!(error, CallError::Unreadable(_)), "{error:?}");
}

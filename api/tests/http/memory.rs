//! Memory: large answers come in pieces, unfinished headers and answers that nobody reads end, and all that was taken for
//! them comes back.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ordergrid_api::account::{Account, Use};
use ordergrid_api::{Limits, ServeConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::connections::{Server, http1, order, until_closed};
use crate::scripted::Script;
use crate::site::{Site, request};

fn large(lines: usize) -> String {
    let line = |n: usize| json!({"sku": format!("SKU {n}"), "quantity": 1, "unit_price": 1});
    json!({"user_id": "17850", "currency": "GBP", "lines": (0..lines).map(line).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn a_page_that_comes_in_runs_is_one_page() {
    let site = Site::new();
    for key in 0..7 {
        assert_eq!(site.post("/v1/orders", &format!("k{key}"), &large(1)).await.status, 201);
    }
    for path in
        ["?size=5", "?size=5&page=2", "?size=7", "?size=100", "?size=3&status=pending_payment", "?size=3&status=shipped"]
    {
        let path = format!("/v1/users/17850/orders{path}");
        let whole = site.get(&path).await;
        for run in [1, 2, 5] {
            site.grid.gives_runs_of(run);
            let told = site.get(&path).await;
            assert_eq!((told.status, told.json()), (200, whole.json()), "{path} in runs of {run}");
        }
        site.grid.gives_runs_of(usize::MAX);
    }
}

#[tokio::test]
async fn the_next_run_is_asked_for_when_the_one_before_is_taken() {
    let account = Account::new(64 << 20);
    let site = Site::with(Limits { account: account.clone(), ..Limits::default() });
    for key in 0..4 {
        assert_eq!(site.post("/v1/orders", &format!("k{key}"), &large(900)).await.status, 201);
    }
    site.grid.gives_runs_of(1);
    let mut body = site.answer(request("GET", "/v1/users/17850/orders", &[], "")).await.into_body();
    let first = body.frame().await.expect("a piece").expect("no error").into_data().expect("bytes");
    assert!(first.len() < 100 << 10, "{} bytes at once", first.len());
    assert_eq!(site.grid.queries().len(), 1, "nobody has taken the first order yet");
    assert!(account.taken(Use::Answers) > 0);
    let rest = body.collect().await.expect("no error").to_bytes();
    let page: Value = serde_json::from_slice(&[&first[..], &rest[..]].concat()).expect("valid JSON");
    assert_eq!(page["orders"].as_array().expect("a list").len(), 4);
    assert!(site.grid.queries().len() >= 4);
    assert_eq!(account.taken(Use::Answers), 0);

    // What goes wrong on the way breaks the answer off.
    let mut body = site.answer(request("GET", "/v1/users/17850/orders", &[], "")).await.into_body();
    body.frame().await.expect("a piece").expect("no error");
    site.grid.script(Script::Panics);
    let failure = ordergrid_api::Failure::refused(ordergrid_api::Refusal::NoLeader);
    site.grid.script(Script::Fails(failure));
    assert!(body.collect().await.is_err(), "half a page is no page");
    assert_eq!(account.taken(Use::Answers), 0);
}

#[tokio::test]
async fn large_orders_and_batches_come_in_pieces_and_are_what_they_were() {
    let account = Account::new(64 << 20);
    let site = Site::with(Limits { account: account.clone(), ..Limits::default() });
    let response = site.answer(request("POST", "/v1/orders", &[("idempotency-key", "k")], &large(1_000))).await;
    let (head, mut body) = response.into_parts();
    assert_eq!(head.status, StatusCode::CREATED);
    let piece = body.frame().await.expect("a piece").expect("no error").into_data().expect("bytes");
    assert!(piece.len() < 100 << 10 && account.taken(Use::Answers) > 0);
    let rest = body.collect().await.expect("no error").to_bytes();
    let placed: Value = serde_json::from_slice(&[&piece[..], &rest[..]].concat()).expect("valid JSON");
    assert_eq!(placed["lines"].as_array().expect("lines").len(), 1_000);
    assert_eq!(placed["lines"][999]["line"], json!(1_000));

    let mut order: Value = serde_json::from_str(&large(300)).expect("valid JSON");
    let orders = (0..8).map(|key| {
        order["idempotency_key"] = json!(format!("b{key}"));
        order.clone()
    });
    let batch = json!({"orders": orders.collect::<Vec<_>>()}).to_string();
    let mut body = site.answer(request("POST", "/v1/orders/batch", &[], &batch)).await.into_body();
    let piece = body.frame().await.expect("a piece").expect("no error").into_data().expect("bytes");
    assert!(piece.len() < 100 << 10);
    assert!(account.taken(Use::Bodies) > 0, "the orders are held until they are written");
    let rest = body.collect().await.expect("no error").to_bytes();
    let results: Value = serde_json::from_slice(&[&piece[..], &rest[..]].concat()).expect("valid JSON");
    let results = results["results"].as_array().expect("a list");
    assert!(
        results.len() == 8 && results.iter().all(|result| result["order"]["lines"].as_array().expect("lines").len() == 300)
    );
    assert_eq!(Use::ALL.map(|what| account.taken(what)), [0; 5]);
}

fn config(account: &Account) -> ServeConfig {
    ServeConfig { limits: Limits { account: account.clone(), ..Limits::default() }, ..ServeConfig::default() }
}

/// Writes until the server takes no more, or `most` bytes are written.
async fn pour(stream: &mut DuplexStream, most: usize) -> usize {
    let mut written = 0;
    while written < most && stream.write_all(&[b'x'; 1 << 10]).await.is_ok() {
        written += 1 << 10;
    }
    written
}

#[tokio::test(start_paused = true)]
async fn headers_have_a_size_and_a_time() {
    let account = Account::new(64 << 20);
    let server = Server::start(config(&account));
    // Too large: refused as soon as that is clear.
    let mut large = server.connect();
    large.write_all(b"GET /livez HTTP/1.1\r\nhost: grid\r\na: ").await.expect("taken");
    pour(&mut large, 128 << 10).await;
    let mut said = vec![0; 64];
    let count = large.read(&mut said).await.expect("an answer");
    assert!(said[..count].starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said[..count]));
    drop(large);
    // Unfinished: ended after ten seconds, and held no more memory than was taken for it.
    let mut slow = server.connect();
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost: grid\r\na: ").await.expect("taken");
    assert_eq!(pour(&mut slow, 32 << 10).await, 32 << 10);
    sleep(Duration::from_millis(1)).await;
    assert!(account.taken(Use::Connections) > 32 << 10, "{}", account.taken(Use::Connections));
    let (said, after) = until_closed(slow).await;
    assert_eq!((said.as_str(), after.as_secs()), ("", 9), "the headers did not end");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(account.taken(Use::Connections), 0);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn headers_for_which_there_is_no_memory_end_their_connection() {
    // Half of it is for connections: several small ones, or one that is large.
    let account = Account::new(320 << 10);
    let server = Server::start(config(&account));
    let (mut held, mut refused) = (server.connect(), server.connect());
    for stream in [&mut held, &mut refused] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: grid\r\na: ").await.expect("taken");
    }
    assert_eq!(pour(&mut held, 32 << 10).await, 32 << 10);
    sleep(Duration::from_millis(1)).await;
    let written = pour(&mut refused, 256 << 10).await;
    assert!(written < 128 << 10, "{written}");
    assert!(account.taken(Use::Connections) <= account.most(Use::Connections));
    // Whoever asks for little is served beside them.
    let (mut client, _connection) = http1(server.connect()).await;
    assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
    drop(held);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_ask_for_little_and_stay_are_many() {
    let account = Account::new(1 << 20);
    let server = Server::start(config(&account));
    let mut staying = Vec::new();
    for _ in 0..30 {
        let (mut client, connection) = http1(server.connect()).await;
        for _ in 0..3 {
            assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
        }
        staying.push((client, connection));
    }
    assert!(account.taken(Use::Connections) < 30 * (24 << 10), "{}", account.taken(Use::Connections));
    drop(staying);
    assert_eq!(server.stop().await, 0);
}

/// An order whose answer is a megabyte.
fn large_order() -> Request<Full<Bytes>> {
    let request = Request::post("http://grid/v1/orders").header("host", "grid").header("idempotency-key", "large");
    request.body(Full::from(large(1_000))).expect("valid")
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_ends_its_connection_whatever_else_is_said_on_it() {
    let account = Account::new(64 << 20);
    let server = Server::start(config(&account));
    let mut pings = http2::Builder::new(TokioExecutor::new());
    // A window of a few bytes, and a ping every five seconds.
    pings.initial_stream_window_size(16).timer(hyper_util::rt::TokioTimer::new());
    pings.keep_alive_interval(Duration::from_secs(5)).keep_alive_while_idle(true);
    let (mut client, connection) = pings.handshake(TokioIo::new(server.connect())).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let answer = client.send_request(large_order()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    // Other requests go well meanwhile, and excuse nothing.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(55) {
        client.send_request(order()).await.expect("an answer").into_body().collect().await.expect("it is taken");
        sleep(Duration::from_secs(5)).await;
    }
    assert!(account.taken(Use::Answers) > 0 && account.taken(Use::Streams) > 0);
    connection.await.expect("no panic").ok();
    assert!((60..=66).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    drop((answer, client));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Use::ALL.map(|what| account.taken(what)), [0; 5]);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_gets_all_of_it() {
    let account = Account::new(64 << 20);
    let server = Server::start(config(&account));
    let mut stream = server.connect();
    let body = large(1_000);
    let head =
        format!("POST /v1/orders HTTP/1.1\r\nhost: grid\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.expect("taken");
    let (since, mut read, mut buffer) = (Instant::now(), Vec::new(), vec![0; 16 << 10]);
    while !read.ends_with(b"0\r\n\r\n") {
        sleep(Duration::from_secs(10)).await;
        let count = stream.read(&mut buffer).await.expect("it is still there");
        assert_ne!(count, 0, "cut off after {:?} and {} bytes", since.elapsed(), read.len());
        read.extend_from_slice(&buffer[..count]);
    }
    assert!(since.elapsed() > Duration::from_secs(100), "it took long: {:?}", since.elapsed());
    // The last of the answer is not taken: nor is that waited for.
    let asked = "GET /v1/orders/1 HTTP/1.1\r\nhost: grid\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.expect("taken");
    drop(stream);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn what_there_is_no_memory_for_is_refused_before_it_is_begun() {
    let account = Account::new(64 << 10);
    let site = Site::with(Limits { account: account.clone(), ..Limits::default() });
    let owed = account.owe(Use::Bodies, 60 << 10);
    let told = site.send(request("POST", "/v1/orders", &[("idempotency-key", "k")], &large(200))).await;
    assert_eq!((told.status, told.problem().0.as_str(), told.text("outcome").as_str()), (503, "overloaded", "refused"));
    assert_eq!(site.grid.asked(), []);
    drop(owed);
    let metrics = site.send(Request::get("/metrics").body(Body::empty()).expect("valid")).await;
    assert_eq!(metrics.status, 200);
}

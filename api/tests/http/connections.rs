//! Connections: both protocols, limits, silence, slowness, and the end of the server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode, Version};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ordergrid_api::{Accept, Course, Linger, ServeConfig, Stream, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::scripted::{Script, Scripted};
use crate::site::SMALLEST;

/// Accepts what a test connects.
struct Connected(mpsc::UnboundedReceiver<io::Result<DuplexStream>>);

impl Accept for Connected {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        async {
            match self.0.recv().await {
                Some(stream) => stream.map(|stream| (Box::new(stream) as Box<dyn Stream>, "test".to_owned())),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) grid: Arc<Scripted>,
    connect: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    course: watch::Sender<Course>,
    served: JoinHandle<usize>,
}

impl Server {
    pub(crate) fn start(config: ServeConfig) -> Self {
        let grid = Arc::new(Scripted::default());
        let (connect, connections) = mpsc::unbounded_channel();
        let (course, steps) = watch::channel(Course::Serving);
        let served = tokio::spawn(serve(Connected(connections), grid.clone(), config, steps));
        Self { grid, connect, course, served }
    }

    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 << 10);
        self.connect.send(Ok(theirs)).expect("the server runs");
        ours
    }

    /// Stops it; gives the number of connections it cut off.
    pub(crate) async fn stop(self) -> usize {
        self.course.send_replace(Course::Closing);
        self.served.await.expect("the server does not panic")
    }
}

fn quick() -> ServeConfig {
    ServeConfig { idle: Duration::from_secs(60), finish: Duration::from_secs(10), connections: 2, ..ServeConfig::default() }
}

pub(crate) fn order() -> Request<Full<Bytes>> {
    let request = Request::post("http://grid/v1/orders").header("host", "grid").header("idempotency-key", "k");
    request.body(Full::from(SMALLEST)).expect("valid")
}

pub(crate) async fn http1(stream: DuplexStream) -> (http1::SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    (client, tokio::spawn(connection))
}

/// Everything the server says until it closes the connection, and when it did.
pub(crate) async fn until_closed(mut stream: DuplexStream) -> (String, Duration) {
    let since = Instant::now();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("a clean end");
    (String::from_utf8(said).expect("text"), since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn both_protocols_are_spoken_on_the_same_listener() {
    let server = Server::start(quick());
    let (mut client, _connection) = http1(server.connect()).await;
    for _ in 0..3 {
        let answer = client.send_request(order()).await.expect("an answer");
        assert_eq!((answer.status(), answer.version()), (StatusCode::CREATED, Version::HTTP_11));
    }
    let stream = TokioIo::new(server.connect());
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
    tokio::spawn(connection);
    let both = futures::future::join(client.clone().send_request(order()), client.clone().send_request(order())).await;
    for answer in [both.0, both.1] {
        let answer = answer.expect("an answer");
        assert_eq!((answer.status(), answer.version()), (StatusCode::CREATED, Version::HTTP_2));
    }
    drop(client);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn silent_and_trickling_connections_end() {
    let server = Server::start(quick());
    let (said, after) = until_closed(server.connect()).await;
    assert_eq!((said.as_str(), after.as_secs()), ("", 60), "nothing was ever asked");

    let mut trickle = server.connect();
    let since = Instant::now();
    while trickle.write_all(b"G").await.is_ok() {
        sleep(Duration::from_secs(7)).await;
        assert!(since.elapsed() < Duration::from_secs(80), "a byte now and then holds the connection");
    }

    let (mut client, connection) = http1(server.connect()).await;
    sleep(Duration::from_secs(50)).await;
    assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED, "not idle for 60 s");
    let since = Instant::now();
    connection.await.expect("no panic").ok();
    assert_eq!(since.elapsed().as_secs(), 60);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_request_is_not_idleness() {
    let mut config = quick();
    config.limits.grid_patience = Duration::from_secs(300);
    let server = Server::start(config);
    server.grid.script(Script::Hangs);
    let (mut client, _connection) = http1(server.connect()).await;
    let answer = client.send_request(order()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_is_told_so() {
    let server = Server::start(quick());
    let (mut first, first_connection) = http1(server.connect()).await;
    let (mut second, _connection) = http1(server.connect()).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
    }
    let (said, _) = until_closed(server.connect()).await;
    let (head, body) = said.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1"), "{head}");
    let problem: ordergrid_api::wire::Problem = serde_json::from_str(body).expect("a problem");
    assert_eq!((problem.code.as_str(), problem.outcome.as_str()), ("too_many_connections", "refused"));

    drop(first);
    first_connection.await.expect("no panic").ok();
    // The server's side ends when it has read the end of ours.
    tokio::task::yield_now().await;
    sleep(Duration::from_millis(1)).await;
    let (mut third, _connection) = http1(server.connect()).await;
    assert_eq!(third.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_accept_ends_nothing() {
    let server = Server::start(quick());
    server.connect.send(Err(io::Error::other("too many open files"))).expect("the server runs");
    let (mut client, _connection) = http1(server.connect()).await;
    assert_eq!(client.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_requests_finish() {
    let mut config = quick();
    config.limits.grid_patience = Duration::from_secs(5);
    let server = Server::start(config);
    server.grid.script(Script::Hangs);
    let (mut client, _connection) = http1(server.connect()).await;
    let (_idle, idle_connection) = http1(server.connect()).await;
    let answer = client.send_request(order());
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        let since = Instant::now();
        (server.stop().await, since.elapsed().as_secs())
    };
    let (answer, (cut_off, took)) = futures::future::join(answer, stop).await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((cut_off, took), (0, 4), "the request had four seconds to go");
    idle_connection.await.expect("no panic").ok();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let mut config = quick();
    config.limits.grid_patience = Duration::from_secs(300);
    let server = Server::start(config);
    server.grid.script(Script::Hangs);
    let (mut client, _connection) = http1(server.connect()).await;
    let answer = client.send_request(order());
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        let since = Instant::now();
        (server.stop().await, since.elapsed().as_secs())
    };
    let (answer, (cut_off, took)) = futures::future::join(answer, stop).await;
    assert!(answer.is_err(), "the connection was cut off");
    assert_eq!((cut_off, took), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn a_drain_serves_on_and_asks_clients_to_go_elsewhere() {
    let server = Server::start(ServeConfig { connections: 8, ..quick() });
    let (mut busy, busy_connection) = http1(server.connect()).await;
    let (mut idle, _idle_connection) = http1(server.connect()).await;
    assert_eq!(busy.send_request(order()).await.expect("an answer").headers().get("connection"), None);
    let stream = TokioIo::new(server.connect());
    let (mut second, second_connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
    let second_connection = tokio::spawn(second_connection);
    assert_eq!(second.send_request(order()).await.expect("an answer").status(), StatusCode::CREATED);

    server.course.send_replace(Course::Draining);
    second_connection.await.expect("no panic").expect("told to go, with nothing under way");
    assert!(second.send_request(order()).await.is_err(), "its connection takes no more");
    sleep(Duration::from_secs(3)).await;
    // One that was open, one that was never used, one that comes now.
    let (mut new, _new_connection) = http1(server.connect()).await;
    for client in [&mut busy, &mut idle, &mut new] {
        let answer = client.send_request(order()).await.expect("an answer");
        let told = answer.headers().get("connection").map(|value| value.as_bytes());
        assert_eq!((answer.status(), told), (StatusCode::CREATED, Some(&b"close"[..])));
    }
    busy_connection.await.expect("no panic").expect("a clean end");
    assert_eq!(server.stop().await, 0);
}

/// Says everything before it listens, as many clients do; what it hears.
async fn says_all_then_listens(mut stream: DuplexStream, head: &str, body: usize) -> String {
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    let block = [b' '; 1 << 10];
    for _ in 0..body / block.len() {
        stream.write_all(&block).await.expect("the body is taken");
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("a clean end");
    String::from_utf8(said).expect("text")
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_heard_by_who_says_everything_before_listening() {
    const MIB: usize = 1 << 20;
    let key = "idempotency-key: k\r\n";
    let gzip = "idempotency-key: k\r\ncontent-encoding: gzip\r\n";
    #[rustfmt::skip]
    let cases = [
        // method, path,              headers, bytes,     status
        ("POST",   "/v1/orders",       key,    2 * MIB,   "413"),
        ("POST",   "/v1/orders/batch", "",     40 * MIB,  "413"),
        ("POST",   "/v1/orders",       "",     MIB / 2,   "400"),
        ("POST",   "/v1/order",        key,    MIB / 2,   "404"),
        ("PUT",    "/v1/orders",       key,    MIB / 2,   "405"),
        ("POST",   "/v1/orders",       gzip,   MIB / 2,   "415"),
    ];
    let server = Server::start(quick());
    for (method, path, headers, bytes, status) in cases {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: grid\r\n{headers}content-length: {bytes}\r\n\r\n");
        let said = says_all_then_listens(server.connect(), &head, bytes).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} of {bytes} bytes: {said}");
        assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
    }
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_small_body_that_nobody_needs_ends_no_connection() {
    let server = Server::start(quick());
    let (mut client, _connection) = http1(server.connect()).await;
    for _ in 0..3 {
        let nowhere = Request::post("http://grid/v1/order").header("host", "grid").body(Full::from(SMALLEST)).expect("valid");
        let answer = client.send_request(nowhere).await.expect("an answer");
        assert_eq!((answer.status(), answer.headers().get("connection")), (StatusCode::NOT_FOUND, None));
    }
    drop(client);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_never_ends_is_not_heard_for_ever() {
    let linger = Linger { time: Duration::from_secs(3), bytes: 256 << 10 };
    let server = Server::start(ServeConfig { linger, ..quick() });
    let head = "POST /v1/order HTTP/1.1\r\nhost: grid\r\ncontent-length: 99999999\r\n\r\n";
    // Silent, it is heard for the time; talking, up to the bytes and what lies in buffers.
    let mut silent = server.connect();
    silent.write_all(head.as_bytes()).await.expect("the head is taken");
    let (mut hears, mut says) = tokio::io::split(silent);
    let since = Instant::now();
    let mut said = String::new();
    hears.read_to_string(&mut said).await.expect("a clean end");
    assert!(said.starts_with("HTTP/1.1 404 ") && since.elapsed().is_zero(), "{said}");
    while says.write_all(b" ").await.is_ok() {
        sleep(Duration::from_millis(100)).await;
        assert!(since.elapsed() < Duration::from_secs(4), "it is still heard");
    }
    let mut talking = server.connect();
    talking.write_all(head.as_bytes()).await.expect("the head is taken");
    let mut blocks = 0;
    while talking.write_all(&[b' '; 1 << 10]).await.is_ok() {
        blocks += 1;
        assert!(blocks < 1_000, "it is still heard");
    }
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_hears_it_although_it_has_asked_already() {
    let server = Server::start(ServeConfig { connections: 0, ..quick() });
    let head = format!("POST /v1/orders HTTP/1.1\r\nhost: grid\r\ncontent-length: {}\r\n\r\n", 256 << 10);
    let said = says_all_then_listens(server.connect(), &head, 256 << 10).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("too_many_connections"), "{said}");
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_life_is_answered_although_all_places_are_taken() {
    let server = Server::start(ServeConfig { connections: 0, ..quick() });
    for (path, status, body) in [("/livez", "200 OK", "{\"live\":true}"), ("/readyz", "503 ", "too_many_connections")] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: grid\r\n\r\n");
        let said = says_all_then_listens(server.connect(), &head, 0).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(body), "{path}: {said}");
    }
    // One that says nothing is told all the same.
    let (said, after) = until_closed(server.connect()).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && after < Duration::from_secs(2), "{after:?}: {said}");
    assert_eq!(server.stop().await, 0);
}

//! The HTTP server: accepts connections, limits them, speaks HTTP/1.1 and HTTP/2, and lets requests finish when it stops.
//!
//! The caller provides the connections ([`Accept`]): TCP in production, a simulated network in tests. Stopping has two steps
//! ([`Course`]): first the server keeps serving and asks its clients to go elsewhere, then it closes. Read next: `places`
//! (connection limits), `parting` (how a connection is closed), `activity` (idle connections).

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request, Version};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::account::{Account, Full, Taken, Use};
use crate::grid::Grid;
use crate::limits::Limits;
use crate::metrics;
use crate::routes::Routes;
use activity::{Activity, Patience, Watched};
use outgoing::Outgoing;
use parting::{Lingering, Parting};
use places::{ConnectionPlace, Places, Seldom};

mod activity;
mod outgoing;
mod parting;
mod places;

pub use parting::Linger;
pub use places::REFUSALS;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A source of connections. It sets socket options, such as `TCP_NODELAY`.
pub trait Accept: Send {
    /// The next connection, and its peer's address for logs. Must be cancel-safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
}

/// The state of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Course {
    /// Serving.
    #[default]
    Serving,
    /// Still serving every client, but asking them to go elsewhere: HTTP/1 answers say `connection: close`, and open HTTP/2
    /// connections accept no further requests. Idle connections stay open, because a request may be on its way.
    Draining,
    /// Accepts no more connections, closes idle ones, and lets requests under way finish.
    Closing,
}

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Limits of requests.
    pub limits: Limits,
    /// Random per start. Prefix of the ids of requests that bring no id.
    pub request_id_prefix: u64,
    /// Most open connections. Further ones are refused and closed. Default 10,000.
    pub connections: usize,
    /// How long a connection may have no request, or read nothing of an answer; default 60 s.
    pub idle: Duration,
    /// How long a request's headers may take to arrive; default 10 s.
    pub headers: Duration,
    /// How long requests under way may take once the server closes; default 10 s.
    pub finish: Duration,
    /// How much longer a connection is read if its request was answered before it had arrived completely; default 10 s and 64
    /// MiB.
    pub linger: Linger,
    /// Most concurrent streams of an HTTP/2 connection; default 256.
    pub streams: u32,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            request_id_prefix: 0,
            connections: 10_000,
            idle: Duration::from_secs(60),
            headers: Duration::from_secs(10),
            finish: Duration::from_secs(10),
            linger: Linger { time: Duration::from_secs(10), bytes: 64 << 20 },
            streams: 256,
        }
    }
}

/// Most bytes of a request's headers in total.
const HEADERS: usize = 64 << 10;
/// HTTP/2 flow control windows: bytes of bodies that a client may send in advance, per request and per connection.
const WINDOWS: (u32, u32) = (256 << 10, 512 << 10);
/// Most bytes of an answer that are buffered in addition to the piece that is being sent.
const SEND_BUFFER: usize = 64 << 10;
/// Memory of a request on an HTTP/2 connection, with its headers and a small answer.
const STREAM: u64 = 16 << 10;

/// Pause after a failed accept. The usual cause is that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `grid` until `course` is [`Course::Closing`] or its sender is dropped. Then waits for requests under way, at most for
/// `config.finish`.
///
/// Returns the number of connections that were cut off then. Dropping the future cuts off all connections.
pub async fn serve(
    mut accept: impl Accept,
    grid: Arc<dyn Grid>,
    config: ServeConfig,
    course: watch::Receiver<Course>,
) -> usize {
    let routes = Routes::new(grid, config.limits.clone(), config.request_id_prefix);
    let mut server = Server::new(routes, &config, course.clone());
    let mut closing = pin!(closes(course));
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            Some(_) = server.tasks.join_next() => {}
            accepted = accept.accept() => match accepted {
                Ok((stream, peer)) => server.take(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if server.told.now() {
                        tracing::warn!(%error, "accepting connections failed");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(accept);
    server.finish(config.finish).await
}

/// Whether the error concerns one connection only: its peer disconnected before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn closes(mut course: watch::Receiver<Course>) {
    // A dropped sender means the same.
    course.wait_for(|course| *course == Course::Closing).await.ok();
}

/// The next state of the server; there is none after the last.
async fn next_step(course: &mut watch::Receiver<Course>) -> Course {
    match course.changed().await {
        Ok(()) => *course.borrow_and_update(),
        Err(_) => Course::Closing,
    }
}

/// State shared by the connections of one server.
struct Server {
    shared: Shared,
    places: Places,
    told: Seldom,
    tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Shared {
    routes: Routes,
    http: Arc<auto::Builder<TokioExecutor>>,
    patience: Patience,
    account: Account,
    linger: Linger,
    course: watch::Receiver<Course>,
}

impl Server {
    fn new(routes: Routes, config: &ServeConfig, course: watch::Receiver<Course>) -> Self {
        let (http, account) = (Arc::new(http(config)), config.limits.account.clone());
        let patience = Patience { idle: config.idle, headers: config.headers };
        let shared = Shared { routes, http, patience, account: account.clone(), linger: config.linger, course };
        Self { shared, places: Places::new(config.connections, account), told: Seldom::default(), tasks: JoinSet::new() }
    }

    fn take(&mut self, stream: Box<dyn Stream>, peer: String) {
        match self.places.take() {
            ConnectionPlace::Taken(place, memory) => {
                let shared = self.shared.clone();
                self.tasks.spawn(async move {
                    connection(stream, &peer, memory, shared).await;
                    drop(place);
                });
            }
            ConnectionPlace::Refused(place) => drop(self.tasks.spawn(places::refuse(stream, place))),
            ConnectionPlace::Closed => {}
        }
    }

    async fn finish(mut self, patience: Duration) -> usize {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // The remaining connections are counted and cut off.
        tokio::time::timeout(patience, all).await.ok();
        let left = self.tasks.len();
        self.tasks.shutdown().await;
        left
    }
}

/// The HTTP settings. [`Watched`] closes idle and slow connections, at the cost of one timer per connection.
fn http(config: &ServeConfig) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEADERS);
    let (request, connection) = WINDOWS;
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams)
        .max_header_list_size(HEADERS as u32)
        .initial_stream_window_size(request)
        .initial_connection_window_size(connection)
        .max_send_buf_size(SEND_BUFFER);
    http
}

async fn connection(stream: Box<dyn Stream>, peer: &str, memory: Taken, shared: Shared) {
    let Shared { routes, http, patience, account, linger, mut course } = shared;
    let open = metrics::connections();
    open.increment(1.0);
    let (activity, parting) = (Arc::new(Activity::new()), Arc::new(Parting::default()));
    let stream = Watched::new(stream, Arc::clone(&activity), patience, memory);
    let stream = Lingering::new(stream, Arc::clone(&parting), linger);
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = activity.begin();
        let memory = of_stream(&account, &request);
        let answer = match &memory {
            Ok(_) => Ok(routes.call(request.map(|body| parting.lend(body)))),
            Err(full) => Err(routes.refuse(*full)),
        };
        let parting = Arc::clone(&parting);
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(refused) => refused,
            };
            parting.tell(&mut answer).await;
            let answering = under_way.answers(parting.is_http2());
            Ok::<_, Infallible>(answer.map(|body| Outgoing::new(body, answering, memory.ok().flatten())))
        }
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut now = *course.borrow_and_update();
    let ended = loop {
        if now >= Course::Draining {
            parting.leave();
        }
        if now == Course::Closing || (now == Course::Draining && parting.is_http2()) {
            served.as_mut().graceful_shutdown();
        }
        if now == Course::Closing {
            break served.await;
        }
        tokio::select! {
            biased;
            ended = served.as_mut() => break ended,
            step = next_step(&mut course) => now = step,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(address = peer, %error, "connection ended early");
    }
    open.decrement(1.0);
}

/// Memory of a request that shares its connection with others, with its headers. An HTTP/1.1 connection's account includes its
/// one request.
fn of_stream<B>(account: &Account, request: &Request<B>) -> Result<Option<Taken>, Full> {
    if request.version() != Version::HTTP_2 {
        return Ok(None);
    }
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let headers: usize = request.headers().iter().map(bytes).sum();
    account.take(Use::Streams, STREAM + headers as u64).map(Some)
}

//! Connections: accepts them, bounds them, speaks HTTP/1.1 and HTTP/2 on them, and lets them finish when the server stops.
//!
//! Where connections come from is the caller's business ([`Accept`]): TCP in production, a simulated network in tests.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::fault::{Fault, kinds};
use crate::grid::Grid;
use crate::limits::Limits;
use crate::metrics;
use crate::routes::Routes;
use activity::{Activity, Watched};

mod activity;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where connections come from. Options of the socket, such as `TCP_NODELAY`, are set there.
pub trait Accept: Send {
    /// The next connection, and its peer's address for logs. Must be safe to drop while it waits.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
}

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Bounds of requests.
    pub limits: Limits,
    /// Drawn at random once per start: begins the name of every request that has none of its own.
    pub request_id_prefix: u64,
    /// Open connections; one more is told so and closed; default 10,000.
    pub connections: usize,
    /// How long a connection may be without a request, or with an incomplete one, or leave an answer unread; default 60 s.
    pub idle: Duration,
    /// How long requests that are under way may take once the server stops; default 10 s.
    pub drain: Duration,
    /// Streams of one HTTP/2 connection; default 256.
    pub streams: u32,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            request_id_prefix: 0,
            connections: 10_000,
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            streams: 256,
        }
    }
}

/// Refusals of connections that are written at the same time; further ones are closed without a word.
const REFUSALS: usize = 64;
/// How long a connection that is refused may take to hear it.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a failed accept: most often the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `grid` until `stop` is ready, then lets requests that are under way finish, for as long as `config.drain`.
///
/// Returns how many connections were cut off then. Dropped before, it cuts all of them off.
pub async fn serve(
    mut accept: impl Accept,
    grid: Arc<dyn Grid>,
    config: ServeConfig,
    stop: impl Future<Output = ()> + Send,
) -> usize {
    let mut server = Server::new(Routes::new(grid, config.limits.clone(), config.request_id_prefix), &config);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = server.tasks.join_next() => {}
            accepted = accept.accept() => match accepted {
                Ok((stream, peer)) => server.take(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(accept);
    server.drain(config.drain).await
}

/// What the connections of one server share.
struct Server {
    routes: Routes,
    http: Arc<auto::Builder<TokioExecutor>>,
    idle: Duration,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Server {
    fn new(routes: Routes, config: &ServeConfig) -> Self {
        Self {
            routes,
            http: Arc::new(http(config)),
            idle: config.idle,
            places: Arc::new(Semaphore::new(config.connections.min(Semaphore::MAX_PERMITS))),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
        }
    }

    fn take(&mut self, stream: Box<dyn Stream>, peer: String) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let (routes, http, idle) = (self.routes.clone(), Arc::clone(&self.http), self.idle);
            let watcher = self.graceful.watcher();
            self.tasks.spawn(async move {
                connection(stream, &peer, routes, &http, idle, watcher).await;
                drop(place);
            });
            return;
        }
        metrics::connections_refused().increment(1);
        if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.tasks.spawn(refuse(stream, place));
        }
    }

    async fn drain(mut self, patience: Duration) -> usize {
        let finished = tokio::time::timeout(patience, self.graceful.shutdown()).await.is_ok();
        while self.tasks.try_join_next().is_some() {}
        let left = if finished { 0 } else { self.tasks.len() };
        self.tasks.shutdown().await;
        left
    }
}

/// How HTTP is spoken. Idle and slow connections are [`Watched`]'s business, at the cost of one timer per connection.
fn http(config: &ServeConfig) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(None);
    http.http2().timer(TokioTimer::new()).max_concurrent_streams(config.streams);
    http
}

async fn connection(
    stream: Box<dyn Stream>,
    peer: &str,
    routes: Routes,
    http: &auto::Builder<TokioExecutor>,
    idle: Duration,
    watcher: Watcher,
) {
    let open = metrics::connections();
    open.increment(1.0);
    let activity = Arc::new(Activity::new());
    let stream = Watched::new(stream, Arc::clone(&activity), idle);
    let service = service_fn(|request| {
        let under_way = activity.begin();
        let answer = routes.call(request);
        async move {
            let answer = answer.await;
            drop(under_way);
            answer
        }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(peer, %error, "a connection ended early");
    }
    open.decrement(1.0);
}

/// Tells a client of HTTP/1.1 that there is no place; others see the connection close.
async fn refuse(mut stream: Box<dyn Stream>, place: OwnedSemaphorePermit) {
    let fault = Fault::new(&kinds::TOO_MANY_CONNECTIONS, "try again, or at another node");
    let body = serde_json::to_string(&fault.body("")).expect("a problem has only texts and numbers");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len(),
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    if !matches!(tokio::time::timeout(REFUSAL_PATIENCE, told).await, Ok(Ok(()))) {
        tracing::debug!("a connection was refused and did not hear it");
    }
    drop(place);
}

//! Nodes that answer as a test specifies, over streams in memory.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

use super::{Connector, Endpoint, Stream};

const SOUND: &str = "nobody panics while holding it";

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Host of the node.
    pub node: String,
    /// Method.
    pub method: String,
    /// Path with the query.
    pub path: String,
    /// Idempotency key.
    pub key: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl Asked {
    /// Method and path, as tests name a request.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The body.
    ///
    /// # Panics
    /// If it is no JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("clients send JSON")
    }
}

/// The reaction to a request.
#[derive(Clone, Debug)]
pub enum Told {
    /// An answer: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection breaks before an answer.
    HangUp,
    /// There is never an answer.
    Silence,
}

impl Told {
    /// An answer of JSON.
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Answer(status, Vec::new(), body.to_string())
    }

    /// A refusal.
    #[must_use]
    pub fn problem(status: u16, code: &str, retryable: bool) -> Self {
        let body = serde_json::json!({
            "type": format!("urn:{code}"), "title": code, "status": status, "detail": format!("it is {code}"), "code": code,
            "retryable": retryable, "outcome": "refused", "request_id": "r1",
        });
        Self::json(status, &body)
    }
}

type Script = dyn Fn(&Asked) -> Told + Send + Sync;

/// A network of scripted nodes. Clones are the same network.
#[derive(Clone)]
pub struct Scripted {
    script: Arc<Script>,
    down: Arc<Mutex<BTreeSet<String>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    /// Every request is answered by the script.
    pub fn new(script: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), down: Arc::default(), asked: Arc::default(), connections: Arc::default() }
    }

    /// Answers the requests with these, one after another.
    ///
    /// # Panics
    /// In the task that answers, if there are more requests than answers.
    #[must_use]
    pub fn in_turn(told: Vec<Told>) -> Self {
        let left = Mutex::new(told.into_iter());
        Self::new(move |asked| left.lock().expect(SOUND).next().unwrap_or_else(|| panic!("nothing is scripted for {asked:?}")))
    }

    /// The node refuses connections from now on.
    pub fn stop(&self, node: &str) {
        self.down.lock().expect(SOUND).insert(node.to_owned());
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect(SOUND).clone()
    }

    /// Number of connections opened so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Connector for Scripted {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let node = endpoint.host().to_owned();
            if self.down.lock().expect(SOUND).contains(&node) {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
            }
            self.connections.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            tokio::spawn(serve(self.clone(), node, theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        }
        .boxed()
    }
}

async fn serve(network: Scripted, node: String, stream: tokio::io::DuplexStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let (network, node) = (network.clone(), node.clone());
        async move { answer(&network, node, request).await }
    });
    // A connection that a script breaks ends with an error, as it should.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(network: &Scripted, node: String, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        node,
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        key: head.headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
        body: body.collect().await.map_err(|_| "the client went away")?.to_bytes(),
    };
    network.asked.lock().expect(SOUND).push(asked.clone());
    match (network.script)(&asked) {
        Told::HangUp => Err("hung up"),
        Told::Silence => std::future::pending().await,
        Told::Answer(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body.into())).expect("scripted headers are well formed"))
        }
    }
}

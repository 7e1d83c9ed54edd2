//! One HTTP/1.1 connection that carries one call at a time.
//!
//! The call itself drives its connection: no task, no channel to another thread, no wake-up in between. This is the cheapest
//! way under load, and leaves nothing behind in a simulation.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::task::noop_waker;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use super::{Call, Connector, Endpoint, Stream};
use crate::wire::{GRID_TOKEN, IDEMPOTENT_REPLAYED};

/// The largest answer that is read. A page of orders with many lines stays far below.
const ANSWER_LIMIT: usize = 256 << 20;

/// Why a call got no answer.
#[derive(Debug, Error)]
pub enum Broken {
    /// Nothing was sent: the node cannot have executed the call.
    #[error("cannot reach {endpoint}: {cause}")]
    NotSent {
        /// The node.
        endpoint: Endpoint,
        /// The network's error.
        cause: String,
    },
    /// The request was sent, or may have been, and no answer arrived: the node may have executed the call.
    #[error("no answer from {endpoint}: {cause}")]
    Lost {
        /// The node.
        endpoint: Endpoint,
        /// The network's error.
        cause: String,
    },
}

/// An answer whose body is not parsed.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status code.
    pub status: StatusCode,
    /// Whether this repeats the answer of an earlier request with the same key.
    pub replayed: bool,
    /// When to retry.
    pub retry_after: Option<Duration>,
    /// Shard and index of the write or the read.
    pub token: Option<HeaderValue>,
    /// The body, not parsed.
    pub body: Bytes,
}

/// Drives a connection while it is polled.
type Driver = Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// A connection to one node.
pub struct Lane {
    endpoint: Endpoint,
    host: HeaderValue,
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Driver>>,
    closed: bool,
}

impl Lane {
    /// Connects.
    ///
    /// # Errors
    /// [`Broken::NotSent`]; another node may be tried.
    pub async fn open(connector: &dyn Connector, endpoint: &Endpoint) -> Result<Self, Broken> {
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        let stream = connector.connect(endpoint).await.map_err(|error| not_sent(error.to_string()))?;
        let host = HeaderValue::from_str(&endpoint.authority()).map_err(|error| not_sent(error.to_string()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(error.to_string()))?;
        Ok(Self { endpoint: endpoint.clone(), host, sender, connection: Box::pin(connection), closed: false })
    }

    /// The node at the other end.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether another call may be made, as far as the last call could tell.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closed && !self.sender.is_closed()
    }

    /// Whether another call may be made: no close of the node has arrived since.
    #[must_use]
    pub fn usable(&mut self) -> bool {
        let waker = noop_waker();
        if !self.closed && self.connection.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.closed = true;
        }
        self.is_open()
    }

    /// Sends a request and reads the whole answer. If the future is dropped, the request may have been executed, and the lane
    /// must be dropped too: the late answer would be taken for that of the next call.
    ///
    /// # Errors
    /// [`Broken`]: the lane can no longer be used. The error says whether the request may have been executed.
    pub async fn call(&mut self, call: &Call) -> Result<RawAnswer, Broken> {
        let request = call.to_http(&self.host);
        let endpoint = &self.endpoint;
        let lost = |cause: String| Broken::Lost { endpoint: endpoint.clone(), cause };
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        let sender = &mut self.sender;
        let mut exchange = pin!(async {
            if !sender.is_ready() {
                sender.ready().await.map_err(|error| not_sent(text(&error)))?;
            }
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(refused) if refused.message().is_some() => return Err(not_sent(text(refused.error()))),
                Err(refused) => return Err(lost(text(refused.error()))),
            };
            read(response).await.map_err(lost)
        });
        let (connection, closed) = (&mut self.connection, &mut self.closed);
        poll_fn(|cx| {
            if let Poll::Ready(end) = exchange.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if !*closed && connection.as_mut().poll(cx).is_ready() {
                *closed = true;
            }
            match exchange.as_mut().poll(cx) {
                Poll::Pending if *closed => Poll::Ready(Err(lost("the connection was closed".to_owned()))),
                polled => polled,
            }
        })
        .await
    }
}

/// hyper's message with its source, which has the reason.
pub(super) fn text(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

pub(super) async fn read(response: Response<Incoming>) -> Result<RawAnswer, String> {
    let (head, mut incoming) = response.into_parts();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|error| text(&error))?.into_data() else { continue };
        if whole.len() + first.len() + data.len() > ANSWER_LIMIT {
            return Err(format!("the answer is longer than {ANSWER_LIMIT} bytes"));
        }
        // Most answers arrive in one piece, which is kept without copying.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(RawAnswer {
        status: head.status,
        replayed: head.headers.get(IDEMPOTENT_REPLAYED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
        retry_after: retry_after(&head.headers),
        token: head.headers.get(GRID_TOKEN).cloned(),
        body: if whole.is_empty() { first } else { whole.freeze() },
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

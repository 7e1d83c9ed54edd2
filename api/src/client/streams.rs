//! One HTTP/2 connection that carries many calls at a time.
//!
//! Unlike a lane it is driven by a task, because no single call could; the task ends with the last clone. Only load tools
//! use it: the client itself keeps to lanes.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use super::lane::{read, text};
use super::{Broken, Call, Connector, Endpoint, RawAnswer};

/// A connection to one node; clones use the same. What is called on it waits while the node allows no further stream.
#[derive(Clone)]
pub struct Streams {
    endpoint: Endpoint,
    authority: Authority,
    sender: SendRequest<Full<Bytes>>,
    driver: Arc<Driver>,
}

/// The task that moves the bytes; it ends when nobody needs them any more.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Streams {
    /// Connects.
    ///
    /// # Errors
    /// [`Broken::NotSent`], always: another node may be tried.
    pub async fn open(connector: &dyn Connector, endpoint: &Endpoint) -> Result<Self, Broken> {
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        let stream = connector.connect(endpoint).await.map_err(|error| not_sent(error.to_string()))?;
        let authority: Authority = endpoint.authority().parse().map_err(|_| not_sent("no host has such a name".to_owned()))?;
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| not_sent(text(&error)))?;
        // How it ended is told to every call that was under way.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { endpoint: endpoint.clone(), authority, sender, driver: Arc::new(Driver(driver)) })
    }

    /// The node at the other end.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Another call may be made, as far as is known here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Both are the same connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }

    /// Sends a request and reads the whole answer. A call that is dropped before its end is reset, and may have been acted on.
    ///
    /// # Errors
    /// [`Broken`], which says whether the request may have been acted on; the connection may still be of use.
    pub async fn call(&mut self, call: &Call) -> Result<RawAnswer, Broken> {
        let endpoint = &self.endpoint;
        let lost = |cause: String| Broken::Lost { endpoint: endpoint.clone(), cause };
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        self.sender.ready().await.map_err(|error| not_sent(text(&error)))?;
        // HTTP/2 has the host in the address and no header for it.
        let mut request = call.to_http(&HeaderValue::from_static(""));
        request.headers_mut().remove(HOST);
        let mut parts = request.uri().clone().into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(self.authority.clone()));
        *request.uri_mut() = Uri::from_parts(parts).expect("a path with scheme and authority is an address");
        match self.sender.try_send_request(request).await {
            Ok(response) => read(response).await.map_err(lost),
            Err(refused) if refused.message().is_some() => Err(not_sent(text(refused.error()))),
            Err(refused) => Err(lost(text(refused.error()))),
        }
    }
}

//! One HTTP/2 connection that carries many calls concurrently.
//!
//! Unlike a lane, a task drives it, because no single call could. The task ends with the last clone. Only load tools use it;
//! the client itself uses lanes.

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

/// A connection to one node, shared by its clones. A call waits while the node allows no further stream.
#[derive(Clone)]
pub struct Streams {
    endpoint: Endpoint,
    authority: Authority,
    sender: SendRequest<Full<Bytes>>,
    driver: Arc<Driver>,
}

/// The task that drives the connection. It ends when nobody uses the connection any more.
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
    /// [`Broken::NotSent`]; another node may be tried.
    pub async fn open(connector: &dyn Connector, endpoint: &Endpoint) -> Result<Self, Broken> {
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        let stream = connector.connect(endpoint).await.map_err(|error| not_sent(error.to_string()))?;
        let authority: Authority = endpoint.authority().parse().map_err(|_| not_sent("no host has such a name".to_owned()))?;
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| not_sent(text(&error)))?;
        // Every call in flight gets the connection's error.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { endpoint: endpoint.clone(), authority, sender, driver: Arc::new(Driver(driver)) })
    }

    /// The node at the other end.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether another call may be made, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether both are the same connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }

    /// Sends a request and reads the whole answer. If the future is dropped, the stream is reset, and the request may have been
    /// executed.
    ///
    /// # Errors
    /// [`Broken`], which says whether the request may have been executed. The connection may still be usable.
    pub async fn call(&mut self, call: &Call) -> Result<RawAnswer, Broken> {
        let endpoint = &self.endpoint;
        let lost = |cause: String| Broken::Lost { endpoint: endpoint.clone(), cause };
        let not_sent = |cause: String| Broken::NotSent { endpoint: endpoint.clone(), cause };
        self.sender.ready().await.map_err(|error| not_sent(text(&error)))?;
        // HTTP/2 has the host in the URI and not in a header.
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

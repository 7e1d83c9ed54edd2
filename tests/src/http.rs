//! One request over one connection, and every header and byte of the answer. Never tries anything twice.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::PATIENCE;

/// A connection to a node.
#[derive(Debug)]
pub struct Http {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Http {
    /// Connects to a node.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(url: &str) -> Result<Self> {
        let authority = url.strip_prefix("http://").with_context(|| format!("{url} is no http URL"))?.trim_end_matches('/');
        let stream = TcpStream::connect(authority).await.with_context(|| format!("connect to {authority}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, whose requests report what went wrong.
        tokio::spawn(connection);
        Ok(Self { authority: authority.to_owned(), sender })
    }

    /// Sends a request as it is given and waits for the whole answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply> {
        let body = body.into();
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let answer = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = timeout(PATIENCE, answer).await.with_context(|| format!("no answer to {path}"))??;
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Reads something.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&mut self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Asks for something under a key.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(&mut self, path: &str, key: &str, body: &Value) -> Result<Reply> {
        self.send(Method::POST, path, &[("Idempotency-Key", key)], body.to_string()).await
    }

    /// The sum of a metric over all its labels; zero if it was never counted.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn metric(&mut self, name: &str) -> Result<f64> {
        let reply = self.get("/metrics").await?;
        ensure!(reply.status.is_success(), "{}: {}", reply.status, reply.text());
        let text = reply.text();
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        Ok(text.lines().filter(of_it).filter_map(value).sum())
    }

    /// Sets something.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn put(&mut self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{}, not JSON: {}", self.status, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// It is the answer to an earlier request with the same key.
    #[must_use]
    pub fn replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The body, if the status is this.
    ///
    /// # Errors
    /// If it is another.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status.as_u16() == status, "{status} was expected, it is {}: {}", self.status, self.text());
        self.json()
    }

    /// The status and the code of the problem, if it is one; otherwise the status and nothing.
    #[must_use]
    pub fn verdict(&self) -> (u16, String) {
        let code = self.json().ok().and_then(|body| body["code"].as_str().map(str::to_owned));
        (self.status.as_u16(), code.unwrap_or_default())
    }
}

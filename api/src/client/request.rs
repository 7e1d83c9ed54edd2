//! A request that is built once and sent as often as needed.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Uri;
use hyper::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::Endpoint;
use crate::wire::{IDEMPOTENCY_KEY, JSON};

/// Characters of a path segment that are not encoded (the unreserved characters of RFC 3986).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const KEY: HeaderName = HeaderName::from_static(IDEMPOTENCY_KEY);
const JSON_VALUE: HeaderValue = HeaderValue::from_static(JSON);

/// An id as a path segment: `BANK CHARGES` becomes `BANK%20CHARGES`.
#[must_use]
pub fn path_segment(id: &str) -> String {
    match id {
        // Encoded or not, a segment of dots would mean "this folder" or "parent". No id can be reached by such a path.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(id, SEGMENT).to_string(),
    }
}

/// A request: its path, idempotency key and body. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    uri: Uri,
    key: Option<HeaderValue>,
    body: Bytes,
}

impl Call {
    /// A request to `path`, which begins with a slash and is already percent-encoded.
    ///
    /// # Panics
    /// If `path` is not a path. Paths come from this crate, and ids in them from [`path_segment`].
    #[must_use]
    pub fn new(method: Method, path: &str) -> Self {
        let uri = path.parse().unwrap_or_else(|error| panic!("`{path}` is no path: {error}"));
        Self::to(method, uri)
    }

    /// A request to a path that was parsed before.
    #[must_use]
    pub fn to(method: Method, uri: Uri) -> Self {
        Self { method, uri, key: None, body: Bytes::new() }
    }

    /// A request that only reads.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A request that moves stock or money, with its key.
    #[must_use]
    pub fn post(path: &str, key: HeaderValue) -> Self {
        Self { key: Some(key), ..Self::new(Method::POST, path) }
    }

    /// Adds an idempotency key.
    #[must_use]
    pub fn with_key(self, key: HeaderValue) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Adds a body of serialized JSON.
    #[must_use]
    pub fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Adds a body.
    ///
    /// # Panics
    /// If the body cannot be serialized; wire types always can.
    #[must_use]
    pub fn with_json(self, body: &impl Serialize) -> Self {
        self.with_body(sonic_rs::to_vec(body).expect("wire types have string keys only").into())
    }

    /// The body, empty if there is none.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether a retry cannot take effect twice: the request only reads, sets a state, or carries a key.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.key.is_some() || self.method != Method::POST
    }

    /// Whether the request only reads. Without an answer nothing can have changed then.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// The request for one attempt.
    pub(super) fn to_http(&self, host: &HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        headers.insert(ACCEPT, JSON_VALUE);
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON_VALUE);
        }
        if let Some(key) = &self.key {
            headers.insert(KEY, key.clone());
        }
        request
    }

    /// The request as a shell command.
    #[must_use]
    pub fn to_curl(&self, endpoint: &Endpoint) -> String {
        let mut line = "curl -sS".to_owned();
        if self.method != Method::GET {
            write!(line, " -X {}", self.method).expect("writing to a string cannot fail");
        }
        if let Some(key) = &self.key {
            write!(line, " -H {}", quoted(&format!("Idempotency-Key: {}", String::from_utf8_lossy(key.as_bytes()))))
                .expect("writing to a string cannot fail");
        }
        if !self.body.is_empty() {
            write!(line, " -H 'Content-Type: application/json' -d {}", quoted(&String::from_utf8_lossy(&self.body)))
                .expect("writing to a string cannot fail");
        }
        write!(line, " {}", quoted(&format!("{endpoint}{}", self.uri))).expect("writing to a string cannot fail");
        line
    }
}

/// Quotes a text for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_segments() {
        for (id, segment) in [
            ("85123A", "85123A"),
            ("BANK CHARGES", "BANK%20CHARGES"),
            ("gift_0001_20", "gift_0001_20"),
            ("a/b?c#d%", "a%2Fb%3Fc%23d%25"),
            ("Zoë", "Zo%C3%AB"),
            ("..", "%2E%2E"),
        ] {
            assert_eq!(path_segment(id), segment);
        }
    }

    #[test]
    fn curl_lines_survive_a_shell() {
        let endpoint = Endpoint::new("127.0.0.1", 8080);
        assert_eq!(Call::get("/v1/orders/17").to_curl(&endpoint), "curl -sS 'http://127.0.0.1:8080/v1/orders/17'");
        let call = Call::post("/v1/orders", HeaderValue::from_static("k'1")).with_json(&serde_json::json!({"a": "it's"}));
        assert_eq!(
            call.to_curl(&endpoint),
            "curl -sS -X POST -H 'Idempotency-Key: k'\\''1' -H 'Content-Type: application/json' \
             -d '{\"a\":\"it'\\''s\"}' 'http://127.0.0.1:8080/v1/orders'"
        );
    }

    #[test]
    fn only_a_post_without_a_key_may_not_be_repeated() {
        assert!(Call::get("/").may_be_repeated());
        assert!(Call::new(Method::PUT, "/").may_be_repeated());
        assert!(Call::post("/", HeaderValue::from_static("k")).may_be_repeated());
        assert!(!Call::new(Method::POST, "/").may_be_repeated());
    }
}

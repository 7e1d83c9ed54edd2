//! Names requests: the client's own name where it has one, else one that no other request of the cluster has.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::REQUEST_ID;

/// The header of a request's name.
pub(crate) static HEADER: HeaderName = HeaderName::from_static(REQUEST_ID);

/// Longest name of a request that is taken over from a client.
const LONGEST: usize = 128;

/// Makes names: the server's own prefix, which was drawn at random, and a counter.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(prefix: u64) -> Self {
        Self { prefix, next: AtomicU64::new(1) }
    }

    /// The name of the request with these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(&HEADER) {
            Some(given) if is_visible(given) => RequestId(given.clone()),
            _ => self.make(),
        }
    }

    fn make(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'-'; 33];
        hexadecimal(&mut text[..16], self.prefix);
        hexadecimal(&mut text[17..], count);
        RequestId(HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible"))
    }
}

fn is_visible(value: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn hexadecimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// The name of a request: visible ASCII, at most 128 characters.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("only visible names are kept")
    }

    pub(crate) fn header(self) -> HeaderValue {
        self.0
    }
}

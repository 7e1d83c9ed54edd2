//! The address of a node: `http://host:port`.

use std::fmt;
use std::str::FromStr;

use hyper::http::uri::{Scheme, Uri};
use thiserror::Error;

/// The address of one node's HTTP API. Its text is an URL without a path: `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Not an URL such as `http://127.0.0.1:8080`.
    #[error("`{0}` is not an URL such as http://127.0.0.1:8080")]
    Malformed(String),
    /// TLS is not supported.
    #[error("`{0}`: https is not supported, use http or a proxy that terminates TLS")]
    Https(String),
    /// The URL has a path or a query.
    #[error("`{0}` has a path or a query, give the address alone")]
    Path(String),
}

impl Endpoint {
    /// An endpoint made of its parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Name or address of the host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as in the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Parses `http://host:port`. The scheme may be omitted; the default port is 80.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => return Err(EndpointError::Https(text.to_owned())),
            _ => return Err(malformed()),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(EndpointError::Path(text.to_owned()));
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port_is_wrong =
            authority.as_str().rsplit(']').next().is_some_and(|end| end.contains(':')) && authority.port_u16().is_none();
        if host.is_empty() || port_is_wrong || authority.as_str().contains('@') {
            return Err(malformed());
        }
        Ok(Self::new(host, authority.port_u16().unwrap_or(80)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        for (text, host, port, shown) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "http://127.0.0.1:8080"),
            ("localhost:9000", "localhost", 9000, "http://localhost:9000"),
            ("http://grid.example", "grid.example", 80, "http://grid.example:80"),
            ("http://[::1]:8080", "::1", 8080, "http://[::1]:8080"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.host(), endpoint.port(), endpoint.to_string().as_str()), (host, port, shown), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        for text in ["", "http://", "ftp://x", "http://a b", "http://x:99999", "http://x:", "http://u@x:1", ":80"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::Malformed(text.to_owned())), "{text:?}");
        }
        assert!(matches!("https://x".parse::<Endpoint>(), Err(EndpointError::Https(_))));
        assert!(matches!("http://x/v1".parse::<Endpoint>(), Err(EndpointError::Path(_))));
        assert!(matches!("http://x?y=1".parse::<Endpoint>(), Err(EndpointError::Path(_))));
    }
}

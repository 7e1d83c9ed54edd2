//! The typed client: every call ends as done, refused or unknown, and nothing else.
//!
//! The network is injected ([`Connector`]), so that the same client runs over TCP and inside the simulation. It starts no
//! tasks and no threads: a connection is driven by the call that uses it. Read next: `lane` (one connection), `pool`
//! (endpoints, fail-over, retries), `calls` (one method per route), `coalesce` (many callers, few requests); `streams` is
//! HTTP/2, for load tools.

mod answer;
mod calls;
mod coalesce;
mod connect;
mod endpoint;
mod lane;
mod pool;
mod request;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod scripted;
mod streams;
mod tcp;
#[cfg(test)]
mod tests;

pub use answer::{Answer, CallError, Refusal};
pub use coalesce::{CoalesceOptions, Coalescer};
pub use connect::{Connector, Stream};
pub use endpoint::{Endpoint, EndpointError};
pub use lane::{Broken, Lane, RawAnswer};
pub use pool::{Client, ClientOptions};
pub use request::{Call, path_segment};
pub use retry::RetryPolicy;
pub use streams::Streams;
pub use tcp::TcpConnector;

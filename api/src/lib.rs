//! The HTTP API: routes, errors and the typed client.
//!
//! The server uses its node through one seam, [`Grid`], which the node implements. Start with `grid` (the operations), then
//! `wire` (the JSON), then `routes` (a request from bytes to bytes) and `serve` (connections).

pub mod account;
mod body;
mod check;
pub mod client;
pub mod fault;
pub mod grid;
mod limits;
mod metrics;
mod request_id;
pub mod routes;
pub mod serve;
pub mod wire;

pub use account::Account;
pub use grid::{Answer, Failure, Grid, ReadOptions, Refusal, Reply, Token, UnknownCause};
pub use limits::Limits;
pub use routes::router;
pub use serve::{Accept, Course, Linger, ServeConfig, Stream, serve};

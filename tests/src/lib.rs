//! Starts the built program and talks to it from outside: over HTTP, over its command line, by signals.
//!
//! Nothing here knows how a node works inside. Read next: `grid` (a cluster of real processes), `process` (one of them and
//! how it ends), `http` (one request, every header and byte of the answer), `cli` (the client verbs), `shop` (what a shop
//! says most often), `torture` (rounds of trouble drawn from a seed, and their judges).

mod cli;
mod clock;
mod data;
mod grid;
mod http;
mod process;
mod shop;
pub mod torture;
mod wait;

pub use cli::{Cli, Ran};
pub use clock::faketime;
pub use data::{Sale, SaleLine, Sales, SalesFiles};
pub use grid::{Dev, Grid};
pub use http::{Http, Reply};
pub use process::{Process, Ready, program};
pub use shop::{Shop, captured, id, supervised};
pub use wait::until;

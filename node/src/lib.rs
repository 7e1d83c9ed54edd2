//! A node: its actors, timers and wiring.
//!
//! [`Node::start`] is the only assembly, in production, in tests and in the simulation. It takes a [`NodeConfig`] and a
//! [`Platform`].

pub mod config;
pub mod platform;
pub mod recovery;
pub mod telemetry;

pub use config::NodeConfig;
pub use platform::Platform;
pub use room::RowRoom;

mod adapters;
mod agreement;
mod clocks;
mod context;
mod founding;
mod front;
mod health;
mod meta;
mod node;
mod operators;
mod peers;
mod replicas;
mod room;
mod rules;
mod shard;

pub use node::{FatalError, Node, StartError};

//! A node: its actors, timers and wiring.
//!
//! [`Node::start`] is the only assembly, in production, in tests and in the simulation. It takes a [`NodeConfig`] and a
//! [`Platform`].

pub mod config;
pub mod descriptors;
pub mod exporter;
pub mod fields;
pub mod offline;
pub mod platform;
pub mod tcp;

pub use config::NodeConfig;
pub use platform::Platform;
pub use room::RowRoom;

mod agreement;
mod aside;
mod batches;
mod clocks;
mod context;
mod copies;
mod elsewhere;
mod footprint;
mod founding;
mod front;
mod glue;
mod grid;
mod health;
mod losses;
mod lost_log;
mod mend;
mod meta;
mod metrics;
mod node;
mod peers;
mod reads;
mod recall;
mod refill;
mod repair;
mod replicas;
mod report;
mod room;
mod rules;
mod scrub;
mod shard;
mod streams;
mod twins;
mod user_orders;
mod verify;
mod wholeness;

pub use node::{FatalError, Node, StartError};

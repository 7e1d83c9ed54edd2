//! Simulated disks.

pub mod watch;

pub use watch::{Database, DiskWatch};

//! What a node says about itself: metrics, logs, and what its process takes of the machine.

pub mod exporter;
pub mod fields;

pub(crate) mod footprint;
pub(crate) mod metrics;

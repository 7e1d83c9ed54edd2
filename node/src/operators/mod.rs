//! What operators ask of a grid: its state, the proof of its laws, and repairs.

pub(crate) mod repair;
pub(crate) mod report;
pub(crate) mod streams;
pub(crate) mod verify;

//! What the logs on the disks say.

pub mod reference;

pub use reference::Reference;

/// Follows every disk.
#[derive(Debug, Default)]
pub struct Chronicle;

//! What following the disks brought to light: facts that break a property of the logs, for the judge of that property.

use crate::history::SimTime;
use crate::verdict::Property;

/// A property was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub property: Property,
    /// When.
    pub at: SimTime,
    /// What was seen.
    pub text: String,
}

//! Judges of the logs: what consensus promises, by what the disks and the nodes say.

mod committed_never_changes;
mod on_disks;
mod one_leader_per_term;
mod pointers_ordered;

use super::Judge;
use crate::verdict::Property;

pub use committed_never_changes::CommittedNeverChanges;
pub use on_disks::OnDisks;
pub use one_leader_per_term::OneLeaderPerTerm;
pub use pointers_ordered::PointersOrdered;

/// All of them.
#[must_use]
pub fn judges() -> Vec<Box<dyn Judge>> {
    vec![
        Box::new(OnDisks::of(Property::LogsReadable)),
        Box::<OneLeaderPerTerm>::default(),
        Box::new(OnDisks::of(Property::VotesMonotonic)),
        Box::new(OnDisks::of(Property::LogMatching)),
        Box::new(OnDisks::of(Property::CommittedIsDurable)),
        Box::<CommittedNeverChanges>::default(),
        Box::<PointersOrdered>::default(),
    ]
}

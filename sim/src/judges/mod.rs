//! Who decides whether a history was right: one file per property, named as the law.
//!
//! A judge looks after every step at what can be seen from outside ([`Moment`]), and once more when the history is over and
//! the grid is at rest ([`Evidence`]). It remembers what it needs, and says what is wrong as soon as it knows.

pub mod acknowledged_is_durable;
pub mod all_or_nothing;
pub mod as_of_index;
pub mod book;
pub mod bounded;
pub mod clients;
pub mod events_gapless;
pub mod grown;
pub mod heals;
pub mod holds_add_up;
pub mod linear;
pub mod money_conserved;
pub mod no_oversell;
pub mod one_key_one_order;
pub mod rare;
pub mod reads_are_current;
pub mod refused_means_nothing;
pub mod sold_out_is_true;
#[cfg(test)]
mod testing;
pub mod timers_fire;
pub mod undated;

mod acknowledged;
mod committed;
mod found;
mod leaders;
mod majority;
mod matching;
mod pointers;
mod readable;
mod replicas;
#[cfg(test)]
mod tests;
mod votes;

use std::collections::BTreeMap;

use ordergrid_cluster::GroupStatus;

use crate::chronicle::{Chronicle, Reference};
use crate::history::{History, SimTime};
use crate::verdict::Violation;

pub use acknowledged::AcknowledgedIsDurable;
pub use committed::CommittedNeverChanges;
pub use leaders::OneLeaderPerTerm;
pub use majority::CommittedIsDurable;
pub use matching::LogMatching;
pub use pointers::PointersOrdered;
pub use readable::LogsReadable;
pub use replicas::ReplicasAgree;
pub use votes::VotesMonotonic;

/// The judges of what the logs say.
#[must_use]
pub fn log_judges() -> Vec<Box<dyn Judge>> {
    vec![
        Box::new(LogsReadable::default()),
        Box::new(OneLeaderPerTerm::default()),
        Box::new(VotesMonotonic::default()),
        Box::new(LogMatching::default()),
        Box::new(CommittedIsDurable::default()),
        Box::new(CommittedNeverChanges::default()),
        Box::<PointersOrdered>::default(),
        Box::new(AcknowledgedIsDurable),
        Box::new(ReplicasAgree),
    ]
}

/// Statuses of the groups of every node that runs.
pub type Statuses = BTreeMap<u64, Vec<GroupStatus>>;

/// What can be seen after a step.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// The time.
    pub now: SimTime,
    /// What the nodes that run say of their groups.
    pub statuses: &'a Statuses,
    /// How often each node was started so far: what a node says never goes back within one life.
    pub lives: &'a BTreeMap<u64, u64>,
    /// What the disks say.
    pub chronicle: &'a Chronicle,
}

/// What is known when a history is over.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// What clients asked and how it ended.
    pub history: &'a History,
    /// What the disks say.
    pub chronicle: &'a Chronicle,
    /// What the committed chains come to on machines that never fail.
    pub reference: &'a Reference,
    /// What the nodes say of their groups now.
    pub statuses: &'a Statuses,
    /// When the last fault ended.
    pub calm_since: SimTime,
    /// The time.
    pub now: SimTime,
}

/// Watches one property.
pub trait Judge {
    /// The property, named as the law.
    fn name(&self) -> &'static str;

    /// Looks at the grid after a step.
    ///
    /// # Errors
    /// The property does not hold.
    fn look(&mut self, _moment: &Moment<'_>) -> Result<(), Violation> {
        Ok(())
    }

    /// Looks at the whole history.
    ///
    /// # Errors
    /// The property does not hold.
    fn end(&mut self, _evidence: &Evidence<'_>) -> Result<(), Violation> {
        Ok(())
    }
}

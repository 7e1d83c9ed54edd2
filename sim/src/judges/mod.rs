//! Who decides whether a history was right: one file per property, named as the [`Property`].
//!
//! A judge looks after every step at what can be seen from outside ([`Moment`]), and once more when the history is over and
//! the grid is at rest ([`Evidence`]). It remembers what it needs, and says what is wrong as soon as it knows.
//!
//! [`logs`] holds consensus to what the disks and the nodes say, [`laws`] what clients were told to the laws; what the latter
//! read is in [`evidence`].

pub mod evidence;
pub mod laws;
pub mod logs;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ordergrid_cluster::GroupStatus;

use crate::chronicle::{Chronicle, Reference};
use crate::history::{History, SimTime};
use crate::verdict::{Property, Violation};

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
    /// The property.
    fn property(&self) -> Property;

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

//! What a history came to: nothing, or a property that did not hold.

use std::fmt;

use ordergrid_domain::Law;

/// What a judge watches. A law of the domain has the domain's name; the others are named here, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// A law of ARCHITECTURE.md.
    Law(Law),
    /// A term of a group has one leader: by the votes on the disks, and by what nodes say.
    OneLeaderPerTerm,
    /// A replica's vote never goes back on its disk, and it votes for one replica per term.
    VotesMonotonic,
    /// Entries of the same index and term are the same bytes on every disk, after the same log.
    LogMatching,
    /// A group has one committed chain, and keeps it.
    CommittedNeverChanges,
    /// When an entry is first known to be committed, a majority of its group's disks can no longer lose it. This sees an
    /// acknowledgement before its sync in the moment in which it counts, and not only after a power loss.
    CommittedIsDurable,
    /// Whatever a node writes into its log database can be read: rows of its own replicas, and removals of whole ranges.
    LogsReadable,
    /// What a replica says of its log fits together, and does not go back.
    PointersOrdered,
    /// Rule 2 of placing: an order is placed in the term of its attempt.
    PlacedInItsTerm,
    /// Rule 10 of placing: nothing is granted to an attempt that was released.
    TombstonesHold,
    /// Rule 12 of placing: "sold out" is answered only while it is so.
    SoldOutIsTrue,
    /// No node keeps more rows in memory than its budget.
    Bounded,
    /// No code of the product panics.
    NoPanic,
    /// A node ends by itself only after a disk fault.
    NodesGoOn,
    /// What a script expects of its own, besides the judges.
    Scenario,
}

impl Property {
    /// Its name, as it is printed everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Law(law) => law.name(),
            Self::OneLeaderPerTerm => "OneLeaderPerTerm",
            Self::VotesMonotonic => "VotesMonotonic",
            Self::LogMatching => "LogMatching",
            Self::CommittedNeverChanges => "CommittedNeverChanges",
            Self::CommittedIsDurable => "CommittedIsDurable",
            Self::LogsReadable => "LogsReadable",
            Self::PointersOrdered => "PointersOrdered",
            Self::PlacedInItsTerm => "PlacedInItsTerm",
            Self::TombstonesHold => "TombstonesHold",
            Self::SoldOutIsTrue => "SoldOutIsTrue",
            Self::Bounded => "Bounded",
            Self::NoPanic => "NoPanic",
            Self::NodesGoOn => "NodesGoOn",
            Self::Scenario => "Scenario",
        }
    }
}

impl From<Law> for Property {
    fn from(law: Law) -> Self {
        Self::Law(law)
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// What was seen, and where.
    pub text: String,
}

impl Violation {
    /// Of `property`, in these words.
    #[must_use]
    pub fn new(property: impl Into<Property>, text: impl Into<String>) -> Self {
        Self { property: property.into(), text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.text)
    }
}

//! The names the cluster uses for hosts, replicas, clusters and places in a log.

use std::fmt;

use bincode::{Decode, Encode};

/// A host, as the operator numbers it. It never appears inside consensus: see [`ReplicaId`].
pub type NodeId = u64;

/// One copy of one group on one host. Fresh for every placement and never used again, because a Raft node that
/// returns with an empty log under its old id can undo what it once acknowledged.
pub type ReplicaId = u64;

/// A cluster's own identity, drawn once when it is bootstrapped. Nodes of different clusters refuse each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The place of an entry in a group's log. With one leader per term, the term alone names the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EntryId {
    /// The term in which a leader appended the entry.
    pub term: u64,
    /// The position in the log, counted from 0.
    pub index: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

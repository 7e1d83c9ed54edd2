//! Ids of nodes, replicas, clusters and log entries.

use std::fmt;

use bincode::{Decode, Encode};

/// A node's id, as the operator numbers it. Consensus never uses it: see [`ReplicaId`].
pub type NodeId = u64;

/// One copy of one group on one node. Every placement gets a new id, which is never reused: a Raft node that returns with an
/// empty log under its old id can undo what it once acknowledged.
pub type ReplicaId = u64;

/// A cluster's identity, drawn at random when the cluster is bootstrapped. Nodes of different clusters refuse each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The position of an entry in a group's log. With one leader per term, the term alone identifies the leader.
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

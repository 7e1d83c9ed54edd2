//! The Raft type config: OrderGrid's types for openraft, generic over the async runtime.
//!
//! `encoding` has the byte formats of these types.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_std};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftTypeConfig};

use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::packed::Payload;
use crate::runtime::Prompt;

/// A leader's identity: term and replica.
pub type LeaderId = leader_id_std::LeaderId<u64, ReplicaId>;
/// A leader that a quorum elected. With one leader per term, its term identifies it.
pub type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
/// openraft's form of [`EntryId`].
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote, granted or won.
pub type Vote = openraft::Vote<LeaderId>;
/// The content of a log entry: nothing, a payload, or a membership.
pub type EntryBody = EntryPayload<Payload, ReplicaId, Host>;
/// A log entry.
pub type RaftEntry = openraft::Entry<CommittedLeaderId, EntryBody>;
/// The voters and learners of a group.
pub type Membership = openraft::Membership<ReplicaId, Host>;
/// A membership with the log id of the entry that set it.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, ReplicaId, Host>;
/// The metadata of a snapshot (a checkpoint).
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, ReplicaId, Host>;

impl From<&LogId> for EntryId {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

/// The Raft type config of every group. `RT` is the async runtime: tokio's in production, a seeded wrapper in the simulation.
/// The derives are written by hand, because derived ones would require `RT` to be `Clone`, `Ord` and so on.
pub struct RaftTypes<RT>(PhantomData<fn() -> RT>);

impl<RT> Clone for RaftTypes<RT> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<RT> Copy for RaftTypes<RT> {}

impl<RT> Default for RaftTypes<RT> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<RT> fmt::Debug for RaftTypes<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RaftTypes")
    }
}

impl<RT> PartialEq for RaftTypes<RT> {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl<RT> Eq for RaftTypes<RT> {}

impl<RT> PartialOrd for RaftTypes<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<RT> Ord for RaftTypes<RT> {
    fn cmp(&self, _other: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// A replica's node data in the membership: the node it lives on. Addresses are resolved elsewhere, because changing a
/// replica's node data through a membership can split the brain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub NodeId);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl<RT> RaftTypeConfig for RaftTypes<RT>
where
    RT: AsyncRuntime,
{
    type D = Payload;
    /// Outcomes reach their callers inside apply, so consensus answers only "applied".
    type R = ();
    type NodeId = ReplicaId;
    type Node = Host;
    type Term = u64;
    /// One leader per term: the term is the fencing token of a proposal.
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = EntryBody;
    type Entry = RaftEntry;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = Prompt<RT>;
    type ErrorSource = BoxedErrorSource;
}

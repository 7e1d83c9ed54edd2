//! One Raft group's replica on this node, behind an object-safe handle.
//!
//! Start reading here, then `start` (how a replica comes up), `handle` (what a call does), `barrier`, `lease` and `leadership`. `floor`,
//! `recall`, `admission` and `contradiction` say what a replica does that has lost something, or may have, or meets one that has.

mod admission;
mod barrier;
mod checkpoint;
mod config;
mod contradiction;
mod floor;
pub(crate) mod guard;
mod handle;
mod hearing;
mod leadership;
mod lease;
mod peer;
mod recall;
mod start;
mod transfer;
mod vacant;
mod watchdog;

use std::sync::Arc;

use futures::future::BoxFuture;
use ordergrid_domain::GroupId;
use tokio::sync::watch;

pub use admission::{Admission, at_once};
pub use config::{ConfigError, GroupConfig};
pub use floor::{Vouched, whole};
pub use lease::Clocks;
pub use recall::{Promised, Recalled, TooFew, recall};
pub use start::{GroupParts, StartError, start_group};
pub use vacant::vacant;

use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::packed::Packed;

/// A shared handle on a group's local replica.
pub type GroupRef = Arc<dyn Group>;

/// The local replica of one group: propose, read, lead.
pub trait Group: Send + Sync + 'static {
    /// Which group this is.
    fn id(&self) -> GroupId;

    /// Which replica of it this is.
    fn replica(&self) -> ReplicaId;

    /// Who leads, as far as this replica knows, and whether this node may serve. Changes only when one of these does.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Appends `entry` if this node leads `term`. Entries are appended in the order of the calls, whatever becomes of
    /// the futures; a refused one is not appended. The future resolves once the entry is applied here; dropping it
    /// changes nothing.
    fn propose(&self, term: u64, entry: Arc<Packed>) -> BoxFuture<'static, Result<EntryId, ProposeError>>;

    /// A linearizable read may be answered from the local machine after this: returns the index that is applied. By
    /// lease without a message if it is held, else by one round of heartbeats that all waiting callers share.
    fn barrier(&self) -> BoxFuture<'_, Result<u64, BarrierError>>;

    /// Whether a barrier would succeed at once, without a message: this node is ready and holds the leader's lease.
    /// Costs two short locks.
    fn has_lease(&self) -> bool;

    /// The group has a leader that works, as far as this replica can tell: a leader that a quorum has answered within an
    /// election timeout, or a follower that has heard such a leader. For probes and operators: a shard may have a leader
    /// by name, in [`Leadership`] and for consensus, long after nobody can be served.
    fn led(&self) -> bool;

    /// The last applied index, 0 before the first.
    fn applied(&self) -> u64;

    /// Entries that the leader said are committed and that are not applied here.
    fn lag(&self) -> u64;

    /// Its log has lost what it vouched for and is being refilled: it neither votes nor leads, and what is applied may be less
    /// than what was read here before.
    fn below_floor(&self) -> bool;

    /// For how long the replica has stood although its leader is there and said that there is more; `None` while it goes
    /// on, or has not stood for as long as [`GroupConfig::stall`].
    fn stands(&self) -> Option<std::time::Duration>;

    /// What this replica holds itself to by now, for one of another node that has forgotten its own promises: see [`recall()`]. `None`
    /// while it takes no part, because it may have forgotten some itself.
    fn promised(&self) -> BoxFuture<'_, Option<Promised>>;

    /// Waits until `index` is applied here, for reads that carry a token. Fails only when the group has stopped.
    fn wait_applied(&self, index: u64) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Hands leadership to the replica on `to`, if that one is a voter, reachable and willing, and has caught up. What would
    /// end with the leadership is let finish first; then proposals are refused as [`ProposeError::NotReady`] while it lasts.
    fn transfer(&self, to: NodeId) -> BoxFuture<'_, Result<(), TransferError>>;

    /// Whether this replica campaigns when it misses a leader, which it does until told otherwise, unless its log has to be
    /// refilled. It votes all the same, and what it leads it goes on leading. To be said again from time to time.
    fn stand(&self, stand: bool);

    /// Writes a checkpoint of everything applied by now; durable on return.
    fn checkpoint(&self) -> BoxFuture<'_, Result<(), Stopped>>;

    /// A snapshot of the group for operators and the balancer.
    fn status(&self) -> GroupStatus;

    /// Resolves when the replica has stopped, with the reason if it failed. A failed storage means the process must
    /// stop.
    fn stopped(&self) -> BoxFuture<'static, Option<String>>;

    /// Stops the replica and waits for it; nothing is written to its log or its store any more then. Leadership is not
    /// handed over: call [`transfer`](Self::transfer) first. A replica whose last handle is dropped stops too, only a
    /// little later.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// Who leads a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The highest term known here.
    pub term: u64,
    /// The node that leads `term`, if one is known.
    pub leader: Option<NodeId>,
    /// This node leads `term`, the first entry of the term is applied here, and a quorum has acknowledged it: the
    /// shard may take requests (rule 1 of placing).
    pub ready_here: bool,
}

/// Why a proposal has no place in the log that this node could name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not appended: this node does not lead that term.
    #[error("not the leader of that term")]
    NotLeader {
        /// Who leads now, if known.
        leader: Option<NodeId>,
    },
    /// Not appended: this node leads but may not write now, because a quorum has not answered lately or leadership is
    /// being handed over. Try again here after a moment.
    #[error("the leader may not write at this moment")]
    NotReady,
    /// Not appended: too many proposals are queued.
    #[error("too many proposals are queued")]
    Busy,
    /// It may or may not be appended, now or later.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
}

impl ProposeError {
    /// Whether the entry may take effect nevertheless.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// Why a linearizable read cannot be answered here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Another node leads.
    #[error("not the leader")]
    NotLeader {
        /// Who leads now, if known.
        leader: Option<NodeId>,
    },
    /// No quorum confirmed in time that this node still leads.
    #[error("no quorum confirmed the leader in time")]
    NoQuorum,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// The replica has stopped, cleanly or not: see [`Group::stopped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped")]
pub struct Stopped;

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This node has nothing to hand over.
    #[error("not the leader")]
    NotLeader,
    /// Another hand-over is under way.
    #[error("leadership is being handed over already")]
    UnderWay,
    /// The target has no voting replica of this group.
    #[error("node {0} has no voting replica")]
    NotVoter(NodeId),
    /// The target does not answer; handing over to it would leave the group without a leader.
    #[error("node {0} does not answer")]
    Unreachable(NodeId),
    /// The target's log is behind.
    #[error("the replica on node {0} has not caught up")]
    Behind(NodeId),
    /// The request went out and no new leader showed up in time.
    #[error("no new leader showed up in time")]
    TimedOut,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Resolves when a replica is told to end, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    closing.wait_for(|closing| *closing).await.ok();
}

/// What a replica is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Stopped or failed.
    Stopped,
}

/// A group as one replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The replica that reports.
    pub replica: ReplicaId,
    /// What that replica is.
    pub role: Role,
    /// The highest term known.
    pub term: u64,
    /// The leader's node, if known.
    pub leader: Option<NodeId>,
    /// That leader works, see [`Group::led`].
    pub led: bool,
    /// Last index in the log.
    pub last_log: u64,
    /// Last index known to be committed.
    pub committed: u64,
    /// Last applied index.
    pub applied: u64,
    /// Index of the last durable checkpoint.
    pub checkpoint: u64,
    /// Last index that is gone from the log.
    pub purged: u64,
    /// The last entry that the replica vouched for, while its log has lost it and is being refilled: it neither votes nor leads.
    pub vouched: Option<EntryId>,
    /// Every member, in order of its replica id.
    pub members: Vec<Member>,
}

/// A replica in a group's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it lives.
    pub node: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// Last index it is known to hold; only the leader knows.
    pub matched: Option<u64>,
}

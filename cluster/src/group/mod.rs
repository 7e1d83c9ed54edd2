//! One Raft group's replica on this node, behind an object-safe handle.
//!
//! Read here first, then `start` (how a replica starts), `handle` (what a call does), `barrier`, `lease` and `leadership`.
//! `floor`, `recall`, `admission` and `contradiction` handle replicas that have lost data, may have lost data, or meet one that
//! has.

mod admission;
mod barrier;
mod checkpoint;
mod config;
mod contradiction;
mod floor;
mod guard;
mod handle;
mod hearing;
mod leadership;
mod lease;
mod network;
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
pub use config::GroupConfig;
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
    /// The group.
    fn id(&self) -> GroupId;

    /// The replica's id.
    fn replica(&self) -> ReplicaId;

    /// The current leader, as far as this replica knows, and whether this node may serve. Notifies only when one of the two
    /// changes.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Appends `entry` if this node leads `term`. Entries are appended in the order of the calls, whatever becomes of
    /// the futures; a refused one is not appended. The future resolves once the entry is applied here; dropping it
    /// changes nothing.
    fn propose(&self, term: u64, entry: Arc<Packed>) -> BoxFuture<'static, Result<EntryId, ProposeError>>;

    /// After this resolves, a linearizable read may be answered from the local machine: returns the applied index. Uses the
    /// lease without a message if this node holds it, else one round of heartbeats that all waiting callers share.
    fn barrier(&self) -> BoxFuture<'_, Result<u64, BarrierError>>;

    /// Whether a barrier would succeed at once, without a message: this node is ready and holds the leader's lease.
    /// Costs two short locks.
    fn has_lease(&self) -> bool;

    /// Whether the group has a working leader, as far as this replica knows: it leads and a quorum has answered it within an
    /// election timeout, or it follows and has heard such a leader. For probes and operators: [`Leadership`] may name a leader
    /// long after the group has stopped serving.
    fn led(&self) -> bool;

    /// The last applied index, 0 before the first.
    fn applied(&self) -> u64;

    /// Number of entries that the leader has committed and that are not applied here.
    fn lag(&self) -> u64;

    /// Whether the log has lost entries that it vouched for and is being refilled. The replica neither votes nor leads, and may
    /// have applied less than was read here before.
    fn below_floor(&self) -> bool;

    /// How long the replica has been stalled: its leader is there and has committed more, but the replica applies nothing.
    /// `None` while it makes progress, and until it has been stalled for [`GroupConfig::stall`].
    fn stands(&self) -> Option<std::time::Duration>;

    /// The promises that bind this replica now, for a replica on another node that has forgotten its own: see [`recall()`].
    /// `None` while this replica does not take part, because it may have forgotten some itself.
    fn promised(&self) -> BoxFuture<'_, Option<Promised>>;

    /// Waits until `index` is applied here, for reads that carry a token. Fails only when the group has stopped.
    fn wait_applied(&self, index: u64) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Transfers leadership to the replica on `to`, which must be a reachable and willing voter that has caught up. Work that
    /// would end with the leadership may finish first. After that, proposals are refused as [`ProposeError::NotReady`] until
    /// the transfer ends.
    fn transfer(&self, to: NodeId) -> BoxFuture<'_, Result<(), TransferError>>;

    /// Sets whether this replica campaigns when it has no leader. The default is `true`. A replica whose log is being refilled
    /// never campaigns. Votes, and a leadership that it already has, are not affected. Callers repeat the call from time to
    /// time.
    fn stand(&self, stand: bool);

    /// Writes a checkpoint of everything applied by now; durable on return.
    fn checkpoint(&self) -> BoxFuture<'_, Result<(), Stopped>>;

    /// A snapshot of the group for operators and the balancer.
    fn status(&self) -> GroupStatus;

    /// Resolves when the replica has stopped, with the reason if it failed. A failed storage means the process must
    /// stop.
    fn stopped(&self) -> BoxFuture<'static, Option<String>>;

    /// Stops the replica and waits until nothing writes to its log or its store any more. Leadership is not transferred: call
    /// [`transfer`](Self::transfer) first. A replica also stops, a little later, when its last handle is dropped.
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

/// Why a proposal failed, or is not known to have succeeded.
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

/// Why a linearizable read cannot be answered on this node.
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

/// Why a leadership transfer failed.
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
    /// The request was sent, and no new leader appeared in time.
    #[error("no new leader showed up in time")]
    TimedOut,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Resolves when the replica is ending, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    closing.wait_for(|closing| *closing).await.ok();
}

/// The role of a replica in its group.
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
    /// Its role.
    pub role: Role,
    /// The highest term known.
    pub term: u64,
    /// The leader's node, if known.
    pub leader: Option<NodeId>,
    /// Whether that leader works, see [`Group::led`].
    pub led: bool,
    /// Last index in the log.
    pub last_log: u64,
    /// Last index known to be committed.
    pub committed: u64,
    /// Last applied index.
    pub applied: u64,
    /// Index of the last durable checkpoint.
    pub checkpoint: u64,
    /// Last index that was purged from the log.
    pub purged: u64,
    /// The last entry that the replica vouched for, while its log is being refilled up to it. The replica neither votes nor
    /// leads.
    pub vouched: Option<EntryId>,
    /// Every member, in order of its replica id.
    pub members: Vec<Member>,
}

/// A replica in a group's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The replica.
    pub replica: ReplicaId,
    /// The replica's node.
    pub node: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// Last index that the replica is known to hold. Only the leader knows it.
    pub matched: Option<u64>,
}

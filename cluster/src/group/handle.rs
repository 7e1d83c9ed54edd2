//! The implementation of [`Group`] for a running replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::alias::{InstantOf, WatchReceiverOf};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::type_config::TypeConfigExt;
use openraft::{AsyncRuntime, ServerState};
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::barrier::Barriers;
use super::contradiction::Contradicted;
use super::floor::Vouched;
use super::guard::Told;
use super::hearing::Hearing;
use super::lease::{Steady, UNNOTICED_MS};
use super::peer::{GroupPeer, Raft};
use super::watchdog::Heard;
use super::{
    BarrierError, Group, GroupConfig, GroupStatus, Leadership, Member, Promised, ProposeError, Role, Stopped, TransferError,
    closed,
};
use crate::applier::Shared;
use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::mesh::{Mesh, RaftPeer};
use crate::metrics::Proposal;
use crate::packed::{Packed, Payload};
use crate::raft_types::{RaftTypes, Vote};

/// openraft's metrics of a replica. Kept, because a subscription costs more than a read.
pub(crate) struct Reports<RT: AsyncRuntime> {
    pub(super) server: WatchReceiverOf<RaftTypes<RT>, RaftServerMetrics<RaftTypes<RT>>>,
    data: WatchReceiverOf<RaftTypes<RT>, RaftDataMetrics<RaftTypes<RT>>>,
}

impl<RT: AsyncRuntime + Send + Sync> Reports<RT> {
    pub(super) fn of(raft: &Raft<RT>) -> Self {
        Self { server: raft.server_metrics(), data: raft.data_metrics() }
    }
}

/// A running replica.
pub(crate) struct Handle<RT: AsyncRuntime + Send + Sync> {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) config: Arc<GroupConfig>,
    pub(super) raft: Raft<RT>,
    pub(super) shared: Arc<Shared>,
    pub(super) mesh: Mesh,
    /// The message handler that the mesh calls; `None` until the replica may take part.
    pub(super) peer: Mutex<Option<Arc<dyn RaftPeer>>>,
    /// openraft's metrics.
    pub(super) reports: Reports<RT>,
    pub(super) leadership: watch::Receiver<Leadership>,
    /// Whether a leadership transfer has begun.
    pub(super) leaving: AtomicBool,
    /// Evidence that a leader on another node works.
    pub(super) hearing: Arc<Hearing>,
    /// Whether leadership is being handed over now: proposals are refused and the lease does not count.
    pub(super) transferring: AtomicBool,
    pub(super) barriers: Mutex<Barriers>,
    /// Detects jumps of the machine's clocks.
    pub(super) steady: Steady<InstantOf<RaftTypes<RT>>>,
    /// The last entry that the log vouched for, while the log is being refilled up to it.
    pub(super) vouched: Vouched,
    /// Set when a leader's log contradicts the entries applied here.
    pub(super) contradicted: Arc<Contradicted>,
    /// How far the leader has committed, as it reports with every message.
    pub(super) heard: Arc<Heard>,
    /// Rate limit for log events about refused messages.
    pub(super) told: Arc<Told>,
    /// The vote that the replica was started with.
    pub(super) started_with: Option<Vote>,
    /// The nodes of the group's founding replicas.
    pub(super) founders: Arc<BTreeMap<ReplicaId, NodeId>>,
    /// How long the replica has been stalled, see [`Group::stands`].
    pub(super) stood: watch::Sender<Option<Duration>>,
    /// Why the replica was abandoned.
    pub(super) given_up: watch::Sender<Option<String>>,
    /// Set to end the replica's tasks.
    pub(super) closing: watch::Sender<bool>,
    /// A weak handle on itself, for tasks that outlive a call.
    pub(super) me: std::sync::Weak<Self>,
}

impl<RT: AsyncRuntime + Send + Sync> Handle<RT> {
    /// Whether a quorum acknowledged this leader recently enough that no other replica can lead yet.
    fn lease_held(&self) -> bool {
        let leadership = *self.leadership.borrow();
        if !leadership.ready_here || self.transferring.load(Ordering::Acquire) {
            return false;
        }
        {
            // The leadership watch may lag behind, so check that the quorum acknowledged this very term.
            let server = self.reports.server.borrow_watched();
            if server.state != ServerState::Leader || server.vote.leader_id.term != leadership.term {
                return false;
            }
            let voters = server.membership_config.membership().get_joint_config();
            if matches!(voters.as_slice(), [one] if one.len() == 1 && one.contains(&self.replica)) {
                return self.shared.applied_term() == leadership.term;
            }
        }
        if !self.config.leases {
            return false;
        }
        let margin = self.config.lease_margin + Duration::from_millis(UNNOTICED_MS.unsigned_abs());
        let lease = self.config.election_max.saturating_sub(margin);
        let acked = self.reports.data.borrow_watched().last_quorum_acked;
        let now = <RaftTypes<RT> as TypeConfigExt>::now();
        acked.is_some_and(|acked| now < *acked + lease && self.steady.since(*acked, now))
            && self.shared.applied_term() == leadership.term
    }

    fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let server = self.reports.server.borrow_watched();
        server.membership_config.get_node(&replica).map(|host| host.0)
    }

    /// Why a proposal was refused before it was appended.
    fn refusal(&self, forward: &ForwardToLeader<RaftTypes<RT>>) -> ProposeError {
        match forward.reason {
            ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer => ProposeError::NotReady,
            ForwardReason::NotLeader => {
                let known = forward.leader_node.map(|host| host.0);
                ProposeError::NotLeader { leader: known.or_else(|| forward.leader_id.and_then(|id| self.node_of(id))) }
            }
        }
    }

    /// Whether this replica leads and a quorum has answered it within an election timeout.
    fn leads_a_quorum(&self) -> Option<bool> {
        {
            let server = self.reports.server.borrow_watched();
            if server.state != ServerState::Leader || server.current_leader != Some(self.replica) {
                return None;
            }
            if server.membership_config.membership().voter_ids().eq([self.replica]) {
                return Some(true);
            }
        }
        let acked = self.reports.data.borrow_watched().last_quorum_acked;
        Some(acked.is_some_and(|acked| <RaftTypes<RT> as TypeConfigExt>::now() <= *acked + self.config.election_max))
    }

    async fn outcome(
        self: Arc<Self>,
        answer: impl Future<Output = Option<Result<EntryId, ClientWriteError<RaftTypes<RT>>>>>,
        started: Instant,
    ) -> Result<EntryId, ProposeError> {
        let outcome = match answer.await {
            Some(Ok(at)) => Ok(at),
            Some(Err(ClientWriteError::ForwardToLeader(forward))) => Err(self.refusal(&forward)),
            Some(Err(error)) => {
                tracing::warn!(shard = %self.group, %error, "proposal failed");
                Err(ProposeError::Unknown)
            }
            None => Err(ProposeError::Unknown),
        };
        let counted = match &outcome {
            Ok(_) => Proposal::Applied,
            Err(ProposeError::Unknown) => Proposal::Unknown,
            Err(_) => Proposal::Refused,
        };
        self.shared.meters.proposed(counted, started.elapsed());
        outcome
    }

    /// Registers the replica on the mesh, unless it is already ending.
    pub(super) fn attach(&self) {
        let mut attached = self.peer.lock();
        if *self.closing.borrow() {
            return;
        }
        let peer: Arc<dyn RaftPeer> = Arc::new(GroupPeer::new(self));
        self.mesh.attach(self.group, self.replica, peer.clone());
        *attached = Some(peer);
    }

    /// Ends the replica's tasks and removes it from the mesh.
    fn leave(&self) {
        self.closing.send_replace(true);
        if let Some(peer) = self.peer.lock().take() {
            self.mesh.detach(self.group, &peer);
        }
    }

    fn this(&self) -> Arc<Self> {
        self.me.upgrade().expect("called through an Arc")
    }

    pub(super) async fn applied_at_least(&self, next: u64) -> Result<(), Stopped> {
        if self.shared.applied_next() >= next {
            return Ok(());
        }
        let mut applied = self.shared.applied();
        let mut closing = self.closing.subscribe();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= next) => reached.map(|_| ()).map_err(|_| Stopped),
            () = closed(&mut closing) => Err(Stopped),
        }
    }
}

/// A replica whose handle is dropped stops, but nobody waits for it.
impl<RT: AsyncRuntime + Send + Sync> Drop for Handle<RT> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<RT: AsyncRuntime + Send + Sync> Group for Handle<RT> {
    fn id(&self) -> GroupId {
        self.group
    }

    fn replica(&self) -> ReplicaId {
        self.replica
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn propose(&self, term: u64, entry: Arc<Packed>) -> BoxFuture<'static, Result<EntryId, ProposeError>> {
        let started = Instant::now();
        if self.transferring.load(Ordering::Acquire) {
            return std::future::ready(Err(ProposeError::NotReady)).boxed();
        }
        entry.proposes(started);
        let raft = self.raft.clone();
        let (responder, answer) = ProgressResponder::complete_only();
        let submit = async move { raft.write(Payload(entry)).with_leader(term).responder(responder).await };
        // Submitted within this call, so that the order of the calls is the order of the log. There is one await
        // inside, on room in the queue: a submission that would have to wait is refused and never made, because a later
        // one could overtake it. Unconstrained, because a spent task budget would look like a full queue.
        let submitted = tokio::task::unconstrained(Box::pin(submit)).now_or_never();
        let refused = match submitted {
            Some(Ok(())) => None,
            Some(Err(_stopped)) => Some(ProposeError::NotLeader { leader: None }),
            None => Some(ProposeError::Busy),
        };
        if let Some(refused) = refused {
            self.shared.meters.proposed(Proposal::Refused, started.elapsed());
            return std::future::ready(Err(refused)).boxed();
        }
        let answer = async move {
            let answer = answer.await.ok()?;
            Some(answer.map(|done| EntryId::from(&done.log_id)))
        };
        self.this().outcome(answer, started).boxed()
    }

    fn barrier(&self) -> BoxFuture<'_, Result<u64, BarrierError>> {
        if self.lease_held() {
            self.shared.meters.barrier(1, true);
            // Everything that this leader acknowledged is applied here. Everything that earlier leaders acknowledged lies below
            // its first entry, which is applied too.
            return std::future::ready(Ok(self.applied())).boxed();
        }
        self.this().by_quorum().boxed()
    }

    fn has_lease(&self) -> bool {
        self.lease_held()
    }

    fn led(&self) -> bool {
        let known = self.leadership.borrow().leader.is_some();
        known && !*self.closing.borrow() && self.leads_a_quorum().unwrap_or_else(|| self.hearing.leader_works(Instant::now()))
    }

    fn applied(&self) -> u64 {
        self.shared.applied_next().saturating_sub(1)
    }

    fn lag(&self) -> u64 {
        self.heard.committed_next().saturating_sub(self.shared.applied_next())
    }

    fn below_floor(&self) -> bool {
        self.vouched.borrow().is_some()
    }

    fn stands(&self) -> Option<Duration> {
        *self.stood.borrow()
    }

    fn promised(&self) -> BoxFuture<'_, Option<Promised>> {
        async move {
            let takes_part = self.peer.lock().is_some();
            if !takes_part {
                return None;
            }
            let state = self.raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()));
            let (vote, last) = state.await.ok()?;
            // Below its floor a replica is bound by the last entry that it vouched for.
            Some(Promised { vote, last: last.max(*self.vouched.borrow()) })
        }
        .boxed()
    }

    fn wait_applied(&self, index: u64) -> BoxFuture<'_, Result<(), Stopped>> {
        self.applied_at_least(index.saturating_add(1)).boxed()
    }

    fn transfer(&self, to: NodeId) -> BoxFuture<'_, Result<(), TransferError>> {
        self.hand_over(to).boxed()
    }

    fn stand(&self, stand: bool) {
        // Below its floor a replica never campaigns.
        self.raft.runtime_config().elect(stand && !self.below_floor());
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<(), Stopped>> {
        self.checkpoint_now().boxed()
    }

    fn status(&self) -> GroupStatus {
        let led = self.led();
        let watched = self.raft.metrics();
        let metrics = watched.borrow_watched();
        let index = |id: &Option<crate::raft_types::LogId>| id.as_ref().map_or(0, |id| id.index);
        let stopped = metrics.running_state.is_err() || *self.closing.borrow();
        let membership = metrics.membership_config.membership();
        let voters: Vec<ReplicaId> = membership.voter_ids().collect();
        let matched = |replica: &ReplicaId| {
            let known = metrics.replication.as_ref()?;
            known.get(replica).map(index)
        };
        GroupStatus {
            group: self.group,
            replica: self.replica,
            role: if stopped { Role::Stopped } else { role(metrics.state) },
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.and_then(|leader| membership.get_node(&leader)).map(|host| host.0),
            led,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(&metrics.local_committed),
            applied: self.applied(),
            checkpoint: self.shared.durable_next().saturating_sub(1),
            purged: index(&metrics.purged),
            vouched: self.vouched.borrow().as_ref().map(EntryId::from),
            members: membership
                .nodes()
                .map(|(replica, host)| Member {
                    replica: *replica,
                    node: host.0,
                    voter: voters.contains(replica),
                    matched: matched(replica),
                })
                .collect(),
        }
    }

    fn stopped(&self) -> BoxFuture<'static, Option<String>> {
        let mut watched = self.raft.metrics();
        let mut closing = self.closing.subscribe();
        let mut contradicted = self.contradicted.watch();
        let mut given_up = self.given_up.subscribe();
        async move {
            loop {
                if let Some(why) = contradicted.borrow_and_update().clone() {
                    return Some(why);
                }
                let running = watched.borrow_and_update().running_state.clone();
                if let Err(fatal) = running {
                    return if *closing.borrow() { None } else { Some(fatal.to_string()) };
                }
                tokio::select! {
                    biased;
                    () = closed(&mut closing) => return None,
                    Ok(()) = contradicted.changed() => {}
                    Ok(why) = given_up.wait_for(Option::is_some) => return why.clone(),
                    changed = watched.changed() => if changed.is_err() { return None },
                }
            }
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move {
            self.leave();
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(shard = %self.group, %error, "replica shutdown failed");
            }
            // A checkpoint may still be writing to a store that is about to be closed.
            self.shared.quiet().await;
        }
        .boxed()
    }
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

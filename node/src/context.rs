//! What everything on one node shares: who it is, its shards, its clock, its way to the peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ordergrid_cluster::NodeId;
use ordergrid_domain::command::{Deliver, Holds, Release};
use ordergrid_domain::machine::SlotOwners;
use ordergrid_domain::placing::{AttemptFate, HoldResult};
use ordergrid_domain::{Command, GroupId, Outcome, Rejection, Slot, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::clocks::GridTime;
use crate::peers::elsewhere::Elsewhere;
use crate::peers::{Peers, ShardAnswer, ShardCall, Waiter};
use crate::rules::kept;
use crate::shard::{Fates, HoldSink, Landings, Question, ShardHost, ShardMessage};

/// One node, seen from its shards.
pub(crate) struct NodeContext {
    /// Its number.
    pub(crate) id: NodeId,
    /// What time it is for the grid.
    pub(crate) time: Arc<GridTime>,
    /// Which shard owns which slot.
    owners: SlotOwners,
    /// The other nodes.
    pub(crate) peers: Peers,
    /// Shards without a replica here.
    pub(crate) elsewhere: Arc<Elsewhere>,
    hosts: OnceLock<BTreeMap<GroupId, Arc<ShardHost>>>,
    failed: watch::Sender<Option<String>>,
    again: AtomicBool,
    draining: AtomicBool,
    stopping: AtomicBool,
}

/// Where a shard is led.
pub(crate) enum LedAt {
    /// Here.
    Here(Arc<crate::shard::Leading>),
    /// On that node.
    There(NodeId),
    /// Nowhere that is known.
    Nowhere,
}

impl NodeContext {
    /// A node whose shards are added by [`Self::set_hosts`].
    pub(crate) fn new(id: NodeId, time: Arc<GridTime>, owners: SlotOwners, peers: Peers, elsewhere: Arc<Elsewhere>) -> Self {
        let (failed, _) = watch::channel(None);
        let (draining, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            id,
            time,
            owners,
            peers,
            elsewhere,
            hosts: OnceLock::new(),
            failed,
            again: AtomicBool::new(false),
            draining,
            stopping,
        }
    }

    /// The shard that owns a slot.
    pub(crate) fn owner(&self, slot: Slot) -> GroupId {
        self.owners.owner(slot).expect("the shard map of a cluster that runs covers every slot")
    }

    /// Which shard owns which slot.
    pub(crate) fn owners(&self) -> &SlotOwners {
        &self.owners
    }

    /// All shards of the grid.
    pub(crate) fn shards(&self) -> BTreeSet<GroupId> {
        self.owners.groups()
    }

    /// The shards of this node, once.
    pub(crate) fn set_hosts(&self, hosts: BTreeMap<GroupId, Arc<ShardHost>>) {
        assert!(self.hosts.set(hosts).is_ok(), "the shards of a node are set once");
    }

    /// All shards of this node.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Arc<ShardHost>> {
        self.hosts.get().into_iter().flat_map(BTreeMap::values)
    }

    /// One shard of this node.
    pub(crate) fn host(&self, shard: GroupId) -> Option<&Arc<ShardHost>> {
        self.hosts.get()?.get(&shard)
    }

    /// Log time: the latest stamp that any shard has applied here; zero before the first.
    pub(crate) fn log_time(&self) -> Timestamp {
        self.hosts().map(|host| host.replica().log_time()).max().unwrap_or_default()
    }

    /// Where `shard` is led as far as this node knows.
    pub(crate) fn place(&self, shard: GroupId) -> LedAt {
        let Some(host) = self.host(shard) else { return self.elsewhere.leader(shard).map_or(LedAt::Nowhere, LedAt::There) };
        if let Some(leading) = host.leading() {
            return LedAt::Here(leading);
        }
        match host.group().leadership().borrow().leader {
            Some(leader) if leader != self.id => LedAt::There(leader),
            // A replica whose rows are damaged leads nothing and knows nobody.
            _ if !host.is_whole() => self.elsewhere.leader(shard).map_or(LedAt::Nowhere, LedAt::There),
            _ => LedAt::Nowhere,
        }
    }

    /// What is stored of the shard is damaged here, and no other node has it.
    pub(crate) fn is_lost(&self, shard: GroupId) -> bool {
        self.host(shard).is_some_and(|host| !host.is_whole()) && self.elsewhere.leader(shard).is_none()
    }

    /// Who leads a shard, if it is another node and known here: what somebody is told who asked the wrong one.
    pub(crate) fn leader_there(&self, shard: GroupId) -> Option<NodeId> {
        match self.host(shard).map(|_| self.place(shard))? {
            LedAt::There(node) => Some(node),
            LedAt::Here(_) | LedAt::Nowhere => None,
        }
    }

    /// Something happened after which this process must not go on (fail-stop). The first reason counts.
    pub(crate) fn fail(&self, reason: String) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(reason);
            }
            first
        });
    }

    /// Does `work`; if it panics, something that is relied on does not hold, and the process must not go on.
    pub(crate) fn or_fails<W>(self: &Arc<Self>, what: String, work: W) -> impl Future<Output = ()> + use<W>
    where
        W: Future<Output = ()>,
    {
        let node = Arc::clone(self);
        async move {
            if let Err(rule) = kept(work).await {
                node.fail(format!("{what} broke a rule: {rule}"));
            }
        }
    }

    /// As [`Self::fail`], where another start mends what is wrong.
    pub(crate) fn fail_for_now(&self, reason: String) {
        self.again.store(true, Ordering::Release);
        self.fail(reason);
    }

    /// Another start mends what the node has failed for.
    pub(crate) fn begins_again(&self) -> bool {
        self.again.load(Ordering::Acquire)
    }

    /// Resolves with the reason when the node has failed.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// The node is to stop, and still serves.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The node is to stop, or stops.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) || self.stopping()
    }

    /// From now on leaderships end on purpose.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The node is being stopped.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks a shard's leader, wherever it is, for holds that came together.
    pub(crate) fn hold(&self, shard: GroupId, holds: Holds, sink: HoldSink) {
        match self.place(shard) {
            LedAt::Here(leading) => hold_here(&leading, holds, sink),
            LedAt::There(node) => self.peers.send(node, ShardCall::Hold(shard, holds), Waiter::Hold(sink)),
            LedAt::Nowhere => sink.send_all(&HoldResult::NoLeader, &mut Landings::default()),
        }
    }

    /// Asks a shard's leader to release. May be lost: the SKUs will ask.
    pub(crate) fn release(&self, shard: GroupId, release: Release) {
        match self.place(shard) {
            LedAt::Here(leading) => {
                let reply = crate::shard::Reply::Nobody;
                leading.lead.batcher.propose(Command::Release(release), reply);
            }
            LedAt::There(node) => self.peers.send(node, ShardCall::Release(shard, release), Waiter::Nobody),
            LedAt::Nowhere => {}
        }
    }

    /// Delivers a run of a stream; the highest number that the destination has applied, if it answered.
    pub(crate) async fn deliver(&self, shard: GroupId, run: Deliver) -> Option<u64> {
        match self.place(shard) {
            LedAt::Here(leading) => deliver_here(&leading, run).await,
            LedAt::There(node) => match self.call(node, ShardCall::Deliver(shard, run)).await? {
                ShardAnswer::Delivered(high) => Some(high),
                _ => None,
            },
            LedAt::Nowhere => None,
        }
    }

    /// Asks a shard how far it has applied the stream from another one.
    pub(crate) async fn applied(&self, shard: GroupId, from: GroupId) -> Option<u64> {
        match self.place(shard) {
            LedAt::Here(leading) => applied_here(&leading, from).await,
            LedAt::There(node) => match self.call(node, ShardCall::Applied(shard, from)).await? {
                ShardAnswer::Delivered(high) => Some(high),
                _ => None,
            },
            LedAt::Nowhere => None,
        }
    }

    /// Asks an order shard what became of attempts.
    pub(crate) async fn ask(&self, shard: GroupId, question: Question) -> Option<Fates> {
        match self.place(shard) {
            LedAt::Here(leading) => ask_here(&leading, question).await,
            LedAt::There(node) => match self.call(node, ShardCall::Ask(shard, question)).await? {
                ShardAnswer::Fates(fates) => Some(fates),
                _ => None,
            },
            LedAt::Nowhere => None,
        }
    }

    /// One call to a peer; `None` when no answer came in time.
    pub(crate) async fn call(&self, node: NodeId, call: ShardCall) -> Option<ShardAnswer> {
        let (caller, answer) = oneshot::channel();
        self.peers.send(node, call, Waiter::Task(caller));
        answer.await.ok()
    }
}

/// Asks a shard led here for holds.
pub(crate) fn hold_here(leading: &crate::shard::Leading, holds: Holds, sink: HoldSink) {
    let sent = leading.actor.send_message(ShardMessage::Hold { holds, sink });
    if let Err(ractor::MessagingErr::SendErr(ShardMessage::Hold { sink, .. })) = sent {
        sink.send_all(&HoldResult::NoLeader, &mut Landings::default());
    }
}

/// Applies a run on a shard led here.
pub(crate) async fn deliver_here(leading: &crate::shard::Leading, run: Deliver) -> Option<u64> {
    let landed = leading.lead.batcher.ask(Command::Deliver(run)).await.ok()?;
    match landed.outcome {
        Outcome::Delivered { high } => Some(high),
        Outcome::Rejected(Rejection::StreamGap { next, .. }) => Some(next - 1),
        other => unreachable!("a delivery is answered as delivered or as a gap, not {other:?}"),
    }
}

/// How far a shard led here has applied the stream from another one. A deposed leader does not say: it may have applied less.
pub(crate) async fn applied_here(leading: &crate::shard::Leading, from: GroupId) -> Option<u64> {
    leading.lead.group.barrier().await.ok()?;
    Some(leading.lead.replica.machine().high(from))
}

/// Asks a shard led here about attempts.
pub(crate) async fn ask_here(leading: &crate::shard::Leading, question: Question) -> Option<Fates> {
    let Question { from, applied, attempts } = question;
    let (caller, answer) = oneshot::channel();
    leading.actor.send_message(ShardMessage::Ask { attempts, caller }).ok()?;
    let mut fates = answer.await.ok()?;
    // Looked at after the orders: what was forgotten by then is told.
    let stream = leading.lead.replica.machine().stream(from);
    if from != leading.lead.shard && applied >= stream.next {
        // Rule 20: this shard has lost messages that it had sent, and orders with them. It knows too little to say *gone*.
        fates.fill(AttemptFate::Later);
    }
    Some(Fates { fates, forgotten: stream.trimmed })
}

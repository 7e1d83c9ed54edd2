//! A shard's place on this node: its replica, and the term's leadership while this node leads.

use std::sync::Arc;

use ordergrid_cluster::{GroupRef, Leadership, NodeId};
use ordergrid_domain::GroupId;
use parking_lot::RwLock;
use ractor::{Actor, ActorRef};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::actor::ShardActor;
use super::lead::{Lead, LeadLimits};
use super::replica::ShardReplica;
use super::{ShardMessage, asks, mailbox, skus, timers};
use crate::context::NodeContext;
use crate::recovery::wholeness::Wholeness;
use crate::telemetry::metrics;

/// A led shard: its front door and its background work, which ends when this is dropped.
pub(crate) struct Leading {
    /// What the term shares.
    pub(crate) lead: Arc<Lead>,
    /// The front door.
    pub(crate) actor: ActorRef<ShardMessage>,
    whole: Arc<Wholeness>,
    _work: JoinSet<()>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        // What has come is still answered: that nothing happened, since nothing of an old term is appended.
        self.actor.drain().ok();
    }
}

/// A shard's replica as it runs now. Whoever has taken one keeps it: a later replica has a seat of its own.
#[derive(Clone)]
pub(crate) struct Seat {
    /// Its consensus group.
    pub(crate) group: GroupRef,
    /// Its state here.
    pub(crate) replica: Arc<ShardReplica>,
    /// Whether its stored rows are whole.
    pub(crate) whole: Arc<Wholeness>,
}

/// One shard on one node.
pub(crate) struct ShardHost {
    /// Which shard.
    pub(crate) shard: GroupId,
    seat: watch::Sender<Seat>,
    limits: LeadLimits,
    leading: RwLock<Option<Arc<Leading>>>,
    changed: watch::Sender<bool>,
    /// What is wrong with its stored rows, and what is done about it, while that is so.
    mending: RwLock<Option<Mending>>,
}

/// A replica whose rows are damaged.
#[derive(Clone, Debug)]
pub(crate) struct Mending {
    /// What was found.
    pub(crate) what: String,
    /// How far it has come.
    pub(crate) doing: String,
}

impl ShardHost {
    /// A shard that is not led yet; [`Self::run`] follows who leads.
    pub(crate) fn new(shard: GroupId, seat: Seat, limits: LeadLimits) -> Self {
        metrics::shard_begins(shard);
        let (changed, _) = watch::channel(false);
        metrics::replica_whole(shard, seat.whole.is_whole());
        let (seat, _) = watch::channel(seat);
        Self { shard, seat, limits, leading: RwLock::new(None), changed, mending: RwLock::new(None) }
    }

    /// Its replica, as it runs now.
    pub(crate) fn seat(&self) -> Seat {
        self.seat.borrow().clone()
    }

    /// Nothing is known to be wrong with its stored rows.
    pub(crate) fn is_whole(&self) -> bool {
        self.seat.borrow().whole.is_whole() && self.mending.read().is_none()
    }

    /// What is wrong with them, and what is done about it.
    pub(crate) fn damage(&self) -> Option<Mending> {
        let mending = self.mending.read().clone();
        mending.or_else(|| Some(Mending { what: self.seat.borrow().whole.damage()?, doing: "its service ends".to_owned() }))
    }

    /// Resolves with what is found to be wrong with the rows of the seated replica.
    pub(crate) async fn found(&self) -> String {
        let whole = self.seat().whole;
        whole.found().await
    }

    /// Says how far the mending of its replica has come.
    pub(crate) fn mending(&self, what: &str, doing: &str) {
        *self.mending.write() = Some(Mending { what: what.to_owned(), doing: doing.to_owned() });
    }

    /// Its replica is whole again.
    pub(crate) fn mended(&self) {
        *self.mending.write() = None;
    }

    /// Its consensus group, as it runs now.
    pub(crate) fn group(&self) -> GroupRef {
        Arc::clone(&self.seat.borrow().group)
    }

    /// Its state here, as it is now.
    pub(crate) fn replica(&self) -> Arc<ShardReplica> {
        Arc::clone(&self.seat.borrow().replica)
    }

    /// Another replica stands in for this one from now on, which leads nothing any more. The caller stops its group.
    pub(crate) fn replace(&self, seat: Seat) -> Seat {
        let before = self.seat.send_replace(seat);
        self.close();
        before
    }

    /// The term's front door, while this node leads and its stored rows are whole.
    pub(crate) fn leading(&self) -> Option<Arc<Leading>> {
        self.led().filter(|leading| leading.whole.is_whole())
    }

    fn led(&self) -> Option<Arc<Leading>> {
        self.leading.read().clone()
    }

    /// Resolves once the seated replica knows a leader, and where that is this node, takes requests.
    pub(crate) async fn ready(&self, here: NodeId) {
        let (mut seats, mut leading) = (self.seat.subscribe(), self.changed.subscribe());
        loop {
            let mut leadership = seats.borrow_and_update().group.leadership();
            let now = *leadership.borrow_and_update();
            let leads_here = *leading.borrow_and_update();
            if now.leader.is_some_and(|leader| leader != here || (now.ready_here && leads_here)) {
                return;
            }
            tokio::select! {
                biased;
                Ok(()) = seats.changed() => {}
                Ok(()) = leading.changed() => {}
                Ok(()) = leadership.changed() => {}
                // A group that stops instead is told by the node's failure.
                else => return,
            }
        }
    }

    /// Follows who leads, whichever replica is seated.
    pub(crate) async fn run(self: Arc<Self>, node: Arc<NodeContext>) {
        let mut seats = self.seat.subscribe();
        loop {
            self.sit(&node, &mut seats).await;
            self.close();
        }
    }

    /// Opens the front door once the term's first entry is applied (rule 1) and grid time is known (rule 21), closes it when
    /// the term is over; returns when another replica is seated. A group that stops by itself has lost its disk or its
    /// machine: the process must end.
    async fn sit(&self, node: &Arc<NodeContext>, seats: &mut watch::Receiver<Seat>) {
        const KEPT: &str = "the sender is a field of this host";
        let seat = seats.borrow_and_update().clone();
        let (mut leadership, mut stopped) = (seat.group.leadership(), seat.group.stopped());
        let mut time_known = node.time.known();
        loop {
            let now = *leadership.borrow_and_update();
            let known = *time_known.borrow_and_update();
            self.follow(node, &seat, &now, known).await;
            let reason = tokio::select! {
                biased;
                replaced = seats.changed() => return replaced.expect(KEPT),
                reason = &mut stopped => reason,
                // After the last change the group tells why it has stopped.
                Ok(()) = leadership.changed() => continue,
                Ok(()) = time_known.changed() => continue,
            };
            self.close();
            if !node.stopping() && self.is_whole() {
                let reason = reason.unwrap_or_else(|| "no reason given".to_owned());
                node.fail(format!("group {} has stopped: {reason}", self.shard));
            }
            return seats.changed().await.expect(KEPT);
        }
    }

    async fn follow(&self, node: &Arc<NodeContext>, seat: &Seat, now: &Leadership, time_known: bool) {
        let led = self.led().map(|leading| leading.lead.term);
        if led == Some(now.term) && now.leader == Some(node.id) {
            return;
        }
        if led.is_some() {
            self.close();
        }
        if now.ready_here && time_known && seat.whole.is_whole() {
            self.open(node, seat, now.term).await;
        }
    }

    async fn open(&self, node: &Arc<NodeContext>, seat: &Seat, term: u64) {
        let (group, replica) = (Arc::clone(&seat.group), Arc::clone(&seat.replica));
        let lead = Arc::new(Lead::new(Arc::clone(node), self.shard, group, term, replica, self.limits));
        let (actor, ended) = match Actor::spawn(None, ShardActor, Arc::clone(&lead)).await {
            Ok(started) => started,
            Err(failed) => {
                node.fail(format!("shard {}: its actor did not start: {failed}", self.shard));
                return;
            }
        };
        tracing::info!(shard = %self.shard, term, "leading");
        let mut work = JoinSet::new();
        let of = |what: &str| format!("shard {}, term {term}: {what}", self.shard);
        work.spawn(node.or_fails(of("delivering messages"), mailbox::pump(Arc::clone(&lead))));
        work.spawn(node.or_fails(of("proposing ticks"), timers::tick(Arc::clone(&lead))));
        work.spawn(node.or_fails(of("asking for orders of holds"), asks::ask(Arc::clone(&lead))));
        work.spawn(node.or_fails(of("ending idle actors"), skus::sweep(actor.clone(), self.limits.idle)));
        {
            let mut leading = self.leading.write();
            if !Arc::ptr_eq(&self.seat.borrow().group, &seat.group) {
                // Replaced meanwhile: this one leads nothing any more.
                return;
            }
            seat.replica.has_front(Some(actor.clone()));
            *leading = Some(Arc::new(Leading { lead, actor, whole: Arc::clone(&seat.whole), _work: work }));
            self.changed.send_replace(true);
        }
        self.watch_actor(node, Arc::clone(&seat.group), term, ended);
    }

    /// Rule 3: what the shard's actor knew is gone with it, so a failure within the term ends the node's leadership,
    /// and with it the process: the other replicas take over.
    fn watch_actor(&self, node: &Arc<NodeContext>, group: GroupRef, term: u64, ended: tokio::task::JoinHandle<()>) {
        let (node, shard) = (Arc::clone(node), self.shard);
        tokio::spawn(async move {
            ended.await.ok();
            let still = *group.leadership().borrow();
            let closed = node.host(shard).is_none_or(|host| host.leading().is_none_or(|leading| leading.lead.term != term));
            if !closed && still.term == term && still.ready_here && !node.stopping() {
                node.fail(format!("shard {shard}: its actor failed in term {term}"));
            }
        });
    }

    /// Closes the front door: whoever waits behind it is told "unknown".
    pub(crate) fn close(&self) {
        if let Some(leading) = self.leading.write().take() {
            leading.lead.replica.has_front(None);
            tracing::info!(shard = %self.shard, term = leading.lead.term, "no longer leading");
        }
        self.changed.send_replace(false);
    }
}

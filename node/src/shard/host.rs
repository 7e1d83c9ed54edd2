//! A shard's place on this node: its replica, and the term's leadership while this node leads.

use std::sync::Arc;

use ordergrid_cluster::{GroupRef, Leadership};
use ordergrid_domain::GroupId;
use parking_lot::RwLock;
use ractor::{Actor, ActorRef};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::actor::ShardActor;
use super::lead::{Lead, LeadLimits};
use super::replica::ShardReplica;
use super::{ShardMessage, asks, mailbox, timers};
use crate::context::NodeContext;
use crate::metrics;

/// A led shard: its front door and its background work, which ends when this is dropped.
pub(crate) struct Leading {
    /// What the term shares.
    pub(crate) lead: Arc<Lead>,
    /// The front door.
    pub(crate) actor: ActorRef<ShardMessage>,
    _work: JoinSet<()>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        // What has come is still answered: that nothing happened, since nothing of an old term is appended.
        self.actor.drain().ok();
    }
}

/// One shard on one node.
pub(crate) struct ShardHost {
    /// Which shard.
    pub(crate) shard: GroupId,
    /// Its consensus group.
    pub(crate) group: GroupRef,
    /// Its state here.
    pub(crate) replica: Arc<ShardReplica>,
    limits: LeadLimits,
    leading: RwLock<Option<Arc<Leading>>>,
    changed: watch::Sender<bool>,
}

impl ShardHost {
    /// A shard that is not led yet; [`Self::run`] follows who leads.
    pub(crate) fn new(shard: GroupId, group: GroupRef, replica: Arc<ShardReplica>, limits: LeadLimits) -> Self {
        metrics::shard_begins(shard);
        let (changed, _) = watch::channel(false);
        Self { shard, group, replica, limits, leading: RwLock::new(None), changed }
    }

    /// The term's front door, while this node leads.
    pub(crate) fn leading(&self) -> Option<Arc<Leading>> {
        self.leading.read().clone()
    }

    /// Turns true when this node starts to lead, false when it stops.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    /// Follows the leadership until the group ends: opens the front door once the term's first entry is applied
    /// (rule 1) and grid time is known (rule 21), closes it when the term is over.
    pub(crate) async fn run(self: Arc<Self>, node: Arc<NodeContext>) {
        let mut leadership = self.group.leadership();
        let mut time_known = node.time.known();
        loop {
            let now = *leadership.borrow_and_update();
            let known = *time_known.borrow_and_update();
            self.follow(&node, &now, known).await;
            let ended = tokio::select! {
                biased;
                changed = leadership.changed() => changed.is_err(),
                changed = time_known.changed() => changed.is_err(),
            };
            if ended {
                self.close();
                return;
            }
        }
    }

    async fn follow(&self, node: &Arc<NodeContext>, now: &Leadership, time_known: bool) {
        let led = self.leading().map(|leading| leading.lead.term);
        if led == Some(now.term) && now.leader == Some(node.id) {
            return;
        }
        if led.is_some() {
            self.close();
        }
        if now.ready_here && time_known {
            self.open(node, now.term).await;
        }
    }

    async fn open(&self, node: &Arc<NodeContext>, term: u64) {
        let (group, replica) = (Arc::clone(&self.group), Arc::clone(&self.replica));
        let lead = Arc::new(Lead::new(Arc::clone(node), self.shard, group, term, replica, self.limits));
        let (actor, ended) = match Actor::spawn(None, ShardActor, Arc::clone(&lead)).await {
            Ok(started) => started,
            Err(failed) => {
                node.fail(format!("shard {}: its actor did not start: {failed}", self.shard));
                return;
            }
        };
        tracing::info!(shard.id = %self.shard, term, "leading");
        let mut work = JoinSet::new();
        work.spawn(mailbox::pump(Arc::clone(&lead)));
        work.spawn(timers::tick(Arc::clone(&lead)));
        work.spawn(asks::ask(Arc::clone(&lead)));
        work.spawn(asks::sweep(actor.clone(), self.limits.idle));
        self.replica.has_front(Some(actor.clone()));
        *self.leading.write() = Some(Arc::new(Leading { lead, actor, _work: work }));
        self.changed.send_replace(true);
        self.watch_actor(node, term, ended);
    }

    /// Rule 3: what the shard's actor knew is gone with it, so a failure within the term ends the node's leadership,
    /// and with it the process: the other replicas take over.
    fn watch_actor(&self, node: &Arc<NodeContext>, term: u64, ended: tokio::task::JoinHandle<()>) {
        let (node, group, shard) = (Arc::clone(node), Arc::clone(&self.group), self.shard);
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
        self.replica.has_front(None);
        if let Some(leading) = self.leading.write().take() {
            tracing::info!(shard.id = %self.shard, term = leading.lead.term, "no longer leading");
        }
        self.changed.send_replace(false);
    }
}

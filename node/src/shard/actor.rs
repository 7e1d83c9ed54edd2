//! The front door of a led shard, for one term: which attempts run, which keys are busy, which entity actors live.
//!
//! Never restarted within a term: what it knows cannot be rebuilt, so losing it costs the node its leadership (rule 3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::{OrderRequest, Place, Release};
use ordergrid_domain::machine::Lookup;
use ordergrid_domain::{AttemptId, Command, GroupId, Key, Order, Quantity, Rejection, SkuId, Timestamp, UserId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::{HoldGather, HoldResult};
use super::lead::Lead;
use super::order_actor::{OrderActor, Placing};
use super::proposal::Reply;
use super::sku_actor::{SkuActor, SkuMessage, Wanted};
use super::ticket::{Asked, PlaceTicket, Running};
use super::{AnswerTo, HoldRequest, HoldSink, ShardMessage, Verdict, answer, refuse};
use crate::metrics;

/// The behaviour; everything that changes is in [`ShardState`].
pub(crate) struct ShardActor;

/// A place that waits for its key.
struct Waiting {
    request: Box<OrderRequest>,
    caller: AnswerTo<Box<Order>>,
}

/// A SKU's actor, and whether it had traffic since the last sweep.
struct SkuSlot {
    actor: ActorRef<SkuMessage>,
    used: bool,
}

/// What one term of one shard has in flight.
pub(crate) struct ShardState {
    lead: Arc<Lead>,
    next_attempt: u64,
    running: BTreeSet<u64>,
    busy: BTreeMap<(UserId, Key), VecDeque<Waiting>>,
    skus: BTreeMap<SkuId, SkuSlot>,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = Arc<Lead>;

    async fn pre_start(&self, _myself: ActorRef<ShardMessage>, lead: Arc<Lead>) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState { lead, next_attempt: 1, running: BTreeSet::new(), busy: BTreeMap::new(), skus: BTreeMap::new() })
    }

    async fn post_stop(&self, _myself: ActorRef<ShardMessage>, state: &mut ShardState) -> Result<(), ActorProcessingErr> {
        for slot in std::mem::take(&mut state.skus).into_values() {
            slot.actor.stop(None);
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Place { request, caller, base, renewals } => {
                state.place(&myself, request, caller, base, renewals).await?;
            }
            ShardMessage::Hold { request, sink } => state.hold(request, sink).await?,
            ShardMessage::Ended { attempt, user, key } => state.ended(&myself, attempt, (user, key)),
            ShardMessage::GiveUp { attempt, asked } => state.give_up(attempt, asked),
            ShardMessage::Ask { attempts, caller } => state.ask(attempts, caller),
            ShardMessage::Sweep => state.sweep(),
        }
        Ok(())
    }
}

impl ShardState {
    async fn place(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        request: Box<OrderRequest>,
        caller: AnswerTo<Box<Order>>,
        base: Option<Timestamp>,
        renewals: u8,
    ) -> Result<(), ActorProcessingErr> {
        let slot = (request.user.clone(), request.key.clone());
        if let Some(waiting) = self.busy.get_mut(&slot) {
            if waiting.len() < self.lead.limits.waiting_per_key {
                waiting.push_back(Waiting { request, caller });
            } else {
                metrics::admission_refused();
                caller.send(Err(Failure::refused(Refusal::Overloaded))).ok();
            }
            return Ok(());
        }
        if self.running.len() >= self.lead.limits.running_per_shard {
            metrics::admission_refused();
            caller.send(Err(Failure::refused(Refusal::Overloaded))).ok();
            return Ok(());
        }
        let used = self.lead.replica.machine().key_record(&request.user, &request.key);
        if !matches!(used, Lookup::Absent) {
            // Used before, or possibly so: the record may have to be loaded, which this actor does not wait for.
            if self.look_key_up(myself, &request, matches!(used, Lookup::Cold(_))) {
                self.busy.insert(slot, VecDeque::from([Waiting { request, caller }]));
                return Ok(());
            }
            self.replay(*request, caller);
            return Ok(());
        }
        self.start(myself, *request, caller, base, renewals).await
    }

    /// A cold key is loaded while it counts as busy; then everybody who waits for it tries again.
    fn look_key_up(&self, myself: &ActorRef<ShardMessage>, request: &OrderRequest, cold: bool) -> bool {
        if cold {
            let (replica, shard) = (Arc::clone(&self.lead.replica), myself.clone());
            let (user, key) = (request.user.clone(), request.key.clone());
            let attempt = self.attempt(&user, 0);
            tokio::spawn(async move {
                // A store that fails stops the node; those who wait are told then.
                if replica.load_key(&user, &key).await.is_ok() {
                    shard.send_message(ShardMessage::Ended { attempt, user, key }).ok();
                }
            });
        }
        cold
    }

    /// The key names an order: the first answer, or a refusal for another body.
    fn replay(&self, request: OrderRequest, caller: AnswerTo<Box<Order>>) {
        let replica = Arc::clone(&self.lead.replica);
        tokio::spawn(async move {
            let said = match replica.placed_under(&request).await {
                Ok(Some(first)) => first.map_err(answer::refused_place),
                // The record ran out between the two looks, or the store failed.
                Ok(None) | Err(_) => Err(Failure::refused(Refusal::NotReady)),
            };
            caller.send(said).ok();
        });
    }

    async fn start(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        request: OrderRequest,
        caller: AnswerTo<Box<Order>>,
        base: Option<Timestamp>,
        renewals: u8,
    ) -> Result<(), ActorProcessingErr> {
        let attempt = self.attempt(&request.user, self.next_attempt);
        self.next_attempt += 1;
        self.running.insert(attempt.counter);
        self.busy.insert((request.user.clone(), request.key.clone()), VecDeque::new());
        let running =
            Running { attempt, user: request.user.clone(), key: request.key.clone(), shard: myself.clone(), undecided: false };
        let now = self.lead.node.clock.now();
        let valid_until = base.map_or(now, |base| base.max(now)).after(self.lead.limits.hold_validity);
        let wanted = self.wanted(&request);
        if wanted.len() == 1 && wanted.contains_key(&self.lead.shard) {
            self.place_local(request, running, caller, valid_until, wanted);
            return Ok(());
        }
        let lead = Arc::clone(&self.lead);
        let placing = Placing { lead, request, running, caller, wanted, valid_until, renewals };
        Actor::spawn(None, OrderActor, placing).await?;
        Ok(())
    }

    fn attempt(&self, user: &UserId, counter: u64) -> AttemptId {
        AttemptId { slot: user.slot(), group: self.lead.shard, term: self.lead.term, counter }
    }

    fn wanted(&self, request: &OrderRequest) -> BTreeMap<GroupId, Vec<(SkuId, Quantity)>> {
        let mut wanted: BTreeMap<GroupId, Vec<_>> = BTreeMap::new();
        for (sku, quantity) in request.wanted() {
            wanted.entry(self.lead.node.owner(sku.slot())).or_default().push((sku, quantity));
        }
        wanted
    }

    /// Hold and place in one entry (rule 13). Sold out is answered from memory under the lease (rule 12).
    fn place_local(
        &self,
        request: OrderRequest,
        running: Running,
        caller: AnswerTo<Box<Order>>,
        valid_until: Timestamp,
        mut wanted: BTreeMap<GroupId, Vec<(SkuId, Quantity)>>,
    ) {
        let items = wanted.remove(&self.lead.shard).unwrap_or_default();
        if let Some(rejection) = self.sold_out(&items) {
            metrics::sold_out_from_memory();
            drop(running);
            refuse::after_barrier(Arc::clone(&self.lead), request, rejection, caller);
            return;
        }
        let mut running = running;
        running.undecided = true;
        let place = Place { attempt: running.attempt, request, names: Vec::new() };
        // Nothing was asked of any other entry, so there is nothing to release.
        let asked = Asked { skus: Vec::new(), valid_until };
        let ticket = PlaceTicket { running, asked, caller };
        self.lead.batcher.propose(Command::PlaceLocal(Box::new(place)), Reply::Place(ticket));
    }

    fn sold_out(&self, items: &[(SkuId, Quantity)]) -> Option<Rejection> {
        if !self.lead.group.has_lease() {
            return None;
        }
        let machine = self.lead.replica.machine();
        let mut short = items.iter().filter_map(|(sku, asked)| match machine.available(sku) {
            Lookup::Found(stock) if stock.available < *asked => Some((sku.clone(), *asked, stock.available)),
            _ => None,
        });
        let (sku, asked, available) = short.next()?;
        let more: Vec<_> = short.collect();
        if more.is_empty() {
            return Some(Rejection::OutOfStock { sku, asked, available });
        }
        Some(Rejection::OutOfStocks(std::iter::once((sku, asked, available)).chain(more).collect()))
    }

    async fn hold(&mut self, request: HoldRequest, sink: HoldSink) -> Result<(), ActorProcessingErr> {
        let HoldRequest { attempt, valid_until, items } = request;
        let parts = HoldGather::parts(items.len(), sink);
        for ((sku, quantity), part) in items.into_iter().zip(parts) {
            let Some(actor) = self.sku(&sku).await? else {
                part.answer(HoldResult::Overloaded);
                continue;
            };
            // An actor that has just failed drops the part, which answers "unknown".
            actor.send_message(SkuMessage::Hold(Wanted { attempt, quantity, valid_until, part })).ok();
        }
        Ok(())
    }

    /// The SKU's actor, started by its first message; `None` when too many live.
    async fn sku(&mut self, sku: &SkuId) -> Result<Option<ActorRef<SkuMessage>>, ActorProcessingErr> {
        if let Some(slot) = self.skus.get_mut(sku) {
            if slot.actor.get_status() < ractor::ActorStatus::Draining {
                slot.used = true;
                return Ok(Some(slot.actor.clone()));
            }
            metrics::entity_restarted();
        } else if self.skus.len() >= self.lead.limits.actors_per_shard {
            self.sweep();
            if self.skus.len() >= self.lead.limits.actors_per_shard {
                return Ok(None);
            }
        }
        let (actor, _) = Actor::spawn(None, SkuActor, (sku.clone(), Arc::clone(&self.lead))).await?;
        self.skus.insert(sku.clone(), SkuSlot { actor: actor.clone(), used: true });
        Ok(Some(actor))
    }

    /// The attempt is over and its key is free: whoever waits for the key tries again, in the order of asking.
    fn ended(&mut self, myself: &ActorRef<ShardMessage>, attempt: AttemptId, slot: (UserId, Key)) {
        self.running.remove(&attempt.counter);
        for Waiting { request, caller } in self.busy.remove(&slot).unwrap_or_default() {
            let renewals = self.lead.limits.renewals;
            let again = ShardMessage::Place { request, caller, base: None, renewals };
            myself.send_message(again).ok();
        }
    }

    fn give_up(&self, attempt: AttemptId, asked: Asked) {
        for (shard, skus) in asked.skus {
            let release = Release { attempt, skus, valid_until: asked.valid_until };
            self.lead.node.release(shard, release);
        }
    }

    /// Rule 14: the running table first, then a barrier, then what is placed.
    fn ask(&self, attempts: Vec<AttemptId>, caller: tokio::sync::oneshot::Sender<Vec<Verdict>>) {
        let (term, shard) = (self.lead.term, self.lead.shard);
        let runs = |attempt: &AttemptId| {
            attempt.term > term || (attempt.term == term && attempt.group == shard && self.running.contains(&attempt.counter))
        };
        let known: Vec<_> = attempts.into_iter().map(|attempt| (runs(&attempt), attempt)).collect();
        let lead = Arc::clone(&self.lead);
        tokio::spawn(async move {
            if lead.group.barrier().await.is_err() {
                // No answer is always safe: the SKU asks again.
                return;
            }
            let machine = lead.replica.machine();
            let verdicts = known
                .into_iter()
                .map(|(runs, attempt)| if runs || machine.placed(attempt).is_some() { Verdict::Later } else { Verdict::Gone });
            caller.send(verdicts.collect()).ok();
        });
    }

    /// Entity actors without traffic since the last sweep finish what they have and go.
    fn sweep(&mut self) {
        self.skus.retain(|_, slot| {
            if std::mem::replace(&mut slot.used, false) {
                return true;
            }
            // One that is already gone needs no telling.
            slot.actor.drain().ok();
            false
        });
        metrics::actors_live(self.lead.shard, self.skus.len());
    }
}

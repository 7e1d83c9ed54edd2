//! The front door of a led shard, for one term: drives the [`Leader`], and passes holds on to the SKUs.
//!
//! Never restarted within a term: what the leader knows cannot be rebuilt, so losing it costs the node its leadership
//! (rule 3).

use std::ops::Deref;
use std::sync::Arc;

use ::metrics::Counter;
use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::machine::{Lookup, PlacedKey, ShardMachine};
use ordergrid_domain::placing::{AttemptFate, Leader, LeaderEffect, LeaderSettings, Memory, NotPlaced, PlaceCall};
use ordergrid_domain::{AttemptId, Key, Timestamp, UserId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::callers::PlaceCaller;
use super::front_door::FrontDoor;
use super::lead::Lead;
use super::order_actor::{self, OrderActor, OrderMessage};
use super::proposal::Reply;
use super::skus::Skus;
use super::{ShardMessage, answer, refuse};
use crate::telemetry::metrics;

/// The behaviour; everything that changes is in [`ShardState`].
pub(crate) struct ShardActor;

/// What one term of one shard has in flight.
pub(crate) struct ShardState {
    lead: Arc<Lead>,
    leader: Leader<FrontDoor>,
    /// Emptied after each input.
    effects: Vec<LeaderEffect<FrontDoor>>,
    skus: Skus,
    /// Drives orders that need other shards; started by the first of them.
    orders: Option<ActorRef<OrderMessage>>,
    /// How many times orders that came together have begun.
    begun: u64,
    /// Who waits for the last attempt to be over, while leadership is about to be handed over.
    leaving: Option<oneshot::Sender<()>>,
    admission: metrics::Admission,
    sold_out: Counter,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = Arc<Lead>;

    async fn pre_start(&self, myself: ActorRef<ShardMessage>, lead: Arc<Lead>) -> Result<ShardState, ActorProcessingErr> {
        let settings = LeaderSettings {
            shard: lead.shard,
            term: lead.term,
            owners: lead.node.owners().clone(),
            running: lead.limits.running_per_shard,
            waiting_per_key: lead.limits.waiting_per_key,
            renewals: lead.limits.renewals,
            hold_validity: lead.limits.hold_validity,
        };
        let (leader, skus) = (Leader::new(settings, FrontDoor::new(myself)), Skus::new(Arc::clone(&lead)));
        let (admission, sold_out) = (metrics::Admission::new(), metrics::sold_out_from_memory());
        Ok(ShardState { lead, leader, effects: Vec::new(), skus, orders: None, begun: 0, leaving: None, admission, sold_out })
    }

    async fn post_stop(&self, _myself: ActorRef<ShardMessage>, state: &mut ShardState) -> Result<(), ActorProcessingErr> {
        state.skus.stop();
        if let Some(orders) = &state.orders {
            // One that has failed has nothing left to decide.
            orders.send_message(OrderMessage::Last).ok();
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
            ShardMessage::Place { request, caller, asked } => {
                let call = state.leader.call(request, caller);
                state.start_later(&myself, |state, now| state.place(call, now));
                state.admission.took(Some(asked));
            }
            ShardMessage::Again(call) => state.start_later(&myself, |state, now| state.place(call, now)),
            ShardMessage::Renew { over, call } => {
                state.start_later(&myself, |state, now| {
                    state.leader.renew(over, call, &*state.lead, now, &mut state.effects);
                });
                state.tell_if_quiet();
            }
            ShardMessage::PlaceMany { requests, asked } => {
                let now = state.lead.node.time.now();
                for (request, caller) in requests {
                    state.place(state.leader.call(request, caller), now);
                }
                state.carry_out(&myself);
                state.admission.took(Some(asked));
                state.start_all().await?;
            }
            ShardMessage::Start => state.start_all().await?,
            ShardMessage::Hold { holds, sink } => state.skus.hold(holds, sink).await?,
            ShardMessage::Over(over) => {
                over.into_iter().for_each(|over| state.leader.over(over, &mut state.effects));
                state.freed(&myself);
            }
            ShardMessage::KeyLoaded { user, key } => {
                state.leader.key_loaded(&user, &key, &mut state.effects);
                state.freed(&myself);
            }
            ShardMessage::Release(releases) => {
                releases.into_iter().for_each(|(shard, release)| state.lead.node.release(shard, release));
            }
            ShardMessage::Ask { attempts, caller } => state.ask(attempts, caller),
            ShardMessage::Leave(waits) => {
                state.leader.leave();
                state.leaving = Some(waits);
                state.tell_if_quiet();
            }
            ShardMessage::Stay => {
                state.leader.stay();
                state.leaving = None;
            }
            ShardMessage::Sweep => state.skus.sweep(),
        }
        Ok(())
    }
}

impl ShardState {
    fn place(&mut self, call: PlaceCall<PlaceCaller>, now: Timestamp) {
        self.leader.place(call, &*self.lead, now, &mut self.effects);
    }

    /// What is in the mailbox by now comes along with an order that needs other shards.
    fn start_later(&mut self, myself: &ActorRef<ShardMessage>, input: impl FnOnce(&mut Self, Timestamp)) {
        let first = !self.leader.has_starting();
        input(self, self.lead.node.time.now());
        self.carry_out(myself);
        if first && self.leader.has_starting() {
            myself.send_message(ShardMessage::Start).ok();
        }
    }

    async fn start_all(&mut self) -> Result<(), ActorProcessingErr> {
        let attempts = self.leader.take_starting();
        if attempts.is_empty() {
            return Ok(());
        }
        let known = self.orders.take().filter(|actor| actor.get_status() < ractor::ActorStatus::Draining);
        let actor = match known {
            Some(actor) => actor,
            None => Actor::spawn(None, OrderActor, Arc::clone(&self.lead)).await?.0,
        };
        self.begun += 1;
        order_actor::begin(&self.lead, &actor, self.begun, attempts);
        self.orders = Some(actor);
        Ok(())
    }

    /// Keys are free: whoever waits for them tries again.
    fn freed(&mut self, myself: &ActorRef<ShardMessage>) {
        self.carry_out(myself);
        self.tell_if_quiet();
    }

    fn tell_if_quiet(&mut self) {
        if self.leader.may_leave()
            && let Some(waits) = self.leaving.take()
        {
            // A hand-over that has given up waiting goes on, or back, without.
            waits.send(()).ok();
        }
    }

    fn carry_out(&mut self, myself: &ActorRef<ShardMessage>) {
        let (lead, mut places) = (&self.lead, Vec::new());
        for effect in self.effects.drain(..) {
            match effect {
                LeaderEffect::Answer { caller, answer } => {
                    if answer == NotPlaced::Overloaded {
                        metrics::admission_refused();
                    }
                    caller.send(Err(answer::not_placed(answer)));
                }
                LeaderEffect::SoldOut { request, rejection, caller } => {
                    self.sold_out.increment(1);
                    refuse::sold_out(lead, request, rejection, caller);
                }
                LeaderEffect::Replay { request, caller } => replay(lead, request, caller),
                LeaderEffect::LoadKey { user, key } => load_key(lead, myself.clone(), user, key),
                LeaderEffect::Propose(command, proposed) => places.push((command, Reply::Place(proposed))),
                LeaderEffect::Again(call) => drop(myself.send_message(ShardMessage::Again(call))),
            }
        }
        lead.batcher.propose_all(places);
    }

    /// Rule 14: the running table first, then a barrier, then what is placed.
    fn ask(&self, attempts: Vec<AttemptId>, caller: oneshot::Sender<Vec<AttemptFate>>) {
        let (looked, lead) = (self.leader.look(attempts), Arc::clone(&self.lead));
        tokio::spawn(async move {
            if lead.group.barrier().await.is_err() {
                // No answer is always safe: the SKU asks again.
                return;
            }
            let fates = looked.fates(&lead.replica.machine()).collect();
            caller.send(fates).ok();
        });
    }
}

/// The key names an order: the first answer, or a refusal for another body.
fn replay(lead: &Lead, request: Arc<OrderRequest>, caller: PlaceCaller) {
    let replica = Arc::clone(&lead.replica);
    tokio::spawn(async move {
        let said = match replica.placed_under(&request).await {
            Ok(Some(first)) => first.map_err(answer::refused_place),
            // The record ran out between the two looks, or the store failed.
            Ok(None) | Err(_) => Err(Failure::refused(Refusal::NotReady)),
        };
        caller.send(said);
    });
}

/// Loads a cold key, which the actor does not wait for.
fn load_key(lead: &Lead, shard: ActorRef<ShardMessage>, user: UserId, key: Key) {
    let replica = Arc::clone(&lead.replica);
    tokio::spawn(async move {
        // A store that fails stops the node; those who wait are told then.
        if replica.load_key(&user, &key).await.is_ok() {
            shard.send_message(ShardMessage::KeyLoaded { user, key }).ok();
        }
    });
}

impl Memory for Lead {
    fn machine_at_rest(&self) -> Option<impl Deref<Target = ShardMachine>> {
        self.replica.machine_at_rest()
    }

    fn machine(&self) -> impl Deref<Target = ShardMachine> {
        self.replica.machine()
    }

    fn key_record(&self, machine: &ShardMachine, user: &UserId, key: &Key) -> Lookup<PlacedKey> {
        self.replica.key_record(machine, user, key)
    }

    fn has_lease(&self) -> bool {
        self.group.has_lease()
    }
}

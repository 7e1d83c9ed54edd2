//! The SKUs of a led shard with holds under way: judged here in one look at the machine for all holds that came
//! together. A SKU gets an actor of its own only when a hold of it has to wait for others to settle: an actor each cost
//! 6 KiB and two hops a hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::SkuId;
use ordergrid_domain::command::Hold;
use ordergrid_domain::placing::{HoldDecision, HoldRequest, HoldResult};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::ShardMessage;
use super::holds::{HoldPart, HoldSink};
use super::landings::Landings;
use super::lead::Lead;
use super::sku_actor::{SkuActor, SkuMessage, Wanted, decide, hold_command};
use super::ticket::Account;
use crate::telemetry::metrics;

/// A SKU with traffic.
struct SkuSlot {
    account: Arc<Account>,
    /// Once something had to wait, everything goes through the actor, until it is idle.
    actor: Option<ActorRef<SkuMessage>>,
    /// Had traffic since the last sweep.
    used: bool,
}

/// What one term of one shard has under way at its SKUs.
pub(super) struct Skus {
    lead: Arc<Lead>,
    slots: BTreeMap<SkuId, SkuSlot>,
}

impl Skus {
    pub(super) fn new(lead: Arc<Lead>) -> Self {
        Self { lead, slots: BTreeMap::new() }
    }

    /// Holds that came together: answered from memory, asked of the log, or left to the SKU's actor.
    pub(super) async fn hold(&mut self, requests: Vec<(HoldRequest, HoldSink)>) -> Result<(), ActorProcessingErr> {
        for wanted in self.judge_all(requests) {
            // An actor that has just failed drops the part, which answers "unknown".
            self.actor(&wanted.hold.sku).await?.send_message(SkuMessage::Hold(wanted)).ok();
        }
        Ok(())
    }

    /// Returns what an actor has to see to.
    fn judge_all(&mut self, requests: Vec<(HoldRequest, HoldSink)>) -> Vec<Wanted> {
        let lead = Arc::clone(&self.lead);
        let mut landings = Landings::default();
        let (mut to_log, mut waiting) = (Vec::new(), Vec::new());
        let lease = lead.group.has_lease();
        let machine = lead.replica.machine();
        for (HoldRequest { attempt, valid_until, items }, sink) in requests {
            let parts = HoldPart::of(items.len(), sink);
            for ((sku, quantity), part) in items.into_iter().zip(parts) {
                let Some(slot) = self.slot(&sku) else {
                    part.answer(HoldResult::Overloaded, &mut landings);
                    continue;
                };
                let wanted = Wanted { hold: Hold { attempt, sku, quantity, valid_until }, part };
                if slot.actor.is_some() {
                    waiting.push(wanted);
                    continue;
                }
                match decide(&machine, lease, &slot.account, &wanted) {
                    HoldDecision::Answer(result) => wanted.part.answer(result, &mut landings),
                    HoldDecision::ToLog => to_log.push(hold_command(&slot.account, wanted)),
                    HoldDecision::Wait => waiting.push(wanted),
                }
            }
        }
        drop(machine);
        for (command, reply) in to_log {
            lead.batcher.propose(command, reply);
        }
        waiting
    }

    /// The SKU's place, made by its first hold; `None` when too many have one.
    fn slot(&mut self, sku: &SkuId) -> Option<&mut SkuSlot> {
        if !self.slots.contains_key(sku) {
            let most = self.lead.limits.actors_per_shard;
            if self.slots.len() >= most {
                self.sweep();
            }
            if self.slots.len() >= most {
                return None;
            }
            self.slots.insert(sku.clone(), SkuSlot { account: Arc::default(), actor: None, used: true });
        }
        let slot = self.slots.get_mut(sku)?;
        slot.used = true;
        if slot.actor.as_ref().is_some_and(|actor| actor.get_status() >= ractor::ActorStatus::Draining) {
            // It failed, and those who waited have been told. What it had asked for settles the account of old.
            metrics::entity_restarted();
            *slot = SkuSlot { account: Arc::default(), actor: None, used: true };
        }
        Some(slot)
    }

    /// The actor of a SKU that has a place, started when something has to wait.
    async fn actor(&mut self, sku: &SkuId) -> Result<ActorRef<SkuMessage>, ActorProcessingErr> {
        let slot = self.slots.get_mut(sku).expect("a hold that waits has made the place of its SKU");
        if let Some(actor) = &slot.actor {
            return Ok(actor.clone());
        }
        let settings = (Arc::clone(&self.lead), Arc::clone(&slot.account));
        let (actor, _) = Actor::spawn(None, SkuActor, settings).await?;
        slot.actor = Some(actor.clone());
        Ok(actor)
    }

    /// SKUs without traffic since the last sweep go, once nothing of them is under way; their actors finish what they
    /// have.
    pub(super) fn sweep(&mut self) {
        self.slots.retain(|_, slot| {
            let failed = slot.actor.as_ref().is_some_and(|actor| actor.get_status() >= ractor::ActorStatus::Draining);
            if std::mem::replace(&mut slot.used, false) || (slot.account.is_open() && !failed) {
                return true;
            }
            if let Some(actor) = &slot.actor {
                // One that is already gone needs no telling.
                actor.drain().ok();
            }
            false
        });
        metrics::actors_live(self.lead.shard, self.slots.values().filter(|slot| slot.actor.is_some()).count());
    }

    /// The term is over.
    pub(super) fn stop(&mut self) {
        for slot in std::mem::take(&mut self.slots).into_values() {
            if let Some(actor) = slot.actor {
                actor.stop(None);
            }
        }
    }
}

/// Tells the shard's actor to look for idle entity actors, until dropped.
pub(super) async fn sweep(shard: ActorRef<ShardMessage>, idle: Duration) {
    loop {
        tokio::time::sleep(idle).await;
        if shard.send_message(ShardMessage::Sweep).is_err() {
            return;
        }
    }
}

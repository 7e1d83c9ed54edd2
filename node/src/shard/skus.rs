//! The SKUs of a led shard with holds under way: judged here in one look at the machine for all holds that came together, which
//! also go to the log together. A SKU gets an actor of its own only when a hold of it has to wait for others to settle: an
//! actor each cost 6 KiB and two hops a hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::command::{Hold, HoldAsked, Holds};
use ordergrid_domain::machine::ShardMachine;
use ordergrid_domain::placing::{HoldDecision, HoldResult};
use ordergrid_domain::{AttemptId, Command, SkuId};
use parking_lot::MutexGuard;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::ShardMessage;
use super::batcher::holds_in_one_entry;
use super::holds::HoldSink;
use super::landings::Landings;
use super::lead::Lead;
use super::proposal::Reply;
use super::sku_actor::{SkuActor, SkuMessage, Wanted, decide, hold_command};
use super::ticket::{Accounts, HoldTicket, OpenAccounts};
use crate::telemetry::metrics;

/// A SKU with an actor: once something had to wait, everything goes through the actor, until it is idle.
struct SkuSlot {
    actor: ActorRef<SkuMessage>,
    /// Had traffic since the last sweep.
    used: bool,
}

/// What one term of one shard has under way at its SKUs.
pub(super) struct Skus {
    lead: Arc<Lead>,
    accounts: Arc<Accounts>,
    actors: BTreeMap<SkuId, SkuSlot>,
    /// Most holds in one command.
    most: usize,
}

/// Holds that came together, while they are looked at.
struct Judging<'a> {
    /// Before the tickets: what they do when they are dropped needs the accounts.
    accounts: MutexGuard<'a, OpenAccounts>,
    skus: &'a Skus,
    machine: &'a ShardMachine,
    lease: bool,
    /// What was decided of an attempt's holds.
    decided: Vec<(HoldDecision, Hold)>,
    /// Those that go to the log together, and what becomes of all that are answered together.
    holds: Holds,
    ticket: HoldTicket,
    /// Who waits for these, and for all that have not been looked at.
    sink: HoldSink,
    /// Commands that are complete.
    to_log: Vec<(Command, Reply)>,
    /// What an actor has to see to.
    waiting: Vec<Wanted>,
    landings: Landings,
}

impl Skus {
    pub(super) fn new(lead: Arc<Lead>) -> Self {
        let most = holds_in_one_entry(&lead.limits.batch);
        Self { lead, accounts: Arc::default(), actors: BTreeMap::new(), most }
    }

    /// Holds that came together: answered from memory, asked of the log, or left to the SKU's actor.
    pub(super) async fn hold(&mut self, holds: Holds, sink: HoldSink) -> Result<(), ActorProcessingErr> {
        for wanted in self.judge_all(holds, sink) {
            match self.actor(&wanted.hold.sku).await? {
                // An actor that has just failed drops the sink, which answers "unknown".
                Some(actor) => drop(actor.send_message(SkuMessage::Hold(wanted))),
                None => wanted.sink.send_all(&HoldResult::Overloaded, &mut Landings::default()),
            }
        }
        Ok(())
    }

    /// Returns what an actor has to see to.
    fn judge_all(&self, mut holds: Holds, sink: HoldSink) -> Vec<Wanted> {
        let lease = self.lead.group.has_lease();
        let rows = std::mem::take(&mut holds.rows);
        holds.rows.reserve(rows.len());
        let machine = self.lead.replica.machine();
        let mut judging = Judging {
            accounts: self.accounts.open(),
            skus: self,
            machine: &machine,
            lease,
            decided: Vec::new(),
            ticket: HoldTicket::new(&self.accounts, rows.len()),
            holds,
            sink,
            to_log: Vec::new(),
            waiting: Vec::new(),
            landings: Landings::default(),
        };
        let mut rows = rows.into_iter().peekable();
        while let Some(row) = rows.next() {
            let attempt = row.counter;
            judging.look(row);
            while let Some(row) = rows.next_if(|next| next.counter == attempt) {
                judging.look(row);
            }
            judging.end_of_attempt();
        }
        let (waiting, to_log) = judging.finish();
        drop(machine);
        self.lead.batcher.propose_all(to_log);
        waiting
    }

    /// The actor of a SKU, started when something has to wait; `None` when too many SKUs have one.
    async fn actor(&mut self, sku: &SkuId) -> Result<Option<ActorRef<SkuMessage>>, ActorProcessingErr> {
        let failed = |slot: &SkuSlot| slot.actor.get_status() >= ractor::ActorStatus::Draining;
        match self.actors.get_mut(sku) {
            Some(slot) if !failed(slot) => {
                slot.used = true;
                return Ok(Some(slot.actor.clone()));
            }
            Some(_) => {
                // Those who waited in it have been told.
                metrics::entity_restarted();
                self.accounts.open().unpark(sku);
            }
            None => {
                let most = self.lead.limits.actors_per_shard;
                if self.actors.len() >= most {
                    self.sweep();
                }
                if self.actors.len() >= most {
                    return Ok(None);
                }
            }
        }
        let settings = (Arc::clone(&self.lead), Arc::clone(&self.accounts));
        let (actor, _) = Actor::spawn(None, SkuActor, settings).await?;
        self.actors.insert(sku.clone(), SkuSlot { actor: actor.clone(), used: true });
        Ok(Some(actor))
    }

    /// Actors without traffic since the last sweep go, once nothing of their SKUs is under way; they finish what they have.
    pub(super) fn sweep(&mut self) {
        let mut accounts = self.accounts.open();
        self.actors.retain(|sku, slot| {
            let failed = slot.actor.get_status() >= ractor::ActorStatus::Draining;
            if std::mem::replace(&mut slot.used, false) || (accounts.is_open(sku) && !failed) {
                return true;
            }
            accounts.unpark(sku);
            // One that is already gone needs no telling.
            slot.actor.drain().ok();
            false
        });
        metrics::actors_live(self.lead.shard, self.actors.len());
    }

    /// The term is over.
    pub(super) fn stop(&mut self) {
        for slot in std::mem::take(&mut self.actors).into_values() {
            slot.actor.stop(None);
        }
    }
}

impl Judging<'_> {
    fn look(&mut self, row: HoldAsked) {
        let (attempt, valid_until) = (self.holds.attempt(&row), self.holds.valid_until);
        let hold = Hold { attempt, sku: row.sku, quantity: row.quantity, valid_until };
        let through_actor = !self.skus.actors.is_empty() && self.skus.actors.contains_key(&hold.sku);
        let decision =
            if through_actor { HoldDecision::Wait } else { decide(self.machine, self.lease, &mut self.accounts, &hold) };
        self.decided.push((decision, hold));
    }

    /// All holds of an attempt have been looked at. They go with the others, unless one of them has to wait.
    fn end_of_attempt(&mut self) {
        let waits = self.decided.iter().any(|(decision, _)| *decision == HoldDecision::Wait);
        if waits || self.decided.len() > self.skus.most {
            self.apart();
        } else {
            self.together();
        }
    }

    fn together(&mut self) {
        if self.ticket.len() + self.decided.len() > self.skus.most {
            self.complete();
        }
        for (decision, hold) in self.decided.drain(..) {
            if let HoldDecision::Answer(result) = decision {
                self.ticket.knows(result);
                continue;
            }
            self.ticket.waits(&hold.sku, hold.quantity.0);
            let AttemptId { slot, counter, .. } = hold.attempt;
            self.holds.rows.push(HoldAsked { slot, counter, sku: hold.sku, quantity: hold.quantity });
        }
    }

    /// Each of them is a matter of its own. They are still answered together.
    fn apart(&mut self) {
        let from = self.ticket.len();
        let sinks = self.sink.take(from..from + self.decided.len()).each();
        for ((decision, hold), sink) in self.decided.drain(..).zip(sinks) {
            match decision {
                HoldDecision::Answer(result) => sink.send_all(&result, &mut self.landings),
                HoldDecision::ToLog => self.to_log.push(hold_command(&self.skus.accounts, Wanted { hold, sink })),
                HoldDecision::Wait => self.waiting.push(Wanted { hold, sink }),
            }
        }
    }

    /// What has been looked at fills a command.
    fn complete(&mut self) {
        let sink = self.sink.take(0..self.ticket.len());
        let holds = Holds { rows: std::mem::take(&mut self.holds.rows), ..self.holds };
        let ticket = std::mem::replace(&mut self.ticket, HoldTicket::new(&self.skus.accounts, 0));
        self.to_log.extend(command(holds, ticket, sink, &mut self.landings));
    }

    fn finish(self) -> (Vec<Wanted>, Vec<(Command, Reply)>) {
        let Self { holds, ticket, sink, mut to_log, waiting, mut landings, .. } = self;
        to_log.extend(command(holds, ticket, sink, &mut landings));
        (waiting, to_log)
    }
}

/// What the log is asked for holds that are answered together; nothing where memory has answered all of them.
fn command(holds: Holds, mut ticket: HoldTicket, sink: HoldSink, landings: &mut Landings) -> Option<(Command, Reply)> {
    ticket.answers(sink);
    if holds.rows.is_empty() {
        ticket.send(landings);
        return None;
    }
    Some((Command::Holds(holds), Reply::Hold(ticket)))
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

//! What becomes of a hold: "sold out" is answered from memory under the leader's lease, without a log entry; else the log
//! decides (protocol.md, rules 9 and 12). And the actor of a SKU that is short of units, in which holds wait until those
//! under way have settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ordergrid_domain::command::Hold;
use ordergrid_domain::machine::{Lookup, ShardMachine};
use ordergrid_domain::{AttemptId, Command, Quantity, Rejection, SkuId, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::{HoldPart, HoldResult};
use super::landings::Landings;
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Account, HoldTicket};
use crate::metrics;

/// What a SKU's actor is told.
pub(crate) enum SkuMessage {
    /// Hold units.
    Hold(Wanted),
    /// The account has settled: those who waited may try again.
    Settled,
}

/// A hold that somebody wants.
pub(crate) struct Wanted {
    pub(crate) attempt: AttemptId,
    pub(crate) quantity: Quantity,
    pub(crate) valid_until: Timestamp,
    pub(crate) part: HoldPart,
}

/// The behaviour; everything that changes is in [`SkuState`].
pub(crate) struct SkuActor;

/// What is under way for one SKU.
pub(crate) struct SkuState {
    sku: SkuId,
    lead: Arc<Lead>,
    account: Arc<Account>,
    parked: VecDeque<Wanted>,
}

impl Actor for SkuActor {
    type Msg = SkuMessage;
    type State = SkuState;
    type Arguments = (SkuId, Arc<Lead>, Arc<Account>);

    async fn pre_start(
        &self,
        myself: ActorRef<SkuMessage>,
        (sku, lead, account): Self::Arguments,
    ) -> Result<SkuState, ActorProcessingErr> {
        account.settles_to(myself);
        Ok(SkuState { sku, lead, account, parked: VecDeque::new() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<SkuMessage>,
        message: SkuMessage,
        state: &mut SkuState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SkuMessage::Hold(wanted) => state.hold(wanted),
            SkuMessage::Settled => state.retry_parked(),
        }
        Ok(())
    }
}

/// What memory says about a hold that is wanted.
pub(super) enum Verdict {
    /// Known without the log.
    Answer(HoldResult),
    /// The log decides.
    Ask,
    /// Units under way may yet vanish: wait for them.
    Wait,
}

/// Memory first: an attempt that holds already, then sold out. Without a lease, which was checked after the request
/// arrived, memory may be old, and the log decides.
///
/// A hold that has been applied may still count as under way here, for its ticket goes a moment later: that makes a hold
/// wait, never pass.
pub(super) fn judge(machine: &ShardMachine, lease: bool, sku: &SkuId, account: &Account, wanted: &Wanted) -> Verdict {
    let under_way = account.units.load(Ordering::Acquire);
    if machine.may_know(wanted.attempt, sku, wanted.valid_until) {
        // Rule 9: the machine tells repeats and tombstones apart.
        return Verdict::Ask;
    }
    let Lookup::Found(available) = machine.available_units(sku) else { return Verdict::Ask };
    if !lease {
        return Verdict::Ask;
    }
    if wanted.quantity > available {
        metrics::sold_out_from_memory().increment(1);
        return Verdict::Answer(HoldResult::Refused(Rejection::OutOfStock {
            sku: sku.clone(),
            asked: wanted.quantity,
            available,
        }));
    }
    if under_way > 0 && wanted.quantity.0.saturating_add(under_way) > available.0 {
        return Verdict::Wait;
    }
    Verdict::Ask
}

/// The command for the log, with the ticket that settles the account.
pub(super) fn ask(sku: &SkuId, account: &Arc<Account>, wanted: Wanted) -> (Command, Reply) {
    let Wanted { attempt, quantity, valid_until, part } = wanted;
    account.units.fetch_add(quantity.0, Ordering::AcqRel);
    let ticket = HoldTicket { units: quantity.0, account: Arc::clone(account), part: Some(part) };
    let hold = Hold { attempt, sku: sku.clone(), quantity, valid_until };
    (Command::Hold(hold), Reply::Hold(ticket))
}

impl SkuState {
    fn hold(&mut self, wanted: Wanted) {
        let lease = self.lead.group.has_lease();
        let verdict = judge(&self.lead.replica.machine(), lease, &self.sku, &self.account, &wanted);
        match verdict {
            Verdict::Answer(result) => wanted.part.answer(result, &mut Landings::default()),
            Verdict::Ask => {
                let (command, reply) = ask(&self.sku, &self.account, wanted);
                self.lead.batcher.propose(command, reply);
            }
            Verdict::Wait => self.park(wanted),
        }
    }

    fn park(&mut self, wanted: Wanted) {
        if self.parked.len() >= self.lead.limits.parked_per_sku {
            metrics::sku_refused();
            wanted.part.answer(HoldResult::Overloaded, &mut Landings::default());
            return;
        }
        self.parked.push_back(wanted);
        self.account.parked.store(true, Ordering::Release);
        // The account may have settled between the look and the flag.
        if self.account.units.load(Ordering::Acquire) == 0 {
            self.retry_parked();
        }
    }

    fn retry_parked(&mut self) {
        self.account.parked.store(false, Ordering::Release);
        for wanted in std::mem::take(&mut self.parked) {
            self.hold(wanted);
        }
    }
}

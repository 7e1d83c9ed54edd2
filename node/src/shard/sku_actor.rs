//! One actor per SKU with traffic: it keeps account of the holds it has asked the log for, and answers "sold out" from
//! memory under the leader's lease, without a log entry (placing.md, rules 9 and 12).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ordergrid_domain::command::Hold;
use ordergrid_domain::machine::Lookup;
use ordergrid_domain::{AttemptId, Command, Quantity, Rejection, SkuId, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::{HoldPart, HoldResult};
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
    type Arguments = (SkuId, Arc<Lead>);

    async fn pre_start(
        &self,
        _myself: ActorRef<SkuMessage>,
        (sku, lead): Self::Arguments,
    ) -> Result<SkuState, ActorProcessingErr> {
        Ok(SkuState { sku, lead, account: Arc::default(), parked: VecDeque::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<SkuMessage>,
        message: SkuMessage,
        state: &mut SkuState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SkuMessage::Hold(wanted) => state.hold(wanted, &myself),
            SkuMessage::Settled => state.retry_parked(&myself),
        }
        Ok(())
    }
}

/// What memory says about a hold that is wanted.
enum Verdict {
    /// Known without the log.
    Answer(HoldResult),
    /// The log decides.
    Ask,
    /// Units under way may yet vanish: wait for them.
    Wait,
}

impl SkuState {
    fn hold(&mut self, wanted: Wanted, myself: &ActorRef<SkuMessage>) {
        match self.judge(&wanted) {
            Verdict::Answer(result) => wanted.part.answer(result),
            Verdict::Ask => self.ask(wanted, myself),
            Verdict::Wait => self.park(wanted, myself),
        }
    }

    /// Memory first: an attempt that holds already, then sold out. Without a lease memory may be old, and the log
    /// decides.
    fn judge(&self, wanted: &Wanted) -> Verdict {
        let under_way = self.account.units.load(Ordering::Acquire);
        let lease = self.lead.group.has_lease();
        let machine = self.lead.replica.machine();
        if machine.may_know(wanted.attempt, &self.sku, wanted.valid_until) {
            // Rule 9: the machine tells repeats and tombstones apart.
            return Verdict::Ask;
        }
        let Lookup::Found(stock) = machine.available(&self.sku) else { return Verdict::Ask };
        if !lease {
            return Verdict::Ask;
        }
        if wanted.quantity > stock.available {
            metrics::sold_out_from_memory();
            return Verdict::Answer(HoldResult::Refused(Rejection::OutOfStock {
                sku: self.sku.clone(),
                asked: wanted.quantity,
                available: stock.available,
            }));
        }
        if under_way > 0 && wanted.quantity.0.saturating_add(under_way) > stock.available.0 {
            return Verdict::Wait;
        }
        Verdict::Ask
    }

    fn ask(&mut self, wanted: Wanted, myself: &ActorRef<SkuMessage>) {
        let Wanted { attempt, quantity, valid_until, part } = wanted;
        self.account.units.fetch_add(quantity.0, Ordering::AcqRel);
        let ticket =
            HoldTicket { units: quantity.0, account: Arc::clone(&self.account), sku: myself.clone(), part: Some(part) };
        let hold = Hold { attempt, sku: self.sku.clone(), quantity, valid_until };
        self.lead.batcher.propose(Command::Hold(hold), Reply::Hold(ticket));
    }

    fn park(&mut self, wanted: Wanted, myself: &ActorRef<SkuMessage>) {
        if self.parked.len() >= self.lead.limits.parked_per_sku {
            metrics::sku_refused();
            wanted.part.answer(HoldResult::Overloaded);
            return;
        }
        self.parked.push_back(wanted);
        self.account.parked.store(true, Ordering::Release);
        // The account may have settled between the look and the flag.
        if self.account.units.load(Ordering::Acquire) == 0 {
            self.retry_parked(myself);
        }
    }

    fn retry_parked(&mut self, myself: &ActorRef<SkuMessage>) {
        self.account.parked.store(false, Ordering::Release);
        for wanted in std::mem::take(&mut self.parked) {
            self.hold(wanted, myself);
        }
    }
}

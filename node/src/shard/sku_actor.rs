//! The actor of a SKU that is short of units, in which holds wait until those under way have settled; and what a hold that is
//! wanted becomes: an answer from memory, or a command for the log (protocol.md, rules 9 and 12).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ordergrid_domain::Command;
use ordergrid_domain::command::Hold;
use ordergrid_domain::machine::ShardMachine;
use ordergrid_domain::placing::{self, HoldDecision, HoldResult};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::HoldPart;
use super::landings::Landings;
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Account, HoldTicket};
use crate::telemetry::metrics;

/// What a SKU's actor is told.
pub(crate) enum SkuMessage {
    /// Hold units.
    Hold(Wanted),
    /// The account has settled: those who waited may try again.
    Settled,
}

/// A hold that somebody wants.
pub(crate) struct Wanted {
    pub(crate) hold: Hold,
    pub(crate) part: HoldPart,
}

/// The behaviour; everything that changes is in [`SkuState`].
pub(crate) struct SkuActor;

/// What is under way for one SKU.
pub(crate) struct SkuState {
    lead: Arc<Lead>,
    account: Arc<Account>,
    parked: VecDeque<Wanted>,
}

impl Actor for SkuActor {
    type Msg = SkuMessage;
    type State = SkuState;
    type Arguments = (Arc<Lead>, Arc<Account>);

    async fn pre_start(
        &self,
        myself: ActorRef<SkuMessage>,
        (lead, account): Self::Arguments,
    ) -> Result<SkuState, ActorProcessingErr> {
        account.settles_to(myself);
        Ok(SkuState { lead, account, parked: VecDeque::new() })
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
pub(super) fn decide(machine: &ShardMachine, lease: bool, account: &Account, wanted: &Wanted) -> HoldDecision {
    let decision = placing::judge(machine, lease, account.units.load(Ordering::Acquire), &wanted.hold);
    if matches!(decision, HoldDecision::Answer(_)) {
        metrics::sold_out_from_memory().increment(1);
    }
    decision
}

/// The command for the log, with the ticket that settles the account.
pub(super) fn hold_command(account: &Arc<Account>, wanted: Wanted) -> (Command, Reply) {
    let Wanted { hold, part } = wanted;
    account.units.fetch_add(hold.quantity.0, Ordering::AcqRel);
    let ticket = HoldTicket { units: hold.quantity.0, account: Arc::clone(account), part: Some(part) };
    (Command::Hold(hold), Reply::Hold(ticket))
}

impl SkuState {
    fn hold(&mut self, wanted: Wanted) {
        let lease = self.lead.group.has_lease();
        let decision = decide(&self.lead.replica.machine(), lease, &self.account, &wanted);
        match decision {
            HoldDecision::Answer(result) => wanted.part.answer(result, &mut Landings::default()),
            HoldDecision::ToLog => {
                let (command, reply) = hold_command(&self.account, wanted);
                self.lead.batcher.propose(command, reply);
            }
            HoldDecision::Wait => self.park(wanted),
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

//! The actor of a SKU that is short of units, in which holds wait until those under way have settled; and what a hold that is
//! wanted becomes: an answer from memory, or a command for the log (protocol.md, rules 9 and 12).

use std::collections::VecDeque;
use std::sync::Arc;

use ordergrid_domain::Command;
use ordergrid_domain::command::Hold;
use ordergrid_domain::machine::ShardMachine;
use ordergrid_domain::placing::{self, HoldDecision, HoldResult};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::HoldSink;
use super::landings::Landings;
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Accounts, HoldTicket, OpenAccounts};
use crate::telemetry::metrics;

/// What a SKU's actor is told.
pub(crate) enum SkuMessage {
    /// Hold units.
    Hold(Wanted),
    /// The account has settled: those who waited may try again.
    Settled,
}

/// A hold that somebody wants, and that is answered by itself.
pub(crate) struct Wanted {
    pub(crate) hold: Hold,
    pub(crate) sink: HoldSink,
}

/// The behaviour; everything that changes is in [`SkuState`].
pub(crate) struct SkuActor;

/// What is under way for one SKU.
pub(crate) struct SkuState {
    lead: Arc<Lead>,
    accounts: Arc<Accounts>,
    myself: ActorRef<SkuMessage>,
    parked: VecDeque<Wanted>,
}

impl Actor for SkuActor {
    type Msg = SkuMessage;
    type State = SkuState;
    type Arguments = (Arc<Lead>, Arc<Accounts>);

    async fn pre_start(
        &self,
        myself: ActorRef<SkuMessage>,
        (lead, accounts): Self::Arguments,
    ) -> Result<SkuState, ActorProcessingErr> {
        Ok(SkuState { lead, accounts, myself, parked: VecDeque::new() })
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

/// What memory says about a hold that is wanted. One for the log is counted as under way.
pub(super) fn decide(machine: &ShardMachine, lease: bool, accounts: &mut OpenAccounts, hold: &Hold) -> HoldDecision {
    // More units than are under way of this SKU can make a hold wait, never pass: mostly all together are few enough.
    let decision = match placing::judge(machine, lease, accounts.total(), hold) {
        HoldDecision::Wait => placing::judge(machine, lease, accounts.units(&hold.sku), hold),
        decision => decision,
    };
    match decision {
        HoldDecision::Answer(_) => metrics::sold_out_from_memory().increment(1),
        HoldDecision::ToLog => accounts.begin(&hold.sku, hold.quantity.0),
        HoldDecision::Wait => {}
    }
    decision
}

/// The command for the log that was decided for one hold, with the ticket that settles its account.
pub(super) fn hold_command(accounts: &Arc<Accounts>, wanted: Wanted) -> (Command, Reply) {
    let Wanted { hold, sink } = wanted;
    let mut ticket = HoldTicket::new(accounts, 1);
    ticket.waits(&hold.sku, hold.quantity.0);
    ticket.answers(sink);
    (Command::Hold(hold), Reply::Hold(ticket))
}

impl SkuState {
    fn hold(&mut self, wanted: Wanted) {
        let lease = self.lead.group.has_lease();
        let decision = decide(&self.lead.replica.machine(), lease, &mut self.accounts.open(), &wanted.hold);
        match decision {
            HoldDecision::Answer(result) => wanted.sink.send_all(&result, &mut Landings::default()),
            HoldDecision::ToLog => {
                let (command, reply) = hold_command(&self.accounts, wanted);
                self.lead.batcher.propose(command, reply);
            }
            HoldDecision::Wait => self.park(wanted),
        }
    }

    fn park(&mut self, wanted: Wanted) {
        if self.parked.len() >= self.lead.limits.parked_per_sku {
            metrics::sku_refused();
            wanted.sink.send_all(&HoldResult::Overloaded, &mut Landings::default());
            return;
        }
        let settled = {
            let mut accounts = self.accounts.open();
            // The account may have settled since the look.
            let settled = accounts.units(&wanted.hold.sku) == 0;
            if !settled {
                accounts.park(&wanted.hold.sku, self.myself.clone());
            }
            settled
        };
        self.parked.push_back(wanted);
        if settled {
            self.retry_parked();
        }
    }

    fn retry_parked(&mut self) {
        if let Some(first) = self.parked.front() {
            self.accounts.open().unpark(&first.hold.sku);
        }
        for wanted in std::mem::take(&mut self.parked) {
            self.hold(wanted);
        }
    }
}

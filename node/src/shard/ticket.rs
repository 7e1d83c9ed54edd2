//! A hold under way. Its ticket belongs to its command from the proposal on, so that the SKU's account is settled whatever
//! became of the actor that proposed it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ordergrid_domain::Outcome;
use ordergrid_domain::placing::{HoldResult, NotLanded};
use ractor::ActorRef;

use super::holds::HoldPart;
use super::landings::Landings;
use super::sku_actor::SkuMessage;

/// What has been asked of the log for a SKU and not been heard of.
#[derive(Default)]
pub(crate) struct Account {
    /// Units in holds under way.
    pub(crate) units: AtomicU64,
    /// Somebody waits for the account to settle.
    pub(crate) parked: AtomicBool,
    /// In which somebody may wait.
    actor: OnceLock<ActorRef<SkuMessage>>,
}

impl Account {
    /// From now on the SKU's actor is told when the account changes while somebody waits.
    pub(crate) fn settles_to(&self, actor: ActorRef<SkuMessage>) {
        assert!(self.actor.set(actor).is_ok(), "an account has one actor");
    }

    /// Something is under way.
    pub(crate) fn is_open(&self) -> bool {
        self.units.load(Ordering::Acquire) > 0 || self.parked.load(Ordering::Acquire)
    }
}

/// A hold under way. Dropped in any way, it settles the account.
pub(crate) struct HoldTicket {
    pub(crate) units: u64,
    pub(crate) account: Arc<Account>,
    pub(crate) part: Option<HoldPart>,
}

impl HoldTicket {
    pub(crate) fn land(mut self, outcome: Outcome, landings: &mut Landings) {
        self.settle(HoldResult::landed(outcome), landings);
    }

    pub(crate) fn fail(mut self, why: NotLanded, landings: &mut Landings) {
        self.settle(HoldResult::not_landed(why), landings);
    }

    fn settle(&mut self, result: HoldResult, landings: &mut Landings) {
        if let Some(part) = self.part.take() {
            part.answer(result, landings);
        }
    }
}

impl Drop for HoldTicket {
    fn drop(&mut self) {
        self.settle(HoldResult::Unknown, &mut Landings::default());
        self.account.units.fetch_sub(self.units, Ordering::AcqRel);
        if self.account.parked.load(Ordering::Acquire)
            && let Some(actor) = self.account.actor.get()
        {
            // An actor that is gone has dropped those who waited.
            actor.send_message(SkuMessage::Settled).ok();
        }
    }
}

//! Waiters that stand for more than a caller: an order being placed, and a hold.
//!
//! A ticket belongs to its command from the proposal on, so that what must happen afterwards (the key becomes free, the
//! SKU's account is settled) happens whatever became of the actor that proposed it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ordergrid_api::{Answer, Failure, Refusal, UnknownCause};
use ordergrid_cluster::EntryId;
use ordergrid_domain::{AttemptId, GroupId, Key, Outcome, Timestamp, UserId};
use ractor::ActorRef;

use super::callers::PlaceCaller;
use super::holds::{HoldPart, HoldResult};
use super::landings::{Ended, Landings};
use super::proposal::NotLanded;
use super::sku_actor::SkuMessage;
use super::{ShardMessage, answer};

/// An attempt that runs (protocol.md: from its first message until its place has been applied or can no longer be).
///
/// Dropped, it tells the shard's actor that the attempt has ended and its key is free, except when the outcome of its
/// place is unknown: then the attempt runs on until the term ends (rule 4).
pub(crate) struct Running {
    pub(crate) attempt: AttemptId,
    pub(crate) user: UserId,
    pub(crate) key: Key,
    pub(crate) shard: ActorRef<ShardMessage>,
    /// Its place was proposed and nothing has been heard.
    pub(crate) undecided: bool,
}

impl Running {
    /// The attempt ends, decided, and the shard's actor is told together with others.
    fn end(&mut self, landings: &mut Landings) {
        landings.ended(&self.shard, self.ended());
        // Its drop has nothing left to tell.
        self.undecided = true;
    }

    fn ended(&self) -> Ended {
        Ended { attempt: self.attempt, user: self.user.clone(), key: self.key.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.undecided {
            Landings::default().ended(&self.shard, self.ended());
        }
    }
}

/// The holds that an attempt has asked for, by shard: what a release has to reach (rule 8).
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// SKUs per shard.
    pub(crate) skus: Vec<(GroupId, Vec<ordergrid_domain::SkuId>)>,
    /// Until when the holds are valid: how long their tombstones stay.
    pub(crate) valid_until: Timestamp,
}

/// An order's place under way.
pub(crate) struct PlaceTicket {
    pub(crate) running: Running,
    pub(crate) asked: Asked,
    pub(crate) caller: PlaceCaller,
}

impl PlaceTicket {
    pub(crate) fn land(mut self, outcome: Outcome, at: EntryId, landings: &mut Landings) {
        let token = answer::token(self.running.attempt.group, at.index);
        let said = match outcome {
            Outcome::Placed { order, replayed } => Ok(Answer { replayed, ..Answer::new(order, token) }),
            Outcome::Rejected(rejection) => {
                self.release();
                Err(answer::refused_place(rejection))
            }
            other => unreachable!("a place is answered as placed or rejected, not {other:?}"),
        };
        self.running.end(landings);
        self.caller.send(said);
    }

    pub(crate) fn fail(mut self, why: NotLanded) {
        match why {
            NotLanded::NotAppended | NotLanded::TooLate => {
                self.running.undecided = false;
                self.release();
                let why = if why == NotLanded::TooLate { Refusal::Overloaded } else { Refusal::NoLeader };
                self.caller.send(Err(Failure::refused(why)));
            }
            NotLanded::Unknown => {
                // Rule 7: after a place was proposed, nothing is released.
                self.caller.send(Err(Failure::unknown(UnknownCause::LeaderChanged)));
            }
        }
    }

    fn release(&self) {
        let release = ShardMessage::GiveUp { attempt: self.running.attempt, asked: self.asked.clone() };
        // Without a shard's actor the SKUs will ask.
        self.running.shard.send_message(release).ok();
    }
}

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
        let result = match outcome {
            Outcome::Held { name } => HoldResult::Granted(name),
            Outcome::Rejected(rejection) => HoldResult::Refused(rejection),
            other => unreachable!("a hold is answered as held or rejected, not {other:?}"),
        };
        self.settle(result, landings);
    }

    pub(crate) fn fail(mut self, why: NotLanded, landings: &mut Landings) {
        let result = match why {
            NotLanded::NotAppended => HoldResult::NoLeader,
            NotLanded::TooLate => HoldResult::Overloaded,
            NotLanded::Unknown => HoldResult::Unknown,
        };
        self.settle(result, landings);
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

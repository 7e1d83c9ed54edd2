//! An order from the proposal of its place to the outcome: the commit point lies in between (rules 4, 7, 8).

use super::attempt::{AttemptOver, Front, Running, ShardHolds};
use super::effect::{NotPlaced, PlacedOrder};
use crate::command::{Outcome, Release};
use crate::ids::{AttemptId, GroupId};
use crate::time::Timestamp;

/// Why a command has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLanded {
    /// It never entered the log: nothing happened.
    NotAppended,
    /// It was to be begun by a time that has passed while it waited: nothing happened.
    TooLate,
    /// It may or may not take effect.
    Unknown,
}

/// What may be held for an attempt, by shard: what a release has to reach (rule 8).
pub(super) struct MayHold {
    /// SKUs per shard. A SKU that refused holds nothing, and is spared the log entry.
    pub(super) shards: Vec<ShardHolds>,
    /// Until when the holds are valid: how long their tombstones stay.
    pub(super) valid_until: Timestamp,
}

impl MayHold {
    pub(super) fn releases(self, attempt: AttemptId) -> impl Iterator<Item = (GroupId, Release)> {
        let valid_until = self.valid_until;
        let held = self.shards.into_iter().filter(|holds| !holds.items.is_empty());
        held.map(move |holds| {
            let skus = holds.items.into_iter().map(|(sku, _)| sku).collect();
            (holds.shard, Release { attempt, skus, valid_until })
        })
    }
}

/// An order whose place was proposed. Dropped, it leaves the attempt running, its key busy and its holds alone: nobody
/// knows whether the place will be applied.
pub struct Proposed<F: Front> {
    running: Running<F>,
    held: MayHold,
    caller: F::Caller,
}

/// What follows for a place: `A` is the answer.
pub struct Decided<F: Front, A> {
    /// Who waits.
    pub caller: F::Caller,
    /// What it is told.
    pub answer: A,
    /// The attempt is over; `None` when its outcome is not known, so that it runs on (rule 4).
    pub over: Option<Over<F>>,
}

/// The end of an attempt whose place was proposed.
pub struct Over<F: Front> {
    /// Tell this leader.
    pub front: F,
    /// Which attempt, and which key.
    pub over: AttemptOver,
    /// What to release, by shard.
    pub releases: Vec<(GroupId, Release)>,
}

impl<F: Front> Proposed<F> {
    pub(super) fn new(running: Running<F>, held: MayHold, caller: F::Caller) -> Self {
        Self { running: running.propose(), held, caller }
    }

    /// Which attempt it is.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        self.running.attempt()
    }

    /// Who waits.
    #[must_use]
    pub fn caller(&self) -> &F::Caller {
        &self.caller
    }

    /// The place was applied.
    ///
    /// # Panics
    /// The outcome is not that of a place.
    #[must_use]
    pub fn landed(self, outcome: Outcome) -> Decided<F, Result<PlacedOrder, NotPlaced>> {
        match outcome {
            Outcome::Placed { order, replayed } => self.end(Ok(PlacedOrder { order, replayed }), false),
            Outcome::Rejected(rejection) => self.end(Err(rejection.into()), true),
            other => unreachable!("a place is answered as placed or rejected, not {other:?}"),
        }
    }

    /// The place was not applied, as far as is known.
    #[must_use]
    pub fn not_landed(self, why: NotLanded) -> Decided<F, NotPlaced> {
        match why {
            NotLanded::NotAppended => self.end(NotPlaced::NoLeader, true),
            NotLanded::TooLate => self.end(NotPlaced::Overloaded, true),
            // Rule 7: after a place was proposed, nothing is released.
            NotLanded::Unknown => Decided { caller: self.caller, answer: NotPlaced::Unknown, over: None },
        }
    }

    fn end<A>(self, answer: A, release: bool) -> Decided<F, A> {
        let attempt = self.attempt();
        let releases = if release { self.held.releases(attempt).collect() } else { Vec::new() };
        let (front, over) = self.running.end();
        Decided { caller: self.caller, answer, over: Some(Over { front, over, releases }) }
    }
}

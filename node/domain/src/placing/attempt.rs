//! An attempt that runs, from its first message until its place was applied or can no longer be (rule 4).

use std::sync::Arc;

use super::effect::PlaceCall;
use super::holds::HoldResult;
use crate::command::OrderRequest;
use crate::ids::{AttemptId, GroupId, Key, SkuId, UserId};
use crate::money::Quantity;
use crate::time::Timestamp;

/// The way from an attempt back to its leader, and who waits for its answer.
pub trait Front: Clone {
    /// Who waits for an order. A caller that is dropped without an answer is told "unknown".
    type Caller;

    /// An attempt was lost before its place was proposed: tell [`Leader::over`](super::Leader::over).
    fn lost(&self, over: AttemptOver);
}

/// An attempt that is over. Its key is free now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOver {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Whose key.
    pub user: UserId,
    /// Which key.
    pub key: Key,
}

/// An attempt that runs. Dropped, it tells its leader that it is over, except when the outcome of its place is unknown:
/// then it runs on until the term ends, and its key stays busy (rule 4).
pub(super) struct Running<F: Front> {
    /// What is told when it is over, and to whom; taken when told.
    over: Option<(F, AttemptOver)>,
    /// Its place was proposed, and its outcome is not known.
    undecided: bool,
}

impl<F: Front> Running<F> {
    pub(super) fn new(attempt: AttemptId, user: UserId, key: Key, front: F) -> Self {
        Self { over: Some((front, AttemptOver { attempt, user, key })), undecided: false }
    }

    pub(super) fn attempt(&self) -> AttemptId {
        let (_, over) = self.over.as_ref().expect("an attempt that ends is used up");
        over.attempt
    }

    /// Its place is about to be proposed.
    pub(super) fn propose(mut self) -> Self {
        self.undecided = true;
        self
    }

    /// It is over, and the caller tells its leader.
    pub(super) fn end(mut self) -> (F, AttemptOver) {
        self.over.take().expect("an attempt ends once")
    }
}

impl<F: Front> Drop for Running<F> {
    fn drop(&mut self) {
        if let Some((front, over)) = self.over.take()
            && !self.undecided
        {
            front.lost(over);
        }
    }
}

/// An attempt that begins to ask for its holds. Hand it to [`Orders::start`](super::Orders::start).
pub struct Attempt<F: Front> {
    pub(super) request: Arc<OrderRequest>,
    pub(super) running: Running<F>,
    pub(super) caller: F::Caller,
    /// What to hold where, in the order of the shards.
    pub(super) wanted: Vec<ShardHolds>,
    pub(super) valid_until: Timestamp,
    pub(super) renewals: u8,
}

/// What an attempt needs of one shard, and how far that is.
pub(super) struct ShardHolds {
    pub(super) shard: GroupId,
    /// SKUs, and how many units of each; once what the shard said stands, those that may be held (rule 8).
    pub(super) items: Vec<(SkuId, Quantity)>,
    pub(super) state: AskState,
    /// An answer was lost: whatever the shard says later, something may be held there.
    pub(super) unheard: bool,
}

/// Whether a shard has answered.
pub(super) enum AskState {
    /// It is asked.
    Awaited,
    /// It could not be reached, and this is known of its holds; it is to be asked again.
    Lost(Vec<HoldResult>),
    /// What it said stands.
    Settled,
}

impl<F: Front> Attempt<F> {
    /// Which attempt it is.
    #[must_use]
    pub fn id(&self) -> AttemptId {
        self.running.attempt()
    }

    /// Ends it, and asks for the same once more with a valid-until counted from `now` (rule 11).
    pub(super) fn renew(self, now: Timestamp) -> (F, AttemptOver, PlaceCall<F::Caller>) {
        let (front, over) = self.running.end();
        let renewals = self.renewals.saturating_sub(1);
        (front, over, PlaceCall { request: self.request, caller: self.caller, base: Some(now), renewals })
    }
}

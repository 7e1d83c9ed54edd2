//! The way from an attempt back to its shard's actor, and what follows there from the outcome of a place.

use ordergrid_api::Answer;
use ordergrid_cluster::EntryId;
use ordergrid_domain::Outcome;
use ordergrid_domain::placing::{AttemptOver, Decided, Front, NotLanded, Over, Proposed};
use ractor::ActorRef;

use super::callers::PlaceCaller;
use super::landings::Landings;
use super::{ShardMessage, answer};

/// The actor of a led shard, as its attempts know it.
#[derive(Clone)]
pub(crate) struct FrontDoor(ActorRef<ShardMessage>);

impl Front for FrontDoor {
    type Caller = PlaceCaller;

    fn lost(&self, over: AttemptOver) {
        self.tell(ShardMessage::Over(vec![over]));
    }
}

impl FrontDoor {
    pub(super) fn new(shard: ActorRef<ShardMessage>) -> Self {
        Self(shard)
    }

    /// Tells the shard's actor something. One that is gone has taken the term's attempts with it: who waits is told so when the
    /// message is dropped, and the SKUs will ask.
    pub(super) fn tell(&self, message: ShardMessage) {
        self.0.send_message(message).ok();
    }

    /// The shard's actor is to hear that an attempt is over.
    pub(super) fn over(&self, over: AttemptOver, landings: &mut Landings) {
        landings.over(&self.0, over);
    }
}

/// A place was applied.
pub(super) fn landed(proposed: Proposed<FrontDoor>, outcome: Outcome, at: EntryId, landings: &mut Landings) {
    let token = answer::token(proposed.attempt().group, at.index);
    let Decided { caller, answer, over } = proposed.landed(outcome);
    settle(over, landings);
    caller.send(match answer {
        Ok(placed) => Ok(Answer { replayed: placed.replayed, ..Answer::new(placed.order, token) }),
        Err(why) => Err(answer::not_placed(why)),
    });
}

/// A place has no outcome.
pub(super) fn not_landed(proposed: Proposed<FrontDoor>, why: NotLanded, landings: &mut Landings) {
    let Decided { caller, answer, over } = proposed.not_landed(why);
    settle(over, landings);
    caller.send(Err(answer::not_placed(answer)));
}

fn settle(over: Option<Over<FrontDoor>>, landings: &mut Landings) {
    let Some(Over { front, over, releases }) = over else { return };
    if !releases.is_empty() {
        front.tell(ShardMessage::Release(releases));
    }
    front.over(over, landings);
}

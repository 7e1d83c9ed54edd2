//! What the outcomes of one entry, or the answers of one frame, tell the actors here: gathered, so that each actor is
//! woken once for all of them. Told when dropped.

use ordergrid_domain::{AttemptId, Key, UserId};
use ractor::{ActorId, ActorRef, Message};

use super::ShardMessage;
use super::order_actor::{Held, OrderMessage};

/// An attempt that is over, and the key that is free now.
pub(crate) struct Ended {
    pub(crate) attempt: AttemptId,
    pub(crate) user: UserId,
    pub(crate) key: Key,
}

/// Collects what is to be told.
#[derive(Default)]
pub(crate) struct Landings {
    held: Vec<(ActorRef<OrderMessage>, Vec<Held>)>,
    ended: Vec<(ActorRef<ShardMessage>, Vec<Ended>)>,
}

impl Landings {
    /// A shard has answered the holds of an attempt.
    pub(crate) fn held(&mut self, orders: ActorRef<OrderMessage>, held: Held) {
        add(&mut self.held, orders, held);
    }

    /// An attempt has ended.
    pub(crate) fn ended(&mut self, shard: &ActorRef<ShardMessage>, ended: Ended) {
        add(&mut self.ended, shard.clone(), ended);
    }
}

/// What one entry or frame tells goes to few actors, most of it to the last one added.
fn add<M: Message, T>(told: &mut Vec<(ActorRef<M>, Vec<T>)>, actor: ActorRef<M>, what: T) {
    let id: ActorId = actor.get_id();
    match told.iter_mut().rev().find(|(known, _)| known.get_id() == id) {
        Some((_, whats)) => whats.push(what),
        None => told.push((actor, vec![what])),
    }
}

impl Drop for Landings {
    fn drop(&mut self) {
        for (orders, held) in self.held.drain(..) {
            // An actor of orders that is gone has dropped its attempts; the SKUs will ask.
            orders.send_message(OrderMessage::Held(held)).ok();
        }
        for (shard, ended) in self.ended.drain(..) {
            // A shard's actor that is gone has taken the term's attempts with it.
            shard.send_message(ShardMessage::Ended(ended)).ok();
        }
    }
}

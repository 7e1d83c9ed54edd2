//! What the outcomes of one entry, or the answers of one frame, tell the actors here: gathered, so that each actor is
//! woken once for all of them. Told when dropped.

use ordergrid_domain::placing::{AttemptOver, Held};
use ractor::{ActorId, ActorRef, Message};

use super::ShardMessage;
use super::order_actor::OrderMessage;

/// What actors are to be told, each all of its own together.
type ToldTo<M, T> = Vec<(ActorRef<M>, Vec<T>)>;

/// Collects what is to be told.
#[derive(Default)]
pub(crate) struct Landings {
    held: ToldTo<OrderMessage, (u64, Held)>,
    over: ToldTo<ShardMessage, AttemptOver>,
}

impl Landings {
    /// A shard has answered holds of the orders with this number.
    pub(crate) fn held(&mut self, actor: ActorRef<OrderMessage>, orders: u64, held: Held) {
        add(&mut self.held, actor, (orders, held));
    }

    /// An attempt is over.
    pub(crate) fn over(&mut self, shard: &ActorRef<ShardMessage>, over: AttemptOver) {
        add(&mut self.over, shard.clone(), over);
    }
}

/// What one entry or frame tells goes to few actors, most of it to the last one added.
fn add<M: Message, T>(told: &mut ToldTo<M, T>, actor: ActorRef<M>, what: T) {
    let id: ActorId = actor.get_id();
    match told.iter_mut().rev().find(|(known, _)| known.get_id() == id) {
        Some((_, whats)) => whats.push(what),
        None => told.push((actor, vec![what])),
    }
}

impl Drop for Landings {
    fn drop(&mut self) {
        for (actor, held) in self.held.drain(..) {
            // An actor of orders that is gone has dropped its attempts; the SKUs will ask.
            actor.send_message(OrderMessage::Held(held)).ok();
        }
        for (shard, over) in self.over.drain(..) {
            // A shard's actor that is gone has taken the term's attempts with it.
            shard.send_message(ShardMessage::Over(over)).ok();
        }
    }
}

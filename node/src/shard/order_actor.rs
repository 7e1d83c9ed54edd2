//! One actor for the orders of a shard that came together and whose SKUs live in several shards: drives their [`Orders`].
//!
//! It holds no durable truth. Lost before the place was proposed, its attempts are over and the SKUs ask; afterwards what
//! was proposed answers in its stead.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::placing::{Attempt, Held, Orders, OrdersEffect};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::front_door::FrontDoor;
use super::holds::{HoldCaller, HoldSink};
use super::landings::Landings;
use super::lead::Lead;
use super::proposal::Reply;
use super::{ShardMessage, answer, refuse};

/// Pause before a shard that lost its leader is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// What an actor of orders is told.
pub(crate) enum OrderMessage {
    /// Shards have answered.
    Held(Vec<Held>),
    /// Ask those again that could not be reached.
    Again,
}

/// Orders whose holds are to be asked for.
pub(crate) struct NewOrders {
    pub(crate) lead: Arc<Lead>,
    pub(crate) attempts: Vec<Attempt<FrontDoor>>,
}

/// The behaviour; everything that changes is in [`OrdersState`].
pub(crate) struct OrderActor;

/// Orders being placed.
pub(crate) struct OrdersState {
    lead: Arc<Lead>,
    orders: Orders<FrontDoor>,
    started: Instant,
}

impl Actor for OrderActor {
    type Msg = OrderMessage;
    type State = OrdersState;
    type Arguments = NewOrders;

    async fn pre_start(&self, myself: ActorRef<OrderMessage>, new: NewOrders) -> Result<OrdersState, ActorProcessingErr> {
        let NewOrders { lead, attempts } = new;
        let mut effects = Vec::with_capacity(2 * attempts.len());
        let orders = Orders::start(attempts, lead.limits.hold_patience, &mut effects);
        carry_out(&lead, &myself, effects);
        Ok(OrdersState { lead, orders, started: Instant::now() })
    }

    async fn handle(
        &self,
        myself: ActorRef<OrderMessage>,
        message: OrderMessage,
        state: &mut OrdersState,
    ) -> Result<(), ActorProcessingErr> {
        let mut effects = Vec::new();
        match message {
            OrderMessage::Held(held) => state.orders.held(held, &mut effects),
            OrderMessage::Again => state.orders.ask_again(state.started.elapsed(), &mut effects),
        }
        carry_out(&state.lead, &myself, effects);
        if state.orders.is_empty() {
            myself.stop(None);
        }
        Ok(())
    }
}

/// Carries effects out. The places go to the log together, and the shard's actor is told once which attempts are over.
fn carry_out(lead: &Arc<Lead>, myself: &ActorRef<OrderMessage>, effects: Vec<OrdersEffect<FrontDoor>>) {
    let (mut places, mut landings) = (Vec::new(), Landings::default());
    for effect in effects {
        match effect {
            OrdersEffect::Hold { shard, holds } => {
                let sink = HoldSink::new(&holds, HoldCaller::Orders(myself.clone(), shard));
                lead.node.hold(shard, holds, sink);
            }
            OrdersEffect::AskAgain => drop(myself.send_after(AGAIN, || OrderMessage::Again)),
            OrdersEffect::Propose(command, proposed) => places.push((command, Reply::Place(proposed))),
            OrdersEffect::Release { shard, release } => lead.node.release(shard, release),
            OrdersEffect::Over(front, over) => front.over(over, &mut landings),
            OrdersEffect::Renew(front, over, call) => front.tell(ShardMessage::Renew { over, call }),
            OrdersEffect::Refuse { request, rejection, caller } => {
                refuse::after_barrier(Arc::clone(lead), request, rejection, caller);
            }
            OrdersEffect::Answer { caller, answer } => caller.send(Err(answer::not_placed(answer))),
        }
    }
    lead.batcher.propose_all(places);
}

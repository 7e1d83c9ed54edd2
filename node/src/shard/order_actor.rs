//! The actor of one term of one shard for its orders whose SKUs live in several shards: drives their [`Orders`].
//!
//! It holds no durable truth. Lost before the place was proposed, its attempts are over and the SKUs ask; afterwards what
//! was proposed answers in its stead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::Command;
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

/// What the actor is told. Orders that came together have a number.
pub(crate) enum OrderMessage {
    /// Orders are about to ask for their holds.
    Begin(u64, Orders<FrontDoor>),
    /// Shards have answered.
    Held(Vec<(u64, Held)>),
    /// Ask those again that could not be reached.
    Again(u64),
    /// No more orders begin: the term is over.
    Last,
}

/// The behaviour; everything that changes is in [`OrdersState`].
pub(crate) struct OrderActor;

/// Orders being placed.
pub(crate) struct OrdersState {
    lead: Arc<Lead>,
    waiting: BTreeMap<u64, WaitingOrders>,
    last: bool,
}

/// Orders that came together.
struct WaitingOrders {
    orders: Orders<FrontDoor>,
    started: Instant,
}

impl Actor for OrderActor {
    type Msg = OrderMessage;
    type State = OrdersState;
    type Arguments = Arc<Lead>;

    async fn pre_start(&self, _myself: ActorRef<OrderMessage>, lead: Arc<Lead>) -> Result<OrdersState, ActorProcessingErr> {
        Ok(OrdersState { lead, waiting: BTreeMap::new(), last: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<OrderMessage>,
        message: OrderMessage,
        state: &mut OrdersState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OrderMessage::Begin(number, orders) => {
                state.waiting.insert(number, WaitingOrders { orders, started: Instant::now() });
            }
            OrderMessage::Held(held) => state.hear(&myself, held, |it, held, effects| it.orders.held([held], effects)),
            OrderMessage::Again(number) => {
                state.hear(&myself, vec![(number, ())], |it, (), effects| it.orders.ask_again(it.started.elapsed(), effects));
            }
            OrderMessage::Last => state.last = true,
        }
        if state.last && state.waiting.is_empty() {
            myself.stop(None);
        }
        Ok(())
    }
}

impl OrdersState {
    /// Tells orders something, by their numbers, and carries out what follows for all of them.
    fn hear<T>(
        &mut self,
        myself: &ActorRef<OrderMessage>,
        told: Vec<(u64, T)>,
        tell: impl Fn(&mut WaitingOrders, T, &mut Vec<OrdersEffect<FrontDoor>>),
    ) {
        let (mut effects, mut follows) = (Vec::new(), Follows::default());
        for (number, what) in told {
            // Orders that are all decided wait for nobody.
            let Some(it) = self.waiting.get_mut(&number) else { continue };
            tell(it, what, &mut effects);
            if it.orders.is_empty() {
                self.waiting.remove(&number);
            }
            effects.drain(..).for_each(|effect| follows.carry_out(&self.lead, myself, number, effect));
        }
        follows.end(&self.lead);
    }
}

/// Begins orders: their actor waits for the answers, and shards are asked here.
pub(super) fn begin(lead: &Arc<Lead>, actor: &ActorRef<OrderMessage>, number: u64, attempts: Vec<Attempt<FrontDoor>>) {
    let mut effects = Vec::with_capacity(attempts.len());
    let orders = Orders::start(attempts, lead.limits.hold_patience, &mut effects);
    if actor.send_message(OrderMessage::Begin(number, orders)).is_err() {
        // It has failed just now. The attempts are over with the message, and nothing is held for them.
        return;
    }
    let mut follows = Follows::default();
    effects.into_iter().for_each(|effect| follows.carry_out(lead, actor, number, effect));
    follows.end(lead);
}

/// What effects come to together: places go to the log in one piece, and the shard's actor is told once which attempts are over.
#[derive(Default)]
struct Follows {
    places: Vec<(Command, Reply)>,
    landings: Landings,
}

impl Follows {
    fn carry_out(&mut self, lead: &Arc<Lead>, actor: &ActorRef<OrderMessage>, number: u64, effect: OrdersEffect<FrontDoor>) {
        match effect {
            OrdersEffect::Hold { shard, holds } => {
                let sink = HoldSink::new(&holds, HoldCaller::Orders(actor.clone(), number, shard));
                lead.node.hold(shard, holds, sink);
            }
            OrdersEffect::AskAgain => drop(actor.send_after(AGAIN, move || OrderMessage::Again(number))),
            OrdersEffect::Propose(command, proposed) => self.places.push((command, Reply::Place(proposed))),
            OrdersEffect::Release { shard, release } => lead.node.release(shard, release),
            OrdersEffect::Over(front, over) => front.over(over, &mut self.landings),
            OrdersEffect::Renew(front, over, call) => front.tell(ShardMessage::Renew { over, call }),
            OrdersEffect::Refuse { request, rejection, caller } => {
                refuse::after_barrier(Arc::clone(lead), request, rejection, caller);
            }
            OrdersEffect::Answer { caller, answer } => caller.send(Err(answer::not_placed(answer))),
        }
    }

    fn end(self, lead: &Lead) {
        lead.batcher.propose_all(self.places);
    }
}

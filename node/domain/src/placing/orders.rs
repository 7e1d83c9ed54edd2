//! Orders whose SKUs live in several shards, from their holds to a decision: place or give up, each by itself (rules 6 to 8,
//! 11, 13).
//!
//! They hold no durable truth. Lost before the place was proposed, their attempts are over and the SKUs ask.
//!
//! A hold whose shard has no leader just now, or whose answer was lost with a leader that went, is asked for again for a
//! while: the same attempt asks for the same units, so a hold that was granted unheard is found again (rule 9).

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::{AskState, Attempt, Front, ShardHolds};
use super::effect::{NotPlaced, OrdersEffect};
use super::holds::{Held, HoldRequest, HoldResult, expired, final_no, is_lost};
use super::proposed::{MayHold, Proposed};
use crate::command::{Command, Place};
use crate::ids::{AttemptId, GroupId, SkuId, Text};

/// Orders that came together and wait for their holds.
pub struct Orders<F: Front> {
    /// By the number of their attempt.
    orders: BTreeMap<u64, Holding<F>>,
    /// How long shards are asked again.
    patience: Duration,
    /// An [`OrdersEffect::AskAgain`] has not been answered yet.
    again: bool,
}

/// An order that waits for its holds.
struct Holding<F: Front> {
    attempt: Attempt<F>,
    /// Shards without a last answer.
    waiting: usize,
    names: BTreeMap<SkuId, Text>,
    refusals: Vec<HoldResult>,
    /// What is held or may be, by shard (rule 8).
    held: Vec<(GroupId, Vec<SkuId>)>,
}

impl<F: Front> Orders<F> {
    /// Asks for all holds of these attempts. Shards that cannot be reached are asked again for `patience`.
    #[must_use]
    pub fn start(attempts: Vec<Attempt<F>>, patience: Duration, effects: &mut Vec<OrdersEffect<F>>) -> Self {
        for attempt in &attempts {
            effects.extend(attempt.wanted.iter().map(|holds| ask(attempt, holds)));
        }
        let of = |attempt: Attempt<F>| (attempt.id().counter, Holding::new(attempt));
        Self { orders: attempts.into_iter().map(of).collect(), patience, again: false }
    }

    /// Shards have answered, or could not.
    pub fn held(&mut self, held: impl IntoIterator<Item = Held>, effects: &mut Vec<OrdersEffect<F>>) {
        for Held { attempt, shard, results } in held {
            let Some(order) = self.orders.get_mut(&attempt.counter) else { continue };
            order.heard(shard, results);
            self.decide_if_all_have_answered(attempt.counter, effects);
        }
        self.ask_again_later(effects);
    }

    /// Asks shards that could not be reached once more. Past the patience, counted from the start, or when the order cannot be
    /// placed anyway, what they said stands.
    pub fn ask_again(&mut self, since_start: Duration, effects: &mut Vec<OrdersEffect<F>>) {
        self.again = false;
        let late = since_start >= self.patience;
        for order in self.orders.values_mut() {
            order.ask_again(late, effects);
        }
        for counter in self.orders.keys().copied().collect::<Vec<_>>() {
            self.decide_if_all_have_answered(counter, effects);
        }
        self.ask_again_later(effects);
    }

    /// All have been decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Attempts that have not been decided.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        self.orders.values().map(|order| order.attempt.id())
    }

    fn ask_again_later(&mut self, effects: &mut Vec<OrdersEffect<F>>) {
        if !self.again && self.orders.values().any(Holding::is_lost) {
            self.again = true;
            effects.push(OrdersEffect::AskAgain);
        }
    }

    fn decide_if_all_have_answered(&mut self, counter: u64, effects: &mut Vec<OrdersEffect<F>>) {
        if self.orders.get(&counter).is_some_and(|order| order.waiting == 0)
            && let Some(order) = self.orders.remove(&counter)
        {
            order.decide(effects);
        }
    }
}

impl<F: Front> Holding<F> {
    fn new(attempt: Attempt<F>) -> Self {
        let waiting = attempt.wanted.len();
        Self { attempt, waiting, names: BTreeMap::new(), refusals: Vec::new(), held: Vec::new() }
    }

    fn is_lost(&self) -> bool {
        self.attempt.wanted.iter().any(|holds| matches!(holds.state, AskState::Lost(_)))
    }

    /// A shard has answered, or could not. An answer that nobody waits for changes nothing.
    fn heard(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        let awaited = |holds: &&mut ShardHolds| holds.shard == shard && matches!(holds.state, AskState::Awaited);
        let Some(holds) = self.attempt.wanted.iter_mut().find(awaited) else { return };
        if is_lost(&results) {
            holds.unheard |= results.contains(&HoldResult::Unknown);
            holds.state = AskState::Lost(results);
        } else {
            self.settle(shard, results);
        }
    }

    fn ask_again(&mut self, late: bool, effects: &mut Vec<OrdersEffect<F>>) {
        let ends = late || !self.refusals.is_empty();
        for at in 0..self.attempt.wanted.len() {
            let holds = &mut self.attempt.wanted[at];
            if !matches!(holds.state, AskState::Lost(_)) {
                continue;
            }
            let shard = holds.shard;
            let said = std::mem::replace(&mut holds.state, AskState::Awaited);
            match said {
                AskState::Lost(results) if ends => self.settle(shard, results),
                _ => effects.push(ask(&self.attempt, &self.attempt.wanted[at])),
            }
        }
    }

    /// What a shard said stands.
    fn settle(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        let Some(holds) = self.attempt.wanted.iter_mut().find(|holds| holds.shard == shard) else { return };
        holds.state = AskState::Settled;
        self.waiting -= 1;
        let mut held = Vec::new();
        // A result that is missing is unknown.
        let results = results.into_iter().chain(std::iter::repeat(HoldResult::Unknown));
        for ((sku, _), result) in holds.items.iter().zip(results) {
            if result.may_be_held(holds.unheard) {
                held.push(sku.clone());
            }
            match result {
                HoldResult::Granted(name) => drop(self.names.insert(sku.clone(), name)),
                other => self.refusals.push(other),
            }
        }
        if !held.is_empty() {
            self.held.push((shard, held));
        }
    }

    fn decide(self, effects: &mut Vec<OrdersEffect<F>>) {
        let Self { attempt, names, refusals, held, .. } = self;
        let held = MayHold { skus: held, valid_until: attempt.valid_until };
        if refusals.is_empty() {
            effects.push(place(attempt, held, &names));
            return;
        }
        let releases = held.releases(attempt.id());
        effects.extend(releases.map(|(shard, release)| OrdersEffect::Release { shard, release }));
        if let (Some(now), true) = (expired(&refusals), attempt.renewals > 0) {
            let (front, over, call) = attempt.renew(now);
            effects.push(OrdersEffect::Renew(front, over, call));
            return;
        }
        let Attempt { request, running, caller, .. } = attempt;
        let (front, over) = running.end();
        effects.push(OrdersEffect::Over(front, over));
        effects.push(match final_no(&refusals) {
            Some(rejection) => OrdersEffect::Refuse { request, rejection, caller },
            None => {
                let overloaded = refusals.iter().any(|result| matches!(result, HoldResult::Overloaded));
                // Rule 7: no place was proposed, so this is a refusal.
                let answer = if overloaded { NotPlaced::Overloaded } else { NotPlaced::HoldTimedOut };
                OrdersEffect::Answer { caller, answer }
            }
        });
    }
}

fn ask<F: Front>(attempt: &Attempt<F>, holds: &ShardHolds) -> OrdersEffect<F> {
    let request = HoldRequest { attempt: attempt.id(), valid_until: attempt.valid_until, items: holds.items.clone() };
    OrdersEffect::Hold { shard: holds.shard, request }
}

/// The commit point. From here on the proposal answers.
fn place<F: Front>(attempt: Attempt<F>, held: MayHold, names: &BTreeMap<SkuId, Text>) -> OrdersEffect<F> {
    let Attempt { request, running, caller, .. } = attempt;
    let names = request.lines.iter().map(|line| names[&line.sku].clone()).collect();
    let place = Place { attempt: running.attempt(), request, names };
    OrdersEffect::Propose(Command::Place(Box::new(place)), Proposed::new(running, held, caller))
}

//! Orders whose SKUs live in several shards, from their holds to a decision: place or give up, each by itself (rules 6 to 8,
//! 11, 13).
//!
//! They hold no durable truth. Lost before the place was proposed, their attempts are over and the SKUs ask.
//!
//! What orders that came together need of a shard is asked for together. A hold whose shard has no leader just now, or whose
//! answer was lost with a leader that went, is asked for again for a while: the same attempt asks for the same units, so a hold
//! that was granted unheard is found again (rule 9).

use std::collections::BTreeMap;
use std::time::Duration;

use super::attempt::{AskState, Attempt, Front, ShardHolds};
use super::effect::{NotPlaced, OrdersEffect};
use super::holds::{Held, HoldResult, expired, final_no, is_lost};
use super::proposed::{MayHold, Proposed};
use crate::command::{Command, HoldAsked, Holds, Place};
use crate::ids::{AttemptId, GroupId, SkuId, Text};
use crate::time::Timestamp;

/// Most holds that a shard is asked for together. All that an attempt needs of a shard are fewer, and stay together.
const TOGETHER: usize = 1_024;

/// Orders that came together and wait for their holds.
pub struct Orders<F: Front> {
    /// By the number of their attempt, in the order of numbers; without those that are decided.
    orders: Vec<(u64, Option<Holding<F>>)>,
    /// How many have not been decided.
    left: usize,
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
    /// What is held, with the names in the catalogue.
    names: Vec<(SkuId, Text)>,
    refusals: Vec<HoldResult>,
}

/// What is asked of each shard, gathered by valid-until.
#[derive(Default)]
struct Questions(BTreeMap<(GroupId, Timestamp), Vec<Holds>>);

impl Questions {
    fn add<F: Front>(&mut self, attempt: &Attempt<F>, holds: &ShardHolds) {
        let AttemptId { slot, group, term, counter } = attempt.id();
        let valid_until = attempt.valid_until;
        let asked = self.0.entry((holds.shard, valid_until)).or_default();
        if asked.last().is_none_or(|last| last.rows.len() + holds.items.len() > TOGETHER) {
            asked.push(Holds { group, term, valid_until, rows: Vec::new() });
        }
        let rows = holds.items.iter().map(|(sku, quantity)| HoldAsked { slot, counter, sku: sku.clone(), quantity: *quantity });
        asked.last_mut().expect("there is one with room").rows.extend(rows);
    }

    fn ask<F: Front>(self, effects: &mut Vec<OrdersEffect<F>>) {
        let all = self.0.into_iter().flat_map(|((shard, _), asked)| asked.into_iter().map(move |holds| (shard, holds)));
        effects.extend(all.map(|(shard, holds)| OrdersEffect::Hold { shard, holds }));
    }
}

impl<F: Front> Orders<F> {
    /// Asks for all holds of these attempts of one leader. Shards that cannot be reached are asked again for `patience`.
    #[must_use]
    pub fn start(attempts: Vec<Attempt<F>>, patience: Duration, effects: &mut Vec<OrdersEffect<F>>) -> Self {
        let mut questions = Questions::default();
        for attempt in &attempts {
            attempt.wanted.iter().for_each(|holds| questions.add(attempt, holds));
        }
        questions.ask(effects);
        let of = |attempt: Attempt<F>| (attempt.id().counter, Some(Holding::new(attempt)));
        let mut orders: Vec<_> = attempts.into_iter().map(of).collect();
        orders.sort_by_key(|(counter, _)| *counter);
        Self { left: orders.len(), orders, patience, again: false }
    }

    /// Shards have answered, or could not.
    pub fn held(&mut self, held: impl IntoIterator<Item = Held>, effects: &mut Vec<OrdersEffect<F>>) {
        for Held { shard, results } in held {
            for answer in results.chunk_by(|one, next| one.0 == next.0) {
                let Ok(at) = self.orders.binary_search_by_key(&answer[0].0, |(counter, _)| *counter) else { continue };
                let Some(order) = &mut self.orders[at].1 else { continue };
                order.heard(shard, answer);
                self.decide_if_all_have_answered(at, effects);
            }
        }
        self.ask_again_later(effects);
    }

    /// Asks shards that could not be reached once more. Past the patience, counted from the start, or when the order cannot be
    /// placed anyway, what they said stands.
    pub fn ask_again(&mut self, since_start: Duration, effects: &mut Vec<OrdersEffect<F>>) {
        self.again = false;
        let late = since_start >= self.patience;
        let mut questions = Questions::default();
        for order in self.orders.iter_mut().filter_map(|(_, order)| order.as_mut()) {
            order.ask_again(late, &mut questions);
        }
        questions.ask(effects);
        for at in 0..self.orders.len() {
            self.decide_if_all_have_answered(at, effects);
        }
        self.ask_again_later(effects);
    }

    /// All have been decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Attempts that have not been decided.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        self.orders.iter().filter_map(|(_, order)| order.as_ref()).map(|order| order.attempt.id())
    }

    fn ask_again_later(&mut self, effects: &mut Vec<OrdersEffect<F>>) {
        if !self.again && self.orders.iter().filter_map(|(_, order)| order.as_ref()).any(Holding::is_lost) {
            self.again = true;
            effects.push(OrdersEffect::AskAgain);
        }
    }

    fn decide_if_all_have_answered(&mut self, at: usize, effects: &mut Vec<OrdersEffect<F>>) {
        if let Some(order) = self.orders[at].1.take_if(|order| order.waiting == 0) {
            self.left -= 1;
            order.decide(effects);
        }
    }
}

impl<F: Front> Holding<F> {
    fn new(attempt: Attempt<F>) -> Self {
        let waiting = attempt.wanted.len();
        Self { attempt, waiting, names: Vec::new(), refusals: Vec::new() }
    }

    fn is_lost(&self) -> bool {
        self.attempt.wanted.iter().any(|holds| matches!(holds.state, AskState::Lost(_)))
    }

    /// A shard has answered, or could not. An answer that nobody waits for changes nothing.
    fn heard(&mut self, shard: GroupId, answer: &[(u64, HoldResult)]) {
        let awaited = |holds: &ShardHolds| holds.shard == shard && matches!(holds.state, AskState::Awaited);
        let Some(at) = self.attempt.wanted.iter().position(awaited) else { return };
        let results = answer.iter().map(|(_, result)| result);
        if is_lost(results.clone()) {
            let holds = &mut self.attempt.wanted[at];
            holds.unheard |= results.clone().any(|result| *result == HoldResult::Unknown);
            holds.state = AskState::Lost(results.cloned().collect());
        } else {
            self.settle(at, results.cloned());
        }
    }

    fn ask_again(&mut self, late: bool, questions: &mut Questions) {
        let ends = late || !self.refusals.is_empty();
        for at in 0..self.attempt.wanted.len() {
            let holds = &mut self.attempt.wanted[at];
            if !matches!(holds.state, AskState::Lost(_)) {
                continue;
            }
            let said = std::mem::replace(&mut holds.state, AskState::Awaited);
            match said {
                AskState::Lost(results) if ends => self.settle(at, results),
                _ => questions.add(&self.attempt, &self.attempt.wanted[at]),
            }
        }
    }

    /// What a shard said stands.
    fn settle(&mut self, at: usize, results: impl IntoIterator<Item = HoldResult>) {
        let holds = &mut self.attempt.wanted[at];
        holds.state = AskState::Settled;
        self.waiting -= 1;
        let unheard = holds.unheard;
        // A result that is missing is unknown.
        let mut results = results.into_iter().chain(std::iter::repeat(HoldResult::Unknown));
        holds.items.retain(|(sku, _)| {
            let result = results.next().expect("they have no end");
            let may_be_held = result.may_be_held(unheard);
            match result {
                HoldResult::Granted(name) => self.names.push((sku.clone(), name)),
                other => self.refusals.push(other),
            }
            may_be_held
        });
    }

    fn decide(self, effects: &mut Vec<OrdersEffect<F>>) {
        let Self { mut attempt, names, refusals, .. } = self;
        let held = MayHold { shards: std::mem::take(&mut attempt.wanted), valid_until: attempt.valid_until };
        if refusals.is_empty() {
            effects.push(place(attempt, held, names));
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

/// The commit point. From here on the proposal answers.
fn place<F: Front>(attempt: Attempt<F>, held: MayHold, mut names: Vec<(SkuId, Text)>) -> OrdersEffect<F> {
    let Attempt { request, running, caller, .. } = attempt;
    names.sort_unstable();
    let name = |sku: &SkuId| names.binary_search_by(|(of, _)| of.cmp(sku)).map(|at| names[at].1.clone());
    let names = request.lines.iter().map(|line| name(&line.sku).expect("every SKU of the order is held")).collect();
    let place = Place { attempt: running.attempt(), request, names };
    OrdersEffect::Propose(Command::Place(Box::new(place)), Proposed::new(running, held, caller))
}

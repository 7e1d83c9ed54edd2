//! What letters do where they arrive: a SKU's leader holds, releases and asks, an order's leader says what became of attempts,
//! streams are sent and applied.

use std::time::Duration;

use ordergrid_domain::command::{Deliver, Hold, Release};
use ordergrid_domain::machine::HoldView;
use ordergrid_domain::placing::{AttemptFate, HoldDecision, HoldRequest, HoldResult, Looked, judge};
use ordergrid_domain::{AttemptId, Command, GroupId, Lookup, Outcome, SkuId};

use crate::domain::Violation;
use crate::domain::workload::Mutant;
use crate::domain::world::{Back, Letter, World};

/// A SKU's leader asks about an attempt.
#[derive(Clone, Debug)]
pub struct Question {
    /// Index of the shard that asks.
    pub from: usize,
    /// Whose holds are tentative.
    pub attempt: AttemptId,
    /// At these SKUs.
    pub skus: Vec<SkuId>,
}

impl World {
    /// The SKUs' leader hears of holds. Some it answers from memory, the log decides the others (rules 9 and 12).
    ///
    /// # Errors
    /// A violation.
    pub fn hear_hold(&mut self, back: Back, call: u64, shard: GroupId, request: HoldRequest) -> Result<(), Violation> {
        let (to, lease) = (shard.0 as usize - 1, self.plan.lease);
        let HoldRequest { attempt, valid_until, items } = request;
        if self.faulty && self.dice.percent(3) {
            self.counts.note("hold met no leader");
            self.letters.push(Letter::Held(back, call, vec![HoldResult::NoLeader; items.len()]));
            return Ok(());
        }
        let mut results = Vec::new();
        for (sku, quantity) in items {
            let hold = Hold { attempt, sku, quantity, valid_until };
            // Whatever was proposed has been applied: no units are under way.
            results.push(match judge(&self.shards[to].plain, lease, 0, &hold) {
                HoldDecision::Answer(result) => {
                    self.counts.note("sold out from memory");
                    result
                }
                HoldDecision::ToLog => {
                    let outcome = self.apply(to, vec![Command::Hold(hold)])?.pop();
                    HoldResult::landed(outcome.expect("a command has an outcome"))
                }
                HoldDecision::Wait => return Err(Violation("a hold waits for units, and none are under way".into())),
            });
        }
        self.letters.push(Letter::Held(back, call, results));
        Ok(())
    }

    /// Rule 14: a SKU's leader asks about what has been tentative for long.
    pub fn ask_about_holds(&mut self, shard: usize) {
        if self.plan.mutant == Mutant::NeverAsks {
            return;
        }
        let now = self.clock(shard);
        for (attempt, skus) in self.shards[shard].plain.asks(now, Duration::from_secs(10), 100) {
            self.letters.push(Letter::Ask(Question { from: shard, attempt, skus }));
        }
    }

    /// The order's leader looks at its table first; the barrier takes a while.
    pub fn hear_ask(&mut self, question: Question) {
        let shard = self.home(question.attempt.slot);
        let it = &self.shards[shard];
        let looked = it.leader.leader().look(vec![question.attempt]);
        self.letters.push(Letter::Barrier(Back { shard, term: it.term }, looked, question));
    }

    /// The barrier is passed, unless the leader was deposed: it answers *gone*, or *later* by saying nothing.
    pub fn hear_barrier(&mut self, back: Back, looked: Looked, question: Question) {
        let it = &self.shards[back.shard];
        if it.term != back.term {
            return;
        }
        let Question { from, attempt, skus } = question;
        let placed = it.plain.placed(attempt).is_some();
        let wrongly = match self.plan.mutant {
            Mutant::GoneWhileRunning => !placed,
            Mutant::GoneWhilePlaced => placed,
            _ => false,
        };
        if wrongly || looked.fates(&it.plain).any(|fate| fate == AttemptFate::Gone) {
            self.letters.push(Letter::Gone(from, attempt, skus));
        } else {
            self.counts.note("ask answered later");
        }
    }

    /// The SKU's leader frees what is gone.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_gone(&mut self, shard: usize, attempt: AttemptId, skus: Vec<SkuId>) -> Result<(), Violation> {
        let machine = &self.shards[shard].plain;
        let tentative = |sku: &SkuId| matches!(machine.hold_of(attempt, sku), Lookup::Found(HoldView::Tentative(_)));
        if skus.iter().any(tentative) {
            self.counts.note("orphan hold asked and freed");
        }
        self.apply(shard, vec![Command::Gone(skus.into_iter().map(|sku| (attempt, sku)).collect())]).map(drop)
    }

    /// A release arrives.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_release(&mut self, shard: GroupId, release: Release) -> Result<(), Violation> {
        let to = shard.0 as usize - 1;
        let unknown = |sku: &SkuId| self.shards[to].plain.hold_of(release.attempt, sku) == Lookup::Absent;
        if release.skus.iter().any(unknown) {
            self.counts.note("unknown hold released");
        }
        self.apply(to, vec![Command::Release(release)]).map(drop)
    }

    /// Sends a run of one stream, from a number the source believes the destination to be at.
    pub fn send_run(&mut self, from: usize, to: usize) {
        let (source, target) = (&self.shards[from].plain, &self.shards[to].plain);
        let high = target.high(source.shard());
        let believed = if self.faulty { high.saturating_sub(self.dice.below(3)) + self.dice.below(2) } else { high };
        let limit = if self.faulty { 1 + self.dice.index(4) } else { usize::MAX };
        let trimmed = source.streams().find(|stream| stream.to == target.shard()).map_or(0, |stream| stream.trimmed);
        let first = believed.max(trimmed) + 1;
        match source.outbox(target.shard(), first, limit, usize::MAX) {
            Ok(Some(run)) => {
                if self.plan.mutant == Mutant::TrimsUnapplied {
                    let sent = run.first - 1 + run.messages.len() as u64;
                    self.letters.push(Letter::Applied(from, target.shard(), sent));
                }
                self.letters.push(Letter::Run(to, run));
            }
            // Everything was applied, and the answer that said so was lost: ask how far it is.
            Ok(None) if high > trimmed => self.letters.push(Letter::Applied(from, target.shard(), high)),
            Ok(None) | Err(_) => {}
        }
    }

    /// A run arrives; the source is told how far the destination is.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_run(&mut self, to: usize, run: Deliver) -> Result<(), Violation> {
        let from = run.from.0 as usize - 1;
        let group = self.shards[to].plain.shard();
        if let Some(Outcome::Delivered { high }) = self.apply(to, vec![Command::Deliver(run)])?.pop() {
            self.letters.push(Letter::Applied(from, group, high));
        }
        Ok(())
    }
}

//! What letters do where they arrive: a SKU's leader holds, releases and asks, an order's leader says what became of attempts,
//! streams are sent and applied.

use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_domain::command::{Deliver, HoldAsked, Holds, Release};
use ordergrid_domain::machine::HoldView;
use ordergrid_domain::placing::{AttemptFate, HoldDecision, HoldResult, Looked, judge};
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
    /// The SKUs' leader hears of holds. Some it answers from memory, the log decides the others together (rules 9 and 12).
    ///
    /// # Errors
    /// A violation.
    pub fn hear_hold(&mut self, back: Back, call: u64, shard: GroupId, holds: Holds) -> Result<(), Violation> {
        let (to, lease) = (shard.0 as usize - 1, self.plan.lease);
        if self.faulty && self.dice.percent(3) {
            self.counts.note("hold met no leader");
            self.letters.push(Letter::Held(back, call, vec![HoldResult::NoLeader; holds.rows.len()]));
            return Ok(());
        }
        let (mut results, mut to_log) = (Vec::new(), Vec::new());
        let mut under_way = BTreeMap::<_, u64>::new();
        for (hold, row) in holds.each().zip(&holds.rows) {
            let units = under_way.entry(hold.sku.clone()).or_default();
            match judge(&self.shards[to].plain, lease, *units, &hold) {
                HoldDecision::Answer(result) => {
                    self.counts.note("sold out from memory");
                    results.push(result);
                }
                HoldDecision::ToLog => {
                    *units += hold.quantity.0;
                    to_log.push((results.len(), row.clone()));
                    results.push(HoldResult::Unknown);
                }
                // It waits by itself until those before it have settled, which is at once here.
                HoldDecision::Wait => {
                    self.counts.note("hold waited for units under way");
                    self.hold_together(to, &holds, &mut to_log, &mut results)?;
                    under_way.clear();
                    results.push(match judge(&self.shards[to].plain, lease, 0, &hold) {
                        HoldDecision::Answer(result) => result,
                        HoldDecision::ToLog => {
                            let outcome = self.apply(to, vec![Command::Hold(hold)])?.pop();
                            HoldResult::landed(outcome.expect("a command has an outcome"))
                        }
                        HoldDecision::Wait => return Err(Violation("a hold waits for units, and none are under way".into())),
                    });
                }
            }
        }
        self.hold_together(to, &holds, &mut to_log, &mut results)?;
        self.letters.push(Letter::Held(back, call, results));
        Ok(())
    }

    /// Asks the log for holds that are answered together.
    fn hold_together(
        &mut self,
        to: usize,
        holds: &Holds,
        to_log: &mut Vec<(usize, HoldAsked)>,
        results: &mut [HoldResult],
    ) -> Result<(), Violation> {
        let (places, rows): (Vec<_>, Vec<_>) = to_log.drain(..).unzip();
        if rows.is_empty() {
            return Ok(());
        }
        let outcome = self.apply(to, vec![Command::Holds(Holds { rows, ..holds.clone() })])?.pop();
        let decided = HoldResult::landed_together(outcome.expect("a command has an outcome"));
        for (place, result) in places.into_iter().zip(decided) {
            results[place] = result;
        }
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

//! Who waits for holds that were asked for together: answered together, but for those that have to wait by themselves.

use std::ops::Range;
use std::sync::Arc;

use ordergrid_domain::GroupId;
use ordergrid_domain::command::Holds;
use ordergrid_domain::placing::{Held, HoldResult};
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::landings::Landings;
use super::order_actor::OrderMessage;

/// Where the answers to some holds go. Dropped unanswered, it answers "unknown" for each of them.
pub(crate) struct HoldSink {
    /// For each hold the number of its attempt.
    attempts: Vec<u64>,
    to: Option<HoldCaller>,
}

/// Who asked for holds.
pub(crate) enum HoldCaller {
    /// Orders of this process, by their actor and their number there, which asked this shard. They can hear of some attempts before
    /// the others.
    Orders(ActorRef<OrderMessage>, u64, GroupId),
    /// A task that answers another node, of all holds at once.
    Task(oneshot::Sender<Vec<HoldResult>>),
    /// Who asked for more holds, of which these are the ones in these places.
    PartOf(Arc<HoldGather>, Vec<usize>),
}

impl HoldSink {
    /// Answers these holds to `to`.
    pub(crate) fn new(holds: &Holds, to: HoldCaller) -> Self {
        Self { attempts: holds.rows.iter().map(|row| row.counter).collect(), to: Some(to) }
    }

    /// The same result for every hold.
    pub(crate) fn send_all(self, result: &HoldResult, landings: &mut Landings) {
        let results = vec![result.clone(); self.attempts.len()];
        self.send(results, landings);
    }

    /// One result per hold, in the order asked. An answer of another node that has fewer or more says nothing: its drop does.
    pub(crate) fn send(mut self, results: Vec<HoldResult>, landings: &mut Landings) {
        if results.len() == self.attempts.len() {
            self.put(results, landings);
        }
    }

    /// Takes all holds of some attempts out, which are answered apart from now on.
    pub(crate) fn take(&mut self, holds: Range<usize>) -> Self {
        let all = self.attempts.clone();
        let attempts = self.attempts.drain(holds.clone()).collect();
        let to = self.to.take().map(|to| {
            let (gather, mut places) = match to {
                HoldCaller::Orders(actor, number, shard) => {
                    self.to = Some(HoldCaller::Orders(actor.clone(), number, shard));
                    return HoldCaller::Orders(actor, number, shard);
                }
                HoldCaller::PartOf(gather, places) => (gather, places),
                to @ HoldCaller::Task(_) => {
                    let places = (0..all.len()).collect();
                    (HoldGather::new(Self { attempts: all, to: Some(to) }), places)
                }
            };
            let taken = places.drain(holds).collect();
            self.to = Some(HoldCaller::PartOf(Arc::clone(&gather), places));
            HoldCaller::PartOf(gather, taken)
        });
        Self { attempts, to }
    }

    /// One sink per hold. Their answers are gathered and told together.
    pub(crate) fn each(self) -> Vec<Self> {
        if self.attempts.len() == 1 {
            return vec![self];
        }
        let attempts = self.attempts.clone();
        let gather = HoldGather::new(self);
        let one =
            |(place, attempt)| Self { attempts: vec![attempt], to: Some(HoldCaller::PartOf(Arc::clone(&gather), vec![place])) };
        attempts.into_iter().enumerate().map(one).collect()
    }

    fn put(&mut self, results: Vec<HoldResult>, landings: &mut Landings) {
        match self.to.take() {
            Some(HoldCaller::Orders(actor, number, shard)) => {
                let results: Vec<_> = std::mem::take(&mut self.attempts).into_iter().zip(results).collect();
                if !results.is_empty() {
                    landings.held(actor, number, Held { shard, results });
                }
            }
            Some(HoldCaller::Task(caller)) => drop(caller.send(results)),
            Some(HoldCaller::PartOf(gather, places)) => gather.put(places.into_iter().zip(results), landings),
            None => {}
        }
    }
}

impl Drop for HoldSink {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.put(vec![HoldResult::Unknown; self.attempts.len()], &mut Landings::default());
        }
    }
}

/// Gathers the results of holds that are answered apart; the last one sends them all.
pub(crate) struct HoldGather(Mutex<GatheredHolds>);

struct GatheredHolds {
    left: usize,
    results: Vec<HoldResult>,
    sink: Option<HoldSink>,
}

impl HoldGather {
    fn new(sink: HoldSink) -> Arc<Self> {
        let left = sink.attempts.len();
        Arc::new(Self(Mutex::new(GatheredHolds { left, results: vec![HoldResult::Unknown; left], sink: Some(sink) })))
    }

    fn put(&self, results: impl Iterator<Item = (usize, HoldResult)>, landings: &mut Landings) {
        let mut gathered = self.0.lock();
        for (place, result) in results {
            gathered.results[place] = result;
            gathered.left -= 1;
        }
        if gathered.left == 0
            && let Some(sink) = gathered.sink.take()
        {
            sink.send(std::mem::take(&mut gathered.results), landings);
        }
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::command::HoldAsked;
    use ordergrid_domain::{Quantity, SkuId, Slot, Timestamp};

    use super::*;

    /// Holds of attempts with these numbers.
    fn sink(attempts: &[u64], to: HoldCaller) -> HoldSink {
        let (slot, sku) = (Slot::new(1).unwrap(), SkuId::new("A").unwrap());
        let one = |counter: &u64| HoldAsked { slot, counter: *counter, sku: sku.clone(), quantity: Quantity(1) };
        let valid_until = Timestamp::from_ms(0);
        let holds = Holds { group: GroupId(1), term: 1, valid_until, rows: attempts.iter().map(one).collect() };
        HoldSink::new(&holds, to)
    }

    #[tokio::test]
    async fn results_are_sent_together_in_the_order_asked() {
        let (caller, answer) = oneshot::channel();
        let mut landings = Landings::default();
        let mut sinks = sink(&[1, 1, 1], HoldCaller::Task(caller)).each();
        let last = sinks.pop().unwrap();
        let second = sinks.pop().unwrap();
        let first = sinks.pop().unwrap();
        last.send_all(&HoldResult::NoLeader, &mut landings);
        first.send_all(&HoldResult::Overloaded, &mut landings);
        // Lost on the way: nobody knows.
        drop(second);
        let expected = vec![HoldResult::Overloaded, HoldResult::Unknown, HoldResult::NoLeader];
        assert_eq!(answer.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn those_that_are_answered_apart_are_in_their_places() {
        let (caller, answer) = oneshot::channel();
        let mut landings = Landings::default();
        let mut rest = sink(&[1, 2, 2, 3, 4], HoldCaller::Task(caller));
        let twos = rest.take(1..3);
        let four = rest.take(2..3);
        twos.send(vec![HoldResult::NoLeader, HoldResult::Overloaded], &mut landings);
        rest.send(vec![HoldResult::Overloaded, HoldResult::NoLeader], &mut landings);
        drop(four);
        let expected = ["Overloaded", "NoLeader", "Overloaded", "NoLeader", "Unknown"];
        assert_eq!(answer.await.unwrap().iter().map(|result| format!("{result:?}")).collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn an_answer_that_has_fewer_or_more_results_than_holds_is_unknown() {
        for results in [0, 1, 3] {
            let (caller, answer) = oneshot::channel();
            let told = vec![HoldResult::NoLeader; results];
            sink(&[1, 2], HoldCaller::Task(caller)).send(told, &mut Landings::default());
            assert_eq!(answer.await, Ok(vec![HoldResult::Unknown; 2]), "{results} results of two holds");
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_took_is_unknown() {
        let (caller, answer) = oneshot::channel();
        drop(sink(&[1, 2], HoldCaller::Task(caller)));
        assert_eq!(answer.await.unwrap(), vec![HoldResult::Unknown; 2]);
    }
}

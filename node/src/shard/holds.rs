//! Who waits for the holds of one attempt in one shard: asked together, answered together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ordergrid_domain::placing::{Held, HoldResult};
use ordergrid_domain::{AttemptId, GroupId};
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::landings::Landings;
use super::order_actor::OrderMessage;

/// Where the answers of one request go. Dropped unanswered, it answers "unknown" for every hold.
pub(crate) struct HoldSink {
    count: usize,
    to: Option<HoldCaller>,
}

/// Who asked for holds.
pub(crate) enum HoldCaller {
    /// An actor of orders in this process, which asked this shard for an attempt.
    Orders(ActorRef<OrderMessage>, GroupId, AttemptId),
    /// A task that answers another node.
    Task(oneshot::Sender<Vec<HoldResult>>),
}

impl HoldSink {
    /// Answers `count` holds to `to`.
    pub(crate) fn new(count: usize, to: HoldCaller) -> Self {
        Self { count, to: Some(to) }
    }

    /// The same result for every hold.
    pub(crate) fn send_all(self, result: &HoldResult, landings: &mut Landings) {
        let results = vec![result.clone(); self.count];
        self.send(results, landings);
    }

    /// One result per hold, in the order asked. An answer of another node that has fewer or more says nothing: its drop does.
    pub(crate) fn send(mut self, results: Vec<HoldResult>, landings: &mut Landings) {
        if results.len() == self.count {
            self.put(results, landings);
        }
    }

    fn put(&mut self, results: Vec<HoldResult>, landings: &mut Landings) {
        match self.to.take() {
            Some(HoldCaller::Orders(actor, shard, attempt)) => landings.held(actor, Held { attempt, shard, results }),
            Some(HoldCaller::Task(caller)) => drop(caller.send(results)),
            None => {}
        }
    }
}

impl Drop for HoldSink {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.put(vec![HoldResult::Unknown; self.count], &mut Landings::default());
        }
    }
}

/// Gathers the results of one request; the last one sends them all.
struct HoldGather {
    left: AtomicUsize,
    results: Mutex<Vec<HoldResult>>,
    sink: Mutex<Option<HoldSink>>,
}

/// The right to answer one hold of a request. Dropped unanswered, it answers "unknown".
pub(crate) struct HoldPart(Part);

enum Part {
    /// The request's only hold.
    Only(HoldSink),
    /// One of several, by its place among them.
    OneOf(Arc<HoldGather>, usize),
    /// Answered.
    Done,
}

impl HoldPart {
    /// One part per item, each to be answered once.
    pub(crate) fn of(count: usize, sink: HoldSink) -> Vec<Self> {
        assert!(count > 0, "a hold request names at least one SKU");
        if count == 1 {
            return vec![Self(Part::Only(sink))];
        }
        let gather = Arc::new(HoldGather {
            left: AtomicUsize::new(count),
            results: Mutex::new(vec![HoldResult::Unknown; count]),
            sink: Mutex::new(Some(sink)),
        });
        (0..count).map(|index| Self(Part::OneOf(Arc::clone(&gather), index))).collect()
    }

    pub(crate) fn answer(mut self, result: HoldResult, landings: &mut Landings) {
        self.put(result, landings);
    }

    fn put(&mut self, result: HoldResult, landings: &mut Landings) {
        match std::mem::replace(&mut self.0, Part::Done) {
            Part::Only(sink) => sink.send(vec![result], landings),
            Part::OneOf(gather, index) => gather.put(index, result, landings),
            Part::Done => {}
        }
    }
}

impl HoldGather {
    fn put(&self, index: usize, result: HoldResult, landings: &mut Landings) {
        self.results.lock()[index] = result;
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let results = std::mem::take(&mut *self.results.lock());
            if let Some(sink) = self.sink.lock().take() {
                sink.send(results, landings);
            }
        }
    }
}

impl Drop for HoldPart {
    fn drop(&mut self) {
        if !matches!(self.0, Part::Done) {
            self.put(HoldResult::Unknown, &mut Landings::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_are_sent_together_in_the_order_asked() {
        let (caller, answer) = oneshot::channel();
        let mut landings = Landings::default();
        let mut parts = HoldPart::of(3, HoldSink::new(3, HoldCaller::Task(caller)));
        let last = parts.pop().unwrap();
        let second = parts.pop().unwrap();
        let first = parts.pop().unwrap();
        last.answer(HoldResult::NoLeader, &mut landings);
        first.answer(HoldResult::Overloaded, &mut landings);
        // Lost on the way: nobody knows.
        drop(second);
        let expected = vec![HoldResult::Overloaded, HoldResult::Unknown, HoldResult::NoLeader];
        assert_eq!(answer.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn an_answer_that_has_fewer_or_more_results_than_holds_is_unknown() {
        for results in [0, 1, 3] {
            let (caller, answer) = oneshot::channel();
            let told = vec![HoldResult::NoLeader; results];
            HoldSink::new(2, HoldCaller::Task(caller)).send(told, &mut Landings::default());
            assert_eq!(answer.await, Ok(vec![HoldResult::Unknown; 2]), "{results} results of two holds");
        }
    }

    #[tokio::test]
    async fn the_only_hold_of_a_request_is_answered_once_whatever_becomes_of_it() {
        for dropped in [false, true] {
            let (caller, answer) = oneshot::channel();
            let part = HoldPart::of(1, HoldSink::new(1, HoldCaller::Task(caller))).pop().unwrap();
            let expected = if dropped { HoldResult::Unknown } else { HoldResult::NoLeader };
            if dropped {
                drop(part)
            } else {
                part.answer(HoldResult::NoLeader, &mut Landings::default())
            }
            assert_eq!(answer.await.unwrap(), vec![expected]);
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_took_is_unknown() {
        let (caller, answer) = oneshot::channel();
        drop(HoldSink::new(2, HoldCaller::Task(caller)));
        assert_eq!(answer.await.unwrap(), vec![HoldResult::Unknown; 2]);
    }
}

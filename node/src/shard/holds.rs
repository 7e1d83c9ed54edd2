//! Holds of one attempt in one shard: asked together, answered together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bincode::{Decode, Encode};
use ordergrid_domain::{AttemptId, GroupId, Quantity, Rejection, SkuId, Text, Timestamp};
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::order_actor::OrderMessage;

/// Asks a shard to hold units of some of its SKUs for an attempt.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct HoldRequest {
    pub(crate) attempt: AttemptId,
    pub(crate) valid_until: Timestamp,
    pub(crate) items: Vec<(SkuId, Quantity)>,
}

/// What became of one hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum HoldResult {
    /// Held; the SKU's name in the catalogue.
    Granted(Text),
    /// A final no.
    Refused(Rejection),
    /// Nobody who could decide was reached: nothing was held.
    NoLeader,
    /// Too much is under way: nothing was held.
    Overloaded,
    /// It may be held or not; a release makes it certain.
    Unknown,
}

/// Where the answers of one request go. Dropped unanswered, it answers "unknown" for every hold.
pub(crate) struct HoldSink {
    count: usize,
    to: Option<HoldCaller>,
}

/// Who asked for holds.
pub(crate) enum HoldCaller {
    /// An order's actor in this process, which asked this shard.
    Order(ActorRef<OrderMessage>, GroupId),
    /// A task that answers another node.
    Task(oneshot::Sender<Vec<HoldResult>>),
}

impl HoldSink {
    /// Answers `count` holds to `to`.
    pub(crate) fn new(count: usize, to: HoldCaller) -> Self {
        Self { count, to: Some(to) }
    }

    /// The same result for every hold.
    pub(crate) fn send_all(self, result: &HoldResult) {
        let results = vec![result.clone(); self.count];
        self.send(results);
    }

    /// One result per hold, in the order asked.
    pub(crate) fn send(mut self, results: Vec<HoldResult>) {
        self.put(results);
    }

    fn put(&mut self, results: Vec<HoldResult>) {
        match self.to.take() {
            // An order's actor that is gone has dropped its attempt; the SKU will ask.
            Some(HoldCaller::Order(actor, shard)) => drop(actor.send_message(OrderMessage::Held { shard, results })),
            Some(HoldCaller::Task(caller)) => drop(caller.send(results)),
            None => {}
        }
    }
}

impl Drop for HoldSink {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.put(vec![HoldResult::Unknown; self.count]);
        }
    }
}

/// Gathers the results of one request; the last one sends them all.
pub(crate) struct HoldGather {
    left: AtomicUsize,
    results: Mutex<Vec<HoldResult>>,
    sink: Mutex<Option<HoldSink>>,
}

impl HoldGather {
    /// One part per item, each to be answered once.
    pub(crate) fn parts(count: usize, sink: HoldSink) -> Vec<HoldPart> {
        assert!(count > 0, "a hold request names at least one SKU");
        let gather = Arc::new(Self {
            left: AtomicUsize::new(count),
            results: Mutex::new(vec![HoldResult::Unknown; count]),
            sink: Mutex::new(Some(sink)),
        });
        (0..count).map(|index| HoldPart { gather: Arc::clone(&gather), index, answered: false }).collect()
    }
}

/// The right to answer one hold of a request. Dropped unanswered, it answers "unknown".
pub(crate) struct HoldPart {
    gather: Arc<HoldGather>,
    index: usize,
    answered: bool,
}

impl HoldPart {
    pub(crate) fn answer(mut self, result: HoldResult) {
        self.put(result);
    }

    fn put(&mut self, result: HoldResult) {
        self.answered = true;
        self.gather.results.lock()[self.index] = result;
        if self.gather.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let results = std::mem::take(&mut *self.gather.results.lock());
            if let Some(sink) = self.gather.sink.lock().take() {
                sink.send(results);
            }
        }
    }
}

impl Drop for HoldPart {
    fn drop(&mut self) {
        if !self.answered {
            self.put(HoldResult::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_are_sent_together_in_the_order_asked() {
        let (caller, answer) = oneshot::channel();
        let mut parts = HoldGather::parts(3, HoldSink::new(3, HoldCaller::Task(caller)));
        let last = parts.pop().unwrap();
        let second = parts.pop().unwrap();
        let first = parts.pop().unwrap();
        last.answer(HoldResult::NoLeader);
        first.answer(HoldResult::Overloaded);
        // Lost on the way: nobody knows.
        drop(second);
        let expected = vec![HoldResult::Overloaded, HoldResult::Unknown, HoldResult::NoLeader];
        assert_eq!(answer.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_request_that_nobody_took_is_unknown() {
        let (caller, answer) = oneshot::channel();
        drop(HoldSink::new(2, HoldCaller::Task(caller)));
        assert_eq!(answer.await.unwrap(), vec![HoldResult::Unknown; 2]);
    }
}

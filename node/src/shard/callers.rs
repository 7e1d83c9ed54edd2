//! Who waits for an order to be placed: one caller, or one that placed many together and is answered once.

use std::sync::Arc;

use ordergrid_api::{Answer, Failure, UnknownCause};
use ordergrid_domain::Order;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What became of one order.
pub(crate) type Placed = Result<Answer<Box<Order>>, Failure>;

/// The right to answer one order. Dropped unanswered, it answers "unknown".
pub(crate) struct PlaceCaller(Part);

enum Part {
    One(oneshot::Sender<Placed>),
    /// One of many, by its place among them.
    OneOf(Arc<Gather>, usize),
    Done,
}

/// Gathers the answers of orders that were asked for together; the last one sends them all.
struct Gather(Mutex<Gathered>);

struct Gathered {
    left: usize,
    answers: Vec<Option<Placed>>,
    to: Option<oneshot::Sender<Vec<Placed>>>,
}

impl PlaceCaller {
    /// Who waits for one order.
    pub(crate) fn one() -> (Self, oneshot::Receiver<Placed>) {
        let (caller, answer) = oneshot::channel();
        (Self(Part::One(caller)), answer)
    }

    /// Who waits for `count` orders, at least one: a caller for each, and all answers in the same order.
    pub(crate) fn many(count: usize) -> (Vec<Self>, oneshot::Receiver<Vec<Placed>>) {
        let (caller, answers) = oneshot::channel();
        let gathered = Gathered { left: count, answers: (0..count).map(|_| None).collect(), to: Some(caller) };
        let gather = Arc::new(Gather(Mutex::new(gathered)));
        ((0..count).map(|index| Self(Part::OneOf(Arc::clone(&gather), index))).collect(), answers)
    }

    /// Answers. A caller that went away finds its answer under its key.
    pub(crate) fn send(mut self, placed: Placed) {
        self.put(|| placed);
    }

    fn put(&mut self, placed: impl FnOnce() -> Placed) {
        match std::mem::replace(&mut self.0, Part::Done) {
            Part::One(caller) => drop(caller.send(placed())),
            Part::OneOf(gather, index) => gather.put(index, placed()),
            Part::Done => {}
        }
    }
}

impl Drop for PlaceCaller {
    fn drop(&mut self) {
        self.put(|| Err(Failure::unknown(UnknownCause::LeaderChanged)));
    }
}

impl Gather {
    fn put(&self, index: usize, placed: Placed) {
        let mut gathered = self.0.lock();
        gathered.answers[index] = Some(placed);
        gathered.left -= 1;
        if gathered.left == 0
            && let Some(caller) = gathered.to.take()
        {
            let answers = std::mem::take(&mut gathered.answers).into_iter();
            let answers = answers.map(|answer| answer.expect("every part has been answered once")).collect();
            caller.send(answers).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_api::Refusal;

    use super::*;

    #[tokio::test]
    async fn many_are_answered_together_in_the_order_asked() {
        let (mut callers, answers) = PlaceCaller::many(3);
        let (last, second, first) = (callers.pop().unwrap(), callers.pop().unwrap(), callers.pop().unwrap());
        last.send(Err(Failure::refused(Refusal::NoLeader)));
        // Lost on the way: nobody knows.
        drop(second);
        first.send(Err(Failure::refused(Refusal::Overloaded)));
        let said: Vec<_> = answers.await.unwrap().into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
        let unknown = Failure::unknown(UnknownCause::LeaderChanged);
        let expected = [Failure::refused(Refusal::Overloaded), unknown, Failure::refused(Refusal::NoLeader)];
        assert_eq!(said, expected.map(|failure| failure.to_string()));
    }

    #[tokio::test]
    async fn one_that_nobody_answers_is_unknown() {
        let (caller, answer) = PlaceCaller::one();
        drop(caller);
        assert!(matches!(answer.await.unwrap(), Err(Failure::Unknown { .. })));
    }
}

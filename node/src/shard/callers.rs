//! Who waits for an outcome: one caller, or one that asked for many together and is answered once.

use std::sync::Arc;

use ordergrid_api::{Answer, Failure, UnknownCause};
use ordergrid_domain::Order;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::proposal::{Landed, NotLanded};

/// What became of one order.
pub(crate) type Placed = Result<Answer<Arc<Order>>, Failure>;

/// Who waits for an order to be placed.
pub(crate) type PlaceCaller = Caller<Placed>;

/// An answer that can say that nobody knows.
pub(crate) trait Lost {
    /// The answer of a waiter that was lost on the way.
    fn lost() -> Self;
}

impl Lost for Placed {
    fn lost() -> Self {
        Err(Failure::unknown(UnknownCause::LeaderChanged))
    }
}

impl Lost for Result<Landed, NotLanded> {
    fn lost() -> Self {
        Err(NotLanded::Unknown)
    }
}

/// The right to answer one question. Dropped unanswered, it answers "unknown".
pub(crate) struct Caller<T: Lost>(Part<T>);

enum Part<T> {
    One(oneshot::Sender<T>),
    /// One of many, by its place among them.
    OneOf(Arc<Gather<T>>, usize),
    Done,
}

/// Gathers the answers to what was asked for together; the last one sends them all.
struct Gather<T>(Mutex<Gathered<T>>);

struct Gathered<T> {
    left: usize,
    answers: Vec<Option<T>>,
    to: Option<oneshot::Sender<Vec<T>>>,
}

impl<T: Lost> Caller<T> {
    /// Who waits for one answer.
    pub(crate) fn one() -> (Self, oneshot::Receiver<T>) {
        let (caller, answer) = oneshot::channel();
        (Self(Part::One(caller)), answer)
    }

    /// Who waits for `count` answers, at least one: a caller for each, and all answers in the same order.
    pub(crate) fn many(count: usize) -> (Vec<Self>, oneshot::Receiver<Vec<T>>) {
        let (caller, answers) = oneshot::channel();
        let gathered = Gathered { left: count, answers: (0..count).map(|_| None).collect(), to: Some(caller) };
        let gather = Arc::new(Gather(Mutex::new(gathered)));
        ((0..count).map(|index| Self(Part::OneOf(Arc::clone(&gather), index))).collect(), answers)
    }

    /// Answers. A caller that went away finds its answer under its key.
    pub(crate) fn send(mut self, answer: T) {
        self.put(|| answer);
    }

    fn put(&mut self, answer: impl FnOnce() -> T) {
        match std::mem::replace(&mut self.0, Part::Done) {
            Part::One(caller) => drop(caller.send(answer())),
            Part::OneOf(gather, index) => gather.put(index, answer()),
            Part::Done => {}
        }
    }
}

impl<T: Lost> Drop for Caller<T> {
    fn drop(&mut self) {
        self.put(T::lost);
    }
}

impl<T> Gather<T> {
    fn put(&self, index: usize, answer: T) {
        let mut gathered = self.0.lock();
        gathered.answers[index] = Some(answer);
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

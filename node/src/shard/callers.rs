//! Who waits for an outcome: one caller, or one that asked for many together and is answered once: when all have their
//! answers, or in time with those that are there.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::{Answer, Failure, UnknownCause};
use ordergrid_domain::Order;
use ordergrid_domain::placing::NotLanded;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::proposal::Landed;

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

/// Until when what was asked for together is of use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// What has not been begun by then is not begun any more, and refused.
    begin: Instant,
    /// What has no answer by then is unknown.
    answer: Instant,
}

impl Deadline {
    /// For what may take `patience` from now on: what is begun in its last quarter could not be told of in time.
    pub(crate) fn within(patience: Duration) -> Self {
        let now = Instant::now();
        Self { begin: now + patience * 3 / 4, answer: now + patience * 19 / 20 }
    }
}

/// Gathers the answers to what was asked for together; the last one sends them all.
struct Gather<T> {
    gathered: Mutex<Gathered<T>>,
    deadline: Deadline,
}

/// All answers to what was asked for together.
pub(crate) struct Answers<T> {
    gather: Arc<Gather<T>>,
    all: oneshot::Receiver<Vec<T>>,
}

impl<T: Lost> Answers<T> {
    /// Waits for them; those that are not there in time are unknown.
    pub(crate) async fn wait(self) -> Vec<T> {
        match tokio::time::timeout_at(self.gather.deadline.answer, self.all).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => self.gather.close(),
        }
    }
}

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
    pub(crate) fn many(count: usize, deadline: Deadline) -> (Vec<Self>, Answers<T>) {
        let (caller, all) = oneshot::channel();
        let gathered = Gathered { left: count, answers: (0..count).map(|_| None).collect(), to: Some(caller) };
        let gather = Arc::new(Gather { gathered: Mutex::new(gathered), deadline });
        ((0..count).map(|index| Self(Part::OneOf(Arc::clone(&gather), index))).collect(), Answers { gather, all })
    }

    /// What it waits for is not to be begun any more.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        matches!(&self.0, Part::OneOf(gather, _) if gather.deadline.begin <= now)
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

impl<T: Lost> Gather<T> {
    fn put(&self, index: usize, answer: T) {
        let mut gathered = self.gathered.lock();
        // Answers that come after the end are found under their keys.
        let Some(slot) = gathered.answers.get_mut(index) else { return };
        *slot = Some(answer);
        gathered.left -= 1;
        if gathered.left == 0
            && let Some(caller) = gathered.to.take()
        {
            let answers = std::mem::take(&mut gathered.answers).into_iter();
            let answers = answers.map(|answer| answer.expect("every part has been answered once")).collect();
            caller.send(answers).ok();
        }
    }

    /// The answers that are there, and that of the others nobody knows.
    fn close(&self) -> Vec<T> {
        let answers = std::mem::take(&mut self.gathered.lock().answers);
        answers.into_iter().map(|answer| answer.unwrap_or_else(T::lost)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_api::Refusal;

    use super::*;

    #[tokio::test]
    async fn many_are_answered_together_in_the_order_asked() {
        let (mut callers, answers) = PlaceCaller::many(3, Deadline::within(Duration::from_secs(10)));
        let (last, second, first) = (callers.pop().unwrap(), callers.pop().unwrap(), callers.pop().unwrap());
        last.send(Err(Failure::refused(Refusal::NoLeader)));
        // Lost on the way: nobody knows.
        drop(second);
        first.send(Err(Failure::refused(Refusal::Overloaded)));
        let said: Vec<_> = answers.wait().await.into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
        let unknown = Failure::unknown(UnknownCause::LeaderChanged);
        let expected = [Failure::refused(Refusal::Overloaded), unknown, Failure::refused(Refusal::NoLeader)];
        assert_eq!(said, expected.map(|failure| failure.to_string()));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_have_answers_in_time_get_them() {
        let (mut callers, answers) = PlaceCaller::many(2, Deadline::within(Duration::from_secs(10)));
        let (slow, quick) = (callers.pop().unwrap(), callers.pop().unwrap());
        assert!(!slow.is_late(Instant::now()) && slow.is_late(Instant::now() + Duration::from_millis(7_500)));
        quick.send(Err(Failure::refused(Refusal::Overloaded)));
        let said: Vec<_> = answers.wait().await.into_iter().map(Result::unwrap_err).collect();
        assert_eq!(said, [Failure::refused(Refusal::Overloaded), Failure::unknown(UnknownCause::LeaderChanged)]);
        // Its answer comes too late and does no harm.
        slow.send(Err(Failure::refused(Refusal::Overloaded)));
    }

    #[tokio::test]
    async fn one_that_nobody_answers_is_unknown() {
        let (caller, answer) = PlaceCaller::one();
        drop(caller);
        assert!(matches!(answer.await.unwrap(), Err(Failure::Unknown { .. })));
    }
}

//! How much of what is asked in batches a shard gets done, and so whether it can take more in time. A batch that could not
//! be done within the time that its asker waits is refused before anything of it is begun; one alone is always taken.
//!
//! Counted and timed by batch. What comes one by one shows in how long batches take.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::{Failure, Refusal};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Bytes a second that a shard is believed to get done before it has shown what it can.
const BELIEVED: f64 = (8 << 20) as f64;
/// What is seen counts for as much as what was believed once it has lasted this long.
const MEMORY: f64 = 1.0;
/// Part of the time that a batch may take which it may have to wait by this reckoning: the rest is for being wrong.
const SAFETY: f64 = 0.6;

/// The pace of one term of one shard.
pub(crate) struct Pace {
    /// How long a batch may take.
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    /// Bytes of the batches under way.
    under_way: u64,
    /// Bytes a second.
    rate: f64,
    /// When a batch last ended, or the first one began.
    since: Instant,
}

/// A batch that was taken, until this is dropped.
pub(crate) struct Admitted {
    pace: Arc<Pace>,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, state: Mutex::new(State { under_way: 0, rate: BELIEVED, since: Instant::now() }) })
    }

    /// Takes a batch of so many bytes.
    ///
    /// # Errors
    /// It could not be done in time: nothing was begun. The refusal says when to try again.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of bytes far below 2^53")]
    pub(crate) fn admit(self: &Arc<Self>, bytes: u64) -> Result<Admitted, Failure> {
        let mut state = self.state.lock();
        if state.under_way == 0 {
            state.since = Instant::now();
        } else {
            let needs = (state.under_way + bytes) as f64 / state.rate;
            let most = self.patience.as_secs_f64() * SAFETY;
            if needs > most {
                let wait = (needs - most).clamp(1.0, self.patience.as_secs_f64());
                return Err(Failure::Refused { reason: Refusal::Overloaded, retry_after: Duration::from_secs_f64(wait) });
            }
        }
        state.under_way += bytes;
        Ok(Admitted { pace: Arc::clone(self), bytes })
    }
}

impl Drop for Admitted {
    #[expect(clippy::cast_precision_loss, reason = "an estimate of bytes far below 2^53")]
    fn drop(&mut self) {
        let mut state = self.pace.state.lock();
        let took = state.since.elapsed().as_secs_f64();
        state.rate = (state.rate * MEMORY + self.bytes as f64) / (MEMORY + took);
        state.since = Instant::now();
        state.under_way -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_done_in_time_is_refused_and_one_alone_never() {
        let pace = Pace::new(Duration::from_secs(10));
        let mib = |mib: u64| mib << 20;
        // Far more than is believed to be possible, but alone.
        let large = pace.admit(mib(400)).expect("nothing else is under way");
        let Err(Failure::Refused { reason: Refusal::Overloaded, retry_after }) = pace.admit(mib(1)) else { panic!("refused") };
        assert_eq!(retry_after, Duration::from_secs(10), "no longer than a batch may take");
        drop(large);
        // That went at once: the shard is fast.
        let first = pace.admit(mib(400)).expect("alone");
        let second = pace.admit(mib(400)).expect("it has shown that it can");
        tokio::time::sleep(Duration::from_secs(400)).await;
        drop(first);
        let refused = pace.admit(mib(40));
        assert!(refused.is_err(), "one MiB a second: 440 MiB are too much");
        tokio::time::sleep(Duration::from_secs(400)).await;
        drop(second);
        let small = pace.admit(mib(2)).expect("alone");
        assert!(pace.admit(mib(3)).is_ok_and(|_| true), "5 MiB in 6 s");
        drop(small);
    }
}

//! When to retry, and how long to wait before.

use std::time::Duration;

use super::CallError;

/// Limits on the attempts of one call. Every attempt carries the same idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, at least 1.
    pub attempts: u32,
    /// Deadline of the whole call, waits included.
    pub patience: Duration,
    /// Deadline of one attempt.
    pub attempt_timeout: Duration,
    /// Wait before the second attempt. Further waits double.
    pub first_wait: Duration,
    /// The longest wait, unless the node asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            patience: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(10),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
        }
    }
}

impl RetryPolicy {
    /// A single attempt.
    #[must_use]
    pub fn once(deadline: Duration) -> Self {
        Self { attempts: 1, patience: deadline, attempt_timeout: deadline, ..Self::default() }
    }

    /// As many attempts as fit into `patience`.
    #[must_use]
    pub fn patient(patience: Duration) -> Self {
        Self { attempts: u32::MAX, patience, ..Self::default() }
    }

    /// The wait before the next attempt; `None` after the last.
    ///
    /// `tried` attempts were made in the `spent` time, and there are `nodes` endpoints. `chance` is uniform in 0..1, so that
    /// clients that failed together do not retry together.
    #[must_use]
    pub(super) fn wait(&self, error: &CallError, tried: u32, spent: Duration, nodes: usize, chance: f64) -> Option<Duration> {
        if !error.retryable() || tried >= self.attempts {
            return None;
        }
        // An unreachable node says nothing about the next one.
        let another_node = matches!(error, CallError::Unreachable(_)) && (tried as usize) < nodes;
        let wait = if another_node { Duration::ZERO } else { self.back_off(tried, chance).max(asked_for(error, chance)) };
        (spent + wait < self.patience).then_some(wait)
    }

    fn back_off(&self, tried: u32, chance: f64) -> Duration {
        let doublings = tried.saturating_sub(1).min(20);
        let full = self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait);
        full.mul_f64(0.5 + chance / 2.0)
    }
}

/// The wait that the node asked for, plus up to a tenth.
fn asked_for(error: &CallError, chance: f64) -> Duration {
    error.retry_after().map_or(Duration::ZERO, |wait| wait.mul_f64(1.0 + chance / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refusal;

    fn refused(retryable: bool, retry_after_ms: Option<u64>) -> CallError {
        CallError::Refused(Box::new(Refusal {
            status: 503,
            code: "overloaded".to_owned(),
            detail: String::new(),
            retryable,
            retry_after: retry_after_ms.map(Duration::from_millis),
            problem: serde_json::Map::new(),
        }))
    }

    #[test]
    fn waits() {
        let policy = RetryPolicy::default();
        let down = || CallError::Unreachable(String::new());
        let lost = || CallError::Unknown(String::new());
        // error, tried, spent ms, nodes, chance, wait ms
        for (error, tried, spent, nodes, chance, wait) in [
            (refused(false, None), 1, 0, 3, 0.0, None),
            (refused(true, None), 1, 0, 3, 0.0, Some(25)),
            (refused(true, None), 1, 0, 3, 1.0, Some(50)),
            (refused(true, None), 2, 0, 3, 1.0, Some(100)),
            (refused(true, Some(1_000)), 1, 0, 3, 0.0, Some(1_000)),
            (refused(true, Some(1_000)), 1, 0, 3, 1.0, Some(1_100)),
            (refused(true, Some(1_000)), 1, 29_500, 3, 0.0, None),
            (refused(true, None), 5, 0, 3, 0.0, None),
            (down(), 1, 0, 3, 1.0, Some(0)),
            (down(), 2, 0, 3, 1.0, Some(0)),
            (down(), 3, 0, 3, 1.0, Some(200)),
            (down(), 1, 0, 1, 1.0, Some(50)),
            (lost(), 1, 0, 3, 1.0, Some(50)),
            (lost(), 4, 29_999, 3, 1.0, None),
            (CallError::Unreadable(String::new()), 1, 0, 3, 1.0, None),
        ] {
            let got = policy.wait(&error, tried, Duration::from_millis(spent), nodes, chance);
            assert_eq!(got, wait.map(Duration::from_millis), "{error:?} {tried} {spent} {nodes} {chance}");
        }
    }

    #[test]
    fn the_wait_stops_growing() {
        let policy = RetryPolicy::patient(Duration::from_secs(3_600));
        let wait = policy.wait(&refused(true, None), 1_000_000, Duration::ZERO, 1, 1.0);
        assert_eq!(wait, Some(policy.longest_wait));
    }
}

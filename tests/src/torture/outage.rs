//! How long clients went without an answer.

use serde_json::{Value, json};

use super::history::{End, Moment, Operation};

/// Upper ends of the classes of the histogram, in milliseconds.
const CLASSES_MS: [u64; 8] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// The longest time without an answer of each client after one kind of trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    /// How often it struck.
    pub strikes: usize,
    /// Milliseconds, one for each client and strike.
    pub gaps_ms: Vec<u64>,
}

impl Outage {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.strikes += other.strikes;
        self.gaps_ms.extend(&other.gaps_ms);
    }

    /// How many gaps are in each class; the last class has no upper end.
    #[must_use]
    pub fn classes(&self) -> Vec<usize> {
        let mut counts = vec![0; CLASSES_MS.len() + 1];
        for gap in &self.gaps_ms {
            counts[CLASSES_MS.iter().position(|limit| gap <= limit).unwrap_or(CLASSES_MS.len())] += 1;
        }
        counts
    }

    /// For the report.
    #[must_use]
    pub fn json(&self) -> Value {
        let [p50, p90, max] = [0.5, 0.9, 1.0].map(|part| quantile(&self.gaps_ms, part));
        json!({
            "strikes": self.strikes, "clients": self.gaps_ms.len(), "p50_ms": p50, "p90_ms": p90, "max_ms": max,
            "classes_ms": CLASSES_MS, "histogram": self.classes(),
        })
    }
}

/// The value that this part of all values does not exceed; 0 of none.
#[must_use]
pub fn quantile(values: &[u64], part: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

/// What clients saw between two moments. A final refusal is an answer.
pub(super) fn outage(operations: &[Operation], from: Moment, to: Moment) -> Outage {
    let clients = operations.iter().map(|op| op.client).filter(|client| *client < 1_000).max().map_or(0, |last| last + 1);
    let mut answered: Vec<Vec<Moment>> = vec![vec![from, to]; clients];
    for operation in operations.iter().filter(|op| op.client < clients) {
        let answers = operation.attempts.iter().filter(|attempt| {
            matches!(attempt.end, End::Done(_) | End::Refused { retryable: false, .. }) && (from..to).contains(&attempt.ended)
        });
        answered[operation.client].extend(answers.map(|attempt| attempt.ended));
    }
    let longest = |mut moments: Vec<Moment>| {
        moments.sort_unstable();
        moments.windows(2).map(|two| (two[1] - two[0]) / 1_000).max().unwrap_or_default()
    };
    Outage { strikes: 1, gaps_ms: answered.into_iter().map(longest).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_classes() {
        let values: Vec<u64> = (1..=10).map(|tenth| tenth * 1_000).collect();
        assert_eq!([0.5, 0.9, 1.0].map(|part| quantile(&values, part)), [5_000, 9_000, 10_000]);
        assert_eq!(quantile(&[], 0.5), 0);
        let outage = Outage { strikes: 1, gaps_ms: vec![0, 50, 51, 20_000] };
        assert_eq!(outage.classes(), [2, 1, 0, 0, 0, 0, 0, 0, 1]);
    }
}

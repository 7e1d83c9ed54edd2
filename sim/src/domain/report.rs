//! What a run has seen: how often each named state was reached. A state that no seed reaches is not tested.

use std::collections::BTreeMap;

/// States that a good run reaches; named here so that one never reached shows as zero.
pub const RARE: [&str; 34] = [
    "placed",
    "placed locally",
    "refused out of stock",
    "key retried",
    "key reused with another body",
    "second attempt of a placed key",
    "hold refused as expired",
    "hold repeated",
    "tombstone met",
    "unknown hold released",
    "orphan hold asked and freed",
    "ask answered later",
    "stale attempt refused",
    "leader deposed with attempts running",
    "place lost with its leader",
    "place applied unheard",
    "leadership handed over",
    "orders lost with their actor",
    "hold met no leader",
    "hold waited for units under way",
    "holds of several orders asked for together",
    "hold asked for again",
    "attempt taken anew",
    "key waited for",
    "key loaded",
    "mailbox redelivered",
    "mailbox gap refused",
    "late money refunded",
    "surplus refunded",
    "expired by timer",
    "completed by timer",
    "grace given",
    "restored from checkpoint",
    "cold row loaded",
];

/// How often each state was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts a state.
    pub fn note(&mut self, state: &'static str) {
        self.add(state, 1);
    }

    /// Counts a state several times.
    pub fn add(&mut self, state: &'static str, times: u64) {
        *self.0.entry(state).or_default() += times;
    }

    /// How often it was reached.
    #[must_use]
    pub fn of(&self, state: &str) -> u64 {
        self.0.get(state).copied().unwrap_or_default()
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (state, times) in &other.0 {
            self.add(state, *times);
        }
    }

    /// Every state, the named ones first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let others = self.0.iter().filter(|(state, _)| !RARE.contains(state)).map(|(state, times)| (*state, *times));
        RARE.iter().map(|state| (*state, self.of(state))).chain(others)
    }
}

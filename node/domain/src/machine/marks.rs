//! Marks in the order in which time comes to them. What a mark means is decided in `stock`.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_rows::RowIndex;

use crate::ids::{AttemptId, SkuId};
use crate::rows::keys::MarkKey;
use crate::rows::kinds::Mark;
use crate::time::Timestamp;

/// Every mark of the table, by its time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MarkTimes {
    /// Tentative holds by the time they were granted (rule 14): how many. Nearly all of them are kept within moments, so that
    /// finding those that are not is left to whoever asks.
    tentative: BTreeMap<Timestamp, u64>,
    /// The other marks by valid-until (rule 10).
    pub(super) ending: BTreeSet<(Timestamp, AttemptId, SkuId)>,
}

impl MarkTimes {
    /// Tentative holds.
    pub(super) fn tentative(&self) -> u64 {
        self.tentative.values().sum()
    }

    /// When the oldest tentative hold was granted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.tentative.first_key_value().map(|(granted_at, _)| *granted_at)
    }
}

impl RowIndex<MarkKey, Mark> for MarkTimes {
    /// It takes about as much as the rows.
    const COPIES: u64 = 1;

    fn added(&mut self, key: &MarkKey, mark: &Mark) {
        match mark {
            Mark::Tentative { granted_at, .. } => *self.tentative.entry(*granted_at).or_default() += 1,
            Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => {
                self.ending.insert((*valid_until, key.attempt, key.sku.clone()));
            }
        }
    }

    fn changed(&mut self, key: &MarkKey, before: &Mark, now: &Mark) {
        if let (Mark::Kept { valid_until, .. } | Mark::Ended { valid_until }, Mark::Ended { valid_until: later }) =
            (before, now)
            && valid_until == later
        {
            return;
        }
        self.removed(key, before);
        self.added(key, now);
    }

    fn removed(&mut self, key: &MarkKey, mark: &Mark) {
        match mark {
            Mark::Tentative { granted_at, .. } => {
                let count = self.tentative.get_mut(granted_at).expect("a tentative hold was counted when it was added");
                *count -= 1;
                if *count == 0 {
                    self.tentative.remove(granted_at);
                }
            }
            Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => {
                self.ending.remove(&(*valid_until, key.attempt, key.sku.clone()));
            }
        }
    }
}

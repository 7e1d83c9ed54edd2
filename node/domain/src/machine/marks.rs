//! Marks in the order in which time comes to them. What a mark means is decided in `stock`.

use std::collections::BTreeSet;

use ordergrid_rows::RowIndex;

use crate::ids::{AttemptId, SkuId};
use crate::rows::keys::MarkKey;
use crate::rows::kinds::Mark;
use crate::time::Timestamp;

/// Marks of one kind, by a time of theirs.
pub(super) type Timed = BTreeSet<(Timestamp, AttemptId, SkuId)>;

/// Every mark of the table, by its time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MarkTimes {
    /// Tentative holds by the time they were granted (rule 14).
    pub(super) tentative: Timed,
    /// The other marks by valid-until (rule 10).
    pub(super) ending: Timed,
}

impl MarkTimes {
    /// Which marks a mark is among, and its time.
    fn of(&mut self, mark: &Mark) -> (&mut Timed, Timestamp) {
        match mark {
            Mark::Tentative { granted_at, .. } => (&mut self.tentative, *granted_at),
            Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => (&mut self.ending, *valid_until),
        }
    }
}

impl RowIndex<MarkKey, Mark> for MarkTimes {
    /// It takes about as much as the rows.
    const COPIES: u64 = 1;

    fn added(&mut self, key: &MarkKey, mark: &Mark) {
        let (timed, time) = self.of(mark);
        timed.insert((time, key.attempt, key.sku.clone()));
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
        let (timed, time) = self.of(mark);
        timed.remove(&(time, key.attempt, key.sku.clone()));
    }
}

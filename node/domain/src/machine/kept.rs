//! Attempts whose holds were kept lately (rules 9 and 10). An attempt that is an order takes no more units: whatever hold of it
//! still arrives is a late repeat. Its counter says so for all of its SKUs, and 64 counters share a row.

use std::collections::BTreeSet;

use ordergrid_rows::RowIndex;

use super::ShardMachine;
use crate::ids::AttemptId;
use crate::rows::keys::KeptKey;
use crate::rows::kinds::KeptRow;
use crate::time::Timestamp;

/// Every block by its latest valid-until.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeptTimes(BTreeSet<(Timestamp, KeptKey)>);

impl KeptTimes {
    /// The first valid-until.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.0.first().map(|block| block.0)
    }
}

impl RowIndex<KeptKey, KeptRow> for KeptTimes {
    /// It takes about as much as the rows.
    const COPIES: u64 = 1;

    fn added(&mut self, key: &KeptKey, row: &KeptRow) {
        self.0.insert((row.until, *key));
    }

    fn changed(&mut self, key: &KeptKey, before: &KeptRow, now: &KeptRow) {
        if before.until != now.until {
            self.removed(key, before);
            self.added(key, now);
        }
    }

    fn removed(&mut self, key: &KeptKey, row: &KeptRow) {
        self.0.remove(&(row.until, *key));
    }
}

/// Attempts that one message keeps: mostly neighbours, so that few rows change.
#[derive(Debug, Default)]
pub(super) struct KeptNow(Vec<(KeptKey, KeptRow)>);

impl KeptNow {
    /// A hold of the attempt is kept that is valid until then.
    pub(super) fn add(&mut self, attempt: AttemptId, until: Timestamp) {
        let (key, attempts) = KeptKey::of(attempt);
        match self.0.iter_mut().rev().find(|(known, _)| *known == key) {
            Some((_, row)) => row.add(KeptRow { attempts, until }),
            None => self.0.push((key, KeptRow { attempts, until })),
        }
    }
}

impl KeptRow {
    fn add(&mut self, other: Self) {
        self.attempts |= other.attempts;
        self.until = self.until.max(other.until);
    }
}

impl ShardMachine {
    /// Remembers attempts until log time has passed the valid-until of their holds; after that age refuses them (rule 11).
    pub(super) fn remember_kept(&mut self, now: KeptNow) {
        for (key, mut row) in now.0.into_iter().filter(|(_, row)| row.until >= self.meta.time) {
            if let Some(known) = self.kept.get(&key) {
                row.add(*known);
            }
            self.kept.put(key, row);
        }
    }

    /// Whether a hold of the attempt was kept here lately.
    pub(super) fn was_kept(&self, attempt: AttemptId) -> bool {
        let (key, bit) = KeptKey::of(attempt);
        self.kept.get(&key).is_some_and(|row| row.attempts & bit != 0)
    }

    /// Forgets blocks that log time has passed, at most `limit`.
    pub(super) fn drop_kept(&mut self, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit
            && let Some((_, key)) = self.kept.index().0.first().filter(|block| block.0 < self.meta.time).copied()
        {
            self.kept.remove(&key);
            dropped += 1;
        }
        dropped
    }
}

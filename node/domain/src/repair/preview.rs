//! What a repair of log time would do to a shard, told from its rows: which deadlines were set in the wrong time, and where
//! they go. The repair itself looks at no row.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};

use super::{Repair, Repaired, Scale};
use crate::encoding::{BytesError, read_row};
use crate::order::TimerKind;
use crate::rows::kinds::{Mark, Meta, OrderRow, PlacedRow, SkuKeyRow};
use crate::rows::{MARK, META, ORDER, PLACED, REPAIR, SKU_KEY};
use crate::time::Timestamp;

/// What ends at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Deadline {
    /// An order is to be paid by then.
    Payment,
    /// An order completes by itself.
    Completion,
    /// The key with which an order was placed is remembered until then.
    OrderKey,
    /// So is the key of another command.
    CommandKey,
    /// What an attempt did to a SKU is remembered until then.
    Hold,
}

/// Deadlines of one kind, as log times before and after the repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Moved {
    /// Those that were set in the wrong time.
    pub count: u64,
    /// The first of them, before and after.
    pub first: (Timestamp, Timestamp),
    /// The last of them.
    pub last: (Timestamp, Timestamp),
    /// Those that were set before, and stay where they are.
    pub stay: u64,
}

impl Moved {
    fn add(&mut self, before: Timestamp, after: Timestamp) {
        if before == after {
            self.stay += 1;
            return;
        }
        if self.count == 0 || after < self.first.1 {
            self.first = (before, after);
        }
        if self.count == 0 || after > self.last.1 {
            self.last = (before, after);
        }
        self.count += 1;
    }
}

/// Takes every row of one moment of a shard in the order of keys.
#[derive(Debug)]
pub struct Preview {
    repair: Repair,
    retention: Duration,
    meta: Meta,
    /// As it is, and as it will be.
    before: Scale,
    after: Option<Scale>,
    /// Machine times at which marks end, until both are known.
    holds: Vec<Timestamp>,
    moved: BTreeMap<Deadline, Moved>,
}

impl Preview {
    /// Of a repair, for a shard whose idempotency records live so long.
    #[must_use]
    pub fn new(repair: Repair, retention: Duration) -> Self {
        Self {
            repair,
            retention,
            meta: Meta::default(),
            before: Scale::default(),
            after: None,
            holds: Vec::new(),
            moved: BTreeMap::new(),
        }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        match key.first().copied().ok_or(BytesError::Key)? {
            META => self.meta = read_row(value)?,
            REPAIR => self.before.add(read_row(value)?),
            MARK => match read_row::<Mark>(value)? {
                Mark::Tentative { valid_until, .. } | Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => {
                    self.holds.push(valid_until);
                }
            },
            ORDER => self.order(&read_row(value)?),
            PLACED => self.key(Deadline::OrderKey, read_row::<PlacedRow>(value)?.at),
            SKU_KEY => self.key(Deadline::CommandKey, read_row::<SkuKeyRow>(value)?.at),
            _ => {}
        }
        Ok(())
    }

    fn order(&mut self, row: &OrderRow) {
        for (kind, _) in &row.timers {
            let deadline = match kind {
                TimerKind::PaymentDeadline => Deadline::Payment,
                TimerKind::AutoComplete => Deadline::Completion,
            };
            let (before, after) = (self.before.due(&row.order, *kind), self.after().due(&row.order, *kind));
            if let (Some(before), Some(after)) = (before, after) {
                self.moved.entry(deadline).or_default().add(before, after);
            }
        }
        for seen in &row.keys {
            self.key(Deadline::CommandKey, seen.at);
        }
    }

    /// A key that was used at a moment; those that are forgotten by the right time are left out.
    fn key(&mut self, deadline: Deadline, at: Timestamp) {
        let (before, now, retention) = (self.before.log(at), self.meta.time, self.retention);
        let after = self.after();
        if after.lasts(at, retention, now) {
            let after = after.log(at);
            self.moved.entry(deadline).or_default().add(before.after(retention), after.after(retention));
        }
    }

    fn after(&mut self) -> &Scale {
        let (before, repair, at) = (&self.before, self.repair, self.meta.time);
        self.after.get_or_insert_with(|| {
            let mut after = before.clone();
            after.add(Repaired::new(&repair, before, at));
            after
        })
    }

    /// What was found, of every kind that there is.
    #[must_use]
    pub fn finish(mut self) -> Vec<(Deadline, Moved)> {
        for ends in std::mem::take(&mut self.holds) {
            let (before, after) = (self.before.log_from_now(ends), self.after().log_from_now(ends));
            self.moved.entry(Deadline::Hold).or_default().add(before, after);
        }
        self.moved.into_iter().collect()
    }
}

//! Setting log time back (`repair` says what that means for rows), and telling log times of what is stored in machine time.

use std::sync::Arc;

use ordergrid_rows::RowIndex;

use super::ShardMachine;
use crate::command::{Entry, Outcome};
use crate::order::{Order, TimerKind};
use crate::rejection::Rejection;
use crate::repair::{Repair, Repaired, Scale};
use crate::rows::keys::RepairNumber;
use crate::time::Timestamp;

/// What the repairs of a shard come to.
impl RowIndex<RepairNumber, Repaired> for Scale {
    const COPIES: u64 = 1;

    fn added(&mut self, _: &RepairNumber, repaired: &Repaired) {
        self.add(*repaired);
    }

    fn removed(&mut self, number: &RepairNumber, _: &Repaired) {
        panic!("{number:?}: a repair is done once and for all");
    }
}

impl ShardMachine {
    /// Machine time once an entry is applied: what the leader has stamped, and never behind the last (rule 21).
    pub(super) fn time_at(&self, entry: &Entry) -> Timestamp {
        self.meta.time.max(self.scale().machine(entry.at))
    }

    /// Sets log time back. Machine time stands still meanwhile, and goes on from there.
    pub(super) fn repair(&mut self, repair: &Repair) -> Result<Outcome, Rejection> {
        let log = self.time();
        if repair.log != log || repair.right >= log {
            return Err(Rejection::NotAhead { log });
        }
        let repaired = Repaired::new(repair, self.scale(), self.meta.time);
        self.repairs.put(RepairNumber(self.repairs.len() as u32 + 1), repaired);
        Ok(Outcome::Done)
    }

    /// How often log time was set back.
    #[must_use]
    pub fn repairs(&self) -> usize {
        self.repairs.len()
    }

    /// When a timer is due that machine time has reached and log time has not: it was set before a time that ran away.
    pub(super) fn due_later(&self, order: &Order, kind: TimerKind) -> Option<Timestamp> {
        let due = self.scale().due(order, kind).map(|due| self.scale().machine(due))?;
        (due > self.meta.time).then_some(due)
    }

    /// An outcome as it is told.
    pub(super) fn told(&self, mut outcome: Outcome) -> Outcome {
        if !self.scale().is_plain()
            && let Outcome::Placed { order, .. } | Outcome::Order { order, .. } = &mut outcome
        {
            self.scale().tell(Arc::make_mut(order));
        }
        outcome
    }

    /// An order as it is told.
    pub(super) fn telling(&self, mut order: Order) -> Order {
        self.scale().tell(&mut order);
        order
    }
}

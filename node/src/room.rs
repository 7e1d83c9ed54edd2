//! Rows give way when the process takes more than `limits.memory`.
//!
//! The parts of the memory are counted in bytes that were asked for. What allocators keep between them depends on what has
//! come and gone, and nobody can count it beforehand. Rows are the one part that can be read again from the disk, so they
//! make up for the difference: above the limit they may use less from second to second, below it more again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::telemetry::{footprint, metrics};

/// How often the process is held against its limit.
const LOOK: Duration = Duration::from_secs(1);
/// All of their part, in the unit that the share is counted in.
const WHOLE: u32 = 256;
/// The least that is left to rows: with a quarter every other order waits for the disk, and little more memory is saved.
const LEAST: u32 = WHOLE / 2;
/// What rows lose with every look above the limit. Freed pages take a while to go back to the system.
const DOWN: u32 = WHOLE / 16;
/// What they gain with every look below fifteen sixteenths of it.
const UP: u32 = WHOLE / 128;

/// The share of their memory that the rows of all nodes of a process may use. Clones are the same share.
#[derive(Clone, Debug)]
pub struct RowRoom {
    share: Arc<AtomicU32>,
}

impl Default for RowRoom {
    /// All of it.
    fn default() -> Self {
        Self { share: Arc::new(AtomicU32::new(WHOLE)) }
    }
}

impl RowRoom {
    /// What may be used of `bytes`.
    pub(crate) fn of(&self, bytes: u64) -> u64 {
        match self.share.load(Ordering::Relaxed) {
            WHOLE => bytes,
            share => bytes / u64::from(WHOLE) * u64::from(share),
        }
    }

    /// Holds the process against the sum of its nodes' `limits.memory`, for as long as it is polled.
    pub async fn watch(self, limit: u64) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(resident) = footprint::resident() {
                self.adjust(resident, limit);
            }
        }
    }

    fn adjust(&self, resident: u64, limit: u64) {
        let share = self.share.load(Ordering::Relaxed);
        let next = if resident > limit {
            share.saturating_sub(DOWN).max(LEAST)
        } else if resident < limit / 16 * 15 {
            (share + UP).min(WHOLE)
        } else {
            share
        };
        self.share.store(next, Ordering::Relaxed);
        metrics::row_room(f64::from(next) / f64::from(WHOLE));
    }
}

/// Bytes of rows that a replica may keep in memory.
#[derive(Clone, Debug)]
pub(crate) struct RowBudget {
    bytes: u64,
    room: RowRoom,
}

impl RowBudget {
    /// `bytes` when there is room for all of them.
    pub(crate) fn new(bytes: u64, room: &RowRoom) -> Self {
        Self { bytes, room: room.clone() }
    }

    /// At present.
    pub(crate) fn now(&self) -> u64 {
        self.room.of(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_give_way_above_the_limit_and_come_back_below_it() {
        let room = RowRoom::default();
        let budget = RowBudget::new(1 << 20, &room);
        let looks = |count: u32, resident: u64| {
            (0..count).for_each(|_| room.adjust(resident, 1_600));
            budget.now() >> 10
        };
        assert_eq!(looks(1, 1_600), 1_024, "at the limit all is well");
        assert_eq!(looks(1, 1_601), 960);
        assert_eq!(looks(1, 1_500), 960, "close below it nothing changes");
        assert_eq!(looks(100, 1_601), 512, "something is left");
        assert_eq!(looks(1, 1_499), 520);
        assert_eq!(looks(1_000, 1_499), 1_024);
    }

    #[test]
    fn a_budget_without_bounds_stays_one() {
        assert_eq!(RowBudget::new(u64::MAX, &RowRoom::default()).now(), u64::MAX);
    }
}

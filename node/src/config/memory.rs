//! How `limits.memory` is split over those who use it. Every part is bounded by itself; together they are the whole.

use ordergrid_api::Account;
use ordergrid_storage::RocksBounds;

/// What a process takes that no other part counts: code, threads, the runtime, the databases' fixed parts, and what allocators
/// keep between what they were asked for. A node of four shards takes 90 MiB after its start, and this much beside its parts
/// when it is asked for all that it can do.
const BASE: u64 = 130 << 20;
/// With less than this the parts are too small for the bounds to hold.
const LEAST: u64 = 192 << 20;
/// The parts are counted in this many of what is left.
const PARTS: u64 = 64;
/// Rows of all replicas.
const ROWS: u64 = 16;
/// Rows that changed since the last checkpoint, encoded. They cost more than twice as much again while a checkpoint is under
/// way: [`COPIES`].
const DIRTY: u64 = 4;
/// Rows of a checkpoint under way, with what sorting and writing them takes.
const COPIES: u64 = 9;
/// One write buffer of the log's database, of which there may be [`LOG_BUFFERS`].
const LOG_BUFFER: u64 = 4;
const LOG_BUFFERS: u8 = 3;
/// One write buffer of the state's database, which snapshots from other nodes go through.
const STATE_BUFFER: u64 = 2;
const STATE_BUFFERS: u8 = 2;
/// Blocks of the state's files that have been read, with the filters and indexes that say in which files a row can be.
const STATE_BLOCKS: u64 = 4;
/// The same of the log's.
const LOG_BLOCKS: u64 = 1;
/// The newest entries of all replicas' logs.
const TAILS: u64 = 3;
/// Requests: what is left.
const REQUESTS: u64 = PARTS
    - ROWS
    - COPIES
    - LOG_BUFFER * LOG_BUFFERS as u64
    - STATE_BUFFER * STATE_BUFFERS as u64
    - STATE_BLOCKS
    - LOG_BLOCKS
    - TAILS;

/// More dirty rows than this make checkpoints no cheaper.
const MOST_DIRTY: u64 = 64 << 20;
/// A larger tail serves nobody: whoever lags further reads from the disk.
const MOST_TAIL: u64 = 8 << 20;
/// A tail holds an entry of the usual largest size, and one beside it. What somebody waits for stays in it until it is applied, and one
/// entry alone is always taken, whatever its size. In little memory the least of all tails comes on top of the other parts.
const LEAST_TAIL: u64 = 2 << 20;
/// Larger write buffers save the log nothing.
const MOST_BUFFER: u64 = 64 << 20;

/// The parts of a node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySplit {
    /// All of it, in bytes.
    pub whole: u64,
    left: u64,
}

impl MemorySplit {
    /// The parts of so many bytes.
    #[must_use]
    pub fn of(whole: u64) -> Self {
        Self { whole, left: whole.saturating_sub(BASE) }
    }

    /// The least memory of a node that takes bodies of so many bytes.
    #[must_use]
    pub fn least_for_body(body: u64) -> u64 {
        ((Account::least_for_body(body) * PARTS).div_ceil(REQUESTS) + BASE).max(LEAST)
    }

    /// The most that requests may be given, so that the other parts are not starved.
    #[must_use]
    pub fn most_requests(self) -> u64 {
        self.left / 2
    }

    fn part(self, parts: u64) -> u64 {
        self.left / PARTS * parts
    }

    /// Bytes of rows that all replicas may keep together.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.part(ROWS)
    }

    /// Bytes of rows that may have changed before checkpoints are written.
    #[must_use]
    pub fn dirty(self) -> u64 {
        self.part(DIRTY).min(MOST_DIRTY)
    }

    /// Bytes of newest entries that each of `replicas` keeps.
    #[must_use]
    pub fn tail(self, replicas: usize) -> u64 {
        (self.part(TAILS) / replicas.max(1) as u64).clamp(LEAST_TAIL, MOST_TAIL)
    }

    /// Bytes that requests share.
    #[must_use]
    pub fn requests(self) -> u64 {
        self.part(REQUESTS)
    }

    /// The log's database.
    #[must_use]
    pub fn log(self, bounds: RocksBounds) -> RocksBounds {
        RocksBounds {
            write_buffer: bytes(self.part(LOG_BUFFER).min(MOST_BUFFER)),
            write_buffers: LOG_BUFFERS,
            blocks: bytes(self.part(LOG_BLOCKS)),
            ..bounds
        }
    }

    /// The state's database.
    #[must_use]
    pub fn state(self, bounds: RocksBounds) -> RocksBounds {
        RocksBounds {
            write_buffer: bytes(self.part(STATE_BUFFER).min(MOST_BUFFER)),
            write_buffers: STATE_BUFFERS,
            blocks: bytes(self.part(STATE_BLOCKS)),
            ..bounds
        }
    }
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for mib in [192, 256, 512, 1_024] {
            let split = MemorySplit::of(mib << 20);
            let buffers =
                |memory: RocksBounds| memory.write_buffer as u64 * u64::from(memory.write_buffers) + memory.blocks as u64;
            let databases = buffers(split.log(RocksBounds::default())) + buffers(split.state(RocksBounds::default()));
            let copies = split.dirty() * COPIES / DIRTY;
            let sum = BASE + split.rows() + copies + split.tail(5) * 5 + databases + split.requests();
            assert!(sum <= (mib << 20) + 5 * LEAST_TAIL, "{mib} MiB: {} MiB", sum >> 20);
            assert!(sum > (mib << 20) / 10 * 9, "{mib} MiB: {} MiB", sum >> 20);
        }
    }

    #[test]
    fn a_body_fits_from_the_least_memory_on() {
        for body in [4 << 20, 8 << 20, 32 << 20] {
            let least = MemorySplit::least_for_body(body);
            let fits = |whole| Account::new(MemorySplit::of(whole).requests()).largest_body() >= body;
            assert!(fits(least + 4_096) && !fits(least - (1 << 20)), "{body}: {least}");
        }
    }
}

//! Divides `limits.memory` between its users. Each part has its own limit, and together they are the whole.

use ordergrid_api::Account;
use ordergrid_storage::RocksBounds;

/// Memory of the process that no other part counts: code, threads, the runtime, fixed parts of the databases, and what
/// allocators retain. A node of four shards takes 90 MiB after its start, and this much in addition to its parts under full
/// load.
const BASE: u64 = 130 << 20;
/// With less memory, the parts are too small for their limits to hold.
const LEAST: u64 = 192 << 20;
/// The rest is divided into this many units.
const PARTS: u64 = 64;
/// Rows of all replicas.
const ROWS: u64 = 16;
/// Rows that have changed since the last checkpoint, encoded. They need more than twice as much again during a checkpoint:
/// [`COPIES`].
const DIRTY: u64 = 4;
/// Rows of the current checkpoint, with the memory for sorting and writing them.
const COPIES: u64 = 9;
/// One write buffer of the log database, which has up to [`LOG_BUFFERS`].
const LOG_BUFFER: u64 = 4;
const LOG_BUFFERS: u8 = 3;
/// One write buffer of the state database. Snapshots from other nodes use it too.
const STATE_BUFFER: u64 = 2;
const STATE_BUFFERS: u8 = 2;
/// Block cache of the state database, with its filters and indexes.
const STATE_BLOCKS: u64 = 4;
/// Block cache of the log database.
const LOG_BLOCKS: u64 = 1;
/// Log tails: the newest entries of all replicas.
const TAILS: u64 = 3;
/// Requests: the rest.
const REQUESTS: u64 = PARTS
    - ROWS
    - COPIES
    - LOG_BUFFER * LOG_BUFFERS as u64
    - STATE_BUFFER * STATE_BUFFERS as u64
    - STATE_BLOCKS
    - LOG_BLOCKS
    - TAILS;

/// More dirty rows than this do not make checkpoints cheaper.
const MOST_DIRTY: u64 = 64 << 20;
/// A larger tail is of no use: a follower that lags further is served from the disk.
const MOST_TAIL: u64 = 8 << 20;
/// A tail holds one entry of the usual largest size, and another one. Entries that somebody waits for stay in the tail until
/// they are applied, and a single entry is always accepted, whatever its size. With little memory, the minimum size of all
/// tails comes on top of the other parts.
const LEAST_TAIL: u64 = 2 << 20;
/// Larger write buffers do not make the log cheaper.
const MOST_BUFFER: u64 = 64 << 20;

/// The parts of a node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySplit {
    /// The whole memory, in bytes.
    pub whole: u64,
    left: u64,
}

impl MemorySplit {
    /// Divides `whole` bytes.
    #[must_use]
    pub fn of(whole: u64) -> Self {
        Self { whole, left: whole.saturating_sub(BASE) }
    }

    /// The least memory of a node that accepts bodies of this size.
    #[must_use]
    pub fn least_for_body(body: u64) -> u64 {
        ((Account::least_for_body(body) * PARTS).div_ceil(REQUESTS) + BASE).max(LEAST)
    }

    /// The largest limit for requests that leaves enough for the other parts.
    #[must_use]
    pub fn most_requests(self) -> u64 {
        self.left / 2
    }

    fn part(self, parts: u64) -> u64 {
        self.left / PARTS * parts
    }

    /// Bytes of rows that all replicas may keep in memory together.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.part(ROWS)
    }

    /// Bytes of changed rows at which checkpoints are written.
    #[must_use]
    pub fn dirty(self) -> u64 {
        self.part(DIRTY).min(MOST_DIRTY)
    }

    /// Bytes of the newest entries that each of `replicas` keeps in memory.
    #[must_use]
    pub fn tail(self, replicas: usize) -> u64 {
        (self.part(TAILS) / replicas.max(1) as u64).clamp(LEAST_TAIL, MOST_TAIL)
    }

    /// Bytes for all requests together.
    #[must_use]
    pub fn requests(self) -> u64 {
        self.part(REQUESTS)
    }

    /// Limits of the log database.
    #[must_use]
    pub fn log(self, bounds: RocksBounds) -> RocksBounds {
        RocksBounds {
            write_buffer: bytes(self.part(LOG_BUFFER).min(MOST_BUFFER)),
            write_buffers: LOG_BUFFERS,
            blocks: bytes(self.part(LOG_BLOCKS)),
            ..bounds
        }
    }

    /// Limits of the state database.
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

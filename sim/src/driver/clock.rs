//! The clocks of simulated hosts. Each has its own speed and its own idea of the time of day.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ordergrid_node::platform::{Clock, Entropy};
use parking_lot::Mutex;

use crate::dice::Dice;

/// The time of day at which every history begins, in milliseconds: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: u64 = 1_767_225_600_000;
/// What a monotonic clock shows at the beginning; not zero, because programs subtract from it.
const BOOT_NANOS: u64 = 1_000_000_000_000;

thread_local! {
    static RUNNING: Cell<Option<Nanos>> = const { Cell::new(None) };
}

/// What a host's clocks show, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Nanos {
    /// Since it was switched on, without the time in which it was suspended.
    pub monotonic: u64,
    /// With that time.
    pub boot: u64,
    /// The time of day.
    pub wall: u64,
}

/// The clocks of the host that runs now; `None` outside of any.
#[must_use]
pub fn of_running_host() -> Option<Nanos> {
    RUNNING.get()
}

/// From now on code of this host runs, or of none.
pub(super) fn running(host: Option<&HostClock>) {
    RUNNING.set(host.map(HostClock::nanos));
}

/// The clock of one host. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HostClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    /// Of its own time, since the beginning, without that in which it was suspended.
    micros: AtomicU64,
    /// In which it was suspended.
    suspended_micros: AtomicU64,
    /// True time since the beginning: the time of day is set by the network's time, whatever the clock's speed.
    true_micros: AtomicU64,
    /// How far its time of day is off.
    offset_ms: AtomicI64,
}

impl HostClock {
    /// How long it has run by its own measure, in microseconds. The time in which it was suspended does not count.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.0.micros.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, micros: u64, true_micros: u64) {
        self.0.micros.store(micros, Ordering::Relaxed);
        self.0.true_micros.store(true_micros, Ordering::Relaxed);
    }

    /// So much time has passed in which it was suspended.
    pub(super) fn suspended(&self, micros: u64, true_micros: u64) {
        self.0.suspended_micros.fetch_add(micros, Ordering::Relaxed);
        self.0.true_micros.store(true_micros, Ordering::Relaxed);
    }

    /// Sets the time of day off by so much.
    pub fn set_offset_ms(&self, offset: i64) {
        self.0.offset_ms.store(offset, Ordering::Relaxed);
    }

    fn nanos(&self) -> Nanos {
        let monotonic = BOOT_NANOS + self.micros() * 1_000;
        let boot = monotonic + self.0.suspended_micros.load(Ordering::Relaxed) * 1_000;
        Nanos { monotonic, boot, wall: self.wall_ms() * 1_000_000 }
    }
}

impl Clock for HostClock {
    fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.0.true_micros.load(Ordering::Relaxed) / 1_000)
            .saturating_add_signed(self.0.offset_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ms(&self) -> u64 {
        self.nanos().boot / 1_000_000
    }
}

/// A host's chance, from a seed.
#[derive(Debug)]
pub struct HostEntropy(Mutex<Dice>);

impl HostEntropy {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Dice::new(seed)))
    }
}

impl Entropy for HostEntropy {
    fn next_u64(&self) -> u64 {
        self.0.lock().below(u64::MAX)
    }
}

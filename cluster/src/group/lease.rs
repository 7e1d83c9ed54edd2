//! Whether a leader's lease may be trusted. A lease is measured on the monotonic clock, and that clock may stop together with
//! the machine.
//!
//! A machine that was suspended, or migrated while paused, resumes with a monotonic clock that did not advance, and with a
//! lease that ended long ago. Two other clocks show the pause: a clock that counts suspended time, and the time of day, if it
//! was set after the resume. If the distance between one of them and the monotonic clock jumps, every acknowledgement before
//! the jump is void, and the next acknowledgement starts a new lease. A machine whose clocks all stop, and are not set
//! afterwards, shows no sign of the pause. For such machines set `raft.reads = "quorum"`, which needs no clock.

use std::sync::Arc;
use std::time::Instant;

use ordergrid_domain::GroupId;
use parking_lot::Mutex;

/// The machine's clocks other than the monotonic one.
pub trait Clocks: Send + Sync {
    /// Milliseconds since some fixed moment, including time in which the machine was suspended. Nobody sets this clock.
    fn elapsed_ms(&self) -> u64;

    /// Milliseconds since 1970, as far as the machine knows.
    fn wall_ms(&self) -> u64;
}

/// A shorter pause of the machine is not detected. The lease is shortened by this much.
pub(super) const UNNOTICED_MS: i64 = 20;
/// A step of the time of day by more than this ends leases.
const STEP_MS: i64 = 100;
/// Slewing may change the time of day by one part in this many. At most one second of slewing is allowed for between two looks.
const SLEW: i64 = 10;
/// Longest time for reading all clocks; a slower reading is repeated.
const GLANCE_MS: i64 = 5;
const GLANCES: usize = 3;

/// All clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    running: i64,
    elapsed: i64,
    wall: i64,
}

/// Distances between the clocks, as last seen.
#[derive(Clone, Copy, Debug)]
struct Distances {
    looked: i64,
    suspended: i64,
    wall: i64,
}

impl Distances {
    fn of(now: Reading) -> Self {
        Self { looked: now.running, suspended: now.elapsed - now.running, wall: now.wall - now.running }
    }

    /// By how much the clocks have jumped since the last look, if they have.
    fn leapt(&mut self, now: Reading) -> Option<i64> {
        let seen = Self::of(now);
        let (suspended, stepped) = (seen.suspended - self.suspended, seen.wall - self.wall);
        let slewed = (seen.looked - self.looked).clamp(0, 1_000) / SLEW;
        let leapt = [(suspended, UNNOTICED_MS), (stepped, STEP_MS + slewed)];
        let leapt = leapt.into_iter().find(|(by, most)| by.abs() > *most).map(|(by, _)| by);
        // Short suspensions add up. The time of day may drift.
        let suspended = if leapt.is_some() { seen.suspended } else { self.suspended };
        *self = Self { suspended, ..seen };
        leapt
    }
}

/// Detects jumps of the machine's clocks. `I` is an instant of the clock that measures leases.
pub(crate) struct Steady<I> {
    group: GroupId,
    clocks: Arc<dyn Clocks>,
    began: Instant,
    seen: Mutex<Seen<I>>,
}

struct Seen<I> {
    distances: Distances,
    leapt: Option<I>,
}

impl<I: Copy + PartialOrd> Steady<I> {
    pub(super) fn new(group: GroupId, clocks: Arc<dyn Clocks>) -> Self {
        let began = Instant::now();
        let distances = Distances::of(read(&*clocks, began));
        Self { group, clocks, began, seen: Mutex::new(Seen { distances, leapt: None }) }
    }

    /// Whether the machine has run without a pause since `acknowledged`. `now` was read before this call.
    pub(super) fn since(&self, acknowledged: I, now: I) -> bool {
        let Some(reading) = self.glance() else { return false };
        let mut seen = self.seen.lock();
        if let Some(by_ms) = seen.distances.leapt(reading) {
            tracing::warn!(shard = %self.group, by_ms, "lease ended by a clock jump");
            seen.leapt = Some(now);
        }
        // ReadsAreCurrent: an acknowledgement that is yet to come proves nothing, whatever clock says so.
        acknowledged <= now && seen.leapt.is_none_or(|leapt| acknowledged > leapt)
    }

    /// Reads all clocks at one moment; `None` if this thread was interrupted in between too often.
    fn glance(&self) -> Option<Reading> {
        (0..GLANCES).find_map(|_| {
            let reading = read(&*self.clocks, self.began);
            (millis(self.began.elapsed()) - reading.running <= GLANCE_MS).then_some(reading)
        })
    }
}

fn read(clocks: &dyn Clocks, began: Instant) -> Reading {
    let since_boot = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / 2);
    let running = millis(began.elapsed());
    Reading { running, elapsed: since_boot(clocks.elapsed_ms()), wall: since_boot(clocks.wall_ms()) }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Milliseconds that the machine has run, was suspended, and its time of day is off.
    type Shown = (i64, i64, i64);

    #[test]
    fn a_leap_of_a_clock_is_seen_and_what_they_usually_do_is_not() {
        let at = |running: i64, suspended: i64, stepped: i64| Reading {
            running,
            elapsed: 5_000 + running + suspended,
            wall: 1_767_225_600_000 + running + stepped,
        };
        #[rustfmt::skip]
        let cases: [(&str, &[Shown], Option<i64>); 10] = [
            // what                               running, suspended, time of day off     leapt by
            ("all run",                           &[(1_000, 0, 0)],                       None),
            ("suspended, and the time of day set",&[(1_000, 4_000, 4_000)],               Some(4_000)),
            ("suspended, and the time of day not",&[(1_000, 4_000, 0)],                   Some(4_000)),
            ("suspended, and no clock counts it", &[(1_000, 0, 4_000)],                   Some(4_000)),
            ("suspended for a moment",            &[(1_000, 20, 0)],                      None),
            ("suspended for many moments",        &[(1_000, 15, 0), (2_000, 30, 0)],      Some(30)),
            ("the time of day is stepped back",   &[(1_000, 0, -4_000)],                  Some(-4_000)),
            ("the time of day wanders",           &[(1_000, 0, 90), (2_000, 0, 180)],     None),
            ("the time of day steps at once",     &[(0, 0, 101)],                         Some(101)),
            ("long not looked at, then stepped",  &[(9_000_000, 0, 201)],                 Some(201)),
        ];
        for (what, readings, expected) in cases {
            let mut distances = Distances::of(at(0, 0, 0));
            let leapt: Vec<_> = readings.iter().map(|(running, suspended, off)| at(*running, *suspended, *off)).collect();
            let leapt: Vec<_> = leapt.into_iter().map(|reading| distances.leapt(reading)).collect();
            assert_eq!(leapt.last().copied().flatten(), expected, "{what}");
            assert!(leapt[..leapt.len() - 1].iter().all(Option::is_none), "{what}");
        }
    }

    /// Ahead of the monotonic clock by so many milliseconds.
    struct Ahead(Instant, AtomicU64);

    impl Clocks for Ahead {
        fn elapsed_ms(&self) -> u64 {
            self.wall_ms() + self.1.load(Ordering::Relaxed)
        }

        fn wall_ms(&self) -> u64 {
            u64::try_from(self.0.elapsed().as_millis()).expect("a short test")
        }
    }

    #[test]
    fn what_was_acknowledged_before_a_leap_counts_no_more() {
        let clocks = Arc::new(Ahead(Instant::now(), AtomicU64::new(0)));
        let steady = Steady::<u64>::new(GroupId(1), clocks.clone());
        // A thread that is not let run between two looks at clocks believes nothing: ask until it is.
        let asks = |acknowledged, now| (0..1_000).any(|_| steady.since(acknowledged, now));
        assert!(asks(100, 110));
        clocks.1.store(4_000, Ordering::Relaxed);
        assert!(!asks(110, 120), "acknowledged before the machine stood still");
        assert!(!asks(120, 130), "and at the moment when it was seen");
        assert!(asks(121, 130), "acknowledged since");
        assert!(!asks(131, 130), "not acknowledged yet");
    }
}

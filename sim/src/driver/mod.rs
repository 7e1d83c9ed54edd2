//! Hosts and time: every host is a tokio runtime of its own with a clock that stands still, and time passes in ticks.
//!
//! In a tick each host runs in turn until it has nothing to do before the tick ends; what it sends is delivered in a later
//! tick. The turns of one tick are drawn. A host's clock may be slow, fast, or stand (a paused process), and everything on
//! the host follows: election timers, leases, deadlines. That is why the hosts are driven here and not by a library that
//! gives all of them one time (turmoil 0.7 does).

pub mod clock;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::dice::Dice;
use crate::history::SimTime;
use crate::net::Net;
use crate::trace;
use clock::HostClock;

/// A host's clock runs at its nominal speed at this rate.
pub const NOMINAL: u64 = 1_000;

/// All hosts, and the time.
pub struct Driver {
    now: SimTime,
    tick: Duration,
    hosts: BTreeMap<u64, Host>,
    net: Net,
    dice: Dice,
}

/// A machine that may be on or off.
struct Host {
    clock: HostClock,
    /// Thousandths of the nominal speed.
    rate: u64,
    paused: bool,
    suspended: bool,
    runtime: Option<Running>,
}

/// A program that runs. Its main task is dropped before the runtime.
struct Running {
    program: LocalSet,
    runtime: Runtime,
    /// The host's clock when the runtime was made, and what the runtime's own clock has counted since, in milliseconds.
    began_micros: u64,
    counted_ms: u64,
}

impl Driver {
    /// No hosts yet. `tick` is at least a millisecond.
    #[must_use]
    pub fn new(tick: Duration, net: Net, seed: u64) -> Self {
        Self { now: SimTime::default(), tick, hosts: BTreeMap::new(), net, dice: Dice::new(seed) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Adds a host, switched off, and gives its clock.
    pub fn add(&mut self, host: u64) -> HostClock {
        let clock = HostClock::default();
        let added = Host { clock: clock.clone(), rate: NOMINAL, paused: false, suspended: false, runtime: None };
        assert!(self.hosts.insert(host, added).is_none(), "a host is added once");
        clock
    }

    /// Switches a host on; `main` is its program.
    ///
    /// # Panics
    /// If it is on.
    pub fn start(&mut self, host: u64, main: impl Future<Output = ()> + 'static) {
        let host = self.host(host);
        assert!(host.runtime.is_none(), "the host is on already");
        clock::running(Some(&host.clock));
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("no system resource is needed");
        let program = LocalSet::new();
        program.spawn_local(main);
        (host.paused, host.suspended) = (false, false);
        host.runtime = Some(Running { program, runtime, began_micros: host.clock.micros(), counted_ms: 0 });
        clock::running(None);
    }

    /// Starts one more task on a host that is on.
    pub fn spawn(&mut self, host: u64, task: impl Future<Output = ()> + Send + 'static) {
        let host = self.host(host);
        if let Some(running) = &host.runtime {
            running.runtime.spawn(task);
        }
    }

    /// Switches a host off, at once: nothing that ran on it goes on.
    pub fn stop(&mut self, host: u64) {
        let host = self.host(host);
        clock::running(Some(&host.clock));
        drop(host.runtime.take());
        clock::running(None);
        (host.paused, host.suspended) = (false, false);
    }

    /// Whether a host is on.
    #[must_use]
    pub fn is_on(&self, host: u64) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.runtime.is_some())
    }

    /// Stops or resumes a host's program without ending it, as SIGSTOP does: its clocks go on.
    pub fn pause(&mut self, host: u64, paused: bool) {
        self.host(host).paused = paused;
    }

    /// Suspends a host or lets it go on: its monotonic clock stands, and the one that counts suspended time does not, nor does the
    /// time of day.
    pub fn suspend(&mut self, host: u64, suspended: bool) {
        self.host(host).suspended = suspended;
    }

    /// Sets the speed of a host's clock, in thousandths.
    pub fn set_rate(&mut self, host: u64, rate: u64) {
        self.host(host).rate = rate;
    }

    /// What is seen from within a host: its clocks, and those of its runtime, are the ones that are looked at.
    pub fn within<T>(&self, host: u64, look: impl FnOnce() -> T) -> T {
        let host = self.hosts.get(&host).expect("the host was added");
        clock::running(Some(&host.clock));
        let entered = host.runtime.as_ref().map(|running| running.runtime.enter());
        let seen = look();
        drop(entered);
        clock::running(None);
        seen
    }

    /// One tick passes.
    pub fn step(&mut self) {
        self.now = self.now.after(self.tick);
        trace::at(self.now);
        self.net.deliver(self.now);
        let mut turns: Vec<u64> = self.hosts.keys().copied().collect();
        self.dice.shuffle(&mut turns);
        let passed = u64::try_from(self.tick.as_micros()).expect("a tick is short");
        for host in turns {
            let now = self.now;
            self.host(host).run(passed, now);
        }
    }

    fn host(&mut self, host: u64) -> &mut Host {
        self.hosts.get_mut(&host).expect("the host was added")
    }
}

impl Host {
    fn run(&mut self, passed: u64, now: SimTime) {
        let passed_here = passed * self.rate / NOMINAL;
        if self.suspended {
            return self.clock.suspended(passed_here, now.0);
        }
        let micros = self.clock.micros() + passed_here;
        self.clock.set(micros, now.0);
        let Some(running) = self.runtime.as_mut().filter(|_| !self.paused) else { return };
        // tokio counts whole milliseconds.
        let owed_ms = ((micros - running.began_micros) / 1_000).saturating_sub(running.counted_ms);
        if owed_ms == 0 {
            return;
        }
        clock::running(Some(&self.clock));
        running.counted_ms += running.program.block_on(&running.runtime, pass(owed_ms, passed));
        clock::running(None);
    }
}

/// Lets a host live for some milliseconds, and says how many it were. After a pause the clock has jumped, and all that was due
/// is due at once.
async fn pass(owed_ms: u64, tick_micros: u64) -> u64 {
    let began = tokio::time::Instant::now();
    let usual = 2 * tick_micros.div_ceil(1_000);
    if owed_ms > usual {
        tokio::time::advance(Duration::from_millis(owed_ms - usual)).await;
        tokio::time::sleep(Duration::from_millis(usual)).await;
    } else {
        tokio::time::sleep(Duration::from_millis(owed_ms)).await;
    }
    u64::try_from(began.elapsed().as_millis()).expect("a step is short")
}

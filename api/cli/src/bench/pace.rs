//! When the next request is sent.
//!
//! Closed loop: as soon as a connection is free. Open loop: on a schedule that does not care whether the grid keeps up. A
//! request of the schedule waits for a free connection, and its latency counts from its place in the schedule: what a
//! closed loop leaves out, all the requests that a stall keeps from being sent, is counted here. Of several free connections
//! the one that was used last is taken, as pools of clients do: as many are busy as the load needs, and the others wait for a
//! stall.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// Requests that are due within this time of each other are released together: waking for each would cost more.
const FINEST: Duration = Duration::from_micros(500);

/// A connection that was idle for so long is used next. A node closes those that are idle for a minute, and a stall would
/// find none that can be used.
const IDLE: Duration = Duration::from_secs(20);

/// What is counted: what falls between the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begins: Instant,
    /// None: it ends with the last request.
    pub(super) ends: Option<Instant>,
}

impl Window {
    pub(super) fn has(&self, moment: Instant) -> bool {
        self.begins <= moment && self.ends.is_none_or(|ends| moment < ends)
    }
}

/// Tells the connections of a bench when to send.
pub(super) enum Pace {
    /// At once, until the window ends.
    Closed { window: Window, left: Option<AtomicU64>, batch: u64 },
    /// When the schedule says.
    Open(Schedule),
}

impl Pace {
    /// The moment that the next request should be sent, once it has come; none: there is no further request. Dropped while
    /// it waits, it takes no request away.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { window, left, batch } => {
                let now = Instant::now();
                if window.ends.is_some_and(|ends| now >= ends) {
                    return None;
                }
                if let Some(left) = left {
                    let take = |left: u64| (left > 0).then(|| left.saturating_sub(*batch));
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
                }
                Some(now)
            }
            Self::Open(schedule) => schedule.next().await,
        }
    }

    /// A connection that was refused waits a little before it asks again; a schedule does not wait for anybody.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// Requests at even distances.
pub(super) struct Schedule {
    starts: Instant,
    window: Window,
    ends: Instant,
    /// Orders per second.
    rate: u128,
    /// Nanoseconds per second, times orders per request.
    nanos: u128,
    line: Mutex<Line>,
    taken: AtomicU64,
}

/// Requests that wait for a connection, or connections that wait for a request.
#[derive(Default)]
struct Line {
    /// Requests that are due and not taken.
    due: u64,
    /// Free connections and since when they are, the one used last at the end.
    free: VecDeque<(oneshot::Sender<()>, Instant)>,
    /// Nothing more becomes due.
    closed: bool,
}

/// How a schedule was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Requests that the schedule has in the window.
    pub(super) scheduled: u64,
    /// The first of those that were never sent, as a number of the schedule, and how many there are.
    pub(super) never_sent: u64,
}

impl Schedule {
    /// `rate` orders per second from `starts` on, `batch` of them in a request.
    pub(super) fn new(starts: Instant, window: Window, rate: u64, batch: u32) -> Self {
        let ends = window.ends.expect("a schedule has an end");
        let nanos = 1_000_000_000 * u128::from(batch);
        Self { starts, window, ends, rate: u128::from(rate), nanos, line: Mutex::default(), taken: AtomicU64::new(0) }
    }

    /// When request `number` should be sent.
    fn at(&self, number: u64) -> Instant {
        let after = u128::from(number) * self.nanos / self.rate;
        self.starts + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// Requests that should have been sent before `moment`.
    fn before(&self, moment: Instant) -> u64 {
        let elapsed = moment.saturating_duration_since(self.starts).as_nanos();
        u64::try_from((elapsed * self.rate).div_ceil(self.nanos)).unwrap_or(u64::MAX)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("nobody panics while holding it")
    }

    async fn next(&self) -> Option<Instant> {
        let wait = self.line().step_up();
        if let Some(turn) = wait {
            turn.await.ok()?;
        }
        Some(self.at(self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    /// Releases every request when it is due, until the end; what is not taken then is never sent.
    pub(super) async fn keep(&self, timer: &Timer) {
        let mut released = 0;
        loop {
            let now = Instant::now();
            let due = self.before((now + Duration::from_nanos(1)).min(self.ends));
            self.line().release(due - released, now);
            released = due;
            if now >= self.ends {
                break;
            }
            timer.until(self.at(released).max(now + FINEST).min(self.ends)).await;
        }
        self.line().close();
    }

    /// How it was kept, once it has ended. Every request that was never sent has waited since its place in the schedule;
    /// `waited` is told how long at least.
    pub(super) fn kept(&self, mut waited: impl FnMut(Duration)) -> Kept {
        let (first, end) = (self.before(self.window.begins), self.before(self.ends));
        let taken = self.taken.load(Ordering::Relaxed).clamp(first, end);
        for number in taken..end {
            waited(self.ends.saturating_duration_since(self.at(number)));
        }
        Kept { scheduled: end - first, never_sent: end - taken }
    }
}

impl Line {
    /// A connection is free: takes a request that is due, or waits for its turn, which never comes once the line is closed.
    fn step_up(&mut self) -> Option<oneshot::Receiver<()>> {
        if self.due > 0 {
            self.due -= 1;
            return None;
        }
        let (turn, wait) = oneshot::channel();
        if !self.closed {
            self.free.push_back((turn, Instant::now()));
        }
        Some(wait)
    }

    /// So many requests are due: for each a connection that still waits, the one used last first, unless another has been
    /// idle for so long that the node might close it.
    fn release(&mut self, requests: u64, now: Instant) {
        self.due += requests;
        while self.due > 0 {
            let stale = self.free.front().is_some_and(|(_, since)| now.saturating_duration_since(*since) > IDLE);
            let next = if stale { self.free.pop_front() } else { self.free.pop_back() };
            let Some((turn, _)) = next else { break };
            self.due -= u64::from(turn.send(()).is_ok());
        }
    }

    /// Nobody gets a turn any more.
    fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }
}

/// Waits for a moment: with the kernel's timer, within some 50 us. The runtime's own rounds up to whole milliseconds, which is
/// as much as a request takes; it is for simulated time.
pub(super) struct Timer(Option<AsyncFd<OwnedFd>>);

impl Timer {
    /// The kernel's timer.
    ///
    /// # Errors
    /// When the process has too many files open.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, which nothing here is; an OwnedFd is what that asks for: open until dropped"
    )]
    pub(super) fn fine() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(Some(AsyncFd::with_interest(timer, Interest::READABLE)?)))
    }

    /// The runtime's timer.
    #[cfg(test)]
    pub(super) fn coarse() -> Self {
        Self(None)
    }

    async fn until(&self, moment: Instant) {
        let Some(timer) = &self.0 else { return sleep_until(moment).await };
        // Nothing at all would turn the timer off.
        let wait = moment.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        let set = timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: nothing, it_value: value });
        set.expect("the time is well formed");
        let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0_u8; 8])?);
        timer.async_io(Interest::READABLE, read).await.expect("a timer can be read");
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn window(starts: Instant) -> Window {
        Window { begins: starts + SECOND, ends: Some(starts + 3 * SECOND) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_has_even_distances_and_knows_what_is_before() {
        let starts = Instant::now();
        // rate, batch, number, after how many microseconds
        for (rate, batch, number, micros) in
            [(1_000, 1, 0, 0), (1_000, 1, 7, 7_000), (3, 1, 3, 1_000_000), (1_000, 100, 5, 500_000), (7, 2, 1, 285_714)]
        {
            let schedule = Schedule::new(starts, window(starts), rate, batch);
            assert_eq!((schedule.at(number) - starts).as_micros(), micros, "{rate} {batch} {number}");
            assert_eq!(schedule.before(schedule.at(number)), number, "{rate} {batch} {number}");
            assert_eq!(schedule.before(schedule.at(number) + Duration::from_nanos(1)), number + 1, "{rate} {batch} {number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_come_when_they_are_due() {
        let starts = Instant::now();
        let schedule = Schedule::new(starts, window(starts), 10, 1);
        let taking = async {
            let mut taken = Vec::new();
            while let Some(at) = schedule.next().await {
                assert!(Instant::now() >= at && Instant::now() - at < Duration::from_millis(2), "{:?}", Instant::now() - at);
                taken.push((at - starts).as_millis());
            }
            taken
        };
        let timer = Timer::coarse();
        let ((), taken) = tokio::join!(schedule.keep(&timer), taking);
        assert_eq!(taken, (0..30).map(|number| number * 100).collect::<Vec<_>>());
        assert_eq!(schedule.kept(|_| panic!("all were sent")), Kept { scheduled: 20, never_sent: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_used_last_is_taken_first() {
        let starts = Instant::now();
        let schedule = Schedule::new(starts, window(starts), 1, 1);
        let mut free: Vec<_> = (0..3).map(|_| Box::pin(schedule.next())).collect();
        let mut polls = || -> Vec<bool> { free.iter_mut().map(|next| next.as_mut().now_or_never().is_some()).collect() };
        assert_eq!(polls(), [false, false, false]);
        schedule.line().release(1, starts);
        assert_eq!(polls(), [false, false, true]);
        // One that has gone away is passed over.
        free.truncate(1);
        schedule.line().release(2, starts);
        assert!(free[0].as_mut().now_or_never().is_some());
        assert!(schedule.next().now_or_never().is_some(), "what nobody took waits for the next connection");
        assert!(schedule.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_idle_for_long_is_taken_before_a_node_closes_it() {
        let starts = Instant::now();
        let schedule = Schedule::new(starts, window(starts), 1, 1);
        let mut old = Box::pin(schedule.next());
        assert!(old.as_mut().now_or_never().is_none());
        tokio::time::advance(IDLE).await;
        let mut new = Box::pin(schedule.next());
        assert!(new.as_mut().now_or_never().is_none());
        schedule.line().release(1, Instant::now() + SECOND);
        assert!(new.as_mut().now_or_never().is_none() && old.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_took_is_never_sent_and_has_waited() {
        let starts = Instant::now();
        let schedule = Schedule::new(starts, window(starts), 2, 1);
        schedule.keep(&Timer::coarse()).await;
        assert_eq!(schedule.next().await, None, "the end has come");
        let mut waited = Vec::new();
        // The two of the warm-up do not count.
        assert_eq!(schedule.kept(|wait| waited.push(wait.as_millis())), Kept { scheduled: 4, never_sent: 4 });
        assert_eq!(waited, [2_000, 1_500, 1_000, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_ends_with_its_window_or_its_total() {
        let starts = Instant::now();
        let closed = |left: Option<u64>| Pace::Closed { window: window(starts), left: left.map(AtomicU64::new), batch: 2 };
        assert_eq!(closed(None).next().await, Some(starts));
        let total = closed(Some(3));
        let turns = (total.next().await, total.next().await, total.next().await);
        assert_eq!(turns, (Some(starts), Some(starts), None), "the last batch goes beyond rather than short of the total");
        let timed = closed(None);
        tokio::time::advance(3 * SECOND).await;
        assert_eq!(timed.next().await, None);
    }

    #[tokio::test]
    async fn the_kernels_timer_wakes_and_not_too_early() {
        let timer = Timer::fine().expect("a file can be opened");
        for micros in [0, 300, 700] {
            let moment = Instant::now() + Duration::from_micros(micros);
            timer.until(moment).await;
            assert!(Instant::now() >= moment, "{micros}");
        }
    }
}

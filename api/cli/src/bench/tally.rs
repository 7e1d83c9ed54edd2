//! What the connections of a bench saw, added up while it runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::pace::Window;

/// Tallies that the connections share: enough that they seldom meet, few enough that thousands of connections cost nothing.
const SHARES: usize = 8;
/// A request is late that was sent more than this behind its schedule.
const LATE: Duration = Duration::from_millis(1);
/// Points of the course of a run.
const POINTS: u32 = 120;

/// A kind of request; and `Life`, which is all of a lifecycle together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Place,
    Pay,
    Pick,
    Ship,
    Deliver,
    ReadOrder,
    ReadSku,
    Life,
}

impl Step {
    /// All of them, in the order in which an order goes through them.
    pub(super) const ALL: [Self; 8] =
        [Self::Place, Self::Pay, Self::Pick, Self::Ship, Self::Deliver, Self::Life, Self::ReadOrder, Self::ReadSku];

    /// Its word in reports.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Pay => "pay",
            Self::Pick => "pick",
            Self::Ship => "ship",
            Self::Deliver => "deliver",
            Self::ReadOrder => "read_order",
            Self::ReadSku => "read_sku",
            Self::Life => "lifecycle",
        }
    }
}

/// What came of one request.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) placed: u64,
    /// Orders refused, by code; a code may stand here several times.
    pub(super) refused: Vec<(String, u64)>,
    pub(super) unknown: u64,
}

/// When one request should have been sent, was sent, and had ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) intended: Instant,
    pub(super) sent: Instant,
    pub(super) ended: Instant,
}

/// What several connections saw.
pub(super) struct Tally {
    pub(super) placed: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) unknown: u64,
    pub(super) requests: u64,
    /// What the workload counts, done inside the window.
    pub(super) work: u64,
    /// The same from the beginning of the warm-up on.
    pub(super) work_ever: u64,
    /// Orders placed from the beginning of the warm-up on.
    pub(super) placed_ever: u64,
    pub(super) late: u64,
    /// Microseconds.
    latencies: BTreeMap<Step, Histogram<u64>>,
    /// Microseconds between the place in the schedule and being sent.
    pub(super) delays: Histogram<u64>,
    pub(super) course: Vec<Point>,
}

/// A stretch of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) work: u64,
    /// The slowest request that ended in it, microseconds.
    pub(super) slowest: u64,
}

/// The tallies of one run.
pub(super) struct Book {
    window: Window,
    open: bool,
    step: Duration,
    shares: Vec<Mutex<Tally>>,
}

impl Book {
    /// Of a run that is measured in `window`. `open`: what the schedule has in the window is counted, not what ends in it.
    pub(super) fn new(window: Window, open: bool) -> Self {
        let step = window.ends.map_or(Duration::from_secs(1), |ends| course_step(ends - window.begins));
        Self { window, open, step, shares: (0..SHARES).map(|_| Mutex::new(Tally::new())).collect() }
    }

    /// A request has ended; `work` is what the workload counts of it.
    pub(super) fn saw(&self, worker: u32, step: Step, times: Times, seen: &Seen, work: u64) {
        let mut tally = self.share(worker as usize);
        tally.work_ever += work;
        tally.placed_ever += seen.placed;
        if self.window.has(times.ended) {
            tally.work += work;
            let point = tally.point(times.ended - self.window.begins, self.step);
            point.work += work;
            // A lifecycle is no request.
            if step != Step::Life {
                point.slowest = point.slowest.max(micros(times.ended - times.intended));
            }
        }
        if !self.window.has(if self.open { times.intended } else { times.ended }) {
            return;
        }
        tally.placed += seen.placed;
        tally.unknown += seen.unknown;
        for (code, orders) in &seen.refused {
            *tally.refused.entry(code.clone()).or_default() += orders;
        }
        tally.waited(step, times.ended - times.intended);
        if step == Step::Life {
            return;
        }
        tally.requests += 1;
        if self.open && step_of_schedule(step) {
            let delay = times.sent - times.intended;
            tally.delays.record(micros(delay)).expect("the histogram grows");
            tally.late += u64::from(delay > LATE);
        }
    }

    /// A request of the schedule was never sent; it had waited so long when the run ended.
    pub(super) fn never_sent(&self, waited: Duration) {
        self.share(0).waited(Step::Place, waited);
    }

    /// What was done so far, and the orders placed, warm-up included.
    pub(super) fn so_far(&self) -> u64 {
        (0..SHARES).map(|number| self.share(number).work_ever).sum()
    }

    /// Everything together, and how long a point of the course is.
    pub(super) fn close(&self) -> (Tally, Duration) {
        let mut all = Tally::new();
        for number in 0..SHARES {
            all.add(&self.share(number));
        }
        // Stretches in which nothing ended belong to the course too, the last ones included.
        if let Some(ends) = self.window.ends {
            let points = (ends - self.window.begins).div_duration_f64(self.step).ceil() as usize;
            all.course.resize(points.max(1), Point::default());
        }
        let mut step = self.step;
        while all.course.len() > 2 * POINTS as usize {
            let join = |two: &[Point]| Point {
                work: two.iter().map(|point| point.work).sum(),
                slowest: two.iter().map(|point| point.slowest).max().unwrap_or(0),
            };
            all.course = all.course.chunks(2).map(join).collect();
            step *= 2;
        }
        (all, step)
    }

    fn share(&self, number: usize) -> MutexGuard<'_, Tally> {
        self.shares[number % SHARES].lock().expect("nobody panics while holding it")
    }
}

/// Later steps of a lifecycle follow the first and stand in no schedule.
fn step_of_schedule(step: Step) -> bool {
    matches!(step, Step::Place | Step::ReadOrder | Step::ReadSku)
}

/// A step that people can read, such that a run of this length has at most so many points.
fn course_step(length: Duration) -> Duration {
    let steps = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000].map(Duration::from_millis);
    steps.into_iter().find(|step| *step * POINTS >= length).unwrap_or(length / POINTS)
}

impl Tally {
    fn new() -> Self {
        Self {
            placed: 0,
            refused: BTreeMap::new(),
            unknown: 0,
            requests: 0,
            work: 0,
            work_ever: 0,
            placed_ever: 0,
            late: 0,
            latencies: BTreeMap::new(),
            delays: histogram(),
            course: Vec::new(),
        }
    }

    /// Latencies by kind of request, in microseconds.
    pub(super) fn latencies(&self) -> impl Iterator<Item = (Step, &Histogram<u64>)> {
        self.latencies.iter().map(|(step, histogram)| (*step, histogram))
    }

    fn waited(&mut self, step: Step, latency: Duration) {
        self.latencies.entry(step).or_insert_with(histogram).record(micros(latency)).expect("the histogram grows");
    }

    fn point(&mut self, after: Duration, step: Duration) -> &mut Point {
        let at = after.div_duration_f64(step) as usize;
        if self.course.len() <= at {
            self.course.resize(at + 1, Point::default());
        }
        &mut self.course[at]
    }

    fn add(&mut self, other: &Self) {
        self.placed += other.placed;
        self.unknown += other.unknown;
        self.requests += other.requests;
        self.work += other.work;
        self.work_ever += other.work_ever;
        self.placed_ever += other.placed_ever;
        self.late += other.late;
        for (code, number) in &other.refused {
            *self.refused.entry(code.clone()).or_default() += number;
        }
        for (step, latencies) in &other.latencies {
            self.latencies.entry(*step).or_insert_with(histogram).add(latencies).expect("the histogram grows");
        }
        self.delays.add(&other.delays).expect("the histogram grows");
        if self.course.len() < other.course.len() {
            self.course.resize(other.course.len(), Point::default());
        }
        for (point, more) in self.course.iter_mut().zip(&other.course) {
            point.work += more.work;
            point.slowest = point.slowest.max(more.slowest);
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are supported")
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn book(open: bool) -> (Book, Instant) {
        let begins = Instant::now() + 1_000 * MS;
        (Book::new(Window { begins, ends: Some(begins + 1_000 * MS) }, open), begins)
    }

    fn placed() -> Seen {
        Seen { placed: 1, ..Seen::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_counts_what_ends_in_the_window_and_an_open_one_what_was_scheduled_in_it() {
        // open, intended and ended after the window began, counted, worked in time
        for (open, intended, ended, counted, in_time) in [
            (false, -10, 5, 1, 1),
            (false, 990, 1_010, 0, 0),
            (false, -20, -10, 0, 0),
            (true, -10, 5, 0, 1),
            (true, 990, 1_010, 1, 0),
            (true, 0, 999, 1, 1),
        ] {
            let (book, begins) = book(open);
            let at = |ms: i64| begins + Duration::from_millis((ms + 1_000) as u64) - 1_000 * MS;
            let times = Times { intended: at(intended), sent: at(intended), ended: at(ended) };
            book.saw(3, Step::Place, times, &placed(), 1);
            let (tally, _) = book.close();
            assert_eq!((tally.placed, tally.work), (counted, in_time), "{open} {intended} {ended}");
            assert_eq!((tally.work_ever, tally.placed_ever, tally.course.len()), (1, 1, 10), "{open} {intended} {ended}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_schedule_and_lateness_is_told() {
        let (book, begins) = book(true);
        for (worker, sent) in [(0, 0), (1, 1), (2, 400)] {
            let times = Times { intended: begins, sent: begins + sent * MS, ended: begins + (sent + 2) * MS };
            book.saw(worker, Step::Place, times, &placed(), 1);
        }
        book.never_sent(900 * MS);
        let (tally, step) = book.close();
        let latencies = tally.latencies().next().expect("of placing").1;
        assert_eq!((latencies.min() / 1_000, latencies.len(), tally.late, tally.requests), (2, 4, 1, 3));
        assert_eq!((latencies.max() + 500) / 1_000, 900);
        assert_eq!(step, 100 * MS);
        assert_eq!((tally.course[0].work, tally.course[4].work, tally.course[4].slowest), (2, 1, 402_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lifecycle_is_work_and_a_latency_but_no_request() {
        let (book, begins) = book(false);
        book.saw(0, Step::Life, Times { intended: begins, sent: begins, ended: begins + 50 * MS }, &Seen::default(), 1);
        let (tally, _) = book.close();
        assert_eq!((tally.work, tally.requests, tally.course[0]), (1, 0, Point { work: 1, slowest: 0 }));
        assert_eq!(tally.latencies().map(|(step, of)| (step, of.len())).collect::<Vec<_>>(), [(Step::Life, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_without_an_end_keeps_its_course_short() {
        let begins = Instant::now();
        let book = Book::new(Window { begins, ends: None }, false);
        for second in 0..1_000 {
            let ended = begins + second * 1_000 * MS;
            book.saw(second, Step::Place, Times { intended: ended, sent: ended, ended }, &placed(), 2);
        }
        let (tally, step) = book.close();
        assert_eq!((tally.course.len(), step, tally.course[0].work), (125, 8_000 * MS, 16));
    }

    #[test]
    fn steps_of_the_course_are_round() {
        for (seconds, ms) in [(1, 100), (12, 100), (13, 200), (60, 500), (600, 5_000), (14_400, 120_000)] {
            assert_eq!(course_step(Duration::from_secs(seconds)), ms * MS, "{seconds}");
        }
    }
}

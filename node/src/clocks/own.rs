//! A node's own clock: the wall clock, as long as it runs at the speed of the monotonic clock. Pure.
//!
//! An administrator may step the wall clock, but not the monotonic clock. So a step is ignored unless the clocks of a majority
//! confirm it. For the time before the start there is only the log: if the wall clock is behind log time, or ahead of it by
//! more than a plausible downtime (a leap), the node cannot tell which of the two is right. Time then continues from log time,
//! and a [`Question`] asks an operator whether deadlines may expire.
//!
//! A node without replicas finds no log time on its disk. Its wall clock proves as little about the time before its start as
//! any other, so it is judged as soon as a peer has reported its log time.
//!
//! The question is also asked if all nodes start together and their clocks agree. The machines of one grid mostly get their
//! time from one source, so their agreement proves little about days. Asking costs little (orders are accepted meanwhile), and
//! a wrong answer cannot be undone.

use super::agree::{Interval, agreed};

/// A slewed wall clock gains or loses at most one part in this many. This is the limit of slewing, and more than any clock
/// drifts.
const SLEW: i64 = 10;
/// Two clocks of a machine drift apart by less than one part in this many. A wall clock that is corrected after a long time is
/// that far off the monotonic clock.
const DRIFT: i64 = 1_000;

/// Both clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Milliseconds since 1970.
    pub(crate) wall: i64,
    /// Milliseconds since the start of the machine, or another fixed moment.
    pub(crate) monotonic: i64,
}

impl Reading {
    /// Distance of the wall clock ahead of the monotonic clock.
    pub(crate) fn offset(self) -> i64 {
        self.wall.saturating_sub(self.monotonic)
    }
}

/// Why time continues from the log until an operator says which clock is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The wall clock is behind log time.
    Behind,
    /// The wall clock is ahead of log time by more than a leap.
    Ahead,
}

/// The clock that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// The wall clock.
    Wall,
    /// Log time, plus the time that has passed since.
    Log,
}

/// Limits within which clocks are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Number of nodes in the grid.
    pub(crate) nodes: usize,
    /// Largest trusted distance between two clocks.
    pub(crate) skew: i64,
    /// Largest trusted distance of a wall clock ahead of log time at a start.
    pub(crate) leap: i64,
}

impl Rules {
    pub(crate) fn majority(self) -> usize {
        self.nodes / 2 + 1
    }

    /// The question that such a distance ahead of log time raises at a start.
    pub(super) fn asks(self, ahead: i64) -> Option<Question> {
        match ahead {
            _ if ahead < -self.skew => Some(Question::Behind),
            _ if ahead > self.leap => Some(Question::Ahead),
            _ => None,
        }
    }
}

/// A peer's clock, as reported recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The interval that contains the peer's clock, widened by the trusted distance, relative to the own monotonic clock.
    pub(crate) within: Interval,
    /// Whether the peer itself waits for an operator.
    pub(crate) asks: bool,
}

/// A node's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnClock {
    /// Distance of the own clock ahead of the monotonic clock.
    offset: i64,
    looked: i64,
    /// When the wall clock was last seen at this distance.
    beside: i64,
    /// Log time as far as it is known; 0 before.
    log: i64,
    question: Option<Question>,
    /// Whether an operator has answered: log time raises no further question.
    answered: bool,
}

impl OwnClock {
    /// The clock at a start. `log` is log time; 0 if nothing was ever written, or nothing of it is on this node.
    pub(crate) fn start(now: Reading, log: i64, rules: Rules) -> Self {
        let (offset, looked) = (now.offset(), now.monotonic);
        let mut own = Self { offset, looked, beside: looked, log, question: None, answered: false };
        if log > 0 {
            own.doubt(now, log, rules);
        }
        own
    }

    fn doubt(&mut self, now: Reading, log: i64, rules: Rules) {
        let from_log = log.saturating_sub(now.monotonic);
        self.question = rules.asks(now.offset().saturating_sub(from_log));
        self.offset = if self.question.is_some() { from_log } else { now.offset() };
    }

    /// Judges the start by log time as soon as it is known, however late, unless a majority of `others`, who wait for no
    /// operator, confirms the wall clock.
    /// doubt, know better.
    fn learn(&mut self, now: Reading, log: i64, others: &[Told], rules: Rules) {
        let first = self.log == 0 && log > 0;
        let back = log > 0 && log < self.log;
        // The nodes that know log time may be gone for a while.
        self.log = if log > 0 { log } else { self.log };
        if back && self.question.is_some() {
            // Log time was set back: the start was judged by an older checkpoint.
            self.doubt(now, log, rules);
        }
        let doubtful = first && !self.answered && rules.asks(self.time(now).saturating_sub(log)).is_some();
        if doubtful && !supported(self.offset, others, rules) {
            self.doubt(now, log, rules);
        }
        if self.question.is_some() {
            // The others continue, and their timestamps are not behind the time.
            self.offset = self.offset.max(self.log.saturating_sub(now.monotonic));
        }
    }

    /// Reads both clocks again. `log` is log time as far as any node has reported, `told` are the peers' recent reports.
    pub(crate) fn look(&mut self, now: Reading, log: i64, told: &[Told], rules: Rules) {
        let others: Vec<_> = told.iter().filter(|told| !told.asks).copied().collect();
        self.learn(now, log, &others, rules);
        let ahead = now.offset().saturating_sub(self.offset);
        let passed = now.monotonic.saturating_sub(self.looked).max(0);
        self.looked = now.monotonic;
        let alone = rules.nodes == 1;
        if self.question.is_some() {
            if rules.asks(ahead).is_none() || (!alone && supported(now.offset(), &others, rules)) {
                // The wall clock was corrected, or the other nodes know better than the log.
                self.believe(now.offset());
            } else if !alone && supported(self.offset, &others, rules) {
                self.question = None;
            }
            return;
        }
        if !supported(self.offset, told, rules) && supported(now.offset(), told, rules) {
            self.believe(now.offset());
        } else if ahead.abs() <= rules.skew.saturating_add((now.monotonic - self.beside) / DRIFT) {
            let most = passed / SLEW + 1;
            self.offset = self.offset.saturating_add(ahead.clamp(-most, most));
            if ahead.abs() <= rules.skew {
                self.beside = now.monotonic;
            }
        }
        // The log was ahead of the checkpoint that the node started from.
        if alone && !self.answered && log.saturating_sub(self.time(now)) > rules.skew {
            self.doubt(now, log, rules);
        }
    }

    /// An operator accepts a clock as right.
    pub(crate) fn accept(&mut self, right: Right, now: Reading, log: i64) {
        self.believe(self.accepted(right, now, log));
        self.answered = true;
    }

    /// The distance ahead of the monotonic clock if that clock were accepted.
    pub(crate) fn accepted(&self, right: Right, now: Reading, log: i64) -> i64 {
        match right {
            Right::Wall => now.offset(),
            Right::Log => self.offset.max(log.saturating_sub(now.monotonic)),
        }
    }

    fn believe(&mut self, offset: i64) {
        self.offset = offset;
        self.question = None;
    }

    /// Distance of the own clock ahead of the monotonic clock.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// The time of the own clock.
    pub(crate) fn time(&self, now: Reading) -> i64 {
        now.monotonic.saturating_add(self.offset)
    }

    /// Log time as far as it is known; 0 before.
    pub(crate) fn log(&self) -> i64 {
        self.log
    }

    /// Why an operator has to say which clock is right, if so.
    pub(crate) fn question(&self) -> Option<Question> {
        self.question
    }
}

/// Whether a clock at this offset belongs to a majority that agrees.
fn supported(offset: i64, told: &[Told], rules: Rules) -> bool {
    let own = Interval::at(offset).widened(rules.skew);
    let all: Vec<_> = told.iter().map(|told| told.within).chain([own]).collect();
    agreed(&all, rules.majority()).is_some_and(|agreed| agreed.meets(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;
    const DAY: i64 = 86_400 * SECOND;
    /// What the wall clock showed when the monotonic one began.
    const BOOT: i64 = 20_000 * DAY;

    fn rules(nodes: usize) -> Rules {
        Rules { nodes, skew: 5 * SECOND, leap: 5 * DAY }
    }

    /// Both clocks some seconds after the beginning, the wall clock off by so many milliseconds.
    fn at(seconds: i64, off: i64) -> Reading {
        Reading { wall: BOOT + seconds * SECOND + off, monotonic: seconds * SECOND }
    }

    fn told(off: i64) -> Told {
        Told { within: Interval::at(BOOT + off).widened(5 * SECOND), asks: false }
    }

    #[test]
    fn a_start_asks_when_the_wall_clock_and_the_log_contradict_each_other() {
        use Question::{Ahead, Behind};
        #[rustfmt::skip]
        let cases = [
            // wall clock ahead of the log, question
            (-20_000 * DAY,                 Some(Behind)),
            (-8 * DAY,                      Some(Behind)),
            (-6 * SECOND,                   Some(Behind)),
            (-4 * SECOND,                   None),
            (0,                             None),
            (4 * DAY,                       None),
            (6 * DAY,                       Some(Ahead)),
            (7_000 * DAY,                   Some(Ahead)),
        ];
        for (ahead, question) in cases {
            let own = OwnClock::start(at(0, 0), BOOT - ahead, rules(1));
            assert_eq!(own.question(), question, "{ahead} ms ahead");
            let shown = if question.is_some() { BOOT - ahead } else { BOOT };
            assert_eq!(own.time(at(0, 0)), shown, "{ahead} ms ahead");
        }
        assert_eq!(OwnClock::start(at(0, 0), 0, rules(1)).question(), None, "an empty log says nothing");
    }

    #[test]
    fn alone_a_step_of_the_wall_clock_is_not_believed_and_a_correction_is_followed_slowly() {
        #[rustfmt::skip]
        let cases = [
            // the wall clock is off by, what is believed of it after a second and after a minute
            (8 * DAY,      0,    0),
            (-8 * DAY,     0,    0),
            (6 * SECOND,   0,    0),
            (3 * SECOND,   101,  3_000),
            (-3 * SECOND, -101, -3_000),
            (40,           40,   40),
        ];
        for (off, soon, later) in cases {
            let mut own = OwnClock::start(at(0, 0), BOOT, rules(1));
            own.look(at(1, off), BOOT, &[], rules(1));
            assert_eq!(own.offset() - BOOT, soon, "{off}");
            (2..=61).for_each(|second| own.look(at(second, off), BOOT, &[], rules(1)));
            assert_eq!(own.offset() - BOOT, later, "{off}");
            assert_eq!(own.question(), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_right_after_long_is_believed_though_the_machine_has_drifted() {
        const DRIFTED: i64 = 17 * SECOND;
        let mut own = OwnClock::start(at(0, 0), BOOT, rules(1));
        (1..=24).for_each(|hour| own.look(at(hour * 3_600, 8 * DAY), BOOT, &[], rules(1)));
        assert_eq!(own.offset(), BOOT);
        (1..=200).for_each(|second| own.look(at(24 * 3_600 + second, DRIFTED), BOOT, &[], rules(1)));
        assert_eq!(own.offset() - BOOT, DRIFTED);
    }

    #[test]
    fn among_others_the_wall_clock_is_believed_where_a_majority_is() {
        #[rustfmt::skip]
        let cases: &[(i64, &[i64], i64)] = &[
            // wall clock, peers,                        believed after a second
            (8 * DAY,      &[0, 10],                     0),
            (8 * DAY,      &[8 * DAY, 8 * DAY],          8 * DAY),
            (8 * DAY,      &[8 * DAY],                   8 * DAY),
            (8 * DAY,      &[0],                         0),
            (8 * DAY,      &[],                          0),
            (8 * DAY,      &[8 * DAY, 0],                0),
        ];
        for (off, peers, believed) in cases {
            let mut own = OwnClock::start(at(0, 0), BOOT, rules(3));
            let peers: Vec<_> = peers.iter().map(|off| told(*off)).collect();
            own.look(at(1, *off), BOOT, &peers, rules(3));
            assert_eq!(own.offset() - BOOT, *believed, "{off} among {peers:?}");
        }
    }

    #[test]
    fn a_question_ends_when_the_clock_is_set_right_or_others_know_or_an_operator_says() {
        let asking = |nodes| OwnClock::start(at(0, 0), BOOT - 30 * DAY, rules(nodes));
        let log = BOOT - 30 * DAY;

        let mut alone = asking(1);
        alone.look(at(1, 0), log, &[], rules(1));
        assert_eq!((alone.question(), alone.offset()), (Some(Question::Ahead), log), "time does not help");
        alone.look(at(2, -30 * DAY), log, &[], rules(1));
        assert_eq!((alone.question(), alone.offset()), (None, log));

        let mut late = asking(3);
        late.look(at(1, 0), log, &[told(0)], rules(3));
        assert_eq!((late.question(), late.offset()), (None, BOOT), "the grid went on without this node");
        let mut wrong = asking(3);
        wrong.look(at(1, 0), log, &[told(-30 * DAY)], rules(3));
        assert_eq!((wrong.question(), wrong.offset()), (None, log), "its wall clock is wrong");
        let mut all = asking(3);
        let doubtful = Told { asks: true, ..told(0) };
        all.look(at(1, 0), log, &[doubtful, doubtful], rules(3));
        assert_eq!(all.question(), Some(Question::Ahead), "who asks knows nothing");

        for (right, offset) in [(Right::Wall, BOOT), (Right::Log, log)] {
            let mut own = asking(1);
            own.accept(right, at(5, 0), log);
            own.look(at(6, 0), log, &[], rules(1));
            assert_eq!((own.question(), own.offset()), (None, offset), "{right:?}");
        }
    }

    #[test]
    fn log_time_that_is_heard_of_late_is_what_the_start_is_judged_by() {
        #[rustfmt::skip]
        let cases = [
            // wall clock at the start, log time heard of,  question,               time is taken to be
            (0,                         0,                  None,                    0),
            (4 * DAY,                   0,                  None,                    4 * DAY),
            (7_000 * DAY,               0,                  Some(Question::Ahead),   0),
            (-8 * DAY,                  0,                  Some(Question::Behind),  0),
        ];
        for (off, log, question, taken) in cases {
            let mut own = OwnClock::start(at(0, off), 0, rules(5));
            own.look(at(1, off), 0, &[], rules(5));
            assert_eq!((own.question(), own.offset() - BOOT), (None, off), "nothing is known yet");
            own.look(at(2, off), BOOT + 2 * SECOND + log, &[], rules(5));
            assert_eq!((own.question(), own.offset() - BOOT), (question, taken), "{off}");
            own.look(at(9, off), BOOT + 9 * SECOND + log, &[told(taken)], rules(5));
            assert_eq!((own.question(), own.offset() - BOOT), (question, taken), "{off}: one more is no majority of five");
        }
    }

    #[test]
    fn a_log_that_runs_away_does_not_take_the_clocks_of_a_majority_with_it() {
        let mut own = OwnClock::start(at(0, 0), 0, rules(3));
        own.look(at(1, 0), BOOT + 8 * DAY, &[told(0)], rules(3));
        assert_eq!((own.question(), own.offset()), (None, BOOT));
        let mut unsure = OwnClock::start(at(0, 0), 0, rules(3));
        unsure.look(at(1, 0), BOOT + 8 * DAY, &[Told { asks: true, ..told(0) }], rules(3));
        assert_eq!(unsure.question(), Some(Question::Behind), "who asks knows nothing");
    }

    #[test]
    fn a_log_that_was_set_back_is_not_asked_about() {
        // The start finds a checkpoint from the time that ran away; that it was set back is in the log behind it.
        let mut own = OwnClock::start(at(0, 0), BOOT + 8 * DAY, rules(1));
        assert_eq!((own.question(), own.offset()), (Some(Question::Behind), BOOT + 8 * DAY));
        own.look(at(1, 0), BOOT, &[], rules(1));
        assert_eq!((own.question(), own.offset()), (None, BOOT));
    }

    #[test]
    fn whoever_asks_follows_the_log_of_the_others() {
        let mut own = OwnClock::start(at(0, 7_000 * DAY), BOOT - DAY, rules(3));
        assert_eq!(own.offset(), BOOT - DAY);
        own.look(at(3, 7_000 * DAY), BOOT + 3 * SECOND, &[], rules(3));
        assert_eq!((own.question(), own.offset()), (Some(Question::Ahead), BOOT));
        own.look(at(4, 0), BOOT + 3 * SECOND, &[], rules(3));
        assert_eq!((own.question(), own.offset()), (None, BOOT), "the clock was set right");
    }

    #[test]
    fn alone_a_log_that_turns_out_to_be_ahead_is_asked_about_once() {
        let mut own = OwnClock::start(at(0, 0), BOOT, rules(1));
        own.look(at(1, 0), BOOT + 8 * DAY, &[], rules(1));
        assert_eq!((own.question(), own.time(at(1, 0))), (Some(Question::Behind), BOOT + 8 * DAY));
        own.accept(Right::Wall, at(2, 0), BOOT + 8 * DAY);
        own.look(at(3, 0), BOOT + 8 * DAY, &[], rules(1));
        assert_eq!((own.question(), own.offset()), (None, BOOT));
    }
}

//! Grid time as this node knows it: the time with which leaders stamp entries (protocol.md, rule 21).
//!
//! Each node reports its own clock to its peers. Grid time is the interval in which the clocks of a majority agree, this node's
//! included. A leader stamps its wall clock if that lies in the interval; else its own clock, if that does; else the middle of
//! the interval. So no single wall clock can carry log time away. Between two measurements, and while no majority answers, grid
//! time advances with the monotonic clock: a leader that does not hear a majority cannot commit, but its earlier proposals may
//! still be committed. A new leader serves only after a majority was heard recently (see [`GridTime::known`]), so its first
//! entry is bounded like every other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use ordergrid_cluster::NodeId;
use ordergrid_domain::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::agree::{Interval, agreed};
use super::own::{OwnClock, Question, Reading, Right, Rules, Told};
use crate::platform::Clock;
use crate::telemetry::metrics;

/// A peer's report older than this, in milliseconds, does not count.
const FRESH_MS: i64 = 10_000;
/// Clocks drift by less than one part in this many.
const DRIFT: i64 = 1_000;
/// Later times are reduced to this one, the year 11,000, so that a value from a peer or a clock cannot overflow.
const LATEST_MS: u64 = 285_000_000_000_000;

/// A node's clock, as reported to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToldTime {
    /// The node's own clock.
    pub(crate) own: Timestamp,
    /// Whether the wall clock lies in grid time as the node knows it, so that the node may lead.
    pub(crate) sound: bool,
    /// Whether the node waits for an operator.
    pub(crate) asks: bool,
    /// Log time as far as the node knows; 0 before.
    pub(crate) log: Timestamp,
}

/// How this node's wall clock relates to grid time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The wall clock lies in grid time.
    Within,
    /// The wall clock is this many milliseconds ahead of the clock that is used instead, or behind it if negative.
    Outside(i64),
    /// No majority of the clocks agrees.
    Apart,
    /// Fewer than a majority of the nodes answered recently.
    Unheard,
}

/// The state of the clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The own wall clock.
    pub(crate) standing: Standing,
    /// Why an operator has to say which clock is right, if so.
    pub(crate) question: Option<Question>,
    /// Milliseconds by which log time is ahead of grid time. Timers wait until grid time has reached it.
    pub(crate) log_ahead: Option<i64>,
    /// Peers whose clocks lie in grid time.
    pub(crate) sound: BTreeSet<NodeId>,
    /// Peers that report that they should not lead.
    pub(crate) unsound: BTreeSet<NodeId>,
}

impl Seen {
    /// Whether another node should lead this node's shards: its wall clock is wrong, and other nodes have right ones.
    pub(crate) fn gives_way(&self) -> bool {
        matches!(self.standing, Standing::Outside(_)) && !self.sound.is_empty()
    }
}

/// A peer's report, and when it arrived.
struct Heard {
    /// The interval that contains the peer's clock, relative to the own monotonic clock.
    within: Interval,
    at: i64,
    told: ToldTime,
}

struct State {
    own: OwnClock,
    peers: BTreeMap<NodeId, Heard>,
    /// Whether a majority has agreed since the start.
    settled: bool,
    seen: Seen,
}

/// Grid time. A node has one, with which every shard's leader stamps.
pub(crate) struct GridTime {
    node: NodeId,
    clock: Arc<dyn Clock>,
    rules: Rules,
    /// Start of the interval, relative to the monotonic clock; its end follows.
    from: AtomicI64,
    to: AtomicI64,
    /// The clock that is used if the wall clock lies outside of the interval: the own clock if that lies inside, else the
    /// middle.
    instead: AtomicI64,
    ticks: AtomicBool,
    known: watch::Sender<bool>,
    state: Mutex<State>,
}

impl GridTime {
    /// Grid time at a start, with log time as far as it is known.
    pub(crate) fn start(node: NodeId, clock: Arc<dyn Clock>, rules: Rules, log: Timestamp) -> Self {
        let now = reading(&*clock);
        let own = OwnClock::start(now, ms(log), rules);
        let (sound, unsound) = (BTreeSet::new(), BTreeSet::new());
        let seen = Seen { standing: Standing::Unheard, question: own.question(), log_ahead: None, sound, unsound };
        let time = Self {
            node,
            clock,
            rules,
            from: AtomicI64::new(own.offset().saturating_sub(rules.skew)),
            to: AtomicI64::new(own.offset().saturating_add(rules.skew)),
            instead: AtomicI64::new(own.offset()),
            ticks: AtomicBool::new(own.question().is_none()),
            known: watch::Sender::new(false),
            state: Mutex::new(State { own, peers: BTreeMap::new(), settled: false, seen }),
        };
        time.look(log);
        time
    }

    /// What a leader stamps: its wall clock if that lies in grid time. No lock, and two looks at clocks.
    pub(crate) fn now(&self) -> Timestamp {
        let now = reading(&*self.clock);
        let grid = Interval { from: self.from.load(Ordering::Acquire), to: self.to.load(Ordering::Acquire) };
        let instead = now.monotonic.saturating_add(self.instead.load(Ordering::Acquire));
        timestamp(if grid.holds(now.offset()) { now.wall } else { instead })
    }

    /// The monotonic clock, in milliseconds.
    pub(crate) fn monotonic(&self) -> i64 {
        reading(&*self.clock).monotonic
    }

    /// The wall clock, for display.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether a majority was heard recently and agrees. The first entry of a term waits for this.
    pub(crate) fn known(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }

    /// Whether deadlines may expire: not while an operator has to say which clock is right.
    pub(crate) fn may_tick(&self) -> bool {
        self.ticks.load(Ordering::Acquire)
    }

    /// The state of the clocks.
    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().seen.clone()
    }

    /// The report to the peers. A node with a log of its own, whose time is given, reports only that. If nodes passed on the
    /// log time of others, it would circulate after log time was set back.
    pub(crate) fn tell(&self, log: Timestamp) -> ToldTime {
        let now = reading(&*self.clock);
        let state = self.state.lock();
        let sound = !matches!(state.seen.standing, Standing::Outside(_));
        let known = timestamp(state.own.log());
        let (own, log) = (timestamp(state.own.time(now)), if log > Timestamp::default() { log } else { known });
        ToldTime { own, sound, asks: state.own.question().is_some(), log }
    }

    /// Records a peer's report, which was requested at a moment of the monotonic clock and arrived just now. An answer that
    /// took longer than the trusted distance between clocks is ignored.
    pub(crate) fn heard(&self, peer: NodeId, asked: i64, told: ToldTime, log: Timestamp) {
        let at = self.monotonic();
        if at.saturating_sub(asked) > self.rules.skew {
            return;
        }
        // The peer read its clock some time between the two moments.
        let within = Interval { from: ms(told.own).saturating_sub(at), to: ms(told.own).saturating_sub(asked) };
        self.state.lock().peers.insert(peer, Heard { within: within.widened(1), at, told });
        self.look(log);
    }

    /// An operator accepts a clock as right.
    pub(crate) fn accept(&self, right: Right, log: Timestamp) {
        self.state.lock().own.accept(right, reading(&*self.clock), ms(log));
        tracing::warn!(?right, "operator accepted a clock");
        self.look(log);
    }

    /// The time of this node's clock if that clock were accepted.
    pub(crate) fn accepted(&self, right: Right, log: Timestamp) -> Timestamp {
        let now = reading(&*self.clock);
        timestamp(now.monotonic.saturating_add(self.state.lock().own.accepted(right, now, ms(log))))
    }

    /// Whether a shard's log time is ahead of the time by more than two leaders can differ.
    pub(crate) fn is_ahead(&self, log: Timestamp) -> bool {
        ms(log).saturating_sub(ms(self.now())) > 2 * self.rules.skew
    }

    /// Evaluates the state of the clocks again.
    pub(crate) fn look(&self, log: Timestamp) {
        let now = reading(&*self.clock);
        let mut state = self.state.lock();
        let State { own, peers, settled, seen } = &mut *state;
        peers.retain(|_, heard| now.monotonic.saturating_sub(heard.at) <= FRESH_MS);
        let known = peers.values().map(|heard| ms(heard.told.log)).fold(ms(log), i64::max);
        let counted = peers.values().filter(|heard| !heard.is_doubtful(now.monotonic, known, self.rules));
        let told: Vec<_> = counted.map(|heard| heard.as_of(now.monotonic, self.rules)).collect();
        own.look(now, known, &told, self.rules);
        let own_interval = Interval::at(own.offset()).widened(self.rules.skew);
        let all: Vec<_> = told.iter().map(|told| told.within).chain([own_interval]).collect();
        let grid = agreed(&all, self.rules.majority());
        *settled |= grid.is_some();
        // Until then nothing else is known.
        if let Some(grid) = grid.or((!*settled).then_some(own_interval)) {
            let instead = if grid.holds(own.offset()) { own.offset() } else { grid.middle() };
            self.from.store(grid.from, Ordering::Release);
            self.to.store(grid.to, Ordering::Release);
            self.instead.store(instead, Ordering::Release);
        }
        self.ticks.store(own.question().is_none(), Ordering::Release);
        let heard = all.len() >= self.rules.majority();
        let instead = self.instead.load(Ordering::Acquire);
        let off = now.offset().saturating_sub(instead);
        let ahead = ms(log).saturating_sub(now.monotonic.saturating_add(instead));
        let found = Seen {
            standing: match grid {
                Some(grid) if grid.holds(now.offset()) => Standing::Within,
                Some(_) => Standing::Outside(off),
                None if heard => Standing::Apart,
                None => Standing::Unheard,
            },
            question: own.question(),
            // Two leaders whose clocks lie in grid time may differ by this much.
            log_ahead: (ahead > 2 * self.rules.skew).then_some(ahead),
            sound: peers.iter().filter(|(_, heard)| heard.sound(grid, now.monotonic, self.rules)).map(|(id, _)| *id).collect(),
            unsound: peers.iter().filter(|(_, heard)| !heard.told.sound).map(|(id, _)| *id).collect(),
        };
        report(self.node, seen, &found, off);
        *seen = found;
        drop(state);
        self.known.send_if_modified(|known| std::mem::replace(known, grid.is_some()) != grid.is_some());
    }
}

impl Heard {
    /// The interval as of a later moment: it grows with the time passed.
    fn as_of(&self, monotonic: i64, rules: Rules) -> Told {
        let drift = monotonic.saturating_sub(self.at) / DRIFT;
        Told { within: self.within.widened(drift.saturating_add(rules.skew)), asks: self.told.asks }
    }

    /// Whether the peer has no log time yet, and its clock is one that it will doubt once it has.
    fn is_doubtful(&self, monotonic: i64, log: i64, rules: Rules) -> bool {
        let ahead = monotonic.saturating_add(self.within.middle()).saturating_sub(log);
        ms(self.told.log) == 0 && log > 0 && rules.asks(ahead).is_some()
    }

    fn sound(&self, grid: Option<Interval>, monotonic: i64, rules: Rules) -> bool {
        self.told.sound && grid.is_some_and(|grid| grid.meets(self.as_of(monotonic, rules).within))
    }
}

/// Logs a change, once.
fn report(node: NodeId, before: &Seen, now: &Seen, off: i64) {
    metrics::clock(node, off, words(now).is_some());
    let kind = |seen: &Seen| (std::mem::discriminant(&seen.standing), seen.question, seen.log_ahead.is_some());
    if kind(before) != kind(now) {
        match words(now) {
            Some(words) => tracing::warn!(node, error = words, "clock skew"),
            None => tracing::info!(node, standing = ?now.standing, "clock state changed"),
        }
    }
}

/// The faults of the clocks, in words; `None` if there are none.
pub(crate) fn words(seen: &Seen) -> Option<String> {
    let mut wrong = Vec::new();
    match seen.standing {
        Standing::Within | Standing::Unheard => {}
        Standing::Outside(off) => {
            let leads = if seen.gives_way() { "it gives way as leader" } else { "it is not believed" };
            wrong.push(format!("the wall clock is {} grid time; {leads}", distance(off)));
        }
        Standing::Apart => wrong.push("the clocks of no majority of the nodes agree".to_owned()),
    }
    let how = "until `ordergrid cluster clock accept` says which is right";
    match seen.question {
        Some(Question::Behind) => wrong.push(format!("it is behind log time: nothing expires {how}")),
        Some(Question::Ahead) => wrong.push(format!("it is further ahead of log time than clock.leap: nothing expires {how}")),
        None => {}
    }
    if let (Some(ahead), None) = (seen.log_ahead, seen.question) {
        let how = "timers wait for it, unless `ordergrid cluster clock repair` sets it back";
        wrong.push(format!("log time is {} grid time: {how}", distance(ahead)));
    }
    (!wrong.is_empty()).then(|| format!("clock_skew: {}", wrong.join("; ")))
}

/// As `8d 0h ahead of`.
fn distance(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let length = match (days, hours, minutes) {
        (0, 0, 0) => format!("{}.{}s", seconds, ms.unsigned_abs() % 1_000 / 100),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    };
    format!("{length} {}", if ms < 0 { "behind" } else { "ahead of" })
}

fn reading(clock: &dyn Clock) -> Reading {
    let bounded = |ms: u64| i64::try_from(ms.min(LATEST_MS)).expect("bounded");
    Reading { wall: bounded(clock.wall_ms()), monotonic: bounded(clock.monotonic_ms()) }
}

fn ms(time: Timestamp) -> i64 {
    i64::try_from(time.as_ms().min(LATEST_MS)).expect("bounded")
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_ms(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const SECOND: i64 = 1_000;
    const DAY: i64 = 86_400 * SECOND;
    const BOOT: i64 = 20_000 * DAY;

    #[derive(Default)]
    struct Hands {
        monotonic: AtomicU64,
        off: AtomicI64,
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> u64 {
            let off = self.off.load(Ordering::Relaxed);
            self.monotonic_ms().saturating_add_signed(BOOT + off)
        }

        fn monotonic_ms(&self) -> u64 {
            self.monotonic.load(Ordering::Relaxed)
        }
    }

    impl Hands {
        fn pass(&self, seconds: u64) {
            self.monotonic.fetch_add(seconds * 1_000, Ordering::Relaxed);
        }

        fn step(&self, off: i64) {
            self.off.store(off, Ordering::Relaxed);
        }

        /// A stamp, as it differs from what a perfect clock shows.
        fn stamp(&self, time: &GridTime) -> i64 {
            ms(time.now()) - BOOT - i64::try_from(self.monotonic_ms()).expect("small")
        }
    }

    fn grid(nodes: usize) -> (Arc<Hands>, GridTime) {
        let hands = Arc::new(Hands::default());
        let rules = Rules { nodes, skew: 5 * SECOND, leap: 5 * DAY };
        let time = GridTime::start(1, Arc::clone(&hands) as Arc<dyn Clock>, rules, Timestamp::from_ms(0));
        (hands, time)
    }

    /// The peers tell their times, off by so much.
    fn tell(hands: &Hands, time: &GridTime, offs: &[i64]) {
        let at = i64::try_from(hands.monotonic_ms()).expect("small");
        for (peer, off) in (2..).zip(offs) {
            let told = ToldTime { own: timestamp(BOOT + at + off), sound: true, asks: false, log: Timestamp::default() };
            time.heard(peer, at, told, Timestamp::from_ms(0));
        }
    }

    #[test]
    fn stamps_follow_the_clocks_of_the_majority() {
        #[rustfmt::skip]
        let cases: &[(i64, &[i64], i64, Standing)] = &[
            // own wall clock steps, peers,      stamps are off by, the wall clock
            (0,                &[0, 0],          0,                 Standing::Within),
            (3 * SECOND,       &[0, 0],          3 * SECOND,        Standing::Within),
            (8 * DAY,          &[0, 0],          0,                 Standing::Outside(8 * DAY)),
            (8 * DAY,          &[0],             0,                 Standing::Outside(8 * DAY)),
            (-8 * DAY,         &[0, 0],          0,                 Standing::Outside(-8 * DAY)),
            (7_000 * DAY,      &[0, 0],          0,                 Standing::Outside(7_000 * DAY)),
            (0,                &[8 * DAY, 0],    0,                 Standing::Within),
            (0,                &[8 * DAY, -DAY], 0,                 Standing::Apart),
            (8 * DAY,          &[8 * DAY; 2],    8 * DAY,           Standing::Within),
        ];
        for (off, peers, stamped, standing) in cases {
            let (hands, time) = grid(3);
            tell(&hands, &time, &[0, 0]);
            hands.step(*off);
            hands.pass(11);
            tell(&hands, &time, peers);
            let close = (hands.stamp(&time) - stamped).abs() <= 2;
            assert!(close, "{off} among {peers:?}: {}", hands.stamp(&time));
            match (time.seen().standing, standing) {
                (Standing::Outside(off), Standing::Outside(expected)) => assert!((off - expected).abs() <= 2, "{off}"),
                (seen, expected) => assert_eq!(seen, *expected, "{off} among {peers:?}"),
            }
        }
    }

    /// A peer's clock, and whether it knows log time.
    type Peer = (i64, bool);

    #[test]
    fn clocks_that_know_no_log_time_do_not_outvote_it() {
        const LEAP: i64 = 7_000 * DAY;
        // Five nodes start while the clocks of most are wrong. The last two keep no replica.
        let log = timestamp(BOOT);
        #[rustfmt::skip]
        let cases: &[(i64, &[Peer], Option<Question>, i64)] = &[
            // own clock,   peers,                                                            question,              stamps
            (LEAP,          &[(0, true), (LEAP, false), (LEAP, false)],                     Some(Question::Ahead), 0),
            (LEAP,          &[(LEAP, false), (LEAP, false)],                                Some(Question::Ahead), 0),
            (0,             &[(LEAP, false), (LEAP, false), (LEAP, false), (LEAP, false)],  None,                  0),
            (LEAP,          &[(0, true), (0, true), (LEAP, false), (LEAP, false)],          None,                  0),
            (0,             &[(0, false), (0, false), (LEAP, false)],                       None,                  0),
        ];
        for (off, peers, question, stamped) in cases {
            let hands = Arc::new(Hands::default());
            hands.step(*off);
            let rules = Rules { nodes: 5, skew: 5 * SECOND, leap: 5 * DAY };
            let time = GridTime::start(1, Arc::clone(&hands) as Arc<dyn Clock>, rules, log);
            for (peer, (off, knows)) in (2..).zip(*peers) {
                let known = if *knows { log } else { Timestamp::default() };
                time.heard(peer, 0, ToldTime { own: timestamp(BOOT + off), sound: true, asks: false, log: known }, log);
            }
            assert_eq!((time.seen().question, hands.stamp(&time)), (*question, *stamped), "{off} among {peers:?}");
        }
    }

    #[test]
    fn log_time_is_told_on() {
        let hands = Arc::new(Hands::default());
        hands.step(7_000 * DAY);
        let rules = Rules { nodes: 5, skew: 5 * SECOND, leap: 5 * DAY };
        let none = Timestamp::default();
        let time = GridTime::start(5, Arc::clone(&hands) as Arc<dyn Clock>, rules, none);
        assert_eq!((time.tell(none).log, time.tell(none).asks), (none, false));
        time.heard(1, 0, ToldTime { own: timestamp(BOOT), sound: true, asks: true, log: timestamp(BOOT) }, none);
        assert_eq!((time.tell(none).log, time.tell(none).asks, hands.stamp(&time)), (timestamp(BOOT), true, 0));
    }

    #[test]
    fn a_log_time_that_was_set_back_is_ahead_nowhere_for_long() {
        let hands = Arc::new(Hands::default());
        let rules = Rules { nodes: 3, skew: 5 * SECOND, leap: 5 * DAY };
        let (ahead, right) = (timestamp(BOOT + 8 * DAY), timestamp(BOOT));
        let time = GridTime::start(1, Arc::clone(&hands) as Arc<dyn Clock>, rules, Timestamp::default());
        let told = |log| ToldTime { own: timestamp(BOOT), sound: true, asks: false, log };
        time.heard(2, 0, told(ahead), ahead);
        assert!(time.is_ahead(ahead) && time.seen().log_ahead == Some(8 * DAY), "{:?}", time.seen());
        // This node's log was set back, that of another one not yet.
        time.look(right);
        assert_eq!((time.seen().log_ahead, time.seen().question, time.tell(right).log), (None, None, right));
        assert!(!time.is_ahead(right));
        time.heard(2, 0, told(right), right);
        assert_eq!(time.tell(Timestamp::default()).log, right, "nor does a node without a log tell it on");
    }

    #[test]
    fn what_accepting_a_clock_would_do_is_told_before() {
        for (right, then) in [(Right::Wall, BOOT), (Right::Log, BOOT + 8 * DAY)] {
            let hands = Arc::new(Hands::default());
            let rules = Rules { nodes: 1, skew: 5 * SECOND, leap: 5 * DAY };
            let log = timestamp(BOOT + 8 * DAY);
            let time = GridTime::start(1, Arc::clone(&hands) as Arc<dyn Clock>, rules, log);
            assert_eq!((time.accepted(right, log), time.may_tick()), (timestamp(then), false));
            time.accept(right, log);
            assert_eq!((time.now(), time.may_tick()), (timestamp(then), true));
        }
    }

    #[test]
    fn a_stamp_is_bounded_before_anybody_has_looked_at_the_clock_again() {
        let (hands, time) = grid(3);
        tell(&hands, &time, &[0, 0]);
        for off in [8 * DAY, -8 * DAY] {
            hands.step(off);
            assert!(hands.stamp(&time).abs() <= 2, "{}", hands.stamp(&time));
        }
    }

    #[test]
    fn without_a_majority_time_goes_on_and_no_term_begins() {
        let (hands, time) = grid(3);
        assert!(!*time.known().borrow(), "nobody was heard yet");
        tell(&hands, &time, &[0]);
        assert!(*time.known().borrow());
        hands.step(8 * DAY);
        hands.pass(3_600);
        time.look(Timestamp::from_ms(0));
        assert!(!*time.known().borrow());
        assert_eq!(time.seen().standing, Standing::Unheard);
        assert!(hands.stamp(&time).abs() <= 2);
    }

    #[test]
    fn a_node_gives_way_only_to_others_that_can_lead() {
        let (hands, time) = grid(3);
        hands.step(8 * DAY);
        tell(&hands, &time, &[0, 0]);
        assert!(time.seen().gives_way() && !time.tell(Timestamp::default()).sound);

        let (hands, time) = grid(1);
        hands.step(8 * DAY);
        hands.pass(1);
        time.look(Timestamp::from_ms(0));
        assert_eq!(time.seen().standing, Standing::Outside(8 * DAY));
        assert!(!time.seen().gives_way() && *time.known().borrow() && time.may_tick());
        assert_eq!(hands.stamp(&time), 0);
        let words = words(&time.seen()).expect("it is wrong");
        assert_eq!(words, "clock_skew: the wall clock is 8d 0h ahead of grid time; it is not believed");
    }

    #[test]
    fn a_start_in_doubt_goes_on_from_the_log_without_ticks_until_told() {
        for (log, right, ticks_at) in [(BOOT - 30 * DAY, Right::Wall, 0), (BOOT + 8 * DAY, Right::Log, 8 * DAY)] {
            let hands = Arc::new(Hands::default());
            let rules = Rules { nodes: 1, skew: 5 * SECOND, leap: 5 * DAY };
            let time = GridTime::start(1, Arc::clone(&hands) as Arc<dyn Clock>, rules, timestamp(log));
            hands.pass(60);
            time.look(timestamp(log));
            assert!(!time.may_tick());
            assert_eq!(hands.stamp(&time), log - BOOT);
            time.accept(right, timestamp(log));
            assert!(time.may_tick());
            assert_eq!(hands.stamp(&time), ticks_at);
        }
    }
}

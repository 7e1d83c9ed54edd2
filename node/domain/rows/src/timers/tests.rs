//! Timers against a plain set of them, with checkpoints, scans and crashes at any moment.

use super::*;

/// A timer: of what, and which of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alarm {
    due: u64,
    of: u64,
    second: bool,
}

impl TableKey for Alarm {
    const TAG: u8 = 1;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&self.due.to_be_bytes(), &self.of.to_be_bytes(), &[u8::from(self.second)]])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let number = |at: usize| key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(due), Some(of), Some(second)) = (number(1), number(9), key.get(17)) else { return Err(BytesError::Key) };
        Ok(Self { due, of, second: *second == 1 })
    }
}

impl TimerKey for Alarm {
    type Time = u64;
    const FIRST: Self = Self { due: 0, of: 0, second: false };
    const BYTES: u64 = 20;

    fn due(&self) -> u64 {
        self.due
    }

    fn following(&self) -> Self {
        if self.second {
            Self { of: self.of.saturating_add(1), second: false, ..*self }
        } else {
            Self { second: true, ..*self }
        }
    }
}

type Keys = BTreeSet<Alarm>;

/// A shard's timers: what runs, what its checkpoints have written, and what is under way between the two.
#[derive(Default)]
struct Trial {
    timers: Timers<Alarm>,
    plain: Keys,
    /// With what it adds to the sum and how many there are, as Meta has it.
    disk: Keys,
    /// The sum that the running process began with.
    began_with: u64,
    /// The moment of the checkpoint that is running, and what it has handed out.
    then: Option<Keys>,
    rows: Vec<(Vec<u8>, bool)>,
    written: bool,
    /// A scan, and what it read: of the store as it was then.
    read: Option<(TimerScan<Alarm>, Vec<Alarm>)>,
    now: u64,
    random: u64,
    /// How often something happened, by what.
    seen: BTreeMap<&'static str, u64>,
}

fn sum(timers: &Keys) -> u64 {
    timers.iter().map(|timer| row_hash(timer.write().hash(), &EMPTY)).fold(0, u64::wrapping_add)
}

impl Trial {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn running(&self) -> u64 {
        self.plain.len() as u64
    }

    /// A timer begins to run, or ends, wherever it is. Few keys, so that they meet again.
    fn change(&mut self) {
        let second = self.draw(2) == 1;
        let timer = Alarm { due: self.now + 1 + self.draw(16), of: self.draw(2), second };
        if self.plain.insert(timer) {
            self.timers.put(timer);
            return;
        }
        if !self.timers.here.contains(&timer) {
            self.saw("a cold timer ended");
        }
        self.plain.remove(&timer);
        self.timers.remove(timer);
    }

    /// One step of a checkpoint: it begins, hands out rows, is written, is known to be written; then timers leave.
    fn checkpoint(&mut self) {
        match self.then.take() {
            None => {
                self.timers.begin_checkpoint();
                self.then = Some(self.plain.clone());
            }
            Some(then) if self.written => {
                self.timers.checkpoint_durable();
                self.written = false;
                assert_eq!(self.disk, then);
            }
            Some(then) => {
                let (limit, rows) = (self.draw(4) as usize, &mut self.rows);
                if self.timers.checkpoint_step(limit, &mut |key, value| rows.push((key.to_vec(), value.is_some()))) {
                    assert_eq!(self.began_with.wrapping_add(self.timers.checkpoint_sum()), sum(&then));
                    for (key, set) in self.rows.drain(..) {
                        let timer = Alarm::parse(&key).unwrap();
                        assert!(if set { self.disk.insert(timer) } else { self.disk.remove(&timer) }, "{timer:?} {set}");
                    }
                    self.written = true;
                }
                self.then = Some(then);
            }
        }
    }

    fn leave(&mut self) {
        let (here, limit) = (self.timers.here.len(), self.draw(8) as usize);
        self.timers.evict_step(self.now + 1, self.running(), limit);
        if self.timers.here.len() < here {
            self.saw("timers left");
        }
    }

    /// A scan of the store begins, of a few rows or of all, or what one has read is taken.
    fn load(&mut self, now: u64, wanted: usize) {
        let at_once = [1, 2, 3, usize::MAX][self.draw(4) as usize];
        let Some((scan, read)) = self.read.take() else {
            self.read = self.timers.missing(now, self.running(), wanted).map(|scan| {
                let read = self.disk.iter().filter(|timer| timer.write().as_bytes() > scan.after().as_slice());
                (scan, read.take(at_once).copied().collect())
            });
            return;
        };
        let rows: Vec<RowKey> = read.iter().map(TableKey::write).collect();
        let admitted = self.timers.admit(&scan, rows.iter().map(|key| (key.as_bytes(), &EMPTY[..])));
        assert!(!rows.is_empty(), "what is not here is in the store");
        self.saw(if admitted.unwrap() { "timers were read" } else { "what was read was too old" });
    }

    /// Time goes on, and what is due fires: all of it, or as much as was loaded for.
    fn tick(&mut self) {
        self.now += self.draw(2);
        let most = 1 + self.draw(8) as usize;
        while self.timers.missing(self.now, self.running(), most + 1).is_some() {
            self.load(self.now, most + 1);
        }
        for _ in 0..most {
            let due = self.timers.due(self.now, self.running());
            assert_eq!(due, self.plain.first().copied().filter(|timer| timer.due <= self.now));
            let Some(timer) = due else { break };
            self.plain.remove(&timer);
            self.timers.remove(timer);
            self.saw("timers fired");
        }
        // Whether there are more must be known everywhere.
        let more = self.timers.due(self.now, self.running());
        assert_eq!(more, self.plain.first().copied().filter(|timer| timer.due <= self.now));
    }

    /// Memory is lost: what the store has is what there is.
    fn crash(&mut self) {
        let (now, random, seen) = (self.now, self.random, std::mem::take(&mut self.seen));
        let disk = std::mem::take(&mut self.disk);
        *self = Self { began_with: sum(&disk), plain: disk.clone(), disk, now, random, seen, ..Self::default() };
        self.timers.set_cold();
    }

    fn check(&mut self) {
        assert_eq!(self.began_with.wrapping_add(self.timers.state_sum()), sum(&self.plain));
        assert!(self.timers.here.is_subset(&self.plain));
        let cold = self.timers.first_cold(self.running());
        let missing = self.plain.difference(&self.timers.here).find(|timer| cold.is_none_or(|cold| **timer < cold));
        assert_eq!(missing, None, "known from {cold:?} on: {:?}", self.timers);
        let told = self.timers.next(self.running());
        assert!(self.plain.first().is_none_or(|first| told.is_some_and(|told| told <= first.due)));
    }
}

#[test]
fn a_checkpoint_is_of_the_moment_at_which_it_began_and_timers_are_where_they_are_looked_for() {
    let mut trial = Trial { random: 7, now: 1, ..Trial::default() };
    for _ in 0..100_000 {
        match trial.draw(40) {
            0..10 => trial.change(),
            10..26 => trial.checkpoint(),
            26..32 => trial.leave(),
            32..36 => {
                let (ahead, wanted) = (trial.draw(4), trial.draw(9) as usize);
                trial.load(trial.now + ahead, wanted);
            }
            36..39 => trial.tick(),
            _ if trial.draw(10) == 0 => trial.crash(),
            _ => {}
        }
        trial.check();
    }
    let Trial { seen, .. } = trial;
    let told = "a cold timer ended, timers fired, timers left, timers were read, what was read was too old";
    assert_eq!(seen.keys().copied().collect::<Vec<_>>().join(", "), told);
    assert!(seen.values().all(|times| *times > 100), "{seen:?}");
}

#[test]
fn a_scan_begins_at_the_first_timer_that_may_be_cold() {
    let scan = |timer| TimerScan { from: timer, epoch: 0 }.after();
    let key = |due, of, second| Alarm { due, of, second };
    let timers = [Alarm::FIRST, key(0, 0, true), key(0, 1, false), key(5, u64::MAX, true), key(6, 0, false)];
    for pair in timers.windows(2) {
        let [before, from] = [pair[0], pair[1]].map(|timer| timer.write().as_bytes().to_vec());
        let after = scan(pair[1]);
        assert!(before <= after && after < from, "{pair:?}");
    }
    assert!(scan(Alarm::FIRST) < Alarm::FIRST.write().as_bytes().to_vec() && scan(Alarm::FIRST).starts_with(&[Alarm::TAG]));
    assert_eq!(Alarm::FIRST.following(), timers[1]);
    assert_eq!(timers[1].following(), timers[2]);
}

#[test]
fn a_store_that_has_lost_timers_holds_nothing_up() {
    let (mut timers, now) = (Timers::<Alarm>::default(), 9);
    timers.set_cold();
    let scan = timers.missing(now, 2, 1).unwrap();
    assert_eq!(timers.admit(&scan, []), Ok(true));
    assert_eq!((timers.missing(now, 2, 1), timers.due(now, 2), timers.next(2)), (None, None, None));
}

#[test]
fn once_all_are_in_memory_what_was_cold_before_is_forgotten() {
    let mut timers = Timers::<Alarm>::default();
    let away = |timers: &mut Timers<Alarm>, due| {
        let timer = Alarm { due, of: 1, second: false };
        timers.put(timer);
        timers.begin_checkpoint();
        timers.checkpoint_step(9, &mut |_, _| {});
        timers.checkpoint_durable();
        assert!(timers.evict_step(0, 1, 9) && timers.is_partial(1));
        assert_eq!(timers.next(1), Some(timer.due), "a tick before that would be in vain");
        timer
    };
    let early = away(&mut timers, 10);
    timers.remove(early);
    assert_eq!((timers.next(0), timers.is_partial(0)), (None, false));
    away(&mut timers, 20);
}

#[test]
fn what_comes_and_goes_between_checkpoints_is_no_row() {
    let timer = Alarm { due: 9, of: 1, second: false };
    // What happened after a checkpoint that had the timer or had not; what the next one writes.
    let cases = [
        (false, "set", Some(true)),
        (false, "set clear", None),
        (false, "set clear set", Some(true)),
        (true, "clear", Some(false)),
        (true, "clear set", None),
        (true, "clear set clear", Some(false)),
    ];
    for (stored, steps, expected) in cases {
        let mut timers = Timers::<Alarm>::default();
        if stored {
            timers.put(timer);
            timers.begin_checkpoint();
            assert!(timers.checkpoint_step(1, &mut |_, _| {}));
            timers.checkpoint_durable();
        }
        for step in steps.split(' ') {
            if step == "set" { timers.put(timer) } else { timers.remove(timer) }
        }
        assert_eq!(timers.byte_counts().dirty > 0, expected.is_some(), "{stored} {steps}");
        let mut rows = Vec::new();
        timers.begin_checkpoint();
        assert!(timers.checkpoint_step(1, &mut |_, value| rows.push(value.is_some())));
        assert_eq!(rows.first().copied(), expected, "{stored} {steps}");
    }
}

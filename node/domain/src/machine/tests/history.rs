//! Histories drawn at random, hostile ones: commands that no leader would send, in any order, messages lost, repeated and
//! reordered, messages from a shard that makes them up. Nothing may panic, the laws that a shard can keep alone must hold,
//! and a machine that evicts, checkpoints and restarts at random must answer and hash like one that never does.
//!
//! Histories that follow the protocol, judged by an independent model, are `sim`'s.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::store::Disk;
use super::*;
use crate::command::{HeldPart, KeptAttempt, KeptList, Message};
use crate::ids::{FulfilmentId, Reference};
use crate::reconcile::{ClaimOf, Claimed, Claims, Restart};
use crate::repair::Repair;

/// One drawn step: what to do and three numbers to choose with.
type Step = [u16; 4];

/// A shard twice: one machine stays in memory, its twin lives from a disk.
struct Twins {
    plain: ShardMachine,
    twin: ShardMachine,
    disk: Disk,
    /// Entries since the last checkpoint.
    log: Vec<(Position, Entry)>,
    term: u64,
}

impl Twins {
    fn new(id: u32, count: u32) -> Self {
        let machine = Shard::of(id, count).machine;
        let twin = ShardMachine::new(machine.config.clone());
        Self { plain: machine, twin, disk: Disk::default(), log: Vec::new(), term: 1 }
    }

    fn apply(&mut self, now: Timestamp, commands: Vec<Command>) -> Vec<Outcome> {
        let position = Position { term: self.term, index: self.plain.position().index + 1 };
        let entry = Entry { at: now, commands };
        let entry = Entry::from_bytes(&entry.to_bytes()).expect("an entry is read as it was written");
        self.disk.load(&mut self.twin, &entry);
        let outcomes = self.plain.apply(position, &entry);
        assert_eq!(self.twin.apply(position, &entry), outcomes, "a cold row changed a result: {entry:?}");
        self.log.push((position, entry));
        outcomes
    }

    /// What a store may do at any moment between two entries.
    fn disturb(&mut self, choice: u16) {
        match choice % 4 {
            0 => {
                self.twin.evict(u64::from(choice) * 4);
                self.twin.evict_timers(usize::from(choice) / 4 % 8);
            }
            1 => self.checkpoint(),
            2 => {
                self.checkpoint();
                self.twin.evict(0);
                self.twin.evict_timers(usize::MAX);
            }
            _ => self.restart(),
        }
        assert_eq!(self.twin.state_hash(), self.plain.state_hash(), "ReplicasAgree");
    }

    fn checkpoint(&mut self) {
        self.disk.write(&mut self.twin);
        self.log.clear();
    }

    /// A crash: memory is lost, the log since the last checkpoint is applied again.
    fn restart(&mut self) {
        if self.disk.rows().next().is_none() {
            self.twin = ShardMachine::new(self.plain.config.clone());
        } else {
            self.twin = self.disk.start(self.plain.config.clone());
        }
        for (position, entry) in &self.log {
            self.disk.load(&mut self.twin, entry);
            self.twin.apply(*position, entry);
        }
    }
}

struct World {
    shards: Vec<Twins>,
    skus: Vec<SkuId>,
    users: Vec<UserId>,
    orders: Vec<(usize, OrderId)>,
    now: Timestamp,
    /// Time that has passed, whatever became of the clock.
    passed: Duration,
    /// The one promise that even these histories keep: a hold's valid-until belongs to its attempt.
    valid_until: BTreeMap<AttemptId, Timestamp>,
    counter: u64,
    forged: Vec<u64>,
    /// Commands per entry, and those that wait for one: what an entry needs must be known before its first command.
    batch: usize,
    waiting: Vec<Vec<Command>>,
}

impl World {
    fn new(count: u32, batch: usize) -> Self {
        let shards: Vec<Twins> = (1..=count).map(|id| Twins::new(id, count)).collect();
        let skus = shards.iter().flat_map(|shard| [sku_of(&shard.plain, 0), sku_of(&shard.plain, 1)]).collect();
        let users = shards.iter().flat_map(|shard| [user_of(&shard.plain, 0), user_of(&shard.plain, 1)]).collect();
        let forged = vec![0; count as usize];
        let waiting = vec![Vec::new(); count as usize];
        let (passed, valid_until, orders) = (Duration::ZERO, BTreeMap::new(), Vec::new());
        let mut world =
            Self { shards, skus, users, orders, now: at(0), passed, valid_until, counter: 7, forged, batch, waiting };
        for sku in world.skus.clone() {
            let shard = world.home(sku.slot());
            world.shards[shard].apply(at(0), vec![put(&sku), receive(&sku, "first", 20)]);
        }
        world
    }

    fn home(&self, slot: crate::ids::Slot) -> usize {
        let owner = self.shards[0].plain.owner(slot).expect("every slot is owned");
        owner.0 as usize - 1
    }

    fn sku(&self, n: u16) -> SkuId {
        self.skus[usize::from(n) % self.skus.len()].clone()
    }

    /// One of few attempts, so that they meet. New ones come up every minute.
    fn attempt(&self, n: u16) -> AttemptId {
        let user = &self.users[usize::from(n) % self.users.len()];
        let group = self.shards[self.home(user.slot())].plain.shard();
        let minute = self.passed.as_secs() / 60;
        AttemptId { slot: user.slot(), group, term: 1 + u64::from(n / 16 % 2), counter: minute * 8 + u64::from(n / 32 % 4) }
    }

    fn valid_until(&mut self, attempt: AttemptId) -> Timestamp {
        let counted = self.now.after(Duration::from_secs(5 + attempt.counter % 8 * 3));
        *self.valid_until.entry(attempt).or_insert(counted)
    }

    fn user(&self, attempt: AttemptId) -> UserId {
        self.users.iter().find(|user| user.slot() == attempt.slot).expect("attempts are drawn from users").clone()
    }

    fn request(&self, attempt: AttemptId, n: u16) -> OrderRequest {
        let lines: Vec<(SkuId, u64)> = (0..1 + n % 3).map(|i| (self.sku(n / 4 + i), u64::from(1 + n / 8 % 5))).collect();
        let lines: Vec<(&SkuId, u64)> = lines.iter().map(|(sku, units)| (sku, *units)).collect();
        let mut request = request(&self.user(attempt), &format!("key-{}", n % 7), &lines);
        request.body_hash = u64::from(n % 11);
        request.reference = n.is_multiple_of(3).then(|| Reference::new(format!("ref-{}", n % 4)).expect("short"));
        request.terms = [Terms::Prepaid, Terms::Invoice][usize::from(n.is_multiple_of(5))];
        request
    }

    fn step(&mut self, [kind, a, b, c]: Step) {
        let (sku, attempt) = (self.sku(a), self.attempt(b));
        let home = self.home(sku.slot());
        let at_order = attempt.group.0 as usize - 1;
        let until = self.now.after(Duration::from_secs(u64::from(c % 12)));
        match kind % 17 {
            0 | 1 => self.place(attempt, a, at_order),
            2 | 3 => self.place_local(b, c),
            4 | 5 => {
                let (until, units) = (self.valid_until(attempt), u64::from(1 + c % 5));
                let command = if c.is_multiple_of(2) { hold(attempt, &sku, units, until) } else { self.holds(a, b, c) };
                self.apply(home, vec![command]);
            }
            6 => self.apply(home, vec![release(attempt, &sku, until)]),
            7 => self.apply(home, vec![Command::Gone(vec![(attempt, sku)])]),
            8 | 9 => self.command(a, b, c),
            10 | 11 => self.carry(a, b, c),
            12 => self.forge(home, attempt, sku, c),
            13 if b.is_multiple_of(3) => self.repair(a, c),
            13 => self.tick(a, c),
            14 => {
                let delta = i64::from(c % 9) - 4;
                self.apply(
                    home,
                    vec![receive(&sku, &format!("r{b}"), u64::from(c % 9)), adjust(&sku, &format!("a{b}"), delta)],
                );
            }
            15 => self.anew(a, b, c),
            _ => {
                let shard = usize::from(a) % self.shards.len();
                self.shards[shard].disturb(c);
            }
        }
    }

    /// Holds of one attempt and of others of its leader, valid as long, at SKUs of this shard and of another one.
    fn holds(&mut self, a: u16, b: u16, c: u16) -> Command {
        let first = self.attempt(b);
        let (valid_until, AttemptId { group, term, .. }) = (self.valid_until(first), first);
        let of_leader =
            (0..4).map(|n| self.attempt(b.wrapping_add(n * 32))).filter(|other| (other.group, other.term) == (group, term));
        let others: Vec<_> =
            of_leader.filter(|other| self.valid_until.get(other).is_none_or(|until| *until == valid_until)).collect();
        let row = |(n, attempt): (u16, &AttemptId)| {
            self.valid_until.insert(*attempt, valid_until);
            HoldAsked {
                slot: attempt.slot,
                counter: attempt.counter,
                sku: self.sku(a.wrapping_add(n.wrapping_mul(c))),
                quantity: Quantity(1 + u64::from(c.wrapping_add(n) % 5)),
            }
        };
        Command::Holds(Holds { group, term, valid_until, rows: (0..).zip(&others).map(row).collect() })
    }

    /// A part of starting a stream anew, without the others, or all of it; claims of orders that are there or not.
    fn anew(&mut self, a: u16, b: u16, c: u16) {
        let count = self.shards.len();
        let (from, to) = (usize::from(a) % count, usize::from(b) % count);
        let (source, target) = (&self.shards[from].plain, &self.shards[to].plain);
        let (from_id, to_id, stream) = (source.shard(), target.shard(), source.stream(target.shard()));
        let claim = |(_, order): &(usize, OrderId)| ClaimOf {
            order: *order,
            attempt: match source.order(*order) {
                super::super::Lookup::Found(order) => order.attempt,
                _ => self.attempt(c),
            },
            skus: vec![self.sku(c)],
        };
        let orders = self.orders.iter().rev().take(usize::from(c % 3)).map(claim).collect();
        let applied = [target.high(from_id), 0, u64::MAX][usize::from(c / 3 % 3)];
        let high = [stream.trimmed, stream.trimmed.saturating_sub(1), u64::MAX][usize::from(c / 3 % 3)];
        match c / 9 % 3 {
            0 => self.apply(from, vec![Command::Restart(Restart { streams: vec![(to_id, applied)] })]),
            1 => self.apply(from, vec![Command::Claims(Claims { to: to_id, before: self.now, orders })]),
            _ => self.apply(to, vec![Command::Agree { from: from_id, high }]),
        }
    }

    fn apply(&mut self, shard: usize, commands: Vec<Command>) {
        self.waiting[shard].extend(commands);
        if self.waiting[shard].len() >= self.batch {
            self.flush(shard);
        }
    }

    fn flush(&mut self, shard: usize) {
        let commands = std::mem::take(&mut self.waiting[shard]);
        for outcome in self.shards[shard].apply(self.now, commands) {
            if let Outcome::Placed { order, .. } = outcome {
                self.orders.push((shard, order.id));
            }
        }
    }

    fn place(&mut self, attempt: AttemptId, n: u16, home: usize) {
        let place = Place { attempt, request: self.request(attempt, n).into(), names: Vec::new() };
        self.apply(home, vec![Command::Place(Box::new(place))]);
    }

    /// Attempts that place locally are never used twice: their leader counts them.
    fn place_local(&mut self, b: u16, c: u16) {
        let mut commands = Vec::new();
        let home = self.attempt(b).group.0 as usize - 1;
        for n in 0..1 + b % 3 {
            self.counter += 8;
            let attempt = AttemptId { counter: self.counter, term: self.shards[home].term, ..self.attempt(b) };
            let place = Place { attempt, request: self.request(attempt, c.wrapping_add(n)).into(), names: Vec::new() };
            commands.push(Command::PlaceLocal(Box::new(place)));
        }
        self.apply(home, commands);
    }

    fn command(&mut self, a: u16, b: u16, c: u16) {
        if self.orders.is_empty() {
            return;
        }
        let (home, order) = self.orders[usize::from(a) % self.orders.len()];
        let total = found(self.shards[home].plain.order(order)).total;
        let fulfilment = FulfilmentId { order, number: 1 + u32::from(c % 2) };
        let actions = [
            pay(total),
            cancel(),
            OrderAction::Cancel { reason: CancelReason::Merchant, note: None, lines: vec![(1, Quantity(1))] },
            pick(),
            OrderAction::Ship { fulfilment, carrier: None, tracking: None },
            OrderAction::Unpick { fulfilment },
            OrderAction::Deliver { fulfilment },
            OrderAction::Complete,
            OrderAction::Refund(RefundAsked { amount: Some(Money(1)), ..RefundAsked::default() }),
        ];
        let action = actions[usize::from(b) % actions.len()].clone();
        self.apply(home, vec![act(order, &format!("c{}", b % 40), action)]);
    }

    /// Some run of some stream, cut and offset at random, or a trim that may be stale or wrong.
    fn carry(&mut self, a: u16, b: u16, c: u16) {
        let count = self.shards.len();
        let (from, to) = (usize::from(a) % count, usize::from(b) % count);
        if from == to {
            return;
        }
        let (source, target) = (&self.shards[from].plain, &self.shards[to].plain);
        let (shard, high) = (target.shard(), target.high(source.shard()));
        if c.is_multiple_of(4) {
            self.apply(from, vec![Command::Trim { to: shard, high: high.saturating_sub(u64::from(c / 4 % 3)) }]);
            return;
        }
        let first = (high + 1 + u64::from(c / 4 % 3)).saturating_sub(1).max(1);
        if let Ok(Some(run)) = source.outbox(shard, first, 1 + usize::from(c / 16 % 4), usize::MAX) {
            self.apply(to, vec![Command::Deliver(run)]);
        }
    }

    /// Messages of a shard that does not exist.
    fn forge(&mut self, home: usize, attempt: AttemptId, sku: SkuId, c: u16) {
        let order = self.orders.last().map_or(OrderId::new(self.now, attempt.slot, 1), |order| order.1);
        let items = vec![(sku.clone(), Quantity(u64::from(1 + c % 6)))];
        let parts =
            || items.iter().map(|(sku, quantity)| HeldPart { sku: sku.clone(), attempt, quantity: *quantity }).collect();
        let message = match c / 8 % 11 {
            0 => Message::Keep { attempt, order, committed: c.is_multiple_of(2), items },
            1 => Message::Commit { attempt, skus: vec![sku] },
            2 => Message::Free { attempt, items },
            3 => Message::Ship { attempt, items },
            4 => {
                let claimed = |(sku, counted): (SkuId, Quantity)| Claimed { sku, counted, shipped: Quantity(u64::from(c % 3)) };
                let items = items.into_iter().map(claimed).collect();
                Message::Claim { attempt, order, committed: c.is_multiple_of(2), items }
            }
            5 => Message::Release(Release { attempt, skus: vec![sku], valid_until: self.now }),
            6 => Message::Commits(vec![(sku, attempt)]),
            7 => Message::Frees(parts()),
            8 => Message::Ships(parts()),
            9 => {
                // The list may name more items than there are, or fewer, and keep what it releases.
                let kept = KeptAttempt { attempt, order, committed: c.is_multiple_of(2), items: u32::from(c % 3) };
                let release = Release { attempt, skus: vec![sku], valid_until: self.now };
                let released = (0..c % 2).map(|_| release.clone()).collect();
                Message::Decided(KeptList { kept: vec![kept, kept], items, released })
            }
            _ => Message::Shortfall { order, sku, missing: Quantity(u64::from(1 + c % 6)) },
        };
        self.forged[home] += 1;
        let run = Deliver { from: GroupId(99), first: self.forged[home], messages: vec![message] };
        self.apply(home, vec![Command::Deliver(run)]);
    }

    fn tick(&mut self, a: u16, c: u16) {
        let spans = [0, 1_000, 11_000, 60_000, 901_000, 8 * 24 * 3_600_000];
        let span = Duration::from_millis(spans[usize::from(c) % spans.len()]);
        (self.now, self.passed) = (self.now.after(span), self.passed + span);
        let shard = usize::from(a) % self.shards.len();
        if c.is_multiple_of(7) {
            self.shards[shard].term += 1;
        }
        self.apply(shard, vec![Command::Tick]);
    }

    /// Log time of one shard, or of all, is set back, by nothing to nine days; others may stay ahead.
    fn repair(&mut self, a: u16, c: u16) {
        let spans = [0, 1, 30_000, 3_600_000, 9 * 24 * 3_600_000];
        let back = |time: Timestamp, n: u16| Timestamp::from_ms(time.as_ms() - spans[usize::from(n) % spans.len()]);
        let shards = self.shards.len();
        let all = if a.is_multiple_of(2) { 0..shards } else { usize::from(a) % shards..usize::from(a) % shards + 1 };
        for shard in all {
            let log = self.shards[shard].plain.time();
            let repair = Repair { log, right: back(log, c), since: back(log, c / 8) };
            self.apply(shard, vec![Command::Repair(repair)]);
        }
        self.now = self.shards.iter().map(|shard| shard.plain.time()).min().unwrap_or(self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_histories_break_no_law_and_cold_rows_change_no_result(
        count in 1_u32..=3,
        batch in 1_usize..=6,
        steps in proptest::collection::vec(any::<Step>(), 1..150),
    ) {
        let mut world = World::new(count, batch);
        for step in steps {
            world.step(step);
        }
        for shard in 0..world.shards.len() {
            world.flush(shard);
        }
        for shard in &mut world.shards {
            shard.plain.check();
            shard.twin.check();
            shard.disturb(3);
            shard.disturb(2);
            shard.disturb(3);
        }
    }
}

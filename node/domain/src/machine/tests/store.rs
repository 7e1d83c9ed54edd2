//! Checkpoints, cold rows, restart, hash.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::{Lookup, TICK_LIMIT, TimerScan};
use super::*;
use crate::rows::{FIRST_COLD, META, RowKey, SKU, TIMER, keys};
use crate::stored::Stored;

/// What a checkpoint writes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Disk {
    pub(super) fn write(&mut self, machine: &mut ShardMachine) {
        machine.checkpoint_at_once(&mut |key, value| match value {
            Some(bytes) => drop(self.0.insert(key.to_vec(), bytes.to_vec())),
            None => drop(self.0.remove(key)),
        });
        machine.checkpoint_durable();
    }

    /// A machine as it starts: resident rows only.
    pub(super) fn start(&self, config: ShardConfig) -> ShardMachine {
        let mut machine = ShardMachine::new(config);
        let resident = machine.resident_tables();
        for (key, value) in self.0.iter().filter(|(key, _)| resident.contains(&key[0])) {
            machine.restore(key, value).unwrap();
        }
        machine
    }

    /// Loads what an entry needs, as the shell does.
    pub(super) fn load(&self, machine: &mut ShardMachine, entry: &Entry) -> usize {
        let mut loaded = self.load_timers(machine, entry, 3);
        loop {
            machine.warm(entry);
            let missing = machine.missing(entry, &|key| self.may_have(key));
            machine.admit_absent(missing.absent);
            if missing.cold.is_empty() {
                return loaded;
            }
            loaded += self.admit(machine, missing.cold);
        }
    }

    /// Loads the timers that an entry needs, so many at a time.
    fn load_timers(&self, machine: &mut ShardMachine, entry: &Entry, at_once: usize) -> usize {
        let mut loaded = 0;
        while let Some(scan) = machine.missing_timers(entry) {
            let rows = self.timers(&scan, at_once);
            loaded += rows.len();
            assert_eq!(machine.admit_timers(&scan, rows), Ok(true));
        }
        loaded
    }

    /// What a scan finds, so many rows at the most.
    fn timers(&self, scan: &TimerScan, at_once: usize) -> Vec<(&[u8], &[u8])> {
        let rows = self.0.range((Bound::Excluded(scan.after()), Bound::Excluded(vec![TIMER + 1])));
        rows.take(at_once).map(|(key, value)| (key.as_slice(), value.as_slice())).collect()
    }

    /// As a filter says it: no is certain, and a few keys are taken for others.
    fn may_have(&self, key: &[u8]) -> bool {
        self.0.contains_key(key) || key.len().is_multiple_of(4)
    }

    pub(super) fn admit(&self, machine: &mut ShardMachine, keys: Vec<RowKey>) -> usize {
        let epoch = machine.load_epoch();
        let mut found = 0;
        for key in keys {
            let value = self.0.get(key.as_bytes()).map(Vec::as_slice);
            found += usize::from(value.is_some());
            assert!(machine.admit(key, value, epoch));
        }
        found
    }

    /// Every row, as the store holds it.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.0.iter()
    }
}

fn config(machine: &ShardMachine) -> ShardConfig {
    machine.config.clone()
}

/// A shard with an order in every phase of its life.
fn lived() -> (Shard, Vec<Order>, SkuId) {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let orders: Vec<Order> = (0..6).map(|n| shard.ordered(&format!("k{n}"), &[(&a, n + 1)])).collect();
    for order in &orders[1..4] {
        shard.one(act(order.id, "pay", pay(order.total)));
    }
    shard.one(act(orders[2].id, "pick", pick()));
    shard.one(act(orders[4].id, "cancel", cancel()));
    let attempt = shard.attempt(&user_of(&shard.machine, 1));
    shard.one(hold(attempt, &a, 7, at(10_000)));
    (shard, orders, a)
}

#[test]
fn a_machine_restored_from_its_rows_is_the_same() {
    let (mut shard, orders, a) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let mut restored = disk.start(config(&shard.machine));
    assert_eq!(restored.state_hash(), shard.machine.state_hash());
    assert_eq!(restored.position(), shard.machine.position());
    assert_eq!(restored.counters().orders, shard.machine.counters().orders);
    // Its timers are still to be read: at once, since one may be due.
    assert_eq!(restored.counters().timers, shard.machine.counters().timers);
    assert_eq!(restored.due(), Some(Timestamp::default()));
    disk.load_timers(&mut restored, &Entry { at: at(0), commands: vec![Command::Tick] }, 9);
    assert_eq!(restored.due(), shard.machine.due());
    // Cold rows are answered with their keys, and then found.
    let Lookup::Cold(keys) = restored.order(orders[2].id) else { panic!("it should be cold") };
    disk.admit(&mut restored, keys);
    assert_eq!(restored.order(orders[2].id), shard.machine.order(orders[2].id));
    let none = OrderId(7);
    let Lookup::Cold(keys) = restored.order(none) else { panic!("it might be cold") };
    disk.admit(&mut restored, keys);
    assert_eq!(restored.order(none), Lookup::Absent);
    // Both go on in the same way.
    let entry = Entry {
        at: at(20_000),
        commands: vec![act(orders[0].id, "pay", pay(orders[0].total)), act(orders[3].id, "c", cancel()), Command::Tick],
    };
    let position = Position { term: 1, index: shard.index + 1 };
    assert!(disk.load(&mut restored, &entry) > 0);
    assert_eq!(restored.apply(position, &entry), shard.machine.apply(position, &entry));
    assert_eq!(restored.state_hash(), shard.machine.state_hash());
    let Lookup::Cold(keys) = restored.sku(&a) else { return };
    panic!("the SKU was just used: {keys:?}");
}

#[test]
fn a_machine_given_every_row_is_warm() {
    let (mut shard, orders, _) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let mut restored = ShardMachine::new(config(&shard.machine));
    for (key, value) in disk.rows() {
        restored.restore(key, value).unwrap();
    }
    restored.set_warm();
    assert_eq!(restored.state_hash(), shard.machine.state_hash());
    assert_eq!(restored.order(orders[1].id), shard.machine.order(orders[1].id));
    restored.check();
}

/// What the next checkpoint takes: of each row its table, and whether it has bytes or goes.
fn frozen(machine: &mut ShardMachine) -> Vec<(u8, bool)> {
    let mut rows = Vec::new();
    machine.checkpoint_at_once(&mut |key, value| rows.push((key[0], value.is_some())));
    rows
}

#[test]
fn a_checkpoint_holds_what_changed_and_no_more() {
    let (mut shard, orders, a) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    // Nothing but the position, time and counters.
    assert_eq!(frozen(&mut shard.machine), [(crate::rows::META, true)]);
    shard.machine.checkpoint_durable();
    // A SKU changed often is one row; a timer that came and went since is none.
    for n in 0..20 {
        shard.one(receive(&a, &format!("r{n}"), 1));
    }
    shard.one(act(orders[0].id, "pay", pay(orders[0].total)));
    let rows = frozen(&mut shard.machine);
    let of = |table| rows.iter().filter(|row| row.0 == table).map(|row| row.1).collect::<Vec<bool>>();
    assert_eq!((of(crate::rows::SKU), of(crate::rows::TIMER)), (vec![true], vec![false]));
    assert!(shard.machine.dirty_bytes() == 0);
    shard.machine.checkpoint_durable();
}

#[test]
fn no_sku_is_looked_for_while_all_of_them_are_in_memory() {
    let (mut shard, _, a) = lived();
    let b = shard.stocked(1, 5);
    let ghost = SkuId::new("ghost").unwrap();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let user = user_of(&shard.machine, 0);
    let place = Place {
        attempt: shard.attempt(&user),
        request: request(&user, "new", &[(&a, 1), (&ghost, 1)]).into(),
        names: Vec::new(),
    };
    let entry = Entry { at: at(20_000), commands: vec![Command::PlaceLocal(Box::new(place))] };
    let wanted = |machine: &mut ShardMachine| {
        machine.warm(&entry);
        machine.missing(&entry, &|_| true).cold.iter().filter(|key| key.tag() == SKU).count()
    };
    let mut restored = disk.start(config(&shard.machine));
    assert_eq!(wanted(&mut restored), 2, "any may be in the store");
    disk.admit(&mut restored, vec![keys::sku(&a)]);
    assert_eq!(wanted(&mut restored), 1, "one more is somewhere");
    disk.admit(&mut restored, vec![keys::sku(&b)]);
    assert_eq!(wanted(&mut restored), 0, "there are two");
    disk.load(&mut restored, &entry);
    let outcomes = restored.apply(Position { term: 1, index: shard.index + 1 }, &entry);
    assert_eq!(outcomes, [Outcome::Rejected(Rejection::NoSuchSku(ghost.clone()))]);
    restored.evict(0);
    assert_eq!(wanted(&mut restored), 2, "they have left");
}

#[test]
fn stored_rows_come_to_what_the_checkpoint_says_and_others_do_not() {
    let (mut shard, orders, _) = lived();
    let mut disk = Disk::default();
    let judged = |disk: &Disk| {
        let mut stored = Stored::default();
        disk.rows().for_each(|(key, value)| stored.add(key, value));
        stored.judge()
    };
    assert_eq!(judged(&disk), Ok(()), "nothing was stored yet");
    disk.write(&mut shard.machine);
    assert_eq!(judged(&disk), Ok(()));
    shard.one(act(orders[0].id, "pay late", pay(orders[0].total)));
    shard.one(act(orders[5].id, "cancel it", cancel()));
    disk.write(&mut shard.machine);
    assert_eq!(judged(&disk), Ok(()), "after another checkpoint");
    let summed = |key: &&Vec<u8>| key[0] == TIMER || key[0] >= FIRST_COLD;
    let keys: Vec<_> = disk.rows().map(|(key, _)| key).filter(summed).cloned().collect();
    assert!(keys.iter().any(|key| key[0] >= FIRST_COLD), "there are rows that may be cold");
    for key in keys {
        let mut without = disk.clone();
        let mut value = without.0.remove(&key).expect("it is there");
        assert!(judged(&without).is_err(), "without {key:?}");
        *value.last_mut().expect("no row is empty") ^= 1;
        without.0.insert(key.clone(), value);
        assert!(judged(&without).is_err(), "with another {key:?}");
    }
    disk.0.remove(&vec![META]);
    assert!(judged(&disk).is_err(), "without the sum");
}

#[test]
fn rows_that_are_not_in_the_store_are_not_evicted() {
    // Rule 28.
    let (mut shard, orders, _) = lived();
    let all = shard.machine.counters();
    shard.machine.evict(0);
    assert_eq!(shard.machine.counters(), all, "dirty rows stay");
    let frozen = frozen(&mut shard.machine);
    shard.machine.evict(0);
    assert_eq!(shard.machine.counters(), all, "rows of a checkpoint that is not durable stay");
    shard.machine.checkpoint_durable();
    let before = shard.machine.resident_bytes();
    shard.machine.evict(before);
    assert_eq!(shard.machine.counters(), all, "the budget is kept already");
    let hash = shard.machine.state_hash();
    shard.machine.evict(0);
    assert!(shard.machine.counters().evicted > 0 && shard.machine.resident_bytes() < before);
    assert_eq!(shard.machine.state_hash(), hash);
    assert!(matches!(shard.machine.order(orders[0].id), Lookup::Cold(_)));
    assert!(!frozen.is_empty());
}

#[test]
fn a_row_read_before_a_checkpoint_or_an_eviction_is_read_again() {
    // Rule 28: what was read may be older than what has been stored and evicted since.
    let (mut shard, orders, _) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    shard.machine.evict(0);
    let Lookup::Cold(keys) = shard.machine.order(orders[0].id) else { panic!() };
    let (epoch, old) = (shard.machine.load_epoch(), disk.clone());
    // Meanwhile somebody else loads it, changes it, and it is stored and evicted.
    let entry = Entry { at: at(0), commands: vec![act(orders[0].id, "pay", pay(orders[0].total))] };
    disk.load(&mut shard.machine, &entry);
    shard.machine.apply(Position { term: 1, index: 1_000 }, &entry);
    disk.write(&mut shard.machine);
    shard.machine.evict(0);
    let stale = old.0.get(keys[0].as_bytes()).map(Vec::as_slice);
    assert!(!shard.machine.admit(keys[0].clone(), stale, epoch));
    disk.admit(&mut shard.machine, keys);
    assert_eq!(found(shard.machine.order(orders[0].id)).version, 2);
}

#[test]
fn a_deletion_is_not_undone_by_an_old_read() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let attempt = shard.attempt(&user);
    shard.one(hold(attempt, &a, 2, at(10)));
    let request = request(&user, "k", &[(&a, 2)]);
    let order = placed(shard.one(Command::Place(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))));
    // The mark of the hold goes; its row stays.
    shard.now = at(20);
    shard.one(Command::Tick);
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    shard.machine.evict(0);
    let key = crate::rows::keys::hold(order.attempt, &a);
    let (epoch, old) = (shard.machine.load_epoch(), disk.clone());
    let entry = Entry { at: at(0), commands: vec![act(order.id, "c", cancel())] };
    disk.load(&mut shard.machine, &entry);
    shard.machine.apply(Position { term: 1, index: 1_000 }, &entry);
    let stale = old.0.get(key.as_bytes()).map(Vec::as_slice);
    assert!(stale.is_some());
    assert!(shard.machine.admit(key.clone(), stale, epoch), "known: the deletion is in memory");
    assert_eq!(shard.machine.hold_of(order.attempt, &a), Lookup::Absent);
    disk.write(&mut shard.machine);
    assert!(!shard.machine.admit(key, stale, epoch), "no longer known: read again");
}

#[test]
fn the_hash_does_not_depend_on_when_it_is_asked_for() {
    let (mut asked, ..) = lived();
    let (mut plain, orders, a) = lived();
    for n in 0..5 {
        for shard in [&mut asked, &mut plain] {
            shard.one(receive(&a, &format!("r{n}"), 1));
            shard.one(act(orders[0].id, "pay", pay(orders[0].total)));
            shard.one(act(orders[0].id, "c", cancel()));
        }
        asked.machine.state_hash();
    }
    assert_eq!(asked.machine.state_hash(), plain.machine.state_hash());
    plain.one(receive(&a, "other", 1));
    assert_ne!(asked.machine.state_hash(), plain.machine.state_hash());
}

#[test]
fn rows_that_come_and_go_between_hash_and_checkpoint_leave_the_store() {
    // Stored, deleted, hashed, made again, deleted: the store must hear of the deletion.
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let attempt = shard.attempt(&user_of(&shard.machine, 0));
    shard.one(release(attempt, &a, at(10_000)));
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let marks = |disk: &Disk| disk.rows().filter(|(key, _)| key[0] == crate::rows::MARK).count();
    assert_eq!(marks(&disk), 1);
    shard.now = at(10_001);
    shard.one(Command::Tick);
    shard.machine.state_hash();
    shard.one(release(attempt, &a, at(10_002)));
    shard.now = at(10_003);
    shard.one(Command::Tick);
    disk.write(&mut shard.machine);
    assert_eq!(marks(&disk), 0);
    assert_eq!(disk.start(config(&shard.machine)).state_hash(), shard.machine.state_hash());
}

#[test]
fn damaged_rows_are_refused_at_start() {
    let (mut shard, ..) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    for tag in shard.machine.resident_tables() {
        let Some((key, value)) = disk.rows().find(|(key, _)| key[0] == tag) else { continue };
        let mut machine = ShardMachine::new(config(&shard.machine));
        let longer = [value.as_slice(), &[0]].concat();
        assert!(machine.restore(key, &longer).is_err(), "table {tag}");
        assert!(machine.restore(key, &[9, 9]).is_err(), "table {tag}");
        assert!(machine.restore(key, &[]).is_err(), "table {tag}");
    }
    assert!(ShardMachine::new(config(&shard.machine)).restore(&[], &[]).is_err());
    let mut machine = disk.start(config(&shard.machine));
    let scan = machine.missing_timers(&Entry { at: at(0), commands: vec![Command::Tick] }).expect("none is known");
    let (key, value) = disk.timers(&scan, 1)[0];
    for (key, value) in [(key, &[1, 0][..]), (key, &[9]), (key, &[]), (&key[1..], value), (&key[..5], value), (&[], value)] {
        assert!(machine.admit_timers(&scan, [(key, value)]).is_err(), "{key:?} {value:?}");
    }
}

/// A checkpoint, after which every timer leaves that may.
fn without_timers(shard: &mut Shard, disk: &mut Disk) {
    disk.write(&mut shard.machine);
    while !shard.machine.evict_timers(2) {}
}

#[test]
fn timers_that_are_due_later_are_in_the_store_alone() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let orders: Vec<Order> = (0..6).map(|n| shard.ordered(&format!("k{n}"), &[(&a, 1)])).collect();
    let (due, hash) = (shard.machine.due().unwrap(), shard.machine.state_hash());
    let here = |shard: &Shard| shard.machine.rows().iter().filter(|(key, _)| key[0] == TIMER).count();
    let mut disk = Disk::default();
    without_timers(&mut shard, &mut disk);
    assert_eq!((here(&shard), shard.machine.counters().timers), (0, 6));
    assert_eq!((shard.machine.due(), shard.machine.state_hash()), (Some(due), hash));
    shard.machine.check();
    // A timer that is not here ends, and a tick before its time needs none.
    shard.one(act(orders[0].id, "c", cancel()));
    shard.one(Command::Tick);
    assert_eq!((here(&shard), shard.machine.counters().timers), (0, 5));
    // A tick at its time does, and the store still has the one that ended.
    shard.now = due;
    let tick = Entry { at: due, commands: vec![Command::Tick] };
    assert_eq!(disk.load_timers(&mut shard.machine, &tick, 4), 6);
    assert_eq!((here(&shard), shard.machine.missing_timers(&tick)), (5, None));
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 5, more: false });
    assert_eq!((shard.machine.counters().timers, shard.machine.due()), (0, None));
    disk.write(&mut shard.machine);
    assert!(disk.rows().all(|(key, _)| key[0] != TIMER));
}

#[test]
fn timers_that_are_due_soon_stay_in_memory() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let order = shard.ordered("k", &[(&a, 1)]);
    shard.now = at(900_000 - 500);
    shard.one(receive(&a, "later", 1));
    without_timers(&mut shard, &mut Disk::default());
    shard.now = order.payment_due_at.unwrap();
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 1, more: false });
}

#[test]
fn a_timer_read_before_a_checkpoint_was_durable_is_read_again() {
    // Rule 28: what was read may have ended since, and nobody here remembers.
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let orders: Vec<Order> = (0..3).map(|n| shard.ordered(&format!("k{n}"), &[(&a, 1)])).collect();
    let mut disk = Disk::default();
    without_timers(&mut shard, &mut disk);
    let tick = Entry { at: shard.machine.due().unwrap(), commands: vec![Command::Tick] };
    let (scan, old) = (shard.machine.missing_timers(&tick).unwrap(), disk.clone());
    shard.one(act(orders[1].id, "c", cancel()));
    let here = |machine: &ShardMachine| machine.rows().iter().filter(|(key, _)| key[0] == TIMER).count();
    disk.write(&mut shard.machine);
    assert_eq!(shard.machine.admit_timers(&scan, old.timers(&scan, 9)), Ok(false));
    assert_eq!(here(&shard.machine), 0);
    assert_eq!(disk.load_timers(&mut shard.machine, &tick, 9), 2);
    assert_eq!(here(&shard.machine), 2);
}

#[test]
fn timers_that_piled_up_fire_without_all_of_them_in_memory() {
    let (mut plain, mut stored) = (Shard::alone(), Shard::alone());
    let many = 3 * TICK_LIMIT + 200;
    for shard in [&mut plain, &mut stored] {
        let a = shard.stocked(0, many as u64);
        let user = user_of(&shard.machine, 0);
        for n in 0..many {
            shard.now = at(n as u64);
            placed(shard.place_local(request(&user, &format!("k{n}"), &[(&a, 1)])));
        }
    }
    let mut disk = Disk::default();
    without_timers(&mut stored, &mut disk);
    let late = at(2_000_000);
    let mut read = Vec::new();
    for more in [true, true, true, false] {
        (plain.now, stored.now) = (late, late);
        let tick = Entry { at: late, commands: vec![Command::Tick] };
        read.push(disk.load_timers(&mut stored.machine, &tick, 500));
        let outcome = plain.one(Command::Tick);
        assert_eq!(stored.one(Command::Tick), outcome);
        assert!(matches!(outcome, Outcome::Ticked { more: told, .. } if told == more), "{outcome:?}");
        assert_eq!(stored.machine.state_hash(), plain.machine.state_hash());
    }
    // Twice what a tick may fire, and one more.
    assert_eq!(read, [2_500, 700, 0, 0]);
}

#[test]
fn what_is_missing_is_the_same_whether_memory_was_warmed_or_not() {
    let (mut shard, orders, _) = lived();
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let mut restored = disk.start(config(&shard.machine));
    let Lookup::Cold(keys) = restored.order(orders[1].id) else { panic!("it should be cold") };
    disk.admit(&mut restored, keys);
    // The order is at rest, and its SKU is cold.
    let entry = Entry { at: at(0), commands: vec![act(orders[1].id, "c", cancel())] };
    let missing = restored.missing(&entry, &|_| true);
    assert_eq!(missing.cold.iter().map(RowKey::tag).collect::<Vec<u8>>(), [SKU]);
    restored.warm(&entry);
    assert_eq!(restored.missing(&entry, &|_| true), missing);
    // The store certainly has no such row: it is admitted, and not missing any more.
    let missing = restored.missing(&entry, &|_| false);
    assert_eq!((missing.cold.len(), missing.absent.len()), (0, 1));
    restored.admit_absent(missing.absent);
    assert_eq!(restored.missing(&entry, &|_| false), MissingRows::default());
}

//! Log time that ran away and is set back: which deadlines move, which stay, and what never repeats.

use super::store::Disk;
use super::*;
use crate::audit::Audit;
use crate::order::{EventKind, Phase};
use crate::repair::{Preview, Repair};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Shard {
    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = at(ms);
        self
    }

    fn repair(&mut self, right: u64, since: u64) -> Outcome {
        self.now = at(right);
        let repair = Repair { log: self.machine.time(), right: at(right), since: at(since) };
        self.one(Command::Repair(repair))
    }

    /// An order of the first user, to be paid within so many seconds.
    fn ordered_for(&mut self, name: &str, sku: &SkuId, seconds: u64) -> Order {
        let user = user_of(&self.machine, 0);
        let mut request = request(&user, name, &[(sku, 1)]);
        request.payment_window = Duration::from_secs(seconds);
        placed(self.place_local(request))
    }

    fn tick(&mut self) -> u32 {
        match self.one(Command::Tick) {
            Outcome::Ticked { expired, .. } => expired,
            other => panic!("expected a tick, got {other:?}"),
        }
    }

    /// Whether the key of an order is known: the same again is no second order.
    fn knows(&mut self, name: &str, sku: &SkuId) -> bool {
        let user = user_of(&self.machine, 0);
        match self.place_local(request(&user, name, &[(sku, 1)])) {
            Outcome::Placed { replayed, .. } => replayed,
            other => panic!("expected an order, got {other:?}"),
        }
    }
}

/// Time after the start at which the order is cancelled for want of payment, to the second, ticking from `from` on.
fn expires(shard: &mut Shard, order: &Order, from: u64, until: u64) -> Option<u64> {
    (from / SECOND..=until / SECOND).find(|second| {
        shard.at(second * SECOND).tick();
        shard.order(order.id).phase == Phase::Cancelled
    })
}

#[test]
fn what_was_set_in_the_wrong_time_moves_and_what_was_set_before_stays() {
    #[rustfmt::skip]
    let cases = [
        // the clock leaps by, its payment is due after, ordered in the wrong time, is told to be due, expires (seconds)
        (8 * DAY,              900,                      true,                      10 + 900,          910),
        (8 * DAY,              30 * 86_400,              true,                      10 + 30 * 86_400,  0),
        (20 * SECOND,          900,                      true,                      10 + 900,          910),
        (20 * SECOND,          900,                      false,                     900,               900),
        (10 * MINUTE,          900,                      false,                     900,               900),
        (10 * DAY,             30 * 86_400,              false,                     30 * 86_400,       0),
    ];
    for (leap, window, wrong, due, dies) in cases {
        let mut shard = Shard::alone();
        let a = shard.stocked(0, 10);
        let before = (!wrong).then(|| shard.ordered_for("k", &a, window));
        shard.at(leap).tick();
        let during = wrong.then(|| shard.ordered_for("k", &a, window));
        // Ten seconds later somebody notices.
        shard.at(leap + 10 * SECOND).tick();
        assert_eq!(shard.repair(20 * SECOND, leap), Outcome::Done);
        let order = before.or(during).expect("one of both");
        let case = format!("{leap} {window} {wrong}");
        assert_eq!(shard.machine.time(), at(20 * SECOND), "{case}");
        assert_eq!(shard.order(order.id).payment_due_at, Some(at(due * SECOND)), "{case}");
        if dies > 0 {
            assert_eq!(expires(&mut shard, &order, 20 * SECOND, due * SECOND + MINUTE), Some(dies), "{case}");
        } else {
            shard.at(due * SECOND - 1).tick();
            assert_eq!(shard.order(order.id).phase, Phase::PendingPayment, "{case}");
            shard.at(due * SECOND).tick();
            assert_eq!(shard.order(order.id).phase, Phase::Cancelled, "{case}");
        }
        shard.machine.check();
    }
}

#[test]
fn keys_are_neither_forgotten_early_nor_kept_for_ever() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    assert!(!shard.knows("before", &a));
    shard.at(8 * DAY);
    assert!(!shard.knows("during", &a));
    shard.repair(MINUTE, 8 * DAY);
    assert!(!shard.knows("after", &a));
    #[rustfmt::skip]
    let cases = [
        // at,             before, during, after
        (MINUTE,           true,   true,   true),
        (7 * DAY,          true,   true,   true),
        (7 * DAY + 2,      false,  true,   true),
        (7 * DAY + MINUTE, false,  true,   true),
        (7 * DAY + MINUTE + 2, false, false, false),
    ];
    for (when, before, during, after) in cases {
        let user = user_of(&shard.machine, 0);
        shard.at(when).tick();
        let known = ["before", "during", "after"]
            .map(|name| matches!(shard.machine.key_record(&user, &key(name)), super::super::Lookup::Found(_)));
        assert_eq!(known, [before, during, after], "{when}");
    }
    shard.machine.check();
}

#[test]
fn ids_never_repeat_though_the_same_milliseconds_come_again() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10_000);
    let mut ids = Vec::new();
    let mut order = |shard: &mut Shard, when| {
        shard.now = at(when);
        let name = format!("k{}", ids.len());
        ids.push(shard.ordered(&name, &[(&a, 1)]).id);
    };
    (0..30).for_each(|n| order(&mut shard, HOUR + n));
    shard.repair(0, HOUR);
    // The same time again, and beyond.
    (0..30).for_each(|n| order(&mut shard, n));
    (0..60).for_each(|n| order(&mut shard, HOUR + n));
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(ids.last().map(|id| id.made_at()), Some(at(HOUR + 59)), "ids follow the time again once it has passed them");
    let made = shard.order(ids[30]);
    assert_eq!((made.created_at, made.id.made_at() > at(HOUR)), (at(0), true));
    shard.machine.check();
}

#[test]
fn a_repair_is_refused_unless_log_time_is_what_was_seen_and_ahead() {
    let mut shard = Shard::alone();
    shard.at(8 * DAY).tick();
    let repair = |log, right| Command::Repair(Repair { log: at(log), right: at(right), since: at(right) });
    let not_ahead = |log| Rejection::NotAhead { log: at(log) };
    check_refused(&mut shard, "it has moved", repair(8 * DAY - 1, 0), not_ahead(8 * DAY));
    check_refused(&mut shard, "it is not ahead", repair(8 * DAY, 8 * DAY), not_ahead(8 * DAY));
    check_refused(&mut shard, "it would go on", repair(8 * DAY, 9 * DAY), not_ahead(8 * DAY));
    shard.now = at(5);
    assert_eq!(shard.one(repair(8 * DAY, 5)), Outcome::Done);
    check_refused(&mut shard, "a second time", repair(8 * DAY, 5), not_ahead(5));
    // It may run away again, and is set back again; a moment of the first repair keeps its meaning.
    shard.at(3 * DAY).tick();
    assert_eq!(shard.repair(10, 3 * DAY), Outcome::Done);
    assert_eq!((shard.machine.time(), shard.machine.repairs()), (at(10), 2));
    shard.at(1_000).tick();
    assert_eq!(shard.machine.time(), at(1_000), "stamps count from the repair");
}

#[test]
fn times_are_told_as_they_were() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let order = shard.ordered("k", &[(&a, 1)]);
    shard.at(8 * DAY - 5 * SECOND);
    let late = shard.ordered("late", &[(&a, 1)]);
    shard.one(act(late.id, "p", pay(late.total)));
    shard.repair(20 * SECOND, 8 * DAY - 5 * SECOND);
    shard.at(30 * SECOND);
    shard.one(act(late.id, "f", pick()));
    let fulfilment = shard.order(late.id).fulfilment_id(1);
    shard.one(act(late.id, "s", OrderAction::Ship { fulfilment, carrier: None, tracking: None }));
    let told = shard.order(late.id);
    assert_eq!((told.created_at, told.updated_at, told.payments[0].at), (at(20 * SECOND), at(30 * SECOND), at(20 * SECOND)));
    assert_eq!((told.fulfilments[0].at, told.completes_at), (at(30 * SECOND), Some(at(7 * DAY + 30 * SECOND))));
    let paid = told.events.iter().find(|event| event.kind == EventKind::Paid).map(|event| event.at);
    assert_eq!(paid, Some(at(20 * SECOND)));
    assert_eq!(shard.order(order.id).created_at, at(0), "set before");
    // What is answered is told in the same way as what is read.
    let again = shard.one(act(late.id, "s", OrderAction::Ship { fulfilment, carrier: None, tracking: None }));
    let Outcome::Order { order: again, replayed: true, .. } = again else { panic!("expected a replay, got {again:?}") };
    assert_eq!(*again, told);
    shard.machine.check();
}

#[test]
fn shards_that_are_repaired_one_after_another_go_on_with_each_other() {
    let (mut orders, mut stock) = (Shard::of(1, 2), Shard::of(2, 2));
    let a = stock.stocked(0, 100);
    let user = user_of(&orders.machine, 0);
    let place = |orders: &mut Shard, stock: &mut Shard, now: u64, valid_until: u64| {
        (orders.now, stock.now) = (at(now), at(now));
        let attempt = orders.attempt(&user);
        let held = stock.one(hold(attempt, &a, 1, at(valid_until)));
        if let Outcome::Held { .. } = held {
            let request = request(&user, &format!("k{}", orders.counter), &[(&a, 1)]);
            let place = Place { attempt, request: request.into(), names: vec![text("name")] };
            placed(orders.one(Command::Place(Box::new(place))));
        }
        (held, attempt)
    };
    (orders.now, stock.now) = (at(8 * DAY), at(8 * DAY));
    orders.tick();
    stock.tick();
    stock.repair(MINUTE, 8 * DAY);
    // The SKU's shard is repaired: what is counted from the right time is held, and what another shard's time says too.
    assert!(matches!(place(&mut orders, &mut stock, MINUTE, MINUTE + 10 * SECOND).0, Outcome::Held { .. }));
    let (held, attempt) = place(&mut orders, &mut stock, MINUTE, 8 * DAY + 10 * SECOND);
    assert!(matches!(held, Outcome::Held { .. }));
    // Until its order has told, neither the tick nor the time ends a hold; the same again is the same.
    stock.at(2 * HOUR).tick();
    assert!(matches!(stock.one(hold(attempt, &a, 1, at(8 * DAY + 10 * SECOND))), Outcome::Held { .. }));
    assert_eq!(stock.buckets(&a), [100, 2, 0, 0]);
    let expired = place(&mut orders, &mut stock, 2 * HOUR, HOUR).0;
    assert!(matches!(rejection(expired), Rejection::HoldExpired { now, .. } if now == at(2 * HOUR)));
    orders.repair(2 * HOUR, 8 * DAY);
    settle(&mut orders, &mut stock);
    assert!(matches!(place(&mut orders, &mut stock, 2 * HOUR, 2 * HOUR + 10 * SECOND).0, Outcome::Held { .. }));
    settle(&mut orders, &mut stock);
    assert_eq!(stock.buckets(&a), [100, 3, 0, 0]);
    // Marks are not kept for the time that was taken off.
    stock.at(3 * HOUR).tick();
    assert_eq!(stock.machine.counters().marks, 0);
    orders.at(3 * HOUR).tick();
    settle(&mut orders, &mut stock);
    assert_eq!(stock.buckets(&a), [100, 0, 0, 0], "unpaid orders have expired");
}

#[test]
fn a_hold_whose_mark_was_forgotten_in_the_wrong_time_is_not_granted_twice() {
    let (mut orders, mut stock) = (Shard::of(1, 2), Shard::of(2, 2));
    let a = stock.stocked(0, 10);
    let user = user_of(&orders.machine, 0);
    let attempt = orders.attempt(&user);
    let again = |stock: &mut Shard| stock.one(hold(attempt, &a, 1, at(10 * SECOND)));
    assert!(matches!(again(&mut stock), Outcome::Held { .. }));
    let place = Place { attempt, request: request(&user, "k", &[(&a, 1)]).into(), names: vec![text("name")] };
    placed(orders.one(Command::Place(Box::new(place))));
    settle(&mut orders, &mut stock);
    stock.at(8 * DAY).tick();
    assert_eq!(stock.machine.counters().marks, 0);
    stock.repair(5 * SECOND, 8 * DAY);
    assert!(stock.machine.may_know(attempt, &a, at(10 * SECOND)), "only its row tells");
    assert_eq!(rejection(again(&mut stock)), Rejection::HoldEnded);
    assert_eq!(stock.buckets(&a), [10, 1, 0, 0]);
    stock.machine.check();
}

#[test]
fn a_repair_survives_a_restart_with_cold_rows() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let long = shard.ordered_for("long", &a, 30 * 86_400);
    shard.at(8 * DAY).tick();
    let order = shard.ordered("k", &[(&a, 1)]);
    shard.repair(MINUTE, 8 * DAY);
    let mut disk = Disk::default();
    disk.write(&mut shard.machine);
    let mut restored = disk.start(shard.machine.config.clone());
    assert_eq!((restored.time(), restored.repairs()), (at(MINUTE), 1));
    assert_eq!(restored.state_hash(), shard.machine.state_hash());
    for (index, when) in (shard.index + 1..).zip([2 * MINUTE, 17 * MINUTE, 22 * DAY, 31 * DAY]) {
        let entry = Entry { at: at(when), commands: vec![Command::Tick] };
        let position = Position { term: 1, index };
        disk.load(&mut restored, &entry);
        assert_eq!(restored.apply(position, &entry), shard.machine.apply(position, &entry), "{when}");
        assert_eq!(restored.state_hash(), shard.machine.state_hash(), "{when}");
        let phases = [&order, &long].map(|order| shard.order(order.id).phase == Phase::Cancelled);
        assert_eq!(phases, [when >= 16 * MINUTE, when >= 30 * DAY], "{when}");
    }
}

#[test]
fn a_preview_tells_what_moves_and_the_repair_then_does() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    shard.ordered_for("before", &a, 30 * 86_400);
    shard.at(8 * DAY);
    let first = shard.ordered("k1", &[(&a, 1)]);
    shard.at(8 * DAY + 4 * SECOND);
    shard.ordered("k2", &[(&a, 1)]);
    shard.one(act(first.id, "c", pay(Money(1))));
    let log = shard.machine.time();
    let repair = Repair { log, right: at(MINUTE), since: at(8 * DAY) };
    let mut preview = Preview::new(repair, Duration::from_millis(7 * DAY));
    for (key, value) in shard.machine.rows() {
        preview.add(&key, &value).unwrap();
    }
    let told: Vec<String> = preview
        .finish()
        .into_iter()
        .map(|(what, moved)| {
            let [first, last] = [moved.first, moved.last]
                .map(|(from, to)| format!("{}->{}", from.since(at(0)).as_secs(), to.since(at(0)).as_secs()));
            format!("{what:?} {} {first} {last} {} stay", moved.count, moved.stay)
        })
        .collect();
    let (day, week) = (8 * DAY / SECOND, 7 * DAY / SECOND);
    let expected = [
        format!("Payment 2 {}->{} {}->{} 1 stay", day + 900, 56 + 900, day + 904, 60 + 900),
        format!("OrderKey 2 {}->{} {}->{} 1 stay", day + week, 56 + week, day + week + 4, 60 + week),
        format!("CommandKey 1 {0}->{1} {0}->{1} 1 stay", day + week + 4, 60 + week),
    ];
    assert_eq!(told, expected);
    shard.one(Command::Repair(repair));
    assert_eq!(shard.order(first.id).payment_due_at, Some(at((56 + 900) * SECOND)));
}

#[test]
fn keys_that_a_wrong_time_has_taken_for_forgotten_are_no_broken_law() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    assert!(!shard.knows("k", &a));
    shard.at(8 * DAY);
    assert!(!shard.knows("k", &a), "this is what a clock that leaps does");
    shard.repair(MINUTE, 8 * DAY);
    assert!(shard.knows("k", &a));
    let mut audit = Audit::of(shard.machine.shard());
    for (key, value) in shard.machine.rows() {
        audit.add(&key, &value);
    }
    assert!(audit.finish().is_clean());
}

//! Commands on SKUs, holds, releases, tombstones.

use super::super::HoldView;
use super::super::Lookup;
use super::*;
use crate::sku::stock::{HOLD_LIMIT, STOCK_LIMIT};

const WAREHOUSE: &str = "default";

#[test]
fn a_command_on_a_sku_is_refused_in_a_fixed_order() {
    let mut shard = Shard::of(1, 2);
    let other = Shard::of(2, 2);
    let a = shard.stocked(0, 10);
    shard.ordered("k", &[(&a, 4)]);
    let none = sku_of(&shard.machine, 5);
    let strange = sku_of(&other.machine, 0);
    let version = shard.sku(&a).version;
    let with = |sku: &SkuId, name: &str, body_hash, expect_version, action| {
        let Command::Sku(mut command) = sku_command(sku, name, action) else { unreachable!() };
        (command.body_hash, command.expect_version) = (body_hash, expect_version);
        Command::Sku(command)
    };
    let to = |warehouse: &str, units| SkuAction::Receive {
        warehouse: WarehouseId::new(warehouse).unwrap(),
        quantity: Quantity(units),
    };
    let by = |delta| SkuAction::Adjust { warehouse: WarehouseId::default(), delta, reason: None };
    let out_of_range = |units| Rejection::QuantityOutOfRange(Quantity(units));
    let used = "stock-0";
    let short = Rejection::WouldOversell { asked: Quantity(7), available: Quantity(6) };
    let new = |action| with(&a, "new", 1, None, action);
    let put = SkuAction::Put { name: text("x") };
    let cases = [
        ("SKU of another shard", with(&strange, "new", 1, None, to(WAREHOUSE, 1)), Rejection::WrongShard),
        ("no such SKU", with(&none, "new", 1, None, to(WAREHOUSE, 1)), Rejection::NoSuchSku(none.clone())),
        ("a new row has no version", with(&none, "new", 1, Some(3), put), Rejection::StaleVersion { expected: 3, actual: 0 }),
        ("key with another body", with(&a, used, 2, None, to(WAREHOUSE, 1)), Rejection::KeyReused),
        ("the key before the version", with(&a, used, 2, Some(1), to(WAREHOUSE, 1)), Rejection::KeyReused),
        ("version", with(&a, "new", 1, Some(1), to(WAREHOUSE, 0)), Rejection::StaleVersion { expected: 1, actual: version }),
        ("nothing received", new(to(WAREHOUSE, 0)), out_of_range(0)),
        ("too much received", new(to(WAREHOUSE, 1_000_000_001)), out_of_range(1_000_000_001)),
        ("no such warehouse", new(to("moon", 1)), Rejection::NoSuchWarehouse),
        ("nothing adjusted", new(by(0)), out_of_range(0)),
        ("too much adjusted", new(by(-1_000_000_001)), out_of_range(1_000_000_001)),
        ("the largest delta", new(by(i64::MIN)), out_of_range(1 << 63)),
        ("promised units", new(by(-7)), short),
    ];
    for (case, command, expected) in cases {
        check_refused(&mut shard, case, command, expected);
    }
}

#[test]
fn stock_moves_as_told_and_once_per_key() {
    let mut shard = Shard::alone();
    let a = sku_of(&shard.machine, 0);
    #[rustfmt::skip]
    let cases = [
        // command               on hand, version now, replayed
        (put(&a),                  0,  1, false),
        (put(&a),                  0,  1, false),
        (receive(&a, "r1", 10),    10, 2, false),
        (receive(&a, "r1", 10),    10, 2, true),
        (receive(&a, "r2", 5),     15, 3, false),
        (adjust(&a, "a1", -15),    0,  4, false),
        (adjust(&a, "a1", -15),    0,  4, true),
        (adjust(&a, "a2", 7),      7,  5, false),
        (receive(&a, "r1", 10),    7,  5, true),
    ];
    for (n, (command, on_hand, version, expected)) in cases.into_iter().enumerate() {
        let Outcome::Sku { sku, replayed, version: made, .. } = shard.one(command) else { panic!("step {n} was refused") };
        let first = if n == 8 { 2 } else { version };
        assert_eq!(made, first, "step {n}: the version that the key has made, when it was first used");
        assert_eq!((sku.stock[0].1.on_hand.0, sku.version, replayed), (on_hand, version, expected), "step {n}");
        assert_eq!(*sku, shard.sku(&a), "step {n}");
        shard.machine.check();
    }
}

#[test]
fn a_put_creates_once_and_renames() {
    let mut shard = Shard::alone();
    let a = sku_of(&shard.machine, 0);
    assert!(matches!(shard.one(put(&a)), Outcome::Sku { created: true, .. }));
    let renamed = sku_command(&a, "n", SkuAction::Put { name: text("other") });
    let Outcome::Sku { sku, created, .. } = shard.one(renamed) else { panic!() };
    assert_eq!((created, sku.name.as_str(), sku.version), (false, "other", 2));
    assert_eq!(shard.machine.counters().skus, 1);
}

#[test]
fn what_is_to_be_created_is_refused_where_it_is_there() {
    let mut shard = Shard::alone();
    let a = sku_of(&shard.machine, 0);
    let create = |name| {
        let action = SkuAction::Create { name: text(name) };
        Command::Sku(Box::new(SkuCommand { sku: a.clone(), key: None, body_hash: 0, expect_version: None, action }))
    };
    assert!(matches!(shard.one(create("new")), Outcome::Sku { created: true, version: 1, .. }));
    shard.one(receive(&a, "r1", 10));
    assert_eq!(shard.one(create("newer")), Outcome::Rejected(Rejection::StaleVersion { expected: 0, actual: 2 }));
    assert_eq!((shard.sku(&a).name, shard.machine.counters().skus), (text("new"), 1));
}

#[test]
fn stock_has_an_upper_limit() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 0);
    let mut key = 0;
    let mut full = 0;
    // A million receives would be slow: fill the bucket by hand, then go on by command.
    shard.machine.rows.get_mut::<Sku>(&crate::rows::keys::sku(&a)).unwrap().stock[0].1.on_hand =
        Quantity(STOCK_LIMIT.0 - 2_000_000_000);
    shard.machine.rows.get_mut::<Sku>(&crate::rows::keys::sku(&a)).unwrap().stock[0].1.received =
        Quantity(STOCK_LIMIT.0 - 2_000_000_000);
    while full < 3 {
        key += 1;
        match shard.one(receive(&a, &format!("r{key}"), 1_000_000_000)) {
            Outcome::Sku { .. } => assert!(key <= 2),
            Outcome::Rejected(Rejection::QuantityOutOfRange(_)) => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shard.buckets(&a)[0], STOCK_LIMIT.0);
    assert!(matches!(shard.one(adjust(&a, "up", 1)), Outcome::Rejected(Rejection::QuantityOutOfRange(_))));
}

#[test]
fn a_hold_is_refused_in_a_fixed_order() {
    let mut shard = Shard::of(1, 2);
    let other = Shard::of(2, 2);
    let a = shard.stocked(0, 10);
    let none = sku_of(&shard.machine, 5);
    let strange = sku_of(&other.machine, 0);
    let user = user_of(&other.machine, 0);
    let attempt = |shard: &mut Shard| AttemptId { group: GroupId(2), ..shard.attempt(&user) };
    let (held, ended, new) = (attempt(&mut shard), attempt(&mut shard), attempt(&mut shard));
    shard.now = at(1_000);
    let until = at(11_000);
    assert_eq!(shard.one(hold(held, &a, 4, until)), Outcome::Held { name: text(&format!("name of {a}")) });
    shard.one(release(ended, &a, until));
    let expired = |valid_until| Rejection::HoldExpired { valid_until, now: at(1_000) };
    let out = Rejection::OutOfStock { sku: a.clone(), asked: Quantity(7), available: Quantity(6) };
    let cases = [
        ("SKU of another shard", hold(new, &strange, 1, until), Rejection::WrongShard),
        ("the same attempt, more (rule 9)", hold(held, &a, 5, until), Rejection::HoldEnded),
        ("the same attempt, more than there is", hold(held, &a, 500, until), Rejection::HoldEnded),
        ("ended before it came (rule 10)", hold(ended, &a, 1, until), Rejection::HoldEnded),
        ("ended before it is late", hold(ended, &a, 1, at(0)), Rejection::HoldEnded),
        ("late (rule 11)", hold(new, &a, 1, at(999)), expired(at(999))),
        ("late before sold out (rule 11)", hold(new, &a, 500, at(999)), expired(at(999))),
        ("no such SKU", hold(new, &none, 1, until), Rejection::NoSuchSku(none.clone())),
        ("nothing", hold(new, &a, 0, until), Rejection::QuantityOutOfRange(Quantity(0))),
        ("too much", hold(new, &a, HOLD_LIMIT.0 + 1, until), Rejection::QuantityOutOfRange(Quantity(HOLD_LIMIT.0 + 1))),
        ("sold out", hold(new, &a, 7, until), out),
    ];
    for (case, command, expected) in cases {
        check_refused(&mut shard, case, command, expected);
    }
    // Granted already, in time and late, sold out or not.
    shard.one(hold(new, &a, 6, until));
    for now in [2_000, 12_000] {
        shard.now = at(now);
        assert!(matches!(shard.one(hold(held, &a, 4, until)), Outcome::Held { .. }), "exists before anything else");
    }
    assert_eq!(shard.buckets(&a), [10, 10, 0, 0]);
}

#[test]
fn holds_that_come_together_come_to_what_each_would_alone() {
    let (mut together, mut alone) = (Shard::of(1, 2), Shard::of(1, 2));
    let strange = sku_of(&Shard::of(2, 2).machine, 0);
    let (a, b) = (sku_of(&together.machine, 0), sku_of(&together.machine, 1));
    for shard in [&mut together, &mut alone] {
        shard.stocked(0, 5);
        shard.stocked(1, 9);
        shard.now = at(1_000);
    }
    let slot = user_of(&Shard::of(2, 2).machine, 0).slot();
    // Attempt, SKU, units.
    let asked = [(1, &a, 2), (1, &b, 4), (2, &a, 2), (3, &a, 2), (1, &a, 2), (2, &a, 1), (4, &strange, 1), (5, &b, 5)];
    for valid_until in [at(11_000), at(999)] {
        let row = |&(counter, sku, units): &(u64, &SkuId, u64)| HoldAsked {
            slot,
            counter,
            sku: SkuId::clone(sku),
            quantity: Quantity(units),
        };
        let holds = Holds { group: GroupId(2), term: 3, valid_until, rows: asked.iter().map(row).collect() };
        let each: Vec<Hold> = holds.each().collect();
        assert!(each.iter().zip(&asked).all(|(hold, asked)| hold.attempt.counter == asked.0 && hold.attempt.term == 3));
        let expected: Vec<Outcome> = alone.run(each.into_iter().map(Command::Hold).collect());
        let Outcome::Holds(results) = together.one(Command::Holds(holds)) else { panic!("holds are answered one by one") };
        let as_alone = results.into_iter().map(|result| match result {
            Ok(name) => Outcome::Held { name },
            Err(rejection) => Outcome::Rejected(rejection),
        });
        assert_eq!(as_alone.collect::<Vec<_>>(), expected, "valid until {valid_until:?}");
        assert_eq!(together.buckets(&a), [5, 4, 0, 0]);
        assert_eq!(together.buckets(&b), [9, 9, 0, 0]);
        together.machine.check();
    }
    assert_eq!(together.machine.counters(), alone.machine.counters());
}

#[test]
fn a_hold_valid_until_now_is_in_time() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let attempt = shard.attempt(&user_of(&shard.machine, 0));
    shard.now = at(1_000);
    assert!(matches!(shard.one(hold(attempt, &a, 1, at(1_000))), Outcome::Held { .. }));
}

#[test]
fn a_release_that_overtakes_its_hold_leaves_a_tombstone_until_age_refuses() {
    // Rules 8 and 10: suspension, the classic failure of try-confirm-cancel.
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let attempt = shard.attempt(&user_of(&shard.machine, 0));
    let until = at(10_000);
    assert_eq!(shard.one(release(attempt, &a, until)), Outcome::Done);
    assert_eq!(rejection(shard.one(hold(attempt, &a, 1, until))), Rejection::HoldEnded);
    assert_eq!(shard.machine.hold_of(attempt, &a), Lookup::Found(HoldView::Ended));
    // Dropped by a tick once log time has passed the valid-until, not before; then age refuses.
    shard.now = until;
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 0, more: false });
    shard.now = at(10_001);
    assert_eq!(shard.machine.due(), Some(at(11_000)));
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 1, more: false });
    assert_eq!(shard.machine.hold_of(attempt, &a), Lookup::Absent);
    assert!(matches!(rejection(shard.one(hold(attempt, &a, 1, until))), Rejection::HoldExpired { .. }));
    assert_eq!(shard.machine.due(), None);
    assert_eq!(shard.buckets(&a), [10, 0, 0, 0]);
}

#[test]
fn the_later_valid_until_counts() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let attempt = shard.attempt(&user_of(&shard.machine, 0));
    let after = |releases: &[u64], held: Option<u64>| {
        let mut shard = Shard::alone();
        shard.stocked(0, 10);
        held.map(|until| shard.one(hold(attempt, &a, 1, at(until))));
        for until in releases {
            shard.one(release(attempt, &a, at(*until)));
        }
        assert_eq!(shard.machine.counters().marks, 1);
        shard.machine.due().unwrap()
    };
    #[rustfmt::skip]
    let cases = [
        // releases            hold       when a tick is worth it
        (&[5_000][..],          None,          6_000),
        (&[5_000, 8_000],       None,          9_000),
        (&[8_000, 5_000],       None,          9_000),
        (&[5_000],              Some(7_000),   8_000),
        (&[9_000],              Some(7_000),   10_000),
    ];
    for (releases, held, due) in cases {
        assert_eq!(after(releases, held), at(due), "{releases:?} {held:?}");
    }
}

#[test]
fn releases_and_gone_act_on_tentative_holds_alone() {
    // Rule 15.
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let (kept, tentative) = (shard.attempt(&user), shard.attempt(&user));
    shard.one(hold(kept, &a, 3, at(10_000)));
    shard.one(hold(tentative, &a, 4, at(10_000)));
    let place = Place { attempt: kept, request: request(&user, "k", &[(&a, 3)]).into(), names: Vec::new() };
    placed(shard.one(Command::Place(Box::new(place))));
    assert_eq!(shard.machine.hold_of(kept, &a), Lookup::Found(HoldView::Kept(Quantity(3))));
    for attempt in [kept, tentative] {
        shard.one(Command::Gone(vec![(attempt, a.clone())]));
        shard.one(release(attempt, &a, at(10_000)));
    }
    assert_eq!(shard.buckets(&a), [10, 3, 0, 0]);
    assert_eq!(shard.machine.counters().holds, 1);
    // A repeat of the kept hold, before and after it is forgotten that it was kept lately, and a repeat of the ended one.
    assert_eq!(rejection(shard.one(hold(kept, &a, 3, at(10_000)))), Rejection::HoldEnded);
    assert_eq!(rejection(shard.one(hold(tentative, &a, 4, at(10_000)))), Rejection::HoldEnded);
    shard.now = at(10_001);
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 2, more: false });
    assert_eq!(rejection(shard.one(hold(kept, &a, 3, at(10_000)))), Rejection::HoldEnded);
    assert!(matches!(rejection(shard.one(hold(tentative, &a, 4, at(10_000)))), Rejection::HoldExpired { .. }));
    shard.machine.check();
}

#[test]
fn a_hold_that_was_kept_and_freed_is_ended() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let attempt = shard.attempt(&user);
    shard.one(hold(attempt, &a, 3, at(10_000)));
    let place = Place { attempt, request: request(&user, "k", &[(&a, 3)]).into(), names: Vec::new() };
    let order = placed(shard.one(Command::Place(Box::new(place))));
    shard.one(act(order.id, "c", cancel()));
    assert_eq!(rejection(shard.one(hold(attempt, &a, 3, at(10_000)))), Rejection::HoldEnded);
    assert_eq!(shard.buckets(&a), [10, 0, 0, 0]);
    shard.machine.check();
}

#[test]
fn an_attempt_that_was_kept_takes_no_more_of_any_sku() {
    // Rules 9 and 10: whatever hold of it still comes is late, whatever became of the order.
    let mut shard = Shard::alone();
    let (a, b) = (shard.stocked(0, 10), shard.stocked(1, 10));
    let user = user_of(&shard.machine, 0);
    let mut attempts = Vec::new();
    for n in 0..130 {
        let attempt = shard.attempt(&user);
        shard.now = at(n);
        shard.one(hold(attempt, &a, 1, at(n + 10_000)));
        let place = Place { attempt, request: request(&user, &format!("k{n}"), &[(&a, 1)]).into(), names: Vec::new() };
        let order = placed(shard.one(Command::Place(Box::new(place))));
        shard.one(act(order.id, "c", cancel()));
        attempts.push(attempt);
    }
    assert_eq!(shard.machine.counters().marks, 3, "64 attempts share a row");
    for (attempt, sku) in attempts.iter().flat_map(|attempt| [(*attempt, &a), (*attempt, &b)]) {
        assert_eq!(rejection(shard.one(hold(attempt, sku, 1, at(20_000)))), Rejection::HoldEnded);
        assert!(shard.machine.may_know(attempt, sku, at(20_000)));
    }
    assert_eq!(shard.machine.hold_of(attempts[0], &a), Lookup::Found(HoldView::Ended));
    let new = shard.attempt(&user);
    assert!(matches!(shard.one(hold(new, &a, 1, at(20_000))), Outcome::Held { .. }));
    // A block goes when the last of its holds can no longer come: those of the counters below 64, of 128, and the rest.
    for (now, expired) in [(10_063, 1), (10_127, 1), (10_130, 1), (10_131, 0)] {
        shard.now = at(now);
        assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired, more: false }, "{now}");
    }
    assert_eq!(shard.machine.counters().marks, 0);
    shard.machine.check();
}

#[test]
fn asks_name_what_has_been_tentative_for_long() {
    // Rule 14.
    let mut shard = Shard::alone();
    let (a, b) = (shard.stocked(0, 10), shard.stocked(1, 10));
    let user = user_of(&shard.machine, 0);
    let (old, young, kept) = (shard.attempt(&user), shard.attempt(&user), shard.attempt(&user));
    for (now, attempt, sku) in [(0, old, &a), (0, kept, &a), (1_000, old, &b), (2_000, young, &a)] {
        shard.now = at(now);
        shard.one(hold(attempt, sku, 1, at(now + 10_000)));
    }
    let place = Place { attempt: kept, request: request(&user, "k", &[(&a, 1)]).into(), names: Vec::new() };
    placed(shard.one(Command::Place(Box::new(place))));
    let asks = |now, limit| shard.machine.asks(at(now), Duration::from_secs(10), limit);
    assert_eq!(asks(9_999, 10), []);
    assert_eq!(asks(10_000, 10), [(old, vec![a.clone()])]);
    assert_eq!(asks(11_000, 10), [(old, vec![a.clone(), b.clone()])]);
    assert_eq!(asks(12_000, 10), [(old, vec![a.clone(), b.clone()]), (young, vec![a.clone()])]);
    assert_eq!(asks(12_000, 1), [(old, vec![a.clone()])]);
    shard.one(Command::Gone(vec![(old, a.clone()), (old, b.clone()), (young, a.clone()), (young, b.clone())]));
    assert_eq!(shard.machine.asks(at(60_000), Duration::ZERO, 10), []);
    assert_eq!((shard.buckets(&a), shard.buckets(&b)), ([10, 1, 0, 0], [10, 0, 0, 0]));
    shard.machine.check();
}

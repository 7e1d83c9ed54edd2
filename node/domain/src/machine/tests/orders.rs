//! Commands on orders and their timers.

use super::super::TICK_LIMIT;
use super::*;
use crate::command::Created;
use crate::ids::FulfilmentId;
use crate::order::{Phase, Status};

#[test]
fn a_command_on_an_order_is_refused_in_a_fixed_order() {
    let mut shard = Shard::of(1, 2);
    let other = Shard::of(2, 2);
    let a = shard.stocked(0, 10);
    let order = shard.ordered("k", &[(&a, 2)]);
    shard.one(act(order.id, "used", pay(order.total)));
    let strange = OrderId::new(at(0), user_of(&other.machine, 0).slot(), 0);
    let none = OrderId::new(at(7), order.id.slot(), 0);
    let with = |order, name: &str, body_hash, expect_version, action| {
        let Command::Order(mut command) = act(order, name, action) else { unreachable!() };
        (command.body_hash, command.expect_version) = (body_hash, expect_version);
        Command::Order(command)
    };
    let stale = Rejection::StaleVersion { expected: 1, actual: 2 };
    let cases = [
        ("order of another shard", with(strange, "new", 1, None, cancel()), Rejection::WrongShard),
        ("no such order", with(none, "new", 1, None, cancel()), Rejection::NoSuchOrder(none)),
        ("key with another body", with(order.id, "used", 2, None, pay(order.total)), Rejection::KeyReused),
        ("the key before the version", with(order.id, "used", 2, Some(1), pay(order.total)), Rejection::KeyReused),
        ("version", with(order.id, "new", 1, Some(1), cancel()), stale.clone()),
        ("the version before the order's own", with(order.id, "new", 1, Some(1), OrderAction::Complete), stale),
        ("the order's own", with(order.id, "new", 1, Some(2), OrderAction::Complete), Rejection::StillOpen),
    ];
    for (case, command, expected) in cases {
        check_refused(&mut shard, case, command, expected);
    }
}

#[test]
fn a_command_is_replayed_with_what_it_created() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let order = shard.ordered("k", &[(&a, 2)]);
    shard.one(act(order.id, "pay", pay(order.total)));
    shard.one(act(order.id, "pick", pick()));
    let fulfilment = FulfilmentId { order: order.id, number: 1 };
    shard.one(act(order.id, "ship", OrderAction::Ship { fulfilment, carrier: None, tracking: None }));
    let Outcome::Order { order: now, created, replayed, version } = shard.one(act(order.id, "pick", pick())) else { panic!() };
    assert_eq!((created, replayed, version, now.version), (Some(Created::Fulfilment(fulfilment)), true, 3, 4));
    assert_eq!(*now, shard.order(order.id), "the order as it stands now");
    // A key of one order is no key of another.
    let second = shard.ordered("k2", &[(&a, 1)]);
    shard.one(act(second.id, "pay-2", pay(second.total)));
    let Outcome::Order { replayed, .. } = shard.one(act(second.id, "pick", pick())) else { panic!() };
    assert!(!replayed);
}

#[test]
fn keys_of_an_order_are_forgotten_after_their_retention() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let mut body = request(&user_of(&shard.machine, 0), "k", &[(&a, 2)]);
    body.terms = Terms::Invoice;
    let order = placed(shard.place_local(body));
    shard.one(act(order.id, "pick", pick()));
    shard.now = at(7 * 24 * 3_600_000 + 1);
    assert_eq!(rejection(shard.one(act(order.id, "pick", pick()))), Rejection::NothingLeft);
}

#[test]
fn stock_follows_an_order_through_its_life() {
    let mut shard = Shard::alone();
    let (a, b) = (shard.stocked(0, 10), shard.stocked(1, 10));
    let order = shard.ordered("k", &[(&a, 2), (&b, 3)]);
    let fulfilment = FulfilmentId { order: order.id, number: 1 };
    let ship = OrderAction::Ship { fulfilment, carrier: None, tracking: None };
    // on hand, reserved, committed, sold of each SKU after each step
    #[rustfmt::skip]
    let steps = [
        ("pay",     pay(order.total),                       [10, 0, 2, 0], [10, 0, 3, 0], Status::Paid),
        ("pick",    pick(),                                 [10, 0, 2, 0], [10, 0, 3, 0], Status::Paid),
        ("ship",    ship,                                   [8, 0, 0, 2],  [7, 0, 0, 3],  Status::Shipped),
        ("deliver", OrderAction::Deliver { fulfilment },    [8, 0, 0, 2],  [7, 0, 0, 3],  Status::Delivered),
        ("end",     OrderAction::Complete,                  [8, 0, 0, 2],  [7, 0, 0, 3],  Status::Completed),
    ];
    for (step, action, of_a, of_b, status) in steps {
        assert!(matches!(shard.one(act(order.id, step, action)), Outcome::Order { .. }), "{step}");
        assert_eq!((shard.buckets(&a), shard.buckets(&b)), (of_a, of_b), "{step}");
        assert_eq!(shard.machine.counters().orders, [(status, 1)], "{step}");
        shard.machine.check();
    }
    assert_eq!((shard.machine.counters().holds, shard.machine.counters().timers), (0, 0));
}

#[test]
fn a_cancelled_order_gives_its_units_back() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let unpaid = shard.ordered("k1", &[(&a, 2)]);
    let paid = shard.ordered("k2", &[(&a, 3)]);
    shard.one(act(paid.id, "pay", pay(paid.total)));
    assert_eq!(shard.buckets(&a), [10, 2, 3, 0]);
    shard.one(act(unpaid.id, "cancel", cancel()));
    assert_eq!(shard.buckets(&a), [10, 0, 3, 0]);
    shard.one(act(paid.id, "cancel", cancel()));
    assert_eq!(shard.buckets(&a), [10, 0, 0, 0]);
    shard.machine.check();
}

#[test]
fn only_a_tick_expires_and_never_early() {
    // Rule 22: a payment after the deadline but before the tick is in time.
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let (late, never) = (shard.ordered("k1", &[(&a, 2)]), shard.ordered("k2", &[(&a, 3)]));
    let deadline = late.payment_due_at.unwrap();
    shard.now = Timestamp::from_ms(deadline.as_ms() - 1);
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 0, more: false });
    shard.now = Timestamp::from_ms(deadline.as_ms() + 5_000);
    shard.one(act(late.id, "pay", pay(late.total)));
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 1, more: false });
    assert_eq!(shard.order(late.id).phase, Phase::Confirmed);
    assert_eq!(shard.order(never.id).phase, Phase::Cancelled);
    assert_eq!(shard.buckets(&a), [10, 0, 2, 0]);
    assert_eq!(shard.machine.counters().timers, 0);
    // Late money for an order that has ended comes back: T9.
    shard.one(act(never.id, "pay", pay(never.total)));
    let never = shard.order(never.id);
    assert_eq!((never.phase, never.refunds.len(), never.refunds[0].amount), (Phase::Cancelled, 1, never.total));
    shard.machine.check();
}

#[test]
fn a_tick_expires_a_thousand_items_at_most() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10_000);
    let count = TICK_LIMIT + 200;
    let user = user_of(&shard.machine, 0);
    let commands = (0..count).map(|n| {
        let place = Place {
            attempt: shard.attempt(&user),
            request: request(&user, &format!("k{n}"), &[(&a, 1)]).into(),
            names: Vec::new(),
        };
        Command::PlaceLocal(Box::new(place))
    });
    let commands = commands.collect();
    shard.run(commands);
    shard.now = at(901_000);
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: TICK_LIMIT as u32, more: true });
    assert_eq!(shard.buckets(&a)[1], 200);
    assert_eq!(shard.one(Command::Tick), Outcome::Ticked { expired: 200, more: false });
    assert_eq!(shard.buckets(&a)[1], 0);
    assert_eq!(shard.machine.due(), None);
    shard.machine.check();
}

#[test]
fn time_takes_the_later_of_log_and_stamp() {
    // Rule 21: a leader whose clock is behind does not turn time back.
    let mut shard = Shard::alone();
    shard.now = at(5_000);
    shard.one(Command::Tick);
    shard.now = at(1_000);
    shard.one(Command::Tick);
    assert_eq!(shard.machine.time(), at(5_000));
}

#[test]
#[should_panic(expected = "HoldsAddUp: 1 of 0 orders end")]
fn no_more_orders_end_than_there_are() {
    let mut shard = Shard::alone();
    let sku = shard.stocked(0, 5);
    let order = shard.ordered("k", &[(&sku, 1)]);
    shard.machine.meta.counts.orders = Default::default();
    shard.one(act(order.id, "cancel", cancel()));
}

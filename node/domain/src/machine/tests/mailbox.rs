//! Streams between shards: runs, gaps, repeats, trims, and messages that meet nothing.

use std::collections::BTreeMap;

use super::super::BelowTrim;
use super::*;
use crate::command::{HeldPart, Message};
use crate::order::{Phase, Status};
use crate::rows::keys::OutboxKey;
use crate::rows::kinds::AttemptRow;

/// An order shard and a SKU shard with one SKU of ten units.
fn pair() -> (Shard, Shard, SkuId, UserId) {
    let mut stock = Shard::of(2, 2);
    let sku = stock.stocked(0, 10);
    let orders = Shard::of(1, 2);
    let user = user_of(&orders.machine, 0);
    (orders, stock, sku, user)
}

/// Holds and places an order of remote units.
fn ordered(orders: &mut Shard, stock: &mut Shard, name: &str, sku: &SkuId, units: u64) -> Order {
    let user = user_of(&orders.machine, 0);
    let attempt = orders.attempt(&user);
    let valid_until = stock.now.after(Duration::from_secs(10));
    assert!(matches!(stock.one(hold(attempt, sku, units, valid_until)), Outcome::Held { .. }));
    unheld(orders, attempt, request(&user, name, &[(sku, units)]))
}

/// Places an order whether its units are held or not.
fn unheld(orders: &mut Shard, attempt: AttemptId, request: OrderRequest) -> Order {
    placed(orders.one(Command::Place(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))))
}

fn numbers(run: &Deliver) -> (u64, usize) {
    (run.first, run.messages.len())
}

#[test]
fn an_order_of_remote_units_goes_through_its_life() {
    let (mut orders, mut stock, sku, _) = pair();
    let order = ordered(&mut orders, &mut stock, "k", &sku, 4);
    assert_eq!((stock.buckets(&sku), stock.machine.counters().tentative), ([10, 4, 0, 0], 1));
    settle(&mut orders, &mut stock);
    assert_eq!((stock.buckets(&sku), stock.machine.counters().tentative), ([10, 4, 0, 0], 0));
    let fulfilment = crate::ids::FulfilmentId { order: order.id, number: 1 };
    let ship = OrderAction::Ship { fulfilment, carrier: None, tracking: None };
    let part = OrderAction::Cancel { reason: CancelReason::User, note: None, lines: vec![(1, Quantity(1))] };
    let steps = [
        ("pay", pay(order.total), [10, 0, 4, 0]),
        ("part", part, [10, 0, 3, 0]),
        ("pick", pick(), [10, 0, 3, 0]),
        ("ship", ship, [7, 0, 0, 3]),
    ];
    for (step, action, buckets) in steps {
        let outcome = orders.one(act(order.id, step, action));
        assert!(matches!(outcome, Outcome::Order { .. }), "{step}: {outcome:?}");
        settle(&mut orders, &mut stock);
        assert_eq!(stock.buckets(&sku), buckets, "{step}");
        orders.machine.check();
        stock.machine.check();
    }
    assert_eq!(stock.machine.counters().holds, 0);
}

#[test]
fn a_run_takes_effect_once_and_in_order() {
    // Rule 17.
    let (mut orders, mut stock, sku, _) = pair();
    for name in ["a", "b", "c"] {
        ordered(&mut orders, &mut stock, name, &sku, 1);
    }
    let from = |first| orders.machine.outbox(GroupId(2), first, 10, usize::MAX).unwrap().unwrap();
    let (whole, tail) = (from(1), from(3));
    assert_eq!((numbers(&whole), numbers(&tail)), ((1, 3), (3, 1)));
    let head = Deliver { messages: whole.messages[..2].to_vec(), ..whole.clone() };
    let deliver = |stock: &mut Shard, run: &Deliver| stock.one(Command::Deliver(run.clone()));
    check_refused(&mut stock, "a gap", Command::Deliver(tail), Rejection::StreamGap { first: 3, next: 1 });
    assert_eq!(deliver(&mut stock, &head), Outcome::Delivered { high: 2 });
    assert_eq!(stock.machine.counters().tentative, 1);
    let before = stock.machine.state_hash();
    assert_eq!(deliver(&mut stock, &head), Outcome::Delivered { high: 2 }, "a repeat");
    assert_eq!(stock.machine.state_hash(), before);
    assert_eq!(deliver(&mut stock, &whole), Outcome::Delivered { high: 3 }, "an overlap: the new ones count");
    assert_eq!((stock.machine.counters().tentative, stock.machine.counters().holds), (0, 3));
    let empty = Deliver { from: GroupId(1), first: 4, messages: Vec::new() };
    assert_eq!(deliver(&mut stock, &empty), Outcome::Delivered { high: 3 });
    let own = Deliver { from: GroupId(2), first: 1, messages: Vec::new() };
    check_refused(&mut stock, "a run of its own", Command::Deliver(own), Rejection::WrongShard);
    stock.machine.check();
}

#[test]
fn trim_takes_the_maximum_and_never_more_than_was_sent() {
    let (mut orders, mut stock, sku, user) = pair();
    let order = ordered(&mut orders, &mut stock, "a", &sku, 1);
    ordered(&mut orders, &mut stock, "b", &sku, 1);
    let attempt = order.attempt;
    let state = |orders: &Shard| orders.machine.streams().map(|s| (s.to.0, s.next, s.trimmed)).collect::<Vec<_>>();
    assert_eq!(state(&orders), [(2, 3, 0)]);
    let trim = |high| Command::Trim { to: GroupId(2), high };
    let gap = |first| Rejection::StreamGap { first, next: 3 };
    check_refused(&mut orders, "more than was sent", trim(3), gap(3));
    assert_eq!(orders.machine.placed(attempt), Some(order.id), "rule 16");
    orders.one(trim(1));
    assert_eq!(orders.machine.placed(attempt), None);
    orders.one(trim(0));
    assert_eq!(state(&orders), [(2, 3, 1)]);
    assert_eq!(
        orders.machine.outbox(GroupId(2), 1, 10, 1_000),
        Err(BelowTrim { to: GroupId(2), wanted: 1, trimmed: 1 }),
        "rule 20"
    );
    orders.one(trim(2));
    assert_eq!(orders.machine.outbox(GroupId(2), 3, 10, 1_000), Ok(None));
    assert_eq!(orders.machine.counters().undelivered, 0);
    assert_eq!(orders.machine.outbox(GroupId(7), 1, 10, 1_000), Ok(None), "a stream that never was");
    check_refused(&mut orders, "a stream that never was", Command::Trim { to: GroupId(7), high: 1 }, {
        Rejection::StreamGap { first: 1, next: 1 }
    });
    let _ = user;
}

#[test]
fn the_index_of_an_attempt_lives_until_its_last_keep_is_trimmed() {
    // Rule 16, with two destinations.
    let mut orders = Shard::of(1, 3);
    let (x, y) = (sku_of(&Shard::of(2, 3).machine, 0), sku_of(&Shard::of(3, 3).machine, 0));
    let user = user_of(&orders.machine, 0);
    let attempt = orders.attempt(&user);
    let order = unheld(&mut orders, attempt, request(&user, "k", &[(&x, 1), (&y, 1)]));
    for (to, expected) in [(2, Some(order.id)), (3, None)] {
        orders.one(Command::Trim { to: GroupId(to), high: 1 });
        assert_eq!(orders.machine.placed(attempt), expected);
    }
}

#[test]
#[should_panic(expected = "rule 16: a keep of")]
fn no_keep_is_trimmed_twice() {
    // Of a keep as it was told before there were lists.
    let (mut orders, mut stock, sku, _) = pair();
    let order = ordered(&mut orders, &mut stock, "a", &sku, 1);
    let keep = Message::Keep { attempt: order.attempt, order: order.id, committed: false, items: vec![(sku, Quantity(1))] };
    orders.machine.outbox.put(OutboxKey { to: GroupId(2), number: 1 }, keep);
    orders.machine.attempts.put(order.attempt, AttemptRow { order: order.id, outstanding: 0 });
    orders.one(Command::Trim { to: GroupId(2), high: 1 });
}

#[test]
#[should_panic(expected = "rule 17: message 2 to group 2 is missing, 3 follows")]
fn no_message_is_skipped() {
    let (mut orders, mut stock, sku, _) = pair();
    for name in ["a", "b", "c"] {
        ordered(&mut orders, &mut stock, name, &sku, 1);
    }
    orders.machine.outbox.remove(&OutboxKey { to: GroupId(2), number: 2 });
    drop(orders.machine.outbox(GroupId(2), 1, 10, usize::MAX));
}

#[test]
fn runs_are_cut_by_count_and_by_size() {
    let (mut orders, mut stock, sku, _) = pair();
    for n in 0..5 {
        ordered(&mut orders, &mut stock, &format!("k{n}"), &sku, 1);
    }
    #[rustfmt::skip]
    let cases = [
        // first  messages  bytes       run
        (1, 10, usize::MAX, Some((1, 5))),
        (2, 2, usize::MAX, Some((2, 2))),
        (1, 10, 0, Some((1, 1))),
        (1, 10, 300, Some((1, 2))),
        (5, 10, usize::MAX, Some((5, 1))),
        (6, 10, usize::MAX, None),
        (9, 10, usize::MAX, None),
    ];
    for (first, messages, bytes, expected) in cases {
        let run = orders.machine.outbox(GroupId(2), first, messages, bytes).unwrap();
        assert_eq!(run.as_ref().map(numbers), expected, "{first} {messages} {bytes}");
    }
}

#[test]
fn a_keep_that_meets_no_hold_cancels_an_unpaid_order() {
    // Rule 18. The model's case: the hold was answered with gone although its place was applied later.
    let (mut orders, mut stock, sku, user) = pair();
    let attempt = orders.attempt(&user);
    let order = unheld(&mut orders, attempt, request(&user, "k", &[(&sku, 4)]));
    settle(&mut orders, &mut stock);
    let order = orders.order(order.id);
    assert_eq!((order.phase, order.cancel_reason), (Phase::Cancelled, Some(CancelReason::Shortfall)));
    assert_eq!(stock.buckets(&sku), [10, 0, 0, 0]);
    // A hold that arrives after all is asked about, and is gone: nobody knows its attempt any more.
    stock.one(hold(attempt, &sku, 4, at(10_000)));
    assert_eq!(stock.machine.asks(at(10_000), Duration::from_secs(10), 10), [(attempt, vec![sku.clone()])]);
    assert_eq!(orders.machine.placed(attempt), None);
    stock.one(Command::Gone(vec![(attempt, sku.clone())]));
    assert_eq!(stock.buckets(&sku), [10, 0, 0, 0]);
    orders.machine.check();
    stock.machine.check();
}

#[test]
fn a_keep_that_meets_less_keeps_what_is_there() {
    let (mut orders, mut stock, sku, user) = pair();
    let attempt = orders.attempt(&user);
    stock.one(hold(attempt, &sku, 3, at(10_000)));
    let mut body = request(&user, "k", &[(&sku, 5)]);
    body.terms = Terms::Invoice;
    let order = unheld(&mut orders, attempt, body);
    settle(&mut orders, &mut stock);
    let line = orders.order(order.id).lines[0].clone();
    assert_eq!((line.held, line.backordered), (Quantity(3), Quantity(2)));
    assert_eq!(stock.buckets(&sku), [10, 0, 3, 0]);
    orders.machine.check();
    stock.machine.check();
}

#[test]
fn a_keep_of_less_than_was_held_gives_the_rest_back() {
    let (mut orders, mut stock, sku, user) = pair();
    let attempt = orders.attempt(&user);
    stock.one(hold(attempt, &sku, 5, at(10_000)));
    unheld(&mut orders, attempt, request(&user, "k", &[(&sku, 3)]));
    settle(&mut orders, &mut stock);
    assert_eq!(stock.buckets(&sku), [10, 3, 0, 0]);
    stock.machine.check();
}

#[test]
fn the_orders_of_an_entry_are_told_together() {
    let (mut orders, mut stock, sku, user) = pair();
    let (mine, other) = (orders.stocked(0, 10), stock.stocked(1, 10));
    let attempts: Vec<_> = (0..3).map(|_| orders.attempt(&user)).collect();
    for (attempt, units) in attempts.iter().zip([1, 2, 3]) {
        stock.one(hold(*attempt, &sku, units, at(10_000)));
        stock.one(hold(*attempt, &other, 1, at(10_000)));
        orders.one(hold(*attempt, &mine, 1, at(10_000)));
    }
    let place = |n: usize, units| {
        let request = request(&user, &format!("k{n}"), &[(&other, 1), (&sku, units), (&mine, 1)]);
        Command::Place(Box::new(Place { attempt: attempts[n], request: request.into(), names: Vec::new() }))
    };
    // The third one is of the second one's key, and loses.
    let again = request(&user, "k1", &[(&other, 1), (&sku, 3), (&mine, 1)]);
    let again = Place { attempt: attempts[2], request: again.into(), names: Vec::new() };
    let outcomes = orders.run(vec![place(0, 1), place(1, 2), Command::Place(Box::new(again))]);
    let ids: Vec<_> = outcomes.into_iter().map(|outcome| placed(outcome).id).collect();
    let run = run_between(&orders, &stock).unwrap();
    let [Message::Decided(decided)] = &run.messages[..] else { panic!("one message, not {:?}", run.messages) };
    let kept: Vec<_> = decided.kept.iter().map(|kept| (kept.attempt, kept.order, kept.items)).collect();
    assert_eq!(kept, [(attempts[0], ids[0], 2), (attempts[1], ids[1], 2)]);
    assert_eq!((decided.items.len(), decided.released.len()), (4, 1));
    let known = orders.machine.placed_among(attempts.iter().copied().collect());
    assert_eq!(known, [(attempts[0], ids[0]), (attempts[1], ids[1])].into(), "rule 16: the message says who is placed");
    settle(&mut orders, &mut stock);
    assert_eq!(orders.machine.placed_among(attempts.iter().copied().collect()), BTreeMap::new());
    assert_eq!(
        (stock.buckets(&sku), stock.buckets(&other), orders.buckets(&mine)),
        ([10, 3, 0, 0], [10, 2, 0, 0], [10, 2, 0, 0])
    );
    assert_eq!((stock.machine.counters().tentative, stock.machine.counters().holds), (0, 4));
    // Paid and cancelled in one entry: what commits comes before what frees.
    let total = orders.order(ids[0]).total;
    orders.run(vec![act(ids[1], "c", cancel()), act(ids[0], "p", pay(total))]);
    let run = run_between(&orders, &stock).unwrap();
    let commits = vec![(sku.clone(), attempts[0]), (other.clone(), attempts[0])];
    let part = |sku: &SkuId, units| HeldPart { sku: sku.clone(), attempt: attempts[1], quantity: Quantity(units) };
    let mut frees = vec![part(&sku, 2), part(&other, 1)];
    frees.sort_by(|one, other| one.sku.cmp(&other.sku));
    let mut sorted = commits;
    sorted.sort();
    assert_eq!(run.messages, [Message::Commits(sorted), Message::Frees(frees)]);
    settle(&mut orders, &mut stock);
    assert_eq!(
        (stock.buckets(&sku), stock.buckets(&other), orders.buckets(&mine)),
        ([10, 0, 1, 0], [10, 0, 1, 0], [10, 0, 1, 0])
    );
    orders.machine.check();
    stock.machine.check();
}

#[test]
fn the_buckets_of_a_sku_change_once_for_all_orders_of_a_list() {
    let (mut orders, mut stock, sku, _) = pair();
    let placed: Vec<Order> = (1..=4).map(|n| ordered(&mut orders, &mut stock, &format!("k{n}"), &sku, n.min(2))).collect();
    settle(&mut orders, &mut stock);
    type Step = (&'static str, fn(&Order) -> OrderAction, [u64; 4]);
    let ship = |order: &Order| {
        let fulfilment = crate::ids::FulfilmentId { order: order.id, number: 1 };
        OrderAction::Ship { fulfilment, carrier: None, tracking: None }
    };
    let part = |_: &Order| OrderAction::Cancel { reason: CancelReason::User, note: None, lines: vec![(1, Quantity(1))] };
    let steps: [Step; 4] = [
        ("pay", |order| pay(order.total), [10, 0, 7, 0]),
        ("part", part, [10, 0, 3, 0]),
        ("pick", |_| pick(), [10, 0, 3, 0]),
        ("ship", ship, [7, 0, 0, 3]),
    ];
    for (step, action, buckets) in steps {
        let version = stock.sku(&sku).version;
        orders.run(placed.iter().map(|order| act(order.id, step, action(order))).collect());
        settle(&mut orders, &mut stock);
        assert_eq!(stock.buckets(&sku), buckets, "{step}");
        assert_eq!(stock.sku(&sku).version, version + u64::from(step != "pick"), "{step}");
    }
    assert_eq!(stock.machine.counters().holds, 0);
    orders.machine.check();
    stock.machine.check();
}

#[test]
fn a_list_is_told_before_it_is_too_large_for_a_run() {
    let (mut orders, mut stock, sku, user) = pair();
    let skus: Vec<_> = (1..=1_000).map(|n| sku_of(&stock.machine, n)).collect();
    let lines: Vec<_> = skus.iter().map(|sku| (sku, 1)).collect();
    let place = |n: u64| {
        let attempt = AttemptId { slot: user.slot(), group: GroupId(1), term: 1, counter: n };
        let request = request(&user, &format!("k{n}"), &lines);
        Command::Place(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
    };
    orders.run((1..=7).map(place).collect());
    let run = run_between(&orders, &stock).unwrap();
    let items = |message: &Message| match message {
        Message::Decided(decided) => (decided.kept.len(), decided.items.len()),
        other => panic!("nothing else was told: {other:?}"),
    };
    assert_eq!(run.messages.iter().map(items).collect::<Vec<_>>(), [(5, 4_096), (3, 2_904)]);
    settle(&mut orders, &mut stock);
    assert_eq!(orders.machine.counters().orders, [(Status::Cancelled, 7)], "nothing of it was held: rule 18");
    assert_eq!(stock.buckets(&sku), [10, 0, 0, 0]);
    orders.machine.check();
}

#[test]
fn shortfall_of_one_sku_frees_the_others() {
    // AllOrNothing over three shards: the order cancels itself, so the SKU that was held is free again.
    let mut orders = Shard::of(1, 3);
    let mut b = Shard::of(2, 3);
    let mut c = Shard::of(3, 3);
    let (x, y) = (b.stocked(0, 10), c.stocked(0, 10));
    let user = user_of(&orders.machine, 0);
    let attempt = orders.attempt(&user);
    b.one(hold(attempt, &x, 2, at(10_000)));
    let order = unheld(&mut orders, attempt, request(&user, "k", &[(&x, 2), (&y, 2)]));
    settle(&mut orders, &mut b);
    assert_eq!(b.buckets(&x), [10, 2, 0, 0]);
    settle(&mut orders, &mut c);
    settle(&mut orders, &mut b);
    assert_eq!(orders.order(order.id).status(), Status::Cancelled);
    assert_eq!((b.buckets(&x), c.buckets(&y)), ([10, 0, 0, 0], [10, 0, 0, 0]));
}

#[test]
fn local_units_that_are_missing_are_told_in_the_same_entry() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let attempt = shard.attempt(&user);
    let order = unheld(&mut shard, attempt, request(&user, "k", &[(&a, 2)]));
    assert_eq!(order.phase, Phase::PendingPayment, "as it was placed");
    assert_eq!(shard.order(order.id).phase, Phase::Cancelled, "and what came of it");
    assert_eq!(shard.machine.counters().timers, 0);
    shard.machine.check();
}

#[test]
fn every_message_that_meets_nothing_changes_nothing() {
    // Rule 18: total.
    let (orders, mut stock, sku, user) = pair();
    let attempt = AttemptId { slot: user.slot(), group: GroupId(1), term: 1, counter: 99 };
    let order = OrderId::new(at(0), user.slot(), 3);
    let unknown = sku_of(&stock.machine, 9);
    let items = vec![(sku.clone(), Quantity(2)), (unknown.clone(), Quantity(1))];
    let messages = vec![
        Message::Commit { attempt, skus: vec![sku.clone(), unknown] },
        Message::Free { attempt, items },
        Message::Shortfall { order, sku: sku.clone(), missing: Quantity(1) },
    ];
    let outcome = stock.one(Command::Deliver(Deliver { from: GroupId(1), first: 1, messages }));
    assert_eq!(outcome, Outcome::Delivered { high: 3 });
    assert_eq!(stock.buckets(&sku), [10, 0, 0, 0]);
    assert_eq!(stock.machine.streams().count(), 0);
    stock.machine.check();
    drop(orders);
}

#[test]
fn units_that_left_before_the_count_are_sold_and_counted_right() {
    // Rule 19: on hand stays, sold and adjusted both go up.
    let (_, mut stock, sku, user) = pair();
    let attempt = AttemptId { slot: user.slot(), group: GroupId(1), term: 1, counter: 99 };
    let messages = vec![Message::Ship { attempt, items: vec![(sku.clone(), Quantity(3))] }];
    stock.one(Command::Deliver(Deliver { from: GroupId(1), first: 1, messages }));
    let buckets = stock.sku(&sku).stock[0].1;
    assert_eq!((buckets.on_hand, buckets.sold, buckets.adjusted), (Quantity(10), Quantity(3), 3));
    stock.machine.check();
}

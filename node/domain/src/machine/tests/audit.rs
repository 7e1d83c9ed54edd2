//! The audit: clean on what is whole, and each law named when a row is damaged, lost or made up. What cannot fail proves
//! nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use ordergrid_rows::TableKey;

use super::*;
use crate::audit::{Audit, AuditReport};
use crate::command::Message;
use crate::encoding::{encoded, read_row};
use crate::law::Law;
use crate::rows::keys::{self, OutboxKey};
use crate::rows::kinds::{AttemptRow, HoldRow, LocalHold, Mark, OrderRow, ReferenceRow, StreamIn};
use crate::rows::{HOLD, LIST, MARK, META, ORDER, OUTBOX, PLACED, REFERENCE, SKU, STREAM_IN, TIMER};
use crate::sku::Sku;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Two shards whose orders hold units in both; two messages are under way.
fn grid() -> [Rows; 2] {
    let (mut a, mut b) = (Shard::of(1, 2), Shard::of(2, 2));
    let (mine, theirs) = (a.stocked(0, 200), b.stocked(0, 10));
    let user = user_of(&a.machine, 0);
    for n in 0..130 {
        a.ordered(&format!("local {n}"), &[(&mine, 1)]);
    }
    let mut placed_ids = Vec::new();
    for n in 0..3 {
        if n == 2 {
            settle(&mut a, &mut b);
        }
        let attempt = a.attempt(&user);
        a.one(hold(attempt, &mine, 1, at(10_000)));
        b.one(hold(attempt, &theirs, 2, at(10_000)));
        let mut body = request(&user, &format!("both {n}"), &[(&mine, 1), (&theirs, 2)]);
        body.reference = Some(crate::ids::Reference::new(format!("ref {n}")).unwrap());
        let place = Place { attempt, request: body.into(), names: Vec::new() };
        placed_ids.push(placed(a.one(Command::Place(Box::new(place)))));
    }
    a.one(act(placed_ids[0].id, "pay", pay(placed_ids[0].total)));
    let attempt = a.attempt(&user);
    b.one(hold(attempt, &theirs, 1, at(10_000)));
    [a, b].map(|shard| shard.machine.rows().into_iter().collect())
}

fn audit(grid: &[Rows; 2]) -> AuditReport {
    let mut audits = (1..).zip(grid).map(|(id, rows)| {
        let mut audit = Audit::of(GroupId(id));
        rows.iter().for_each(|(key, value)| audit.add(key, value));
        audit
    });
    let mut whole = audits.next().unwrap();
    audits.for_each(|audit| whole.merge(audit));
    whole.finish()
}

/// The laws that are broken once `damage` is done.
fn broken(damage: impl FnOnce(&mut [Rows; 2])) -> Vec<Law> {
    let mut rows = grid();
    damage(&mut rows);
    let report = audit(&rows);
    let mut laws: Vec<Law> = report.violations().map(|(law, _)| law).collect();
    laws.dedup();
    laws
}

fn first(rows: &Rows, tag: u8) -> Vec<u8> {
    rows.keys().find(|key| key[0] == tag).unwrap().clone()
}

/// Removes the first row of a table.
fn lose(shard: usize, tag: u8) -> impl FnOnce(&mut [Rows; 2]) {
    move |grid| {
        let key = first(&grid[shard], tag);
        grid[shard].remove(&key);
    }
}

/// Changes the first row of a table.
fn change<T>(shard: usize, tag: u8, change: impl FnOnce(&mut T)) -> impl FnOnce(&mut [Rows; 2])
where
    T: bincode::Encode + for<'a> bincode::BorrowDecode<'a, ()>,
{
    move |grid| {
        let key = first(&grid[shard], tag);
        let mut row: T = read_row(&grid[shard][&key]).unwrap();
        change(&mut row);
        grid[shard].insert(key, encoded(&row));
    }
}

#[test]
fn a_whole_grid_is_clean() {
    let report = audit(&grid());
    assert_eq!(report.violations().collect::<Vec<_>>(), []);
    assert!(report.is_clean() && report.torn.is_empty());
    let counts = &report.counts;
    assert_eq!((counts.shards, counts.orders, counts.keys, counts.skus), (2, 133, 133, 2));
    assert_eq!((counts.holds, counts.timers, counts.on_hand, counts.sold), (135, 132, 210, 0));
    // The keep of the third order and the commit of the first; its hold, and one that nobody placed.
    assert_eq!((report.in_flight.tentative, report.in_flight.undelivered), (2, 2));
}

#[test]
fn a_reference_that_several_orders_had_is_counted_for_each_of_them() {
    let (mut a, b) = (Shard::of(1, 2), Shard::of(2, 2));
    let (sku, user) = (a.stocked(0, 9), user_of(&a.machine, 0));
    for n in 0..3 {
        let mut body = request(&user, &format!("k{n}"), &[(&sku, 1)]);
        body.reference = Some(crate::ids::Reference::new("ref").unwrap());
        let order = placed(a.place_local(body));
        if n < 2 {
            a.one(act(order.id, "cancel", cancel()));
        }
    }
    let rows: [Rows; 2] = [a, b].map(|shard| shard.machine.rows().into_iter().collect());
    assert_eq!(audit(&rows).violations().collect::<Vec<_>>(), []);
    type Damage = fn(&mut ReferenceRow);
    let cases: [(Damage, Law); 3] = [
        (|row| row.before += 1, Law::OneKeyOneOrder),
        (|row| row.order = OrderId(row.before), Law::OneKeyOneOrder),
        (|row| row.listed += 1, Law::ReadsAreCurrent),
    ];
    for (damage, law) in cases {
        let mut rows = rows.clone();
        change(0, REFERENCE, damage)(&mut rows);
        assert_eq!(audit(&rows).violations().map(|(law, _)| law).collect::<Vec<_>>(), [law]);
    }
}

#[test]
fn what_an_order_holds_in_its_own_row_is_judged_order_by_order() {
    use Law::{AllOrNothing, HoldsAddUp, ReadsAreCurrent};
    type Damage = fn(&mut Vec<LocalHold>);
    let cases: [(&str, Damage, &[Law]); 4] = [
        ("lost", Vec::clear, &[HoldsAddUp, AllOrNothing, ReadsAreCurrent]),
        ("in the wrong bucket", |holds| holds[0].held.committed = true, &[HoldsAddUp]),
        ("empty", |holds| holds[0].held.quantity.0 = 0, &[HoldsAddUp, AllOrNothing]),
        ("of no line", |holds| holds[0].line = 9, &[HoldsAddUp, AllOrNothing, ReadsAreCurrent]),
    ];
    for (what, damage, laws) in cases {
        let damage = |row: &mut OrderRow| damage(row.local_holds.as_mut().expect("the first order lives with its SKU"));
        assert_eq!(broken(change(0, ORDER, damage)), laws, "{what}");
    }
    // What one order lacks another cannot make up for.
    let swapped = |grid: &mut [Rows; 2]| {
        let orders: Vec<_> = grid[0].keys().filter(|key| key[0] == ORDER).take(2).cloned().collect();
        for (key, change) in orders.iter().zip([1, -1]) {
            let mut row: OrderRow = read_row(&grid[0][key]).unwrap();
            let units = &mut row.local_holds.as_mut().unwrap()[0].held.quantity.0;
            *units = units.checked_add_signed(change).unwrap();
            grid[0].insert(key.clone(), encoded(&row));
        }
    };
    assert_eq!(broken(swapped), [HoldsAddUp, AllOrNothing]);
}

#[test]
fn every_kind_of_damage_breaks_its_law() {
    use Law::{
        AllOrNothing, EventsGapless, Heals, HoldsAddUp, MoneyConserved, MoneyEndsSomewhere, NoOversell, OneKeyOneOrder,
        ReadsAreCurrent, TimersFire,
    };
    type Damage = Box<dyn FnOnce(&mut [Rows; 2])>;
    let copy_order = |grid: &mut [Rows; 2]| {
        let key = first(&grid[0], ORDER);
        let mut row: OrderRow = read_row(&grid[0][&key]).unwrap();
        let order = Arc::make_mut(&mut row.order);
        order.id = OrderId(order.id.0 + 500);
        grid[0].insert(keys::order(row.order.id).as_bytes().to_vec(), encoded(&row));
    };
    let lose_shared = |grid: &mut [Rows; 2]| {
        let is_shared = |value: &[u8]| matches!(read_row(value), Ok(OrderRow { local_holds: None, .. }));
        let key = grid[0].iter().find(|(key, value)| key[0] == ORDER && is_shared(value)).unwrap().0.clone();
        grid[0].remove(&key);
    };
    let lose_tentative = |grid: &mut [Rows; 2]| {
        let is_tentative = |value: &[u8]| matches!(read_row(value), Ok(Mark::Tentative { .. }));
        let key = grid[1].iter().find(|(key, value)| key[0] == MARK && is_tentative(value)).unwrap().0.clone();
        grid[1].remove(&key);
    };
    let stray_message = |grid: &mut [Rows; 2]| {
        let attempt = AttemptId { slot: crate::ids::Slot::new(0).unwrap(), group: GroupId(1), term: 1, counter: 1 };
        let stray = encoded(&Message::Commit { attempt, skus: Vec::new() });
        grid[0].insert(OutboxKey { to: GroupId(2), number: 99 }.write().as_bytes().to_vec(), stray);
    };
    let stray_attempt = |grid: &mut [Rows; 2]| {
        let attempt = AttemptId { slot: crate::ids::Slot::new(0).unwrap(), group: GroupId(1), term: 1, counter: 1 };
        let row = encoded(&AttemptRow { order: OrderId(7), outstanding: 1 });
        grid[0].insert(attempt.write().as_bytes().to_vec(), row);
    };
    #[rustfmt::skip]
    let cases: Vec<(&str, Damage, &[Law])> = vec![
        ("more promised than there is", Box::new(change(1, SKU, |sku: &mut Sku| sku.stock[0].1.on_hand.0 = 1)), &[NoOversell, HoldsAddUp]),
        ("units from nowhere", Box::new(change(1, SKU, |sku: &mut Sku| sku.stock[0].1.on_hand.0 += 1)), &[HoldsAddUp]),
        ("a bucket too high", Box::new(change(1, SKU, |sku: &mut Sku| sku.stock[0].1.reserved.0 += 1)), &[HoldsAddUp]),
        ("a hold lost", Box::new(lose(1, HOLD)), &[HoldsAddUp, AllOrNothing, ReadsAreCurrent]),
        ("a hold in the wrong bucket", Box::new(change(1, HOLD, |hold: &mut HoldRow| hold.held.committed = !hold.held.committed)), &[HoldsAddUp]),
        ("a tentative hold lost", Box::new(lose_tentative), &[HoldsAddUp]),
        ("an order lost", Box::new(lose(0, ORDER)), &[HoldsAddUp, OneKeyOneOrder, ReadsAreCurrent, TimersFire]),
        ("an order of two shards lost", Box::new(lose_shared), &[AllOrNothing, OneKeyOneOrder, ReadsAreCurrent]),
        ("an order twice", Box::new(copy_order), &[HoldsAddUp, OneKeyOneOrder, ReadsAreCurrent, TimersFire]),
        ("a key lost", Box::new(lose(0, PLACED)), &[OneKeyOneOrder]),
        ("a reference lost", Box::new(lose(0, REFERENCE)), &[OneKeyOneOrder, ReadsAreCurrent]),
        ("a row of a list lost", Box::new(lose(0, LIST)), &[ReadsAreCurrent]),
        ("a timer lost", Box::new(lose(0, TIMER)), &[ReadsAreCurrent, TimersFire]),
        ("a message lost", Box::new(lose(0, OUTBOX)), &[AllOrNothing, Heals]),
        ("a message from nowhere", Box::new(stray_message), &[Heals]),
        ("an attempt that nobody claims", Box::new(stray_attempt), &[Heals]),
        ("money refunded that never came", Box::new(change(0, ORDER, |row: &mut OrderRow| Arc::make_mut(&mut row.order).refunds.push(refund()))), &[MoneyConserved, MoneyEndsSomewhere, EventsGapless]),
        ("an event lost", Box::new(change(0, ORDER, |row: &mut OrderRow| drop(Arc::make_mut(&mut row.order).events.remove(0)))), &[EventsGapless]),
        ("a row that cannot be read", Box::new(|grid| drop(grid[0].insert(vec![HOLD, 1], vec![1]))), &[ReadsAreCurrent]),
        ("a row of no table", Box::new(|grid| drop(grid[0].insert(vec![99], vec![1]))), &[ReadsAreCurrent]),
        ("the counts lost", Box::new(lose(0, META)), &[ReadsAreCurrent]),
    ];
    for (case, damage, expected) in cases {
        let laws = broken(damage);
        for law in expected {
            assert!(laws.contains(law), "{case}: {law} is broken, found {laws:?}");
        }
        assert!(laws.iter().all(|law| expected.contains(law)), "{case}: found {laws:?}, not only {expected:?}");
    }
}

fn refund() -> crate::order::Refund {
    crate::order::Refund {
        number: 1,
        amount: Money(1),
        lines: Vec::new(),
        state: crate::order::RefundState::Requested,
        cause: crate::order::RefundCause::Cancelled,
        at: at(0),
        units: Vec::new(),
        forgiven: Money::ZERO,
        tax: Money::ZERO,
        payment: 1,
        occurred_at: None,
        turned: false,
    }
}

#[test]
fn moments_that_do_not_fit_together_are_torn() {
    let set_high = |high| move |grid: &mut [Rows; 2]| change(1, STREAM_IN, |stream: &mut StreamIn| stream.high = high)(grid);
    // Rule 20: the destination behind what was trimmed, or ahead of what was sent.
    for high in [0, 99] {
        let mut rows = grid();
        set_high(high)(&mut rows);
        assert_eq!(audit(&rows).torn, [(GroupId(1), GroupId(2))], "{high}");
    }
    // The other shard was not looked at: what it was told, or tells, cannot be judged.
    for (shard, rows) in (1..).zip(grid()) {
        let mut audit = Audit::of(GroupId(shard));
        rows.iter().for_each(|(key, value)| audit.add(key, value));
        let report = audit.finish();
        assert!(report.torn.contains(&(GroupId(1), GroupId(2))) && report.is_clean(), "shard {shard}: {report:?}");
    }
}

#[test]
fn old_keys_may_be_used_again() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    shard.ordered("k", &[(&a, 1)]);
    shard.now = at(7 * 24 * 3_600_000 + 1);
    shard.ordered("k", &[(&a, 1)]);
    shard.machine.check();
    assert_eq!(shard.machine.counters().orders.iter().map(|(_, count)| count).sum::<u64>(), 2);
}

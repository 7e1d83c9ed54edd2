//! Reads: pages of a user's orders, keys, availability.

use super::super::{Available, Lookup, PlacedKey, UserQuery};
use super::*;
use crate::order::Status;

#[test]
fn pages_of_a_user_are_newest_first_and_complete() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100_000);
    let user = user_of(&shard.machine, 0);
    let count = 300;
    let ids: Vec<OrderId> = (0..count).map(|n| shard.ordered(&format!("k{n}"), &[(&a, 1)]).id).collect();
    for id in ids.iter().step_by(3) {
        shard.one(act(*id, "c", cancel()));
    }
    let newest: Vec<OrderId> = ids.iter().rev().copied().collect();
    let open: Vec<OrderId> = (0..count).rev().filter(|n| n % 3 != 0).map(|n| ids[n]).collect();
    let pending = Some(Status::PendingPayment);
    for limit in [1, 7, 128, 129, 1_000] {
        for (status, expected) in [(None, &newest), (pending, &open)] {
            let mut query = UserQuery { status, after: None, skip: 0, limit };
            let mut seen = Vec::new();
            loop {
                let page = found(shard.machine.user_orders(&user, &query));
                assert!(page.orders.len() <= limit);
                assert_eq!(page.total, status.is_none().then_some(count as u64));
                seen.extend(page.orders.iter().map(|order| order.id));
                query.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            assert_eq!(&seen, expected, "pages of {limit}, {status:?}");
        }
    }
    for (status, expected) in [(None, &newest), (pending, &open)] {
        let query = UserQuery { status, after: None, skip: 150, limit: 20 };
        let page = found(shard.machine.user_orders(&user, &query));
        let seen: Vec<_> = page.orders.iter().map(|order| order.id).collect();
        assert_eq!(seen, expected[150..170], "{status:?}");
    }
    assert_eq!(shard.machine.user_orders(&user_of(&shard.machine, 1), &UserQuery::default()), Lookup::Absent);
}

#[test]
fn a_page_of_cold_rows_is_loaded_step_by_step() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100_000);
    let user = user_of(&shard.machine, 0);
    let ids: Vec<OrderId> = (0..300).map(|n| shard.ordered(&format!("k{n}"), &[(&a, 1)]).id).collect();
    let mut disk = super::store::Disk::default();
    disk.write(&mut shard.machine);
    shard.machine.evict(0);
    let query = UserQuery { status: Some(Status::PendingPayment), after: Some(ids[200]), skip: 10, limit: 50 };
    let mut rounds = 0;
    let page = loop {
        match shard.machine.user_orders(&user, &query) {
            Lookup::Cold(keys) => drop(disk.admit(&mut shard.machine, keys)),
            other => break found(other),
        }
        rounds += 1;
        assert!(rounds < 20, "it makes progress");
    };
    let seen: Vec<_> = page.orders.iter().map(|order| order.id).collect();
    let expected: Vec<_> = ids[140..190].iter().rev().copied().collect();
    assert_eq!(seen, expected);
}

#[test]
fn keys_and_availability_are_read_as_they_stand() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let order = shard.ordered("k", &[(&a, 3)]);
    let record = |shard: &Shard, name| shard.machine.key_record(&user, &key(name));
    assert_eq!(record(&shard, "k"), Lookup::Found(PlacedKey { order: order.id, body_hash: 1 }));
    assert_eq!(record(&shard, "other"), Lookup::Absent);
    let expected = Available { available: Quantity(7), name: text(&format!("name of {a}")), version: 3 };
    assert_eq!(shard.machine.available(&a), Lookup::Found(expected));
    assert_eq!(shard.machine.available(&sku_of(&shard.machine, 3)), Lookup::Absent);
    assert_eq!(shard.machine.sku(&sku_of(&shard.machine, 3)), Lookup::Absent);
    shard.now = at(7 * 24 * 3_600_000 + 1);
    shard.one(Command::Tick);
    assert_eq!(record(&shard, "k"), Lookup::Absent, "past its retention");
}

#[test]
fn memory_knows_an_attempt_until_its_time_has_passed_even_when_rows_are_cold() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let (tentative, kept, ended, new) =
        (shard.attempt(&user), shard.attempt(&user), shard.attempt(&user), shard.attempt(&user));
    let until = at(10_000);
    shard.one(hold(tentative, &a, 1, until));
    shard.one(hold(kept, &a, 1, until));
    let place = Place { attempt: kept, request: request(&user, "k", &[(&a, 1)]), names: Vec::new() };
    placed(shard.one(Command::Place(Box::new(place))));
    shard.one(release(ended, &a, until));
    super::store::Disk::default().write(&mut shard.machine);
    shard.machine.evict(0);
    let known = |shard: &Shard| [tentative, kept, ended, new].map(|attempt| shard.machine.may_know(attempt, &a, until));
    assert_eq!(known(&shard), [true, true, true, false]);
    shard.now = at(10_001);
    shard.machine.apply(Position { term: 1, index: 99 }, &Entry { at: shard.now, commands: Vec::new() });
    assert_eq!(known(&shard), [true; 4], "only the log can tell");
}

#[test]
fn slots_are_spread_evenly_and_owned_once() {
    for count in [1, 2, 3, 7, 64] {
        let owners = SlotOwners::even(&groups(count));
        let mut sizes = vec![0; count as usize];
        for slot in 0..4_096 {
            let owner = owners.owner(crate::ids::Slot::new(slot).unwrap()).unwrap();
            sizes[owner.0 as usize - 1] += 1;
        }
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 1, "{sizes:?}");
    }
}

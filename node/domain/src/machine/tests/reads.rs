//! Reads: pages of a user's orders, keys, availability.

use super::super::{Available, Lookup, PlacedKey};
use super::*;
use crate::rows::{list_of, listed_at, listed_order};

#[test]
fn a_list_is_what_is_here_and_what_the_store_has() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let (user, other) = (user_of(&shard.machine, 0), user_of(&shard.machine, 1));
    let mut disk = super::store::Disk::default();
    let mut ids: Vec<OrderId> = Vec::new();
    let whole = |machine: &ShardMachine, disk: &super::store::Disk| {
        let prefix = list_of(&user);
        let stored = disk.rows().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let stored = stored.map(|(key, _)| listed_order(key).unwrap());
        machine.unlisted(&user).chain(stored).collect::<Vec<_>>()
    };
    for n in 0..6 {
        ids.insert(0, shard.ordered(&format!("k{n}"), &[(&a, 1)]).id);
        placed(shard.place_local(request(&other, &format!("k{n}"), &[(&a, 1)])));
        assert_eq!(whole(&shard.machine, &disk), ids);
        if n % 2 == 1 {
            disk.write(&mut shard.machine);
            assert_eq!(shard.machine.unlisted(&user).count(), 0, "memory keeps only what the store may not have");
            assert_eq!(whole(&shard.machine, &disk), ids);
        }
    }
    assert!(listed_at(&user, ids[0]).as_bytes() < listed_at(&user, ids[1]).as_bytes(), "the newest is first");
    let restored = disk.start(ShardConfig::new(shard.machine.shard(), SlotOwners::even(&groups(1))));
    assert_eq!(whole(&restored, &disk), ids);
}

#[test]
fn orders_are_read_together_and_those_that_are_cold_are_named() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let orders: Vec<Order> = (0..3).map(|n| shard.ordered(&format!("k{n}"), &[(&a, 1)])).collect();
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).chain([OrderId(1)]).collect();
    assert_eq!(found(shard.machine.orders(&ids)), orders);
    let mut disk = super::store::Disk::default();
    disk.write(&mut shard.machine);
    shard.machine.evict(0);
    let Lookup::Cold(keys) = shard.machine.orders(&ids) else { panic!("they are cold") };
    assert_eq!(disk.admit(&mut shard.machine, keys), 3);
    assert_eq!(found(shard.machine.orders(&ids)), orders);
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
    let place = Place { attempt: kept, request: request(&user, "k", &[(&a, 1)]).into(), names: Vec::new() };
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

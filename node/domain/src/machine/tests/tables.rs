//! Whatever concerns all tables concerns each of them: none is left out anywhere.

use super::store::Disk;
use super::*;
use crate::command::Message;
use crate::encoding::encoded;
use crate::ids::{Reference, Slot};
use crate::order::TimerKind;
use crate::repair::Repaired;
use crate::rows::keys::{self, From, KeptKey, MarkKey, OutboxKey, RepairNumber, TimerKey, To};
use crate::rows::kinds::{
    AttemptRow, Held, HoldRow, KeptRow, Mark, OrderRow, PlacedRow, ReferenceRow, SkuKeyRow, StreamIn, StreamOut,
};
use crate::rows::{
    ATTEMPT, HOLD, KEPT, LIST, MARK, META, ORDER, OUTBOX, PLACED, REFERENCE, REPAIR, RowKey, SKU, SKU_KEY, STREAM_IN,
    STREAM_OUT, TIMER,
};

fn attempt() -> AttemptId {
    AttemptId { slot: Slot::new(300).unwrap(), group: GroupId(1), term: 1, counter: 1 }
}

/// Adds a row to the table of a tag, and to no other.
fn fill(machine: &mut ShardMachine, tag: u8) {
    let (user, sku, order) = (UserId::new("ann").unwrap(), SkuId::new("A").unwrap(), OrderId(7));
    let put = |machine: &mut ShardMachine, key: RowKey, row: Vec<u8>| machine.rows.put_bytes(key, row.into());
    match tag {
        TIMER => machine.timers.put(TimerKey { due: at(1), order, kind: TimerKind::AutoComplete }),
        OUTBOX => {
            let key = OutboxKey { to: GroupId(2), number: 1 };
            machine.outbox.put(key, Message::Commit { attempt: attempt(), skus: vec![sku] });
        }
        STREAM_OUT => machine.streams_out.put(To(GroupId(2)), StreamOut::default()),
        STREAM_IN => machine.streams_in.put(From(GroupId(2)), StreamIn::default()),
        ATTEMPT => machine.attempts.put(attempt(), AttemptRow { order, outstanding: 1 }),
        MARK => machine.marks.put(MarkKey::new(attempt(), &sku), Mark::Ended { valid_until: at(1) }),
        KEPT => machine.kept.put(KeptKey::of(attempt()).0, KeptRow { attempts: 2, until: at(1) }),
        REPAIR => machine.repairs.put(RepairNumber(1), Repaired { since: at(1), at: at(2), by: 3 }),
        ORDER => {
            let (order, _) = Order::place(order, attempt(), &request(&user, "k", &[(&sku, 1)]), &[text("a")], at(0));
            let row = OrderRow { order: order.into(), timers: Vec::new(), keys: Vec::new(), local_holds: None };
            machine.rows.put_decoded(keys::order(row.order.id), Box::new(row));
        }
        SKU => machine.rows.put_decoded(keys::sku(&sku), Box::new(Sku::new(sku, text("a")))),
        HOLD => {
            let held = Held { quantity: Quantity(1), committed: true, warehouse: WarehouseId::default() };
            put(machine, keys::hold(attempt(), &sku), encoded(&HoldRow { order, held }));
        }
        PLACED => put(machine, keys::placed(&user, &key("k")), encoded(&PlacedRow { order, body_hash: 1, at: at(0) })),
        LIST => machine.lists.add(&keys::list(&user, order)),
        REFERENCE => {
            let reference = Reference::new("r").unwrap();
            put(machine, keys::reference(&user, &reference), encoded(&ReferenceRow { order, before: 0, listed: 0 }));
        }
        SKU_KEY => {
            put(machine, keys::sku_key(&sku, &key("k")), encoded(&SkuKeyRow { body_hash: 1, version: 1, at: at(0) }));
        }
        other => panic!("table {other} is new: add a row of it here"),
    }
}

fn empty() -> ShardMachine {
    Shard::alone().machine
}

/// The tag of every table but that of [`META`].
fn tags() -> Vec<u8> {
    let mut tags: Vec<u8> = empty().tables().into_iter().flat_map(|table| table.tags().to_vec()).collect();
    tags.sort_unstable();
    tags
}

#[test]
fn every_tag_belongs_to_one_table() {
    let first = [TIMER, OUTBOX, STREAM_OUT, STREAM_IN, ATTEMPT, MARK, REPAIR, KEPT];
    assert_eq!(tags(), [&first[..], &[ORDER, SKU, HOLD, PLACED, LIST, REFERENCE, SKU_KEY]].concat());
}

#[test]
fn a_row_of_any_table_is_hashed_exported_counted_stored_and_restored() {
    for tag in tags() {
        let (mut before, mut machine) = (empty(), empty());
        fill(&mut machine, tag);
        assert_ne!(machine.state_hash(), before.state_hash(), "hash of table {tag}");
        let exported = |machine: &ShardMachine| machine.rows().iter().map(|(key, _)| key[0]).collect::<Vec<u8>>();
        assert_eq!((exported(&before), exported(&machine)), (vec![META], vec![META, tag]), "export of table {tag}");
        assert!(machine.dirty_bytes() > before.dirty_bytes(), "dirty bytes of table {tag}");
        assert!(machine.resident_bytes() > before.resident_bytes(), "resident bytes of table {tag}");

        let (exported, hash) = (machine.rows(), machine.state_hash());
        let mut disk = Disk::default();
        disk.write(&mut machine);
        let stored: Vec<_> = disk.rows().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(stored, exported, "checkpoint of table {tag}");
        assert_eq!(machine.dirty_bytes(), 0, "dirty bytes of table {tag} after a checkpoint");
        assert_eq!(machine.state_hash(), hash, "hash of table {tag} after a checkpoint");

        // A start reads the tables that are resident; one that reads all rows knows all of them.
        assert_eq!(disk.start(machine.config.clone()).state_hash(), hash, "hash of table {tag} after a start");
        let mut warm = empty();
        disk.rows().for_each(|(key, value)| warm.restore(key, value).unwrap());
        warm.set_warm();
        assert_eq!(warm.state_hash(), hash, "hash of table {tag} after a start with all rows");
        let kept = if tag == LIST { vec![] } else { stored[1..].to_vec() };
        assert_eq!(warm.rows()[1..], kept, "rows of table {tag} after a start with all rows");
    }
}

#[test]
fn a_checkpoint_of_any_table_is_of_the_moment_at_which_it_began() {
    for tag in tags() {
        let (mut machine, mut rows) = (empty(), Vec::new());
        machine.begin_checkpoint();
        fill(&mut machine, tag);
        assert!(machine.checkpoint_step(usize::MAX, &mut |key, _| rows.push(key[0])));
        machine.checkpoint_durable();
        assert_eq!(rows, [META], "table {tag} changed after the checkpoint began");
        assert!(machine.dirty_bytes() > 0, "table {tag} waits for the next checkpoint");
    }
}

#[test]
fn a_row_of_an_unknown_table_is_refused_at_start() {
    assert!(empty().restore(&[99, 1], &[1]).is_err());
}

use std::collections::BTreeMap;

use ordergrid_cluster::{GroupStatus, Role};
use ordergrid_domain::command::{OrderRequest, Place, SkuAction, SkuCommand};
use ordergrid_domain::order::LineRequest;
use ordergrid_domain::{
    AttemptId, Command, Currency, Key, Money, Outcome, Quantity, Rejection, SkuId, Text, Timestamp, UserId, WarehouseId,
};

use super::testing::{Row, SHARD, entry, map, replica, write, write_everywhere};
use super::*;

fn terms(chronicle: &Chronicle) -> Vec<(u64, u64)> {
    chronicle.chain(SHARD).iter().map(|entry| (entry.id.index, entry.id.term)).collect()
}

fn status(node: u64, committed: u64) -> GroupStatus {
    GroupStatus {
        group: SHARD,
        replica: replica(node),
        role: Role::Follower,
        term: 1,
        leader: None,
        led: true,
        last_log: committed,
        committed,
        applied: committed,
        checkpoint: 0,
        purged: 0,
        vouched: None,
        members: Vec::new(),
    }
}

#[test]
fn a_commit_mark_fixes_the_chain_below_it() {
    let chronicle = Chronicle::new(&map());
    trace::at(SimTime::secs(1));
    write_everywhere(&chronicle, 1, &[Row::Blank(1, 0), Row::Blank(1, 1), Row::Blank(1, 2)]);
    assert_eq!(terms(&chronicle), []);
    trace::at(SimTime::secs(2));
    write(&chronicle, 2, &[Row::Committed(1, 1)]);
    assert_eq!(terms(&chronicle), [(0, 1), (1, 1)]);
    let first = chronicle.entry(SHARD, 0).unwrap();
    assert_eq!((first.seen, first.committed), (SimTime::secs(1), SimTime::secs(2)));
    assert!(matches!(first.body(), Ok(Body::Blank)));
    assert_eq!((chronicle.last(SHARD), chronicle.hole(SHARD)), (Some(1), None));
    assert_eq!(chronicle.findings(0), []);
}

#[test]
fn a_power_loss_takes_away_what_was_not_durable_and_not_what_was_known() {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Row::Vote(1, 1, true), Row::Blank(1, 0)]);
    write(&chronicle, 1, &[Row::Blank(1, 1)]);
    write(&chronicle, 1, &[Row::Blank(1, 2)]);
    chronicle.lost(1, Database::Log, 2);
    assert_eq!(chronicle.log(1, SHARD).unwrap().last().map(|id| id.index), Some(1));
    assert_eq!(chronicle.durable_log(1, SHARD).unwrap().last().map(|id| id.index), Some(1));
    // Another leader's entry takes the place of the one that was lost: nobody knew that one to be committed.
    write(&chronicle, 1, &[Row::Vote(2, 2, true), Row::Blank(2, 2)]);
    assert_eq!(chronicle.log(1, SHARD).unwrap().term_at(2), Some(2));
    assert_eq!(chronicle.not_committed(SHARD).len(), 4);
    assert_eq!(chronicle.findings(0), []);
}

#[test]
fn a_disk_that_was_emptied_starts_anew() {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Row::Vote(5, 1, true), Row::Blank(5, 0), Row::Committed(5, 0)]);
    chronicle.lost(2, Database::Log, 0);
    assert!(chronicle.log(2, SHARD).is_none());
    assert_eq!(terms(&chronicle), [(0, 5)]);
}

#[test]
fn a_replica_without_the_entries_takes_nothing_from_the_chain() {
    let chronicle = Chronicle::new(&map());
    for node in 1..=2 {
        write(&chronicle, node, &[Row::Blank(1, 0), Row::Blank(1, 1), Row::Blank(1, 2)]);
        chronicle.durable(node, Database::Log, 1);
    }
    // Node 3 got a snapshot up to 1 and says so first; then the others purge.
    write(&chronicle, 3, &[Row::Purged(1, 1), Row::Blank(1, 2), Row::Committed(1, 2)]);
    assert_eq!(terms(&chronicle), [(2, 1)]);
    assert_eq!(chronicle.hole(SHARD), Some(0));
    write(&chronicle, 1, &[Row::Committed(1, 2), Row::Purged(1, 1)]);
    assert_eq!(terms(&chronicle), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!((chronicle.hole(SHARD), chronicle.findings(0)), (None, Vec::new()));
}

#[test]
fn what_a_purge_removes_was_committed() {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Row::Blank(1, 0), Row::Blank(1, 1)]);
    // Commit marks may be left out; the purge says as much.
    write(&chronicle, 1, &[Row::Purged(1, 1)]);
    assert_eq!(terms(&chronicle), [(0, 1), (1, 1)]);
    assert_eq!(chronicle.log(1, SHARD).unwrap().entries.len(), 0);
    assert_eq!(chronicle.findings(0), []);
}

#[test]
fn a_follower_is_believed_only_at_rest_and_a_leader_at_once() {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Row::Vote(1, 1, true), Row::Blank(1, 0), Row::Blank(1, 1)]);
    chronicle.committed(2, SHARD, 1);
    assert_eq!((terms(&chronicle), chronicle.hole(SHARD)), (vec![], Some(0)));
    chronicle.committed(1, SHARD, 0);
    assert_eq!(terms(&chronicle), [(0, 1)]);
    chronicle.settle(&BTreeMap::from([(2, vec![status(2, 1)])]));
    assert_eq!(terms(&chronicle), [(0, 1), (1, 1)]);
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn sku() -> SkuId {
    SkuId::new("A").unwrap()
}

fn of_sku(client: Option<Key>, action: SkuAction) -> Command {
    Command::Sku(Box::new(SkuCommand { sku: sku(), key: client, body_hash: 1, expect_version: None, action }))
}

fn place(term: u64, client: &str, quantity: u64) -> Command {
    let user = UserId::new("u").unwrap();
    let line =
        LineRequest { sku: sku(), quantity: Quantity(quantity), unit_price: Money(5), discount: Money::ZERO, tax: Money::ZERO };
    let request = OrderRequest {
        key: key(client),
        body_hash: quantity,
        reference: None,
        currency: Currency::new("EUR").unwrap(),
        lines: vec![line],
        discount: Money::ZERO,
        shipping_fee: Money::ZERO,
        total: None,
        terms: ordergrid_domain::order::Terms::Prepaid,
        payment_method: None,
        payment_window: std::time::Duration::from_secs(60),
        ship_to: None,
        metadata: Vec::new(),
        user: user.clone(),
    };
    let attempt = AttemptId { slot: user.slot(), group: SHARD, term, counter: 1 };
    Command::PlaceLocal(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
}

/// Goods, an order, its key again under another leader, and its end by the clock.
fn shop() -> Chronicle {
    let put = of_sku(None, SkuAction::Put { name: Text::new("A").unwrap() });
    let warehouse = WarehouseId::default();
    let receive = of_sku(Some(key("r")), SkuAction::Receive { warehouse, quantity: Quantity(3) });
    let chronicle = Chronicle::new(&map());
    write_everywhere(
        &chronicle,
        1,
        &[
            Row::Blank(1, 0),
            Row::Commands(1, 1, entry(1_000, vec![put, receive])),
            Row::Commands(1, 2, entry(2_000, vec![place(1, "k", 2)])),
            Row::Blank(2, 3),
            Row::Commands(2, 4, entry(3_000, vec![place(2, "k", 2), place(2, "l", 2)])),
            Row::Commands(2, 5, entry(2_500, vec![])),
            Row::Commands(2, 6, entry(90_000, vec![Command::Tick])),
            Row::Committed(2, 6),
        ],
    );
    chronicle
}

#[test]
fn the_reference_tells_outcomes_states_and_hashes() {
    let chronicle = shop();
    let probe = Reference::replay(&chronicle, &map(), &Watched::default()).unwrap();
    let Some(Outcome::Placed { order, replayed: false }) = probe.outcomes(SHARD, 2).first() else { panic!("{probe:?}") };
    let id = order.id;
    assert_eq!((probe.order_versions(id).len(), probe.outcomes(SHARD, 3).len()), (0, 0));

    let watched = Watched { orders: [id].into(), skus: [sku()].into() };
    let reference = Reference::replay(&chronicle, &map(), &watched).unwrap();
    let again = reference.outcomes(SHARD, 4);
    assert!(matches!(&again[0], Outcome::Placed { order, replayed: true } if order.id == id), "{again:?}");
    assert!(matches!(again[1], Outcome::Rejected(Rejection::OutOfStock { .. })), "{again:?}");

    let status = |index| reference.order_after(id, index).map(ordergrid_domain::Order::status);
    use ordergrid_domain::order::Status::{Cancelled, PendingPayment};
    assert_eq!(
        [1, 2, 5, 6, 99].map(status),
        [None, Some(PendingPayment), Some(PendingPayment), Some(Cancelled), Some(Cancelled)]
    );
    let available = |index| reference.sku_after(&sku(), index).map(|sku| sku.available().0);
    assert_eq!([0, 1, 2, 5, 6].map(available), [None, Some(3), Some(1), Some(1), Some(3)]);
    assert!(reference.hash_at(SHARD, 5).is_some() && reference.hash_at(SHARD, 6).is_none());
    assert_eq!(reference.machine(SHARD).unwrap().time(), Timestamp::from_ms(90_000));

    let met: Vec<_> =
        reference.states().iter().filter(|(_, times)| **times > 0).map(|(state, times)| (*state, *times)).collect();
    assert_eq!(
        met,
        [
            ("clock behind log time", 1),
            ("expired by timer", 1),
            ("key retried across a leader change", 1),
            ("leader elected", 2),
            ("mark", 1),
            ("place refused out of stock", 1),
            ("placed locally", 1),
            ("second attempt of a placed key", 1),
        ]
    );
}

#[test]
fn a_chain_with_a_hole_is_not_run() {
    let chronicle = Chronicle::new(&map());
    write_everywhere(&chronicle, 1, &[Row::Purged(1, 0), Row::Blank(1, 1), Row::Committed(1, 1)]);
    let refused = Reference::replay(&chronicle, &map(), &Watched::default()).unwrap_err();
    assert_eq!(refused.text, "group 1, entry 1.1: entry 0 is known to nobody");
}

//! Bytes that must never change: entries, keys and rows of version 2. A difference here means that logs and checkpoints
//! written before can no longer be read: make a new version beside the old one instead.

use ordergrid_rows::TableKey;
use ordergrid_rows::encoding::EMPTY;

use super::*;
use crate::command::{Created, HeldPart, KeptAttempt, KeptList, Message, RefundAsked};
use crate::encoding::{BytesError, encoded, read_row};
use crate::ids::{FulfilmentId, Reference, RefundId, Slot};
use crate::order::{Address, RefundState, TimerKind};
use crate::reconcile::{ClaimOf, Claimed, Claims, Restart};
use crate::repair::{Repair, Repaired};
use crate::rows::RowKey;
use crate::rows::keys::{self, From, KeptKey, MarkKey, OutboxKey, RepairNumber, TimerKey, To};
use crate::rows::kinds::{
    AttemptRow, Counts, Held, HoldRow, KeptRow, LocalHold, Mark, Meta, OrderKey, OrderRow, PlacedRow, ReferenceRow, SkuKeyRow,
    StreamIn, StreamOut,
};

const GOLDEN: &str = include_str!("golden.txt");

fn attempt() -> AttemptId {
    AttemptId { slot: Slot::new(300).unwrap(), group: GroupId(2), term: 7, counter: 70_000 }
}

fn order_id() -> OrderId {
    OrderId::new(at(5), Slot::new(300).unwrap(), 9)
}

fn a_sku() -> SkuId {
    SkuId::new("BANK CHARGES").unwrap()
}

fn full_request() -> OrderRequest {
    let mut request = request(&UserId::new("17850").unwrap(), "key-1", &[(&a_sku(), 6), (&a_sku(), 1)]);
    request.reference = Some(Reference::new("536365").unwrap());
    request.discount = Money(10);
    request.shipping_fee = Money(300);
    request.total = Some(Money(991));
    request.payment_method = Some(text("card"));
    request.ship_to = Some(Address { recipient: Some(text("A. Buyer")), lines: vec![text("1 Street")], ..Address::default() });
    request.metadata = vec![(text("a"), text("b"))];
    request.lines[0].discount = Money(1);
    request.lines[0].tax = Money(2);
    request
}

fn entry() -> Entry {
    let (sku, until) = (a_sku(), at(10_000));
    let items = vec![(sku.clone(), Quantity(3))];
    let place = Place { attempt: attempt(), request: full_request().into(), names: vec![text("one"), text("two")] };
    let fulfilment = FulfilmentId { order: order_id(), number: 1 };
    let actions = [
        pay(Money(991)),
        OrderAction::Cancel { reason: CancelReason::Risk, note: Some(text("why")), lines: vec![(1, Quantity(2))] },
        OrderAction::Pick { lines: vec![(2, Quantity(1))], warehouse: WarehouseId::default() },
        OrderAction::Ship { fulfilment, carrier: Some(text("post")), tracking: None },
        OrderAction::Deliver { fulfilment },
        OrderAction::Unpick { fulfilment },
        OrderAction::Complete,
        OrderAction::Refund(RefundAsked { amount: Some(Money(5)), lines: vec![(1, Quantity(1))], ..RefundAsked::default() }),
        OrderAction::RefundOutcome {
            refund: RefundId { order: order_id(), number: 2 },
            state: RefundState::Failed,
            occurred_at: Some(at(4)),
        },
    ];
    let release = Release { attempt: attempt(), skus: vec![sku.clone()], valid_until: until };
    let messages = vec![
        Message::Keep { attempt: attempt(), order: order_id(), committed: true, items: items.clone() },
        Message::Commit { attempt: attempt(), skus: vec![sku.clone()] },
        Message::Free { attempt: attempt(), items: items.clone() },
        Message::Release(release.clone()),
        Message::Ship { attempt: attempt(), items },
        Message::Shortfall { order: order_id(), sku: sku.clone(), missing: Quantity(300) },
    ];
    let mut commands = vec![Command::Place(Box::new(place.clone())), Command::PlaceLocal(Box::new(place))];
    commands.extend(actions.into_iter().map(|action| act(order_id(), "key-2", action)));
    commands.extend([put(&sku), receive(&sku, "r", 100_000), adjust(&sku, "a", -3)]);
    commands.push(hold(attempt(), &sku, 3, until));
    commands.push(Command::Release(release));
    commands.push(Command::Gone(vec![(attempt(), sku)]));
    commands.push(Command::Deliver(Deliver { from: GroupId(3), first: 41, messages }));
    commands.extend([Command::Trim { to: GroupId(3), high: 40 }, Command::Tick]);
    Entry { at: at(0), commands }
}

fn anew() -> Vec<Command> {
    let claim = ClaimOf { order: order_id(), attempt: attempt(), skus: vec![a_sku()] };
    let items = vec![Claimed { sku: a_sku(), counted: Quantity(300), shipped: Quantity(2) }];
    let message = Message::Claim { attempt: attempt(), order: order_id(), committed: true, items };
    vec![
        Command::Restart(Restart { streams: vec![(GroupId(3), 1 << 33)] }),
        Command::Claims(Claims { to: GroupId(3), before: at(6), orders: vec![claim] }),
        Command::Agree { from: GroupId(3), high: 7 << 32 },
        Command::Deliver(Deliver { from: GroupId(3), first: 41, messages: vec![message] }),
    ]
}

fn lists() -> Vec<Command> {
    let kept = KeptAttempt { attempt: attempt(), order: order_id(), committed: true, items: 1 };
    let release = Release { attempt: attempt(), skus: vec![a_sku()], valid_until: at(10_000) };
    let part = HeldPart { sku: a_sku(), attempt: attempt(), quantity: Quantity(300) };
    let decided = KeptList { kept: vec![kept], items: vec![(a_sku(), Quantity(3))], released: vec![release] };
    let messages = vec![
        Message::Decided(decided),
        Message::Commits(vec![(a_sku(), attempt())]),
        Message::Frees(vec![part.clone()]),
        Message::Ships(vec![part]),
    ];
    vec![Command::Deliver(Deliver { from: GroupId(3), first: 41, messages })]
}

fn holds() -> Holds {
    let row = |counter, units| HoldAsked { slot: attempt().slot, counter, sku: a_sku(), quantity: Quantity(units) };
    Holds { group: GroupId(2), term: 7, valid_until: at(10_000), rows: vec![row(70_000, 3), row(9, 300)] }
}

fn order_row() -> OrderRow {
    let (mut order, _) = Order::place(order_id(), attempt(), &full_request(), &[text("one"), text("two")], at(5));
    let steps = [
        pay(Money(991)),
        pick(),
        OrderAction::Ship {
            fulfilment: FulfilmentId { order: order_id(), number: 1 },
            carrier: Some(text("post")),
            tracking: None,
        },
    ];
    for action in steps {
        order.command(Operator::Merchant, &action, at(6)).unwrap();
    }
    let refund = RefundAsked { amount: Some(Money(5)), reason: Some(text("kind")), ..RefundAsked::default() };
    let refund = OrderAction::Refund(refund);
    order.command(Operator::Merchant, &refund, at(7)).unwrap();
    let created = Some(Created::Refund(RefundId { order: order_id(), number: 1 }));
    let key = OrderKey { key: key("key-2"), body_hash: 1 << 40, created, version: 5, at: at(7) };
    let held = Held { quantity: Quantity(2), committed: true, warehouse: WarehouseId::default() };
    let local_holds = Some(vec![LocalHold { line: 2, held }]);
    OrderRow { order: order.into(), timers: vec![(TimerKind::AutoComplete, at(8))], keys: vec![key], local_holds }
}

/// Everything that is stored, by name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let (sku, user, client) = (a_sku(), UserId::new("17850").unwrap(), key("key-1"));
    let mut stocked = crate::sku::Sku::new(sku.clone(), text("name"));
    stocked.receive(&WarehouseId::default(), Quantity(1_000)).unwrap();
    stocked.take(&WarehouseId::default(), Quantity(3), true);
    let (quantity, warehouse, valid_until) = (Quantity(3), WarehouseId::default(), at(10_000));
    let tentative = Mark::Tentative { quantity, warehouse: warehouse.clone(), granted_at: at(1), valid_until };
    let counts = Counts { orders: [1, 2, 3, 4, 5, 6, 7, 800, 9], skus: 9, holds: 10, timers: 11 };
    let position = crate::rows::kinds::At { term: 7, index: 1_000 };
    let meta = Meta { position, time: at(9), id_ms: 77, id_sequence: 3, sum: 1 << 63, counts };
    let repair = Repair { log: at(9), right: at(2), since: at(5) };
    let key_of = |key: RowKey| key.as_bytes().to_vec();
    vec![
        ("entry", entry().to_bytes()),
        ("key of a timer", key_of(TimerKey { due: at(8), order: order_id(), kind: TimerKind::AutoComplete }.write())),
        ("key of a message", key_of(OutboxKey { to: GroupId(2), number: 513 }.write())),
        ("key of a stream out", key_of(To(GroupId(2)).write())),
        ("key of a stream in", key_of(From(GroupId(2)).write())),
        ("key of an attempt", key_of(attempt().write())),
        ("key of a mark", key_of(MarkKey::new(attempt(), &sku).write())),
        ("key of an order", key_of(keys::order(order_id()))),
        ("key of a SKU", key_of(keys::sku(&sku))),
        ("key of a hold", key_of(keys::hold(attempt(), &sku))),
        ("key of a placed key", key_of(keys::placed(&user, &client))),
        ("key of a listed order", key_of(keys::list(&user, order_id()))),
        ("key of a reference", key_of(keys::reference(&user, &Reference::new("536365").unwrap()))),
        ("key of a SKU's key", key_of(keys::sku_key(&sku, &client))),
        ("meta", encoded(&meta)),
        ("timer", EMPTY.to_vec()),
        ("message", encoded(&Message::Commit { attempt: attempt(), skus: vec![sku.clone()] })),
        ("stream out", encoded(&StreamOut { next: 300, trimmed: 2 })),
        ("stream in", encoded(&StreamIn { high: 300 })),
        ("attempt", encoded(&AttemptRow { order: order_id(), outstanding: 2 })),
        ("mark, tentative", encoded(&tentative)),
        ("mark, kept", encoded(&Mark::Kept { quantity, valid_until })),
        ("mark, ended", encoded(&Mark::Ended { valid_until })),
        ("order", encoded(&order_row())),
        ("SKU", encoded(&stocked)),
        ("hold", encoded(&HoldRow { order: order_id(), held: Held { quantity, committed: true, warehouse } })),
        ("placed key", encoded(&PlacedRow { order: order_id(), body_hash: 1 << 40, at: at(5) })),
        ("listed order", EMPTY.to_vec()),
        ("reference", encoded(&ReferenceRow { order: order_id(), before: 0, listed: 0 })),
        ("reference that others had before", encoded(&ReferenceRow { order: order_id(), before: 700, listed: 3 })),
        ("key of an order listed by reference", key_of(keys::by_reference(b"536365", order_id()))),
        ("SKU's key", encoded(&SkuKeyRow { body_hash: 1 << 40, version: 5, at: at(7) })),
        ("entry with a repair", Entry { at: at(0), commands: vec![Command::Repair(repair)] }.to_bytes()),
        ("key of a repair", key_of(RepairNumber(1).write())),
        ("repair", encoded(&Repaired { since: at(1), at: at(2), by: 300 })),
        ("entry with streams that are started anew", Entry { at: at(0), commands: anew() }.to_bytes()),
        ("entry with lists of messages", Entry { at: at(0), commands: lists() }.to_bytes()),
        ("key of kept attempts", key_of(KeptKey::of(attempt()).0.write())),
        ("kept attempts", encoded(&KeptRow { attempts: 1 << 48, until: at(10_000) })),
        (
            "entry with holds that were asked for together",
            Entry { at: at(0), commands: vec![Command::Holds(holds())] }.to_bytes(),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn stored_bytes_are_those_of_version_2() {
    let now: Vec<String> = samples().iter().map(|(name, bytes)| format!("{name}: {}", hex(bytes))).collect();
    let then: Vec<&str> = GOLDEN.lines().collect();
    for (now, then) in now.iter().zip(&then) {
        assert_eq!(now, then);
    }
    assert_eq!(now.len(), then.len(), "every stored kind has its golden bytes:\n{}", now.join("\n"));
}

#[test]
fn what_was_written_is_read_again() {
    assert_eq!(Entry::from_bytes(&entry().to_bytes()), Ok(entry()));
    assert_eq!(read_row::<OrderRow>(&encoded(&order_row())), Ok(order_row()));
    for (_, key) in samples().iter().filter(|(name, _)| name.starts_with("key of")) {
        assert_eq!(RowKey::new(key).as_bytes(), key);
    }
    assert_eq!(keys::hold_parts(keys::hold(attempt(), &a_sku()).as_bytes()), Ok((attempt(), a_sku())));
    assert_eq!(keys::order_part(keys::order(order_id()).as_bytes()), Ok(order_id()));
    let user = UserId::new("17850").unwrap();
    assert_eq!(keys::listed(keys::list(&user, order_id()).as_bytes()), Ok(("17850", order_id())));
    assert_eq!(read_row::<()>(&EMPTY), Ok(()));
}

#[test]
fn damaged_entries_are_refused() {
    let good = entry().to_bytes();
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(Entry::from_bytes(&longer), Err(BytesError::Trailing(1)));
    assert_eq!(Entry::from_bytes(&[]), Err(BytesError::Empty));
    let of_version = |version: u8| [&[version], &good[1..]].concat();
    assert_eq!(Entry::from_bytes(&of_version(3)), Err(BytesError::Version(3)));
    assert_eq!(Entry::from_bytes(&of_version(1)), Err(BytesError::Older(1)));
    for length in 1..good.len() {
        assert!(Entry::from_bytes(&good[..length]).is_err(), "cut after {length} bytes");
    }
    // A length that claims more memory than an entry may take: refused before anything is allocated.
    let claim = [&[2, 0][..], &[253, 255, 255, 255, 255, 255, 255, 255, 0]].concat();
    assert!(matches!(Entry::from_bytes(&claim), Err(BytesError::Body(_))));
}

#[test]
fn keys_sort_by_time_where_it_matters() {
    let order = |ms, sequence| keys::order(OrderId::new(at(ms), Slot::new(5).unwrap(), sequence)).as_bytes().to_vec();
    assert!(order(1, 9) < order(2, 0) && order(2, 0) < order(2, 1));
    let hold = |term, counter, slot| {
        let attempt = AttemptId { slot: Slot::new(slot).unwrap(), group: GroupId(1), term, counter };
        keys::hold(attempt, &a_sku()).as_bytes().to_vec()
    };
    assert!(hold(1, 300, 4_000) < hold(1, 301, 0) && hold(1, 301, 4_000) < hold(2, 1, 0));
}

#[test]
fn long_keys_are_kept_whole() {
    let user = UserId::new("u".repeat(UserId::LIMIT)).unwrap();
    let key = keys::placed(&user, &Key::new("k".repeat(Key::LIMIT)).unwrap());
    assert_eq!(key.as_bytes().len(), 1 + UserId::LIMIT + 1 + Key::LIMIT);
    assert_eq!(RowKey::new(key.as_bytes()), key);
}

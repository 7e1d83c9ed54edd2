//! The commit point: refusals in order, idempotency, ids, holds.

use super::*;
use crate::command::{KeptAttempt, KeptList, Message};
use crate::ids::{FulfilmentId, Reference};
use crate::order::Phase;

fn place(attempt: AttemptId, request: OrderRequest) -> Command {
    Command::Place(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
}

fn local(attempt: AttemptId, request: OrderRequest) -> Command {
    Command::PlaceLocal(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
}

#[test]
fn a_place_is_refused_in_a_fixed_order() {
    let mut shard = Shard::of(1, 2);
    let other = Shard::of(2, 2);
    let (a, b) = (shard.stocked(0, 10), shard.stocked(1, 3));
    let unknown = sku_of(&shard.machine, 7);
    let user = user_of(&shard.machine, 0);
    let first = {
        let mut request = request(&user, "used", &[(&a, 1)]);
        request.reference = Some(Reference::new("ref").unwrap());
        placed(shard.place_local(request))
    };
    let of = |lines: &[(&SkuId, u64)]| request(&user, "new", lines);
    let attempt = shard.attempt(&user);
    let stale = AttemptId { term: 0, ..attempt };
    let elsewhere = AttemptId { group: GroupId(2), ..attempt };
    let stranger = user_of(&other.machine, 0);
    let strange_attempt = AttemptId { slot: stranger.slot(), ..attempt };
    let short = |sku: &SkuId, asked, available| Rejection::OutOfStock {
        sku: sku.clone(),
        asked: Quantity(asked),
        available: Quantity(available),
    };
    let two = {
        let mut short = vec![(a.clone(), Quantity(10), Quantity(9)), (b.clone(), Quantity(4), Quantity(3))];
        short.sort();
        Rejection::OutOfStocks(short)
    };
    let with = |change: fn(&mut OrderRequest)| {
        let mut request = of(&[(&a, 1)]);
        change(&mut request);
        request
    };
    let other_body = with(|request| (request.key, request.body_hash) = (key("used"), 2));
    let bad_total = with(|request| request.total = Some(Money(99)));
    let bad_other_body = with(|request| {
        (request.key, request.body_hash) = (key("used"), 2);
        request.lines.clear();
    });
    let taken = with(|request| request.reference = Some(Reference::new("ref").unwrap()));
    let remote = sku_of(&other.machine, 0);
    let cases = [
        ("user of another shard", strange_attempt, request(&stranger, "new", &[(&a, 1)]), Rejection::WrongShard),
        ("attempt of another group", elsewhere, of(&[(&a, 1)]), Rejection::WrongShard),
        ("attempt of another slot", strange_attempt, of(&[(&a, 1)]), Rejection::WrongShard),
        ("attempt of an old term (rule 2)", stale, of(&[(&a, 1)]), Rejection::StaleAttempt { attempt: 0, entry: 1 }),
        ("stale before the key", stale, other_body.clone(), Rejection::StaleAttempt { attempt: 0, entry: 1 }),
        ("key with another body (rule 5)", attempt, other_body, Rejection::KeyReused),
        ("key before the body's faults", attempt, bad_other_body, Rejection::KeyReused),
        ("body", attempt, bad_total, Rejection::TotalMismatch { claimed: Money(99), actual: Money(100) }),
        ("reference", attempt, taken, Rejection::ReferenceTaken(first.id)),
        ("SKU of another shard", attempt, of(&[(&remote, 1)]), Rejection::WrongShard),
        ("no such SKU", attempt, of(&[(&a, 1), (&unknown, 1)]), Rejection::NoSuchSku(unknown.clone())),
        ("one SKU short", attempt, of(&[(&a, 1), (&b, 4)]), short(&b, 4, 3)),
        ("two lines on one SKU are summed", attempt, of(&[(&a, 6), (&a, 4)]), short(&a, 10, 9)),
        ("two SKUs short", attempt, of(&[(&a, 10), (&b, 4)]), two),
    ];
    for (case, attempt, request, expected) in cases {
        check_refused(&mut shard, case, local(attempt, request), expected);
    }
}

#[test]
fn a_local_order_holds_its_units_in_the_same_entry() {
    let mut shard = Shard::alone();
    let (a, b) = (shard.stocked(0, 10), shard.stocked(1, 10));
    let order = shard.ordered("k", &[(&a, 2), (&b, 3), (&a, 1)]);
    assert_eq!((shard.buckets(&a), shard.buckets(&b)), ([10, 3, 0, 0], [10, 3, 0, 0]));
    assert_eq!(order.phase, Phase::PendingPayment);
    assert_eq!(
        order.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(),
        [format!("name of {a}"), format!("name of {b}"), format!("name of {a}")]
    );
    assert_eq!(shard.machine.counters().holds, 2);
    assert_eq!(shard.machine.due(), order.payment_due_at);
    shard.machine.check();
}

#[test]
fn terms_other_than_prepaid_commit_at_once() {
    for terms in [Terms::OnDelivery, Terms::Invoice] {
        let mut shard = Shard::alone();
        let a = shard.stocked(0, 10);
        let mut request = request(&user_of(&shard.machine, 0), "k", &[(&a, 2)]);
        request.terms = terms;
        assert_eq!(placed(shard.place_local(request)).phase, Phase::Confirmed);
        assert_eq!(shard.buckets(&a), [10, 0, 2, 0], "{terms:?}");
        shard.machine.check();
    }
}

#[test]
fn the_same_key_with_the_same_body_gives_the_first_answer() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    let first = shard.ordered("k", &[(&a, 2)]);
    shard.one(act(first.id, "pay", pay(first.total)));
    let again = shard.place_local(request(&user, "k", &[(&a, 2)]));
    assert_eq!(again, Outcome::Placed { order: Arc::new(first), replayed: true });
    assert_eq!(shard.buckets(&a), [10, 0, 2, 0]);
    assert_eq!(shard.machine.counters().orders.iter().map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn a_key_is_free_again_after_its_retention_and_after_a_refusal() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 10);
    let user = user_of(&shard.machine, 0);
    rejection(shard.place_local(request(&user, "k", &[(&a, 11)])));
    let first = shard.ordered("k", &[(&a, 2)]);
    let mut other_body = request(&user, "k", &[(&a, 1)]);
    other_body.body_hash = 2;
    shard.now = at(7 * 24 * 3_600_000);
    assert_eq!(rejection(shard.place_local(other_body.clone())), Rejection::KeyReused, "kept for 7 days");
    shard.now = at(7 * 24 * 3_600_000 + 1);
    assert_ne!(placed(shard.place_local(other_body)).id, first.id);
    shard.machine.check();
}

#[test]
fn a_second_attempt_of_a_placed_key_releases_its_holds() {
    // Rule 5: both attempts held; the later place gives the first order and frees what the second attempt took.
    let mut orders = Shard::of(1, 2);
    let mut stock = Shard::of(2, 2);
    let mine = orders.stocked(0, 10);
    let theirs = stock.stocked(0, 10);
    let user = user_of(&orders.machine, 0);
    let body = request(&user, "k", &[(&mine, 1), (&theirs, 2)]);
    let attempts = [orders.attempt(&user), orders.attempt(&user)];
    for attempt in attempts {
        orders.one(hold(attempt, &mine, 1, at(10_000)));
        stock.one(hold(attempt, &theirs, 2, at(10_000)));
    }
    let first = placed(orders.one(place(attempts[0], body.clone())));
    let second = orders.one(place(attempts[1], body.clone()));
    assert_eq!(second, Outcome::Placed { order: Arc::new(first.clone()), replayed: true });
    settle(&mut orders, &mut stock);
    assert_eq!((orders.buckets(&mine), stock.buckets(&theirs)), ([10, 1, 0, 0], [10, 2, 0, 0]));
    assert_eq!((orders.machine.counters().tentative, stock.machine.counters().tentative), (0, 0));
    // The attempt that placed it, proposed once more, must not lose its holds.
    assert_eq!(orders.one(place(attempts[0], body)), Outcome::Placed { order: Arc::new(first), replayed: true });
    settle(&mut orders, &mut stock);
    assert_eq!((orders.buckets(&mine), stock.buckets(&theirs)), ([10, 1, 0, 0], [10, 2, 0, 0]));
    orders.machine.check();
    stock.machine.check();
}

#[test]
fn a_place_tells_each_shard_to_keep_its_units() {
    let mut orders = Shard::of(1, 3);
    let (b, c) = (Shard::of(2, 3), Shard::of(3, 3));
    let (x, y, z) = (sku_of(&b.machine, 0), sku_of(&c.machine, 0), sku_of(&c.machine, 1));
    let user = user_of(&orders.machine, 0);
    let attempt = orders.attempt(&user);
    let order = placed(orders.one(place(attempt, request(&user, "k", &[(&x, 1), (&z, 2), (&y, 3), (&x, 4)]))));
    let keep = |items: &[(&SkuId, u64)]| {
        let mut items: Vec<_> = items.iter().map(|(sku, units)| ((*sku).clone(), Quantity(*units))).collect();
        items.sort();
        let kept = KeptAttempt { attempt, order: order.id, committed: false, items: items.len() as u32 };
        vec![Message::Decided(KeptList { kept: vec![kept], items, released: Vec::new() })]
    };
    assert_eq!(run_between(&orders, &b).unwrap().messages, keep(&[(&x, 5)]));
    assert_eq!(run_between(&orders, &c).unwrap().messages, keep(&[(&y, 3), (&z, 2)]));
    assert_eq!(orders.machine.placed(attempt), Some(order.id));
    // Names that were not sent are the ids.
    assert_eq!(order.lines[0].name.as_str(), x.as_str());
}

#[test]
fn ids_are_unique_and_never_go_back() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 1_000_000);
    let users = [user_of(&shard.machine, 0), user_of(&shard.machine, 1)];
    let mut last = [OrderId(0); 2];
    let mut seen = std::collections::BTreeSet::new();
    // Three entries in one millisecond, more orders than a millisecond has ids, then a clock that goes back.
    for (round, ms) in [5_000, 5_000, 5_000, 3_000, 5_001, 9_000].into_iter().enumerate() {
        shard.now = at(ms);
        let mut commands = Vec::new();
        for n in 0..900 {
            let user = &users[n % 2];
            let attempt = shard.attempt(user);
            commands.push(local(attempt, request(user, &format!("k-{round}-{n}"), &[(&a, 1)])));
        }
        for (n, outcome) in shard.run(commands).into_iter().enumerate() {
            let id = placed(outcome).id;
            assert!(seen.insert(id), "{id} was made twice");
            assert!(id > last[n % 2], "the ids of a user go up");
            assert_eq!(id.slot(), users[n % 2].slot());
            last[n % 2] = id;
        }
    }
    assert_eq!(last[1].made_at(), at(9_000), "ids catch up with the clock");
}

/// Two units, by the reference "ref".
fn ask_for(shard: &mut Shard, user: &UserId, sku: &SkuId, name: &str) -> Outcome {
    let mut request = request(user, name, &[(sku, 2)]);
    request.reference = Some(Reference::new("ref").unwrap());
    shard.place_local(request)
}

#[test]
fn a_reference_is_free_again_once_its_order_has_ended_without_a_parcel() {
    let mut shard = Shard::alone();
    let a = shard.stocked(0, 100);
    let user = user_of(&shard.machine, 0);
    let taken = |shard: &mut Shard, by: &Order, when: &str| {
        assert_eq!(ask_for(shard, &user, &a, "other"), Outcome::Rejected(Rejection::ReferenceTaken(by.id)), "{when}");
    };
    let first = placed(ask_for(&mut shard, &user, &a, "k1"));
    taken(&mut shard, &first, "while it waits for money");
    shard.one(act(first.id, "cancel", cancel()));
    let second = placed(ask_for(&mut shard, &user, &a, "k2"));
    taken(&mut shard, &second, "the next one has it");
    shard.now = at(2_000_000);
    shard.one(Command::Tick);
    assert_eq!(shard.order(second.id).phase, Phase::Cancelled, "it ran out");
    let third = placed(ask_for(&mut shard, &user, &a, "k3"));
    shard.one(act(third.id, "pay", pay(third.total)));
    let one = OrderAction::Pick { lines: vec![(1, Quantity(1))], warehouse: WarehouseId::default() };
    shard.one(act(third.id, "pick", one));
    let fulfilment = FulfilmentId { order: third.id, number: 1 };
    shard.one(act(third.id, "ship", OrderAction::Ship { fulfilment, carrier: None, tracking: None }));
    shard.one(act(third.id, "cancel", cancel()));
    taken(&mut shard, &third, "a parcel has left, whatever became of the rest");
    let named = shard.machine.referenced(&user, &Reference::new("ref").unwrap());
    assert!(matches!(named, ordergrid_rows::Lookup::Found(order) if order.id == third.id), "the last one is found by it");
    shard.machine.check();
}

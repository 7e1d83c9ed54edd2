//! Rules 1 to 8: what the leader of an order's shard may do, and what it must not forget.

use std::time::Duration;

use ordergrid_domain::SkuId;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ATTIC, ORDERS, SHELF, Scenario, look};
use crate::chronicle::Body;
use crate::disk::Database;
use crate::grid::CLIENTS;
use crate::history::{Ask, Ending};

pub(super) const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "a-new-leader-serves-after-its-first-entry",
        rule: "rule 1",
        story: "the leader dies right after its answer; everybody asks its successors, whose disks are slow, for the order",
        mutant: Some("served-before-first-entry"),
        setup: || Setup::of(3, 1),
        script: first_entry,
    },
    Scenario {
        name: "an-attempt-of-an-earlier-term-places-nothing",
        rule: "rule 2",
        story: "while a hold is on its way the shard's leadership goes away and comes back; then the hold is answered",
        mutant: Some("term-fence-dropped"),
        setup: || Setup::of(3, 2).patient(),
        script: earlier_term,
    },
    Scenario {
        name: "a-restarted-leader-leads-a-new-term",
        rule: "rule 3",
        story: "the only node is killed between a hold and its place, and the order is asked for again",
        mutant: Some("leader-restore-on"),
        setup: || Setup::of(1, 2).set("orders.hold_valid", "2s"),
        script: new_term,
    },
    Scenario {
        name: "a-key-is-busy-while-its-place-is-undecided",
        rule: "rule 4, rule 7",
        story: "a place hangs on stalled disks, its caller is told unknown, and others ask with the same key meanwhile",
        mutant: Some("unknown-told-as-refused"),
        setup: || Setup::of(3, 2).patient().set("limits.request", "1s"),
        script: busy_key,
    },
    Scenario {
        name: "a-key-names-its-order-after-a-failover",
        rule: "rule 5, rule 6",
        story: "the last unit is sold, the leader dies before it can say so, and the buyer asks the next leader again",
        mutant: Some("key-forgotten-on-failover"),
        setup: || Setup::of(3, 2),
        script: key_after_failover,
    },
    Scenario {
        name: "a-hold-that-is-not-answered-refuses-the-order",
        rule: "rule 7",
        story: "the SKU's leader stands still for longer than an order waits, and goes on with the hold and its release",
        mutant: None,
        setup: || Setup::of(3, 2).patient(),
        script: hold_times_out,
    },
    Scenario {
        name: "an-undecided-place-releases-nothing",
        rule: "rule 7",
        story: "the place is on a majority when its leader loses power, and the buyer is told nothing",
        mutant: None,
        setup: || Setup::of(3, 2),
        script: undecided_place,
    },
    Scenario {
        name: "a-release-reaches-every-sku-that-was-asked",
        rule: "rule 8",
        story: "one SKU is held, another in another shard is sold out; then one is held and another's shard is silent",
        mutant: None,
        setup: || Setup::of(3, 3).patient(),
        script: release_everywhere,
    },
];

/// Waits until a hold of this SKU is committed.
fn is_held(stage: &mut Stage<'_>, sku: &SkuId) -> Played {
    stage.until("the hold is committed", SOON, |stage| {
        stage.committed(SHELF).iter().any(|(_, command)| look::hold_of(command, sku).is_some())
    })
}

fn first_entry(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    let (placed, _) = stage.order_of(call)?;
    for node in [2, 3] {
        stage.slow_sync(node, Database::Log, ms(120));
    }
    stage.cut_power(1);
    let mut calls = Vec::new();
    for _ in 0..150 {
        calls.extend([2, 3].map(|node| stage.ask(node, Ask::ReadOrder(placed.id))));
        stage.pass(ms(10))?;
    }
    let mut read = 0;
    for call in calls {
        match stage.end_of(call)? {
            Ending::Done { .. } => read += 1,
            Ending::Refused { status: 404, .. } => {
                expect(false, || format!("order {} was placed, and is not found", placed.id))?
            }
            _ => {}
        }
    }
    scene(read > 0, "a new leader answers")?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 3, 7)
}

fn earlier_term(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    let first_term = stage.term(ORDERS);
    stage.pause(2, true);
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    stage.pass(ms(30))?;
    stage.hand_over(ORDERS, 3)?;
    stage.hand_over(ORDERS, 1)?;
    scene(stage.term(ORDERS) > first_term + 1, "the leadership went and came back")?;
    scene(stage.ending(call).is_none(), "the hold is not answered")?;
    stage.pause(2, false);
    stage.end_of(call)?;
    let (placed, _) = stage.order_after_all(&Ask::Place(key.clone(), Box::new(order)))?;
    scene(placed.lines[0].ordered == 3, "it is the order")?;
    stage.conclude()?;
    let all = stage.committed(SHELF);
    let first = all.iter().find_map(|(_, command)| look::hold_of(command, &sku));
    scene(first.is_some_and(|attempt| attempt.term == first_term), "the first term's hold was asked for")?;
    for entry in stage.world.chronicle.chain(ORDERS) {
        let Ok(Body::Commands(commands)) = entry.body() else { continue };
        let places = commands.commands.iter().filter_map(|command| look::place_of(command, &key));
        for attempt in places {
            expect(attempt.term == entry.id.term, || format!("{attempt:?} was placed by entry {}", entry.id))?;
        }
    }
    stage.expect_stock(&sku, 10, 3, 7)
}

fn new_term(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    let term = stage.term(ORDERS);
    // The order's shard writes slowly once the hold is asked for: the place is not durable when the process ends.
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    stage.until("the hold is written", SOON, |stage| {
        stage.written(1, SHELF).iter().any(|(_, command)| look::hold_of(command, &sku).is_some())
    })?;
    stage.kill(1);
    stage.start(1)?;
    stage.ready()?;
    stage.end_of(call)?;
    expect(stage.term(ORDERS) > term, || format!("it led term {term} before it was killed, and leads it again"))?;
    // Another buyer's attempt must not be taken for the one that was lost.
    let (other, other_key) = (stage.user(ORDERS, 1), stage.key());
    let theirs = stage.order(&other, &[(&sku, 3)]);
    stage.order_after_all(&Ask::Place(other_key, Box::new(theirs)))?;
    stage.order_after_all(&Ask::Place(key, Box::new(order)))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 6, 4)
}

fn busy_key(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    stage.delay(2, 1, ms(20));
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let first = stage.place(1, &key, &order);
    is_held(stage, &sku)?;
    stage.stall_logs(&[2, 3], Duration::from_secs(4));
    let mut others = Vec::new();
    for node in [1, 3, 1, 2] {
        stage.pass(ms(200))?;
        others.push(stage.place(node, &key, &order));
    }
    stage.unknown(first)?;
    scene(!stage.committed(ORDERS).iter().any(|(_, command)| look::place_of(command, &key).is_some()), "the place hangs")?;
    for other in others {
        let ending = stage.end_of(other)?;
        expect(!matches!(ending, Ending::Done { .. }), || format!("nothing was decided, and this was told: {ending:?}"))?;
    }
    let (placed, replayed) = stage.order_after_all(&Ask::Place(key.clone(), Box::new(order)))?;
    expect(replayed, || format!("order {} was placed by the first call", placed.id))?;
    stage.conclude()?;
    let holds = stage.committed(SHELF).iter().filter(|(_, command)| look::hold_of(command, &sku).is_some()).count();
    expect(holds == 1, || format!("{holds} attempts ran for one key"))?;
    stage.expect_stock(&sku, 10, 3, 7)
}

fn key_after_failover(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 3)])?;
    stage.delay(2, 1, ms(20));
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    is_held(stage, &sku)?;
    stage.cut(1, CLIENTS, true);
    stage.until("the place is committed", SOON, |stage| {
        stage.committed(ORDERS).iter().any(|(_, command)| look::place_of(command, &key).is_some())
    })?;
    stage.cut_power(1);
    let leader = stage.another_leads(ORDERS, 1)?;
    let again = stage.place(leader, &key, &order);
    let (placed, replayed) = stage.order_of(again)?;
    expect(replayed, || format!("order {} was placed before the failover", placed.id))?;
    let other = stage.order(&user, &[(&sku, 2)]);
    let misuse = stage.place(leader, &key, &other);
    let refusal = stage.refusal_of(misuse)?;
    expect(refusal.0 == 422, || format!("another body under the same key was refused with {refusal:?}"))?;
    let stranger = stage.place(leader, &stage.key(), &other);
    let refusal = stage.refusal_of(stranger)?;
    expect(refusal.0 == 409, || format!("a sold-out SKU was refused with {refusal:?}"))?;
    let ending = stage.end_of(call)?;
    scene(!matches!(ending, Ending::Done { .. }), "the first call is not answered")?;
    stage.conclude()?;
    stage.expect_stock(&sku, 3, 3, 0)
}

fn hold_times_out(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    stage.pause(2, true);
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    let refusal = stage.refusal_of(call)?;
    expect(refusal.0 == 503, || format!("a hold that was not answered was told as {refusal:?}"))?;
    stage.pause(2, false);
    stage.until("the release is written", SOON, |stage| {
        stage.committed(SHELF).iter().any(|(_, command)| look::release_of(command, &sku).is_some())
    })?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 0, 10)
}

fn undecided_place(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    // What node 3 has, its leader does not know yet.
    stage.delay(3, 1, ms(100));
    stage.delay(2, 1, ms(20));
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    is_held(stage, &sku)?;
    stage.cut(1, CLIENTS, true);
    stage.cut(1, 2, true);
    let placed = |stage: &Stage<'_>, node| {
        stage.durable(node, ORDERS).iter().any(|(_, command)| look::place_of(command, &key).is_some())
    };
    stage.until("the place is durable on two disks", SOON, |stage| placed(stage, 1) && placed(stage, 3))?;
    stage.cut_power(1);
    let leader = stage.another_leads(ORDERS, 1)?;
    expect(leader == 3, || format!("node {leader} leads without the entry that a majority has"))?;
    let ending = stage.end_of(call)?;
    expect(matches!(ending, Ending::Unknown(_)), || format!("the place is undecided, and the client was told {ending:?}"))?;
    let again = stage.place(leader, &key, &order);
    let (order, replayed) = stage.order_of(again)?;
    expect(replayed, || format!("order {} was placed by the first call", order.id))?;
    stage.conclude()?;
    let released = stage.committed(SHELF).iter().any(|(_, command)| look::release_of(command, &sku).is_some());
    expect(!released, || "the hold of an undecided place was released".to_owned())?;
    stage.expect_stock(&sku, 10, 3, 7)
}

fn release_everywhere(stage: &mut Stage<'_>) -> Played {
    let (user, held, short) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0), stage.sku(ATTIC, 0));
    stage.stock(&[(&held, 10), (&short, 1)])?;
    let order = stage.order(&user, &[(&held, 3), (&short, 2)]);
    let sold_out = stage.place(1, &stage.key(), &order);
    let refusal = stage.refusal_of(sold_out)?;
    expect(refusal == (409, "out_of_stock".to_owned()), || format!("a sold-out SKU was refused with {refusal:?}"))?;
    let released = |stage: &Stage<'_>, shard, sku| {
        stage.committed(shard).iter().filter(|(_, command)| look::release_of(command, sku).is_some()).count()
    };
    stage.until("the granted hold is released", ms(500), |stage| released(stage, SHELF, &held) == 1)?;
    stage.pause(3, true);
    let order = stage.order(&user, &[(&held, 3), (&short, 1)]);
    let silent = stage.place(1, &stage.key(), &order);
    let refusal = stage.refusal_of(silent)?;
    expect(refusal.0 == 503, || format!("a hold that was not answered was told as {refusal:?}"))?;
    stage.pause(3, false);
    stage.until("both holds are released", Duration::from_secs(2), |stage| {
        released(stage, SHELF, &held) == 2 && released(stage, ATTIC, &short) == 1
    })?;
    stage.conclude()?;
    stage.expect_stock(&held, 10, 0, 10)?;
    stage.expect_stock(&short, 1, 0, 1)
}

//! Rules 9 to 13: what the shard of a SKU answers to those who want units of it.

use std::time::Duration;

use ordergrid_domain::{Command, Outcome, Rejection, SkuId};

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, SHELF, Scenario, look};
use crate::history::{Ask, Ending};

pub(super) const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "a-hold-that-comes-twice-is-one-hold",
        rule: "rule 9",
        story: "every message between nodes arrives twice, and the order takes the last units",
        mutant: None,
        setup: || Setup::of(3, 2),
        script: twice,
    },
    Scenario {
        name: "a-hold-that-is-not-heard-of-is-asked-for-again",
        rule: "rule 9",
        story: "the hold is long under way on a connection that is given up; it is asked for again on a new one, which ends the old",
        mutant: None,
        setup: || Setup::of(3, 2).patient(),
        script: unheard,
    },
    Scenario {
        name: "a-hold-that-comes-late-is-asked-for-anew",
        rule: "rule 11",
        story: "the SKU's leader stands still until the hold has expired; the units are there, so the order is placed",
        mutant: None,
        setup: || Setup::of(3, 2).patient().set("orders.hold_valid", "2s"),
        script: late,
    },
    Scenario {
        name: "sold-out-waits-for-units-under-way",
        rule: "rule 12",
        story: "the last unit is asked for and not yet held, for the disks stall, when another buyer comes",
        mutant: Some("sold-out-on-promises"),
        setup: || Setup::of(3, 2).patient(),
        script: under_way,
    },
    Scenario {
        name: "sold-out-is-not-said-without-a-lease",
        rule: "rule 12, rule 6",
        story: "a leader that is cut off remembers an empty shelf, which its successor has filled",
        mutant: None,
        setup: || Setup::of(3, 1).set("limits.request", "2s"),
        script: no_lease,
    },
    Scenario {
        name: "local-and-remote-skus-are-held-alike",
        rule: "rule 13",
        story: "an order with SKUs in two shards, and one whose SKUs all live where it does",
        mutant: None,
        setup: || Setup::of(3, 2),
        script: alike,
    },
];

fn twice(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 3)])?;
    stage.world.grid.net.set_frames((0, 1_000, 0));
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.order_of(call)?;
    stage.pass(Duration::from_secs(1))?;
    stage.conclude()?;
    let holds = |(command, _): &&(Command, Outcome)| look::hold_of(command, &sku).is_some();
    let outcomes = stage.outcomes(SHELF);
    scene(outcomes.iter().filter(holds).count() == 2, "the hold came twice")?;
    for (command, outcome) in outcomes.iter().filter(holds) {
        expect(matches!(outcome, Outcome::Held { .. }), || format!("{command:?} came to {outcome:?}"))?;
    }
    stage.expect_stock(&sku, 3, 3, 0)
}

fn unheard(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    stage.delay(1, 2, Duration::from_secs(7));
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.pass(Duration::from_millis(20))?;
    // What follows on a connection waits for the hold; what comes on a new one does not.
    stage.delay(1, 2, Duration::from_millis(1));
    let asked = stage.now();
    stage.order_of(call)?;
    scene(stage.now() < asked.after(Duration::from_secs(6)), "the order does not wait for the hold that is under way")?;
    stage.pass(Duration::from_secs(8))?;
    stage.conclude()?;
    let outcomes = stage.outcomes(SHELF);
    for (command, outcome) in outcomes.iter().filter(|(command, _)| look::hold_of(command, &sku).is_some()) {
        expect(matches!(outcome, Outcome::Held { .. }), || format!("{command:?} came to {outcome:?}"))?;
    }
    stage.expect_stock(&sku, 10, 3, 7)
}

fn late(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 3)])?;
    stage.pause(2, true);
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.pass(ms(2_600))?;
    stage.pause(2, false);
    stage.order_of(call)?;
    stage.conclude()?;
    let holds = stage.outcomes(SHELF).into_iter().filter(|(command, _)| look::hold_of(command, &sku).is_some());
    let outcomes: Vec<_> = holds.map(|(_, outcome)| outcome).collect();
    let late = matches!(outcomes.first(), Some(Outcome::Rejected(Rejection::HoldExpired { .. })));
    scene(late && outcomes.len() == 2, "the first hold comes too late")?;
    stage.expect_stock(&sku, 3, 3, 0)
}

fn under_way(stage: &mut Stage<'_>) -> Played {
    let (first, second, sku) = (stage.user(ORDERS, 0), stage.user(ORDERS, 1), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 1)])?;
    stage.stall_logs(&[1, 3], Duration::from_secs(2));
    let wanted = stage.order(&first, &[(&sku, 1)]);
    let lucky = stage.place(1, &stage.key(), &wanted);
    stage.until("the last unit is under way", SOON, |stage| {
        stage.written(2, SHELF).iter().any(|(_, command)| look::hold_of(command, &sku).is_some())
    })?;
    let wanted = stage.order(&second, &[(&sku, 1)]);
    let unlucky = stage.place(1, &stage.key(), &wanted);
    stage.pass(ms(1_000))?;
    scene(!is_held(stage, &sku), "the hold is under way for a while")?;
    expect(stage.ending(unlucky).is_none(), || "sold out was said of a unit that nobody held yet".to_owned())?;
    stage.order_of(lucky)?;
    let refusal = stage.refusal_of(unlucky)?;
    expect(refusal == (409, "out_of_stock".to_owned()), || format!("a sold-out SKU was refused with {refusal:?}"))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 1, 1, 0)
}

fn is_held(stage: &Stage<'_>, sku: &SkuId) -> bool {
    stage.committed(SHELF).iter().any(|(_, command)| look::hold_of(command, sku).is_some())
}

fn no_lease(stage: &mut Stage<'_>) -> Played {
    let (user, other, sku) = (stage.user(ORDERS, 0), stage.user(ORDERS, 1), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 3)])?;
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.order_of(call)?;
    stage.isolate(1, true);
    let leader = stage.another_leads(ORDERS, 1)?;
    let receipt = stage.receipt(&sku, 5);
    let call = stage.ask(leader, receipt);
    let ending = stage.end_of(call)?;
    scene(matches!(ending, Ending::Done { .. }), "the shelf is filled")?;
    let order = stage.order(&other, &[(&sku, 2)]);
    let mut calls = Vec::new();
    for _ in 0..20 {
        let key = stage.key();
        calls.push((key.clone(), stage.place(1, &key, &order)));
        stage.pass(ms(30))?;
    }
    let mut last = None;
    for (key, call) in calls {
        let ending = stage.end_of(call)?;
        let sold_out = matches!(ending, Ending::Refused { status: 409, .. });
        expect(!sold_out, || format!("sold out was said of a full shelf: {ending:?}"))?;
        expect(!matches!(ending, Ending::Done { .. }), || format!("a leader without followers answered {ending:?}"))?;
        last = Some(key);
    }
    stage.isolate(1, false);
    let key = last.unwrap_or_else(|| stage.key());
    stage.order_after_all(&Ask::Place(key, Box::new(order)))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 8, 5, 3)
}

fn alike(stage: &mut Stage<'_>) -> Played {
    let (user, near, far) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&near, 10), (&far, 10)])?;
    let (mixed, local) = (stage.key(), stage.key());
    let order = stage.order(&user, &[(&near, 2), (&far, 2)]);
    let call = stage.place(1, &mixed, &order);
    stage.order_of(call)?;
    let order = stage.order(&user, &[(&near, 3)]);
    let call = stage.place(1, &local, &order);
    stage.order_of(call)?;
    stage.conclude()?;
    let here = stage.committed(ORDERS);
    let holds = here.iter().filter(|(_, command)| look::hold_of(command, &near).is_some()).count();
    expect(holds == 1, || format!("the SKU next door was held {holds} times by itself: {here:?}"))?;
    for (key, in_one) in [(&mixed, false), (&local, true)] {
        let place = here.iter().find(|(_, command)| look::place_of(command, key).is_some());
        let seen = place.map(|(_, command)| matches!(command, Command::PlaceLocal(_)));
        expect(seen == Some(in_one), || format!("hold and place of {key} share an entry: {seen:?}"))?;
    }
    stage.expect_stock(&near, 10, 5, 5)?;
    stage.expect_stock(&far, 10, 2, 8)
}

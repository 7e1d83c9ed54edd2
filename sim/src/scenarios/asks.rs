//! Rules 14 and 16: a SKU never frees a hold by itself, and is told the truth about it.

use std::time::Duration;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ATTIC, ORDERS, SHELF, Scenario, look};
use crate::history::{Ask, Ending};

pub(super) const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "the-coordinator-dies-between-hold-and-place",
        rule: "rule 14",
        story: "the hold is committed, its order's leader loses power before it can place, and the buyer comes again",
        mutant: Some("old-terms-never-gone"),
        setup: || Setup::of(3, 2).set("orders.hold_valid", "2s"),
        script: coordinator_dies,
    },
    Scenario {
        name: "an-attempt-that-runs-is-not-gone",
        rule: "rule 14",
        story: "one hold of an order is old enough to be asked about while another hangs on stalled disks",
        mutant: Some("ask-ignores-running"),
        setup: || Setup::of(3, 3).patient().set("orders.hold_valid", "2s"),
        script: running,
    },
    Scenario {
        name: "asks-while-leaderships-move",
        rule: "rule 14, corner",
        story: "an orphan is asked about while its order's shard and its own change leaders again and again, and others buy",
        mutant: None,
        setup: || Setup::of(3, 2).set("orders.hold_valid", "2s"),
        script: moving_leaders,
    },
    Scenario {
        name: "the-index-outlives-the-first-keep",
        rule: "rule 16",
        story: "one shard has its keep, the other's leader dies before it: its successor asks before the keep comes again",
        mutant: Some("attempt-forgotten-early"),
        setup: || Setup::of(3, 3).set("clock.skew", "150ms").set("orders.hold_valid", "1150ms"),
        script: second_keep,
    },
];

/// An order of three units whose leader, node 1, loses power after the hold and before the place.
fn orphan(stage: &mut Stage<'_>) -> Played<Ask> {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    stage.delay(2, 1, ms(60));
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    stage.until("the hold is committed", SOON, |stage| {
        stage.committed(SHELF).iter().any(|(_, command)| look::hold_of(command, &sku).is_some())
    })?;
    stage.cut_power(1);
    for node in [2, 3] {
        let placed = stage.written(node, ORDERS).iter().any(|(_, command)| look::place_of(command, &key).is_some());
        scene(!placed, "the place is nowhere")?;
    }
    stage.delay(2, 1, ms(1));
    let ending = stage.end_of(call)?;
    expect(!matches!(ending, Ending::Done { .. }), || format!("nothing was placed, and this was told: {ending:?}"))?;
    Ok(Ask::Place(key, Box::new(order)))
}

fn coordinator_dies(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    let again = orphan(stage)?;
    let (_, replayed) = stage.order_after_all(&again)?;
    expect(!replayed, || "the first attempt placed nothing".to_owned())?;
    stage.healed("the orphan is freed", |stage| {
        stage.committed(SHELF).iter().any(|(_, command)| look::gone_of(command, &sku).is_some())
    })?;
    stage.conclude()?;
    stage.met("orphan hold asked and freed")?;
    stage.expect_stock(&sku, 10, 3, 7)
}

fn running(stage: &mut Stage<'_>) -> Played {
    let (user, soon, late) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0), stage.sku(ATTIC, 0));
    stage.stock(&[(&soon, 10), (&late, 10)])?;
    stage.delay(1, 3, ms(40));
    let order = stage.order(&user, &[(&soon, 3), (&late, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.until("the first hold is committed", SOON, |stage| {
        stage.committed(SHELF).iter().any(|(_, command)| look::hold_of(command, &soon).is_some())
    })?;
    stage.stall_logs(&[1, 2], ms(4_300));
    stage.until("the second hold hangs", SOON, |stage| {
        stage.written(3, ATTIC).iter().any(|(_, command)| look::hold_of(command, &late).is_some())
    })?;
    stage.delay(1, 3, ms(1));
    stage.pass(ms(4_000))?;
    scene(stage.ending(call).is_none(), "the attempt still runs")?;
    stage.order_of(call)?;
    stage.conclude()?;
    let freed = stage.committed(SHELF).iter().any(|(_, command)| look::gone_of(command, &soon).is_some());
    expect(!freed, || "a hold of an attempt that ran was freed".to_owned())?;
    stage.expect_stock(&soon, 10, 3, 7)?;
    stage.expect_stock(&late, 10, 3, 7)
}

fn moving_leaders(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    let again = orphan(stage)?;
    stage.another_leads(ORDERS, 1)?;
    let mut asks = Vec::new();
    for turn in 0..12 {
        for group in [ORDERS, SHELF] {
            let leader = stage.leader(group);
            stage.transfer(group, if leader == Some(2) { 3 } else { 2 });
        }
        if turn % 3 == 0 {
            let (user, key) = (stage.user(ORDERS, 1 + turn / 3), stage.key());
            let order = stage.order(&user, &[(&sku, 1)]);
            stage.place(2 + u64::from(turn % 2 == 0), &key, &order);
            asks.push(Ask::Place(key, Box::new(order)));
        }
        stage.pass(ms(400))?;
    }
    scene(stage.term(SHELF) > 5, "leaderships moved")?;
    stage.order_after_all(&again)?;
    for ask in asks {
        stage.order_after_all(&ask)?;
    }
    stage.conclude()?;
    stage.met("orphan hold asked and freed")?;
    stage.expect_stock(&sku, 10, 7, 3)
}

fn second_keep(stage: &mut Stage<'_>) -> Played {
    let (user, first, second) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0), stage.sku(ATTIC, 0));
    stage.stock(&[(&first, 10), (&second, 10)])?;
    stage.delay(1, 3, ms(60));
    let (key, order) = (stage.key(), stage.order(&user, &[(&first, 3), (&second, 3)]));
    let call = stage.place(1, &key, &order);
    let keeps = |stage: &Stage<'_>, node, shard, sku| stage.written(node, shard).iter().any(|(_, it)| look::keeps(it, sku));
    stage.until("the first shard has its keep", SOON, |stage| keeps(stage, 2, SHELF, &first))?;
    scene(!keeps(stage, 3, ATTIC, &second), "the second has none yet")?;
    stage.cut_power(3);
    stage.order_of(call)?;
    let leader = stage.another_leads(ATTIC, 3)?;
    let asked_by = stage.now().after(Duration::from_secs(1));
    stage.until("the keep comes again", SOON, |stage| keeps(stage, leader, ATTIC, &second))?;
    scene(stage.now() > asked_by, "the successor asks before")?;
    stage.conclude()?;
    let freed = stage.committed(ATTIC).iter().any(|(_, command)| look::gone_of(command, &second).is_some());
    expect(!freed, || "a hold of a placed order was freed".to_owned())?;
    stage.expect_stock(&first, 10, 3, 7)?;
    stage.expect_stock(&second, 10, 3, 7)
}

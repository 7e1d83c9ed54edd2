//! Reads and leadership: who may answer, and until when.

use std::time::Duration;

use ordergrid_domain::{GroupId, SkuId};

use super::setup::Setup;
use super::stage::{Call, Played, Stage, expect, ms, scene};
use super::{ORDERS, Scenario};
use crate::history::{Ask, Ending, Said, SimTime};

pub(super) const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "a-deposed-leader-answers-no-reads",
        rule: "corner",
        story: "a leader that is cut off is asked every few milliseconds while its successor takes stock",
        mutant: Some("lease-outlives-promise"),
        setup: || Setup::of(3, 1).set("limits.request", "1s"),
        script: deposed,
    },
    Scenario {
        name: "a-leader-that-stood-still-with-its-clock-answers-no-reads",
        rule: "corner",
        story: "the machine of a leader is suspended while a successor takes stock, wakes without having noticed, and is asked at once",
        mutant: Some("lease-not-ended-by-a-leap"),
        setup: || Setup::of(3, 1).set("limits.request", "1s"),
        script: stood_still,
    },
    Scenario {
        name: "a-restart-inside-the-lease",
        rule: "corner",
        story: "a follower forgets in a restart whom it promised not to replace, and is asked for its vote at once",
        mutant: None,
        setup: || Setup::of(3, 1).set("limits.request", "1s"),
        script: restart,
    },
    Scenario {
        name: "any-node-serves-any-shard",
        rule: "corner",
        story: "five nodes, five shards of three replicas: every node is asked for an order across every pair of shards",
        mutant: None,
        setup: || Setup::of(5, 5).set("limits.request", "3s"),
        script: any_node,
    },
    Scenario {
        name: "a-lost-quorum-is-told",
        rule: "corner",
        story: "the leader is cut off, then everybody: whoever cannot be served says so within two election timeouts, and no other",
        mutant: Some("quorum-loss-untold"),
        setup: || Setup::of(3, 1).set("limits.request", "1s"),
        script: lost_quorum,
    },
];

/// Reads a SKU through node 1 every few milliseconds.
fn reads(stage: &mut Stage<'_>, sku: &SkuId, time: Duration, calls: &mut Vec<(SimTime, Call)>) -> Played {
    let end = stage.now().after(time);
    while stage.now() < end {
        let call = stage.ask(1, Ask::ReadSku(sku.clone()));
        calls.push((stage.now(), call));
        stage.pass(ms(5))?;
    }
    Ok(())
}

/// What was read after goods had arrived shows them.
fn expect_current(stage: &mut Stage<'_>, calls: &[(SimTime, Call)], arrived: SimTime, on_hand: u64) -> Played {
    let mut before = 0;
    for (asked, call) in calls {
        let Ending::Done { answer, .. } = stage.end_of(*call)? else { continue };
        let Said::Sku(sku) = *answer else { continue };
        before += u64::from(*asked < arrived);
        let current = *asked < arrived || sku.stock.on_hand == on_hand;
        expect(current, || format!("asked at {asked}, after goods had come at {arrived}: {:?}", sku.stock))?;
    }
    scene(before > 0, "the old leader answers for a while")
}

/// Goods arrive at whoever leads instead of node 1, while node 1 is read; gives the time when that was told.
fn goods(stage: &mut Stage<'_>, sku: &SkuId, units: u64, calls: &mut Vec<(SimTime, Call)>) -> Played<SimTime> {
    while stage.leader(ORDERS).is_none_or(|leader| leader == 1) {
        scene(stage.now() < SimTime::secs(100), "another node leads")?;
        reads(stage, sku, ms(5), calls)?;
    }
    let leader = stage.leader(ORDERS).expect("it was just seen");
    let receipt = stage.receipt(sku, units);
    let call = stage.ask(leader, receipt);
    while stage.ending(call).is_none() {
        reads(stage, sku, ms(5), calls)?;
    }
    let (at, ending) = stage.ending(call).expect("it was just seen");
    scene(matches!(ending, Ending::Done { .. }), "the goods have arrived")?;
    Ok(at)
}

/// Ten units are there, and node 1, which led, is cut off: five more arrive at the others, and nobody is told of ten after that.
fn reads_stay_current(stage: &mut Stage<'_>, sku: &SkuId) -> Played {
    let mut calls = Vec::new();
    let arrived = goods(stage, sku, 5, &mut calls)?;
    reads(stage, sku, ms(1_500), &mut calls)?;
    stage.isolate(1, false);
    expect_current(stage, &calls, arrived, 15)?;
    stage.conclude()?;
    stage.expect_stock(sku, 15, 0, 15)
}

fn deposed(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    stage.isolate(1, true);
    reads_stay_current(stage, &sku)
}

fn stood_still(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    let mut calls = Vec::new();
    reads(stage, &sku, ms(50), &mut calls)?;
    let fell = stage.now();
    stage.suspend(1, true);
    // What the others tell it meanwhile has not arrived when it wakes.
    stage.isolate(1, true);
    let arrived = goods(stage, &sku, 5, &mut calls)?;
    // Nobody has set its time of day when it wakes.
    let stood = i64::try_from((stage.now().since_start() - fell.since_start()).as_millis()).expect("seconds");
    stage.world.grid.nodes[&1].clock.set_offset_ms(-stood);
    stage.suspend(1, false);
    reads(stage, &sku, ms(1_500), &mut calls)?;
    stage.isolate(1, false);
    expect_current(stage, &calls, arrived, 15)?;
    stage.conclude()?;
    stage.expect_stock(&sku, 15, 0, 15)
}

fn restart(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    stage.isolate(3, true);
    // Node 3 is ready to campaign, and the lease rests on node 2 alone.
    stage.pass(ms(1_500))?;
    scene(stage.world.grid.leader(ORDERS).is_some(), "somebody leads")?;
    stage.kill(2);
    stage.start(2)?;
    stage.isolate(1, true);
    for (from, to) in [(2, 3), (3, 2)] {
        stage.cut(from, to, false);
    }
    reads_stay_current(stage, &sku)
}

/// What the nodes tell of their groups, those that are cut off from a majority and the others.
fn expect_led(stage: &Stage<'_>, cut_off: &[u64]) -> Played {
    for (node, groups) in stage.world.grid.statuses() {
        for group in groups {
            let expected = !cut_off.contains(&node);
            let (id, led) = (group.group, group.led);
            expect(led == expected, || format!("{cut_off:?} are cut off, and node {node} tells of group {id}: led {led}"))?;
        }
    }
    Ok(())
}

fn lost_quorum(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    expect_led(stage, &[])?;
    stage.isolate(1, true);
    // Until a node that has lost its leader campaigns it may take two election timeouts, and the vote comes on top.
    stage.pass(ms(4_000))?;
    expect_led(stage, &[1])?;
    stage.isolate(2, true);
    stage.pass(ms(2_200))?;
    // A leader without a quorum falls silent and shows itself by turns of two seconds.
    for _ in 0..80 {
        expect_led(stage, &[1, 2, 3])?;
        stage.pass(ms(100))?;
    }
    stage.isolate(1, false);
    stage.isolate(2, false);
    stage.conclude()?;
    expect_led(stage, &[])?;
    stage.expect_stock(&sku, 10, 0, 10)
}

fn any_node(stage: &mut Stage<'_>) -> Played {
    let shards: Vec<_> = (1..=5).map(GroupId).collect();
    let skus: Vec<_> = shards.iter().map(|shard| stage.sku(*shard, 0)).collect();
    let all: Vec<_> = skus.iter().map(|sku| (sku, 100)).collect();
    stage.stock(&all)?;
    let mut calls = Vec::new();
    for node in stage.nodes() {
        for shard in &shards {
            let user = stage.user(*shard, 0);
            for sku in &skus {
                let order = stage.order(&user, &[(sku, 1)]);
                calls.push((node, *shard, sku.clone(), stage.place(node, &stage.key(), &order)));
            }
        }
    }
    for (node, shard, sku, call) in calls {
        let ending = stage.end_of(call)?;
        let placed = matches!(ending, Ending::Done { .. });
        expect(placed, || format!("node {node}, a buyer of shard {shard}, SKU {sku}, nothing is wrong: {ending:?}"))?;
    }
    stage.conclude()?;
    skus.iter().try_for_each(|sku| stage.expect_stock(sku, 100, 25, 75))
}

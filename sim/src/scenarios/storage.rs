//! Rules 26 to 28: what is on the disk, and what a node makes of it when it comes back.

use std::time::Duration;

use ordergrid_api::wire::{CancelOrder, Order};
use ordergrid_domain::SkuId;
use ordergrid_domain::order::CancelReason;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, SHELF, Scenario};
use crate::disk::{Database, ReadTime};
use crate::grid::Squeeze;
use crate::history::Ask;

pub(super) const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "a-log-without-memory-answers-who-waits",
        rule: "corner",
        story: "the log keeps nothing in memory, and whoever asks is told all the same what it came to",
        mutant: Some("awaited-leaves-the-tail"),
        setup: || Setup::of(3, 1).squeeze(Squeeze { log_tail: Some(0), ..Squeeze::default() }),
        script: no_tail,
    },
    Scenario {
        name: "a-checkpoint-torn-by-a-power-loss",
        rule: "rule 26, corner",
        story: "each node in turn loses power while a checkpoint is written and not durable, again and again",
        mutant: Some("checkpoint-index-first"),
        setup: || Setup::of(3, 2),
        script: torn,
    },
    Scenario {
        name: "nothing-is-purged-above-a-durable-checkpoint",
        rule: "rule 27",
        story: "all nodes lose power while all of them write checkpoints and would like to purge",
        mutant: Some("checkpoint-not-synced"),
        setup: || Setup::of(3, 2),
        script: purged,
    },
    Scenario {
        name: "a-snapshot-while-mailboxes-run",
        rule: "rule 27, corner",
        story: "a node that was away needs a snapshot while orders go on, and then leads the shard that it was sent",
        mutant: Some("snapshot-not-reloaded"),
        setup: || Setup::of(3, 2).squeeze(Squeeze { snapshot_chunk: Some(256), ..Squeeze::default() }),
        script: snapshot,
    },
    Scenario {
        name: "a-snapshot-cut-by-a-power-loss",
        rule: "rule 27",
        story: "the node that is sent a snapshot loses power while it is installed, twice",
        mutant: Some("snapshot-not-reloaded"),
        setup: || Setup::of(3, 2).squeeze(Squeeze { snapshot_chunk: Some(256), ..Squeeze::default() }),
        script: snapshot_cut,
    },
    Scenario {
        name: "cold-rows-under-checkpoints",
        rule: "rule 28",
        story: "with hardly any memory, old orders are read and cancelled while one checkpoint follows the other",
        mutant: Some("evicts-undurable-row"),
        setup: || Setup::of(3, 1).squeeze(Squeeze { memory: Some(16 << 10), ..Squeeze::default() }),
        script: cold,
    },
    Scenario {
        name: "a-log-that-cannot-be-opened-any-more",
        rule: "rule 28a",
        story: "of the two that have the last orders, one loses its log whole: with the one that never had them it does not go on",
        mutant: Some("anew-without-floors"),
        setup: || Setup::of(3, 1),
        script: lost_log,
    },
    Scenario {
        name: "damaged-rows-are-filled-anew",
        rule: "rule 28, corner",
        story: "rows that have left memory are damaged on the disk of a leader: it leads no longer, and has them again soon",
        mutant: Some("damage-swallowed"),
        setup: || Setup::of(3, 1).squeeze(Squeeze { memory: Some(16 << 10), ..Squeeze::default() }),
        script: damaged,
    },
    Scenario {
        name: "a-row-that-was-read-before-it-changed",
        rule: "rule 28",
        story: "a slow look at a SKU ends after goods have arrived for it and a checkpoint has stored that",
        mutant: Some("stale-prefetch"),
        setup: || Setup::of(3, 1).squeeze(Squeeze { memory: Some(64), ..Squeeze::default() }),
        script: read_before,
    },
];

/// What this node has applied by now is in durable checkpoints.
fn written(stage: &mut Stage<'_>, node: u64) -> Played {
    let before = stage.checkpoints(node);
    stage.checkpoint(node);
    let covered = |(now, before): (&(u64, u64), &(u64, u64))| now.1 >= before.0;
    stage.until("checkpoints are durable", SOON, |stage| stage.checkpoints(node).iter().zip(&before).all(covered))?;
    stage.pass(ms(20))
}

fn damaged(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 1_000)])?;
    let mut orders = Vec::new();
    for buyer in 0..60 {
        orders.push(buy(stage, buyer % 20, &sku)?);
        if buyer % 20 == 19 {
            written(stage, 1)?;
        }
    }
    stage.pass(ms(1_000))?;
    let disk = stage.world.grid.nodes[&1].disk.clone();
    stage.world.striking.damaged(1);
    scene(disk.damage_rows(Database::State, 0, usize::MAX) > 60, "there are rows to be damaged")?;
    for order in &orders {
        stage.ask(1, Ask::ReadOrder(order.id));
    }
    stage.healed("another node leads", |stage| stage.leader(ORDERS).is_some_and(|leader| leader != 1))?;
    for order in &orders {
        let (now, _) = stage.order_after_all(&Ask::ReadOrder(order.id))?;
        expect(now.version == order.version, || format!("{now:?} is not {order:?}"))?;
    }
    stage.healed("node 1 is whole", |stage| {
        let running = stage.world.grid.nodes[&1].running();
        running.is_some_and(|node| node.damaged().is_empty())
    })?;
    stage.hand_over(ORDERS, 1)?;
    for order in orders.iter().step_by(2) {
        let ask = cancel(stage, order);
        stage.order_after_all(&ask)?;
    }
    stage.conclude()?;
    stage.expect_stock(&sku, 1_000, 60, 940)
}

fn lost_log(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 200)])?;
    buy(stage, 0, &sku)?;
    stage.kill(3);
    let mut orders = Vec::new();
    for buyer in 1..9 {
        orders.push(buy(stage, buyer, &sku)?);
    }
    stage.kill(1);
    stage.kill(2);
    stage.world.grid.nodes[&2].disk.lose_log();
    stage.start(2)?;
    stage.start(3)?;
    // Long enough for an election, if the two of them were enough for one.
    stage.pass(ms(10_000))?;
    stage.start(1)?;
    stage.ready()?;
    for order in &orders {
        stage.order_after_all(&Ask::ReadOrder(order.id))?;
    }
    // Refilled, it counts again.
    stage.kill(1);
    stage.healed("nodes 2 and 3 go on", |stage| stage.leader(ORDERS).is_some_and(|leader| leader != 1))?;
    orders.push(buy(stage, 9, &sku)?);
    stage.start(1)?;
    stage.ready()?;
    stage.conclude()?;
    stage.expect_stock(&sku, 200, 20, 180)
}

fn read_before(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    // With no memory for clean rows, the SKU is in the store alone soon afterwards: rows leave bit by bit.
    written(stage, 1)?;
    stage.pass(ms(1_000))?;
    let loaded = stage.counted("cold_rows_loaded");
    stage.slow_reads(1, ReadTime::Fixed(ms(2_000)));
    let look = stage.ask(1, Ask::ReadSku(sku.clone()));
    stage.until("a row is looked for", SOON, |stage| stage.counted("cold_rows_loaded") > loaded)?;
    stage.slow_reads(1, ReadTime::AtOnce);
    let receipt = stage.receipt(&sku, 5);
    let goods = stage.ask(1, receipt);
    stage.pass(ms(200))?;
    scene(stage.ending(goods).is_some(), "goods have arrived")?;
    stage.checkpoint(1);
    stage.pass(ms(100))?;
    scene(stage.ending(look).is_none(), "the look is not over")?;
    // Read again, so that the new row is in memory, and clean.
    let again = stage.ask(1, Ask::ReadSku(sku.clone()));
    stage.end_of(again)?;
    stage.end_of(look)?;
    let receipt = stage.receipt(&sku, 1);
    let more = stage.ask(1, receipt);
    stage.end_of(more)?;
    stage.conclude()?;
    stage.expect_stock(&sku, 16, 0, 16)
}

/// Places an order of two units, wherever its shard is led.
fn buy(stage: &mut Stage<'_>, buyer: usize, sku: &SkuId) -> Played<Order> {
    let user = stage.user(ORDERS, buyer);
    let order = stage.order(&user, &[(sku, 2)]);
    let key = stage.key();
    Ok(stage.order_after_all(&Ask::Place(key, Box::new(order)))?.0)
}

fn cancel(stage: &Stage<'_>, order: &Order) -> Ask {
    let cancel = CancelOrder { reason: CancelReason::User, operator: None, note: None, lines: None };
    Ask::Cancel(stage.key(), order.id, cancel)
}

/// A checkpoint of this node is written and not durable yet.
fn half_written(stage: &mut Stage<'_>, node: u64) -> Played {
    stage.until("a checkpoint is on its way", SOON, |stage| {
        let (written, durable) = stage.state_batches(node);
        written > durable
    })
}

fn no_tail(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    let early = stage.receipt(&sku, 100);
    let early = stage.ask(1, early);
    // There is no such SKU yet, as apply says.
    stage.refusal_of(early)?;
    stage.stock(&[(&sku, 100)])?;
    for node in stage.nodes().into_iter().cycle().take(30) {
        let user = stage.user(ORDERS, 0);
        let order = stage.order(&user, &[(&sku, 1)]);
        let call = stage.place(node, &stage.key(), &order);
        stage.order_of(call)?;
    }
    stage.conclude()?;
    stage.expect_stock(&sku, 100, 30, 70)
}

fn torn(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    stage.stock(&[(&sku, 200)])?;
    for round in 0..3 {
        for node in stage.nodes() {
            let buyer = round * 3 + usize::try_from(node).expect("few");
            let kept = buy(stage, buyer % 8, &sku)?;
            let given_back = buy(stage, (buyer + 1) % 8, &sku)?;
            let ask = cancel(stage, &given_back);
            stage.order_after_all(&ask)?;
            stage.slow_sync(node, Database::State, ms(400));
            stage.checkpoint(node);
            half_written(stage, node)?;
            stage.pass(ms(20 * round as u64))?;
            stage.cut_power(node);
            stage.slow_sync(node, Database::State, ms(1));
            stage.start(node)?;
            stage.ready()?;
            stage.checkpoint(node);
            let call = Ask::ReadOrder(kept.id);
            stage.order_after_all(&call)?;
        }
    }
    stage.conclude()?;
    stage.expect_stock(&sku, 200, 18, 182)
}

fn purged(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    stage.stock(&[(&sku, 200)])?;
    let mut orders = Vec::new();
    for round in 0..4 {
        for buyer in 0..4 {
            orders.push(buy(stage, buyer, &sku)?);
        }
        for node in stage.nodes() {
            stage.slow_sync(node, Database::State, ms(400));
            stage.checkpoint(node);
        }
        for node in stage.nodes() {
            half_written(stage, node)?;
        }
        // Time in which whoever does not wait for the sync purges.
        stage.pass(ms(50 * round))?;
        for node in stage.nodes() {
            stage.cut_power(node);
        }
        for node in stage.nodes() {
            stage.slow_sync(node, Database::State, ms(1));
            stage.start(node)?;
        }
        stage.ready()?;
    }
    for order in &orders {
        stage.order_after_all(&Ask::ReadOrder(order.id))?;
    }
    stage.conclude()?;
    stage.expect_stock(&sku, 200, 32, 168)
}

/// The last entry that a node has purged of a group's log, which is at least what its snapshot has.
fn purged_to(stage: &Stage<'_>, node: u64) -> u64 {
    let log = stage.world.chronicle.log(node, SHELF);
    log.and_then(|log| log.purged).map_or(0, |purged| purged.index)
}

/// Node 3 was away, and the others have purged what it lacks. Gives the index that it must come to.
fn behind(stage: &mut Stage<'_>, sku: &SkuId) -> Played<u64> {
    stage.stock(&[(sku, 500)])?;
    buy(stage, 0, sku)?;
    stage.kill(3);
    for buyer in 0..12 {
        buy(stage, buyer % 8, sku)?;
    }
    for node in [1, 2] {
        stage.checkpoint(node);
    }
    let had = stage.world.chronicle.log(3, SHELF).and_then(|log| log.last()).map_or(0, |last| last.index);
    stage.until("what it lacks is purged", SOON, |stage| [1, 2].into_iter().all(|node| purged_to(stage, node) > had))?;
    Ok(purged_to(stage, 1).min(purged_to(stage, 2)))
}

fn snapshot(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    let needed = behind(stage, &sku)?;
    stage.start(3)?;
    let mut bought = 13;
    while purged_to(stage, 3) < needed {
        scene(bought < 200, "the snapshot arrives")?;
        buy(stage, bought % 8, &sku)?;
        bought += 1;
    }
    stage.ready()?;
    stage.hand_over(SHELF, 3)?;
    let order = buy(stage, 0, &sku)?;
    let ask = cancel(stage, &order);
    stage.order_after_all(&ask)?;
    for buyer in 1..5 {
        buy(stage, buyer, &sku)?;
    }
    stage.conclude()?;
    let taken = 2 * (bought as u64 + 4);
    stage.expect_stock(&sku, 500, taken, 500 - taken)
}

fn snapshot_cut(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    let needed = behind(stage, &sku)?;
    for wait in [0, 60] {
        stage.slow_sync(3, Database::State, ms(300));
        stage.start(3)?;
        half_written(stage, 3)?;
        stage.pass(ms(wait))?;
        scene(purged_to(stage, 3) < needed, "the snapshot is not installed yet")?;
        stage.cut_power(3);
        buy(stage, 1, &sku)?;
    }
    stage.slow_sync(3, Database::State, ms(1));
    stage.start(3)?;
    stage.healed("node 3 has what a snapshot had", |stage| purged_to(stage, 3) >= needed)?;
    stage.ready()?;
    stage.hand_over(SHELF, 3)?;
    buy(stage, 2, &sku)?;
    stage.conclude()?;
    stage.expect_stock(&sku, 500, 32, 468)
}

fn cold(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 1_000)])?;
    let mut orders = Vec::new();
    for buyer in 0..80 {
        orders.push(buy(stage, buyer % 20, &sku)?);
        if buyer % 20 == 19 {
            stage.nodes().into_iter().for_each(|node| stage.checkpoint(node));
        }
    }
    stage.slow_sync(1, Database::State, ms(25));
    let mut calls = Vec::new();
    for (turn, order) in orders.iter().enumerate() {
        if turn % 3 == 0 {
            stage.nodes().into_iter().for_each(|node| stage.checkpoint(node));
        }
        let (before, ask, after) = (Ask::ReadOrder(order.id), cancel(stage, order), Ask::ReadHistory(order.id));
        stage.ask(1, before);
        if turn % 2 == 0 {
            calls.push(stage.ask(1, ask));
        }
        stage.ask(2, after);
        stage.pass(ms(7))?;
    }
    let cancelled = calls.len() as u64;
    for call in calls {
        stage.order_of(call)?;
    }
    stage.pass(Duration::from_secs(1))?;
    for (turn, order) in orders.iter().enumerate() {
        let (now, _) = stage.order_after_all(&Ask::ReadOrder(order.id))?;
        let version = order.version + u64::from(turn % 2 == 0);
        expect(now.version == version, || format!("{now:?} is not of version {version}"))?;
    }
    scene(stage.counted("cold_rows_loaded") > 0, "a cold row was loaded")?;
    stage.conclude()?;
    let taken = 160 - 2 * cancelled;
    stage.expect_stock(&sku, 1_000, taken, 1_000 - taken)
}

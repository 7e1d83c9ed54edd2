//! Rule 21: clocks that jump by days, of one node, of all, and while all are off.
//!
//! In each a buyer has an order that waits for its money, its clock or clocks jump, and the order's key must go on naming
//! it: a grid that believed the jump would have cancelled the order and forgotten the key. Then the clocks are right again,
//! and the order's time is up when it should be.

use std::time::Duration;

use ordergrid_api::wire::{AskedRepair, ClockRepair, Order, PlaceOrder, RepairState};
use ordergrid_domain::order::{CancelReason, Phase, Terms};
use ordergrid_domain::{Key, SkuId, Timestamp, UserId};

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, scene};
use super::{ORDERS, SHELF, Scenario};
use crate::driver::clock::EPOCH_MS;
use crate::history::{Ask, Ending, Said, SimTime};
use crate::run::SKEW;

/// Longer than keys are remembered.
const EIGHT_DAYS: i64 = 8 * 24 * 60 * 60 * 1_000;
/// How long a clock is wrong.
const WRONG: Duration = Duration::from_secs(6);
/// Seconds that an order waits for its money: longer than all of it.
const WINDOW: u64 = 40;

pub(super) const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "a-leader-whose-clock-leaps-doubles-nothing",
        rule: "rule 21",
        story: "a leader's clock is eight days ahead for six seconds, then as many behind: it gives way, and every key is known",
        mutant: Some("stamp-ignores-the-majority"),
        setup: || Setup::of(3, 1).window(WINDOW),
        script: leader,
    },
    Scenario {
        name: "alone-a-leap-of-the-clock-is-not-believed",
        rule: "rule 21",
        story: "the only node's clock is eight days ahead for six seconds, then as many behind",
        mutant: Some("stamp-ignores-the-majority"),
        setup: || Setup::of(1, 1).window(WINDOW),
        script: alone,
    },
    Scenario {
        name: "all-clocks-leap-together-and-nobody-believes-them",
        rule: "rule 21",
        story: "the clocks of all nodes are eight days ahead for six seconds while they run",
        mutant: None,
        setup: || Setup::of(3, 1).window(WINDOW),
        script: together,
    },
    Scenario {
        name: "clocks-that-leap-while-all-is-off-are-asked-about",
        rule: "rule 21",
        story: "three nodes lose power and come back eight days later by their clocks: nothing expires until they are right",
        mutant: None,
        setup: || Setup::of(3, 1).window(WINDOW),
        script: while_off,
    },
    Scenario {
        name: "nodes-without-a-replica-do-not-outvote-the-log",
        rule: "rule 21",
        story: "as before with five nodes, two of which have no log to contradict their clocks: the others do not believe them",
        mutant: Some("clocks-without-a-log-are-believed"),
        setup: || Setup::of(5, 1).window(WINDOW),
        script: while_off,
    },
    Scenario {
        name: "log-time-that-ran-away-is-set-back",
        rule: "rule 21",
        story: "an operator believes clocks that are eight days ahead; later they are right, and log time is set back, shard by shard",
        mutant: Some("a-repair-moves-no-deadline"),
        setup: || Setup::of(3, 2).window(WINDOW),
        script: set_back,
    },
];

/// The time of day of these nodes is off by so much.
fn leap(stage: &Stage<'_>, nodes: &[u64], off: i64) {
    crate::trace::note(format_args!("script: clocks of {nodes:?} are off by {off} ms"));
    nodes.iter().for_each(|node| stage.world.grid.nodes[node].clock.set_offset_ms(off));
}

/// An order that waits for its money, and how it was asked for.
struct Bought {
    sku: SkuId,
    key: Key,
    asked: PlaceOrder,
    order: Order,
}

fn buy(stage: &mut Stage<'_>) -> Played<Bought> {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let mut asked = stage.order(&user, &[(&sku, 2)]);
    (asked.terms, asked.payment_window_seconds) = (Terms::Prepaid, Some(WINDOW));
    let key = stage.key();
    let leader = stage.leader(ORDERS).unwrap_or(1);
    let call = stage.place(leader, &key, &asked);
    let (order, _) = stage.order_of(call)?;
    Ok(Bought { sku, key, asked, order })
}

impl Bought {
    /// The key names the order, and the order waits.
    fn is_known(&self, stage: &mut Stage<'_>) -> Played {
        let again = Ask::Place(self.key.clone(), Box::new(self.asked.clone()));
        let (order, replayed) = stage.order_after_all(&again)?;
        expect(replayed && order.id == self.order.id, || format!("a second order under one key: {order:?}"))?;
        let (order, _) = stage.order_after_all(&Ask::ReadOrder(self.order.id))?;
        expect(order.phase == Phase::PendingPayment, || format!("it waits for its money, and is {order:?}"))
    }

    /// Its time is up when it should be.
    fn expires(&self, stage: &mut Stage<'_>) -> Played {
        let due = self.order.payment_due_at.map(|due| SimTime((due.as_ms() - EPOCH_MS) * 1_000));
        let due = due.ok_or_else(|| scene(false, "the order has a deadline").expect_err("a scene that is not reached"))?;
        scene(stage.now() < due, "its time is not up yet")?;
        let over = due.after(Duration::from_secs(2));
        stage.until("its time is up", 2 * SOON, |stage| stage.now() >= over)?;
        let (order, _) = stage.order_after_all(&Ask::ReadOrder(self.order.id))?;
        let expired = order.phase == Phase::Cancelled && order.cancel_reason == Some(CancelReason::Timeout);
        expect(expired, || format!("its time is up, and it is {order:?}"))?;
        stage.conclude()?;
        stage.expect_stock(&self.sku, 10, 0, 10)
    }
}

fn leader(stage: &mut Stage<'_>) -> Played {
    let bought = buy(stage)?;
    for off in [EIGHT_DAYS, -EIGHT_DAYS] {
        let wrong = stage.leader(ORDERS).unwrap_or(1);
        leap(stage, &[wrong], off);
        stage.another_leads(ORDERS, wrong)?;
        stage.pass(WRONG)?;
        bought.is_known(stage)?;
        leap(stage, &[wrong], 0);
        stage.pass(Duration::from_secs(2))?;
    }
    bought.expires(stage)
}

fn alone(stage: &mut Stage<'_>) -> Played {
    let bought = buy(stage)?;
    for off in [EIGHT_DAYS, -EIGHT_DAYS] {
        leap(stage, &[1], off);
        stage.pass(WRONG)?;
        bought.is_known(stage)?;
        leap(stage, &[1], 0);
    }
    bought.expires(stage)
}

fn together(stage: &mut Stage<'_>) -> Played {
    let bought = buy(stage)?;
    let all = stage.nodes();
    leap(stage, &all, EIGHT_DAYS);
    stage.pass(WRONG)?;
    bought.is_known(stage)?;
    leap(stage, &all, 0);
    bought.expires(stage)
}

fn while_off(stage: &mut Stage<'_>) -> Played {
    let bought = buy(stage)?;
    let all = stage.nodes();
    all.iter().for_each(|node| stage.cut_power(*node));
    leap(stage, &all, EIGHT_DAYS);
    for node in &all {
        stage.start(*node)?;
    }
    stage.ready()?;
    stage.pass(WRONG)?;
    bought.is_known(stage)?;
    leap(stage, &all, 0);
    stage.pass(Duration::from_secs(2))?;
    bought.is_known(stage)?;
    bought.expires(stage)
}

/// All nodes lose power, and come back with clocks that are off by so much, which an operator believes.
fn believed(stage: &mut Stage<'_>, off: i64) -> Played {
    let all = stage.nodes();
    all.iter().for_each(|node| stage.cut_power(*node));
    leap(stage, &all, off);
    for node in &all {
        stage.start(*node)?;
    }
    stage.ready()?;
    stage.pass(Duration::from_secs(2))?;
    let asked = stage.ask(1, Ask::AcceptWall);
    let Ending::Done { answer, .. } = stage.end_of(asked)? else { return scene(false, "the clocks are accepted") };
    let Said::Clock(clocks) = *answer else { return scene(false, "the clocks are told") };
    scene(clocks.nodes.iter().all(|node| node.expires), "nobody asks any more")?;
    stage.pass(Duration::from_secs(2))
}

/// An operator has log time set back. How each shard stands then.
fn repair(stage: &mut Stage<'_>, node: u64, dry_run: bool) -> Played<ClockRepair> {
    let asked = stage.ask(node, Ask::RepairClock(AskedRepair { dry_run, since: None }));
    if let Ending::Done { answer, .. } = stage.end_of(asked)?
        && let Said::Repair(repair) = *answer
    {
        return Ok(repair);
    }
    Err(scene(false, "the repair is answered").expect_err("a scene that is not reached"))
}

fn set_back(stage: &mut Stage<'_>) -> Played {
    let (user, other) = (stage.user(ORDERS, 0), stage.user(SHELF, 0));
    let (here, there) = (stage.sku(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&here, 10), (&there, 10)])?;
    let buy = |stage: &mut Stage<'_>, user: &UserId, window: u64| -> Played<Bought> {
        let mut asked = stage.order(user, &[(&here, 1), (&there, 1)]);
        (asked.terms, asked.payment_window_seconds) = (Terms::Prepaid, Some(window));
        let key = stage.key();
        let ask = Ask::Place(key.clone(), Box::new(asked.clone()));
        let (order, _) = stage.order_after_all(&ask)?;
        Ok(Bought { sku: here.clone(), key, asked, order })
    };
    // Longer than all of it, and than the clocks leap: it must wait on.
    let before = buy(stage, &user, 20 * 86_400)?;
    believed(stage, EIGHT_DAYS)?;
    let wrong = buy(stage, &user, WINDOW)?;
    let wrong_there = buy(stage, &other, WINDOW)?;
    believed(stage, 0)?;
    for dry_run in [true, false, false] {
        let repaired = repair(stage, 2, dry_run)?;
        let expected = if dry_run { RepairState::Ahead } else { RepairState::Repaired };
        let again = !dry_run && !repaired.any(RepairState::Repaired);
        let expected = if again { RepairState::Sound } else { expected };
        expect(repaired.shards.iter().all(|shard| shard.state == expected), || format!("{repaired:?}"))?;
    }
    let after = buy(stage, &user, WINDOW)?;
    let now = Timestamp::from_ms(EPOCH_MS + stage.now().0 / 1_000);
    let told = |order: &Order| order.created_at <= now.after(SKEW) && now <= order.created_at.after(2 * SOON);
    expect(told(&after.order), || format!("at {now:?} this was placed: {:?}", after.order))?;
    for bought in [&before, &wrong, &wrong_there, &after] {
        bought.is_known(stage)?;
    }
    let ids = [&before, &wrong, &after].map(|bought| bought.order.id);
    expect(ids.is_sorted_by(|one, next| one < next), || format!("ids of one shard repeat or go back: {ids:?}"))?;
    let (kept, _) = stage.order_after_all(&Ask::ReadOrder(before.order.id))?;
    expect(kept.payment_due_at == before.order.payment_due_at, || format!("set before, and is moved: {kept:?}"))?;
    stage.pass(Duration::from_secs(WINDOW + 5))?;
    for bought in [&wrong, &wrong_there, &after] {
        let (order, _) = stage.order_after_all(&Ask::ReadOrder(bought.order.id))?;
        let expired = order.phase == Phase::Cancelled && order.cancel_reason == Some(CancelReason::Timeout);
        expect(expired, || format!("its time is up, and it is {order:?}"))?;
    }
    before.is_known(stage)?;
    stage.conclude()?;
    stage.expect_stock(&there, 10, 0, 9)
}

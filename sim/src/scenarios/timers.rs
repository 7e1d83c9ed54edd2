//! Rules 21 to 23: log time, deadlines, and money that comes close to them.

use std::time::Duration;

use ordergrid_api::wire::{Order, PayOrder};
use ordergrid_domain::command::OrderAction;
use ordergrid_domain::order::{CancelReason, PaymentState, Phase, Terms};
use ordergrid_domain::{Command, ProviderPaymentId, SkuId, UserId};

use super::look::Found;
use super::setup::Setup;
use super::stage::{Call, Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, Scenario};
use crate::driver::clock::EPOCH_MS;
use crate::grid::CLIENTS;
use crate::history::{Ask, Ending, Said, SimTime};

pub(super) const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "log-time-never-goes-back",
        rule: "rule 21",
        story: "a leader whose clock is ahead hands over to one whose clock is behind, and the order goes on",
        mutant: Some("log-time-goes-back"),
        setup: || Setup::of(3, 1).clocks(&[450, -450, 0]).window(4),
        script: behind,
    },
    Scenario {
        name: "a-payment-after-the-deadline-and-before-the-tick",
        rule: "rule 22",
        story: "five buyers pay in the very moment that their time is up",
        mutant: Some("expiry-ignores-payment"),
        setup: || Setup::of(3, 1).window(1),
        script: before_the_tick,
    },
    Scenario {
        name: "a-payment-after-the-tick-is-paid-back",
        rule: "rule 23, corner",
        story: "the order has expired when the money comes, twice",
        mutant: Some("refund-counted-twice"),
        setup: || Setup::of(3, 1).window(1),
        script: after_the_tick,
    },
    Scenario {
        name: "pay-loses-to-expiry-across-a-leader-change",
        rule: "rule 22, corner",
        story: "the payment is on the disk of a leader that is cut off; its successor expires the order, and is paid again",
        mutant: None,
        setup: || Setup::of(3, 1).window(3).set("limits.request", "2s"),
        script: pay_loses,
    },
    Scenario {
        name: "expiry-loses-to-pay-across-a-leader-change",
        rule: "rule 22, corner",
        story: "the payment is on two disks when its leader loses power, unanswered; then the deadline comes",
        mutant: None,
        setup: || Setup::of(3, 1).window(3),
        script: pay_wins,
    },
    Scenario {
        name: "deadlines-survive-a-checkpoint-and-a-blackout",
        rule: "rule 22, rule 27",
        story: "every node restarts from a checkpoint while orders wait for their money",
        mutant: Some("timer-lost-on-restore"),
        setup: || Setup::of(3, 1).window(4),
        script: blackout,
    },
    Scenario {
        name: "a-tick-that-is-refused-comes-again",
        rule: "rule 22",
        story: "the deadline passes while the leader tries in vain to hand over, and it stays leader",
        mutant: Some("timers-end-on-failure"),
        setup: || Setup::of(3, 1).patient().window(1),
        script: refused_tick,
    },
];

/// Places an order that waits so many seconds for its money.
fn unpaid(stage: &mut Stage<'_>, user: &UserId, sku: &SkuId, window: u64) -> Played<Order> {
    let mut order = stage.order(user, &[(sku, 2)]);
    (order.terms, order.payment_window_seconds) = (Terms::Prepaid, Some(window));
    let leader = stage.leader(ORDERS).unwrap_or(1);
    let call = stage.place(leader, &stage.key(), &order);
    Ok(stage.order_of(call)?.0)
}

/// The provider tells that an order is paid.
fn money(stage: &Stage<'_>, order: &Order) -> Ask {
    let provider_payment_id = ProviderPaymentId::new(format!("p{}", order.id)).expect("short and plain");
    let pay = PayOrder::new(provider_payment_id, PaymentState::Captured, order.total, order.currency);
    Ask::Pay(stage.key(), order.id, pay)
}

/// When the time of an order is up.
fn deadline(order: &Order) -> Played<SimTime> {
    let due = order.payment_due_at.map(|due| SimTime((due.as_ms() - EPOCH_MS) * 1_000));
    due.map_or_else(|| scene(false, "the order has a deadline").map(|()| SimTime::default()), Ok)
}

fn is_pay((_, command): &Found) -> bool {
    matches!(command, Command::Order(command) if matches!(command.action, OrderAction::Pay { .. }))
}

fn is_tick((_, command): &Found) -> bool {
    matches!(command, Command::Tick)
}

fn read(stage: &mut Stage<'_>, order: &Order) -> Played<Order> {
    Ok(stage.order_after_all(&Ask::ReadOrder(order.id))?.0)
}

fn expect_expired(order: &Order) -> Played {
    let expired = order.phase == Phase::Cancelled && order.cancel_reason == Some(CancelReason::Timeout);
    expect(expired, || format!("its time is up, and it is {order:?}"))
}

fn behind(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = unpaid(stage, &user, &sku, 4)?;
    stage.hand_over(ORDERS, 2)?;
    scene(stage.now() < deadline(&order)?, "there is time left")?;
    let pay = money(stage, &order);
    let call = stage.ask(2, pay);
    let (paid, _) = stage.order_of(call)?;
    expect(paid.updated_at >= order.updated_at, || format!("{paid:?} is older than {order:?}"))?;
    let call = stage.ask(2, Ask::ReadHistory(order.id));
    if let Ending::Done { answer, .. } = stage.end_of(call)?
        && let Said::History(timeline) = *answer
    {
        let times: Vec<_> = timeline.history.iter().map(|event| event.at).collect();
        expect(times.is_sorted(), || format!("the events' times go back: {times:?}"))?;
    }
    stage.conclude()?;
    stage.met("clock behind log time")?;
    stage.expect_stock(&sku, 10, 2, 8)
}

fn before_the_tick(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 100)])?;
    for buyer in 0..5 {
        let user = stage.user(ORDERS, buyer);
        let order = unpaid(stage, &user, &sku, 1)?;
        let due = deadline(&order)?;
        stage.until("its time is up", SOON, |stage| stage.now() >= due)?;
        let ticks = stage.written(1, ORDERS).into_iter().filter(is_tick).count();
        let pay = money(stage, &order);
        let call = stage.ask(1, pay);
        let (paid, _) = stage.order_of(call)?;
        let log = stage.written(1, ORDERS);
        let paid_at = log.iter().rposition(is_pay);
        let ticked_at = log.iter().enumerate().filter(|(_, found)| is_tick(found)).nth(ticks).map(|(at, _)| at);
        let in_time = ticked_at.is_none_or(|ticked| paid_at.is_some_and(|paid| paid < ticked));
        let confirmed = paid.phase == Phase::Confirmed;
        expect(in_time == confirmed, || format!("paid before the tick: {in_time}, and it is {paid:?}"))?;
    }
    stage.conclude()?;
    stage.met("expiry lost to pay")
}

fn after_the_tick(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = unpaid(stage, &user, &sku, 1)?;
    stage.until("it expires", SOON, |stage| stage.committed(ORDERS).iter().any(is_tick))?;
    let expired = read(stage, &order)?;
    expect_expired(&expired)?;
    for _ in 0..2 {
        let pay = money(stage, &order);
        let call = stage.ask(1, pay);
        let (paid, _) = stage.order_of(call)?;
        expect_paid_back(&paid)?;
    }
    stage.conclude()?;
    stage.met("late money refunded")?;
    stage.expect_stock(&sku, 10, 0, 10)
}

fn expect_paid_back(order: &Order) -> Played {
    expect_expired(order)?;
    let refunds: Vec<_> = order.refunds.iter().map(|refund| refund.amount).collect();
    expect(refunds == [order.total], || format!("{} came late, and this is paid back: {refunds:?}", order.total))
}

fn pay_loses(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = unpaid(stage, &user, &sku, 3)?;
    stage.isolate(1, true);
    let pay = money(stage, &order);
    let first = stage.ask(1, pay.clone());
    stage.until("the payment is on one disk", SOON, |stage| stage.written(1, ORDERS).iter().any(is_pay))?;
    let leader = stage.another_leads(ORDERS, 1)?;
    stage.unknown(first)?;
    stage.until("it expires", SOON, |stage| stage.committed(ORDERS).iter().any(is_tick))?;
    let call = stage.ask(leader, Ask::ReadOrder(order.id));
    let (expired, _) = stage.order_of(call)?;
    expect_expired(&expired)?;
    let again = stage.ask(leader, pay);
    let (paid, replayed) = stage.order_of(again)?;
    expect(!replayed, || "the first payment was lost with its leader".to_owned())?;
    expect_paid_back(&paid)?;
    stage.isolate(1, false);
    stage.conclude()?;
    stage.met("pay lost to expiry")?;
    stage.expect_stock(&sku, 10, 0, 10)
}

fn pay_wins(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = unpaid(stage, &user, &sku, 3)?;
    stage.delay(3, 1, ms(100));
    stage.cut(1, 2, true);
    let pay = money(stage, &order);
    let first = stage.ask(1, pay.clone());
    stage.until("the payment is on two disks", SOON, |stage| {
        [1, 3].into_iter().all(|node| stage.durable(node, ORDERS).iter().any(is_pay))
    })?;
    scene(!stage.written(2, ORDERS).iter().any(is_pay), "and not on the third")?;
    stage.cut(1, CLIENTS, true);
    stage.cut_power(1);
    stage.another_leads(ORDERS, 1)?;
    let due = deadline(&order)?;
    stage.until("the deadline is over", SOON, |stage| stage.now() > due.after(Duration::from_secs(1)))?;
    let kept = read(stage, &order)?;
    expect(kept.phase == Phase::Confirmed, || format!("it was paid in time, and is {kept:?}"))?;
    let (_, replayed) = stage.order_after_all(&pay)?;
    expect(replayed, || "the first payment was made before".to_owned())?;
    let ending = stage.end_of(first)?;
    expect(matches!(ending, Ending::Unknown(_)), || format!("the payment is undecided, and this was told: {ending:?}"))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 2, 8)
}

fn blackout(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 10)])?;
    let mut orders = Vec::new();
    for buyer in 0..3 {
        let user = stage.user(ORDERS, buyer);
        orders.push(unpaid(stage, &user, &sku, 4)?);
    }
    let pay = money(stage, &orders[0]);
    let call: Call = stage.ask(1, pay);
    stage.order_of(call)?;
    let checkpointed = |stage: &Stage<'_>| {
        let statuses = stage.world.grid.statuses();
        let at = |groups: &Vec<ordergrid_cluster::GroupStatus>| {
            groups.iter().find(|status| status.group == ORDERS).is_some_and(|status| status.checkpoint >= status.applied)
        };
        statuses.values().all(at)
    };
    stage.nodes().into_iter().for_each(|node| stage.checkpoint(node));
    stage.until("every node has a checkpoint", SOON, checkpointed)?;
    stage.nodes().into_iter().for_each(|node| stage.cut_power(node));
    for node in stage.nodes() {
        stage.start(node)?;
    }
    stage.ready()?;
    stage.pass(Duration::from_secs(5))?;
    for order in &orders[1..] {
        let expired = read(stage, order)?;
        expect_expired(&expired)?;
    }
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 2, 8)
}

fn refused_tick(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(ORDERS, 0));
    stage.stock(&[(&sku, 10)])?;
    let term = stage.term(ORDERS);
    let order = unpaid(stage, &user, &sku, 1)?;
    // Node 3 answers, and is not caught up: every hand-over waits for it in vain.
    stage.stall_logs(&[3], Duration::from_secs(6));
    let receipt = stage.receipt(&sku, 1);
    let call = stage.ask(1, receipt);
    stage.end_of(call)?;
    let over = deadline(&order)?.after(Duration::from_secs(3));
    while stage.now() < over {
        stage.transfer(ORDERS, 3);
        stage.pass(ms(1))?;
    }
    scene(!stage.written(1, ORDERS).iter().any(is_tick), "no tick was let in")?;
    stage.pass(Duration::from_secs(3))?;
    scene(stage.term(ORDERS) == term, "the leader stays")?;
    let expired = read(stage, &order)?;
    expect_expired(&expired)?;
    stage.conclude()?;
    stage.expect_stock(&sku, 11, 0, 11)
}

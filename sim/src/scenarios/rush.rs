//! Many buyers, few units.

use std::collections::BTreeSet;
use std::time::Duration;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, SHELF, Scenario};
use crate::clients::settled;
use crate::history::{Ask, Ending, Said};

/// Buyers that ask at a time, and how many of them follow each other.
const QUEUES: u32 = 200;
const EACH: u64 = 50;
/// Units that they want one each of.
const UNITS: u64 = 100;

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "ten-thousand-buyers-for-a-hundred-units",
        rule: "corner",
        story: "10,000 buyers want one each of 100 units; in the middle of it the SKU's leader is cut off, and comes back",
        mutant: None,
        setup: || Setup::of(3, 2).set("orders.hold_valid", "2s").set("limits.request", "2s"),
        script: rush,
    },
    Scenario {
        name: "a-request-that-comes-twice-is-handled-once",
        rule: "corner",
        story: "a forwarded order comes twice; the first is told that all is sold, goods arrive, and the second must not buy them",
        mutant: None,
        setup: || Setup::of(3, 2).patient(),
        script: comes_twice,
    },
];

fn comes_twice(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 1)])?;
    let first = stage.order(&user, &[(&sku, 1)]);
    let call = stage.place(1, &stage.key(), &first);
    stage.order_of(call)?;
    stage.pass(ms(500))?;
    // Node 1 asks node 2 for units; there and back takes long enough for goods to arrive in between.
    stage.delay(1, 2, ms(100));
    stage.delay(2, 1, ms(100));
    stage.world.grid.net.set_frames((0, 1_000, 0));
    let order = stage.order(&user, &[(&sku, 1)]);
    let call = stage.place(3, &stage.key(), &order);
    let before = stage.counted("sold_out_from_memory");
    stage.until("the SKU is sold out", SOON, |stage| stage.counted("sold_out_from_memory") > before)?;
    let receipt = stage.receipt(&sku, 5);
    let goods = stage.ask(2, receipt);
    let refused = stage.refusal_of(call)?;
    expect(refused.1 == "out_of_stock", || format!("it was told {refused:?}"))?;
    stage.pass(Duration::from_secs(2))?;
    scene(matches!(stage.end_of(goods)?, Ending::Done { .. }), "the goods have arrived")?;
    stage.conclude()?;
    stage.expect_stock(&sku, 6, 1, 5)
}

fn rush(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    stage.stock(&[(&sku, UNITS)])?;
    for queue in 0..QUEUES {
        let buyers = u64::from(queue) * EACH..(u64::from(queue) + 1) * EACH;
        let asks = buyers.map(|buyer| {
            let order = stage.order(&stage.buyer(buyer), &[(&sku, 1)]);
            Ask::Place(stage.key(), Box::new(order))
        });
        let asks = asks.collect();
        stage.world.clients.insist(&mut stage.world.grid, 10_000 + queue, asks);
    }
    stage.until("the rush is on", SOON, |stage| placed(stage) > 10)?;
    stage.isolate(2, true);
    scene(placed(stage) < 100, "units are left")?;
    stage.pass(Duration::from_secs(3))?;
    stage.isolate(2, false);
    stage.until("everybody has an answer", 8 * SOON, |stage| stage.world.clients.idle())?;
    stage.pass(ms(100))?;
    let known = stage.world.clients.record.known().history.clone();
    let answered = known.operations.iter().filter(|asked| matches!(asked.ask, Ask::Place(..)) && settled(&asked.ending));
    let answered = answered.count() as u64;
    expect(answered == u64::from(QUEUES) * EACH, || format!("{answered} buyers were answered"))?;
    let sold = placed(stage) as u64;
    expect(sold == UNITS, || format!("{sold} orders of one unit were told as placed, of {UNITS} units"))?;
    stage.conclude()?;
    stage.expect_stock(&sku, UNITS, UNITS, 0)
}

/// Orders that buyers were told of.
fn placed(stage: &Stage<'_>) -> usize {
    let known = stage.world.clients.record.known();
    let told = known.history.operations.iter().filter_map(|operation| match &operation.ending {
        Ending::Done { answer, .. } => match &**answer {
            Said::Order(order) => Some(order.id),
            _ => None,
        },
        _ => None,
    });
    told.collect::<BTreeSet<_>>().len()
}

//! Many buyers, few units.

use std::collections::BTreeSet;
use std::time::Duration;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{SHELF, Scenario};
use crate::clients::settled;
use crate::history::{Ask, Ending, Said};

/// Buyers that ask at a time, and how many of them follow each other.
const QUEUES: u32 = 200;
const EACH: u64 = 50;
/// Units that they want one each of.
const UNITS: u64 = 100;

pub(super) const SCENARIOS: [Scenario; 1] = [Scenario {
    name: "ten-thousand-buyers-for-a-hundred-units",
    rule: "corner",
    story: "10,000 buyers want one each of 100 units; in the middle of it the SKU's leader is cut off, and comes back",
    mutant: None,
    setup: || Setup::of(3, 2).set("orders.hold_valid", "2s").set("limits.request", "2s"),
    script: rush,
}];

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

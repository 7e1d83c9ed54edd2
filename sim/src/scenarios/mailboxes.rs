//! Rule 17: messages between shards are applied once and in order, whatever becomes of the messengers.

use std::time::Duration;

use ordergrid_api::wire::{CancelOrder, LineUnits, PickOrder, ShipFulfilment};
use ordergrid_domain::order::CancelReason;
use ordergrid_domain::{Command, SkuId};

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, ms, scene};
use super::{ORDERS, SHELF, Scenario, look};
use crate::history::Ask;

pub(super) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "a-run-that-comes-twice-is-applied-once",
        rule: "rule 17",
        story: "every message between nodes arrives twice while an order is placed, cut down, picked and shipped",
        mutant: Some("mailbox-applied-twice"),
        setup: || Setup::of(3, 2),
        script: twice,
    },
    Scenario {
        name: "a-run-is-delivered-again-after-a-failover",
        rule: "rule 17",
        story: "the keep is applied, and its source's leader loses power before it hears of it",
        mutant: Some("mailbox-applied-twice"),
        setup: || Setup::of(3, 2),
        script: source_dies,
    },
    Scenario {
        name: "a-run-that-was-lost-is-delivered-again",
        rule: "rule 17",
        story: "the destination's leader loses power with the keep on its way",
        mutant: Some("delivery-assumed"),
        setup: || Setup::of(3, 2),
        script: destination_dies,
    },
];

fn runs(stage: &Stage<'_>, sku: &SkuId) -> usize {
    stage.committed(SHELF).iter().filter(|(_, command)| look::keeps(command, sku)).count()
}

fn twice(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 20)])?;
    stage.world.grid.net.set_frames((0, 1_000, 0));
    let order = stage.order(&user, &[(&sku, 9)]);
    let call = stage.place(1, &stage.key(), &order);
    let (order, _) = stage.order_of(call)?;
    stage.pass(ms(300))?;
    let lines = Some(vec![LineUnits { line: 1, quantity: 2 }]);
    let cancel = CancelOrder { reason: CancelReason::Merchant, operator: None, note: None, lines };
    let call = stage.ask(1, Ask::Cancel(stage.key(), order.id, cancel));
    stage.order_of(call)?;
    stage.pass(ms(300))?;
    let lines = Some(vec![LineUnits { line: 1, quantity: 3 }]);
    let call = stage.ask(1, Ask::Pick(stage.key(), order.id, PickOrder { lines, warehouse: None }));
    let (order, _) = stage.order_of(call)?;
    let call = stage.ask(1, Ask::Ship(stage.key(), order.fulfilments[0].id, ShipFulfilment::default()));
    stage.order_of(call)?;
    stage.pass(Duration::from_secs(1))?;
    let firsts = stage.committed(SHELF).into_iter().filter_map(|(_, command)| match command {
        Command::Deliver(run) => Some(run.first),
        _ => None,
    });
    let firsts: Vec<_> = firsts.collect();
    scene(firsts.windows(2).any(|pair| pair[0] == pair[1]), &format!("a run comes twice: {firsts:?}"))?;
    stage.conclude()?;
    // Nine taken, two given back, three shipped.
    stage.expect_stock(&sku, 17, 4, 13)
}

fn source_dies(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    stage.until("the order is placed", SOON, |stage| stage.ending(call).is_some() || runs(stage, &sku) > 0)?;
    stage.delay(2, 1, ms(200));
    stage.until("the keep is applied", SOON, |stage| runs(stage, &sku) == 1)?;
    let trimmed = |stage: &Stage<'_>| {
        stage
            .nodes()
            .into_iter()
            .any(|node| stage.written(node, ORDERS).iter().any(|(_, it)| matches!(it, Command::Trim { .. })))
    };
    scene(!trimmed(stage), "its source does not know")?;
    stage.cut_power(1);
    stage.another_leads(ORDERS, 1)?;
    stage.healed("it is delivered again", |stage| runs(stage, &sku) == 2)?;
    stage.conclude()?;
    stage.met("mailbox redelivered")?;
    stage.expect_stock(&sku, 10, 3, 7)
}

fn destination_dies(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    stage.delay(1, 2, ms(30));
    let (key, order) = (stage.key(), stage.order(&user, &[(&sku, 3)]));
    let call = stage.place(1, &key, &order);
    stage.until("the order is placed", SOON, |stage| {
        stage.committed(ORDERS).iter().any(|(_, command)| look::place_of(command, &key).is_some())
    })?;
    stage.pass(ms(10))?;
    stage.cut_power(2);
    scene(
        [1, 2, 3].iter().all(|node| !stage.written(*node, SHELF).iter().any(|(_, it)| look::keeps(it, &sku))),
        "the keep is lost",
    )?;
    stage.order_of(call)?;
    stage.another_leads(SHELF, 2)?;
    stage.healed("the keep is applied", |stage| runs(stage, &sku) > 0)?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 3, 7)
}

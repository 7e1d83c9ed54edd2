//! Rule 17: messages between shards are applied once and in order, whatever becomes of the messengers.

use std::time::Duration;

use ordergrid_api::wire::{CancelOrder, LineUnits, PickOrder, ShipFulfilment};
use ordergrid_domain::order::CancelReason;
use ordergrid_domain::{Command, Message, SkuId};

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, SHELF, Scenario, look};
use crate::disk::Database;
use crate::history::Ask;

pub(super) const SCENARIOS: [Scenario; 4] = [
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
    Scenario {
        name: "orders-of-one-entry-are-kept-together",
        rule: "rule 17",
        story: "several orders are placed in one entry and told in one list, and nobody asks about any of their holds",
        mutant: Some("kept-list-forgets-its-last"),
        setup: || Setup::of(3, 2),
        script: together,
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

fn together(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(SHELF, 0);
    stage.stock(&[(&sku, 20)])?;
    // While the first place is written, the others come and share the next entry.
    stage.slow_sync(1, Database::Log, ms(80));
    let place = |nth| {
        let user = stage.user(ORDERS, nth);
        (stage.key(), stage.order(&user, &[(&sku, 2)]))
    };
    let orders: Vec<_> = (0..6).map(place).collect();
    let calls: Vec<_> = orders.iter().map(|(key, order)| stage.place(1, key, order)).collect();
    for call in calls {
        stage.order_of(call)?;
    }
    stage.slow_sync(1, Database::Log, ms(1));
    stage.healed("all of them are kept", |stage| kept(stage).iter().sum::<usize>() == 6)?;
    scene(kept(stage).iter().any(|orders| *orders > 1), &format!("a list keeps several orders: {:?}", kept(stage)))?;
    // Longer than a hold may be tentative before its SKU asks.
    stage.pass(Duration::from_secs(15))?;
    let gone = stage.committed(SHELF).iter().filter(|(_, command)| look::gone_of(command, &sku).is_some()).count();
    expect(gone == 0, || format!("{gone} holds of placed orders were freed"))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 20, 12, 8)
}

/// How many orders each list keeps.
fn kept(stage: &Stage<'_>) -> Vec<usize> {
    let lists = |command: Command| match command {
        Command::Deliver(run) => run.messages,
        _ => Vec::new(),
    };
    let kept = |message| match message {
        Message::Decided(decided) => Some(decided.kept.len()),
        _ => None,
    };
    stage.committed(SHELF).into_iter().flat_map(|(_, command)| lists(command)).filter_map(kept).collect()
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

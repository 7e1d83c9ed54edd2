//! Rule 20: streams that were stopped because a shard may have lost entries, and are started anew.

use std::time::Duration;

use futures::FutureExt;
use ordergrid_api::wire::cluster::Health;
use ordergrid_api::wire::{CancelOrder, LineUnits, Reconciliation, StreamState};
use ordergrid_domain::order::CancelReason;
use ordergrid_node::recovery::offline::loss_record;
use ordergrid_storage::NodeRecords;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, scene};
use super::{ORDERS, SHELF, Scenario, look};
use crate::history::{Ask, Ending, Said};

pub(super) const SCENARIOS: [Scenario; 1] = [Scenario {
    name: "stopped-streams-are-started-anew",
    rule: "rule 20",
    story: "a shard is said to have lost entries: its streams stop, holds of new orders stay as they are, and all is claimed anew",
    mutant: Some("claims-without-tentative-holds"),
    setup: || Setup::of(3, 2).set("orders.hold_valid", "2s"),
    script: anew,
}];

/// An operator has accepted a loss of this shard while the node was off; it was none.
fn accept_loss(stage: &mut Stage<'_>, node: u64) -> Played {
    stage.kill(node);
    let log = stage.world.grid.nodes[&node].disk.open().log;
    let written = NodeRecords::new(log).put_soon(&loss_record(ORDERS), &[]).now_or_never();
    scene(matches!(written, Some(Ok(()))), "the loss is written down")?;
    stage.start(node)
}

fn reconcile(stage: &mut Stage<'_>, dry_run: bool) -> Played<Reconciliation> {
    let asked = stage.ask(3, Ask::Reconcile { dry_run });
    if let Ending::Done { answer, .. } = stage.end_of(asked)?
        && let Said::Reconciled(found) = *answer
    {
        return Ok(found);
    }
    Err(scene(false, "the streams are told").expect_err("a scene that is not reached"))
}

/// The health of the grid, and how many of its streams are stopped.
fn status(stage: &mut Stage<'_>) -> Played<(Health, usize)> {
    let asked = stage.ask(3, Ask::Status);
    if let Ending::Done { answer, .. } = stage.end_of(asked)?
        && let Said::Status(status) = *answer
    {
        return Ok((status.health, status.stopped_streams.len()));
    }
    Err(scene(false, "the status is told").expect_err("a scene that is not reached"))
}

fn anew(stage: &mut Stage<'_>) -> Played {
    let (user, sku) = (stage.user(ORDERS, 0), stage.sku(SHELF, 0));
    stage.stock(&[(&sku, 10)])?;
    let order = stage.order(&user, &[(&sku, 3)]);
    let call = stage.place(1, &stage.key(), &order);
    let (kept, _) = stage.order_of(call)?;
    stage.until("its hold is kept", SOON, |stage| stage.committed(SHELF).iter().any(|(_, it)| look::keeps(it, &sku)))?;
    accept_loss(stage, 1)?;
    stage.ready()?;
    stage.until("its streams are stopped", SOON, |stage| stage.counted("ordergrid_streams_stopped_total") > 0)?;
    // What the first order gives back is not told, and the hold of the second one is not kept.
    let lines = Some(vec![LineUnits { line: 1, quantity: 1 }]);
    let cancel = CancelOrder { reason: CancelReason::Merchant, operator: None, note: None, lines };
    stage.order_after_all(&Ask::Cancel(stage.key(), kept.id, cancel))?;
    let order = stage.order(&user, &[(&sku, 4)]);
    stage.order_after_all(&Ask::Place(stage.key(), Box::new(order)))?;
    // For longer than it takes until its shard asks about a hold.
    stage.pass(Duration::from_secs(6))?;
    let gone = |stage: &Stage<'_>| stage.committed(SHELF).iter().any(|(_, it)| look::gone_of(it, &sku).is_some());
    expect(!gone(stage), || "the hold of an order was freed while its keep was not told".to_owned())?;
    let told = status(stage)?;
    expect(told == (Health::Degraded, 1), || format!("one stream is stopped, and this is told: {told:?}"))?;
    let looked_at = reconcile(stage, true)?;
    let can_be = looked_at.streams.iter().all(|stream| stream.state == StreamState::Stopped && stream.missing.is_none());
    expect(can_be, || format!("nothing is lost, and this is told: {looked_at:?}"))?;
    let told = status(stage)?;
    expect(told == (Health::Degraded, 1), || format!("a look changes nothing, and this is told: {told:?}"))?;
    let done = reconcile(stage, false)?;
    let all = done.streams.len() == 2 && done.streams.iter().all(|stream| stream.state == StreamState::Reconciled);
    expect(all, || format!("both streams are started anew, and this is told: {done:?}"))?;
    stage.pass(Duration::from_secs(6))?;
    let told = status(stage)?;
    expect(told == (Health::Healthy, 0), || format!("the streams go on, and this is told: {told:?}"))?;
    stage.conclude()?;
    stage.expect_stock(&sku, 10, 6, 4)
}

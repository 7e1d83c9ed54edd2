//! Stops that were planned: a node that is to stop serves on for a while, hands over, and nothing that was asked of a node
//! that called itself ready fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ordergrid_domain::{GroupId, SkuId};

use super::Scenario;
use super::setup::Setup;
use super::stage::{Call, Played, SOON, Stage, expect, ms, scene};
use crate::history::Ending;

pub(super) const SCENARIOS: [Scenario; 1] = [Scenario {
    name: "a-planned-stop-fails-nothing",
    rule: "rule 7, rule 9",
    story: "every node in turn drains, stops and starts again, while orders that need holds of every shard come all the time",
    mutant: Some("holds-not-asked-again"),
    setup: || Setup::of(3, 3).set("http.drain", "300ms"),
    script: rolling,
}];

/// Units of each SKU: more than are bought.
const UNITS: u64 = 100_000;

/// Orders asked of nodes that were ready then.
#[derive(Default)]
struct Orders {
    calls: Vec<(u64, Call)>,
    turn: usize,
}

impl Orders {
    /// One order more, of a SKU of every shard, through the next node that may be asked.
    fn ask(&mut self, stage: &mut Stage<'_>, skus: &[SkuId], nodes: &[u64]) {
        let (node, home) = (nodes[self.turn % nodes.len()], GroupId(1 + u32::try_from(self.turn / 2 % 3).expect("few")));
        let user = stage.user(home, self.turn % 3);
        let lines: Vec<_> = skus.iter().map(|sku| (sku, 1)).collect();
        let order = stage.order(&user, &lines);
        let call = stage.place(node, &stage.key(), &order);
        self.calls.push((node, call));
        self.turn += 1;
    }
}

fn rolling(stage: &mut Stage<'_>) -> Played {
    let skus: Vec<_> = (1..=3).map(|shard| stage.sku(GroupId(shard), 0)).collect();
    stage.stock(&skus.iter().map(|sku| (sku, UNITS)).collect::<Vec<_>>())?;
    let mut orders = Orders::default();
    for node in stage.nodes() {
        stop(stage, node, &skus, &mut orders)?;
    }
    let asked = orders.calls.len();
    for (node, call) in orders.calls {
        let ending = stage.end_of(call)?;
        expect(matches!(ending, Ending::Done { .. }), || format!("asked of node {node}, which was ready: {ending:?}"))?;
    }
    stage.conclude()?;
    let units = u64::try_from(asked).expect("some thousands");
    skus.iter().try_for_each(|sku| stage.expect_stock(sku, UNITS, units, UNITS - units))
}

/// A node stops and starts again. Asked are the others, and itself until a balancer has noticed.
fn stop(stage: &mut Stage<'_>, node: u64, skus: &[SkuId], orders: &mut Orders) -> Played {
    let all = stage.nodes();
    let others: Vec<u64> = all.iter().copied().filter(|other| *other != node).collect();
    let led = |stage: &Stage<'_>| (1..=3).any(|shard| stage.leader(GroupId(shard)) == Some(node));
    stage.hand_over(GroupId(u32::try_from(node).expect("few")), node)?;
    scene(led(stage), "the node leads a shard")?;
    let stopped = stage.shut_down(node)?;
    for _ in 0..5 {
        orders.ask(stage, skus, &all);
        stage.pass(ms(20))?;
    }
    let latest = stage.now().after(SOON);
    while !stopped.load(Ordering::Acquire) {
        scene(stage.now() < latest, "the node has stopped")?;
        orders.ask(stage, skus, &others);
        stage.pass(ms(10))?;
    }
    stage.kill(node);
    stage.start(node)?;
    while !stage.world.all_ready() {
        orders.ask(stage, skus, &others);
        stage.pass(ms(50))?;
    }
    Ok(())
}

impl Stage<'_> {
    /// A node is asked to stop; tells when it has.
    fn shut_down(&mut self, node: u64) -> Played<Arc<AtomicBool>> {
        let running = self.world.grid.nodes[&node].running();
        scene(running.is_some(), "the node runs")?;
        let stopped = Arc::new(AtomicBool::new(false));
        if let Some(running) = running {
            let stopped = Arc::clone(&stopped);
            self.world.grid.driver.spawn(node, async move {
                running.shutdown().await;
                stopped.store(true, Ordering::Release);
            });
        }
        Ok(stopped)
    }
}

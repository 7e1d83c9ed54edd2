//! Older copies of disks that are put back.

use std::time::Duration;

use super::setup::Setup;
use super::stage::{Played, SOON, Stage, expect, ms, scene};
use super::{ORDERS, Scenario};

pub(super) const SCENARIOS: [Scenario; 1] = [Scenario {
    name: "an-older-copy-of-a-disk-has-no-say",
    rule: "rule 28a",
    story: "a follower that alone has acknowledged the leader's last orders comes back on an older copy of its disk, and the leader dies",
    mutant: Some("older-copy-believed"),
    // Whoever starts again is held back for two seconds.
    setup: || Setup::of(3, 1).set("raft.election_min", "1500ms").set("raft.election_max", "2s").set("limits.request", "1s"),
    script: no_say,
}];

/// Orders are acknowledged by nodes 1 and 3 alone, which node 3 forgets.
fn no_say(stage: &mut Stage<'_>) -> Played {
    let sku = stage.sku(ORDERS, 0);
    stage.stock(&[(&sku, 1_000)])?;
    scene(stage.world.grid.nodes[&3].disk.keep_copy(), "a copy is taken")?;
    stage.isolate(2, true);
    let mut orders = Vec::new();
    for nth in 0..10 {
        let order = stage.order(&stage.user(ORDERS, nth % 3), &[(&sku, 1)]);
        let call = stage.place(1, &stage.key(), &order);
        orders.push(stage.order_of(call)?.0);
    }
    // Node 3 has told how far its log is.
    stage.pass(ms(2_000))?;
    scene(stage.leader(ORDERS) == Some(1), "node 1 has led all the time")?;
    stage.kill(3);
    stage.isolate(2, false);
    stage.world.grid.nodes[&3].disk.put_back();
    stage.world.striking.excuse(3);
    stage.start(3)?;
    // It has been told by then, and would not have been refilled yet if it took part.
    stage.pass(ms(1_000))?;
    stage.kill(1);
    let end = stage.now().after(Duration::from_secs(20));
    while stage.now() < end {
        stage.pass(ms(100))?;
        let leader = stage.leader(ORDERS);
        expect(leader.is_none_or(|leader| leader == 1), || format!("node {leader:?} leads without the orders of node 1"))?;
    }
    stage.start(1)?;
    stage.healed("a leader has all orders", |stage| stage.leader(ORDERS).is_some())?;
    stage.until("every node has them", SOON, |stage| {
        let statuses = stage.world.grid.statuses();
        let of_shard = statuses.values().flatten().filter(|status| status.group == ORDERS);
        of_shard.filter(|status| status.vouched.is_none() && status.applied > 10).count() == 3
    })?;
    stage.conclude()?;
    let bought = u64::try_from(orders.len()).expect("ten");
    stage.expect_stock(&sku, 1_000, bought, 1_000 - bought)
}

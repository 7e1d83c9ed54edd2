//! One short round of the black-box run, on whatever machine this is: nodes are killed and stand still under a load, and
//! nothing is lost, doubled or stale. `make torture` plays many, with every kind of trouble.

use anyhow::Result;
use ordergrid_tests::torture::{Kind, Plan, Site, play};

/// A plan with these kinds and no others, each soon over.
fn short(seed: u64, kinds: &[Kind]) -> Plan {
    let mut plan = Plan { nodes: 3, clients: 6, ..Plan::draw(seed, kinds, &Site::plain()) };
    for strike in &mut plan.strikes {
        strike.wait_ms = strike.wait_ms.min(400);
        strike.hold_ms = strike.hold_ms.min(800);
    }
    plan
}

#[test]
fn nothing_is_lost_doubled_or_stale_when_nodes_die_and_stand_still() -> Result<()> {
    let plan = short(20_101_201, &[Kind::Kill, Kind::KillAll, Kind::Pause]);
    let folder = tempfile::tempdir()?;
    let round = play(&plan, folder.path(), &Site::plain(), None)?;
    assert_eq!(round.violations, [], "{plan:?}\n{}", round.json());
    assert_eq!(round.strikes.len(), plan.strikes.len(), "{plan:?}");
    assert!(round.orders > 0 && round.ends[0] > round.orders, "{}", round.json());
    Ok(())
}

//! The simulation itself: clean on what is right, and able to fail on what is not.

use crate::domain::oracle::Mistake;
use crate::domain::workload::{Mutant, Plan};
use crate::domain::world::World;
use crate::domain::{Violation, run_plan, run_seed};

/// Seeds that an honest run must pass, few enough for a debug build.
const SEEDS: std::ops::Range<u64> = 1..9;
/// Within so many seeds a mutant must be found.
const TRIES: u64 = 60;

fn found(change: impl Fn(&mut Plan)) -> Option<(u64, String)> {
    (1..=TRIES).find_map(|seed| {
        let mut plan = Plan::drawn(seed);
        change(&mut plan);
        run_plan(plan).err().map(|Violation(text)| (seed, text))
    })
}

#[test]
fn honest_seeds_pass_and_repeat() {
    for seed in SEEDS {
        let counts = run_seed(seed);
        assert!(counts.is_ok(), "seed {seed}: {counts:?}");
        if seed == SEEDS.start {
            assert_eq!(counts, run_seed(seed), "the same seed is the same history");
        }
    }
}

#[test]
fn an_oracle_that_is_wrong_is_found_out() {
    for mistake in [Mistake::CancelKeepsUnits, Mistake::KeyPlacesTwice, Mistake::LateMoneyKept] {
        assert!(found(|plan| plan.mistake = mistake).is_some(), "{mistake:?} went unnoticed");
    }
}

#[test]
fn a_protocol_that_breaks_a_rule_is_found_out() {
    let mutants = [
        Mutant::GoneWhileRunning,
        Mutant::GoneWhilePlaced,
        Mutant::ReleaseWhenUnknown,
        Mutant::TrimsUnapplied,
        Mutant::NeverAsks,
    ];
    for mutant in mutants {
        assert!(found(|plan| plan.mutant = mutant).is_some(), "{mutant:?} went unnoticed");
    }
}

/// A healed world with something in it.
fn healed() -> World {
    let plan = Plan { shards: 3, skus: 6, stock: 1_000, steps: 600, ..Plan::drawn(9) };
    run_plan(plan).map_err(|Violation(text)| text).expect("seed 9 passes")
}

#[test]
fn rows_that_are_lost_are_found_missing() {
    use ordergrid_domain::rows::{HOLD, LIST, META, ORDER, PLACED, SKU};
    for tag in [META, ORDER, SKU, HOLD, PLACED, LIST] {
        let mut world = healed();
        assert!(world.audit().is_clean());
        let lost = (0..3).any(|shard| {
            let disk = world.disk(shard);
            let key = disk.keys().rfind(|key| key[0] == tag).cloned();
            key.is_some_and(|key| disk.remove(&key).is_some())
        });
        assert!(lost, "there is a row of table {tag}");
        // The row of table 0 is written again by every checkpoint, so it cannot be lost for long.
        assert_eq!(world.audit().is_clean(), tag == META, "a lost row of table {tag}");
    }
}

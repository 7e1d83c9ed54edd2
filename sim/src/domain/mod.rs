//! The domain alone, against an independent model.
//!
//! What runs here: several [`ShardMachine`](ordergrid_domain::ShardMachine)s, the leaders of the product
//! ([`placing`](ordergrid_domain::placing)), a network that loses, repeats and reorders, clocks that differ, terms that
//! change, stores that evict, checkpoint and crash. What judges is an independent model (`oracle`) of every answer and every
//! bucket, the laws proven from the stored rows, and a second replica that never forgets. When the faults stop, everything
//! must heal.
//!
//! Read `world` for what can happen, `leader` and `letters` for who carries out what leaders say, `trouble` for what happens
//! to leaders, `workload` for what is drawn, `oracle` for the judge.

pub mod leader;
pub mod letters;
pub mod oracle;
pub mod report;
pub mod trouble;
pub mod workload;
pub mod world;

#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;

pub use report::Counts;
use workload::Plan;
use world::World;

/// A law was broken, or an answer was not the one the oracle expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Runs the history of one seed to its end and judges it.
///
/// # Errors
/// What was violated. The same seed gives the same again.
pub fn run_seed(seed: u64) -> Result<Counts, Violation> {
    run_plan(Plan::drawn(seed)).map(|world| world.counts)
}

/// Runs a plan and gives back the healed world.
///
/// # Errors
/// What was violated.
pub fn run_plan(plan: Plan) -> Result<World, Violation> {
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan);
        world.live()?;
        world.heal()?;
        world.judge()?;
        Ok(world)
    }));
    run.unwrap_or_else(|panic| Err(Violation(format!("panic: {}", message(panic.as_ref())))))
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "of an unknown kind".into())
}

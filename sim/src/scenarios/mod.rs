//! Fixed scripts: one for each rule of placing that a run can break, and one for each nasty corner.
//!
//! A script sets the stage, waits until a log or a status shows the moment it is about, does the worst, and says what must
//! come of it; then the faults end, the grid heals, and all judges look, as at the end of every history. `ordergrid-sim
//! scenarios --list` prints them with the mutant that each must catch.
//!
//! | File | Theme |
//! |---|---|
//! | `placing` | the order shard's leader: rules 1 to 8 |
//! | `holds` | the SKU's shard: rules 9 to 13 |
//! | `asks` | orphaned holds: rules 14 and 16 |
//! | `mailboxes` | messages between shards: rule 17 |
//! | `anew` | streams that are started anew: rule 20 |
//! | `timers` | time, deadlines and money: rules 21 to 23 |
//! | `clocks` | clocks that leap: rule 21 |
//! | `storage` | checkpoints, snapshots, cold rows: rules 26 to 28 |
//! | `copies` | older copies of disks |
//! | `leases` | reads and leadership |
//! | `rush` | many buyers, few units |
//! | `stops` | stops that were planned |

mod anew;
mod asks;
mod clocks;
mod copies;
mod holds;
mod leases;
mod look;
mod mailboxes;
mod placing;
mod rush;
mod setup;
mod stage;
mod stops;
mod storage;
mod timers;

use ordergrid_domain::GroupId;

use crate::plan::Plan;
use crate::run::{Outcome, Stop, lived};
use setup::Setup;
use stage::{Played, Stage};

/// The shard of a scenario's buyers, led by node 1 at first.
const ORDERS: GroupId = GroupId(1);
/// The shard of its SKUs, led by node 2.
const SHELF: GroupId = GroupId(2);
/// The shard of its other SKUs, led by node 3.
const ATTIC: GroupId = GroupId(3);

/// A fixed script.
pub struct Scenario {
    /// Its name, which is what it shows.
    pub name: &'static str,
    /// The rule of placing, or the corner.
    pub rule: &'static str,
    /// What happens in it.
    pub story: &'static str,
    /// The planted bug that it must catch, if there is one for it.
    pub mutant: Option<&'static str>,
    setup: fn() -> Setup,
    script: fn(&mut Stage<'_>) -> Played,
}

/// All of them, by theme.
pub const ALL: [&[Scenario]; 12] = [
    &placing::SCENARIOS,
    &holds::SCENARIOS,
    &asks::SCENARIOS,
    &mailboxes::SCENARIOS,
    &anew::SCENARIOS,
    &timers::SCENARIOS,
    &clocks::SCENARIOS,
    &storage::SCENARIOS,
    &copies::SCENARIOS,
    &leases::SCENARIOS,
    &rush::SCENARIOS,
    &stops::SCENARIOS,
];

/// Rules that no script can break from outside: why, and what watches them instead.
pub const UNSCRIPTED: [(&str, &str); 9] = [
    ("rule 3", "an actor cannot be made to fail from outside; a lost term is scripted, the actor's end is a test of the node"),
    (
        "rule 5",
        "releasing the second attempt's holds: a busy key and rule 1 keep a second attempt from being proposed; domain tests",
    ),
    (
        "rule 10",
        "a newer connection ends the one before it, so that no release overtakes its hold; domain tests, TombstonesHold in every chain",
    ),
    (
        "rule 15",
        "gone is said of what was placed only once its keep was applied: the rare state `gone met a kept hold`; domain tests",
    ),
    ("rule 18", "no verb takes units away from a tentative hold; domain tests, AllOrNothing looks for it in every chain"),
    ("rule 19", "a count that takes holds is refused, not built; domain tests"),
    ("rule 23", "revival is not built: late money is paid back, which is scripted"),
    ("rule 24", "purchase limits are not built"),
    ("rule 25", "backorders are not built"),
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().copied().flatten().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Plays it in this process, which plays no other. The seed decides what the script leaves to chance.
    #[must_use]
    pub fn play(&self, seed: u64) -> (Plan, Outcome) {
        let plan = (self.setup)().plan(seed);
        let outcome = lived(&plan, None, |world| {
            let mut stage = Stage::new(world, &plan)?;
            (self.script)(&mut stage)?;
            if stage.is_concluded() { Ok(()) } else { Err(Stop::Harness("the script does not conclude".to_owned())) }
        });
        (plan, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_rule_is_scripted_or_said_to_be_out_of_reach() {
        let scripted = ALL.iter().copied().flatten().flat_map(|scenario| scenario.rule.split(", "));
        let known: BTreeSet<&str> = scripted.chain(UNSCRIPTED.iter().map(|(rule, _)| *rule)).collect();
        let missing: Vec<_> =
            (1..=28).map(|rule| format!("rule {rule}")).filter(|rule| !known.contains(rule.as_str())).collect();
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn names_are_given_once_and_mutants_exist() {
        let mut names = BTreeSet::new();
        for scenario in ALL.iter().copied().flatten() {
            assert!(names.insert(scenario.name), "{} is there twice", scenario.name);
            if let Some(mutant) = scenario.mutant {
                let patch = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("mutants/{mutant}.patch"));
                assert!(patch.exists(), "{}: there is no mutant {mutant}", scenario.name);
            }
        }
    }
}

//! One history, from empty disks to its verdict.
//!
//! Boot and stock; then clients ask while things go wrong; then the faults end, and the grid must heal, serve and agree within
//! a time; then everything is read once more, and the judges look at all of it.

mod panics;
mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_cluster::ShardMap;
use ordergrid_domain::{Law, Timestamp};

use crate::chronicle::{Chronicle, Reference, Watched};
use crate::clients::Clients;
use crate::coverage;
use crate::dice::Dice;
use crate::disk::DiskWatch;
use crate::driver::clock::EPOCH_MS;
use crate::faults::{Striking, Trouble};
use crate::grid::{SimGrid, shard_map};
use crate::history::SimTime;
use crate::judges::evidence::book::Setting;
use crate::judges::evidence::rare::rare_from_history;
use crate::judges::{Evidence, Judge, Moment, laws, logs};
use crate::plan::Plan;
use crate::trace;
use crate::verdict::Violation;
pub use panics::watch as watch_panics;

/// The furthest a plan lets a node's clock be from the perfect one.
pub const SKEW: Duration = Duration::from_millis(1_000);
/// How wrong a node may have measured the clock of another.
const MEASURING: Duration = Duration::from_secs(1);
/// What a node may have in memory beside its budget: timers and messages always stay, and rows that changed since the last
/// checkpoint cannot go.
const NEVER_EVICTED: u64 = 2 << 20;
/// How late a timer may fire in a healed grid, on top of that.
const TIMER_SLACK: Duration = Duration::from_secs(5);
/// Within so long after the faults have ended the grid must be whole.
pub const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// Judges look at the nodes this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a history did not come to its end in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A property did not hold.
    Violation(Violation),
    /// The harness is wrong, not the product.
    Harness(String),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// What a history came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `None`: everything held.
    pub stop: Option<Stop>,
    /// Its simulated length.
    pub length: SimTime,
    /// The hash of everything that happened, and how much that was.
    pub digest: (u64, u64),
    /// How often rare states were met.
    pub rare: BTreeMap<String, u64>,
    /// Operations that clients asked.
    pub operations: u64,
}

/// Runs the history of a plan. `until`: no longer than this, for a look at its beginning.
#[must_use]
pub fn history(plan: &Plan, until: Option<SimTime>) -> Outcome {
    lived(plan, until, |world| world.live(plan))
}

/// Runs a history that goes as `life` has it, from empty disks on.
pub(crate) fn lived(plan: &Plan, until: Option<SimTime>, life: impl FnOnce(&mut World) -> Result<(), Stop>) -> Outcome {
    coverage::start();
    let mut rare = BTreeMap::new();
    let mut operations = 0;
    let (stop, length) = match World::new(plan, until) {
        Err(error) => (Some(Stop::Harness(format!("{error:#}"))), SimTime::default()),
        Ok(mut world) => {
            let stop = life(&mut world).err();
            trace::aside(format_args!("{}", world.state()));
            operations = world.clients.record.known().history.operations.len() as u64;
            rare = world.rare();
            let length = world.grid.now();
            world.end();
            (stop, length)
        }
    };
    // A panic explains what followed from it.
    let stop = panics::first().or(stop).filter(|_| until.is_none_or(|until| length < until));
    Outcome { stop, length, digest: trace::digest(), rare, operations }
}

/// Whether clocks leap, so that nodes have to believe what they measured of others.
fn leaps(plan: &Plan) -> bool {
    plan.troubles.iter().any(|planned| matches!(planned.trouble, Trouble::ClockLeap { .. }))
}

/// Everything of one history.
pub(crate) struct World {
    pub(crate) grid: SimGrid,
    pub(crate) clients: Clients,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) map: ShardMap,
    judges: Vec<Box<dyn Judge>>,
    pub(crate) striking: Striking,
    pub(crate) reference: Option<Reference>,
    next_look: SimTime,
    pub(crate) calm_since: SimTime,
    until: Option<SimTime>,
}

impl World {
    fn new(plan: &Plan, until: Option<SimTime>) -> anyhow::Result<Self> {
        let mut dice = Dice::new(!plan.seed);
        let map = shard_map(&plan.shape);
        let chronicle = Arc::new(Chronicle::new(&map));
        let watch: Arc<dyn DiskWatch> = Arc::clone(&chronicle) as Arc<dyn DiskWatch>;
        let mut grid = SimGrid::new(&plan.shape, &mut dice, &watch)?;
        let clients = Clients::new(plan.shape.nodes, &grid.net);
        let striking = Striking::none(plan);
        striking.calm(&mut grid);
        let setting = Setting {
            one_attempt: true,
            epoch: Some(Timestamp::from_ms(EPOCH_MS)),
            skew: if leaps(plan) { SKEW + MEASURING } else { SKEW },
            behind: if leaps(plan) { plan.unrest + HEALED_WITHIN } else { Duration::ZERO },
            timer_slack: TIMER_SLACK,
            memory_budget: plan.shape.squeeze.memory.map(|memory| memory / 4 + NEVER_EVICTED),
        };
        let judges = logs::judges().into_iter().chain(laws::judges(setting)).collect();
        Ok(Self {
            grid,
            clients,
            chronicle,
            map,
            judges,
            striking,
            reference: None,
            next_look: SimTime::default(),
            calm_since: SimTime::default(),
            until,
        })
    }

    /// One tick passes, and everybody looks.
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        self.grid.step();
        self.striking.step(&mut self.grid)?;
        if let Some(stop) = panics::first() {
            return Err(stop);
        }
        if self.grid.now() >= self.next_look {
            self.next_look = self.grid.now().after(LOOK_EVERY);
            self.look()?;
        }
        match self.until.filter(|until| self.grid.now() >= *until) {
            Some(_) => Err(Stop::Harness("told to stop here".to_owned())),
            None => Ok(()),
        }
    }

    fn look(&mut self) -> Result<(), Stop> {
        let statuses = self.grid.statuses();
        self.chronicle.told(&statuses);
        let lives = self.grid.nodes.iter().map(|(id, node)| (*id, node.starts)).collect();
        let moment = Moment { now: self.grid.now(), statuses: &statuses, lives: &lives, chronicle: &self.chronicle };
        for judge in &mut self.judges {
            judge.look(&moment)?;
        }
        Ok(())
    }

    /// Steps until `done`, which must be within `limit`.
    pub(crate) fn until(&mut self, what: &str, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Stop> {
        let latest = self.grid.now().after(limit);
        while !done(self) {
            if self.grid.now() >= latest {
                return Err(Violation::new(Law::Heals, format!("after {} s: {what}; {}", limit.as_secs(), self.state())).into());
            }
            self.step()?;
        }
        Ok(())
    }

    /// Steps until a time.
    pub(crate) fn pass_until(&mut self, time: SimTime) -> Result<(), Stop> {
        while self.grid.now() < time {
            self.step()?;
        }
        Ok(())
    }

    /// Who runs and who leads, in a few words.
    pub(crate) fn state(&self) -> String {
        let nodes = self.grid.nodes.iter().map(|(id, node)| {
            let groups = node.running().map(|running| {
                let groups = running.groups();
                let of = groups.iter().map(|group| group.status());
                of.map(|it| {
                    format!("g{} {:?} t{} l{:?} {}/{}", it.group.0, it.role, it.term, it.leader, it.applied, it.last_log)
                })
                .collect::<Vec<_>>()
                .join(", ")
            });
            format!("n{id}: {}", groups.unwrap_or_else(|| format!("not started, {:?}", node.ended())))
        });
        nodes.collect::<Vec<_>>().join("; ")
    }

    fn judge(&mut self) -> Result<(), Stop> {
        let statuses = self.grid.statuses();
        self.chronicle.settle(&statuses);
        let known = self.clients.record.known();
        let watched = Watched::of(&known.history);
        let reference = self.reference.insert(Reference::replay(&self.chronicle, &self.map, &watched)?);
        let evidence = Evidence {
            history: &known.history,
            chronicle: &self.chronicle,
            reference,
            statuses: &statuses,
            calm_since: self.calm_since,
            now: self.grid.now(),
        };
        for judge in &mut self.judges {
            judge.end(&evidence)?;
        }
        Ok(())
    }

    fn rare(&self) -> BTreeMap<String, u64> {
        let known = self.clients.record.known();
        let mut rare: BTreeMap<String, u64> = coverage::counted();
        let mut add = |state: &str, times: u64| *rare.entry(state.to_owned()).or_default() += times;
        rare_from_history(&known.history).into_iter().for_each(|(state, times)| add(state, times));
        self.striking.struck.iter().for_each(|(kind, times)| add(&format!("fault: {kind}"), *times));
        add("snapshot installed", self.chronicle.snapshots());
        let starts = self.grid.nodes.values().map(|node| node.starts.saturating_sub(1)).sum();
        add("node started again", starts);
        if let Some(reference) = &self.reference {
            reference.states().iter().for_each(|(state, times)| add(state, *times));
        }
        rare
    }

    /// Every program ends before the process does.
    fn end(&mut self) {
        for node in self.grid.nodes.keys().copied().collect::<Vec<_>>() {
            if self.grid.is_on(node) {
                self.grid.down(node, crate::grid::Down::Killed);
            }
        }
    }
}

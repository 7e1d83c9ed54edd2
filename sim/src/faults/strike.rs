//! Does what was planned, at its time, and undoes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ordergrid_domain::GroupId;
use ordergrid_storage::Fault;

use super::copies::Copies;
use super::{Planned, Trouble, Who};
use crate::disk::{Database, ReadTime, SyncTime};
use crate::driver::NOMINAL;
use crate::grid::{CLIENTS, Down, SimGrid};
use crate::history::SimTime;
use crate::net::LinkState;
use crate::plan::Plan;
use crate::trace;
use crate::verdict::{Property, Violation};

/// Rows that lie in one block.
const ROWS_OF_A_BLOCK: usize = 8;
/// A program that ended by itself is started again after this.
pub(super) const SUPERVISOR: Duration = Duration::from_millis(500);

/// What is going wrong now, and what is to come.
pub struct Striking {
    began: SimTime,
    to_come: VecDeque<Planned>,
    active: Vec<Active>,
    /// Nodes that are off, and when they start.
    off: BTreeMap<u64, SimTime>,
    /// Nodes that were asked to stop.
    stopping: BTreeMap<u64, Stopping>,
    /// Nodes whose disks were made to fail: they may end by themselves.
    excused: BTreeSet<u64>,
    /// The one node of this history that loses what was durable, of its log or its state: the others fill it anew, and must be
    /// whole. It may end because they recall more of its log than it has.
    hurt: Option<u64>,
    /// Rows of its state are damaged: it may end whenever somebody reads a row of the meta group there.
    rows_damaged: bool,
    /// Copies of disks.
    pub(super) copies: Copies,
    calm: LinkState,
    calm_sync: SyncTime,
    calm_read: ReadTime,
    clocks: Vec<(i64, u64)>,
    /// How often each kind of trouble struck.
    pub struck: BTreeMap<&'static str, u64>,
}

/// A trouble that has an end, and the node it found.
struct Active {
    until: SimTime,
    node: u64,
    trouble: Trouble,
}

/// A node that was asked to stop.
struct Stopping {
    /// It has.
    stopped: Arc<AtomicBool>,
    /// For how long it is to be off then.
    off_for: Duration,
}

impl Striking {
    /// Everything that a plan has to come, from now on.
    #[must_use]
    pub fn new(plan: &Plan, now: SimTime) -> Self {
        Self {
            began: now,
            to_come: plan.troubles.iter().cloned().collect(),
            active: Vec::new(),
            off: BTreeMap::new(),
            stopping: BTreeMap::new(),
            excused: BTreeSet::new(),
            hurt: None,
            rows_damaged: false,
            copies: Copies::default(),
            calm: LinkState { fastest: plan.latency.0, slowest: plan.latency.1, loss: 0, cut: false },
            calm_sync: SyncTime::Between(plan.sync.0, plan.sync.1),
            calm_read: plan.reads,
            clocks: plan.clocks.clone(),
            struck: BTreeMap::new(),
        }
    }

    /// Nothing goes wrong yet, in the grid of a plan.
    #[must_use]
    pub fn none(plan: &Plan) -> Self {
        Self { to_come: VecDeque::new(), ..Self::new(plan, SimTime::default()) }
    }

    /// Everything as it is without trouble.
    pub fn calm(&self, grid: &mut SimGrid) {
        let calm = self.calm;
        grid.net.set_all_links(|link| *link = calm);
        for (node, (offset, rate)) in (1..).zip(&self.clocks) {
            grid.nodes[&node].clock.set_offset_ms(*offset);
            grid.driver.set_rate(node, *rate);
            for database in [Database::Log, Database::State] {
                grid.nodes[&node].disk.set_sync_time(database, self.calm_sync);
            }
            grid.nodes[&node].disk.set_read_time(Database::State, self.calm_read);
        }
    }

    /// Nothing is left to come, and nothing goes wrong.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.to_come.is_empty()
            && self.active.is_empty()
            && self.off.is_empty()
            && self.stopping.is_empty()
            && self.copies.is_over()
    }

    /// What is due by now.
    ///
    /// # Errors
    /// A node ended by itself, without a cause.
    pub fn step(&mut self, grid: &mut SimGrid) -> Result<(), Violation> {
        let now = grid.now();
        while !self.copies.hushed(now) && self.to_come.front().is_some_and(|next| self.began.after(next.at) <= now) {
            let next = self.to_come.pop_front().expect("looked at above");
            self.strike(grid, next);
        }
        let (over, active) = std::mem::take(&mut self.active).into_iter().partition::<Vec<_>, _>(|it| it.until <= now);
        self.active = active;
        for ended in over {
            self.undo(grid, &ended);
        }
        self.see_stopped(grid);
        self.see_copies(grid);
        self.supervise(grid)
    }

    /// Programs that have stopped as they were asked to end, and stay off for a while.
    fn see_stopped(&mut self, grid: &mut SimGrid) {
        let stopped = self.stopping.iter().filter(|(_, stopping)| stopping.stopped.load(Ordering::Acquire));
        let stopped: Vec<_> = stopped.map(|(node, stopping)| (*node, stopping.off_for)).collect();
        for (node, off_for) in stopped {
            self.switch_off(grid, node, Down::Killed, grid.now().after(off_for));
        }
    }

    fn ask_to_stop(&mut self, grid: &mut SimGrid, node: u64, off_for: Duration) {
        let Some(running) = grid.nodes.get(&node).and_then(|node| node.running()) else { return };
        if self.stopping.contains_key(&node) {
            return;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        self.stopping.insert(node, Stopping { stopped: Arc::clone(&stopped), off_for });
        grid.driver.spawn(node, async move {
            running.shutdown().await;
            stopped.store(true, Ordering::Release);
        });
    }

    /// Programs that ended are started again, as a supervisor does.
    fn supervise(&mut self, grid: &mut SimGrid) -> Result<(), Violation> {
        let ended: Vec<_> = grid.nodes.iter().filter_map(|(id, node)| Some((*id, node.ended()?))).collect();
        for (node, why) in ended {
            let hurt = self.hurt == Some(node) && (self.rows_damaged || why.to_string().contains("older copy"));
            if !self.excused.contains(&node) && !self.copies.excuse(node) && !hurt {
                return Err(Violation::new(Property::NodesGoOn, format!("node {node} ended without a cause: {why}")));
            }
            self.switch_off(grid, node, Down::Killed, grid.now().after(SUPERVISOR));
        }
        let due: Vec<_> = self.off.iter().filter(|(_, at)| **at <= grid.now()).map(|(node, _)| *node).collect();
        for node in due {
            self.off.remove(&node);
            self.start(grid, node)?;
        }
        Ok(())
    }

    fn start(&self, grid: &mut SimGrid, node: u64) -> Result<(), Violation> {
        grid.start(node)
            .map_err(|error| Violation::new(Property::NodesGoOn, format!("node {node} cannot be started: {error:#}")))
    }

    /// The faults end: everything is lifted, every node is on; those whose disks were made to fail start anew.
    ///
    /// # Errors
    /// A node cannot be started.
    pub fn end(&mut self, grid: &mut SimGrid) -> Result<(), Violation> {
        trace::note(format_args!("the faults end"));
        self.to_come.clear();
        self.copies.forget();
        for ended in std::mem::take(&mut self.active) {
            self.undo(grid, &ended);
        }
        for node in grid.nodes.values() {
            node.disk.heal();
        }
        let stopping = std::mem::take(&mut self.stopping).into_keys();
        for node in std::mem::take(&mut self.excused).into_iter().chain(stopping) {
            if grid.is_on(node) {
                grid.down(node, Down::Killed);
            }
            self.off.insert(node, grid.now());
        }
        self.calm(grid);
        for node in std::mem::take(&mut self.off).into_keys() {
            self.start(grid, node)?;
        }
        Ok(())
    }

    fn find(&self, grid: &SimGrid, who: Who) -> Option<u64> {
        let node = match who {
            Who::Node(node) => node,
            Who::Leader(group) => grid.leader(GroupId(group))?,
        };
        (grid.is_on(node) && !self.off.contains_key(&node)).then_some(node)
    }

    fn strike(&mut self, grid: &mut SimGrid, planned: Planned) {
        let until = grid.now().after(planned.lasts);
        let trouble = planned.trouble;
        let Some(node) = trouble.who().map_or(Some(0), |who| self.find(grid, who)) else { return };
        let rots = matches!(trouble, Trouble::RotLog { .. } | Trouble::LoseLog { .. } | Trouble::OldCopy { .. });
        if rots && !self.may_hurt(grid, node) {
            return;
        }
        if let Trouble::OldCopy { cold, .. } = trouble
            && !self.copy(grid, node, cold, planned.lasts)
        {
            return;
        }
        trace::note(format_args!("trouble for node {node} until {until}: {trouble:?}"));
        *self.struck.entry(trouble.name()).or_default() += 1;
        match &trouble {
            Trouble::Kill { buffers, .. } => {
                self.switch_off(grid, node, if *buffers { Down::KilledLosingBuffers } else { Down::Killed }, until);
            }
            Trouble::Stop { .. } => self.ask_to_stop(grid, node, planned.lasts),
            Trouble::PowerLoss { .. } => self.switch_off(grid, node, Down::PowerLost, until),
            Trouble::Blackout => {
                let nodes: Vec<_> = grid.nodes.keys().copied().filter(|node| grid.is_on(*node)).collect();
                nodes.into_iter().for_each(|node| self.switch_off(grid, node, Down::PowerLost, until));
            }
            Trouble::Transfer { group, to } => transfer(grid, *group, *to),
            // Begun above.
            Trouble::OldCopy { .. } => {}
            Trouble::Reset { one, other } => grid.net.reset_between(*one, *other),
            Trouble::Checkpoint { .. } => checkpoint(grid, node),
            Trouble::FlipBit { restart: true, .. } => {
                self.disk(grid, node, &trouble, until);
                self.switch_off(grid, node, Down::Killed, grid.now().after(SUPERVISOR));
            }
            Trouble::RotLog { permille, .. } => {
                self.switch_off(grid, node, Down::Killed, grid.now().after(SUPERVISOR));
                grid.nodes[&node].disk.rot_log(*permille);
            }
            Trouble::LoseLog { .. } => {
                self.switch_off(grid, node, Down::Killed, grid.now().after(SUPERVISOR));
                grid.nodes[&node].disk.lose_log();
            }
            _ => {
                self.disk(grid, node, &trouble, until);
                self.active.push(Active { until, node, trouble });
                self.apply_lasting(grid);
            }
        }
    }

    /// Nothing goes wrong, and every node is there.
    pub(super) fn is_calm(&self, grid: &SimGrid) -> bool {
        let there = grid.nodes.iter().all(|(id, node)| grid.is_on(*id) && node.running().is_some() && node.ended().is_none());
        there && self.active.is_empty() && self.off.is_empty() && self.stopping.is_empty()
    }

    /// A node may end by itself.
    pub(crate) fn excuse(&mut self, node: u64) {
        self.excused.insert(node);
    }

    /// The same with nothing to come any more; what was damaged stays damaged.
    pub(crate) fn over(&self, plan: &Plan, now: SimTime) -> Self {
        Self { hurt: self.hurt, rows_damaged: self.rows_damaged, ..Self::new(plan, now) }
    }

    /// The rows of this node's state are damaged.
    pub(crate) fn damaged(&mut self, node: u64) {
        self.hurt = Some(node);
        self.rows_damaged = true;
    }

    /// Whether this node may lose what was durable: then it is the one that does.
    fn may_hurt(&mut self, grid: &SimGrid, node: u64) -> bool {
        grid.nodes.len() >= 3 && *self.hurt.get_or_insert(node) == node
    }

    pub(super) fn switch_off(&mut self, grid: &mut SimGrid, node: u64, how: Down, until: SimTime) {
        grid.down(node, how);
        self.stopping.remove(&node);
        self.off.insert(node, until);
    }

    fn disk(&mut self, grid: &SimGrid, node: u64, trouble: &Trouble, until: SimTime) {
        let Some(disk) = grid.nodes.get(&node).map(|node| &node.disk) else { return };
        match *trouble {
            Trouble::SlowSync { log, most, .. } => {
                return disk.set_sync_time(database(log), SyncTime::Between(Duration::ZERO, most));
            }
            Trouble::StallSync { log, .. } => return disk.stall_syncs(database(log), until),
            Trouble::FailWrite { log, after, written, .. } => {
                disk.fail_write(database(log), after, if written { Fault::NotSynced } else { Fault::NotWritten });
            }
            Trouble::FailReads { log, .. } => disk.fail_reads(database(log), true),
            Trouble::DiskFull { .. } => disk.fill(true),
            // The rows of the state have no checksum of their own: there a wrong bit shows as a damaged block.
            Trouble::FlipBit { after, bit, .. } => disk.flip_bit(Database::Log, after, bit),
            Trouble::DamageRead { log: true, after, .. } => disk.damage_read(Database::Log, after),
            Trouble::DamageRead { log: false, after, .. } => {
                if !self.may_hurt(grid, node) {
                    return;
                }
                self.rows_damaged = true;
                if disk.damage_rows(Database::State, after.wrapping_mul(0x9e37_79b9), ROWS_OF_A_BLOCK) == 0 {
                    disk.damage_read(Database::State, after);
                }
            }
            _ => return,
        }
        self.excused.insert(node);
    }

    fn undo(&mut self, grid: &mut SimGrid, ended: &Active) {
        trace::note(format_args!("over for node {}: {}", ended.node, ended.trouble.name()));
        let node = &grid.nodes.get(&ended.node);
        match ended.trouble {
            Trouble::Pause { .. } => grid.driver.pause(ended.node, false),
            Trouble::Suspend { .. } => grid.driver.suspend(ended.node, false),
            Trouble::FailReads { log, .. } => {
                node.iter().for_each(|node| node.disk.fail_reads(database(log), false));
            }
            Trouble::DiskFull { .. } => node.iter().for_each(|node| node.disk.fill(false)),
            Trouble::SlowSync { log, .. } => {
                node.iter().for_each(|node| node.disk.set_sync_time(database(log), self.calm_sync));
            }
            Trouble::ClockStep { .. } | Trouble::ClockRate { .. } => self.set_clock(grid, ended.node, None, None),
            Trouble::ClockLeap { ref nodes, .. } => nodes.iter().for_each(|node| self.set_clock(grid, *node, None, None)),
            _ => {}
        }
        self.apply_lasting(grid);
    }

    fn set_clock(&self, grid: &mut SimGrid, node: u64, offset: Option<i64>, rate: Option<u64>) {
        let index = usize::try_from(node - 1).expect("few");
        let (usual, usual_rate) = self.clocks.get(index).copied().unwrap_or((0, NOMINAL));
        grid.nodes[&node].clock.set_offset_ms(usual + offset.unwrap_or_default());
        grid.driver.set_rate(node, rate.unwrap_or(usual_rate));
    }

    /// Links, pauses and clocks as everything that lasts now has them.
    fn apply_lasting(&self, grid: &mut SimGrid) {
        let nodes: Vec<u64> = grid.nodes.keys().copied().collect();
        let calm = self.calm;
        grid.net.set_all_links(|link| *link = LinkState { cut: link.cut, ..calm });
        let mut cut = BTreeSet::new();
        for active in &self.active {
            match &active.trouble {
                Trouble::Pause { .. } => grid.driver.pause(active.node, true),
                Trouble::Suspend { .. } => grid.driver.suspend(active.node, true),
                Trouble::ClockStep { offset_ms, .. } => self.set_clock(grid, active.node, Some(*offset_ms), None),
                Trouble::ClockLeap { nodes, offset_ms } => {
                    nodes.iter().for_each(|node| self.set_clock(grid, *node, Some(*offset_ms), None));
                }
                Trouble::ClockRate { rate, .. } => self.set_clock(grid, active.node, None, Some(*rate)),
                Trouble::SlowNet { most } => grid.net.set_all_links(|link| link.slowest = link.slowest.max(*most)),
                Trouble::Lossy { permille } => grid.net.set_all_links(|link| link.loss = link.loss.max(*permille)),
                Trouble::Isolate { inwards, outwards, clients, .. } => {
                    let others = nodes.iter().copied().chain(clients.then_some(CLIENTS));
                    for other in others.filter(|other| *other != active.node) {
                        cut.extend(inwards.then_some((other, active.node)));
                        cut.extend(outwards.then_some((active.node, other)));
                    }
                }
                Trouble::Split { minority } => {
                    for (one, other) in pairs(&nodes) {
                        if minority.contains(&one) != minority.contains(&other) {
                            cut.insert((one, other));
                        }
                    }
                }
                _ => {}
            }
        }
        for (one, other) in pairs(&[&nodes[..], &[CLIENTS]].concat()) {
            let is_cut = cut.contains(&(one, other));
            grid.net.set_link(one, other, |link| link.cut = is_cut);
        }
    }
}

fn database(log: bool) -> Database {
    if log { Database::Log } else { Database::State }
}

/// Every ordered pair.
fn pairs(hosts: &[u64]) -> Vec<(u64, u64)> {
    let of = |one: u64| hosts.iter().filter(move |other| **other != one).map(move |other| (one, *other));
    hosts.iter().flat_map(|one| of(*one)).collect()
}

fn transfer(grid: &mut SimGrid, group: u32, to: u64) {
    let Some(leader) = grid.leader(GroupId(group)) else { return };
    let Some(node) = grid.nodes.get(&leader).and_then(|node| node.running()) else { return };
    let Some(group) = node.groups().into_iter().find(|it| it.id() == GroupId(group)) else { return };
    grid.driver.spawn(leader, async move {
        // Whether it succeeds is up to the group.
        group.transfer(to).await.ok();
    });
}

fn checkpoint(grid: &mut SimGrid, node: u64) {
    let Some(running) = grid.nodes.get(&node).and_then(|node| node.running()) else { return };
    grid.driver.spawn(node, async move {
        for group in running.groups() {
            group.checkpoint().await.ok();
        }
    });
}

impl Trouble {
    /// Who is struck, if it is one node.
    #[must_use]
    pub fn who(&self) -> Option<Who> {
        match self {
            Self::Kill { who, .. }
            | Self::PowerLoss { who }
            | Self::Stop { who }
            | Self::Pause { who }
            | Self::Suspend { who }
            | Self::Isolate { who, .. }
            | Self::SlowSync { who, .. }
            | Self::StallSync { who, .. }
            | Self::FailWrite { who, .. }
            | Self::FailReads { who, .. }
            | Self::DiskFull { who }
            | Self::FlipBit { who, .. }
            | Self::RotLog { who, .. }
            | Self::LoseLog { who }
            | Self::OldCopy { who, .. }
            | Self::DamageRead { who, .. }
            | Self::Checkpoint { who }
            | Self::ClockStep { who, .. }
            | Self::ClockRate { who, .. } => Some(*who),
            Self::Blackout
            | Self::Transfer { .. }
            | Self::Split { .. }
            | Self::ClockLeap { .. }
            | Self::SlowNet { .. }
            | Self::Lossy { .. }
            | Self::Reset { .. } => None,
        }
    }

    /// Its kind, in a word or two.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill -9",
            Self::PowerLoss { .. } => "power loss",
            Self::Stop { .. } => "planned stop",
            Self::Blackout => "power loss of all nodes",
            Self::Pause { .. } => "process paused",
            Self::Suspend { .. } => "machine suspended",
            Self::Transfer { .. } => "leader transfer asked",
            Self::Isolate { inwards: true, outwards: true, .. } => "node isolated",
            Self::Isolate { .. } => "one-way partition",
            Self::Split { .. } => "partition",
            Self::SlowNet { .. } => "slow network",
            Self::Lossy { .. } => "packet loss",
            Self::Reset { .. } => "connections reset",
            Self::SlowSync { .. } => "slow sync",
            Self::StallSync { .. } => "stalled sync",
            Self::FailWrite { .. } => "failed write",
            Self::FailReads { .. } => "failed reads",
            Self::DiskFull { .. } => "disk full",
            Self::FlipBit { .. } => "flipped bit",
            Self::RotLog { .. } => "bit flipped in the log",
            Self::LoseLog { .. } => "log database lost",
            Self::OldCopy { .. } => "older copy put back",
            Self::DamageRead { .. } => "damaged block",
            Self::Checkpoint { .. } => "checkpoint forced",
            Self::ClockStep { .. } => "clock step",
            Self::ClockLeap { .. } => "clock leap",
            Self::ClockRate { .. } => "clock rate",
        }
    }
}

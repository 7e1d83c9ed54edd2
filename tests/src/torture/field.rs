//! Where it happens: the nodes, their network and their disks, and how each kind of trouble is done and mended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ordergrid_api::client::Endpoint;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::cluster::{Cluster, Ended, Place};
use super::damage::{self, Damage};
use super::network::Network;
use super::plan::{Kind, Need, Plan, Strike};
use super::site::Site;
use super::volume::Volume;
use crate::clock;

/// By how many seconds a clock steps, in either direction.
const STEPS_S: [i64; 6] = [2, 30, 3_600, 8 * 86_400, 60 * 86_400, 400 * 86_400];

/// Longest a node that was asked to stop may take.
const STOPPING: Duration = Duration::from_secs(20);

/// A round's nodes and everything around them.
pub struct Field {
    pub(super) cluster: Cluster,
    folder: PathBuf,
    volumes: BTreeMap<usize, Volume>,
    clocks: BTreeMap<usize, PathBuf>,
    /// What was done to a node's files, and may be undone.
    damages: BTreeMap<usize, Damage>,
    /// Nodes that may end by themselves, because their disk was hurt.
    pub(super) excused: BTreeSet<usize>,
    /// Nodes that ended by themselves.
    pub(super) ended: Vec<Ended>,
}

impl Field {
    /// Prepares the nodes of a plan; starts none.
    ///
    /// # Errors
    /// If the machine does not do what it said it can.
    pub(super) fn prepare(plan: &Plan, folder: &Path, site: &Site, network: Option<&Network>) -> Result<Self> {
        let needs = |need: Need| plan.strikes.iter().any(|strike| strike.kind.need() == need);
        let (mut volumes, mut clocks, mut places) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for node in 1..=plan.nodes {
            let mut data = folder.join(format!("n{node}"));
            if needs(Need::Volume) {
                let volume = Volume::make(folder, node)?;
                data = volume.path().join("data");
                volumes.insert(node, volume);
            }
            let mut environment = Vec::new();
            if let (true, Some(library)) = (needs(Need::Clock), site.faketime()) {
                let file = folder.join(format!("clock{node}"));
                clock::set(&file, 0)?;
                environment = clock::environment(library, &file);
                clocks.insert(node, file);
            }
            places.push(Place { data, environment });
        }
        let cluster = Cluster::prepare(plan, folder, places, network)?;
        let (damages, excused, ended) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Ok(Self { cluster, folder: folder.to_owned(), volumes, clocks, damages, excused, ended })
    }

    /// Where clients ask.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.cluster.endpoints()
    }

    /// Does it, lets it last, and mends it; says in words what it was.
    pub(super) fn strike(&mut self, strike: &Strike, network: Option<&Network>, leader: Option<usize>) -> Result<String> {
        let mut dice = StdRng::seed_from_u64(strike.seed);
        let nodes = self.cluster.nodes();
        let victim = match leader.filter(|_| dice.random_ratio(3, 5)) {
            Some(leader) => leader,
            None => *nodes.choose(&mut dice).expect("there are nodes"),
        };
        let mut shuffled = nodes.clone();
        shuffled.shuffle(&mut dice);
        let hold = Duration::from_millis(strike.hold_ms);
        let majority = &shuffled[..nodes.len() / 2 + 1];
        match strike.kind {
            Kind::Kill => self.killed(&[victim], hold),
            Kind::KillMajority => self.killed(majority, hold),
            Kind::KillAll => self.killed(&shuffled, hold),
            Kind::Stop => self.stopped(victim, hold),
            Kind::Pause => self.paused(&[victim], hold),
            Kind::PauseMajority => self.paused(majority, hold),
            Kind::NetIsolate | Kind::NetHalves | Kind::NetOneWay | Kind::NetFlap | Kind::NetSlow => {
                let network = network.context("a network was drawn and there is none")?;
                partition(strike.kind, network, victim, &shuffled, hold, &mut dice)
            }
            Kind::DiskFull | Kind::DiskStalled | Kind::DiskSlow | Kind::DiskFails | Kind::DiskReadOnly => {
                self.disk(strike.kind, victim, hold)
            }
            Kind::BitLog | Kind::BlockLog | Kind::BitLogTable | Kind::BitState | Kind::FileState => {
                self.damaged(strike.kind, victim, hold, &mut dice)
            }
            Kind::BitStateLive => self.damaged_alive(victim, hold, &mut dice),
            Kind::BitLogBehind => self.damaged_ahead(&shuffled, hold, &mut dice),
            Kind::Clock => self.clock(&shuffled[..dice.random_range(1..=(nodes.len() - 1) / 2)], hold, &mut dice),
        }
    }

    fn killed(&mut self, nodes: &[usize], hold: Duration) -> Result<String> {
        nodes.iter().try_for_each(|node| self.cluster.kill(*node))?;
        std::thread::sleep(hold);
        nodes.iter().try_for_each(|node| self.start(*node))?;
        Ok(format!("killed {nodes:?}"))
    }

    fn stopped(&mut self, node: usize, hold: Duration) -> Result<String> {
        self.look()?;
        self.cluster.stop(node)?;
        let since = Instant::now();
        let ended = loop {
            let ended = self.cluster.ended()?;
            let ours = ended.iter().find(|one| one.node == node).cloned();
            self.ended.extend(ended.into_iter().filter(|one| one.node != node));
            if ours.is_some() || since.elapsed() > STOPPING {
                break ours;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        match ended {
            Some(ended) if !ended.words.starts_with("exit status: 0") => self.ended.push(ended),
            Some(_) => {}
            None => self.ended.push(Ended { node, words: format!("it does not stop within {STOPPING:?}") }),
        }
        self.cluster.kill(node)?;
        let took = since.elapsed();
        std::thread::sleep(hold);
        self.start(node)?;
        Ok(format!("stopped {node} in {} ms", took.as_millis()))
    }

    fn paused(&mut self, nodes: &[usize], hold: Duration) -> Result<String> {
        nodes.iter().try_for_each(|node| self.cluster.pause(*node))?;
        std::thread::sleep(hold);
        nodes.iter().try_for_each(|node| self.cluster.go_on(*node))?;
        Ok(format!("paused {nodes:?}"))
    }

    fn disk(&mut self, kind: Kind, node: usize, hold: Duration) -> Result<String> {
        self.excused.insert(node);
        let volume = self.volumes.get_mut(&node).context("a disk was drawn and there is none")?;
        match kind {
            Kind::DiskFull => {
                volume.fill()?;
                std::thread::sleep(hold);
                self.volumes[&node].empty()?;
            }
            Kind::DiskStalled => {
                volume.freeze()?;
                std::thread::sleep(hold);
                volume.thaw()?;
            }
            Kind::DiskSlow => {
                let since = Instant::now();
                while since.elapsed() < hold {
                    volume.freeze()?;
                    std::thread::sleep(Duration::from_millis(100));
                    volume.thaw()?;
                    std::thread::sleep(Duration::from_millis(60));
                }
            }
            Kind::DiskFails => {
                volume.fail()?;
                std::thread::sleep(hold);
                self.cluster.kill(node)?;
                self.volumes[&node].again()?;
            }
            _ => {
                self.cluster.kill(node)?;
                self.volumes[&node].read_only()?;
                self.cluster.start(node)?;
                std::thread::sleep(hold);
                self.cluster.kill(node)?;
                self.volumes[&node].again()?;
            }
        }
        self.start(node)?;
        Ok(format!("{} of {node}", kind.name()))
    }

    fn damaged(&mut self, kind: Kind, node: usize, hold: Duration, dice: &mut StdRng) -> Result<String> {
        self.cluster.kill(node)?;
        std::thread::sleep(hold / 2);
        let words = self.damage(kind, node, dice)?;
        self.start(node)?;
        std::thread::sleep(hold / 2);
        Ok(format!("{node} killed, {words}, started"))
    }

    fn damaged_alive(&mut self, node: usize, hold: Duration, dice: &mut StdRng) -> Result<String> {
        let words = self.damage(Kind::BitState, node, dice)?;
        std::thread::sleep(hold);
        Ok(format!("{node} runs, {words}"))
    }

    /// Of a majority, all but one were down while the log grew; that one has a damaged log when they begin without the rest.
    fn damaged_ahead(&mut self, shuffled: &[usize], hold: Duration, dice: &mut StdRng) -> Result<String> {
        let (behind, ahead) = shuffled.split_at((shuffled.len() - 1) / 2);
        behind.iter().try_for_each(|node| self.cluster.kill(*node))?;
        std::thread::sleep(Duration::from_millis(1_500));
        ahead.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let (hurt, rest) = ahead.split_first().context("a majority is not empty")?;
        let words = self.damage(Kind::BitLog, *hurt, dice)?;
        behind.iter().chain([hurt]).try_for_each(|node| self.start(*node))?;
        std::thread::sleep(hold + Duration::from_millis(2_000));
        rest.iter().try_for_each(|node| self.start(*node))?;
        Ok(format!("{behind:?} killed, then {ahead:?}; {words} of {hurt}; started without {rest:?}, then these"))
    }

    fn damage(&mut self, kind: Kind, node: usize, dice: &mut StdRng) -> Result<String> {
        let (folder, ending) = match kind {
            Kind::BitLog | Kind::BlockLog => ("log", "log"),
            Kind::BitLogTable => ("log", "sst"),
            _ => ("state", "sst"),
        };
        let path = self.cluster.data(node).join(folder);
        let Some(file) = damage::file(&path, ending, dice)? else { return Ok(format!("{folder} has no file yet")) };
        let damage = match kind {
            Kind::BlockLog => Damage::block(&file, dice)?,
            Kind::FileState => Damage::gone(&file)?,
            _ => Damage::bit(&file, dice)?,
        };
        let words = format!("{folder}: {}", damage.words());
        self.excused.insert(node);
        self.damages.insert(node, damage);
        Ok(words)
    }

    fn clock(&mut self, nodes: &[usize], hold: Duration, dice: &mut StdRng) -> Result<String> {
        let seconds = STEPS_S.choose(dice).expect("six") * if dice.random() { 1 } else { -1 };
        let hold = hold.max(Duration::from_secs(2));
        self.set_clocks(nodes, seconds)?;
        std::thread::sleep(hold);
        self.set_clocks(nodes, 0)?;
        Ok(format!("the clocks of {nodes:?} stepped by {seconds} s for {} ms", hold.as_millis()))
    }

    fn set_clocks(&self, nodes: &[usize], seconds: i64) -> Result<()> {
        for node in nodes {
            let file = self.clocks.get(node).context("a clock was drawn and there is none")?;
            clock::set(file, seconds)?;
        }
        Ok(())
    }

    /// Starts a node, unless it runs.
    fn start(&mut self, node: usize) -> Result<()> {
        self.look()?;
        if self.cluster.running(node) { Ok(()) } else { self.cluster.start(node) }
    }

    /// Notes who has ended.
    pub(super) fn look(&mut self) -> Result<()> {
        let ended = self.cluster.ended()?;
        self.ended.extend(ended);
        Ok(())
    }

    /// Mends everything that a strike which was broken off may have left.
    pub(super) fn heal(&mut self, network: Option<&Network>) -> Result<()> {
        network.map_or(Ok(()), Network::heal)?;
        self.volumes.values_mut().try_for_each(Volume::thaw)?;
        let nodes = self.cluster.nodes();
        nodes.iter().try_for_each(|node| self.cluster.go_on(*node))?;
        nodes.iter().try_for_each(|node| self.start(*node))
    }

    /// Puts back what was damaged on a node that ended, as an operator with a mirror of the disk does.
    pub(super) fn restore(&mut self, node: usize) -> Result<bool> {
        let undone = self.damages.remove(&node).map_or(Ok(false), |damage| damage.undo())?;
        Ok(undone)
    }

    /// Ends every node, so that the folder can be removed.
    pub(super) fn end(mut self) -> Result<()> {
        let nodes = self.cluster.nodes();
        nodes.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let Self { volumes, folder, .. } = self;
        drop(volumes);
        ensure!(folder.is_dir(), "{} is gone", folder.display());
        Ok(())
    }
}

fn partition(
    kind: Kind,
    network: &Network,
    victim: usize,
    shuffled: &[usize],
    hold: Duration,
    dice: &mut StdRng,
) -> Result<String> {
    let others: Vec<usize> = shuffled.iter().copied().filter(|node| *node != victim).collect();
    let (minority, rest) = shuffled.split_at((shuffled.len() - 1) / 2);
    let out = |from: &[usize], to: &[usize]| -> Vec<(usize, usize)> {
        from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).collect()
    };
    let (cut, words) = match kind {
        Kind::NetSlow => {
            network.slow(victim, 300)?;
            std::thread::sleep(hold);
            network.fast(victim)?;
            return Ok(format!("{victim} sent at 300 kbit/s"));
        }
        Kind::NetHalves => {
            let both = [out(minority, rest), out(rest, minority)].concat();
            (both, format!("{minority:?} and {rest:?} did not hear each other"))
        }
        Kind::NetOneWay if dice.random() => (out(&[victim], &others), format!("nobody heard {victim}")),
        Kind::NetOneWay => (out(&others, &[victim]), format!("{victim} heard nobody")),
        _ => ([out(&[victim], &others), out(&others, &[victim])].concat(), format!("{victim} was cut off")),
    };
    let since = Instant::now();
    loop {
        cut.iter().try_for_each(|(from, to)| network.cut(*from, *to))?;
        let flaps = kind == Kind::NetFlap;
        std::thread::sleep(if flaps { Duration::from_millis(dice.random_range(50..400)) } else { hold });
        cut.iter().try_for_each(|(from, to)| network.join(*from, *to))?;
        if !flaps || since.elapsed() >= hold {
            return Ok(if flaps { format!("{words} again and again") } else { words });
        }
        std::thread::sleep(Duration::from_millis(dice.random_range(50..400)));
    }
}

//! A grid of simulated nodes: each the product's own assembly on a simulated host, with a disk that outlives it.

mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::client::Endpoint;
use ordergrid_cluster::{GroupStatus, ShardMap};
use ordergrid_domain::GroupId;
use ordergrid_node::config::{BootstrapConfig, BootstrapNode, NodeConfig};

use crate::dice::Dice;
use crate::disk::DiskWatch;
use crate::driver::Driver;
use crate::driver::clock::HostClock;
use crate::history::SimTime;
use crate::net::Net;
pub use node::{Down, SimNode};

/// The host of the clients.
pub const CLIENTS: u64 = 100;
/// Port of every node's mesh.
const MESH: u16 = 7411;
/// Port of every node's HTTP API.
const HTTP: u16 = 8080;

/// What a grid is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Nodes.
    pub nodes: u64,
    /// Shards.
    pub shards: u16,
    /// Settings of every node, such as `("checkpoint.every", "1s")`.
    pub settings: Vec<(String, String)>,
    /// `raft.election_min`, which the network and the disks must be fast beside.
    pub election_min: Duration,
    /// Sizes that a configuration does not allow.
    pub squeeze: Squeeze,
    /// Time between two steps.
    pub tick: Duration,
    /// The real storage engine instead of the simulated one.
    pub rocksdb: bool,
}

/// Sizes far below what a configuration may say, so that seconds do what else takes days; `None` leaves them.
#[derive(Clone, Debug, Default)]
pub struct Squeeze {
    /// Bytes of rows in memory, and three times as much for everything else, of which there is nothing here.
    pub memory: Option<u64>,
    /// `log.tail`, in bytes.
    pub log_tail: Option<usize>,
    /// Bytes of changed rows after which a replica writes a checkpoint.
    pub checkpoint_bytes: Option<u64>,
    /// `limits.entry_bytes`.
    pub entry_bytes: Option<usize>,
    /// Bytes of a piece of a snapshot.
    pub snapshot_chunk: Option<usize>,
}

/// How long a leader waits for an answer to a snapshot: an install takes less than a simulated second.
const LONGEST_INSTALL: Duration = Duration::from_secs(20);

impl Squeeze {
    fn apply(&self, config: &mut NodeConfig) {
        config.rows = self.memory.map_or(config.rows, |memory| memory / 4);
        config.log_tail = self.log_tail.unwrap_or(config.log_tail);
        config.group.checkpoint_bytes = self.checkpoint_bytes.unwrap_or(config.group.checkpoint_bytes);
        config.limits.entry_bytes = self.entry_bytes.unwrap_or(config.limits.entry_bytes);
        config.group.snapshot_chunk = self.snapshot_chunk.unwrap_or(config.group.snapshot_chunk);
        // Here the answer to an install can be lost on a connection that lives, as no TCP loses it.
        config.group.snapshot_install_deadline = LONGEST_INSTALL;
    }
}

/// The nodes, the network between them, and the time.
pub struct SimGrid {
    /// Hosts and time.
    pub driver: Driver,
    /// The network.
    pub net: Net,
    /// The nodes by number.
    pub nodes: BTreeMap<u64, SimNode>,
    /// The clients' clock.
    pub clients: HostClock,
}

impl SimGrid {
    /// Nodes that are off, with empty disks.
    ///
    /// # Errors
    /// If the settings are not valid: the harness is wrong.
    pub fn new(shape: &Shape, dice: &mut Dice, watch: &Arc<dyn DiskWatch>) -> anyhow::Result<Self> {
        let net = Net::new(dice.below(u64::MAX));
        let mut driver = Driver::new(shape.tick, net.clone(), dice.below(u64::MAX));
        let bootstrap = bootstrap(shape);
        let mut nodes = BTreeMap::new();
        for id in 1..=shape.nodes {
            let mut config = NodeConfig::of(id, format!("/n{id}"), &bootstrap, &shape.settings)?;
            shape.squeeze.apply(&mut config);
            let clock = driver.add(id);
            nodes.insert(id, SimNode::new(config, clock, shape.rocksdb, dice, Arc::clone(watch))?);
        }
        let clients = driver.add(CLIENTS);
        driver.start(CLIENTS, std::future::pending());
        Ok(Self { driver, net, nodes, clients })
    }

    /// Switches a node on.
    ///
    /// # Errors
    /// If its disk cannot be opened.
    pub fn start(&mut self, node: u64) -> anyhow::Result<()> {
        self.net.host_up(node);
        let net = self.net.clone();
        let program = self.node(node).program(&net)?;
        self.driver.start(node, program);
        Ok(())
    }

    /// Ends a node's program.
    pub fn down(&mut self, node: u64, how: Down) {
        self.net.host_down(node, how == Down::PowerLost);
        self.node(node).leave(how);
        self.driver.stop(node);
    }

    /// Whether a node's program runs, or at least has not been ended.
    #[must_use]
    pub fn is_on(&self, node: u64) -> bool {
        self.driver.is_on(node)
    }

    /// One tick passes.
    pub fn step(&mut self) {
        self.driver.step();
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.driver.now()
    }

    /// The replicas of every node that runs, as it sees them.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<u64, Vec<GroupStatus>> {
        let running = self.nodes.iter().filter_map(|(id, node)| Some((*id, node.running()?)));
        running
            .map(|(id, node)| {
                let statuses = || node.groups().iter().map(|group| group.status()).collect();
                (id, self.driver.within(id, statuses))
            })
            .collect()
    }

    /// The node that leads a group, as those know who have the highest term.
    #[must_use]
    pub fn leader(&self, group: GroupId) -> Option<u64> {
        let of_group = self.statuses().into_values().flatten().filter(|status| status.group == group);
        of_group.max_by_key(|status| (status.term, status.leader.is_some())).and_then(|status| status.leader)
    }

    /// Where a node serves clients.
    #[must_use]
    pub fn endpoint(node: u64) -> Endpoint {
        Endpoint::new(format!("n{node}"), HTTP)
    }

    fn node(&mut self, node: u64) -> &mut SimNode {
        self.nodes.get_mut(&node).expect("the node was made with the grid")
    }
}

fn bootstrap(shape: &Shape) -> BootstrapConfig {
    let node = |id| BootstrapNode {
        id,
        name: format!("n{id}"),
        zone: format!("z{id}"),
        mesh: format!("n{id}:{MESH}"),
        http: format!("http://n{id}:{HTTP}"),
    };
    BootstrapConfig { shards: shape.shards, nodes: (1..=shape.nodes).map(node).collect(), moved: false }
}

/// Which replica is whose: as the nodes derive it from the same shape.
#[must_use]
pub fn shard_map(shape: &Shape) -> ShardMap {
    let config = bootstrap(shape);
    let nodes = config.nodes.into_iter().map(|node| ordergrid_cluster::NodeSpec {
        id: node.id,
        name: node.name,
        zone: node.zone,
        mesh_addr: node.mesh,
        http_addr: node.http,
    });
    let spec = ordergrid_cluster::ClusterSpec {
        name: "ordergrid".to_owned(),
        nodes: nodes.collect(),
        shards: u32::from(shape.shards),
    };
    spec.shard_map()
}

//! The configuration of a node, checked once: what the program needs, in the types it needs.
//!
//! What the operator types is in `settings` (every key with its unit and default); how file, environment and flags
//! come together is in `load`. A [`NodeConfig`] exists only when every rule holds, and is passed down in parts.

mod check;
mod load;
mod memory;
mod parts;
mod settings;
mod units;

use std::path::PathBuf;
use std::time::Duration;

use ordergrid_cluster::{GroupConfig, NodeId};

pub use load::{ConfigError, Loaded, Sources};
pub use memory::MemorySplit;
pub use units::{Size, Span};

/// What every environment variable of ours begins with.
pub(crate) const PREFIX: &str = "ORDERGRID_";

/// Nodes of a cluster at the most.
pub(crate) const MOST_NODES: usize = 7;

/// A node's configuration, every rule of it checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its number in the cluster, from 1.
    pub id: NodeId,
    /// Its name in tables, logs and metrics.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// The cluster's name, for people.
    pub cluster: String,
    /// The folder of its data. Nothing reads it but [`crate::Platform`]'s production constructor.
    pub data: PathBuf,
    /// Threads that run it; 0 is one per core.
    pub workers: usize,
    /// Longest a stop waits for what is in flight.
    pub stop_within: Duration,
    /// How long a node that is to stop still serves, before it stops.
    pub drain: Duration,
    /// Where the nodes talk among themselves.
    pub mesh: MeshAddress,
    /// Where clients talk to it.
    pub http: HttpAddress,
    /// How a cluster that does not exist yet begins; without it a node with an empty disk refuses to start.
    pub bootstrap: Option<BootstrapConfig>,
    /// How much of everything.
    pub limits: Limits,
    /// How much memory for whom.
    pub memory: MemorySplit,
    /// Bytes of rows that its replicas may keep in memory together: their part of it.
    pub rows: u64,
    /// How replicas agree, and how their state reaches the disk.
    pub group: GroupConfig,
    /// How everything that is stored is read in the background.
    pub scrub: ScrubConfig,
    /// Bytes of the newest log entries of each replica that stay in memory.
    pub log_tail: usize,
    /// How long a hold may be tentative: its valid-until, and the age at which its shard asks.
    pub hold_valid: Duration,
    /// How far a peer's clock may be off.
    pub clock_skew: Duration,
    /// How far the wall clock may be ahead of log time at a start.
    pub clock_leap: Duration,
    /// What the process says about itself.
    pub trace: TraceConfig,
}

/// Addresses of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshAddress {
    /// Host and port to listen on. A listener handed to the transport beforehand stands for it.
    pub listen: String,
    /// Host and port under which other nodes reach this one.
    pub advertise: String,
}

/// Addresses for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// Host and port to listen on.
    pub listen: String,
    /// URL under which clients reach the node; without it, `http://` and the address that it listens on.
    pub advertise: Option<String>,
}

/// The cluster to make when every disk named here is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapConfig {
    /// Number of shards, 1 to 4,096.
    pub shards: u16,
    /// Every node, ordered by id; this one is among them.
    pub nodes: Vec<BootstrapNode>,
    /// Names, zones and addresses may differ from those at the founding.
    pub moved: bool,
}

/// A node of a cluster to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapNode {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Host and port of its mesh.
    pub mesh: String,
    /// URL for its clients.
    pub http: String,
}

/// How much of everything, before an answer is a clear refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body that is not a batch.
    pub order_body: usize,
    /// Bytes of a batch's body.
    pub batch_body: usize,
    /// Orders in a batch.
    pub batch_orders: usize,
    /// Lines in an order.
    pub order_lines: usize,
    /// Open client connections of the node.
    pub connections: usize,
    /// How long a client connection may be without a request, or with half of one.
    pub connection_idle: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub connection_streams: u32,
    /// How much longer a client is heard that was answered before it had sent everything.
    pub linger: Duration,
    /// Bytes of it.
    pub linger_bytes: usize,
    /// Bytes of memory that requests may take together.
    pub requests: u64,
    /// Longest that the headers of a request may take to arrive.
    pub header_wait: Duration,
    /// Longest a body may take to arrive.
    pub body_wait: Duration,
    /// Orders that may be skipped by page numbers.
    pub page_depth: u32,
    /// Longest a request may take before it is answered without an outcome.
    pub request: Duration,
    /// Longest that proving the laws may take.
    pub verify: Duration,
    /// Requests in flight per shard led.
    pub shard_in_flight: usize,
    /// Holds of one SKU that wait for an answer.
    pub sku_in_flight: usize,
    /// Commands per shard that wait to be packed.
    pub shard_queue: usize,
    /// Commands in one entry.
    pub entry_commands: usize,
    /// Bytes in one entry; a single larger command still goes.
    pub entry_bytes: usize,
    /// Entries per shard that are proposed and not yet applied.
    pub entries_in_flight: usize,
    /// Entity actors per shard led.
    pub shard_actors: usize,
    /// Longest an entity actor stays without being asked anything.
    pub actor_idle: Duration,
    /// Bytes of a message between two nodes.
    pub frame: usize,
    /// Messages that wait to be sent to one peer.
    pub mesh_queue: usize,
    /// Appends that wait for the node's log writer.
    pub log_queue: usize,
}

/// Reading everything that is stored; off if either is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes in a second.
    pub rate: u64,
    /// Pause between two rounds.
    pub every: Duration,
}

/// What the process says about itself, on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// Directives such as `info,ordergrid_cluster=debug`.
    pub filter: String,
    /// One JSON object per line instead of text.
    pub json: bool,
}

impl NodeConfig {
    /// A node of a cluster to make, everything else by default except the keys in `set`, such as `("checkpoint.every",
    /// "1s")`: what `dev`, `bench`, tests and the simulation run. It listens on the addresses that `bootstrap` has for it.
    ///
    /// # Errors
    /// Names the first key that cannot be read, else every rule that is broken.
    pub fn of(
        id: NodeId,
        data: impl Into<PathBuf>,
        bootstrap: &BootstrapConfig,
        set: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut settings = settings::Settings::default();
        settings.node.id = Some(id);
        settings.node.data = Some(data.into());
        // Nobody's balancer stands before it.
        settings.http.drain = Span::s(0);
        if let Some(own) = bootstrap.nodes.iter().find(|node| node.id == id) {
            settings.node.name = Some(own.name.clone());
            settings.node.zone.clone_from(&own.zone);
            settings.mesh.listen.clone_from(&own.mesh);
            own.http.trim_start_matches("http://").clone_into(&mut settings.http.listen);
        }
        settings.bootstrap = Some(check::typed(bootstrap));
        check::check(&load::set(settings, set)?)
    }
}

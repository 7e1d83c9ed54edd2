//! The validated configuration of a node, in the types that the program needs.
//!
//! `settings` has the typed configuration (every key with its unit and default); `load` combines file, environment and flags. A
//! [`NodeConfig`] exists only if every rule holds. Components get only the parts that they need.

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

/// Prefix of our environment variables.
pub(crate) const PREFIX: &str = "ORDERGRID_";

/// Most nodes of a cluster.
pub(crate) const MOST_NODES: usize = 7;

/// A node's validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Number of the node in the cluster, from 1.
    pub id: NodeId,
    /// Name of the node in tables, logs and metrics.
    pub name: String,
    /// Failure domain of the node.
    pub zone: String,
    /// Name of the cluster, for people.
    pub cluster: String,
    /// Data folder. Only [`crate::Platform`]'s production constructor uses it.
    pub data: PathBuf,
    /// Threads of the runtime; 0 is one per core.
    pub workers: usize,
    /// Longest time a stop waits for requests in flight.
    pub stop_within: Duration,
    /// How long a stopping node keeps serving before it stops.
    pub drain: Duration,
    /// Addresses for other nodes.
    pub mesh: MeshAddress,
    /// Addresses for clients.
    pub http: HttpAddress,
    /// The description of the cluster at its founding. Without it a node with an empty disk refuses to start.
    pub bootstrap: Option<BootstrapConfig>,
    /// Limits of requests and queues.
    pub limits: Limits,
    /// The division of the memory.
    pub memory: MemorySplit,
    /// Bytes of rows that all replicas may keep in memory together: a part of `memory`.
    pub rows: u64,
    /// Settings of consensus and checkpoints.
    pub group: GroupConfig,
    /// Settings of the scrub.
    pub scrub: ScrubConfig,
    /// Bytes of the newest log entries of each replica that stay in memory.
    pub log_tail: usize,
    /// How long a hold may be tentative: its validity, and the age at which its shard asks for its fate.
    pub hold_valid: Duration,
    /// Whether a reference is good for one order of a user, whatever becomes of it.
    pub references_once: bool,
    /// Largest trusted difference between this node's clock and a peer's.
    pub clock_skew: Duration,
    /// Largest trusted distance of the wall clock ahead of log time at a start.
    pub clock_leap: Duration,
    /// Settings of log events.
    pub trace: TraceConfig,
}

/// Addresses of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshAddress {
    /// Host and port to listen on. A listener that was passed to the transport takes precedence.
    pub listen: String,
    /// Host and port under which other nodes reach this node.
    pub advertise: String,
}

/// Addresses for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// Host and port to listen on.
    pub listen: String,
    /// URL under which clients reach the node; by default `http://` and the address that it listens on.
    pub advertise: Option<String>,
}

/// The description of a cluster, which is founded if every disk named here is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapConfig {
    /// Number of shards, 1 to 4,096.
    pub shards: u16,
    /// Every node, sorted by id, including this one.
    pub nodes: Vec<BootstrapNode>,
    /// Whether names, zones and addresses may differ from those at the founding.
    pub moved: bool,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapNode {
    /// The node's number.
    pub id: NodeId,
    /// The node's name.
    pub name: String,
    /// The node's failure domain.
    pub zone: String,
    /// Host and port of the node's mesh.
    pub mesh: String,
    /// URL for the node's clients.
    pub http: String,
}

/// Limits. A request above a limit is refused with a clear error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a body other than a batch.
    pub order_body: usize,
    /// Most bytes of a batch.
    pub batch_body: usize,
    /// Most orders in a batch.
    pub batch_orders: usize,
    /// Most lines in an order.
    pub order_lines: usize,
    /// Most open client connections of the node.
    pub connections: usize,
    /// Longest time a client connection may be without a request, or with an incomplete one.
    pub connection_idle: Duration,
    /// Most concurrent requests on one HTTP/2 connection.
    pub connection_streams: u32,
    /// Longest time a connection is read after a request was answered before it had arrived completely.
    pub linger: Duration,
    /// Most bytes read in this case.
    pub linger_bytes: usize,
    /// Bytes of memory for all requests together.
    pub requests: u64,
    /// Longest time for the headers of a request to arrive.
    pub header_wait: Duration,
    /// Longest time for a body to arrive.
    pub body_wait: Duration,
    /// Most orders that page numbers may skip.
    pub page_depth: u32,
    /// Longest time for a request, after which it is answered without an outcome.
    pub request: Duration,
    /// Longest time for a verification of the laws.
    pub verify: Duration,
    /// Most requests in flight per led shard.
    pub shard_in_flight: usize,
    /// Most unanswered holds of one SKU.
    pub sku_in_flight: usize,
    /// Most commands per shard that wait for an entry.
    pub shard_queue: usize,
    /// Most commands in one entry.
    pub entry_commands: usize,
    /// Most bytes in one entry. A single larger command is still accepted.
    pub entry_bytes: usize,
    /// Most entries per shard that are proposed and not yet applied.
    pub entries_in_flight: usize,
    /// Most entity actors per led shard.
    pub shard_actors: usize,
    /// Longest time an entity actor stays without a message.
    pub actor_idle: Duration,
    /// Most bytes of a message between two nodes.
    pub frame: usize,
    /// Most messages queued for one peer.
    pub mesh_queue: usize,
    /// Most appends queued for the node's log writer.
    pub log_queue: usize,
}

/// Settings of the scrub; it is off if either is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes per second.
    pub rate: u64,
    /// Pause between two rounds.
    pub every: Duration,
}

/// Log events of the process, on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// Levels such as `info,ordergrid_cluster=debug`.
    pub filter: String,
    /// Whether to write one JSON object per line instead of text.
    pub json: bool,
}

impl NodeConfig {
    /// The configuration of one node of a new cluster, with defaults for all keys except those in `set`, such as
    /// `("checkpoint.every", "1s")`. Used by `dev`, `bench`, tests and the simulation. The node listens on its addresses in
    /// `bootstrap`.
    ///
    /// # Errors
    /// Names the first invalid value, or else every violated rule.
    pub fn of(
        id: NodeId,
        data: impl Into<PathBuf>,
        bootstrap: &BootstrapConfig,
        set: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut settings = settings::Settings::default();
        settings.node.id = Some(id);
        settings.node.data = Some(data.into());
        // No load balancer is in front of it.
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

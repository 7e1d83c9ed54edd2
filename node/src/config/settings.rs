//! The configuration as the operator types it: every key with its unit, its default and its description.
//!
//! One list defines the types, the defaults, the names of the environment variables and the comments that `serve --check`
//! prints, so that they always agree.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Size, Span};

/// One key of the configuration, for documentation and for the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its section.
    pub(super) section: &'static str,
    /// Its name in the section.
    pub(super) name: &'static str,
    /// Its description, line by line.
    pub(super) about: &'static [&'static str],
}

impl Key {
    /// `limits.frame`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `ORDERGRID_LIMITS_FRAME`.
    pub(super) fn variable(&self) -> String {
        format!("{}{}_{}", super::PREFIX, self.section, self.name).to_uppercase()
    }
}

/// Sections of optional keys: generates a struct with defaults for each, and the list of all keys.
macro_rules! sections {
    ($( $(#[doc = $section_doc:literal])* $section:ident: $Section:ident {
        $( $(#[doc = $doc:literal])* $key:ident: $Type:ty = $default:expr, )*
    } )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub(super) struct $Section {
                $( $(#[doc = $doc])* pub(super) $key: $Type, )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )* }
                }
            }
        )*

        /// Every key that has a default or can be set by the environment, by section.
        pub(super) const KEYS: &[Key] = &[
            $( $( Key { section: stringify!($section), name: stringify!($key), about: &[$($doc),*] }, )* )*
        ];

        /// The configuration file.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Settings {
            $( $(#[doc = $section_doc])* pub(super) $section: $Section, )*
            /// The description of the cluster at its founding, which stays the same afterwards.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(super) bootstrap: Option<BootstrapSettings>,
        }
    };
}

sections! {
    /// This node.
    node: NodeSettings {
        /// Number of the node in the cluster, from 1. Required. Never reuse it for another machine.
        id: Option<u64> = None,
        /// Name of the node in tables, logs and metrics. Default: `n` and the id.
        name: Option<String> = None,
        /// Failure domain of the node. Replicas of a shard are spread over zones.
        zone: String = "default".to_owned(),
        /// Data folder of the node. Required. No other node may use it.
        data: Option<PathBuf> = None,
        /// Threads of the runtime; 0 is one per core.
        workers: usize = 0,
        /// Longest time a stop waits for requests in flight.
        stop_within: Span = Span::s(15),
    }

    /// The cluster of the node.
    cluster: ClusterSettings {
        /// Name of the cluster, for people. Nodes recognise each other by an identity that is drawn at the bootstrap.
        name: String = "ordergrid".to_owned(),
    }

    /// Communication between nodes: use a trusted network that clients cannot reach.
    mesh: MeshSettings {
        /// Address and port to listen on. An inherited second listener (systemd, listenfd) takes precedence.
        listen: String = "127.0.0.1:7411".to_owned(),
        /// Address and port under which the other nodes reach this node. Default: `listen`.
        advertise: Option<String> = None,
    }

    /// Communication with clients.
    http: HttpSettings {
        /// Address and port to listen on. An inherited first listener (systemd, listenfd) takes precedence.
        listen: String = "127.0.0.1:8080".to_owned(),
        /// URL under which clients reach this node. Default: `http://` and `listen`.
        advertise: Option<String> = None,
        /// How long a stopping node reports that it is not ready and keeps serving, so that load balancers and clients go
        /// elsewhere first. `dev` and `bench` do not wait.
        drain: Span = Span::s(5),
    }

    /// Limits. A request above a limit is refused with a clear error.
    limits: LimitSettings {
        /// Largest body of a request that is not a batch.
        order_body: Size = Size::mib(1),
        /// Largest body of a batch. Default: as much as `requests` has memory for, at most 32 MiB.
        batch_body: Option<Size> = None,
        /// Most orders in a batch, 1 to 1000.
        batch_orders: usize = 1_000,
        /// Most lines in an order, 1 to 1000.
        order_lines: usize = 1_000,
        /// Most open client connections of the node.
        connections: usize = 10_000,
        /// Longest time a client connection may have no request, or read less than 64 KiB of an answer.
        connection_idle: Span = Span::s(60),
        /// Longest time a connection is read after a request was answered before it had arrived completely. Closing earlier
        /// could discard the answer.
        linger: Span = Span::s(10),
        /// Most bytes that are read, and discarded, in this case.
        linger_bytes: Size = Size::mib(64),
        /// Most concurrent requests on one HTTP/2 connection.
        connection_streams: u32 = 256,
        /// Memory for all requests together: connections, headers, bodies and the commands made of them, unread answers, and
        /// requests of other nodes. Beyond it requests are refused. Default: a quarter of `memory`.
        requests: Option<Size> = None,
        /// Longest time for the headers of a request to arrive.
        header_wait: Span = Span::s(10),
        /// Longest time for a body to arrive.
        body_wait: Span = Span::s(30),
        /// Most orders that page numbers may skip. Cursors have no such limit.
        page_depth: u32 = 10_000,
        /// Longest time for a request, after which its outcome is "unknown" (or "refused" if nothing was begun).
        request: Span = Span::s(10),
        /// Longest time for a verification of the laws.
        verify: Span = Span::s(30 * 60),
        /// Most requests in flight per shard that this node leads.
        shard_in_flight: usize = 16_384,
        /// Most unanswered holds of one SKU.
        sku_in_flight: usize = 4_096,
        /// Most commands per shard that wait for an entry of the log.
        shard_queue: usize = 32_768,
        /// Most commands in one entry of the log.
        entry_commands: usize = 1_024,
        /// Most bytes in one entry of the log. A single larger command is still accepted.
        entry_bytes: Size = Size::mib(1),
        /// Most entries per shard that are proposed and not yet applied. 0 means automatic: one, and up to three large entries
        /// if the shard has one replica, so that one is synced while another is applied.
        entries_in_flight: usize = 0,
        /// Most SKUs per shard that this node leads whose holds wait for others. Each has an actor of 6 KiB.
        shard_actors: usize = 20_000,
        /// Longest time an entity actor stays without a message.
        actor_idle: Span = Span::s(10),
        /// Memory of the node. After the fixed needs of the process, a quarter holds rows of all replicas (colder rows are read
        /// from the disk), a quarter is for requests, and the rest is for checkpoints, database buffers and log tails. Rows give
        /// up to half of their part back while the process takes more than this.
        memory: Size = Size::mib(1_024),
        /// Largest message between two nodes, the same on every node. It must have room for a whole batch.
        frame: Size = Size::mib(64),
        /// Most messages queued for one peer.
        mesh_queue: usize = 4_096,
        /// Most appends queued for the node's log writer.
        log_queue: usize = 4_096,
    }

    /// Consensus between a shard's replicas. The defaults suit syncs of up to several hundred milliseconds.
    raft: RaftSettings {
        /// Heartbeat interval of a leader. This key and the next three must be the same on every node.
        heartbeat: Span = Span::ms(200),
        /// Minimum election timeout: shortest time without a leader after which a replica campaigns.
        election_min: Span = Span::ms(600),
        /// Maximum election timeout. Also the lease duration, and the time a restarted replica abstains from voting.
        election_max: Span = Span::ms(1_000),
        /// Time by which a leader's lease ends before consensus' own, to allow for clocks of different speed.
        lease_margin: Span = Span::ms(100),
        /// How a leader confirms that it still leads before it answers a read. `lease` needs no message, but assumes that its
        /// clock does not stop while time passes elsewhere (a paused virtual machine). `quorum` asks a quorum.
        reads: Reads = Reads::Lease,
        /// Stall timeout. A replica that has applied nothing for this long, although its leader has committed more, gets new
        /// connections. After four times this long the node stops, to start again from its disk.
        stall: Span = Span::s(15),
    }

    /// Checkpoints of the state.
    checkpoint: CheckpointSettings {
        /// Longest time between two checkpoints of a replica whose state changes.
        every: Span = Span::s(30),
        /// Dirty bytes of all the node's replicas together at which checkpoints are written. Default: a sixteenth of
        /// `limits.memory`, at most 64 MiB.
        dirty: Option<Size> = None,
    }

    /// Scrubbing: reads all stored rows in the background, so that damage is found while other replicas are whole.
    scrub: ScrubSettings {
        /// Most bytes read per second; 0 disables scrubbing.
        rate: Size = Size::mib(8),
        /// Pause between two rounds; 0 disables scrubbing.
        every: Span = Span::s(60 * 60),
    }

    /// The replicated log.
    log: LogSettings {
        /// Bytes of the newest entries of each replica that stay in memory. Default: its share of a twentieth of
        /// `limits.memory`, at most 8 MiB.
        tail: Option<Size> = None,
        /// Entries kept below a checkpoint, so that a slow replica needs no snapshot.
        kept: u64 = 50_000,
    }

    /// Placing orders. Values that decide an outcome (the payment window, how long a key is remembered) are not configurable:
    /// they must be the same on every node and in every replay of the log.
    orders: OrderSettings {
        /// Time after which a shard asks for the fate of a hold whose order is not decided.
        hold_valid: Span = Span::s(10),
        /// Whether the reference of an order may name another one of its user: `after_end`, once the order has run out or was
        /// cancelled before anything was shipped, or `never`. It is asked where an order comes in, so it may change with time.
        reference_reuse: ReferenceReuse = ReferenceReuse::AfterEnd,
    }

    /// Clocks.
    clock: ClockSettings {
        /// A node whose clock differs by more than this from its peers' is not ready.
        skew: Span = Span::s(5),
        /// If a start finds the wall clock further ahead of the log than this, nothing expires until an operator says which of
        /// the two is right. Use more than a long weekend, and less than keys are remembered (7 days).
        leap: Span = Span::s(5 * 24 * 60 * 60),
    }

    /// Log events of the process, on stderr.
    trace: TraceSettings {
        /// Levels, such as `debug` or `info,ordergrid_cluster=debug`. `ORDERGRID_LOG` takes precedence. openraft is off,
        /// because it reports its own clean end as an error; OrderGrid logs the relevant events itself.
        filter: String = "info,openraft=off".to_owned(),
        /// Write one JSON object per line instead of text.
        json: bool = false,
    }
}

/// How a leader confirms that it still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reads {
    /// By its lease.
    Lease,
    /// By asking a quorum.
    Quorum,
}

/// When the reference of an order may name another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReferenceReuse {
    /// Once the order has ended without a parcel.
    AfterEnd,
    /// Never.
    Never,
}

/// The founding of a cluster, which happens only if the disks of all nodes named here are empty. Do not change it later, since
/// it determines where data lies: a node refuses to start if it does not match its disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BootstrapSettings {
    /// Number of shards, 1 to 4096. Default: one for each node, which suits nodes of about two processors each. It cannot be changed
    /// after the founding.
    #[serde(default)]
    pub(super) shards: Option<u16>,
    /// Allow names, zones and addresses of nodes to differ from those at the founding. Set it on every node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) moved: bool,
    /// Every node of the cluster, including this one: 1 or an odd number up to 7. Default: this node alone.
    #[serde(default)]
    pub(super) nodes: Vec<BootstrapNodeSettings>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BootstrapNodeSettings {
    /// Its `node.id`.
    pub(super) id: u64,
    /// Its `node.name`. Default: `n` and the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Its `node.zone`.
    #[serde(default = "default_zone")]
    pub(super) zone: String,
    /// Its `mesh.advertise`: address and port.
    pub(super) mesh: String,
    /// Its `http.advertise`: a URL.
    pub(super) http: String,
}

fn default_zone() -> String {
    NodeSettings::default().zone
}

//! The configuration as the operator types it: every key, its unit, its default and its one sentence.
//!
//! One list makes the types, the defaults, the names of the environment variables and the comments that
//! `serve --check` prints, so that none of them can drift from the others.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Size, Span};

/// One key of the configuration, for documentation and for the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The section it stands in.
    pub(super) section: &'static str,
    /// Its name in the section.
    pub(super) name: &'static str,
    /// What it means, line by line.
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

/// Sections of optional keys: a struct and its defaults for each, and the list of all keys.
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

        /// Every key that has a default or comes from the environment, section by section.
        pub(super) const KEYS: &[Key] = &[
            $( $( Key { section: stringify!($section), name: stringify!($key), about: &[$($doc),*] }, )* )*
        ];

        /// The configuration file.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Settings {
            $( $(#[doc = $section_doc])* pub(super) $section: $Section, )*
            /// How a cluster begins, and what it was founded with ever after.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(super) bootstrap: Option<BootstrapSettings>,
        }
    };
}

sections! {
    /// Which node this is.
    node: NodeSettings {
        /// Its number in the cluster, from 1; required, and never given to another machine.
        id: Option<u64> = None,
        /// Its name in tables, logs and metrics. Default: `n` and the id.
        name: Option<String> = None,
        /// The failure domain it stands in; replicas of a shard are spread over zones.
        zone: String = "default".to_owned(),
        /// The folder of its data; required. It belongs to this node alone.
        data: Option<PathBuf> = None,
        /// Threads that run the node; 0 is one per core.
        workers: usize = 0,
        /// Longest a stop waits for what is in flight before it goes on without.
        stop_within: Span = Span::s(15),
    }

    /// Which cluster the node belongs to.
    cluster: ClusterSettings {
        /// The cluster's name, for people; nodes recognise each other by an identity drawn at the bootstrap.
        name: String = "ordergrid".to_owned(),
    }

    /// Where the nodes talk among themselves: a trusted network, never clients.
    mesh: MeshSettings {
        /// Address and port to listen on. An inherited second listener (systemd, listenfd) is used instead.
        listen: String = "127.0.0.1:7411".to_owned(),
        /// Address and port under which the other nodes reach it. Default: `listen`.
        advertise: Option<String> = None,
    }

    /// Where clients talk to the node.
    http: HttpSettings {
        /// Address and port to listen on. An inherited first listener (systemd, listenfd) is used instead.
        listen: String = "127.0.0.1:8080".to_owned(),
        /// URL under which clients reach it. Default: `http://` and `listen`.
        advertise: Option<String> = None,
        /// How long a node that is to stop says that it is not ready and still serves, so that balancers and clients go
        /// elsewhere first. `dev` and `bench` do not wait.
        drain: Span = Span::s(5),
    }

    /// How much of everything, before an answer is a clear refusal.
    limits: LimitSettings {
        /// Largest body of a request that is not a batch.
        order_body: Size = Size::mib(1),
        /// Largest body of a batch. Default: what `requests` has memory for, at most 32 MiB.
        batch_body: Option<Size> = None,
        /// Most orders in a batch, 1 to 1000.
        batch_orders: usize = 1_000,
        /// Most lines in an order, 1 to 1000.
        order_lines: usize = 1_000,
        /// Most open client connections of the node.
        connections: usize = 10_000,
        /// Longest a client connection may be without a request, or take less than 64 KiB of an answer.
        connection_idle: Span = Span::s(60),
        /// Longest a client is heard that was answered before it had sent everything, so that it does not miss the answer.
        linger: Span = Span::s(10),
        /// Most bytes of it; they are thrown away.
        linger_bytes: Size = Size::mib(64),
        /// Most requests at a time on one HTTP/2 connection.
        connection_streams: u32 = 256,
        /// Memory that requests may take together: connections, headers, bodies and what becomes of them, answers that are not
        /// read yet, requests of other nodes. Beyond it they are refused. Default: a quarter of `memory`.
        requests: Option<Size> = None,
        /// Longest that the headers of a request may take to arrive.
        header_wait: Span = Span::s(10),
        /// Longest a body may take to arrive.
        body_wait: Span = Span::s(30),
        /// Most orders that may be skipped by page numbers; a cursor has no such limit.
        page_depth: u32 = 10_000,
        /// Longest a request may take before its answer is "unknown" (or "refused" where nothing was begun).
        request: Span = Span::s(10),
        /// Longest that proving the laws may take.
        verify: Span = Span::s(30 * 60),
        /// Most requests in flight per shard that the node leads.
        shard_in_flight: usize = 16_384,
        /// Most holds of one SKU that wait for an answer.
        sku_in_flight: usize = 4_096,
        /// Most commands per shard that wait to be packed into an entry.
        shard_queue: usize = 32_768,
        /// Most commands in one entry of the log.
        entry_commands: usize = 1_024,
        /// Most bytes in one entry of the log; a single larger command still goes.
        entry_bytes: Size = Size::mib(1),
        /// Most entries per shard that are proposed and not yet applied; 0: one, and up to three where a shard has one replica
        /// and they are large, so that one is synced while another is applied.
        entries_in_flight: usize = 0,
        /// Most SKUs with traffic per shard that the node leads: an account each, and where holds wait an actor of 6 KiB.
        shard_actors: usize = 20_000,
        /// Longest an entity actor stays without being asked anything.
        actor_idle: Span = Span::s(10),
        /// Memory of the node. Less what the process takes by itself, a quarter holds rows, shared by its replicas, colder rows
        /// being read from the disk; a quarter is for requests; the rest for checkpoints under way, the databases' buffers and
        /// the logs' tails. Rows give up to half of their part back while the process takes more than this.
        memory: Size = Size::mib(1_024),
        /// Largest message between two nodes, the same on every node. It must hold a whole batch.
        frame: Size = Size::mib(64),
        /// Most messages that wait to be sent to one peer.
        mesh_queue: usize = 4_096,
        /// Most appends that wait for the log writer of the node.
        log_queue: usize = 4_096,
    }

    /// How a shard's replicas agree. Sized for syncs that take up to several hundred milliseconds.
    raft: RaftSettings {
        /// How often a leader shows itself. This and the next three are the same on every node.
        heartbeat: Span = Span::ms(200),
        /// Shortest time without a leader after which a replica campaigns.
        election_min: Span = Span::ms(600),
        /// Longest time of it; also a leader's lease, and how long a restarted replica does not vote.
        election_max: Span = Span::ms(1_000),
        /// How much earlier than consensus a leader stops trusting its lease, for clocks of different speed.
        lease_margin: Span = Span::ms(100),
        /// How a leader knows that it still leads when it answers a read: by its `lease`, which needs no message and assumes that
        /// its clock does not stand still while time goes on elsewhere (a paused virtual machine); or by a `quorum`.
        reads: Reads = Reads::Lease,
        /// A replica that has stood for this long although its leader has committed more is given new streams; after four
        /// times as long the node ends, to start again from its disk.
        stall: Span = Span::s(15),
    }

    /// How state reaches the disk.
    checkpoint: CheckpointSettings {
        /// Longest time between two checkpoints of a replica that changes.
        every: Span = Span::s(30),
        /// Checkpoints are written at the latest when this much of the node's rows is dirty, shared by its replicas. Default: a
        /// sixteenth of `limits.memory`, at most 64 MiB.
        dirty: Option<Size> = None,
    }

    /// Reading everything that is stored, in the background, so that damage is found while other replicas are whole.
    scrub: ScrubSettings {
        /// Bytes that are read in a second, at the most; 0 switches it off.
        rate: Size = Size::mib(8),
        /// Pause between two rounds; 0 switches it off.
        every: Span = Span::s(60 * 60),
    }

    /// The replicated log.
    log: LogSettings {
        /// Newest entries of each replica that stay in memory. Default: its share of a twentieth of
        /// `limits.memory`, at most 8 MiB.
        tail: Option<Size> = None,
        /// Entries kept below a checkpoint, so that a slow replica needs no snapshot.
        kept: u64 = 50_000,
    }

    /// Orders being placed. What decides an outcome (the time to pay, how long a key is remembered) is not here: it must
    /// be the same on every node and in every replay of the log.
    orders: OrderSettings {
        /// How long a hold may wait for its order before its shard asks what became of it.
        hold_valid: Span = Span::s(10),
    }

    /// Time.
    clock: ClockSettings {
        /// A node whose clock differs more than this from its peers' is not ready.
        skew: Span = Span::s(5),
        /// A start that finds the wall clock further ahead of the log than this expires nothing until an operator says
        /// which of the two is right. Longer than a long weekend off, shorter than keys are remembered (7 days).
        leap: Span = Span::s(5 * 24 * 60 * 60),
    }

    /// What the process says about itself, on stderr.
    trace: TraceSettings {
        /// What is logged, such as `debug` or `info,ordergrid_cluster=debug`. `ORDERGRID_LOG` stands over it.
        /// openraft is off, because it calls its own clean end an error; the groups tell what matters of it.
        filter: String = "info,openraft=off".to_owned(),
        /// One JSON object per line instead of text.
        json: bool = false,
    }
}

/// How a leader knows that it still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reads {
    /// By what a quorum promised lately.
    Lease,
    /// By asking a quorum.
    Quorum,
}

/// How a cluster begins: only when the disk of every node named here is empty. Later it must say the same, since where data
/// lies follows from it: a node whose disk was founded otherwise refuses to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BootstrapSettings {
    /// Number of shards, 1 to 4096; it stays what it was at the founding.
    #[serde(default = "default_shards")]
    pub(super) shards: u16,
    /// The names, zones and addresses of nodes may differ from those at the founding; say it on every node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) moved: bool,
    /// Every node of the cluster, this one too: 1 or an odd number up to 7. Default: this node alone.
    #[serde(default)]
    pub(super) nodes: Vec<BootstrapNodeSettings>,
}

/// A node of a cluster that does not exist yet.
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

fn default_shards() -> u16 {
    4
}

fn default_zone() -> String {
    NodeSettings::default().zone
}

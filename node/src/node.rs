//! The assembly of a node: disks, mesh, identity, groups, shards, HTTP. Production, tests and the simulation all use it, each
//! with its own [`Platform`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use ordergrid_api::account::{Account, Use};
use ordergrid_api::serve::serve;
use ordergrid_api::{Course, Failure, Refusal};
use ordergrid_cluster::{
    BalancerConfig, BootstrapError, ClusterId, ClusterSpec, GroupRef, Listener, Mesh, NodeSpec, Router, ShardMap, balance,
};
use ordergrid_domain::GroupId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::adapters::{self, HttpAccept, WireFrames};
use crate::agreement;
use crate::clocks::{self, GridTime, Rules};
use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::founding::{bootstrap, moved, prove};
use crate::front::Front;
use crate::front::grid::{self, GridLimits, NodeGrid};
use crate::health;
use crate::meta;
use crate::operators::report::{Member, RenderMetrics, Reporter};
use crate::peers::elsewhere::Elsewhere;
use crate::peers::{self, PeerService, Peers};
use crate::platform::Platform;
use crate::recovery::losses::LostEntries;
use crate::recovery::lost_log::{self, Damage};
use crate::recovery::refill::RefillService;
use crate::recovery::{copies, losses, mend, scrub, twins};
use crate::replicas::{Forsaken, MetaRows, MetaSeat, Replicas, Seats, owners};
use crate::shard::{BatchLimits, LeadLimits, ShardHost};

/// Most requests that wait for the same idempotency key.
const WAITING_PER_KEY: usize = 64;
/// Most retries of an attempt after a hold arrived too late.
const RENEWALS: u8 = 2;
/// Requests of other nodes up to this size are not accounted for: their number per connection is bounded.
const SMALL_FORWARD: usize = 16 << 10;
/// Longest time a request waits for its shard to have a leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no cluster to be part of.
    #[error("the configuration has no [bootstrap] section, which names the nodes of the cluster")]
    NoBootstrap,
    /// The mesh address cannot be listened on.
    #[error("cannot listen on {addr} for the other nodes (mesh.listen): {reason}")]
    Listen {
        /// The address.
        addr: String,
        /// The error.
        reason: std::io::Error,
    },
    /// The node may not take part.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Stored rows are damaged, and there is no other node.
    #[error(transparent)]
    Forsaken(#[from] Forsaken),
    /// The log is damaged and must be put aside.
    #[error("{reason}; {then}")]
    LogDamaged {
        /// The operation that failed.
        reason: String,
        /// The damage, and what happens next.
        then: String,
        /// Whether another start repairs it.
        again: bool,
    },
    /// Logs have lost entries, and this node is the only one that had them.
    #[error(
        "the log is damaged, and these entries are lost: {}; they were acknowledged, and no other node has them; a copy of the data \
         folder that was made since, while the node was stopped, would have them; `ordergrid offline status --config FILE` shows what \
         is left, and `ordergrid offline accept-loss --config FILE --all --yes` goes on without them",
        losses::InWords(.0)
    )]
    Lost(Vec<LostEntries>),
    /// A replica does not start.
    #[error("group {group}: {reason}")]
    Group {
        /// The group.
        group: GroupId,
        /// The reason.
        reason: String,
    },
}

impl StartError {
    /// Whether another start repairs it.
    #[must_use]
    pub fn begins_again(&self) -> bool {
        match self {
            Self::Forsaken(forsaken) => forsaken.begins_again(),
            Self::LogDamaged { again, .. } => *again,
            _ => false,
        }
    }
}

/// Why a running node has failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("this node has failed: {reason}")]
pub struct FatalError {
    reason: String,
    /// Whether another start repairs it.
    pub again: bool,
}

/// A running node. If it is dropped, it stops without transferring leaderships, as in a crash.
pub struct Node {
    context: Arc<NodeContext>,
    mesh: Mesh,
    router: Arc<Router>,
    http_url: String,
    drain: Duration,
    stop_within: Duration,
    damage: Damage,
    /// Set when no leadership should be moved any more.
    settled: watch::Sender<bool>,
    course: watch::Sender<Course>,
    serving: Mutex<Option<tokio::task::JoinHandle<usize>>>,
    _work: JoinSet<()>,
}

impl Node {
    /// Starts a node. Returns when its replicas have recovered and it accepts clients, usually before leaders are known: see
    /// [`Self::ready`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: NodeConfig, platform: Platform) -> Result<Self, StartError> {
        let damage = Damage::of(&config, &platform.log_engine);
        Self::begin(config, platform, damage.clone()).await.map_err(|error| match damage.found() {
            Some(then) => StartError::LogDamaged { reason: error.to_string(), then, again: damage.begins_again() },
            None => error,
        })
    }

    async fn begin(config: NodeConfig, mut platform: Platform, damage: Damage) -> Result<Self, StartError> {
        let started = Instant::now();
        let spec = spec(&config)?;
        let front = Front::new(render(&platform));
        let (course, steps) = watch::channel(Course::Serving);
        let http = platform.http.take().expect("a platform is for one node, which takes its listener here");
        let http_url = config.http.advertise.clone().unwrap_or_else(|| format!("http://{}", http.local_addr()));
        // Started first, so that liveness probes are answered. Dropping `course` ends it.
        let account = config.account();
        let serving = serve_http(&config, &platform, http, Arc::clone(&front), account.clone(), steps);
        let serving = Mutex::new(Some(tokio::spawn(serving)));
        let mesh = open_mesh(&config, &platform).await?;
        if let Some(why) = &platform.log_lost {
            lost_log::begin(&config, &platform.log_engine, why).await?;
        }
        // It writes to the log, so it starts after the log is open.
        copies::serve(&mesh, &platform.log_engine);
        let founded = bootstrap(&config, &platform, &spec, &mesh, &front).await?;
        let cluster = founded.cluster;
        let map = Arc::new(spec.shard_map());
        let writer = adapters::log_writer(&platform, &config);
        let refills = RefillService::start(&mesh);
        let replicas = Arc::new(Replicas::new(&config, &platform, &mesh, &refills, &front, &writer, &map));
        let mut work = JoinSet::new();
        let asking = copies::Asking::of(&config, &mesh, &writer, &map, platform.entropy.next_u64()).await?;
        let asked = asking.begin(|task| drop(work.spawn(task))).await?;
        replicas.await_admission(asked.admission);
        let MetaSeat { group: meta, rows: meta_rows, founding } = match replicas.meta(&spec, cluster).await {
            Err(StartError::Lost(lost)) => return Err(replicas.also_lost(lost).await),
            started => started?,
        };
        let founding = founding.shared();
        if !founded.proven {
            prove(&config, &platform, &spec, cluster, founding.clone().await).await?;
        }
        let shards = replicas.shards().await?;
        let router = Router::new(config.id, Arc::clone(&map));
        router.add(Arc::clone(&meta));
        for seat in shards.values() {
            router.add(Arc::clone(&seat.group));
        }
        let service = PeerService::default();
        let context = context(&config, &platform, &mesh, &map, shards);
        service.open(&context);
        refills.open(&context);
        let reporter = Arc::new(reporter(&platform, &spec, &map, cluster, &meta, started));
        let grid = node_grid(&config, &context, &mesh, &reporter, &meta_rows);
        serve_peers(&mesh, &service, &grid, &account);
        for host in context.hosts() {
            work.spawn(Arc::clone(host).run(Arc::clone(&context)));
            let (replicas, router) = (Arc::clone(&replicas), Arc::clone(&router));
            work.spawn(mend::keep_whole(Arc::clone(&context), Arc::clone(host), replicas, router));
        }
        work.spawn(meta::watch_founding(Arc::clone(&context), founding, spec.clone(), cluster));
        compare(&mut work, &config, &spec, &mesh, &context, &reporter);
        twins::serve(&mesh, platform.entropy.next_u64());
        let (start, address) = (platform.entropy.next_u64(), format!("{} ({http_url})", mesh.local_addr()));
        let peers = context.peers.nodes().collect();
        work.spawn(twins::ask(Arc::clone(&context), mesh.clone(), peers, start, address));
        work.spawn(copies::give_up(Arc::clone(&context), asked.older));
        work.spawn(clocks::give_way(Arc::clone(&context), Arc::clone(&router), config.group.election_max));
        work.spawn(meta::watch(Arc::clone(&context), replicas, meta, Arc::clone(&meta_rows.whole)));
        work.spawn(scrub::scrub(Arc::clone(&context), meta_rows, config.scrub));
        work.spawn(adapters::watch_log(Arc::clone(&context), writer));
        work.spawn(losses::tell(grid.clone(), Arc::clone(&platform.log_engine)));
        let (settled, paused) = watch::channel(false);
        work.spawn(balance(Arc::clone(&router), config.id, BalancerConfig::default(), paused));
        front.open(grid);
        let (drain, stop_within) = (config.drain, config.stop_within);
        Ok(Self { context, mesh, router, http_url, drain, stop_within, damage, settled, course, serving, _work: work })
    }

    /// The URL for clients.
    #[must_use]
    pub fn http_url(&self) -> String {
        self.http_url.clone()
    }

    /// The replicas on this node, the meta group's first, for diagnostics.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupRef> {
        self.router.groups()
    }

    /// Resolves when the node knows a leader for every shard, and is ready where it leads itself.
    pub async fn ready(&self) {
        if let Some(meta) = self.router.group(GroupId::META) {
            let mut leadership = meta.leadership();
            let led = leadership.wait_for(|now| match now.leader {
                Some(leader) if leader == self.context.id => now.ready_here,
                Some(_) => true,
                None => false,
            });
            // A group that stops instead is reported by `failed`.
            led.await.ok();
        }
        for host in self.context.hosts() {
            host.ready(self.context.id).await;
        }
    }

    /// The shards with damaged rows on this node, in words. They are being refilled, and are served by other nodes.
    #[must_use]
    pub fn damaged(&self) -> Vec<String> {
        self.context.hosts().filter_map(|host| Some(format!("shard {}: {}", host.shard, host.damage()?.what))).collect()
    }

    /// Resolves when the node has failed: its disk, or an actor whose state cannot be rebuilt.
    pub async fn failed(&self) -> FatalError {
        let mut failed = self.context.failed();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => {
                let reason = reason.clone().into_iter().chain(self.damage.found()).collect::<Vec<_>>().join("; ");
                FatalError { reason, again: self.context.begins_again() || self.damage.begins_again() }
            }
            Err(_) => FatalError { reason: "the node was dropped".to_owned(), again: false },
        }
    }

    /// Stops cleanly. First the node only reports that it is not ready, and keeps serving for `http.drain`, so that load
    /// balancers and clients go elsewhere. Then it accepts no more connections, transfers its leaderships, finishes its
    /// requests, and stops its groups with a last checkpoint.
    pub async fn shutdown(&self) {
        self.context.begin_drain();
        self.settled.send_replace(true);
        self.mesh.leave();
        self.course.send_replace(Course::Draining);
        tokio::time::sleep(self.drain).await;
        self.stop().await;
    }

    async fn stop(&self) {
        self.context.begin_stop();
        self.course.send_replace(Course::Closing);
        let several = self.context.peers.count() > 0;
        if several {
            self.router.hand_over_all(self.stop_within / 2).await;
        }
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            // The server has its own time limit.
            if let Err(error) = serving.await {
                tracing::error!(node = self.context.id, %error, "HTTP server failed");
            }
        }
        for host in self.context.hosts() {
            host.close();
        }
        let groups = self.router.groups();
        let checkpoints = join_all(groups.iter().map(|group| group.checkpoint()));
        // Without the last checkpoint, the next start replays more of the log.
        if let Err(error) = tokio::time::timeout(self.stop_within, checkpoints).await {
            tracing::warn!(node = self.context.id, %error, "last checkpoints not written in time");
        }
        join_all(groups.iter().map(|group| group.shutdown())).await;
        self.mesh.shutdown();
    }
}

pub(crate) fn spec(config: &NodeConfig) -> Result<ClusterSpec, StartError> {
    let bootstrap = config.bootstrap.as_ref().ok_or(StartError::NoBootstrap)?;
    let nodes = bootstrap.nodes.iter().map(|node| NodeSpec {
        id: node.id,
        name: node.name.clone(),
        zone: node.zone.clone(),
        mesh_addr: node.mesh.clone(),
        http_addr: node.http.clone(),
    });
    Ok(ClusterSpec { name: config.cluster.clone(), nodes: nodes.collect(), shards: u32::from(bootstrap.shards) })
}

async fn open_mesh(config: &NodeConfig, platform: &Platform) -> Result<Mesh, StartError> {
    let frames = Arc::new(WireFrames { limit: config.limits.frame });
    let addr = &config.mesh.listen;
    let mesh = Mesh::start(config.id, config.meshing(), Arc::clone(&platform.transport), frames, addr).await;
    mesh.map_err(|reason| StartError::Listen { addr: addr.clone(), reason })
}

/// Watches this node's health, and compares its settings and clocks with its peers'. Runs until it is dropped.
fn compare(
    work: &mut JoinSet<()>,
    config: &NodeConfig,
    spec: &ClusterSpec,
    mesh: &Mesh,
    context: &Arc<NodeContext>,
    reporter: &Arc<Reporter>,
) {
    // A new leader appears within two election timeouts. Heartbeats are the shortest useful interval.
    let (pause, grace) = (config.group.heartbeat, 2 * config.group.election_max);
    work.spawn(health::watch(Arc::clone(context), Arc::clone(reporter), pause, grace));
    let says = spec.agreement(moved(config)).with(config.agreement());
    work.spawn(agreement::compare(Arc::clone(context), mesh.clone(), Arc::clone(reporter), says));
    clocks::serve(mesh, context);
    work.spawn(clocks::compare(Arc::clone(context), mesh.clone(), context.peers.nodes().collect()));
}

fn context(config: &NodeConfig, platform: &Platform, mesh: &Mesh, map: &ShardMap, seats: Seats) -> Arc<NodeContext> {
    let nodes = map.meta.iter().map(|placement| placement.node).filter(|node| *node != config.id);
    let elsewhere = Arc::new(Elsewhere::new(map, config.id));
    let peers = Peers::start(mesh, nodes, &elsewhere);
    let log = seats.values().map(|seat| seat.replica.log_time()).max().unwrap_or_default();
    let time = Arc::new(GridTime::start(config.id, Arc::clone(&platform.clock), clock_rules(config, map), log));
    let context = Arc::new(NodeContext::new(config.id, time, owners(map), peers, elsewhere));
    let limits = lead_limits(config);
    let hosts = seats.into_iter().map(|(shard, seat)| (shard, Arc::new(ShardHost::new(shard, seat, limits))));
    context.set_hosts(hosts.collect());
    context
}

fn clock_rules(config: &NodeConfig, map: &ShardMap) -> Rules {
    let ms = |span: Duration| i64::try_from(span.as_millis()).expect("the configuration says at most days");
    Rules { nodes: map.meta.len(), skew: ms(config.clock_skew), leap: ms(config.clock_leap) }
}

fn lead_limits(config: &NodeConfig) -> LeadLimits {
    let limits = &config.limits;
    LeadLimits {
        running_per_shard: limits.shard_in_flight,
        waiting_per_key: WAITING_PER_KEY,
        parked_per_sku: limits.sku_in_flight,
        actors_per_shard: limits.shard_actors,
        renewals: RENEWALS,
        hold_validity: config.hold_valid,
        // The other half is for placing.
        hold_patience: LEADER_PATIENCE.min(config.hold_valid / 2),
        references_once: config.references_once,
        idle: limits.actor_idle,
        request: limits.request,
        batch: BatchLimits {
            queue: limits.shard_queue,
            commands: limits.entry_commands,
            bytes: limits.entry_bytes,
            entries: limits.entries_in_flight,
            tail: config.log_tail,
        },
    }
}

fn reporter(
    platform: &Platform,
    spec: &ClusterSpec,
    map: &Arc<ShardMap>,
    cluster: ClusterId,
    meta: &GroupRef,
    started: Instant,
) -> Reporter {
    let members = spec.nodes.iter().map(|node| Member {
        id: node.id,
        name: node.name.clone(),
        zone: node.zone.clone(),
        http: node.http_addr.clone(),
    });
    let (log, state) = (Arc::clone(&platform.log_engine), Arc::clone(&platform.state_engine));
    Reporter {
        cluster: spec.name.clone(),
        cluster_id: cluster.to_string(),
        members: members.collect(),
        map: ShardMap::clone(map),
        meta: Arc::clone(meta),
        started,
        disk_bytes: Box::new(move || log.stats().disk_bytes + state.stats().disk_bytes),
        render: render(platform),
        otherwise: RwLock::default(),
    }
}

fn render(platform: &Platform) -> Option<RenderMetrics> {
    platform.exporter.clone().map(|exporter| Arc::new(move || exporter.render()) as RenderMetrics)
}

fn node_grid(
    config: &NodeConfig,
    context: &Arc<NodeContext>,
    mesh: &Mesh,
    reporter: &Arc<Reporter>,
    meta: &MetaRows,
) -> NodeGrid {
    NodeGrid {
        node: Arc::clone(context),
        mesh: mesh.clone(),
        limits: GridLimits {
            request: config.limits.request,
            leader: LEADER_PATIENCE,
            report: 2 * config.group.election_max,
            verify: config.limits.verify,
        },
        reporter: Arc::clone(reporter),
        meta: meta.clone(),
        verifier: Arc::default(),
        cuts: Arc::default(),
        sent: Arc::default(),
    }
}

/// Serves the other nodes: messages between shards, and forwarded requests.
fn serve_peers(mesh: &Mesh, service: &PeerService, grid: &NodeGrid, account: &Account) {
    let calls = service.clone();
    mesh.serve(peers::SERVICE, Arc::new(move |_, body: Bytes| calls.serve(body)));
    let (grid, account) = (grid.clone(), account.clone());
    // A client's request is handled at most once: a repeated one might find another state.
    mesh.serve_once(
        grid::SERVICE,
        Arc::new(move |_, body: Bytes| {
            let (grid, account) = (grid.clone(), account.clone());
            Box::pin(async move {
                let cost = if body.len() > SMALL_FORWARD { Account::cost_of_body(body.len() as u64) } else { 0 };
                let Ok(taken) = account.take(Use::Forwarded, cost) else {
                    return grid::refused(Failure::refused(Refusal::Overloaded));
                };
                let answer = grid::answer(&grid, body).await;
                drop(taken);
                answer
            })
        }),
    );
}

fn serve_http(
    config: &NodeConfig,
    platform: &Platform,
    http: Box<dyn Listener>,
    front: Arc<Front>,
    account: Account,
    course: watch::Receiver<Course>,
) -> impl Future<Output = usize> + use<> {
    let settings = config.serving(platform.entropy.next_u64(), account);
    serve(HttpAccept(http), front, settings, course)
}

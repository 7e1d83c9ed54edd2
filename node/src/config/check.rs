//! Validates the typed settings and converts them. Reports every violated rule, not only the first.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use ordergrid_api::Account;
use ordergrid_cluster::GroupConfig;
use ordergrid_domain::machine::KEY_RETENTION;

use super::load::ConfigError;
use super::settings::{BootstrapNodeSettings, BootstrapSettings, Reads, ReferenceReuse, Settings};
use super::units::Size;
use super::{
    BootstrapConfig, BootstrapNode, HttpAddress, Limits, MOST_NODES, MemorySplit, MeshAddress, NodeConfig, ScrubConfig,
    TraceConfig,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Largest batch by default.
const USUAL_BATCH: u64 = 32 << 20;

/// Bytes of a frame in addition to the body of a batch.
const FRAME_SLACK: u64 = 1 << 20;

/// The rules violated so far, each with its key.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn rule(&mut self, holds: bool, key: &str, rule: impl FnOnce() -> String) {
        if !holds {
            self.0.push(format!("{key}: {}", rule()));
        }
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: &T, range: RangeInclusive<T>) {
        self.rule(range.contains(value), key, || format!("{value} is not within {} and {}", range.start(), range.end()));
    }
}

/// Validates the typed settings.
pub(super) fn check(settings: &Settings) -> Result<NodeConfig, ConfigError> {
    let mut broken = Broken::default();
    let id = settings.node.id.unwrap_or_default();
    broken.rule(settings.node.id.is_some(), "node.id", || "is required".to_owned());
    broken.rule(settings.node.id != Some(0), "node.id", || "ids begin at 1".to_owned());
    broken.rule(settings.node.data.is_some(), "node.data", || "is required: the folder of the node's data".to_owned());
    check_limits(settings, &mut broken);
    check_times(settings, &mut broken);
    let mesh = mesh(settings, &mut broken);
    let http = http(settings, &mut broken);
    let name = settings.node.name.clone().unwrap_or_else(|| format!("n{id}"));
    check_name("node.name", &name, &mut broken);
    check_name("node.zone", &settings.node.zone, &mut broken);
    check_name("cluster.name", &settings.cluster.name, &mut broken);
    let group = group(settings);
    if let Err(wrong) = group.validate() {
        broken.rule(false, "raft", || wrong.to_string());
    }
    let config = NodeConfig {
        id,
        name,
        zone: settings.node.zone.clone(),
        cluster: settings.cluster.name.clone(),
        data: settings.node.data.clone().unwrap_or_default(),
        workers: settings.node.workers,
        stop_within: settings.node.stop_within.0,
        drain: settings.http.drain.0,
        mesh,
        http,
        bootstrap: None,
        limits: limits(settings),
        memory: split(settings),
        rows: split(settings).rows(),
        group,
        scrub: ScrubConfig { rate: settings.scrub.rate.0, every: settings.scrub.every.0 },
        log_tail: tail(settings).bytes(),
        hold_valid: settings.orders.hold_valid.0,
        references_once: settings.orders.reference_reuse == ReferenceReuse::Never,
        clock_skew: settings.clock.skew.0,
        clock_leap: settings.clock.leap.0,
        trace: TraceConfig { filter: settings.trace.filter.clone(), json: settings.trace.json },
    };
    let bootstrap = settings.bootstrap.as_ref().map(|typed| bootstrap(typed, &config, &mut broken));
    if broken.0.is_empty() { Ok(NodeConfig { bootstrap, ..config }) } else { Err(ConfigError::Rules(broken.0)) }
}

fn check_limits(settings: &Settings, broken: &mut Broken) {
    let limits = &settings.limits;
    broken.within("limits.batch_orders", &limits.batch_orders, 1..=1_000);
    broken.within("limits.order_lines", &limits.order_lines, 1..=1_000);
    broken.within("limits.connection_streams", &limits.connection_streams, 1..=1 << 16);
    for (key, value) in [
        ("limits.connections", limits.connections),
        ("limits.shard_in_flight", limits.shard_in_flight),
        ("limits.sku_in_flight", limits.sku_in_flight),
        ("limits.shard_queue", limits.shard_queue),
        ("limits.entry_commands", limits.entry_commands),
        ("limits.shard_actors", limits.shard_actors),
        ("limits.mesh_queue", limits.mesh_queue),
        ("limits.log_queue", limits.log_queue),
    ] {
        broken.within(key, &value, 1..=1 << 24);
    }
    broken.within("limits.page_depth", &limits.page_depth, 0..=1 << 20);
    broken.within("limits.entries_in_flight", &limits.entries_in_flight, 0..=1 << 24);
    broken.within("node.workers", &settings.node.workers, 0..=1_024);
    let gib = |gib: u64| Size(gib << 30);
    broken.within("limits.order_body", &limits.order_body, Size(1 << 10)..=Size(1 << 30));
    broken.within("limits.batch_body", &batch_body(settings), Size(1 << 10)..=gib(1));
    check_memory(settings, broken);
    broken.within("limits.linger_bytes", &limits.linger_bytes, Size(0)..=gib(64));
    broken.within("limits.entry_bytes", &limits.entry_bytes, Size(1 << 10)..=Size(16 << 20));
    let frame = Size(batch_body(settings).0.max(limits.entry_bytes.0).saturating_add(FRAME_SLACK));
    broken.within("limits.frame", &limits.frame, frame..=gib(2));
    broken.within("checkpoint.dirty", &dirty(settings), Size(64 << 10)..=gib(16));
    broken.within("scrub.rate", &settings.scrub.rate, Size(0)..=gib(16));
    broken.within("log.tail", &tail(settings), Size(1 << 10)..=gib(16));
}

/// Checks that the memory is sufficient for the limits, and for the largest allowed body. Otherwise such a body would be
/// refused forever, as if there were too many requests.
fn check_memory(settings: &Settings, broken: &mut Broken) {
    let limits = &settings.limits;
    let asked = if limits.requests.is_some() { 0 } else { limits.order_body.0 };
    let least = Size(MemorySplit::least_for_body(asked)).up();
    let enough = limits.memory >= least;
    broken.rule(enough, "limits.memory", || {
        format!("{} is too little: with limits.order_body of {} a node needs {least}", limits.memory, limits.order_body)
    });
    let largest = Size(Account::new(requests(settings)).largest_body());
    for (key, body) in [("limits.order_body", limits.order_body), ("limits.batch_body", batch_body(settings))] {
        broken.rule(!enough || body <= largest, key, || {
            format!("{body} is more than the memory for requests ({}) can hold, which is {largest}", Size(requests(settings)))
        });
    }
    let order_first = !enough || limits.order_body <= batch_body(settings);
    broken.rule(order_first, "limits.order_body", || format!("{} is more than limits.batch_body", limits.order_body));
    broken.within("limits.requests", &Size(requests(settings)), Size(64 << 10)..=Size(split(settings).most_requests()));
}

/// The parts of the node's memory. Too little memory is reported once, without its consequences.
fn split(settings: &Settings) -> MemorySplit {
    MemorySplit::of(settings.limits.memory.0.max(MemorySplit::least_for_body(0)))
}

fn requests(settings: &Settings) -> u64 {
    settings.limits.requests.map_or_else(|| split(settings).requests(), |typed| typed.0)
}

fn batch_body(settings: &Settings) -> Size {
    let fits = || Size(Account::new(requests(settings)).largest_body().min(USUAL_BATCH));
    settings.limits.batch_body.unwrap_or_else(fits)
}

fn dirty(settings: &Settings) -> Size {
    settings.checkpoint.dirty.unwrap_or_else(|| Size(split(settings).dirty()))
}

fn tail(settings: &Settings) -> Size {
    // The meta group has a replica too.
    let replicas = settings.bootstrap.as_ref().map_or(1, |bootstrap| usize::from(shards(bootstrap))) + 1;
    settings.log.tail.unwrap_or_else(|| Size(split(settings).tail(replicas)))
}

/// As typed, or one for each node.
fn shards(typed: &BootstrapSettings) -> u16 {
    typed.shards.unwrap_or_else(|| u16::try_from(typed.nodes.len().max(1)).unwrap_or(u16::MAX))
}

fn check_times(settings: &Settings, broken: &mut Broken) {
    let (raft, second) = (&settings.raft, Duration::from_secs(1));
    for (key, value, least, most) in [
        ("node.stop_within", settings.node.stop_within, Duration::ZERO, DAY),
        ("limits.request", settings.limits.request, Duration::from_millis(100), 600 * second),
        ("limits.connection_idle", settings.limits.connection_idle, second, DAY),
        ("http.drain", settings.http.drain, Duration::ZERO, 600 * second),
        ("limits.linger", settings.limits.linger, Duration::ZERO, 600 * second),
        ("limits.header_wait", settings.limits.header_wait, Duration::from_millis(100), 600 * second),
        ("limits.body_wait", settings.limits.body_wait, Duration::from_millis(100), 600 * second),
        ("limits.verify", settings.limits.verify, second, DAY),
        ("limits.actor_idle", settings.limits.actor_idle, Duration::from_millis(10), DAY),
        ("raft.heartbeat", raft.heartbeat, Duration::from_millis(10), 60 * second),
        ("raft.election_min", raft.election_min, 2 * raft.heartbeat.0, 600 * second),
        ("raft.election_max", raft.election_max, raft.election_min.0 + Duration::from_millis(1), 600 * second),
        ("raft.lease_margin", raft.lease_margin, Duration::ZERO, raft.election_max.0),
        ("raft.stall", raft.stall, raft.election_max.0 + second, DAY),
        ("scrub.every", settings.scrub.every, Duration::ZERO, 30 * DAY),
        ("checkpoint.every", settings.checkpoint.every, Duration::from_millis(100), DAY),
        // A hold from a leader whose clock is behind must still be valid when it arrives.
        ("orders.hold_valid", settings.orders.hold_valid, settings.clock.skew.0 + second, 600 * second),
        ("clock.skew", settings.clock.skew, Duration::from_millis(10), 600 * second),
        // A clock jump that is accepted must not make the grid forget all keys.
        ("clock.leap", settings.clock.leap, settings.clock.skew.0, KEY_RETENTION - DAY),
    ] {
        broken.within(key, &value, super::Span(least)..=super::Span(most));
    }
}

/// Names go into labels, tables and paths.
fn check_name(key: &str, name: &str, broken: &mut Broken) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let holds = (1..=63).contains(&name.len()) && name.chars().all(plain);
    broken.rule(holds, key, || format!("{name:?} is not a name: 1 to 63 letters, digits, '-', '_' or '.'"));
}

fn mesh(settings: &Settings, broken: &mut Broken) -> MeshAddress {
    let listen = settings.mesh.listen.clone();
    check_address("mesh.listen", &listen, 0, broken);
    let named = own_entry(settings).map(|node| node.mesh.clone());
    let advertise = settings.mesh.advertise.clone().or(named).unwrap_or_else(|| listen.clone());
    let alone = settings.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.nodes.len() <= 1);
    check_address("mesh.advertise", &advertise, u16::from(!alone), broken);
    broken.rule(!is_wildcard(&advertise), "mesh.advertise", || {
        format!("is required, because other nodes cannot reach {advertise}")
    });
    MeshAddress { listen, advertise }
}

fn http(settings: &Settings, broken: &mut Broken) -> HttpAddress {
    let listen = settings.http.listen.clone();
    check_address("http.listen", &listen, 0, broken);
    let named = own_entry(settings).map(|node| node.http.clone());
    let advertise = settings.http.advertise.clone().or(named);
    if let Some(url) = &advertise {
        check_url("http.advertise", url, broken);
    }
    let reachable = advertise.is_some() || !is_wildcard(&listen);
    broken.rule(reachable, "http.advertise", || format!("is required, because clients cannot reach {listen}"));
    HttpAddress { listen, advertise }
}

fn own_entry(settings: &Settings) -> Option<&BootstrapNodeSettings> {
    settings.bootstrap.as_ref()?.nodes.iter().find(|node| Some(node.id) == settings.node.id)
}

fn is_wildcard(address: &str) -> bool {
    address.starts_with("0.0.0.0:") || address.starts_with("[::]:")
}

fn check_address(key: &str, address: &str, least_port: u16, broken: &mut Broken) {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
    broken.rule(port.is_some_and(|port: u16| port >= least_port), key, || {
        format!("{address:?} is not a host and a port such as \"10.0.0.1:7411\"")
    });
}

fn check_url(key: &str, url: &str, broken: &mut Broken) {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = |host: &str| !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    broken.rule(host.is_some_and(plain), key, || {
        format!("{url:?} is not a URL without a path, such as \"http://10.0.0.1:8080\"")
    });
}

fn bootstrap(typed: &BootstrapSettings, own: &NodeConfig, broken: &mut Broken) -> BootstrapConfig {
    let mut nodes: Vec<_> = typed.nodes.iter().map(node).collect();
    if nodes.is_empty() {
        let http = own.http.advertise.clone().unwrap_or_else(|| format!("http://{}", own.http.listen));
        nodes.push(BootstrapNode {
            id: own.id,
            name: own.name.clone(),
            zone: own.zone.clone(),
            mesh: own.mesh.advertise.clone(),
            http,
        });
    }
    nodes.sort_by_key(|node| node.id);
    let key = "bootstrap.nodes";
    broken.rule(nodes.len() % 2 == 1 && nodes.len() <= MOST_NODES, key, || {
        format!("{} nodes: name 1, 3, 5 or 7, so that a majority is clear", nodes.len())
    });
    for node in &nodes {
        let place = format!("{key} {}", node.id);
        broken.rule(node.id > 0, &place, || "ids begin at 1".to_owned());
        check_name(&place, &node.name, broken);
        check_name(&place, &node.zone, broken);
        check_address(&place, &node.mesh, u16::from(nodes.len() > 1), broken);
        check_url(&place, &node.http, broken);
    }
    check_distinct("id", nodes.iter().map(|node| node.id.to_string()), broken);
    check_distinct("name", nodes.iter().map(|node| node.name.clone()), broken);
    check_distinct("mesh address", nodes.iter().map(|node| node.mesh.clone()), broken);
    check_distinct("URL", nodes.iter().map(|node| node.http.clone()), broken);
    check_own(&nodes, own, broken);
    let shards = shards(typed);
    broken.within("bootstrap.shards", &shards, 1..=4_096);
    BootstrapConfig { shards, nodes, moved: typed.moved }
}

fn check_distinct(what: &str, values: impl Iterator<Item = String>, broken: &mut Broken) {
    let mut seen = BTreeSet::new();
    for value in values {
        broken.rule(!seen.contains(&value), "bootstrap.nodes", || format!("two nodes have the {what} {value}"));
        seen.insert(value);
    }
}

/// Checks that the description of this node agrees with its own settings.
fn check_own(nodes: &[BootstrapNode], own: &NodeConfig, broken: &mut Broken) {
    let Some(named) = nodes.iter().find(|node| node.id == own.id) else {
        return broken.rule(false, "bootstrap.nodes", || format!("this node, {}, is not among them", own.id));
    };
    for (key, here, there) in [
        ("node.name", &own.name, &named.name),
        ("node.zone", &own.zone, &named.zone),
        ("mesh.advertise", &own.mesh.advertise, &named.mesh),
    ] {
        broken.rule(here == there, key, || format!("{here:?} here, {there:?} in bootstrap.nodes"));
    }
}

fn node(typed: &BootstrapNodeSettings) -> BootstrapNode {
    BootstrapNode {
        id: typed.id,
        name: typed.name.clone().unwrap_or_else(|| format!("n{}", typed.id)),
        zone: typed.zone.clone(),
        mesh: typed.mesh.clone(),
        http: typed.http.clone(),
    }
}

/// The settings that an operator would have typed.
pub(super) fn typed(bootstrap: &BootstrapConfig) -> BootstrapSettings {
    let node = |node: &BootstrapNode| BootstrapNodeSettings {
        id: node.id,
        name: Some(node.name.clone()),
        zone: node.zone.clone(),
        mesh: node.mesh.clone(),
        http: node.http.clone(),
    };
    let nodes = bootstrap.nodes.iter().map(node).collect();
    BootstrapSettings { shards: Some(bootstrap.shards), nodes, moved: bootstrap.moved }
}

fn limits(settings: &Settings) -> Limits {
    let limits = &settings.limits;
    Limits {
        order_body: limits.order_body.bytes(),
        batch_body: batch_body(settings).bytes(),
        batch_orders: limits.batch_orders,
        order_lines: limits.order_lines,
        connections: limits.connections,
        connection_idle: limits.connection_idle.0,
        connection_streams: limits.connection_streams,
        linger: limits.linger.0,
        linger_bytes: limits.linger_bytes.bytes(),
        requests: requests(settings),
        header_wait: limits.header_wait.0,
        body_wait: limits.body_wait.0,
        page_depth: limits.page_depth,
        request: limits.request.0,
        verify: limits.verify.0,
        shard_in_flight: limits.shard_in_flight,
        sku_in_flight: limits.sku_in_flight,
        shard_queue: limits.shard_queue,
        entry_commands: limits.entry_commands,
        entry_bytes: limits.entry_bytes.bytes(),
        entries_in_flight: limits.entries_in_flight,
        shard_actors: limits.shard_actors,
        actor_idle: limits.actor_idle.0,
        frame: limits.frame.bytes(),
        mesh_queue: limits.mesh_queue,
        log_queue: limits.log_queue,
    }
}

fn group(settings: &Settings) -> GroupConfig {
    let (raft, base) = (&settings.raft, GroupConfig::default());
    GroupConfig {
        heartbeat: raft.heartbeat.0,
        heartbeat_quiet: base.heartbeat_quiet.min(raft.heartbeat.0 / 2),
        election_min: raft.election_min.0,
        election_max: raft.election_max.0,
        lease_margin: raft.lease_margin.0,
        stall: raft.stall.0,
        leases: raft.reads == Reads::Lease,
        checkpoint_every: settings.checkpoint.every.0,
        checkpoint_bytes: dirty(settings).0,
        entries_kept: settings.log.kept,
        ..base
    }
}

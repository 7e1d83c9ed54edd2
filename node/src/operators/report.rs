//! What a node says of itself, and the cluster put together from what every node says.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use futures::future::join_all;
use ordergrid_api::wire::cluster::{Check, ClusterStatus, Health, NodeStatus, ReplicaStatus, ShardStatus, StoppedStreamStatus};
use ordergrid_api::wire::{AcceptClock, ClusterClock, NodeClock, RightClock};
use ordergrid_api::{Answer, Reply, Token};
use ordergrid_cluster::{GroupRef, GroupStatus, Role, ShardMap};
use ordergrid_domain::{GroupId, Timestamp};
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::agreement::{self, Otherwise};
use crate::clocks::{Right, words};
use crate::context::NodeContext;
use crate::front::grid::NodeGrid;
use crate::shard::StoppedStream;

/// Renders the process' metrics, if an exporter is installed.
pub(crate) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// A node of the cluster, as configured.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) http: String,
}

/// One replica of one group, as its node sees it.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct ReplicaReport {
    pub(crate) group: GroupId,
    pub(crate) replica: u64,
    pub(crate) leads: bool,
    pub(crate) leader: Option<u64>,
    /// That leader works, as far as the replica can tell.
    pub(crate) led: bool,
    pub(crate) term: u64,
    pub(crate) last_log: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) checkpoint: u64,
}

/// A node, as it sees itself.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct NodeReport {
    /// The checks of its readiness that do not hold.
    pub(crate) failing: Vec<Check>,
    pub(crate) uptime_seconds: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) resident_bytes: u64,
    /// What is wrong with its clock.
    pub(crate) clock: Option<String>,
    /// It is about to stop, and still serves.
    pub(crate) draining: bool,
    /// Streams that are stopped, of the shards that it leads.
    pub(crate) stopped: Vec<StoppedStream>,
    pub(crate) replicas: Vec<ReplicaReport>,
}

/// Everything a report needs that the shards do not know.
pub(crate) struct Reporter {
    pub(crate) cluster: String,
    pub(crate) cluster_id: String,
    pub(crate) members: Vec<Member>,
    pub(crate) map: ShardMap,
    pub(crate) meta: GroupRef,
    pub(crate) started: Instant,
    pub(crate) disk_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) render: Option<RenderMetrics>,
    /// Peers that were started with other settings where all must be the same.
    pub(crate) otherwise: RwLock<Otherwise>,
}

impl Reporter {
    /// Whether this node may take requests, check by check.
    pub(crate) fn readiness(&self, node: &NodeContext) -> Vec<Check> {
        let check = |name: &str, ok: bool, detail: String| Check { name: name.to_owned(), ok, detail };
        let damaged = node.hosts().filter_map(|host| {
            let damage = host.damage()?;
            Some(format!("shard {} is damaged ({}); {}", host.shard, damage.what, damage.doing))
        });
        let damaged = damaged.collect::<Vec<_>>().join("; ");
        let short = shorter_logs(std::iter::once(Arc::clone(&self.meta)).chain(node.hosts().map(|host| host.group())));
        let clocks = node.time.seen();
        vec![
            check("running", !node.draining() && node.failed().borrow().is_none(), stops(node)),
            led("meta_group_led", [Arc::clone(&self.meta)].into_iter(), node.id),
            led("shards_led", node.hosts().map(|host| host.group()), node.id),
            check("state_whole", damaged.is_empty(), damaged),
            check("logs_whole", short.is_empty(), short),
            // Where nobody else could do better, a doubtful clock is told and does not keep the node from serving.
            check("clocks_agree", !clocks.gives_way(), words(&clocks).unwrap_or_default()),
            self.settings_agree(),
            self.replicas_follow(node),
            streams_flow(node),
        ]
    }

    /// Every group with a replica here: whether a leader that works leads it, and whether that is this node.
    pub(crate) fn led(&self, node: &NodeContext) -> Vec<(GroupId, bool, bool)> {
        let groups = std::iter::once(Arc::clone(&self.meta)).chain(node.hosts().map(|host| host.group()));
        let told = groups.map(|group| {
            let led = group.led();
            (group.id(), led, led && group.leadership().borrow().leader == Some(node.id))
        });
        told.collect()
    }

    /// A replica that stands although its leader goes on serves nobody well: not its clients, and not its group.
    fn replicas_follow(&self, node: &NodeContext) -> Check {
        let groups = std::iter::once(Arc::clone(&self.meta)).chain(node.hosts().map(|host| host.group()));
        let standing: Vec<_> = groups.filter_map(|group| standing(&group)).collect();
        let name = "replicas_follow".to_owned();
        Check { name, ok: standing.is_empty(), detail: list("a replica does not follow its leader: shards", &standing) }
    }

    fn settings_agree(&self) -> Check {
        let otherwise = self.otherwise.read();
        let told: Vec<_> = otherwise.values().cloned().collect();
        let ok = !agreement::is_odd_one(&otherwise, self.members.len());
        Check { name: "settings_agree".to_owned(), ok, detail: told.join("; ") }
    }

    /// The metrics of this process.
    pub(crate) fn metrics(&self) -> String {
        self.render.as_ref().map_or_else(String::new, |render| render())
    }

    /// The clocks of this node, after it was told which is right, if that is said.
    pub(crate) fn clock(&self, node: &NodeContext, accept: Option<AcceptClock>) -> NodeClock {
        let log = node.log_time();
        let right = accept.map(|accept| match accept.right {
            RightClock::Wall => Right::Wall,
            RightClock::Log => Right::Log,
        });
        let tried = accept.is_some_and(|accept| accept.dry_run);
        if let Some(right) = right.filter(|_| !tried) {
            node.time.accept(right, log);
        }
        let becomes = right.filter(|_| tried).map(|right| node.time.accepted(right, log));
        let name = self.members.iter().find(|member| member.id == node.id).map(|member| member.name.clone());
        NodeClock {
            id: node.id,
            name: name.unwrap_or_default(),
            reachable: true,
            wall: Some(node.time.wall()),
            grid: Some(node.time.now()),
            log: (log > Timestamp::default()).then_some(log),
            becomes,
            expires: node.time.may_tick(),
            wrong: words(&node.time.seen()),
        }
    }

    /// This node, as it sees itself.
    pub(crate) fn report(&self, node: &NodeContext) -> NodeReport {
        let meta = replica_report(&self.meta.status(), node.id);
        let shards = node.hosts().map(|host| replica_report(&host.group().status(), node.id));
        NodeReport {
            failing: self.readiness(node).into_iter().filter(|check| !check.ok).collect(),
            uptime_seconds: self.started.elapsed().as_secs(),
            disk_bytes: (self.disk_bytes)(),
            resident_bytes: node.hosts().map(|host| host.replica().machine().resident_bytes()).sum(),
            clock: words(&node.time.seen()),
            draining: node.draining(),
            stopped: stopped(node),
            replicas: std::iter::once(meta).chain(shards).collect(),
        }
    }
}

fn stopped(node: &NodeContext) -> Vec<StoppedStream> {
    node.hosts().filter_map(|host| host.leading()).flat_map(|leading| leading.lead.stopped.all()).collect()
}

/// A stopped stream is told, and does not make the node unready: orders are placed and read right meanwhile. Units wait that a shard
/// would free, commit or ship, and whichever node led instead would find the same.
fn streams_flow(node: &NodeContext) -> Check {
    let told: Vec<_> = stopped(node).iter().map(|stream| stream_status(stream).words()).collect();
    Check { name: "streams_flow".to_owned(), ok: true, detail: told.join("; ") }
}

fn stream_status(stream: &StoppedStream) -> StoppedStreamStatus {
    let StoppedStream { from, to, since, why } = stream;
    StoppedStreamStatus { from: from.0, to: to.0, since: *since, why: why.to_string() }
}

/// The replicas whose logs have lost entries, in words. Only a leader refills them, and where too many have lost theirs there is none.
fn shorter_logs(groups: impl Iterator<Item = GroupRef>) -> String {
    let (mut refilled, mut waiting) = (Vec::new(), Vec::new());
    for group in groups {
        let status = group.status();
        let Some(vouched) = status.vouched else { continue };
        let among = if group.led() { &mut refilled } else { &mut waiting };
        among.push(format!("{} ({} of {})", status.group, status.last_log, vouched.index));
    }
    shorter(&refilled, &waiting)
}

fn shorter(refilled: &[String], waiting: &[String]) -> String {
    let waits = list("the log has lost entries, and no leader is there to refill it, for shards", waiting);
    let advice = "; if the other nodes run, their logs are damaged too, and `ordergrid offline status` on each stopped node says \
                  which has the most";
    let told = [list("the log has lost entries and is being refilled for shards", refilled), waits];
    let told: Vec<_> = told.into_iter().filter(|told| !told.is_empty()).collect();
    told.join("; ") + if waiting.is_empty() { "" } else { advice }
}

fn stops(node: &NodeContext) -> String {
    if node.draining() { "this node is about to stop".to_owned() } else { String::new() }
}

fn standing(group: &GroupRef) -> Option<String> {
    let stood = group.stands()?;
    Some(format!("{} ({} entries behind for {} s)", group.id(), group.lag(), stood.as_secs()))
}

fn unreachable_clock(member: &Member) -> NodeClock {
    let (id, name) = (member.id, member.name.clone());
    NodeClock { id, name, reachable: false, wall: None, grid: None, log: None, becomes: None, expires: false, wrong: None }
}

/// The clocks of every node, after each that answers was told which is right, if that is said.
pub(crate) async fn clocks(grid: &NodeGrid, accept: Option<AcceptClock>) -> Reply<ClusterClock> {
    if accept.is_some_and(|accept| !accept.dry_run) {
        // What a node sees of the clocks while others are still to be told is over when all of them are.
        clocks_once(grid, accept).await;
        return Ok(Answer::new(clocks_once(grid, None).await, Token::default()));
    }
    let mut clocks = clocks_once(grid, accept).await;
    if accept.is_none() {
        without_majority(&mut clocks);
    }
    Ok(Answer::new(clocks, Token::default()))
}

/// Where no majority of the nodes answers nothing is stamped, and so nothing expires, whatever their clocks allow.
fn without_majority(clocks: &mut ClusterClock) {
    let answering = clocks.nodes.iter().filter(|node| node.reachable).count();
    if 2 * answering <= clocks.nodes.len() {
        clocks.nodes.iter_mut().for_each(|node| node.expires = false);
    }
}

async fn clocks_once(grid: &NodeGrid, accept: Option<AcceptClock>) -> ClusterClock {
    let asked = grid.reporter.members.iter().map(|member| async move {
        let clock =
            if member.id == grid.node.id { Some(grid.clock(accept).await) } else { grid.clock_of(member.id, accept).await };
        clock.unwrap_or_else(|| unreachable_clock(member))
    });
    ClusterClock { nodes: join_all(asked).await }
}

fn list(what: &str, items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!("{what} {}", items.join(", ")) }
}

/// Whether every group has a leader that works, and is ready to where it is this node.
fn led(name: &str, groups: impl Iterator<Item = GroupRef>, node: u64) -> Check {
    let (mut unheard, mut unanswered, mut unready) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        let now = *group.leadership().borrow();
        let here = now.leader == Some(node);
        let among = match (group.led(), here) {
            (true, false) => continue,
            (true, true) if now.ready_here => continue,
            (true, true) => &mut unready,
            (false, true) => &mut unanswered,
            (false, false) => &mut unheard,
        };
        among.push(group.id().to_string());
    }
    let why = [
        ("no quorum answers this node, which leads", unanswered),
        ("no leader is heard of for", unheard),
        ("this node is about to lead", unready),
    ];
    let why: Vec<_> = why.into_iter().filter(|(_, groups)| !groups.is_empty()).collect();
    let detail: Vec<_> = why.iter().map(|(why, groups)| format!("{why} {}", groups.join(", "))).collect();
    Check { name: name.to_owned(), ok: why.is_empty(), detail: detail.join("; ") }
}

fn replica_report(status: &GroupStatus, node: u64) -> ReplicaReport {
    ReplicaReport {
        group: status.group,
        replica: status.replica,
        leads: status.role == Role::Leader && status.leader == Some(node),
        leader: status.leader,
        led: status.led,
        term: status.term,
        last_log: status.last_log,
        committed: status.committed,
        applied: status.applied,
        checkpoint: status.checkpoint,
    }
}

/// The cluster as the nodes that answer see it.
pub(crate) async fn status(grid: &NodeGrid) -> Reply<ClusterStatus> {
    let reporter = &grid.reporter;
    let asked = reporter.members.iter().map(|member| async move {
        let report =
            if member.id == grid.node.id { Some(reporter.report(&grid.node)) } else { grid.report_of(member.id).await };
        (member, report)
    });
    let reports = join_all(asked).await;
    let shards = shards(&reporter.map, &reports);
    let committed = committed(&reports);
    let nodes: Vec<_> = reports.iter().map(|(member, report)| node_status(member, report.as_ref(), &committed)).collect();
    let led = shards.iter().all(|shard| shard.leader.is_some());
    let mut stopped_streams: Vec<_> = reports
        .iter()
        .filter_map(|(_, report)| report.as_ref())
        .flat_map(|report| &report.stopped)
        .map(stream_status)
        .collect();
    stopped_streams.sort_by_key(|stream| (stream.from, stream.to));
    let whole = nodes.iter().all(|node| node.state == "ok") && stopped_streams.is_empty();
    let health = match (led, whole) {
        (true, true) => Health::Healthy,
        (true, false) => Health::Degraded,
        (false, _) => Health::Unavailable,
    };
    let status = ClusterStatus {
        cluster: reporter.cluster.clone(),
        cluster_id: reporter.cluster_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        health,
        orders_per_s: None,
        nodes,
        shards,
        stopped_streams,
    };
    Ok(Answer::new(status, Token::default()))
}

/// How far each group has committed, as far as anybody says: a replica that is not told does not know.
fn committed(reports: &[(&Member, Option<NodeReport>)]) -> BTreeMap<GroupId, u64> {
    let mut committed = BTreeMap::new();
    for replica in reports.iter().filter_map(|(_, report)| report.as_ref()).flat_map(|report| &report.replicas) {
        let most: &mut u64 = committed.entry(replica.group).or_default();
        *most = replica.committed.max(*most);
    }
    committed
}

fn node_status(member: &Member, report: Option<&NodeReport>, committed: &BTreeMap<GroupId, u64>) -> NodeStatus {
    let state = match report {
        None => "unreachable",
        Some(report) if report.draining => "draining",
        Some(report) if report.clock.is_some() => "clock_skew",
        Some(report) if report.failing.is_empty() => "ok",
        Some(_) => "not_ready",
    };
    let replicas = report.map_or(&[][..], |report| &report.replicas);
    let behind = |replica: &ReplicaReport| committed.get(&replica.group).map_or(0, |most| most.saturating_sub(replica.applied));
    NodeStatus {
        id: member.id,
        name: member.name.clone(),
        zone: member.zone.clone(),
        http: member.http.clone(),
        state: state.to_owned(),
        failing: report.map(|report| report.failing.clone()).unwrap_or_default(),
        reachable: report.is_some(),
        leaders: u32::try_from(replicas.iter().filter(|replica| replica.leads && replica.led).count()).unwrap_or(u32::MAX),
        replicas: u32::try_from(replicas.len()).unwrap_or(u32::MAX),
        lag: replicas.iter().map(behind).max(),
        disk_bytes: report.map(|report| report.disk_bytes),
        resident_bytes: report.map(|report| report.resident_bytes),
        uptime_seconds: report.map(|report| report.uptime_seconds),
        clock: report.and_then(|report| report.clock.clone()),
    }
}

fn shards(map: &ShardMap, reports: &Reports<'_>) -> Vec<ShardStatus> {
    let ranges = map.shards.iter().map(|shard| (shard.group, Some((shard.first, shard.last)), shard.replicas.len()));
    let groups = std::iter::once((GroupId::META, None, map.meta.len())).chain(ranges);
    groups.map(|(group, range, voters)| shard_status(group, range, voters, reports)).collect()
}

type Reports<'a> = [(&'a Member, Option<NodeReport>)];

/// Whether a leader works: by its own word, else by the word of so many that hear it as make a majority with it.
fn works(group: GroupId, term: u64, leader: u64, voters: usize, reports: &Reports<'_>) -> bool {
    let of = |report: &NodeReport| report.replicas.iter().find(|replica| replica.group == group).cloned();
    let mut hearing = 1;
    for (member, report) in reports {
        let Some(replica) = report.as_ref().and_then(of) else { continue };
        if member.id == leader {
            return replica.leads && replica.led;
        }
        hearing += usize::from(replica.led && (replica.term, replica.leader) == (term, Some(leader)));
    }
    hearing > voters / 2
}

fn shard_status(group: GroupId, range: Option<(u16, u16)>, voters: usize, reports: &Reports<'_>) -> ShardStatus {
    let mut replicas = Vec::new();
    let (mut term, mut leader) = (0, None);
    for (member, report) in reports {
        let Some(report) = report else { continue };
        for replica in report.replicas.iter().filter(|replica| replica.group == group) {
            // The highest term knows best who leads.
            if replica.term > term || (replica.term == term && leader.is_none()) {
                (term, leader) = (replica.term, replica.leader);
            }
            replicas.push(ReplicaStatus {
                node: member.id,
                replica: replica.replica,
                last_log: Some(replica.last_log),
                committed: Some(replica.committed),
                applied: Some(replica.applied),
                checkpoint: Some(replica.checkpoint),
                hash: None,
            });
        }
    }
    let leader = leader.filter(|leader| works(group, term, *leader, voters, reports));
    let (first_slot, last_slot) = range.unzip();
    ShardStatus { shard: group.0, first_slot, last_slot, leader, term, replicas }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_expires_where_no_majority_of_the_nodes_answers() {
        let member = |id| Member { id, name: String::new(), zone: String::new(), http: String::new() };
        for (answering, expires) in [(0, 0), (1, 0), (2, 2), (3, 3)] {
            let clock =
                |id| NodeClock { reachable: id <= answering, expires: id <= answering, ..unreachable_clock(&member(id)) };
            let mut clocks = ClusterClock { nodes: (1..=3).map(clock).collect() };
            without_majority(&mut clocks);
            assert_eq!(clocks.nodes.iter().filter(|node| node.expires).count(), expires, "{answering} answer");
        }
    }

    #[test]
    fn a_log_is_said_to_be_refilled_only_where_somebody_can() {
        let one = |text: &str| vec![text.to_owned()];
        assert_eq!(shorter(&[], &[]), "");
        assert_eq!(shorter(&one("1 (3 of 9)"), &[]), "the log has lost entries and is being refilled for shards 1 (3 of 9)");
        let told = shorter(&one("1 (3 of 9)"), &one("2 (4 of 8)"));
        assert!(told.contains("is being refilled for shards 1 (3 of 9); the log has lost entries, and no leader"), "{told}");
        assert!(told.contains("for shards 2 (4 of 8); if the other nodes run") && told.contains("offline status"), "{told}");
        assert!(!shorter(&[], &one("2 (4 of 8)")).contains("is being refilled"));
    }
}

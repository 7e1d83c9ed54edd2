//! Founding a cluster: together, alone, after a crash in the middle, and never on a lost disk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, ready};
use openraft::TokioRuntime;
use ordergrid_cluster::{
    Agreement, BootstrapError, Bootstrapper, ClusterId, ClusterSpec, Founded, GroupConfig, GroupParts, IdentityStore, Mesh,
    MeshConfig, MetaMachine, NodeSpec, Route, Router, found_meta, record_founding, start_group,
};
use ordergrid_domain::{GroupId, Slot};
use parking_lot::Mutex;

use crate::support::log::MemLog;
use crate::support::net::Wires;
use crate::support::store::{MemStore, Tally};
use crate::support::{MachineClocks, addr, mesh, packed, within};

#[derive(Clone, Default)]
struct Disk {
    record: Arc<Mutex<Option<Bytes>>>,
    /// What the meta group's checkpoint on it says.
    founding: Option<ClusterSpec>,
    /// There was a record, which was lost.
    forgotten: bool,
    /// Saves from here on fail, as if the process died.
    dies_after: Arc<Mutex<Option<usize>>>,
}

impl IdentityStore for Disk {
    fn load(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        ready(Ok(self.record.lock().clone())).boxed()
    }

    fn save(&self, record: Bytes) -> BoxFuture<'_, io::Result<()>> {
        if let Some(left) = &mut *self.dies_after.lock() {
            if *left == 0 {
                return ready(Err(io::Error::other("crashed"))).boxed();
            }
            *left -= 1;
        }
        *self.record.lock() = Some(record);
        ready(Ok(())).boxed()
    }

    fn founding(&self) -> BoxFuture<'_, io::Result<Option<(ClusterId, ClusterSpec)>>> {
        ready(Ok(self.founding.clone().map(|spec| (ClusterId(100), spec)))).boxed()
    }

    fn forgotten(&self) -> BoxFuture<'_, io::Result<bool>> {
        ready(Ok(self.forgotten)).boxed()
    }
}

fn spec(nodes: u64) -> ClusterSpec {
    let node = |id: u64| NodeSpec {
        id,
        name: format!("n{id}"),
        zone: "a".into(),
        mesh_addr: addr(id),
        http_addr: format!("http-{id}"),
    };
    ClusterSpec { name: "shop".into(), nodes: (1..=nodes).map(node).collect(), shards: 4 }
}

async fn start(wires: &Wires, node: u64, of: u64, disk: &Disk) -> (Mesh, Result<ClusterId, BootstrapError>) {
    let (mesh, founded) = start_as(wires, node, spec(of), Agreement::default(), disk).await;
    (mesh, founded.map(|founded| founded.cluster))
}

async fn start_as(
    wires: &Wires,
    node: u64,
    spec: ClusterSpec,
    settings: Agreement,
    disk: &Disk,
) -> (Mesh, Result<Founded, BootstrapError>) {
    let mesh = mesh(wires, node, None, MeshConfig::default()).await;
    let bootstrapper = Bootstrapper {
        spec,
        moved: false,
        settings,
        node,
        mesh: mesh.clone(),
        store: Arc::new(disk.clone()),
        fresh: ClusterId(u128::from(node) * 100),
        waits: Box::new(drop),
    };
    let founded = within(bootstrapper.run()).await;
    (mesh, founded)
}

#[tokio::test(start_paused = true)]
async fn three_empty_nodes_agree_whatever_the_order() {
    let wires = Wires::default();
    let disks: Vec<Disk> = (0..3).map(|_| Disk::default()).collect();
    let started = join_all([3, 1, 2].map(|node| {
        let (wires, disk) = (wires.clone(), disks[node as usize - 1].clone());
        async move {
            tokio::time::sleep(Duration::from_secs(node)).await;
            start(&wires, node, 3, &disk).await
        }
    }))
    .await;
    for (mesh, founded) in &started {
        assert_eq!(founded.as_ref().unwrap(), &ClusterId(100), "node {}", mesh.node());
        assert_eq!(mesh.cluster(), Some(ClusterId(100)));
    }
    drop(started);
    // Each starts again alone, without asking anybody.
    let (_mesh, again) = start(&wires, 2, 3, &disks[1]).await;
    assert_eq!(again.unwrap(), ClusterId(100));
}

#[tokio::test(start_paused = true)]
async fn one_node_founds_alone() {
    let (_mesh, founded) = start(&Wires::default(), 1, 1, &Disk::default()).await;
    assert_eq!(founded.unwrap(), ClusterId(100));
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_is_survived() {
    for (crashing, saves) in [(1, 0), (1, 1), (3, 0), (3, 1)] {
        let wires = Wires::default();
        let disks: Vec<Disk> = (0..3).map(|_| Disk::default()).collect();
        *disks[crashing as usize - 1].dies_after.lock() = Some(saves);
        let others = [1, 2, 3].into_iter().filter(|node| *node != crashing).map(|node| {
            let (wires, disk) = (wires.clone(), disks[node as usize - 1].clone());
            async move { start(&wires, node, 3, &disk).await }
        });
        let crashed = async {
            let (mesh, died) = start(&wires, crashing, 3, &disks[crashing as usize - 1]).await;
            assert!(matches!(died, Err(BootstrapError::Disk(_))), "{died:?}");
            mesh.shutdown();
            drop(mesh);
            tokio::time::sleep(Duration::from_secs(10)).await;
            *disks[crashing as usize - 1].dies_after.lock() = None;
            start(&wires, crashing, 3, &disks[crashing as usize - 1]).await
        };
        let (others, again) = futures::join!(join_all(others), crashed);
        for (mesh, founded) in others.into_iter().chain([again]) {
            let case = format!("node {crashing} crashes after {saves} saves, node {}", mesh.node());
            assert_eq!(founded.unwrap_or_else(|failed| panic!("{case}: {failed}")), ClusterId(100), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_disk_is_refused() {
    let wires = Wires::default();
    let disks: Vec<Disk> = (0..3).map(|_| Disk::default()).collect();
    let nodes = join_all((1..=3).map(|node| start(&wires, node, 3, &disks[node as usize - 1]))).await;
    let mut meshes = nodes.into_iter().map(|(mesh, _)| mesh);
    let _others = [meshes.next(), meshes.next()];
    meshes.next().unwrap().shutdown();
    let (_mesh, refused) = start(&wires, 3, 3, &Disk::default()).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, BootstrapError::DiskLost { peer: 1, cluster: ClusterId(100) }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_forgotten_whose_it_is_is_told() {
    let wires = Wires::default();
    let disks: Vec<Disk> = (0..3).map(|_| Disk::default()).collect();
    let nodes = join_all((1..=3).map(|node| start(&wires, node, 3, &disks[node as usize - 1]))).await;
    nodes[2].0.shutdown();
    // By the others, or by the rows of its own meta group.
    for founding in [None, Some(spec(3))] {
        let disk = Disk { forgotten: true, founding, ..Disk::default() };
        let (mesh, founded) = start(&wires, 3, 3, &disk).await;
        assert_eq!(founded.expect("it was one of them"), ClusterId(100));
        mesh.shutdown();
        // From now on it knows by itself.
        let (mesh, founded) = start(&wires, 3, 3, &Disk { founding: None, ..disk }).await;
        assert_eq!(founded.expect("it was one of them"), ClusterId(100));
        mesh.shutdown();
    }
    // Rows of another cluster than the one that is configured are refused.
    let founding = Some(ClusterSpec { shards: 5, ..spec(3) });
    let (_mesh, refused) = start(&wires, 3, 3, &Disk { forgotten: true, founding, ..Disk::default() }).await;
    assert!(matches!(refused, Err(BootstrapError::NotAsFounded(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_moved_is_told_what_to_set() {
    let disk = Disk::default();
    assert!(with_shards(4, &disk).await.is_ok());
    let mut moved = spec(1);
    moved.nodes[0].http_addr = "http://elsewhere".into();
    let (_mesh, refused) = start_as(&Wires::default(), 1, moved, Agreement::default(), &disk).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("bootstrap.nodes 1 http is http://elsewhere in the configuration"), "{refused}");
    assert!(refused.contains("bootstrap.moved = true") && !refused.contains("would not be found"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn another_nodes_disk_is_refused() {
    let wires = Wires::default();
    let disk = Disk::default();
    let (mesh, _) = start(&wires, 1, 1, &disk).await;
    mesh.shutdown();
    let other = crate::support::mesh(&wires, 3, None, MeshConfig::default()).await;
    let run = |node, name: &str| Bootstrapper {
        spec: ClusterSpec { name: name.into(), ..spec(3) },
        moved: false,
        settings: Agreement::default(),
        node,
        mesh: other.clone(),
        store: Arc::new(disk.clone()),
        fresh: ClusterId(9),
        waits: Box::new(drop),
    };
    let refused = run(3, "shop").run().await.unwrap_err();
    assert_eq!(refused.to_string(), "this disk belongs to node 1, not to node 3");
    let refused = run(1, "other").run().await.unwrap_err();
    assert_eq!(refused.to_string(), "this disk belongs to the cluster shop, not to other");
    let refused = run(4, "shop").run().await.unwrap_err();
    assert_eq!(refused.to_string(), "node 4 is not among the nodes of the cluster");
}

/// Starts the one node of a grid that was founded with four shards, with this many, on this disk.
async fn with_shards(shards: u32, disk: &Disk) -> Result<Founded, BootstrapError> {
    let spec = ClusterSpec { shards, ..spec(1) };
    let (mesh, started) = start_as(&Wires::default(), 1, spec, Agreement::default(), disk).await;
    mesh.shutdown();
    started
}

#[tokio::test(start_paused = true)]
async fn a_grid_keeps_what_it_was_founded_with() {
    let disk = Disk::default();
    let founded = with_shards(4, &disk).await.unwrap();
    assert_eq!(founded, Founded { cluster: ClusterId(100), proven: true });
    for shards in [16, 2] {
        let refused = with_shards(shards, &disk).await.unwrap_err().to_string();
        let named = format!("bootstrap.shards is {shards} in the configuration and 4 as founded; restore");
        assert!(refused.contains(&named), "{refused}");
    }
    assert_eq!(with_shards(4, &disk).await.unwrap(), founded);
}

/// An established disk as the version before wrote it: it says who it is, and not what the cluster was founded with.
fn disk_of_before(founding: Option<ClusterSpec>) -> Disk {
    let record = Bytes::from_static(b"\x00\x01\x04shop\x02\x64");
    Disk { record: Arc::new(Mutex::new(Some(record))), founding, ..Disk::default() }
}

#[tokio::test(start_paused = true)]
async fn a_disk_of_before_takes_the_founding_from_its_meta_group() {
    let disk = disk_of_before(Some(spec(1)));
    let refused = with_shards(16, &disk).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::NotAsFounded(_)), "{refused}");
    assert!(with_shards(4, &disk).await.unwrap().proven);
    // From now on the record says it by itself.
    let disk = Disk { founding: None, ..disk };
    let refused = with_shards(16, &disk).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::NotAsFounded(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_of_before_without_a_checkpoint_asks_its_meta_group() {
    let disk = disk_of_before(None);
    let founded = with_shards(16, &disk).await.unwrap();
    assert!(!founded.proven);
    let of = ClusterSpec { shards: 16, ..spec(1) };
    let refused = record_founding(&disk, 1, founded.cluster, &of, spec(1), false).await.unwrap_err();
    assert!(matches!(refused, BootstrapError::NotAsFounded(_)), "{refused}");
    record_founding(&disk, 1, founded.cluster, &spec(1), spec(1), false).await.unwrap();
    assert!(with_shards(4, &disk).await.unwrap().proven);
}

#[tokio::test(start_paused = true)]
async fn settings_that_two_nodes_do_not_share_are_refused_at_the_founding_and_later() {
    let wires = Wires::default();
    let says = |lease: &str| Agreement::default().and("raft.election_max", lease);
    let disks: Vec<Disk> = (0..3).map(|_| Disk::default()).collect();
    let start = |node: u64, lease: &'static str| {
        let (wires, disk) = (wires.clone(), disks[node as usize - 1].clone());
        async move { start_as(&wires, node, spec(3), says(lease), &disk).await }
    };
    // Neither knows which of them is right.
    let (first, second) = futures::join!(start(1, "1s"), start(2, "2s"));
    for ((mesh, refused), told) in [(first, "1s here and 2s on node 2"), (second, "2s here and 1s on node 1")] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(&format!("raft.election_max is {told}; stop all nodes")), "{refused}");
        mesh.shutdown();
    }
    let founded = join_all([1, 2, 3].map(|node| start(node, "1s"))).await;
    for (mesh, founded) in &founded {
        assert_eq!(founded.as_ref().unwrap().cluster, ClusterId(100), "node {}", mesh.node());
    }
    founded[2].0.shutdown();
    let (_mesh, refused) = start(3, "2s").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("raft.election_max is 2s here and 1s on node 1"), "{refused}");
}

/// A whole node as the product wires it: identity, meta group, shards, router.
struct Whole {
    mesh: Mesh,
    router: Arc<Router>,
    tallies: Vec<(GroupId, Arc<Tally>)>,
}

async fn whole(wires: &Wires, id: u64, of: u64) -> Whole {
    let (mesh, cluster) = start(wires, id, of, &Disk::default()).await;
    let cluster = cluster.expect("it is founded");
    let spec = spec(of);
    let first = Arc::new(spec.shard_map());
    let router = Router::new(id, first.clone());
    let mut tallies = Vec::new();
    let mut meta = None;
    for (group, replicas) in first.groups_on(id) {
        let store = MemStore::default();
        let tally = Tally::new(store.clone());
        let machine = MetaMachine::new(Arc::new(store.clone()));
        let is_meta = group == GroupId::META;
        let parts = GroupParts {
            group,
            replica: replicas.iter().find(|place| place.node == id).expect("it is on this node").replica,
            founders: replicas.iter().map(|place| (place.replica, place.node)).collect(),
            preferred: replicas[0].node == id,
            config: GroupConfig::default(),
            machine: if is_meta { machine.clone() } else { tally.clone() },
            store: Arc::new(store),
            mesh: mesh.clone(),
            vouched: ordergrid_cluster::whole(),
            admission: ordergrid_cluster::at_once(),
            clocks: Arc::new(MachineClocks::default()),
        };
        let started = start_group::<TokioRuntime, _>(parts, MemLog::default()).await.expect("an empty disk");
        router.add(started.clone());
        if is_meta {
            meta = Some((started, machine));
        } else {
            tallies.push((group, tally));
        }
    }
    let (group, machine) = meta.expect("every node has group 0");
    let view = within(found_meta(group, machine, spec.clone(), cluster)).await.expect("the group runs");
    assert_eq!((view.cluster, &view.name, view.nodes.len()), (cluster, &spec.name, of as usize));
    assert_eq!(view.map, first);
    router.set_map(view.map.clone());
    Whole { mesh, router, tallies }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_found_their_groups_and_spread_the_leaders() {
    let wires = Wires::default();
    let nodes = join_all((1..=3).map(|id| whole(&wires, id, 3))).await;
    for node in &nodes {
        for (group, tally) in &node.tallies {
            let mut leadership = node.router.group(*group).unwrap().leadership();
            within(leadership.wait_for(|now| now.leader.is_some())).await.unwrap();
            assert!(tally.applied().is_empty());
        }
    }
    // Every slot has one leader, the preferred one, and everybody agrees on it.
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let slot = Slot::of(name);
        let map = nodes[0].router.map();
        let preferred = map.shard_of(slot).preferred().unwrap();
        for node in &nodes {
            let group = node.router.group(map.shard_of(slot).group).unwrap();
            if node.mesh.node() == preferred {
                within(group.leadership().wait_for(|now| now.ready_here)).await.unwrap();
                let Route::Local { group, term } = node.router.route(slot) else { panic!("it leads") };
                within(group.propose(term, packed(&format!("{name}=1")))).await.unwrap();
            } else {
                within(group.leadership().wait_for(|now| now.leader == Some(preferred))).await.unwrap();
                assert!(matches!(node.router.route(slot), Route::Remote { node, .. } if node == preferred));
            }
        }
    }
    // A node that stops hands its leaderships over first.
    nodes[0].router.hand_over_all(Duration::from_secs(5)).await;
    for group in nodes[0].router.groups() {
        assert_ne!(group.status().leader, Some(1), "{}", group.id());
    }
}

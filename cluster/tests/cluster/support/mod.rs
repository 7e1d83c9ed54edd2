//! Clusters in one process: nodes over pipes, logs and rows in memory, time that only passes when nothing else can.

pub(crate) mod log;
pub(crate) mod net;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::TokioRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use ordergrid_cluster::{
    Clocks, ClusterId, EntryId, GroupConfig, GroupParts, GroupRef, Leadership, Mesh, MeshConfig, NodeId, Packed, ProposeError,
    ReplicaId, StartError, start_group,
};
use ordergrid_domain::GroupId;
use tokio::sync::watch;

use self::log::MemLog;
use self::net::{Plain, Wires};
use self::store::{MemStore, Tally};

pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const CLUSTER: ClusterId = ClusterId(42);

/// Starts a mesh that belongs to a cluster.
pub(crate) async fn mesh(wires: &Wires, node: NodeId, cluster: Option<ClusterId>, config: MeshConfig) -> Mesh {
    let name = addr(node);
    let mesh = Mesh::start(node, config, wires.of(&name), Arc::new(Plain), &name).await.expect("pipes can listen");
    if let Some(cluster) = cluster {
        mesh.set_cluster(cluster);
    }
    mesh
}

pub(crate) fn addr(node: NodeId) -> String {
    format!("node-{node}")
}

pub(crate) fn packed(body: &str) -> Arc<Packed> {
    Arc::new(Packed::from_bytes(Bytes::copy_from_slice(body.as_bytes())))
}

/// A node with one replica of one group. What is on its disk outlives it.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) log: MemLog,
    pub(crate) store: MemStore,
    pub(crate) clocks: MachineClocks,
    /// Whether its replica may take part.
    pub(crate) admission: watch::Sender<bool>,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) mesh: Mesh,
    pub(crate) group: GroupRef,
    pub(crate) machine: Arc<Tally>,
}

/// The clocks of a machine, which may have been suspended.
#[derive(Clone, Default)]
pub(crate) struct MachineClocks {
    suspended: Arc<AtomicU64>,
}

impl MachineClocks {
    /// The machine was suspended for so long, and nothing else shows it.
    pub(crate) fn suspend(&self, time: Duration) {
        self.suspended.fetch_add(u64::try_from(time.as_millis()).expect("a short test"), Ordering::Relaxed);
    }
}

impl Clocks for MachineClocks {
    fn elapsed_ms(&self) -> u64 {
        self.wall_ms() + self.suspended.load(Ordering::Relaxed)
    }

    fn wall_ms(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_millis()).expect("a short test")
    }
}

/// Nodes 1 to n with a group over all of them; node n's replica is 100 + n.
pub(crate) struct Cluster {
    pub(crate) wires: Wires,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) config: GroupConfig,
    /// Elections draw from the seed that the test runs under.
    pub(crate) seeded: bool,
}

impl Cluster {
    pub(crate) async fn start(size: u64, config: GroupConfig) -> Self {
        Self::start_with(size, config, false).await
    }

    pub(crate) async fn start_with(size: u64, config: GroupConfig, seeded: bool) -> Self {
        let node = |id| {
            (
                id,
                Node {
                    id,
                    log: MemLog::default(),
                    store: MemStore::default(),
                    clocks: MachineClocks::default(),
                    admission: watch::Sender::new(true),
                    running: None,
                },
            )
        };
        let mut cluster = Self { wires: Wires::default(), nodes: (1..=size).map(node).collect(), config, seeded };
        for id in 1..=size {
            cluster.start_node(id).await;
        }
        cluster
    }

    pub(crate) async fn start_node(&mut self, id: NodeId) {
        self.start_replica(id, 100 + id).await;
    }

    pub(crate) async fn start_replica(&mut self, id: NodeId, replica: ReplicaId) {
        self.try_start_replica(id, replica).await.expect("a sound disk");
    }

    pub(crate) async fn try_start_node(&mut self, id: NodeId) -> Result<(), StartError> {
        self.try_start_replica(id, 100 + id).await
    }

    async fn try_start_replica(&mut self, id: NodeId, replica: ReplicaId) -> Result<(), StartError> {
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        let mesh = mesh(&self.wires, id, Some(CLUSTER), MeshConfig::default()).await;
        mesh.set_peers(everybody.iter().map(|node| (*node, addr(*node))));
        let node = self.nodes.get_mut(&id).expect("nodes are 1 to n");
        let machine = Tally::new(node.store.clone());
        let parts = GroupParts {
            group: GROUP,
            replica,
            founders: everybody.iter().map(|node| (100 + node, *node)).collect(),
            preferred: id == 1,
            config: self.config.clone(),
            machine: machine.clone(),
            store: Arc::new(node.store.clone()),
            mesh: mesh.clone(),
            vouched: node.log.floor(),
            clocks: Arc::new(node.clocks.clone()),
            admission: node.admission.subscribe(),
        };
        let started = if self.seeded {
            start_group::<DeterministicRng<TokioRuntime>, _>(parts, node.log.clone()).await
        } else {
            start_group::<TokioRuntime, _>(parts, node.log.clone()).await
        };
        node.running = Some(Running { mesh, group: started?, machine });
        Ok(())
    }

    pub(crate) async fn stop_node(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("nodes are 1 to n");
        let running = node.running.take().expect("it runs");
        running.group.shutdown().await;
        running.mesh.shutdown();
    }

    pub(crate) fn running(&self, id: NodeId) -> &Running {
        self.nodes[&id].running.as_ref().expect("it runs")
    }

    pub(crate) fn group(&self, id: NodeId) -> &GroupRef {
        &self.running(id).group
    }

    pub(crate) fn machine(&self, id: NodeId) -> &Tally {
        &self.running(id).machine
    }

    /// How often a node has connected to another one.
    pub(crate) fn connections(&self, from: NodeId, to: NodeId) -> u64 {
        self.wires.connections(&addr(from), &addr(to))
    }

    /// Waits until something can be seen of the cluster.
    pub(crate) async fn until(&self, seen: impl Fn(&Self) -> bool) {
        let look = async {
            while !seen(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), look).await.is_err() {
            let statuses: Vec<_> =
                self.nodes.values().filter(|node| node.running.is_some()).map(|node| self.group(node.id).status()).collect();
            panic!("not within two minutes: {statuses:#?}");
        }
    }

    /// Cuts a node off, or connects it again.
    pub(crate) fn isolate(&self, id: NodeId, cut: bool) {
        let names: Vec<String> = self.nodes.keys().map(|node| addr(*node)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.wires.isolate(&addr(id), &names, cut);
    }

    /// Waits until one of `among` is ready to serve, and returns it with its term.
    pub(crate) async fn leader(&self, among: &[NodeId]) -> (NodeId, u64) {
        let waits = among.iter().map(|id| {
            let mut leadership = self.group(*id).leadership();
            Box::pin(async move {
                let ready = leadership.wait_for(|now| now.ready_here).await.expect("the group runs");
                (*id, ready.term)
            })
        });
        within(futures::future::select_all(waits)).await.0
    }

    /// Waits until `id` knows a leadership that satisfies `wanted`.
    pub(crate) async fn sees(&self, id: NodeId, wanted: impl FnMut(&Leadership) -> bool) -> Leadership {
        let mut leadership = self.group(id).leadership();
        *within(leadership.wait_for(wanted)).await.expect("the group runs")
    }

    pub(crate) async fn propose(&self, id: NodeId, term: u64, body: &str) -> Result<EntryId, ProposeError> {
        within(self.group(id).propose(term, packed(body))).await
    }

    /// Waits until every running node has applied `index`.
    pub(crate) async fn all_applied(&self, index: u64) {
        for node in self.nodes.values().filter(|node| node.running.is_some()) {
            within(self.group(node.id).wait_applied(index)).await.expect("the group runs");
        }
    }
}

/// Bounds a wait: minutes of the tests' own time, which passes at once when nobody has anything to do.
pub(crate) async fn within<F: Future>(wait: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(120), wait).await.expect("it happens within two minutes")
}

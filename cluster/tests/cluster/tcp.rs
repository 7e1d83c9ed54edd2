//! Three replicas over real sockets, once: what pipes cannot show.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use openraft::TokioRuntime;
use ordergrid_cluster::{GroupConfig, GroupParts, GroupRef, Listener, Mesh, MeshConfig, Stream, Transport, start_group};
use tokio::net::{TcpListener, TcpStream};

use crate::support::log::MemLog;
use crate::support::net::Plain;
use crate::support::store::{MemStore, Tally};
use crate::support::{CLUSTER, GROUP, MachineClocks, packed, within};

struct Tcp;

impl Transport for Tcp {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(TcpListen(TcpListener::bind(addr).await?)) as Box<dyn Listener>) }.boxed()
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

struct TcpListen(TcpListener);

impl Listener for TcpListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from.to_string()))
        }
        .boxed()
    }

    fn local_addr(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_agree_over_tcp() {
    let mut meshes = Vec::new();
    for node in 1..=3 {
        let started = Mesh::start(node, MeshConfig::default(), Arc::new(Tcp), Arc::new(Plain), "127.0.0.1:0").await;
        let mesh = started.expect("loopback has free ports");
        mesh.set_cluster(CLUSTER);
        meshes.push(mesh);
    }
    let addrs: Vec<(u64, String)> = meshes.iter().map(|mesh| (mesh.node(), mesh.local_addr().to_owned())).collect();
    let mut groups: Vec<(GroupRef, Arc<Tally>)> = Vec::new();
    for mesh in &meshes {
        mesh.set_peers(addrs.clone());
        let store = MemStore::default();
        let machine = Tally::new(store.clone());
        let parts = GroupParts {
            group: GROUP,
            replica: mesh.node(),
            founders: (1..=3).map(|node| (node, node)).collect(),
            preferred: mesh.node() == 1,
            config: GroupConfig::default(),
            machine: machine.clone(),
            store: Arc::new(store),
            mesh: mesh.clone(),
            vouched: ordergrid_cluster::whole(),
            admission: ordergrid_cluster::at_once(),
            clocks: Arc::new(MachineClocks::default()),
        };
        groups.push((start_group::<TokioRuntime, _>(parts, MemLog::default()).await.unwrap(), machine));
    }
    let waits = groups.iter().map(|(group, _)| {
        let mut leadership = group.leadership();
        Box::pin(async move { leadership.wait_for(|now| now.ready_here).await.map(|now| now.term) })
    });
    let (term, leader, _) = within(futures::future::select_all(waits)).await;
    let (group, machine) = &groups[leader];
    let calls: Vec<_> = (0..2_000).map(|n| group.propose(term.clone().unwrap(), packed(&format!("k{n}={n}")))).collect();
    let last = within(join_all(calls)).await.into_iter().map(|id| id.unwrap().index).max().unwrap();
    for (other, replica) in &groups {
        within(other.wait_applied(last)).await.unwrap();
        assert_eq!(replica.values(), machine.values());
    }
    for (group, _) in &groups {
        group.shutdown().await;
    }
    for mesh in &meshes {
        mesh.shutdown();
    }
}

//! Calls between nodes over a few long-lived connections.
//!
//! A call starts in `lane` (the client side: queue, connection, numbered requests) and arrives in `accept` (the server side:
//! checks the peer, finds the group or service, answers). `frame` has the messages. Consensus uses `crate::group::network`, the node
//! uses [`Mesh::call`] and [`Mesh::serve`].

mod accept;
mod frame;
mod lane;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_domain::GroupId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) use frame::{Operation, Status, request};
pub use lane::CallError;
pub(crate) use lane::{Lane, Pending};
pub use transport::{Listener, Stream, Transport, WireCodec};

use crate::config_error::ConfigError;
use crate::ids::{ClusterId, NodeId, ReplicaId};

/// Bytes in front of every message of consensus: the group and the target replica.
const RAFT_PREFIX: usize = 12;

/// Limits and timeouts of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// Largest message in bytes.
    pub frame_limit: usize,
    /// Most calls queued per lane.
    pub calls_queued: usize,
    /// Most calls of one connection that are handled at a time.
    pub calls_handled: usize,
    /// Most connections accepted. A peer has one per lane: a newer connection closes the older one.
    pub connections: usize,
    /// Most bytes of requests of one connection that are handled at a time. A single larger request is still handled.
    pub bytes_handled: usize,
    /// Longest wait for a connection and its handshake.
    pub connect_deadline: Duration,
    /// First pause after a failed connection.
    pub reconnect_min: Duration,
    /// Longest pause after failed connections.
    pub reconnect_max: Duration,
    /// A connection on which a call waits and nothing has arrived for this long is pinged. If the ping gets no answer within
    /// this long, the connection is closed.
    pub silence: Duration,
    /// Longest time for handling a request of a peer.
    pub handling_deadline: Duration,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            frame_limit: 64 << 20,
            calls_queued: 4_096,
            calls_handled: 4_096,
            connections: 256,
            bytes_handled: 128 << 20,
            connect_deadline: Duration::from_secs(2),
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_secs(1),
            silence: Duration::from_secs(1),
            handling_deadline: Duration::from_secs(600),
        }
    }
}

impl MeshConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Names the first one that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.frame_limit >= 512, "frame_limit must be at least 512"),
            (self.frame_limit <= 1 << 30, "frame_limit must be at most 1 GiB"),
            (self.calls_queued > 0, "calls_queued must not be 0"),
            (self.calls_handled > 0, "calls_handled must not be 0"),
            (self.connections > 0, "connections must not be 0"),
            (self.bytes_handled > 0 && self.bytes_handled <= 1 << 31, "bytes_handled must be within 1 and 2 GiB"),
            (!self.reconnect_min.is_zero(), "reconnect_min must not be 0"),
            (self.reconnect_min <= self.reconnect_max, "reconnect_min must not be longer than reconnect_max"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError(rule.to_owned())),
            None => Ok(()),
        }
    }
}

/// Answers a call to one of the node's services. The arguments are the calling node and the request's body.
pub type Service = Arc<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// The message handler of a replica, which the mesh calls. Part of the mesh's contract with `group`.
pub(crate) trait RaftPeer: Send + Sync + 'static {
    /// Handles a request of the node `from`. The first poll submits the request, so that requests are submitted in the order of
    /// the calls.
    fn handle(&self, from: NodeId, operation: Operation, body: Bytes) -> BoxFuture<'static, (Status, Bytes)>;
}

/// This node's side of the mesh. Clones share it; dropping the last clone closes it.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

pub(crate) struct Inner {
    node: NodeId,
    config: MeshConfig,
    transport: Arc<dyn Transport>,
    codec: Arc<dyn WireCodec>,
    local_addr: String,
    cluster: watch::Sender<Option<ClusterId>>,
    services: RwLock<BTreeMap<u8, Service>>,
    /// Services whose requests are handled once, even if the network repeats them.
    once: RwLock<BTreeSet<u8>>,
    probe: RwLock<Option<Service>>,
    groups: RwLock<BTreeMap<u32, Attached>>,
    /// Whether this node is about to stop and accepts no leadership any more.
    leaving: AtomicBool,
    /// The nodes that may connect; if empty, any node may.
    peers: RwLock<BTreeSet<NodeId>>,
    /// The connections that peers have opened, by peer and lane.
    incoming: accept::Incoming,
}

/// A replica on this node and its message handler.
#[derive(Clone)]
struct Attached {
    replica: ReplicaId,
    peer: Arc<dyn RaftPeer>,
}

impl Inner {
    fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.borrow()
    }
}

/// Lanes to the peers, and the tasks that end with the mesh.
struct Tasks {
    lanes: Mutex<BTreeMap<NodeId, Peer>>,
    accept: Mutex<Option<AbortHandle>>,
}

struct Peer {
    addr: String,
    lanes: [Arc<lane::Line>; 3],
    tasks: Vec<AbortHandle>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Some(accept) = self.accept.get_mut().take() {
            accept.abort();
        }
    }
}

impl Mesh {
    /// Listens on `addr` and accepts connections. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the settings contradict each other or the address cannot be listened on.
    pub async fn start(
        node: NodeId,
        config: MeshConfig,
        transport: Arc<dyn Transport>,
        codec: Arc<dyn WireCodec>,
        addr: &str,
    ) -> io::Result<Self> {
        config.validate().map_err(|broken| io::Error::new(io::ErrorKind::InvalidInput, broken))?;
        let listener = transport.listen(addr).await?;
        let inner = Arc::new(Inner {
            node,
            config,
            transport,
            codec,
            local_addr: listener.local_addr(),
            cluster: watch::Sender::new(None),
            services: RwLock::default(),
            once: RwLock::default(),
            probe: RwLock::default(),
            groups: RwLock::default(),
            leaving: AtomicBool::new(false),
            peers: RwLock::default(),
            incoming: accept::Incoming::default(),
        });
        let accept = tokio::spawn(accept::run(inner.clone(), listener)).abort_handle();
        let tasks = Tasks { lanes: Mutex::default(), accept: Mutex::new(Some(accept)) };
        Ok(Self { inner, tasks: Arc::new(tasks) })
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The address on which this node listens.
    #[must_use]
    pub fn local_addr(&self) -> &str {
        &self.inner.local_addr
    }

    /// The cluster of this node, once the node knows it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.inner.cluster()
    }

    /// Sets the cluster. Open connections are reopened, because they were only allowed to probe.
    pub fn set_cluster(&self, cluster: ClusterId) {
        let changed = self.inner.cluster.send_replace(Some(cluster)) != Some(cluster);
        if changed {
            for peer in self.tasks.lanes.lock().values() {
                peer.lanes.iter().for_each(|line| line.cut());
            }
        }
    }

    /// Sets the addresses of the other nodes. Lanes to nodes that are not named are closed, and lanes to nodes with another
    /// address reconnect. This node itself may be among them and is ignored.
    pub fn set_peers(&self, peers: impl IntoIterator<Item = (NodeId, String)>) {
        let mut lanes = self.tasks.lanes.lock();
        let mut old = std::mem::take(&mut *lanes);
        let peers: Vec<_> = peers.into_iter().collect();
        *self.inner.peers.write() = peers.iter().map(|(node, _)| *node).collect();
        for (node, addr) in peers.into_iter().filter(|(node, _)| *node != self.inner.node) {
            let peer = match old.remove(&node) {
                Some(peer) if peer.addr == addr => peer,
                _ => self.peer(node, addr),
            };
            lanes.insert(node, peer);
        }
    }

    fn peer(&self, node: NodeId, addr: String) -> Peer {
        let mut tasks = Vec::new();
        let lanes = Lane::ALL.map(|lane| {
            let (line, queued) = lane::Line::new(node, lane, &self.inner.config);
            let task = lane::run(self.inner.clone(), line.clone(), addr.clone(), queued);
            tasks.push(tokio::spawn(task).abort_handle());
            line
        });
        Peer { addr, lanes, tasks }
    }

    /// Calls `service` on `node` and waits for the answer. A call to this node itself does not use the network.
    ///
    /// # Errors
    /// [`CallError::NotSent`] if the other node has not acted on the call and will not, else [`CallError::Unknown`].
    pub fn call(
        &self,
        node: NodeId,
        service: u8,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if node == self.inner.node {
            return self.call_here(service, body, deadline);
        }
        let mut message = request(Operation::Service);
        message.reserve(1 + body.len());
        message.put_u8(service);
        message.put_slice(&body);
        let pending = self.line(node, Lane::Bulk).and_then(|line| line.try_submit(message));
        async move { done(pending?.wait(deadline).await?) }.boxed()
    }

    fn call_here(&self, service: u8, body: Bytes, deadline: Duration) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let Some(serve) = self.inner.services.read().get(&service).cloned() else {
            return std::future::ready(Err(refused(Status::NoService))).boxed();
        };
        let answer = tokio::time::timeout(deadline, serve(self.inner.node, body));
        async move { answer.await.map_err(|_| CallError::Unknown) }.boxed()
    }

    /// Registers `answer` as the handler of calls to `service`. It should answer soon: an answer after the caller's deadline is
    /// useless.
    pub fn serve(&self, service: u8, answer: Service) {
        self.inner.services.write().insert(service, answer);
    }

    /// Like [`serve`](Self::serve), for requests that must not be handled twice: a repeated request is dropped.
    pub fn serve_once(&self, service: u8, answer: Service) {
        self.inner.once.write().insert(service);
        self.serve(service, answer);
    }

    /// Announces that this node is about to stop: from now on it refuses when a peer asks whether it would accept a leadership.
    pub fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Release);
    }

    /// Whether `node` answers within `deadline` that it would accept a leadership.
    pub async fn reaches(&self, node: NodeId, deadline: Duration) -> bool {
        if node == self.inner.node {
            return true;
        }
        let answer = match self.submit(node, Lane::Control, request(Operation::Ping), deadline).await {
            Ok(pending) => pending.wait(deadline).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok((status, _)) => status == Status::Done,
            Err(error) => {
                tracing::debug!(node = self.inner.node, peer = node, %error, "peer does not answer a ping");
                false
            }
        }
    }

    /// Closes every connection and stops listening. Calls in flight end with an unknown outcome.
    pub fn shutdown(&self) {
        if let Some(accept) = self.tasks.accept.lock().take() {
            accept.abort();
        }
        self.tasks.lanes.lock().clear();
        self.inner.groups.write().clear();
        self.inner.services.write().clear();
    }

    /// Closes the connections that `node` has opened, so that `node` restarts its streams.
    pub(crate) fn hang_up(&self, node: NodeId) {
        self.inner.incoming.hang_up(node);
    }

    pub(crate) fn serve_probe(&self, answer: Service) {
        *self.inner.probe.write() = Some(answer);
    }

    pub(crate) async fn probe(&self, node: NodeId, body: &[u8], deadline: Duration) -> Result<Bytes, CallError> {
        let mut message = request(Operation::Probe);
        message.put_slice(body);
        let pending = self.submit(node, Lane::Control, message, deadline).await?;
        done(pending.wait(deadline).await?)
    }

    pub(crate) fn attach(&self, group: GroupId, replica: ReplicaId, peer: Arc<dyn RaftPeer>) {
        self.inner.groups.write().insert(group.0, Attached { replica, peer });
    }

    /// Unregisters `peer`. A newer handler of the same group stays registered.
    pub(crate) fn detach(&self, group: GroupId, peer: &Arc<dyn RaftPeer>) {
        let mut groups = self.inner.groups.write();
        if groups.get(&group.0).is_some_and(|attached| Arc::ptr_eq(&attached.peer, peer)) {
            groups.remove(&group.0);
        }
    }

    pub(crate) async fn submit(
        &self,
        node: NodeId,
        lane: Lane,
        message: BytesMut,
        deadline: Duration,
    ) -> Result<Pending, CallError> {
        self.line(node, lane)?.submit(message, deadline).await
    }

    pub(crate) fn frame_limit(&self) -> usize {
        self.inner.config.frame_limit
    }

    fn line(&self, node: NodeId, lane: Lane) -> Result<Arc<lane::Line>, CallError> {
        let lanes = self.tasks.lanes.lock();
        match lanes.get(&node) {
            Some(peer) => Ok(peer.lanes[lane as usize].clone()),
            None => Err(CallError::NotSent(format!("node {node} is not known"))),
        }
    }
}

fn done((status, body): (Status, Bytes)) -> Result<Bytes, CallError> {
    match status {
        Status::Done => Ok(body),
        Status::Failed => Err(CallError::Unknown),
        refusal => Err(refused(refusal)),
    }
}

fn refused(status: Status) -> CallError {
    CallError::NotSent(match status {
        Status::NoGroup => "the other node has no such group".into(),
        Status::WrongReplica => "the other node has another replica".into(),
        Status::NoService => "the other node has no such service".into(),
        Status::NotOneCluster => "the other node is not known to be of this cluster".into(),
        status => format!("the other node refused it: {status:?}"),
    })
}

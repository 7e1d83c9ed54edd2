//! The server side of the mesh: accepts connections, checks which peer they come from, and handles requests.
//!
//! A peer has one connection per lane. A newer connection closes the older one, so no peer can hold more than that. A message
//! that no honest peer sends closes its connection.
//!
//! Requests of one connection start in the order in which they were written. A request that does not finish at once continues
//! in a task of its own. The number of these tasks is bounded: at the bound, the connection is not read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::frame::{self, FrameReader, Hello, HelloReply, Message, Operation, PROTOCOL, Status, Welcome};
use super::lane::Lane;
use super::transport::{Listener, Stream};
use super::{Inner, RAFT_PREFIX};
use crate::ids::{ClusterId, NodeId};
use crate::metrics;

/// Accepts connections until the mesh is gone.
pub(super) async fn run(mesh: Arc<Inner>, mut listener: Box<dyn Listener>) {
    let mut connections = JoinSet::new();
    // A failure that lasts is logged once, not on every attempt.
    let mut failing = false;
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) if connections.len() >= mesh.config.connections => {
                tracing::warn!(node = mesh.node, address = %from, "too many mesh connections");
                drop(stream);
            }
            Ok((stream, from)) => {
                failing = false;
                let mesh = mesh.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(mesh.clone(), stream).await {
                        tracing::debug!(node = mesh.node, address = %from, %error, "mesh connection ended");
                    }
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(node = mesh.node, %error, "accepting mesh connections failed");
                }
                tokio::time::sleep(mesh.config.reconnect_min).await;
            }
        }
    }
}

/// The connections that peers have opened.
#[derive(Default)]
pub(super) struct Incoming {
    places: Mutex<BTreeMap<(NodeId, u8), Arc<Notify>>>,
}

/// A peer's connection for a lane. Dropped when the connection ends.
struct LanePlace<'a> {
    incoming: &'a Incoming,
    key: (NodeId, u8),
    end: Arc<Notify>,
}

impl Incoming {
    /// Registers a peer's connection for a lane, and closes the one that was there.
    fn take(&self, key: (NodeId, u8)) -> LanePlace<'_> {
        let end = Arc::new(Notify::new());
        if let Some(before) = self.places.lock().insert(key, Arc::clone(&end)) {
            before.notify_one();
        }
        LanePlace { incoming: self, key, end }
    }

    /// Closes every connection that a peer has opened.
    pub(super) fn hang_up(&self, node: NodeId) {
        for (_, end) in self.places.lock().range((node, 0)..=(node, u8::MAX)) {
            end.notify_one();
        }
    }
}

impl Drop for LanePlace<'_> {
    fn drop(&mut self) {
        let mut places = self.incoming.places.lock();
        if places.get(&self.key).is_some_and(|end| Arc::ptr_eq(end, &self.end)) {
            places.remove(&self.key);
        }
    }
}

async fn serve(mesh: Arc<Inner>, stream: Box<dyn Stream>) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    // Only small frames are accepted until the peer is known.
    let mut reader = FrameReader::new(read, GREETING);
    let greeting = tokio::time::timeout(mesh.config.connect_deadline, greet(&mesh, &mut reader, &mut write));
    let hello = greeting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    reader.allow(mesh.config.frame_limit);
    let for_place = mesh.clone();
    let place = for_place.incoming.take((hello.from, hello.lane));
    let (answers, mut queue) = mpsc::channel::<BytesMut>(mesh.config.calls_handled);
    let codec = mesh.codec.clone();
    // A separate task, so that a flood of requests cannot delay the answers. It ends with this function.
    let mut writer = JoinSet::new();
    writer.spawn(async move { frame::write_all(write, &*codec, &mut queue, Some).await });
    tokio::select! {
        biased;
        Some(ended) = writer.join_next() => ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked))),
        () = place.end.notified() => Err(io::Error::new(io::ErrorKind::ConnectionReset, "closed, or replaced by a newer connection")),
        ended = Handler { mesh, hello, answers, seen: Seen::default() }.run(reader) => ended,
    }
}

async fn greet<R, W>(mesh: &Inner, reader: &mut FrameReader<R>, write: &mut W) -> io::Result<Hello>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let Message::Hello(hello) = reader.next(&*mesh.codec).await? else {
        return Err(frame::broken("no hello"));
    };
    let known = mesh.peers.read().clone();
    let stranger = hello.from == mesh.node || !(known.is_empty() || known.contains(&hello.from));
    if stranger || !Lane::ALL.iter().any(|lane| *lane as u8 == hello.lane) {
        metrics::refused_message("hello");
        tracing::warn!(node = mesh.node, peer = hello.from, lane = hello.lane, "unknown peer refused");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mine = mesh.cluster();
    let verdict = if hello.protocol != PROTOCOL {
        HelloReply::OtherProtocol
    } else if hello.to != mesh.node {
        HelloReply::OtherNode
    } else if mine.is_some() && hello.cluster.is_some() && mine != hello.cluster {
        HelloReply::OtherCluster
    } else {
        HelloReply::Welcome
    };
    let welcome = Welcome { verdict, node: mesh.node, cluster: mine };
    frame::write_one(write, &*mesh.codec, &frame::welcome(&welcome)).await?;
    if verdict == HelloReply::Welcome {
        return Ok(hello);
    }
    tracing::warn!(node = mesh.node, peer = hello.from, ?verdict, "peer refused");
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Handles the requests of one connection.
struct Handler {
    mesh: Arc<Inner>,
    hello: Hello,
    answers: mpsc::Sender<BytesMut>,
    seen: Seen,
}

/// Request ids that have arrived: the last [`WINDOW`] ids of a connection. A connection numbers its requests in the order of
/// writing.
#[derive(Default)]
struct Seen {
    /// One past the highest id.
    next: u64,
    /// Bit n: whether the id n below the highest has arrived.
    bits: u128,
}

/// Largest hello frame, in bytes.
const GREETING: usize = 256;
/// Bytes of request memory that one permit stands for.
const UNIT: usize = 1 << 10;

/// Number of ids below the highest that are remembered.
const WINDOW: u64 = 128;

impl Seen {
    /// Whether this id arrives for the first time. An id too far behind counts as repeated.
    fn first(&mut self, id: u64) -> bool {
        if id >= self.next {
            let ahead = id - self.next + 1;
            self.bits = if ahead < WINDOW { self.bits << ahead | 1 } else { 1 };
            self.next = id + 1;
            return true;
        }
        let behind = self.next - 1 - id;
        let bit = if behind < WINDOW { 1 << behind } else { return false };
        let first = self.bits & bit == 0;
        self.bits |= bit;
        first
    }
}

type Handling = BoxFuture<'static, (Status, Bytes)>;

impl Handler {
    async fn run<R: tokio::io::AsyncRead + Unpin>(mut self, mut reader: FrameReader<R>) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(self.mesh.config.calls_handled));
        let units = self.mesh.config.bytes_handled.div_ceil(UNIT);
        let memory = Arc::new(Semaphore::new(units));
        let mut tasks = JoinSet::new();
        loop {
            while let Some(done) = tasks.try_join_next() {
                // A task that panicked has not judged its request.
                if done.unwrap_or(Status::Failed) == Status::Malformed {
                    return Err(frame::broken("a malformed request"));
                }
            }
            let next = reader.next(&*self.mesh.codec);
            let Message::Request { id, operation, body } = next.await? else {
                return Err(frame::broken("not a request"));
            };
            if self.comes_again(id, operation, &body) {
                continue;
            }
            let bytes = u32::try_from(body.len().div_ceil(UNIT).min(units)).expect("at most 2 GiB in units of 1 KiB");
            let held = (
                room.clone().acquire_owned().await.expect("never closed"),
                memory.clone().acquire_many_owned(bytes).await.expect("never closed"),
            );
            let mut handling = self.start(operation, body);
            // Polled here, so that entries reach their group in the order in which they were sent. Unconstrained, because an
            // exhausted task budget would look like "not ready" before anything has begun.
            if let Some((status, body)) = tokio::task::unconstrained(&mut handling).now_or_never() {
                self.answers.send(frame::response(id, status, &body)).await.map_err(|_| gone())?;
                drop(held);
                if status == Status::Malformed {
                    return Err(frame::broken("a malformed request"));
                }
            } else {
                tasks.spawn(finish(id, handling, self.answers.clone(), held, self.mesh.config.handling_deadline));
            }
        }
    }

    /// Whether this is a repeated request to a service that handles each request once. The first one is answered.
    fn comes_again(&mut self, id: u64, operation: Operation, body: &[u8]) -> bool {
        let once =
            operation == Operation::Service && body.first().is_some_and(|service| self.mesh.once.read().contains(service));
        once && !self.seen.first(id)
    }

    fn start(&self, operation: Operation, body: Bytes) -> Handling {
        match self.find(operation, body) {
            Ok(handling) => handling,
            Err(status) => std::future::ready((status, Bytes::new())).boxed(),
        }
    }

    fn find(&self, operation: Operation, mut body: Bytes) -> Result<Handling, Status> {
        match operation {
            Operation::Ping => {
                let willing = !self.mesh.leaving.load(Ordering::Acquire);
                let status = if willing { Status::Done } else { Status::Failed };
                return Ok(std::future::ready((status, Bytes::new())).boxed());
            }
            Operation::Probe => {
                let probe = self.mesh.probe.read().clone().ok_or(Status::NoService)?;
                return Ok(probe(self.hello.from, body).map(|answer| (Status::Done, answer)).boxed());
            }
            _ => {}
        }
        if !same_cluster(self.hello.cluster, self.mesh.cluster()) {
            return Err(Status::NotOneCluster);
        }
        if operation == Operation::Service {
            let service = body.try_get_u8().map_err(|_| Status::Malformed)?;
            let serve = self.mesh.services.read().get(&service).cloned().ok_or(Status::NoService)?;
            return Ok(serve(self.hello.from, body).map(|answer| (Status::Done, answer)).boxed());
        }
        if body.len() < RAFT_PREFIX {
            return Err(Status::Malformed);
        }
        let group = body.get_u32_le();
        let to = body.get_u64_le();
        let attached = self.mesh.groups.read().get(&group).cloned().ok_or(Status::NoGroup)?;
        if attached.replica != to {
            return Err(Status::WrongReplica);
        }
        Ok(attached.peer.handle(self.hello.from, operation, body))
    }
}

fn same_cluster(theirs: Option<ClusterId>, mine: Option<ClusterId>) -> bool {
    mine.is_some() && mine == theirs
}

async fn finish(
    id: u64,
    handling: Handling,
    answers: mpsc::Sender<BytesMut>,
    _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    deadline: std::time::Duration,
) -> Status {
    let (status, body) = match tokio::time::timeout(deadline, handling).await {
        Ok(done) => done,
        Err(error) => {
            tracing::debug!(number = id, ?deadline, %error, "peer request not handled in time");
            (Status::Failed, Bytes::new())
        }
    };
    // If the connection has ended, so has its queue of answers.
    answers.send(frame::response(id, status, &body)).await.ok();
    status
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once() {
        let mut seen = Seen::default();
        let first: Vec<bool> = [0, 1, 1, 5, 3, 3, 4, 2, 0, 200, 199, 199, 72, 73, 73, 5, 201].map(|id| seen.first(id)).to_vec();
        let expected = [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1].map(|bit| bit == 1);
        assert_eq!(first, expected);
    }
}

//! The client side of one connection: to one peer, for one kind of traffic.
//!
//! A lane is a queue and a task. The task connects when there is a message to send, introduces this node, writes the queued
//! messages, and matches responses to waiting calls by their number. When the connection fails, calls that were written have an
//! unknown outcome, and calls that were not written were not sent. Between two attempts the lane backs off and refuses calls at
//! once.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::frame::{self, FrameReader, Hello, HelloReply, Message, Operation, PROTOCOL, Status};
use super::transport::Stream;
use super::{Inner, MeshConfig};
use crate::ids::{ClusterId, NodeId};
use crate::metrics;

/// A connection to a peer by its kind of traffic. Heartbeats and votes never queue behind entries, entries never behind
/// snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Heartbeats, votes, probes, pings.
    Control = 0,
    /// Entries and the node's own calls.
    Bulk = 1,
    /// Snapshots.
    Snapshot = 2,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Control, Self::Bulk, Self::Snapshot];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other node has not acted on the call and will not.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The other node may have acted on the call, or may do so later.
    #[error("the outcome of the call is unknown")]
    Unknown,
}

impl CallError {
    /// Whether the call may take effect nevertheless.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

type Answer = Result<(Status, Bytes), CallError>;

/// The state that a call and its lane share. Exactly one of the writer (`SENT`) and the caller (`GIVEN_UP`) settles it.
struct Ticket {
    phase: AtomicU8,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

impl Ticket {
    fn advance(&self, to: u8) -> bool {
        self.phase.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn resolve(&self, answer: Answer) {
        if let Some(waiting) = self.answer.lock().take() {
            // The receiver is gone if the caller has left.
            waiting.send(answer).ok();
        }
    }

    /// The connection failed: a written call has an unknown outcome, any other call was not sent.
    fn fail(&self, why: &str) {
        if self.advance(GIVEN_UP) {
            self.resolve(Err(CallError::NotSent(why.to_owned())));
        } else {
            self.resolve(Err(CallError::Unknown));
        }
    }
}

/// A queued request.
pub(super) struct Outgoing {
    request: BytesMut,
    ticket: Arc<Ticket>,
}

/// A call that has been queued.
pub(crate) struct Pending {
    ticket: Arc<Ticket>,
    answer: oneshot::Receiver<Answer>,
    queued_at: Instant,
    line: Arc<Line>,
}

impl Pending {
    /// Waits for the answer until `deadline` after the call was queued. If this is dropped before the request was written, the
    /// request is never written.
    pub(crate) async fn wait(mut self, deadline: Duration) -> Result<(Status, Bytes), CallError> {
        let until = self.queued_at + deadline;
        let answer = match tokio::time::timeout_at(until, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Unknown),
            Err(_) if self.ticket.advance(GIVEN_UP) => Err(CallError::NotSent("no connection in time".into())),
            Err(_) => {
                self.line.suspect();
                Err(CallError::Unknown)
            }
        };
        self.line.meters.called(answer.is_ok(), self.queued_at.elapsed());
        answer
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.ticket.advance(GIVEN_UP);
    }
}

/// The caller's handle on a lane.
pub(super) struct Line {
    peer: NodeId,
    lane: Lane,
    queue: mpsc::Sender<Outgoing>,
    /// Milliseconds since `epoch` at which the last byte arrived.
    heard: AtomicU64,
    epoch: Instant,
    silence: Duration,
    /// Whether a ping is checking the connection.
    checking: AtomicBool,
    /// Closes the current connection.
    cut: tokio::sync::Notify,
    meters: metrics::CallMeters,
}

impl Line {
    pub(super) fn new(peer: NodeId, lane: Lane, config: &MeshConfig) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (queue, queued) = mpsc::channel(config.calls_queued);
        let line = Self {
            peer,
            lane,
            queue,
            heard: AtomicU64::new(0),
            epoch: Instant::now(),
            silence: config.silence,
            checking: AtomicBool::new(false),
            cut: tokio::sync::Notify::new(),
            meters: metrics::CallMeters::of(peer, lane.name()),
        };
        (Arc::new(line), queued)
    }

    /// Queues a request; refused if the queue is full.
    pub(super) fn try_submit(self: &Arc<Self>, request: BytesMut) -> Result<Pending, CallError> {
        let (outgoing, pending) = self.ticket(request);
        match self.queue.try_send(outgoing) {
            Ok(()) => Ok(pending),
            Err(_) => Err(CallError::NotSent(format!("the queue to node {} is full", self.peer))),
        }
    }

    /// Queues a request, waiting for room until `deadline`.
    pub(super) async fn submit(self: &Arc<Self>, request: BytesMut, deadline: Duration) -> Result<Pending, CallError> {
        let (outgoing, pending) = self.ticket(request);
        match tokio::time::timeout(deadline, self.queue.send(outgoing)).await {
            Ok(Ok(())) => Ok(pending),
            _ => Err(CallError::NotSent(format!("the queue to node {} is full", self.peer))),
        }
    }

    fn ticket(self: &Arc<Self>, request: BytesMut) -> (Outgoing, Pending) {
        let (sender, answer) = oneshot::channel();
        let ticket = Arc::new(Ticket { phase: AtomicU8::new(QUEUED), answer: Mutex::new(Some(sender)) });
        let pending = Pending { ticket: ticket.clone(), answer, queued_at: Instant::now(), line: self.clone() };
        (Outgoing { request, ticket }, pending)
    }

    /// Closes the current connection, if there is one, because it was opened under another identity.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Called when a call got no answer in time, or still waits. If nothing arrived lately, the connection may be dead, or the
    /// other node may only be slow: a ping decides.
    fn suspect(self: &Arc<Self>) {
        let heard = self.epoch + Duration::from_millis(self.heard.load(Ordering::Relaxed));
        if heard.elapsed() < self.silence || self.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let ping = self.try_submit(frame::request(Operation::Ping));
        let line = self.clone();
        tokio::spawn(async move {
            let alive = match ping {
                Ok(ping) => ping.wait(line.silence).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = alive {
                tracing::debug!(peer = line.peer, lane = line.lane.name(), %error, "peer does not answer a ping");
                line.cut();
            }
            line.checking.store(false, Ordering::Release);
        });
    }

    fn hear(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }
}

/// Runs a lane until all its handles are dropped.
pub(super) async fn run(mesh: Arc<Inner>, line: Arc<Line>, addr: String, mut queued: mpsc::Receiver<Outgoing>) {
    let mut pause = mesh.config.reconnect_min;
    while let Some(first) = queued.recv().await {
        match connect(&mesh, &line, &addr).await {
            Ok(connection) => {
                pause = mesh.config.reconnect_min;
                metrics::connected(line.peer, line.lane.name(), true);
                let error = serve(&mesh, &line, connection, first, &mut queued).await;
                metrics::connected(line.peer, line.lane.name(), false);
                tracing::info!(node = mesh.node, peer = line.peer, lane = line.lane.name(), %error, "peer disconnected");
            }
            Err(error) => {
                tracing::debug!(node = mesh.node, peer = line.peer, lane = line.lane.name(), %error, "peer connection failed");
                let why = format!("node {} is unreachable: {error}", line.peer);
                first.ticket.fail(&why);
                refuse_for(pause, &why, &mut queued).await;
                pause = (pause * 2).min(mesh.config.reconnect_max);
            }
        }
    }
}

/// Refuses all queued calls until the pause is over.
async fn refuse_for(pause: Duration, why: &str, queued: &mut mpsc::Receiver<Outgoing>) {
    let until = Instant::now() + pause;
    while let Ok(Some(outgoing)) = tokio::time::timeout_at(until, queued.recv()).await {
        outgoing.ticket.fail(why);
    }
}

type Reader = FrameReader<tokio::io::ReadHalf<Box<dyn Stream>>>;
type Connection = (Reader, tokio::io::WriteHalf<Box<dyn Stream>>);

async fn connect(mesh: &Inner, line: &Line, addr: &str) -> io::Result<Connection> {
    loop {
        let mine = mesh.cluster();
        let introduction = introduce(mesh, line, addr, mine);
        match tokio::time::timeout(mesh.config.connect_deadline, introduction).await {
            // The node learned its cluster while connecting. The peer would treat this connection as a stranger's, so connect
            // again.
            Ok(Ok(_)) if mesh.cluster() != mine => {}
            Ok(connected) => return connected,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn introduce(mesh: &Inner, line: &Line, addr: &str, mine: Option<ClusterId>) -> io::Result<Connection> {
    let stream = mesh.transport.connect(addr).await?;
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, mesh.config.frame_limit);
    let hello = Hello { protocol: PROTOCOL, lane: line.lane as u8, from: mesh.node, to: line.peer, cluster: mine };
    frame::write_one(&mut write, &*mesh.codec, &frame::hello(&hello)).await?;
    let Message::Welcome(welcome) = reader.next(&*mesh.codec).await? else {
        return Err(frame::broken("no welcome"));
    };
    let refusal = match (welcome.verdict, mine, welcome.cluster) {
        (HelloReply::OtherProtocol, ..) => format!("it speaks another protocol than {PROTOCOL}"),
        (HelloReply::OtherNode, ..) => format!("node {} lives there", welcome.node),
        (HelloReply::OtherCluster, _, Some(theirs)) => format!("it belongs to cluster {theirs}"),
        (HelloReply::Welcome, Some(mine), Some(theirs)) if mine != theirs => format!("it belongs to cluster {theirs}"),
        (HelloReply::Welcome, ..) if welcome.node != line.peer => format!("node {} lives there", welcome.node),
        (HelloReply::Welcome, ..) => return Ok((reader, write)),
        (HelloReply::OtherCluster, ..) => "it belongs to another cluster".to_owned(),
    };
    tracing::warn!(node = mesh.node, peer = line.peer, address = addr, error = refusal, "peer identity mismatch");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal))
}

/// Calls that were written and have no answer yet, by number.
type Waiting = Arc<Mutex<BTreeMap<u64, Arc<Ticket>>>>;

/// Serves a connection until it fails, and returns the cause.
async fn serve(
    mesh: &Arc<Inner>,
    line: &Arc<Line>,
    (reader, mut writer): Connection,
    first: Outgoing,
    queued: &mut mpsc::Receiver<Outgoing>,
) -> io::Error {
    let waiting = Waiting::default();
    let mut last_id = 0;
    let mut prepare = |outgoing: Outgoing| {
        let Outgoing { mut request, ticket } = outgoing;
        if request.len() > mesh.config.frame_limit {
            ticket.fail("the request is larger than a frame may be");
            return None;
        }
        if !ticket.advance(SENT) {
            return None;
        }
        last_id += 1;
        frame::number(&mut request, last_id);
        waiting.lock().insert(last_id, ticket);
        Some(request)
    };
    line.hear();
    // A separate task, so that a flood of requests cannot delay the answers. It ends with this function.
    let mut answers = JoinSet::new();
    answers.spawn(match_answers(mesh.clone(), line.clone(), waiting.clone(), reader));
    let write = async {
        if let Some(body) = prepare(first) {
            frame::write_one(&mut writer, &*mesh.codec, &body).await?;
        }
        frame::write_all(&mut writer, &*mesh.codec, queued, prepare).await
    };
    let ended = tokio::select! {
        biased;
        Some(ended) = answers.join_next() => ended.unwrap_or_else(io::Error::other),
        ended = write => ended.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()),
        () = line.cut.notified() => io::Error::new(io::ErrorKind::TimedOut, "cut"),
        never = mistrust(line, &waiting) => match never {},
    };
    answers.shutdown().await;
    let unanswered = std::mem::take(&mut *waiting.lock());
    for ticket in unanswered.into_values() {
        ticket.fail("the connection failed");
    }
    ended
}

/// Pings the peer while calls wait and nothing arrives: a call may take minutes, and a peer that lost power closes nothing.
async fn mistrust(line: &Arc<Line>, waiting: &Waiting) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(line.silence).await;
        let somebody_waits = !waiting.lock().is_empty();
        if somebody_waits {
            line.suspect();
        }
    }
}

/// Passes answers to the waiting calls until the connection fails.
async fn match_answers(mesh: Arc<Inner>, line: Arc<Line>, waiting: Waiting, mut reader: Reader) -> io::Error {
    loop {
        match reader.next(&*mesh.codec).await {
            Ok(Message::Response { id, status, body }) => {
                line.hear();
                let ticket = waiting.lock().remove(&id);
                // `None` if nobody waits for the answer any more.
                if let Some(ticket) = ticket {
                    ticket.resolve(Ok((status, body)));
                }
            }
            Ok(_) => return frame::broken("not a response"),
            Err(failed) => return failed,
        }
    }
}

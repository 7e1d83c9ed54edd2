//! What shards ask of shards on other nodes: holds, releases, runs of streams, asks. Gathered per node, so that a busy
//! node sends frames of many calls instead of many frames.

pub(crate) mod elsewhere;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use ordergrid_cluster::{Mesh, NodeId};
use ordergrid_domain::GroupId;
use ordergrid_domain::command::{Deliver, Holds, Release};
use ordergrid_domain::placing::HoldResult;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::context::{LedAt, NodeContext, applied_here, ask_here, deliver_here, hold_here};
use crate::peers::elsewhere::Elsewhere;
use crate::shard::{Fates, HoldCaller, HoldSink, Landings, Question};

/// The mesh service of these calls.
pub(crate) const SERVICE: u8 = 1;
/// Calls in one frame.
const GATHER: usize = 256;
/// Calls that may wait for one node.
const QUEUE: usize = 16_384;
/// Frames under way to one node.
const FRAMES: usize = 32;
/// What a frame may take from sending to the last answer in it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Largest decoded frame.
const DECODE_LIMIT: usize = 256 << 20;

/// One thing asked of a shard's leader on another node.
#[derive(Debug, Encode, Decode)]
pub(crate) enum ShardCall {
    /// Hold units.
    Hold(GroupId, Holds),
    /// Release an attempt's holds.
    Release(GroupId, Release),
    /// Apply a run of a stream.
    Deliver(GroupId, Deliver),
    /// What became of these attempts?
    Ask(GroupId, Question),
    /// How far is the stream from another shard applied?
    Applied(GroupId, GroupId),
}

impl ShardCall {
    /// The shard whose leader is asked.
    fn led(&self) -> GroupId {
        match self {
            Self::Hold(shard, _) | Self::Release(shard, _) | Self::Deliver(shard, _) => *shard,
            Self::Ask(shard, _) | Self::Applied(shard, _) => *shard,
        }
    }
}

/// The answer to one call.
#[derive(Debug, Encode, Decode)]
pub(crate) enum ShardAnswer {
    /// One result per hold.
    Held(Vec<HoldResult>),
    /// Taken note of.
    Noted,
    /// Highest number applied of the stream.
    Delivered(u64),
    /// What became of attempts.
    Fates(Fates),
    /// The shard is not led there, or nothing could be said; who leads it, if that is known there.
    NotHere(Option<NodeId>),
}

/// Who waits for an answer.
pub(crate) enum Waiter {
    /// Nobody.
    Nobody,
    /// A task.
    Task(oneshot::Sender<ShardAnswer>),
    /// Whoever asked for holds.
    Hold(HoldSink),
}

impl Waiter {
    fn answer(self, answer: ShardAnswer, landings: &mut Landings) {
        match (self, answer) {
            (Self::Nobody, _) => {}
            (Self::Task(caller), answer) => drop(caller.send(answer)),
            (Self::Hold(sink), ShardAnswer::Held(results)) => sink.send(results, landings),
            (Self::Hold(sink), _) => sink.send_all(&HoldResult::NoLeader, landings),
        }
    }
}

type Queued = (ShardCall, Waiter);

/// The queues to every other node.
pub(crate) struct Peers {
    lanes: BTreeMap<NodeId, mpsc::Sender<Queued>>,
}

impl Peers {
    /// One gathering queue per node of `nodes`.
    pub(crate) fn start(mesh: &Mesh, nodes: impl IntoIterator<Item = NodeId>, elsewhere: &Arc<Elsewhere>) -> Self {
        let lanes = nodes.into_iter().map(|node| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            tokio::spawn(gather(mesh.clone(), node, waiting, Arc::clone(elsewhere)));
            (node, queue)
        });
        Self { lanes: lanes.collect() }
    }

    /// The other nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.lanes.keys().copied().collect::<Vec<_>>().into_iter()
    }

    /// How many other nodes there are.
    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Queues a call. A full queue answers at once that nothing happened; a lost waiter is told "unknown" by its drop.
    pub(crate) fn send(&self, node: NodeId, call: ShardCall, waiter: Waiter) {
        let Some(lane) = self.lanes.get(&node) else {
            waiter.answer(ShardAnswer::NotHere(None), &mut Landings::default());
            return;
        };
        if let Err(full) = lane.try_send((call, waiter)) {
            let (_, waiter) = full.into_inner();
            waiter.answer(ShardAnswer::NotHere(None), &mut Landings::default());
        }
    }
}

async fn gather(mesh: Mesh, node: NodeId, mut waiting: mpsc::Receiver<Queued>, elsewhere: Arc<Elsewhere>) {
    let frames = Arc::new(Semaphore::new(FRAMES));
    let mut queued = Vec::with_capacity(GATHER);
    loop {
        let Ok(frame) = Arc::clone(&frames).acquire_owned().await else { return };
        if waiting.recv_many(&mut queued, GATHER).await == 0 {
            return;
        }
        // The first call wakes this task before whatever else is ready to run: let that queue its calls too.
        tokio::task::yield_now().await;
        while queued.len() < GATHER {
            let Ok(next) = waiting.try_recv() else { break };
            queued.push(next);
        }
        let (calls, waiters): (Vec<_>, Vec<_>) = queued.drain(..).unzip();
        let answered = mesh.call(node, SERVICE, encode(&calls), DEADLINE);
        let shards: Vec<_> = calls.iter().map(ShardCall::led).collect();
        let elsewhere = Arc::clone(&elsewhere);
        tokio::spawn(async move {
            let answers = answered.await.ok().and_then(|body| decode::<Vec<ShardAnswer>>(&body));
            let unsaid = |shard: &GroupId| elsewhere.not_at(*shard, node, None);
            match answers {
                Some(answers) => {
                    let mut landings = Landings::default();
                    for ((waiter, answer), shard) in waiters.into_iter().zip(answers).zip(shards) {
                        if let ShardAnswer::NotHere(named) = &answer {
                            elsewhere.not_at(shard, node, *named);
                        }
                        waiter.answer(answer, &mut landings);
                    }
                }
                // The waiters are dropped, which tells them "unknown".
                None => shards.iter().for_each(unsaid),
            }
            drop(frame);
        });
    }
}

/// Answers the calls of other nodes. The context is set once the node has one.
#[derive(Clone, Default)]
pub(crate) struct PeerService(Arc<OnceLock<Weak<NodeContext>>>);

impl PeerService {
    /// From now on calls reach this node's shards.
    pub(crate) fn open(&self, node: &Arc<NodeContext>) {
        assert!(self.0.set(Arc::downgrade(node)).is_ok(), "a service is opened once");
    }

    /// Answers one frame.
    pub(crate) fn serve(&self, body: Bytes) -> BoxFuture<'static, Bytes> {
        let node = self.0.get().and_then(Weak::upgrade);
        Box::pin(async move {
            let calls = decode::<Vec<ShardCall>>(&body).unwrap_or_default();
            let Some(node) = node else {
                return encode(&calls.iter().map(|_| ShardAnswer::NotHere(None)).collect::<Vec<_>>());
            };
            let answers: Vec<_> = calls.into_iter().map(|call| begin(&node, call)).collect();
            encode(&join_all(answers).await)
        })
    }
}

/// Begins to answer a call: shards are asked for the holds of a frame before any of its calls is waited for.
fn begin(node: &NodeContext, call: ShardCall) -> BoxFuture<'_, ShardAnswer> {
    let ShardCall::Hold(shard, holds) = call else { return Box::pin(answer(node, call)) };
    // Holds are answered where the shard is led, never sent on: a call is forwarded at most once.
    let not_here = || ShardAnswer::NotHere(node.leader_there(shard));
    let LedAt::Here(leading) = node.place(shard) else { return Box::pin(std::future::ready(not_here())) };
    let (caller, held) = oneshot::channel();
    let sink = HoldSink::new(&holds, HoldCaller::Task(caller));
    hold_here(&leading, holds, sink);
    Box::pin(async move { held.await.map_or(ShardAnswer::NotHere(None), ShardAnswer::Held) })
}

async fn answer(node: &NodeContext, call: ShardCall) -> ShardAnswer {
    match call {
        ShardCall::Hold(..) => unreachable!("holds are asked for before"),
        ShardCall::Release(shard, release) => {
            let LedAt::Here(_) = node.place(shard) else { return ShardAnswer::NotHere(node.leader_there(shard)) };
            node.release(shard, release);
            ShardAnswer::Noted
        }
        ShardCall::Deliver(shard, run) => match node.place(shard) {
            LedAt::Here(leading) => {
                deliver_here(&leading, run).await.map_or(ShardAnswer::NotHere(None), ShardAnswer::Delivered)
            }
            _ => ShardAnswer::NotHere(node.leader_there(shard)),
        },
        ShardCall::Ask(shard, question) => match node.place(shard) {
            LedAt::Here(leading) => ask_here(&leading, question).await.map_or(ShardAnswer::NotHere(None), ShardAnswer::Fates),
            _ => ShardAnswer::NotHere(node.leader_there(shard)),
        },
        ShardCall::Applied(shard, from) => match node.place(shard) {
            LedAt::Here(leading) => {
                applied_here(&leading, from).await.map_or(ShardAnswer::NotHere(None), ShardAnswer::Delivered)
            }
            _ => ShardAnswer::NotHere(node.leader_there(shard)),
        },
    }
}

/// The body of a frame between nodes of one version.
pub(crate) fn encode<T: Encode>(value: &T) -> Bytes {
    let body = bincode::encode_to_vec(value, bincode::config::standard());
    Bytes::from(body.expect("these types have no form that does not encode"))
}

/// The value of a frame; `None` when the bytes are not one, which a peer of another version may send.
pub(crate) fn decode<T: Decode<()>>(body: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    let (value, read) = bincode::decode_from_slice(body, config).ok()?;
    (read == body.len()).then_some(value)
}

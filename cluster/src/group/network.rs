//! openraft's network: messages of consensus over the mesh.
//!
//! Entries are pipelined: requests leave in order as fast as the window allows, and answers are awaited in order. Votes and
//! heartbeats use the control lane, entries the bulk lane, snapshots a lane of their own.
//!
//! openraft takes an answer for every request in flight that ends at the same log id, and starts the leader's lease at the time
//! of the last of these requests. A request without entries ends where the request before it ends. So the answer to the earlier
//! request would also confirm a request that no follower has answered, and a leader that was paused and deposed would trust its
//! lease again. Such an answer is therefore withheld: the answer to the request without entries reports the same a moment
//! later.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use ordergrid_domain::GroupId;
use parking_lot::Mutex;

use super::GroupConfig;
use super::guard::{Forged, Told, plausible};
use crate::applier::{GridSnapshot, SnapshotData};
use crate::encoding::{DecodeError, decode_vote};
use crate::ids::{NodeId, ReplicaId};
use crate::mesh::{CallError, Lane, Mesh, Operation, Pending, Status, request};
use crate::metrics;
use crate::raft_types::{Host, LogId, RaftTypes, Vote};
use crate::state::StateView;
use crate::wire;

/// Bytes of a message other than its entries or rows.
pub(crate) const MESSAGE_OVERHEAD: usize = 256;

/// Creates a [`Client`] per peer.
pub(crate) struct Network<RT> {
    pub(crate) mesh: Mesh,
    pub(crate) group: GroupId,
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) told: Arc<Told>,
    pub(crate) runtime: PhantomData<fn() -> RT>,
}

impl<RT: AsyncRuntime + Send + Sync> Network<RT> {
    fn client(&self, replica: ReplicaId, host: Host, lane: Lane) -> Client<RT> {
        Client {
            mesh: self.mesh.clone(),
            group: self.group,
            node: host.0,
            replica,
            lane,
            config: self.config.clone(),
            told: self.told.clone(),
            runtime: PhantomData,
        }
    }
}

impl<RT: AsyncRuntime + Send + Sync> RaftNetworkFactory<RaftTypes<RT>> for Network<RT> {
    type Network = Client<RT>;

    async fn new_client(&mut self, target: ReplicaId, node: &Host) -> Client<RT> {
        self.client(target, *node, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, node: &Host) -> Client<RT> {
        self.client(target, *node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: ReplicaId, node: &Host) -> Client<RT> {
        self.client(target, *node, Lane::Snapshot)
    }
}

/// Sends messages to one replica over one lane.
pub(crate) struct Client<RT> {
    mesh: Mesh,
    group: GroupId,
    node: NodeId,
    replica: ReplicaId,
    lane: Lane,
    config: Arc<GroupConfig>,
    told: Arc<Told>,
    runtime: PhantomData<fn() -> RT>,
}

impl<RT> Clone for Client<RT> {
    fn clone(&self) -> Self {
        Self { mesh: self.mesh.clone(), config: self.config.clone(), told: self.told.clone(), ..*self }
    }
}

/// Why a message got no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the other node refused it: {0:?}")]
    Refused(Status),
    #[error(transparent)]
    Answer(#[from] DecodeError),
    #[error("no honest peer answers so: {0}")]
    Forged(#[from] Forged),
}

impl Failed {
    /// openraft backs off at once after `Unreachable`, which is right if nothing was sent.
    fn rpc<RT: AsyncRuntime + Send + Sync>(&self) -> RPCError<RaftTypes<RT>> {
        match self {
            Self::Call(CallError::NotSent(_)) | Self::Refused(_) => RPCError::Unreachable(Unreachable::new(self)),
            Self::Call(CallError::Unknown) | Self::Answer(_) | Self::Forged(_) => RPCError::Network(NetworkError::new(self)),
        }
    }
}

async fn answered(pending: Pending, deadline: Duration) -> Result<Bytes, Failed> {
    match pending.wait(deadline).await? {
        (Status::Done, body) => Ok(body),
        (status, _) => Err(Failed::Refused(status)),
    }
}

impl<RT: AsyncRuntime + Send + Sync> Client<RT> {
    fn message(&self, operation: Operation) -> BytesMut {
        let mut message = request(operation);
        message.put_u32_le(self.group.0);
        message.put_u64_le(self.replica);
        message
    }

    async fn call(&self, lane: Lane, message: BytesMut, deadline: Duration) -> Result<Bytes, Failed> {
        let pending = self.mesh.submit(self.node, lane, message, deadline).await?;
        answered(pending, deadline).await
    }

    /// The longest wait for an answer to entries or a heartbeat.
    fn append_deadline(&self, option: &RPCOption) -> Duration {
        if self.lane == Lane::Control { option.hard_ttl() } else { self.config.append_deadline }
    }

    /// Queues one request and returns the context that is needed to read its answer.
    async fn send(&self, request: AppendEntriesRequest<RaftTypes<RT>>, deadline: Duration) -> Sent {
        let mut message = self.message(Operation::Append);
        let entries = wire::put_append(&request, self.config.bytes_per_message, &mut message);
        if entries > 0 {
            metrics::replicated(self.node, entries, message.len());
        }
        Sent {
            previous: request.prev_log_id,
            last: wire::last_of(&request, entries),
            cut: entries < request.entries.len(),
            pending: self.mesh.submit(self.node, self.lane, message, deadline).await,
        }
    }
}

/// Checks that a follower can give this answer to entries. openraft trusts answers, and an impossible one ends its task.
fn honest<RT: AsyncRuntime + Send + Sync>(
    answer: AppendEntriesResponse<RaftTypes<RT>>,
    sent: Option<&LogId>,
) -> Result<AppendEntriesResponse<RaftTypes<RT>>, Forged> {
    match &answer {
        AppendEntriesResponse::HigherVote(vote) => plausible(vote)?,
        AppendEntriesResponse::PartialSuccess(upto) if upto.as_ref() > sent => return Err(Forged::Index),
        _ => {}
    }
    Ok(answer)
}

/// The requests of a stream that are not answered yet: for each, whether it has no entries.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<VecDeque<bool>>>);

impl UnderWay {
    fn push(&self, without_entries: bool) {
        self.0.lock().push_back(without_entries);
    }

    /// Removes the first request, which is answered. Returns whether the next one ends at the same log id.
    fn answered(&self) -> bool {
        let mut requests = self.0.lock();
        requests.pop_front();
        requests.front().copied().unwrap_or(false)
    }
}

/// A request of entries that was sent.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    /// Whether some entries of the request did not fit.
    cut: bool,
    pending: Result<Pending, CallError>,
}

impl Sent {
    /// Waits for the answer. Returns it, and whether the stream continues after it.
    async fn answer<RT>(self, deadline: Duration) -> (Result<StreamAppendResult<RaftTypes<RT>>, RPCError<RaftTypes<RT>>>, bool)
    where
        RT: AsyncRuntime + Send + Sync,
    {
        let answer = async {
            let body = answered(self.pending?, deadline).await?;
            Ok::<AppendEntriesResponse<RaftTypes<RT>>, Failed>(honest(wire::take_append_answer(body)?, self.last.as_ref())?)
        };
        match answer.await {
            // openraft assumes that a request can conflict only if entries precede it.
            Ok(AppendEntriesResponse::Conflict) if self.previous.is_none() => {
                (Err(Failed::Refused(Status::Malformed).rpc()), false)
            }
            Ok(answer) => {
                let whole = matches!(answer, AppendEntriesResponse::Success) && !self.cut;
                (Ok(answer.into_stream_result(self.previous, self.last)), whole)
            }
            Err(failed) => (Err(failed.rpc()), false),
        }
    }
}

impl<RT: AsyncRuntime + Send + Sync> RaftNetworkV2<RaftTypes<RT>> for Client<RT> {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<RaftTypes<RT>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftTypes<RT>>, RPCError<RaftTypes<RT>>> {
        let deadline = self.append_deadline(&option);
        let sent = self.send(rpc, deadline).await;
        let (last, cut) = (sent.last, sent.cut);
        let answer = async {
            let body = answered(sent.pending?, deadline).await?;
            Ok::<_, Failed>(honest(wire::take_append_answer(body)?, last.as_ref())?)
        };
        match answer.await {
            Ok(AppendEntriesResponse::Success) if cut => Ok(AppendEntriesResponse::PartialSuccess(last)),
            Ok(answer) => Ok(answer),
            Err(failed) => Err(failed.rpc()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<RaftTypes<RT>>, RPCError<RaftTypes<RT>>>>, RPCError<RaftTypes<RT>>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<RaftTypes<RT>>> + OptionalSend + Unpin + 'static,
    {
        let deadline = self.append_deadline(&option);
        let window = self.config.messages_in_flight;
        let client = self.clone();
        let under_way = UnderWay::default();
        let asked = under_way.clone();
        // Requests are sent one after another, so they leave in order. Only the waits overlap.
        let sent = input.then(move |request| {
            asked.push(request.entries.is_empty());
            let client = client.clone();
            async move { client.send(request, deadline).await }
        });
        let answers = sent.map(move |sent| sent.answer::<RT>(deadline)).buffered(window);
        // The first answer that is not a plain success ends the stream. openraft starts a new stream from there.
        let until_broken = futures::stream::unfold(Some((Box::pin(answers), under_way)), |rest| async move {
            let (mut answers, under_way) = rest?;
            loop {
                let (answer, goes_on) = answers.next().await?;
                if !(under_way.answered() && goes_on) {
                    return Some((answer, goes_on.then_some((answers, under_way))));
                }
            }
        });
        let stream: BoxStream<'s, _> = Box::pin(until_broken);
        Box::pin(std::future::ready(Ok(stream)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftTypes<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes<RT>>, RPCError<RaftTypes<RT>>> {
        let mut message = self.message(Operation::Vote);
        wire::put_vote_request(&rpc, &mut message);
        self.ask_vote(message, option.hard_ttl()).await.map_err(|failed| failed.rpc())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<RaftTypes<RT>>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes<RT>>, RPCError<RaftTypes<RT>>> {
        let mut message = self.message(Operation::PreVote);
        wire::put_vote_request(&rpc, &mut message);
        self.ask_vote(message, option.hard_ttl()).await.map_err(|failed| failed.rpc())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: GridSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftTypes<RT>>, StreamingError<RaftTypes<RT>>> {
        let mut cancel = std::pin::pin!(cancel);
        tokio::select! {
            biased;
            closed = &mut cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(Unsent::Failed(failed)) => Err(failed.rpc::<RT>().into()),
                Err(Unsent::Store(why)) => Err(NetworkError::from_string(why).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<RaftTypes<RT>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<RaftTypes<RT>>, RPCError<RaftTypes<RT>>> {
        let mut message = self.message(Operation::Transfer);
        wire::put_transfer(&req, &mut message);
        let body = self.call(Lane::Control, message, option.hard_ttl()).await.map_err(|failed| failed.rpc())?;
        if body.first() == Some(&0) {
            return Ok(Ok(()));
        }
        // The other node logs why it refused; here the refusal only ends the transfer.
        Ok(Err(openraft::raft::TransferLeaderError::LogNotFlushed { expected: req.last_log_id().copied(), actual: None }))
    }

    /// Short pauses: peers restart within fractions of a second, and refusals are cheap.
    fn backoff(&self) -> Option<Backoff> {
        let longest = Duration::from_millis(500);
        let pauses = std::iter::successors(Some(Duration::from_millis(20)), move |pause| Some((*pause * 2).min(longest)));
        Some(Backoff::new(pauses))
    }
}

enum Unsent {
    Failed(Failed),
    Store(String),
}

impl<E: Into<Failed>> From<E> for Unsent {
    fn from(failed: E) -> Self {
        Self::Failed(failed.into())
    }
}

impl<RT: AsyncRuntime + Send + Sync> Client<RT> {
    fn refused(&self, forged: Forged) -> Failed {
        self.told.tell(forged, self.group, self.node);
        Failed::Forged(forged)
    }

    async fn ask_vote(&self, message: BytesMut, deadline: Duration) -> Result<VoteResponse<RaftTypes<RT>>, Failed> {
        let body = self.call(Lane::Control, message, deadline).await?;
        let answer: VoteResponse<RaftTypes<RT>> = wire::take_vote_answer(body)?;
        plausible(&answer.vote).map_err(|forged| self.refused(forged))?;
        Ok(answer)
    }

    /// Sends a snapshot chunk by chunk; each chunk is stored before the next is sent. Returns the other replica's vote.
    async fn send_snapshot(&self, vote: Vote, snapshot: GridSnapshot) -> Result<Vote, Unsent> {
        let SnapshotData::View(view) = snapshot.snapshot else {
            return Err(Unsent::Store("only a stored snapshot can be sent".into()));
        };
        let mut message = self.message(Operation::SnapshotBegin);
        wire::put_snapshot_begin(&vote, &snapshot.meta, &mut message);
        let begun = self.call(Lane::Snapshot, message, self.config.snapshot_chunk_deadline).await?;
        let transfer = wire::take_u64_body(begun).map_err(Failed::from)?;
        let chunks = self.send_chunks(transfer, &*view).await?;
        let mut message = self.message(Operation::SnapshotCommit);
        wire::put_snapshot_commit(transfer, chunks, &mut message);
        let body = self.call(Lane::Snapshot, message, self.config.snapshot_install_deadline).await?;
        let vote = decode_vote(body).map_err(Failed::from)?;
        plausible(&vote).map_err(|forged| self.refused(forged))?;
        Ok(vote)
    }

    async fn send_chunks(&self, transfer: u64, view: &dyn StateView) -> Result<u64, Unsent> {
        let mut after = None;
        for number in 0.. {
            let next = view.next_chunk(after.take(), self.config.snapshot_chunk).await;
            let rows = next.map_err(|failed| Unsent::Store(failed.to_string()))?;
            let Some((last, _)) = rows.last() else {
                return Ok(number);
            };
            after = Some(last.clone());
            let mut message = self.message(Operation::SnapshotChunk);
            wire::put_snapshot_chunk(transfer, number, &rows, &mut message);
            self.call(Lane::Snapshot, message, self.config.snapshot_chunk_deadline).await?;
        }
        unreachable!("a snapshot has an end")
    }
}

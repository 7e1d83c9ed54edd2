//! The server side of a replica: decodes its peers' messages, passes them to consensus, and encodes the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::storage::Snapshot;
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::contradiction::{self, Contradicted};
use super::floor::{self, Vouched};
use super::guard::{Forged, Known, Told};
use super::handle::{Handle, Reports};
use super::hearing::Hearing;
use super::watchdog::Heard;
use crate::applier::{Applier, Shared, SnapshotData};
use crate::encoding::DecodeError;
use crate::ids::{NodeId, ReplicaId};
use crate::mesh::{Operation, RaftPeer, Status};
use crate::raft_types::{RaftTypes, SnapshotMeta, Vote};
use crate::state::{Install, Row};
use crate::wire;

/// openraft's handle with our types in it.
pub(crate) type Raft<RT> = openraft::Raft<RaftTypes<RT>, Applier<RT>>;

pub(crate) struct GroupPeer<RT: AsyncRuntime + Send + Sync> {
    group: GroupId,
    replica: ReplicaId,
    raft: Raft<RT>,
    shared: Arc<Shared>,
    hearing: Arc<Hearing>,
    incoming: Arc<Mutex<Incoming>>,
    vouched: Vouched,
    contradicted: Arc<Contradicted>,
    heard: Arc<Heard>,
    told: Arc<Told>,
    reports: Reports<RT>,
    started_with: Option<Vote>,
    founders: Arc<BTreeMap<ReplicaId, NodeId>>,
    /// The last term in which two leaders were found.
    twice_led: AtomicU64,
}

/// The snapshot that is being received. A newer one replaces it.
#[derive(Default)]
struct Incoming {
    last_transfer: u64,
    staged: Option<Staged>,
}

struct Staged {
    from: NodeId,
    transfer: u64,
    vote: Vote,
    meta: SnapshotMeta,
    chunks: u64,
    /// `None` while a chunk is being written.
    install: Option<Box<dyn Install>>,
}

type Answer = Result<Bytes, Refusal>;

enum Refusal {
    Forged(Forged),
    Failed(String),
    /// The message is valid, but this replica abstains until its log is refilled.
    Abstains,
}

impl From<DecodeError> for Refusal {
    fn from(_: DecodeError) -> Self {
        Self::Forged(Forged::Bytes)
    }
}

impl From<Forged> for Refusal {
    fn from(forged: Forged) -> Self {
        Self::Forged(forged)
    }
}

fn failed(why: impl std::fmt::Display) -> Refusal {
    Refusal::Failed(why.to_string())
}

impl<RT: AsyncRuntime + Send + Sync> GroupPeer<RT> {
    pub(super) fn new(handle: &Handle<RT>) -> Self {
        Self {
            group: handle.group,
            replica: handle.replica,
            raft: handle.raft.clone(),
            shared: handle.shared.clone(),
            hearing: handle.hearing.clone(),
            incoming: Arc::default(),
            vouched: handle.vouched.clone(),
            contradicted: handle.contradicted.clone(),
            heard: handle.heard.clone(),
            told: handle.told.clone(),
            reports: Reports::of(&handle.raft),
            started_with: handle.started_with,
            founders: handle.founders.clone(),
            twice_led: AtomicU64::new(0),
        }
    }

    /// Decodes a message, refuses it if no honest peer could send it, and passes it to consensus.
    fn answer(&self, from: NodeId, operation: Operation, body: Bytes) -> Result<BoxFuture<'static, Answer>, Refusal> {
        if floor::abstains(operation) && self.vouched.borrow().is_some() {
            return Err(Refusal::Abstains);
        }
        if let Some(why) = self.contradicted.reason() {
            return Err(failed(why));
        }
        let raft = self.raft.clone();
        Ok(match operation {
            Operation::Append => {
                let request: AppendEntriesRequest<RaftTypes<RT>> = wire::take_append(body)?;
                let (previous, committed) = (request.prev_log_id.as_ref(), request.leader_commit.as_ref());
                self.known(from, |known| known.append(&request.vote, previous, &request.entries, committed))?;
                self.heard.committed(committed.map(|committed| committed.index));
                append(raft, self.shared.clone(), self.hearing.clone(), self.contradicted.clone(), request).boxed()
            }
            Operation::Vote | Operation::PreVote => {
                let request: VoteRequest<RaftTypes<RT>> = wire::take_vote_request(body)?;
                self.known(from, |known| known.candidate(&request.vote, request.last_log_id.as_ref()))?;
                if operation == Operation::Vote { vote(raft, request).boxed() } else { pre_vote(raft, request).boxed() }
            }
            Operation::Transfer => {
                let request: TransferLeaderRequest<RaftTypes<RT>> = wire::take_transfer(body)?;
                let (leader, to) = (request.from_leader(), *request.to_node_id());
                self.known(from, |known| known.transfer(leader, to, request.last_log_id()))?;
                transfer(raft, request).boxed()
            }
            Operation::SnapshotBegin => {
                let (vote, meta) = wire::take_snapshot_begin(body)?;
                self.known(from, |known| known.snapshot(&vote, &meta))?;
                begin(self.shared.clone(), self.incoming.clone(), from, vote, meta).boxed()
            }
            Operation::SnapshotChunk => {
                let (transfer, number, rows) = wire::take_snapshot_chunk(body)?;
                self.heard.chunk();
                chunk(self.incoming.clone(), from, transfer, number, rows).boxed()
            }
            Operation::SnapshotCommit => {
                let (transfer, chunks) = wire::take_snapshot_commit(body)?;
                let is_it = |staged: &mut Staged| staged.transfer == transfer && staged.from == from;
                let staged = self.incoming.lock().staged.take_if(is_it);
                self.heard.chunk();
                commit(raft, self.shared.clone(), self.contradicted.clone(), staged, chunks).boxed()
            }
            Operation::Service | Operation::Ping | Operation::Probe => return Err(failed("not a message to a replica")),
        })
    }

    fn known(&self, from: NodeId, judge: impl FnOnce(&Known<'_>) -> Result<(), Forged>) -> Result<(), Forged> {
        let server = self.reports.server.borrow_watched();
        let members = server.membership_config.membership();
        let founding = members.nodes().next().is_none();
        let node_of = |replica: ReplicaId| {
            if founding { self.founders.get(&replica).copied() } else { members.get_node(&replica).map(|host| host.0) }
        };
        judge(&Known {
            me: self.replica,
            from,
            node_of: &node_of,
            stranger: founding && self.founders.is_empty(),
            votes: [self.started_with, Some(server.vote)],
        })
    }

    /// Ends a term with two leaders: this replica campaigns in a later term, so both leaders step down, and the replicas agree
    /// on one log again.
    fn end_the_term(&self) -> BoxFuture<'static, ()> {
        let term = self.reports.server.borrow_watched().vote.leader_id.term;
        // A replica below its floor does not campaign.
        let below = self.vouched.borrow().is_some();
        if below || self.twice_led.swap(term, Ordering::AcqRel) == term {
            return std::future::ready(()).boxed();
        }
        let raft = self.raft.clone();
        // A replica that has stopped reports it through `stopped`.
        async move { drop(raft.trigger().elect(false).await) }.boxed()
    }
}

impl<RT: AsyncRuntime + Send + Sync> RaftPeer for GroupPeer<RT> {
    fn handle(&self, from: NodeId, operation: Operation, body: Bytes) -> BoxFuture<'static, (Status, Bytes)> {
        let (group, told) = (self.group, self.told.clone());
        let answer = match self.answer(from, operation, body) {
            Ok(answer) => answer,
            Err(refusal) => {
                let twice = matches!(refusal, Refusal::Forged(Forged::SecondLeader));
                let ended = if twice { self.end_the_term() } else { std::future::ready(()).boxed() };
                ended.map(|()| Err(refusal)).boxed()
            }
        };
        async move {
            match answer.await {
                Ok(body) => (Status::Done, body),
                Err(Refusal::Forged(forged)) => {
                    told.tell(forged, group, from);
                    (Status::Malformed, Bytes::new())
                }
                Err(Refusal::Abstains) => {
                    tracing::debug!(shard = %group, ?operation, "request ignored while the log is refilled");
                    (Status::Failed, Bytes::new())
                }
                Err(Refusal::Failed(error)) => {
                    tracing::warn!(shard = %group, peer = from, ?operation, error, "peer request failed");
                    (Status::Failed, Bytes::new())
                }
            }
        }
        .boxed()
    }
}

async fn append<RT: AsyncRuntime + Send + Sync>(
    raft: Raft<RT>,
    shared: Arc<Shared>,
    hearing: Arc<Hearing>,
    contradicted: Arc<Contradicted>,
    request: AppendEntriesRequest<RaftTypes<RT>>,
) -> Answer {
    if let Some(applied) = shared.applied_id()
        && let Some(theirs) = contradiction::in_request(&request, applied)
        && leads_still(&raft, request.vote).await?
    {
        return Err(failed(contradicted.by(theirs, applied)));
    }
    let committed = request.leader_commit.as_ref().map_or(0, |committed| committed.index);
    // Recorded on arrival: a slow disk delays the answer, but says nothing about the leader.
    hearing.hear(request.vote.leader_id.term, committed, Instant::now());
    let answer = raft.append_entries(request).await.map_err(failed)?;
    Ok(wire::append_answer(&answer))
}

async fn vote<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, request: VoteRequest<RaftTypes<RT>>) -> Answer {
    let answer = raft.vote(request).await.map_err(failed)?;
    Ok(wire::vote_answer(&answer))
}

async fn pre_vote<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, request: VoteRequest<RaftTypes<RT>>) -> Answer {
    let answer = raft.pre_vote(request).await.map_err(failed)?;
    Ok(wire::vote_answer(&answer))
}

async fn transfer<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, request: TransferLeaderRequest<RaftTypes<RT>>) -> Answer {
    let answer = raft.handle_transfer_leader(request).await.map_err(failed)?;
    Ok(Bytes::copy_from_slice(&[u8::from(answer.is_err())]))
}

async fn begin(shared: Arc<Shared>, incoming: Arc<Mutex<Incoming>>, from: NodeId, vote: Vote, meta: SnapshotMeta) -> Answer {
    let install = shared.store().install().await.map_err(failed)?;
    let mut incoming = incoming.lock();
    incoming.last_transfer += 1;
    let transfer = incoming.last_transfer;
    incoming.staged = Some(Staged { from, transfer, vote, meta, chunks: 0, install: Some(install) });
    Ok(Bytes::copy_from_slice(&transfer.to_le_bytes()))
}

async fn chunk(incoming: Arc<Mutex<Incoming>>, from: NodeId, transfer: u64, number: u64, rows: Vec<Row>) -> Answer {
    let mut install = {
        let mut incoming = incoming.lock();
        match &mut incoming.staged {
            Some(staged) if staged.from == from && staged.transfer == transfer && staged.chunks == number => {
                staged.chunks += 1;
                staged.install.take().ok_or_else(|| failed("two chunks of a snapshot at once"))?
            }
            _ => return Err(failed("a chunk of another snapshot, or out of order")),
        }
    };
    install.put(rows).await.map_err(failed)?;
    let mut incoming = incoming.lock();
    match &mut incoming.staged {
        Some(staged) if staged.transfer == transfer => staged.install = Some(install),
        _ => return Err(failed("a newer snapshot has begun")),
    }
    Ok(Bytes::new())
}

/// Whether a request with this vote would be accepted as one of the leader's. Everything applied before was committed by
/// leaders up to that vote, so the leader's log has it.
async fn leads_still<RT: AsyncRuntime + Send + Sync>(raft: &Raft<RT>, vote: Vote) -> Result<bool, Refusal> {
    use openraft::vote::RaftVote;
    let known = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(failed)?;
    Ok(RaftVote::partial_cmp(&known, &vote).is_some_and(std::cmp::Ordering::is_le))
}

async fn commit<RT: AsyncRuntime + Send + Sync>(
    raft: Raft<RT>,
    shared: Arc<Shared>,
    contradicted: Arc<Contradicted>,
    staged: Option<Staged>,
    chunks: u64,
) -> Answer {
    let Some(Staged { vote, meta, chunks: received, install: Some(install), .. }) = staged else {
        return Err(failed("another snapshot has begun, or a chunk is still being written"));
    };
    if received != chunks {
        return Err(failed(format!("{received} chunks of a snapshot that has {chunks}")));
    }
    if let (Some(applied), Some(theirs)) = (shared.applied_id(), meta.last_log_id)
        && contradiction::contradicts(&theirs, applied)
        && leads_still(&raft, vote).await?
    {
        return Err(failed(contradicted.by(theirs, applied)));
    }
    let snapshot = Snapshot { meta, snapshot: SnapshotData::Staged(install) };
    let answer = raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
    Ok(wire::vote_bytes(&answer.vote))
}

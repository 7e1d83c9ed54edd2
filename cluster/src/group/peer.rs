//! A replica as its peers reach it: decodes their messages, hands them to consensus, encodes the answers.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::AsyncRuntime;
use openraft::storage::Snapshot;
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::contradiction::{self, Contradicted};
use super::floor::{self, Vouched};
use super::hearing::Hearing;
use crate::applier::{Applier, Shared, SnapshotData};
use crate::encoding::DecodeError;
use crate::grid::{Grid, SnapshotMeta, Vote};
use crate::mesh::{Operation, RaftPeer, Status};
use crate::state::Install;
use crate::wire;

/// openraft's handle with our types in it.
pub(crate) type Raft<RT> = openraft::Raft<Grid<RT>, Applier<RT>>;

pub(crate) struct GroupPeer<RT: AsyncRuntime + Send + Sync> {
    group: GroupId,
    raft: Raft<RT>,
    shared: Arc<Shared>,
    hearing: Arc<Hearing>,
    incoming: Arc<Mutex<Incoming>>,
    vouched: Vouched,
    contradicted: Arc<Contradicted>,
}

/// The snapshot being received. A newer one replaces it.
#[derive(Default)]
struct Incoming {
    last_transfer: u64,
    staged: Option<Staged>,
}

struct Staged {
    transfer: u64,
    vote: Vote,
    meta: SnapshotMeta,
    chunks: u64,
    /// Taken while a chunk is being written.
    install: Option<Box<dyn Install>>,
}

type Answer = Result<Bytes, Refusal>;

enum Refusal {
    Malformed(DecodeError),
    Failed(String),
    /// Nothing is wrong with the message; this replica has no say until its log is refilled.
    Abstains,
}

impl From<DecodeError> for Refusal {
    fn from(malformed: DecodeError) -> Self {
        Self::Malformed(malformed)
    }
}

fn failed(why: impl std::fmt::Display) -> Refusal {
    Refusal::Failed(why.to_string())
}

impl<RT: AsyncRuntime + Send + Sync> GroupPeer<RT> {
    pub(super) fn new(
        group: GroupId,
        raft: Raft<RT>,
        shared: Arc<Shared>,
        hearing: Arc<Hearing>,
        vouched: Vouched,
        contradicted: Arc<Contradicted>,
    ) -> Self {
        Self { group, raft, shared, hearing, incoming: Arc::default(), vouched, contradicted }
    }

    fn answer(&self, operation: Operation, body: Bytes) -> BoxFuture<'static, Answer> {
        if floor::abstains(operation) && self.vouched.borrow().is_some() {
            return std::future::ready(Err(Refusal::Abstains)).boxed();
        }
        if let Some(why) = self.contradicted.reason() {
            return std::future::ready(Err(failed(why))).boxed();
        }
        let raft = self.raft.clone();
        match operation {
            Operation::Append => {
                append(raft, self.shared.clone(), self.hearing.clone(), self.contradicted.clone(), body).boxed()
            }
            Operation::Vote => vote(raft, body).boxed(),
            Operation::PreVote => pre_vote(raft, body).boxed(),
            Operation::Transfer => transfer(raft, body).boxed(),
            Operation::SnapshotBegin => begin(self.shared.clone(), self.incoming.clone(), body).boxed(),
            Operation::SnapshotChunk => chunk(self.incoming.clone(), body).boxed(),
            Operation::SnapshotCommit => {
                commit(raft, self.shared.clone(), self.contradicted.clone(), self.incoming.clone(), body).boxed()
            }
            Operation::Service | Operation::Ping | Operation::Probe => {
                std::future::ready(Err(failed("not a message to a replica"))).boxed()
            }
        }
    }
}

impl<RT: AsyncRuntime + Send + Sync> RaftPeer for GroupPeer<RT> {
    fn handle(&self, operation: Operation, body: Bytes) -> BoxFuture<'static, (Status, Bytes)> {
        let group = self.group;
        let answer = self.answer(operation, body);
        async move {
            match answer.await {
                Ok(body) => (Status::Done, body),
                Err(Refusal::Malformed(malformed)) => {
                    tracing::warn!(%group, ?operation, %malformed, "cannot read a peer's message");
                    (Status::Malformed, Bytes::new())
                }
                Err(Refusal::Abstains) => {
                    tracing::debug!(%group, ?operation, "no answer: the log is being refilled");
                    (Status::Failed, Bytes::new())
                }
                Err(Refusal::Failed(why)) => {
                    tracing::warn!(%group, ?operation, why, "cannot serve a peer");
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
    body: Bytes,
) -> Answer {
    let request = wire::take_append(body)?;
    if let Some(applied) = shared.applied_id()
        && let Some(theirs) = contradiction::in_request(&request, applied)
        && leads_still(&raft, request.vote).await?
    {
        return Err(failed(contradicted.by(theirs, applied)));
    }
    let committed = request.leader_commit.as_ref().map_or(0, |committed| committed.index);
    // On arrival: what a slow disk does to the answer says nothing of the leader.
    hearing.hear(request.vote.leader_id.term, committed, Instant::now());
    let answer = raft.append_entries(request).await.map_err(failed)?;
    Ok(wire::append_answer(&answer))
}

async fn vote<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, body: Bytes) -> Answer {
    let answer = raft.vote(wire::take_vote_request(body)?).await.map_err(failed)?;
    Ok(wire::vote_answer(&answer))
}

async fn pre_vote<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, body: Bytes) -> Answer {
    let answer = raft.pre_vote(wire::take_vote_request(body)?).await.map_err(failed)?;
    Ok(wire::vote_answer(&answer))
}

async fn transfer<RT: AsyncRuntime + Send + Sync>(raft: Raft<RT>, body: Bytes) -> Answer {
    let answer = raft.handle_transfer_leader(wire::take_transfer(body)?).await.map_err(failed)?;
    Ok(Bytes::copy_from_slice(&[u8::from(answer.is_err())]))
}

async fn begin(shared: Arc<Shared>, incoming: Arc<Mutex<Incoming>>, body: Bytes) -> Answer {
    let (vote, meta) = wire::take_snapshot_begin(body)?;
    let install = shared.store().install().await.map_err(failed)?;
    let mut incoming = incoming.lock();
    incoming.last_transfer += 1;
    let transfer = incoming.last_transfer;
    incoming.staged = Some(Staged { transfer, vote, meta, chunks: 0, install: Some(install) });
    Ok(Bytes::copy_from_slice(&transfer.to_le_bytes()))
}

async fn chunk(incoming: Arc<Mutex<Incoming>>, body: Bytes) -> Answer {
    let (transfer, number, rows) = wire::take_snapshot_chunk(body)?;
    let mut install = {
        let mut incoming = incoming.lock();
        match &mut incoming.staged {
            Some(staged) if staged.transfer == transfer && staged.chunks == number => {
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

/// Whether a request with this vote would be taken for one of the leader's. What was applied before is committed by leaders up to
/// that vote, so that its log must have it.
async fn leads_still<RT: AsyncRuntime + Send + Sync>(raft: &Raft<RT>, vote: Vote) -> Result<bool, Refusal> {
    use openraft::vote::RaftVote;
    let known = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(failed)?;
    Ok(RaftVote::partial_cmp(&known, &vote).is_some_and(std::cmp::Ordering::is_le))
}

async fn commit<RT: AsyncRuntime + Send + Sync>(
    raft: Raft<RT>,
    shared: Arc<Shared>,
    contradicted: Arc<Contradicted>,
    incoming: Arc<Mutex<Incoming>>,
    body: Bytes,
) -> Answer {
    let (transfer, chunks) = wire::take_snapshot_commit(body)?;
    let staged = incoming.lock().staged.take_if(|staged| staged.transfer == transfer);
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

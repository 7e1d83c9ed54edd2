//! openraft's state machine, made of a [`Machine`] and its [`StateStore`].
//!
//! Apply touches memory only. A checkpoint is openraft's snapshot. It begins between two applies. Its dirty rows are collected
//! bit by bit and written in the background, in one atomic batch together with the applied index (rule 26 of placing). Only
//! then is the checkpoint reported, so that the log is never purged above it (rule 27). After a restart the machine is reloaded
//! from the last checkpoint, and the log is applied again from there.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{AsyncRuntime, OptionalSend, RaftSnapshotBuilder};
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::encoding::{decode_snapshot_meta, encode_snapshot_meta};
use crate::ids::{EntryId, ReplicaId};
use crate::machine::{DirtyRows, Machine};
use crate::metrics;
use crate::raft_types::{CommittedLeaderId, EntryBody, Host, LogId, RaftEntry, RaftTypes, SnapshotMeta, StoredMembership};
use crate::state::{Install, StateStore, StateView};

/// Approximate bytes per chunk when rows are copied between stores.
const COPY_CHUNK: usize = 1 << 20;

/// openraft's state machine over a [`Machine`] and a [`StateStore`].
///
/// [`start_group`](crate::start_group) creates one. It is public so that openraft's own test suite can be run over a store.
pub struct Applier<RT> {
    shared: Arc<Shared>,
    applied: SnapshotMeta,
    runtime: PhantomData<fn() -> RT>,
}

/// The state that the applier shares with its builders and with the group's handle.
pub(crate) struct Shared {
    group: GroupId,
    machine: Arc<dyn Machine>,
    store: Arc<dyn StateStore>,
    /// One past the last applied index, so that 0 means "nothing yet".
    applied: watch::Sender<u64>,
    applied_term: AtomicU64,
    /// The last applied index together with its term.
    applied_id: Mutex<Option<EntryId>>,
    /// One past the index of the last durable checkpoint.
    durable: watch::Sender<u64>,
    /// Held by whoever uses the machine: an apply, or a step of a checkpoint. An async lock, because a machine may apply for
    /// milliseconds, and a waiting thread would be blocked that long.
    turn: tokio::sync::Mutex<()>,
    /// Held by a checkpoint or an install while it writes: a late checkpoint must not write into a new generation.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Whether an install waits for the current checkpoint to be written. The checkpoint must not wait for anything else then.
    installing: watch::Sender<bool>,
    dirty_limit: u64,
    /// Notified by apply when the dirty limit is passed. The checkpoint task waits for it.
    pub(crate) dirty: tokio::sync::Notify,
    /// Resolves when the log is durable up to an index; set once the group runs. If a checkpoint were ahead of its log at a
    /// crash, a conflicting entry could follow in the log.
    pub(crate) log_durable: Mutex<Option<LogGate>>,
    pub(crate) meters: metrics::GroupMeters,
}

/// Waits until the local log is durable up to the given log id.
pub(crate) type LogGate = Arc<dyn Fn(LogId) -> futures::future::BoxFuture<'static, ()> + Send + Sync>;

impl Shared {
    /// One past the last applied index.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// One past the last applied index, now.
    pub(crate) fn applied_next(&self) -> u64 {
        *self.applied.borrow()
    }

    /// The last applied entry.
    pub(crate) fn applied_id(&self) -> Option<EntryId> {
        *self.applied_id.lock()
    }

    /// One past the index of the last durable checkpoint, now.
    pub(crate) fn durable_next(&self) -> u64 {
        *self.durable.borrow()
    }

    /// Term of the last applied entry.
    pub(crate) fn applied_term(&self) -> u64 {
        self.applied_term.load(Ordering::Acquire)
    }

    /// One past the index of the last durable checkpoint.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Resolves when no checkpoint and no install is being written.
    pub(crate) async fn quiet(&self) {
        drop(self.writing.lock().await);
    }

    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    pub(crate) fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Waits while the machine is full and a checkpoint is under way that will make room. Without a checkpoint there is no
    /// wait: the next one begins between two runs of entries, and a run is no longer than the limit of concurrent proposals.
    async fn room(&self) {
        while self.machine.is_full() {
            self.dirty.notify_one();
            if self.writing.try_lock().is_ok() {
                return;
            }
            self.quiet().await;
        }
    }

    async fn freeze_more(&self, rows: &mut DirtyRows) -> bool {
        let _turn = self.turn.lock().await;
        self.meters.freezing(|| self.machine.freeze_more(rows))
    }

    async fn frozen_durable(&self) {
        let _turn = self.turn.lock().await;
        self.machine.frozen_durable();
    }

    async fn tidy(&self) -> bool {
        let _turn = self.turn.lock().await;
        self.machine.tidy()
    }

    fn publish(&self, applied: &SnapshotMeta) {
        if let Some(last) = &applied.last_log_id {
            *self.applied_id.lock() = Some(EntryId::from(last));
            self.applied_term.store(last.leader_id.term, Ordering::Release);
            self.applied.send_replace(last.index + 1);
        }
    }
}

impl<RT: AsyncRuntime> Applier<RT> {
    /// Reloads the machine from its store. A checkpoint is requested at `dirty_limit` dirty bytes.
    ///
    /// # Errors
    /// If the store cannot be read, its meta has an unknown format, or the machine refuses the rows.
    pub async fn open(
        group: GroupId,
        machine: Arc<dyn Machine>,
        store: Arc<dyn StateStore>,
        dirty_limit: u64,
    ) -> io::Result<Self> {
        let applied = match store.meta().await.map_err(io::Error::other)? {
            Some(meta) => decode_snapshot_meta(meta).map_err(io::Error::other)?,
            None => SnapshotMeta::default(),
        };
        machine.reload().await.map_err(io::Error::other)?;
        let shared = Shared {
            group,
            machine,
            store,
            applied: watch::Sender::new(0),
            applied_term: AtomicU64::new(0),
            applied_id: Mutex::default(),
            durable: watch::Sender::new(next_index(&applied)),
            turn: tokio::sync::Mutex::default(),
            writing: Arc::default(),
            installing: watch::Sender::new(false),
            dirty_limit,
            dirty: tokio::sync::Notify::new(),
            log_durable: Mutex::new(None),
            meters: metrics::GroupMeters::of(group),
        };
        shared.publish(&applied);
        Ok(Self { shared: Arc::new(shared), applied, runtime: PhantomData })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    async fn apply_one(&mut self, entry: RaftEntry, run_began: tokio::time::Instant) -> io::Result<()> {
        let id = entry.log_id;
        match entry.payload {
            EntryBody::Blank => {}
            EntryBody::Normal(payload) => {
                if let Some(proposed) = payload.0.proposed() {
                    self.shared.meters.replicated(proposed, run_began);
                }
                self.shared.room().await;
                let _turn = self.shared.turn.lock().await;
                self.shared.machine.apply(EntryId::from(&id), &payload.0).await.map_err(io::Error::other)?;
            }
            EntryBody::Membership(membership) => {
                self.applied.last_membership = StoredMembership::new(Some(id), membership);
            }
        }
        self.applied.last_log_id = Some(id);
        Ok(())
    }
}

/// An entry is a later one of the log than the last, in no earlier term, and in a run of them the very next. (openraft's suite leaves
/// gaps between runs.) Fails instead of panicking, as everything here does: that ends the group, and the node, at once and in
/// these words.
fn follows(last: Option<&LogId>, first: bool, id: &LogId) -> io::Result<()> {
    let holds = last.is_none_or(|last| {
        let ahead = id.index.saturating_sub(last.index);
        (ahead == 1 || first && ahead > 1) && id.leader_id.term >= last.leader_id.term
    });
    rule(holds, || format!("ReplicasAgree: entry {id} comes after {last:?}"))
}

/// What is relied on, as an error that ends the group where it does not hold.
fn rule(holds: bool, text: impl FnOnce() -> String) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(text())) }
}

fn next_index(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index + 1)
}

impl<RT: AsyncRuntime> RaftStateMachine<RaftTypes<RT>> for Applier<RT> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.last_log_id, self.applied.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<RaftTypes<RT>>, io::Error>> + Unpin + OptionalSend,
    {
        let (started, mut first) = (tokio::time::Instant::now(), true);
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            follows(self.applied.last_log_id.as_ref(), first, &entry.log_id)?;
            first = false;
            self.apply_one(entry, started).await?;
            // Published before the answers, so that a caller that is answered can read what it wrote.
            self.shared.publish(&self.applied);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        self.shared.meters.applied(started.elapsed());
        if self.shared.machine.dirty_bytes() >= self.shared.dirty_limit {
            self.shared.dirty.notify_one();
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<CheckpointBuilder> {
        let writing = self.shared.writing.clone();
        let guard = if force { writing.lock_owned().await } else { writing.try_lock_owned().ok()? };
        Some(CheckpointBuilder {
            rows: self.shared.meters.freezing(|| self.shared.machine.freeze()),
            meta: self.applied.clone(),
            shared: self.shared.clone(),
            guard: Some(guard),
        })
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        self.try_create_snapshot_builder(true).await.expect("a forced builder is always made")
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let applied = &self.applied.last_log_id;
        rule(meta.last_log_id >= *applied, || {
            format!("ReplicasAgree: rows of {:?} replace those of {applied:?}", meta.last_log_id)
        })?;
        self.shared.installing.send_replace(true);
        let _guard = self.shared.writing.clone().lock_owned().await;
        self.shared.installing.send_replace(false);
        let install = match snapshot {
            SnapshotData::Staged(install) => install,
            SnapshotData::View(view) => copy(&*view, &*self.shared.store).await?,
        };
        install.commit(meta_bytes(meta)).await.map_err(io::Error::other)?;
        self.shared.machine.reload().await.map_err(io::Error::other)?;
        self.applied = meta.clone();
        self.shared.durable.send_replace(next_index(meta));
        self.shared.publish(&self.applied);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<GridSnapshot>, io::Error> {
        current_snapshot(&*self.shared.store).await
    }
}

/// A snapshot of a group: what it covers, and its rows.
pub(crate) type GridSnapshot = Snapshot<CommittedLeaderId, ReplicaId, Host, SnapshotData>;

async fn current_snapshot(store: &dyn StateStore) -> io::Result<Option<GridSnapshot>> {
    let Some(view) = store.view().await.map_err(io::Error::other)? else {
        return Ok(None);
    };
    let meta = decode_snapshot_meta(view.meta()).map_err(io::Error::other)?;
    Ok(Some(Snapshot { meta, snapshot: SnapshotData::View(view) }))
}

async fn copy(view: &dyn StateView, store: &dyn StateStore) -> io::Result<Box<dyn Install>> {
    let mut install = store.install().await.map_err(io::Error::other)?;
    let mut after = None;
    loop {
        let rows = view.next_chunk(after.take(), COPY_CHUNK).await.map_err(io::Error::other)?;
        let Some((last, _)) = rows.last() else {
            return Ok(install);
        };
        after = Some(last.clone());
        install.put(rows).await.map_err(io::Error::other)?;
    }
}

fn meta_bytes(meta: &SnapshotMeta) -> Bytes {
    let mut bytes = BytesMut::new();
    encode_snapshot_meta(meta, &mut bytes);
    bytes.freeze()
}

/// The rows of a snapshot: a handle, never the rows themselves.
pub enum SnapshotData {
    /// Rows of this node's store, to be sent.
    View(Arc<dyn StateView>),
    /// Rows received from another node, complete but not switched to yet.
    Staged(Box<dyn Install>),
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::View(_) => "View",
            Self::Staged(_) => "Staged",
        })
    }
}

/// Pause of a checkpoint after each half millisecond of work, unless it is in haste.
const REST: Duration = Duration::from_millis(1);

/// Yields the processor between two steps of a checkpoint.
async fn rest(machine: &dyn Machine) {
    if machine.in_haste() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(REST).await;
    }
}

/// One checkpoint that is being written.
pub struct CheckpointBuilder {
    shared: Arc<Shared>,
    meta: SnapshotMeta,
    rows: DirtyRows,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<RT: AsyncRuntime> RaftSnapshotBuilder<RaftTypes<RT>> for CheckpointBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<GridSnapshot, io::Error> {
        let started = tokio::time::Instant::now();
        let mut rows = std::mem::take(&mut self.rows);
        while !self.shared.freeze_more(&mut rows).await {
            rest(&*self.shared.machine).await;
        }
        let gate = self.shared.log_durable.lock().clone();
        if let (Some(gate), Some(last)) = (gate, self.meta.last_log_id) {
            let mut installing = self.shared.installing.subscribe();
            tokio::select! {
                biased;
                () = gate(last) => {}
                // The install that waits replaces this checkpoint anyway.
                _ = installing.wait_for(|installing| *installing) => {}
            }
        }
        let bytes = rows.size();
        self.shared.store.checkpoint(meta_bytes(&self.meta), rows).await.map_err(io::Error::other)?;
        self.shared.frozen_durable().await;
        let (before, now) = (self.shared.durable_next(), next_index(&self.meta));
        rule(now >= before, || format!("rule 26: a checkpoint before entry {now} comes after one before entry {before}"))?;
        self.shared.durable.send_replace(now);
        while !self.shared.tidy().await {
            rest(&*self.shared.machine).await;
        }
        metrics::checkpointed(self.shared.group, started.elapsed(), bytes);
        let snapshot = current_snapshot(&*self.shared.store).await?;
        self.guard = None;
        snapshot.ok_or_else(|| io::Error::other("the checkpoint just written is not there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    #[test]
    fn an_entry_follows_the_last_one_and_is_of_no_earlier_term() {
        #[rustfmt::skip]
        let cases = [
            // the last,       first of a run, the entry, does it follow
            (None,             true,           id(0, 0),  true),
            (None,             true,           id(1, 3),  true),
            (Some(id(2, 5)),   true,           id(2, 6),  true),
            (Some(id(2, 5)),   false,          id(3, 6),  true),
            (Some(id(2, 5)),   true,           id(2, 7),  true),
            (Some(id(2, 5)),   false,          id(2, 7),  false),
            (Some(id(2, 5)),   true,           id(2, 5),  false),
            (Some(id(2, 5)),   false,          id(2, 5),  false),
            (Some(id(2, 5)),   true,           id(2, 4),  false),
            (Some(id(2, 5)),   true,           id(1, 6),  false),
        ];
        for (last, first, id, expected) in cases {
            let followed = follows(last.as_ref(), first, &id);
            assert_eq!(followed.is_ok(), expected, "{last:?}, then {id}: {followed:?}");
            assert!(followed.err().is_none_or(|error| error.to_string().starts_with("ReplicasAgree")));
        }
    }
}

//! Starts a replica: reloads it, replays its log, connects it to its peers, and lets it vote once that is safe.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openraft::AsyncRuntime;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftStateMachine};
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::admission::{self, Admission};
use super::checkpoint::{self, dirty_limit, gate_on_log};
use super::contradiction::Contradicted;
use super::floor::{self, Vouched};
use super::guard::Told;
use super::handle::{Handle, Reports};
use super::hearing::Hearing;
use super::leadership;
use super::lease::{Clocks, Steady};
use super::network::{MESSAGE_OVERHEAD, Network};
use super::watchdog;
use super::{GroupConfig, GroupRef, Leadership, closed};
use crate::applier::Applier;
use crate::config_error::ConfigError;
use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::machine::Machine;
use crate::mesh::Mesh;
use crate::raft_types::{EntryBody, Host, LogId, RaftTypes, Vote};
use crate::state::StateStore;

/// The parts of a replica, apart from its log.
pub struct GroupParts {
    /// The group.
    pub group: GroupId,
    /// This node's replica of it.
    pub replica: ReplicaId,
    /// The group's replicas by the shard map, with which the group is founded if it does not exist yet. Founding is repeated
    /// until it has happened; repeating it does no harm. Empty for a replica that joins an existing group.
    pub founders: BTreeMap<ReplicaId, NodeId>,
    /// Whether this node founds the group and campaigns first. The other founders do so only if this node does not appear.
    pub preferred: bool,
    /// The settings of the replica.
    pub config: GroupConfig,
    /// The state machine.
    pub machine: Arc<dyn Machine>,
    /// The store of its rows.
    pub store: Arc<dyn StateStore>,
    /// The mesh to its peers.
    pub mesh: Mesh,
    /// The last entry that its log vouched for and lacks; see [`whole`](super::whole).
    pub vouched: Vouched,
    /// The clocks that show a leader that its machine was paused.
    pub clocks: Arc<dyn Clocks>,
    /// Whether the replica may take part; see [`at_once`](super::at_once).
    pub admission: Admission,
}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log, the store or the machine failed.
    #[error("cannot recover the replica: {0}")]
    Recover(#[from] io::Error),
    /// The log has lost entries that it vouched for, and no other replica has them.
    #[error(
        "its log is damaged: the last entry found is {}, and it vouched for all up to {}; what is missing was acknowledged, and no \
         other replica has it",
        found.map_or_else(|| "none".to_owned(), |found| found.index.to_string()),
        vouched.index
    )]
    Lost {
        /// The last entry that is there, in the log or in the state.
        found: Option<EntryId>,
        /// The last entry that the log vouched for.
        vouched: EntryId,
    },
    /// The state lacks rows made by entries that are already purged from the log.
    #[error("the state ends at entry {applied}, and the log begins after entry {purged}: rows are missing")]
    StateMissing {
        /// The last entry that the state has; 0 before the first.
        applied: u64,
        /// The last entry that was purged from the log.
        purged: u64,
    },
    /// Consensus refused to start on the recovered state.
    #[error("consensus cannot start: {0}")]
    Consensus(String),
}

/// Starts a replica: reloads its machine from the last checkpoint, applies the log from there, and takes part. Returns when
/// this is done, usually before a leader is known: see [`Group::leadership`](super::Group::leadership). Must be called inside
/// the runtime `RT`.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub async fn start_group<RT, LS>(parts: GroupParts, mut log: LS) -> Result<GroupRef, StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    let GroupParts { group, replica, founders, preferred, config, machine, store, mesh, vouched, clocks, admission } = parts;
    config.validate()?;
    let room = mesh.frame_limit().saturating_sub(MESSAGE_OVERHEAD);
    if config.bytes_per_message.max(config.snapshot_chunk) > room {
        let rule = "bytes_per_message and snapshot_chunk must fit into the mesh's frame_limit";
        return Err(ConfigError(rule.to_owned()).into());
    }
    let consensus = Arc::new(config.consensus(&group.to_string())?);
    let config = Arc::new(config);
    let dirty = dirty_limit(config.checkpoint_bytes, replica);
    let mut applier = Applier::<RT>::open(group, Arc::clone(&machine), store, dirty).await?;
    let (applied, _) = applier.applied_state().await?;
    let floor = *vouched.borrow();
    agree(group, replica, &mut log, applied, floor.filter(|_| founders.len() == 1)).await?;
    show_last(&*machine, &mut log).await?;
    let shared = applier.shared();
    let started_with = log.get_log_reader().await.read_vote().await?;
    let logged = log.get_log_state().await?.last_log_id.map_or(0, |last| last.index + 1);
    let told = Arc::<Told>::default();
    let network =
        Network { mesh: mesh.clone(), group, config: config.clone(), told: told.clone(), runtime: PhantomData::<fn() -> RT> };
    let raft = openraft::Raft::build(replica, consensus, network, log, applier)
        .await
        .map_err(|fatal| StartError::Consensus(fatal.to_string()))?;
    gate_on_log(&raft, &shared, logged);
    let (publish, leadership) = watch::channel(Leadership::default());
    let (closing, closed) = watch::channel(false);
    let hearing = Arc::new(Hearing::new(&config, leadership.clone()));
    let handle = Arc::new_cyclic(|me| Handle {
        group,
        replica,
        config,
        raft: raft.clone(),
        shared: shared.clone(),
        mesh,
        peer: Mutex::default(),
        reports: Reports::of(&raft),
        leadership,
        leaving: AtomicBool::new(false),
        hearing,
        transferring: AtomicBool::new(false),
        barriers: Mutex::default(),
        steady: Steady::new(group, clocks),
        vouched,
        contradicted: Arc::new(Contradicted::new()),
        heard: Arc::default(),
        told,
        started_with,
        founders: Arc::new(founders.clone()),
        stood: watch::Sender::new(None),
        given_up: watch::Sender::new(None),
        closing,
        me: me.clone(),
    });
    drop(RT::spawn(leadership::follow(group, replica, raft, shared, publish, closed)));
    drop(RT::spawn(checkpoint::keep(Arc::downgrade(&handle))));
    drop(RT::spawn(watchdog::watch(Arc::downgrade(&handle))));
    let below = handle.vouched.borrow().is_some();
    if below {
        handle.raft.runtime_config().elect(false);
        drop(RT::spawn(floor::refilled(handle.clone())));
    }
    // The group exists if this replica vouched for its entries.
    let founders = if below { BTreeMap::new() } else { founders };
    let voted_before = started_with.is_some();
    let joining = Joining { handle: handle.clone(), founders, preferred: preferred && !below, voted_before, admission };
    joining.start().await;
    Ok(handle)
}

/// Truncates or purges the log so that it agrees with the state, or refuses to start. `floor` is that of a replica without
/// peers.
async fn agree<RT, LS>(
    group: GroupId,
    replica: ReplicaId,
    log: &mut LS,
    applied: Option<LogId>,
    floor: Option<LogId>,
) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    forget_superseded(group, log, applied).await?;
    raise_vote(replica, applied, log).await?;
    refuse_lost(log, applied, floor).await?;
    refuse_missing(log, applied).await
}

/// Drops entries that an installed snapshot has replaced. The snapshot becomes durable before the log drops them, in another
/// database. After a power loss in between, the log still has entries that were never committed and do not follow the
/// snapshot's state.
async fn forget_superseded<RT, LS>(group: GroupId, log: &mut LS, applied: Option<LogId>) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    let Some(applied) = applied else { return Ok(()) };
    let state = log.get_log_state().await?;
    let purged = state.last_purged_log_id.is_some_and(|purged| purged.index >= applied.index);
    let beyond = state.last_log_id.is_some_and(|last| last.index >= applied.index);
    if purged || !beyond {
        return Ok(());
    }
    let around = applied.index.saturating_sub(1)..applied.index + 1;
    let around = log.get_log_reader().await.try_get_log_entries(around).await?;
    if around.last().is_some_and(|entry| entry.log_id == applied) {
        return Ok(());
    }
    let before = around.first().map(|entry| entry.log_id).filter(|before| before.index < applied.index);
    tracing::warn!(shard = %group, index = applied.index, effect = "the entries that the state covers are dropped", "log older than the state");
    log.truncate_after(before.or(state.last_purged_log_id)).await?;
    log.purge(applied).await
}

/// Raises the vote to the term of the last applied entry. Rows that were refilled from another replica may be of a later leader
/// than this replica has heard of. Without this, the replica would campaign in a term that is over, and nobody would vote for
/// it. If that term's leader still leads, the replica follows it: the leader was elected, and this vote was not.
async fn raise_vote<RT, LS>(replica: ReplicaId, applied: Option<LogId>, log: &mut LS) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    let Some(last) = log.get_log_state().await?.last_log_id.max(applied) else { return Ok(()) };
    let vote = log.get_log_reader().await.read_vote().await?;
    let term = last.leader_id.term;
    if vote.is_none_or(|vote| vote.leader_id.term < term) {
        log.save_vote(&Vote::new(term, replica)).await?;
    }
    Ok(())
}

/// Refuses to start a replica without peers whose log has lost entries: nobody can refill it. Entries that the state has count
/// as found.
async fn refuse_lost<RT, LS>(log: &mut LS, applied: Option<LogId>, vouched: Option<LogId>) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    let found = log.get_log_state().await?.last_log_id.max(applied);
    match vouched {
        Some(vouched) if found < Some(vouched) => {
            Err(StartError::Lost { found: found.as_ref().map(EntryId::from), vouched: EntryId::from(&vouched) })
        }
        _ => Ok(()),
    }
}

/// Refuses to start if the next entry to apply is no longer in the log.
async fn refuse_missing<RT, LS>(log: &mut LS, applied: Option<LogId>) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    let purged = log.get_log_state().await?.last_purged_log_id;
    purged.filter(|purged| Some(*purged) > applied).map_or(Ok(()), |purged| {
        Err(StartError::StateMissing { applied: applied.map_or(0, |applied| applied.index), purged: purged.index })
    })
}

/// Passes to the machine the newest entry of the log that has a body.
async fn show_last<RT, LS>(machine: &dyn Machine, log: &mut LS) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<RaftTypes<RT>>,
{
    const NEWEST: u64 = 8;
    let state = log.get_log_state().await?;
    let Some(last) = state.last_log_id else { return Ok(()) };
    let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1);
    let newest = first.max((last.index + 1).saturating_sub(NEWEST))..last.index + 1;
    if newest.is_empty() {
        return Ok(());
    }
    for entry in log.get_log_reader().await.try_get_log_entries(newest).await?.iter().rev() {
        if let EntryBody::Normal(payload) = &entry.payload {
            machine.logged(&payload.0);
            break;
        }
    }
    Ok(())
}

/// What is needed to let a replica take part.
struct Joining<RT: AsyncRuntime + Send + Sync> {
    handle: Arc<Handle<RT>>,
    founders: BTreeMap<ReplicaId, NodeId>,
    preferred: bool,
    voted_before: bool,
    admission: Admission,
}

impl<RT: AsyncRuntime + Send + Sync> Joining<RT> {
    async fn start(self) {
        let alone = self.founders.len() == 1;
        let must_wait = self.voted_before && !alone && self.handle.config.delay_after_restart;
        if must_wait || !*self.admission.borrow() {
            drop(RT::spawn(self.start_late(must_wait)));
        } else {
            self.run().await;
        }
    }

    /// Waits before the replica joins its peers. A restarted voter has forgotten which leader it promised not to replace. Until
    /// that promise has expired it answers nobody; otherwise a stale read could be served under the old leader's lease. It also
    /// waits for its admission.
    async fn start_late(self, must_wait: bool) {
        let mut closing = self.handle.closing.subscribe();
        let wait = if must_wait { self.handle.config.election_max } else { std::time::Duration::ZERO };
        let granted = admission::granted(self.admission.clone());
        tokio::select! {
            biased;
            () = closed(&mut closing) => {}
            _ = futures::future::join(granted, tokio::time::sleep(wait)) => self.run().await,
        }
    }

    async fn run(self) {
        let Self { handle, founders, preferred, .. } = self;
        handle.raft.run();
        handle.attach();
        let alone = founders.len() == 1;
        if preferred || alone {
            found(&handle, &founders).await;
        } else if !founders.is_empty() {
            drop(RT::spawn(found_if_nobody_does(handle.clone(), founders)));
        }
        if alone {
            // No other replica can lead, so there is no reason to wait for the election timeout.
            if let Err(error) = handle.raft.trigger().elect(false).await {
                tracing::debug!(shard = %handle.group, %error, "election not started");
            }
        }
    }
}

async fn found<RT: AsyncRuntime + Send + Sync>(handle: &Handle<RT>, founders: &BTreeMap<ReplicaId, NodeId>) {
    if !matches!(handle.raft.is_initialized().await, Ok(false)) {
        return;
    }
    let members: BTreeMap<ReplicaId, Host> = founders.iter().map(|(replica, node)| (*replica, Host(*node))).collect();
    match handle.raft.initialize(members).await {
        Ok(()) => tracing::info!(shard = %handle.group, "group founded"),
        // Another founder was faster.
        Err(error) => tracing::debug!(shard = %handle.group, %error, "group already founded"),
    }
}

/// The preferred leader founds the group. The other founders do so if it does not appear.
async fn found_if_nobody_does<RT: AsyncRuntime + Send + Sync>(handle: Arc<Handle<RT>>, founders: BTreeMap<ReplicaId, NodeId>) {
    let mut closing = handle.closing.subscribe();
    tokio::select! {
        biased;
        () = closed(&mut closing) => {}
        () = tokio::time::sleep(2 * handle.config.election_max) => found(&handle, &founders).await,
    }
}

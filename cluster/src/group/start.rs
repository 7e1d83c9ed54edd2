//! Brings a replica up: reload, replay, join its peers, and vote only when it is safe to.

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
use super::config::ConfigError;
use super::contradiction::Contradicted;
use super::floor::{self, Vouched};
use super::guard::Told;
use super::handle::{Handle, Reports};
use super::hearing::Hearing;
use super::leadership;
use super::lease::{Clocks, Steady};
use super::watchdog;
use super::{GroupConfig, GroupRef, Leadership, closed};
use crate::applier::Applier;
use crate::grid::{EntryBody, Grid, Host, LogId, Vote};
use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::machine::Machine;
use crate::mesh::Mesh;
use crate::network::{MESSAGE_OVERHEAD, Network};
use crate::state::StateStore;

/// Everything a replica is made of, apart from its log.
pub struct GroupParts {
    /// The group.
    pub group: GroupId,
    /// This node's replica of it.
    pub replica: ReplicaId,
    /// The group's replicas by the shard map. While the group does not exist yet, it is founded with them; that is
    /// repeated harmlessly until it has happened. Empty for a replica that joins a group which exists already.
    pub founders: BTreeMap<ReplicaId, NodeId>,
    /// This node founds the group and asks to lead it; the other founders do so only if this one does not show up.
    pub preferred: bool,
    /// Its settings.
    pub config: GroupConfig,
    /// What it runs.
    pub machine: Arc<dyn Machine>,
    /// Where its rows live.
    pub store: Arc<dyn StateStore>,
    /// How it reaches its peers.
    pub mesh: Mesh,
    /// What its log vouched for and has not; see [`whole`](super::whole).
    pub vouched: Vouched,
    /// By which a leader sees that its machine stood still.
    pub clocks: Arc<dyn Clocks>,
    /// Says when it may take part; see [`at_once`](super::at_once).
    pub admission: Admission,
}

/// Why a replica did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its log, its rows or its machine failed.
    #[error("cannot recover the replica: {0}")]
    Recover(#[from] io::Error),
    /// Its log has lost what it vouched for, and there is no other replica that has it.
    #[error(
        "its log is damaged: the last entry found is {}, and it vouched for all up to {vouched}; what is missing was acknowledged, \
         and no other replica has it; `ordergrid offline accept-loss --config FILE --all --yes`, with this node's configuration as \
         FILE, goes on without it",
        found.map_or_else(|| "none".to_owned(), |found| found.to_string())
    )]
    Lost {
        /// The last entry that is there, in the log or in the state.
        found: Option<EntryId>,
        /// The last entry that was.
        vouched: EntryId,
    },
    /// The rows that the purged part of the log had made are not there.
    #[error("the state ends at entry {applied}, and the log begins after entry {purged}: rows are missing")]
    StateMissing {
        /// The last entry that the state has; 0 before the first.
        applied: u64,
        /// The last entry that is gone from the log.
        purged: u64,
    },
    /// Consensus refused to start on what was recovered.
    #[error("consensus cannot start: {0}")]
    Consensus(String),
}

/// Starts a replica: reloads its machine from the last checkpoint, applies the log from there, and takes part. Returns
/// once that is done; a leader is found later, see [`Group::leadership`](super::Group::leadership). Must be called
/// inside the runtime `RT`.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub async fn start_group<RT, LS>(parts: GroupParts, mut log: LS) -> Result<GroupRef, StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
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
    // A group that it vouched for exists.
    let founders = if below { BTreeMap::new() } else { founders };
    let voted_before = started_with.is_some();
    let joining = Joining { handle: handle.clone(), founders, preferred: preferred && !below, voted_before, admission };
    joining.start().await;
    Ok(handle)
}

/// The log is brought to where it agrees with the state, or refused. `floor`: of a replica that is alone.
async fn agree<RT, LS>(
    group: GroupId,
    replica: ReplicaId,
    log: &mut LS,
    applied: Option<LogId>,
    floor: Option<LogId>,
) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
{
    forget_superseded(group, log, applied).await?;
    raise_vote(replica, applied, log).await?;
    refuse_lost(log, applied, floor).await?;
    refuse_missing(log, applied).await
}

/// A snapshot that was installed becomes durable before the log loses what it replaces, in another database: a power loss in
/// between leaves entries that were never committed. What the snapshot stands for cannot follow them, so they go.
async fn forget_superseded<RT, LS>(group: GroupId, log: &mut LS, applied: Option<LogId>) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
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

/// Rows that were filled in from another replica are those of a later leader than this one has heard of. Whoever has them is past
/// that leader's term: it would stand in a term that is over else, which nobody believes. A leader of the term that is still
/// there is followed all the same, because it was elected and this vote was not.
async fn raise_vote<RT, LS>(replica: ReplicaId, applied: Option<LogId>, log: &mut LS) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
{
    let Some(last) = log.get_log_state().await?.last_log_id.max(applied) else { return Ok(()) };
    let vote = log.get_log_reader().await.read_vote().await?;
    let term = last.leader_id.term;
    if vote.is_none_or(|vote| vote.leader_id.term < term) {
        log.save_vote(&Vote::new(term, replica)).await?;
    }
    Ok(())
}

/// A replica that is alone has nobody to refill its log. What the state has was applied, and counts as found.
async fn refuse_lost<RT, LS>(log: &mut LS, applied: Option<LogId>, vouched: Option<LogId>) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
{
    let found = log.get_log_state().await?.last_log_id.max(applied);
    match vouched {
        Some(vouched) if found < Some(vouched) => {
            Err(StartError::Lost { found: found.as_ref().map(EntryId::from), vouched: EntryId::from(&vouched) })
        }
        _ => Ok(()),
    }
}

/// The log no longer has what would have to be applied next.
async fn refuse_missing<RT, LS>(log: &mut LS, applied: Option<LogId>) -> Result<(), StartError>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
{
    let purged = log.get_log_state().await?.last_purged_log_id;
    purged.filter(|purged| Some(*purged) > applied).map_or(Ok(()), |purged| {
        Err(StartError::StateMissing { applied: applied.map_or(0, |applied| applied.index), purged: purged.index })
    })
}

/// Shows the machine the last entry with a body, among the newest of the log.
async fn show_last<RT, LS>(machine: &dyn Machine, log: &mut LS) -> io::Result<()>
where
    RT: AsyncRuntime + Send + Sync,
    LS: RaftLogStorage<Grid<RT>>,
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

/// What is left to do before a replica takes part.
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

    /// A voter that restarts has forgotten which leader it promised not to replace. Until that promise has run out it
    /// answers nobody, else a stale read could be served under the old leader's lease. Nor before it may take part at all.
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
            // Nobody else can lead: no reason to wait for a timeout after a restart.
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
        // Entries of the other founders came in between.
        Err(error) => tracing::debug!(shard = %handle.group, %error, "group already founded"),
    }
}

/// Founding is the preferred leader's business; the others step in when it is missing.
async fn found_if_nobody_does<RT: AsyncRuntime + Send + Sync>(handle: Arc<Handle<RT>>, founders: BTreeMap<ReplicaId, NodeId>) {
    let mut closing = handle.closing.subscribe();
    tokio::select! {
        biased;
        () = closed(&mut closing) => {}
        () = tokio::time::sleep(2 * handle.config.election_max) => found(&handle, &founders).await,
    }
}

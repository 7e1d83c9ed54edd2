//! Creates the replicas of this node: at the start, and again if one has to be rebuilt.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use openraft::impls::TokioRuntime;
use openraft::storage::RaftLogStorage;
use ordergrid_cluster::{
    Admission, Clocks, ClusterId, ClusterSpec, GroupParts, GroupRef, Machine, Mesh, MetaMachine, MetaView, NodeId, Placement,
    RaftTypes, ShardMap, StateStore, at_once, found_meta, start_group, vacant,
};
use ordergrid_domain::machine::{ShardConfig, SlotOwners};
use ordergrid_domain::{GroupId, Slot};
use ordergrid_storage::{Engine, EngineError, LogStore, LogWriter, StateRows};
use parking_lot::RwLock;

use crate::adapters::{self, GridCodec};
use crate::config::NodeConfig;
use crate::front::Front;
use crate::node::StartError;
use crate::platform::Platform;
use crate::recovery::aside::{self, Notes};
use crate::recovery::losses::LostEntries;
use crate::recovery::mend;
use crate::recovery::recall::Recall;
use crate::recovery::refill::RefillService;
use crate::recovery::wholeness::Wholeness;
use crate::room::{RowBudget, RowRoom};
use crate::shard::{Seat, ShardReplica};

/// Pause before the next attempt to refill the meta group.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The components that every replica of this node needs.
pub(crate) struct Replicas {
    config: NodeConfig,
    state: Arc<dyn Engine>,
    log: Arc<dyn Engine>,
    notes: Notes,
    clocks: Arc<dyn Clocks>,
    mesh: Mesh,
    refills: RefillService,
    front: Arc<Front>,
    writer: LogWriter,
    map: Arc<ShardMap>,
    /// Whether replicas may take part.
    admission: RwLock<Admission>,
    room: RowRoom,
}

/// The task that founds the meta group. Its result is the meta group's state.
pub(crate) type Founding = BoxFuture<'static, Option<Arc<MetaView>>>;

/// The replica of the meta group.
pub(crate) struct MetaSeat {
    /// Its consensus group.
    pub(crate) group: GroupRef,
    /// Its stored rows.
    pub(crate) rows: MetaRows,
    /// The task that founds it.
    pub(crate) founding: Founding,
}

/// The stored rows of a node's meta group replica.
#[derive(Clone)]
pub(crate) struct MetaRows {
    /// The rows.
    pub(crate) store: Arc<dyn StateStore>,
    /// Whether they are intact.
    pub(crate) whole: Arc<Wholeness>,
}

/// The seats of a node's shards.
pub(crate) type Seats = BTreeMap<GroupId, Seat>;

impl Replicas {
    /// The replicas of the node of `config`.
    pub(crate) fn new(
        config: &NodeConfig,
        platform: &Platform,
        mesh: &Mesh,
        refills: &RefillService,
        front: &Arc<Front>,
        writer: &LogWriter,
        map: &Arc<ShardMap>,
    ) -> Self {
        Self {
            config: config.clone(),
            state: Arc::clone(&platform.state_engine),
            log: Arc::clone(&platform.log_engine),
            notes: Notes::new(&platform.log_engine),
            clocks: Arc::new(adapters::LeaseClocks(Arc::clone(&platform.clock))),
            mesh: mesh.clone(),
            refills: refills.clone(),
            front: Arc::clone(front),
            writer: writer.clone(),
            map: Arc::clone(map),
            admission: RwLock::new(at_once()),
            room: platform.room.clone(),
        }
    }

    /// Makes replicas that are created from now on wait for `admission`.
    pub(crate) fn await_admission(&self, admission: Admission) {
        *self.admission.write() = admission;
    }

    /// The mesh to the other nodes.
    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Starts the meta group, with the task that founds it. Damaged rows are refilled first.
    pub(crate) async fn meta(&self, spec: &ClusterSpec, cluster: ClusterId) -> Result<MetaSeat, StartError> {
        let lowest = self.map.meta.first().map(|placement| placement.node);
        let preferred = lowest == Some(self.config.id);
        loop {
            let whole = Arc::new(Wholeness::new(GroupId::META));
            if let Some(what) = self.noted_damage(GroupId::META).await? {
                whole.damaged(&what);
            }
            let started = match whole.is_whole() {
                true => self.meta_once(preferred, &whole).await,
                false => Err(failed(GroupId::META, "its stored rows are damaged")),
            };
            let error = match started {
                Ok((group, machine, store)) => {
                    self.refills.open_meta(Arc::clone(&group), Arc::clone(&store));
                    let founding = found_meta(Arc::clone(&group), machine, spec.clone(), cluster);
                    return Ok(MetaSeat { group, rows: MetaRows { store, whole }, founding: Box::pin(founding) });
                }
                Err(error) => error,
            };
            let Some(what) = whole.damage() else { return Err(error) };
            if self.others(GroupId::META).is_empty() {
                return Err(self.alone(GroupId::META, &what).await.into());
            }
            if let Err(error) = self.mend_meta(&what).await {
                tracing::warn!(shard = %GroupId::META, error, "replica refill failed");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn mend_meta(&self, what: &str) -> Result<(), String> {
        self.note_damage(GroupId::META, what).await?;
        mend::refilled(self, GroupId::META).await?;
        self.forget_damage(GroupId::META).await
    }

    async fn meta_once(
        &self,
        preferred: bool,
        whole: &Arc<Wholeness>,
    ) -> Result<(GroupRef, Arc<MetaMachine>, Arc<dyn StateStore>), StartError> {
        let store = self.store(GroupId::META, whole).await?;
        let machine = MetaMachine::new(Arc::clone(&store));
        let group = self.group(GroupId::META, preferred, machine.clone(), Arc::clone(&store), whole).await?;
        Ok((group, machine, store))
    }

    /// Starts every shard with a replica on this node. A shard with damaged rows gets a vacant seat.
    pub(crate) async fn shards(&self) -> Result<Seats, StartError> {
        let here = self.map.shards.iter().filter(|shard| shard.replica_on(self.config.id).is_some());
        let started =
            here.map(|shard| async move { Ok::<_, StartError>((shard.group, self.shard_or_vacant(shard.group).await?)) });
        let started = join_all(started).await;
        let lost = |one: &Result<_, StartError>| match one {
            Err(StartError::Lost(lost)) => lost.clone(),
            _ => Vec::new(),
        };
        let lost: Vec<_> = started.iter().flat_map(lost).collect();
        if lost.is_empty() { started.into_iter().collect() } else { Err(StartError::Lost(lost)) }
    }

    /// What the shards have lost besides the meta group: whoever is to decide about it sees all of it at once.
    pub(crate) async fn also_lost(&self, mut lost: Vec<LostEntries>) -> StartError {
        if let Err(StartError::Lost(more)) = self.shards().await {
            lost.extend(more);
        }
        StartError::Lost(lost)
    }

    async fn shard_or_vacant(&self, group: GroupId) -> Result<Seat, StartError> {
        let whole = Arc::new(Wholeness::new(group));
        if let Some(what) = self.noted_damage(group).await? {
            whole.damaged(&what);
            return Ok(Seat { whole, ..self.vacant(group) });
        }
        match self.shard_with(group, &whole).await {
            Err(error) if !whole.is_whole() && self.others(group).is_empty() => {
                Err(self.alone(group, &whole.damage().unwrap_or_else(|| error.to_string())).await.into())
            }
            Err(_) if !whole.is_whole() => Ok(Seat { whole, ..self.vacant(group) }),
            started => started,
        }
    }

    /// Starts the replica of a shard.
    pub(crate) async fn shard(&self, group: GroupId) -> Result<Seat, StartError> {
        self.shard_with(group, &Arc::new(Wholeness::new(group))).await
    }

    async fn shard_with(&self, group: GroupId, whole: &Arc<Wholeness>) -> Result<Seat, StartError> {
        let store = self.store(group, whole).await?;
        let replica = self.replica(group, Arc::clone(&store), whole);
        let preferred = self.map.shard(group).and_then(|shard| shard.preferred()) == Some(self.config.id);
        let group = self.group(group, preferred, replica.clone(), store, whole).await?;
        Ok(Seat { group, replica, whole: Arc::clone(whole) })
    }

    /// A seat whose replica does not run.
    pub(crate) fn vacant(&self, group: GroupId) -> Seat {
        let whole = Arc::new(Wholeness::new(group));
        let number = self.own(group).expect("only shards with a replica here have a seat");
        let replica = self.replica(group, Arc::new(adapters::NoRows), &whole);
        Seat { group: vacant(group, number), replica, whole }
    }

    fn replica(&self, group: GroupId, store: Arc<dyn StateStore>, whole: &Arc<Wholeness>) -> Arc<ShardReplica> {
        let here = self.map.shards.iter().filter(|shard| shard.replica_on(self.config.id).is_some()).count();
        let settings = ShardConfig::new(group, owners(&self.map));
        Arc::new(ShardReplica::new(settings, store, RowBudget::new(self.config.row_memory(here), &self.room)).telling(whole))
    }

    async fn store(&self, group: GroupId, whole: &Arc<Wholeness>) -> Result<Arc<dyn StateStore>, StartError> {
        let replica = self.own(group).ok_or_else(|| missing(group))?;
        let opened = adapters::state_store(Arc::clone(&self.state), replica, whole).await;
        opened.map_err(|reason| failed(group, reason))
    }

    async fn group(
        &self,
        group: GroupId,
        preferred: bool,
        machine: Arc<dyn Machine>,
        store: Arc<dyn StateStore>,
        whole: &Wholeness,
    ) -> Result<GroupRef, StartError> {
        let placements = self.placements(group);
        let replica = self.own(group).ok_or_else(|| missing(group))?;
        let mut log = self.log_of(group).await.map_err(|why| failed(group, why))?;
        tell_shorter(group, &mut log).await?;
        let parts = GroupParts {
            group,
            replica,
            founders: placements.iter().map(|placement| (placement.replica, placement.node)).collect(),
            preferred,
            config: self.config.grouping(self.map.groups_on(self.config.id).len()),
            machine,
            store,
            mesh: self.mesh.clone(),
            vouched: log.floor(),
            clocks: Arc::clone(&self.clocks),
            admission: self.admission.read().clone(),
        };
        start_group::<TokioRuntime, _>(parts, log).await.map_err(|error| match error {
            ordergrid_cluster::StartError::Lost { found, vouched } => {
                let found = found.map(|found| found.index);
                StartError::Lost(vec![LostEntries { shard: group, found, vouched: vouched.index }])
            }
            error => {
                if matches!(error, ordergrid_cluster::StartError::StateMissing { .. }) {
                    whole.damaged(&error.to_string());
                }
                failed(group, error)
            }
        })
    }

    /// Opens the log of a replica that does not run, once its promises are known.
    async fn log_of(&self, group: GroupId) -> Result<LogStore<RaftTypes<TokioRuntime>, GridCodec>, String> {
        let replica = self.own(group).ok_or("there is no replica of it here")?;
        let (mesh, writer, refills, front) = (&self.mesh, &self.writer, &self.refills, &*self.front);
        let recall = Recall { mesh, writer, refills, front, group, replica, others: self.others(group) };
        loop {
            recall.run().await?;
            match adapters::log_store(writer, replica, &self.config).await {
                Ok(log) => return Ok(log),
                // The disk was found to be an older copy meanwhile.
                Err(_) if adapters::is_forgotten::<TokioRuntime>(writer, replica).await.unwrap_or(false) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn placements(&self, group: GroupId) -> &[Placement] {
        if group == GroupId::META { &self.map.meta } else { self.map.shard(group).map_or(&[], |shard| &shard.replicas) }
    }

    fn own(&self, group: GroupId) -> Option<u64> {
        let own = self.placements(group).iter().find(|placement| placement.node == self.config.id);
        own.map(|placement| placement.replica)
    }

    /// The other nodes with a replica of a group, beginning with the next one.
    pub(crate) fn others(&self, group: GroupId) -> Vec<NodeId> {
        let mut others: Vec<_> = self.placements(group).iter().map(|placement| placement.node).collect();
        others.sort_unstable();
        let next = others.iter().position(|node| *node > self.config.id).unwrap_or(0);
        others.rotate_left(next);
        others.retain(|node| *node != self.config.id);
        others
    }

    /// The last index purged from the log of a replica that does not run; 0 if none was.
    pub(crate) async fn purged(&self, group: GroupId) -> Result<u64, String> {
        let mut log = self.log_of(group).await?;
        let state =
            RaftLogStorage::<RaftTypes<TokioRuntime>>::get_log_state(&mut log).await.map_err(|error| error.to_string())?;
        Ok(state.last_purged_log_id.map_or(0, |purged| purged.index))
    }

    /// The store of a replica that does not run, with all rows removed.
    pub(crate) async fn emptied(&self, group: GroupId) -> Result<Arc<dyn StateStore>, String> {
        let replica = self.own(group).ok_or("there is no replica of it here")?;
        StateRows::destroy(self.state.as_ref(), replica).await.map_err(|error| error.to_string())?;
        let whole = Arc::new(Wholeness::new(group));
        adapters::state_store(Arc::clone(&self.state), replica, &whole).await.map_err(|error| error.to_string())
    }

    /// The damage for which the state database refuses all writes, if it does.
    pub(crate) async fn refuses_writes(&self) -> Option<EngineError> {
        self.state.flush().await.err().filter(EngineError::is_damage)
    }

    /// Records that the rows of a replica are damaged, so that they are not used again, whatever happens meanwhile.
    pub(crate) async fn note_damage(&self, group: GroupId, what: &str) -> Result<(), String> {
        self.notes.put(group, what).await.map_err(|error| error.to_string())
    }

    /// Removes the record after a refill.
    pub(crate) async fn forget_damage(&self, group: GroupId) -> Result<(), String> {
        self.notes.forget(group).await.map_err(|error| error.to_string())
    }

    async fn noted_damage(&self, group: GroupId) -> Result<Option<String>, StartError> {
        self.notes.of(group).await.map_err(|error| failed(group, error))
    }

    /// Decides what to do with damaged rows on a node without peers: no other node has them, and the log restores them only if
    /// it is complete. The damage is recorded first, so that the next start does not take the rows for intact.
    pub(crate) async fn alone(&self, group: GroupId, what: &str) -> Forsaken {
        let then = match self.anew(group, what).await {
            Ok(then) => then,
            Err(why) => Then::Stay(format!("what follows cannot be told: {why}")),
        };
        Forsaken { group, what: what.to_owned(), then }
    }

    async fn anew(&self, group: GroupId, what: &str) -> Result<Then, String> {
        self.note_damage(group, what).await?;
        let groups = self.map.groups_on(self.config.id);
        let own: Vec<_> = groups.iter().filter_map(|(group, _)| Some((*group, self.own(*group)?))).collect();
        if let Some(lacking) = aside::lacking(self.log.as_ref(), &own).await.map_err(|error| error.to_string())? {
            return Ok(Then::Stay(format!(
                "no other node has these rows, and the logs of {lacking} no longer begin with their first entry, so they cannot \
                 rebuild them: restore a copy of the whole data folder; without it the node does not start again"
            )));
        }
        match self.notes.is_doubted(group).await.map_err(|error| error.to_string())? {
            true => Ok(Then::Stop),
            false => Ok(Then::Begin),
        }
    }
}

/// Damaged rows of a node without peers, and what happens next.
#[derive(Debug, thiserror::Error)]
#[error("the stored rows of {} are damaged ({what}); {then}", aside::named(*.group))]
pub struct Forsaken {
    group: GroupId,
    what: String,
    pub(crate) then: Then,
}

/// What happens next on a node without peers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Then {
    /// The node restarts at once, and rebuilds all rows.
    #[error("the next start puts the state database aside and rebuilds it from the log")]
    Begin,
    /// The next start rebuilds the rows, if it finds the same damage.
    #[error(
        "the last start found them intact: check the machine's memory and disk; if the next start finds them damaged, it puts the \
         state database aside and rebuilds it from the log"
    )]
    Stop,
    /// Nothing can rebuild the rows.
    #[error("{0}")]
    Stay(String),
}

impl Forsaken {
    /// Whether an immediate restart repairs the damage.
    #[must_use]
    pub fn begins_again(&self) -> bool {
        matches!(self.then, Then::Begin)
    }
}

fn failed(group: GroupId, reason: impl std::fmt::Display) -> StartError {
    StartError::Group { group, reason: reason.to_string() }
}

fn missing(group: GroupId) -> StartError {
    failed(group, "the map has no replica of it on this node")
}

/// Says which shard's log lacks entries that it vouched for.
async fn tell_shorter(group: GroupId, log: &mut LogStore<RaftTypes<TokioRuntime>, GridCodec>) -> Result<(), StartError> {
    let Some(vouched) = *log.floor().borrow() else { return Ok(()) };
    let state = RaftLogStorage::<RaftTypes<TokioRuntime>>::get_log_state(log).await.map_err(|error| failed(group, error))?;
    tracing::error!(
        shard = %group,
        found = state.last_log_id.map(|last| last.index),
        vouched = vouched.index,
        effect = "the replica neither votes nor leads until a leader has refilled its log",
        "log shorter than vouched for"
    );
    Ok(())
}

/// The shard that owns each slot.
pub(crate) fn owners(map: &ShardMap) -> SlotOwners {
    let slot = |number: u16| Slot::new(number).expect("a shard map names slots below 4,096");
    let ranges: Vec<_> = map.shards.iter().map(|shard| (shard.group, slot(shard.first), slot(shard.last))).collect();
    SlotOwners::from_ranges(&ranges)
}

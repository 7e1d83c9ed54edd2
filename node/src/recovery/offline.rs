//! The data of a stopped node: what each replica has, and accepting the loss of log entries.
//!
//! The databases are opened as the node opens them, so that no node can run meanwhile, and the log is compared with what it has
//! vouched for in the same way. A damaged log database is not opened: its loss is derived from the state database and from the
//! last vouch.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::impls::TokioRuntime;
use openraft::storage::RaftLogStorage;
use ordergrid_cluster::{EntryId, Promised, RaftTypes, Vote, encoding};
use ordergrid_domain::GroupId;
use ordergrid_storage::log::VouchedFor;
use ordergrid_storage::{
    Engine, EngineError, LogLimits, LogStore, LogWriter, RocksEngine, StateError, StateRows, WriterLimits, log,
};
use serde::Serialize;

use crate::adapters::{self, GridCodec};
use crate::config::NodeConfig;
use crate::node::{StartError, spec};
use crate::recovery::{aside, copies, losses, lost_log};

pub use crate::recovery::losses::loss_record;

/// Pause between two checks whether a database is closed.
const CLOSING: Duration = Duration::from_millis(5);

/// Why the data cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration does not say which replicas the node has.
    #[error(transparent)]
    Config(#[from] StartError),
    /// There is no data.
    #[error("there is no node's data in {}", .0.display())]
    Missing(PathBuf),
    /// The node is running.
    #[error("another process uses {}: stop the node first: {reason}", .folder.display())]
    InUse {
        /// The folder of the database.
        folder: PathBuf,
        /// The database's error.
        reason: EngineError,
    },
    /// A database cannot be opened.
    #[error("cannot open {}: {reason}", .folder.display())]
    Open {
        /// The folder of the database.
        folder: PathBuf,
        /// The error.
        reason: EngineError,
    },
    /// A replica cannot be read.
    #[error("group {group}: {reason}")]
    Replica {
        /// The group.
        group: GroupId,
        /// The error.
        reason: io::Error,
    },
    /// The node has no replica of the shard.
    #[error("the node has no replica of shard {0}")]
    NoReplica(u32),
    /// The shard has lost nothing.
    #[error("shard {0} has lost nothing")]
    Whole(u32),
    /// Nothing is left of the shard: the membership was in the lost log.
    #[error(
        "nothing is left of shard {0}: its log is lost, and no checkpoint was written before; restore a copy of the data folder, or \
         found a new grid in an empty folder"
    )]
    NothingLeft(u32),
    /// The whole log database is damaged, so only its whole loss can be accepted.
    #[error("the whole log database is damaged: `accept-loss --log` accepts its loss for every shard")]
    LogLost,
    /// The log database is intact, and all replicas know their promises.
    #[error("the log database can be read: it is not lost")]
    LogWhole,
    /// The damaged database cannot be moved, or the new one cannot be written.
    #[error("the log database cannot be created anew: {0}")]
    Anew(String),
}

/// The data of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The shard; 0 is the meta group.
    pub shard: u32,
    /// The replica's id.
    pub replica: u64,
    /// Number of the shard's replicas.
    pub replicas: usize,
    /// Last index of the log; `None` if the log is empty.
    pub log: Option<u64>,
    /// Last index of the state; `None` before the first checkpoint.
    pub state: Option<u64>,
    /// The index that the log vouched for, if the log has lost it.
    pub vouched: Option<u64>,
    /// Whether the log and the vote were lost with the log database.
    pub log_lost: bool,
}

impl Found {
    /// The last index that is left.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.log.max(self.state)
    }
}

/// The open data of a stopped node.
pub struct Offline {
    data: PathBuf,
    /// The log database, or its damage.
    log: Result<LogWriter, String>,
    state: Arc<dyn Engine>,
    /// The replicas: shard, replica id, number of the shard's replicas.
    replicas: Vec<(GroupId, u64, usize)>,
}

impl Offline {
    /// Opens the data of the node with this configuration, inside a runtime. Blocking.
    ///
    /// # Errors
    /// [`OfflineError`]; nothing was changed.
    pub async fn open(config: &NodeConfig) -> Result<Self, OfflineError> {
        let map = spec(config)?.shard_map();
        let replicas = map.groups_on(config.id).into_iter().filter_map(|(group, placements)| {
            let own = placements.iter().find(|placement| placement.node == config.id)?;
            Some((group, own.replica, placements.len()))
        });
        let replicas: Vec<_> = replicas.collect();
        let (folder, state) = (lost_log::folder(&config.data), config.data.join("state"));
        if !folder.is_dir() {
            return Err(OfflineError::Missing(config.data.clone()));
        }
        let log = match RocksEngine::open_log(&folder) {
            Ok(engine) => readable(Arc::new(engine), &replicas).await?,
            Err(EngineError::Damaged(what)) => Err(what),
            Err(reason) => return Err(unopened(folder, reason)),
        };
        let state = RocksEngine::open_state(&state).map_err(|reason| unopened(state, reason))?;
        Ok(Self { data: config.data.clone(), log, state: Arc::new(state), replicas })
    }

    /// The damage to the log database, if it cannot be used.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.log.as_ref().err().map(String::as_str)
    }

    /// The data of each replica, sorted by shard.
    ///
    /// # Errors
    /// [`OfflineError::Replica`]
    pub async fn look(&self) -> Result<Vec<Found>, OfflineError> {
        let mut found = Vec::new();
        for (group, replica, replicas) in &self.replicas {
            found.push(self.found(*group, *replica, *replicas).await?.0);
        }
        Ok(found)
    }

    /// Accepts the loss of log entries of a shard's replica, durably. Returns what the replica had.
    ///
    /// # Errors
    /// [`OfflineError`]; nothing was changed.
    pub async fn accept_loss(&self, shard: u32) -> Result<Found, OfflineError> {
        let replica = self.replicas.iter().find(|(group, ..)| group.0 == shard).ok_or(OfflineError::NoReplica(shard))?;
        let (group, replica, replicas) = *replica;
        let (found, log) = self.found(group, replica, replicas).await?;
        if found.log_lost {
            return Err(OfflineError::LogLost);
        }
        let Some(mut log) = log.filter(|_| found.vouched.is_some()) else { return Err(OfflineError::Whole(shard)) };
        if found.last().is_none() {
            return Err(OfflineError::NothingLeft(shard));
        }
        if let Ok(writer) = &self.log {
            noted(writer, group).await?;
        }
        log.accept_loss().await.map_err(|reason| OfflineError::Replica { group, reason })?;
        Ok(found)
    }

    /// Accepts the loss of the log database, durably, and continues with the state. The damaged database is put aside. Every
    /// replica that has forgotten its promises continues from its state and from what was vouched for of its vote.
    ///
    /// # Errors
    /// [`OfflineError`]. The call can be repeated.
    pub async fn accept_lost_log(self) -> Result<(), OfflineError> {
        let mut goes_on = Vec::new();
        for (group, replica, replicas) in &self.replicas {
            let (found, _) = self.found(*group, *replica, *replicas).await?;
            if self.log.is_err() && found.last().is_none() {
                return Err(OfflineError::NothingLeft(group.0));
            }
            if found.log_lost {
                goes_on.push((*group, *replica, self.promised(*group, *replica).await?));
            }
        }
        if goes_on.is_empty() {
            return Err(OfflineError::LogWhole);
        }
        let anew = |error: &dyn std::fmt::Display| OfflineError::Anew(error.to_string());
        let writer = match self.log {
            Ok(writer) => writer,
            Err(what) => {
                let folder = lost_log::folder(&self.data);
                aside::put_aside(&folder, &what, "the log database", "what the state has").map_err(|error| anew(&error))?;
                std::fs::create_dir_all(&folder).map_err(|error| anew(&error))?;
                let engine: Arc<dyn Engine> = Arc::new(RocksEngine::open_log(&folder).map_err(|error| anew(&error))?);
                let own: Vec<_> = self.replicas.iter().map(|(_, replica, _)| *replica).collect();
                log::begin_anew(&engine, &own, &what).await.map_err(|error| anew(&error))?;
                writer(engine)
            }
        };
        for (group, replica, promised) in goes_on {
            noted(&writer, group).await?;
            let told = adapters::remember::<TokioRuntime>(&writer, replica, &promised).await;
            told.map_err(|reason| OfflineError::Replica { group, reason })?;
        }
        // Other nodes must not take the new log for an older copy.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let number = copies::number_at(u64::try_from(now).unwrap_or_default()).max(writer.reached());
        writer.advance(number).await.map_err(|error| anew(&error))?;
        Ok(())
    }

    async fn found(&self, group: GroupId, replica: u64, replicas: usize) -> Result<(Found, Option<Log>), OfflineError> {
        let failed = |reason| OfflineError::Replica { group, reason };
        let state = applied(&self.state, replica).await.map_err(failed)?;
        let log = match &self.log {
            Ok(writer) => opened(writer, replica).await.map_err(failed)?,
            Err(_) => None,
        };
        let (last, vouched, log) = match log {
            Some(mut log) => {
                let last = log.get_log_state().await.map_err(failed)?.last_log_id;
                let vouched = *log.floor().borrow();
                (last, vouched, Some(log))
            }
            None => (None, self.vouched(group, replica)?.last, None),
        };
        let found = Found {
            shard: group.0,
            replica,
            replicas,
            log: last.as_ref().map(|last| last.index),
            state: state.map(|state| state.index),
            // The state's entries were applied, and need no log.
            vouched: vouched.as_ref().map(EntryId::from).filter(|vouched| state < Some(*vouched)).map(|vouched| vouched.index),
            log_lost: log.is_none(),
        };
        Ok((found, log))
    }

    /// The last vouch of the lost log.
    fn vouched(&self, group: GroupId, replica: u64) -> Result<VouchedFor<RaftTypes<TokioRuntime>>, OfflineError> {
        let folder = lost_log::folder(&self.data);
        let lost = if self.log.is_err() { Some(folder) } else { aside::newest(&folder) };
        let vouch = match &lost {
            Some(folder) => RocksEngine::vouched_in(folder).map_err(|reason| unopened(folder.clone(), reason))?,
            None => None,
        };
        let decoded = log::vouched_for(vouch, replica, &GridCodec);
        decoded.map_err(|reason| OfflineError::Replica { group, reason: io::Error::other(reason) })
    }

    /// The new vote and last entry of a replica whose log is lost: a vote for itself in a later term than any that is known, so
    /// that it gives no second vote in a known term, and no entry beyond its state.
    async fn promised(&self, group: GroupId, replica: u64) -> Result<Promised, OfflineError> {
        let vote = self.vouched(group, replica)?.vote;
        let state = applied(&self.state, replica).await.map_err(|reason| OfflineError::Replica { group, reason })?;
        let term = vote.map_or(0, |vote| vote.leader_id.term).max(state.map_or(0, |state| state.term));
        Ok(Promised { vote: Vote::new(term + 1, replica), last: None })
    }
}

/// Before a loss is accepted: what follows from it must not be forgotten.
async fn noted(writer: &LogWriter, group: GroupId) -> Result<(), OfflineError> {
    let noted = losses::note(writer.engine(), group).await;
    noted.map_err(|reason| OfflineError::Replica { group, reason: io::Error::other(reason) })
}

fn unopened(folder: PathBuf, reason: EngineError) -> OfflineError {
    match reason {
        EngineError::InUse(_) => OfflineError::InUse { folder, reason },
        _ => OfflineError::Open { folder, reason },
    }
}

fn writer(log: Arc<dyn Engine>) -> LogWriter {
    LogWriter::start(log, WriterLimits::default(), |task| drop(tokio::spawn(task)))
}

/// The log database, if every replica can be read from it, or its damage.
async fn readable(
    engine: Arc<dyn Engine>,
    replicas: &[(GroupId, u64, usize)],
) -> Result<Result<LogWriter, String>, OfflineError> {
    let writer = writer(Arc::clone(&engine));
    for (group, replica, _) in replicas {
        let Err(reason) = opened(&writer, *replica).await else { continue };
        let damage = engine.damaged();
        let open = Arc::downgrade(&engine);
        drop((writer, engine));
        // The writer ends on its own. Another database may be opened in its place after that.
        while open.upgrade().is_some() {
            tokio::time::sleep(CLOSING).await;
        }
        return damage.map(Err).ok_or(OfflineError::Replica { group: *group, reason });
    }
    Ok(Ok(writer))
}

/// The log of a replica; `None` if it has forgotten its promises.
async fn opened(writer: &LogWriter, replica: u64) -> io::Result<Option<Log>> {
    if adapters::is_forgotten::<TokioRuntime>(writer, replica).await? {
        return Ok(None);
    }
    Log::open(writer.clone(), replica, GridCodec, LogLimits::default()).await.map(Some)
}

type Log = LogStore<RaftTypes<TokioRuntime>, GridCodec>;

/// The last entry of a replica's state.
async fn applied(engine: &Arc<dyn Engine>, replica: u64) -> io::Result<Option<EntryId>> {
    let rows = StateRows::open(Arc::clone(engine), replica).await.map_err(|error: StateError| io::Error::other(error))?;
    let Some(meta) = rows.meta() else { return Ok(None) };
    let meta = encoding::decode_snapshot_meta(meta).map_err(io::Error::other)?;
    Ok(meta.last_log_id.as_ref().map(EntryId::from))
}

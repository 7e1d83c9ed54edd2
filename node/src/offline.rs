//! A node's data while it is stopped: what each replica has, and going on without what its log has lost.
//!
//! The databases are opened as by the node itself, so that no node can run meanwhile, and what the log vouched for is held
//! against what is there in the same way. A log database that is damaged is looked at from outside: by what the state has, and by what
//! was vouched for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::impls::TokioRuntime;
use openraft::storage::RaftLogStorage;
use ordergrid_cluster::{EntryId, Grid, Promised, Vote, encoding};
use ordergrid_domain::GroupId;
use ordergrid_storage::log::VouchedFor;
use ordergrid_storage::{
    Engine, EngineError, LogLimits, LogStore, LogWriter, RocksEngine, StateError, StateRows, WriterLimits, log,
};
use serde::Serialize;

use crate::config::NodeConfig;
use crate::glue::{self, GridCodec};
use crate::node::{StartError, spec};
use crate::{aside, copies, losses, lost_log};

pub use crate::losses::loss_record;

/// Pause before it is looked again whether a database is closed.
const CLOSING: Duration = Duration::from_millis(5);

/// Why the data cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration does not say which replicas the node has.
    #[error(transparent)]
    Config(#[from] StartError),
    /// There is no data.
    #[error("there is no node's data in {}", .0.display())]
    Missing(PathBuf),
    /// The node runs.
    #[error("another process uses {}: stop the node first: {reason}", .folder.display())]
    InUse {
        /// The folder of the database.
        folder: PathBuf,
        /// As the database says it.
        reason: EngineError,
    },
    /// A database cannot be opened.
    #[error("cannot open {}: {reason}", .folder.display())]
    Open {
        /// Its folder.
        folder: PathBuf,
        /// Why not.
        reason: EngineError,
    },
    /// A replica cannot be read.
    #[error("group {group}: {reason}")]
    Replica {
        /// Of which group.
        group: GroupId,
        /// Why not.
        reason: io::Error,
    },
    /// The node has no replica of it.
    #[error("the node has no replica of shard {0}")]
    NoReplica(u32),
    /// Nothing is to be accepted.
    #[error("shard {0} has lost nothing")]
    Whole(u32),
    /// There is nothing to go on with: who the shard's replicas are was in what is lost.
    #[error(
        "nothing is left of shard {0}: its log is lost, and no checkpoint was written before; put a copy of the data folder back, or \
         found a new grid in an empty folder"
    )]
    NothingLeft(u32),
    /// Only all of it is to be accepted.
    #[error("the log database is damaged as a whole: `accept-loss --log` goes on without it, for every shard")]
    LogLost,
    /// There is a log database, and all replicas know what they have promised.
    #[error("the log database can be read: it is not lost")]
    LogWhole,
    /// The damaged database cannot be moved out of the way, or the new one not written.
    #[error("the log database cannot be begun anew: {0}")]
    Anew(String),
}

/// What one replica has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its shard; 0 is the meta group.
    pub shard: u32,
    /// Its number.
    pub replica: u64,
    /// How many replicas the shard has.
    pub replicas: usize,
    /// The last index of its log; none if it is empty.
    pub log: Option<u64>,
    /// The last index of its state; none before the first checkpoint.
    pub state: Option<u64>,
    /// The index that its log vouched for, if that is no longer there.
    pub vouched: Option<u64>,
    /// Its log and its vote were lost with the log database.
    pub log_lost: bool,
}

impl Found {
    /// The last index that is there at all.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.log.max(self.state)
    }
}

/// The stopped node's data, open.
pub struct Offline {
    data: PathBuf,
    /// The log, or what is damaged of it.
    log: Result<LogWriter, String>,
    state: Arc<dyn Engine>,
    /// Its replicas: shard, number, how many the shard has.
    replicas: Vec<(GroupId, u64, usize)>,
}

impl Offline {
    /// Opens the data of the node with this configuration, inside a runtime. Blocks meanwhile.
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

    /// What is damaged of the log database, if it cannot be used.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.log.as_ref().err().map(String::as_str)
    }

    /// What each replica has, in the order of the shards.
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

    /// Goes on without what the log of a shard's replica has lost, durably; answers what it had.
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

    /// Goes on without the log database, durably, with what the state has: the damaged one is put aside, and every replica that
    /// has forgotten what it had promised goes on as if that were what the state has and what was vouched for of its vote.
    ///
    /// # Errors
    /// [`OfflineError`]. It can be called again.
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
            let told = glue::remember::<TokioRuntime>(&writer, replica, &promised).await;
            told.map_err(|reason| OfflineError::Replica { group, reason })?;
        }
        // The others must not take what goes on for an older copy.
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
            // What the state has was applied, and needs no log.
            vouched: vouched.as_ref().map(EntryId::from).filter(|vouched| state < Some(*vouched)).map(|vouched| vouched.index),
            log_lost: log.is_none(),
        };
        Ok((found, log))
    }

    /// What was left beside the log that is lost.
    fn vouched(&self, group: GroupId, replica: u64) -> Result<VouchedFor<Grid<TokioRuntime>>, OfflineError> {
        let folder = lost_log::folder(&self.data);
        let lost = if self.log.is_err() { Some(folder) } else { aside::newest(&folder) };
        let vouch = match &lost {
            Some(folder) => RocksEngine::vouched_in(folder).map_err(|reason| unopened(folder.clone(), reason))?,
            None => None,
        };
        let decoded = log::vouched_for(vouch, replica, &GridCodec);
        decoded.map_err(|reason| OfflineError::Replica { group, reason: io::Error::other(reason) })
    }

    /// What a replica whose log is lost goes on with: a vote of a later term than any that is known, for itself, so that it gives
    /// none twice that is, and no entry beyond its state.
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

/// A log database that every replica can be read from, or what is damaged of it.
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
        // The writer ends by itself; another database may be opened in its place then.
        while open.upgrade().is_some() {
            tokio::time::sleep(CLOSING).await;
        }
        return damage.map(Err).ok_or(OfflineError::Replica { group: *group, reason });
    }
    Ok(Ok(writer))
}

/// The log of a replica; `None` of one that has forgotten what it had promised.
async fn opened(writer: &LogWriter, replica: u64) -> io::Result<Option<Log>> {
    if glue::is_forgotten::<TokioRuntime>(writer, replica).await? {
        return Ok(None);
    }
    Log::open(writer.clone(), replica, GridCodec, LogLimits::default()).await.map(Some)
}

type Log = LogStore<Grid<TokioRuntime>, GridCodec>;

/// The last entry that a replica's state has.
async fn applied(engine: &Arc<dyn Engine>, replica: u64) -> io::Result<Option<EntryId>> {
    let rows = StateRows::open(Arc::clone(engine), replica).await.map_err(|error: StateError| io::Error::other(error))?;
    let Some(meta) = rows.meta() else { return Ok(None) };
    let meta = encoding::decode_snapshot_meta(meta).map_err(io::Error::other)?;
    Ok(meta.last_log_id.as_ref().map(EntryId::from))
}

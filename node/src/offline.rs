//! A node's data while it is stopped: what each replica has, and going on without what its log has lost.
//!
//! The databases are opened as by the node itself, so that no node can run meanwhile, and what the log vouched for is held
//! against what is there in the same way.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::impls::TokioRuntime;
use openraft::storage::RaftLogStorage;
use ordergrid_cluster::{EntryId, Grid, encoding};
use ordergrid_domain::GroupId;
use ordergrid_storage::{
    Engine, EngineError, LogLimits, LogStore, LogWriter, NodeRecords, RocksEngine, StateError, StateRows, WriterLimits,
};
use serde::Serialize;

use crate::config::NodeConfig;
use crate::glue::GridCodec;
use crate::node::{StartError, spec};
use crate::older::Note;

/// Why the data cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration does not say which replicas the node has.
    #[error(transparent)]
    Config(#[from] StartError),
    /// There is no data.
    #[error("there is no node's data in {}", .0.display())]
    Missing(PathBuf),
    /// A database cannot be opened: it is damaged, or the node runs.
    #[error("cannot open {} (is the node stopped?): {reason}", .folder.display())]
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
    /// Its disk is an older copy, and the others have not said yet what it has forgotten.
    pub older: bool,
}

impl Found {
    /// The last index that is there at all.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.log.max(self.state)
    }

    /// Something is missing that it had.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.vouched.is_some() || self.older
    }
}

/// The stopped node's data, open.
pub struct Offline {
    writer: LogWriter,
    records: NodeRecords,
    state: Arc<dyn Engine>,
    /// Its replicas: shard, number, how many the shard has.
    replicas: Vec<(GroupId, u64, usize)>,
}

impl Offline {
    /// Opens the data of the node with this configuration, inside a runtime. Blocks meanwhile.
    ///
    /// # Errors
    /// [`OfflineError`]; nothing was changed.
    pub fn open(config: &NodeConfig) -> Result<Self, OfflineError> {
        let map = spec(config)?.shard_map();
        let replicas = map.groups_on(config.id).into_iter().filter_map(|(group, placements)| {
            let own = placements.iter().find(|placement| placement.node == config.id)?;
            Some((group, own.replica, placements.len()))
        });
        let replicas = replicas.collect();
        let folder = |name| config.data.join(name);
        if !folder("log").is_dir() {
            return Err(OfflineError::Missing(config.data.clone()));
        }
        let failed = |folder| move |reason| OfflineError::Open { folder, reason };
        let log = RocksEngine::open_log(&folder("log")).map_err(failed(folder("log")))?;
        let state = RocksEngine::open_state(&folder("state")).map_err(failed(folder("state")))?;
        let log: Arc<dyn Engine> = Arc::new(log);
        let records = NodeRecords::new(Arc::clone(&log));
        let writer = LogWriter::start(log, WriterLimits::default(), |task| drop(tokio::spawn(task)));
        Ok(Self { writer, records, state: Arc::new(state), replicas })
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
        let (found, mut log) = self.found(group, replica, replicas).await?;
        if !found.has_lost() {
            return Err(OfflineError::Whole(shard));
        }
        let failed = |reason| OfflineError::Replica { group, reason };
        log.accept_loss().await.map_err(failed)?;
        if let Some(note) = self.note(group).await?.filter(|_| found.older) {
            note.accept(group, &self.records).await.map_err(|reason| failed(io::Error::other(reason)))?;
        }
        Ok(found)
    }

    /// What is known of a disk that is an older copy.
    async fn note(&self, group: GroupId) -> Result<Option<Note>, OfflineError> {
        let note = Note::of(&self.records).await;
        note.map_err(|reason| OfflineError::Replica { group, reason: io::Error::other(reason) })
    }

    async fn found(&self, group: GroupId, replica: u64, replicas: usize) -> Result<(Found, Log), OfflineError> {
        let failed = |reason| OfflineError::Replica { group, reason };
        let mut log = Log::open(self.writer.clone(), replica, GridCodec, LogLimits::default()).await.map_err(failed)?;
        let last = log.get_log_state().await.map_err(failed)?.last_log_id;
        let state = applied(&self.state, replica).await.map_err(failed)?;
        let older = self.note(group).await?.is_some_and(|note| note.groups.contains(&group));
        let vouched = log.floor().borrow().as_ref().map(EntryId::from);
        let found = Found {
            shard: group.0,
            replica,
            replicas,
            log: last.as_ref().map(|last| last.index),
            state: state.map(|state| state.index),
            // What the state has was applied, and needs no log.
            vouched: vouched.filter(|vouched| state < Some(*vouched)).map(|vouched| vouched.index),
            older,
        };
        Ok((found, log))
    }
}

type Log = LogStore<Grid<TokioRuntime>, GridCodec>;

/// The last entry that a replica's state has.
async fn applied(engine: &Arc<dyn Engine>, replica: u64) -> io::Result<Option<EntryId>> {
    let rows = StateRows::open(Arc::clone(engine), replica).await.map_err(|error: StateError| io::Error::other(error))?;
    let Some(meta) = rows.meta() else { return Ok(None) };
    let meta = encoding::decode_snapshot_meta(meta).map_err(io::Error::other)?;
    Ok(meta.last_log_id.as_ref().map(EntryId::from))
}

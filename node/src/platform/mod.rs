//! The platform of a node: network, disk, time and randomness, which are passed in as one [`Platform`].
//!
//! This crate uses no socket, file, clock or randomness in any other way, so that the simulation can replace them. Production
//! is assembled here; its sockets are in [`crate::platform::tcp`].

pub mod descriptors;
pub mod tcp;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ordergrid_cluster::{Listener, StoreError, Transport};
use ordergrid_domain::{GroupId, Timestamp};
use ordergrid_storage::{Engine, EngineError, MemEngine, RecordError, RocksBounds, RocksEngine};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rustix::time::{ClockId, clock_gettime};

use crate::config::NodeConfig;
use crate::platform::descriptors::Share;
use crate::recovery::aside;
use crate::recovery::lost_log;
use crate::room::RowRoom;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::footprint;

/// Time of day, and monotonic time. Tokio implements waiting; it follows simulated time on its own.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z. It may jump, in both directions.
    fn wall_ms(&self) -> u64;

    /// Milliseconds since some fixed moment. Nobody sets this clock, it never goes back, and it advances while the machine is
    /// suspended.
    fn monotonic_ms(&self) -> u64;

    /// The time of day in the domain's type.
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.wall_ms())
    }
}

/// Randomness.
pub trait Entropy: Send + Sync + 'static {
    /// 64 bits that nobody can guess, or that are repeatable with a seed.
    fn next_u64(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).expect("the year is before 584 million")
    }

    fn monotonic_ms(&self) -> u64 {
        let since = clock_gettime(ClockId::Boottime);
        let ms = since.tv_sec * 1_000 + since.tv_nsec / 1_000_000;
        u64::try_from(ms).expect("a machine starts at zero")
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        OsRng.try_next_u64().expect("the operating system has randomness once it has started programs")
    }
}

/// The platform of a node. [`crate::Node::start`] takes ownership.
pub struct Platform {
    /// Connections between nodes.
    pub transport: Arc<dyn Transport>,
    /// The listener for clients. It already listens, so that the node knows its URL. The node takes it at the start.
    pub http: Option<Box<dyn Listener>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The engine for the log of every replica on the node.
    pub log_engine: Arc<dyn Engine>,
    /// The engine for the state of every replica on the node.
    pub state_engine: Arc<dyn Engine>,
    /// Why the log is empty although there was one before: its replicas have made promises that this node does not know.
    pub log_lost: Option<String>,
    /// The process's metrics, for `/metrics`; `None` in tests, which share a process.
    pub exporter: Option<Exporter>,
    /// What rows may use of their part of the memory.
    pub room: RowRoom,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder cannot be created.
    #[error("cannot make the folder {}: {reason}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error.
        reason: io::Error,
    },
    /// Another process has opened a database in the folder.
    #[error("cannot open {}: another process uses it: {reason}", .folder.display())]
    InUse {
        /// The folder of the database.
        folder: PathBuf,
        /// The database's error.
        reason: EngineError,
    },
    /// A database in the folder cannot be opened.
    #[error("cannot open {}: {reason}", .folder.display())]
    Open {
        /// The folder of the database.
        folder: PathBuf,
        /// The error.
        reason: EngineError,
    },
    /// Stored rows are damaged and cannot be rebuilt.
    #[error(
        "{what}; no other node has these rows, and the logs of {lacking} no longer begin with their first entry, so they cannot rebuild them: restore a copy of the whole folder {}", .data.display()
    )]
    Lost {
        /// The data folder.
        data: PathBuf,
        /// The damage.
        what: String,
        /// The replicas whose logs are incomplete.
        lacking: String,
    },
    /// The log is damaged, and no other node has its entries.
    #[error("cannot open {}: {what}; {}", .folder.display(), lost_log::ALONE)]
    LogLost {
        /// The log's folder.
        folder: PathBuf,
        /// The damage.
        what: EngineError,
    },
    /// Stored rows cannot be read, and it is not known whether they are damaged.
    #[error("the rows of group {group} cannot be read: {reason}")]
    Rows {
        /// The group.
        group: GroupId,
        /// The error.
        reason: StoreError,
    },
    /// The node's records cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(EngineError),
}

impl DataError {
    /// Whether a damaged database is the reason.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Open { reason, .. } if reason.is_damage())
    }
}

impl Platform {
    /// Production: the machine's clock and randomness, and the databases in the node's data folder, which are created if they
    /// do not exist. The databases are locked, so no second process can open them. Their numbers of open files are those of
    /// `share`, and their memory is part of the node's.
    ///
    /// A damaged database is put aside and created anew if its content can be restored, see `aside` and `lost_log`.
    ///
    /// # Errors
    /// If the data folder cannot be used; nothing is left open.
    pub async fn production(
        config: &NodeConfig,
        transport: Arc<dyn Transport>,
        http: Box<dyn Listener>,
        exporter: Option<Exporter>,
        share: &Share,
    ) -> Result<Self, DataError> {
        let files = |files| RocksBounds { files: Some(files), ..RocksBounds::default() };
        let (data, memory) = (&config.data, config.memory);
        footprint::suit(memory.whole);
        let (log, state) = (memory.log(files(share.log_files)), memory.state(files(share.state_files)));
        let open_log = || open(lost_log::folder(data), |folder| RocksEngine::open_log_within(folder, log));
        let (log_engine, log_lost) = lost_log::open(config, open_log).await?;
        let open_state = || open(data.join("state"), |folder| RocksEngine::open_state_within(folder, state));
        let state_engine = aside::state(config, &log_engine, open_state).await?;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        Ok(Self {
            transport,
            http: Some(http),
            clock,
            entropy,
            log_engine,
            state_engine,
            log_lost,
            exporter,
            room: RowRoom::default(),
        })
    }

    /// Tests: disks in memory, which the caller keeps to crash them and to start again from what is left.
    #[must_use]
    pub fn memory(transport: Arc<dyn Transport>, http: Box<dyn Listener>, disk: &MemoryDisk) -> Self {
        Self {
            transport,
            http: Some(http),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            log_engine: Arc::new(disk.log.clone()),
            state_engine: Arc::new(disk.state.clone()),
            log_lost: None,
            exporter: None,
            room: RowRoom::default(),
        }
    }
}

/// A node's two databases in memory.
#[derive(Clone)]
pub struct MemoryDisk {
    /// The log.
    pub log: MemEngine,
    /// The state.
    pub state: MemEngine,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self { log: MemEngine::new(), state: MemEngine::new() }
    }
}

/// The log is opened first. Its lock covers the whole folder.
fn open(folder: PathBuf, open: impl FnOnce(&Path) -> Result<RocksEngine, EngineError>) -> Result<Arc<dyn Engine>, DataError> {
    if let Err(reason) = std::fs::create_dir_all(&folder) {
        return Err(DataError::Folder { folder, reason });
    }
    match open(&folder) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(reason @ EngineError::InUse(_)) => Err(DataError::InUse { folder, reason }),
        Err(reason) => Err(DataError::Open { folder, reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::tcp::{self, TcpTransport};

    async fn production(data: &Path) -> Result<Platform, DataError> {
        let http = tcp::bind("127.0.0.1:0").await.expect("a port is free");
        let share = Share { log_files: 32, state_files: 64, connections: 16 };
        let config = crate::recovery::aside::tests::config(data, 1);
        Platform::production(&config, Arc::new(TcpTransport::new()), Box::new(http), None, &share).await
    }

    #[tokio::test]
    async fn a_data_folder_is_made_and_belongs_to_one_user_at_a_time() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        let data = folder.path().join("deep/data");
        let first = production(&data).await.expect("the folder is made");
        let wrong = production(&data).await.err().expect("it is in use").to_string();
        let text = format!("cannot open {}: another process uses it", data.join("log").display());
        assert!(wrong.starts_with(&text), "{wrong}");
        drop(first);
        drop(production(&data).await.expect("it is free again"));
        std::fs::write(data.join("log/CURRENT"), "MANIFEST-999999\n").expect("the folder is ours");
        let wrong = production(&data).await.err().expect("it is damaged").to_string();
        assert!(wrong.starts_with("cannot open ") && !wrong.contains("another process"), "{wrong}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("the folder is ours");
        let wrong = production(&file).await.err().expect("a file is no folder").to_string();
        assert!(wrong.starts_with(&format!("cannot make the folder {}", file.join("log").display())), "{wrong}");
    }

    #[test]
    fn the_clock_runs_and_chance_varies() {
        let year_2026 = 1_767_225_600_000;
        assert!(SystemClock.now() >= Timestamp::from_ms(year_2026));
        assert_ne!(OsEntropy.next_u64(), OsEntropy.next_u64());
    }
}

//! What a node is given from outside: network, disk, time and chance, together as one [`Platform`].
//!
//! Nothing in this crate reaches for a socket, a file, a clock or randomness by any other way, so that the simulation
//! can hand in its own. Production is assembled here; the sockets themselves are in [`crate::tcp`].

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

use crate::aside;
use crate::config::NodeConfig;
use crate::descriptors::Share;
use crate::exporter::Exporter;
use crate::footprint;
use crate::lost_log;
use crate::room::RowRoom;

/// Time of day, and time that passes. Waiting is tokio's business, which follows simulated time by itself.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z. It may jump, in both directions.
    fn wall_ms(&self) -> u64;

    /// Milliseconds since some moment. Nobody sets it, it never goes back, and it counts while the machine is suspended.
    fn monotonic_ms(&self) -> u64;

    /// The same, as the domain knows it.
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.wall_ms())
    }
}

/// Chance.
pub trait Entropy: Send + Sync + 'static {
    /// Sixty-four bits that nobody can guess, or that a seed repeats.
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

/// Everything a node needs from outside. [`crate::Node::start`] takes it over.
pub struct Platform {
    /// Connections between nodes.
    pub transport: Arc<dyn Transport>,
    /// Where clients come in; it listens already, so that the node knows its URL. The node takes it when it starts.
    pub http: Option<Box<dyn Listener>>,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The log of every replica on the node.
    pub log_engine: Arc<dyn Engine>,
    /// The state of every replica on the node.
    pub state_engine: Arc<dyn Engine>,
    /// Why the log is empty although there was one before: its replicas have promised something that nobody here knows.
    pub log_lost: Option<String>,
    /// The process's metrics, for `/metrics`; none in tests, which share a process.
    pub exporter: Option<Exporter>,
    /// What rows may use of their part of the memory.
    pub room: RowRoom,
}

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be made.
    #[error("cannot make the folder {}: {reason}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// Another process has a database in it open.
    #[error("cannot open {}: another process uses it: {reason}", .folder.display())]
    InUse {
        /// The folder of the database.
        folder: PathBuf,
        /// As the database says it.
        reason: EngineError,
    },
    /// A database in it cannot be opened.
    #[error("cannot open {}: {reason}", .folder.display())]
    Open {
        /// The folder of the database.
        folder: PathBuf,
        /// Why not.
        reason: EngineError,
    },
    /// Stored rows are damaged, and nobody can make them again.
    #[error(
        "{what}; no other node has these rows, and the logs of {lacking} no longer begin with their first entry, so that they cannot make them again: put a copy of the whole folder {} back", .data.display()
    )]
    Lost {
        /// The data folder.
        data: PathBuf,
        /// What is damaged.
        what: String,
        /// Whose log is not enough.
        lacking: String,
    },
    /// The log is damaged, and nobody else has what was in it.
    #[error("cannot open {}: {what}; {}", .folder.display(), lost_log::ALONE)]
    LogLost {
        /// Its folder.
        folder: PathBuf,
        /// What is damaged.
        what: EngineError,
    },
    /// Stored rows cannot be read, and that they are damaged is not known.
    #[error("the rows of group {group} cannot be read: {reason}")]
    Rows {
        /// Whose.
        group: GroupId,
        /// Why not.
        reason: StoreError,
    },
    /// What the node has written down about itself cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(EngineError),
}

impl DataError {
    /// A database cannot be opened because it is damaged.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Open { reason, .. } if reason.is_damage())
    }
}

impl Platform {
    /// Production: the machine's clock and randomness, and the databases in the node's data folder, which are made when missing.
    /// The databases are locked: no second process can open them while this one lives. They keep as many files open as `share`
    /// gives them, and to their parts of the memory.
    ///
    /// A database that is damaged is put aside and begun anew if what was in it is elsewhere, see `aside` and `lost_log`.
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

    /// Tests: disks in memory, kept by the caller so that it can crash them and start again from what is left.
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

/// The log is opened first and its lock stands for the whole folder.
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
    use crate::tcp::{self, TcpTransport};

    async fn production(data: &Path) -> Result<Platform, DataError> {
        let http = tcp::bind("127.0.0.1:0").await.expect("a port is free");
        let share = Share { log_files: 32, state_files: 64, connections: 16 };
        let config = crate::aside::tests::config(data, 1);
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

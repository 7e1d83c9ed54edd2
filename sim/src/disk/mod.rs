//! The disks of a node: honest about what is durable, deterministic, and failing when told to.
//!
//! A [`SimDisk`] outlives the processes that open it. What a process writes is readable at once, and durable only when a
//! sync has ended: some simulated time after it was asked for, and then exactly what was written before it was asked for.
//! A power loss keeps a drawn prefix of the rest.
//!
//! | File | Decides |
//! |---|---|
//! | `platter` | one database: what is written, what is durable, what goes wrong |
//! | `faults` | what can go wrong, and when it strikes |
//! | `engine` | what a process sees of it |
//! | `medium` | where the bytes are: in memory, where a simulation belongs |
//! | `rocks` | or in a real RocksDB, whose files are cut as a power loss would cut them |
//!
//! Chance comes from the seed of the disk, time from [`crate::trace::now`], waiting is tokio's in the runtime of the node.

mod engine;
mod faults;
mod medium;
mod platter;
mod rocks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use ordergrid_storage::{Batch, Engine, EngineError, Fault};
use parking_lot::Mutex;

use crate::history::SimTime;
use engine::SimEngine;
pub use faults::{BitFlip, ReadTime, SyncTime};
use medium::{Medium, Memory};
use platter::Platter;
use rocks::{Folder, RocksLog, RocksState};

/// Which of a node's two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// The Raft logs of all replicas, and the records of the node.
    Log,
    /// The rows of all replicas.
    State,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::State => "state",
        })
    }
}

/// Told of every batch in the order in which it takes effect on the disk of a node, and of what a power loss took away.
///
/// Batches of a database are numbered from 0 since the disk was made or wiped; a batch that was lost gives its number
/// back. Empty batches do not count. The disk is locked during a call: do not call it back.
pub trait DiskWatch: Send + Sync {
    /// A batch was written: it is readable, not yet durable.
    fn wrote(&self, node: u64, database: Database, batch: &Batch);

    /// The first `batches` batches are durable, all in all.
    fn durable(&self, node: u64, database: Database, batches: u64);

    /// The batches numbered `kept` and higher are gone. Said after every power loss and wipe, even when none was lost.
    fn lost(&self, node: u64, database: Database, kept: u64);

    /// A process has opened the database. What a later damage takes away was written after this.
    fn opened(&self, _node: u64, _database: Database) {}

    /// The database cannot be opened any more, and an empty one is in its place: nothing of it can be read, however durable it was.
    fn vanished(&self, _node: u64, _database: Database) {}

    /// A copy was taken of what can be read of the database.
    fn copied(&self, _node: u64, _database: Database) {}

    /// The copy that was taken last is in the place of the database.
    fn put_back(&self, _node: u64, _database: Database) {}

    /// A bit has flipped on the disk: the batches numbered `kept` and higher, durable or not, cannot be read any more.
    fn rotted(&self, _node: u64, _database: Database, _kept: u64) {}
}

/// What a process opens: both databases of its node. They answer [`EngineError::Closed`] after the next kill, power
/// loss, wipe or opening.
pub struct OpenDisk {
    /// The log of every replica on the node.
    pub log: Arc<dyn Engine>,
    /// The state of every replica on the node.
    pub state: Arc<dyn Engine>,
    /// There was another log once, which could not be opened any more.
    pub log_lost: bool,
}

/// The disk of one node. Clones are the same disk.
///
/// Faults belong to the disk, not to a process: they stay through restarts until they have struck, or are lifted.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Disk>>,
}

struct Disk {
    /// Counts openings and their ends: a handle belongs to one opening.
    life: u64,
    log: Platter,
    state: Platter,
}

impl SimDisk {
    /// An empty disk of `node` in memory, with its chance from `seed`.
    #[must_use]
    pub fn new(node: u64, seed: u64, watch: Arc<dyn DiskWatch>) -> Self {
        Self::of(node, seed, watch, [Box::new(Memory::new()), Box::new(Memory::new())])
    }

    /// An empty disk of `node` whose bytes are in two RocksDB databases, in a temporary folder that goes away with it.
    ///
    /// Calls block until RocksDB has answered, so that a seed repeats. RocksDB has threads of its own.
    ///
    /// # Errors
    /// If there is no place for the folder.
    pub fn on_rocks(node: u64, seed: u64, watch: Arc<dyn DiskWatch>) -> std::io::Result<Self> {
        let folder = Arc::new(Folder::make()?);
        let (log, state) = (RocksLog::new(folder.clone()), RocksState::new(folder));
        Ok(Self::of(node, seed, watch, [Box::new(log), Box::new(state)]))
    }

    fn of(node: u64, seed: u64, watch: Arc<dyn DiskWatch>, [log, state]: [Box<dyn Medium>; 2]) -> Self {
        let log = Platter::new(node, Database::Log, seed, watch.clone(), log);
        let state = Platter::new(node, Database::State, seed, watch, state);
        Self { shared: Arc::new(Mutex::new(Disk { life: 0, log, state })) }
    }

    /// A process opens the disk; an earlier opening ends as if its process were killed.
    ///
    /// What is found is durable from now on: RocksDB writes what it recovers to synced files before it is open.
    ///
    /// Panics if RocksDB cannot open what is there: whatever a power loss leaves must open.
    #[must_use]
    pub fn open(&self) -> OpenDisk {
        let (life, log_lost) = {
            let mut disk = self.shared.lock();
            disk.end();
            disk.both().into_iter().for_each(Platter::open);
            (disk.life, disk.log.has_vanished())
        };
        let engine = |database| Arc::new(SimEngine::new(self.clone(), database, life));
        OpenDisk { log: engine(Database::Log), state: engine(Database::State), log_lost }
    }

    /// kill -9: everything written stays, durable or not, because the operating system lives on.
    pub fn kill(&self) {
        self.shared.lock().end();
    }

    /// kill -9 of a process that keeps what no sync was asked for in buffers of its own, as RocksDB does under
    /// [`ordergrid_storage::RocksEngine`]: a drawn prefix of that survives. Everything before the last sync asked for stays.
    pub fn kill_losing_buffers(&self) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.both().into_iter().for_each(|platter| {
            let kept = platter.draw_buffers_kept();
            platter.lose(kept);
        });
    }

    /// The power fails: of what is not durable, a drawn prefix survives, in each database by itself; the record after it
    /// may be torn, which loses it whole.
    pub fn lose_power(&self) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.both().into_iter().for_each(|platter| {
            let kept = platter.draw_kept();
            platter.lose(kept);
            platter.lose_vouches();
        });
    }

    /// A new, empty disk is put in.
    pub fn wipe(&self) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.both().into_iter().for_each(Platter::wipe);
    }

    /// Takes a copy of everything that can be read, of both databases at one moment, in place of an earlier copy. Answers whether
    /// there is one: none on real databases.
    #[must_use]
    pub fn keep_copy(&self) -> bool {
        self.shared.lock().both().into_iter().all(Platter::keep_copy)
    }

    /// The copy is put in the place of the disk, after the process was killed. Panics if there is none.
    pub fn put_back(&self) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.both().into_iter().for_each(Platter::put_back);
    }

    /// A bit of the log has flipped, `permille` of the way through what the last opening of the disk has made durable, after the
    /// process was killed: the records from there on cannot be told from a torn end. What was vouched for is on another block.
    pub fn rot_log(&self, permille: u64) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.log.rot(permille);
    }

    /// The files of the log database are damaged, after the process was killed: it cannot be opened. It is put aside with all that was
    /// beside it, and an empty one is in its place.
    pub fn lose_log(&self) {
        let mut disk = self.shared.lock();
        disk.end();
        disk.log.vanish();
    }

    /// How many batches `database` has, and how many of them are durable.
    #[must_use]
    pub fn batches(&self, database: Database) -> (u64, u64) {
        self.shared.lock().platter(database).batches()
    }

    /// How long a sync takes that is asked for from now on; a millisecond if never said.
    pub fn set_sync_time(&self, database: Database, time: SyncTime) {
        self.fault(database, |platter| platter.set_sync_time(time));
    }

    /// How long a look at rows takes that begins from now on; no time if never said.
    pub fn set_read_time(&self, database: Database, time: ReadTime) {
        self.fault(database, |platter| platter.set_read_time(time));
    }

    /// No sync ends before `until`, not even one that was asked for already.
    pub fn stall_syncs(&self, database: Database, until: SimTime) {
        self.fault(database, |platter| platter.stall(until));
    }

    /// After `after` further writes or flushes the next one fails; from then on the engine refuses every write, until it
    /// is opened again.
    pub fn fail_write(&self, database: Database, after: u64, fault: Fault) {
        self.fault(database, |platter| platter.faults.fail_write(after, fault));
    }

    /// Whether reads fail from now on.
    pub fn fail_reads(&self, database: Database, failing: bool) {
        self.fault(database, |platter| platter.faults.reads_fail = failing);
    }

    /// Whether the disk is full from now on: nothing can be written or synced.
    pub fn fill(&self, full: bool) {
        self.fault(Database::Log, |platter| platter.faults.full = full);
        self.fault(Database::State, |platter| platter.faults.full = full);
    }

    /// Of the values read from now on, and from views, the one after `after` others is returned with one bit flipped,
    /// once: bit number `bit`, modulo the length of the value. Values without bits do not count.
    ///
    /// Every value of the log, and the head of a replica's state, has a frame with a checksum. The rows of the state have
    /// none of their own: there RocksDB's blocks have it, see [`damage_read`](Self::damage_read).
    pub fn flip_bit(&self, database: Database, after: u64, bit: u64) {
        self.fault(database, |platter| platter.faults.flip(after, bit));
    }

    /// After `after` further reads the next one answers [`EngineError::Damaged`], once: what RocksDB says of a block whose
    /// checksum is wrong.
    pub fn damage_read(&self, database: Database, after: u64) {
        self.fault(database, |platter| platter.faults.damage(after));
    }

    /// Up to `most` neighbouring rows of `database` are damaged from now on, the first of them the one that `choice` picks: who
    /// reads one of them is told so, through restarts, until it is written again or removed. Answers how many there are; none
    /// on real databases, and where nothing is open.
    pub fn damage_rows(&self, database: Database, choice: u64, most: usize) -> usize {
        self.shared.lock().platter(database).damage_rows(choice, most)
    }

    /// Lifts every fault that has not struck yet. An engine that has failed stays so until it is opened again.
    pub fn heal(&self) {
        self.fault(Database::Log, |platter| platter.faults.lift());
        self.fault(Database::State, |platter| platter.faults.lift());
    }

    /// The flipped bits that were handed out so far.
    #[must_use]
    pub fn flips(&self) -> Vec<BitFlip> {
        let mut disk = self.shared.lock();
        disk.both().into_iter().flat_map(|platter| platter.faults.flipped.clone()).collect()
    }

    fn fault(&self, database: Database, set: impl FnOnce(&mut Platter)) {
        let mut disk = self.shared.lock();
        let platter = disk.platter(database);
        set(platter);
        platter.note_faults();
    }

    /// Runs `then` on a database, if the opening `life` has not ended.
    fn with<T>(
        &self,
        database: Database,
        life: u64,
        then: impl FnOnce(&mut Platter) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut disk = self.shared.lock();
        if disk.life != life { Err(EngineError::Closed) } else { then(disk.platter(database)) }
    }
}

impl Disk {
    fn end(&mut self) {
        self.life += 1;
        self.both().into_iter().for_each(Platter::close);
    }

    fn both(&mut self) -> [&mut Platter; 2] {
        [&mut self.log, &mut self.state]
    }

    fn platter(&mut self, database: Database) -> &mut Platter {
        match database {
            Database::Log => &mut self.log,
            Database::State => &mut self.state,
        }
    }
}

//! openraft's own storage suite, over the log on memory and on RocksDB.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use ordergrid_storage::{LogLimits, MemEngine};

use crate::disks::{Disk, RocksDisk};
use crate::raft::{Machine, Store, TestConfig, store_within, writer};

type SharedMachine = Arc<parking_lot::Mutex<Machine>>;

/// Makes a log on a new disk, with `tail_bytes` of entries in memory.
struct Builder<F> {
    disk: F,
    tail_bytes: usize,
}

impl<D, F> StoreBuilder<TestConfig, Store, SharedMachine, D> for Builder<F>
where
    D: Disk,
    F: Fn() -> D + Send + Sync,
{
    async fn build(&self) -> Result<(D, Store, SharedMachine), StorageError<TestConfig>> {
        let disk = (self.disk)();
        let limits = LogLimits { tail_bytes: self.tail_bytes, ..LogLimits::default() };
        let store = store_within(&writer(&disk), 7, limits).await;
        Ok((disk, store, SharedMachine::default()))
    }
}

fn run<D: Disk>(disk: impl Fn() -> D + Send + Sync, tail_bytes: usize) {
    TestConfig::run(async {
        Suite::test_all(Builder { disk, tail_bytes }).await.expect("the store keeps openraft's contract");
    });
}

#[test]
fn openraft_suite_in_memory() {
    run(MemEngine::new, 1 << 20);
}

#[test]
fn openraft_suite_in_memory_with_every_entry_read_from_the_disk() {
    run(MemEngine::new, 0);
}

#[test]
fn openraft_suite_on_rocksdb() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    run(|| RocksDisk::log_in(parent.path()), 1 << 20);
}

#[test]
fn openraft_suite_on_rocksdb_with_every_entry_read_from_the_disk() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    run(|| RocksDisk::log_in(parent.path()), 0);
}

//! A log database that is begun anew: its replicas have forgotten what they had promised, and no store of theirs opens before they are
//! told; and how a database that has met damage is known again.

use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use ordergrid_storage::log::{begin_anew, begun_anew, vouched_for};
use ordergrid_storage::{
    Batch, Durability, Engine, EngineError, KeyRange, LogLimits, MemEngine, NodeRecords, RocksEngine, ScanLimit,
};

use crate::disks::{Disk, RocksDisk, run};
use crate::raft::{Store, TestCodec, TestConfig, Vote, log_id, store, writer};

async fn begun(disk: &dyn Disk) {
    begin_anew(&disk.open(), &[1, 2], "a bad block").await.expect("the disk works");
}

#[tokio::test]
async fn a_replica_of_a_log_that_was_begun_anew_does_not_open_before_it_knows_what_it_promised() {
    let disk = MemEngine::new();
    disk.remember();
    begun(&disk).await;
    // Neither a loss of power nor a flipped bit makes it a replica that has promised nothing.
    disk.crash();
    disk.rot(0);
    {
        let writer = writer(&disk);
        for replica in [1, 2] {
            assert!(Store::is_forgotten(&writer, replica, &TestCodec).await.expect("the disk works"));
            let refused = Store::open(writer.clone(), replica, TestCodec, LogLimits::default()).await;
            let refused = refused.map(drop).expect_err("nobody has told it yet").to_string();
            assert!(refused.contains("was created anew"), "{refused}");
        }
        assert!(!Store::is_forgotten(&writer, 3, &TestCodec).await.expect("the disk works"), "it was not there before");
        let (vote, last) = (Vote::new(7, 1), log_id(6, 40));
        Store::remember(&writer, 1, &TestCodec, Some(&vote), Some(&last)).await.expect("the disk works");
    }
    disk.crash();
    let writer = writer(&disk);
    let mut one = store(&writer, 1).await;
    assert_eq!(one.get_log_reader().await.read_vote().await.expect("the log works"), Some(Vote::new(7, 1)));
    assert_eq!(*one.floor().borrow(), Some(log_id(6, 40)));
    assert!(Store::is_forgotten(&writer, 2, &TestCodec).await.expect("the disk works"), "only one was told");
    let engine: Arc<dyn Engine> = disk.open();
    assert_eq!(begun_anew(&engine).await.expect("the disk works").as_deref(), Some("a bad block"));
}

#[tokio::test]
async fn a_log_that_has_something_is_not_begun_anew() {
    let disk = MemEngine::new();
    NodeRecords::new(disk.open()).put("identity", b"n1").await.expect("the disk works");
    begun(&disk).await;
    let engine: Arc<dyn Engine> = disk.open();
    assert_eq!(begun_anew(&engine).await.expect("the disk works"), None);
    store(&writer(&disk), 1).await;
}

#[test]
fn what_was_vouched_for_is_read_beside_a_log_that_does_not_open() {
    let disk = RocksDisk::log();
    run(async {
        let writer = writer(&disk);
        store(&writer, 1).await.save_vote(&Vote::new(3, 1)).await.expect("the log works");
    });
    std::fs::write(disk.folder().join("CURRENT"), "MANIFEST-999999\n").expect("the folder is ours");
    assert!(matches!(RocksEngine::open_log(disk.folder()), Err(EngineError::Damaged(_))));
    let vouch = RocksEngine::vouched_in(disk.folder()).expect("the disk works");
    let vouched = |replica| {
        let found = vouched_for::<TestConfig, _>(vouch.clone(), replica, &TestCodec).expect("it can be decoded");
        (found.vote, found.last)
    };
    assert_eq!(vouched(1), (Some(Vote::new(3, 1)), None));
    assert_eq!(vouched(2), (None, None));
    disk.forget_vouch();
    assert_eq!(RocksEngine::vouched_in(disk.folder()), Ok(None));
}

/// A folder with a log that has rows in a table.
fn with_table() -> RocksDisk {
    let disk = RocksDisk::log();
    run(async {
        let engine = disk.open();
        let mut batch = Batch::new();
        (0..200_u32).for_each(|row| batch.put(&row.to_be_bytes(), &[7; 100]));
        engine.write_vouched(batch, bytes::Bytes::new()).await.expect("the disk works");
        engine.keep().await.expect("the disk works");
    });
    disk
}

#[test]
fn a_log_in_which_damage_was_met_is_not_opened_again_until_told() {
    let disk = with_table();
    let tables = std::fs::read_dir(disk.folder()).expect("the folder is ours").map(|file| file.expect("a file").path());
    let table =
        tables.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "sst")).expect("there is a table");
    let mut bytes = std::fs::read(&table).expect("the folder is ours");
    bytes[500] ^= 1;
    std::fs::write(table, bytes).expect("the folder is ours");
    {
        let engine = disk.open();
        assert_eq!(engine.damaged(), None, "nobody has read it");
        let read = run(engine.scan(KeyRange::all(), ScanLimit::rows(1_000)));
        assert!(matches!(read, Err(EngineError::Damaged(_))), "{read:?}");
        assert!(engine.damaged().is_some());
    }
    assert!(matches!(RocksEngine::open_log(disk.folder()), Err(EngineError::Damaged(_))), "it is marked");
    RocksEngine::try_again(disk.folder());
    let engine = RocksEngine::open_log(disk.folder()).expect("nothing was read");
    let mut batch = Batch::new();
    batch.put(b"more", b"rows");
    run(engine.write(batch, Durability::Synced)).expect("the disk works");
}

#[test]
fn a_folder_without_the_list_of_its_files_is_not_begun_anew_in_silence() {
    let disk = with_table();
    std::fs::remove_file(disk.folder().join("CURRENT")).expect("there is one");
    let refused = RocksEngine::open_log(disk.folder()).map(drop).expect_err("its tables are still there");
    assert!(refused.is_damage() && refused.to_string().contains("CURRENT is missing"), "{refused}");
}

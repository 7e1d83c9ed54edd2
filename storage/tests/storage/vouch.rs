//! A log that has lost what it vouched for says so, wherever a bit of it has flipped; one that a loss of power has cut does not.

use openraft::RaftLogReader;
use openraft::alias::OneshotReceiverOf;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use ordergrid_storage::log::forget_promises;
use ordergrid_storage::{MemEngine, NodeRecords};

use crate::disks::{Disk, RocksDisk, run};
use crate::raft::{LogId, Store, TestCodec, TestConfig, Vote, entry, log_id, store, writer};

type Flushed = OneshotReceiverOf<TestConfig, Result<(), std::io::Error>>;

async fn append(log: &mut Store, term: u64, indexes: std::ops::Range<u64>) {
    let (done, flushed): (_, Flushed) = TestConfig::oneshot();
    let entries: Vec<_> = indexes.map(|index| entry(term, index, "an order of some length, so that records differ")).collect();
    log.append(entries, IOFlushed::signal(done)).await.expect("the log works");
    flushed.await.expect("the log works").expect("the log works");
}

async fn last(log: &mut Store) -> Option<LogId> {
    log.get_log_state().await.expect("the log works").last_log_id
}

async fn vote(log: &mut Store) -> Option<Vote> {
    log.get_log_reader().await.read_vote().await.expect("the log works")
}

fn floor(log: &Store) -> Option<LogId> {
    *log.floor().borrow()
}

/// Two replicas of which the first votes twice and has ten entries, each synced by itself.
async fn write(disk: &dyn Disk) {
    let writer = writer(disk);
    let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
    one.save_vote(&Vote::new(1, 1)).await.expect("the log works");
    append(&mut other, 1, 1..3).await;
    for index in 1..6 {
        append(&mut one, 1, index..index + 1).await;
    }
    one.save_vote(&Vote::new_committed(2, 3)).await.expect("the log works");
    for index in 6..11 {
        append(&mut one, 2, index..index + 1).await;
    }
}

/// Whatever is found: it is all there was, or the replica knows what it vouched for, and has its vote.
async fn looked_at(disk: &dyn Disk, what: &str) -> bool {
    let writer = writer(disk);
    let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
    let (found, had) = (last(&mut one).await, Some(log_id(2, 10)));
    assert_eq!(floor(&one), (found != had).then_some(had).flatten(), "{what}: found {found:?}");
    assert_eq!(vote(&mut one).await, Some(Vote::new_committed(2, 3)), "{what}: a vote that was given stays");
    let (found, had) = (last(&mut other).await, Some(log_id(1, 2)));
    assert_eq!(floor(&other), (found != had).then_some(had).flatten(), "{what}: found {found:?}");
    floor(&one).is_some()
}

#[tokio::test]
async fn a_log_that_is_cut_below_what_it_vouched_for_knows_it() {
    let mut lost = 0;
    for kept in 0..=13 {
        let disk = MemEngine::new();
        disk.remember();
        write(&disk).await;
        disk.rot(kept);
        lost += u32::from(looked_at(&disk, &format!("{kept} batches kept")).await);
        // The floor is durable itself.
        disk.crash();
        looked_at(&disk, &format!("{kept} batches kept, opened again")).await;
    }
    assert_eq!(lost, 13, "only the whole log is whole");
}

#[test]
fn a_flipped_bit_anywhere_in_the_log_is_noticed() {
    let disk = RocksDisk::log();
    run(write(&disk));
    let (_, log) = disk.logs().pop().expect("there is a log");
    let mut lost = 0;
    for at in (0..log.len()).step_by(29) {
        for vouch_survives in [true, false] {
            let copy = disk.crashed();
            let (path, mut log) = copy.logs().pop().expect("there is a log");
            log[at] ^= 1 << (at % 8);
            std::fs::write(path, log).expect("the folder is ours");
            if vouch_survives {
                let noticed = run(looked_at(&copy, &format!("a bit of byte {at}")));
                assert!(noticed, "byte {at} is in some record");
                lost += 1;
            } else {
                copy.forget_vouch();
                run(last_is_explained(&copy, at));
            }
        }
    }
    assert!(lost > 40, "{lost} places were tried");
}

/// Without the vouch, only what the last record held can be taken for torn: it is known to nobody that it was durable.
async fn last_is_explained(disk: &dyn Disk, at: usize) {
    let writer = writer(disk);
    let mut one = store(&writer, 1).await;
    let (found, floor) = (last(&mut one).await, floor(&one));
    let known = floor.max(found);
    assert!(known >= Some(log_id(2, 9)), "a bit of byte {at}: found {found:?}, vouched {floor:?}");
}

/// The disk of a log that was written, with so many of its batches left whole.
async fn rotten(whole: usize) -> MemEngine {
    let disk = MemEngine::new();
    disk.remember();
    write(&disk).await;
    disk.rot(whole);
    disk
}

#[test]
fn the_torn_end_of_a_log_is_no_loss() {
    let disk = RocksDisk::log();
    run(write(&disk));
    let (_, log) = disk.logs().pop().expect("there is a log");
    for length in (0..log.len()).step_by(61) {
        // Nothing was vouched for that a loss of power could still take away.
        let copy = disk.crashed();
        copy.forget_vouch();
        let (path, mut log) = copy.logs().pop().expect("there is a log");
        log.truncate(length);
        std::fs::write(path, log).expect("the folder is ours");
        run(async {
            let one = store(&writer(&copy), 1).await;
            assert_eq!(floor(&one), None, "cut to {length} bytes");
        });
    }
}

#[tokio::test]
async fn a_log_that_is_refilled_leaves_its_floor() {
    let disk = rotten(8).await;
    {
        let writer = writer(&disk);
        let mut one = store(&writer, 1).await;
        let found = last(&mut one).await.expect("some are left").index;
        append(&mut one, 2, found + 1..10).await;
        assert_eq!(floor(&one), Some(log_id(2, 10)), "one is missing");
        append(&mut one, 2, 10..11).await;
        let mut watched = one.floor();
        watched.wait_for(Option::is_none).await.expect("the store lives");
    }
    disk.crash();
    let mut one = store(&writer(&disk), 1).await;
    assert_eq!((floor(&one), last(&mut one).await), (None, Some(log_id(2, 10))));
}

#[tokio::test]
async fn entries_of_a_later_leader_refill_a_log_too() {
    let disk = rotten(8).await;
    let writer = writer(&disk);
    let mut one = store(&writer, 1).await;
    let found = last(&mut one).await.expect("some are left").index;
    append(&mut one, 3, found + 1..found + 2).await;
    one.floor().wait_for(Option::is_none).await.expect("the store lives");
}

/// Its state had everything, and nothing is written any more.
#[tokio::test]
async fn a_log_that_its_state_reaches_beyond_leaves_its_floor() {
    let disk = rotten(8).await;
    let writer = writer(&disk);
    let mut one = store(&writer, 1).await;
    assert_eq!(floor(&one), Some(log_id(2, 10)));
    one.purge(log_id(2, 10)).await.expect("the log works");
    one.floor().wait_for(Option::is_none).await.expect("the store lives");
}

/// Twice in a row, with the floor as the only thing that tells of the first loss.
#[tokio::test]
async fn a_second_loss_does_not_lower_the_floor() {
    let disk = rotten(6).await;
    disk.remember();
    {
        let writer = writer(&disk);
        let mut one = store(&writer, 1).await;
        let found = last(&mut one).await.map_or(1, |last| last.index + 1);
        append(&mut one, 2, found..found + 1).await;
        assert_eq!(floor(&one), Some(log_id(2, 10)));
    }
    disk.rot(0);
    let one = store(&writer(&disk), 1).await;
    assert_eq!(floor(&one), Some(log_id(2, 10)));
}

#[tokio::test]
async fn what_was_forgotten_on_purpose_is_a_floor() {
    let disk = MemEngine::new();
    write(&disk).await;
    {
        let writer = writer(&disk);
        Store::forget(&writer, 1, &TestCodec, Some(log_id(1, 3))).await.expect("the log works");
        Store::forget(&writer, 2, &TestCodec, Some(log_id(1, 4))).await.expect("the log works");
    }
    disk.crash();
    let writer = writer(&disk);
    let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
    assert_eq!((last(&mut one).await, floor(&one)), (None, Some(log_id(2, 10))));
    assert_eq!((last(&mut other).await, floor(&other)), (None, Some(log_id(1, 4))), "its state had more");
    assert_eq!(vote(&mut one).await, Some(Vote::new_committed(2, 3)));
}

#[tokio::test]
async fn a_node_knows_who_it_is_whatever_its_log_has_lost() {
    let disk = MemEngine::new();
    disk.remember();
    NodeRecords::new(disk.open()).put("identity", b"n1").await.expect("the disk works");
    write(&disk).await;
    disk.rot(0);
    let found = NodeRecords::new(disk.open()).get("identity").await.expect("the disk works");
    assert_eq!(found.as_deref(), Some(&b"n1"[..]));
}

#[tokio::test]
async fn the_number_of_a_log_never_falls_while_its_disk_keeps_what_it_has() {
    let disk = MemEngine::new();
    let mut before = 0;
    for round in 0..3 {
        let writer = writer(&disk);
        writer.flush().await.expect("the log works");
        assert_eq!(writer.reached(), before, "round {round}: nothing was written");
        let mut one = store(&writer, 1).await;
        one.save_vote(&Vote::new(round + 1, 1)).await.expect("the log works");
        assert!(writer.reached() > before);
        before = writer.advance(before + 100).await.expect("the log works");
        assert!(before > 100 * (round + 1), "round {round}: {before}");
        drop((one, writer));
        disk.crash();
    }
    disk.remember();
    let copy = disk.duplicate();
    write(&disk).await;
    let older = writer(&copy);
    older.flush().await.expect("the log works");
    assert_eq!(older.reached(), before, "a copy has what it had");
    // Another bit that flips does not make it one.
    disk.rot(0);
    let rotten = writer(&disk);
    rotten.flush().await.expect("the log works");
    assert!(rotten.reached() > before, "what is vouched for counts");
}

#[tokio::test]
async fn a_replica_of_an_older_copy_is_held_to_what_others_have() {
    let disk = MemEngine::new();
    write(&disk).await;
    let vote_there = Some(Vote::new_committed(7, 2));
    {
        let writer = writer(&disk);
        forget_promises(&writer, &[1, 2], 500).await.expect("the log works");
        assert!(writer.reached() > 500);
    }
    disk.crash();
    {
        let writer = writer(&disk);
        writer.flush().await.expect("the log works");
        assert!(writer.reached() > 500, "a restart does not make it older again");
        for (replica, vote, last) in [(1, vote_there, log_id(6, 30)), (2, Some(Vote::new(0, 9)), log_id(1, 1))] {
            assert!(Store::is_forgotten(&writer, replica, &TestCodec).await.expect("the disk works"));
            Store::remember(&writer, replica, &TestCodec, vote.as_ref(), Some(&last)).await.expect("the log works");
        }
    }
    disk.crash();
    let writer = writer(&disk);
    let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
    assert_eq!((last(&mut one).await, floor(&one)), (Some(log_id(2, 10)), Some(log_id(6, 30))), "its entries stay");
    assert_eq!(vote(&mut one).await, vote_there);
    assert_eq!((last(&mut other).await, floor(&other)), (Some(log_id(1, 2)), None), "it has more than that");
    append(&mut one, 7, 11..12).await;
    one.floor().wait_for(Option::is_none).await.expect("the store lives");
}

//! What openraft's suite does not ask of a log: crashes, order, sharing, limits, failure.

use std::io;

use futures::{FutureExt, StreamExt};
use openraft::RaftLogReader;
use openraft::alias::OneshotReceiverOf;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use ordergrid_storage::{Batch, Durability, Engine, Fault, KeyRange, LogLimits, LogWriter, MemEngine, ScanLimit, WriterLimits};

use crate::disks::{Disk, Gated, RocksDisk, run};
use crate::raft::{Entry, Store, TestConfig, Vote, entry, log_id, store, store_within, writer, writer_on};

type Flushed = OneshotReceiverOf<TestConfig, Result<(), io::Error>>;

/// Appends entries of `term` at `indexes` without waiting for the disk.
async fn append(store: &mut Store, term: u64, indexes: std::ops::Range<u64>) -> Flushed {
    let (done, flushed) = TestConfig::oneshot();
    let entries: Vec<_> = indexes.map(|index| entry(term, index, &format!("{term}/{index}"))).collect();
    store.append(entries, IOFlushed::signal(done)).await.expect("the log works");
    flushed
}

pub(crate) async fn durable(flushed: Flushed) {
    flushed.await.expect("the log works").expect("the log works");
}

/// The log as a reader sees it, such as `1/1 1/2 2/3`.
async fn seen(store: &mut Store) -> String {
    let entries = store.get_log_reader().await.try_get_log_entries(..).await.expect("no holes");
    text(&entries)
}

pub(crate) fn text(entries: &[Entry]) -> String {
    let ids = entries.iter().map(|entry| entry.log_id());
    ids.map(|id| format!("{}/{}", id.leader_id.term, id.index)).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_was_called_durable_survives_and_the_rest_goes_from_the_end() {
    let mut survivors = std::collections::BTreeSet::new();
    for seed in 0..48 {
        let disk = MemEngine::new();
        let (engine, gate) = Gated::above(disk.open());
        gate.add_permits(1);
        let mut log = store(&writer_on(engine), 1).await;
        durable(append(&mut log, 1, 1..4).await).await;
        // These are written when power is lost, and not yet synced.
        for index in 4..7 {
            drop(append(&mut log, 1, index..index + 1).await);
        }
        assert_eq!(seen(&mut log).await, "1/1 1/2 1/3 1/4 1/5 1/6");
        write_without_sync(&disk, 4..7).await;
        disk.crash_keeping_some(seed);
        let mut log = store(&writer(&disk), 1).await;
        survivors.insert(seen(&mut log).await);
    }
    assert_eq!(
        survivors.into_iter().collect::<Vec<_>>(),
        ["1/1 1/2 1/3", "1/1 1/2 1/3 1/4", "1/1 1/2 1/3 1/4 1/5", "1/1 1/2 1/3 1/4 1/5 1/6"]
    );
}

/// Does what the log writer would do, up to the moment before the sync.
async fn write_without_sync(disk: &MemEngine, indexes: std::ops::Range<u64>) {
    let scratch = MemEngine::new();
    let mut log = store(&writer(&scratch), 1).await;
    durable(append(&mut log, 1, indexes).await).await;
    for (key, value) in scratch.scan(KeyRange::all(), ScanLimit::rows(99)).await.expect("the disk works") {
        let mut batch = Batch::new();
        batch.put(&key, &value);
        disk.open().write(batch, Durability::Buffered).await.expect("the disk works");
    }
}

#[test]
fn everything_survives_a_restart() {
    for disk in [Box::new(MemEngine::new()) as Box<dyn Disk>, Box::new(RocksDisk::log())] {
        run(restarted(disk.as_ref()));
    }
}

async fn restarted(disk: &dyn Disk) {
    let vote = Vote::new_committed(2, 5);
    {
        let writer = writer(disk);
        let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
        durable(append(&mut one, 1, 0..5).await).await;
        durable(append(&mut other, 7, 3..5).await).await;
        one.save_committed(Some(log_id(1, 3))).await.expect("the log works");
        one.purge(log_id(1, 1)).await.expect("the log works");
        one.save_vote(&vote).await.expect("the log works");
        stop(disk, writer, [one, other]).await;
    }
    let writer = writer(disk);
    let (mut one, mut other) = (store(&writer, 1).await, store(&writer, 2).await);
    assert_eq!(seen(&mut one).await, "1/2 1/3 1/4");
    assert_eq!(seen(&mut other).await, "7/3 7/4");
    let state = one.get_log_state().await.expect("the log works");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 1)), Some(log_id(1, 4))));
    assert_eq!(one.read_committed().await.expect("the log works"), Some(log_id(1, 3)));
    assert_eq!(one.get_log_reader().await.read_vote().await.expect("the log works"), Some(vote));
    assert_eq!(other.get_log_reader().await.read_vote().await.expect("the log works"), None);
}

/// Ends the log once what is queued is durable, and then the disk, as far as it can be made to lose something.
async fn stop<const N: usize>(disk: &dyn Disk, writer: LogWriter, stores: [Store; N]) {
    writer.flush().await.expect("the log works");
    drop(stores);
    drop(writer);
    // The writer's task sees that all handles are gone, syncs, and closes the disk.
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
    disk.stop();
}

#[tokio::test]
async fn a_vote_is_durable_only_after_everything_appended_before() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::above(disk.open());
    let mut log = store(&writer_on(engine), 1).await;
    let mut flushed = append(&mut log, 1, 0..3).await;
    let saving = tokio::spawn(async move {
        log.save_vote(&Vote::new(2, 1)).await.expect("the log works");
        log
    });
    tokio::task::yield_now().await;
    assert!(!saving.is_finished(), "a vote was called durable before its write");
    assert!((&mut flushed).now_or_never().is_none());

    gate.add_permits(2);
    drop(saving.await.expect("no panic"));
    durable(flushed).await;
    disk.crash();
    let mut log = store(&writer(&disk), 1).await;
    assert_eq!(seen(&mut log).await, "1/0 1/1 1/2");
    assert_eq!(log.get_log_reader().await.read_vote().await.expect("the log works"), Some(Vote::new(2, 1)));
}

#[tokio::test]
async fn groups_share_one_sync() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::above(disk.open());
    let writer = writer_on(engine);
    let mut logs = Vec::new();
    for replica in 0..8 {
        logs.push(store(&writer, replica).await);
    }
    let before = writer.stats();
    // The first append is on its way to the disk while the others gather behind it.
    let first = append(&mut logs[0], 1, 0..1).await;
    tokio::task::yield_now().await;
    let mut waiting = vec![first];
    for log in &mut logs {
        for batch in 0..10 {
            let from = 1 + batch * 10;
            waiting.push(append(log, 1, from..from + 10).await);
        }
    }
    gate.add_permits(2);
    for flushed in waiting {
        durable(flushed).await;
    }
    let after = writer.stats();
    assert_eq!(after.syncs - before.syncs, 2, "one for the first append, one for all that came meanwhile");
    assert_eq!(after.entries - before.entries, 1 + 8 * 10 * 10);
    assert_eq!(after.requests - before.requests, 1 + 8 * 10);
}

async fn next(log: &mut Store) -> u64 {
    log.get_log_state().await.expect("the log works").last_log_id.expect("not empty").index + 1
}

#[tokio::test]
async fn what_needs_no_sync_waits_for_company() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    let mut log = store(&writer, 1).await;
    durable(append(&mut log, 1, 0..5).await).await;
    let before = writer.stats();
    for index in 0..4 {
        log.save_committed(Some(log_id(1, index))).await.expect("the log works");
    }
    log.purge(log_id(1, 2)).await.expect("the log works");
    durable(append(&mut log, 1, 5..6).await).await;
    let after = writer.stats();
    assert_eq!((after.syncs - before.syncs, after.buffered - before.buffered), (1, 0));
    disk.crash();
    let mut log = store(&self::writer(&disk), 1).await;
    assert_eq!(seen(&mut log).await, "1/3 1/4 1/5");
    assert_eq!(log.read_committed().await.expect("the log works"), Some(log_id(1, 3)));
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_sync_is_written_before_long() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    let mut log = store(&writer, 1).await;
    durable(append(&mut log, 1, 0..5).await).await;
    let before = writer.stats();
    log.save_committed(Some(log_id(1, 3))).await.expect("the log works");
    // Simulated time: it passes once everybody waits.
    tokio::time::sleep(WriterLimits::default().linger * 2).await;
    let after = writer.stats();
    assert_eq!((after.syncs - before.syncs, after.buffered - before.buffered), (0, 1));
}

/// A mark that outlived the entries it names would stop the next start.
#[tokio::test]
async fn a_commit_mark_never_survives_without_its_entries() {
    for seed in 0..32 {
        let disk = MemEngine::new();
        let writer = writer(&disk);
        let mut log = store(&writer, 1).await;
        for index in 0..6 {
            let flushed = append(&mut log, 1, index..index + 1).await;
            log.save_committed(Some(log_id(1, index))).await.expect("the log works");
            if index % 2 == seed % 2 {
                durable(flushed).await;
            }
        }
        disk.crash_keeping_some(seed);
        let mut log = store(&self::writer(&disk), 1).await;
        let last = log.get_log_state().await.expect("the log works").last_log_id;
        assert!(log.read_committed().await.expect("the log works") <= last, "seed {seed}");
    }
}

#[tokio::test]
async fn what_was_cut_off_does_not_come_back() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    let mut log = store(&writer, 1).await;
    durable(append(&mut log, 1, 0..6).await).await;
    log.truncate_after(Some(log_id(1, 2))).await.expect("the log works");
    assert_eq!(seen(&mut log).await, "1/0 1/1 1/2");
    let flushed = append(&mut log, 2, 3..5).await;
    assert_eq!(seen(&mut log).await, "1/0 1/1 1/2 2/3 2/4");
    durable(flushed).await;
    disk.crash();
    let mut log = store(&self::writer(&disk), 1).await;
    assert_eq!(seen(&mut log).await, "1/0 1/1 1/2 2/3 2/4");
    assert_eq!(log.get_log_state().await.expect("the log works").last_log_id, Some(log_id(2, 4)));
}

#[tokio::test]
async fn a_log_purged_to_its_end_goes_on_from_there() {
    let disk = MemEngine::new();
    for (purged, next) in [(3, 4), (9, 10)] {
        let writer = writer(&disk);
        let mut log = store(&writer, purged).await;
        durable(append(&mut log, 1, 0..4).await).await;
        log.purge(log_id(1, purged)).await.expect("the log works");
        writer.flush().await.expect("the log works");
        disk.crash();

        let writer = self::writer(&disk);
        let mut log = store(&writer, purged).await;
        let state = log.get_log_state().await.expect("the log works");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, purged)), Some(log_id(1, purged))));
        assert_eq!(seen(&mut log).await, "");
        durable(append(&mut log, 2, next..next + 1).await).await;
        disk.crash();
        let mut log = store(&self::writer(&disk), purged).await;
        assert_eq!(seen(&mut log).await, format!("2/{next}"));
    }
}

#[tokio::test]
async fn a_hole_is_refused_and_a_damaged_log_is_not_opened() {
    let disk = MemEngine::new();
    let mut log = store(&writer(&disk), 1).await;
    durable(append(&mut log, 1, 3..6).await).await;
    let hole = log.append([entry(1, 7, "")], IOFlushed::noop()).await.expect_err("a hole");
    assert_eq!(hole.kind(), io::ErrorKind::InvalidInput);

    let rows = disk.scan(KeyRange::all(), ScanLimit::rows(9)).await.expect("the disk works");
    let (key, value) = rows[1].clone();
    #[rustfmt::skip]
    let damages: [(&str, Option<Vec<u8>>, &str); 3] = [
        ("lost",    None,                                    "replica 1: entry 4 is missing, the next one stored is Some(3)"),
        ("flipped", Some(flipped(&value)),                   "replica 1: entry 4: checksum"),
        ("moved",   Some(rows[0].1.to_vec()),                "replica 1: the entry stored at index 4 says it is 3"),
    ];
    for (what, damage, message) in damages {
        let mut batch = Batch::new();
        match damage {
            Some(bytes) => batch.put(&key, &bytes),
            None => batch.delete(&key),
        }
        disk.open().write(batch, Durability::Synced).await.expect("the disk works");
        let error = Store::open(writer(&disk), 1, crate::raft::TestCodec, LogLimits::default()).await;
        let error = error.err().expect(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
        assert!(error.to_string().starts_with(message), "{what}: {error}");
    }
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().expect("a frame is not empty") ^= 1;
    bytes
}

#[test]
fn memory_holds_the_newest_entries_and_the_disk_serves_the_rest() {
    for disk in [Box::new(MemEngine::new()) as Box<dyn Disk>, Box::new(RocksDisk::log())] {
        run(read_back(disk.as_ref()));
    }
}

async fn read_back(disk: &dyn Disk) {
    let writer = writer(disk);
    let limits = LogLimits { tail_bytes: 300, read_bytes: 200 };
    for life in 0..2 {
        let mut log = store_within(&writer, 1, limits).await;
        if life == 0 {
            durable(append(&mut log, 1, 0..50).await).await;
        }
        let mut reader = log.get_log_reader().await;
        for (from, to) in [(0, 50), (0, 1), (10, 30), (45, 50), (49, 50), (40, 49)] {
            let found = reader.try_get_log_entries(from..to).await.expect("no holes");
            assert_eq!(found.iter().map(|entry| entry.index()).collect::<Vec<_>>(), (from..to).collect::<Vec<_>>());
            let some = reader.limited_get_log_entries(from, to).await.expect("no holes");
            assert!(!some.is_empty() && some.len() <= 6, "{} entries in 200 bytes", some.len());
            assert_eq!(some[..], found[..some.len()]);
            let streamed: Vec<_> = reader.entries_stream(from..to).await.map(|next| next.expect("no holes")).collect().await;
            assert_eq!(streamed, found);
        }
    }
}

#[tokio::test]
async fn replication_reads_nothing_that_comes_after_a_gap() {
    let mut log = store(&writer(&MemEngine::new()), 1).await;
    durable(append(&mut log, 1, 0..20).await).await;
    log.purge(log_id(1, 9)).await.expect("the log works");
    for (from, to, first) in [(10, 20, Some(10)), (12, 20, Some(12)), (9, 20, None), (0, 5, None)] {
        let found = log.get_log_reader().await.limited_get_log_entries(from, to).await.expect("no holes");
        assert_eq!(found.first().map(|entry| entry.index()), first, "{from}..{to}");
    }
}

#[tokio::test]
async fn cutting_a_log_below_what_is_in_memory() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    let mut log = store_within(&writer, 1, LogLimits { tail_bytes: 100, read_bytes: 100 }).await;
    durable(append(&mut log, 1, 0..50).await).await;
    log.truncate_after(Some(log_id(1, 9))).await.expect("the log works");
    let flushed = append(&mut log, 2, 10..12).await;
    let expected = "1/0 1/1 1/2 1/3 1/4 1/5 1/6 1/7 1/8 1/9 2/10 2/11";
    assert_eq!(seen(&mut log).await, expected);
    durable(flushed).await;
    log.purge(log_id(1, 4)).await.expect("the log works");
    assert_eq!(seen(&mut log).await, &expected[20..]);
    writer.flush().await.expect("the log works");
    disk.crash();
    assert_eq!(seen(&mut store(&self::writer(&disk), 1).await).await, &expected[20..]);
}

/// What was read before the cut and what was read after it are not of one log.
#[tokio::test]
async fn a_log_cut_while_it_is_read_from_the_disk() {
    #[rustfmt::skip]
    let rows = [
        // cut off after, purged to, read
        (Some(4),         None,      "1/0 1/1 1/2 1/3 1/4 2/5 2/6"),
        (None,            Some(4),   "1/5 1/6 1/7 1/8 1/9"),
        (Some(4),         Some(2),   "1/3 1/4 2/5 2/6"),
    ];
    for (cut, purged, expected) in rows {
        let disk = MemEngine::new();
        let (engine, gate) = Gated::scans_above(disk.open(), 1);
        let mut log = store_within(&writer_on(engine), 1, LogLimits { tail_bytes: 50, read_bytes: 9 }).await;
        durable(append(&mut log, 1, 0..10).await).await;
        let mut reader = log.get_log_reader().await;
        let reading = tokio::spawn(async move { reader.try_get_log_entries(..).await.expect("no holes") });
        tokio::task::yield_now().await;
        if let Some(index) = cut {
            log.truncate_after(Some(log_id(1, index))).await.expect("the log works");
            durable(append(&mut log, 2, index + 1..index + 3).await).await;
        }
        if let Some(index) = purged {
            log.purge(log_id(1, index)).await.expect("the log works");
        }
        gate.add_permits(99);
        assert_eq!(text(&reading.await.expect("no panic")), expected, "{cut:?} {purged:?}");
    }
}

#[tokio::test]
async fn a_failed_disk_stops_the_log_and_completes_nothing() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    let mut log = store(&writer, 1).await;
    durable(append(&mut log, 1, 0..3).await).await;
    disk.fail_write(0, Fault::NotSynced);
    let flushed = append(&mut log, 1, 3..5).await;
    assert!(flushed.await.is_err(), "told that a failed write is durable");
    assert!(writer.failed().await.to_string().starts_with("the log cannot be written"));
    assert!(log.save_vote(&Vote::new(3, 1)).await.is_err());
    assert!(log.append([entry(1, 5, "")], IOFlushed::noop()).await.is_err());
    assert!(log.purge(log_id(1, 1)).await.is_err());
    assert!(writer.flush().await.is_err());
}

/// A vote that waits when the disk fails must not wait for ever.
#[tokio::test]
async fn whoever_waits_when_the_disk_fails_is_told() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::above(disk.open());
    let mut log = store(&writer_on(engine), 1).await;
    drop(append(&mut log, 1, 0..1).await);
    tokio::task::yield_now().await;
    let saving = tokio::spawn(async move { log.save_vote(&Vote::new(2, 1)).await });
    tokio::task::yield_now().await;
    disk.fail_write(0, Fault::NotWritten);
    gate.add_permits(1);
    assert!(saving.await.expect("no panic").is_err());
}

#[tokio::test]
async fn a_full_queue_makes_appends_wait_and_commit_marks_pass() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::above(disk.open());
    let limits = WriterLimits { queued_requests: 2, queued_bytes: 1 << 20, ..WriterLimits::default() };
    let writer = LogWriter::start(engine, limits, |task| drop(tokio::spawn(task)));
    let mut log = store(&writer, 1).await;
    let mut flushed = Vec::new();
    for index in 0..3 {
        flushed.push(append(&mut log, 1, index..index + 1).await);
        tokio::task::yield_now().await;
    }
    log.save_committed(Some(log_id(1, 0))).await.expect("never waits");
    {
        let waits = std::pin::pin!(append(&mut log, 1, 3..4));
        assert!(futures::poll!(waits).is_pending());
    }
    gate.add_permits(9);
    flushed.push(append(&mut log, 1, 3..4).await);
    for flushed in flushed {
        durable(flushed).await;
    }
    assert_eq!(seen(&mut log).await, "1/0 1/1 1/2 1/3");
}

#[tokio::test]
async fn a_destroyed_replica_leaves_nothing_and_its_neighbours_everything() {
    let disk = MemEngine::new();
    let writer = writer(&disk);
    for replica in 1..4 {
        let mut log = store(&writer, replica).await;
        durable(append(&mut log, 1, 0..3).await).await;
        log.save_vote(&Vote::new(1, replica)).await.expect("the log works");
    }
    Store::destroy(&writer, 2).await.expect("the log works");
    disk.crash();
    let writer = self::writer(&disk);
    for (replica, expected) in [(1, "1/0 1/1 1/2"), (2, ""), (3, "1/0 1/1 1/2")] {
        assert_eq!(seen(&mut store(&writer, replica).await).await, expected, "{replica}");
    }
    assert_eq!(store(&writer, 2).await.get_log_reader().await.read_vote().await.expect("the log works"), None);
}

/// openraft's own way of waiting, so that its signals are seen to arrive.
#[test]
fn many_groups_on_rocksdb() {
    let disk = RocksDisk::log();
    let killed = run(many_groups(&disk));
    run(async {
        let mut log = store(&writer(&killed), 5).await;
        assert_eq!(next(&mut log).await, 40);
    });
}

/// Returns the disk as a kill at the end would leave it.
async fn many_groups(disk: &RocksDisk) -> RocksDisk {
    let writer = writer(disk);
    let tasks = (0..6_u64).map(|replica| {
        let writer = writer.clone();
        tokio::spawn(async move {
            let mut log = store(&writer, replica).await;
            for index in 0..40 {
                log.blocking_append([entry(1, index, "order")]).await.expect("the log works");
            }
            seen(&mut log).await.split(' ').count()
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("no panic"), 40);
    }
    let stats = writer.stats();
    assert_eq!(stats.entries, 240);
    assert!(stats.syncs < 240, "{stats:?}");
    disk.crashed()
}

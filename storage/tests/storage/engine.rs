//! One contract, three disks; then what only one of them can show.

use std::sync::Arc;

use bytes::Bytes;
use ordergrid_storage::{Batch, Durability, Engine, EngineError, Fault, KeyRange, MemEngine, RocksEngine, RowSink, ScanLimit};

use crate::disks::{Disk, RocksDisk};

/// Runs each fact on each disk.
macro_rules! contract {
    ($($fact:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&super::MemEngine::new()).await;
            })*
        }
        mod on_the_rocks_log {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&super::RocksDisk::log()).await;
            })*
        }
        mod on_the_rocks_state {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&super::RocksDisk::state()).await;
            })*
        }
    };
}

contract![
    a_batch_is_applied_in_order,
    values_come_in_the_order_of_the_keys,
    what_may_be_there_is_never_denied,
    scans_respect_range_and_limit,
    a_view_does_not_change,
    what_was_synced_survives,
    a_flush_keeps_everything_before_it,
    removed_ranges_stay_removed,
    a_dropped_future_is_a_write_all_the_same,
    only_durability_costs_a_sync,
    an_empty_batch_may_be_synced,
    rows_that_are_shown_are_durable,
];

async fn a_batch_is_applied_in_order(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1", "b=1", "c=1", "d=1"], Durability::Buffered).await;
    let mut batch = Batch::new();
    batch.put(b"a", b"2");
    batch.put(b"a", b"3");
    batch.delete(b"b");
    batch.delete_range(b"c", b"e");
    batch.put(b"d", b"4");
    engine.write(batch, Durability::Buffered).await.expect("the disk works");
    assert_eq!(all(&engine).await, ["a=3", "d=4"]);
}

async fn values_come_in_the_order_of_the_keys(disk: &dyn Disk) {
    let engine = disk.open();
    let long = "x".repeat(100_000);
    put(&engine, &["a=1", &format!("b={long}"), "c="], Durability::Buffered).await;
    let keys = ["c", "none", "b", "a", "c"].map(|key| Bytes::from_static(key.as_bytes())).to_vec();
    let found = engine.get_many(keys).await.expect("the disk works");
    assert_eq!(found, [Some(Bytes::new()), None, Some(long.into()), Some("1".into()), Some(Bytes::new())]);
}

async fn what_may_be_there_is_never_denied(disk: &dyn Disk) {
    let engine = disk.open();
    let rows = |of: std::ops::Range<u32>| of.map(|n| format!("row {n}=x")).collect::<Vec<_>>();
    put(&engine, &rows(0..500), Durability::Synced).await;
    put(&engine, &rows(500..600), Durability::Buffered).await;
    assert!((0..600).all(|n| engine.may_have(format!("row {n}").as_bytes())));
    let doubtful = (0..1_000).filter(|n| engine.may_have(format!("other {n}").as_bytes())).count();
    assert!(doubtful < 100, "{doubtful} of 1000 keys that are not there may be there");
}

async fn scans_respect_range_and_limit(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1", "b=22", "c=3", "d=4"], Durability::Buffered).await;
    let range = |from: &'static str, to: &'static str| KeyRange::new(from, to);
    #[rustfmt::skip]
    let rows = [
        // range                            limit                 forward                       backward
        (KeyRange::all(),                   ScanLimit::rows(9),   "a=1 b=22 c=3 d=4",           "d=4 c=3 b=22 a=1"),
        (KeyRange::all(),                   ScanLimit::rows(2),   "a=1 b=22",                   "d=4 c=3"),
        (KeyRange::all(),                   ScanLimit::rows(0),   "",                           ""),
        (KeyRange::all(),                   ScanLimit::bytes(1),  "a=1",                        "d=4"),
        (KeyRange::all(),                   ScanLimit::bytes(5),  "a=1 b=22",                   "d=4 c=3 b=22"),
        (range("b", "d"),                   ScanLimit::rows(9),   "b=22 c=3",                   "c=3 b=22"),
        (range("aa", "cc"),                 ScanLimit::rows(9),   "b=22 c=3",                   "c=3 b=22"),
        (range("b", "b"),                   ScanLimit::rows(9),   "",                           ""),
        (range("d", "a"),                   ScanLimit::rows(9),   "",                           ""),
        (KeyRange::prefix("c".into()),      ScanLimit::rows(9),   "c=3",                        "c=3"),
        (KeyRange::all().after(b"b"),       ScanLimit::rows(9),   "c=3 d=4",                    "d=4 c=3"),
        (range("b", "d").after(b"a"),       ScanLimit::rows(9),   "b=22 c=3",                   "c=3 b=22"),
    ];
    for (range, limit, forward, backward) in rows {
        let found = engine.scan(range.clone(), limit).await.expect("the disk works");
        assert_eq!(text(found).join(" "), forward, "{range:?} {limit:?}");
        let found = engine.scan_back(range.clone(), limit).await.expect("the disk works");
        assert_eq!(text(found).join(" "), backward, "{range:?} {limit:?} backward");
    }
}

async fn a_view_does_not_change(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1", "b=1"], Durability::Buffered).await;
    let view = engine.view().await.expect("the disk works");
    let mut batch = Batch::new();
    batch.put(b"a", b"2");
    batch.delete_range(b"b", b"c");
    engine.write(batch, Durability::Synced).await.expect("the disk works");

    let seen = view.scan(KeyRange::all(), ScanLimit::rows(9)).await.expect("the disk works");
    assert_eq!(text(seen), ["a=1", "b=1"]);
    let seen = view.get_many(vec!["b".into(), "c".into()]).await.expect("the disk works");
    assert_eq!(seen, [Some("1".into()), None]);
    assert_eq!(all(&engine).await, ["a=2"]);

    drop(engine);
    let seen = view.scan(KeyRange::all(), ScanLimit::rows(1)).await.expect("a view outlives its engine");
    assert_eq!(text(seen), ["a=1"]);
}

async fn what_was_synced_survives(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1"], Durability::Buffered).await;
    put(&engine, &["b=1"], Durability::Synced).await;
    drop(engine);
    disk.stop();
    assert_eq!(all(&disk.open()).await, ["a=1", "b=1"]);
}

async fn a_flush_keeps_everything_before_it(disk: &dyn Disk) {
    for round in ["1", "2"] {
        let engine = disk.open();
        put(&engine, &["a=", "b="].map(|row| [row, round].concat()), Durability::Buffered).await;
        engine.flush().await.expect("the disk works");
        drop(engine);
        disk.stop();
    }
    assert_eq!(all(&disk.open()).await, ["a=2", "b=2"]);
}

async fn removed_ranges_stay_removed(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1", "b=1", "c=1"], Durability::Synced).await;
    let mut batch = Batch::new();
    batch.delete_range(b"a", b"c");
    engine.write(batch, Durability::Synced).await.expect("the disk works");
    put(&engine, &["a=2"], Durability::Synced).await;
    drop(engine);
    disk.stop();
    assert_eq!(all(&disk.open()).await, ["a=2", "c=1"]);
}

async fn a_dropped_future_is_a_write_all_the_same(disk: &dyn Disk) {
    let engine = disk.open();
    for n in 0..3 {
        let mut batch = Batch::new();
        batch.put(b"a", format!("{n}").as_bytes());
        drop(engine.write(batch, Durability::Buffered));
    }
    engine.flush().await.expect("the disk works");
    assert_eq!(all(&engine).await, ["a=2"]);
}

async fn only_durability_costs_a_sync(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1"], Durability::Buffered).await;
    assert_eq!((engine.stats().syncs, engine.stats().written_bytes), (0, 2));
    put(&engine, &["b=1"], Durability::Synced).await;
    engine.flush().await.expect("the disk works");
    assert_eq!((engine.stats().syncs, engine.stats().written_bytes), (2, 4));
    assert!(engine.stats().disk_bytes >= 4);
}

async fn an_empty_batch_may_be_synced(disk: &dyn Disk) {
    let engine = disk.open();
    put(&engine, &["a=1"], Durability::Buffered).await;
    engine.write(Batch::new(), Durability::Synced).await.expect("the disk works");
    drop(engine);
    disk.stop();
    assert_eq!(all(&disk.open()).await, ["a=1"]);
}

async fn rows_that_are_shown_are_durable(disk: &dyn Disk) {
    let engine = disk.open();
    for rows in [&[][..], &["a=1", "b=1", "c=1"], &["a=2", "b"]] {
        show(&engine, rows).await.expect("the disk works");
        assert_eq!(engine.stats().written_bytes, if rows.len() == 3 { 6 } else { 9 * u64::from(!rows.is_empty()) });
    }
    put(&engine, &["c=2", "d=1"], Durability::Buffered).await;
    show(&engine, &["b=3", "c=3"]).await.expect("the disk works");
    drop(engine);
    disk.stop();
    assert_eq!(all(&disk.open()).await, ["a=2", "b=3", "c=3", "d=1"]);
}

#[tokio::test]
async fn a_crash_in_memory_loses_what_was_not_synced() {
    let disk = MemEngine::new();
    let engine = disk.open();
    put(&engine, &["a=1"], Durability::Synced).await;
    put(&engine, &["a=2", "b=2"], Durability::Buffered).await;
    assert_eq!(disk.unsynced(), 1);
    disk.crash();
    assert_eq!(all(&disk.open()).await, ["a=1"]);
}

#[tokio::test]
async fn a_crash_in_memory_may_keep_any_prefix_and_nothing_else() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let disk = MemEngine::new();
        let engine = disk.open();
        put(&engine, &["a=0"], Durability::Synced).await;
        put(&engine, &["a=1", "b=1"], Durability::Buffered).await;
        put(&engine, &["a=2", "c=2"], Durability::Buffered).await;
        disk.crash_keeping_some(seed);
        seen.insert(all(&disk.open()).await.join(" "));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["a=0", "a=1 b=1", "a=2 b=1 c=2"]);
}

#[tokio::test]
async fn a_handle_ends_with_the_crash() {
    let disk = MemEngine::new();
    let before = disk.open();
    disk.crash();
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    assert_eq!(before.write(batch, Durability::Synced).await, Err(EngineError::Closed));
    assert_eq!(before.get_many(vec![]).await, Err(EngineError::Closed));
    assert!(all(&disk.open()).await.is_empty());
}

#[tokio::test]
async fn a_kill_in_memory_loses_nothing_but_the_handles() {
    let disk = MemEngine::new();
    let before = disk.open();
    put(&before, &["a=1"], Durability::Buffered).await;
    disk.kill();
    assert_eq!(before.flush().await, Err(EngineError::Closed));
    assert_eq!((all(&disk.open()).await, disk.unsynced()), (vec!["a=1".to_owned()], 1));
}

#[tokio::test]
async fn a_crash_in_memory_keeps_what_was_settled_and_as_much_more_as_told() {
    let disk = MemEngine::new();
    let engine = disk.open();
    for row in ["a=1", "b=1", "c=1", "d=1"] {
        put(&engine, &[row], Durability::Buffered).await;
    }
    disk.settle(2);
    assert_eq!(disk.unsynced(), 2);
    disk.crash_keeping(1);
    assert_eq!(all(&disk.open()).await, ["a=1", "b=1", "c=1"]);
    put(&disk.open(), &["e=1"], Durability::Buffered).await;
    disk.crash();
    assert_eq!(all(&disk.open()).await, ["a=1", "b=1", "c=1"]);
}

#[tokio::test]
async fn a_copy_of_rocksdb_is_what_it_was_then() {
    for open in [RocksEngine::open_log, RocksEngine::open_state] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, copy) = (folder.path().join("database"), folder.path().join("copy"));
        let engine = open(&path).expect("nobody has it open");
        engine.write(batch(&["a=1"]), Durability::Buffered).await.expect("the disk works");
        engine.copy_to(&copy).expect("the disk works");
        engine.write(batch(&["b=1"]), Durability::Synced).await.expect("the disk works");
        assert!(engine.copy_to(&copy).is_err(), "the copy exists");
        let copied: Arc<dyn Engine> = Arc::new(open(&copy).expect("nobody has it open"));
        assert_eq!(all(&copied).await, ["a=1"]);
    }
}

#[tokio::test]
async fn a_failed_write_is_the_last() {
    #[rustfmt::skip]
    let rows = [
        // fault             what a reader sees, and what a crash may leave
        (Fault::NotWritten,  "a=1",      vec!["a=1"]),
        (Fault::NotSynced,   "a=1 b=1",  vec!["a=1", "a=1 b=1"]),
    ];
    for (fault, readable, survivors) in rows {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..16 {
            let disk = MemEngine::new();
            let engine = disk.open();
            disk.fail_write(1, fault);
            put(&engine, &["a=1"], Durability::Synced).await;
            let failed = Err(EngineError::Disk("a planted fault".to_owned()));
            assert_eq!(engine.write(batch(&["b=1"]), Durability::Synced).await, failed);
            assert_eq!(engine.write(batch(&["c=1"]), Durability::Buffered).await, failed);
            assert_eq!(engine.flush().await, failed);
            assert_eq!(all(&engine).await.join(" "), readable);
            disk.crash_keeping_some(seed);
            seen.insert(all(&disk.open()).await.join(" "));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), survivors, "{fault:?}");
    }
}

/// The files as they are while the database is open are what a kill of the process leaves.
#[tokio::test]
async fn rocksdb_has_what_was_made_durable_when_its_process_is_killed() {
    for disk in [RocksDisk::log(), RocksDisk::state()] {
        let engine = disk.open();
        put(&engine, &["a=1"], Durability::Buffered).await;
        put(&engine, &["b=1"], Durability::Synced).await;
        put(&engine, &["a=2", "b=2"], Durability::Buffered).await;
        let survived = all(&disk.crashed().open()).await.join(" ");
        assert!(["a=1 b=1", "a=2 b=2"].contains(&survived.as_str()), "neither before nor after a batch: {survived}");
        engine.flush().await.expect("the disk works");
        assert_eq!(all(&disk.crashed().open()).await, ["a=2", "b=2"]);
    }
}

/// Rows that are shown become a file, unless something before them is still to become durable.
#[tokio::test]
async fn rows_that_become_files_and_batches_follow_each_other() {
    use Durability::{Buffered, Synced};
    let disk = RocksDisk::state();
    let engine = disk.open();
    #[rustfmt::skip]
    let steps: [(&[&str], _, &[&str]); 7] = [
        // changes            as a batch        what a kill leaves then
        (&["a=1", "b=1"],     None,             &["a=1", "b=1"]),
        (&["a=2", "c=1"],     None,             &["a=2", "b=1", "c=1"]),
        (&["b", "c=2"],       None,             &["a=2", "c=2"]),
        (&["d=1", "c=3"],     Some(Synced),     &["a=2", "c=3", "d=1"]),
        (&["a=3"],            Some(Buffered),   &["a=2", "c=3", "d=1"]),
        (&["b=4", "c"],       None,             &["a=3", "b=4", "d=1"]),
        (&["a", "d=5"],       None,             &["b=4", "d=5"]),
    ];
    for (changes, batch, left) in steps {
        match batch {
            Some(durability) => put(&engine, changes, durability).await,
            None => show(&engine, changes).await.expect("the disk works"),
        }
        assert_eq!(all(&disk.crashed().open()).await, left, "{changes:?}");
    }
    drop(engine);
    assert_eq!(all(&disk.open()).await, ["b=4", "d=5"]);
}

#[tokio::test]
async fn rows_out_of_order_stop_the_engine_and_change_nothing() {
    for rows in [["b=1", "a=1"], ["a=1", "a=2"]] {
        let disk = RocksDisk::state();
        let engine = disk.open();
        assert!(matches!(show(&engine, &rows).await, Err(EngineError::Disk(_))), "{rows:?}");
        assert!(show(&engine, &["c=1"]).await.is_err());
        assert!(all(&engine).await.is_empty());
    }
}

/// Recycled log files hold the records of their former life; none of them may come back.
#[tokio::test]
async fn rocksdb_recovers_from_recycled_logs() {
    let disk = RocksDisk::log();
    let engine = disk.open();
    let mut kept = Vec::new();
    for n in 0..36 {
        // Almost three memtables, so that logs are full, obsolete, and written over.
        let mut batch = Batch::new();
        batch.put(b"big", &vec![n; 5 << 20]);
        batch.put(format!("{n:02}").as_bytes(), b"");
        engine.write(batch, Durability::Buffered).await.expect("the disk works");
        kept.push(format!("{n:02}="));
    }
    engine.flush().await.expect("the disk works");
    let mut found = all(&disk.crashed().open()).await;
    assert!(found.pop().expect("the big row").starts_with("big=###"), "not the newest");
    assert_eq!(found, kept);
}

#[tokio::test]
async fn rocksdb_is_opened_by_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = || RocksEngine::open_log(folder.path());
    let first = open().expect("nobody has it open");
    assert!(matches!(open(), Err(EngineError::InUse(_))));
    drop(first);
    assert!(open().is_ok());
}

/// `a=1` puts a row, `a` removes one.
fn batch(rows: &[impl AsRef<str>]) -> Batch {
    let mut batch = Batch::new();
    for row in rows {
        match row.as_ref().split_once('=') {
            Some((key, value)) => batch.put(key.as_bytes(), value.as_bytes()),
            None => batch.delete(row.as_ref().as_bytes()),
        }
    }
    batch
}

async fn put(engine: &Arc<dyn Engine>, rows: &[impl AsRef<str>], durability: Durability) {
    engine.write(batch(rows), durability).await.expect("the disk works");
}

async fn show(engine: &Arc<dyn Engine>, rows: &[&'static str]) -> Result<(), EngineError> {
    let rows = rows.to_vec();
    let show = move |to: RowSink<'_>| {
        for row in rows {
            match row.split_once('=') {
                Some((key, value)) => to(key.as_bytes(), Some(value.as_bytes())),
                None => to(row.as_bytes(), None),
            }
        }
    };
    engine.write_rows(Box::new(show)).await
}

async fn all(engine: &Arc<dyn Engine>) -> Vec<String> {
    text(engine.scan(KeyRange::all(), ScanLimit::rows(usize::MAX)).await.expect("the disk works"))
}

fn text(rows: Vec<(Bytes, Bytes)>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    rows.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect()
}

//! What a simulated disk keeps, loses and refuses; most of it on both media.

mod differential;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use ordergrid_storage::codec::{self, Kind};
use ordergrid_storage::{Durability, KeyRange, ScanLimit};

use super::*;
use crate::trace;
use Durability::{Buffered, Synced};

const MILLI: Duration = Duration::from_millis(1);

/// Writes down what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl DiskWatch for Told {
    fn wrote(&self, node: u64, database: Database, batch: &Batch) {
        self.0.lock().push(format!("{node} {database} wrote {}", batch.len()));
    }

    fn durable(&self, node: u64, database: Database, batches: u64) {
        self.0.lock().push(format!("{node} {database} durable {batches}"));
    }

    fn lost(&self, node: u64, database: Database, kept: u64) {
        self.0.lock().push(format!("{node} {database} lost from {kept}"));
    }
}

fn in_memory(seed: u64) -> SimDisk {
    SimDisk::new(1, seed, Arc::<Told>::default())
}

fn both() -> [SimDisk; 2] {
    [in_memory(1), SimDisk::on_rocks(1, 1, Arc::<Told>::default()).expect("there is a place for temporary folders")]
}

fn run(test: impl Future<Output = ()>) {
    trace::at(SimTime(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs no more than memory").block_on(test);
}

/// Time passes for the simulation and for the runtime.
async fn pass(time: Duration) {
    trace::at(trace::now().after(time));
    tokio::time::advance(time).await;
}

fn batch(rows: &str) -> Batch {
    let mut batch = Batch::new();
    for row in rows.split_whitespace() {
        let (key, value) = row.split_once('=').expect("key=value");
        batch.put(key.as_bytes(), value.as_bytes());
    }
    batch
}

async fn all(engine: &Arc<dyn Engine>) -> String {
    let rows = engine.scan(KeyRange::all(), ScanLimit::rows(99)).await.expect("the disk works");
    let texts = rows.iter().map(|(key, value)| format!("{}={}", key.escape_ascii(), value.escape_ascii()));
    texts.collect::<Vec<_>>().join(" ")
}

async fn write(engine: &Arc<dyn Engine>, rows: &str, durability: Durability) {
    let mut call = engine.write(batch(rows), durability);
    while (&mut call).now_or_never().is_none() {
        pass(MILLI).await;
    }
}

#[test]
fn a_sync_makes_durable_what_was_written_before_it_was_asked_for() {
    run(async {
        for disk in both() {
            for (database, name) in [(Database::Log, "log"), (Database::State, "state")] {
                let open = disk.open();
                let engine = if database == Database::Log { open.log } else { open.state };
                let (written, _) = disk.batches(database);
                engine.write(batch("a=1"), Buffered).await.expect("the disk works");
                let mut synced = engine.write(batch("b=1"), Synced);
                engine.write(batch("c=1"), Buffered).await.expect("the disk works");
                assert_eq!(all(&engine).await, "a=1 b=1 c=1", "readable at once");
                assert_eq!((&mut synced).now_or_never(), None, "{name}: not durable yet");
                assert_eq!(disk.batches(database), (written + 3, written));
                pass(MILLI).await;
                assert_eq!((&mut synced).now_or_never(), Some(Ok(())));
                assert_eq!(disk.batches(database), (written + 3, written + 2), "{name}");
            }
        }
    });
}

#[test]
fn a_power_loss_keeps_any_prefix_but_all_that_is_durable() {
    run(async {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let disk = in_memory(seed);
            let log = disk.open().log;
            write(&log, "a=0", Synced).await;
            write(&log, "a=1 b=1", Buffered).await;
            write(&log, "a=2 c=2", Buffered).await;
            disk.lose_power();
            seen.insert(all(&disk.open().log).await);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["a=0", "a=1 b=1", "a=2 b=1 c=2"]);
    });
}

#[test]
fn a_sync_ends_whether_or_not_somebody_waits() {
    run(async {
        for disk in both() {
            let state = disk.open().state;
            drop(state.write(batch("a=1"), Synced));
            pass(MILLI).await;
            disk.lose_power();
            assert_eq!(all(&disk.open().state).await, "a=1");
        }
    });
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_reaches_the_disk_no_more() {
    run(async {
        for disk in both() {
            let before = disk.open();
            write(&before.state, "a=1", Buffered).await;
            let view = before.state.view().await.expect("the disk works");
            let mut waiting = before.state.write(batch("b=1"), Synced);
            assert_eq!((&mut waiting).now_or_never(), None);
            disk.kill();
            assert_eq!(waiting.await, Err(EngineError::Closed));
            assert_eq!(before.state.write(batch("c=1"), Synced).await, Err(EngineError::Closed));
            assert_eq!(before.log.get_many(vec![]).await, Err(EngineError::Closed));
            assert_eq!(view.scan(KeyRange::all(), ScanLimit::rows(1)).await, Err(EngineError::Closed));
            assert_eq!(disk.batches(Database::State), (2, 0), "killed, yet still in memory");
            let after = disk.open();
            assert_eq!(all(&after.state).await, "a=1 b=1");
            assert_eq!(disk.batches(Database::State), (2, 2), "opening syncs what it finds");
            drop((before, view));
            assert_eq!(after.state.flush().now_or_never(), None, "what has ended does not disturb");
        }
    });
}

/// As RocksDB holds back what nobody wants synced.
#[test]
fn a_killed_process_may_lose_its_own_buffers_but_nothing_it_asked_to_be_synced() {
    run(async {
        let mut seen = BTreeSet::new();
        for seed in 0..32 {
            let disk = in_memory(seed);
            let log = disk.open().log;
            drop(log.write(batch("a=1"), Synced));
            write(&log, "b=1", Buffered).await;
            disk.kill_losing_buffers();
            seen.insert(all(&disk.open().log).await);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["a=1", "a=1 b=1"]);
    });
}

#[test]
fn a_stall_holds_syncs_back_also_those_on_their_way() {
    run(async {
        let disk = in_memory(1);
        let log = disk.open().log;
        let mut first = log.write(batch("a=1"), Synced);
        disk.stall_syncs(Database::Log, SimTime::secs(5));
        let mut second = log.flush();
        pass(Duration::from_millis(4_999)).await;
        assert_eq!(((&mut first).now_or_never(), (&mut second).now_or_never()), (None, None));
        assert_eq!(disk.batches(Database::Log), (1, 0));
        pass(MILLI).await;
        assert_eq!(((&mut first).now_or_never(), (&mut second).now_or_never()), (Some(Ok(())), Some(Ok(()))));
    });
}

#[test]
fn syncs_take_as_long_as_was_drawn_and_end_in_order() {
    run(async {
        let disk = in_memory(7);
        disk.set_sync_time(Database::Log, SyncTime::Between(MILLI * 2, MILLI * 9));
        let log = disk.open().log;
        let mut ends = Vec::new();
        for _ in 0..20 {
            let begun = trace::now();
            let (mut first, mut second) = (log.write(batch("a=1"), Synced), log.flush());
            while (&mut first).now_or_never().is_none() {
                pass(Duration::from_micros(100)).await;
            }
            ends.push(trace::now().0 - begun.0);
            while (&mut second).now_or_never().is_none() {
                pass(Duration::from_micros(100)).await;
            }
        }
        assert!(ends.iter().all(|end| (2_000..=9_100).contains(end)), "{ends:?}");
        assert!(ends.iter().min() < ends.iter().max(), "never the same: {ends:?}");
    });
}

#[test]
fn a_disk_that_failed_refuses_every_write_until_it_is_opened_again() {
    type Fail = fn(&SimDisk);
    #[rustfmt::skip]
    let rows: [(&str, Fail, &str); 3] = [
        // what             how                                                           what is readable
        ("nothing written", |disk| disk.fail_write(Database::Log, 1, Fault::NotWritten),  "a=1"),
        ("nothing synced",  |disk| disk.fail_write(Database::Log, 1, Fault::NotSynced),   "a=1 b=1"),
        ("nothing fails",   |disk| { disk.fail_write(Database::Log, 0, Fault::NotSynced); disk.heal(); }, "a=1 b=1 c=1"),
    ];
    run(async {
        for (what, fail, readable) in rows {
            for disk in both() {
                fail(&disk);
                let log = disk.open().log;
                write(&log, "a=1", Buffered).await;
                let fails = what != "nothing fails";
                assert_eq!(
                    log.write(batch("b=1"), Synced).now_or_never().is_some_and(|answer| answer.is_err()),
                    fails,
                    "{what}"
                );
                assert_eq!(log.write(batch("c=1"), Buffered).await.is_err(), fails, "{what}");
                assert_eq!(log.flush().now_or_never().is_some_and(|answer| answer.is_err()), fails, "{what}");
                assert_eq!(all(&log).await, readable, "{what}");
                disk.kill();
                let log = disk.open().log;
                assert_eq!(log.write(batch("d=1"), Buffered).await, Ok(()), "{what}");
            }
        }
    });
}

#[test]
fn a_full_disk_can_be_read_and_emptied() {
    run(async {
        let disk = in_memory(1);
        let open = disk.open();
        write(&open.log, "a=1", Synced).await;
        disk.fill(true);
        let full = Err(EngineError::Disk("no space is left".to_owned()));
        assert_eq!((open.log.write(batch("b=1"), Buffered).await, open.state.flush().await), (full.clone(), full.clone()));
        assert_eq!(all(&open.log).await, "a=1");
        disk.kill();
        assert_eq!(disk.open().log.flush().await, full, "still so for the next process");
        disk.fill(false);
        assert_eq!(disk.open().log.write(batch("b=1"), Buffered).await, Ok(()));
    });
}

#[test]
fn reads_fail_while_told_to_and_damage_is_found_once() {
    run(async {
        let disk = in_memory(1);
        let log = disk.open().log;
        disk.fail_reads(Database::Log, true);
        assert!(matches!(log.get_many(vec![]).await, Err(EngineError::Disk(_))));
        disk.fail_reads(Database::Log, false);
        disk.damage_read(Database::Log, 1);
        let scan = || log.scan_back(KeyRange::all(), ScanLimit::rows(1));
        assert_eq!(scan().await, Ok(vec![]));
        assert!(matches!(scan().await, Err(EngineError::Damaged(_))));
        assert_eq!(scan().await, Ok(vec![]));
    });
}

/// Whichever way a value is read, its frame says that it is damaged, once.
#[test]
fn a_flipped_bit_is_in_the_value_whose_turn_it_is() {
    run(async {
        for disk in both() {
            let state = disk.open().state;
            let mut rows = Batch::new();
            ["a", "b", "c"].iter().for_each(|key| rows.put(key.as_bytes(), &codec::seal(Kind::STATE_HEAD, key.as_bytes())));
            rows.put(b"bb", b"");
            state.write(rows, Buffered).await.expect("the disk works");
            let view = state.view().await.expect("the disk works");
            let (range, limit) = (KeyRange::all, ScanLimit::rows(9));
            for way in 0..4 {
                let read = || async {
                    let rows = match way {
                        0 => state.scan(range(), limit).await,
                        1 => state.scan_back(range(), limit).await,
                        2 => view.scan(range(), limit).await,
                        _ => {
                            let keys: Vec<Bytes> = ["a", "-", "b", "c"].map(Bytes::from).to_vec();
                            let values = state.get_many(keys.clone()).await.expect("the disk works");
                            Ok(keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect())
                        }
                    };
                    let damaged = |row: &&(Bytes, Bytes)| !row.1.is_empty() && codec::open(Kind::STATE_HEAD, &row.1).is_err();
                    rows.expect("the disk works").iter().filter(damaged).map(|row| row.0.clone()).collect::<Vec<_>>()
                };
                disk.flip_bit(Database::Log, 0, 0);
                disk.flip_bit(Database::State, 4, 1_000 + way);
                assert_eq!(read().await, Vec::<Bytes>::new(), "not its turn");
                assert_eq!(read().await, ["b"], "way {way}");
                assert_eq!(read().await, Vec::<Bytes>::new(), "only once");
            }
            let flips = disk.flips();
            assert!(flips.len() == 4 && flips.iter().all(|flip| flip.key == "b" && flip.database == Database::State));
        }
    });
}

#[test]
fn the_watch_is_told_everything_in_order() {
    run(async {
        let told = Arc::<Told>::default();
        let disk = SimDisk::new(3, 1, told.clone());
        let open = disk.open();
        told.0.lock().clear();
        write(&open.log, "a=1 b=1", Synced).await;
        open.log.write(Batch::new(), Buffered).await.expect("the disk works");
        write(&open.state, "a=1", Buffered).await;
        disk.wipe();
        assert_eq!(
            *told.0.lock(),
            ["3 log wrote 2", "3 log durable 1", "3 state wrote 1", "3 log lost from 0", "3 state lost from 0"]
        );
        assert_eq!(all(&disk.open().log).await, "");
    });
}

#[test]
fn a_new_disk_is_empty_and_works() {
    run(async {
        for disk in both() {
            let open = disk.open();
            write(&open.log, "a=1", Synced).await;
            write(&open.state, "a=1", Synced).await;
            disk.wipe();
            assert_eq!(open.log.flush().await, Err(EngineError::Closed));
            disk.lose_power();
            let open = disk.open();
            assert_eq!(all(&open.log).await + &all(&open.state).await, "");
            write(&open.state, "b=1", Synced).await;
            disk.lose_power();
            disk.lose_power();
            assert_eq!(all(&disk.open().state).await, "b=1");
        }
    });
}

/// What RocksDB has moved from its write-ahead log to other files is not lost by cutting the log.
#[test]
fn a_power_loss_after_rocksdb_has_begun_another_file_keeps_everything() {
    run(async {
        let [_, disk] = both();
        for round in 1..3 {
            let log = disk.open().log;
            for n in 0..70 {
                let mut batch = Batch::new();
                batch.put(&[n], &vec![round; 1 << 20]);
                log.write(batch, Buffered).await.expect("the disk works");
            }
            let (written, _) = disk.batches(Database::Log);
            disk.lose_power();
            assert_eq!(disk.batches(Database::Log), (written, written));
            let log = disk.open().log;
            let rows = log.scan(KeyRange::all(), ScanLimit::rows(99)).await.expect("the disk works");
            assert_eq!(rows.iter().filter(|row| row.1[0] == round).count(), 70);
        }
    });
}

/// Everything that a disk noted in a history of power losses.
fn digest(make: fn(u64) -> SimDisk, seed: u64) -> (u64, u64) {
    let history = move || {
        run(async {
            let disk = make(seed);
            disk.set_sync_time(Database::Log, SyncTime::Between(MILLI, MILLI * 50));
            for _ in 0..9 {
                let open = disk.open();
                write(&open.log, "a=1", Synced).await;
                write(&open.log, "b=1", Buffered).await;
                write(&open.state, "a=1", Buffered).await;
                drop(open.state.write(batch("b=1"), Synced));
                disk.lose_power();
            }
        });
        trace::digest()
    };
    // A trace is a thread's.
    std::thread::spawn(history).join().expect("no panic")
}

#[test]
fn a_seed_repeats() {
    let on_rocks = |seed| SimDisk::on_rocks(1, seed, Arc::<Told>::default()).expect("there is a place for temporary folders");
    for make in [in_memory as fn(u64) -> SimDisk, on_rocks] {
        assert_eq!(digest(make, 5), digest(make, 5));
        assert_ne!(digest(make, 5), digest(make, 6));
    }
}

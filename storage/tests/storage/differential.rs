//! The disk in memory and RocksDB answer alike, whatever is done to them.

use std::sync::Arc;

use bytes::Bytes;
use ordergrid_storage::{Batch, Durability, Engine, EngineView, KeyRange, MemEngine, Row, ScanLimit};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::disks::{Disk, RocksDisk};

#[derive(Clone, Debug)]
enum Step {
    Write {
        changes: Vec<Change>,
        synced: bool,
    },
    Get {
        keys: Vec<u8>,
    },
    Scan {
        from: u8,
        to: u8,
        rows: usize,
        bytes: usize,
    },
    TakeView,
    ScanView {
        from: u8,
        to: u8,
    },
    /// Everything is made durable, then the disks are stopped and opened again.
    Restart,
}

#[derive(Clone, Debug)]
enum Change {
    Put { key: u8, value: Vec<u8> },
    Delete { key: u8 },
    DeleteRange { from: u8, to: u8 },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..32_u8, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(key, value)| Change::Put { key, value }),
        1 => (0..32_u8).prop_map(|key| Change::Delete { key }),
        1 => (0..32_u8, 0..32_u8).prop_map(|(from, to)| Change::DeleteRange { from, to }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec(change(), 0..6);
    prop_oneof![
        6 => (changes, any::<bool>()).prop_map(|(changes, synced)| Step::Write { changes, synced }),
        2 => prop::collection::vec(0..32_u8, 0..5).prop_map(|keys| Step::Get { keys }),
        4 => (0..32_u8, 0..32_u8, 0..9_usize, 1..30_usize)
            .prop_map(|(from, to, rows, bytes)| Step::Scan { from, to, rows, bytes }),
        1 => Just(Step::TakeView),
        2 => (0..32_u8, 0..32_u8).prop_map(|(from, to)| Step::ScanView { from, to }),
        1 => Just(Step::Restart),
    ]
}

/// Keys of several lengths, in the order of their numbers.
fn key(number: u8) -> Bytes {
    [&b"key"[..], &vec![number / 4; 1 + usize::from(number % 4)]].concat().into()
}

fn batch(changes: &[Change]) -> Batch {
    let mut batch = Batch::new();
    for change in changes {
        match change {
            Change::Put { key: number, value } => batch.put(&key(*number), value),
            Change::Delete { key: number } => batch.delete(&key(*number)),
            Change::DeleteRange { from, to } => batch.delete_range(&key(*from), &key(*to)),
        }
    }
    batch
}

/// One disk and what is open on it.
struct Side {
    engine: Option<Arc<dyn Engine>>,
    view: Option<Arc<dyn EngineView>>,
    /// Last, so that everything on it is closed before.
    disk: Box<dyn Disk>,
}

/// What a step answers.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Values(Vec<Option<Bytes>>),
    Rows(Vec<Row>, Vec<Row>),
}

impl Side {
    fn of(disk: impl Disk + 'static) -> Self {
        let engine = Some(disk.open());
        Self { disk: Box::new(disk), engine, view: None }
    }

    async fn take(&mut self, step: &Step) -> Answer {
        let engine = self.engine.clone().expect("open between steps");
        match step {
            Step::Write { changes, synced } => {
                let durability = if *synced { Durability::Synced } else { Durability::Buffered };
                engine.write(batch(changes), durability).await.expect("the disk works");
                Answer::Done
            }
            Step::Get { keys } => {
                let keys = keys.iter().map(|number| key(*number)).collect();
                Answer::Values(engine.get_many(keys).await.expect("the disk works"))
            }
            Step::Scan { from, to, rows, bytes } => {
                let (range, limit) = (KeyRange::new(key(*from), key(*to)), ScanLimit { rows: *rows, bytes: *bytes });
                let forward = engine.scan(range.clone(), limit).await.expect("the disk works");
                Answer::Rows(forward, engine.scan_back(range, limit).await.expect("the disk works"))
            }
            Step::TakeView => {
                self.view = Some(engine.view().await.expect("the disk works"));
                Answer::Done
            }
            Step::ScanView { from, to } => {
                let Some(view) = &self.view else { return Answer::Done };
                let range = KeyRange::new(key(*from), key(*to));
                Answer::Rows(view.scan(range, ScanLimit::rows(99)).await.expect("the disk works"), Vec::new())
            }
            Step::Restart => {
                engine.flush().await.expect("the disk works");
                drop(engine);
                (self.engine, self.view) = (None, None);
                self.disk.stop();
                self.engine = Some(self.disk.open());
                Answer::Done
            }
        }
    }
}

async fn compare(steps: Vec<Step>, rocks: RocksDisk) -> TestCaseResult {
    let (mut memory, mut rocks) = (Side::of(MemEngine::new()), Side::of(rocks));
    let all = Step::Scan { from: 0, to: 31, rows: 99, bytes: 9_999 };
    for step in steps.into_iter().chain([all.clone(), Step::Restart, all]) {
        let (expected, found) = (memory.take(&step).await, rocks.take(&step).await);
        prop_assert_eq!(expected, found, "at {:?}", step);
    }
    Ok(())
}

fn run(steps: Vec<Step>, rocks: RocksDisk) -> TestCaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(compare(steps, rocks))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_the_rocks_log_answer_alike(steps in prop::collection::vec(step(), 1..40)) {
        run(steps, RocksDisk::log())?;
    }

    #[test]
    fn memory_and_the_rocks_state_answer_alike(steps in prop::collection::vec(step(), 1..40)) {
        run(steps, RocksDisk::state())?;
    }
}

/// Rows large enough for several blocks, durable, and reopened so that nothing is in a cache.
async fn filled(side: &mut Side) {
    let engine = side.engine.clone().expect("open between steps");
    let mut batch = Batch::new();
    (0..32).for_each(|number| batch.put(&key(number), &vec![number; 4_000]));
    engine.write(batch, Durability::Synced).await.expect("the disk works");
    drop(engine);
    side.take(&Step::Restart).await;
}

fn tables(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file of the database").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
}

#[tokio::test]
async fn what_is_erased_is_gone_and_the_rest_is_not() {
    for mut side in [Side::of(MemEngine::new()), Side::of(RocksDisk::state())] {
        filled(&mut side).await;
        let engine = side.engine.clone().expect("open between steps");
        engine.erase(&key(8), &key(24)).await.expect("the disk works");
        drop(engine);
        side.take(&Step::Restart).await;
        let engine = side.engine.clone().expect("open between steps");
        let left = engine.scan(KeyRange::all(), ScanLimit::rows(99)).await.expect("nothing is damaged");
        assert_eq!(left.len(), 16);
        assert!(left.iter().all(|(row, _)| row[..] < key(8)[..] || row[..] >= key(24)[..]));
    }
}

#[tokio::test]
async fn erasing_meets_the_damage_that_a_merge_would() {
    let rocks = RocksDisk::state();
    let folder = rocks.folder().to_owned();
    let mut side = Side::of(rocks);
    filled(&mut side).await;
    (side.engine, side.view) = (None, None);
    flip_a_bit(&folder);
    let engine = ordergrid_storage::RocksEngine::open_state(&folder).expect("it opens");
    let erased = engine.erase(&key(8), &key(24)).await.expect_err("the damage is in between");
    assert!(erased.is_damage(), "{erased}");
    drop(engine);
    assert!(ordergrid_storage::RocksEngine::open_state(&folder).err().expect("it must not be opened again").is_damage());
}

/// Damages the rows in the middle, on either disk.
type Damage = (&'static str, fn(&std::path::Path));

fn flip_a_bit(folder: &std::path::Path) {
    for file in tables(folder) {
        let mut bytes = std::fs::read(&file).expect("a file of the database");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        std::fs::write(&file, bytes).expect("nobody has it open");
    }
}

fn cut_half(folder: &std::path::Path) {
    for file in tables(folder) {
        let half = std::fs::metadata(&file).expect("a file of the database").len() / 2;
        let file = std::fs::OpenOptions::new().write(true).open(file).expect("nobody has it open");
        file.set_len(half).expect("it is ours");
    }
}

fn remove(folder: &std::path::Path) {
    tables(folder).into_iter().for_each(|file| std::fs::remove_file(file).expect("it is ours"));
}

#[tokio::test]
async fn both_call_damage_damage() {
    let cases: [Damage; 3] = [("a flipped bit", flip_a_bit), ("a file that is cut", cut_half), ("a missing file", remove)];
    for (name, damage) in cases {
        let rocks = RocksDisk::state();
        let folder = rocks.folder().to_owned();
        let mut rocks = Side::of(rocks);
        filled(&mut rocks).await;
        (rocks.engine, rocks.view) = (None, None);
        damage(&folder);
        let found = match ordergrid_storage::RocksEngine::open_state(&folder) {
            Ok(engine) => engine.scan(KeyRange::all(), ScanLimit::rows(99)).await.map(drop),
            Err(error) => Err(error),
        };
        let found = found.expect_err(name);
        assert!(found.is_damage(), "{name}: {found}");

        let memory = MemEngine::new();
        let mut side = Side::of(memory.clone());
        filled(&mut side).await;
        assert_eq!(memory.damage(&KeyRange::new(key(15), key(17))), 2);
        let engine = side.engine.clone().expect("open between steps");
        let expected = engine.scan(KeyRange::all(), ScanLimit::rows(99)).await.expect_err("two rows are damaged");
        assert!(expected.is_damage(), "{expected}");
        assert!(engine.get_many(vec![key(15)]).await.expect_err("it is damaged").is_damage());
        assert!(
            engine.view().await.unwrap().scan(KeyRange::all(), ScanLimit::rows(99)).await.expect_err("here too").is_damage()
        );
        assert!(engine.get_many(vec![key(14)]).await.is_ok(), "its neighbour is whole");
        side.take(&Step::Restart).await;
        let engine = side.engine.clone().expect("open between steps");
        assert!(engine.get_many(vec![key(16)]).await.is_err(), "a restart mends nothing");
        engine.write(batch(&[Change::DeleteRange { from: 0, to: 31 }]), Durability::Synced).await.expect("writes go on");
        assert!(engine.scan(KeyRange::all(), ScanLimit::rows(99)).await.is_ok(), "what is gone is not damaged");
    }
}

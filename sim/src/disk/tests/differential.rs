//! The disk in memory and the one on RocksDB answer alike, whatever is written, and wherever they crash.

use futures::future::BoxFuture;
use ordergrid_storage::Row;

use super::super::platter::Kept;
use super::*;
use crate::dice::Dice;

const DATABASES: [Database; 2] = [Database::Log, Database::State];

/// One of the two disks, and what is open on it.
struct Side {
    disk: SimDisk,
    open: OpenDisk,
    views: Vec<Arc<dyn ordergrid_storage::EngineView>>,
}

/// What the operations of a history came to.
#[derive(Default)]
struct Reached {
    losses: [u64; 2],
    torn: u64,
    kills: u64,
}

impl Side {
    fn new(disk: SimDisk) -> Self {
        let open = disk.open();
        Self { disk, open, views: Vec::new() }
    }

    fn engine(&self, database: Database) -> &Arc<dyn Engine> {
        match database {
            Database::Log => &self.open.log,
            Database::State => &self.open.state,
        }
    }

    fn reopen(&mut self) {
        self.views.clear();
        self.open = self.disk.open();
    }

    fn lose(&self, database: Database, kept: Kept) -> u64 {
        let mut disk = self.disk.shared.lock();
        disk.end();
        disk.platter(database).lose(kept)
    }
}

/// Does the same on both sides, and compares the answers.
fn same<T: PartialEq + std::fmt::Debug>(sides: &mut [Side; 2], mut act: impl FnMut(&mut Side) -> T) -> T {
    let [memory, rocks] = sides;
    let (expected, found) = (act(memory), act(rocks));
    assert_eq!(expected, found, "memory says the first, RocksDB the second");
    expected
}

fn now<T>(call: BoxFuture<'_, T>) -> Option<T> {
    call.now_or_never()
}

fn drawn_batch(dice: &mut Dice) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..dice.below(5) {
        let key = format!("key{:02}", dice.below(32));
        match dice.below(6) {
            0 => batch.delete(key.as_bytes()),
            1 => batch.delete_range(key.as_bytes(), format!("key{:02}", dice.below(32)).as_bytes()),
            // Also longer than a block of the write-ahead log, which is 32 KiB.
            2 => batch.put(key.as_bytes(), &vec![dice.below(256) as u8; dice.index(100_000)]),
            _ => batch.put(key.as_bytes(), &dice.below(u64::MAX).to_le_bytes()),
        }
    }
    batch
}

fn drawn_range(dice: &mut Dice) -> KeyRange {
    KeyRange::new(format!("key{:02}", dice.below(32)), format!("key{:02}", dice.below(34)))
}

fn rows(side: &Side, database: Database) -> Vec<Row> {
    let scan = side.engine(database).scan(KeyRange::all(), ScanLimit::rows(99));
    now(scan).expect("reads take no time").expect("the disk works")
}

async fn step(dice: &mut Dice, sides: &mut [Side; 2], reached: &mut Reached) {
    let database = *dice.pick(&DATABASES);
    match dice.below(20) {
        0..8 => {
            let (batch, synced) = (drawn_batch(dice), dice.percent(30));
            let durability = if synced { Synced } else { Buffered };
            same(sides, |side| now(side.engine(database).write(batch.clone(), durability)));
        }
        8 => {
            same(sides, |side| now(side.engine(database).flush()));
        }
        9..11 => {
            let (range, limit) = (drawn_range(dice), ScanLimit { rows: dice.index(9), bytes: dice.index(300) });
            same(sides, |side| now(side.engine(database).scan(range.clone(), limit)));
            same(sides, |side| now(side.engine(database).scan_back(range.clone(), limit)));
        }
        11 => {
            for side in sides.iter_mut() {
                let view = now(side.engine(database).view()).expect("reads take no time").expect("the disk works");
                side.views.push(view);
            }
        }
        12 if !sides[0].views.is_empty() => {
            let (number, range) = (dice.index(sides[0].views.len()), drawn_range(dice));
            same(sides, |side| now(side.views[number].scan(range.clone(), ScanLimit::rows(5))));
        }
        13..18 => pass(Duration::from_micros(dice.below(900))).await,
        18 => {
            reached.kills += 1;
            sides.iter_mut().for_each(|side| side.disk.kill());
            if dice.percent(70) {
                sides.iter_mut().for_each(Side::reopen);
            } else {
                lose_power(dice, sides, reached);
            }
        }
        _ => lose_power(dice, sides, reached),
    }
}

/// RocksDB says how much it keeps, of the state in particular; memory must be able to keep as much.
fn lose_power(dice: &mut Dice, sides: &mut [Side; 2], reached: &mut Reached) {
    for (database, losses) in DATABASES.into_iter().zip(&mut reached.losses) {
        let (written, durable) = same(sides, |side| side.disk.batches(database));
        let torn = dice.below(2) * dice.below(1 << 32);
        let kept = sides[1].lose(database, Kept { batches: durable + dice.below(written - durable + 1), torn });
        assert!(durable <= kept, "{database}: {durable} batches were durable, {kept} are left");
        assert_eq!(sides[0].lose(database, Kept { batches: kept, torn }), kept);
        *losses += u64::from(kept < written);
        reached.torn += u64::from(kept < written && torn > 0 && database == Database::Log);
    }
    sides.iter_mut().for_each(Side::reopen);
    for database in DATABASES {
        same(sides, |side| rows(side, database));
        same(sides, |side| side.disk.batches(database));
    }
}

#[test]
fn memory_and_rocksdb_answer_alike_through_crashes() {
    let mut reached = Reached::default();
    for seed in 0..6 {
        run(async {
            let mut dice = Dice::new(seed);
            let mut sides = both().map(Side::new);
            for _ in 0..150 {
                step(&mut dice, &mut sides, &mut reached).await;
            }
            lose_power(&mut dice, &mut sides, &mut reached);
        });
    }
    let Reached { losses: [log, state], torn, kills } = reached;
    assert!(log > 9 && state > 9 && torn > 4 && kills > 9, "too little was reached: {log} {state} {torn} {kills}");
}

//! One database of a disk: what is written, what of it is durable, what goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use ordergrid_storage::{
    Batch, Durability, Engine, EngineError, EngineStats, EngineView, Fault, KeyRange, Operation, Row, ScanLimit,
};
use xxhash_rust::xxh3::Xxh3;

use super::faults::{Faults, ReadTime, SyncTime};
use super::medium::{Medium, answer_of, index};
use super::{Database, DiskWatch};
use crate::dice::Dice;
use crate::history::SimTime;
use crate::trace;

pub(super) struct Platter {
    pub(super) faults: Faults,
    node: u64,
    database: Database,
    dice: Dice,
    watch: Arc<dyn DiskWatch>,
    medium: Box<dyn Medium>,
    /// Batches written.
    written: u64,
    /// Batches of them that survive a power loss.
    durable: u64,
    /// Syncs asked for and not ended, in order; they end in order.
    syncs: VecDeque<Sync>,
    /// Syncs ever asked for.
    asked: u64,
    /// The first failure of this opening. Nothing is written after it.
    failed: Option<EngineError>,
    stats: EngineStats,
    /// Views of this opening. They are here, not with their users, so that they end with it.
    views: BTreeMap<u64, Arc<dyn EngineView>>,
    views_taken: u64,
    /// What was vouched for lately, of which a power loss may keep any.
    vouches: VecDeque<Bytes>,
    /// Another database was here before, which could not be opened.
    vanished: bool,
    /// A copy, and how many batches it has.
    copy: Option<(Box<dyn Medium>, u64)>,
}

/// So many vouches are kept for a power loss to choose from.
const VOUCHES: usize = 32;

/// A sync on its way.
struct Sync {
    number: u64,
    /// The batches that were written when it was asked for.
    batches: u64,
    ends: SimTime,
}

/// What a loss of power leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// So many batches.
    pub(super) batches: u64,
    /// Decides how much of the next one's record; nothing if zero.
    pub(super) torn: u64,
}

impl Platter {
    pub(super) fn new(node: u64, database: Database, seed: u64, watch: Arc<dyn DiskWatch>, medium: Box<dyn Medium>) -> Self {
        // The two databases of a disk must not draw the same.
        let dice = Dice::new(seed.wrapping_mul(2).wrapping_add(u64::from(database == Database::State)));
        Self {
            faults: Faults::new(),
            node,
            database,
            dice,
            watch,
            medium,
            written: 0,
            durable: 0,
            syncs: VecDeque::new(),
            asked: 0,
            failed: None,
            stats: EngineStats::default(),
            views: BTreeMap::new(),
            views_taken: 0,
            vouches: VecDeque::new(),
            vanished: false,
            copy: None,
        }
    }

    pub(super) fn open(&mut self) {
        if let Err(error) = self.medium.open() {
            panic!("disk {} {}: what is on the disk does not open: {error}", self.node, self.database);
        }
        trace::note(format_args!("disk {} {}: opened with {} batches", self.node, self.database, self.written));
        self.syncs.clear();
        self.make_durable(self.written);
        self.watch.opened(self.node, self.database);
    }

    /// The process ends. Syncs on their way go on: the operating system does them.
    pub(super) fn close(&mut self) {
        self.settle();
        self.views.clear();
        self.medium.close();
        self.failed = None;
        self.stats = EngineStats { disk_bytes: self.stats.disk_bytes, ..EngineStats::default() };
    }

    /// All or nothing often, else any prefix.
    pub(super) fn draw_kept(&mut self) -> Kept {
        let torn = if self.dice.percent(50) { self.dice.below(1 << 32) } else { 0 };
        Kept { batches: self.draw_from(self.durable), torn }
    }

    pub(super) fn draw_buffers_kept(&mut self) -> Kept {
        let asked = self.syncs.back().map_or(self.durable, |sync| sync.batches);
        Kept { batches: self.draw_from(asked), torn: 0 }
    }

    fn draw_from(&mut self, least: u64) -> u64 {
        match self.dice.below(4) {
            0 => least,
            1 => self.written,
            _ => least + self.dice.below(self.written - least + 1),
        }
    }

    /// The power was lost, or a process with its buffers; answers how many batches are left.
    pub(super) fn lose(&mut self, kept: Kept) -> u64 {
        let before = self.written;
        self.written = self.medium.lose(kept.batches, kept.torn);
        assert!(
            self.durable <= self.written && self.written <= before,
            "a power loss must keep what was durable, and no more than all"
        );
        self.syncs.clear();
        trace::note(format_args!("disk {} {}: {} of {before} batches are left", self.node, self.database, self.written));
        self.watch.lost(self.node, self.database, self.written);
        self.durable = self.written;
        self.watch.durable(self.node, self.database, self.durable);
        self.written
    }

    /// The power was lost: what was vouched for last may not have reached the disk.
    pub(super) fn lose_vouches(&mut self) {
        if self.vouches.is_empty() {
            return;
        }
        let kept = self.dice.below(self.vouches.len() as u64);
        self.vouches.truncate(index(kept) + 1);
        self.medium.keep_older_vouch(self.vouches[index(kept)].clone());
    }

    /// A bit of what the last opening wrote has flipped, so far into it: what comes after cannot be read, though it was durable.
    pub(super) fn rot(&mut self, permille: u64) {
        self.settle();
        let from = self.medium.safe_from_rot().min(self.durable);
        let kept = from + (self.durable - from) * permille.min(999) / 1_000;
        if kept == self.durable {
            return;
        }
        let before = self.written;
        self.written = self.medium.rot(kept);
        if self.written == before {
            return;
        }
        self.syncs.clear();
        trace::note(format_args!(
            "disk {} {}: a bit has flipped, {} of {before} batches can be read",
            self.node, self.database, self.written
        ));
        self.durable = self.written;
        self.watch.rotted(self.node, self.database, self.written);
    }

    /// Answers whether there is a copy.
    pub(super) fn keep_copy(&mut self) -> bool {
        self.settle();
        self.copy = self.medium.copy().map(|copy| (copy, self.written));
        if self.copy.is_some() {
            trace::note(format_args!("disk {} {}: copied with {} batches", self.node, self.database, self.written));
            self.watch.copied(self.node, self.database);
        }
        self.copy.is_some()
    }

    pub(super) fn put_back(&mut self) {
        let (medium, batches) = self.copy.take().expect("a copy was taken");
        trace::note(format_args!("disk {} {}: put back, {batches} of {} batches", self.node, self.database, self.written));
        self.medium = medium;
        (self.written, self.durable) = (batches, batches);
        self.vouches.clear();
        self.syncs.clear();
        self.watch.put_back(self.node, self.database);
    }

    /// Leaves a vouch, after the sync of what it vouches for.
    pub(super) fn vouch(&mut self, vouch: Bytes) -> Result<(), EngineError> {
        if self.vouches.len() == VOUCHES {
            self.vouches.pop_front();
        }
        self.vouches.push_back(vouch.clone());
        self.medium.vouch(vouch)
    }

    pub(super) fn vouched(&self) -> Option<Bytes> {
        self.medium.vouched()
    }

    pub(super) fn keep(&mut self) -> Result<(), EngineError> {
        self.medium.keep()
    }

    /// It cannot be opened any more: an empty one is put in its place.
    pub(super) fn vanish(&mut self) {
        self.empty();
        self.vanished = true;
        trace::note(format_args!("disk {} {}: cannot be opened any more, and is begun anew", self.node, self.database));
        self.watch.vanished(self.node, self.database);
    }

    pub(super) fn has_vanished(&self) -> bool {
        self.vanished
    }

    fn empty(&mut self) {
        self.medium.wipe();
        self.vouches.clear();
        (self.written, self.durable) = (0, 0);
        self.syncs.clear();
        self.stats = EngineStats::default();
    }

    pub(super) fn wipe(&mut self) {
        self.empty();
        self.vanished = false;
        trace::note(format_args!("disk {} {}: wiped", self.node, self.database));
        self.watch.lost(self.node, self.database, 0);
    }

    pub(super) fn batches(&mut self) -> (u64, u64) {
        self.settle();
        (self.written, self.durable)
    }

    pub(super) fn set_sync_time(&mut self, time: SyncTime) {
        self.faults.sync_time = time;
    }

    pub(super) fn set_read_time(&mut self, time: ReadTime) {
        self.faults.reads = time;
    }

    /// When what is read now is handed out, if not at once.
    pub(super) fn read_ends(&mut self) -> Option<SimTime> {
        Some(trace::now().after(self.faults.reads.draw(&mut self.dice)?))
    }

    pub(super) fn stall(&mut self, until: SimTime) {
        self.settle();
        self.faults.stalled_until = until;
        for sync in &mut self.syncs {
            sync.ends = sync.ends.max(until);
        }
    }

    pub(super) fn note_faults(&self) {
        trace::note(format_args!("disk {} {}: {:?}", self.node, self.database, self.faults));
    }

    /// Writes `batch`. Of a synced write, answers the number of the sync that must end first.
    pub(super) fn write(&mut self, batch: Batch, durability: Durability) -> Result<Option<u64>, EngineError> {
        self.settle();
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let fault = self.faults.strike_write();
        if let Some((Fault::NotWritten, why)) = fault {
            return Err(self.fail(EngineError::Disk(why.to_owned())));
        }
        // A sync that fails may have synced nothing.
        let durability = if fault.is_some() { Durability::Buffered } else { durability };
        if let Err(error) = self.put(batch, durability) {
            return Err(self.fail(error));
        }
        if let Some((Fault::NotSynced, why)) = fault {
            return Err(self.fail(EngineError::Disk(why.to_owned())));
        }
        Ok((durability == Durability::Synced).then(|| self.ask_sync()))
    }

    fn put(&mut self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if batch.is_empty() {
            return self.medium.write(batch, durability);
        }
        let bytes = batch.bytes() as u64;
        self.medium.write(batch.clone(), durability)?;
        self.stats.written_bytes += bytes;
        self.stats.disk_bytes += bytes;
        let (number, changes, hash) = (self.written, batch.len(), hash_of(&batch));
        trace::note(format_args!("disk {} {}: batch {number}, {changes} changes {hash:016x}", self.node, self.database));
        self.written += 1;
        self.watch.wrote(self.node, self.database, &batch);
        Ok(())
    }

    fn fail(&mut self, error: EngineError) -> EngineError {
        trace::note(format_args!("disk {} {}: {error}", self.node, self.database));
        self.failed = Some(error.clone());
        error
    }

    fn ask_sync(&mut self) -> u64 {
        let ends = trace::now().after(self.faults.sync_time.draw(&mut self.dice)).max(self.faults.stalled_until);
        let ends = self.syncs.back().map_or(ends, |before| ends.max(before.ends));
        let number = self.asked;
        self.asked += 1;
        self.syncs.push_back(Sync { number, batches: self.written, ends });
        number
    }

    /// When the sync `number` ends; `None` if it has.
    pub(super) fn sync_ends(&mut self, number: u64) -> Option<SimTime> {
        self.settle();
        self.syncs.iter().find(|sync| sync.number == number).map(|sync| sync.ends)
    }

    /// Syncs whose time has come have ended.
    fn settle(&mut self) {
        let now = trace::now();
        while let Some(sync) = self.syncs.front().filter(|sync| sync.ends <= now) {
            let batches = sync.batches;
            self.syncs.pop_front();
            self.stats.syncs += 1;
            self.make_durable(batches);
        }
    }

    fn make_durable(&mut self, batches: u64) {
        self.medium.settle(batches);
        self.durable = batches;
        trace::note(format_args!("disk {} {}: {batches} batches are durable", self.node, self.database));
        self.watch.durable(self.node, self.database, batches);
    }

    pub(super) fn get_many(&mut self, source: Source, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, EngineError> {
        let asked = keys.clone();
        let mut values = self.read(source, |reader| match reader {
            Reader::Engine(engine) => engine.get_many(asked),
            Reader::View(view) => view.get_many(asked),
        })?;
        let found = keys.iter().zip(&mut values).filter_map(|(key, value)| Some((key, value.as_mut()?)));
        self.faults.strike_values((self.node, self.database), found);
        Ok(values)
    }

    /// What memory tells of a key: right, or nothing.
    pub(super) fn may_have(&mut self, key: &[u8]) -> bool {
        let there = self.medium.engine().is_none_or(|engine| engine.may_have(key));
        there || self.dice.percent(10)
    }

    /// The rows that `scan` reads.
    pub(super) fn rows(
        &mut self,
        source: Source,
        scan: impl FnOnce(Reader<'_>) -> BoxFuture<'_, Result<Vec<Row>, EngineError>>,
    ) -> Result<Vec<Row>, EngineError> {
        let mut rows = self.read(source, scan)?;
        self.faults.strike_values((self.node, self.database), rows.iter_mut().map(|(key, value)| (&*key, value)));
        Ok(rows)
    }

    fn read<T>(
        &mut self,
        source: Source,
        read: impl FnOnce(Reader<'_>) -> BoxFuture<'_, Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.faults.strike_read().inspect_err(|error| {
            trace::note(format_args!("disk {} {}: {error}", self.node, self.database));
        })?;
        let reader = match source {
            Source::Now => self.medium.engine().map(Reader::Engine),
            Source::View(number) => self.views.get(&number).map(|view| Reader::View(view.as_ref())),
        };
        answer_of(read(reader.ok_or(EngineError::Closed)?))
    }

    /// Freezes what there is now, and answers the number of the view.
    pub(super) fn take_view(&mut self) -> Result<u64, EngineError> {
        let engine = self.medium.engine().ok_or(EngineError::Closed)?;
        let view = answer_of(engine.view())?;
        let number = self.views_taken;
        self.views_taken += 1;
        self.views.insert(number, view);
        Ok(number)
    }

    pub(super) fn drop_view(&mut self, number: u64) {
        self.views.remove(&number);
    }

    /// Up to `most` neighbouring rows are damaged, the first of them the one that `choice` picks; answers how many.
    pub(super) fn damage_rows(&mut self, choice: u64, most: usize) -> usize {
        let Some(engine) = self.medium.engine() else { return 0 };
        let Ok(rows) = answer_of(engine.scan(KeyRange::all(), ScanLimit::rows(usize::MAX))) else { return 0 };
        let Some(last) = rows.len().checked_sub(1) else { return 0 };
        let first = usize::try_from(choice % rows.len() as u64).expect("below the number of rows");
        let end = rows.get(first + most).map(|row| row.0.clone());
        let range = KeyRange { from: rows[first.min(last)].0.clone(), to: end };
        let count = self.medium.damage(&range);
        trace::note(format_args!("disk {} {}: {count} rows from {:02x} on are damaged", self.node, self.database, range.from));
        count
    }

    pub(super) fn stats(&mut self) -> EngineStats {
        self.settle();
        self.stats
    }
}

/// Where to read.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// What there is now.
    Now,
    /// A view.
    View(u64),
}

/// What reads.
pub(super) enum Reader<'a> {
    Engine(&'a dyn Engine),
    View(&'a dyn EngineView),
}

fn hash_of(batch: &Batch) -> u64 {
    let mut hash = Xxh3::new();
    for operation in batch.operations() {
        let (verb, first, second): (u8, &[u8], &[u8]) = match operation {
            Operation::Put { key, value } => (0, key, value),
            Operation::Delete { key } => (1, key, &[]),
            Operation::DeleteRange { from, to } => (2, from, to),
        };
        hash.update(&[verb]);
        hash.update(&(first.len() as u64).to_le_bytes());
        hash.update(first);
        hash.update(second);
    }
    hash.digest()
}

//! Memory and store: start, checkpoint, cold rows, hash (rules 26 to 28).

use super::{NEAR, ShardMachine};
use crate::audit::Audit;
use crate::encoding::{BytesError, encode, encoded, read_row};
use crate::law::Law;
use crate::rows::kinds::{Mark, Meta, OrderRow};
use crate::rows::table::Value;
use crate::rows::timers::TimerScan;
use crate::rows::{
    ATTEMPT, LIST, MARK, META, ORDER, OUTBOX, REPAIR, RESIDENT, RowKey, RowSink, SKU, STREAM_IN, STREAM_OUT, TIMER,
    listed_order, row_hash,
};
use crate::sku::Sku;

impl ShardMachine {
    /// Tags of the tables whose rows must all be given to [`ShardMachine::restore`] at start: the first byte of the key.
    #[must_use]
    pub fn resident_tables() -> &'static [u8] {
        &RESIDENT
    }

    /// Takes one row from the store, at start, before the first entry, each row once. Rows of other tables may be given
    /// too: they are then warm. With the first row every table counts as possibly cold.
    ///
    /// # Errors
    /// The row cannot be read: stop the process.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        self.set_cold();
        match key.first().copied().ok_or(BytesError::Key)? {
            META => {
                self.meta = read_row::<Meta>(value)?;
                self.rows.restore_sum(self.meta.sum);
            }
            TIMER => self.timers.restore(key, value)?,
            OUTBOX => drop(self.outbox.restore(key, value)?),
            STREAM_OUT => drop(self.streams_out.restore(key, value)?),
            STREAM_IN => drop(self.streams_in.restore(key, value)?),
            ATTEMPT => drop(self.attempts.restore(key, value)?),
            MARK => {
                let mark = self.marks.restore(key, value)?;
                self.index_mark(mark);
            }
            REPAIR => {
                let number = self.repairs.restore(key, value)?;
                self.scale.add(*self.repairs.get(&number).expect("the repair was just restored"));
            }
            LIST => {
                listed_order(key)?;
                self.lists.set_partial();
            }
            _ => drop(self.admit(RowKey::new(key), Some(value), self.load_epoch())),
        }
        Ok(())
    }

    fn index_mark(&mut self, (attempt, sku): crate::rows::keys::MarkKey) {
        match self.marks.get(&(attempt, sku.clone())).expect("the mark was just restored") {
            Mark::Tentative { granted_at, .. } => self.asking.insert((*granted_at, attempt, sku)),
            Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => self.ending.insert((*valid_until, attempt, sku)),
        };
    }

    /// The store may hold rows that are not in memory. [`ShardMachine::restore`] does this by itself.
    pub fn set_cold(&mut self) {
        self.rows.set_cold();
        self.lists.set_partial();
        self.timers.set_cold();
    }

    /// Every row of the store has been given to [`ShardMachine::restore`]: nothing is cold until something is evicted.
    pub fn set_warm(&mut self) {
        self.rows.set_warm();
        self.timers.set_warm();
    }

    /// Names the moment of a read from the store, taken before the read begins (rule 28).
    #[must_use]
    pub fn load_epoch(&self) -> u64 {
        self.rows.epoch()
    }

    /// Rule 28: takes a row that was read from the store at `epoch`, `None` when the store has no such row. True when
    /// the row's place is known now; false when a checkpoint or an eviction has begun since: read it again.
    pub fn admit(&mut self, key: RowKey, value: Option<&[u8]>, epoch: u64) -> bool {
        let hash = value.map_or(0, |value| row_hash(key.hash(), value));
        self.rows.admit(key, value.map(|value| Value::Bytes(value.into())), hash, epoch)
    }

    /// Rule 28 for timers: takes the rows that a scan found in the store, no row at all being the end of the table. True
    /// when they are known now; false when what was read may be too old: ask [`ShardMachine::missing_timers`] again.
    ///
    /// # Errors
    /// A row cannot be read: stop the process.
    pub fn admit_timers<'a>(
        &mut self,
        scan: &TimerScan,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<bool, BytesError> {
        self.timers.admit(scan, rows)
    }

    /// Rule 26: begins a checkpoint of everything that changed since the last one began, the applied position included,
    /// for one durable batch. [`ShardMachine::freeze_more`] hands its rows out, while entries may be applied in between.
    /// Rows stay in memory. One checkpoint at a time: call [`ShardMachine::frozen_durable`] before the next.
    pub fn freeze(&mut self) {
        self.rows.freeze();
        self.lists.freeze();
        self.timers.freeze();
        self.outbox.freeze();
        self.streams_out.freeze();
        self.streams_in.freeze();
        self.attempts.freeze();
        self.marks.freeze();
        self.repairs.freeze();
        self.frozen = Some(self.meta);
    }

    /// Hands out rows of the checkpoint that was begun, as they were then, after looking at `limit` rows of a table at the
    /// most. True once that was all.
    pub fn freeze_more(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        let scratch = &mut self.scratch;
        let all = self.rows.freeze_more(limit, out)
            && self.lists.freeze_more(limit, out)
            && self.timers.freeze_more(limit, out)
            && self.outbox.freeze_more(limit, scratch, out)
            && self.streams_out.freeze_more(limit, scratch, out)
            && self.streams_in.freeze_more(limit, scratch, out)
            && self.attempts.freeze_more(limit, scratch, out)
            && self.marks.freeze_more(limit, scratch, out)
            && self.repairs.freeze_more(limit, scratch, out);
        if let Some(frozen) = self.frozen.take_if(|_| all) {
            let sums = [self.rows.frozen_sum(), self.lists.frozen_sum(), self.timers.frozen_sum()];
            let meta = Meta { sum: sums.into_iter().fold(0, u64::wrapping_add), ..frozen };
            out(&[META], Some(encode(scratch, &meta)));
        }
        all
    }

    /// A whole checkpoint in one go.
    pub fn freeze_all(&mut self, out: RowSink<'_>) {
        self.freeze();
        self.freeze_more(usize::MAX, out);
    }

    /// What the last freeze handed out is in the store and will survive a crash.
    pub fn frozen_durable(&mut self) {
        self.rows.durable();
        self.lists.durable();
        self.timers.durable();
    }

    /// Lets timers leave memory that the store has and that are not due soon, after looking at `limit` of them at the most;
    /// true once those have left that may. Whatever the budget: only a tick needs them, and says so before. Changes speed,
    /// never results.
    pub fn drop_timers(&mut self, limit: usize) -> bool {
        self.timers.leave(self.meta.time.after(NEAR), self.meta.counts.timers, limit)
    }

    /// Rough size of what the next freeze hands out.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.rows.dirty_bytes()
            + self.lists.dirty_bytes()
            + self.timers.dirty_bytes()
            + self.outbox.dirty_bytes()
            + self.attempts.dirty_bytes()
            + self.marks.dirty_bytes()
    }

    /// Rough size of everything in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.rows.resident_bytes() + self.always_bytes()
    }

    /// Rough size of the tables that the budget has no say in.
    fn always_bytes(&self) -> u64 {
        // Marks stand in one more index.
        self.lists.resident_bytes()
            + self.timers.resident_bytes()
            + self.outbox.resident_bytes()
            + self.attempts.resident_bytes()
            + 2 * self.marks.resident_bytes()
    }

    /// Drops clean rows that were not used lately until memory is down to `target_bytes`, as far as that goes. Changes
    /// speed, never results.
    pub fn evict(&mut self, target_bytes: u64) {
        self.evict_some(target_bytes, self.eviction_steps());
    }

    /// The same bit by bit, `steps` of [`ShardMachine::eviction_steps`] at a time.
    pub fn evict_some(&mut self, target_bytes: u64, steps: usize) {
        self.rows.evict(target_bytes.saturating_sub(self.always_bytes()), steps);
    }

    /// Steps after which evicting is over, whatever there was to evict.
    #[must_use]
    pub fn eviction_steps(&self) -> usize {
        self.rows.eviction_steps()
    }

    /// ReplicasAgree: equal on all replicas at the same index, whatever is cold. Costs what changed since the last freeze.
    pub fn state_hash(&mut self) -> u64 {
        let scratch = &mut self.scratch;
        let sums = [
            self.rows.settle().wrapping_add(self.lists.sum()).wrapping_add(self.timers.sum()),
            self.outbox.settle(scratch),
            self.streams_out.settle(scratch),
            self.streams_in.settle(scratch),
            self.attempts.settle(scratch),
            self.marks.settle(scratch),
            self.repairs.settle(scratch),
        ];
        self.meta.sum = sums[0];
        let meta = Meta { position: crate::rows::kinds::At::default(), sum: 0, ..self.meta };
        sums.into_iter().fold(row_hash(0, encode(scratch, &meta)), u64::wrapping_add)
    }

    /// Every row in memory as the store would hold it, cold rows left out: what an audit of a warm shard reads.
    #[must_use]
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = vec![(vec![META], encoded(&self.meta))];
        // Whoever reads rows needs to know first what their times are.
        self.repairs.export(&mut out);
        for (key, value) in self.rows.iter() {
            let bytes = match value {
                Value::Bytes(bytes) => bytes.to_vec(),
                Value::Sku(sku) => encoded(sku.as_ref()),
                Value::Order(row) => encoded(row.as_ref()),
                Value::Gone => continue,
            };
            out.push((key.as_bytes().to_vec(), bytes));
        }
        self.lists.export(&mut out);
        self.timers.export(&mut out);
        self.outbox.export(&mut out);
        self.streams_out.export(&mut out);
        self.streams_in.export(&mut out);
        self.attempts.export(&mut out);
        self.marks.export(&mut out);
        out
    }

    /// Panics when a law is broken. Looks at every row in memory, and sums up holds when no row is cold: for tests and
    /// simulation; apply checks what it touches by itself.
    pub fn check(&self) {
        for (key, value) in self.rows.iter() {
            match (key.tag(), value) {
                (SKU, Value::Sku(sku)) => sku.check(),
                (SKU, Value::Bytes(bytes)) => read_row::<Sku>(bytes).expect("a SKU decodes").check(),
                (ORDER, Value::Order(row)) => row.order.check(),
                (ORDER, Value::Bytes(bytes)) => read_row::<OrderRow>(bytes).expect("an order decodes").order.check(),
                _ => {}
            }
        }
        let skus = self.rows.iter().filter(|(key, _)| key.tag() == SKU).count();
        assert_eq!(self.rows.skus(), skus as u64, "SKUs in memory are counted");
        self.check_marks();
        if self.rows.any_cold() {
            return;
        }
        let mut audit = Audit::new(self.config.shard, self.config.key_retention);
        if self.lists.is_partial() {
            audit.ignore_lists();
        }
        if self.timers.is_partial(self.meta.counts.timers) {
            audit.ignore_timers();
        }
        for (key, value) in self.rows() {
            audit.add(&key, &value);
        }
        let report = audit.finish();
        // One shard alone cannot judge what others hold for its orders.
        let broken: Vec<_> = report.violations().filter(|(law, _)| *law != Law::AllOrNothing).collect();
        assert!(broken.is_empty(), "shard {} breaks laws: {broken:?}", self.config.shard);
    }

    /// Every mark stands in its index once, and nothing else does: a restart builds the same.
    fn check_marks(&self) {
        for ((attempt, sku), mark) in self.marks.iter() {
            let indexed = match mark {
                Mark::Tentative { granted_at, .. } => self.asking.contains(&(*granted_at, *attempt, sku.clone())),
                Mark::Kept { valid_until, .. } | Mark::Ended { valid_until } => {
                    self.ending.contains(&(*valid_until, *attempt, sku.clone()))
                }
            };
            assert!(indexed, "{mark:?} of {attempt} at {sku} is in no index");
        }
        assert_eq!(self.marks.len(), self.asking.len() + self.ending.len(), "an index names marks that do not exist");
    }
}

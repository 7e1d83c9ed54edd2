//! Memory and store: start, checkpoint, cold rows, hash (rules 26 to 28).

use ordergrid_rows::Table;

use super::{NEAR, ShardMachine, TimerScan};
use crate::audit::Audit;
use crate::encoding::{BytesError, encode, encoded, read_row};
use crate::law::Law;
use crate::rows::kinds::{Meta, OrderRow};
use crate::rows::work::{Value, Work};
use crate::rows::{KEYED, META, ORDER, RowKey, RowSink, SKU, row_hash};
use crate::sku::Sku;

impl ShardMachine {
    /// Tags of the tables whose rows must all be given to [`ShardMachine::restore`] at start: the first byte of the key.
    #[must_use]
    pub fn resident_tables(&self) -> Vec<u8> {
        let resident = self.tables().into_iter().filter(|table| table.is_resident());
        [META].into_iter().chain(resident.flat_map(|table| table.tags().iter().copied())).collect()
    }

    /// Takes one row from the store, at start, before the first entry, each row once. Rows of other tables may be given
    /// too: they are then warm. With the first row every table counts as possibly cold.
    ///
    /// # Errors
    /// The row cannot be read: stop the process.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        self.set_cold();
        let tag = key.first().ok_or(BytesError::Key)?;
        if *tag == META {
            self.meta = read_row::<Meta>(value)?;
            self.rows.restore_sum(self.meta.sum);
            return Ok(());
        }
        let table = self.tables_mut().into_iter().find(|table| table.tags().contains(tag));
        table.ok_or(BytesError::Key)?.restore(key, value)
    }

    /// The store may hold rows that are not in memory. [`ShardMachine::restore`] does this by itself.
    pub fn set_cold(&mut self) {
        self.tables_mut().into_iter().for_each(Table::set_cold);
    }

    /// Every row of the store has been given to [`ShardMachine::restore`]: nothing is cold until something is evicted.
    pub fn set_warm(&mut self) {
        self.tables_mut().into_iter().for_each(Table::set_warm);
    }

    /// Names the moment of a read from the store, taken before the read begins (rule 28).
    #[must_use]
    pub fn load_epoch(&self) -> u64 {
        self.rows.epoch()
    }

    /// Rule 28: takes a row that was read from the store at `epoch`, `None` when the store has no such row. True when
    /// the row's place is known now; false when a checkpoint or an eviction has begun since: read it again.
    pub fn admit(&mut self, key: RowKey, value: Option<&[u8]>, epoch: u64) -> bool {
        self.rows.admit(key, value, epoch)
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
        self.timers.admit(&scan.0, rows)
    }

    /// Rule 26: begins a checkpoint of everything that changed since the last one began, the applied position included,
    /// for one durable batch. [`ShardMachine::checkpoint_step`] hands its rows out, while entries may be applied in between.
    /// Rows stay in memory. One checkpoint at a time: call [`ShardMachine::checkpoint_durable`] before the next.
    pub fn begin_checkpoint(&mut self) {
        self.tables_mut().into_iter().for_each(Table::begin_checkpoint);
        self.checkpoint = Some(self.meta);
    }

    /// Hands out rows of the checkpoint that was begun, as they were then, after looking at `limit` rows of a table at the
    /// most. True once that was all.
    pub fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        let all = self.tables_mut().into_iter().all(|table| table.checkpoint_step(limit, out));
        if let Some(begun) = self.checkpoint.take_if(|_| all) {
            let sums = self.tables().into_iter().map(Table::checkpoint_sum);
            let meta = Meta { sum: sums.fold(0, u64::wrapping_add), ..begun };
            out(&[META], Some(encode(&mut self.scratch, &meta)));
        }
        all
    }

    /// A whole checkpoint in one go.
    pub fn checkpoint_at_once(&mut self, out: RowSink<'_>) {
        self.begin_checkpoint();
        self.checkpoint_step(usize::MAX, out);
    }

    /// What the last checkpoint handed out is in the store and will survive a crash.
    pub fn checkpoint_durable(&mut self) {
        self.tables_mut().into_iter().for_each(Table::checkpoint_durable);
    }

    /// Lets timers leave memory that the store has and that are not due soon, after looking at `limit` of them at the most;
    /// true once those have left that may. Whatever the budget: only a tick needs them, and says so before. Changes speed,
    /// never results.
    pub fn evict_timers(&mut self, limit: usize) -> bool {
        self.timers.evict_step(self.meta.time.after(NEAR), self.meta.counts.timers, limit)
    }

    /// Rough size of what the next checkpoint hands out.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.tables().into_iter().map(|table| table.byte_counts().dirty).sum()
    }

    /// Rough size of everything in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.tables().into_iter().map(|table| table.byte_counts().resident).sum()
    }

    /// Drops clean rows that were not used lately until memory is down to `target_bytes`, as far as that goes. Changes
    /// speed, never results.
    pub fn evict(&mut self, target_bytes: u64) {
        self.evict_step(target_bytes, self.eviction_steps());
    }

    /// The same bit by bit, `steps` of [`ShardMachine::eviction_steps`] at a time.
    pub fn evict_step(&mut self, target_bytes: u64, steps: usize) {
        // The budget has no say in the other tables.
        let others = self.resident_bytes() - self.rows.byte_counts().resident;
        self.rows.evict_step(target_bytes.saturating_sub(others), steps);
    }

    /// Steps after which evicting is over, whatever there was to evict.
    #[must_use]
    pub fn eviction_steps(&self) -> usize {
        self.rows.eviction_steps()
    }

    /// ReplicasAgree: equal on all replicas at the same index, whatever is cold. Costs what changed since the last checkpoint began.
    pub fn state_hash(&mut self) -> u64 {
        let (mut stored, mut resident) = (0_u64, 0_u64);
        for table in self.tables_mut() {
            let sum = if table.is_resident() { &mut resident } else { &mut stored };
            *sum = sum.wrapping_add(table.state_sum());
        }
        self.meta.sum = stored;
        let meta = Meta { position: crate::rows::kinds::At::default(), sum: 0, ..self.meta };
        row_hash(0, encode(&mut self.scratch, &meta)).wrapping_add(stored).wrapping_add(resident)
    }

    /// Every row in memory as the store would hold it, cold rows left out: what an audit of a warm shard reads.
    #[must_use]
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = vec![(vec![META], encoded(&self.meta))];
        self.tables().into_iter().for_each(|table| table.export(&mut out));
        out
    }

    /// Panics when a law is broken. Looks at every row in memory, and sums up holds when no row is cold: for tests and
    /// simulation; apply checks what it touches by itself.
    pub fn check(&self) {
        for (key, value) in self.rows.iter() {
            match (key.tag(), value) {
                (SKU, Value::Decoded(Work::Sku(sku))) => sku.check(),
                (SKU, Value::Bytes(bytes)) => read_row::<Sku>(bytes).expect("a SKU decodes").check(),
                (ORDER, Value::Decoded(Work::Order(row))) => row.order.check(),
                (ORDER, Value::Bytes(bytes)) => read_row::<OrderRow>(bytes).expect("an order decodes").order.check(),
                _ => {}
            }
        }
        for table in KEYED {
            let rows = self.rows.iter().filter(|(key, _)| key.tag() == table).count();
            assert_eq!(self.rows.count(table), rows as u64, "rows of table {table} in memory are counted");
        }
        self.marks.check();
        self.kept.check();
        self.repairs.check();
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
}

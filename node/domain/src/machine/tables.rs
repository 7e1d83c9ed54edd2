//! The tables of a shard, each named once. Whatever concerns all of them goes through this list: checkpoints, start, hash,
//! export, memory.

use ordergrid_rows::Table;

use super::ShardMachine;

/// How many tables there are.
const TABLES: usize = 10;

/// Every table of a machine, which may be borrowed either way. A field of the machine that is not named here does not
/// compile, nor does one that is named and not listed (as a warning, which the checks refuse).
macro_rules! every_table {
    ($machine:expr) => {{
        let ShardMachine {
            // Whoever reads rows needs to know first what their times are.
            repairs,
            rows,
            lists,
            timers,
            outbox,
            streams_out,
            streams_in,
            attempts,
            marks,
            kept,
            // What is no table.
            config: _,
            meta: _,
            checkpoint: _,
            local: _,
            gathered: _,
            agreed: _,
            scratch: _,
            hashes: _,
        } = $machine;
        [repairs, rows, lists, timers, outbox, streams_out, streams_in, attempts, marks, kept]
    }};
}

impl ShardMachine {
    /// Every table.
    pub(super) fn tables(&self) -> [&dyn Table; TABLES] {
        every_table!(self)
    }

    /// Every table, to be changed.
    pub(super) fn tables_mut(&mut self) -> [&mut dyn Table; TABLES] {
        every_table!(self)
    }
}

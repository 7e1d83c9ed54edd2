//! What a shard remembers, as rows: keys and bytes. Decides which rows are in memory, in which form, what a checkpoint takes of
//! them while they go on changing, what may be evicted, and what they add to the state hash. What is in a row is its owner's
//! business: this crate knows nothing of orders.
//!
//! Pure, like the domain that uses it: no clock, no chance, no I/O, no unordered map. Reading the store is the owner's task: it
//! learns here which rows may be *cold*, which is in the store alone, loads them before it needs them, and admits them.
//!
//! [`Table`] says what every table can do. There are four: [`RowTable`] for rows that may be cold, [`Resident`] for small tables
//! that are always in memory, [`Timers`] and [`Lists`] for rows that are their keys alone. Read next: `row_table`, `checkpoint`,
//! `maps`.

mod checkpoint;
mod decoded;
pub mod encoding;
mod key;
mod lists;
mod maps;
mod resident;
mod row_table;
#[cfg(test)]
mod samples;
mod table;
mod timers;

pub use decoded::{Decoded, Kind};
pub use encoding::BytesError;
pub use key::{RowKey, TableKey, row_hash};
pub use lists::{ListKey, Lists};
pub use maps::RowAt;
pub use resident::{Resident, ResidentValue, RowIndex};
pub use row_table::{Lookup, RowTable, Traffic, Value};
pub use table::{ByteCounts, RowSink, Table};
pub use timers::{TimerKey, TimerScan, Timers};

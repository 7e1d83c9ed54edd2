//! How bytes survive: engines, the shared log, checkpoints, snapshots and framing.
//!
//! | Module | Decides |
//! |---|---|
//! | [`codec`] | what a frame looks like, on disk and on the wire |
//! | [`engine`] | what a disk promises, and the two that keep the promise: RocksDB and memory |
//! | [`log`] | how all Raft groups of a node share one log and one sync |
//! | [`state`] | how a replica's rows become durable all at once, and are replaced all at once |
//! | [`records`] | what a node writes down about itself |
//!
//! Nothing here knows what an entry or a row means. Start reading at [`engine`].

pub mod codec;
pub mod engine;
pub mod log;
mod metrics;
pub mod records;
pub mod state;

pub use codec::{FrameError, Kind};
pub use engine::{
    Batch, Durability, Engine, EngineError, EngineStats, EngineView, Fault, KeyRange, MemEngine, Operation, RocksBounds,
    RocksEngine, Row, RowSink, ScanLimit, ShowRows,
};
pub use log::{BoxError, EntryCodec, LogFailure, LogLimits, LogReader, LogStore, LogWriter, WriterLimits, WriterStats};
pub use metrics::Stage;
pub use records::{NodeRecords, RecordError};
pub use state::{ChangedRows, Install, StateError, StateRows, StateView};

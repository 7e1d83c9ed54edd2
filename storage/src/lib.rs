//! Durable storage: engines, the shared log, checkpoints, snapshots and framing.
//!
//! | Module | Decides |
//! |---|---|
//! | [`codec`] | the format of a frame, on disk and on the wire |
//! | [`engine`] | the guarantees of a disk, and two implementations: RocksDB and memory |
//! | [`log`] | how all Raft groups of a node share one log and one sync |
//! | [`state`] | how a replica's rows become durable atomically, and are replaced atomically |
//! | [`records`] | a node's records about itself |
//!
//! Nothing here interprets entries or rows. Start reading at [`engine`].

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

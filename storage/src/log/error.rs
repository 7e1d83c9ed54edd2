//! Errors of a log that cannot be read, in openraft's form.

use std::io;

use super::BoxError;
use crate::codec::FrameError;
use crate::engine::EngineError;

/// A log that cannot be trusted. The replica must be replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum DamagedLog {
    #[error("replica {replica}: entry {missing} is missing, the next one stored is {found:?}")]
    Hole { replica: u64, missing: u64, found: Option<u64> },
    #[error("replica {replica}: {what}: {reason}")]
    Frame { replica: u64, what: String, reason: FrameError },
    #[error("replica {replica}: {what} cannot be decoded: {reason}")]
    Body { replica: u64, what: String, reason: BoxError },
    #[error("replica {replica}: the key of an entry has {length} bytes")]
    Key { replica: u64, length: usize },
    #[error("replica {replica}: the entry stored at index {index} says it is {says}")]
    Index { replica: u64, index: u64, says: u64 },
    #[error("replica {replica}: its log was created anew, and its earlier promises are not known")]
    Forgotten { replica: u64 },
}

impl From<DamagedLog> for io::Error {
    fn from(damage: DamagedLog) -> Self {
        Self::new(io::ErrorKind::InvalidData, damage)
    }
}

pub(super) fn disk(error: EngineError) -> io::Error {
    io::Error::other(error)
}

/// The log writer has stopped. [`LogWriter::failed`](super::LogWriter::failed) has the reason.
pub(super) fn stopped() -> io::Error {
    io::Error::other("the log has stopped: nothing is written any more")
}

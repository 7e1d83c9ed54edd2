//! The payload of an entry: bytes, encoded once on the leader, and at most one decoded form per process.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

/// An encoded entry body with space for its decoded form.
///
/// The log, the network and the machine share one `Arc<Packed>`. Replication and the log writer read [`bytes`](Self::bytes),
/// apply reads [`decoded`](Self::decoded). The leader sets the decoded form when it creates the entry, so the leader never
/// decodes it.
pub struct Packed {
    bytes: Bytes,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
    proposed: OnceLock<Instant>,
}

impl Packed {
    /// An entry of which only the bytes are known, read from the log or the network.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self { bytes, decoded: OnceLock::new(), proposed: OnceLock::new() }
    }

    /// An entry that was just encoded from `decoded`.
    #[must_use]
    pub fn new(bytes: Bytes, decoded: Arc<dyn Any + Send + Sync>) -> Self {
        Self { bytes, decoded: OnceLock::from(decoded), proposed: OnceLock::new() }
    }

    /// The encoded body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Sets the time at which this node proposed the entry. A retry keeps the first time.
    pub(crate) fn proposes(&self, at: Instant) {
        self.proposed.set(at).ok();
    }

    /// Whether this process proposed the entry: callers that wait for its outcome are registered in its decoded form.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.proposed.get().is_some()
    }

    /// The time at which this process proposed the entry; `None` if another node or an earlier process did.
    pub(crate) fn proposed(&self) -> Option<Instant> {
        self.proposed.get().copied()
    }

    /// The decoded form, made by `decode` if this process does not have it yet.
    ///
    /// # Errors
    /// The error of `decode`; nothing is stored then.
    ///
    /// # Panics
    /// If the entry was decoded as another type before. One group has one machine, and so one entry type.
    pub fn decoded<T, E>(&self, decode: impl FnOnce(&Bytes) -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        if self.decoded.get().is_none() {
            let fresh: Arc<dyn Any + Send + Sync> = Arc::new(decode(&self.bytes)?);
            // Losing a race is harmless: both forms come from the same bytes.
            self.decoded.set(fresh).ok();
        }
        let form = self.decoded.get().expect("set just above").clone();
        Ok(form.downcast().expect("an entry is decoded as the one type of its group"))
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes, decoded: {})", self.bytes.len(), self.decoded.get().is_some())
    }
}

/// An entry body for consensus: shared, printable, otherwise opaque.
#[derive(Clone, Debug)]
pub struct Payload(pub Arc<Packed>);

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.bytes.len())
    }
}

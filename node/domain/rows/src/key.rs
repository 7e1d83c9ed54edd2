//! Keys of rows, with their hashes. The first byte of a key is the tag of its table.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::BytesError;

/// Longest key that is kept without an allocation, in bytes.
const INLINE: usize = 46;

/// The key of a row: table tag and name, with its hash. Ordered by hash, so that comparing is one integer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    hash: u64,
    bytes: KeyBytes,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyBytes {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl RowKey {
    /// The key with these bytes, tag first.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self::with_hash(key, xxh3_64(key))
    }

    /// The key that is made of these parts.
    #[must_use]
    #[inline]
    pub fn of(tag: u8, parts: &[&[u8]]) -> Self {
        let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > INLINE {
            let mut bytes = Vec::with_capacity(length);
            bytes.push(tag);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return Self { hash: xxh3_64(&bytes), bytes: KeyBytes::Heap(bytes.into()) };
        }
        let mut bytes = [0; INLINE];
        bytes[0] = tag;
        let mut end = 1;
        for part in parts {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Self { hash: xxh3_64(&bytes[..length]), bytes: KeyBytes::Inline { length: length as u8, bytes } }
    }

    pub(crate) fn with_hash(key: &[u8], hash: u64) -> Self {
        let bytes = if key.len() <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..key.len()].copy_from_slice(key);
            KeyBytes::Inline { length: key.len() as u8, bytes }
        } else {
            KeyBytes::Heap(key.into())
        };
        Self { hash, bytes }
    }

    /// The bytes under which the store keeps the row.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            KeyBytes::Inline { length, bytes } => &bytes[..usize::from(*length)],
            KeyBytes::Heap(bytes) => bytes,
        }
    }

    /// Tag of its table.
    #[must_use]
    #[inline]
    pub fn tag(&self) -> u8 {
        self.as_bytes().first().copied().unwrap_or(u8::MAX)
    }

    /// Bytes that are allocated for it.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> u64 {
        match &self.bytes {
            KeyBytes::Inline { .. } => 0,
            KeyBytes::Heap(bytes) => bytes.len() as u64,
        }
    }

    /// The hash of its bytes.
    #[must_use]
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tag(), self.as_bytes().get(1..).unwrap_or_default().escape_ascii())
    }
}

/// What a row adds to the state hash. A row that does not exist adds zero.
#[must_use]
#[inline]
pub fn row_hash(key_hash: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, key_hash)
}

/// The key of a table that has one type of keys, both ways.
pub trait TableKey: Ord + Clone {
    /// The tag of the table.
    const TAG: u8;

    /// Its bytes.
    fn write(&self) -> RowKey;

    /// Reads what [`TableKey::write`] made.
    ///
    /// # Errors
    /// The bytes are of no such key.
    fn parse(key: &[u8]) -> Result<Self, BytesError>;
}

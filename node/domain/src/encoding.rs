//! Bytes of entries and rows: one version byte, then a bincode body. Decides limits and refuses trailing bytes; the
//! layouts themselves stand with the types. Golden tests fix both.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::EncoderImpl;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

use crate::command::Entry;

/// Most memory that decoding one entry may claim, in bytes: the largest batch decoded, with room for its structs.
const ENTRY_LIMIT: usize = 512 << 20;
/// Most memory that decoding one row may claim, in bytes.
const ROW_LIMIT: usize = 64 << 20;
/// The version written into entries and rows.
const VERSION: u8 = 1;

/// Bytes that cannot be read: damaged, of a newer version, or of something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Nothing is there.
    #[error("no bytes")]
    Empty,
    /// Written by a version that this one does not know.
    #[error("version {0} is not known")]
    Version(u8),
    /// The body does not decode.
    #[error("the body does not decode: {0}")]
    Body(String),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// The key is of no known table, or is malformed.
    #[error("the row key is malformed")]
    Key,
}

impl Entry {
    /// The bytes that the log and the wire carry.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.commands.len() * 256);
        append(&mut out, self);
        out
    }

    /// Reads what [`Entry::to_bytes`] made.
    ///
    /// # Errors
    /// The bytes are damaged or of a newer version: stop the process rather than guess.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        read::<Self, ENTRY_LIMIT>(bytes)
    }
}

/// Appends version and body of `value`.
pub(crate) fn append<T: Encode>(out: &mut Vec<u8>, value: &T) {
    out.push(VERSION);
    let mut encoder = EncoderImpl::new(Tail(out), bincode::config::standard());
    value.encode(&mut encoder).expect("encoding into memory cannot fail");
}

/// Writes version and body of `value` in place of what is there.
pub(crate) fn encode<T: Encode>(out: &mut Vec<u8>, value: &T) {
    out.clear();
    append(out, value);
}

/// A row's bytes.
pub(crate) fn row_bytes<T: Encode>(scratch: &mut Vec<u8>, value: &T) -> Box<[u8]> {
    encode(scratch, value);
    scratch.as_slice().into()
}

/// Reads a row's bytes.
pub(crate) fn read_row<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, BytesError> {
    read::<T, ROW_LIMIT>(bytes)
}

fn read<'a, T: BorrowDecode<'a, ()>, const LIMIT: usize>(bytes: &'a [u8]) -> Result<T, BytesError> {
    let (version, body) = bytes.split_first().ok_or(BytesError::Empty)?;
    if *version != VERSION {
        return Err(BytesError::Version(*version));
    }
    let config: Configuration<LittleEndian, Varint, Limit<LIMIT>> = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::borrow_decode_from_slice(body, config).map_err(|error| BytesError::Body(error.to_string()))?;
    if used != body.len() {
        return Err(BytesError::Trailing(body.len() - used));
    }
    Ok(value)
}

/// Writes behind what is there, so that one buffer serves every row.
struct Tail<'a>(&'a mut Vec<u8>);

impl Writer for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

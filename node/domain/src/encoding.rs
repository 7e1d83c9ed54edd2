//! Bytes of entries and rows: one version byte, then a bincode body. Decides limits and refuses trailing bytes; the
//! layouts themselves stand with the types. Golden tests fix both.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

use crate::command::Entry;

/// Most memory that decoding one entry may claim, in bytes: the largest batch decoded, with room for its structs.
const ENTRY_LIMIT: usize = 512 << 20;
/// Most memory that decoding one row may claim, in bytes.
const ROW_LIMIT: usize = 64 << 20;
/// Bytes of the smallest room for encoding.
const LEAST_ROOM: usize = 512;
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
        let mut room = vec![0; LEAST_ROOM + self.commands.len() * 256];
        let used = encode(&mut room, self).len();
        room.truncate(used);
        room
    }

    /// Reads what [`Entry::to_bytes`] made.
    ///
    /// # Errors
    /// The bytes are damaged or of a newer version: stop the process rather than guess.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        read::<Self, ENTRY_LIMIT>(bytes)
    }
}

/// Version and body of `value`, written into `room`, which grows as needed and keeps its size. Into room that is there a
/// field is a move; behind a vector's end it would be a look whether there is any.
pub(crate) fn encode<'a, T: Encode>(room: &'a mut Vec<u8>, value: &T) -> &'a [u8] {
    let used = loop {
        if let Some((version, body)) = room.split_first_mut() {
            *version = VERSION;
            match bincode::encode_into_slice(value, body, bincode::config::standard()) {
                Ok(used) => break 1 + used,
                Err(EncodeError::UnexpectedEnd) => {}
                Err(other) => panic!("encoding into memory cannot fail: {other}"),
            }
        }
        let larger = (2 * room.len()).max(LEAST_ROOM);
        room.resize(larger, 0);
    };
    &room[..used]
}

/// Version and body of `value`.
pub(crate) fn encoded<T: Encode>(value: &T) -> Vec<u8> {
    let mut room = Vec::new();
    encode(&mut room, value).to_vec()
}

/// A row's bytes.
pub(crate) fn row_bytes<T: Encode>(room: &mut Vec<u8>, value: &T) -> Box<[u8]> {
    encode(room, value).into()
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

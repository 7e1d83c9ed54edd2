//! Bytes of rows, and of whatever else is stored in the same way: one version byte, then a bincode body. Decides limits and
//! refuses trailing bytes; the layouts themselves stand with the types.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

/// Most memory that decoding one row may claim, in bytes.
const ROW_LIMIT: usize = 64 << 20;
/// Bytes of the smallest room for encoding.
const LEAST_ROOM: usize = 512;
/// The version that is written, and the only one that is read. Version 1 had payments without facts and refunds without purses.
const VERSION: u8 = 2;
/// The bytes of a row that is its key alone: nothing but their version.
pub const EMPTY: [u8; 1] = [VERSION];

/// Bytes that cannot be read: damaged, of a newer version, or of something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Nothing is there.
    #[error("no bytes")]
    Empty,
    /// Written in a version of the format that this program does not read.
    #[error(
        "it is written in version {0} of the format, this program reads version {VERSION} only: go on with the release that wrote it, or \
         begin with an empty data folder"
    )]
    Version(u8),
    /// An entry of a version whose commands came to something else.
    #[error(
        "version {0} is of an older release, which alone can apply it: go on with that release, or begin with an empty data folder"
    )]
    Older(u8),
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

/// Version and body of `value`, written into `room`, which grows as needed and keeps its size. Into room that is there a
/// field is a move; behind a vector's end it would be a look whether there is any.
pub fn encode<'a, T: Encode>(room: &'a mut Vec<u8>, value: &T) -> &'a [u8] {
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
#[must_use]
pub fn encoded<T: Encode>(value: &T) -> Vec<u8> {
    let mut room = Vec::new();
    encode(&mut room, value).to_vec()
}

/// A row's bytes.
pub fn row_bytes<T: Encode>(room: &mut Vec<u8>, value: &T) -> Box<[u8]> {
    encode(room, value).into()
}

/// Reads a row's bytes.
///
/// # Errors
/// They are damaged, of a newer version or of something else.
pub fn read_row<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, BytesError> {
    let (version, body) = bytes.split_first().ok_or(BytesError::Empty)?;
    if *version != VERSION {
        return Err(BytesError::Version(*version));
    }
    read_body::<T, ROW_LIMIT>(body)
}

/// Reads what follows a version; decoding it may claim `LIMIT` bytes of memory at the most.
///
/// # Errors
/// The bytes are damaged or of something else.
pub fn read_body<'a, T: BorrowDecode<'a, ()>, const LIMIT: usize>(body: &'a [u8]) -> Result<T, BytesError> {
    let config: Configuration<LittleEndian, Varint, Limit<LIMIT>> = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::borrow_decode_from_slice(body, config).map_err(|error| BytesError::Body(error.to_string()))?;
    if used != body.len() {
        return Err(BytesError::Trailing(body.len() - used));
    }
    Ok(value)
}

//! Bytes of entries and rows: one version byte, then a bincode body. The layouts themselves stand with the types. Golden tests
//! fix both.

use crate::command::Entry;

pub use ordergrid_rows::BytesError;
pub(crate) use ordergrid_rows::encoding::{encode, encoded, read_body, read_row, row_bytes};

/// The version of entries. It changes when a command comes to something else: replicas that applied one entry in two ways would no
/// longer agree. Since 2 the orders of an entry share their messages to other shards.
const ENTRIES: u8 = 2;

/// Most memory that decoding one entry may claim, in bytes: the largest batch decoded, with room for its structs.
const ENTRY_LIMIT: usize = 512 << 20;
/// Bytes of the smallest room for encoding.
const LEAST_ROOM: usize = 512;

impl Entry {
    /// The bytes that the log and the wire carry.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut room = vec![0; LEAST_ROOM + self.commands.len() * 256];
        let used = encode(&mut room, self).len();
        room.truncate(used);
        room[0] = ENTRIES;
        room
    }

    /// The same bytes, written into `room`, which grows as needed and keeps its size.
    pub fn write_into<'a>(&self, room: &'a mut Vec<u8>) -> &'a [u8] {
        let used = encode(room, self).len();
        room[0] = ENTRIES;
        &room[..used]
    }

    /// Reads what [`Entry::to_bytes`] made.
    ///
    /// # Errors
    /// The bytes are damaged or of another version: stop the process rather than guess.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        match bytes.split_first().ok_or(BytesError::Empty)? {
            (&ENTRIES, body) => read_body::<Self, ENTRY_LIMIT>(body),
            (&version @ ..ENTRIES, _) => Err(BytesError::Older(version)),
            (&version, _) => Err(BytesError::Version(version)),
        }
    }
}

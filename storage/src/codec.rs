//! The frame around every stored or sent body: its kind, its length, and its checksum.
//!
//! | Bytes | Field |
//! |---|---|
//! | 0..4 | magic `OGRD` |
//! | 4..6 | version of the format, little endian |
//! | 6 | kind |
//! | 7 | flags, none defined yet |
//! | 8..12 | length of the body in bytes, little endian |
//! | 12..16 | CRC-32C of bytes 0..12 and of the body, little endian |
//! | 16.. | body |
//!
//! This format never changes; the golden tests below pin it. A body has its own version inside.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 16;

/// The longest body of a frame, in bytes. Readers of untrusted streams set a lower limit, see [`body_len`].
pub const MAX_BODY_LEN: usize = 1 << 30;

/// The version that is written, and the newest that is read.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"OGRD";
const CHECKSUM_AT: usize = 12;

/// The kind of a frame. A frame of one kind is never accepted as another.
///
/// 1 to 63 belong to this crate, the others to its users: 64 to 127 the wire, 128 to 255 the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// An entry of a Raft log.
    pub const LOG_ENTRY: Self = Self(1);
    /// A Raft vote.
    pub const VOTE: Self = Self(2);
    /// A Raft log id: the committed or the purged index of a log.
    pub const LOG_ID: Self = Self(3);
    /// The head of a replica's state: its generation, and the meta of its last checkpoint.
    pub const STATE_HEAD: Self = Self(4);
    /// A record of the node.
    pub const NODE_RECORD: Self = Self(5);
    /// A vouch, stored next to the log.
    pub const VOUCH: Self = Self(6);
    /// The number of a batch of the log, and the batches that were durable when it was written.
    pub const WRITTEN: Self = Self(7);
    /// A floor: what a replica has vouched for and lost.
    pub const FLOOR: Self = Self(8);
}

/// Why bytes are not a valid frame: they are damaged, foreign, or of a newer release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes are missing, or there are too many.
    #[error("a frame of {needed} bytes has {found}")]
    Length {
        /// Expected number of bytes.
        needed: usize,
        /// Actual number of bytes.
        found: usize,
    },
    /// Not a frame of OrderGrid.
    #[error("not a frame: it starts with {0:02x?}")]
    Magic([u8; 4]),
    /// Written by a newer release.
    #[error("frame version {0} is newer than this release reads ({VERSION})")]
    Version(u16),
    /// A frame of another kind.
    #[error("found a frame of kind {found}, expected kind {expected}")]
    Kind {
        /// The requested kind.
        expected: u8,
        /// The kind in the header.
        found: u8,
    },
    /// Flags that this release does not know.
    #[error("unknown frame flags {0:#04x}")]
    Flags(u8),
    /// The bytes have changed since they were sealed.
    #[error("checksum {found:#010x} does not match the stored {stored:#010x}")]
    Checksum {
        /// The computed checksum.
        found: u32,
        /// The checksum in the header.
        stored: u32,
    },
    /// The body is longer than the limit.
    #[error("a body of {found} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
}

/// A frame of `kind` around `body`.
#[must_use]
pub fn seal(kind: Kind, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_LEN + body.len());
    seal_into(kind, body, &mut out);
    out.freeze()
}

/// Appends a frame of `kind` around `body` to `out`.
pub fn seal_into(kind: Kind, body: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER_LEN + body.len());
    seal_with(kind, out, |out| out.put_slice(body));
}

/// Appends a frame of `kind` to `out` with the bytes that `write_body` appends as its body, without a copy.
///
/// Panics if the body is longer than [`MAX_BODY_LEN`], or if `write_body` removes earlier bytes of `out`.
pub fn seal_with(kind: Kind, out: &mut BytesMut, write_body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u8(kind.0);
    out.put_u8(0);
    out.put_u64(0);
    write_body(out);
    let len = out.len().checked_sub(start + HEADER_LEN).expect("a body writer only appends");
    assert!(len <= MAX_BODY_LEN, "a body of {len} bytes is longer than the limit of {MAX_BODY_LEN}");
    let frame = &mut out[start..];
    frame[8..CHECKSUM_AT].copy_from_slice(&u32::try_from(len).expect("the limit fits 32 bits").to_le_bytes());
    let sum = checksum(frame);
    frame[CHECKSUM_AT..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
}

/// The body of `frame`, which must be exactly one whole frame of `kind`.
///
/// # Errors
/// [`FrameError`] if it is not. The stored value is lost then: stop, and replace the replica.
pub fn open(kind: Kind, frame: &[u8]) -> Result<&[u8], FrameError> {
    let len = body_len(frame, MAX_BODY_LEN)?;
    if frame.len() != HEADER_LEN + len {
        return Err(FrameError::Length { needed: HEADER_LEN + len, found: frame.len() });
    }
    let stored = (&frame[CHECKSUM_AT..]).get_u32_le();
    let found = checksum(frame);
    if found != stored {
        return Err(FrameError::Checksum { found, stored });
    }
    if frame[6] != kind.0 {
        return Err(FrameError::Kind { expected: kind.0, found: frame[6] });
    }
    if frame[7] != 0 {
        return Err(FrameError::Flags(frame[7]));
    }
    Ok(&frame[HEADER_LEN..])
}

/// Like [`open`], without a copy: the body shares the memory of the frame.
///
/// # Errors
/// As [`open`].
pub fn open_bytes(kind: Kind, mut frame: Bytes) -> Result<Bytes, FrameError> {
    open(kind, &frame)?;
    frame.advance(HEADER_LEN);
    Ok(frame)
}

/// The length of the body that follows `header`, for readers of a stream: they read the first [`HEADER_LEN`] bytes before they
/// allocate memory for the rest. The checksum is not checked.
///
/// # Errors
/// [`FrameError`] if this is not the header of a frame, or of one with more than `limit` bytes: end the connection.
pub fn body_len(header: &[u8], limit: usize) -> Result<usize, FrameError> {
    let Some(mut fields) = header.get(..HEADER_LEN) else {
        return Err(FrameError::Length { needed: HEADER_LEN, found: header.len() });
    };
    let mut magic = [0; 4];
    fields.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    let version = fields.get_u16_le();
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    fields.advance(2);
    let found = usize::try_from(fields.get_u32_le()).expect("a pointer has at least 32 bits");
    let limit = limit.min(MAX_BODY_LEN);
    if found > limit {
        return Err(FrameError::TooLarge { found, limit });
    }
    Ok(found)
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_LEN..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Version 1, as it will be found on disks for ever.
    #[test]
    fn golden_bytes() {
        #[rustfmt::skip]
        let rows: [(Kind, &[u8], &str); 4] = [
            // kind           body       frame
            (Kind::LOG_ENTRY, b"",       "4f475244010001000000000044fec444"),
            (Kind::VOTE,      b"\x07",   "4f47524401000200010000001363068007"),
            (Kind::LOG_ID,    b"order",  "4f4752440100030005000000fdbd5f9b6f72646572"),
            (Kind(200),       &[0; 3],   "4f4752440100c8000300000033e76b0e000000"),
        ];
        for (kind, body, frame) in rows {
            let sealed = seal(kind, body);
            assert_eq!(hex(&sealed), frame, "{kind:?} {body:?}");
            assert_eq!(open(kind, &sealed), Ok(body));
        }
    }

    #[test]
    fn refusals() {
        let good = seal(Kind::VOTE, b"body");
        let changed = |at: usize, to: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = to;
            bytes
        };
        let flagged = {
            let mut bytes = changed(7, 1);
            let sum = checksum(&bytes);
            bytes[CHECKSUM_AT..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
            bytes
        };
        #[rustfmt::skip]
        let rows = [
            // what              bytes                             is this error
            ("empty",            vec![],                           "a frame of 16 bytes has 0"),
            ("half a header",    good[..9].to_vec(),               "a frame of 16 bytes has 9"),
            ("half a body",      good[..18].to_vec(),              "a frame of 20 bytes has 18"),
            ("more than one",    [&good[..], b"x"].concat(),       "a frame of 20 bytes has 21"),
            ("foreign",          changed(0, b'X'),                 "not a frame: it starts with [58, 47, 52, 44]"),
            ("newer",            changed(4, 2),                    "frame version 2 is newer than this release reads (1)"),
            ("too long",         changed(11, 0x7f),                "a body of 2130706436 bytes is longer than the limit of 1073741824"),
            ("another kind",     seal(Kind::LOG_ID, b"a").to_vec(), "found a frame of kind 3, expected kind 2"),
            ("unknown flags",    flagged,                          "unknown frame flags 0x01"),
        ];
        for (what, bytes, error) in rows {
            assert_eq!(open(Kind::VOTE, &bytes).expect_err(what).to_string(), error, "{what}");
        }
    }

    #[test]
    fn a_stream_reader_learns_the_length_from_the_header() {
        let frame = seal(Kind(64), &[7; 100]);
        assert_eq!(body_len(&frame[..HEADER_LEN], 100), Ok(100));
        assert_eq!(body_len(&frame[..HEADER_LEN], 99), Err(FrameError::TooLarge { found: 100, limit: 99 }));
    }

    #[test]
    fn a_frame_is_appended_to_what_is_there() {
        let mut out = BytesMut::from(&b"before"[..]);
        seal_with(Kind(9), &mut out, |out| out.put_u32(5));
        assert_eq!(&out[..6], b"before");
        assert_eq!(open_bytes(Kind(9), out.split_off(6).freeze()), Ok(Bytes::from_static(&[0, 0, 0, 5])));
    }

    proptest! {
        /// No flipped bit goes unnoticed.
        #[test]
        fn any_flipped_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 0..64), bit in any::<prop::sample::Index>()) {
            let frame = seal(Kind::LOG_ENTRY, &body);
            let bit = bit.index(frame.len() * 8);
            let mut damaged = frame.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(Kind::LOG_ENTRY, &damaged).is_err());
            prop_assert_eq!(open(Kind::LOG_ENTRY, &frame), Ok(&body[..]));
        }

        /// Foreign bytes are refused, never a panic.
        #[test]
        fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(open(Kind::LOG_ENTRY, &bytes).is_err());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

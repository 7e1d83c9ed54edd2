//! The byte format of consensus' types. It is OrderGrid's own, so that an openraft upgrade changes neither disk nor wire.
//!
//! Little endian, fixed width, no padding. The code that stores or sends these bytes adds a frame with version and checksum.
//! Formats only grow by new tags; the golden tests below pin each of them.
//!
//! | What | Layout |
//! |---|---|
//! | log id | term u64, index u64 |
//! | optional X | 0u8, or 1u8 and X |
//! | vote | term u64, replica u64, won u8 |
//! | membership | configs u16, each: voters u16, replica u64 ...; nodes u16, each: replica u64, host u64 |
//! | stored membership | optional log id, membership |
//! | snapshot meta | optional log id, stored membership |
//! | entry | tag u8 (0 blank, 1 payload, 2 membership), log id, then nothing, the payload to the end, or a membership |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::packed::{Packed, Payload};
use crate::raft_types::{EntryBody, Host, LeaderId, LogId, Membership, RaftEntry, SnapshotMeta, StoredMembership, Vote};

const BLANK: u8 = 0;
const PAYLOAD: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// The bytes cannot be decoded. Behind a checksum this means another version or a bug, not a bad disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("{what} is cut short")]
    Short {
        /// The type of the value.
        what: &'static str,
    },
    /// A tag that this version does not know.
    #[error("{what} has the unknown tag {tag}")]
    Tag {
        /// The type of the value.
        what: &'static str,
        /// The tag found.
        tag: u8,
    },
    /// The value ends before the bytes do.
    #[error("{what} is followed by {left} bytes too many")]
    Trailing {
        /// The type of the value.
        what: &'static str,
        /// Number of bytes left.
        left: usize,
    },
    /// The membership breaks its own rules, for example with a voter without a host.
    #[error("a membership is not valid: {0}")]
    Membership(String),
}

/// Appends an entry.
pub fn encode_entry(entry: &RaftEntry, out: &mut BytesMut) {
    match &entry.payload {
        EntryBody::Blank => {
            out.put_u8(BLANK);
            put_log_id(&entry.log_id, out);
        }
        EntryBody::Normal(payload) => {
            out.reserve(17 + payload.0.bytes().len());
            out.put_u8(PAYLOAD);
            put_log_id(&entry.log_id, out);
            out.put_slice(payload.0.bytes());
        }
        EntryBody::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            put_log_id(&entry.log_id, out);
            put_membership(membership, out);
        }
    }
}

/// The number of bytes that [`encode_entry`] appends for a payload; an upper bound for the other kinds. For sizing batches.
#[must_use]
pub fn encoded_len(entry: &RaftEntry) -> usize {
    match &entry.payload {
        EntryBody::Blank => 17,
        EntryBody::Normal(payload) => 17 + payload.0.bytes().len(),
        EntryBody::Membership(membership) => {
            let voters: usize = membership.get_joint_config().iter().map(|config| 2 + 8 * config.len()).sum();
            17 + 4 + voters + 16 * membership.nodes().count()
        }
    }
}

/// Decodes an entry that fills `bytes`. Its payload shares their memory.
///
/// # Errors
/// [`DecodeError`]
pub fn decode_entry(bytes: Bytes) -> Result<RaftEntry, DecodeError> {
    let mut bytes = bytes;
    let tag = take_u8(&mut bytes, "entry")?;
    let log_id = take_log_id(&mut bytes)?;
    let payload = match tag {
        BLANK => EntryBody::Blank,
        PAYLOAD => EntryBody::Normal(Payload(Arc::new(Packed::from_bytes(std::mem::take(&mut bytes))))),
        MEMBERSHIP => EntryBody::Membership(take_membership(&mut bytes)?),
        tag => return Err(DecodeError::Tag { what: "entry", tag }),
    };
    end(&bytes, "entry")?;
    Ok(RaftEntry { log_id, payload })
}

/// Appends a vote.
pub fn encode_vote(vote: &Vote, out: &mut BytesMut) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
}

/// Decodes a vote that fills `bytes`.
///
/// # Errors
/// [`DecodeError`]
pub fn decode_vote(bytes: Bytes) -> Result<Vote, DecodeError> {
    whole(bytes, "vote", take_vote)
}

/// Appends a log id.
pub fn encode_log_id(id: &LogId, out: &mut BytesMut) {
    put_log_id(id, out);
}

/// Decodes a log id that fills `bytes`.
///
/// # Errors
/// [`DecodeError`]
pub fn decode_log_id(bytes: Bytes) -> Result<LogId, DecodeError> {
    whole(bytes, "log id", take_log_id)
}

/// Appends a membership.
pub fn encode_membership(membership: &Membership, out: &mut BytesMut) {
    put_membership(membership, out);
}

/// Decodes a membership that fills `bytes`.
///
/// # Errors
/// [`DecodeError`]
pub fn decode_membership(bytes: Bytes) -> Result<Membership, DecodeError> {
    whole(bytes, "membership", take_membership)
}

/// Appends a snapshot's meta.
pub fn encode_snapshot_meta(meta: &SnapshotMeta, out: &mut BytesMut) {
    put_optional_log_id(meta.last_log_id.as_ref(), out);
    put_optional_log_id(meta.last_membership.log_id().as_ref(), out);
    put_membership(meta.last_membership.membership(), out);
}

/// Decodes a snapshot's meta that fills `bytes`.
///
/// # Errors
/// [`DecodeError`]
pub fn decode_snapshot_meta(bytes: Bytes) -> Result<SnapshotMeta, DecodeError> {
    whole(bytes, "snapshot meta", take_snapshot_meta)
}

pub(crate) fn whole<T>(
    bytes: Bytes,
    what: &'static str,
    take: impl FnOnce(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut bytes = bytes;
    let value = take(&mut bytes)?;
    end(&bytes, what)?;
    Ok(value)
}

pub(crate) fn put_log_id(id: &LogId, out: &mut BytesMut) {
    out.put_u64_le(id.leader_id.term);
    out.put_u64_le(id.index);
}

pub(crate) fn put_optional_log_id(id: Option<&LogId>, out: &mut BytesMut) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(id, out);
    }
}

fn put_membership(membership: &Membership, out: &mut BytesMut) {
    let configs = membership.get_joint_config();
    put_count(configs.len(), out);
    for config in configs {
        put_count(config.len(), out);
        for replica in config {
            out.put_u64_le(*replica);
        }
    }
    put_count(membership.nodes().count(), out);
    for (replica, host) in membership.nodes() {
        out.put_u64_le(*replica);
        out.put_u64_le(host.0);
    }
}

fn put_count(count: usize, out: &mut BytesMut) {
    out.put_u16_le(u16::try_from(count).expect("a group has fewer than 65,536 replicas"));
}

pub(crate) fn take_u8(bytes: &mut Bytes, what: &'static str) -> Result<u8, DecodeError> {
    bytes.try_get_u8().map_err(|_| DecodeError::Short { what })
}

pub(crate) fn take_u32(bytes: &mut Bytes, what: &'static str) -> Result<u32, DecodeError> {
    bytes.try_get_u32_le().map_err(|_| DecodeError::Short { what })
}

pub(crate) fn take_u64(bytes: &mut Bytes, what: &'static str) -> Result<u64, DecodeError> {
    bytes.try_get_u64_le().map_err(|_| DecodeError::Short { what })
}

pub(crate) fn take_slice(bytes: &mut Bytes, len: usize, what: &'static str) -> Result<Bytes, DecodeError> {
    if bytes.len() < len {
        return Err(DecodeError::Short { what });
    }
    Ok(bytes.split_to(len))
}

fn take_count(bytes: &mut Bytes) -> Result<usize, DecodeError> {
    bytes.try_get_u16_le().map(usize::from).map_err(|_| DecodeError::Short { what: "membership" })
}

pub(crate) fn take_flag(bytes: &mut Bytes, what: &'static str) -> Result<bool, DecodeError> {
    match take_u8(bytes, what)? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(DecodeError::Tag { what, tag }),
    }
}

pub(crate) fn take_vote(bytes: &mut Bytes) -> Result<Vote, DecodeError> {
    let term = take_u64(bytes, "vote")?;
    let voted_for = take_u64(bytes, "vote")?;
    let committed = take_flag(bytes, "vote")?;
    Ok(Vote { leader_id: LeaderId { term, voted_for }, committed })
}

pub(crate) fn take_log_id(bytes: &mut Bytes) -> Result<LogId, DecodeError> {
    let term = take_u64(bytes, "log id")?;
    let index = take_u64(bytes, "log id")?;
    Ok(LogId { leader_id: term.into(), index })
}

pub(crate) fn take_optional_log_id(bytes: &mut Bytes) -> Result<Option<LogId>, DecodeError> {
    if take_flag(bytes, "optional log id")? { take_log_id(bytes).map(Some) } else { Ok(None) }
}

fn take_membership(bytes: &mut Bytes) -> Result<Membership, DecodeError> {
    let mut configs = Vec::new();
    for _ in 0..take_count(bytes)? {
        let mut voters = BTreeSet::new();
        for _ in 0..take_count(bytes)? {
            voters.insert(take_u64(bytes, "membership")?);
        }
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..take_count(bytes)? {
        let replica = take_u64(bytes, "membership")?;
        nodes.insert(replica, Host(take_u64(bytes, "membership")?));
    }
    // The membership is empty before the first one is set. openraft's own check would refuse it.
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|broken| DecodeError::Membership(broken.to_string()))
}

pub(crate) fn take_snapshot_meta(bytes: &mut Bytes) -> Result<SnapshotMeta, DecodeError> {
    let last_log_id = take_optional_log_id(bytes)?;
    let set_at = take_optional_log_id(bytes)?;
    let membership = take_membership(bytes)?;
    Ok(SnapshotMeta { last_log_id, last_membership: StoredMembership::new(set_at, membership) })
}

fn end(bytes: &Bytes, what: &'static str) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { what, left: bytes.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId { leader_id: term.into(), index }
    }

    fn membership() -> Membership {
        let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let nodes = BTreeMap::from([(1, Host(7)), (2, Host(8)), (3, Host(9)), (4, Host(7))]);
        Membership::new(configs, nodes).unwrap()
    }

    fn entries() -> Vec<(&'static str, RaftEntry, &'static str)> {
        let payload = Payload(Arc::new(Packed::from_bytes(Bytes::from_static(b"abc"))));
        vec![
            ("blank", RaftEntry { log_id: log_id(3, 5), payload: EntryBody::Blank }, "00 0300000000000000 0500000000000000"),
            (
                "payload",
                RaftEntry { log_id: log_id(1, 256), payload: EntryBody::Normal(payload) },
                "01 0100000000000000 0001000000000000 616263",
            ),
            (
                "membership",
                RaftEntry { log_id: log_id(0, 0), payload: EntryBody::Membership(membership()) },
                "02 0000000000000000 0000000000000000 \
                 0200 0200 0100000000000000 0200000000000000 0200 0200000000000000 0300000000000000 \
                 0400 0100000000000000 0700000000000000 0200000000000000 0800000000000000 \
                 0300000000000000 0900000000000000 0400000000000000 0700000000000000",
            ),
        ]
    }

    fn unhex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn entries_have_the_bytes_of_version_1() {
        for (name, entry, golden) in entries() {
            let mut out = BytesMut::new();
            encode_entry(&entry, &mut out);
            assert_eq!(out.freeze(), unhex(golden), "{name}");
            assert_eq!(decode_entry(unhex(golden)).unwrap(), entry, "{name}");
            assert_eq!(encoded_len(&entry), unhex(golden).len(), "{name}");
        }
    }

    #[test]
    fn votes_and_metas_have_the_bytes_of_version_1() {
        let vote = Vote::new_committed(4, 9);
        let mut out = BytesMut::new();
        encode_vote(&vote, &mut out);
        assert_eq!(out, unhex("0400000000000000 0900000000000000 01"));
        assert_eq!(decode_vote(out.freeze()).unwrap(), vote);

        let single = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, Host(7))])).unwrap();
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(2, 10)),
            last_membership: StoredMembership::new(Some(log_id(0, 0)), single),
        };
        let mut out = BytesMut::new();
        encode_snapshot_meta(&meta, &mut out);
        let golden = "01 0200000000000000 0a00000000000000 01 0000000000000000 0000000000000000 \
                      0100 0100 0100000000000000 0100 0100000000000000 0700000000000000";
        assert_eq!(out, unhex(golden));
        assert_eq!(decode_snapshot_meta(out.freeze()).unwrap(), meta);
    }

    #[test]
    fn an_empty_meta_survives() {
        let mut out = BytesMut::new();
        encode_snapshot_meta(&SnapshotMeta::default(), &mut out);
        assert_eq!(decode_snapshot_meta(out.freeze()).unwrap(), SnapshotMeta::default());
    }

    #[test]
    fn every_cut_of_an_entry_is_refused() {
        for (name, entry, _) in entries() {
            let mut out = BytesMut::new();
            encode_entry(&entry, &mut out);
            let whole = out.freeze();
            // A payload reaches to the end of its frame, so only its head can be found short.
            let end = if name == "payload" { 17 } else { whole.len() };
            for cut in 0..end {
                decode_entry(whole.slice(..cut)).expect_err("a cut entry is refused");
            }
        }
    }

    #[test]
    fn unknown_tags_and_trailing_bytes_are_refused() {
        let cases = [
            ("09 0100000000000000 0000000000000000", DecodeError::Tag { what: "entry", tag: 9 }),
            ("00 0100000000000000 0000000000000000 ff", DecodeError::Trailing { what: "entry", left: 1 }),
        ];
        for (bytes, refusal) in cases {
            assert_eq!(decode_entry(unhex(bytes)).unwrap_err(), refusal);
        }
    }
}

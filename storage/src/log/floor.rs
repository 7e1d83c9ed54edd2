//! Floors: what a replica has vouched for and its log has lost.
//!
//! Other replicas rely on it: an entry may have been acknowledged because this replica stored it, and a leader may lead because
//! of this replica's vote. So a replica with a floor only accepts entries from a leader, until its log is durable past the
//! floor. The crates above decide what it does meanwhile; this crate only reports the floor ([`super::LogStore::floor`]). The
//! vote of a floor is restored at once.
//!
//! If the whole log database was lost, this node does not know what a replica had. The floor is then *forgotten*
//! ([`super::anew`]): the log does not open until other nodes have reported what it can have been.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};

use super::error::DamagedLog;
use super::vouch::ReplicaMark;
use super::{BoxError, EntryCodec, keys};
use crate::codec::{Kind, open_bytes, seal_with};
use crate::engine::Batch;

/// The vote and the last entry that a replica had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Floor<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) last: Option<LogIdOf<C>>,
}

/// Replaces the length of the vote, for a replica of which nobody knows what it had. Earlier releases read a truncated vote,
/// and refuse the log.
const FORGOTTEN: u16 = u16::MAX;

/// The content of a floor's row.
pub(super) enum Row<C: RaftTypeConfig> {
    /// What the replica had.
    Known(Floor<C>),
    /// The replica had something, but it is not known what.
    Forgotten,
}

/// Adds to a batch that the floor of `replica` is forgotten.
pub(super) fn put_forgotten(batch: &mut Batch, replica: u64) {
    batch.put_with(&keys::floor(replica), |out| seal_with(Kind::FLOOR, out, |out| out.put_u16_le(FORGOTTEN)));
}

/// Adds the floor of `replica` to a batch.
pub(super) fn put(batch: &mut Batch, replica: u64, mark: &ReplicaMark) {
    batch.put_with(&keys::floor(replica), |out| {
        seal_with(Kind::FLOOR, out, |out| {
            out.put_u16_le(u16::try_from(mark.vote.len()).expect("a vote is a few dozen bytes"));
            out.put_slice(&mark.vote);
            out.put_slice(&mark.last);
        });
    });
}

/// Decodes the floor in a frame.
pub(super) fn open<C, K>(replica: u64, codec: &K, frame: Bytes) -> Result<Row<C>, DamagedLog>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let what = || "the floor".to_owned();
    let body = open_bytes(Kind::FLOOR, frame).map_err(|reason| DamagedLog::Frame { replica, what: what(), reason })?;
    if *body == FORGOTTEN.to_le_bytes() {
        return Ok(Row::Forgotten);
    }
    decoded(codec, body).map(Row::Known).map_err(|reason| DamagedLog::Body { replica, what: what(), reason })
}

fn decoded<C, K>(codec: &K, mut body: Bytes) -> Result<Floor<C>, BoxError>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let length = usize::from(body.try_get_u16_le()?);
    if body.len() < length {
        return Err("it ends within the vote".into());
    }
    let (vote, last) = (body.split_to(length), body);
    let vote = (!vote.is_empty()).then(|| codec.decode_vote(vote)).transpose()?;
    let last = (!last.is_empty()).then(|| codec.decode_log_id(last)).transpose()?;
    Ok(Floor { vote, last })
}

/// Encodes what a replica has.
pub(super) fn mark<C, K>(codec: &K, vote: Option<&VoteOf<C>>, last: Option<&LogIdOf<C>>) -> ReplicaMark
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let mut encoded = ReplicaMark::default();
    if let Some(vote) = vote {
        let mut out = BytesMut::new();
        codec.encode_vote(vote, &mut out);
        encoded.vote = out.freeze();
    }
    if let Some(last) = last {
        let mut out = BytesMut::new();
        codec.encode_log_id(last, &mut out);
        encoded.last = out.freeze();
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Operation;

    /// These bytes are on disks; they never change.
    #[test]
    fn golden_bytes() {
        let bodies = |batch: &Batch| {
            let body = |operation| match operation {
                Operation::Put { value, .. } => value[crate::codec::HEADER_LEN..].to_vec(),
                other => unreachable!("only rows are put, not {other:?}"),
            };
            batch.operations().map(body).collect::<Vec<_>>()
        };
        let mut batch = Batch::new();
        put(&mut batch, 1, &ReplicaMark { vote: Bytes::from_static(b"v"), last: Bytes::from_static(b"ab") });
        put_forgotten(&mut batch, 2);
        assert_eq!(bodies(&batch), [&b"\x01\x00vab"[..], b"\xff\xff"]);
    }
}

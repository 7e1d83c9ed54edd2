//! Floors: what a replica vouched for and its log has not any more.
//!
//! Others count on it: an entry may have been acknowledged because this replica had it, and a leader may lead because of its vote.
//! So a replica with a floor takes entries from a leader and nothing else, until its log is durable past the floor; what it does
//! meanwhile is decided above this crate, which only says so ([`super::LogStore::floor`]). The vote of a floor is not missing: it
//! is put back at once.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};

use super::error::DamagedLog;
use super::vouch::Mark;
use super::{BoxError, EntryCodec, keys};
use crate::codec::{Kind, open_bytes, seal_with};
use crate::engine::Batch;

/// What a replica had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Floor<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) last: Option<LogIdOf<C>>,
}

/// Adds the floor of `replica` to a batch.
pub(super) fn put(batch: &mut Batch, replica: u64, mark: &Mark) {
    batch.put_with(&keys::floor(replica), |out| {
        seal_with(Kind::FLOOR, out, |out| {
            out.put_u16_le(u16::try_from(mark.vote.len()).expect("a vote is a few dozen bytes"));
            out.put_slice(&mark.vote);
            out.put_slice(&mark.last);
        });
    });
}

/// The floor in a frame.
pub(super) fn open<C, K>(replica: u64, codec: &K, frame: Bytes) -> Result<Floor<C>, DamagedLog>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let what = || "the floor".to_owned();
    let body = open_bytes(Kind::FLOOR, frame).map_err(|reason| DamagedLog::Frame { replica, what: what(), reason })?;
    decoded(codec, body).map_err(|reason| DamagedLog::Body { replica, what: what(), reason })
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

/// What a replica has, encoded.
pub(super) fn mark<C, K>(codec: &K, vote: Option<&VoteOf<C>>, last: Option<&LogIdOf<C>>) -> Mark
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let mut encoded = Mark::default();
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

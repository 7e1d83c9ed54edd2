//! The bodies of consensus' messages between nodes. The group and the target replica precede them.
//!
//! | Message | Layout |
//! |---|---|
//! | append | vote, optional previous log id, optional committed log id, entries u32, each: length u32, entry |
//! | append answer | 0u8 all, 1u8 up to (optional log id), 2u8 conflict, 3u8 higher vote (vote) |
//! | vote, pre-vote | vote, optional last log id, hand-over u8 |
//! | their answer | vote, granted u8, optional last log id |
//! | transfer | leader's vote, target u64, optional last log id |
//! | its answer | 0u8 taken, 1u8 refused |
//! | snapshot begin | vote, snapshot meta |
//! | snapshot chunk | transfer u64, number u64, rows u32, each: key length u32, value length u32, key, value |
//! | snapshot commit | transfer u64, chunks u64 |
//! | its answer | vote |

use bytes::{BufMut, Bytes, BytesMut};
use openraft::AsyncRuntime;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};

use crate::encoding::{
    DecodeError, decode_entry, encode_entry, encode_snapshot_meta, encode_vote, encoded_len, put_optional_log_id, take_flag,
    take_optional_log_id, take_slice, take_snapshot_meta, take_u8, take_u32, take_u64, take_vote, whole,
};
use crate::raft_types::{LogId, RaftEntry, RaftTypes, SnapshotMeta, Vote};
use crate::state::Row;

/// Appends a length. A frame's limit keeps lengths far below 4 GiB.
fn put_len(len: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(len).expect("a frame is far smaller than 4 GiB"));
}

/// Appends a request with as many of its entries as fit into `limit` bytes, but at least one. Returns how many.
pub(crate) fn put_append<RT: AsyncRuntime>(
    request: &AppendEntriesRequest<RaftTypes<RT>>,
    limit: usize,
    out: &mut BytesMut,
) -> usize {
    let mut fitting = 0;
    let mut size = 0;
    for entry in &request.entries {
        size += 4 + encoded_len(entry);
        if fitting > 0 && size > limit {
            break;
        }
        fitting += 1;
    }
    out.reserve(size.min(2 * limit) + 64);
    encode_vote(&request.vote, out);
    put_optional_log_id(request.prev_log_id.as_ref(), out);
    put_optional_log_id(request.leader_commit.as_ref(), out);
    put_len(fitting, out);
    for entry in &request.entries[..fitting] {
        put_len(encoded_len(entry), out);
        encode_entry(entry, out);
    }
    fitting
}

pub(crate) fn take_append<RT: AsyncRuntime>(body: Bytes) -> Result<AppendEntriesRequest<RaftTypes<RT>>, DecodeError> {
    whole(body, "append", |body| {
        let vote = take_vote(body)?;
        let prev_log_id = take_optional_log_id(body)?;
        let leader_commit = take_optional_log_id(body)?;
        let count = take_u32(body, "append")?;
        let mut entries: Vec<RaftEntry> = Vec::new();
        for _ in 0..count {
            let len = take_u32(body, "append")? as usize;
            entries.push(decode_entry(take_slice(body, len, "append")?)?);
        }
        Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
    })
}

pub(crate) fn append_answer<RT: AsyncRuntime>(answer: &AppendEntriesResponse<RaftTypes<RT>>) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        AppendEntriesResponse::Success => out.put_u8(0),
        AppendEntriesResponse::PartialSuccess(upto) => {
            out.put_u8(1);
            put_optional_log_id(upto.as_ref(), &mut out);
        }
        AppendEntriesResponse::Conflict => out.put_u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(3);
            encode_vote(vote, &mut out);
        }
    }
    out.freeze()
}

pub(crate) fn take_append_answer<RT: AsyncRuntime>(body: Bytes) -> Result<AppendEntriesResponse<RaftTypes<RT>>, DecodeError> {
    whole(body, "append answer", |body| {
        Ok(match take_u8(body, "append answer")? {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(take_optional_log_id(body)?),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(take_vote(body)?),
            tag => return Err(DecodeError::Tag { what: "append answer", tag }),
        })
    })
}

pub(crate) fn put_vote_request<RT: AsyncRuntime>(request: &VoteRequest<RaftTypes<RT>>, out: &mut BytesMut) {
    encode_vote(&request.vote, out);
    put_optional_log_id(request.last_log_id.as_ref(), out);
    out.put_u8(u8::from(request.leadership_transfer));
}

pub(crate) fn take_vote_request<RT: AsyncRuntime>(body: Bytes) -> Result<VoteRequest<RaftTypes<RT>>, DecodeError> {
    whole(body, "vote request", |body| {
        let vote = take_vote(body)?;
        let mut request = VoteRequest::new(vote, take_optional_log_id(body)?);
        request.leadership_transfer = take_flag(body, "vote request")?;
        Ok(request)
    })
}

pub(crate) fn vote_answer<RT: AsyncRuntime>(answer: &VoteResponse<RaftTypes<RT>>) -> Bytes {
    let mut out = BytesMut::new();
    encode_vote(&answer.vote, &mut out);
    out.put_u8(u8::from(answer.vote_granted));
    put_optional_log_id(answer.last_log_id.as_ref(), &mut out);
    out.freeze()
}

pub(crate) fn take_vote_answer<RT: AsyncRuntime>(body: Bytes) -> Result<VoteResponse<RaftTypes<RT>>, DecodeError> {
    whole(body, "vote answer", |body| {
        let vote = take_vote(body)?;
        let granted = take_flag(body, "vote answer")?;
        Ok(VoteResponse::new(vote, take_optional_log_id(body)?, granted))
    })
}

pub(crate) fn put_transfer<RT: AsyncRuntime>(request: &TransferLeaderRequest<RaftTypes<RT>>, out: &mut BytesMut) {
    encode_vote(request.from_leader(), out);
    out.put_u64_le(*request.to_node_id());
    put_optional_log_id(request.last_log_id(), out);
}

pub(crate) fn take_transfer<RT: AsyncRuntime>(body: Bytes) -> Result<TransferLeaderRequest<RaftTypes<RT>>, DecodeError> {
    whole(body, "transfer", |body| {
        let from = take_vote(body)?;
        let to = take_u64(body, "transfer")?;
        Ok(TransferLeaderRequest::new(from, to, take_optional_log_id(body)?))
    })
}

pub(crate) fn put_snapshot_begin(vote: &Vote, meta: &SnapshotMeta, out: &mut BytesMut) {
    encode_vote(vote, out);
    encode_snapshot_meta(meta, out);
}

pub(crate) fn take_snapshot_begin(body: Bytes) -> Result<(Vote, SnapshotMeta), DecodeError> {
    whole(body, "snapshot begin", |body| Ok((take_vote(body)?, take_snapshot_meta(body)?)))
}

pub(crate) fn put_snapshot_chunk(transfer: u64, number: u64, rows: &[Row], out: &mut BytesMut) {
    out.put_u64_le(transfer);
    out.put_u64_le(number);
    put_len(rows.len(), out);
    for (key, value) in rows {
        put_len(key.len(), out);
        put_len(value.len(), out);
        out.put_slice(key);
        out.put_slice(value);
    }
}

pub(crate) fn take_snapshot_chunk(body: Bytes) -> Result<(u64, u64, Vec<Row>), DecodeError> {
    const WHAT: &str = "snapshot chunk";
    whole(body, WHAT, |body| {
        let transfer = take_u64(body, WHAT)?;
        let number = take_u64(body, WHAT)?;
        let mut rows = Vec::new();
        for _ in 0..take_u32(body, WHAT)? {
            let key = take_u32(body, WHAT)? as usize;
            let value = take_u32(body, WHAT)? as usize;
            rows.push((take_slice(body, key, WHAT)?, take_slice(body, value, WHAT)?));
        }
        Ok((transfer, number, rows))
    })
}

pub(crate) fn put_snapshot_commit(transfer: u64, chunks: u64, out: &mut BytesMut) {
    out.put_u64_le(transfer);
    out.put_u64_le(chunks);
}

pub(crate) fn take_snapshot_commit(body: Bytes) -> Result<(u64, u64), DecodeError> {
    whole(body, "snapshot commit", |body| Ok((take_u64(body, "snapshot commit")?, take_u64(body, "snapshot commit")?)))
}

pub(crate) fn vote_bytes(vote: &Vote) -> Bytes {
    let mut out = BytesMut::new();
    encode_vote(vote, &mut out);
    out.freeze()
}

/// The last log id that a request covers.
pub(crate) fn last_of<RT: AsyncRuntime>(request: &AppendEntriesRequest<RaftTypes<RT>>, entries: usize) -> Option<LogId> {
    match entries {
        0 => request.prev_log_id,
        count => Some(request.entries[count - 1].log_id),
    }
}

/// Decodes a number that fills `body`.
pub(crate) fn take_u64_body(body: Bytes) -> Result<u64, DecodeError> {
    whole(body, "number", |body| take_u64(body, "number"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::TokioRuntime;

    use super::*;
    use crate::packed::{Packed, Payload};
    use crate::raft_types::EntryBody;

    type Request = AppendEntriesRequest<RaftTypes<TokioRuntime>>;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId { leader_id: term.into(), index }
    }

    fn request(bodies: &[&'static [u8]]) -> Request {
        let entries = bodies.iter().zip(6..).map(|(body, index)| RaftEntry {
            log_id: log_id(2, index),
            payload: EntryBody::Normal(Payload(Arc::new(Packed::from_bytes(Bytes::from_static(body))))),
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(2, 1),
            prev_log_id: Some(log_id(1, 5)),
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn an_append_survives_the_wire() {
        let sent = request(&[b"one", b"", b"three"]);
        let mut out = BytesMut::new();
        assert_eq!(put_append(&sent, 1_000, &mut out), 3);
        let got: Request = take_append(out.freeze()).unwrap();
        assert_eq!((got.vote, got.prev_log_id, got.leader_commit), (sent.vote, sent.prev_log_id, None));
        assert_eq!(got.entries, sent.entries);
    }

    #[test]
    fn an_append_is_cut_to_the_limit_but_never_to_nothing() {
        let sent = request(&[b"0123456789", b"0123456789", b"0123456789"]);
        // Each entry takes 4 + 17 + 10 bytes.
        let cases = [(1, 1), (31, 1), (61, 1), (62, 2), (93, 3)];
        for (limit, fitting) in cases {
            let mut out = BytesMut::new();
            assert_eq!(put_append(&sent, limit, &mut out), fitting, "limit {limit}");
            let got: Request = take_append(out.freeze()).unwrap();
            assert_eq!(got.entries.len(), fitting, "limit {limit}");
        }
        assert_eq!(last_of(&sent, 2), Some(log_id(2, 7)));
        assert_eq!(last_of(&sent, 0), Some(log_id(1, 5)));
    }

    #[test]
    fn answers_survive_the_wire() {
        let answers: [AppendEntriesResponse<RaftTypes<TokioRuntime>>; 5] = [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2))),
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(Vote::new(9, 3)),
        ];
        for answer in answers {
            assert_eq!(take_append_answer(append_answer(&answer)).unwrap(), answer);
        }
        let granted: VoteResponse<RaftTypes<TokioRuntime>> = VoteResponse::new(Vote::new(3, 1), Some(log_id(2, 2)), true);
        assert_eq!(take_vote_answer(vote_answer(&granted)).unwrap(), granted);
    }

    #[test]
    fn no_bytes_make_decoding_panic() {
        let mut state: u64 = 1;
        for round in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..round % 80 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Mostly small numbers, so that counts and tags are often plausible.
                let byte = u8::try_from(state >> 56).expect("eight bits");
                bytes.push(if state & (1 << 40) == 0 { byte % 4 } else { byte });
            }
            let bytes = Bytes::from(bytes);
            // Whether they decode does not matter here.
            drop(take_append::<TokioRuntime>(bytes.clone()));
            drop(take_append_answer::<TokioRuntime>(bytes.clone()));
            drop(take_vote_request::<TokioRuntime>(bytes.clone()));
            drop(take_vote_answer::<TokioRuntime>(bytes.clone()));
            drop(take_transfer::<TokioRuntime>(bytes.clone()));
            drop(take_snapshot_begin(bytes.clone()));
            drop(take_snapshot_chunk(bytes.clone()));
            drop(decode_entry(bytes));
        }
    }

    #[test]
    fn snapshot_chunks_survive_the_wire() {
        let rows = vec![(Bytes::from_static(b"k1"), Bytes::from_static(b"v")), (Bytes::from_static(b"k2"), Bytes::new())];
        let mut out = BytesMut::new();
        put_snapshot_chunk(4, 2, &rows, &mut out);
        let whole = out.freeze();
        assert_eq!(take_snapshot_chunk(whole.clone()).unwrap(), (4, 2, rows));
        for cut in 0..whole.len() {
            take_snapshot_chunk(whole.slice(..cut)).expect_err("a cut chunk is refused");
        }
    }
}

//! What a request from node to node is: a type with a number, a version and an answer of its own, and the frame it travels in.
//!
//! A frame begins with a header that never changes: which request, in which version, under which number it was sent, and room for a
//! trace. A node that does not know the request says so in words; nothing has happened then. An answer that cannot be read is a
//! failure with its own cause, since the request may have been done.

use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use ordergrid_api::{Failure, Refusal, UnknownCause};
use ordergrid_cluster::{CallError, NodeId};
use ordergrid_domain::GroupId;

use crate::context::NodeContext;
use crate::peers::decode;

/// Bytes before the body of a request.
const HEADER: usize = 28;

/// A request from one node to another. Forwarded at most once: the receiver answers or refuses.
pub(crate) trait NodeRequest: Encode + Decode<()> + Send + Sync + 'static {
    /// Its number; never given to another request.
    const TAG: u16;
    /// The version of its bytes and of those of its answer.
    const VERSION: u16;
    /// What it is answered with.
    type Response: Encode + Decode<()> + Send + 'static;

    /// The shard it belongs to, if it belongs to one.
    fn shard(&self, node: &NodeContext) -> Option<GroupId>;
}

/// What stands before the body of every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Which request.
    pub(crate) tag: u16,
    /// In which version.
    pub(crate) version: u16,
    /// Counts the requests of the node that sends it: names the request in the lines of both.
    pub(crate) number: u64,
    /// The trace that it belongs to; zero where none is known.
    pub(crate) trace: u128,
}

impl Header {
    /// Takes it off a frame; `None` where the frame is shorter.
    pub(crate) fn take(frame: &mut Bytes) -> Option<Self> {
        if frame.len() < HEADER {
            return None;
        }
        let (tag, version, number) = (frame.get_u16_le(), frame.get_u16_le(), frame.get_u64_le());
        Some(Self { tag, version, number, trace: frame.get_u128_le() })
    }

    fn put(&self, frame: &mut BytesMut) {
        frame.put_u16_le(self.tag);
        frame.put_u16_le(self.version);
        frame.put_u64_le(self.number);
        frame.put_u128_le(self.trace);
    }
}

/// The frame of a request.
pub(crate) fn frame<R: NodeRequest>(request: &R, number: u64) -> Bytes {
    let header = Header { tag: R::TAG, version: R::VERSION, number, trace: 0 };
    let body = crate::peers::encode(request);
    let mut frame = BytesMut::with_capacity(HEADER + body.len());
    header.put(&mut frame);
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// What a node answers. That a request is not understood can be read whatever was asked.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Answered<T> {
    /// It was done, or read.
    Done(T),
    /// It was refused, or its outcome is not known.
    Failed(Failure),
    /// Nothing was done: the shard is led elsewhere, by this node if it is known.
    Elsewhere(Option<NodeId>),
    /// Nothing was done: the request is not known there, or cannot be read, in these words.
    NotUnderstood(String),
}

/// Why a call has no response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The node cannot be reached, and nothing was sent.
    #[error("the node cannot be reached")]
    NotSent,
    /// It was sent, and no answer came.
    #[error("no answer came")]
    Lost,
    /// It was sent, and what came cannot be read as an answer to it.
    #[error("the answer cannot be read")]
    Unreadable,
    /// The node does not know the request.
    #[error("not understood: {0}")]
    NotUnderstood(String),
    /// The shard is led elsewhere.
    #[error("the shard is led elsewhere")]
    Elsewhere(Option<NodeId>),
    /// The node says so.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotSent => Self::refused(Refusal::Unreachable),
            RequestError::Lost => Self::unknown(UnknownCause::ConnectionLost),
            RequestError::Unreadable => Self::unknown(UnknownCause::Unreadable),
            RequestError::NotUnderstood(_) => Self::refused(Refusal::NotUnderstood),
            RequestError::Elsewhere(_) => Self::refused(Refusal::NoLeader),
            RequestError::Failed(failure) => failure,
        }
    }
}

/// Reads what came back for a request.
pub(crate) fn response<R: NodeRequest>(came: Result<Bytes, CallError>) -> Result<R::Response, RequestError> {
    let body = came.map_err(|error| match error {
        CallError::NotSent(_) => RequestError::NotSent,
        CallError::Unknown => RequestError::Lost,
    })?;
    match decode::<Answered<R::Response>>(&body).ok_or(RequestError::Unreadable)? {
        Answered::Done(response) => Ok(response),
        Answered::Failed(failure) => Err(RequestError::Failed(failure)),
        Answered::Elsewhere(named) => Err(RequestError::Elsewhere(named)),
        Answered::NotUnderstood(words) => Err(RequestError::NotUnderstood(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::grid::requests::{MarkShard, TakeCut};
    use crate::peers::encode;

    fn read(answer: &Answered<u64>) -> Result<u64, RequestError> {
        response::<MarkShard>(Ok(encode(answer)))
    }

    #[test]
    fn a_frame_says_which_request_it_is_and_under_which_number() {
        let mut frame = frame(&MarkShard(GroupId(3)), 0x0102);
        let golden = [9, 0, 1, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(frame[..], golden);
        let header = Header::take(&mut frame);
        assert_eq!(header, Some(Header { tag: MarkShard::TAG, version: MarkShard::VERSION, number: 0x0102, trace: 0 }));
        assert_eq!(frame[..], [3]);
        for length in 0..HEADER {
            assert_eq!(Header::take(&mut Bytes::copy_from_slice(&golden[..length])), None, "{length} bytes");
        }
    }

    #[test]
    fn every_answer_is_read_as_what_it_is_and_anything_else_has_a_cause_of_its_own() {
        assert_eq!(read(&Answered::Done(7)), Ok(7));
        let refused = Failure::refused(Refusal::NotReady);
        assert_eq!(read(&Answered::Failed(refused.clone())), Err(RequestError::Failed(refused)));
        assert_eq!(read(&Answered::Elsewhere(Some(2))), Err(RequestError::Elsewhere(Some(2))));
        assert_eq!(read(&Answered::NotUnderstood("why".to_owned())), Err(RequestError::NotUnderstood("why".to_owned())));
        let whole = encode(&Answered::Done(700_u64));
        let longer = [&whole[..], &[0]].concat();
        for wrong in [Vec::new(), whole[..whole.len() - 1].to_vec(), longer, vec![9, 9, 9]] {
            let came = Ok(Bytes::from(wrong.clone()));
            assert_eq!(response::<MarkShard>(came), Err(RequestError::Unreadable), "{wrong:?}");
        }
        // The answer of another request.
        assert!(matches!(response::<TakeCut>(Ok(whole)), Err(RequestError::Unreadable)));
        assert_eq!(response::<MarkShard>(Err(CallError::Unknown)), Err(RequestError::Lost));
    }

    #[test]
    fn what_may_have_happened_is_never_told_as_refused() {
        for (error, unknown) in [
            (RequestError::NotSent, false),
            (RequestError::Lost, true),
            (RequestError::Unreadable, true),
            (RequestError::NotUnderstood(String::new()), false),
            (RequestError::Elsewhere(None), false),
            (RequestError::Failed(Failure::unknown(UnknownCause::Stopped)), true),
        ] {
            let words = error.to_string();
            assert_eq!(Failure::from(error).outcome_unknown(), unknown, "{words}");
        }
    }
}

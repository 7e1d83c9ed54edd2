//! The messages between nodes, and how they are read from and written to a connection.
//!
//! | Message | Layout, little endian |
//! |---|---|
//! | request | 1u8, id u64, operation u8, body |
//! | response | 2u8, id u64, status u8, body |
//! | hello | 3u8, protocol u16, lane u8, from u64, to u64, cluster (0u8, or 1u8 and u128) |
//! | welcome | 4u8, verdict u8, node u64, cluster (0u8, or 1u8 and u128) |
//!
//! Ids count per connection. The node that opens a connection sends a hello and then requests. The other node answers with a
//! welcome and then with responses.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::transport::WireCodec;
use crate::ids::{ClusterId, NodeId};

/// Raised when a message changes its meaning; nodes of different protocols refuse each other.
pub(super) const PROTOCOL: u16 = 3;
/// Bytes before the body of a request or response.
pub(super) const PREFIX: usize = 10;
/// Queued frames are written together, up to about this many bytes.
const GATHER: usize = 256 << 10;
/// Bytes of buffer space requested for a read.
const READ: usize = 64 << 10;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const HELLO: u8 = 3;
const WELCOME: u8 = 4;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Entries or a heartbeat.
    Append = 1,
    Vote = 2,
    PreVote = 3,
    Transfer = 4,
    SnapshotBegin = 5,
    SnapshotChunk = 6,
    SnapshotCommit = 7,
    /// One of the node's own services; the first byte of the body says which.
    Service = 8,
    /// Checks whether the peer answers. The answer is empty.
    Ping = 9,
    /// Asks for the peer's bootstrap stage. The only operation that is allowed before both nodes know that they are of one
    /// cluster.
    Probe = 10,
}

impl Operation {
    fn from_u8(tag: u8) -> Option<Self> {
        Some(match tag {
            1 => Self::Append,
            2 => Self::Vote,
            3 => Self::PreVote,
            4 => Self::Transfer,
            5 => Self::SnapshotBegin,
            6 => Self::SnapshotChunk,
            7 => Self::SnapshotCommit,
            8 => Self::Service,
            9 => Self::Ping,
            10 => Self::Probe,
            _ => return None,
        })
    }
}

/// How a request ended on the other side. Everything but `Done` and `Failed` means that nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done = 0,
    /// The node does not have the group, or not yet.
    NoGroup = 1,
    /// The node has another replica of the group: the sender's membership is outdated.
    WrongReplica = 2,
    NoService = 3,
    /// The two nodes are not known to be of one cluster.
    NotOneCluster = 4,
    /// The request could not be read.
    Malformed = 5,
    /// The replica failed while handling it.
    Failed = 6,
}

impl Status {
    fn from_u8(tag: u8) -> Option<Self> {
        Some(match tag {
            0 => Self::Done,
            1 => Self::NoGroup,
            2 => Self::WrongReplica,
            3 => Self::NoService,
            4 => Self::NotOneCluster,
            5 => Self::Malformed,
            6 => Self::Failed,
            _ => return None,
        })
    }
}

/// A peer's introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) protocol: u16,
    pub(super) lane: u8,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) cluster: Option<ClusterId>,
}

/// The verdict on a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HelloReply {
    Welcome = 0,
    OtherProtocol = 1,
    OtherNode = 2,
    OtherCluster = 3,
}

/// The answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) verdict: HelloReply,
    pub(super) node: NodeId,
    pub(super) cluster: Option<ClusterId>,
}

/// A message as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request { id: u64, operation: Operation, body: Bytes },
    Response { id: u64, status: Status, body: Bytes },
    Hello(Hello),
    Welcome(Welcome),
}

/// A request with room for its id, to which the body is appended.
pub(crate) fn request(operation: Operation) -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(REQUEST);
    out.put_u64_le(0);
    out.put_u8(operation as u8);
    out
}

/// Writes the connection's id of the request into a [`request`].
pub(super) fn number(request: &mut BytesMut, id: u64) {
    request[1..9].copy_from_slice(&id.to_le_bytes());
}

pub(super) fn response(id: u64, status: Status, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(PREFIX + body.len());
    out.put_u8(RESPONSE);
    out.put_u64_le(id);
    out.put_u8(status as u8);
    out.put_slice(body);
    out
}

pub(super) fn hello(hello: &Hello) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(HELLO);
    out.put_u16_le(hello.protocol);
    out.put_u8(hello.lane);
    out.put_u64_le(hello.from);
    out.put_u64_le(hello.to);
    put_cluster(hello.cluster, &mut out);
    out
}

pub(super) fn welcome(welcome: &Welcome) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(WELCOME);
    out.put_u8(welcome.verdict as u8);
    out.put_u64_le(welcome.node);
    put_cluster(welcome.cluster, &mut out);
    out
}

fn put_cluster(cluster: Option<ClusterId>, out: &mut BytesMut) {
    out.put_u8(u8::from(cluster.is_some()));
    if let Some(cluster) = cluster {
        out.put_u128_le(cluster.0);
    }
}

/// Reads a message from a frame's body.
pub(super) fn parse(body: Bytes) -> io::Result<Message> {
    try_parse(body).ok_or_else(|| broken("a message of unknown form"))
}

fn try_parse(mut body: Bytes) -> Option<Message> {
    Some(match body.try_get_u8().ok()? {
        REQUEST => {
            Message::Request { id: body.try_get_u64_le().ok()?, operation: Operation::from_u8(body.try_get_u8().ok()?)?, body }
        }
        RESPONSE => {
            Message::Response { id: body.try_get_u64_le().ok()?, status: Status::from_u8(body.try_get_u8().ok()?)?, body }
        }
        HELLO => Message::Hello(Hello {
            protocol: body.try_get_u16_le().ok()?,
            lane: body.try_get_u8().ok()?,
            from: body.try_get_u64_le().ok()?,
            to: body.try_get_u64_le().ok()?,
            cluster: take_cluster(&mut body)?,
        }),
        WELCOME => Message::Welcome(Welcome {
            verdict: match body.try_get_u8().ok()? {
                0 => HelloReply::Welcome,
                1 => HelloReply::OtherProtocol,
                2 => HelloReply::OtherNode,
                3 => HelloReply::OtherCluster,
                _ => return None,
            },
            node: body.try_get_u64_le().ok()?,
            cluster: take_cluster(&mut body)?,
        }),
        _ => return None,
    })
}

fn take_cluster(body: &mut Bytes) -> Option<Option<ClusterId>> {
    match body.try_get_u8().ok()? {
        0 => Some(None),
        1 => Some(Some(ClusterId(body.try_get_u128_le().ok()?))),
        _ => None,
    }
}

pub(super) fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Reads whole frames from a connection.
pub(super) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    /// Largest body in bytes.
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(from: R, limit: usize) -> Self {
        Self { from, buffer: BytesMut::new(), limit }
    }

    /// Allows bodies of up to `limit` bytes from now on.
    pub(super) fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next message. An end of the stream between two frames is an error too.
    pub(super) async fn next(&mut self, codec: &dyn WireCodec) -> io::Result<Message> {
        let header = codec.header_len();
        loop {
            let mut wanted = header;
            if self.buffer.len() >= header {
                let len = codec.body_len(&self.buffer[..header])?;
                if len > self.limit {
                    return Err(broken(format!("a frame of {len} bytes, more than {}", self.limit)));
                }
                wanted = header + len;
                if self.buffer.len() >= wanted {
                    return parse(codec.open(self.take(wanted))?);
                }
            }
            // Grow with the bytes that have arrived, not with what a header announces: the rest may never arrive.
            let missing = wanted - self.buffer.len();
            self.buffer.reserve(missing.min(self.buffer.len()).max(READ));
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R> FrameReader<R> {
    /// Takes the first `len` bytes. A small body is copied out: an entry that stays in the log's tail would otherwise
    /// keep a whole read buffer alive, and every read would need a new one.
    fn take(&mut self, len: usize) -> Bytes {
        if len >= READ {
            return self.buffer.split_to(len).freeze();
        }
        let small = Bytes::copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        small
    }
}

/// Writes one message.
pub(super) async fn write_one<W>(to: &mut W, codec: &dyn WireCodec, body: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    codec.seal(body, &mut out);
    to.write_all(&out).await?;
    to.flush().await
}

/// Writes messages from `queue` until it closes; all waiting messages go out in one write. `prepare` numbers a
/// message, or drops one that nobody waits for any more.
pub(super) async fn write_all<W, T>(
    mut to: W,
    codec: &dyn WireCodec,
    queue: &mut mpsc::Receiver<T>,
    mut prepare: impl FnMut(T) -> Option<BytesMut>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut out = BytesMut::with_capacity(READ);
    loop {
        let Some(first) = queue.recv().await else {
            return Ok(());
        };
        let mut next = Some(first);
        while let Some(message) = next {
            if let Some(body) = prepare(message) {
                codec.seal(&body, &mut out);
            }
            next = if out.len() < GATHER { queue.try_recv().ok() } else { None };
        }
        if !out.is_empty() {
            to.write_all(&out).await?;
            to.flush().await?;
        }
        if out.capacity() > 4 * GATHER {
            out = BytesMut::with_capacity(READ);
        } else {
            out.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let mut asked = request(Operation::Vote);
        number(&mut asked, 7);
        asked.put_slice(b"body");
        let introduced = Hello { protocol: 1, lane: 2, from: 3, to: 4, cluster: Some(ClusterId(0x0102_0304_0506_0708)) };
        let welcomed = Welcome { verdict: HelloReply::OtherCluster, node: 9, cluster: None };
        let cases = [
            (asked, Message::Request { id: 7, operation: Operation::Vote, body: Bytes::from_static(b"body") }),
            (
                response(8, Status::WrongReplica, b""),
                Message::Response { id: 8, status: Status::WrongReplica, body: Bytes::new() },
            ),
            (hello(&introduced), Message::Hello(introduced)),
            (welcome(&welcomed), Message::Welcome(welcomed)),
        ];
        for (bytes, message) in cases {
            assert_eq!(parse(bytes.freeze()).unwrap(), message);
        }
    }

    #[test]
    fn cut_and_unknown_messages_are_refused() {
        let cases: [&[u8]; 5] = [b"", b"\x01", b"\x01\0\0\0\0\0\0\0\0\xff", b"\x09", b"\x03\x01\0"];
        for bytes in cases {
            parse(Bytes::copy_from_slice(bytes)).expect_err("not a message");
        }
    }
}

//! Answers that are too large for a connection's buffer. They are written in pieces, each when the piece before it has been
//! sent. Their source values stay in memory until then, but not their text.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use ordergrid_domain::Order;

use crate::account::{Account, Taken, Use};
use crate::limits::PIECE;
use crate::wire::written::{OfCommand, Writer};

/// Texts up to this size are not accounted for separately: each connection's account includes one.
const SMALL: usize = 16 << 10;
/// Memory for the text of an answer in pieces: the piece that is being sent, the next one, and the write buffer.
pub(super) const PIECES: u64 = 3 * PIECE as u64;
/// Orders with more lines or metadata than this are written in pieces.
const MANY: usize = 32;

/// JSON that can be written in parts.
pub(super) trait Parts: Send + Unpin + 'static {
    /// Appends the next part, of about ten kilobytes. Returns false at the end.
    fn write(&mut self, json: &mut Writer<'_>) -> bool;
}

/// A body of a complete text.
pub(super) fn whole(account: &Account, text: Vec<u8>) -> Body {
    if text.len() <= SMALL {
        return Body::from(text);
    }
    let taken = account.owe(Use::Answers, text.len() as u64);
    Body::from(Bytes::from_owner(Kept { text, _taken: taken }))
}

/// A body of parts. Small parts are joined into one text. `taken` is the memory of the source values.
pub(super) fn in_pieces(account: &Account, room: usize, mut parts: impl Parts, taken: Option<Taken>) -> Body {
    let mut text = Vec::with_capacity(room.min(PIECE));
    if !next(&mut parts, &mut text) {
        return whole(account, text);
    }
    let pieces = Pieces { first: Some(text), parts: Some(parts), _taken: (account.owe(Use::Answers, PIECES), taken) };
    Body::new(pieces)
}

/// Writes a piece. Returns false after the last one.
fn next(parts: &mut impl Parts, text: &mut Vec<u8>) -> bool {
    while text.len() < PIECE {
        if !parts.write(&mut Writer(text)) {
            return false;
        }
    }
    true
}

/// A text with its memory, which is held as long as any part of the text is in use.
struct Kept {
    text: Vec<u8>,
    _taken: Taken,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

struct Pieces<P> {
    first: Option<Vec<u8>>,
    /// `None` once all parts are written.
    parts: Option<P>,
    _taken: (Taken, Option<Taken>),
}

impl<P: Parts> hyper::body::Body for Pieces<P> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first.into()))));
        }
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        let mut text = Vec::with_capacity(PIECE + SMALL);
        if !next(parts, &mut text) {
            self.parts = None;
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.parts.is_none()
    }
}

/// A large order.
pub(super) struct LargeOrder {
    order: Arc<Order>,
    of: OfCommand,
    line: Option<usize>,
    complete: bool,
}

impl LargeOrder {
    /// The order, if it is large.
    pub(super) fn of(order: &Arc<Order>, of: OfCommand) -> Option<Self> {
        let large = order.lines.len() > MANY || order.metadata.len() > MANY;
        large.then(|| Self { order: Arc::clone(order), of, line: None, complete: false })
    }
}

impl Parts for LargeOrder {
    fn write(&mut self, json: &mut Writer<'_>) -> bool {
        if !self.complete {
            self.complete = json.part(&self.order, self.of, &mut self.line);
        }
        !self.complete
    }
}

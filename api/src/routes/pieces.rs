//! Answers that are larger than a connection should hold: written in pieces, each when the one before it is on its way. What
//! they are written from stays in memory until then, the text of it does not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use ordergrid_domain::Order;
use ordergrid_domain::command::Created;

use crate::account::{Account, Taken, Use};
use crate::serve::PIECE;
use crate::wire::written::Writer;

/// Texts up to this size are not counted: a connection stands for one of them.
const SMALL: usize = 16 << 10;
/// Memory of the text of an answer in pieces: the piece that is being sent, the one behind it, and where it is written.
pub(super) const PIECES: u64 = 3 * PIECE as u64;
/// Orders with more lines or metadata than this are written in pieces.
const MANY: usize = 32;

/// JSON that can be written in parts.
pub(super) trait Parts: Send + Unpin + 'static {
    /// Appends the next part, of some ten kilobytes; false once nothing is left.
    fn write(&mut self, json: &mut Writer<'_>) -> bool;
}

/// A body of a text that is written already.
pub(super) fn whole(account: &Account, text: Vec<u8>) -> Body {
    if text.len() <= SMALL {
        return Body::from(text);
    }
    let taken = account.owe(Use::Answers, text.len() as u64);
    Body::from(Bytes::from_owner(Kept { text, _taken: taken }))
}

/// A body of parts: as one text if that is small. `taken` is memory for what the parts are written from.
pub(super) fn in_pieces(account: &Account, room: usize, mut parts: impl Parts, taken: Option<Taken>) -> Body {
    let mut text = Vec::with_capacity(room.min(PIECE));
    if !next(&mut parts, &mut text) {
        return whole(account, text);
    }
    let pieces = Pieces { first: Some(text), parts: Some(parts), _taken: (account.owe(Use::Answers, PIECES), taken) };
    Body::new(pieces)
}

/// Writes a piece; false if that was the last.
fn next(parts: &mut impl Parts, text: &mut Vec<u8>) -> bool {
    while text.len() < PIECE {
        if !parts.write(&mut Writer(text)) {
            return false;
        }
    }
    true
}

/// A text, and the memory that it takes for as long as anybody holds a part of it.
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
    /// None: all are written.
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

/// An order that is large.
pub(super) struct LargeOrder {
    order: Arc<Order>,
    created: Option<Created>,
    line: Option<usize>,
    complete: bool,
}

impl LargeOrder {
    /// The order, if it is large.
    pub(super) fn of(order: &Arc<Order>, created: Option<Created>) -> Option<Self> {
        let large = order.lines.len() > MANY || order.metadata.len() > MANY;
        large.then(|| Self { order: Arc::clone(order), created, line: None, complete: false })
    }
}

impl Parts for LargeOrder {
    fn write(&mut self, json: &mut Writer<'_>) -> bool {
        if !self.complete {
            self.complete = json.part(&self.order, self.created, &mut self.line);
        }
        !self.complete
    }
}

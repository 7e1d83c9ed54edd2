//! Sends answers piece by piece, so that a connection shows whether its client reads them. A piece is requested when the piece
//! before it has been sent. So an answer that nobody reads makes no progress, whatever else happens on its connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as Whole;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Answering;
use crate::account::Taken;
use crate::limits::PIECE;

/// The body of an answer.
pub(super) struct Outgoing {
    whole: Whole,
    /// The rest of a frame that was larger than a piece.
    rest: Bytes,
    answering: Answering,
    /// Memory of the request, if its connection's account does not include it.
    _stream: Option<Taken>,
}

impl Outgoing {
    pub(super) fn new(whole: Whole, answering: Answering, stream: Option<Taken>) -> Self {
        Self { whole, rest: Bytes::new(), answering, _stream: stream }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE);
        Frame::data(self.rest.split_to(length))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.whole).poll_frame(context);
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        self.answering.progress();
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, whole) = (self.rest.len() as u64, self.whole.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(whole.lower() + rest);
        if let Some(upper) = whole.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

//! Whole messages between nodes that are lost, repeated, or put behind the next one.
//!
//! TCP does none of that within a connection, but nodes that connect anew see all of it, and the protocol of placing must bear
//! it. Consensus rests on the order of a connection, as its library asks: there messages are lost, and nothing else happens.
//! The first message of each direction, which introduces the peer, is spared.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use ordergrid_storage::codec;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::NetStream;
use crate::dice::Dice;
use crate::trace;

/// Longest message that is looked for.
const LIMIT: usize = 1 << 30;

/// One end of a connection of the mesh.
pub(super) struct Frames {
    inner: NetStream,
    /// In a thousand: lost, repeated, put behind the next.
    rates: Arc<Mutex<(u64, u64, u64)>>,
    dice: Dice,
    /// The beginning of a message.
    part: BytesMut,
    /// What goes out.
    out: BytesMut,
    held: Option<Bytes>,
    introduced: bool,
}

impl Frames {
    pub(super) fn new(inner: NetStream, rates: Arc<Mutex<(u64, u64, u64)>>, dice: Dice) -> Self {
        Self { inner, rates, dice, part: BytesMut::new(), out: BytesMut::new(), held: None, introduced: false }
    }

    /// Whole messages leave `part`, and fare as is drawn.
    fn sort(&mut self) {
        while self.part.len() >= codec::HEADER_LEN {
            let Ok(body) = codec::body_len(&self.part[..codec::HEADER_LEN], LIMIT) else {
                // No message of ours: let it pass.
                self.out.extend_from_slice(&self.part.split());
                return;
            };
            let whole = codec::HEADER_LEN + body;
            if self.part.len() < whole {
                return;
            }
            let frame = self.part.split_to(whole).freeze();
            self.fare(&frame);
        }
    }

    fn fare(&mut self, frame: &Bytes) {
        if !std::mem::replace(&mut self.introduced, true) {
            return self.out.extend_from_slice(frame);
        }
        let (lost, repeated, behind) = *self.rates.lock();
        let (repeated, behind) = if is_service(frame) { (repeated, behind) } else { (0, 0) };
        let drawn = self.dice.below(1_000);
        if drawn < lost {
            trace::note(format_args!("message lost, {} bytes", frame.len()));
            return;
        }
        if drawn < lost + repeated {
            trace::note(format_args!("message repeated, {} bytes", frame.len()));
            self.out.extend_from_slice(frame);
        }
        if drawn >= lost + repeated && drawn < lost + repeated + behind && self.held.is_none() {
            trace::note(format_args!("message held back, {} bytes", frame.len()));
            self.held = Some(frame.clone());
            return;
        }
        self.out.extend_from_slice(frame);
        if let Some(held) = self.held.take() {
            self.out.extend_from_slice(&held);
        }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.inner).poll_write(context, &self.out) {
                Poll::Ready(Ok(sent)) => self.out.advance(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A request to a service of the node, as the mesh lays requests out: a 1, an id of eight bytes, and what is asked for.
fn is_service(frame: &[u8]) -> bool {
    const REQUEST: u8 = 1;
    const SERVICE: u8 = 8;
    let body = &frame[codec::HEADER_LEN..];
    body.first() == Some(&REQUEST) && body.get(9) == Some(&SERVICE)
}

impl AsyncRead for Frames {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_drain(context))?;
        self.part.extend_from_slice(data);
        self.sort();
        // What does not fit goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_drain(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

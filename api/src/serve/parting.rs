//! Closes a connection so that its client receives the last answer.
//!
//! A request may be refused after its headers, while its body is still arriving. If the connection were closed then, the kernel
//! would answer further bytes with a reset, and the client would lose the refusal, or never read it: many clients send
//! everything before they read. So the answer says that it is the last one (`connection: close`). After it was written,
//! incoming bytes are read and discarded, up to a limit ([`Lingering`]).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::body::soon;

/// Up to this many bytes of a body that have already arrived are read before the answer, so that the connection can be kept.
const AT_HAND: u64 = 64 << 10;
/// The first bytes of an HTTP/2 connection.
const HTTP2: &[u8] = b"PRI ";
/// Bytes discarded at a time.
const SCRATCH: usize = 8 << 10;

/// Limits on reading a connection after its last answer was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// Longest time.
    pub time: Duration,
    /// Most bytes.
    pub bytes: usize,
}

/// How one connection ends.
#[derive(Debug, Default)]
pub(super) struct Parting {
    /// Whether the server is stopping: every answer is the last of its connection.
    leaving: AtomicBool,
    /// Whether the connection speaks HTTP/2, which has its own way to close.
    http2: AtomicBool,
    /// Whether bytes were received that belong to no answered request.
    unread: AtomicBool,
    /// The rest of a body, from the time its handler drops it until the answer is written.
    rest: Mutex<Option<Incoming>>,
}

impl Parting {
    /// Marks every further HTTP/1 answer as the last of its connection.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the connection speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Lends a request's body to its handler.
    pub(super) fn lend(self: &Arc<Self>, body: Incoming) -> Body {
        self.unread.store(false, Ordering::Relaxed);
        if self.is_http2() || body.is_end_stream() {
            return Body::new(body);
        }
        Body::new(Lent { body: Some(body), parting: Arc::clone(self) })
    }

    /// Adds to the answer whether it is the last of the connection: that is so if the server is stopping, and if more of the
    /// request is missing than has already arrived.
    pub(super) async fn tell(&self, answer: &mut Response<Body>) {
        if self.is_http2() {
            return;
        }
        let rest = self.rest().take();
        let unread = match rest {
            Some(rest) => !read_on(rest).await,
            None => false,
        };
        self.unread.store(unread, Ordering::Relaxed);
        if unread || self.leaving.load(Ordering::Relaxed) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn rest(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.rest.lock().expect("nobody panics while holding it")
    }
}

/// Reads the part of a body that has already arrived. Returns whether that was the rest of it.
async fn read_on(mut rest: Incoming) -> bool {
    let mut read = 0;
    loop {
        if read + rest.size_hint().lower() > AT_HAND {
            return false;
        }
        match soon(rest.frame()).await {
            Some(None) => return true,
            Some(Some(Ok(frame))) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Some(Err(_))) | None => return false,
        }
    }
}

/// A body that is given back when it is dropped before its end.
struct Lent {
    body: Option<Incoming>,
    parting: Arc<Parting>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.parting.rest() = Some(rest);
        }
    }
}

/// A stream that delays its end, up to a limit, until the client has sent everything.
pub(super) struct Lingering<S> {
    stream: S,
    parting: Arc<Parting>,
    linger: Linger,
    /// Whether any byte was read.
    begun: bool,
    drain: Option<Drain>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, parting: Arc<Parting>, linger: Linger) -> Self {
        Self { stream, parting, linger, begun: false, drain: None }
    }

    fn heard(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.begun {
            self.begun = true;
            self.parting.http2.store(bytes.starts_with(HTTP2), Ordering::Relaxed);
        }
        self.parting.unread.store(true, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.heard(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.drain.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if this.parting.is_http2() || !this.parting.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let drain = this.drain.get_or_insert_with(|| Drain::new(this.linger));
        drain.poll(&mut this.stream, context).map(Ok)
    }
}

/// Reads and discards bytes until the end of the stream or a limit.
struct Drain {
    left: usize,
    ends: Pin<Box<Sleep>>,
}

impl Drain {
    fn new(linger: Linger) -> Self {
        Self { left: linger.bytes, ends: Box::pin(tokio::time::sleep(linger.time)) }
    }

    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH];
        while self.left > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                // The end of the stream, or an error: nobody can receive an answer.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.ends.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

/// Reads a stream to its end after this side has written its last bytes.
pub(super) async fn hear_out(stream: &mut (impl AsyncRead + Unpin), linger: Linger) {
    let mut drain = Drain::new(linger);
    std::future::poll_fn(|context| drain.poll(stream, context)).await;
}

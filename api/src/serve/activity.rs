//! Closes idle connections. Only whole requests and delivered answers count as activity, not bytes: a client that trickles
//! single bytes, or sends pings and leaves its answers unread, keeps its connection no longer than a silent client. This module
//! also accounts for the memory that a connection buffers before a request has begun.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Stream;
use crate::account::Taken;

/// After a read that fills this many bytes, hyper doubles its read size.
const FULL_READ: usize = 8 << 10;
/// Size of hyper's buffer for small requests.
const SMALL_BUFFER: usize = 2 * FULL_READ;
/// Memory of an HTTP/1.1 connection with small requests: its task, its socket and its buffer. It is taken before the first
/// byte, so that every accepted connection can also send a request.
pub(super) const CONNECTION: u64 = (6 << 10) + SMALL_BUFFER as u64;
/// Memory of an HTTP/2 connection apart from its streams: frame buffers and the header table.
const HTTP2: u64 = 48 << 10;
/// Unparsed HTTP/2 bytes above this may be large headers.
const SMALL_FRAMES: usize = 4 << 10;
/// Additional memory for large headers or large reads: the buffer, and its copy while the buffer grows.
const LARGE: u64 = 2 * super::HEADERS as u64;
/// Bytes of an answer that count as progress, where answers are not sent in pieces.
const PROGRESS: usize = 16 << 10;
/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// The activity of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    under_way: AtomicU32,
    /// Number of requests that have begun.
    begun: AtomicU64,
    /// Milliseconds from `opened` to the last progress: the end of a request, or the request for a further piece of an answer.
    last: AtomicU64,
    /// The time of the last progress of each HTTP/2 answer that is being sent. Progress of one answer does not excuse another.
    answers: Mutex<BTreeMap<u64, u64>>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            under_way: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            last: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }

    /// Marks a request as under way for as long as the returned value lives.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay { activity: Arc::clone(self), number }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last.fetch_max(self.now(), Ordering::Relaxed);
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time at which the connection is closed if there is no further activity.
    fn ends_at(&self, idle: Duration) -> Instant {
        let at = |ms: u64| self.opened + Duration::from_millis(ms) + idle;
        let stuck = self.answers().values().min().copied().map(at);
        let quiet = if self.under_way.load(Ordering::Relaxed) > 0 {
            Instant::now() + idle
        } else {
            at(self.last.load(Ordering::Relaxed))
        };
        stuck.map_or(quiet, |stuck| stuck.min(quiet))
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Arc<Activity>,
    number: u64,
}

impl UnderWay {
    /// Ends the request; its answer is being sent, concurrently with others on HTTP/2.
    pub(super) fn answers(self, beside_others: bool) -> Answering {
        let (activity, number) = (Arc::clone(&self.activity), self.number);
        drop(self);
        let answering = Answering { activity, number: beside_others.then_some(number) };
        answering.progress();
        answering
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.touch();
        self.activity.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that is being sent.
#[derive(Debug)]
pub(super) struct Answering {
    activity: Arc<Activity>,
    number: Option<u64>,
}

impl Answering {
    /// Records that a piece of the answer was requested.
    pub(super) fn progress(&self) {
        let now = self.activity.now();
        self.activity.last.fetch_max(now, Ordering::Relaxed);
        if let Some(number) = self.number {
            self.activity.answers().insert(number, now);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.activity.answers().remove(&number);
        }
    }
}

/// Limits on the time without progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without a request, or with an answer that the client does not read.
    pub(super) idle: Duration,
    /// With a request whose headers have begun and are incomplete.
    pub(super) headers: Duration,
}

/// A connection that fails when it has been idle for too long, or when there is no memory for its buffers.
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    activity: Arc<Activity>,
    patience: Patience,
    alarm: Pin<Box<Sleep>>,
    head: Head,
    /// Bytes written since the last progress. On HTTP/1.1 all written bytes are answers.
    written: usize,
    taken: Taken,
}

/// Bytes that were read for a request that has not begun.
#[derive(Debug, Default)]
struct Head {
    /// The number of requests that had begun at the last look.
    seen: u64,
    bytes: usize,
    /// When the first of the bytes arrived.
    since: Option<Instant>,
    /// Whether the connection speaks HTTP/2: the bytes are frames of all kinds, and the protocol limits headers.
    http2: bool,
}

impl Head {
    /// Resets the count if the bytes have become a request.
    fn look(&mut self, activity: &Activity) {
        let begun = activity.begun.load(Ordering::Relaxed);
        if self.seen != begun || (!self.http2 && activity.under_way.load(Ordering::Relaxed) > 0) {
            (self.seen, self.bytes, self.since) = (begun, 0, None);
        }
    }

    fn read(&mut self, activity: &Activity, bytes: &[u8]) {
        if !self.http2 && activity.under_way.load(Ordering::Relaxed) > 0 {
            return;
        }
        self.http2 |= self.seen == 0 && self.bytes == 0 && bytes.starts_with(PREFACE);
        self.bytes += bytes.len();
        if !self.http2 && !bytes.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }
}

impl Watched {
    /// `taken` is the memory of the connection. It grows with the connection's buffers.
    pub(super) fn new(stream: Box<dyn Stream>, activity: Arc<Activity>, patience: Patience, taken: Taken) -> Self {
        let alarm = Box::pin(tokio::time::sleep(patience.idle));
        Self { stream, activity, patience, alarm, head: Head::default(), written: 0, taken }
    }

    /// The time at which the connection is closed if there is no further activity.
    fn ends_at(&self) -> Instant {
        let idle = self.activity.ends_at(self.patience.idle);
        self.head.since.map_or(idle, |since| idle.min(since + self.patience.headers))
    }

    /// Checks the deadline while the connection waits for its client. The timer is moved only when it fires, or when headers
    /// are incomplete, so a busy connection does not pay for it.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.head.look(&self.activity);
        if self.head.since.is_some_and(|since| since + self.patience.headers < self.alarm.deadline()) {
            let ends_at = self.ends_at();
            self.alarm.as_mut().reset(ends_at);
        }
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let ends_at = self.ends_at();
            if ends_at <= Instant::now() {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no whole request and no progress in time"));
            }
            self.alarm.as_mut().reset(ends_at);
        }
    }

    fn or_idle<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.poll_idle(context).map(Err),
            ready => ready,
        }
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled
            && !self.head.http2
        {
            self.written += bytes;
            if self.written >= PROGRESS {
                self.written = 0;
                self.activity.touch();
            }
        }
    }

    /// Memory of the connection if this many bytes can be read at once.
    fn needs(&self, offered: usize) -> u64 {
        let head = self.head.bytes;
        match self.head.http2 {
            true if head <= SMALL_FRAMES => HTTP2,
            true => HTTP2 + LARGE,
            false if offered + head <= SMALL_BUFFER => CONNECTION,
            false => CONNECTION + LARGE,
        }
    }

    /// How many bytes may be read at once. A read that fills hyper's buffer makes hyper double it. If there is no memory for
    /// that, reads are kept smaller.
    fn may_read(&mut self, offered: usize) -> io::Result<usize> {
        self.head.look(&self.activity);
        let needs = self.needs(offered);
        if needs <= self.taken.bytes() || self.taken.grow_to(needs).is_ok() {
            return Ok(offered);
        }
        if self.head.http2 || self.head.bytes >= FULL_READ {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "no memory for what this connection buffers"));
        }
        Ok(offered.min(FULL_READ - 1))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = self.may_read(buffer.remaining())?;
        let before = buffer.filled().len();
        let polled = if most == buffer.remaining() {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
            let read = part.filled().len();
            buffer.advance(read);
            polled
        };
        let this = &mut *self;
        this.head.read(&this.activity, &buffer.filled()[before..]);
        this.or_idle(polled, context)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&polled);
        self.or_idle(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&polled);
        self.or_idle(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.or_idle(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.or_idle(polled, context)
    }
}

//! What the mesh needs from outside: connections, and a codec that frames bytes on them.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Makes connections: TCP in production, a simulated network in the simulation, pipes in tests.
pub trait Transport: Send + Sync + 'static {
    /// Listens on `addr`.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `addr`. The mesh bounds the wait.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Takes connections.
pub trait Listener: Send + 'static {
    /// The next connection and where it comes from. Cancelled, it loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;

    /// Where this listens, with the port that was really taken.
    fn local_addr(&self) -> String;
}

/// Frames bytes on a connection: length, version, checksum. The node hands in storage's codec.
pub trait WireCodec: Send + Sync + 'static {
    /// Appends `body` as one frame to `out`.
    fn seal(&self, body: &[u8], out: &mut BytesMut);

    /// Length of a frame's header in bytes.
    fn header_len(&self) -> usize;

    /// The length of the body that follows `header`, which has [`header_len`](Self::header_len) bytes.
    ///
    /// # Errors
    /// If the header is not one; the connection is closed then.
    fn body_len(&self, header: &[u8]) -> io::Result<usize>;

    /// The body of a whole frame, header included, checked.
    ///
    /// # Errors
    /// If the frame is damaged; the connection is closed then.
    fn open(&self, frame: Bytes) -> io::Result<Bytes>;
}

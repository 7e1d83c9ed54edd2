//! The mesh's requirements: connections, and a codec that frames bytes on them.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Opens connections: TCP in production, a simulated network in the simulation, pipes in tests.
pub trait Transport: Send + Sync + 'static {
    /// Listens on `addr`.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `addr`. The mesh bounds the wait.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// The next connection and the peer's address. Cancelling the call loses no connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;

    /// The local address, with the port that was actually bound.
    fn local_addr(&self) -> String;
}

/// Frames bytes on a connection with a length, a version and a checksum. The node passes in storage's codec.
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

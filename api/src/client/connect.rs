//! The client's seam to the network.

use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Endpoint;

/// A byte stream to a node.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens byte streams to nodes: TCP in production, the simulated network in a simulation.
pub trait Connector: Send + Sync + 'static {
    /// Opens a stream. Dropping the future cancels the attempt.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

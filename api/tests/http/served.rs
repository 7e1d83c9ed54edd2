//! A server over a scripted grid, reached through streams in memory.

use std::future::pending;
use std::io;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_api::client::{Connector, Endpoint, Stream};
use ordergrid_api::{Accept, Course, ServeConfig, serve};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};

use crate::scripted::Scripted;

/// A server on the other end of streams in memory.
pub(crate) struct Wire {
    streams: mpsc::UnboundedSender<DuplexStream>,
}

struct Door {
    streams: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Connector for Wire {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let sent = self.streams.send(theirs).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused));
        async move { sent.map(|()| Box::new(ours) as Box<dyn Stream>) }.boxed()
    }
}

impl Accept for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ordergrid_api::Stream>, String)>> {
        async move {
            match self.streams.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn ordergrid_api::Stream>, "test".to_owned())),
                None => pending().await,
            }
        }
        .boxed()
    }
}

/// Serves the grid for as long as the test runs.
pub(crate) fn server(grid: &Arc<Scripted>) -> Arc<Wire> {
    let (streams, incoming) = mpsc::unbounded_channel();
    let grid = Arc::clone(grid);
    tokio::spawn(async move {
        let (_serving, course) = watch::channel(Course::Serving);
        serve(Door { streams: incoming }, grid as _, ServeConfig::default(), course).await
    });
    Arc::new(Wire { streams })
}

//! Ends of connections and listeners, as programs hold them.

use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_cluster::{Listener, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::host_of;
use super::wires::{Conn, Port, Side, WINDOW, Wires};

/// Largest piece that is sent at once.
const SEGMENT: usize = 32 << 10;

/// One end of a connection.
pub struct NetStream {
    wires: Arc<Mutex<Wires>>,
    conn: Conn,
    side: Side,
}

/// Connects. Dropped, it gives up.
pub(super) async fn connect(wires: Arc<Mutex<Wires>>, from: u64, addr: String) -> io::Result<NetStream> {
    let to = host_of(&addr)?;
    let conn = wires.lock().connect(from, &addr, to);
    let stream = NetStream { wires, conn, side: Side::Caller };
    poll_fn(|context| stream.poll_established(context)).await?;
    Ok(stream)
}

impl NetStream {
    fn poll_established(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut wires = self.wires.lock();
        let Some(connection) = wires.connections.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if connection.established {
            return Poll::Ready(Ok(()));
        }
        let end = connection.end(self.side);
        if let Some(broken) = end.broken {
            return Poll::Ready(Err(broken.into()));
        }
        end.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for NetStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wires = self.wires.lock();
        let Some(connection) = wires.connections.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = connection.end(self.side);
        if let Some(broken) = end.broken {
            return Poll::Ready(Err(broken.into()));
        }
        let Some(first) = end.arrived.front_mut() else {
            if end.finished {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let taken = first.len().min(into.remaining());
        into.put_slice(&first[..taken]);
        first.advance(taken);
        if first.is_empty() {
            end.arrived.pop_front();
        }
        end.unread -= taken;
        let writer = connection.end(self.side.other()).writer.take();
        drop(wires);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut wires = self.wires.lock();
        let Some(connection) = wires.connections.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let end = connection.end(self.side);
        if let Some(broken) = end.broken {
            return Poll::Ready(Err(broken.into()));
        }
        let room = WINDOW.saturating_sub(connection.end(self.side.other()).unread);
        if room == 0 {
            connection.end(self.side).writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = data.len().min(room).min(SEGMENT);
        wires.send_data(self.conn, self.side, Bytes::copy_from_slice(&data[..taken]));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wires.lock().finish(self.conn, self.side);
        Poll::Ready(Ok(()))
    }
}

impl Drop for NetStream {
    fn drop(&mut self) {
        self.wires.lock().drop_end(self.conn, self.side);
    }
}

/// Takes connections at one address.
pub struct NetListener {
    wires: Arc<Mutex<Wires>>,
    addr: String,
    /// Which of the host's lives this belongs to is known by the port being there.
    open: bool,
}

impl NetListener {
    pub(super) fn bind(wires: Arc<Mutex<Wires>>, host: u64, addr: &str) -> io::Result<Self> {
        if host_of(addr)? != host {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{addr} is not on host {host}")));
        }
        match wires.lock().ports.entry(addr.to_owned()) {
            Entry::Occupied(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{addr} is in use"))),
            Entry::Vacant(free) => free.insert(Port::default()),
        };
        Ok(Self { wires, addr: addr.to_owned(), open: true })
    }

    /// The next connection, and where it comes from. Cancelled, it loses none.
    pub(super) async fn next(&mut self) -> (NetStream, String) {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &Context<'_>) -> Poll<(NetStream, String)> {
        let mut wires = self.wires.lock();
        let Some(port) = wires.ports.get_mut(&self.addr) else { return Poll::Pending };
        let Some(conn) = port.waiting.pop_front() else {
            port.acceptor = Some(context.waker().clone());
            return Poll::Pending;
        };
        let from = wires.connections.get_mut(&conn).map_or(0, |connection| connection.end(Side::Caller).host);
        drop(wires);
        let stream = NetStream { wires: self.wires.clone(), conn, side: Side::Callee };
        Poll::Ready((stream, format!("n{from}:0")))
    }
}

impl Listener for NetListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        async move {
            let (stream, from) = self.next().await;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        }
        .boxed()
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}

impl Drop for NetListener {
    fn drop(&mut self) {
        if std::mem::take(&mut self.open) {
            self.wires.lock().ports.remove(&self.addr);
        }
    }
}

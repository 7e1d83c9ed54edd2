//! A network of pipes between the nodes of one process, with a plain codec and cuttable links.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use ordergrid_cluster::{Listener, Stream, Transport, WireCodec};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

type Incoming = (Box<dyn Stream>, String);

/// The wires. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Wires {
    inner: Arc<Mutex<WiresInner>>,
}

#[derive(Default)]
struct WiresInner {
    listeners: BTreeMap<String, mpsc::UnboundedSender<Incoming>>,
    cut: BTreeSet<(String, String)>,
    /// How often somebody has connected to another one.
    connections: BTreeMap<(String, String), u64>,
    /// Raised when links change; connections over a cut link end.
    changed: Option<watch::Sender<u64>>,
}

impl Wires {
    /// The network as seen from `name`.
    pub(crate) fn of(&self, name: &str) -> Arc<dyn Transport> {
        Arc::new(Pipe { wires: self.clone(), name: name.to_owned() })
    }

    /// Cuts `name` off from everybody, or connects it again.
    pub(crate) fn isolate(&self, name: &str, others: &[&str], cut: bool) {
        let mut inner = self.inner.lock();
        for other in others.iter().filter(|other| **other != name) {
            for link in [(name.to_owned(), (*other).to_owned()), ((*other).to_owned(), name.to_owned())] {
                if cut {
                    inner.cut.insert(link);
                } else {
                    inner.cut.remove(&link);
                }
            }
        }
        if let Some(changed) = &inner.changed {
            changed.send_modify(|generation| *generation += 1);
        }
    }

    /// How often `from` has connected to `to`.
    pub(crate) fn connections(&self, from: &str, to: &str) -> u64 {
        self.inner.lock().connections.get(&(from.to_owned(), to.to_owned())).copied().unwrap_or_default()
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.inner.lock().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.lock().changed.get_or_insert_with(|| watch::Sender::new(0)).subscribe()
    }
}

struct Pipe {
    wires: Wires,
    name: String,
}

impl Transport for Pipe {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.wires.inner.lock().listeners.insert(addr.to_owned(), sender);
        let listener = PipeListener { addr: addr.to_owned(), incoming };
        ready(Ok(Box::new(listener) as Box<dyn Listener>)).boxed()
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        if self.wires.is_cut(&self.name, addr) {
            return ready(Err(io::ErrorKind::HostUnreachable.into())).boxed();
        }
        let (mine, theirs) = tokio::io::duplex(256 << 10);
        let listener = self.wires.inner.lock().listeners.get(addr).cloned();
        let taken = listener.is_some_and(|listener| listener.send((Box::new(theirs), self.name.clone())).is_ok());
        if !taken {
            return ready(Err(io::ErrorKind::ConnectionRefused.into())).boxed();
        }
        *self.wires.inner.lock().connections.entry((self.name.clone(), addr.to_owned())).or_default() += 1;
        // A relay that ends when the link is cut, so that both sides see the connection fail.
        let (near, far) = tokio::io::duplex(256 << 10);
        tokio::spawn(relay(self.wires.clone(), self.name.clone(), addr.to_owned(), far, mine));
        ready(Ok(Box::new(near) as Box<dyn Stream>)).boxed()
    }
}

async fn relay(wires: Wires, from: String, to: String, mut near: tokio::io::DuplexStream, mut far: tokio::io::DuplexStream) {
    let mut changes = wires.changes();
    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
    tokio::pin!(copy);
    loop {
        tokio::select! {
            biased;
            _ = &mut copy => return,
            changed = changes.changed() => if changed.is_err() || wires.is_cut(&from, &to) { return },
        }
    }
}

struct PipeListener {
    addr: String,
    incoming: mpsc::UnboundedReceiver<Incoming>,
}

impl Listener for PipeListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Incoming>> {
        async { self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) }.boxed()
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}

/// Length and body.
pub(crate) struct Plain;

impl WireCodec for Plain {
    fn seal(&self, body: &[u8], out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(body.len()).expect("tests send little"));
        out.put_slice(body);
    }

    fn header_len(&self) -> usize {
        4
    }

    fn body_len(&self, mut header: &[u8]) -> io::Result<usize> {
        Ok(header.get_u32_le() as usize)
    }

    fn open(&self, mut frame: Bytes) -> io::Result<Bytes> {
        frame.advance(4);
        Ok(frame)
    }
}

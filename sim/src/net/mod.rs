//! The simulated network: connections between hosts, over links that delay, stall and break.
//!
//! A connection is what TCP gives: bytes arrive in order, or late, or the connection breaks; never changed. A lost packet is a
//! wait for its second sending. A link that is cut holds everything, as a network does that swallows packets, until it is
//! mended. What happens to whole messages (lost, repeated, out of order) is the business of `frames`.
//!
//! A host that is killed says goodbye (its kernel closes the connections); one that loses power does not.

mod frames;
mod link;
mod stream;
mod wires;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_api::client::{self, Connector, Endpoint};
use ordergrid_cluster::{self as cluster, Transport};
use parking_lot::Mutex;

use crate::dice::Dice;
use crate::history::SimTime;
use frames::Frames;
pub use link::LinkState;
pub use stream::{NetListener, NetStream};
use wires::Wires;

/// The network. Clones share it.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Wires>>, Arc<Mutex<Messages>>);

/// What happens to whole messages between nodes.
struct Messages {
    rates: Arc<Mutex<(u64, u64, u64)>>,
    dice: Dice,
}

impl Net {
    /// A network whose chance comes from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let messages = Messages { rates: Arc::default(), dice: Dice::new(!seed) };
        Self(Arc::new(Mutex::new(Wires::new(seed))), Arc::new(Mutex::new(messages)))
    }

    /// How many messages between nodes, in a thousand, are lost, repeated, put behind the next.
    pub fn set_frames(&self, rates: (u64, u64, u64)) {
        *self.1.lock().rates.lock() = rates;
    }

    /// A connection between nodes, as it fares.
    fn between_nodes(&self, stream: NetStream) -> Box<dyn cluster::Stream> {
        let mut messages = self.1.lock();
        let dice = messages.dice.fork();
        Box::new(Frames::new(stream, Arc::clone(&messages.rates), dice))
    }

    /// What is due by now arrives.
    pub fn deliver(&self, now: SimTime) {
        let woken = self.0.lock().deliver(now);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// Changes the link from one host to another; each direction is a link of its own.
    pub fn set_link(&self, from: u64, to: u64, change: impl FnOnce(&mut LinkState)) {
        self.0.lock().set_link(from, to, change);
    }

    /// Changes the link between any two hosts, both ways.
    pub fn set_all_links(&self, change: impl Fn(&mut LinkState)) {
        self.0.lock().set_all_links(change);
    }

    /// Breaks connections between two hosts; both sides learn of it at once.
    pub fn reset_between(&self, one: u64, other: u64) {
        let woken = self.0.lock().reset_between(one, other);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// A host is gone. Call it before its program is dropped. `silent`: its peers are not told, as when power is lost.
    pub fn host_down(&self, host: u64, silent: bool) {
        let woken = self.0.lock().host_down(host, silent);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// A host is there again: connections of its former life break as soon as anything arrives on them.
    pub fn host_up(&self, host: u64) {
        self.0.lock().host_up(host);
    }

    /// Listens at `addr` on a host.
    ///
    /// # Errors
    /// If something listens there already.
    pub fn listen(&self, host: u64, addr: &str) -> io::Result<NetListener> {
        NetListener::bind(self.0.clone(), host, addr)
    }

    /// Connects from a host; resolves when the other side is there, or refuses, or never.
    pub fn connect(&self, from: u64, addr: &str) -> BoxFuture<'static, io::Result<NetStream>> {
        stream::connect(self.0.clone(), from, addr.to_owned()).boxed()
    }

    /// The network as nodes see it from a host.
    #[must_use]
    pub fn at(&self, host: u64) -> HostNet {
        HostNet { net: self.clone(), host }
    }
}

/// Which host an address is on: `n3:7411` is on host 3.
fn host_of(addr: &str) -> io::Result<u64> {
    let name = addr.split(':').next().unwrap_or_default();
    let number = name.strip_prefix('n').and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no host has the address {addr}")))
}

/// The network as programs on one host see it.
#[derive(Clone)]
pub struct HostNet {
    net: Net,
    host: u64,
}

impl Transport for HostNet {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn cluster::Listener>>> {
        let listener = self.net.listen(self.host, addr).map(|inner| MeshListener { inner, net: self.net.clone() });
        async move { Ok(Box::new(listener?) as Box<dyn cluster::Listener>) }.boxed()
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn cluster::Stream>>> {
        let connecting = self.net.connect(self.host, addr);
        async move { Ok(self.net.between_nodes(connecting.await?)) }.boxed()
    }
}

/// Takes the connections of other nodes.
struct MeshListener {
    inner: NetListener,
    net: Net,
}

impl cluster::Listener for MeshListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn cluster::Stream>, String)>> {
        async move {
            let (stream, from) = self.inner.next().await;
            Ok((self.net.between_nodes(stream), from))
        }
        .boxed()
    }

    fn local_addr(&self) -> String {
        self.inner.local_addr()
    }
}

impl Connector for HostNet {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn client::Stream>>> {
        let connecting = self.net.connect(self.host, &endpoint.authority());
        async move { Ok(Box::new(connecting.await?) as Box<dyn client::Stream>) }.boxed()
    }
}

/// The longest a packet takes on a link that nobody has disturbed.
pub const CALM_LATENCY: Duration = Duration::from_millis(3);

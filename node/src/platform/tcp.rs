//! TCP: the only module in this crate that uses the operating system's network.

use std::io;
use std::net::SocketAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_cluster::{Listener, Stream, Transport};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

/// The mesh over TCP, with `TCP_NODELAY`.
///
/// An existing listener, inherited from the parent process or bound to find a free port, can be passed in. It then replaces the
/// first address to listen on.
#[derive(Debug, Default)]
pub struct TcpTransport {
    given: Mutex<Option<std::net::TcpListener>>,
}

impl TcpTransport {
    /// Listens on the given addresses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses `given` instead of the first address.
    #[must_use]
    pub fn with_listener(given: std::net::TcpListener) -> Self {
        Self { given: Mutex::new(Some(given)) }
    }
}

impl Transport for TcpTransport {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move {
            let given = self.given.lock().take();
            let listener = match given {
                Some(given) => adopt(given)?,
                // The caller adds the address to the error.
                None => listen(addr).await?,
            };
            Ok(Box::new(listener) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// Accepts TCP connections, with `TCP_NODELAY`.
#[derive(Debug)]
pub struct TcpAccept {
    listener: TcpListener,
    local: SocketAddr,
}

/// Listens on `addr` for clients.
///
/// # Errors
/// The operating system's error, with the address.
pub async fn bind(addr: &str) -> io::Result<TcpAccept> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {addr} for clients (http.listen): {error}"));
    listen(addr).await.map_err(named)
}

async fn listen(addr: &str) -> io::Result<TcpAccept> {
    let listener = TcpListener::bind(addr).await?;
    let local = listener.local_addr()?;
    Ok(TcpAccept { listener, local })
}

/// Adopts an existing listener.
///
/// # Errors
/// If the listener cannot be made non-blocking.
pub fn adopt(given: std::net::TcpListener) -> io::Result<TcpAccept> {
    given.set_nonblocking(true)?;
    let listener = TcpListener::from_std(given)?;
    let local = listener.local_addr()?;
    Ok(TcpAccept { listener, local })
}

impl TcpAccept {
    /// The local address, with the port that was actually bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.local
    }

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, from))
    }
}

impl Listener for TcpAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        async move {
            let (stream, from) = self.next().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, from.to_string()))
        }
        .boxed()
    }

    fn local_addr(&self) -> String {
        self.local.to_string()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn exchange(transport: &TcpTransport, mut listener: Box<dyn Listener>) {
        let addr = listener.local_addr();
        let (accepted, connected) = tokio::join!(listener.accept(), transport.connect(&addr));
        let (mut here, from) = accepted.expect("a connection arrives");
        let mut there = connected.expect("somebody listens");
        assert!(from.starts_with("127.0.0.1:"), "{from}");
        there.write_all(b"hold").await.expect("the connection stands");
        let mut read = [0; 4];
        here.read_exact(&mut read).await.expect("the connection stands");
        assert_eq!(&read, b"hold");
    }

    #[tokio::test]
    async fn connects_to_a_port_it_was_given_by_the_system() {
        let transport = TcpTransport::new();
        let listener = transport.listen("127.0.0.1:0").await.expect("a port is free");
        assert!(!listener.local_addr().ends_with(":0"));
        exchange(&transport, listener).await;
    }

    #[tokio::test]
    async fn a_given_listener_stands_for_the_first_address() {
        let given = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = given.local_addr().expect("it listens").to_string();
        let transport = TcpTransport::with_listener(given);
        let first = transport.listen("127.0.0.1:1").await.expect("the given one is used");
        assert_eq!(first.local_addr(), addr);
        exchange(&transport, first).await;
        let second = transport.listen("127.0.0.1:0").await.expect("a port is free");
        assert_ne!(second.local_addr(), addr);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = bind("127.0.0.1:0").await.expect("a port is free");
        let addr = first.address().to_string();
        let wrong = bind(&addr).await.expect_err("it is taken").to_string();
        assert!(wrong.starts_with(&format!("cannot listen on {addr} for clients (http.listen): ")), "{wrong}");
        // The mesh says it in its own words.
        let wrong = TcpTransport::new().listen(&addr).await.err().expect("it is taken").to_string();
        assert!(!wrong.contains("listen"), "{wrong}");
    }
}

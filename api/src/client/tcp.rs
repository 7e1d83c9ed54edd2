//! The production network of the client, and the only place in this crate that opens a socket.

use std::io;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

use super::{Connector, Endpoint, Stream};

/// Connects over TCP with `TCP_NODELAY`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = Endpoint::new("127.0.0.1", listener.local_addr().expect("it is bound").port());
        let mut ours = TcpConnector.connect(&endpoint).await.expect("somebody listens");
        let (mut theirs, _) = listener.accept().await.expect("somebody connects");
        ours.write_all(b"ping").await.expect("it is open");
        let mut four = [0; 4];
        theirs.read_exact(&mut four).await.expect("it was written");
        assert_eq!(&four, b"ping");
        drop(listener);
        assert!(TcpConnector.connect(&endpoint).await.is_err());
    }
}

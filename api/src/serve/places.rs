//! Limits the number of connections, and refuses the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Stream;
use super::activity::CONNECTION;
use super::parting::{Linger, hear_out};
use crate::account::{Account, Taken, Use};
use crate::fault::{Fault, kinds};
use crate::metrics;

/// Most refusals that are written at the same time. Further connections are closed without an answer.
pub const REFUSALS: usize = 64;
/// How long a refused connection may take to send its request and to receive the refusal. Headers and small bodies are read,
/// because closing with unread data would discard the refusal.
const PATIENCE: Linger = Linger { time: Duration::from_secs(1), bytes: 1 << 20 };
/// How long a refused connection may take to begin its request. After this time it gets the refusal without a request.
const FIRST_WORD: Duration = Duration::from_millis(250);
/// The start of a liveness probe.
const LIFE: &[u8; 16] = b"GET /livez HTTP/";
/// The answer to a liveness probe, equal to that of the route.
const ALIVE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{\"live\":true}";
/// Shortest time between two log events about the same lasting condition.
const SILENCE: Duration = Duration::from_secs(60);

/// The connection slots of one server.
pub(super) struct Places {
    most: usize,
    free: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    account: Account,
    told: Seldom,
}

/// The decision about a connection.
pub(super) enum ConnectionPlace {
    /// The connection is accepted. It holds a slot and memory for as long as it lives.
    Taken(OwnedSemaphorePermit, Taken),
    /// The connection is refused with an answer.
    Refused(OwnedSemaphorePermit),
    /// The connection is closed without an answer.
    Closed,
}

impl Places {
    pub(super) fn new(most: usize, account: Account) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        let (free, refusals) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(REFUSALS)));
        Self { most, free, refusals, account, told: Seldom::default() }
    }

    pub(super) fn take(&mut self) -> ConnectionPlace {
        let short_of = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(place) => match self.account.take(Use::Connections, CONNECTION) {
                Ok(memory) => return ConnectionPlace::Taken(place, memory),
                Err(_) => "the memory for connections is used up: limits.requests",
            },
            Err(_) => "the number of connections is at its limit: limits.connections, or the limit of open files",
        };
        metrics::connections_refused().increment(1);
        if self.told.now() {
            tracing::warn!(limit = self.most, error = short_of, "connections refused");
        }
        Arc::clone(&self.refusals).try_acquire_owned().map_or(ConnectionPlace::Closed, ConnectionPlace::Refused)
    }
}

/// Limits a log event that could occur thousands of times a second.
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether the event should be logged now.
    pub(super) fn now(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= SILENCE);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Answers an HTTP/1.1 client that there is no slot; others only see the connection close. A liveness probe gets its answer:
/// restarting a node because it has too many clients would make the problem worse.
pub(super) async fn refuse(mut stream: Box<dyn Stream>, place: OwnedSemaphorePermit) {
    let (life, silent) = asks_for_life(&mut stream).await;
    let answer = if life { ALIVE.to_owned() } else { no_place() };
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(PATIENCE.time, told).await {
        // The client has sent nothing, so there is nothing to read. The slot is free for the next one.
        Ok(Ok(())) if silent => {}
        Ok(Ok(())) => hear_out(&mut stream, PATIENCE).await,
        Ok(Err(error)) => tracing::debug!(%error, "refusal not delivered"),
        Err(error) => tracing::debug!(%error, "refusal not delivered"),
    }
    drop(place);
}

/// Whether the request begins like a liveness probe, and whether the client sent nothing in time.
async fn asks_for_life(stream: &mut Box<dyn Stream>) -> (bool, bool) {
    let mut begin = [0; LIFE.len()];
    let mut read = 0;
    let whole = async {
        while read < begin.len() {
            match stream.read(&mut begin[read..]).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => read += bytes,
            }
        }
    };
    // A slower request is not a probe.
    tokio::time::timeout(FIRST_WORD, whole).await.ok();
    (begin == *LIFE, read == 0)
}

fn no_place() -> String {
    let fault = Fault::new(&kinds::TOO_MANY_CONNECTIONS, "try again later, or at another node");
    let body = serde_json::to_string(&fault.body("")).expect("a problem has only texts and numbers");
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len(),
    )
}

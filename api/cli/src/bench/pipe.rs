//! How a request of a bench reaches a node: once, and never again, so that what is measured is the grid and not the
//! client's patience.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::client::{Broken, Call, CallError, Coalescer, Connector, Endpoint, Lane, RawAnswer, RetryPolicy, Streams};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Deadline of one request.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
const NO_ANSWER: &str = "no answer in time";

/// Where one worker's requests go.
pub(super) enum Pipe {
    /// An HTTP/1.1 connection of its own.
    Own(Target, Option<Lane>),
    /// An HTTP/2 connection that it shares.
    Shared(Arc<Trunk>),
    /// Requests that gather the orders of many workers; only for orders with their keys inside.
    Gathered(Coalescer),
}

/// Which node, and how to reach it.
pub(super) struct Target {
    endpoints: Vec<Endpoint>,
    /// The endpoint in use; the next one when it breaks.
    turn: usize,
    connector: Arc<dyn Connector>,
}

/// An HTTP/2 connection that several workers share, opened when it is needed.
pub(super) struct Trunk(Mutex<(Target, Option<Streams>)>);

impl Target {
    /// The first endpoint in use is that at `turn`.
    pub(super) fn new(endpoints: &[Endpoint], turn: usize, connector: Arc<dyn Connector>) -> Self {
        Self { endpoints: endpoints.to_vec(), turn, connector }
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.turn % self.endpoints.len()]
    }
}

impl Trunk {
    pub(super) fn new(target: Target) -> Self {
        Self(Mutex::new((target, None)))
    }

    /// The connection, opened if there is none.
    async fn streams(&self) -> Result<Streams, Broken> {
        let (target, streams) = &mut *self.0.lock().await;
        if let Some(open) = streams.as_ref().filter(|streams| streams.is_open()) {
            return Ok(open.clone());
        }
        *streams = None;
        match in_time(Streams::open(&*target.connector, target.endpoint()), not_sent(target.endpoint())).await {
            Ok(opened) => Ok(streams.insert(opened).clone()),
            Err(broken) => {
                target.turn += 1;
                Err(broken)
            }
        }
    }

    /// The connection is of no more use; the next one is opened to the next node.
    async fn breaks(&self, broken: &Streams) {
        let (target, streams) = &mut *self.0.lock().await;
        if streams.as_ref().is_some_and(|streams| streams.is(broken)) {
            *streams = None;
            target.turn += 1;
        }
    }
}

impl Pipe {
    /// Sends a request, once.
    pub(super) async fn ask(&mut self, call: &Call) -> Result<RawAnswer, CallError> {
        let asked = match self {
            Self::Own(target, lane) => ask_alone(target, lane, call).await,
            Self::Shared(trunk) => ask_together(trunk, call).await,
            Self::Gathered(coalescer) => return coalescer.send(call.body().clone(), &RetryPolicy::once(DEADLINE)).await,
        };
        let only_reads = call.only_reads();
        asked.map_err(|broken| CallError::of_broken(broken, only_reads))?.done(only_reads)
    }
}

async fn ask_alone(target: &mut Target, kept: &mut Option<Lane>, call: &Call) -> Result<RawAnswer, Broken> {
    let asked = async {
        let mut lane = match kept.take() {
            Some(lane) => lane,
            None => in_time(Lane::open(&*target.connector, target.endpoint()), not_sent(target.endpoint())).await?,
        };
        let late = lost(lane.endpoint());
        let answer = in_time(lane.call(call), late).await?;
        *kept = lane.is_open().then_some(lane);
        Ok(answer)
    };
    let asked = asked.await;
    if asked.is_err() {
        target.turn += 1;
    }
    asked
}

async fn ask_together(trunk: &Trunk, call: &Call) -> Result<RawAnswer, Broken> {
    let mut streams = trunk.streams().await?;
    let late = lost(streams.endpoint());
    let asked = in_time(streams.call(call), late).await;
    if asked.is_err() {
        trunk.breaks(&streams).await;
    }
    asked
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Broken>>, late: Broken) -> Result<T, Broken> {
    timeout(DEADLINE, asked).await.unwrap_or(Err(late))
}

fn not_sent(endpoint: &Endpoint) -> Broken {
    Broken::NotSent { endpoint: endpoint.clone(), cause: NO_ANSWER.to_owned() }
}

fn lost(endpoint: &Endpoint) -> Broken {
    Broken::Lost { endpoint: endpoint.clone(), cause: NO_ANSWER.to_owned() }
}

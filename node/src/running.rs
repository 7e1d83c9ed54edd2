//! Nodes that run in this process until somebody stops it: what `serve` and `dev` have in common.
//!
//! Stopping: the first SIGTERM or SIGINT stops cleanly, in the order not ready but serving, no more connections, leaderships
//! handed over, what is in flight finished, groups stopped, disks flushed ([`Node::shutdown`]); a second one exits at once.
//! Data is safe either way.

use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, select_all, try_join_all};
use ordergrid_node::{FatalError, Node, NodeConfig, Platform, RowRoom, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// How much longer than `http.drain` and `node.stop_within` a stop is waited for.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// The nodes of this process.
pub(crate) struct Running {
    nodes: Vec<Node>,
    stop_within: Duration,
    /// Ends with the nodes.
    _room: JoinSet<()>,
}

impl Running {
    /// Starts all nodes at once, because those of a new cluster wait for each other.
    pub(crate) async fn start(parts: Vec<(NodeConfig, Platform)>) -> Result<Self, StartError> {
        let longest = parts.iter().map(|(config, _)| config.drain + config.stop_within).max().unwrap_or_default();
        let limit = parts.iter().map(|(config, _)| config.memory.whole).sum();
        let (room, mut watching) = (RowRoom::default(), JoinSet::new());
        watching.spawn(room.clone().watch(limit));
        let starting =
            parts.into_iter().map(|(config, platform)| Node::start(config, Platform { room: room.clone(), ..platform }));
        Ok(Self { nodes: try_join_all(starting).await?, stop_within: longest + STOP_SLACK, _room: watching })
    }

    /// Their URLs, in their order.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::http_url).collect()
    }

    /// Resolves when every shard has a leader that serves, as every node sees it.
    pub(crate) async fn ready(&self) {
        join_all(self.nodes.iter().map(Node::ready)).await;
    }

    /// Resolves when a node must not go on.
    pub(crate) async fn failed(&self) -> FatalError {
        select_all(self.nodes.iter().map(|node| Box::pin(node.failed()))).await.0
    }

    /// Stops all nodes cleanly.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let stopping = join_all(self.nodes.iter().map(Node::shutdown));
        tokio::time::timeout(self.stop_within, stopping).await.context("the nodes did not stop in time")?;
        Ok(())
    }
}

/// The signals that stop a process.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on the signals come here instead of ending the process.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one. Cancelled, it loses none.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs nodes until a signal stops them, and tells `announce` their URLs once they serve.
///
/// # Errors
/// If they do not start, or one of them must not go on: the caller ends the process.
pub(crate) async fn run_until_stopped(
    starting: impl Future<Output = anyhow::Result<Running>>,
    announce: impl FnOnce(&[String]),
) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let running = tokio::select! {
        running = starting => running?,
        () = signals.next() => return Ok(()),
    };
    let stopped_early = tokio::select! {
        () = running.ready() => false,
        failure = running.failed() => return Err(failure.into()),
        () = signals.next() => true,
    };
    if !stopped_early {
        announce(&running.endpoints());
        tokio::select! {
            failure = running.failed() => return Err(failure.into()),
            () = signals.next() => {}
        }
    }
    tokio::select! {
        stopped = running.stop() => stopped,
        failure = running.failed() => Err(failure.into()),
        () = signals.next() => Err(anyhow::anyhow!("stopped at once by a second signal")),
    }
}

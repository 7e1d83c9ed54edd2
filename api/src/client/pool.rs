//! The client of several endpoints: idle connections, fail-over, retries.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Answer, Broken, Call, CallError, Connector, Endpoint, Lane, RawAnswer, RetryPolicy};

/// Settings of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// When to retry.
    pub retry: RetryPolicy,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Most idle connections kept per node.
    pub idle_per_node: usize,
    /// Time for which an unreachable node is skipped if there is another one.
    pub avoid_for: Duration,
    /// Seed of the jitter, so that a simulation is repeatable.
    pub seed: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(2),
            idle_per_node: 256,
            avoid_for: Duration::from_secs(1),
            seed: 0,
        }
    }
}

/// A client of a grid. Clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Arc<dyn Connector>,
    options: ClientOptions,
    nodes: Vec<Node>,
    next_node: AtomicUsize,
    draws: AtomicU64,
    started: Instant,
}

struct Node {
    endpoint: Endpoint,
    idle: Mutex<Vec<Lane>>,
    /// Milliseconds after `started` until which the node is skipped.
    avoid_until_ms: AtomicU64,
}

impl Client {
    /// A client of the cluster that these nodes belong to. It connects on first use.
    ///
    /// # Panics
    /// If there is no endpoint.
    #[must_use]
    pub fn new(endpoints: &[Endpoint], connector: Arc<dyn Connector>, options: ClientOptions) -> Self {
        assert!(!endpoints.is_empty(), "a client needs an endpoint");
        let nodes = endpoints
            .iter()
            .map(|endpoint| Node { endpoint: endpoint.clone(), idle: Mutex::default(), avoid_until_ms: AtomicU64::new(0) })
            .collect();
        let (next_node, draws, started) = (AtomicUsize::new(0), AtomicU64::new(0), Instant::now());
        Self { shared: Arc::new(Shared { connector, options, nodes, next_node, draws, started }) }
    }

    /// The endpoints, in the given order.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.shared.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// Sends a call with the client's own policy and parses the answer.
    ///
    /// # Errors
    /// [`CallError`]: refused, not sent, or unknown; or this version cannot parse the answer.
    pub async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<Answer<T>, CallError> {
        self.send(call, self.policy()).await?.read()
    }

    /// Sends a call, with retries by the policy, each to the next node. If the future is dropped, the outcome of a call that
    /// changes something is unknown.
    ///
    /// # Errors
    /// [`CallError`]. If any attempt may have taken effect, only a success or a final refusal removes the doubt.
    pub async fn send(&self, call: &Call, policy: &RetryPolicy) -> Result<RawAnswer, CallError> {
        let shared = &*self.shared;
        let first_node = shared.next_node.fetch_add(1, Ordering::Relaxed);
        let node = |tried: u32| shared.node(first_node.wrapping_add(tried as usize - 1));
        self.retried(policy, call.may_be_repeated(), |tried, limit| shared.attempt(node(tried), call, limit)).await
    }

    /// The policy of calls that name none.
    pub(super) fn policy(&self) -> &RetryPolicy {
        &self.shared.options.retry
    }

    /// Makes attempts, numbered from 1 and each with its time limit, until one is done or there is to be no further one.
    pub(super) async fn retried<F>(
        &self,
        policy: &RetryPolicy,
        may_be_repeated: bool,
        attempt: impl Fn(u32, Duration) -> F,
    ) -> Result<RawAnswer, CallError>
    where
        F: Future<Output = Result<RawAnswer, CallError>>,
    {
        let shared = &*self.shared;
        let started = Instant::now();
        let (mut in_doubt, mut refused) = (false, None);
        for tried in 1.. {
            let left = policy.patience.saturating_sub(started.elapsed());
            let error = match attempt(tried, policy.attempt_timeout.min(left)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = policy.wait(&error, tried, started.elapsed(), shared.nodes.len(), shared.chance());
            in_doubt |= error.outcome_unknown();
            match wait {
                Some(wait) if may_be_repeated => sleep(wait).await,
                _ if in_doubt => return Err(error.after_doubt()),
                // A node that was not reached says less than one that has refused before.
                _ => return Err(refused.filter(|_| matches!(error, CallError::Unreachable(_))).unwrap_or(error)),
            }
            if matches!(error, CallError::Refused(_)) {
                refused = Some(error);
            }
        }
        unreachable!("the policy ends before the attempts can no longer be counted")
    }
}

impl Shared {
    /// The node of this attempt: the next one in turn that was not unreachable recently.
    fn node(&self, turn: usize) -> &Node {
        let now = self.now_ms();
        let in_turn = |step: usize| &self.nodes[turn.wrapping_add(step) % self.nodes.len()];
        (0..self.nodes.len())
            .map(in_turn)
            .find(|node| node.avoid_until_ms.load(Ordering::Relaxed) <= now)
            .unwrap_or_else(|| in_turn(0))
    }

    async fn attempt(&self, node: &Node, call: &Call, deadline: Duration) -> Result<RawAnswer, CallError> {
        let only_reads = call.only_reads();
        let ends_at = Instant::now() + deadline;
        loop {
            let (mut lane, fresh) = match node.take_idle() {
                Some(lane) => (lane, false),
                None => (self.connect(node, deadline).await?, true),
            };
            let left = ends_at.saturating_duration_since(Instant::now());
            let result = match timeout(left, lane.call(call)).await {
                Ok(result) => result,
                Err(_) => {
                    let cause = format!("nothing came within {} ms", deadline.as_millis());
                    return Err(CallError::of_broken(Broken::Lost { endpoint: node.endpoint.clone(), cause }, only_reads));
                }
            };
            match result {
                Ok(answer) => {
                    node.give_back(lane, self.options.idle_per_node);
                    return answer.done(only_reads);
                }
                // The node had closed the idle connection; nothing was sent on it.
                Err(Broken::NotSent { .. }) if !fresh => {}
                Err(broken) => return Err(CallError::of_broken(broken, only_reads)),
            }
        }
    }

    async fn connect(&self, node: &Node, deadline: Duration) -> Result<Lane, CallError> {
        let limit = self.options.connect_timeout.min(deadline);
        let opened = match timeout(limit, Lane::open(&*self.connector, &node.endpoint)).await {
            Ok(opened) => opened,
            Err(_) => {
                let cause = format!("no connection within {} ms", limit.as_millis());
                Err(Broken::NotSent { endpoint: node.endpoint.clone(), cause })
            }
        };
        opened.map_err(|broken| {
            let avoid_ms = u64::try_from(self.options.avoid_for.as_millis()).unwrap_or(u64::MAX);
            node.avoid_until_ms.store(self.now_ms().saturating_add(avoid_ms), Ordering::Relaxed);
            CallError::of_broken(broken, true)
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A repeatable random number, uniform in 0..1.
    fn chance(&self) -> f64 {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        let bits = xxh3_64_with_seed(&draw.to_le_bytes(), self.options.seed) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

impl Node {
    fn take_idle(&self) -> Option<Lane> {
        let mut idle = self.idle.lock().expect("nobody panics while holding it");
        while let Some(mut lane) = idle.pop() {
            if lane.usable() {
                return Some(lane);
            }
        }
        None
    }

    fn give_back(&self, mut lane: Lane, limit: usize) {
        if !lane.usable() {
            return;
        }
        let mut idle = self.idle.lock().expect("nobody panics while holding it");
        if idle.len() < limit {
            idle.push(lane);
        }
    }
}

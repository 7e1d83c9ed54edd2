//! Random faults against what a group promises: what is acknowledged stays, what is refused never was, reads are
//! current, replicas agree. A failure names the seed that repeats it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::TokioRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use ordergrid_cluster::{GroupConfig, NodeId, ProposeError};

use crate::support::{Cluster, packed, within};

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// One run: a cluster, what befalls it, and what it has promised.
struct Run {
    seed: u64,
    dice: Dice,
    cluster: Cluster,
    /// Written as `counter=n`, each after the one before was acknowledged.
    acknowledged: u64,
    written: u64,
    /// What became of each key of its own.
    outcomes: BTreeMap<String, Result<(), ProposeError>>,
    trace: Vec<String>,
}

impl Run {
    async fn start(seed: u64) -> Self {
        let config = GroupConfig { entries_kept: 3, snapshot_chunk: 64, ..GroupConfig::default() };
        let cluster = Cluster::start_with(3, config, true).await;
        Self { seed, dice: Dice(seed), cluster, acknowledged: 0, written: 0, outcomes: BTreeMap::new(), trace: Vec::new() }
    }

    fn up(&self) -> Vec<NodeId> {
        self.cluster.nodes.values().filter(|node| node.running.is_some()).map(|node| node.id).collect()
    }

    async fn step(&mut self) {
        let node = 1 + self.dice.roll(3);
        let up = self.cluster.nodes[&node].running.is_some();
        match self.dice.roll(12) {
            0 if up && self.up().len() > 1 => {
                self.trace.push(format!("stop {node}"));
                self.cluster.stop_node(node).await;
            }
            0..=2 if !up => {
                self.trace.push(format!("start {node}"));
                self.cluster.start_node(node).await;
            }
            3 => {
                self.trace.push(format!("isolate {node}"));
                self.cluster.isolate(node, true);
            }
            4..=5 => {
                self.trace.push(format!("heal {node}"));
                self.cluster.isolate(node, false);
            }
            6 if up => {
                self.trace.push(format!("checkpoint {node}"));
                drop(tokio::time::timeout(Duration::from_millis(100), self.cluster.group(node).checkpoint()).await);
            }
            7 if up => {
                let to = 1 + self.dice.roll(3);
                let outcome = within(self.cluster.group(node).transfer(to)).await;
                self.trace.push(format!("transfer {node} -> {to}: {outcome:?}"));
            }
            _ => {}
        }
        for id in self.up() {
            self.write(id).await;
        }
        for id in self.up() {
            self.read(id).await;
        }
        let pause = self.dice.roll(1_200);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// Proposes on a node that believes it may serve.
    async fn write(&mut self, id: NodeId) {
        let now = *self.cluster.group(id).leadership().borrow();
        if !now.ready_here {
            return;
        }
        self.written += 1;
        let key = format!("key{}", self.written);
        let body = format!("{key}=1");
        let calls = [
            self.cluster.group(id).propose(now.term, packed(&body)),
            self.cluster.group(id).propose(now.term, packed(&format!("counter={:08}", self.written))),
        ];
        // Bounded, since a proposal waits as long as its leader is cut off.
        let bounded = calls.map(|call| tokio::time::timeout(Duration::from_millis(1_500), call));
        let [single, counter] = <[_; 2]>::try_from(futures::future::join_all(bounded).await).expect("two calls");
        let single = single.unwrap_or(Err(ProposeError::Unknown)).map(|_| ());
        self.trace.push(format!("write {} on {id}: {single:?}", self.written));
        self.outcomes.insert(key, single);
        if matches!(counter, Ok(Ok(_))) {
            self.acknowledged = self.written;
        }
    }

    /// A barrier that succeeds must show everything acknowledged before it was asked for.
    async fn read(&mut self, id: NodeId) {
        let expected = self.acknowledged;
        if within(self.cluster.group(id).barrier()).await.is_ok() {
            let read = self.cluster.machine(id).get("counter").map_or(0, |n| n.parse().expect("a number"));
            assert!(read >= expected, "seed {}: node {id} read {read}, {expected} acknowledged\n{}", self.seed, self.story());
        }
    }

    fn story(&self) -> String {
        self.trace.join("\n")
    }

    /// Faults stop, the group heals, and every promise is checked.
    async fn settle(mut self) {
        for id in 1..=3 {
            self.cluster.isolate(id, false);
            if self.cluster.nodes[&id].running.is_none() {
                self.cluster.start_node(id).await;
            }
        }
        let last = loop {
            let (leader, term) = self.cluster.leader(&[1, 2, 3]).await;
            match self.cluster.propose(leader, term, "end=1").await {
                Ok(at) => break at.index,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        self.cluster.all_applied(last).await;
        let values = self.cluster.machine(1).values();
        for id in [2, 3] {
            assert_eq!(self.cluster.machine(id).values(), values, "seed {}: replica {id} differs", self.seed);
        }
        for (key, outcome) in &self.outcomes {
            let there = values.contains_key(key.as_bytes());
            let kept = match outcome {
                Ok(()) => there,
                Err(ProposeError::Unknown) => true,
                Err(_) => !there,
            };
            assert!(kept, "seed {}: {key} was {outcome:?}, there: {there}\n{}", self.seed, self.story());
        }
        assert!(self.outcomes.values().any(Result::is_ok), "seed {}: nothing was written", self.seed);
        for id in 1..=3 {
            self.cluster.stop_node(id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promises_hold_under_faults() {
    for seed in 0..6 {
        DeterministicRng::<TokioRuntime>::scope(seed, async move {
            let mut run = Run::start(seed).await;
            for _ in 0..60 {
                run.step().await;
            }
            run.settle().await;
        })
        .await;
    }
}

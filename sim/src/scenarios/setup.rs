//! What a scenario is played on: the grid, its settings, and the calm it begins in.

use std::time::Duration;

use crate::clients::Mix;
use crate::disk::ReadTime;
use crate::grid::{Shape, Squeeze};
use crate::plan::{Plan, Profile};

/// Users whose orders are read in the end, and SKUs: enough that every shard has several of each.
pub(super) const USERS: u64 = 50;
/// SKUs by number, not all of them put on sale.
pub(super) const SKUS: u64 = 24;

/// A grid and its settings. Every shard is led by the node of its number, at first.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    nodes: u64,
    shards: u16,
    set: Vec<(&'static str, &'static str)>,
    squeeze: Squeeze,
    clocks: Vec<(i64, u64)>,
    window: u64,
}

impl Setup {
    /// So many nodes and shards, with quick elections and without checkpoints of their own accord.
    pub(super) fn of(nodes: u64, shards: u16) -> Self {
        let set = vec![
            ("raft.heartbeat", "100ms"),
            ("raft.election_min", "400ms"),
            ("raft.election_max", "600ms"),
            ("raft.lease_margin", "60ms"),
            ("clock.skew", "1s"),
            ("checkpoint.every", "1h"),
            ("log.kept", "0"),
        ];
        Self { nodes, shards, set, squeeze: Squeeze::default(), clocks: Vec::new(), window: 1 }
    }

    /// Nobody campaigns before eight seconds of silence: a leader that stalls or stands still stays leader.
    pub(super) fn patient(self) -> Self {
        self.set("raft.election_min", "8s").set("raft.election_max", "9s").set("raft.lease_margin", "900ms")
    }

    /// One setting more.
    pub(super) fn set(mut self, key: &'static str, value: &'static str) -> Self {
        self.set.retain(|(known, _)| *known != key);
        self.set.push((key, value));
        self
    }

    /// Sizes below what a configuration may say.
    pub(super) fn squeeze(mut self, squeeze: Squeeze) -> Self {
        self.squeeze = squeeze;
        self
    }

    /// How far each node's time of day is off, in milliseconds.
    pub(super) fn clocks(mut self, offsets: &[i64]) -> Self {
        self.clocks = offsets.iter().map(|offset| (*offset, 1_000)).collect();
        self
    }

    /// Orders of this scenario may wait so many seconds for their money.
    pub(super) fn window(mut self, seconds: u64) -> Self {
        self.window = seconds;
        self
    }

    /// The plan of a history without chance: nothing goes wrong by itself, and nobody asks by himself.
    pub(super) fn plan(&self, seed: u64) -> Plan {
        let ms = Duration::from_millis;
        let shape = Shape {
            election_min: Duration::from_millis(600),
            nodes: self.nodes,
            shards: self.shards,
            settings: self.set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            squeeze: self.squeeze.clone(),
            tick: ms(1),
            rocksdb: false,
        };
        Plan {
            seed,
            profile: Profile::Quick,
            shape,
            mix: self.mix(),
            stock: (0, 0),
            unrest: Duration::ZERO,
            troubles: Vec::new(),
            clocks: self.clocks.clone(),
            latency: (ms(0), ms(1)),
            sync: (ms(0), ms(1)),
            reads: ReadTime::AtOnce,
            frames: (0, 0, 0),
        }
    }

    fn mix(&self) -> Mix {
        Mix {
            clients: 0,
            pause: (Duration::ZERO, Duration::ZERO),
            patience: Duration::from_secs(30),
            users: USERS,
            skus: SKUS,
            hot_percent: 0,
            lines: 1,
            units: 1,
            window: (1, self.window),
            owed_percent: 0,
            attempts: 1,
            retry_percent: 0,
            abandon_percent: 0,
            weights: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_setting_replaces_an_earlier_one() {
        let plan = Setup::of(3, 2).set("clock.skew", "10ms").patient().plan(1);
        let of = |key: &str| {
            let all = plan.shape.settings.iter().filter(|(known, _)| known == key);
            all.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(of("clock.skew"), ["10ms"]);
        assert_eq!(of("raft.election_min"), ["8s"]);
        assert!(plan.troubles.is_empty());
    }
}

//! What operators read: readiness, the cluster's state, and the proof of the laws. Nodes send these to each other too.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use ordergrid_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::text;
use super::text::WireText;

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Check {
    /// Its name, as `shards_led`.
    pub name: String,
    /// It holds.
    pub ok: bool,
    /// Why, or the figures behind it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Answer of `/readyz?verbose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Every check holds.
    pub ready: bool,
    /// The checks, where they were asked for or one does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// The cluster in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every shard has a leader that a quorum answers, every node is reachable.
    Healthy,
    /// Every shard has such a leader, something is missing: a node, or a stream between shards is stopped.
    Degraded,
    /// A shard has none: nobody is served there.
    Unavailable,
}

/// Answer of `GET /admin/v1/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClusterStatus {
    /// Its name.
    pub cluster: String,
    /// Its id, made when it was initialised.
    pub cluster_id: String,
    /// Version of the answering node's binary.
    pub version: String,
    /// The cluster in one word.
    pub health: Health,
    /// Orders placed per second lately, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders_per_s: Option<u64>,
    /// The nodes, by id; unreachable ones too.
    pub nodes: Vec<NodeStatus>,
    /// The groups by id, the meta group (0) included.
    pub shards: Vec<ShardStatus>,
    /// Streams between shards that are stopped, by their shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped_streams: Vec<StoppedStreamStatus>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct NodeStatus {
    /// Its id.
    #[serde(with = "text")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Where its HTTP API is.
    pub http: String,
    /// `ok`, `draining`, `clock_skew`, `not_ready` or `unreachable`.
    pub state: String,
    /// Its checks of readiness that do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Check>,
    /// It answered.
    pub reachable: bool,
    /// Groups it leads, and a quorum answers it.
    pub leaders: u32,
    /// Replicas it has.
    pub replicas: u32,
    /// Entries that its furthest replica is behind, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Bytes on disk, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Bytes of resident rows, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Seconds since it started, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// What is wrong with its clock, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardStatus {
    /// Its id; 0 is the meta group.
    #[serde(with = "text")]
    pub shard: u32,
    /// First slot it owns; the meta group owns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_slot: Option<u16>,
    /// Last slot it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<u16>,
    /// The node that leads it, if a quorum answers that one.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Its replicas, by node.
    pub replicas: Vec<ReplicaStatus>,
}

/// A stream of messages from one shard to another that is stopped, because one of the two has lost entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct StoppedStreamStatus {
    /// The shard that sends.
    #[serde(with = "text")]
    pub from: u32,
    /// The shard that it sends to.
    #[serde(with = "text")]
    pub to: u32,
    /// When the leader of `from` has found that out.
    #[serde(with = "text")]
    pub since: Timestamp,
    /// What does not fit together, in words.
    pub why: String,
}

impl StoppedStreamStatus {
    /// All of it in words, and what helps.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { from, to, since, why } = self;
        format!(
            "the stream from shard {from} to shard {to} is stopped since {}: {why}; what it has to say of units is not done until \
             `ordergrid cluster streams reconcile` starts it anew",
            since.write(str::to_owned)
        )
    }
}

/// A replica of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ReplicaStatus {
    /// The node it is on.
    #[serde(with = "text")]
    pub node: u64,
    /// Its replica id.
    #[serde(with = "text")]
    pub replica: u64,
    /// Index of its last log entry, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_log: Option<u64>,
    /// Index it knows to be committed, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// Index it has applied, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Index of its last durable checkpoint, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// State hash at `applied`, 16 hexadecimal digits, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What a proof came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every law was judged, and holds.
    Holds,
    /// A law is broken.
    Broken,
    /// No law is broken as far as was judged, and something could not be judged.
    Unjudged,
}

/// Answer of `/admin/v1/cluster/verify`: the laws of stock, order and money, proven at one index per shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct VerifyReport {
    /// Every law was judged, and holds.
    pub ok: bool,
    /// Where each shard was looked at.
    pub shards: Vec<ShardReport>,
    /// What was counted, by name (`orders`, `orders.completed`, `skus`, `units_sold`, …).
    pub counts: BTreeMap<String, u64>,
    /// Every law that was looked at, in the order of ARCHITECTURE.md.
    pub laws: Vec<LawReport>,
    /// What was under way and therefore not yet where it belongs.
    pub in_flight: InFlight,
}

impl VerifyReport {
    /// What the proof came to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.laws.iter().any(|law| !law.violations.is_empty()) {
            return Verdict::Broken;
        }
        if self.ok { Verdict::Holds } else { Verdict::Unjudged }
    }
}

/// A shard of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardReport {
    /// Its id.
    #[serde(with = "text")]
    pub shard: u32,
    /// The index that was looked at; 0 where no quorum has written one.
    pub index: u64,
    /// State hash per replica.
    pub replicas: Vec<ReplicaHash>,
}

/// A replica's state hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ReplicaHash {
    /// The node it is on.
    #[serde(with = "text")]
    pub node: u64,
    /// The index of the hash; comparable only where equal.
    pub index: u64,
    /// 16 hexadecimal digits; left out when the replica did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A law, what broke it and what could not be judged of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct LawReport {
    /// Its name, as `NoOversell`.
    pub law: String,
    /// It was judged, and holds.
    pub ok: bool,
    /// Each violation in words; the first 100.
    pub violations: Vec<String>,
    /// What could not be judged, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<String>,
}

impl LawReport {
    /// A law that holds if there is nothing to tell of it.
    #[must_use]
    pub fn new(law: &str, violations: Vec<String>, unjudged: Vec<String>) -> Self {
        Self { law: law.to_owned(), ok: violations.is_empty() && unjudged.is_empty(), violations, unjudged }
    }
}

/// What was under way during a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct InFlight {
    /// Holds whose order is not known yet.
    pub tentative_holds: u64,
    /// Messages between shards that are not applied yet.
    pub undelivered_messages: u64,
    /// Attempts to place that are running.
    pub running_attempts: u64,
}

//! Answers for operators: readiness, the state of the cluster, and the verification of the laws. Nodes also send these to each
//! other.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use ordergrid_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::text;
use super::text::WireText;

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Check {
    /// The check's name, for example `shards_led`.
    pub name: String,
    /// Whether the condition holds.
    pub ok: bool,
    /// The reason, or the underlying figures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Answer of `/readyz?verbose`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether every check holds.
    pub ready: bool,
    /// The checks, if they were requested or one of them fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// The health of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every shard has a leader with a quorum, and every node is reachable.
    Healthy,
    /// Every shard has such a leader, something is missing: a node, or a stream between shards is stopped.
    Degraded,
    /// A shard has no leader with a quorum, and cannot serve requests.
    Unavailable,
}

/// Answer of `GET /admin/v1/cluster/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's id, created when the cluster was founded.
    pub cluster_id: String,
    /// Version of the answering node's binary.
    pub version: String,
    /// The health of the cluster.
    pub health: Health,
    /// Orders placed per second recently, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders_per_s: Option<u64>,
    /// The nodes, sorted by id, including unreachable ones.
    pub nodes: Vec<NodeStatus>,
    /// The shards, sorted by id, including the meta group (0).
    pub shards: Vec<ShardStatus>,
    /// Streams between shards that are stopped, by their shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped_streams: Vec<StoppedStreamStatus>,
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct NodeStatus {
    /// Its id.
    #[serde(with = "text")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Address of the node's HTTP API.
    pub http: String,
    /// `ok`, `draining`, `clock_skew`, `not_ready` or `unreachable`.
    pub state: String,
    /// The node's failing readiness checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Check>,
    /// Whether the node answered.
    pub reachable: bool,
    /// Number of groups that the node leads with a quorum.
    pub leaders: u32,
    /// Number of the node's replicas.
    pub replicas: u32,
    /// Number of entries by which the node's slowest replica is behind, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Bytes on disk, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Bytes of resident rows, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Seconds since the node started, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// Faults of the node's clock, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
}

/// The state of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardStatus {
    /// Its id; 0 is the meta group.
    #[serde(with = "text")]
    pub shard: u32,
    /// First slot of the shard; absent for the meta group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_slot: Option<u16>,
    /// Last slot of the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<u16>,
    /// The node that leads the group, if a quorum answers it.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// The group's term.
    pub term: u64,
    /// The group's replicas, sorted by node.
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

/// The state of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ReplicaStatus {
    /// The replica's node.
    #[serde(with = "text")]
    pub node: u64,
    /// Its replica id.
    #[serde(with = "text")]
    pub replica: u64,
    /// Index of the last log entry, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_log: Option<u64>,
    /// Highest index known to be committed, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// Last applied index, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Index of the last durable checkpoint, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// State hash at `applied`, 16 hexadecimal digits, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// The verdict of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every law was checked, and holds.
    Holds,
    /// A law is violated.
    Broken,
    /// No violation was found, but something could not be checked.
    Unjudged,
}

/// Answer of `/admin/v1/cluster/verify`: the laws of stock, orders and money, verified at one index per shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct VerifyReport {
    /// Whether every law was checked and holds.
    pub ok: bool,
    /// The index at which each shard was checked.
    pub shards: Vec<ShardReport>,
    /// Counts, by name (`orders`, `orders.completed`, `skus`, `units_sold`, …).
    pub counts: BTreeMap<String, u64>,
    /// Every law that was checked, in the order of ARCHITECTURE.md.
    pub laws: Vec<LawReport>,
    /// Work in progress, which is not yet in its final place.
    pub in_flight: InFlight,
}

impl VerifyReport {
    /// The verdict of the verification.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.laws.iter().any(|law| !law.violations.is_empty()) {
            return Verdict::Broken;
        }
        if self.ok { Verdict::Holds } else { Verdict::Unjudged }
    }
}

/// The verification of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardReport {
    /// Its id.
    #[serde(with = "text")]
    pub shard: u32,
    /// The index that was checked; 0 if no quorum has written one.
    pub index: u64,
    /// State hash per replica.
    pub replicas: Vec<ReplicaHash>,
}

/// A replica's state hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ReplicaHash {
    /// The replica's node.
    #[serde(with = "text")]
    pub node: u64,
    /// The index of the hash. Hashes are comparable only at equal indexes.
    pub index: u64,
    /// 16 hexadecimal digits; absent if the replica did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// The verification of a law: its violations, and what could not be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct LawReport {
    /// The law's name, for example `NoOversell`.
    pub law: String,
    /// Whether the law was checked and holds.
    pub ok: bool,
    /// The first 100 violations, in words.
    pub violations: Vec<String>,
    /// What could not be checked, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<String>,
}

impl LawReport {
    /// The report of a law. The law holds if both lists are empty.
    #[must_use]
    pub fn new(law: &str, violations: Vec<String>, unjudged: Vec<String>) -> Self {
        Self { law: law.to_owned(), ok: violations.is_empty() && unjudged.is_empty(), violations, unjudged }
    }
}

/// Work in progress during a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct InFlight {
    /// Holds whose order is not decided yet.
    pub tentative_holds: u64,
    /// Messages between shards that are not applied yet.
    pub undelivered_messages: u64,
    /// Running attempts to place an order.
    pub running_attempts: u64,
}

//! The nodes' clocks as operators see them, and the operator's choice if the grid cannot tell which clock is right.

use bincode::{Decode, Encode};
use ordergrid_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::text;

/// Answer of `GET /admin/v1/cluster/clock`, and of accepting a clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClusterClock {
    /// The nodes, sorted by id, including unreachable ones.
    pub nodes: Vec<NodeClock>,
}

/// The clocks of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct NodeClock {
    /// Its id.
    #[serde(with = "text")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether the node answered. If not, nothing else is known.
    pub reachable: bool,
    /// The wall clock of the node's machine.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// The node's grid time, with which it stamps entries as a leader.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub grid: Option<Timestamp>,
    /// The latest timestamp that the node has applied.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub log: Option<Timestamp>,
    /// The grid time from which the node would continue; only in a dry run.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub becomes: Option<Timestamp>,
    /// Whether the shards that the node leads may expire deadlines. False while an operator has to choose the right clock.
    pub expires: bool,
    /// Faults of the clock, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// A request to accept a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AcceptClock {
    /// The clock that is right.
    pub right: RightClock,
    /// Whether to report only what would happen.
    pub dry_run: bool,
}

/// The clock that an operator accepts as right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RightClock {
    /// The machines' wall clocks: time continues from them.
    Wall,
    /// The log: time continues from its last entry, whatever the wall clocks show.
    Log,
}

impl RightClock {
    /// The value in a request.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Log => "log",
        }
    }

    /// Parses the value of a request.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Wall, Self::Log].into_iter().find(|right| right.word() == word)
    }
}

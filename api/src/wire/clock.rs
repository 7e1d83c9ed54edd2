//! What operators read of the nodes' clocks, and what they answer when no clock can be told from a wrong one.

use bincode::{Decode, Encode};
use ordergrid_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::text;

/// Answer of `GET /admin/v1/cluster/clock`, and of accepting a clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClusterClock {
    /// The nodes, by id; unreachable ones too.
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
    /// It answered; else nothing else is known.
    pub reachable: bool,
    /// What its machine takes for the time of day.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// What it takes for the time of the grid: what it stamps where it leads.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub grid: Option<Timestamp>,
    /// The latest stamp that it has applied.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub log: Option<Timestamp>,
    /// What the time of the grid would go on from, where accepting a clock was only tried.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub becomes: Option<Timestamp>,
    /// What it leads may expire: false while an operator is to say which clock is right.
    pub expires: bool,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// A clock that is accepted, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AcceptClock {
    /// The right one.
    pub right: RightClock,
    /// Only to be told what would happen.
    pub dry_run: bool,
}

/// Which clock is right, as an operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RightClock {
    /// The machines' clocks: time goes on from there.
    Wall,
    /// The log's: time goes on from its last entry, whatever the machines' clocks say.
    Log,
}

impl RightClock {
    /// As it stands in a request.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Log => "log",
        }
    }

    /// From a request.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Wall, Self::Log].into_iter().find(|right| right.word() == word)
    }
}

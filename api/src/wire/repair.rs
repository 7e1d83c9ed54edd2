//! Setting log time back: what is asked, and what each shard answers.

use bincode::{Decode, Encode};
use ordergrid_domain::{Deadline, Moved, Timestamp};
use serde::{Deserialize, Serialize};

use super::text;

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AskedRepair {
    /// Only to be told what would happen.
    pub dry_run: bool,
    /// The first wrong stamp. Left out, every stamp that is later than the time is wrong.
    pub since: Option<Timestamp>,
}

/// Answer of `POST /admin/v1/cluster/clock/repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClockRepair {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The shards, by id.
    pub shards: Vec<ShardRepair>,
}

impl ClockRepair {
    /// Whether any shard stands so.
    #[must_use]
    pub fn any(&self, state: RepairState) -> bool {
        self.shards.iter().any(|shard| shard.state == state)
    }
}

/// What a repair came to at one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardRepair {
    /// Its id.
    #[serde(with = "text")]
    pub shard: u32,
    /// How it stands.
    pub state: RepairState,
    /// Its log time before.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub log: Option<Timestamp>,
    /// The time, to which log time goes back.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub right: Option<Timestamp>,
    /// The first stamp that counts as wrong.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why nothing was done, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Deadlines of each kind that there is; of a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlines: Vec<Deadlines>,
}

/// How a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Its log time is ahead, and can be set back.
    Ahead,
    /// Its log time was set back now.
    Repaired,
    /// Its log time is not ahead: there is nothing to do, or it was done before.
    Sound,
    /// Refused by a safety check: nothing has changed.
    Refused,
    /// It did not answer, so that it is not known what has happened; asking again tells.
    Unknown,
}

/// Deadlines of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Deadlines {
    /// Of what: `payment`, `completion`, `order_key`, `command_key`, `hold`.
    pub of: String,
    /// Those that were set in the wrong time.
    pub moved: u64,
    /// Where the first and the last of them go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Those that were set before, and stay.
    pub stay: u64,
}

/// Where a deadline goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Move {
    /// When it would be.
    #[serde(with = "text")]
    pub from: Timestamp,
    /// When it will be.
    #[serde(with = "text")]
    pub to: Timestamp,
}

impl Deadlines {
    /// What was found of a kind.
    #[must_use]
    pub fn new(of: Deadline, moved: &Moved) -> Self {
        let of = match of {
            Deadline::Payment => "payment",
            Deadline::Completion => "completion",
            Deadline::OrderKey => "order_key",
            Deadline::CommandKey => "command_key",
            Deadline::Hold => "hold",
        };
        let ends: &[_] = if moved.count == 0 { &[] } else { &[moved.first, moved.last] };
        let moves = ends.iter().map(|(from, to)| Move { from: *from, to: *to }).collect();
        Self { of: of.to_owned(), moved: moved.count, moves, stay: moved.stay }
    }
}

//! Repair of log time: the request, and the answer of each shard.

use bincode::{Decode, Encode};
use ordergrid_domain::{Deadline, Moved, Timestamp};
use serde::{Deserialize, Serialize};

use super::text;

/// A request to set log time back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AskedRepair {
    /// Whether to report only what would happen.
    pub dry_run: bool,
    /// The first wrong timestamp. If absent, every timestamp later than the current time is wrong.
    pub since: Option<Timestamp>,
}

/// Answer of `POST /admin/v1/cluster/clock/repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClockRepair {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The shards, by id.
    pub shards: Vec<ShardRepair>,
}

impl ClockRepair {
    /// Whether any shard is in this state.
    #[must_use]
    pub fn any(&self, state: RepairState) -> bool {
        self.shards.iter().any(|shard| shard.state == state)
    }
}

/// The result of a repair for one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ShardRepair {
    /// Its id.
    #[serde(with = "text")]
    pub shard: u32,
    /// The shard's state after the request.
    pub state: RepairState,
    /// The shard's log time before the request.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub log: Option<Timestamp>,
    /// The current time, to which log time is set back.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub right: Option<Timestamp>,
    /// The first timestamp that counts as wrong.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The reason why nothing was done, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Deadlines by kind; only in a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlines: Vec<Deadlines>,
}

/// The state of a shard with regard to its log time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Log time is ahead, and can be set back.
    Ahead,
    /// Log time was set back by this request.
    Repaired,
    /// Log time is not ahead: there is nothing to do, or it was done before.
    Sound,
    /// A safety check refused the repair: nothing has changed.
    Refused,
    /// The shard did not answer, so the outcome is unknown. Repeat the request to find out.
    Unknown,
}

/// Deadlines of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Deadlines {
    /// The kind: `payment`, `completion`, `order_key`, `command_key` or `hold`.
    pub of: String,
    /// Number of deadlines that were set while log time was wrong.
    pub moved: u64,
    /// The first and the last of these deadlines, before and after the repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Number of deadlines that were set before, and do not change.
    pub stay: u64,
}

/// A deadline before and after the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Move {
    /// The deadline before the repair.
    #[serde(with = "text")]
    pub from: Timestamp,
    /// The deadline after the repair.
    #[serde(with = "text")]
    pub to: Timestamp,
}

impl Deadlines {
    /// The deadlines of one kind.
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

//! What goes wrong, and how it is done and undone.

mod copies;
mod strike;

use std::time::Duration;

pub use strike::Striking;

/// Who is struck, decided when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This node.
    Node(u64),
    /// Whoever leads this group then.
    Leader(u32),
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// kill -9, and a start when it is over. `buffers`: what the process had not handed to the operating system is lost.
    Kill {
        /// Whose.
        who: Who,
        /// Its buffers are lost.
        buffers: bool,
    },
    /// Power is lost: unsynced writes go, and nobody is told.
    PowerLoss {
        /// Whose.
        who: Who,
    },
    /// A node is asked to stop, stops in its own time, and starts again when it has been off for a while.
    Stop {
        /// Which.
        who: Who,
    },
    /// All nodes lose power at once.
    Blackout,
    /// The process stands still while its clocks go on.
    Pause {
        /// Whose.
        who: Who,
    },
    /// The machine stands still, and its monotonic clock with it.
    Suspend {
        /// Whose.
        who: Who,
    },
    /// A leader is asked to hand over.
    Transfer {
        /// The group.
        group: u32,
        /// To this node.
        to: u64,
    },
    /// A node is cut off from the others, in one direction or both.
    Isolate {
        /// Which.
        who: Who,
        /// It hears nothing.
        inwards: bool,
        /// It is not heard.
        outwards: bool,
        /// By clients too.
        clients: bool,
    },
    /// The nodes fall into two parts.
    Split {
        /// One of the parts.
        minority: Vec<u64>,
    },
    /// Every link is slow.
    SlowNet {
        /// The longest time on the way.
        most: Duration,
    },
    /// Packets are lost, which TCP turns into waiting.
    Lossy {
        /// In a thousand.
        permille: u64,
    },
    /// Connections between two nodes break.
    Reset {
        /// One node.
        one: u64,
        /// Another.
        other: u64,
    },
    /// Syncs take long.
    SlowSync {
        /// Whose.
        who: Who,
        /// Of the log; else of the state.
        log: bool,
        /// The longest.
        most: Duration,
    },
    /// No sync ends.
    StallSync {
        /// Whose.
        who: Who,
        /// Of the log; else of the state.
        log: bool,
    },
    /// A write fails.
    FailWrite {
        /// Whose.
        who: Who,
        /// To the log; else to the state.
        log: bool,
        /// Writes that succeed before.
        after: u64,
        /// It reaches the disk, but whether it is durable is unknown.
        written: bool,
    },
    /// Reads fail.
    FailReads {
        /// Whose.
        who: Who,
        /// Of the log; else of the state.
        log: bool,
    },
    /// The disk is full.
    DiskFull {
        /// Whose.
        who: Who,
    },
    /// A bit of the log is read wrong once.
    FlipBit {
        /// Whose.
        who: Who,
        /// Values read before.
        after: u64,
        /// Which bit.
        bit: u64,
        /// The node starts anew, so that the log is read.
        restart: bool,
    },
    /// A bit of what a node has synced to its log flips, anywhere in it, and the node starts anew. Always the same node in a
    /// history: what two of three have lost nobody can bring back.
    RotLog {
        /// Whose.
        who: Who,
        /// How far into the log, in thousandths.
        permille: u64,
    },
    /// The log database of a node cannot be opened any more, and the node starts anew without it. The same node as of bits that flip.
    LoseLog {
        /// Whose.
        who: Who,
    },
    /// A copy of a node's disk is taken, and put in the place of the disk later: whatever the node has done meanwhile is forgotten
    /// there. Always the same node in a history, and the one whose logs lose bits.
    OldCopy {
        /// Whose.
        who: Who,
        /// Taken while the node is off; else while it runs.
        cold: bool,
    },
    /// A block of the log is found to be damaged, once; or rows of the state are, until they are filled anew.
    DamageRead {
        /// Whose.
        who: Who,
        /// Of the log; else of the state.
        log: bool,
        /// Reads before.
        after: u64,
    },
    /// Every replica of a node writes a checkpoint.
    Checkpoint {
        /// Which node.
        who: Who,
    },
    /// The time of day jumps, and back when it is over.
    ClockStep {
        /// Whose.
        who: Who,
        /// So far off, in milliseconds.
        offset_ms: i64,
    },
    /// The times of day of these nodes jump together by anything up to years, and back when it is over.
    ClockLeap {
        /// Whose.
        nodes: Vec<u64>,
        /// So far off, in milliseconds.
        offset_ms: i64,
    },
    /// A clock runs at another speed.
    ClockRate {
        /// Whose.
        who: Who,
        /// In thousandths.
        rate: u64,
    },
}

/// A trouble with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, after the beginning of the unrest.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What.
    pub trouble: Trouble,
}

/// What the table of faults must have and the product cannot survive yet, because it has no such function: filled in when it
/// has.
pub const NOT_YET: [(&str, &str); 3] = [
    ("membership change", "the product has no verb to add, remove or replace a node"),
    ("a node that comes back with an empty disk", "the product refuses to found again, and cannot be replaced yet"),
    ("mixed versions", "there is one version"),
];

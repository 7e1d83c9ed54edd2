//! What following the disks brought to light: facts that break a law, for the judge of that law.

use crate::history::SimTime;

/// A law of consensus that can be seen broken on the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLaw {
    /// A term has one leader.
    OneLeaderPerTerm,
    /// A replica's vote never goes back, and it gives one per term.
    VotesMonotonic,
    /// Same index and term, same entry and same log before it.
    LogMatching,
    /// What is committed is committed for ever, everywhere.
    CommittedNeverChanges,
    /// What is committed is durable on a majority.
    CommittedIsDurable,
    /// Everything that is written can be read.
    LogsReadable,
}

impl LogLaw {
    /// The law's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneLeaderPerTerm => "OneLeaderPerTerm",
            Self::VotesMonotonic => "VotesMonotonic",
            Self::LogMatching => "LogMatching",
            Self::CommittedNeverChanges => "CommittedNeverChanges",
            Self::CommittedIsDurable => "CommittedIsDurable",
            Self::LogsReadable => "LogsReadable",
        }
    }
}

/// A law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub law: LogLaw,
    /// When.
    pub at: SimTime,
    /// What was seen.
    pub text: String,
}

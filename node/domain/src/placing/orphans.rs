//! What an order's shard answers about holds whose *keep* has not come (rule 14).

use bincode::{Decode, Encode};

use crate::ids::AttemptId;
use crate::machine::ShardMachine;

/// What became of an attempt. There is no "keep": only the stream keeps a hold (rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AttemptFate {
    /// Placed, or still running, or of a newer term.
    Later,
    /// It never will be placed: free the hold.
    Gone,
}

/// Attempts that were looked up in the table of running ones. Take a read barrier, then read their fates: in any other order
/// an attempt could be placed between the two looks.
#[derive(Clone, Debug)]
pub struct Looked(pub(super) Vec<(bool, AttemptId)>);

impl Looked {
    /// The fates, in the order asked, from a state as of a barrier that began after the first look.
    pub fn fates(self, machine: &ShardMachine) -> impl Iterator<Item = AttemptFate> {
        let at_rest = self.0.iter().filter(|(runs, _)| !runs).map(|(_, attempt)| *attempt);
        let placed = machine.placed_among(at_rest.collect());
        let fate = move |(runs, attempt)| {
            if runs || placed.contains_key(&attempt) { AttemptFate::Later } else { AttemptFate::Gone }
        };
        self.0.into_iter().map(fate)
    }
}

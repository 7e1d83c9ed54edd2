//! Detects a leader whose log contradicts the entries applied on this replica: one of the two has lost committed entries.
//!
//! openraft assumes that a leader has every entry that is committed here, and skips what the leader sends below that index. So
//! a leader that has lost entries would still be followed, and the replicas would silently diverge. Terms never decrease along
//! a log. So an entry of a higher term at or below the last applied index, or of another term at that index, belongs to another
//! log.

use openraft::AsyncRuntime;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::watch;

use crate::ids::EntryId;
use crate::raft_types::{LogId, RaftTypes};

/// The reason why this replica must stop, once there is one.
pub(super) struct Contradicted(watch::Sender<Option<String>>);

impl Contradicted {
    pub(super) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Records the contradiction. From now on the replica accepts no entries.
    pub(super) fn by(&self, theirs: LogId, applied: EntryId) -> String {
        let theirs = EntryId::from(&theirs);
        let why = format!("the leader's log has entry {theirs} where entry {applied} and all before it are applied here");
        self.0.send_if_modified(|known| known.is_none() && known.replace(why.clone()).is_none());
        why
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Resolves with the reason; never, if there is none.
    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// The entry in a leader's request that contradicts the last applied one.
pub(super) fn in_request<RT: AsyncRuntime>(request: &AppendEntriesRequest<RaftTypes<RT>>, applied: EntryId) -> Option<LogId> {
    let before = request.prev_log_id.filter(|id| contradicts(id, applied));
    let newest = || request.entries.iter().map(|entry| entry.log_id).take_while(|id| id.index <= applied.index).last();
    before.or_else(|| newest().filter(|id| contradicts(id, applied)))
}

/// Whether an entry and the last applied one cannot be in the same log.
pub(super) fn contradicts(id: &LogId, applied: EntryId) -> bool {
    let term = id.leader_id.term;
    (id.index == applied.index && term != applied.term) || (id.index < applied.index && term > applied.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::CommittedLeaderId;

    #[test]
    fn only_another_log_has_such_an_entry() {
        let applied = EntryId { term: 3, index: 10 };
        #[rustfmt::skip]
        let rows = [
            // term, index, contradicts
            (3,      10,    false),
            (2,      10,    true),
            (4,      10,    true),
            (2,      9,     false),
            (3,      9,     false),
            (4,      9,     true),
            (4,      11,    false),
            (3,      11,    false),
        ];
        for (term, index, expected) in rows {
            let id = LogId::new(CommittedLeaderId::new(term), index);
            assert_eq!(contradicts(&id, applied), expected, "{term}.{index}");
        }
    }
}

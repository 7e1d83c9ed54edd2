//! Validates messages before consensus sees them. Consensus assumes that its peers are honest: a message that breaks this
//! assumption ends its task, and with it the group.
//!
//! One such message is not a forgery: it comes from a disk that was replaced by an older copy. A replica that has forgotten its
//! vote votes twice, and a term gets two leaders. Consensus cannot order the two. A replica that led the term itself, and has
//! restarted since, would take the other leader's entries and never learn that they are committed. So the second leader of a
//! term is refused, and the term is ended. `contradiction` detects a log that contradicts the entries applied here.

use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::{NodeId, ReplicaId};
use crate::metrics;
use crate::raft_types::{LogId, RaftEntry, SnapshotMeta, Vote};

/// Highest term accepted. 35,000 elections a second would reach it in a year.
const MOST_TERM: u64 = 1 << 40;
/// Interval at which the same fault of the same node is logged again.
const AGAIN: Duration = Duration::from_secs(60);
/// Highest index accepted. A million entries a second would reach it in 2,000 years.
const MOST_INDEX: u64 = 1 << 56;

/// Why a message cannot come from an honest peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Forged {
    /// The bytes are not a message of this kind.
    #[error("its bytes are not such a message")]
    Bytes,
    /// A candidate whose vote claims to be elected, or a leader whose vote does not.
    #[error("a vote that is elected where it cannot be, or not where it must be")]
    Vote,
    /// A term above the limit, or an entry of a later term than the message.
    #[error("a term that cannot be")]
    Term,
    /// An index above the limit, or entries whose indexes are not consecutive.
    #[error("an index that cannot be")]
    Index,
    /// The replica in the message is not on the node that sent it.
    #[error("the replica that it speaks for is not on the node that sent it")]
    Sender,
    /// Another replica already leads this term.
    #[error("the term has two leaders")]
    SecondLeader,
}

impl Forged {
    /// The value of the metric's label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Vote => "vote",
            Self::Term => "term",
            Self::Index => "index",
            Self::Sender => "sender",
            Self::SecondLeader => "second_leader",
        }
    }
}

/// When each fault of each node was logged last, so that a node that repeats a fault does not flood the log.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<(NodeId, Forged), Instant>>);

impl Told {
    /// Counts a refused message, and logs it unless the same fault of its sender was logged lately.
    pub(crate) fn tell(&self, forged: Forged, group: GroupId, from: NodeId) {
        metrics::refused_message(forged.name());
        if !self.is_due(forged, from, Instant::now()) {
            return;
        }
        if forged == Forged::SecondLeader {
            tracing::error!(
                shard = %group,
                peer = from,
                advice = "a node has voted twice, so its disk is an older copy: run `ordergrid cluster verify`",
                "two leaders in one term"
            );
        } else {
            tracing::warn!(shard = %group, peer = from, error = %forged, "forged message refused");
        }
    }

    fn is_due(&self, forged: Forged, from: NodeId, now: Instant) -> bool {
        let mut said = self.0.lock();
        let due = said.get(&(from, forged)).is_none_or(|before| now.saturating_duration_since(*before) >= AGAIN);
        if due {
            said.insert((from, forged), now);
        }
        due
    }
}

fn rule(holds: bool, otherwise: Forged) -> Result<(), Forged> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// Whether a vote has a term that a group can reach.
pub(crate) fn plausible(vote: &Vote) -> Result<(), Forged> {
    rule(vote.leader_id.term <= MOST_TERM, Forged::Term)
}

/// What a replica knows when a message arrives.
pub(super) struct Known<'a> {
    /// The replica that received the message.
    pub(super) me: ReplicaId,
    /// The node that sent the message.
    pub(super) from: NodeId,
    /// The node of each replica of the group; `None` for all of them while the membership is unknown.
    pub(super) node_of: &'a dyn Fn(ReplicaId) -> Option<NodeId>,
    /// Whether the membership of the group is unknown.
    pub(super) stranger: bool,
    /// Votes that this replica knows: the one it was started with, and the current one.
    pub(super) votes: [Option<Vote>; 2],
}

impl Known<'_> {
    /// Checks entries or a heartbeat.
    pub(super) fn append(
        &self,
        vote: &Vote,
        previous: Option<&LogId>,
        entries: &[RaftEntry],
        committed: Option<&LogId>,
    ) -> Result<(), Forged> {
        self.leader(vote)?;
        let term = vote.leader_id.term;
        let mut last = previous;
        within(previous, term)?;
        within(committed, term)?;
        for id in entries.iter().map(|entry| &entry.log_id) {
            within(Some(id), term)?;
            rule(id.index == last.map_or(0, |last| last.index + 1), Forged::Index)?;
            rule(last.is_none_or(|last| last.leader_id <= id.leader_id), Forged::Term)?;
            last = Some(id);
        }
        Ok(())
    }

    /// Checks a vote request or a pre-vote request.
    pub(super) fn candidate(&self, vote: &Vote, last: Option<&LogId>) -> Result<(), Forged> {
        plausible(vote)?;
        rule(!vote.committed, Forged::Vote)?;
        self.sender(vote)?;
        // The requested term has no leader yet, so the candidate's last entry is of an earlier term.
        within(last, vote.leader_id.term.saturating_sub(1))
    }

    /// Checks a leadership transfer. The leader sends it to every follower: those that are not the target release the leader's
    /// lease.
    pub(super) fn transfer(&self, vote: &Vote, to: ReplicaId, last: Option<&LogId>) -> Result<(), Forged> {
        self.leader(vote)?;
        rule(self.stranger || (self.node_of)(to).is_some(), Forged::Sender)?;
        within(last, vote.leader_id.term)
    }

    /// Checks a snapshot that is to be installed.
    pub(super) fn snapshot(&self, vote: &Vote, meta: &SnapshotMeta) -> Result<(), Forged> {
        self.leader(vote)?;
        let last = meta.last_log_id.as_ref();
        within(last, vote.leader_id.term)?;
        rule(last.is_some(), Forged::Index)?;
        let members = meta.last_membership.log_id().as_ref();
        rule(members <= last, Forged::Index)
    }

    fn leader(&self, vote: &Vote) -> Result<(), Forged> {
        plausible(vote)?;
        rule(vote.committed, Forged::Vote)?;
        self.sender(vote)?;
        let term = vote.leader_id.term;
        let other = |known: &Vote| known.committed && known.leader_id.term == term && known.leader_id != vote.leader_id;
        // Consensus answers a leader of an earlier term that the term is over. This also ends a term with two leaders.
        let over = self.votes.iter().flatten().any(|known| known.leader_id.term > term);
        rule(over || !self.votes.iter().flatten().any(other), Forged::SecondLeader)
    }

    fn sender(&self, vote: &Vote) -> Result<(), Forged> {
        let replica = vote.leader_id.voted_for;
        let there = self.stranger || (self.node_of)(replica) == Some(self.from);
        rule(replica != self.me && there, Forged::Sender)
    }
}

/// Checks that an entry named in a message is of this term or an earlier one.
fn within(id: Option<&LogId>, term: u64) -> Result<(), Forged> {
    let Some(id) = id else { return Ok(()) };
    rule(id.index <= MOST_INDEX, Forged::Index)?;
    rule(id.leader_id.term <= term, Forged::Term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::{EntryBody, StoredMembership};

    const MAX: u64 = u64::MAX;

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId { leader_id: term.into(), index })
    }

    fn won(term: u64, replica: u64) -> Vote {
        Vote::new_committed(term, replica)
    }

    /// Replica 103 on node 3, which led term 5 in an earlier life, and knows of 101 to 103.
    fn known<T>(from: NodeId, look: impl FnOnce(&Known<'_>) -> T) -> T {
        let node_of = |replica: ReplicaId| (101..=103).contains(&replica).then(|| replica - 100);
        look(&Known { me: 103, from, node_of: &node_of, stranger: false, votes: [Some(won(5, 103)), Some(Vote::new(5, 103))] })
    }

    #[test]
    fn entries_that_no_leader_sends_are_refused() {
        use Forged::{Index, SecondLeader, Sender, Term, Vote as Voted};
        #[rustfmt::skip]
        let cases = [
            // from, vote,               previous,        entries,                 committed,     why
            (1, won(6, 101),             id(5, 10),       vec![(6, 11), (6, 12)],  id(5, 10),     Ok(())),
            (1, won(6, 101),             id(4, 9),        vec![],                  id(5, 900),    Ok(())),
            (1, won(6, 101),             None,            vec![(1, 0)],            None,          Ok(())),
            (1, Vote::new(6, 101),       id(5, 10),       vec![],                  None,          Err(Voted)),
            (2, won(6, 101),             id(5, 10),       vec![],                  None,          Err(Sender)),
            (3, won(6, 103),             id(5, 10),       vec![],                  None,          Err(Sender)),
            (1, won(6, 900),             id(5, 10),       vec![],                  None,          Err(Sender)),
            (1, won(5, 101),             id(4, 9),        vec![(5, 10)],           None,          Err(SecondLeader)),
            (1, won(4, 101),             id(4, 9),        vec![],                  None,          Ok(())),
            (1, won(MAX, 101),           id(5, 10),       vec![],                  None,          Err(Term)),
            (1, won(MOST_TERM + 1, 101), id(5, 10),       vec![],                  None,          Err(Term)),
            (1, won(6, 101),             id(7, 10),       vec![],                  None,          Err(Term)),
            (1, won(6, 101),             id(5, 10),       vec![(7, 11)],           None,          Err(Term)),
            (1, won(6, 101),             id(5, 10),       vec![(4, 11)],           None,          Err(Term)),
            (1, won(6, 101),             id(5, 10),       vec![],                  id(7, 10),     Err(Term)),
            (1, won(6, 101),             id(5, 10),       vec![(6, 12)],           None,          Err(Index)),
            (1, won(6, 101),             id(5, 10),       vec![(6, 11), (6, 11)],  None,          Err(Index)),
            (1, won(6, 101),             None,            vec![(6, 11)],           None,          Err(Index)),
            (1, won(6, 101),             id(5, MAX),      vec![(6, 0)],            None,          Err(Index)),
            (1, won(6, 101),             id(5, 10),       vec![],                  id(5, MAX),    Err(Index)),
        ];
        for (nth, (from, vote, previous, entries, committed, expected)) in cases.into_iter().enumerate() {
            let entry = |(term, index)| RaftEntry { log_id: id(term, index).expect("an id"), payload: EntryBody::Blank };
            let entries: Vec<_> = entries.into_iter().map(entry).collect();
            let found = known(from, |known| known.append(&vote, previous.as_ref(), &entries, committed.as_ref()));
            assert_eq!(found, expected, "case {nth}");
        }
    }

    #[test]
    fn votes_that_no_candidate_asks_for_are_refused() {
        use Forged::{Index, Sender, Term, Vote as Voted};
        #[rustfmt::skip]
        let cases = [
            // from, vote,          last entry,    why
            (1, Vote::new(6, 101),  id(5, 10),     Ok(())),
            (1, Vote::new(1, 101),  None,          Ok(())),
            (1, won(6, 101),        id(5, 10),     Err(Voted)),
            (1, Vote::new(6, 102),  id(5, 10),     Err(Sender)),
            (3, Vote::new(6, 103),  id(5, 10),     Err(Sender)),
            (9, Vote::new(6, 109),  id(5, 10),     Err(Sender)),
            (1, Vote::new(MAX, 101),id(5, 10),     Err(Term)),
            (1, Vote::new(6, 101),  id(6, 10),     Err(Term)),
            (1, Vote::new(6, 101),  id(5, MAX),    Err(Index)),
        ];
        for (nth, (from, vote, last, expected)) in cases.into_iter().enumerate() {
            assert_eq!(known(from, |known| known.candidate(&vote, last.as_ref())), expected, "case {nth}");
        }
    }

    #[test]
    fn hand_overs_and_snapshots_that_no_leader_sends_are_refused() {
        use Forged::{Index, SecondLeader, Sender, Term};
        let transfer = |vote: Vote, to, last: Option<LogId>| known(1, |known| known.transfer(&vote, to, last.as_ref()));
        assert_eq!(transfer(won(6, 101), 103, id(6, 12)), Ok(()));
        assert_eq!(transfer(won(6, 101), 102, id(6, 12)), Ok(()), "another one is meant, and this one does not hold it up");
        assert_eq!(transfer(won(6, 101), 109, id(6, 12)), Err(Sender));
        assert_eq!(transfer(won(6, 101), 103, id(7, 12)), Err(Term));
        assert_eq!(transfer(won(5, 101), 103, id(5, 12)), Err(SecondLeader));
        let snapshot = |last, members| {
            let last_membership = StoredMembership::new(members, Default::default());
            let meta = SnapshotMeta { last_log_id: last, last_membership };
            known(1, |known| known.snapshot(&won(6, 101), &meta))
        };
        assert_eq!(snapshot(id(5, 20), id(1, 1)), Ok(()));
        assert_eq!(snapshot(id(4, 8), id(1, 1)), Ok(()), "an old one is of no use, and does no harm");
        assert_eq!(snapshot(None, None), Err(Index));
        assert_eq!(snapshot(id(5, MAX), id(1, 1)), Err(Index));
        assert_eq!(snapshot(id(7, 20), id(1, 1)), Err(Term));
        assert_eq!(snapshot(id(5, 20), id(5, 21)), Err(Index));
    }

    #[test]
    fn the_same_of_the_same_node_is_said_once_a_minute() {
        let (told, now) = (Told::default(), Instant::now());
        #[rustfmt::skip]
        let messages = [
            // why,            from, seconds, said
            (Forged::Term,     1,    0,       true),
            (Forged::Term,     1,    1,       false),
            (Forged::Index,    1,    1,       true),
            (Forged::Term,     2,    2,       true),
            (Forged::Term,     1,    59,      false),
            (Forged::Term,     1,    60,      true),
        ];
        for (why, from, seconds, said) in messages {
            assert_eq!(told.is_due(why, from, now + Duration::from_secs(seconds)), said, "{why:?} after {seconds} s");
        }
    }

    #[test]
    fn before_the_founding_anybody_may_be_a_replica() {
        let nobody = |_| None;
        let votes = [None, None];
        let stranger = Known { me: 3, from: 1, node_of: &nobody, stranger: true, votes };
        assert_eq!(stranger.append(&won(1, 1), None, &[], None), Ok(()));
    }
}

//! Recall: an upper bound of what a replica can have promised, if its log was lost, and its vote with it.
//!
//! The other replicas know enough, provided that all of them answer after the loss. The replica takes the highest vote and the
//! last entry of any of them, and treats that entry as its floor (see `floor`): it grants no vote, does not campaign and
//! exposes nothing until a leader has refilled its log past that entry. This is safe:
//!
//! - *Its vote.* A candidate writes the term to its disk before it asks for a vote. So any candidate that this replica may have
//!   voted for answers with that term or a later one. With a vote of the highest term, the replica takes no entries from a leader
//!   that its lost vote has deposed. If the winner of that term is known, the replica adopts the winner's vote. Otherwise nobody
//!   knows whom it voted for in that term, so it takes the next term and votes for itself there. It does not campaign, so nobody
//!   is elected by that vote, and no vote is given twice.
//!
//! - *Its entries.* An entry that is committed because this replica had it is on a majority. So another replica that answers
//!   has it, or a later one. An entry that may still be committed because of this replica is in the log of the leader that sent
//!   it, which answers too. So nothing that another node relies on lies beyond the last entry of all that answer. A log that
//!   reaches this entry with entries from leaders of the highest term or later has everything before it.
//!
//! A replica that has forgotten its own promises says so instead. It no longer asks for the votes that it asked for, and it no
//! longer leads. But every majority must still contain a replica that knows its promises; otherwise nobody can tell what the
//! others have lost together.

use crate::ids::ReplicaId;
use crate::raft_types::{LogId, Vote};

/// The promises that bind a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Its vote.
    pub vote: Vote,
    /// The last entry that others may rely on this replica to have.
    pub last: Option<LogId>,
}

/// The answer of one of the other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Its promises.
    Knows(Promised),
    /// The replica has forgotten its promises as well.
    Forgotten,
}

/// Too many replicas of a group have forgotten their promises: together they may have lost acknowledged entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "only {know} of {replicas} replicas know what they have promised: more than the group can do without have lost their logs"
)]
pub struct TooFew {
    /// Number of replicas that know their promises.
    pub know: usize,
    /// Number of replicas of the group.
    pub replicas: usize,
}

/// An upper bound of what the replica `own` can have promised, computed from the answers of *every* other replica of its group.
///
/// # Errors
/// If too few of them know.
pub fn recall(own: ReplicaId, others: &[Recalled]) -> Result<Promised, TooFew> {
    let known = others.iter().filter_map(|other| match other {
        Recalled::Knows(promised) => Some(promised),
        Recalled::Forgotten => None,
    });
    let (know, replicas) = (known.clone().count(), others.len() + 1);
    let highest = known.clone().map(|promised| promised.vote).max_by_key(|vote| (vote.leader_id.term, vote.committed));
    // Every majority must contain a replica that knows its promises.
    let Some(highest) = highest.filter(|_| know >= replicas - replicas / 2) else { return Err(TooFew { know, replicas }) };
    let won_by_another = highest.committed && highest.leader_id.voted_for != own;
    let vote = if won_by_another { highest } else { Vote::new(highest.leader_id.term + 1, own) };
    Ok(Promised { vote, last: known.filter_map(|promised| promised.last).max() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Recalled::Forgotten;

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: term.into(), index }
    }

    fn knows(vote: Vote, last: Option<LogId>) -> Recalled {
        Recalled::Knows(Promised { vote, last })
    }

    #[test]
    fn the_highest_vote_and_the_last_entry_of_all_bind_who_has_forgotten() {
        let (won, asked) = (Vote::new_committed, Vote::new);
        #[rustfmt::skip]
        let rows = [
            // of replica 3                                                        its vote    its floor
            (vec![knows(won(5, 1), Some(id(5, 9))), knows(won(5, 1), Some(id(5, 7)))], won(5, 1),   Some(id(5, 9))),
            (vec![knows(won(5, 1), Some(id(5, 9))), knows(asked(6, 2), Some(id(5, 7)))], asked(7, 3), Some(id(5, 9))),
            (vec![knows(asked(6, 1), None), knows(won(6, 2), Some(id(6, 1)))],     won(6, 2),   Some(id(6, 1))),
            (vec![knows(won(5, 3), Some(id(5, 9))), knows(asked(4, 2), Some(id(3, 70)))], asked(6, 3), Some(id(5, 9))),
            (vec![knows(asked(0, 0), None), knows(asked(0, 0), None)],             asked(1, 3), None),
            (vec![knows(won(2, 1), Some(id(2, 2))), knows(won(2, 1), None), knows(won(1, 2), None), Forgotten], won(2, 1), Some(id(2, 2))),
            (vec![knows(won(2, 1), Some(id(2, 2)))],                               won(2, 1),   Some(id(2, 2))),
        ];
        for (nth, (others, vote, last)) in rows.into_iter().enumerate() {
            assert_eq!(recall(3, &others), Ok(Promised { vote, last }), "case {nth}");
        }
    }

    #[test]
    fn a_group_that_may_have_lost_what_a_majority_had_does_not_go_on() {
        let one = knows(Vote::new(4, 1), Some(id(4, 4)));
        #[rustfmt::skip]
        let rows = [
            (vec![one, Forgotten],                                 1, 3),
            (vec![Forgotten, Forgotten],                           0, 3),
            (vec![one, one, Forgotten, Forgotten],                 2, 5),
            (vec![],                                               0, 1),
        ];
        for (others, know, replicas) in rows {
            assert_eq!(recall(3, &others), Err(TooFew { know, replicas }));
        }
    }
}

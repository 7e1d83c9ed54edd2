//! What a replica can have promised at the most, that has forgotten it: its log was lost whole, and its vote with it.
//!
//! The others know enough, if all of them answer after it was lost. It is told the highest vote and the last entry of any of them,
//! and stands below that entry as below a floor (see `floor`): it gives no vote, does not stand and shows nothing before a leader has
//! refilled it past that point. That is safe:
//!
//! - *Its vote.* Whoever it can have voted for wrote down the term before asking, and answers with that term or a later one. With a
//!   vote of the highest term it takes entries of no leader whom its lost vote has deposed. Where that term is known to be won, it
//!   takes over who won it. Else nobody knows whom it voted for in that term, so it takes the next one, and votes for itself there:
//!   it does not stand, so nobody is elected by it, and no vote is given twice.
//! - *Its entries.* An entry that is committed because this replica had it is on a majority, and so on another replica that answers,
//!   which has it still or something that came later. One that may yet be committed for that reason is in the log of the leader that
//!   sent it, which answers too. So nothing that anybody counts on lies beyond the last entry of all who answer; and a log that
//!   reaches this entry by what leaders of the highest term or later ones send has everything before it.
//!
//! A replica that has forgotten its own promises says so instead. Whom it asked to be elected by it asks no longer, and what it led
//! is over. But then those that know must still be one of every majority: else what the others have lost together cannot be told.

use crate::grid::{LogId, Vote};
use crate::ids::ReplicaId;

/// What a replica holds itself to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Its vote.
    pub vote: Vote,
    /// The last entry that others may count on it to have.
    pub last: Option<LogId>,
}

/// What one of the other replicas says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Its promises.
    Knows(Promised),
    /// It has forgotten them, too.
    Forgotten,
}

/// Too many replicas of a group have forgotten what they had promised: together they may have lost what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "only {know} of {replicas} replicas know what they have promised: more than the group can do without have lost their logs"
)]
pub struct TooFew {
    /// Those that know.
    pub know: usize,
    /// All of the group.
    pub replicas: usize,
}

/// What the replica `own` can have promised at the most, by what *every* other replica of its group says.
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
    // In every majority there is one that knows.
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

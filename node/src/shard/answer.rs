//! Answers in the words of the HTTP seam.

use ordergrid_api::{Failure, Refusal, Token, UnknownCause};
use ordergrid_domain::placing::NotPlaced;
use ordergrid_domain::{GroupId, Rejection};

/// Where a write landed.
pub(crate) fn token(shard: GroupId, index: u64) -> Token {
    Token { shard: shard.0, index }
}

/// Why an order was not placed.
pub(crate) fn not_placed(why: NotPlaced) -> Failure {
    match why {
        NotPlaced::Rejected(final_no) => Failure::Rejected(final_no),
        NotPlaced::NoLeader => Failure::refused(Refusal::NoLeader),
        NotPlaced::Overloaded => Failure::refused(Refusal::Overloaded),
        NotPlaced::HoldTimedOut => Failure::refused(Refusal::HoldTimedOut),
        NotPlaced::Unknown => Failure::unknown(UnknownCause::LeaderChanged),
    }
}

/// A place was refused.
pub(crate) fn refused_place(rejection: Rejection) -> Failure {
    not_placed(rejection.into())
}

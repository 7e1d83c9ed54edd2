//! Answers in the words of the HTTP seam.

use ordergrid_api::{Failure, Refusal, Token};
use ordergrid_domain::{GroupId, Rejection};

/// Where a write landed.
pub(crate) fn token(shard: GroupId, index: u64) -> Token {
    Token { shard: shard.0, index }
}

/// A place was refused. What the protocol says to itself becomes what a client can act on.
pub(crate) fn refused_place(rejection: Rejection) -> Failure {
    match rejection {
        Rejection::StaleAttempt { .. } | Rejection::WrongShard => Failure::refused(Refusal::NoLeader),
        Rejection::HoldExpired { .. } | Rejection::HoldEnded => Failure::refused(Refusal::HoldTimedOut),
        final_no => Failure::Rejected(final_no),
    }
}

//! Rules 4, 7 and 8: a place from its proposal to its outcome.

use super::*;
use crate::command::Outcome;

/// What follows for an attempt: its releases, and whether it is over.
fn follows<A>(decided: Decided<Door, A>) -> (String, A) {
    let Decided { answer, over, .. } = decided;
    let shown = over.map(|Over { over, releases, .. }| {
        let releases = releases.iter().map(|(shard, release)| released(*shard, release));
        releases.chain([format!("over {}", over.attempt.counter)]).collect::<Vec<_>>().join("; ")
    });
    (shown.unwrap_or_default(), answer)
}

#[test]
fn nothing_is_released_once_a_place_was_proposed_and_nobody_knows() {
    const ALL: &str = "release 1: 1 1a; release 2: 1 2a; over 1";
    #[rustfmt::skip]
    let cases = [
        (NotLanded::NotAppended, ALL, NotPlaced::NoLeader),
        (NotLanded::TooLate,     ALL, NotPlaced::Overloaded),
        (NotLanded::Unknown,     "",  NotPlaced::Unknown),
    ];
    for (why, expected, answer) in cases {
        assert_eq!(follows(Stage::new().proposed("x").not_landed(why)), (expected.to_owned(), answer), "{why:?}");
    }
    // Dropped, it is unknown as well: its attempt runs on.
    let mut stage = Stage::new();
    drop(stage.proposed("x"));
    assert!(stage.door.0.borrow().is_empty() && stage.is_busy("x"));
}

#[test]
fn a_refused_place_releases_and_says_what_a_client_can_act_on() {
    let stale = Rejection::StaleAttempt { attempt: TERM, entry: TERM + 1 };
    #[rustfmt::skip]
    let cases = [
        (Rejection::KeyReused,  NotPlaced::Rejected(Rejection::KeyReused)),
        (short("1a"),           NotPlaced::Rejected(short("1a"))),
        (stale,                 NotPlaced::NoLeader),
        (Rejection::WrongShard, NotPlaced::NoLeader),
        (late(5),               NotPlaced::HoldTimedOut),
        (Rejection::HoldEnded,  NotPlaced::HoldTimedOut),
    ];
    for (rejection, answer) in cases {
        let decided = follows(Stage::new().proposed("x").landed(Outcome::Rejected(rejection.clone())));
        assert_eq!(decided, ("release 1: 1 1a; release 2: 1 2a; over 1".to_owned(), Err(answer)), "{rejection:?}");
    }
}

#[test]
fn a_place_that_was_applied_ends_its_attempt_and_releases_nothing() {
    for replayed in [false, true] {
        let mut stage = Stage::new();
        let request = stage.request("y", "1a*1");
        let Outcome::Placed { order, .. } = stage.known.shard.place_local(request) else { panic!("there are units") };
        let outcome = Outcome::Placed { order: order.clone(), replayed };
        let decided = follows(stage.proposed("x").landed(outcome));
        assert_eq!(decided, ("over 1".to_owned(), Ok(PlacedOrder { order, replayed })));
    }
}

//! Rules 9 and 12: what memory says about a hold.

use super::*;
use crate::command::Hold;
use crate::time::Timestamp;

#[test]
fn attempt_first_then_sold_out_under_lease() {
    use HoldDecision::{ToLog, Wait};
    let mut shard = Shard::of(1, 3);
    shard.stocked(0, 5);
    let hold = |counter, name, units| Hold {
        attempt: attempt(counter),
        sku: sku(name),
        quantity: Quantity(units),
        valid_until: at(10_000),
    };
    let forgotten = Hold { valid_until: Timestamp::from_ms(1), ..hold(2, "1a", 9) };
    // Attempt 1 holds two units, so that three are left.
    shard.one(Command::Hold(hold(1, "1a", 2)));
    let answer = |asked| {
        let (sku, available) = (sku("1a"), Quantity(3));
        HoldDecision::Answer(HoldResult::Refused(Rejection::OutOfStock { sku, asked: Quantity(asked), available }))
    };
    #[rustfmt::skip]
    let cases = [
        // what                                            hold,              lease, under way, decision
        ("there are units",                                hold(2, "1a", 3),  true,  0,         ToLog),
        ("there are too few",                              hold(2, "1a", 4),  true,  0,         answer(4)),
        ("there are too few, as far as is known",          hold(2, "1a", 4),  false, 0,         ToLog),
        ("there are too few whatever is under way",        hold(2, "1a", 4),  true,  1,         answer(4)),
        ("units under way make the difference",            hold(2, "1a", 2),  true,  2,         Wait),
        ("there are enough beside those under way",        hold(2, "1a", 1),  true,  2,         ToLog),
        ("without a lease nothing waits",                  hold(2, "1a", 2),  false, 2,         ToLog),
        ("the attempt holds already",                      hold(1, "1a", 2),  true,  9,         ToLog),
        ("the attempt holds already, and asks for more",   hold(1, "1a", 9),  true,  0,         ToLog),
        ("it may have been here and be forgotten",         forgotten,         true,  0,         ToLog),
        ("there is no such SKU",                           hold(2, "1b", 9),  true,  0,         ToLog),
    ];
    for (what, hold, lease, under_way, decision) in cases {
        assert_eq!(judge(&shard.machine, lease, under_way, &hold), decision, "{what}");
    }
}

#[test]
fn a_hold_that_has_no_outcome_says_what_is_known() {
    #[rustfmt::skip]
    let cases = [
        (NotLanded::NotAppended, HoldResult::NoLeader),
        (NotLanded::TooLate,     HoldResult::Overloaded),
        (NotLanded::Unknown,     HoldResult::Unknown),
    ];
    for (why, result) in cases {
        assert_eq!(HoldResult::not_landed(why), result);
    }
}

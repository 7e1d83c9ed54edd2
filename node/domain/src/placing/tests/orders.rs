//! Rules 6 to 9 and 11: orders that wait for their holds.

use super::*;
use crate::placing::holds::{expired, final_no, is_lost};

/// Tells orders what shard 1 and shard 2 said of attempt 1.
fn hear(orders: &mut Orders<Door>, ones: &str, twos: &str) -> String {
    let mut effects = Vec::new();
    orders.held([held(1, 1, ones), held(1, 2, twos)], &mut effects);
    asked(effects)
}

fn ask_again(orders: &mut Orders<Door>, since_start: Duration) -> String {
    let mut effects = Vec::new();
    orders.ask_again(since_start, &mut effects);
    asked(effects)
}

#[test]
fn the_refusal_told_is_the_one_a_client_can_act_on() {
    let several = Rejection::OutOfStocks(vec![(sku("1a"), Quantity(2), Quantity(1)), (sku("2a"), Quantity(2), Quantity(1))]);
    #[rustfmt::skip]
    let cases = [
        ("short 1a",              Some(short("1a"))),
        ("short 1a, short 2a",    Some(several)),
        ("short 1a, no-sku 2a",   Some(Rejection::NoSuchSku(sku("2a")))),
        ("unknown, short 1a",     Some(short("1a"))),
        ("late 5, short 1a",      Some(short("1a"))),
        ("unknown",               None),
        ("no-leader, overloaded", None),
        ("late 5",                None),
        ("ended",                 None),
    ];
    for (refusals, expected) in cases {
        assert_eq!(final_no(&results(refusals)), expected, "{refusals}");
    }
}

#[test]
fn only_who_could_not_be_reached_is_asked_again() {
    #[rustfmt::skip]
    let cases = [
        ("granted",               false),
        ("no-leader",             true),
        ("unknown, granted",      true),
        ("no-leader, short 1a",   false),
        ("overloaded",            false),
        ("no-leader, overloaded", false),
        ("",                      false),
    ];
    for (words, again) in cases {
        assert_eq!(is_lost(&results(words)), again, "{words}");
    }
}

#[test]
fn an_expired_hold_is_counted_anew_from_the_latest_log_time() {
    assert_eq!(expired(&results("late 5, short 1a, late 9")), Some(at(9)));
    assert_eq!(expired(&results("short 1a, unknown")), None);
}

#[test]
fn a_release_reaches_every_sku_that_may_hold() {
    #[rustfmt::skip]
    let cases = [
        // shard 1 (1a, 1b),    shard 2 (2a),  what follows
        ("granted, granted",    "granted",     "place 1"),
        ("granted, granted",    "short 2a",    "release 1: 1 1a+1b; over 1; look-and-refuse 0 short 2a"),
        ("granted, short 1b",   "granted",     "release 1: 1 1a; release 2: 1 2a; over 1; look-and-refuse 0 short 1b"),
        ("unknown, short 1b",   "granted",     "release 1: 1 1a; release 2: 1 2a; over 1; look-and-refuse 0 short 1b"),
        ("short 1a, short 1b",  "short 2a",    "over 1; look-and-refuse 0 short 1a+1b+2a"),
        ("overloaded, granted", "no-sku 2a",   "release 1: 1 1b; over 1; look-and-refuse 0 no-sku 2a"),
        ("ended, granted",      "granted",     "release 1: 1 1b; release 2: 1 2a; over 1; answer 0 HoldTimedOut"),
        ("overloaded, ended",   "granted",     "release 2: 1 2a; over 1; answer 0 Overloaded"),
        // A result that is missing is unknown.
        ("granted",             "granted",     "release 1: 1 1a+1b; release 2: 1 2a; over 1; answer 0 HoldTimedOut"),
    ];
    for (ones, twos, follows) in cases {
        let mut orders = Stage::new().orders("x", "1a*1 1b*1 2a*1");
        assert_eq!(hear(&mut orders, ones, twos), follows, "{ones} | {twos}");
        assert!(orders.is_empty());
    }
}

#[test]
fn holds_that_are_not_granted_in_time_refuse_the_order() {
    #[rustfmt::skip]
    let cases = [
        // shard 2 at first, again,       what follows
        ("no-leader",        "granted",   "place 1"),
        ("unknown",          "granted",   "place 1"),
        ("unknown",          "short 2a",  "release 1: 1 1a; release 2: 1 2a; over 1; look-and-refuse 0 short 2a"),
        ("no-leader",        "short 2a",  "release 1: 1 1a; over 1; look-and-refuse 0 short 2a"),
    ];
    for (first, again, follows) in cases {
        let mut orders = Stage::new().orders("x", "1a*1 2a*1");
        assert_eq!(hear(&mut orders, "granted", first), "ask-again", "{first}");
        // The same attempt asks for the same units (rule 9).
        assert_eq!(ask_again(&mut orders, PATIENCE / 2), "hold 2: 1 2a*1", "{first}");
        assert_eq!(hear(&mut orders, "", again), follows, "{first}, then {again}");
    }
    #[rustfmt::skip]
    let cases = [
        // shard 2 to the end, what follows
        ("no-leader",          "release 1: 1 1a; over 1; answer 0 HoldTimedOut"),
        ("unknown",            "release 1: 1 1a; release 2: 1 2a; over 1; answer 0 HoldTimedOut"),
    ];
    for (words, follows) in cases {
        let mut orders = Stage::new().orders("x", "1a*1 2a*1");
        assert_eq!(hear(&mut orders, "granted", words), "ask-again");
        assert_eq!(ask_again(&mut orders, PATIENCE), follows, "{words}");
        assert!(orders.is_empty());
    }
}

#[test]
fn who_is_refused_already_asks_nobody_again() {
    let mut orders = Stage::new().orders("x", "1a*1 2a*1");
    assert_eq!(hear(&mut orders, "short 1a", "unknown"), "ask-again");
    let follows = "release 2: 1 2a; over 1; look-and-refuse 0 short 1a";
    assert_eq!(ask_again(&mut orders, Duration::ZERO), follows);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut orders = Stage::new().orders("x", "1a*1 2a*1");
    let mut effects = Vec::new();
    let twice = [held(1, 1, "granted"), held(1, 1, "short 1a"), held(1, 3, "granted"), held(9, 2, "granted")];
    orders.held(twice, &mut effects);
    assert_eq!(asked(effects), "");
    // Nor does one that comes before the shard was asked again.
    assert_eq!(hear(&mut orders, "", "no-leader"), "ask-again");
    assert_eq!(hear(&mut orders, "", "granted"), "");
    assert_eq!(ask_again(&mut orders, Duration::ZERO), "hold 2: 1 2a*1");
    assert_eq!(hear(&mut orders, "", "granted"), "place 1");
}

#[test]
fn expired_is_not_sold_out() {
    let mut stage = Stage::new();
    let mut orders = stage.orders("x", "1a*1 2a*1");
    // Two more wait for the key.
    assert_eq!(told(stage.ask("x", "1a*1 2a*1")) + &told(stage.ask("x", "1a*1 2a*1")), "");
    let mut effects = Vec::new();
    orders.held([held(1, 1, "late 20000"), held(1, 2, "late 15000")], &mut effects);
    let Some(OrdersEffect::Renew(_, over, call)) = effects.pop() else { panic!("the attempt is taken anew") };
    assert!(effects.is_empty());
    // The valid-until counts from the latest log time, and nobody who waits comes first.
    assert_eq!((over.attempt, call.base, call.renewals), (attempt(1), Some(at(20_000)), 1));
    let mut effects = Vec::new();
    stage.leader.renew(over, call, &stage.known, at(0), &mut effects);
    assert_eq!(told(effects), "again 1; again 2");
    assert!(stage.leader.running() == 1 && stage.is_busy("x"));
    let mut effects = Vec::new();
    let orders = Orders::start(stage.leader.take_starting(), PATIENCE, &mut effects);
    let valid_until = |effect: &OrdersEffect<Door>| match effect {
        OrdersEffect::Hold { holds, .. } => holds.valid_until,
        _ => panic!("an attempt asks for holds"),
    };
    assert_eq!(effects.iter().map(valid_until).collect::<Vec<_>>(), [at(30_000); 2]);
    drop(orders);
}

#[test]
fn one_that_waits_for_its_key_keeps_what_it_was_taken_anew_with() {
    let mut stage = Stage::new();
    let orders = stage.orders("x", "2a*1");
    let call = stage.leader.call(stage.request("x", "2a*1").into(), 7);
    assert_eq!(told(stage.place(PlaceCall { base: Some(at(9_000)), renewals: 1, ..call })), "");
    drop(orders);
    let over = stage.door.0.borrow_mut().pop().expect("it was lost");
    let mut effects = Vec::new();
    stage.leader.over(over, &mut effects);
    let Some(LeaderEffect::Again(call)) = effects.pop() else { panic!("it tries again") };
    assert_eq!((call.caller, call.base, call.renewals), (7, Some(at(9_000)), 1));
}

#[test]
fn an_attempt_is_taken_anew_so_often_and_then_refused() {
    #[rustfmt::skip]
    let cases = [
        (2, "renew 1: 0 from Some(9000), 1 left"),
        (1, "renew 1: 0 from Some(9000), 0 left"),
        (0, "over 1; answer 0 HoldTimedOut"),
    ];
    for (renewals, follows) in cases {
        let mut stage = Stage::new();
        let call = stage.leader.call(stage.request("x", "2a*1").into(), 0);
        assert_eq!(told(stage.place(PlaceCall { renewals, ..call })), "");
        let mut orders = stage.start().0;
        assert_eq!(hear(&mut orders, "", "late 9000"), follows);
    }
}

#[test]
fn orders_hear_of_their_holds_together_or_apart() {
    let mut stage = Stage::new();
    for key in ["x", "y", "z"] {
        assert_eq!(told(stage.ask(key, "2a*1 2b*1")), "");
    }
    let mut orders = stage.start().0;
    let answer = |words: &[(u64, &str)]| {
        let results = words.iter().flat_map(|(counter, words)| results(words).into_iter().map(|result| (*counter, result)));
        Held { shard: GroupId(2), results: results.collect() }
    };
    // The second order had to wait at a SKU: the others do not wait for it.
    let mut effects = Vec::new();
    orders.held([answer(&[(1, "granted, granted"), (3, "granted, short 2b")])], &mut effects);
    assert_eq!(asked(effects), "place 1; release 2: 3 2a; over 3; look-and-refuse 2 short 2b");
    let mut effects = Vec::new();
    orders.held([answer(&[(2, "granted, granted")])], &mut effects);
    assert_eq!(asked(effects), "place 2");
    assert!(orders.is_empty());
}

#[test]
fn each_order_of_a_batch_is_decided_by_itself() {
    let mut stage = Stage::new();
    for key in ["x", "y", "z"] {
        assert_eq!(told(stage.ask(key, "2a*1")), "");
    }
    let mut orders = stage.start().0;
    let mut effects = Vec::new();
    orders.held([held(1, 2, "granted"), held(2, 2, "short 2a"), held(3, 2, "unknown")], &mut effects);
    assert_eq!(asked(effects), "place 1; over 2; look-and-refuse 1 short 2a; ask-again");
    // What is left is lost with its driver: the attempt is over, since no place was proposed.
    assert_eq!(orders.attempts().collect::<Vec<_>>(), [attempt(3)]);
    drop(orders);
    assert_eq!(stage.door.0.borrow().iter().map(|over| over.attempt).collect::<Vec<_>>(), [attempt(3)]);
}

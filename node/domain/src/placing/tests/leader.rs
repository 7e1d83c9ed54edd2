//! Rules 3, 4, 6, 12, 13 and 14: keys and attempts.

use super::*;
use crate::command::Place;

#[test]
fn the_running_table_lives_per_term() {
    let mut stage = Stage::new();
    assert_eq!(told(stage.ask("x", "1a*1")), "place-local 1");
    let over = AttemptOver { attempt: attempt(1), user: user_of(&stage.known.shard.machine, 0), key: key("x") };
    assert_eq!(stage.over(over.clone()), "");
    // A number is never used again, and the end of an attempt counts once.
    assert_eq!(told(stage.ask("x", "1a*1")), "place-local 2");
    assert_eq!(stage.over(over), "");
    assert_eq!(stage.leader.running(), 1);
    // Another term begins at one, and its attempts are others.
    let mut next = Stage { leader: Leader::new(settings(TERM + 1), Door::default()), ..Stage::new() };
    match next.ask("x", "1a*1").pop() {
        Some(LeaderEffect::Propose(_, proposed)) => {
            assert_eq!(proposed.attempt(), AttemptId { term: TERM + 1, ..attempt(1) });
        }
        _ => panic!("a local order is proposed"),
    }
}

#[test]
fn a_key_is_busy_while_its_attempt_runs() {
    /// What is under way is kept until the look.
    type Happens = fn(&mut Stage) -> (Option<Orders<Door>>, Option<Proposed<Door>>);
    #[rustfmt::skip]
    let cases: [(&str, Happens, bool); 7] = [
        ("its holds are awaited",        |stage| (Some(stage.orders("x", "2a*1")), None),  true),
        ("it was lost with its orders",  |stage| { stage.orders("x", "2a*1"); (None, None) }, false),
        ("its place is proposed",        |stage| (None, Some(stage.proposed("x"))),        true),
        ("its place was dropped",        |stage| { stage.proposed("x"); (None, None) },    true),
        ("its place is unknown",         |stage| end(stage, NotLanded::Unknown),           true),
        ("its place was not appended",   |stage| end(stage, NotLanded::NotAppended),       false),
        ("its place was begun too late", |stage| end(stage, NotLanded::TooLate),           false),
    ];
    for (what, happens, busy) in cases {
        let mut stage = Stage::new();
        let kept = happens(&mut stage);
        stage.lost();
        assert_eq!(stage.is_busy("x"), busy, "{what}");
        assert!(!stage.is_busy("y"), "{what}");
        drop(kept);
    }
}

fn end(stage: &mut Stage, why: NotLanded) -> (Option<Orders<Door>>, Option<Proposed<Door>>) {
    if let Some(Over { over, .. }) = stage.proposed("x").not_landed(why).over {
        stage.over(over);
    }
    (None, None)
}

#[test]
fn those_who_wait_for_a_key_try_again_in_the_order_of_asking() {
    let mut stage = Stage::new();
    let orders = stage.orders("x", "2a*1");
    assert_eq!(told(stage.ask("x", "2a*1")), "");
    assert_eq!(told(stage.ask("x", "2a*1")), "");
    assert_eq!(told(stage.ask("x", "2a*1")), "answer 3 Overloaded");
    drop(orders);
    assert_eq!(stage.lost(), "again 1; again 2");
}

#[test]
fn a_request_is_refused_in_a_fixed_order() {
    let mut stage = Stage::new();
    let running = ["x", "y", "z"].map(|key| stage.orders(key, "2a*1"));
    // Too many attempts run, unless the key is busy anyway; sold out is not looked for.
    assert_eq!(told(stage.ask("w", "1a*9")), "answer 3 Overloaded");
    assert_eq!(told(stage.ask("x", "1a*9")), "");
    stage.leader.leave();
    assert_eq!(told(stage.ask("x", "1a*9")), "answer 5 NoLeader");
    assert!(!stage.leader.may_leave());
    drop(running);
    assert_eq!(stage.lost(), "again 4");
    assert!(stage.leader.may_leave());
    stage.leader.stay();
    assert!(!stage.leader.may_leave());
    assert_eq!(told(stage.ask("x", "1a*9")), "look-and-refuse 6 short 1a");
}

#[test]
fn sold_out_under_lease() {
    #[rustfmt::skip]
    let cases = [
        // lines,          at rest, lease, what follows
        ("1a*5",           true,    true,  "place-local 1"),
        ("1a*6",           true,    true,  "look-and-refuse 0 short 1a"),
        ("1a*3 1a*3",      true,    true,  "look-and-refuse 0 short 1a"),
        ("1a*6 1b*2",      true,    true,  "look-and-refuse 0 short 1a+1b"),
        ("1a*6",           true,    false, "place-local 1"),
        ("1a*6",           false,   true,  "place-local 1"),
        ("1a*6 2a*1",      true,    true,  ""),
    ];
    for (lines, at_rest, lease, follows) in cases {
        let mut stage = Stage::new();
        (stage.known.at_rest, stage.known.lease) = (at_rest, lease);
        assert_eq!(told(stage.ask("x", lines)), follows, "{lines}, {at_rest}, {lease}");
        // A refusal leaves the key free.
        let begun = usize::from(!follows.starts_with("look"));
        assert_eq!(stage.leader.running(), begun, "{lines}, {at_rest}, {lease}");
    }
}

#[test]
fn a_key_that_names_an_order_begins_no_attempt() {
    #[rustfmt::skip]
    let cases = [
        // lines,     cold,  what follows
        ("1a*1",      false, "replay 0"),
        ("1a*1 2a*1", false, "replay 0"),
        ("1a*1",      true,  "load x"),
        ("1a*1 2a*1", true,  "load x"),
    ];
    for (lines, cold, follows) in cases {
        let mut stage = Stage::new();
        let placed = stage.request("x", "1a*1");
        stage.known.shard.place_local(placed);
        stage.known.cold = cold;
        assert_eq!(told(stage.ask("x", lines)), follows, "{lines}, cold: {cold}");
        assert_eq!(stage.leader.running(), 0);
        if cold {
            // Until the record is there the key is busy, and an attempt's end does not free it.
            assert_eq!(told(stage.ask("x", lines)), "");
            let user = user_of(&stage.known.shard.machine, 0);
            assert_eq!(stage.over(AttemptOver { attempt: attempt(1), user: user.clone(), key: key("x") }), "");
            let mut effects = Vec::new();
            stage.leader.key_loaded(&user, &key("x"), &mut effects);
            assert_eq!(told(effects), "again 0; again 1");
        }
    }
}

#[test]
fn local_only_when_all_local() {
    #[rustfmt::skip]
    let cases = [
        ("1a*2",           "place-local 1", ""),
        ("1a*2 1b*1",      "place-local 1", ""),
        ("2a*2",           "",              "hold 2: 1 2a*2"),
        ("1a*2 2a*1",      "",              "hold 1: 1 1a*2; hold 2: 1 2a*1"),
        ("3a*1 1a*2 3b*4 3a*2", "",         "hold 1: 1 1a*2; hold 3: 1 3a*3+3b*4"),
    ];
    for (lines, follows, holds) in cases {
        let mut stage = Stage::new();
        assert_eq!(told(stage.ask("x", lines)), follows, "{lines}");
        let (orders, effects) = stage.start();
        assert_eq!(asked(effects), holds, "{lines}");
        assert_eq!(orders.is_empty(), holds.is_empty(), "{lines}");
    }
}

#[test]
fn orders_that_come_together_ask_for_their_holds_together() {
    let mut stage = Stage::new();
    for (key, lines) in [("x", "2a*1"), ("y", "2b*2 2a*1 3a*1")] {
        assert_eq!(told(stage.ask(key, lines)), "");
    }
    assert!(stage.leader.has_starting());
    let (orders, effects) = stage.start();
    assert_eq!(asked(effects), "hold 2: 1 2a*1, 2 2a*1+2b*2; hold 3: 2 3a*1");
    assert!(!stage.leader.has_starting());
    drop(orders);
}

/// For each question the shard, the milliseconds until which its holds are valid, and the attempts.
fn questions(effects: Vec<OrdersEffect<Door>>) -> Vec<(u32, u128, Vec<u64>)> {
    let question = |effect: OrdersEffect<Door>| match effect {
        OrdersEffect::Hold { shard, holds } => {
            let mut attempts: Vec<_> = holds.rows.iter().map(|row| row.counter).collect();
            attempts.dedup();
            (shard.0, holds.valid_until.since(at(0)).as_millis(), attempts)
        }
        _ => panic!("{}", asked(vec![effect])),
    };
    effects.into_iter().map(question).collect()
}

#[test]
fn holds_are_asked_for_together_that_are_valid_as_long() {
    let mut stage =
        Stage { leader: Leader::new(LeaderSettings { running: 9, ..settings(TERM) }, Door::default()), ..Stage::new() };
    let mut come = |key, ms, base: Option<u64>| {
        let call = stage.leader.call(stage.request(key, "2a*1").into(), 0);
        let call = PlaceCall { base: base.map(at), ..call };
        stage.leader.place(call, &stage.known, at(ms), &mut Vec::new());
    };
    // What comes later counts from the first; what is taken anew counts from where the SKU's shard is (rule 11).
    come("v", 100, None);
    come("w", 130, None);
    come("x", 140, Some(7_000));
    come("y", 150, Some(90));
    let (first, effects) = stage.start();
    assert_eq!(questions(effects), [(2, 10_100, vec![1, 2, 4]), (2, 17_000, vec![3])]);
    let call = stage.leader.call(stage.request("z", "2a*1").into(), 0);
    stage.leader.place(call, &stage.known, at(160), &mut Vec::new());
    let (next, effects) = stage.start();
    assert_eq!(questions(effects), [(2, 10_160, vec![5])]);
    drop((first, next));
}

#[test]
fn a_question_has_no_end_of_holds_and_an_attempt_is_in_one_of_each_shard() {
    let mut stage =
        Stage { leader: Leader::new(LeaderSettings { running: 900, ..settings(TERM) }, Door::default()), ..Stage::new() };
    let first = stage.request("x", "2a*1 2b*1");
    for key in 0..700 {
        let request = OrderRequest { key: self::key(&format!("k-{key}")), ..first.clone() };
        let call = stage.leader.call(request.into(), 0);
        assert_eq!(told(stage.place(call)), "");
    }
    let (orders, effects) = stage.start();
    let questions = questions(effects);
    assert_eq!(questions.iter().map(|(.., attempts)| attempts.len()).collect::<Vec<_>>(), [512, 188]);
    assert_eq!(questions.into_iter().flat_map(|(.., attempts)| attempts).collect::<Vec<_>>(), (1..=700).collect::<Vec<_>>());
    drop(orders);
}

#[test]
fn ask_running_first() {
    use AttemptFate::{Gone, Later};
    let mut stage = Stage::new();
    // Attempt 1 runs, 2 is over without a place, 3 waits for the outcome of its place.
    let (running, ended) = (stage.orders("x", "2a*1"), stage.orders("y", "2a*1"));
    drop(ended);
    stage.lost();
    let proposed = stage.proposed("z");
    let other_shard = AttemptId { group: GroupId(2), ..attempt(1) };
    #[rustfmt::skip]
    let cases = [
        ("runs",                            attempt(1),                                  Later),
        ("is over",                         attempt(2),                                  Gone),
        ("waits for its outcome",           attempt(3),                                  Later),
        ("was never begun",                 attempt(4),                                  Gone),
        ("is of an earlier term",           AttemptId { term: TERM - 1, ..attempt(1) },  Gone),
        ("is of a later term",              AttemptId { term: TERM + 1, ..attempt(9) },  Later),
        ("was made by another shard",       other_shard,                                 Gone),
        ("was made there in a later term",  AttemptId { term: TERM + 1, ..other_shard }, Later),
    ];
    let looked = stage.leader.look(cases.iter().map(|(_, attempt, _)| *attempt).collect());
    for ((what, _, expected), fate) in cases.iter().zip(looked.fates(&stage.known.shard.machine)) {
        assert_eq!(fate, *expected, "an attempt that {what}");
    }
    drop((running, proposed));
}

#[test]
fn an_attempt_that_is_placed_between_the_two_looks_is_not_gone() {
    let mut stage = Stage::new();
    let request = stage.request("x", "1a*1 2a*1");
    let over = AttemptId { term: 1, ..attempt(1) };
    let looked = stage.leader.look(vec![over]);
    let place = Place { attempt: over, request: request.into(), names: vec![text("lamp"), text("lamp")] };
    stage.known.shard.one(Command::Place(Box::new(place)));
    assert_eq!(looked.fates(&stage.known.shard.machine).collect::<Vec<_>>(), [AttemptFate::Later]);
}

//! Small histories, sound and broken: each judge objects to what it is for, and to nothing else.

use super::*;
use crate::torture::history::{LineAsked, Seen};

const S: Moment = 1_000_000;

fn line(sku: &str, quantity: u64) -> LineAsked {
    LineAsked { sku: sku.to_owned(), quantity, unit_price: 5 }
}

/// An order of three units of `a`, pending.
fn order(id: &str, key: &str, version: u64) -> OrderSeen {
    OrderSeen {
        id: id.to_owned(),
        version,
        key: key.to_owned(),
        user: "u".to_owned(),
        phase: "pending_payment".to_owned(),
        cancel_reason: String::new(),
        total: 15,
        lines: vec![(line("a", 3), 3)],
        payments: Vec::new(),
        content: version,
    }
}

fn sku(held: u64, received: u64, version: u64) -> SkuSeen {
    let available = received.saturating_sub(held);
    SkuSeen { id: "a".to_owned(), version, on_hand: received, held, available, received, content: version }
}

fn told(what: What) -> End {
    End::Done(Seen { replayed: false, token: None, what })
}

fn told_order(order: OrderSeen) -> End {
    told(What::Order(Box::new(order)))
}

fn attempt(began: Moment, end: End) -> Attempt {
    Attempt { node: 1, began: began * S, ended: began * S + S / 2, end }
}

fn operation(key: &str, ask: Ask, attempts: Vec<Attempt>) -> Operation {
    let key = (!key.is_empty()).then(|| key.to_owned());
    Operation { client: 0, key, ask, attempts, once: false, late: false }
}

fn place(key: &str, attempts: Vec<Attempt>) -> Operation {
    operation(key, Ask::Place { user: "u".to_owned(), lines: vec![line("a", 3)], window_s: 900 }, attempts)
}

fn refusal(code: &str, retryable: bool) -> End {
    End::Refused { code: code.to_owned(), retryable }
}

fn read(began: Moment, version: u64) -> Operation {
    let ask = Ask::Order { order: "1".to_owned() };
    operation("", ask, vec![attempt(began, told_order(order("1", "k", version)))])
}

/// One order of three units out of ten.
fn sound() -> Evidence {
    let mut grid = NodeView::default();
    grid.orders.insert("1".to_owned(), order("1", "k", 1));
    grid.skus.insert("a".to_owned(), sku(3, 10, 4));
    Evidence {
        operations: vec![place("k", vec![attempt(1, told_order(order("1", "k", 1)))])],
        nodes: [(1, grid.clone()), (2, grid.clone())].into(),
        grid,
        at: 10 * S,
        stock: [("a".to_owned(), 10)].into(),
    }
}

/// The laws that are objected to, each once.
fn laws(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = sound();
    change(&mut evidence);
    let laws: BTreeSet<_> = judge(&evidence).into_iter().map(|one| one.law).collect();
    laws.into_iter().collect()
}

/// The same change of what the grid and every node tell.
fn everywhere(evidence: &mut Evidence, change: impl Fn(&mut NodeView)) {
    change(&mut evidence.grid);
    evidence.nodes.values_mut().for_each(change);
}

#[test]
fn nobody_objects_to_a_sound_round() {
    assert_eq!(judge(&sound()), []);
}

#[test]
fn what_was_acknowledged_is_missed() {
    let gone = laws(|all| {
        everywhere(all, |view| {
            view.orders.clear();
            view.skus.insert("a".to_owned(), sku(0, 10, 4));
        });
    });
    assert_eq!(gone, ["AcknowledgedIsDurable"]);
    let other =
        laws(|all| all.operations[0].ask = Ask::Place { user: "u".to_owned(), lines: vec![line("a", 2)], window_s: 900 });
    assert_eq!(other, ["AcknowledgedIsDurable"]);
    for ask in [Ask::Pay { order: "1".to_owned(), amount: 15 }, Ask::Cancel { order: "1".to_owned() }] {
        let undone = laws(|all| all.operations.push(operation("c", ask, vec![attempt(2, told_order(order("1", "k", 1)))])));
        assert_eq!(undone, ["AcknowledgedIsDurable"]);
    }
    let back = laws(|all| all.operations.push(read(2, 2)));
    assert_eq!(back, ["AcknowledgedIsDurable"]);
}

#[test]
fn two_orders_of_one_key_are_seen() {
    let second = |view: &mut NodeView| {
        view.orders.insert("2".to_owned(), order("2", "k", 1));
        view.skus.insert("a".to_owned(), sku(6, 10, 4));
    };
    assert_eq!(laws(|all| everywhere(all, second)), ["OneKeyOneOrder"]);
    let forgotten = laws(|all| all.operations.push(place("k", vec![attempt(2, refusal("out_of_stock", false))])));
    assert_eq!(forgotten, ["OneKeyOneOrder"]);
}

#[test]
fn refused_and_there_is_seen_and_an_open_end_may_be_either() {
    let attempts =
        |ends: Vec<End>| laws(|all| all.operations[0].attempts = ends.into_iter().map(|end| attempt(1, end)).collect());
    assert_eq!(attempts(vec![refusal("no_leader", true)]), ["RefusedMeansNothing"]);
    assert_eq!(attempts(vec![End::NotSent, refusal("out_of_stock", false)]), ["RefusedMeansNothing"]);
    assert_eq!(attempts(vec![End::Unknown("lost".to_owned()), refusal("no_leader", true)]), [""; 0]);
    assert_eq!(attempts(vec![End::Odd("500".to_owned())]), ["ThreeEnds"]);
    let late = laws(|all| {
        all.operations[0].attempts = vec![attempt(1, End::Unknown("lost".to_owned()))];
        all.operations.push(Operation { late: true, ..place("k", vec![attempt(3, refusal("out_of_stock", false))]) });
    });
    assert_eq!(late, ["RefusedMeansNothing"]);
    assert_eq!(laws(|all| all.operations.clear()), ["RefusedMeansNothing"]);
}

#[test]
fn stock_that_does_not_add_up_is_seen() {
    assert_eq!(laws(|all| everywhere(all, |view| drop(view.skus.insert("a".to_owned(), sku(2, 10, 4))))), ["HoldsAddUp"]);
    assert_eq!(laws(|all| everywhere(all, |view| drop(view.skus.insert("a".to_owned(), sku(3, 12, 4))))), ["HoldsAddUp"]);
    let more = |end: End| {
        laws(|all| {
            let ask = Ask::Receive { sku: "a".to_owned(), quantity: 2 };
            all.operations.push(operation("r", ask, vec![attempt(2, end)]));
            everywhere(all, |view| drop(view.skus.insert("a".to_owned(), sku(3, 12, 4))));
        })
    };
    assert_eq!(more(End::Unknown("lost".to_owned())), [""; 0]);
    assert_eq!(more(refusal("no_leader", true)), ["HoldsAddUp"]);
    let oversold = laws(|all| {
        all.stock.insert("a".to_owned(), 2);
        everywhere(all, |view| drop(view.skus.insert("a".to_owned(), sku(3, 2, 4))));
    });
    assert_eq!(oversold, ["HoldsAddUp", "NoOversell"]);
}

#[test]
fn reads_that_fall_behind_are_seen() {
    let paid = |view: &mut NodeView| {
        let mut order = order("1", "k", 2);
        order.payments.push(("p".to_owned(), 15));
        view.orders.insert("1".to_owned(), order);
    };
    let reads = |first: Moment, second: Moment| {
        laws(|all| {
            everywhere(all, paid);
            all.operations.extend([read(first, 2), read(second, 1)]);
        })
    };
    assert_eq!(reads(2, 3), ["ReadsAreCurrent"]);
    assert_eq!(reads(3, 2), [""; 0]);
    let not_there = laws(|all| {
        let ask = Ask::Order { order: "1".to_owned() };
        all.operations.push(operation("", ask, vec![attempt(2, refusal("order_not_found", false))]));
    });
    assert_eq!(not_there, ["ReadsAreCurrent"]);
    let unlisted = laws(|all| {
        let ask = Ask::List { user: "u".to_owned() };
        all.operations.push(operation("", ask, vec![attempt(2, told(What::List(Vec::new(), false)))]));
    });
    assert_eq!(unlisted, ["ReadsAreCurrent"]);
    let unheld = laws(|all| {
        let ask = Ask::Sku { sku: "a".to_owned() };
        all.operations.push(operation("", ask, vec![attempt(2, told(What::Sku(sku(0, 10, 3))))]));
    });
    assert_eq!(unheld, ["ReadsAreCurrent"]);
}

#[test]
fn an_index_that_goes_back_is_seen() {
    let index = |began, index| {
        let mut read = read(began, 1);
        if let End::Done(seen) = &mut read.attempts[0].end {
            seen.token = Some((1, index));
        }
        read
    };
    assert_eq!(laws(|all| all.operations.extend([index(2, 9), index(3, 8)])), ["ReadsAreCurrent"]);
    assert_eq!(laws(|all| all.operations.extend([index(2, 9), index(3, 9)])), [""; 0]);
}

#[test]
fn what_expires_early_or_never_is_seen() {
    let expired = |view: &mut NodeView| {
        let order = OrderSeen { phase: "cancelled".to_owned(), cancel_reason: "timeout".to_owned(), ..order("1", "k", 2) };
        view.orders.insert("1".to_owned(), OrderSeen { lines: vec![(line("a", 3), 0)], ..order });
        view.skus.insert("a".to_owned(), sku(0, 10, 5));
    };
    assert_eq!(laws(|all| everywhere(all, expired)), ["TimersFire"]);
    let short = |at: Moment| {
        laws(|all| {
            all.operations[0].ask = Ask::Place { user: "u".to_owned(), lines: vec![line("a", 3)], window_s: 3 };
            all.at = at * S;
        })
    };
    assert_eq!(short(60), ["TimersFire"]);
    assert_eq!(short(10), [""; 0]);
}

#[test]
fn replicas_that_differ_are_seen() {
    let differs = laws(|all| drop(all.nodes.get_mut(&2).expect("it is there").skus.insert("a".to_owned(), sku(3, 10, 3))));
    assert_eq!(differs, ["ReplicasAgree"]);
}

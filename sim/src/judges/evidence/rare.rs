//! How often what is rare was seen by clients: a judge that never met a lost answer has proven little.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_domain::order::{CancelReason, Phase};

use super::book::{Book, PlaceCall, PlaceEnd, Setting, ended};
use super::linear::{Finding, findings};
use crate::history::{Ask, Ending, History, Operation};

/// Counts them, by name. A name that is there with zero was looked for and not met.
#[must_use]
pub fn rare_from_history(history: &History) -> BTreeMap<&'static str, u64> {
    let book = Book::new(history, Setting::default());
    let mut rare: BTreeMap<&'static str, u64> = BTreeMap::new();
    let places: Vec<&PlaceCall<'_>> = book.places.values().flatten().collect();
    let mut count = |name: &'static str, times: usize| *rare.entry(name).or_insert(0) += times as u64;

    let unknown = |op: &&Operation| matches!(op.ending, Ending::Unknown(_));
    count("outcome unknown", history.operations.iter().filter(unknown).count());
    count("client went away", history.operations.iter().filter(|op| matches!(op.ending, Ending::Abandoned)).count());
    count("place replayed", places.iter().filter(|call| matches!(call.end, PlaceEnd::Done { replayed: true, .. })).count());
    count("place refused sold out", refusals(&places, "out_of_stock"));
    count("place refused, key used with another body", refusals(&places, "idempotency_key_reused"));
    count("place refused, reference taken", refusals(&places, "reference_taken"));
    count("place refused, hold timed out", refusals(&places, "hold_timed_out"));
    count("unknown place resolved by a retry", book.places.values().filter(|calls| resolved(calls)).count());
    count("place never resolved", book.places.values().filter(|calls| never_resolved(calls)).count());
    count("key asked at several nodes", book.places.values().filter(|calls| nodes(calls) > 1).count());
    count("key asked at several nodes at once", book.places.values().filter(|calls| at_once(calls)).count());
    count("command replayed", book.commands.values().flatten().filter(|op| replayed(op)).count());
    count("stock command replayed", book.stock_commands.values().flatten().filter(|op| replayed(op)).count());
    for (name, code) in [
        ("refused, no leader", "no_leader"),
        ("refused, overloaded", "overloaded"),
        ("refused, clocks apart", "clock_skew"),
        ("refused, wrong phase", "wrong_phase"),
        ("refused, would oversell", "would_oversell"),
    ] {
        let refused = |op: &&Operation| matches!(&op.ending, Ending::Refused { code: said, .. } if said == code);
        count(name, history.operations.iter().filter(refused).count());
    }
    for (name, reason) in [("order expired", CancelReason::Timeout), ("order cancelled by its user", CancelReason::User)] {
        count(name, book.newest().values().filter(|order| order.cancel_reason == Some(reason)).count());
    }
    let late = book.newest().values().filter(|order| order.phase == Phase::Cancelled && order.captured > 0).count();
    count("money of a cancelled order", late);
    let findings = findings(&book);
    count("order of calls undecided", findings.iter().filter(|(_, finding)| *finding == Finding::Undecided).count());
    count("order of calls searched", findings.len());
    rare
}

fn refusals(places: &[&PlaceCall<'_>], word: &str) -> usize {
    places.iter().filter(|call| matches!(call.end, PlaceEnd::Refused { code, .. } if code == word)).count()
}

fn replayed(op: &Operation) -> bool {
    matches!(op.ending, Ending::Done { replayed: true, .. })
}

/// A call without an answer, and a later one with it.
fn resolved(calls: &[PlaceCall<'_>]) -> bool {
    let open = calls.iter().position(|call| matches!(call.end, PlaceEnd::Open));
    open.is_some_and(|open| calls[open..].iter().any(|call| call.id().is_some()))
}

fn never_resolved(calls: &[PlaceCall<'_>]) -> bool {
    calls.iter().any(|call| matches!(call.end, PlaceEnd::Open)) && calls.iter().all(|call| call.id().is_none())
}

fn nodes(calls: &[PlaceCall<'_>]) -> usize {
    calls.iter().map(|call| call.op.node).collect::<BTreeSet<_>>().len()
}

fn at_once(calls: &[PlaceCall<'_>]) -> bool {
    let overlap =
        |a: &PlaceCall<'_>, b: &PlaceCall<'_>| a.op.node != b.op.node && a.op.began <= ended(b.op) && b.op.began <= ended(a.op);
    let batch = |call: &PlaceCall<'_>| matches!(call.op.ask, Ask::PlaceBatch(_));
    calls
        .iter()
        .enumerate()
        .any(|(at, a)| calls[at + 1..].iter().any(|b| overlap(a, b) && !(batch(a) && a.op.number == b.op.number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    #[test]
    fn what_is_rare_is_counted() {
        let mut shop = Shop::with(10);
        let lost = shop.place("u", "k", "A*6@255");
        let again = shop.place("u", "k", "A*6@255");
        let refused = shop.place("u", "k2", "A*6@255");
        let abandoned = shop.place("u", "k3", "A*1@255");
        shop.lose(lost);
        shop.refuse(refused, 409, "out_of_stock");
        shop.history.operations[abandoned].ending = Ending::Abandoned;
        let (began, op) = (shop.history.operations[lost].began, &mut shop.history.operations[again]);
        (op.node, op.began) = (2, began);
        let rare = rare_from_history(&shop.history);
        for (name, times) in [
            ("outcome unknown", 1),
            ("client went away", 1),
            ("place replayed", 1),
            ("place refused sold out", 1),
            ("unknown place resolved by a retry", 1),
            ("place never resolved", 1),
            ("key asked at several nodes", 1),
            ("key asked at several nodes at once", 1),
            ("refused, no leader", 0),
            ("order of calls undecided", 0),
        ] {
            assert_eq!(rare.get(name), Some(&times), "{name}: {rare:?}");
        }
    }
}

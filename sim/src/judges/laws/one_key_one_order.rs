//! OneKeyOneOrder, from outside: all answers under one key are one answer, different keys never share one, and no two orders
//! of a user have one reference while both may come to something.
//!
//! Assumed: a key is remembered for [`KEY_RETENTION`] from its first answer, by the time of the majority's clocks, from which the
//! harness's differs by seconds; histories are shorter, however far clocks leap in them. The first answer may be lost, so that
//! every answer that arrives is a replay; two first answers may not arrive. A command that is answered again may show the
//! order as it stands by then, but says that it has created the same.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_api::wire::Order;
use ordergrid_api::wire::canonical::Canon;
use ordergrid_domain::machine::KEY_RETENTION;
use ordergrid_domain::order::Phase;
use ordergrid_domain::{Key, Law, OrderId, SkuId, UserId};

use crate::history::{Ask, Ending, Operation};
use crate::judges::evidence::book::{Book, PlaceCall, PlaceEnd, created_part, ended};
use crate::verdict::Violation;

/// Looks at every key.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut owners: BTreeMap<OrderId, &(UserId, Key)> = BTreeMap::new();
    for (scope, calls) in &book.places {
        wrong.extend(place_key(calls).map(|text| format!("key {scope:?}: {text}")));
        for id in calls.iter().filter_map(PlaceCall::id) {
            let owner = owners.entry(id).or_insert(scope);
            if *owner != scope {
                wrong.push(format!("order {id} answers the keys {owner:?} and {scope:?}"));
            }
        }
    }
    wrong.extend(book.commands.iter().filter_map(|(scope, calls)| command_key(scope, calls)));
    wrong.extend(book.stock_commands.iter().filter_map(|(scope, calls)| stock_key(scope, calls)));
    wrong.extend(shared_parts(book));
    wrong.extend(shared_references(book));
    wrong.into_iter().map(|text| Violation::new(Law::OneKeyOneOrder, text)).collect()
}

fn place_key(calls: &[PlaceCall<'_>]) -> Option<String> {
    let mut canon = Canon::new();
    let mut first: Option<(OrderId, u64, &PlaceCall<'_>)> = None;
    let mut whole: Option<&Order> = None;
    let mut placed_by: Option<&PlaceCall<'_>> = None;
    for call in calls {
        let PlaceEnd::Done { id, order, replayed } = &call.end else { continue };
        let (number, meaning) = (call.op.number, canon.hash(call.body));
        let (first_id, first_meaning, one) = *first.get_or_insert((*id, meaning, call));
        if first_id != *id {
            return Some(format!("orders {first_id} and {id}, by operations {} and {number}", one.op.number));
        }
        if first_meaning != meaning {
            return Some(format!("two bodies were accepted, by operations {} and {number}", one.op.number));
        }
        if let Some(order) = *order {
            let before = *whole.get_or_insert(order);
            if before != order {
                return Some(format!("two first answers: {before:?} and, by operation {number}, {order:?}"));
            }
        }
        if !replayed {
            if let Some(before) = placed_by {
                return Some(format!("placed twice, by operations {} and {number}", before.op.number));
            }
            placed_by = Some(call);
        }
    }
    forgotten(calls)
}

/// Sold out, to somebody who asked under a key whose order had been told of before: the key comes first.
fn forgotten(calls: &[PlaceCall<'_>]) -> Option<String> {
    let placed = calls.iter().filter(|call| matches!(call.end, PlaceEnd::Done { .. }));
    let told = placed.map(|call| (ended(call.op), call.op.number)).min()?;
    let refused = calls
        .iter()
        .find(|call| matches!(call.end, PlaceEnd::Refused { code: "out_of_stock", .. }) && call.op.began > told.0)?;
    Some(format!(
        "operation {} is told that all is sold, and operation {} had been told of its order",
        refused.op.number, told.1
    ))
}

/// What a call asks for, so far as two askings under one key must agree in it.
fn asked(ask: &Ask) -> String {
    let mut canon = Canon::new();
    match ask {
        Ask::Pay(_, _, body) => format!("pay {:x}", canon.hash(body)),
        Ask::Cancel(_, _, body) => format!("cancel {:x}", canon.hash(body)),
        Ask::Refund(_, _, body) => format!("refund {:x}", canon.hash(body)),
        Ask::RefundOutcome(_, id, body) => format!("outcome {:x}", canon.hash(&(*id, *body))),
        Ask::Pick(_, _, body) => format!("pick {:x}", canon.hash(body)),
        Ask::Ship(_, id, body) => format!("ship {:x}", canon.hash(&(*id, body.clone()))),
        Ask::Receive(_, _, body) => format!("receive {:x}", canon.hash(body)),
        Ask::Adjust(_, _, body) => format!("adjust {:x}", canon.hash(body)),
        Ask::Deliver(_, id) => format!("deliver {id}"),
        Ask::Unpick(_, id) => format!("unpick {id}"),
        Ask::Complete(..) => "complete".to_owned(),
        _ => String::new(),
    }
}

fn command_key(scope: &(OrderId, Key), calls: &[&Operation]) -> Option<String> {
    let (meaning, number) = one_meaning(calls)?;
    if let Err(other) = meaning {
        return Some(format!("key {scope:?}: two bodies were accepted, by operations {number} and {other}"));
    }
    let created: BTreeSet<_> = done(calls).filter_map(created_part).collect();
    let twice = (created.len() > 1).then(|| format!("key {scope:?} has created {created:?}"));
    twice.or_else(|| done_anew(calls).map(|text| format!("key {scope:?}: {text}")))
}

/// Done once more under a key that had been answered: it was forgotten early.
fn done_anew(calls: &[&Operation]) -> Option<String> {
    let first = done(calls).min_by_key(|op| ended(op))?;
    let until = ended(first).after(KEY_RETENTION);
    let asked = |op: &&Operation| ended(first) < op.began && op.began < until;
    let anew = done(calls).filter(asked).find(|op| matches!(op.ending, Ending::Done { replayed: false, .. }))?;
    Some(format!("operation {} is done anew, and operation {} had been answered", anew.number, first.number))
}

fn stock_key(scope: &(SkuId, Key), calls: &[&Operation]) -> Option<String> {
    let (meaning, number) = one_meaning(calls)?;
    match meaning {
        Ok(()) => done_anew(calls).map(|text| format!("key {scope:?}: {text}")),
        Err(other) => Some(format!("key {scope:?}: two bodies were accepted, by operations {number} and {other}")),
    }
}

fn done<'a>(calls: &'a [&'a Operation]) -> impl Iterator<Item = &'a Operation> {
    calls.iter().copied().filter(|op| matches!(op.ending, Ending::Done { .. }))
}

/// The first done call of a key, and whether all others mean the same, or which one does not.
fn one_meaning(calls: &[&Operation]) -> Option<(Result<(), u64>, u64)> {
    let first = done(calls).next()?;
    let meaning = asked(&first.ask);
    let other = done(calls).find(|op| asked(&op.ask) != meaning);
    Some((other.map_or(Ok(()), |op| Err(op.number)), first.number))
}

/// A parcel or a refund that two keys of one order have created.
fn shared_parts(book: &Book<'_>) -> Vec<String> {
    let mut owners: BTreeMap<String, &(OrderId, Key)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (scope, calls) in &book.commands {
        for part in done(calls).filter_map(created_part) {
            let owner = owners.entry(part.clone()).or_insert(scope);
            if *owner != scope {
                wrong.push(format!("{part} was created by the keys {owner:?} and {scope:?}"));
            }
        }
    }
    wrong
}

/// A reference is free again once its order has ended without a parcel. Both orders are of one shard, and so of one time.
fn shared_references(book: &Book<'_>) -> Vec<String> {
    let mut owners = BTreeMap::<_, Vec<&Order>>::new();
    for (_, order) in book.newest() {
        if let Some(reference) = &order.reference {
            owners.entry((&order.user_id, reference)).or_default().push(order);
        }
    }
    let mut wrong = Vec::new();
    for ((user, reference), mut orders) in owners {
        orders.sort_by_key(|order| order.id);
        for two in orders.windows(2) {
            let shipped = two[0].lines.iter().any(|line| line.shipped > 0);
            let lived_on = two[0].phase != Phase::Cancelled && two[0].updated_at > two[1].created_at;
            if shipped || lived_on {
                wrong.push(format!("orders {} and {} of {user} have the reference {reference}", two[0].id, two[1].id));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::Reference;

    use super::*;
    use crate::history::Said;
    use crate::judges::testing::{Shop, body, key, step};

    #[test]
    fn a_key_answers_the_same_again() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.steps(order, "pay p captured 1530");
        shop.place("u", "k", "A*6@255");
        shop.place("u", "k", "A*7@255");
        shop.place("v", "k", "A*6@255");
        for _ in 0..2 {
            shop.ask(1, step(key("pick"), order, "pick"));
        }
        let batch = ["k", "k2"].map(|under| {
            let idempotency_key = Some(key(under));
            ordergrid_api::wire::PlaceOrder { idempotency_key, ..body("u", "A*6@255") }
        });
        shop.ask(1, Ask::PlaceBatch(batch.to_vec()));
        shop.finish();
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_key_whose_order_was_told_of_is_never_sold_out() {
        let mut shop = Shop::with(100);
        let first = shop.place("u", "k", "A*6@255");
        let again = shop.place("u", "k", "A*6@255");
        shop.refuse(again, 409, "out_of_stock");
        assert_eq!(shop.judged(judge).len(), 1);
        // It may have been so before the order was placed.
        let began = shop.history.operations[first].began;
        shop.history.operations[again].began = began;
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_key_with_two_orders_is_told() {
        let mut shop = Shop::with(100);
        shop.place("u", "k", "A*6@255");
        let again = shop.place("u", "k", "A*6@255");
        shop.answer(again).id = OrderId(7);
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_order_with_two_keys_is_told() {
        let mut shop = Shop::with(100);
        let first = shop.place("u", "k", "A*6@255");
        let second = shop.place("u", "k2", "A*6@255");
        shop.answer(second).id = shop.answer(first).id;
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn placing_twice_is_told() {
        let mut shop = Shop::with(100);
        shop.place("u", "k", "A*6@255");
        let again = shop.place("u", "k", "A*6@255");
        if let Ending::Done { replayed, .. } = &mut shop.history.operations[again].ending {
            *replayed = false;
        }
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn a_changed_first_answer_is_told() {
        let mut shop = Shop::with(100);
        shop.place("u", "k", "A*6@255");
        let again = shop.place("u", "k", "A*6@255");
        shop.answer(again).version = 2;
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn one_reference_for_two_orders_is_told() {
        let mut shop = Shop::with(100);
        let [first, second] = ["k", "k2"].map(|under| shop.place("u", under, "A*6@255"));
        let order = shop.answer(first).id;
        for at in [first, second] {
            shop.answer(at).reference = Reference::new("r").ok();
        }
        assert_eq!(shop.judged(judge), Vec::<String>::new(), "the first one may have run out before the second came");
        let paid = shop.ask(1, step(key("pay"), order, "pay p captured 1530"));
        shop.answer(paid).reference = Reference::new("r").ok();
        assert_eq!(shop.judged(judge).len(), 1, "it lives on");
    }

    #[test]
    fn a_command_that_is_done_anew_under_its_key_is_told() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.steps(order, "pay p captured 1530");
        let first = shop.ask(1, step(key("pick"), order, "pick"));
        let again = shop.ask(1, step(key("pick"), order, "pick"));
        if let Ending::Done { replayed, .. } = &mut shop.history.operations[again].ending {
            *replayed = false;
        }
        assert_eq!(shop.judged(judge).len(), 1);
        // The first of two that were under way together may be told of last.
        shop.history.operations[again].began = shop.history.operations[first].began;
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_parcel_of_two_keys_is_told() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.steps(order, "pay p captured 1530");
        let first = shop.ask(1, step(key("pick"), order, "pick"));
        let again = shop.ask(1, step(key("pick"), order, "pick"));
        shop.history.operations[again].ask = step(key("other"), order, "pick");
        let Ending::Done { answer, .. } = &shop.history.operations[first].ending else { panic!("picked") };
        assert!(matches!(&**answer, Said::Fulfilment(_)));
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

//! AcknowledgedIsDurable, the clients' part: what was answered as done is there in the answer and there in the end.
//!
//! Assumed: the last client read on a healed grid, after everything else. Orders are never deleted within a history. What a
//! command has done may have been followed by more (a parcel picked may be shipped by now), never undone: each effect is
//! looked for in its own form or one that follows from it. Stock that was received is judged by `holds_add_up`.

pub mod in_the_log;

use std::collections::BTreeMap;

use ordergrid_api::wire::{Order, Payment};
use ordergrid_domain::order::{FulfilmentState, Phase, RefundState};
use ordergrid_domain::{FulfilmentId, Law, OrderId};

use crate::history::{Ask, Ending, Operation, Said, SimTime};
use crate::judges::evidence::book::{Book, FINAL_CLIENT, answered_order, command_on};
use crate::judges::evidence::grown::unlike;
use crate::verdict::Violation;

/// Looks for everything that was acknowledged.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = gone(book);
    let last = book.last();
    for (id, sightings) in &book.orders {
        let Some(last) = last.get(id) else { continue };
        let newest = sightings.iter().filter(|sighting| !sighting.is_final()).max_by_key(|sighting| sighting.what.version);
        let Some(newest) = newest else { continue };
        let shrunk = (last.what.version < newest.what.version)
            .then(|| format!("version {} was told, in the end it has {}", newest.what.version, last.what.version));
        let why = shrunk.or_else(|| unlike(newest.what, last.what));
        wrong.extend(why.map(|why| format!("order {id}, since operation {}: {why}", newest.op.number)));
    }
    let lasting: BTreeMap<OrderId, &Order> = last.iter().map(|(id, sighting)| (*id, sighting.what)).collect();
    wrong.extend(book.history.operations.iter().filter_map(|op| undone(op, &lasting)));
    wrong.extend(lost_names(book));
    wrong.into_iter().map(|text| Violation::new(Law::AcknowledgedIsDurable, text)).collect()
}

/// Orders that somebody was told of and that the last reads did not find.
fn gone(book: &Book<'_>) -> Vec<String> {
    let known = book.known();
    book.final_calls().filter_map(|op| overlooked(book, &known, op)).collect()
}

/// An order that somebody had been told of before this call began, and that its answer says is not there.
#[must_use]
pub fn overlooked(book: &Book<'_>, known: &BTreeMap<OrderId, SimTime>, op: &Operation) -> Option<String> {
    let existed = |id: &OrderId| known.get(id).is_some_and(|since| *since < op.began);
    let number = op.number;
    match (&op.ask, &op.ending) {
        (ask, Ending::Refused { code, .. }) if code == "no_such_order" => {
            let id = match ask {
                Ask::ReadOrder(id) | Ask::ReadHistory(id) => *id,
                ask => command_on(ask)?.0,
            };
            existed(&id).then(|| format!("operation {number}: order {id} is gone"))
        }
        (Ask::ReadUser(user), Ending::Done { answer, .. }) => {
            let Said::User(page) = &**answer else { return None };
            let listed = |id: &OrderId| page.orders.iter().any(|order| order.id == *id);
            // Newest first: what is older than the last order of a full page stands on the next one.
            let oldest = page.next_cursor.as_ref().and_then(|_| page.orders.last()).map(|order| order.id);
            let of_user =
                |id: &OrderId| book.orders.get(id).and_then(|seen| seen.first()).is_some_and(|seen| seen.what.user_id == *user);
            let on_page = |id: &&OrderId| existed(id) && of_user(id) && oldest.is_none_or(|oldest| **id > oldest);
            let missing = known.keys().filter(on_page).find(|id| !listed(id))?;
            Some(format!("operation {number}: order {missing} is gone from the list of {user}"))
        }
        _ => None,
    }
}

/// A command that was done and whose effect is missing, in its own answer or in the end.
fn undone(op: &Operation, last: &BTreeMap<OrderId, &Order>) -> Option<String> {
    let answered = answered_order(op)?;
    let (id, _) = command_on(&op.ask)?;
    let wrong = |order: &Order| !has_effect(op, answered, order);
    if wrong(answered) {
        return Some(format!("operation {}: the answer to {:?} does not show it: {answered:?}", op.number, op.ask));
    }
    let order = last.get(&id).filter(|order| wrong(order))?;
    Some(format!("operation {}: {:?} was done and is lost: {order:?}", op.number, op.ask))
}

/// The effect of a call, answered with `answered`, is in `order`.
fn has_effect(op: &Operation, answered: &Order, order: &Order) -> bool {
    use FulfilmentState::{Cancelled, Delivered, Shipped};
    let parcel = |id: &FulfilmentId, states: &[FulfilmentState]| {
        order.fulfilments.iter().any(|parcel| parcel.id == *id && states.contains(&parcel.status))
    };
    match &op.ask {
        Ask::Pay(_, _, pay) => {
            let as_told = |one: &Payment| one.facts.iter().any(|fact| (fact.status, fact.amount) == (pay.status, pay.amount));
            order.payments.iter().any(|one| one.provider_payment_id == pay.provider_payment_id && as_told(one))
        }
        Ask::Cancel(_, _, cancel) => match &cancel.lines {
            None => order.lines.iter().any(|line| line.cancelled > 0),
            Some(asked) => asked.iter().all(|part| {
                let units: u64 = asked.iter().filter(|other| other.line == part.line).map(|other| other.quantity).sum();
                order.lines.iter().any(|line| line.line == part.line && line.cancelled >= units)
            }),
        },
        Ask::Complete(..) => order.phase == Phase::Completed,
        Ask::Refund(_, _, refund) => order.refunds.iter().any(|one| {
            answered.created.as_deref() == Some(&one.id.to_string()) && refund.amount.is_none_or(|amount| amount >= one.amount)
        }),
        // What was told after it may have been the other outcome.
        Ask::RefundOutcome(_, id, _) => order.refunds.iter().any(|one| one.id == *id && one.status != RefundState::Requested),
        Ask::Pick(..) => {
            let Ending::Done { answer, .. } = &op.ending else { return true };
            let Said::Fulfilment(changed) = &**answer else { return true };
            order.fulfilments.iter().any(|one| one.id == changed.fulfilment.id && one.lines == changed.fulfilment.lines)
        }
        Ask::Ship(_, id, _) => parcel(id, &[Shipped, Delivered]),
        Ask::Deliver(_, id) => parcel(id, &[Delivered]),
        Ask::Unpick(_, id) => parcel(id, &[Cancelled]),
        _ => true,
    }
}

/// SKUs that are gone, or called in the end by a name that nobody gave them.
fn lost_names(book: &Book<'_>) -> Vec<String> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for op in &book.history.operations {
        match (&op.ask, &op.ending) {
            (Ask::PutSku(sku, put), _) => names.entry(sku).or_default().push(&put.name),
            (Ask::ReadSku(sku), Ending::Refused { code, .. })
                if op.client == FINAL_CLIENT && code == "no_such_sku" && book.skus.contains_key(sku) =>
            {
                wrong.push(format!("SKU {sku} is gone"));
            }
            _ => {}
        }
    }
    for sighting in book.skus.values().flatten().filter(|sighting| sighting.is_final()) {
        let sku = sighting.what;
        if names.get(&sku.id).is_some_and(|names| !names.contains(&&sku.name)) {
            wrong.push(format!("SKU {} is called {}, which nobody named it", sku.id, sku.name));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    const STEPS: [&str; 8] = [
        "pay p authorized 1530",
        "pay p captured 1530",
        "refund 5",
        "refund-succeeded 1",
        "pick",
        "ship 1",
        "deliver 1",
        "complete",
    ];

    fn sold() -> (Shop, OrderId) {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        for step in STEPS {
            shop.steps(order, step);
        }
        let unpicked = shop.order("u", "k2", "A*1@5");
        shop.steps(unpicked, "pay p captured 5; pick; unpick 1; cancel");
        shop.finish();
        (shop, order)
    }

    #[test]
    fn what_was_done_is_there() {
        assert_eq!(sold().0.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn an_order_that_is_gone_is_told() {
        let (mut shop, order) = sold();
        let read = |op: &Operation| matches!(op.ask, Ask::ReadOrder(id) if id == order) && op.client == FINAL_CLIENT;
        let at = shop.history.operations.iter().position(read).expect("it was read");
        shop.refuse(at, 404, "no_such_order");
        assert_eq!(shop.judged(judge).len(), 1);

        let (mut shop, _) = sold();
        for op in &mut shop.history.operations {
            if let Ending::Done { answer, .. } = &mut op.ending
                && let Said::User(page) = &mut **answer
            {
                page.orders.pop();
            }
        }
        assert!(!shop.judged(judge).is_empty());
    }

    #[test]
    fn every_step_that_is_lost_is_told() {
        // The order as it was before the step is what the last reads see.
        for (lost, name) in STEPS.iter().enumerate() {
            let mut shop = Shop::with(100);
            let at = shop.place("u", "k", "A*6@255");
            let order = shop.answer(at).id;
            let mut before = shop.answer(at).clone();
            for (number, step) in STEPS.iter().enumerate().take(lost + 1) {
                let at = shop.steps(order, step);
                if number < lost {
                    before = shop.answer(at).clone();
                }
            }
            shop.finish();
            for op in shop.history.operations.iter_mut().filter(|op| op.client == FINAL_CLIENT) {
                if let Ending::Done { answer, .. } = &mut op.ending {
                    match &mut **answer {
                        Said::Order(order) => *order = before.clone(),
                        Said::User(page) => page.orders = vec![before.clone()],
                        _ => {}
                    }
                }
            }
            // Once as a version that went back, once as the effect itself; an authorisation may have been told again.
            assert_eq!(shop.judged(judge).len(), 2, "{name}");
        }
    }

    #[test]
    fn an_answer_that_does_not_show_what_was_done_is_told() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        let at = shop.steps(order, "pay p captured 1530");
        shop.answer(at).payments.clear();
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn a_sku_that_is_gone_is_told() {
        let (mut shop, _) = sold();
        let read = |op: &Operation| matches!(op.ask, Ask::ReadSku(_));
        let at = shop.history.operations.iter().rposition(read).expect("it was read");
        shop.refuse(at, 404, "no_such_sku");
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

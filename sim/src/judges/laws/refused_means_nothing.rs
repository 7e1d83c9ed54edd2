//! RefusedMeansNothing, from outside: nothing exists in the end that every call asking for it was refused.
//!
//! Assumed: a refusal speaks of every attempt of its call. A client that asks several times within one call may be refused
//! by the last attempt while an earlier one is still on its way, so [`Setting::one_attempt`] says whether that is so; only
//! what is wrong with a body refuses for good without it. Orders do not show their key: orders that nobody was told of are
//! counted against the keys, of the same user and body, whose outcome is open.
//!
//! [`Setting::one_attempt`]: crate::judges::evidence::book::Setting::one_attempt

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_api::wire::Order;
use ordergrid_domain::order::{CancelReason, FulfilmentState, RefundState, Terms};
use ordergrid_domain::{Key, Law, OrderId};

use super::all_or_nothing::{asked_for, placed};
use crate::history::{Ask, Operation};
use crate::judges::evidence::book::{Book, PlaceCall, surely_nothing};
use crate::verdict::Violation;

/// Looks for the source of everything there is.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = orders_of_nobody(book);
    let calls = calls(book);
    let none = Vec::new();
    for (id, order) in book.newest() {
        let calls = calls.get(&id).unwrap_or(&none);
        wrong.extend(sourceless(order, calls).map(|text| format!("order {id}: {text}")));
    }
    wrong.into_iter().map(|text| Violation::new(Law::RefusedMeansNothing, text)).collect()
}

fn orders_of_nobody(book: &Book<'_>) -> Vec<String> {
    let told: BTreeSet<OrderId> = book.places.values().flatten().filter_map(PlaceCall::id).collect();
    let mut untold: BTreeMap<String, Vec<OrderId>> = BTreeMap::new();
    for (id, order) in book.newest().into_iter().filter(|(id, _)| !told.contains(id)) {
        untold.entry(placed(order)).or_default().push(id);
    }
    let mut open: BTreeMap<String, BTreeSet<&Key>> = BTreeMap::new();
    for ((_, key), calls) in book.places.iter().filter(|(_, calls)| calls.iter().all(|call| call.id().is_none())) {
        for call in calls.iter().filter(|call| !call.surely_nothing(&book.setting)) {
            open.entry(asked_for(call.body)).or_default().insert(key);
        }
    }
    let wrong = |(asked, ids): (String, Vec<OrderId>)| {
        let keys = open.get(&asked).map_or(0, BTreeSet::len);
        (ids.len() > keys).then(|| format!("{keys} calls may have placed the orders {ids:?}: {asked}"))
    };
    untold.into_iter().filter_map(wrong).collect()
}

/// Commands that may have had an effect, by order.
fn calls<'a>(book: &Book<'a>) -> BTreeMap<OrderId, Vec<(&'a Operation, Key)>> {
    let mut calls: BTreeMap<OrderId, Vec<_>> = BTreeMap::new();
    for ((id, key), of_key) in &book.commands {
        let of_key = of_key.iter().filter(|op| !surely_nothing(op, &book.setting));
        calls.entry(*id).or_default().extend(of_key.map(|op| (*op, key.clone())));
    }
    calls
}

/// Something of an order that no call can have caused.
fn sourceless(order: &Order, calls: &[(&Operation, Key)]) -> Option<String> {
    let any = |fits: &dyn Fn(&Ask) -> bool| calls.iter().any(|(op, _)| fits(&op.ask));
    let keys = |fits: &dyn Fn(&Ask) -> bool| -> usize {
        calls.iter().filter(|(op, _)| fits(&op.ask)).map(|(_, key)| key).collect::<BTreeSet<_>>().len()
    };
    let facts = order.payments.iter().flat_map(|one| one.facts.iter().map(move |fact| (&one.provider_payment_id, fact)));
    let untold = facts.into_iter().find(|(id, fact)| {
        !any(&|ask| {
            matches!(ask, Ask::Pay(_, _, pay)
                if (&pay.provider_payment_id, pay.status, pay.amount) == (*id, fact.status, fact.amount))
        })
    });
    if let Some(untold) = untold {
        return Some(format!("every call that told of it was refused: {untold:?}"));
    }
    // One for each payment that a call takes money from.
    let asked = order.refunds.iter().filter(|refund| refund.cause == "asked").count();
    if asked > keys(&|ask| matches!(ask, Ask::Refund(..))) * order.payments.len() {
        return Some(format!("more refunds than calls may have asked for: {:?}", order.refunds));
    }
    if order.fulfilments.len() > keys(&|ask| matches!(ask, Ask::Pick(..))) {
        return Some(format!("more parcels than calls may have asked for: {:?}", order.fulfilments));
    }
    let unasked = order.fulfilments.iter().find(|parcel| {
        let shipped = any(&|ask| matches!(ask, Ask::Ship(_, id, _) if *id == parcel.id));
        let delivered = any(&|ask| matches!(ask, Ask::Deliver(_, id) if *id == parcel.id));
        match parcel.status {
            FulfilmentState::Shipped => !shipped,
            FulfilmentState::Delivered => !(shipped && delivered),
            // A shortfall puts parcels back by itself.
            FulfilmentState::Picking | FulfilmentState::Cancelled => false,
        }
    });
    if let Some(parcel) = unasked {
        return Some(format!("every call for this was refused: {parcel:?}"));
    }
    let outcome = order.refunds.iter().find(|refund| {
        let told =
            |ask: &Ask| matches!(ask, Ask::RefundOutcome(_, id, told) if (*id, told.status) == (refund.id, refund.status));
        refund.status != RefundState::Requested && !any(&told)
    });
    if let Some(refund) = outcome {
        return Some(format!("every call for this was refused: {refund:?}"));
    }
    let by_itself = matches!(order.cancel_reason, Some(CancelReason::Timeout | CancelReason::Shortfall));
    let cancelled = order.lines.iter().any(|line| line.cancelled > 0);
    // Without cover, what has not left of a prepaid order is given up.
    let given_up = order.terms == Terms::Prepaid && order.lines.iter().any(|line| line.shipped > 0);
    if cancelled && !by_itself && !given_up && !any(&|ask| matches!(ask, Ask::Cancel(..))) {
        return Some("units are cancelled, and every call for that was refused".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::evidence::book::Setting;
    use crate::judges::testing::{Shop, setting};

    #[test]
    fn everything_has_a_source() {
        let mut shop = Shop::with(100);
        let lost = shop.place("u", "k", "A*6@255");
        let order = shop.answer(lost).id;
        let paid = shop.steps(order, "pay p captured 1530");
        let picked = shop.steps(order, "pick");
        shop.steps(order, "refund 5; ship 1; refund-succeeded 1; deliver 1");
        let cancelled = shop.order("u", "k2", "A*1@5");
        shop.steps(cancelled, "cancel");
        shop.place("u", "too many", "A*1000@5");
        shop.finish();
        for at in [lost, paid, picked] {
            shop.lose(at);
        }
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn an_order_whose_key_was_refused_is_told() {
        let mut shop = Shop::with(100);
        let at = shop.place("u", "k", "A*6@255");
        let other = shop.place("u", "k2", "A*5@255");
        shop.finish();
        shop.lose(other);
        shop.refuse(at, 409, "out_of_stock");
        assert_eq!(shop.judged(judge).len(), 1);
        // Unless an earlier attempt of the call may have placed it.
        assert_eq!(shop.judged_as(judge, Setting { one_attempt: false, ..setting() }), Vec::<String>::new());
        shop.refuse(at, 422, "invalid_quantity");
        assert_eq!(shop.judged_as(judge, Setting { one_attempt: false, ..setting() }).len(), 1);
    }

    #[test]
    fn what_refused_commands_left_is_told() {
        for step in ["pay q captured 1", "refund 5", "refund-succeeded 1", "ship 1", "deliver 1", "pick"] {
            let mut shop = Shop::with(100);
            let order = shop.order("u", "k", "A*6@255");
            let steps =
                ["pay p captured 1530", "refund 5", "refund-succeeded 1", "pick", "ship 1", "deliver 1", "pay q captured 1"];
            let at: Vec<usize> = steps.iter().map(|one| shop.steps(order, one)).collect();
            shop.finish();
            assert_eq!(shop.judged(judge), Vec::<String>::new());
            let refused = steps.iter().position(|one| *one == step).expect("one of them");
            shop.refuse(at[refused], 409, "wrong_phase");
            assert_eq!(shop.judged(judge).len(), 1, "{step}");
        }
    }

    #[test]
    fn a_refused_cancel_that_cancelled_is_told() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        let at = shop.steps(order, "cancel");
        shop.finish();
        shop.refuse(at, 503, "no_leader");
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

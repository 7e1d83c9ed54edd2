//! MoneyEndsSomewhere, from outside: what was captured of an order is kept for goods, in refunds, disputed, or waits for a
//! refund that has failed; what has gone beyond it, providers took; and nothing is picked or shipped by an order on hold.
//!
//! Assumed: the amounts of a payment follow from its facts as `AttemptModel` says.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_api::wire::{Order, Payment};
use ordergrid_domain::order::{OrderHold, Phase, RefundState, Status, Terms};
use ordergrid_domain::{Law, RefundId};

use crate::domain::oracle::AttemptModel;
use crate::history::{Ask, Ending};
use crate::judges::evidence::book::{Book, Sighting};
use crate::verdict::Violation;

/// Looks at the money of every order in every answer.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let turned = turned(book);
    let wrong = |sighting: &Sighting<'_, Order>| {
        let order = sighting.what;
        let money = unlike_its_facts(order).or_else(|| nowhere(order, &turned));
        let wrong = money.or_else(|| uncovered(order)).or_else(|| left(sighting))?;
        let text = format!("operation {}: order {}: {wrong}", sighting.op.number, order.id);
        Some(Violation::new(Law::MoneyEndsSomewhere, text))
    };
    book.orders.values().flatten().filter_map(wrong).collect()
}

/// Refunds that were told to have ended in both ways.
fn turned(book: &Book<'_>) -> BTreeSet<RefundId> {
    let mut told: BTreeMap<RefundId, BTreeSet<RefundState>> = BTreeMap::new();
    for op in &book.history.operations {
        if let Ask::RefundOutcome(_, id, outcome) = &op.ask {
            told.entry(*id).or_default().insert(outcome.status);
        }
    }
    told.into_iter().filter(|(_, states)| states.len() > 1).map(|(id, _)| id).collect()
}

fn attempt(one: &Payment) -> AttemptModel {
    AttemptModel(one.facts.iter().map(|fact| (fact.status, fact.amount)).collect())
}

fn unlike_its_facts(order: &Order) -> Option<String> {
    let wrong = order.payments.iter().find(|one| {
        let model = attempt(one);
        let shown = (one.authorized, one.captured, one.disputed, one.capture_failed);
        shown != (model.authorized(), model.captured(), model.disputed(), model.failed())
    });
    wrong.map(|one| format!("amounts that do not follow from the facts: {one:?}"))
}

fn nowhere(order: &Order, turned: &BTreeSet<RefundId>) -> Option<String> {
    let sum = |amounts: &mut dyn Iterator<Item = i64>| -> i64 { amounts.sum() };
    let captured = sum(&mut order.payments.iter().map(|one| one.captured));
    let disputed = sum(&mut order.payments.iter().map(|one| one.disputed));
    let failed = sum(&mut order.refunds.iter().filter(|one| one.status == RefundState::Failed).map(|one| one.amount));
    let kept = captured - disputed - order.refunded;
    let surplus = (kept - order.due).max(0);
    if (order.disputed, order.surplus) != (disputed, surplus) {
        return Some(format!(
            "{} disputed and {} too much, the ledger says {disputed} and {surplus}",
            order.disputed, order.surplus
        ));
    }
    if surplus > failed {
        return Some(format!("{surplus} too much is kept, and refunds of {failed} have failed"));
    }
    let taken = disputed
        + sum(&mut order.payments.iter().map(|one| one.capture_failed))
        + sum(&mut order.refunds.iter().filter(|one| turned.contains(&one.id)).map(|one| one.amount));
    if -kept > taken {
        return Some(format!("{} has gone beyond the {captured} captured, providers took {taken}", -kept));
    }
    let owed = if order.phase == Phase::PendingPayment { 0 } else { (order.due - kept).max(0) };
    (order.owed != owed).then(|| format!("{} owed, the ledger says {owed}", order.owed))
}

/// A prepaid order with open units and without the money for them is on hold, with a deadline, and no other is.
fn uncovered(order: &Order) -> Option<String> {
    let open = order.lines.iter().any(|line| line.backordered + line.held + line.picking > 0);
    let authorized: i64 = order.payments.iter().map(|one| one.authorized).sum();
    let covered = order.captured - order.disputed - order.refunded + authorized >= order.due;
    let waits = order.phase == Phase::Confirmed && order.terms == Terms::Prepaid && open;
    let doubt = order.payments.iter().any(|one| attempt(one).in_doubt());
    let hold = match (waits, covered, doubt) {
        (true, false, _) => Some(OrderHold::NoCover),
        (true, true, true) => Some(OrderHold::PaymentInDoubt),
        _ => None,
    };
    let no_cover = hold == Some(OrderHold::NoCover);
    let told = order.on_hold == hold && (order.status == Status::OnHold) == no_cover;
    let deadline = order.phase != Phase::Confirmed || order.payment_due_at.is_some() == no_cover;
    (!told || !deadline).then(|| {
        format!(
            "on hold: {:?} with deadline {:?} and status {:?}, should be {hold:?}",
            order.on_hold, order.payment_due_at, order.status
        )
    })
}

/// Goods that were picked or shipped just now, by an order on hold.
fn left(sighting: &Sighting<'_, Order>) -> Option<String> {
    let moves = matches!(sighting.op.ask, Ask::Pick(..) | Ask::Ship(..));
    let now = matches!(sighting.op.ending, Ending::Done { replayed: false, .. });
    let hold = sighting.what.on_hold.filter(|_| moves && now)?;
    Some(format!("{:?} was done though it is on hold: {hold:?}", sighting.op.ask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    const STORY: &str =
        "pay p failed 1530; pay p captured 1530; pay p disputed 30; pay p dispute_won 30; refund 5; pick; ship 1";

    #[test]
    fn money_that_is_somewhere_is_fine() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.steps(order, STORY);
        let held = shop.order("u", "k2", "A*6@255");
        shop.steps(held, "pay p authorized 1530; pay p voided 1530; pay q captured 1600; pay q failed 1");
        shop.finish();
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn money_that_is_nowhere_is_told() {
        let bend: [fn(&mut Order); 8] = [
            |order| order.payments[0].captured += 1,
            |order| drop(order.payments[0].facts.pop()),
            |order| order.surplus = 5,
            |order| order.owed = 5,
            |order| order.due -= 5,
            |order| order.refunded += 9_000,
            |order| order.on_hold = Some(OrderHold::NoCover),
            |order| order.status = Status::OnHold,
        ];
        for (row, bend) in bend.into_iter().enumerate() {
            let mut shop = Shop::with(100);
            let order = shop.order("u", "k", "A*6@255");
            let at = shop.steps(order, "pay p authorized 1530; pay p captured 1530; refund 5");
            bend(shop.answer(at));
            assert_eq!(shop.judged(judge).len(), 1, "row {row}: {:?}", shop.answer(at));
        }
    }
}

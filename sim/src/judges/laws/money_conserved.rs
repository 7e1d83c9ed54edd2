//! MoneyConserved, from outside: in every answer ever given, the ledger of an order adds up, no money came that nobody told
//! of, and what was captured for an order that ended is refunded.
//!
//! Assumed: every payment and refund of an order was asked for in this history or follows from the ledger's own rules. A
//! refund that has failed is asked for again by people only, so a cancelled order may keep that much. What an attempt of a
//! call told last is what stands: state and amount of a payment are those of one call.

use ordergrid_domain::Law;
use std::collections::BTreeSet;

use ordergrid_api::wire::{Order, Payment, Refund};
use ordergrid_domain::order::{Phase, RefundState};

use crate::history::{Ask, SimTime};
use crate::judges::evidence::book::{Book, Sighting};
use crate::verdict::Violation;

/// Looks at the money of every order in every answer.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let told = told(book);
    let wrong = |sighting: &Sighting<'_, Order>| {
        let order = sighting.what;
        let wrong = uneven(order).or_else(|| unheard_of(order, sighting.ended(), &told))?;
        Some(Violation::new(Law::MoneyConserved, format!("operation {}: order {}: {wrong}", sighting.op.number, order.id)))
    };
    book.orders.values().flatten().filter_map(wrong).collect()
}

fn uneven(order: &Order) -> Option<String> {
    let worth = |line: &ordergrid_api::wire::Line| {
        i128::from(line.unit_price) * i128::from(line.ordered) - i128::from(line.discount) + i128::from(line.tax)
    };
    let lines: i128 = order.lines.iter().map(worth).sum();
    let total = lines - i128::from(order.discount) + i128::from(order.shipping_fee);
    if i128::from(order.total) != total {
        return Some(format!("the total is {}, its parts come to {total}", order.total));
    }
    let captured = sum(order.payments.iter().map(|one| one.captured));
    let of_refunds =
        |state: fn(RefundState) -> bool| sum(order.refunds.iter().filter(|one| state(one.status)).map(|one| one.amount));
    let refunded = of_refunds(|state| state != RefundState::Failed);
    if (i128::from(order.captured), i128::from(order.refunded)) != (captured, refunded) {
        return Some(format!(
            "{} captured and {} refunded, the ledger says {captured} and {refunded}",
            order.captured, order.refunded
        ));
    }
    let facts = || order.payments.iter().flat_map(|one| &one.facts);
    if facts().any(|fact| fact.amount <= 0) || order.refunds.iter().any(|one| one.amount <= 0) {
        return Some("a payment or a refund of nothing".to_owned());
    }
    let ids: BTreeSet<&str> = order.payments.iter().map(|one| one.provider_payment_id.as_str()).collect();
    if ids.len() != order.payments.len() {
        return Some(format!("a payment counts twice: {:?}", order.payments));
    }
    if order.due < 0 || order.due > order.total {
        return Some(format!("{} is due of {}", order.due, order.total));
    }
    let failed = of_refunds(|state| state == RefundState::Failed);
    let disputed = sum(order.payments.iter().map(|one| one.disputed));
    if order.phase == Phase::Cancelled && (order.due != 0 || captured - refunded - disputed > failed) {
        return Some(format!("cancelled, {} due, {captured} captured, {refunded} refunded", order.due));
    }
    None
}

fn sum(amounts: impl Iterator<Item = i64>) -> i128 {
    amounts.map(i128::from).sum()
}

/// What clients have told of money, each with the first time: `pay order id state amount currency`, `refund order`.
type Told = std::collections::BTreeMap<String, SimTime>;

fn told(book: &Book<'_>) -> Told {
    let mut told = Told::new();
    for op in &book.history.operations {
        let what = match &op.ask {
            Ask::Pay(_, order, pay) => {
                let (id, status) = (&pay.provider_payment_id, pay.status);
                format!("pay {order} {id} {status:?} {} {:?}", pay.amount, pay.currency)
            }
            // The amount follows from the lines, or is split over payments.
            Ask::Refund(_, order, _) => format!("refund {order}"),
            _ => continue,
        };
        told.entry(what).or_insert(op.began);
    }
    told
}

fn unheard_of(order: &Order, seen: SimTime, told: &Told) -> Option<String> {
    let known = |what: String| told.get(&what).is_some_and(|first| *first <= seen);
    let paid = |one: &Payment| {
        let (id, currency) = (&one.provider_payment_id, order.currency);
        one.facts.iter().all(|fact| known(format!("pay {} {id} {:?} {} {currency:?}", order.id, fact.status, fact.amount)))
    };
    let refunded = |one: &Refund| one.cause != "asked" || known(format!("refund {}", order.id));
    if let Some(payment) = order.payments.iter().find(|one| !paid(one)) {
        return Some(format!("nobody told of {payment:?}"));
    }
    let refund = order.refunds.iter().find(|one| !refunded(one))?;
    Some(format!("nobody asked for {refund:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    #[test]
    fn money_adds_up() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255 B*2@100");
        shop.steps(order, "pay p captured 1000; pay q captured 1000; refund 5; pick; ship 1; refund-succeeded 1");
        let cancelled = shop.order("u", "k2", "A*6@255");
        shop.steps(cancelled, "pay p captured 5; cancel; pay q captured 1530");
        shop.finish();
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn money_that_does_not_add_up_is_told() {
        let bend: [fn(&mut Order); 6] = [
            |order| order.total += 1,
            |order| order.captured += 1,
            |order| order.refunded -= 1,
            |order| order.payments.push(order.payments[0].clone()),
            |order| order.payments[0].captured += 1,
            |order| order.refunds[0].amount = 2_000,
        ];
        for bend in bend {
            let mut shop = Shop::with(100);
            let order = shop.order("u", "k", "A*6@255");
            let at = shop.steps(order, "pay p captured 1530; refund 5");
            bend(shop.answer(at));
            assert_eq!(shop.judged(judge).len(), 1, "{:?}", shop.answer(at));
        }
    }

    #[test]
    fn money_that_stays_with_a_cancelled_order_is_told() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        let at = shop.steps(order, "pay p captured 1530; cancel");
        shop.answer(at).refunds.clear();
        shop.answer(at).refunded = 0;
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

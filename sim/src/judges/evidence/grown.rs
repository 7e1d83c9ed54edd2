//! What can become of an order from one version to a later one: everything frozen stays, everything counted only grows,
//! everything with a state only goes forward. No path of an order leads back, so no two answers may show one.

use std::fmt::Debug;

use ordergrid_api::wire::{Fulfilment, Line, Order, Payment, Refund};
use ordergrid_domain::order::{FulfilmentState, Phase, RefundState};

/// What is wrong with `later` as a later (or the same) version of `earlier`; nothing, if it can be one.
#[must_use]
pub fn unlike(earlier: &Order, later: &Order) -> Option<String> {
    if earlier.version == later.version {
        let plain = |order: &Order| Order { created: None, replayed_version: None, ..order.clone() };
        return (plain(earlier) != plain(later)).then(|| "one version has two contents".to_owned());
    }
    frozen(earlier, later)
        .or_else(|| phases(earlier, later))
        .or_else(|| lines(&earlier.lines, &later.lines))
        .or_else(|| each("payment", &earlier.payments, &later.payments, payment))
        .or_else(|| each("refund", &earlier.refunds, &later.refunds, refund))
        .or_else(|| each("fulfilment", &earlier.fulfilments, &later.fulfilments, fulfilment))
}

fn frozen(a: &Order, b: &Order) -> Option<String> {
    let same = [
        ("user", a.user_id == b.user_id),
        ("reference", a.reference == b.reference),
        ("currency", a.currency == b.currency),
        ("total", (a.total, a.discount, a.shipping_fee) == (b.total, b.discount, b.shipping_fee)),
        ("terms", (a.terms, &a.payment_method) == (b.terms, &b.payment_method)),
        ("time of placing", a.created_at == b.created_at),
        ("address", a.ship_to == b.ship_to),
        ("metadata", a.metadata == b.metadata),
    ];
    if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
        return Some(format!("its {what} changed"));
    }
    if b.updated_at < a.updated_at {
        return Some(format!("it changed at {:?}, before {:?}", b.updated_at, a.updated_at));
    }
    None
}

fn phases(a: &Order, b: &Order) -> Option<String> {
    use Phase::{Cancelled, Completed, Confirmed, PendingPayment};
    let forward = match (a.phase, b.phase) {
        (PendingPayment, _) => true,
        (Confirmed, next) => next != PendingPayment,
        (Completed, next) => next == Completed,
        (Cancelled, next) => next == Cancelled && a.cancel_reason == b.cancel_reason,
    };
    (!forward).then(|| format!("{:?} {:?} became {:?} {:?}", a.phase, a.cancel_reason, b.phase, b.cancel_reason))
}

fn lines(earlier: &[Line], later: &[Line]) -> Option<String> {
    if earlier.len() != later.len() {
        return Some(format!("{} lines became {}", earlier.len(), later.len()));
    }
    earlier.iter().zip(later).find_map(|(a, b)| {
        let as_bought = |line: &Line| {
            let Line { line, sku, name, unit_price, discount, tax, ordered, .. } = line.clone();
            (line, sku, name, unit_price, discount, tax, ordered)
        };
        let counted = |line: &Line| [line.cancelled, line.shipped, line.delivered, line.returned];
        let shrunk = counted(a).iter().zip(counted(b)).any(|(a, b)| *a > b);
        (as_bought(a) != as_bought(b) || shrunk).then(|| format!("line {a:?} became {b:?}"))
    })
}

/// Nothing is taken out of a list, and each of its items goes forward.
fn each<T: Debug>(what: &str, earlier: &[T], later: &[T], forward: fn(&T, &T) -> bool) -> Option<String> {
    for (at, a) in earlier.iter().enumerate() {
        match later.get(at) {
            None => return Some(format!("{what} {a:?} is gone")),
            Some(b) if !forward(a, b) => return Some(format!("{what} {a:?} became {b:?}")),
            Some(_) => {}
        }
    }
    None
}

/// Facts are only ever added; one that was told again may have come to the end.
fn payment(a: &Payment, b: &Payment) -> bool {
    let grown = a.facts.iter().all(|fact| b.facts.contains(fact)) && a.facts.len() <= b.facts.len();
    let named = (&a.provider, &a.provider_payment_id, a.at) == (&b.provider, &b.provider_payment_id, b.at);
    grown && named && a.void_requested <= b.void_requested
}

/// It may end one way and then the other, and is never open again.
fn refund(a: &Refund, b: &Refund) -> bool {
    let forward = a.status == b.status || b.status != RefundState::Requested;
    forward && Refund { status: b.status, ..a.clone() } == *b
}

fn fulfilment(a: &Fulfilment, b: &Fulfilment) -> bool {
    use FulfilmentState::{Cancelled, Delivered, Picking, Shipped};
    let forward = match (a.status, b.status) {
        (Picking, Picking | Shipped | Delivered | Cancelled) | (Shipped, Shipped | Delivered) => true,
        (was, is) => was == is,
    };
    let on_its_way = a.status != Picking;
    let carried = (&a.carrier, &a.tracking) == (&b.carrier, &b.tracking);
    forward && a.id == b.id && a.warehouse == b.warehouse && a.lines == b.lines && a.at == b.at && (carried || !on_its_way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Play;

    #[test]
    fn what_an_order_goes_through_is_growth() {
        let mut play = Play::new("u", "k", "A*6@255 B*2@100");
        let steps = ["pay p captured 1730", "pick", "refund 5", "ship 1", "refund-succeeded 1", "deliver 1", "complete"];
        let mut versions = vec![play.order()];
        for step in steps {
            play.step(step);
            versions.push(play.order());
        }
        for (at, earlier) in versions.iter().enumerate() {
            for later in &versions[at..] {
                assert_eq!(unlike(earlier, later), None);
            }
            if let Some(before) = at.checked_sub(1).and_then(|before| versions.get(before)) {
                let backwards = Order { version: earlier.version, ..before.clone() };
                assert!(unlike(earlier, &backwards).is_some(), "{before:?}");
            }
        }
    }

    #[test]
    fn what_is_frozen_stays() {
        let order = Play::new("u", "k", "A*6@255").order();
        let later = Order { version: 2, ..order.clone() };
        assert_eq!(unlike(&order, &later), None);
        let mut other = later.clone();
        other.lines[0].ordered = 7;
        assert!(unlike(&order, &other).is_some());
        assert!(unlike(&order, &Order { total: 1, ..later }).is_some());
        assert!(unlike(&order, &Order { total: 1, ..order.clone() }).is_some(), "one version, two contents");
    }
}

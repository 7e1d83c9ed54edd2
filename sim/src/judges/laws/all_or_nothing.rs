//! AllOrNothing, from outside: an order is placed with all that was asked for or not at all, and every answer about it
//! accounts for each of its units.
//!
//! Assumed: an answer of placing shows the order as it was placed, under the key that the call carried. No verb takes units
//! from a hold, so no order is ever told of a shortfall. Whether the SKUs agree is judged by `holds_add_up` and by `verify`.

use ordergrid_api::wire::{Order, PlaceOrder};
use ordergrid_domain::Law;
use ordergrid_domain::order::{CancelReason, FulfilmentState, Phase};

use crate::judges::evidence::book::{Book, PlaceCall, PlaceEnd};
use crate::verdict::Violation;

/// Looks at every order in every answer.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let placed = book.places.values().flatten().filter_map(placed_wrong);
    let batches = book.history.operations.iter().filter_map(batch_wrong);
    let seen = book.orders.values().flatten().filter_map(|sighting| {
        let wrong = unaccounted(sighting.what)?;
        Some(format!("operation {}: order {}: {wrong}", sighting.op.number, sighting.what.id))
    });
    placed.chain(batches).chain(seen).map(|text| Violation::new(Law::AllOrNothing, text)).collect()
}

fn placed_wrong(call: &PlaceCall<'_>) -> Option<String> {
    let PlaceEnd::Done { order: Some(order), .. } = call.end else { return None };
    let all_held = order.lines.iter().all(|line| line.held == line.ordered);
    if order.version == 1 && all_held && asked_for(call.body) == placed(order) {
        return None;
    }
    Some(format!("operation {}: asked for {:?}, placed {order:?}", call.op.number, call.body))
}

fn batch_wrong(op: &crate::history::Operation) -> Option<String> {
    use crate::history::{Ask, Ending, Said};
    let (Ask::PlaceBatch(asked), Ending::Done { answer, .. }) = (&op.ask, &op.ending) else { return None };
    let Said::Batch(batch) = &**answer else { return None };
    let (asked, answered) = (asked.len(), batch.results.len());
    (asked != answered).then(|| format!("operation {}: {asked} orders asked for, {answered} results", op.number))
}

/// All of an order that its buyer decides, in one text.
#[must_use]
pub fn asked_for(body: &PlaceOrder) -> String {
    let lines: Vec<_> =
        body.lines.iter().map(|line| (&line.sku, line.quantity, line.unit_price, line.discount, line.tax)).collect();
    let worth = |line: &ordergrid_api::wire::PlaceLine| {
        i128::from(line.unit_price) * i128::from(line.quantity) - i128::from(line.discount) + i128::from(line.tax)
    };
    let sum: i128 = body.lines.iter().map(worth).sum();
    let total = sum - i128::from(body.discount) + i128::from(body.shipping_fee);
    let mut metadata = body.metadata.clone();
    metadata.sort();
    let amounts = (body.currency, body.discount, body.shipping_fee, total);
    let words = (&body.reference, body.terms, &body.payment_method, &body.ship_to, metadata);
    format!("{:?} {lines:?} {amounts:?} {words:?}", body.user_id)
}

/// The same text, of the order that came of it.
#[must_use]
pub fn placed(order: &Order) -> String {
    let lines: Vec<_> =
        order.lines.iter().map(|line| (&line.sku, line.ordered, line.unit_price, line.discount, line.tax)).collect();
    let mut metadata = order.metadata.clone();
    metadata.sort();
    let amounts = (order.currency, order.discount, order.shipping_fee, i128::from(order.total));
    let words = (&order.reference, order.terms, &order.payment_method, &order.ship_to, metadata);
    format!("{:?} {lines:?} {amounts:?} {words:?}", order.user_id)
}

/// What does not add up in an order.
fn unaccounted(order: &Order) -> Option<String> {
    if order.cancel_reason == Some(CancelReason::Shortfall) || order.lines.iter().any(|line| line.backordered > 0) {
        return Some("units that it counted on were not there".to_owned());
    }
    for line in &order.lines {
        if line.ordered != line.cancelled + line.backordered + line.held + line.picking + line.shipped {
            return Some(format!("units are lost or won: {line:?}"));
        }
        if line.delivered > line.shipped || line.returned > line.shipped {
            return Some(format!("more arrived or came back than left: {line:?}"));
        }
        let whole = match order.phase {
            Phase::Cancelled => line.cancelled == line.ordered,
            Phase::PendingPayment => line.held + line.cancelled == line.ordered,
            Phase::Completed => line.cancelled + line.shipped == line.ordered,
            Phase::Confirmed => true,
        };
        let parcels = |states: &[FulfilmentState]| -> u64 {
            let those = order.fulfilments.iter().filter(|parcel| states.contains(&parcel.status));
            those.flat_map(|parcel| &parcel.lines).filter(|part| part.line == line.line).map(|part| part.quantity).sum()
        };
        let in_parcels = parcels(&[FulfilmentState::Picking]) == line.picking
            && parcels(&[FulfilmentState::Shipped, FulfilmentState::Delivered]) == line.shipped
            && parcels(&[FulfilmentState::Delivered]) == line.delivered;
        if !whole || !in_parcels {
            return Some(format!("{:?} with {line:?} and {:?}", order.phase, order.fulfilments));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    #[test]
    fn orders_are_whole() {
        let mut shop = Shop::with(10);
        let order = shop.order("u", "k", "A*6@255 A*1@2 B*2@100");
        shop.place("u", "k", "A*6@255 A*1@2 B*2@100");
        let picked = shop.steps(order, "pay p captured 1732; pick");
        shop.steps(order, "ship 1; deliver 1; complete");
        shop.place("u", "too many", "A*6@255");
        shop.finish();
        assert_eq!(shop.judged(judge), Vec::<String>::new());

        shop.answer(picked).lines[0].picking = 5;
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn a_part_of_an_order_is_told() {
        let mut shop = Shop::with(10);
        let at = shop.place("u", "k", "A*6@255 B*2@100");
        shop.answer(at).lines.pop();
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn a_cancelled_order_that_holds_is_told() {
        let mut shop = Shop::with(10);
        let order = shop.order("u", "k", "A*6@255");
        let at = shop.steps(order, "cancel");
        assert_eq!(shop.judged(judge), Vec::<String>::new());
        let line = &mut shop.answer(at).lines[0];
        (line.held, line.cancelled) = (6, 0);
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

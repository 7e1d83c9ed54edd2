//! HoldsAddUp, from outside: every answer about a SKU adds up, what was received and adjusted is what clients brought, and
//! in the end reserved, committed and sold are the units of the orders there are.
//!
//! Assumed: all stock came by calls of this history; one whose outcome is unknown counts or not, one key counts once. The
//! sums over orders are compared only after a proof that found nothing in flight, as the calls of the last client are made.
//! An unpaid order may expire meanwhile, before or after it is read, so its units may or may not be reserved.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_api::wire::{Order, Sku, Stock};
use ordergrid_domain::order::{CancelReason, Phase};
use ordergrid_domain::{Law, OrderId, SkuId, UserId};

use super::no_oversell::units_of;
use crate::history::{Ask, Ending, Operation, Said, SimTime};
use crate::judges::evidence::book::{Book, Sighting, surely_nothing};
use crate::verdict::Violation;

/// Looks at every SKU that was seen, and at all of them in the end.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let seen = book.skus.values().flatten().filter_map(uneven);
    let short = book.short_skus();
    let last = last_skus(book);
    let whole: Vec<_> = last.values().filter(|sighting| !short.contains(&sighting.what.id)).collect();
    let brought = whole.iter().filter_map(|sighting| unbrought(book, sighting));
    let sums = whole.iter().filter_map(|sighting| unlike_orders(book, sighting));
    seen.chain(brought).chain(sums).map(|text| Violation::new(Law::HoldsAddUp, text)).collect()
}

fn last_skus<'a>(book: &Book<'a>) -> BTreeMap<SkuId, Sighting<'a, Sku>> {
    let finals = book.skus.values().flatten().filter(|sighting| sighting.is_final());
    finals.map(|sighting| (sighting.what.id.clone(), *sighting)).collect()
}

fn uneven(sighting: &Sighting<'_, Sku>) -> Option<String> {
    let sku = sighting.what;
    let sum = sku.warehouses.iter().fold(Stock::default(), |sum, one| sum.plus(one.stock));
    let moved = |stock: &Stock| {
        i128::from(stock.received) + i128::from(stock.restocked) + i128::from(stock.adjusted) - i128::from(stock.sold)
    };
    let mut all = sku.warehouses.iter().map(|one| &one.stock).chain([&sku.stock]);
    let wrong = all.find(|stock| moved(stock) != i128::from(stock.on_hand));
    let wrong = wrong.or((sum != sku.stock).then_some(&sku.stock))?;
    Some(format!("operation {}: {}: {wrong:?} of {:?}", sighting.op.number, sku.id, sku.warehouses))
}

/// The least and the most that all calls of one kind can have come to.
fn bounds(book: &Book<'_>, sku: &SkuId, kind: fn(&Ask) -> bool) -> (i128, i128) {
    let (mut least, mut most) = (0, 0);
    for ((_, _), calls) in book.stock_commands.iter().filter(|((of, _), _)| of == sku) {
        let calls: Vec<&&Operation> = calls.iter().filter(|op| kind(&op.ask)).collect();
        if let Some(done) = calls.iter().find(|op| matches!(op.ending, Ending::Done { .. })) {
            least += units_of(done);
            most += units_of(done);
        } else {
            let may_be = calls.iter().filter(|op| !surely_nothing(op, &book.setting)).map(|op| units_of(op));
            let (low, high) = may_be.fold((0, 0), |(low, high), units| (units.min(low), units.max(high)));
            least += low;
            most += high;
        }
    }
    (least, most)
}

fn unbrought(book: &Book<'_>, last: &Sighting<'_, Sku>) -> Option<String> {
    let sku = last.what;
    let received = bounds(book, &sku.id, |ask| matches!(ask, Ask::Receive(..)));
    let adjusted = bounds(book, &sku.id, |ask| matches!(ask, Ask::Adjust(..)));
    let within = |units: i128, (least, most): (i128, i128)| (least..=most).contains(&units);
    if within(sku.stock.received.into(), received) && within(sku.stock.adjusted.into(), adjusted) {
        return None;
    }
    Some(format!("{}: clients brought {received:?} and adjusted by {adjusted:?}: {:?}", sku.id, sku.stock))
}

/// From when to when a proof by the last client was made that found nothing in flight.
fn quiet_since(book: &Book<'_>) -> Option<(SimTime, SimTime)> {
    let quiet = |op: &&Operation| {
        let Ending::Done { answer, .. } = &op.ending else { return false };
        matches!(&**answer, Said::Verify(report)
            if report.in_flight.tentative_holds + report.in_flight.undelivered_messages + report.in_flight.running_attempts == 0)
    };
    let proof = book.final_calls().find(quiet)?;
    Some((proof.began, proof.ended?))
}

/// Units of a SKU that orders hold for money to come, hold for good, and have shipped.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    unpaid: u64,
    confirmed: u64,
    shipped: u64,
}

impl Owed {
    /// `freed` by an expiry that the SKU may not have heard of yet.
    fn add(&mut self, order: &Order, sku: &SkuId, freed: bool) {
        for line in order.lines.iter().filter(|line| line.sku == *sku) {
            self.shipped += line.shipped;
            match order.phase {
                Phase::PendingPayment => self.unpaid += line.held,
                Phase::Confirmed => self.confirmed += line.held + line.picking,
                Phase::Cancelled if freed => self.unpaid += line.cancelled,
                Phase::Completed | Phase::Cancelled => {}
            }
        }
    }
}

fn unlike_orders(book: &Book<'_>, sku: &Sighting<'_, Sku>) -> Option<String> {
    let (looked, quiet) = quiet_since(book)?;
    let last = book.last();
    let freed = |order: &Order| {
        let before = book.setting.earliest_healed(looked).is_some_and(|looked| order.updated_at < looked);
        order.cancel_reason == Some(CancelReason::Timeout) && !before
    };
    if sku.op.began <= quiet || last.values().any(|order| order.op.began <= quiet) {
        return None;
    }
    let mut owed = Owed::default();
    for order in last.values() {
        owed.add(order.what, &sku.what.id, freed(order.what));
    }
    let stock = &sku.what.stock;
    let fits = if all_orders_seen(book, last.keys().copied().collect()) {
        stock.reserved <= owed.unpaid && stock.committed == owed.confirmed && stock.sold == owed.shipped
    } else {
        stock.committed >= owed.confirmed && stock.sold >= owed.shipped
    };
    (!fits).then(|| format!("{}: {stock:?}, and its orders have {owed:?}", sku.what.id))
}

/// Every order that may exist was read in the end: every order known, and every page of every user that may have one.
fn all_orders_seen(book: &Book<'_>, last: BTreeSet<OrderId>) -> bool {
    let whole = |user: &UserId| {
        let mut pages = book.pages.get(user).into_iter().flatten().filter(|page| page.is_final());
        pages.next_back().is_some_and(|page| page.what.next_cursor.is_none())
    };
    let buyers = book.places.iter().filter(|(_, calls)| calls.iter().any(|call| !call.surely_nothing(&book.setting)));
    let nameless = book.history.operations.iter().any(|op| match &op.ask {
        Ask::PlaceBatch(orders) => orders.iter().any(|order| order.idempotency_key.is_none()),
        _ => false,
    });
    !nameless && book.known().keys().all(|id| last.contains(id)) && buyers.into_iter().all(|((user, _), _)| whole(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    fn sold_a_few() -> Shop {
        let mut shop = Shop::with(20);
        let lost = shop.receive("A", 1);
        shop.order("u", "pending", "A*1@5 B*1@5");
        let confirmed = shop.order("u", "confirmed", "A*2@5");
        shop.steps(confirmed, "pay p captured 10");
        let shipped = shop.order("v", "shipped", "A*4@5");
        shop.steps(shipped, "pay p captured 20; pick; ship 1");
        let cancelled = shop.order("v", "cancelled", "A*8@5");
        shop.steps(cancelled, "cancel");
        shop.finish();
        shop.lose(lost);
        shop
    }

    fn last_of(shop: &mut Shop, id: &str) -> usize {
        let read = |op: &Operation| matches!(&op.ask, Ask::ReadSku(sku) if sku.as_str() == id);
        shop.history.operations.iter().rposition(read).expect("it was read")
    }

    #[test]
    fn holds_are_those_of_the_orders() {
        assert_eq!(sold_a_few().judged(judge), Vec::<String>::new());
    }

    #[test]
    fn units_that_no_order_has_are_told() {
        let bend: [fn(&mut Stock); 4] = [
            |stock| stock.reserved += 1,
            |stock| stock.committed -= 1,
            |stock| (stock.received, stock.on_hand) = (stock.received + 1, stock.on_hand + 1),
            |stock| (stock.sold, stock.on_hand) = (stock.sold + 1, stock.on_hand - 1),
        ];
        for bend in bend {
            let mut shop = sold_a_few();
            let at = last_of(&mut shop, "A");
            let sku = shop.answered_sku(at);
            bend(&mut sku.stock);
            sku.warehouses[0].stock = sku.stock;
            assert_eq!(shop.judged(judge).len(), 1, "{:?}", shop.answered_sku(at));
        }
    }

    #[test]
    fn an_order_that_nobody_read_may_have_units() {
        let mut shop = sold_a_few();
        let reads =
            |op: &Operation| matches!(&op.ask, Ask::ReadUser(_)) && op.client == crate::judges::evidence::book::FINAL_CLIENT;
        let pages: Vec<usize> = (0..shop.history.operations.len()).filter(|at| reads(&shop.history.operations[*at])).collect();
        for at in pages {
            shop.refuse(at, 503, "no_leader");
        }
        let at = last_of(&mut shop, "A");
        let sku = shop.answered_sku(at);
        sku.stock.committed += 1;
        sku.warehouses[0].stock = sku.stock;
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_sku_that_does_not_add_up_is_told() {
        let mut shop = Shop::with(20);
        let at = shop.receive("A", 1);
        shop.answered_sku(at).stock.on_hand += 1;
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

//! NoOversell, from outside: no SKU ever shows more promised than it has, and at no moment were more units promised to
//! orders that last than can have been received by then.
//!
//! Assumed: all stock came by calls of this history. A call may have had its effect from its beginning on, and a done one
//! has had it at its end; an order exists since it was first seen, and its units count if the last reads still saw them not
//! cancelled, which cannot be undone. SKUs with a shortfall are left out: they ship what a count no longer found.

use std::collections::BTreeMap;

use ordergrid_api::wire::{Sku, Stock};
use ordergrid_domain::{Law, SkuId};

use crate::history::{Ask, Ending, Operation, SimTime};
use crate::judges::evidence::book::{Book, Sighting, ended, surely_nothing};
use crate::verdict::Violation;

/// Looks at every SKU that was seen, and at every order that lasted.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let seen = book.skus.values().flatten().filter_map(promised_too_much);
    let short = book.short_skus();
    let moves = moves(book);
    let over = moves.iter().filter(|(sku, _)| !short.contains(*sku)).filter_map(|(sku, moves)| oversold(sku, moves));
    seen.chain(over).map(|text| Violation::new(Law::NoOversell, text)).collect()
}

fn promised_too_much(sighting: &Sighting<'_, Sku>) -> Option<String> {
    let wrong = |stock: &Stock| {
        let promised = i128::from(stock.unavailable) + i128::from(stock.reserved) + i128::from(stock.committed);
        i128::from(stock.available) != i128::from(stock.on_hand) - promised
    };
    let sku = sighting.what;
    let mut all = sku.warehouses.iter().map(|one| &one.stock).chain([&sku.stock]);
    let stock = all.find(|stock| wrong(stock))?;
    Some(format!("operation {}: {}: {stock:?}", sighting.op.number, sku.id))
}

/// At each moment, units that may have come since, and units that are certainly promised or gone since.
type Moves = BTreeMap<SimTime, (i128, i128)>;

fn moves(book: &Book<'_>) -> BTreeMap<SkuId, Moves> {
    let mut moves: BTreeMap<SkuId, Moves> = BTreeMap::new();
    for ((sku, _), calls) in &book.stock_commands {
        let moves = moves.entry(sku.clone()).or_default();
        let units = calls.iter().filter(|op| !surely_nothing(op, &book.setting)).map(|op| units_of(op)).max();
        if let Some(units) = units.filter(|units| *units > 0) {
            // The earliest call with the key: none of its attempts can have come before.
            let first = calls.iter().map(|op| op.began).min().unwrap_or_default();
            moves.entry(first).or_default().0 += units;
        }
        let done = calls.iter().filter(|op| matches!(op.ending, Ending::Done { .. })).min_by_key(|op| ended(op));
        if let Some(op) = done.filter(|op| units_of(op) < 0) {
            moves.entry(ended(op)).or_default().1 -= units_of(op);
        }
    }
    let known = book.known();
    for (id, last) in book.last() {
        let Some(since) = known.get(&id) else { continue };
        for line in &last.what.lines {
            let lasting = i128::from(line.ordered) - i128::from(line.cancelled) - i128::from(line.backordered);
            moves.entry(line.sku.clone()).or_default().entry(*since).or_default().1 += lasting;
        }
    }
    moves
}

/// Units that a call brings, or takes.
#[must_use]
pub fn units_of(op: &Operation) -> i128 {
    match &op.ask {
        Ask::Receive(_, _, receive) => i128::from(receive.quantity),
        Ask::Adjust(_, _, adjust) => i128::from(adjust.delta),
        _ => 0,
    }
}

fn oversold(sku: &SkuId, moves: &Moves) -> Option<String> {
    let (mut come, mut promised) = (0, 0);
    moves.iter().find_map(|(at, (more, taken))| {
        come += more;
        promised += taken;
        (promised > come).then(|| format!("{sku}: at {at} {promised} units are promised or gone, at most {come} had come"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::Shop;

    #[test]
    fn what_is_there_may_be_sold() {
        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*6@255");
        let order = shop.order("u", "k2", "A*4@255");
        shop.steps(order, "cancel");
        shop.order("u", "k3", "A*4@255");
        shop.receive("A", 1);
        shop.order("u", "k4", "A*1@255");
        shop.place("u", "k5", "A*1@255");
        shop.finish();
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn an_order_too_many_is_told() {
        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*6@255");
        shop.order("u", "k2", "A*4@255");
        shop.finish();
        // The units were received only afterwards.
        let receive = shop.history.operations.iter().position(|op| matches!(&op.ask, Ask::Receive(..))).expect("received");
        let op = &mut shop.history.operations[receive];
        (op.began, op.ended) = (shop.now, Some(shop.now));
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn units_of_a_lost_receipt_may_be_sold_and_those_of_a_refused_one_not() {
        let mut shop = Shop::with(10);
        let receive = shop.receive("A", 1);
        shop.order("u", "k", "A*11@255");
        shop.finish();
        shop.lose(receive);
        assert_eq!(shop.judged(judge), Vec::<String>::new());
        shop.refuse(receive, 503, "no_leader");
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn a_sku_that_promises_too_much_is_told() {
        let mut shop = Shop::with(10);
        let at = shop.receive("A", 1);
        shop.answered_sku(at).stock.reserved = 12;
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

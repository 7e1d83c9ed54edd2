//! SoldOutIsTrue, against the log: "out of stock" is answered only if, at some index between question and answer, a SKU of
//! the order had fewer free units than the order asks for.
//!
//! Assumed: a leader that answers from memory looks at a state that was current meanwhile, units of tentative holds taken
//! off; it never refuses because of holds that are still on their way. The indexes between are bounded from tokens: what
//! had been told before the question was applied, what was asked for after the answer landed later. Unknown SKUs are not
//! judged.

use std::collections::BTreeMap;

use ordergrid_api::wire::PlaceOrder;
use ordergrid_domain::{Sku, SkuId};

use crate::chronicle::Version;
use crate::history::{Operation, Seen, SimTime};
use crate::judges::evidence::book::{Book, How, PlaceEnd, ended};
use crate::judges::evidence::standard::Standard;
use crate::verdict::{Property, Violation};

/// Looks at every order that was refused as sold out.
#[must_use]
pub fn judge(book: &Book<'_>, standard: &dyn Standard) -> Vec<Violation> {
    let clocks = Clocks::new(book);
    let mut wrong = Vec::new();
    for call in book.places.values().flatten() {
        let PlaceEnd::Refused { code: "out_of_stock", .. } = call.end else { continue };
        let short = wanted(call.body).into_iter().any(|(sku, units)| {
            // What nobody has seen may well be short.
            clocks.groups.get(sku).is_none_or(|group| {
                let (from, to) = (clocks.before(*group, call.op), clocks.after(*group, call.op));
                may_be_short(standard, sku, units, from, to)
            })
        });
        if !short {
            let seen = wanted(call.body).into_keys().filter_map(|sku| {
                let group = clocks.groups.get(sku)?;
                let (from, to) = (clocks.before(*group, call.op), clocks.after(*group, call.op));
                let free = current(standard, sku, from, to).map(|version| {
                    let most = version.state.stock.iter().map(|(_, buckets)| buckets.available().0).max();
                    format!("{} at {}", most.unwrap_or(0), version.index)
                });
                Some(format!("{sku} after {from} and before {to} of shard {group}: {}", free.collect::<Vec<_>>().join(", ")))
            });
            let seen = seen.collect::<Vec<_>>().join("; ");
            let text = format!("operation {}: there were units for all of {:?}: {seen}", call.op.number, wanted(call.body));
            wrong.push(Violation::new(Property::SoldOutIsTrue, text));
        }
    }
    wrong
}

/// Units per SKU, summed over the lines.
fn wanted(body: &PlaceOrder) -> BTreeMap<&SkuId, u64> {
    let mut wanted = BTreeMap::new();
    for line in &body.lines {
        *wanted.entry(&line.sku).or_insert(0) += line.quantity;
    }
    wanted
}

/// A state that was current after `from` and before `to` has fewer units in every warehouse.
fn may_be_short(standard: &dyn Standard, sku: &SkuId, units: u64, from: u64, to: u64) -> bool {
    // Commands of one entry come one after the other: units that one of them takes and another frees are gone in between.
    let asked = standard.asked(sku).into_iter().flat_map(|asked| asked.range(from + 1..to.max(from + 1)));
    for (index, asked) in asked {
        let before = current(standard, sku, index - 1, *index).next();
        if before.is_none_or(|before| before.state.stock.iter().all(|(_, it)| it.available().0 < units + asked)) {
            return true;
        }
    }
    let mut looked = false;
    for version in current(standard, sku, from, to) {
        looked = true;
        if version.state.stock.iter().all(|(_, buckets)| buckets.available().0 < units) {
            return true;
        }
    }
    !looked
}

/// The states that were current after `from` and before `to`.
fn current<'a>(standard: &'a dyn Standard, sku: &SkuId, from: u64, to: u64) -> impl Iterator<Item = &'a Version<Sku>> {
    let versions = standard.sku_versions(sku);
    let first = versions.partition_point(|version| version.index <= from).saturating_sub(1);
    versions[first.min(versions.len())..].iter().take_while(move |version| version.index < to)
}

/// What tokens tell of indexes at a time.
struct Clocks {
    groups: BTreeMap<SkuId, u32>,
    /// By shard: the end of a call, and what had been applied by then; only what is higher than before.
    applied: BTreeMap<u32, BTreeMap<SimTime, u64>>,
    /// By shard: the beginning of a write, and where it landed.
    landed: BTreeMap<u32, BTreeMap<SimTime, u64>>,
}

impl Clocks {
    fn new(book: &Book<'_>) -> Self {
        let mut clocks = Self { groups: BTreeMap::new(), applied: BTreeMap::new(), landed: BTreeMap::new() };
        for seen in book.skus.values().flatten() {
            if let Some(token) = seen.token {
                clocks.groups.insert(seen.what.id.clone(), token.group);
                clocks.tell(seen.op, token, seen.how == How::Changed);
            }
        }
        for seen in book.orders.values().flatten() {
            if let Some(token) = seen.token {
                clocks.tell(seen.op, token, seen.how == How::Changed);
            }
        }
        clocks
    }

    fn tell(&mut self, op: &Operation, Seen { group, index }: Seen, write: bool) {
        let applied = self.applied.entry(group).or_default().entry(ended(op)).or_insert(index);
        *applied = index.max(*applied);
        if write {
            let landed = self.landed.entry(group).or_default().entry(op.began).or_insert(index);
            *landed = index.min(*landed);
        }
    }

    /// An index that had been applied when the call began.
    fn before(&self, group: u32, op: &Operation) -> u64 {
        let applied = self.applied.get(&group);
        applied.into_iter().flat_map(|applied| applied.range(..op.began)).map(|(_, index)| *index).max().unwrap_or(0)
    }

    /// An index that did not exist yet when the call ended.
    fn after(&self, group: u32, op: &Operation) -> u64 {
        let Some(end) = op.ended else { return u64::MAX };
        let landed = self.landed.get(&group);
        let later = landed.into_iter().flat_map(|landed| landed.range(SimTime(end.0 + 1)..));
        later.map(|(_, index)| *index).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::{Shop, setting};

    fn judged(shop: &Shop) -> Vec<String> {
        judge(&Book::new(&shop.history, setting()), shop).iter().map(ToString::to_string).collect()
    }

    fn sold_out() -> (Shop, usize) {
        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*6@255");
        let at = shop.place("u", "k2", "A*2@255 B*1@5 A*3@255");
        shop.refuse(at, 409, "out_of_stock");
        (shop, at)
    }

    #[test]
    fn sold_out_is_true() {
        assert_eq!(judged(&sold_out().0), Vec::<String>::new());
    }

    #[test]
    fn sold_out_while_there_are_units_is_told() {
        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*5@255");
        shop.receive("A", 1);
        let at = shop.place("u", "k2", "A*6@255 B*10@5");
        // Nothing is free afterwards, which the next write to land tells apart.
        shop.refuse(at, 409, "out_of_stock");
        assert_eq!(judged(&shop), Vec::<String>::new(), "the order itself, placed meanwhile, may have been the reason");

        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*5@255");
        shop.receive("A", 1);
        let at = shop.place("u", "k2", "A*60@255");
        shop.receive("A", 1);
        shop.refuse(at, 409, "out_of_stock");
        assert_eq!(judged(&shop), Vec::<String>::new());
        if let crate::history::Ask::Place(_, body) = &mut shop.history.operations[at].ask {
            body.lines[0].quantity = 6;
        }
        assert_eq!(judged(&shop).len(), 1);
    }

    #[test]
    fn units_that_came_at_the_same_time_may_have_come_later() {
        let (mut shop, at) = sold_out();
        let receive = shop.receive("A", 100);
        let began = shop.history.operations[at].began;
        shop.history.operations[receive].began = began;
        assert_eq!(judged(&shop), Vec::<String>::new());
    }
}

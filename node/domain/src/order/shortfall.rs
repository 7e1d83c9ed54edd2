//! Units that a SKU held for the order turned out not to exist (protocol.md, rules 18 and 19). The one case where stock acts
//! first: the order follows, since the hold is gone already.

use super::command::Change;
use super::effects::Effects;
use super::{CancelReason, EventKind, FulfilmentState, Line, Operator, Order, Phase};
use crate::ids::SkuId;
use crate::money::Quantity;
use crate::time::Timestamp;

impl Order {
    /// `missing` units of `sku` are no longer held. An unpaid order cancels itself; a confirmed one waits for the units on
    /// backorder, unpicking parcels if it has to. What has been shipped or cancelled meanwhile is not missed: if that is
    /// all, nothing changes.
    #[must_use]
    pub fn shortfall(&mut self, sku: &SkuId, missing: Quantity, now: Timestamp) -> Effects {
        let holding: u64 = self.lines_of(sku).map(|(_, line)| line.holding().0).sum();
        let taken = Quantity(missing.0.min(holding));
        if taken == Quantity::ZERO {
            return Effects::default();
        }
        let mut change = Change::new(self, Operator::System, now);
        change.reason = Some(CancelReason::Shortfall.text());
        change.tell(EventKind::Shortfall);
        if self.phase == Phase::PendingPayment {
            let mut freed = self.holding();
            for (_, units) in freed.iter_mut().filter(|(held, _)| held == sku) {
                units.0 -= taken.0;
            }
            freed.retain(|(_, units)| *units != Quantity::ZERO);
            self.end_cancelled(CancelReason::Shortfall, freed, &mut change);
        } else {
            self.put_back_until_held(sku, taken, &mut change);
            self.backorder(sku, taken);
        }
        self.finish(change)
    }

    /// Ends fulfilments that are being picked, newest first, until so many units of the SKU are held.
    fn put_back_until_held(&mut self, sku: &SkuId, wanted: Quantity, change: &mut Change) {
        for at in (0..self.fulfilments.len()).rev() {
            let held: u64 = self.lines_of(sku).map(|(_, line)| line.held.0).sum();
            if held >= wanted.0 {
                return;
            }
            let fulfilment = &self.fulfilments[at];
            let of_sku = |&(number, _): &(u32, Quantity)| self.lines[number as usize - 1].sku == *sku;
            if fulfilment.state == FulfilmentState::Picking && fulfilment.lines.iter().any(of_sku) {
                self.put_back(at, change);
            }
        }
    }

    /// Moves held units of the SKU to backorder, from the last line up.
    fn backorder(&mut self, sku: &SkuId, units: Quantity) {
        let mut left = units.0;
        for line in self.lines.iter_mut().rev().filter(|line| line.sku == *sku) {
            let moved = line.held.0.min(left);
            line.held.0 -= moved;
            line.backordered.0 += moved;
            left -= moved;
        }
        assert!(left == 0, "AllOrNothing: {left} units of {sku} are neither held nor on backorder");
    }

    fn lines_of<'a>(&'a self, sku: &'a SkuId) -> impl Iterator<Item = (u32, &'a Line)> {
        (1..).zip(&self.lines).filter(move |(_, line)| line.sku == *sku)
    }
}

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, check_table, refunds, units};

    const ORDER: &str = "A*6@255 B*2@100";
    const REPEATED: &str = "A*1@5 B*1@5 A*2@5";

    #[test]
    #[rustfmt::skip]
    fn units_that_are_missing_are_not_promised_any_more() {
        check_table(&[
            // order     given                                                 when          words                    events                                               effects
            (ORDER,      "",                                                   "short A 6",  "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "free B*2; deadline off"),
            (ORDER,      "",                                                   "short A 1",  "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "free A*5 B*2; deadline off"),
            (ORDER,      "",                                                   "short A 99", "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "free B*2; deadline off"),
            ("A*6@255",  "",                                                   "short A 6",  "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "deadline off"),
            (REPEATED,   "",                                                   "short A 2",  "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "free A*1 B*1; deadline off"),
            (ORDER,      "pay p captured 9",                                   "short A 6",  "Cancelled PartiallyPaid", "stock.shortfall cancelled refund.requested#1 status_changed", "free B*2; deadline off"),
            (ORDER,      "pay p authorized 9",                                 "short B 1",  "Cancelled Unpaid",      "stock.shortfall cancelled payment.void_requested status_changed", "free A*6 B*1; deadline off"),
            (ORDER,      "cancel user 1:4",                                    "short A 3",  "Cancelled Unpaid",      "stock.shortfall cancelled status_changed",          "free B*2; deadline off"),
            (ORDER,      "pay p captured 1730",                                "short A 4",  "Paid Paid",             "stock.shortfall",                                   ""),
            (ORDER,      "pay p captured 1730; pick",                          "short A 4",  "Paid Paid",             "stock.shortfall fulfilment.cancelled#1",            ""),
            (ORDER,      "pay p captured 1730; pick 1:2; pick 1:2; pick 2:2",  "short A 3",  "Paid Paid",             "stock.shortfall fulfilment.cancelled#2",            ""),
            (ORDER,      "pay p captured 1730; pick 1:3; ship 1",              "short A 9",  "PartiallyShipped Paid", "stock.shortfall",                                   ""),
            // What has gone its way is not missed.
            (ORDER,      "pay p captured 1730; pick; ship 1",                  "short A 6",  "Shipped Paid",          "",                                                  ""),
            (ORDER,      "cancel user",                                        "short A 6",  "Cancelled Unpaid",      "",                                                  ""),
            (ORDER,      "cancel user 2:2",                                    "short B 2",  "PendingPayment Unpaid", "",                                                  ""),
            (ORDER,      "",                                                   "short C 1",  "PendingPayment Unpaid", "",                                                  ""),
            (ORDER,      "",                                                   "short A 0",  "PendingPayment Unpaid", "",                                                  ""),
            (ORDER,      "pay p captured 1730; short A 6",                     "short A 6",  "Paid Paid",             "",                                                  ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_confirmed_order_waits_for_them() {
        let rows = [
            // order     given                                                            units
            (ORDER,      "pay p captured 1730; short A 4",                                "4 backordered 2 held, 2 held"),
            (ORDER,      "pay p captured 1730; short A 4; short A 1",                     "5 backordered 1 held, 2 held"),
            (ORDER,      "pay p captured 1730; short A 9",                                "6 backordered, 2 held"),
            (ORDER,      "pay p captured 1730; pick; short A 4",                          "4 backordered 2 held, 2 held"),
            (ORDER,      "pay p captured 1730; pick 1:2; pick 1:2; pick 2:2; short A 3",  "3 backordered 1 held 2 picking, 2 picking"),
            (ORDER,      "pay p captured 1730; pick 1:3; ship 1; short A 9",              "3 backordered 3 shipped, 2 held"),
            (REPEATED,   "pay p captured 20; short A 1",                                  "1 held, 1 held, 1 backordered 1 held"),
            (REPEATED,   "pay p captured 20; short A 3",                                  "1 backordered, 1 held, 2 backordered"),
            (REPEATED,   "pay p captured 20; pick 1:1; short A 2",                        "1 picking, 1 held, 2 backordered"),
            (REPEATED,   "pay p captured 20; pick 1:1; short A 3",                        "1 backordered, 1 held, 2 backordered"),
        ];
        for (order, given, expected) in rows {
            assert_eq!(units(&Play::new(order, given).order), expected, "{order} | {given}");
        }
    }

    #[test]
    fn an_unpaid_order_gives_back_what_was_paid_in_part() {
        assert_eq!(refunds(&Play::new(ORDER, "pay p captured 9; short A 1").order), "9 cancelled requested");
    }
}

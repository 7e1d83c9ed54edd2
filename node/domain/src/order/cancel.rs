//! T7 and T8: cancelling an order, or what of it is not picked yet.

use std::collections::BTreeMap;

use super::command::Change;
use super::effects::{Effects, StockEffect};
use super::{CancelReason, EventKind, Line, Order, Phase, RefundCause};
use crate::command::Created;
use crate::ids::{SkuId, Text};
use crate::money::{Money, Quantity};
use crate::rejection::Rejection;

impl Order {
    /// Refuses, in this order: a reason that is the system's own, a phase that has ended, lines that do not exist or ask for
    /// no or too many units, nothing left that is not picked, a full history for a part.
    pub(super) fn cancel(
        &mut self,
        reason: CancelReason,
        note: Option<&Text>,
        lines: &[(u32, Quantity)],
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        if matches!(reason, CancelReason::Timeout | CancelReason::Shortfall) {
            return Err(Rejection::ReasonReserved);
        }
        if matches!(self.phase, Phase::Completed | Phase::Cancelled) {
            return Err(Rejection::WrongPhase { phase: self.phase });
        }
        let units = if lines.is_empty() {
            self.all_units(Line::cancellable)
        } else {
            self.named_units(lines, |_, line| line.cancellable())?
        };
        if units.is_empty() {
            return Err(Rejection::NothingLeft);
        }
        let all = self.is_all(&units);
        if !all && !lines.is_empty() {
            self.refuse_full_history()?;
        }

        change.reason = Some(note.cloned().unwrap_or_else(|| reason.text()));
        if all {
            change.tell(EventKind::CancelRequested);
            let held = self.holding();
            self.end_cancelled(reason, held, &mut change);
        } else {
            if lines.is_empty() {
                change.tell(EventKind::CancelRequested);
            }
            self.cancel_part(&units, &mut change);
        }
        Ok((None, self.finish(change)))
    }

    /// Without `units`, nothing is open and nothing has been shipped.
    fn is_all(&self, units: &BTreeMap<u32, Quantity>) -> bool {
        let cancelled: u64 = units.values().map(|quantity| quantity.0).sum();
        cancelled == self.open_units().0 + self.shipped_units().0
    }

    /// The order ends: every unit is cancelled, `freed` goes back to stock, authorisations are given up and the captured
    /// money is refunded. Only what was never picked can end like this.
    pub(super) fn end_cancelled(&mut self, reason: CancelReason, freed: Vec<(SkuId, Quantity)>, change: &mut Change) {
        for line in &mut self.lines {
            assert!(line.picking.0 + line.shipped.0 == 0, "AllOrNothing: cancelling what was picked: {line:?}");
            line.cancelled = line.ordered;
            line.backordered = Quantity::ZERO;
            line.held = Quantity::ZERO;
        }
        self.phase = Phase::Cancelled;
        self.cancel_reason = Some(reason);
        self.payment_due_at = None;
        change.tell(EventKind::Cancelled);
        if !freed.is_empty() {
            change.effects.stock.push(StockEffect::Free { items: freed });
        }
        self.void_authorizations(change);
        self.request_refund(self.surplus(), None, RefundCause::Cancelled, change);
    }

    /// Some units are cancelled, backordered ones first, and their share of what was paid is refunded.
    pub(super) fn cancel_part(&mut self, units: &BTreeMap<u32, Quantity>, change: &mut Change) {
        let (covered_before, due_before, dues_before) = (self.covered(), self.due(), self.dues());
        let mut freed = Vec::new();
        for (&number, &quantity) in units {
            let line = self.line_mut(number);
            let from_backorder = quantity.min(line.backordered);
            let from_held = Quantity(quantity.0 - from_backorder.0);
            line.backordered.0 -= from_backorder.0;
            line.held.0 -= from_held.0;
            line.cancelled.0 += quantity.0;
            freed.push((number, from_held));
        }
        change.tell(EventKind::LineChanged);
        let items = self.skus_of(&freed);
        if !items.is_empty() {
            change.effects.stock.push(StockEffect::Free { items });
        }
        self.confirm_if_covered(covered_before, change);

        let share = Money(due_before.0 - self.due().0);
        let dues = dues_before.iter().zip(self.dues()).map(|(before, after)| Money(before.0 - after.0));
        let parts = (0..).zip(dues).filter(|(_, amount)| *amount > Money::ZERO).collect();
        self.request_refund_of(parts, self.surplus().min(share), change);
    }
}

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, check_refusals, check_table, refunds, text, units};
    use crate::order::{CancelReason, EventKind, Operator};

    const ORDER: &str = "A*6@255 B*2@100";
    const PAID: &str = "pay p captured 1730";

    #[test]
    #[rustfmt::skip]
    fn an_order_ends_when_nothing_of_it_was_picked() {
        check_table(&[
            // order                    given                                   when                  words                    events                                                                      effects
            (ORDER,                     "",                                     "cancel user",        "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*6 B*2; deadline off"),
            (ORDER,                     "",                                     "cancel merchant",    "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*6 B*2; deadline off"),
            (ORDER,                     "",                                     "cancel risk",        "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*6 B*2; deadline off"),
            (ORDER,                     PAID,                                   "cancel user",        "Cancelled Paid",        "cancel_requested cancelled refund.requested#1 status_changed",             "free A*6 B*2"),
            (ORDER,                     "pay p authorized 1730",                "cancel user",        "Cancelled Authorized",  "cancel_requested cancelled payment.void_requested status_changed",         "free A*6 B*2"),
            (ORDER,                     "pay p captured 9; pay q authorized 9", "cancel user",        "Cancelled PartiallyPaid", "cancel_requested cancelled payment.void_requested refund.requested#1 status_changed", "free A*6 B*2; deadline off"),
            (ORDER,                     "pay p processing 1730",                "cancel user",        "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*6 B*2; deadline off"),
            (ORDER,                     "pay p captured 1730; refund 1730",     "cancel user",        "Cancelled Paid",        "cancel_requested cancelled status_changed",                                "free A*6 B*2"),
            (ORDER,                     "pay p captured 1730; pick; unpick 1",  "cancel user",        "Cancelled Paid",        "cancel_requested cancelled refund.requested#1 status_changed",             "free A*6 B*2"),
            (ORDER,                     "",                                     "cancel user 1:6 2:2", "Cancelled Unpaid",     "cancel_requested cancelled status_changed",                                "free A*6 B*2; deadline off"),
            (ORDER,                     "cancel user 1:6",                      "cancel user 2:2",    "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free B*2; deadline off"),
            (ORDER,                     "pay p captured 1730; cancel user 1:6", "cancel user 2:2",    "Cancelled Paid",        "cancel_requested cancelled refund.requested#2 status_changed",             "free B*2"),
            ("A*6@5 terms=invoice",     "",                                     "cancel user",        "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*6"),
            ("A*1@5 B*1@5 A*2@5",       "",                                     "cancel user",        "Cancelled Unpaid",      "cancel_requested cancelled status_changed",                                "free A*3 B*1; deadline off"),
            (ORDER,                     "pay p captured 1730; short A 6",       "cancel user",        "Cancelled Paid",        "cancel_requested cancelled refund.requested#1 status_changed",             "free B*2"),
            ("A*2@5",                   "pay p captured 10; short A 2",         "cancel user",        "Cancelled Paid",        "cancel_requested cancelled refund.requested#1 status_changed",             ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_part_is_cancelled_and_the_phase_stays() {
        check_table(&[
            // order                    given                                     when                  words                         events                                               effects
            (ORDER,                     "",                                       "cancel user 1:2",    "PendingPayment Unpaid",      "line_changed",                                      "free A*2"),
            (ORDER,                     "",                                       "cancel user 1:2 1:1 2:1", "PendingPayment Unpaid", "line_changed",                                      "free A*3 B*1"),
            ("A*1@5 B*1@5 A*2@5",       "",                                       "cancel user 1:1 3:1", "PendingPayment Unpaid",     "line_changed",                                      "free A*2"),
            (ORDER,                     PAID,                                     "cancel user 2:1",    "Paid Paid",                  "line_changed refund.requested#1",                   "free B*1"),
            (ORDER,                     "pay p captured 1530",                    "cancel user 2:2",    "Paid Paid",                  "line_changed paid status_changed",                  "free B*2; commit A; deadline off"),
            (ORDER,                     "pay p captured 1600",                    "cancel user 2:2",    "Paid Paid",                  "line_changed paid refund.requested#1 status_changed", "free B*2; commit A; deadline off"),
            (ORDER,                     "pay p authorized 1600",                  "cancel user 2:2",    "Paid Authorized",            "line_changed paid status_changed",                  "free B*2; commit A; deadline off"),
            ("A*6@255 B*2@0",           "",                                       "cancel user 1:6",    "Paid Unpaid",                "line_changed paid status_changed",                  "free A*6; commit B; deadline off"),
            ("A*6@5 B*2@5 terms=invoice", "pay p captured 30",                    "cancel user 2:2",    "Paid Paid",                  "line_changed paid status_changed",                  "free B*2"),
            (ORDER,                     "pay p captured 1730; short A 4",         "cancel user 1:3",    "Paid Paid",                  "line_changed refund.requested#1",                   ""),
            (ORDER,                     "pay p captured 1730; short A 4",         "cancel user 1:5",    "Paid Paid",                  "line_changed refund.requested#1",                   "free A*1"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn only_what_is_not_picked_can_be_cancelled() {
        check_table(&[
            // order  given                                              when               words                    events                                                          effects
            (ORDER,   "pay p captured 1730; pick 1:2",                   "cancel user",     "Paid Paid",             "cancel_requested line_changed refund.requested#1",             "free A*4 B*2"),
            (ORDER,   "pay p captured 1730; pick 1:2; ship 1",           "cancel user",     "Shipped Paid",          "cancel_requested line_changed refund.requested#1 status_changed", "free A*4 B*2; clock +604800"),
            (ORDER,   "pay p captured 1730; pick 1:2; ship 1; deliver 1", "cancel user",    "Delivered Paid",        "cancel_requested line_changed refund.requested#1 status_changed", "free A*4 B*2; clock +604800"),
            (ORDER,   "pay p captured 1730; pick 1:2; @50 ship 1",       "@99 cancel user 1:4 2:2", "Shipped Paid",  "line_changed refund.requested#1 status_changed",               "free A*4 B*2; clock +604850"),
            (ORDER,   "pay p captured 1730; pick 1:2; ship 1; pick 1:1", "cancel user",     "PartiallyShipped Paid", "cancel_requested line_changed refund.requested#1",             "free A*3 B*2"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn cancels_are_refused_in_this_order() {
        check_refusals(&[
            // order  given                                   when                refusal
            (ORDER,   "cancel user",                          "cancel timeout",   "this reason of cancelling is the system's own"),
            (ORDER,   "",                                     "cancel shortfall", "this reason of cancelling is the system's own"),
            (ORDER,   "cancel user",                          "cancel user",      "not possible while the order is Cancelled"),
            (ORDER,   "@900 deadline",                        "cancel user 9:9",  "not possible while the order is Cancelled"),
            (ORDER,   "pay p captured 1730; pick; ship 1; deliver 1; complete", "cancel user", "not possible while the order is Completed"),
            (ORDER,   "",                                     "cancel user 1:7 0:1", "the order has no line 0"),
            (ORDER,   "",                                     "cancel user 1:7 3:1", "the order has no line 3"),
            (ORDER,   "",                                     "cancel user 1:7 2:0", "line 2 has quantity 0, it must be between 1 and 1000000000"),
            (ORDER,   "",                                     "cancel user 1:7 2:1000000001", "line 2 has quantity 1000000001, it must be between 1 and 1000000000"),
            (ORDER,   "",                                     "cancel user 2:9 1:7", "line 1 has 6 units for this, asked 7"),
            (ORDER,   "",                                     "cancel user 1:3 1:4", "line 1 has 6 units for this, asked 7"),
            (ORDER,   "cancel user 1:2",                      "cancel user 1:5",  "line 1 has 4 units for this, asked 5"),
            (ORDER,   "pay p captured 1730; pick 1:3",        "cancel user 1:4",  "line 1 has 3 units for this, asked 4"),
            (ORDER,   "pay p captured 1730; short A 3; pick 1:3", "cancel user 1:4", "line 1 has 3 units for this, asked 4"),
            (ORDER,   "pay p captured 1730; pick",            "cancel user",      "nothing is left for this"),
            (ORDER,   "pay p captured 1730; pick; ship 1",    "cancel user",      "nothing is left for this"),
            (ORDER,   "pay p captured 1730; pick",            "cancel user 1:1",  "line 1 has 0 units for this, asked 1"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn the_share_of_a_part_is_refunded_and_parts_add_up() {
        let rows = [
            // order                          given                                                               refunds
            ("A*3@100-1",                     "pay p captured 299; cancel user 1:1; cancel user 1:1; cancel user 1:1", "100 cancelled requested, 99 cancelled requested, 100 cancelled requested"),
            ("A*2@100 B*1@100 discount=100",  "pay p captured 200; cancel user 2:1; cancel user 1:2",             "67 cancelled requested, 133 cancelled requested"),
            ("A*1@100 B*1@300 shipping=10",   "pay p captured 410; cancel user 1:1; cancel user 2:1",             "100 cancelled requested, 310 cancelled requested"),
            ("A*1@0 B*1@300",                 "pay p captured 300; cancel user 1:1",                              ""),
            (ORDER,                           "pay p captured 1730; cancel user",                                 "1730 cancelled requested"),
            (ORDER,                           "pay p captured 30; cancel user",                                   "30 cancelled requested"),
            (ORDER,                           "pay p captured 30; cancel user 1:1; cancel user",                  "30 cancelled requested"),
            (ORDER,                           "pay p captured 1730; refund 300; cancel user 2:2",                 "300 asked requested, 200 cancelled requested"),
            (ORDER,                           "pay p captured 1730; refund 300; cancel user",                     "300 asked requested, 1430 cancelled requested"),
            (ORDER,                           "pay p captured 1730; refund 2:2; cancel user 2:2",                 "200 asked requested"),
            (ORDER,                           "pay p captured 1730; refund 1730; cancel user 2:2",                "1730 asked requested"),
            (ORDER,                           "pay p captured 1730; cancel user 2:1; refund-failed 1; cancel user 2:1", "100 cancelled failed, 100 cancelled requested"),
            (ORDER,                           "pay p captured 1730; cancel user 2:1; refund-failed 1; cancel user", "100 cancelled failed, 1730 cancelled requested"),
            ("A*6@5 terms=invoice",           "pay p captured 10; cancel user 1:3",                               ""),
            ("A*6@5 terms=invoice",           "pay p captured 10; cancel user 1:5",                               "5 cancelled requested"),
        ];
        for (order, given, expected) in rows {
            assert_eq!(refunds(&Play::new(order, given).order), expected, "{order} | {given}");
        }
    }

    #[test]
    fn a_refund_of_a_part_names_its_lines() {
        let play = Play::new(ORDER, "pay p captured 1730; cancel user 1:2 2:1");
        let lines: Vec<(u32, i64)> = play.order.refunds[0].lines.iter().map(|(line, amount)| (*line, amount.0)).collect();
        assert_eq!(lines, [(1, 510), (2, 100)]);
    }

    #[test]
    fn backordered_units_are_cancelled_before_held_ones() {
        let play = Play::new(ORDER, "pay p captured 1730; short A 4; cancel user 1:5");
        assert_eq!(units(&play.order), "5 cancelled 1 held, 2 held");
    }

    #[test]
    fn cancel_and_ship_in_both_orders() {
        let ship_first = Play::new(ORDER, "pay p captured 1730; pick 1:4; ship 1; cancel user");
        assert_eq!(units(&ship_first.order), "2 cancelled 4 shipped, 2 cancelled");
        assert_eq!(refunds(&ship_first.order), "710 cancelled requested");

        let mut cancel_first = Play::new(ORDER, "pay p captured 1730; pick 1:4; cancel user");
        assert_eq!(units(&cancel_first.order), "2 cancelled 4 picking, 2 cancelled");
        cancel_first.step("ship 1").expect("what is being picked is not covered by the cancel");
        assert_eq!(units(&cancel_first.order), units(&ship_first.order));
        assert_eq!(refunds(&cancel_first.order), refunds(&ship_first.order));
    }

    #[test]
    fn a_cancel_says_who_and_why() {
        let order = Play::new(ORDER, "cancel risk").order;
        assert_eq!(order.cancel_reason, Some(CancelReason::Risk));
        for event in &order.events[1..] {
            assert_eq!((event.operator, &event.reason), (Operator::Merchant, &Some(text("risk"))), "{event:?}");
        }
        assert!(order.events.iter().any(|event| event.kind == EventKind::CancelRequested));
    }
}

//! Timers of an order that came due: T6, the payment deadline with its single grace, and the end of T13.

use super::command::Change;
use super::effects::{Effects, TimerKind};
use super::{CancelReason, EventKind, FulfilmentState, Line, Operator, Order, OrderHold, Phase, limits};
use crate::money::Quantity;
use crate::repair::Scale;
use crate::time::Timestamp;

impl Order {
    /// A timer came due. One that the order does not have, or has for later, changes nothing: the answer then tells how it
    /// stands.
    #[must_use]
    pub fn expire(&mut self, kind: TimerKind, now: Timestamp) -> Effects {
        self.expire_in(kind, now, &Scale::default())
    }

    /// The same where log time was set back.
    pub(crate) fn expire_in(&mut self, kind: TimerKind, now: Timestamp, scale: &Scale) -> Effects {
        let due_at = self.due_at(kind);
        if due_at.is_none_or(|due| due > now) {
            return Effects { timers: vec![(kind, due_at)], ..Effects::default() };
        }
        let mut change = Change::new(self, Operator::System, now);
        match kind {
            TimerKind::PaymentDeadline => self.payment_deadline_passed(&mut change, scale),
            TimerKind::AutoComplete => self.end_completed(&mut change),
        }
        self.finish(change)
    }

    /// When a timer is due, if it runs.
    pub(crate) fn due_at(&self, kind: TimerKind) -> Option<Timestamp> {
        match kind {
            TimerKind::PaymentDeadline => self.payment_due_at,
            TimerKind::AutoComplete => self.completes_at,
        }
    }

    /// When that was decided.
    pub(crate) fn set_at(&self, kind: TimerKind) -> Option<Timestamp> {
        let last = |of: fn(&EventKind) -> bool| self.events.iter().rev().find(|event| of(&event.kind)).map(|event| event.at);
        match kind {
            TimerKind::PaymentDeadline if self.grace_used => last(|kind| *kind == EventKind::DeadlineExtended),
            TimerKind::PaymentDeadline if self.phase == Phase::Confirmed => last(|kind| *kind == EventKind::OnHold),
            TimerKind::PaymentDeadline => Some(self.created_at),
            TimerKind::AutoComplete => last(|kind| matches!(kind, EventKind::FulfilmentShipped(_))),
        }
    }

    fn payment_deadline_passed(&mut self, change: &mut Change, scale: &Scale) {
        let waits = self.phase == Phase::PendingPayment && !self.covered() || self.hold() == Some(OrderHold::NoCover);
        assert!(waits, "TimersFire: nothing is due: {self:?}");
        let young = |at: Timestamp| scale.between(at, change.now) < limits::GRACE;
        let in_processing = self.payments.iter().any(|payment| payment.is_processing() && young(payment.at));
        if in_processing && !self.grace_used {
            self.grace_used = true;
            self.payment_due_at = Some(change.now.after(limits::GRACE));
            change.tell(EventKind::DeadlineExtended);
            return;
        }
        change.reason = Some(CancelReason::Timeout.text());
        for at in 0..self.fulfilments.len() {
            if self.fulfilments[at].state == FulfilmentState::Picking {
                self.put_back(at, change);
            }
        }
        if self.shipped_units() == Quantity::ZERO {
            let held = self.holding();
            self.end_cancelled(CancelReason::Timeout, held, change);
        } else {
            self.cancel_part(&self.all_units(Line::cancellable), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, check_table, refunds};
    use crate::order::{CancelReason, Operator};

    const ORDER: &str = "A*6@255 B*2@100";
    const DONE: &str = "pay p captured 1730; pick; @60 ship 1";

    #[test]
    #[rustfmt::skip]
    fn an_unpaid_order_expires_after_one_grace() {
        check_table(&[
            // order            given                                                when              words                      events                                            effects
            (ORDER,             "",                                                  "@899 deadline",  "PendingPayment Unpaid",   "",                                               "deadline +900"),
            (ORDER,             "",                                                  "@900 deadline",  "Cancelled Unpaid",        "cancelled status_changed",                       "free A*6 B*2; deadline off"),
            ("A*1@5 window=1",  "",                                                  "@1 deadline",    "Cancelled Unpaid",        "cancelled status_changed",                       "free A*1; deadline off"),
            ("A*1@5 window=2592000", "",                                             "@2591999 deadline", "PendingPayment Unpaid", "",                                              "deadline +2592000"),
            (ORDER,             "pay p failed 1730",                                 "@900 deadline",  "Cancelled Unpaid",        "cancelled status_changed",                       "free A*6 B*2; deadline off"),
            (ORDER,             "pay p captured 1729",                               "@900 deadline",  "Cancelled PartiallyPaid", "cancelled refund.requested#1 status_changed",    "free A*6 B*2; deadline off"),
            (ORDER,             "pay p authorized 1729",                             "@900 deadline",  "Cancelled Unpaid",        "cancelled payment.void_requested status_changed", "free A*6 B*2; deadline off"),
            (ORDER,             "cancel user 1:2",                                   "@900 deadline",  "Cancelled Unpaid",        "cancelled status_changed",                       "free A*4 B*2; deadline off"),
            (ORDER,             "@780 pay p processing 1730",                        "@900 deadline",  "Cancelled Unpaid",        "cancelled status_changed",                       "free A*6 B*2; deadline off"),
            (ORDER,             "@781 pay p processing 1730",                        "@900 deadline",  "PendingPayment Unpaid",   "deadline_extended",                              "deadline +1020"),
            (ORDER,             "@899 pay p processing 1730",                        "@900 deadline",  "PendingPayment Unpaid",   "deadline_extended",                              "deadline +1020"),
            (ORDER,             "@899 pay p processing 1730",                        "@930 deadline",  "PendingPayment Unpaid",   "deadline_extended",                              "deadline +1050"),
            (ORDER,             "@899 pay p processing 1730; pay p failed 1730",     "@900 deadline",  "Cancelled Unpaid",        "cancelled status_changed",                       "free A*6 B*2; deadline off"),
            (ORDER,             "@899 pay p processing 1730; @900 deadline",         "@1019 deadline", "PendingPayment Unpaid",   "",                                               "deadline +1020"),
            (ORDER,             "@899 pay p processing 1730; @900 deadline",         "@1020 deadline", "Cancelled Unpaid",        "cancelled status_changed",                       "free A*6 B*2; deadline off"),
            (ORDER,             "@899 pay p processing 1730; @900 deadline; @1019 pay q processing 1730", "@1020 deadline", "Cancelled Unpaid", "cancelled status_changed",              "free A*6 B*2; deadline off"),
            (ORDER,             "@899 pay p processing 1730; @900 deadline",         "@1000 pay p captured 1730", "Paid Paid",    "paid status_changed",                            "commit A B; deadline off"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_timer_that_the_order_does_not_have_changes_nothing() {
        check_table(&[
            // order                 given                                          when                words               events  effects
            (ORDER,                  "pay p captured 1730",                         "@9999 deadline",   "Paid Paid",        "",     "deadline off"),
            (ORDER,                  "cancel user",                                 "@9999 deadline",   "Cancelled Unpaid", "",     "deadline off"),
            (ORDER,                  "@900 deadline",                               "@9999 deadline",   "Cancelled Unpaid", "",     "deadline off"),
            ("A*6@5 terms=invoice",  "",                                            "@9999 deadline",   "Confirmed Unpaid", "",     "deadline off"),
            (ORDER,                  "",                                            "@9999999 clock",   "PendingPayment Unpaid", "", "clock off"),
            (ORDER,                  "pay p captured 1730; pick 1:2; ship 1",       "@9999999 clock",   "PartiallyShipped Paid", "", "clock off"),
            (ORDER,                  DONE,                                          "@604859 clock",    "Shipped Paid",     "",     "clock +604860"),
            (ORDER,                  "pay p captured 1730; pick; ship 1; deliver 1; complete", "@9999999 clock", "Completed Paid", "", "clock off"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn an_order_completes_a_week_after_its_last_shipment() {
        check_table(&[
            // order  given                                                                      when              words             events                                effects
            (ORDER,   DONE,                                                                      "@604860 clock",  "Completed Paid", "completed status_changed",           "clock off"),
            (ORDER,   "pay p captured 1730; pick; @60 ship 1; deliver 1",                        "@604860 clock",  "Completed Paid", "completed status_changed",           "clock off"),
            (ORDER,   "pay p captured 1730; pick 1:6; @60 ship 1; @70 pick; @80 ship 2",         "@604880 clock",  "Completed Paid", "completed status_changed",           "clock off"),
            (ORDER,   "pay p captured 1730; pick 1:6; @60 ship 1; @70 pick",                     "@80 ship 2",     "Shipped Paid",   "fulfilment.shipped#2 status_changed", "ship B*2; clock +604880"),
        ]);
    }

    #[test]
    fn an_expired_order_says_so_and_gives_money_back() {
        let order = Play::new(ORDER, "pay p captured 1729; @900 deadline").order;
        assert_eq!(order.cancel_reason, Some(CancelReason::Timeout));
        assert_eq!(refunds(&order), "1729 cancelled requested");
        let last = order.events.last().expect("events");
        assert_eq!((last.operator, last.reason.as_ref().map(|reason| reason.as_str())), (Operator::System, Some("timeout")));
    }
}

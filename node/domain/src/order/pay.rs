//! T5 and the refunding branch of T9: the provider tells of a payment. A ledger, not a flag: several attempts may run, and
//! whatever is captured beyond what is due goes back.

use super::command::Change;
use super::effects::{Effects, StockEffect};
use super::{EventKind, Order, Payment, PaymentState, Phase, RefundCause, limits};
use crate::command::Created;
use crate::ids::ProviderPaymentId;
use crate::money::{Currency, Money};
use crate::rejection::Rejection;

impl Order {
    /// Refuses, in this order: another currency, an amount out of range, a step that the known payment cannot take, a full
    /// history for a new one. No phase refuses: money that came is recorded, and refunded if nothing is due.
    pub(super) fn pay(
        &mut self,
        id: &ProviderPaymentId,
        state: PaymentState,
        amount: Money,
        currency: Currency,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        if currency != self.currency {
            return Err(Rejection::WrongCurrency);
        }
        if amount <= Money::ZERO || amount > limits::AMOUNT {
            return Err(Rejection::AmountOutOfRange);
        }
        let known = self.payments.iter().position(|payment| payment.provider_payment_id == *id);
        match known.map(|at| &self.payments[at]) {
            Some(payment) if payment.state == state && payment.amount == amount => return Ok((None, Effects::default())),
            Some(payment) if !payment.may_become(state, amount) => return Err(Rejection::WrongPaymentState),
            Some(_) => {}
            None => self.refuse_full_history()?,
        }

        let covered_before = self.covered();
        match known {
            Some(at) => self.payments[at].become_known(state, amount),
            None => self.payments.push(Payment {
                provider_payment_id: id.clone(),
                state,
                amount,
                at: change.now,
                void_requested: false,
            }),
        }
        if covered_before || !self.covered() {
            change.tell(EventKind::PaymentRecorded);
        }
        self.confirm_if_covered(covered_before, &mut change);
        if self.phase == Phase::Cancelled {
            self.void_authorizations(&mut change);
        }
        if state == PaymentState::Captured {
            let surplus = self.surplus().min(amount);
            self.request_refund(surplus, RefundCause::Surplus(id.clone()), &mut change);
        }
        let created = known.is_none().then_some(Created::Payment);
        Ok((created, self.finish(change)))
    }

    /// Tells when the order has become covered by this change, and confirms it if it waited for that.
    pub(super) fn confirm_if_covered(&mut self, covered_before: bool, change: &mut Change) {
        if covered_before || !self.covered() || self.phase == Phase::Cancelled {
            return;
        }
        change.tell(EventKind::Paid);
        if self.phase == Phase::PendingPayment {
            self.phase = Phase::Confirmed;
            self.payment_due_at = None;
            let skus = self.holding().into_iter().map(|(sku, _)| sku).collect();
            change.effects.stock.push(StockEffect::Commit { skus });
        }
    }

    /// Asks the provider to give authorisations up, because the order has ended.
    pub(super) fn void_authorizations(&mut self, change: &mut Change) {
        let open = |payment: &&mut Payment| payment.state == PaymentState::Authorized && !payment.void_requested;
        let mut any = false;
        for payment in self.payments.iter_mut().filter(open) {
            payment.void_requested = true;
            any = true;
        }
        if any {
            change.tell(EventKind::VoidRequested);
        }
    }
}

impl Payment {
    /// Forwards only: processing, authorised, then one of the ends. The amount stays, except that less may be captured than
    /// was authorised.
    fn may_become(&self, state: PaymentState, amount: Money) -> bool {
        use PaymentState::{Authorized, Captured, Failed, Processing, Voided};
        match (self.state, state) {
            (Processing, Authorized | Captured | Failed | Voided) | (Authorized, Failed | Voided) => amount == self.amount,
            (Authorized, Captured) => amount <= self.amount,
            _ => false,
        }
    }

    fn become_known(&mut self, state: PaymentState, amount: Money) {
        self.state = state;
        self.amount = amount;
    }
}

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, check_refusals, check_table, refunds, units};

    const ORDER: &str = "A*6@255 B*2@100";
    const CAPTURED: &str = "pay p captured 1730";
    const CANCELLED: &str = "cancel user";
    const NO_STEP: &str = "the payment cannot change like this";

    #[test]
    #[rustfmt::skip]
    fn a_payment_is_recorded_and_confirms_when_it_covers() {
        check_table(&[
            // order                 given                                             when                        words                       events                                   effects
            (ORDER,                  "",                                               "pay p processing 1730",    "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "",                                               "pay p failed 1730",        "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "",                                               "pay p voided 1730",        "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "",                                               "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "",                                               "pay p authorized 1730",    "Paid Authorized",          "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "",                                               "pay p captured 1729",      "PendingPayment PartiallyPaid", "payment.recorded",                  ""),
            (ORDER,                  "",                                               "pay p authorized 1729",    "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "pay p captured 1729",                            "pay q captured 1",         "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p captured 1000",                            "pay q authorized 730",     "Paid PartiallyPaid",       "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p processing 1730",                          "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p processing 1730; pay p authorized 1730",   "pay p captured 1730",      "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  "pay p authorized 1730",                          "pay p captured 1000",      "Confirmed PartiallyPaid",  "payment.recorded status_changed",       ""),
            (ORDER,                  "pay p authorized 1730",                          "pay p voided 1730",        "Confirmed Unpaid",         "payment.recorded status_changed",       ""),
            (ORDER,                  "pay p authorized 1730",                          "pay p failed 1730",        "Confirmed Unpaid",         "payment.recorded status_changed",       ""),
            (ORDER,                  "pay p processing 1730",                          "pay p failed 1730",        "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "pay p failed 1730",                              "pay q captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            ("A*1@5 A*2@3",          "",                                               "pay p captured 11",        "Paid Paid",                "paid status_changed",                   "commit A; deadline off"),
            ("A*6@5 terms=invoice",  "",                                               "pay p captured 10",        "Confirmed PartiallyPaid",  "payment.recorded",                      ""),
            ("A*6@5 terms=invoice",  "pay p captured 10",                              "pay q captured 20",        "Paid Paid",                "paid status_changed",                   ""),
            ("A*6@5 terms=invoice",  "pick; ship 1; deliver 1; complete",              "pay p captured 30",        "Completed Paid",           "paid",                                  ""),
            ("A*6@5 terms=on_delivery", "pick; ship 1",                                "pay p captured 30",        "Shipped Paid",             "paid",                                  ""),
            ("A*6@0",                "",                                               "pay p captured 30",        "Paid Paid",                "payment.recorded refund.requested#1",   ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn the_same_fact_again_changes_nothing() {
        check_table(&[
            (ORDER,  "pay p processing 1730",        "pay p processing 1730", "PendingPayment Unpaid", "", ""),
            (ORDER,  "pay p authorized 1730",        "pay p authorized 1730", "Paid Authorized",       "", ""),
            (ORDER,  CAPTURED,                       CAPTURED,                "Paid Paid",             "", ""),
            (ORDER,  "pay p failed 1730",            "pay p failed 1730",     "PendingPayment Unpaid", "", ""),
            (ORDER,  "pay p voided 1730",            "pay p voided 1730",     "PendingPayment Unpaid", "", ""),
            (ORDER,  "cancel user; pay p captured 9", "pay p captured 9",     "Cancelled PartiallyPaid", "", ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn payments_are_refused_in_this_order() {
        check_refusals(&[
            // order  given                      when                            refusal
            (ORDER,   "",                        "pay p captured 0 EUR",         "the order is in another currency"),
            (ORDER,   CAPTURED,                  "pay p captured 1730 EUR",      "the order is in another currency"),
            (ORDER,   "",                        "pay p captured 0",             "an amount is out of range"),
            (ORDER,   "",                        "pay p captured -5",            "an amount is out of range"),
            (ORDER,   "",                        "pay p captured 100000000000001", "an amount is out of range"),
            (ORDER,   CAPTURED,                  "pay p captured 0",             "an amount is out of range"),
            (ORDER,   CAPTURED,                  "pay p captured 1729",          NO_STEP),
            (ORDER,   CAPTURED,                  "pay p processing 1730",        NO_STEP),
            (ORDER,   CAPTURED,                  "pay p authorized 1730",        NO_STEP),
            (ORDER,   CAPTURED,                  "pay p failed 1730",            NO_STEP),
            (ORDER,   CAPTURED,                  "pay p voided 1730",            NO_STEP),
            (ORDER,   "pay p failed 1730",       "pay p captured 1730",          NO_STEP),
            (ORDER,   "pay p voided 1730",       "pay p captured 1730",          NO_STEP),
            (ORDER,   "pay p authorized 1730",   "pay p processing 1730",        NO_STEP),
            (ORDER,   "pay p authorized 1730",   "pay p captured 1731",          NO_STEP),
            (ORDER,   "pay p authorized 1730",   "pay p authorized 1000",        NO_STEP),
            (ORDER,   "pay p authorized 1730",   "pay p voided 1000",            NO_STEP),
            (ORDER,   "pay p processing 1730",   "pay p captured 1729",          NO_STEP),
            (ORDER,   "pay p processing 1730",   "pay p authorized 1731",        NO_STEP),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn late_money_is_recorded_and_refunded() {
        check_table(&[
            // order  given                                       when                     words                       events                                                   effects
            (ORDER,   "@900 deadline",                            "pay p captured 1730",   "Cancelled Paid",           "payment.recorded refund.requested#1",                   ""),
            (ORDER,   "@900 deadline; pay p captured 1730",       "pay q captured 1730",   "Cancelled Paid",           "payment.recorded refund.requested#2",                   ""),
            (ORDER,   CANCELLED,                                  "pay p captured 5",      "Cancelled PartiallyPaid",  "payment.recorded refund.requested#1",                   ""),
            (ORDER,   CANCELLED,                                  "pay p processing 1730", "Cancelled Unpaid",         "payment.recorded",                                      ""),
            (ORDER,   CANCELLED,                                  "pay p authorized 1730", "Cancelled Authorized",     "payment.recorded payment.void_requested",               ""),
            (ORDER,   "pay p authorized 1730; cancel user",       "pay p voided 1730",     "Cancelled Unpaid",         "payment.recorded",                                      ""),
            (ORDER,   "pay p authorized 1730; cancel user",       "pay p captured 1730",   "Cancelled Paid",           "payment.recorded refund.requested#1",                   ""),
            (ORDER,   "pay p processing 1730; cancel user",       "pay p failed 1730",     "Cancelled Unpaid",         "payment.recorded",                                      ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_captured_beyond_due_goes_back_once() {
        let rows = [
            // order                given                                                                      refunds
            (ORDER,                 "pay p captured 1731",                                                     "1 surplus of p requested"),
            (ORDER,                 "pay p captured 1730; pay q captured 1730",                                "1730 surplus of q requested"),
            (ORDER,                 "pay p captured 1730; pay q captured 1730; pay q captured 1730",           "1730 surplus of q requested"),
            (ORDER,                 "pay p captured 1000; pay q captured 1000",                                "270 surplus of q requested"),
            (ORDER,                 "pay p authorized 1730; pay q captured 1730; pay p captured 1730",         "1730 surplus of p requested"),
            (ORDER,                 "pay p authorized 1730; pay q captured 1730; pay p voided 1730",           ""),
            (ORDER,                 "pay p captured 1731; refund-failed 1; pay q captured 50",                 "1 surplus of p failed, 50 surplus of q requested"),
            (ORDER,                 "pay p authorized 1730; cancel user 2:2; pay p captured 1730",             "200 surplus of p requested"),
            (ORDER,                 "pay p captured 1730; refund 300; pay q captured 1730",                    "300 asked requested, 1730 surplus of q requested"),
            (ORDER,                 "@900 deadline; pay p captured 1730",                                      "1730 surplus of p requested"),
            (ORDER,                 "pay p captured 700; @900 deadline; pay q captured 1730",                  "700 cancelled requested, 1730 surplus of q requested"),
            ("A*6@0",               "pay p captured 30",                                                       "30 surplus of p requested"),
            ("A*6@5 terms=invoice", "pick; ship 1; deliver 1; complete; pay p captured 31",                    "1 surplus of p requested"),
            ("A*6@5 terms=invoice", "pay p captured 20; refund 20; pay q captured 30",                         "20 asked requested"),
        ];
        for (order, given, expected) in rows {
            assert_eq!(refunds(&Play::new(order, given).order), expected, "{order} | {given}");
        }
    }

    #[test]
    fn pay_and_expire_in_both_orders() {
        // The deadline has passed, the tick has not come: in time (rule 22).
        let first = Play::new(ORDER, "@900 pay p captured 1730; deadline");
        assert_eq!((units(&first.order), refunds(&first.order)), ("6 held, 2 held".into(), String::new()));
        // Pay second is T9: the money goes back.
        let second = Play::new(ORDER, "@900 deadline; pay p captured 1730");
        assert_eq!(units(&second.order), "6 cancelled, 2 cancelled");
        assert_eq!(refunds(&second.order), "1730 surplus of p requested");
    }

    #[test]
    fn a_payment_keeps_the_time_it_was_first_heard_of() {
        let play = Play::new(ORDER, "@10 pay p processing 1730; @20 pay p captured 1730");
        assert_eq!(play.order.payments[0].at, crate::order::testing::at(10));
    }
}

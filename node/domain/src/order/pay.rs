//! T5 and the refunding branch of T9: the provider tells of a payment. A ledger, not a flag: several attempts may run, each
//! takes whatever is told of it (`payment`), and whatever is captured beyond what is due goes back.

use super::command::Change;
use super::effects::{Effects, StockEffect};
use super::{EventKind, Order, Payment, PaymentFact, Phase, RefundCause, limits};
use crate::command::{Created, PaymentTold};
use crate::money::Money;
use crate::rejection::Rejection;

impl Order {
    /// Refuses, in this order: another currency, an amount out of range, what contradicts the facts before it, a full history
    /// for a new attempt or one that was told of often. Neither the phase nor where the attempt stands refuses a fact: money
    /// that came is recorded, and refunded if nothing is due.
    pub(super) fn pay(&mut self, told: &PaymentTold, mut change: Change) -> Result<(Option<Created>, Effects), Rejection> {
        if told.currency != self.currency {
            return Err(Rejection::WrongCurrency);
        }
        if told.amount <= Money::ZERO || told.amount > limits::AMOUNT {
            return Err(Rejection::AmountOutOfRange);
        }
        let known = self.payments.iter().position(|payment| payment.is(&told.provider, &told.provider_payment_id));
        let mut payment = known.map_or_else(|| Payment::new(told, change.now), |at| self.payments[at].clone());
        let (state, part) = (told.state, told.part.clone());
        if !payment.tell(PaymentFact { state, part, amount: told.amount, occurred_at: told.occurred_at })? {
            return Ok((None, Effects::default()));
        }
        if known.is_none() {
            self.refuse_full_history()?;
        }
        if payment.facts.len() > limits::FACTS {
            return Err(Rejection::HistoryFull { limit: limits::FACTS });
        }

        let (covered_before, kept_before) = (self.covered(), self.kept());
        let at = known.unwrap_or(self.payments.len());
        match known {
            Some(at) => self.payments[at] = payment,
            None => self.payments.push(payment),
        }
        if covered_before || !self.covered() || self.phase == Phase::Cancelled {
            change.tell(EventKind::PaymentRecorded);
        }
        self.confirm_if_covered(covered_before, &mut change);
        if self.phase == Phase::Cancelled {
            self.void_authorizations(&mut change);
        }
        let brought = Money(self.kept().0 - kept_before.0);
        let cause = RefundCause::Surplus(told.provider_payment_id.clone());
        self.request_refund(self.surplus().min(brought), Some(at), cause, &mut change);
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
        let open = |payment: &&mut Payment| payment.authorized() > Money::ZERO && !payment.void_requested;
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

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, check_refusals, check_table, refunds, units};

    const ORDER: &str = "A*6@255 B*2@100";
    const CAPTURED: &str = "pay p captured 1730";
    const CANCELLED: &str = "cancel user";
    const FACTS: [&str; 10] = [
        "processing",
        "authorized",
        "captured",
        "failed",
        "voided",
        "expired",
        "capture_failed",
        "disputed",
        "dispute_won",
        "dispute_lost",
    ];
    /// Where an attempt can stand.
    const STANDING: [&str; 16] = [
        "",
        "pay p processing 700",
        "pay p authorized 700",
        "pay p authorized 700; pay p captured 300",
        "pay p authorized 700; pay p captured 700",
        "pay p captured 700",
        "pay p captured 300 part=c",
        "pay p failed 700",
        "pay p authorized 700; pay p failed 700",
        "pay p captured 700; pay p failed 700",
        "pay p voided 700",
        "pay p authorized 700; pay p expired 700",
        "pay p captured 700; pay p capture_failed 700",
        "pay p captured 700; pay p disputed 700",
        "pay p captured 700; pay p disputed 700; pay p dispute_won 700",
        "pay p captured 700; pay p disputed 700; pay p dispute_lost 700",
    ];

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
            (ORDER,                  "pay p authorized 1730",                          "pay p captured 1000",      "Paid PartiallyPaid",       "payment.recorded",                      ""),
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
            (ORDER,  "pay p captured 1000; pay p captured 1730", "pay p captured 1000", "Paid Paid",   "", ""),
            (ORDER,  "pay p captured 1730 part=c",   "pay p captured 1730 part=c", "Paid Paid",        "", ""),
            (ORDER,  "pay p failed 1730; pay p captured 1730", "pay p failed 1730", "Paid Paid",       "", ""),
            // The provider says once more what a failure has put in doubt; by its own clock it says nothing new.
            (ORDER,  "pay p captured 1730; pay p failed 1730",  CAPTURED,     "Paid Paid",             "payment.recorded released", ""),
            (ORDER,  "pay p captured 1730 told=5; pay p failed 1730 told=6", "pay p captured 1730 told=5", "Paid Paid", "", ""),
            (ORDER,  "pay p captured 1730 told=5; pay p failed 1730 told=6", "pay p captured 1730 told=7", "Paid Paid", "payment.recorded released", ""),
        ]);
    }

    /// A declined card that pays at last, a capture in parts, more than was authorised, less than was in process.
    #[test]
    #[rustfmt::skip]
    fn facts_come_in_any_order() {
        check_table(&[
            // order                 given                                             when                        words                       events                                   effects
            (ORDER,                  "pay p failed 1730",                              "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p failed 1730",                              "pay p authorized 1730",    "Paid Authorized",          "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p processing 1730; pay p failed 1730",       "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p authorized 1730; pay p voided 1730",       "pay p captured 1730",      "Paid Paid",                "paid released status_changed",          "deadline off"),
            (ORDER,                  "pay p voided 1730",                              "pay p authorized 1730",    "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  CAPTURED,                                         "pay p authorized 1730",    "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  CAPTURED,                                         "pay p processing 1730",    "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  CAPTURED,                                         "pay p voided 1730",        "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  CAPTURED,                                         "pay p expired 1730",       "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  "pay p authorized 1730; pay p captured 1000",     "pay p captured 1730",      "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  "pay p captured 1000 part=c1",                    "pay p captured 730 part=c2", "Paid Paid",              "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p captured 1000 part=c1",                    "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
            (ORDER,                  "pay p authorized 1730",                          "pay p captured 1990",      "Paid Paid",                "payment.recorded refund.requested#1",   ""),
            (ORDER,                  "pay p processing 1730",                          "pay p captured 1700",      "PendingPayment PartiallyPaid", "payment.recorded",                  ""),
            (ORDER,                  "pay p captured 1730",                            "pay p captured 1730 by=card", "Paid Paid",             "payment.recorded refund.requested#1",   ""),
            (ORDER,                  "pay p capture_failed 1730",                      "pay p captured 1730",      "PendingPayment Unpaid",    "payment.recorded",                      ""),
            (ORDER,                  "pay p dispute_won 1730; pay p disputed 1730",    "pay p captured 1730",      "Paid Paid",                "paid status_changed",                   "commit A B; deadline off"),
        ]);
    }

    /// No goods without cover.
    #[test]
    #[rustfmt::skip]
    fn without_cover_an_order_is_on_hold() {
        check_table(&[
            // order                 given                                             when                        words                       events                                   effects
            (ORDER,                  "pay p authorized 1730",                          "@9 pay p voided 1730",     "OnHold Unpaid",            "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  "pay p authorized 1730",                          "@9 pay p failed 1730",     "OnHold Unpaid",            "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  "pay p authorized 1730",                          "@9 pay p expired 1730",    "OnHold Unpaid",            "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  "pay p authorized 1730; pay p captured 1000",     "@9 pay p voided 730",      "OnHold PartiallyPaid",     "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  CAPTURED,                                         "@9 pay p capture_failed 1730", "OnHold Unpaid",        "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  CAPTURED,                                         "@9 pay p disputed 30",     "OnHold Disputed",          "payment.recorded on_hold status_changed", "deadline +909"),
            (ORDER,                  "pay p captured 1730; pay p disputed 30",         "pay p dispute_won 30",     "Paid Paid",                "paid released status_changed",          "deadline off"),
            (ORDER,                  "pay p captured 1730; pay p disputed 30",         "pay p dispute_lost 30",    "OnHold Disputed",          "payment.recorded",                      ""),
            (ORDER,                  "pay p authorized 1730; pay p voided 1730",       "pay q captured 1730",      "Paid Paid",                "paid released status_changed",          "deadline off"),
            (ORDER,                  "pay p authorized 1730; pay p voided 1730",       "pick",                     "the order is on hold: its payments do not cover what is due", "",   ""),
            (ORDER,                  "pay p authorized 1730; pick; pay p voided 1730", "ship 1",                   "the order is on hold: its payments do not cover what is due", "",   ""),
            (ORDER,                  "pay p authorized 1730; pick; pay p voided 1730", "@900 deadline",            "Cancelled Unpaid",         "fulfilment.cancelled#1 cancelled status_changed", "free A*6 B*2; deadline off"),
            (ORDER,                  "pay p authorized 1730; @9 pay p voided 1730",    "@908 deadline",            "OnHold Unpaid",            "",                                      "deadline +909"),
            (ORDER,                  "pay p authorized 1730; @9 pay p voided 1730; pay q captured 9", "@909 deadline", "Cancelled PartiallyPaid", "cancelled refund.requested#1 status_changed", "free A*6 B*2; deadline off"),
            (ORDER,                  "pay p authorized 1730; pay p voided 1730; @899 pay q processing 1730", "@900 deadline", "OnHold Unpaid", "deadline_extended",                   "deadline +1020"),
            (ORDER,                  "pay p authorized 1730; pick 1:6; ship 1; pay p voided 1730", "@900 deadline", "Shipped Unpaid",         "line_changed status_changed",           "free B*2; deadline off; clock +604800"),
            (ORDER,                  "pay p authorized 1730; pay p voided 1730",       "cancel user",              "Cancelled Unpaid",         "cancel_requested cancelled status_changed", "free A*6 B*2; deadline off"),
            (ORDER,                  "pay p captured 1530; pay q authorized 200; pay q voided 200", "cancel user 2:2", "Paid Paid",             "line_changed paid released status_changed", "free B*2; deadline off"),
            // What has left is owed; what need not be paid before it leaves is not stopped.
            (ORDER,                  "pay p captured 1730; pick; ship 1",              "pay p capture_failed 1730", "Shipped Unpaid",          "payment.recorded",                      ""),
            ("A*6@5 terms=invoice",  "pay p captured 30",                              "pay p capture_failed 30",  "Confirmed Unpaid",         "payment.recorded status_changed",       ""),
            // A failure that is told after a capture decides nothing, and lets nothing leave.
            (ORDER,                  CAPTURED,                                         "pay p failed 1730",        "Paid Paid",                "payment.recorded on_hold",              ""),
            (ORDER,                  "pay p captured 1730; pay p failed 1730",         "pick",                     "the order is on hold: its provider told of a failure after a capture", "", ""),
            (ORDER,                  "pay p captured 1730; pay p failed 1730",         "pay p capture_failed 1730", "OnHold Unpaid",           "payment.recorded on_hold status_changed", "deadline +900"),
            (ORDER,                  "pay p captured 1730 told=6",                     "pay p failed 1730 told=5", "Paid Paid",                "payment.recorded",                      ""),
            (ORDER,                  "pay p failed 1730 told=6",                       "pay p captured 1730 told=5", "Paid Paid",              "paid on_hold status_changed",           "commit A B; deadline off"),
        ]);
    }

    #[test]
    fn what_is_owed_and_what_is_to_be_captured_is_told() {
        let rows = [
            // given                                                            owed, to be captured
            ("", (1730, 0)),
            ("pay p authorized 1730", (1730, 0)),
            ("pay p authorized 1730; pick 1:2; ship 1", (1730, 510)),
            ("pay p authorized 1730; pick 1:2; ship 1; pay p captured 510", (1220, 0)),
            ("pay p authorized 1730; pick 1:2; ship 1; pay p captured 500", (1230, 10)),
            ("pay p authorized 1730; pick; ship 1", (1730, 1730)),
            ("pay p captured 1730; pick; ship 1; pay p capture_failed 1730", (1730, 0)),
            ("pay p captured 1730; pick; ship 1; pay p disputed 1730", (1730, 0)),
            ("pay p captured 1730; cancel user; pay p capture_failed 1730", (1730, 0)),
        ];
        for (given, expected) in rows {
            let order = Play::new(ORDER, given).order;
            assert_eq!((order.owed().0, order.capture_due().0), expected, "{given}");
        }
        let with_carriage = Play::new("A*2@100 shipping=30", "pay p authorized 230; pick 1:1; ship 1").order;
        assert_eq!(with_carriage.capture_due().0, 130, "the carriage leaves with the first parcel");
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
            (ORDER,   CAPTURED,                  "pay p captured 1729",          "1729 is told, and 1730 was told before: a sum never becomes smaller, a part keeps its amount"),
            (ORDER,   "pay p authorized 1730",   "pay p authorized 1000",        "1000 is told, and 1730 was told before: a sum never becomes smaller, a part keeps its amount"),
            (ORDER,   "pay p disputed 5",        "pay p disputed 4",             "4 is told, and 5 was told before: a sum never becomes smaller, a part keeps its amount"),
            (ORDER,   "pay p captured 5 part=c", "pay p captured 6 part=c",      "6 is told, and 5 was told before: a sum never becomes smaller, a part keeps its amount"),
            (ORDER,   "pay p captured 1 part=c", "pay p captured 100000000000000 part=d", "an amount is out of range"),
        ]);
    }

    /// Whatever the order is, and wherever the attempt stands: what the provider tells is taken.
    #[test]
    fn no_state_refuses_a_fact() {
        const GIVEN: [&str; 9] = [
            "",
            "pay q captured 1730",
            "pay q captured 1730; pick",
            "pay q captured 1730; pick 1:2; ship 1",
            "pay q captured 1730; pick; ship 1; deliver 1",
            "pay q captured 1730; pick; ship 1; deliver 1; complete",
            "pay q authorized 1730; pay q voided 1730",
            "cancel user",
            "@900 deadline",
        ];
        const ORDERS_COMMANDS: [&str; 14] = [
            "cancel user",
            "cancel user 1:1",
            "pick",
            "pick 1:1",
            "ship 1",
            "unpick 1",
            "deliver 1",
            "complete",
            "refund 5",
            "refund 1:1",
            "refund-failed 1",
            "refund-succeeded 1",
            "@9999999 deadline",
            "short A 1",
        ];
        for given in GIVEN {
            for fact in FACTS {
                for command in ORDERS_COMMANDS {
                    let mut after = Play::new(ORDER, given);
                    let done = after.step(command).is_ok();
                    after.step(&format!("pay p {fact} 700")).unwrap_or_else(|no| panic!("{given} | {command} | {fact}: {no}"));
                    let mut before = Play::new(ORDER, given);
                    before.step(&format!("pay p {fact} 700")).unwrap_or_else(|no| panic!("{given} | {fact}: {no}"));
                    let _ = before.step(command);
                    for order in [&after.order, &before.order] {
                        assert_eq!(order.violations(), [], "{given} | {command} | {fact}, {done}");
                    }
                    let came = |order: &crate::Order| (order.captured(), order.disputed());
                    assert_eq!(came(&after.order), came(&before.order), "{given} | {command} | {fact}");
                }
            }
        }
    }

    /// The table of an attempt: where it stands, what is told, where it stands then with what is authorised, captured and
    /// disputed of it.
    #[test]
    fn every_state_of_an_attempt_takes_every_fact() {
        let told: Vec<String> = STANDING
            .iter()
            .map(|given| {
                let cells = FACTS.iter().map(|fact| {
                    let mut play = Play::new(ORDER, given);
                    play.step(&format!("pay p {fact} 700")).unwrap_or_else(|no| panic!("{given} | {fact}: {no}"));
                    let payment = &play.order.payments[0];
                    let amounts = (payment.authorized(), payment.captured(), payment.disputed());
                    format!("{:?} {}/{}/{}", payment.state(), amounts.0, amounts.1, amounts.2)
                });
                format!("{given} | {}", cells.collect::<Vec<_>>().join(", "))
            })
            .collect();
        let expected: Vec<&str> = include_str!("attempts.txt").lines().collect();
        assert_eq!(told, expected, "\n{}", told.join("\n"));
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

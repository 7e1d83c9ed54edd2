//! T15: money goes back, because somebody asked or because the ledger says so; and how that ended.
//!
//! A refund that somebody asks for returns what was overpaid first. What it takes beyond that from an order that is covered
//! is forgiven: it lowers what is due, so that nobody is asked to pay it again.

use super::command::Change;
use super::effects::Effects;
use super::share::worth;
use super::{EventKind, Order, Refund, RefundCause, RefundState};
use crate::command::Created;
use crate::ids::{RefundId, Text};
use crate::money::{Money, Quantity};
use crate::rejection::Rejection;

impl Order {
    /// Refuses, in this order: neither amount nor lines, an amount that is not positive, lines that do not exist or ask for
    /// no units or for more than are neither cancelled nor refunded, an amount that the lines do not come to, nothing to
    /// pay back for the lines, more than is kept of the captured money, a full history.
    pub(super) fn refund(
        &mut self,
        amount: Option<Money>,
        lines: &[(u32, Quantity)],
        reason: Option<&Text>,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        if amount.is_some_and(|amount| amount <= Money::ZERO) || (amount.is_none() && lines.is_empty()) {
            return Err(Rejection::AmountOutOfRange);
        }
        let units = self.named_units(lines, |number, line| {
            Quantity((line.ordered.0 - line.cancelled.0).saturating_sub(self.refunded_units(number).0))
        })?;
        let units: Vec<(u32, Quantity)> = units.into_iter().collect();
        let parts: Vec<(u32, Money)> = self.refund_parts(&units);
        let asked = match (amount, Money(parts.iter().map(|(_, amount)| amount.0).sum())) {
            (Some(amount), _) if units.is_empty() => amount,
            (Some(claimed), actual) if claimed != actual => return Err(Rejection::TotalMismatch { claimed, actual }),
            (_, Money::ZERO) => return Err(Rejection::NothingLeft),
            (_, parts) => parts,
        };
        if asked > self.kept() {
            return Err(Rejection::RefundTooLarge { asked, available: self.kept() });
        }
        self.refuse_full_history()?;

        change.reason = reason.cloned();
        let forgiven = if self.kept() >= self.due() { Money((asked.0 - self.surplus().0).max(0)) } else { Money::ZERO };
        let number = self.push_refund(asked, parts, RefundCause::Asked(reason.cloned()), &mut change);
        let refund = self.refunds.last_mut().expect("it has just been pushed");
        refund.units = units;
        refund.forgiven = forgiven;
        let created = Created::Refund(self.refund_id(number));
        Ok((Some(created), self.finish(change)))
    }

    /// Refuses, in this order: an unknown refund, `requested` as an outcome, the other outcome than the one known.
    pub(super) fn refund_outcome(
        &mut self,
        id: RefundId,
        state: RefundState,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        let at = (id.number as usize).checked_sub(1).filter(|&at| id.order == self.id && at < self.refunds.len());
        let at = at.ok_or(Rejection::NoSuchRefund(id))?;
        let told = match state {
            RefundState::Requested => return Err(Rejection::WrongRefundState),
            RefundState::Succeeded => EventKind::RefundSucceeded(id.number),
            RefundState::Failed => EventKind::RefundFailed(id.number),
        };
        match self.refunds[at].state {
            RefundState::Requested => {}
            known if known == state => return Ok((None, Effects::default())),
            _ => return Err(Rejection::WrongRefundState),
        }

        let covered_before = self.covered();
        self.refunds[at].state = state;
        change.tell(told);
        self.confirm_if_covered(covered_before, &mut change);
        Ok((None, self.finish(change)))
    }

    /// Asks for a refund that the ledger demands; none when the amount is zero.
    pub(super) fn request_refund(&mut self, amount: Money, cause: RefundCause, change: &mut Change) {
        self.request_refund_of(Vec::new(), amount, cause, change);
    }

    /// The same, saying how much is for which line when that adds up to the amount.
    pub(super) fn request_refund_of(
        &mut self,
        parts: Vec<(u32, Money)>,
        amount: Money,
        cause: RefundCause,
        change: &mut Change,
    ) {
        let sum: i64 = parts.iter().map(|(_, amount)| amount.0).sum();
        let parts = if sum == amount.0 { parts } else { Vec::new() };
        if amount > Money::ZERO {
            self.push_refund(amount, parts, cause, change);
        }
    }

    fn push_refund(&mut self, amount: Money, lines: Vec<(u32, Money)>, cause: RefundCause, change: &mut Change) -> u32 {
        let number = u32::try_from(self.refunds.len() + 1).expect("a timeline has far fewer events");
        let (state, at) = (RefundState::Requested, change.now);
        let (units, forgiven) = (Vec::new(), Money::ZERO);
        self.refunds.push(Refund { number, amount, lines, state, cause, at, units, forgiven });
        change.tell(EventKind::RefundRequested(number));
        number
    }

    /// Units of a line that refunds, asked for and not failed, pay back.
    fn refunded_units(&self, number: u32) -> Quantity {
        let units = self.live_refunds().flat_map(|refund| &refund.units);
        Quantity(units.filter(|(line, _)| *line == number).map(|(_, quantity)| quantity.0).sum())
    }

    /// What these units are worth beyond what is cancelled and what was refunded for units of their lines before. The parts
    /// of a line add up to its share.
    fn refund_parts(&self, units: &[(u32, Quantity)]) -> Vec<(u32, Money)> {
        if units.is_empty() {
            return Vec::new();
        }
        let shares = self.line_shares();
        let part = |&(number, quantity): &(u32, Quantity)| {
            let (line, share) = (&self.lines[number as usize - 1], shares[number as usize - 1]);
            let by_units = self.live_refunds().filter(|refund| !refund.units.is_empty());
            let before = by_units.flat_map(|refund| &refund.lines).filter(|(line, _)| *line == number);
            let before: i64 = before.map(|(_, amount)| amount.0).sum();
            let upto = Quantity(line.cancelled.0 + self.refunded_units(number).0 + quantity.0);
            let gone = worth(share, line.ordered, line.cancelled);
            (number, Money((worth(share, line.ordered, upto).0 - gone.0 - before).max(0)))
        };
        units.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Created;
    use crate::order::testing::{Play, check_refusals, check_table, refunds};

    const ORDER: &str = "A*6@255 B*2@100";
    const PAID: &str = "pay p captured 1730";
    const REFUNDED: &str = "pay p captured 1730; refund 1730; refund-succeeded 1";

    #[test]
    #[rustfmt::skip]
    fn money_goes_back_on_demand() {
        check_table(&[
            // order                given                                               when                   words                     events                effects
            (ORDER,                 PAID,                                               "refund 100",          "Paid Paid",              "refund.requested#1", ""),
            (ORDER,                 PAID,                                               "refund 1730",         "Paid Paid",              "refund.requested#1", ""),
            (ORDER,                 PAID,                                               "refund 1:2",          "Paid Paid",              "refund.requested#1", ""),
            (ORDER,                 PAID,                                               "refund 510 1:2",      "Paid Paid",              "refund.requested#1", ""),
            (ORDER,                 "pay p captured 1730; refund 100",                  "refund-succeeded 1",  "Paid PartiallyRefunded", "refund.succeeded#1", ""),
            (ORDER,                 "pay p captured 1730; refund 100",                  "refund-failed 1",     "Paid Paid",              "refund.failed#1",    ""),
            (ORDER,                 "pay p captured 1730; refund 1730",                 "refund-succeeded 1",  "Paid Refunded",          "refund.succeeded#1", ""),
            (ORDER,                 REFUNDED,                                           "refund-succeeded 1",  "Paid Refunded",          "",                   ""),
            (ORDER,                 "pay p captured 1730; refund 1; refund-failed 1",   "refund-failed 1",     "Paid Paid",              "",                   ""),
            (ORDER,                 "pay p captured 1730; refund 1730; refund-failed 1", "refund 1730",        "Paid Paid",              "refund.requested#2", ""),
            (ORDER,                 "pay p captured 1730; cancel user; refund-failed 1", "refund 1730",        "Cancelled Paid",         "refund.requested#2", ""),
            (ORDER,                 "pay p captured 1730; cancel user",                 "refund-succeeded 1",  "Cancelled Refunded",     "refund.succeeded#1", ""),
            (ORDER,                 "pay p captured 1730; pick; ship 1; deliver 1; complete", "refund 1:1",    "Completed Paid",         "refund.requested#1", ""),
            (ORDER,                 "pay p captured 500",                               "refund 500",          "PendingPayment PartiallyPaid", "refund.requested#1", ""),
            // Money taken back from an unpaid order has to be paid again; when that refund fails it is paid after all.
            (ORDER,                 "pay p captured 500; refund 500",                   "pay q captured 1230", "PendingPayment PartiallyPaid", "payment.recorded", ""),
            (ORDER,                 "pay p captured 500; refund 500; pay q captured 1230", "refund-failed 1",  "Paid Paid",              "refund.failed#1 paid status_changed", "commit A B; deadline off"),
            ("A*6@5 terms=invoice", "pay p captured 30; refund 30",                     "pay q captured 5",    "Paid Paid",              "payment.recorded refund.requested#2", ""),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn refunds_are_refused_in_this_order() {
        check_refusals(&[
            // order             given                                           when                   refusal
            (ORDER,              "",                                             "refund",              "an amount is out of range"),
            (ORDER,              PAID,                                           "refund 0",            "an amount is out of range"),
            (ORDER,              PAID,                                           "refund -1 9:9",       "an amount is out of range"),
            (ORDER,              PAID,                                           "refund 1:7 3:1",      "the order has no line 3"),
            (ORDER,              PAID,                                           "refund 1:7 0:1",      "the order has no line 0"),
            (ORDER,              PAID,                                           "refund 1:7 2:0",      "line 2 has quantity 0, it must be between 1 and 1000000000"),
            (ORDER,              PAID,                                           "refund 1 1:7",        "line 1 has 6 units for this, asked 7"),
            (ORDER,              "pay p captured 1730; cancel user 1:2",         "refund 1:5",          "line 1 has 4 units for this, asked 5"),
            (ORDER,              "pay p captured 1730; refund 1:2",              "refund 1:5",          "line 1 has 4 units for this, asked 5"),
            (ORDER,              "pay p captured 1730; refund 1:6; cancel user 1:3", "refund 1:1",      "line 1 has 0 units for this, asked 1"),
            (ORDER,              "pay p captured 1730; cancel user",             "refund 1:1",          "line 1 has 0 units for this, asked 1"),
            (ORDER,              PAID,                                           "refund 511 1:2",      "the total is 510, not 511"),
            ("A*1@0 B*1@5",      "pay p captured 5",                             "refund 1:1",          "nothing is left for this"),
            (ORDER,              "",                                             "refund 1",            "at most 0 can be refunded, asked 1"),
            (ORDER,              "pay p authorized 1730",                        "refund 1",            "at most 0 can be refunded, asked 1"),
            (ORDER,              PAID,                                           "refund 1731",         "at most 1730 can be refunded, asked 1731"),
            (ORDER,              "pay p captured 1730; refund 1000",             "refund 731",          "at most 730 can be refunded, asked 731"),
            (ORDER,              "pay p captured 1730; refund 1000",             "refund 1:6",          "at most 730 can be refunded, asked 1530"),
            (ORDER,              REFUNDED,                                       "refund 1",            "at most 0 can be refunded, asked 1"),
            (ORDER,              "pay p captured 1730; cancel user",             "refund 1",            "at most 0 can be refunded, asked 1"),
            (ORDER,              PAID,                                           "refund-succeeded 1",  "there is no refund #-r1"),
            (ORDER,              PAID,                                           "refund-succeeded 0",  "there is no refund #-r0"),
            (ORDER,              "pay p captured 1730; refund 1",                "refund-failed 2",     "there is no refund #-r2"),
            (ORDER,              REFUNDED,                                       "refund-requested 1",  "the refund has already ended the other way"),
            (ORDER,              REFUNDED,                                       "refund-failed 1",     "the refund has already ended the other way"),
            (ORDER,              "pay p captured 1730; refund 1; refund-failed 1", "refund-succeeded 1", "the refund has already ended the other way"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn refunds_by_units_add_up_to_the_share_of_the_line() {
        let rows = [
            // order                         given                                                                           refunds
            ("A*3@100-1",                    "pay p captured 299; refund 1:1; refund 1:1; refund 1:1",                       "100 asked requested, 99 asked requested, 100 asked requested"),
            ("A*3@100-1",                    "pay p captured 299; refund 1:3",                                               "299 asked requested"),
            ("A*3@100-1",                    "pay p captured 299; cancel user 1:1; refund 1:2",                              "100 cancelled requested, 199 asked requested"),
            ("A*3@100-1",                    "pay p captured 299; refund 1:1; refund-failed 1; refund 1:3",                  "100 asked failed, 299 asked requested"),
            ("A*3@100-1",                    "pay p captured 299; refund 1:1; refund 1:1; refund-failed 1; refund 1:2",      "100 asked failed, 99 asked requested, 200 asked requested"),
            ("A*2@100 B*1@100 discount=100", "pay p captured 200; refund 1:2 2:1",                                           "200 asked requested"),
            ("A*2@100 B*1@100 discount=100", "pay p captured 200; refund 2:1; refund 1:2",                                   "67 asked requested, 133 asked requested"),
            ("A*2@100 B*1@100 shipping=50",  "pay p captured 350; refund 1:1; refund 1:1; refund 2:1",                       "117 asked requested, 116 asked requested, 117 asked requested"),
            (ORDER,                          "pay p captured 1730; refund 50; refund 2:2",                                   "50 asked requested, 200 asked requested"),
        ];
        for (order, given, expected) in rows {
            assert_eq!(refunds(&Play::new(order, given).order), expected, "{order} | {given}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn what_a_refund_gives_up_is_not_due_any_more() {
        let rows = [
            // order                given                                                   due, kept
            (ORDER,                 "",                                                     (1730, 0)),
            (ORDER,                 "pay p captured 1730",                                  (1730, 1730)),
            (ORDER,                 "pay p captured 1730; refund 100",                      (1630, 1630)),
            (ORDER,                 "pay p captured 1730; refund 100; refund-succeeded 1",  (1630, 1630)),
            (ORDER,                 "pay p captured 1730; refund 100; refund-failed 1",     (1730, 1730)),
            (ORDER,                 "pay p captured 1730; refund 2:2; cancel user 2:2",     (1530, 1530)),
            (ORDER,                 "pay p captured 1730; refund 2:1; cancel user 2:1",     (1530, 1530)),
            (ORDER,                 "pay p captured 500; refund 100",                       (1730, 400)),
            (ORDER,                 "pay p captured 1730; cancel user 2:1; refund-failed 1; refund 100", (1630, 1630)),
            (ORDER,                 "pay p captured 1730; cancel user 2:1; refund-failed 1; refund 150", (1580, 1580)),
            (ORDER,                 "pay p captured 1730; cancel user",                     (0, 0)),
            ("A*6@5 terms=invoice", "pay p captured 30; refund 30; cancel user 1:5",        (0, 0)),
        ];
        for (order, given, expected) in rows {
            let order_now = Play::new(order, given).order;
            assert_eq!((order_now.due().0, order_now.kept().0), expected, "{order} | {given}");
        }
    }

    #[test]
    fn a_refund_answers_its_id() {
        let mut play = Play::new(ORDER, "pay p captured 1730; refund 1");
        let (created, _) = play.step("refund 2").expect("there is money");
        assert_eq!(created, Some(Created::Refund(play.order.refund_id(2))));
    }
}

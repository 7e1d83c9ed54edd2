//! T15: money goes back, because somebody asked or because the ledger says so; and how that ended.
//!
//! A refund that somebody asks for names what it settles: units of lines at their frozen price, carriage, tax; an amount
//! beside them says what it comes to. It returns what was overpaid first. What it takes beyond that from an order that is
//! covered is forgiven: it lowers what is due, so that nobody is asked to pay it again. Each refund goes back to one purse;
//! one that takes several is as many refunds, each with its own end.

use std::collections::BTreeMap;

use super::command::Change;
use super::effects::Effects;
use super::share::{largest_remainder, worth};
use super::{EventKind, Order, Refund, RefundCause, RefundState};
use crate::command::{Created, RefundAsked};
use crate::ids::RefundId;
use crate::money::{Money, Quantity};
use crate::rejection::Rejection;
use crate::time::Timestamp;

impl Order {
    /// Refuses, in this order: nothing asked for, or an amount that cannot be; an unknown purse; lines that do not exist or ask
    /// for no units or for more than are neither cancelled nor refunded (with an amount: than are not cancelled); more
    /// carriage or tax than is left of it; nothing to pay back; more than is kept of the captured money, or than is in the
    /// purse; a full history.
    pub(super) fn refund(&mut self, asked: &RefundAsked, mut change: Change) -> Result<(Option<Created>, Effects), Rejection> {
        let beside = [asked.carriage, asked.tax];
        let nothing = asked.amount.is_none() && asked.lines.is_empty() && beside == [Money::ZERO; 2];
        if nothing || asked.amount.is_some_and(|amount| amount <= Money::ZERO) || beside.iter().any(|one| *one < Money::ZERO) {
            return Err(Rejection::AmountOutOfRange);
        }
        let purse = asked.purse.as_ref().map(|purse| self.purse(purse)).transpose()?;
        let settles = self.settles(asked)?;
        let amount = asked.amount.unwrap_or(settles.sum);
        if amount == Money::ZERO {
            return Err(Rejection::NothingLeft);
        }
        let available = purse.map_or(self.kept(), |at| self.kept().min(self.purses()[at])).max(Money::ZERO);
        if amount > available {
            return Err(Rejection::RefundTooLarge { asked: amount, available });
        }
        self.refuse_full_history()?;

        change.reason = asked.reason.clone();
        let forgiven = if self.kept() >= self.due() { Money((amount.0 - self.surplus().0).max(0)) } else { Money::ZERO };
        let first = self.refunds.len();
        let cause = RefundCause::Asked(asked.reason.clone());
        self.push_refunds(amount, settles.parts, purse, &cause, &mut change);
        let mut left = forgiven;
        for refund in &mut self.refunds[first..] {
            refund.forgiven = refund.amount.min(left);
            left.0 -= refund.forgiven.0;
        }
        let refund = &mut self.refunds[first];
        (refund.units, refund.tax) = (settles.units, asked.tax);
        let created = Created::Refund(RefundId { order: self.id, number: refund.number });
        Ok((Some(created), self.finish(change)))
    }

    /// Refuses an unknown refund. The later outcome counts: by the provider's clock where both have its time, else by arrival.
    /// That it was requested is known.
    pub(super) fn refund_outcome(
        &mut self,
        id: RefundId,
        state: RefundState,
        occurred_at: Option<Timestamp>,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        let at = (id.number as usize).checked_sub(1).filter(|&at| id.order == self.id && at < self.refunds.len());
        let at = at.ok_or(Rejection::NoSuchRefund(id))?;
        let told = match state {
            RefundState::Requested => return Ok((None, Effects::default())),
            RefundState::Succeeded => EventKind::RefundSucceeded(id.number),
            RefundState::Failed => EventKind::RefundFailed(id.number),
        };
        let known = &self.refunds[at];
        let is_old = matches!((occurred_at, known.occurred_at), (Some(now), Some(before)) if now < before);
        if known.state == state || is_old {
            return Ok((None, Effects::default()));
        }

        let covered_before = self.covered();
        let refund = &mut self.refunds[at];
        refund.turned |= refund.state != RefundState::Requested;
        (refund.state, refund.occurred_at) = (state, occurred_at);
        change.tell(told);
        self.confirm_if_covered(covered_before, &mut change);
        Ok((None, self.finish(change)))
    }

    /// Asks for a refund that the ledger demands, to this purse first; none when the amount is zero.
    pub(super) fn request_refund(&mut self, amount: Money, purse: Option<usize>, cause: RefundCause, change: &mut Change) {
        if amount > Money::ZERO {
            self.push_refunds(amount, Vec::new(), purse, &cause, change);
        }
    }

    /// The same for a cancelled part, saying how much is for which line when that adds up to the amount.
    pub(super) fn request_refund_of(&mut self, parts: Vec<(u32, Money)>, amount: Money, change: &mut Change) {
        let sum: i64 = parts.iter().map(|(_, amount)| amount.0).sum();
        let parts = if sum == amount.0 { parts } else { Vec::new() };
        if amount > Money::ZERO {
            self.push_refunds(amount, parts, None, &RefundCause::Cancelled, change);
        }
    }

    /// One refund for each purse that it takes. The parts are laid over them; the last one has what is left of the parts.
    fn push_refunds(
        &mut self,
        amount: Money,
        mut parts: Vec<(u32, Money)>,
        purse: Option<usize>,
        cause: &RefundCause,
        change: &mut Change,
    ) {
        let shares = self.share_over_purses(amount, purse);
        let last = shares.len() - 1;
        for (nth, (payment, amount)) in shares.into_iter().enumerate() {
            let lines = if nth == last { std::mem::take(&mut parts) } else { cut_off(&mut parts, amount) };
            let number = u32::try_from(self.refunds.len() + 1).expect("a timeline has far fewer events");
            self.refunds.push(Refund {
                number,
                amount,
                lines,
                state: RefundState::Requested,
                cause: cause.clone(),
                at: change.now,
                units: Vec::new(),
                forgiven: Money::ZERO,
                tax: Money::ZERO,
                payment: u32::try_from(payment + 1).expect("a timeline has far fewer events"),
                occurred_at: None,
                turned: false,
            });
            change.tell(EventKind::RefundRequested(number));
        }
    }

    /// Units of a line that refunds, asked for and not failed, pay back.
    fn refunded_units(&self, number: u32) -> Quantity {
        let units = self.live_refunds().flat_map(|refund| &refund.units);
        Quantity(units.filter(|(line, _)| *line == number).map(|(_, quantity)| quantity.0).sum())
    }

    /// What refunds that were asked for have settled, of the carriage and of each line by its number.
    pub(super) fn settled<'a>(&self, refunds: impl Iterator<Item = &'a Refund>) -> Vec<Money> {
        let mut settled = vec![Money::ZERO; self.lines.len() + 1];
        for (number, amount) in
            refunds.filter(|refund| matches!(refund.cause, RefundCause::Asked(_))).flat_map(|one| &one.lines)
        {
            settled[*number as usize].0 += amount.0;
        }
        settled
    }

    /// What a refund settles: units at what they are worth beyond what is cancelled and was settled before, so that the parts
    /// of a line add up to its share; carriage; tax, by largest remainder over the lines that have some.
    fn settles(&self, asked: &RefundAsked) -> Result<Settles, Rejection> {
        let not_cancelled = |line: &super::Line| Quantity(line.ordered.0 - line.cancelled.0);
        let left_of =
            |number, line: &super::Line| Quantity(not_cancelled(line).0.saturating_sub(self.refunded_units(number).0));
        let named =
            self.named_units(
                &asked.lines,
                |number, line| {
                    if asked.amount.is_some() { not_cancelled(line) } else { left_of(number, line) }
                },
            )?;
        let with_left =
            named.into_iter().map(|(number, units)| (number, units.min(left_of(number, &self.lines[number as usize - 1]))));
        let units: Vec<(u32, Quantity)> = with_left.filter(|(_, units)| *units > Quantity::ZERO).collect();
        if units.is_empty() && asked.carriage == Money::ZERO && asked.tax == Money::ZERO {
            return Ok(Settles { sum: Money::ZERO, parts: Vec::new(), units });
        }
        let (settled, shares) = (self.settled(self.live_refunds()), self.line_shares());
        let beyond = |number: u32, upto: Quantity| {
            let (line, share) = (&self.lines[number as usize - 1], shares[number as usize - 1]);
            let before = worth(share, line.ordered, line.cancelled).0 + settled[number as usize].0;
            Money((worth(share, line.ordered, upto).0 - before).max(0))
        };
        let mut parts = BTreeMap::new();
        for &(number, quantity) in &units {
            let before = self.lines[number as usize - 1].cancelled.0 + self.refunded_units(number).0;
            parts.insert(number, beyond(number, Quantity(before + quantity.0)));
        }
        let of_units: i64 = parts.values().map(|part: &Money| part.0).sum();
        within(asked.carriage, Money(self.carriage().0 - settled[0].0))?;
        if asked.carriage > Money::ZERO {
            parts.insert(0, asked.carriage);
        }
        for (number, tax) in self.share_of_tax(asked.tax)? {
            let part = parts.entry(number).or_default();
            part.0 += tax.0.min(beyond(number, self.lines[number as usize - 1].ordered).0 - part.0);
        }
        let sum = Money(of_units + asked.carriage.0 + asked.tax.0);
        Ok(Settles { sum, parts: parts.into_iter().collect(), units })
    }

    /// Tax as parts of the lines that still have some.
    fn share_of_tax(&self, tax: Money) -> Result<Vec<(u32, Money)>, Rejection> {
        if tax == Money::ZERO {
            return Ok(Vec::new());
        }
        let taxes = self.lines.iter().map(|line| (line.tax.0 - worth(line.tax, line.ordered, line.cancelled).0) as u64);
        let before: i64 = self.live_refunds().map(|refund| refund.tax.0).sum();
        within(tax, Money(taxes.clone().sum::<u64>() as i64 - before))?;
        let shares = (1..).zip(largest_remainder(tax, taxes));
        Ok(shares.filter(|(_, share)| *share > Money::ZERO).collect())
    }
}

/// What a refund settles.
struct Settles {
    /// What its parts come to.
    sum: Money,
    /// The carriage as 0, lines by number.
    parts: Vec<(u32, Money)>,
    units: Vec<(u32, Quantity)>,
}

fn within(asked: Money, left: Money) -> Result<(), Rejection> {
    let available = left.max(Money::ZERO);
    if asked > available { Err(Rejection::RefundTooLarge { asked, available }) } else { Ok(()) }
}

/// Takes the first of the parts that come to this amount.
fn cut_off(parts: &mut Vec<(u32, Money)>, amount: Money) -> Vec<(u32, Money)> {
    let mut left = amount.0;
    let mut first = Vec::new();
    for (number, part) in parts.iter_mut() {
        let cut = part.0.min(left);
        left -= cut;
        part.0 -= cut;
        first.push((*number, Money(cut)));
    }
    first.retain(|(_, part)| *part > Money::ZERO);
    parts.retain(|(_, part)| *part > Money::ZERO);
    first
}

#[cfg(test)]
mod tests {
    use crate::command::Created;
    use crate::money::Money;
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
            (ORDER,              PAID,                                           "refund carriage=1",   "at most 0 can be refunded, asked 1"),
            (ORDER,              PAID,                                           "refund tax=1",        "at most 0 can be refunded, asked 1"),
            (ORDER,              PAID,                                           "refund carriage=-1",  "an amount is out of range"),
            (ORDER,              PAID,                                           "refund 1 tax=-1",     "an amount is out of range"),
            (ORDER,              PAID,                                           "refund 1 to=q",       "the order has no payment q"),
            (ORDER,              "pay p captured 1000; pay q captured 730",      "refund 731 to=q",     "at most 730 can be refunded, asked 731"),
            ("A*1@5+2 shipping=3", "pay p captured 10; refund carriage=2; refund tax=1", "refund carriage=2", "at most 1 can be refunded, asked 2"),
            ("A*1@5+2 shipping=3", "pay p captured 10; refund carriage=2; refund tax=1", "refund tax=2", "at most 1 can be refunded, asked 2"),
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
            ("A*2@100 B*1@100 shipping=50",  "pay p captured 350; refund 1:1; refund 1:1; refund 2:1; refund 50",            "100 asked requested, 100 asked requested, 100 asked requested, 50 asked requested"),
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

    /// Carriage, tax, units and amounts apart, in any combination: what is refunded first makes nothing else unrefundable.
    #[test]
    #[rustfmt::skip]
    fn parts_are_refunded_apart_and_add_up() {
        const CARRIED: &str = "A*1@1000 B*1@2000 shipping=500";
        const TAXED: &str = "A*3@100+30 B*1@100+10 C*1@50";
        let rows = [
            // order    given                                                                   refunds
            (CARRIED,   "pay p captured 3500; refund 500; refund 1:1; refund 2:1",              "500 asked requested, 1000 asked requested, 2000 asked requested"),
            (CARRIED,   "pay p captured 3500; refund carriage=500; refund 1:1; refund 2:1",     "500 asked requested, 1000 asked requested, 2000 asked requested"),
            (CARRIED,   "pay p captured 3500; refund 1:1 2:1 carriage=500",                     "3500 asked requested"),
            (CARRIED,   "pay p captured 3500; refund 1:1; refund 1000 1:1",                     "1000 asked requested, 1000 asked requested"),
            (CARRIED,   "pay p captured 3500; refund 900 1:1; refund 2:1; refund 600",          "900 asked requested, 2000 asked requested, 600 asked requested"),
            (CARRIED,   "pay p captured 3500; refund 1100 1:1; refund 2:1; refund carriage=400", "1100 asked requested, 2000 asked requested, 400 asked requested"),
            (CARRIED,   "pay p captured 3500; cancel user 1:1; refund 2:1; refund carriage=500", "1000 cancelled requested, 2000 asked requested, 500 asked requested"),
            (TAXED,     "pay p captured 490; refund tax=40; refund 1:1; refund 1:2; refund 2:1 3:1", "40 asked requested, 80 asked requested, 220 asked requested, 150 asked requested"),
            (TAXED,     "pay p captured 490; refund 1:3; refund tax=10; refund 2:1; refund 42 3:1", "330 asked requested, 10 asked requested, 108 asked requested, 42 asked requested"),
        ];
        for (order, given, expected) in rows {
            let order_now = Play::new(order, given).order;
            assert_eq!(refunds(&order_now), expected, "{order} | {given}");
            assert_eq!((order_now.kept(), order_now.hold()), (order_now.due(), None), "{order} | {given}");
        }
    }

    /// What goes back goes to where it came from: the last payment first, or as asked. One refund for each purse.
    #[test]
    #[rustfmt::skip]
    fn money_goes_back_to_its_purse() {
        const TWO: &str = "pay gift captured 300 by=cards; pay p captured 1430";
        let rows = [
            // given                                                        (payment, amount) of each refund that has not failed
            ("refund 100",                                                  "2:100"),
            ("refund 1430",                                                 "2:1430"),
            ("refund 1500",                                                 "2:1430 1:70"),
            ("refund 1400; refund 100",                                     "2:1400 2:30 1:70"),
            ("refund 30 to=p; refund 1500",                                 "2:30 2:1400 1:100"),
            ("cancel user",                                                 "2:1430 1:300"),
            ("pay q captured 1730",                                         "3:1730"),
            ("pay p captured 1500",                                         "2:70"),
            ("pay p disputed 1430; cancel user",                            "1:300"),
            ("refund 1430; refund-failed 1; refund 1500",                   "2:1430 1:70"),
        ];
        for (given, expected) in rows {
            let order = Play::new(ORDER, &format!("{TWO}; {given}")).order;
            let told: Vec<String> = order.live_refunds().map(|refund| format!("{}:{}", refund.payment, refund.amount)).collect();
            assert_eq!(told.join(" "), expected, "{given}");
        }
        let split = Play::new(ORDER, &format!("{TWO}; refund 1:6 2:2")).order;
        let lines: Vec<_> = split.refunds.iter().map(|refund| (refund.lines.clone(), refund.units.len(), refund.forgiven.0)).collect();
        assert_eq!(lines, [(vec![(1, Money(1430))], 2, 1430), (vec![(1, Money(100)), (2, Money(200))], 0, 300)]);
    }

    /// A refund that was told as done fails, and the reverse: the later outcome counts.
    #[test]
    #[rustfmt::skip]
    fn a_refund_may_turn_back() {
        check_table(&[
            // order  given                                                                       when                       words                       events                                  effects
            (ORDER,   REFUNDED,                                                                   "refund-requested 1",      "Paid Refunded",            "",                                     ""),
            (ORDER,   REFUNDED,                                                                   "refund-failed 1",         "Paid Paid",                "refund.failed#1",                      ""),
            (ORDER,   "pay p captured 1730; refund 1730; refund-failed 1",                        "refund-succeeded 1",      "Paid Refunded",            "refund.succeeded#1",                   ""),
            (ORDER,   "pay p captured 1730; refund 1730; refund-succeeded 1; refund-failed 1",    "refund 1730",             "Paid Paid",                "refund.requested#2",                   ""),
            (ORDER,   "pay p captured 1730; refund 1730; refund-succeeded 1 told=5",              "refund-failed 1 told=4",  "Paid Refunded",            "",                                     ""),
            (ORDER,   "pay p captured 1730; refund 1730; refund-succeeded 1 told=5",              "refund-failed 1 told=6",  "Paid Paid",                "refund.failed#1",                      ""),
            // Asked for again, and then both have gone out: the buyer owes what came twice.
            (ORDER,   "pay p captured 1730; cancel user; refund-failed 1; refund 1730; refund-succeeded 2", "refund-succeeded 1", "Cancelled Refunded", "refund.succeeded#1",                   ""),
            (ORDER,   "pay p captured 1830; refund-failed 1; refund 100",                         "refund-succeeded 1",      "OnHold PartiallyRefunded", "refund.succeeded#1 on_hold status_changed", "deadline +900"),
        ]);
        let twice = Play::new(ORDER, "pay p captured 1730; cancel user; refund-failed 1; refund 1730; refund-succeeded 1").order;
        assert_eq!((twice.owed().0, twice.money().overdrawn.0, twice.refunded().0), (1730, 1730, 3460));
    }

    #[test]
    fn a_refund_answers_its_id() {
        let mut play = Play::new(ORDER, "pay p captured 1730; refund 1");
        let (created, _) = play.step("refund 2").expect("there is money");
        assert_eq!(created, Some(Created::Refund(play.order.refund_id(2))));
    }
}

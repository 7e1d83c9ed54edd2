//! The sums of the payment ledger.
//!
//! *Due* is what the shop is to keep in the end: the total, less what was cancelled, less what was given up by refunds that
//! somebody asked for while the order was paid. *Kept* is what was captured, less refunds that have not failed. Kept beyond
//! due is a *surplus*, and every capture and every cancel asks for the refund of the surplus it makes.

use super::share::worth;
use super::{Line, Order, Payment, PaymentState, Phase, Refund, RefundState};
use crate::money::{Money, Quantity};

impl Order {
    /// Money that was captured, refunded or not.
    #[must_use]
    pub fn captured(&self) -> Money {
        self.paid_in(PaymentState::Captured)
    }

    /// Money that is authorised and not captured.
    #[must_use]
    pub fn authorized(&self) -> Money {
        self.paid_in(PaymentState::Authorized)
    }

    /// Refunds that have not failed: asked for or paid out.
    #[must_use]
    pub fn refunded(&self) -> Money {
        Money(self.live_refunds().map(|refund| refund.amount.0).sum())
    }

    /// Refunds that the buyer has received.
    #[must_use]
    pub fn paid_back(&self) -> Money {
        let succeeded = self.refunds.iter().filter(|refund| refund.state == RefundState::Succeeded);
        Money(succeeded.map(|refund| refund.amount.0).sum())
    }

    /// What the shop is to keep in the end: the total, less what was cancelled and what was given up. Never negative.
    #[must_use]
    pub fn due(&self) -> Money {
        if self.phase == Phase::Cancelled {
            return Money::ZERO;
        }
        let untouched = self.lines.iter().all(|line| line.cancelled == Quantity::ZERO);
        if untouched && self.refunds.is_empty() {
            return self.total;
        }
        let on_lines: i64 = self.dues().iter().map(|due| due.0).sum();
        let elsewhere: i64 = self.live_refunds().map(|refund| refund.forgiven_beside_lines().0).sum();
        Money((on_lines - elsewhere).max(0))
    }

    /// The payments cover what is due: captured and not paid back, or authorised.
    #[must_use]
    pub fn covered(&self) -> bool {
        self.kept().0 + self.authorized().0 >= self.due().0
    }

    /// Captured, and neither refunded nor about to be: the most that a refund can ask for.
    #[must_use]
    pub fn kept(&self) -> Money {
        Money(self.captured().0 - self.refunded().0)
    }

    /// Kept beyond what is due.
    #[must_use]
    pub fn surplus(&self) -> Money {
        Money((self.kept().0 - self.due().0).max(0))
    }

    /// What is due for each line, by position.
    pub(super) fn dues(&self) -> Vec<Money> {
        let mut dues = self.line_shares();
        for (due, line) in dues.iter_mut().zip(&self.lines) {
            due.0 -= worth(*due, line.ordered, line.cancelled).0;
        }
        for refund in self.live_refunds() {
            for (number, forgiven) in refund.forgiven_on_lines() {
                dues[number as usize - 1].0 -= forgiven.0;
            }
        }
        for due in &mut dues {
            due.0 = due.0.max(0);
        }
        dues
    }

    /// What the order comes to, refunds aside: its total, less what was cancelled of a living order.
    pub(super) fn agreed(&self) -> Money {
        let uncut = |line: &Line| line.cancelled == Quantity::ZERO;
        if self.phase == Phase::Cancelled || self.lines.iter().all(uncut) {
            return self.total;
        }
        let shares = self.line_shares();
        let cut = shares.iter().zip(&self.lines).map(|(share, line)| worth(*share, line.ordered, line.cancelled).0);
        Money(self.total.0 - cut.sum::<i64>())
    }

    pub(super) fn live_refunds(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(|refund| refund.state != RefundState::Failed)
    }

    fn paid_in(&self, state: PaymentState) -> Money {
        let payments = self.payments.iter().filter(|payment: &&Payment| payment.state == state);
        Money(payments.map(|payment| payment.amount.0).sum())
    }
}

impl Refund {
    /// How much of what is due for its lines it gives up: the forgiven amount, laid over its lines in their order.
    fn forgiven_on_lines(&self) -> impl Iterator<Item = (u32, Money)> + '_ {
        let mut left = self.forgiven.0;
        self.lines.iter().map(move |&(number, amount)| {
            let forgiven = amount.0.min(left);
            left -= forgiven;
            (number, Money(forgiven))
        })
    }

    fn forgiven_beside_lines(&self) -> Money {
        let on_lines: i64 = self.forgiven_on_lines().map(|(_, forgiven)| forgiven.0).sum();
        Money(self.forgiven.0 - on_lines)
    }
}

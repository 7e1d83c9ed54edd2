//! The sums of the payment ledger.
//!
//! *Due* is what the shop is to keep in the end: the total, less what was cancelled, less what was given up by refunds that
//! somebody asked for while the order was paid. *Kept* is what was captured, less refunds that have not failed, less what is
//! disputed. It falls below zero when a provider takes back what has gone back already. Kept beyond due is a *surplus*: every
//! fact that brings money and every cancel asks for the refund of the surplus it makes, so that what is left of one waits for
//! a refund that failed.

use bincode::{Decode, Encode};

use super::share::worth;
use super::{Line, Order, OrderHold, Payment, Phase, Refund, RefundState, Terms};
use crate::money::{Money, Quantity};

/// Where the captured money of an order is (law MoneyEndsSomewhere):
/// `captured + overdrawn = goods + refunded + surplus + disputed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MoneyEnds {
    /// What was captured, and did not fail afterwards.
    pub captured: Money,
    /// Kept for goods that are owed or have left.
    pub goods: Money,
    /// In refunds that are asked for or paid out.
    pub refunded: Money,
    /// Kept beyond what is due: it waits for a refund that has failed to be asked for again.
    pub surplus: Money,
    /// Held back or taken by the provider for disputes.
    pub disputed: Money,
    /// Gone beyond what was captured: twice to the buyer, or taken back after a refund.
    pub overdrawn: Money,
}

impl MoneyEnds {
    /// Every amount with its name, the captured one first.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Money); 6] {
        [
            ("captured", self.captured),
            ("goods", self.goods),
            ("refunded", self.refunded),
            ("surplus", self.surplus),
            ("disputed", self.disputed),
            ("overdrawn", self.overdrawn),
        ]
    }

    /// Adds the money of others in the same currency.
    pub fn add(&mut self, other: &Self) {
        let Self { captured, goods, refunded, surplus, disputed, overdrawn } = self;
        let mine = [captured, goods, refunded, surplus, disputed, overdrawn];
        for (sum, (_, amount)) in mine.into_iter().zip(other.named()) {
            sum.0 = sum.0.saturating_add(amount.0);
        }
    }

    /// Whether what came is somewhere.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let came = i128::from(self.captured.0) + i128::from(self.overdrawn.0);
        let ends = [self.goods, self.refunded, self.surplus, self.disputed];
        came == ends.iter().map(|amount| i128::from(amount.0)).sum::<i128>()
    }
}

impl Order {
    /// Money that was captured, refunded or not.
    #[must_use]
    pub fn captured(&self) -> Money {
        self.over_payments(Payment::captured)
    }

    /// Money that is authorised and not captured.
    #[must_use]
    pub fn authorized(&self) -> Money {
        self.over_payments(Payment::authorized)
    }

    /// Captured money that the provider holds back, or took, for disputes.
    #[must_use]
    pub fn disputed(&self) -> Money {
        self.over_payments(Payment::disputed)
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
        let parts: i64 = self.dues().iter().map(|due| due.0).sum();
        let elsewhere: i64 = self.live_refunds().map(|refund| refund.forgiven_beside_lines().0).sum();
        Money((parts - elsewhere).max(0))
    }

    /// The payments cover what is due: captured and not paid back, or authorised.
    #[must_use]
    pub fn covered(&self) -> bool {
        self.kept().0 + self.authorized().0 >= self.due().0
    }

    /// Captured, and neither refunded nor about to be, nor disputed: the most that a refund can ask for. Below zero when more
    /// has gone than came.
    #[must_use]
    pub fn kept(&self) -> Money {
        Money(self.captured().0 - self.refunded().0 - self.disputed().0)
    }

    /// Kept beyond what is due.
    #[must_use]
    pub fn surplus(&self) -> Money {
        Money((self.kept().0 - self.due().0).max(0))
    }

    /// What the buyer still has to pay for the order, or to pay back.
    #[must_use]
    pub fn owed(&self) -> Money {
        Money((self.due().0 - self.kept().0).max(0))
    }

    /// Where the captured money is.
    #[must_use]
    pub fn money(&self) -> MoneyEnds {
        let kept = self.kept();
        MoneyEnds {
            captured: self.captured(),
            goods: kept.min(self.due()).max(Money::ZERO),
            refunded: self.refunded(),
            surplus: self.surplus(),
            disputed: self.disputed(),
            overdrawn: Money((-kept.0).max(0)),
        }
    }

    /// What is to be captured by now of what is authorised: the share of the units that have left, with the carriage.
    #[must_use]
    pub fn capture_due(&self) -> Money {
        let authorized = self.authorized();
        if authorized == Money::ZERO || self.shipped_units() == Quantity::ZERO {
            return Money::ZERO;
        }
        let shares = self.line_shares();
        let gone = shares.iter().zip(&self.lines).map(|(share, line)| worth(*share, line.ordered, line.shipped).0);
        let left = (gone.sum::<i64>() + self.carriage().0).min(self.due().0);
        Money((left - self.kept().0).clamp(0, authorized.0))
    }

    /// Why its goods stay where they are, though it is confirmed.
    #[must_use]
    pub fn hold(&self) -> Option<OrderHold> {
        if self.phase != Phase::Confirmed || self.terms != Terms::Prepaid || !self.is_open() {
            return None;
        }
        if !self.covered() {
            return Some(OrderHold::NoCover);
        }
        self.payments.iter().any(Payment::is_in_doubt).then_some(OrderHold::PaymentInDoubt)
    }

    /// What is due for the carriage, and for each line by its number.
    pub(super) fn dues(&self) -> Vec<Money> {
        let shares = self.line_shares();
        let cut =
            shares.iter().zip(&self.lines).map(|(share, line)| Money(share.0 - worth(*share, line.ordered, line.cancelled).0));
        let mut dues: Vec<Money> = std::iter::once(self.carriage()).chain(cut).collect();
        for refund in self.live_refunds() {
            for (number, forgiven) in refund.forgiven_on_lines() {
                dues[number as usize].0 -= forgiven.0;
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

    fn over_payments(&self, amount: impl Fn(&Payment) -> Money) -> Money {
        Money(self.payments.iter().map(|payment| amount(payment).0).sum())
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

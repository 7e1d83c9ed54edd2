//! Purses: the payments of an order that money can go back to. Money goes back to where it came from, the last payment first
//! unless somebody says which.

use super::{Order, Refund};
use crate::command::Purse;
use crate::money::Money;
use crate::rejection::Rejection;

impl Order {
    /// The place in the ledger, from 0, of the payment that is named.
    pub(super) fn purse(&self, purse: &Purse) -> Result<usize, Rejection> {
        let found = self.payments.iter().position(|payment| payment.is(&purse.provider, &purse.provider_payment_id));
        found.ok_or_else(|| Rejection::NoSuchPayment(purse.provider_payment_id.clone()))
    }

    /// What may still go back to each payment, by its place: captured, not disputed, and not on its way back.
    pub(super) fn purses(&self) -> Vec<Money> {
        let mut left: Vec<Money> =
            self.payments.iter().map(|payment| Money(payment.captured().0 - payment.disputed().0)).collect();
        for refund in self.live_refunds() {
            left[refund.purse_at()].0 -= refund.amount.0;
        }
        left.into_iter().map(|left| left.max(Money::ZERO)).collect()
    }

    /// From which purses, by place, an amount is paid back: the one that is asked for, then the last one that was heard of, and
    /// so on.
    pub(super) fn share_over_purses(&self, amount: Money, first: Option<usize>) -> Vec<(usize, Money)> {
        let purses = self.purses();
        let mut left = amount;
        let mut shares = Vec::new();
        for at in first.into_iter().chain((0..purses.len()).rev().filter(|at| first != Some(*at))) {
            let share = purses[at].min(left);
            if share > Money::ZERO {
                left.0 -= share.0;
                shares.push((at, share));
            }
        }
        assert!(left == Money::ZERO, "MoneyConserved: {left} of {amount} is in no purse: {self:?}");
        shares
    }
}

impl Refund {
    /// The place of its payment, from 0.
    pub(super) fn purse_at(&self) -> usize {
        (self.payment as usize).checked_sub(1).expect("a refund goes back to a payment")
    }
}

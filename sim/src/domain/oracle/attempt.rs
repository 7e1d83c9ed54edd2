//! The model of a payment attempt: what its provider told, and what is authorised, captured and disputed by that.

use ordergrid_domain::ProviderPaymentId;
use ordergrid_domain::order::PaymentState;

use PaymentState::{
    Authorized, CaptureFailed, Captured, DisputeLost, DisputeWon, Disputed, Expired, Failed, Processing, Voided,
};

/// Everything that was told of an attempt, the last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptModel(pub Vec<(PaymentState, i64)>);

impl AttemptModel {
    /// Takes a fact. `None`: it is refused. `Some(false)`: it says nothing new.
    pub fn tell(&mut self, state: PaymentState, amount: i64) -> Option<bool> {
        if let Some(known) = self.0.iter().position(|fact| *fact == (state, amount)) {
            let contested = state == Captured && self.in_doubt() || state == Authorized && self.was_ended();
            if contested {
                let fact = self.0.remove(known);
                self.0.push(fact);
            }
            return Some(contested);
        }
        let grows = matches!(state, Processing | Failed | Expired) || amount > self.sum(state);
        grows.then(|| self.0.push((state, amount)))?;
        Some(true)
    }

    fn sum(&self, state: PaymentState) -> i64 {
        self.0.iter().filter(|fact| fact.0 == state).map(|fact| fact.1).max().unwrap_or(0)
    }

    fn last(&self, states: &[PaymentState]) -> Option<usize> {
        self.0.iter().rposition(|fact| states.contains(&fact.0))
    }

    fn was_ended(&self) -> bool {
        self.last(&[Authorized]).is_some_and(|told| self.last(&[Failed, Expired]).is_some_and(|ended| ended > told))
    }

    /// A failure came after a capture.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        let after = self.last(&[Captured]).is_some_and(|told| self.last(&[Failed]).is_some_and(|failed| failed > told));
        after && self.captured() > 0
    }

    /// What came and stayed.
    #[must_use]
    pub fn captured(&self) -> i64 {
        (self.sum(Captured) - self.sum(CaptureFailed)).max(0)
    }

    /// What came, and what did not stay.
    #[must_use]
    pub fn failed(&self) -> i64 {
        self.sum(CaptureFailed).min(self.sum(Captured))
    }

    /// What may still be captured.
    #[must_use]
    pub fn authorized(&self) -> i64 {
        let tried = self.sum(Captured).max(self.sum(CaptureFailed));
        if self.was_ended() { 0 } else { (self.sum(Authorized) - self.sum(Voided) - tried).max(0) }
    }

    /// What is held back or was lost.
    #[must_use]
    pub fn disputed(&self) -> i64 {
        (self.sum(Disputed) - self.sum(DisputeWon)).max(self.sum(DisputeLost)).max(0)
    }

    /// Nothing is known of it but that it is under way.
    pub(super) fn is_processing(&self) -> bool {
        let known = self.captured() + self.authorized() + self.disputed() + self.sum(CaptureFailed) + self.sum(Voided);
        known == 0 && self.last(&[Failed, Expired]).is_none()
    }
}

/// A payment of an order.
#[derive(Clone, Debug)]
pub(super) struct PaymentModel {
    pub(super) id: ProviderPaymentId,
    pub(super) at: u64,
    pub(super) attempt: AttemptModel,
}

impl PaymentModel {
    /// It was heard of lately, and nobody knows yet what comes of it.
    pub(super) fn is_young(&self, now: u64, grace: u64) -> bool {
        self.attempt.is_processing() && now - self.at < grace
    }
}

//! A plain ledger. Amounts per line are worked out with fractions, one minor unit at a time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::order::{Order, PaymentState, PaymentStatus, Phase, RefundState};
use ordergrid_domain::{Money, Timestamp};

pub(crate) struct Ledger {
    pub(crate) total: i64,
    /// What each line is worth of the total.
    shares: Vec<i64>,
    ordered: Vec<u64>,
    payments: Vec<(String, PaymentState, i64, Timestamp)>,
    refunds: Vec<Refund>,
}

struct Refund {
    amount: i64,
    state: RefundState,
    /// Asked for by units: (line, units, amount).
    lines: Vec<(usize, u64, i64)>,
    /// How much of it is a price given up.
    forgiven: i64,
}

impl Ledger {
    pub(crate) fn new(request: &OrderRequest) -> Self {
        let amounts: Vec<i64> = request.lines.iter().map(super::amount).collect();
        let ordered: Vec<u64> = request.lines.iter().map(|line| line.quantity.0).collect();
        let total = amounts.iter().sum::<i64>() - request.discount.0 + request.shipping_fee.0;
        let weights = if amounts.iter().all(|amount| *amount == 0) {
            ordered.iter().map(|units| *units as i64).collect()
        } else {
            amounts
        };
        Self { total, shares: share_out(total, &weights), ordered, payments: Vec::new(), refunds: Vec::new() }
    }

    fn live(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(|refund| refund.state != RefundState::Failed)
    }

    fn in_state(&self, state: PaymentState) -> i64 {
        self.payments.iter().filter(|payment| payment.1 == state).map(|payment| payment.2).sum()
    }

    fn kept(&self) -> i64 {
        self.in_state(PaymentState::Captured) - self.live().map(|refund| refund.amount).sum::<i64>()
    }

    /// What is due, with so many units of each line cancelled.
    pub(crate) fn due(&self, cancelled: &[u64]) -> i64 {
        if cancelled == self.ordered {
            return 0;
        }
        let mut lines: Vec<i64> = self.shares.clone();
        for (line, units) in cancelled.iter().enumerate() {
            lines[line] -= nearest(self.shares[line], *units, self.ordered[line]);
        }
        let mut elsewhere = 0;
        for refund in self.live() {
            let mut forgiven = refund.forgiven;
            for (line, _, amount) in &refund.lines {
                let part = forgiven.min(*amount);
                lines[*line] -= part;
                forgiven -= part;
            }
            elsewhere += forgiven;
        }
        (lines.iter().map(|due| due.max(&0)).sum::<i64>() - elsewhere).max(0)
    }

    pub(crate) fn covered(&self, cancelled: &[u64]) -> bool {
        self.kept() + self.in_state(PaymentState::Authorized) >= self.due(cancelled)
    }

    pub(crate) fn surplus(&self, cancelled: &[u64]) -> i64 {
        (self.kept() - self.due(cancelled)).max(0)
    }

    /// The system gives money back.
    pub(crate) fn give_back(&mut self, amount: i64) {
        if amount > 0 {
            self.refunds.push(Refund { amount, state: RefundState::Requested, lines: Vec::new(), forgiven: 0 });
        }
    }

    /// `None`: refused. `Some(false)`: known already.
    pub(crate) fn pay(&mut self, id: &str, state: PaymentState, amount: i64, now: Timestamp) -> Option<bool> {
        use PaymentState::{Authorized, Captured, Failed, Processing, Voided};
        if amount < 1 {
            return None;
        }
        let Some(known) = self.payments.iter_mut().find(|payment| payment.0 == id) else {
            self.payments.push((id.to_owned(), state, amount, now));
            return Some(true);
        };
        if (known.1, known.2) == (state, amount) {
            return Some(false);
        }
        let forwards: &[PaymentState] = match known.1 {
            Processing => &[Authorized, Captured, Failed, Voided],
            Authorized => &[Captured, Failed, Voided],
            Captured | Failed | Voided => &[],
        };
        let less_captured = (known.1, state) == (Authorized, Captured) && amount < known.2;
        if !forwards.contains(&state) || (amount != known.2 && !less_captured) {
            return None;
        }
        (known.1, known.2) = (state, amount);
        Some(true)
    }

    pub(crate) fn young_processing(&self, now: Timestamp, age: Duration) -> bool {
        self.payments.iter().any(|payment| payment.1 == PaymentState::Processing && now.since(payment.3) < age)
    }

    pub(crate) fn units_refunded(&self, line: usize) -> u64 {
        self.live().flat_map(|refund| &refund.lines).filter(|part| part.0 == line).map(|part| part.1).sum()
    }

    /// Somebody asks for a refund of an amount or of units. False: refused.
    pub(crate) fn ask(&mut self, amount: Option<i64>, units: &[(usize, u64)], cancelled: &[u64]) -> bool {
        let part = |&(line, count): &(usize, u64)| {
            let (share, ordered) = (self.shares[line], self.ordered[line]);
            let before: i64 =
                self.live().flat_map(|refund| &refund.lines).filter(|part| part.0 == line).map(|part| part.2).sum();
            let upto = cancelled[line] + self.units_refunded(line) + count;
            let worth = nearest(share, upto, ordered) - nearest(share, cancelled[line], ordered) - before;
            (line, count, worth.max(0))
        };
        let lines: Vec<(usize, u64, i64)> = units.iter().map(part).collect();
        let asked = amount.unwrap_or_else(|| lines.iter().map(|part| part.2).sum());
        if asked < 1 || asked > self.kept() {
            return false;
        }
        let (kept, due) = (self.kept(), self.due(cancelled));
        let forgiven = if kept >= due { (asked - (kept - due)).max(0) } else { 0 };
        self.refunds.push(Refund { amount: asked, state: RefundState::Requested, lines, forgiven });
        true
    }

    pub(crate) fn end_refund(&mut self, number: u32, state: RefundState) -> bool {
        let Some(refund) = number.checked_sub(1).and_then(|at| self.refunds.get_mut(at as usize)) else { return false };
        if state == RefundState::Requested || (refund.state != RefundState::Requested && refund.state != state) {
            return false;
        }
        refund.state = state;
        true
    }

    pub(crate) fn check(&self, order: &Order, phase: Phase, cancelled: &[u64]) {
        let refunds: Vec<(i64, RefundState)> = order.refunds.iter().map(|refund| (refund.amount.0, refund.state)).collect();
        let by_book: Vec<(i64, RefundState)> = self.refunds.iter().map(|refund| (refund.amount, refund.state)).collect();
        assert_eq!(refunds, by_book, "{order:?}");
        let payments: Vec<(&str, PaymentState, i64)> = order
            .payments
            .iter()
            .map(|payment| (payment.provider_payment_id.as_str(), payment.state, payment.amount.0))
            .collect();
        let by_book: Vec<(&str, PaymentState, i64)> =
            self.payments.iter().map(|payment| (payment.0.as_str(), payment.1, payment.2)).collect();
        assert_eq!(payments, by_book);
        assert_eq!((order.total.0, order.due().0, order.kept().0), (self.total, self.due(cancelled), self.kept()), "{order:?}");
        self.nothing_lost(order, cancelled);
        assert_eq!(order.payment_status(), self.word(phase, cancelled), "{order:?}");
        let ended = phase == Phase::Cancelled;
        let open = |payment: &&ordergrid_domain::order::Payment| payment.state == PaymentState::Authorized;
        assert!(order.payments.iter().filter(open).all(|payment| payment.void_requested == ended), "{order:?}");
    }

    /// MoneyConserved: every captured minor unit is due, on its way back, or stuck in a refund that failed; and no line gets
    /// back more than it was worth.
    fn nothing_lost(&self, order: &Order, cancelled: &[u64]) {
        let stuck: i64 =
            self.refunds.iter().filter(|refund| refund.state == RefundState::Failed).map(|refund| refund.amount).sum();
        assert!(self.kept() >= 0 && self.kept() <= self.due(cancelled) + stuck, "{order:?}");
        let mut asked: BTreeMap<usize, i64> = BTreeMap::new();
        for (line, _, amount) in self.live().flat_map(|refund| &refund.lines) {
            *asked.entry(*line).or_default() += amount;
        }
        assert!(asked.iter().all(|(line, amount)| *amount <= self.shares[*line]), "{asked:?} of {:?}", self.shares);
        assert_eq!(order.line_shares(), self.shares.iter().copied().map(Money).collect::<Vec<_>>());
    }

    fn word(&self, phase: Phase, cancelled: &[u64]) -> PaymentStatus {
        let agreed = if phase == Phase::Cancelled {
            self.total
        } else {
            let cut = |(line, units): (usize, &u64)| nearest(self.shares[line], *units, self.ordered[line]);
            self.total - cancelled.iter().enumerate().map(cut).sum::<i64>()
        };
        let (captured, authorized) = (self.in_state(PaymentState::Captured), self.in_state(PaymentState::Authorized));
        let back: i64 =
            self.refunds.iter().filter(|refund| refund.state == RefundState::Succeeded).map(|refund| refund.amount).sum();
        if captured == 0 && self.total == 0 {
            PaymentStatus::Paid
        } else if captured == 0 && authorized > 0 && authorized >= agreed {
            PaymentStatus::Authorized
        } else if captured == 0 {
            PaymentStatus::Unpaid
        } else if back >= captured {
            PaymentStatus::Refunded
        } else if back > 0 {
            PaymentStatus::PartiallyRefunded
        } else if captured >= agreed && self.kept() >= self.due(cancelled) {
            PaymentStatus::Paid
        } else {
            PaymentStatus::PartiallyPaid
        }
    }
}

/// `share` times `units` over `ordered`, to the nearest, halves up: counted up from below.
fn nearest(share: i64, units: u64, ordered: u64) -> i64 {
    let exact = share as f64 * units as f64 / ordered as f64;
    let mut told = exact.floor() as i64 - 1;
    while 2 * (told + 1) * ordered as i64 <= 2 * share * units as i64 + ordered as i64 {
        told += 1;
    }
    told
}

/// Largest remainder, one minor unit after the other.
fn share_out(total: i64, weights: &[i64]) -> Vec<i64> {
    let sum: i64 = weights.iter().sum();
    let mut shares: Vec<i64> = weights.iter().map(|weight| total * weight / sum).collect();
    let mut remainders: Vec<(i64, Reverse<usize>)> =
        weights.iter().enumerate().map(|(line, weight)| (total * weight % sum, Reverse(line))).collect();
    for _ in 0..total - shares.iter().sum::<i64>() {
        let next = (0..remainders.len()).max_by_key(|at| remainders[*at]).expect("there are lines");
        shares[remainders[next].1.0] += 1;
        remainders[next].0 = -1;
    }
    shares
}

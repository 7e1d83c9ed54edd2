//! A plain ledger. Amounts per line are worked out with fractions, one minor unit at a time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::order::{Order, PaymentState, PaymentStatus, Phase, RefundState};
use ordergrid_domain::{Money, Timestamp};

pub(crate) struct Ledger {
    pub(crate) total: i64,
    /// What the carriage, and then each line, is worth of the total.
    shares: Vec<i64>,
    ordered: Vec<u64>,
    payments: Vec<Attempt>,
    refunds: Vec<Refund>,
}

struct Attempt {
    id: String,
    at: Timestamp,
    /// Every amount that was told of a state.
    told: BTreeMap<PaymentState, Vec<i64>>,
    /// When, in tellings that said something, a state was told last.
    last: BTreeMap<PaymentState, usize>,
    tellings: usize,
}

impl Attempt {
    fn sum(&self, state: PaymentState) -> i64 {
        self.told.get(&state).into_iter().flatten().copied().max().unwrap_or(0)
    }

    fn captured(&self) -> i64 {
        (self.sum(PaymentState::Captured) - self.sum(PaymentState::CaptureFailed)).max(0)
    }

    fn was_ended(&self) -> bool {
        let ends = self.last.get(&PaymentState::Failed).max(self.last.get(&PaymentState::Expired));
        ends > self.last.get(&PaymentState::Authorized)
    }

    fn authorized(&self) -> i64 {
        let tried = self.sum(PaymentState::Captured).max(self.sum(PaymentState::CaptureFailed));
        let left = self.sum(PaymentState::Authorized) - self.sum(PaymentState::Voided) - tried;
        if self.was_ended() { 0 } else { left.max(0) }
    }

    fn disputed(&self) -> i64 {
        let open = self.sum(PaymentState::Disputed) - self.sum(PaymentState::DisputeWon);
        open.max(self.sum(PaymentState::DisputeLost)).max(0)
    }

    fn in_doubt(&self) -> bool {
        self.captured() > 0 && self.last.get(&PaymentState::Failed) > self.last.get(&PaymentState::Captured)
    }

    /// `None`: refused. `Some(false)`: known already.
    fn tell(&mut self, state: PaymentState, amount: i64) -> Option<bool> {
        use PaymentState::{Authorized, Captured, Expired, Failed, Processing};
        let known = self.told.get(&state).is_some_and(|told| told.contains(&amount));
        let contested = match state {
            Captured => self.in_doubt(),
            Authorized => self.was_ended(),
            _ => false,
        };
        if known && !contested {
            return Some(false);
        }
        if !known && !matches!(state, Processing | Failed | Expired) && self.sum(state) > amount {
            return None;
        }
        if !known {
            self.told.entry(state).or_default().push(amount);
        }
        self.tellings += 1;
        self.last.insert(state, self.tellings);
        Some(true)
    }

    fn is_processing(&self) -> bool {
        use PaymentState::{CaptureFailed, DisputeWon, Processing};
        let nothing =
            self.captured() + self.authorized() + self.disputed() + self.sum(CaptureFailed) + self.sum(PaymentState::Voided);
        nothing == 0
            && self
                .told
                .keys()
                .all(|state| matches!(state, Processing | DisputeWon | PaymentState::Authorized | PaymentState::Captured))
    }
}

struct Refund {
    amount: i64,
    state: RefundState,
    purse: usize,
    /// Units by line that it pays back.
    units: Vec<(usize, u64)>,
    /// What it settles: the carriage as 0, lines from 1.
    parts: Vec<(usize, i64)>,
    /// How much of it is a price given up.
    forgiven: i64,
    turned: bool,
}

impl Ledger {
    pub(crate) fn new(request: &OrderRequest) -> Self {
        let amounts: Vec<i64> = request.lines.iter().map(super::amount).collect();
        let ordered: Vec<u64> = request.lines.iter().map(|line| line.quantity.0).collect();
        let all: i64 = amounts.iter().sum();
        let total = all - request.discount.0 + request.shipping_fee.0;
        let goods = (all - request.discount.0).max(0);
        let lines = if all == 0 { amounts } else { share_out(goods, &amounts) };
        let shares = std::iter::once(total - goods).chain(lines).collect();
        Self { total, shares, ordered, payments: Vec::new(), refunds: Vec::new() }
    }

    fn live(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(|refund| refund.state != RefundState::Failed)
    }

    fn over(&self, amount: impl Fn(&Attempt) -> i64) -> i64 {
        self.payments.iter().map(amount).sum()
    }

    pub(crate) fn kept(&self) -> i64 {
        let back: i64 = self.live().map(|refund| refund.amount).sum();
        self.over(Attempt::captured) - self.over(Attempt::disputed) - back
    }

    /// What is due, with so many units of each line cancelled.
    pub(crate) fn due(&self, cancelled: &[u64]) -> i64 {
        if cancelled == self.ordered {
            return 0;
        }
        let mut parts: Vec<i64> = self.shares.clone();
        for (line, units) in cancelled.iter().enumerate() {
            parts[line + 1] -= nearest(self.shares[line + 1], *units, self.ordered[line]);
        }
        let mut elsewhere = 0;
        for refund in self.live() {
            let mut forgiven = refund.forgiven;
            for (part, amount) in &refund.parts {
                let given_up = forgiven.min(*amount);
                parts[*part] -= given_up;
                forgiven -= given_up;
            }
            elsewhere += forgiven;
        }
        (parts.iter().map(|due| due.max(&0)).sum::<i64>() - elsewhere).max(0)
    }

    pub(crate) fn covered(&self, cancelled: &[u64]) -> bool {
        self.kept() + self.over(Attempt::authorized) >= self.due(cancelled)
    }

    pub(crate) fn in_doubt(&self) -> bool {
        self.payments.iter().any(Attempt::in_doubt)
    }

    pub(crate) fn surplus(&self, cancelled: &[u64]) -> i64 {
        (self.kept() - self.due(cancelled)).max(0)
    }

    /// The system gives money back.
    pub(crate) fn give_back(&mut self, amount: i64, purse: Option<usize>) {
        if amount > 0 {
            self.push(amount, Vec::new(), purse);
        }
    }

    /// Refunds to the purse that is named, then to the last payment, and so on. Parts go along in their order.
    fn push(&mut self, amount: i64, mut parts: Vec<(usize, i64)>, purse: Option<usize>) -> usize {
        let first = self.refunds.len();
        let mut left = amount;
        let order: Vec<usize> = purse.into_iter().chain((0..self.payments.len()).rev()).collect();
        for at in order {
            let payment = &self.payments[at];
            let back: i64 = self.live().filter(|refund| refund.purse == at).map(|refund| refund.amount).sum();
            let share = (payment.captured() - payment.disputed() - back).max(0).min(left);
            if share == 0 {
                continue;
            }
            left -= share;
            let mut mine = Vec::new();
            let mut room = if left == 0 { i64::MAX } else { share };
            for (part, amount) in &mut parts {
                let cut = (*amount).min(room);
                (room, *amount) = (room - cut, *amount - cut);
                mine.push((*part, cut));
            }
            let state = RefundState::Requested;
            self.refunds.push(Refund {
                amount: share,
                state,
                purse: at,
                units: Vec::new(),
                parts: mine,
                forgiven: 0,
                turned: false,
            });
        }
        assert_eq!(left, 0, "there is a purse for everything that is kept");
        first
    }

    /// `None`: refused. Else how much more is kept than before, and the place of the payment; nothing when it was known.
    pub(crate) fn pay(&mut self, id: &str, state: PaymentState, amount: i64, now: Timestamp) -> Option<(i64, usize)> {
        if amount < 1 {
            return None;
        }
        let before = self.kept();
        let at = self.payments.iter().position(|payment| payment.id == id).unwrap_or_else(|| {
            let (told, last) = (BTreeMap::new(), BTreeMap::new());
            self.payments.push(Attempt { id: id.to_owned(), at: now, told, last, tellings: 0 });
            self.payments.len() - 1
        });
        let news = self.payments[at].tell(state, amount)?;
        Some((if news { self.kept() - before } else { 0 }, at))
    }

    pub(crate) fn young_processing(&self, now: Timestamp, age: Duration) -> bool {
        self.payments.iter().any(|payment| payment.is_processing() && now.since(payment.at) < age)
    }

    pub(crate) fn units_refunded(&self, line: usize) -> u64 {
        self.live().flat_map(|refund| &refund.units).filter(|part| part.0 == line).map(|part| part.1).sum()
    }

    fn settled(&self, part: usize) -> i64 {
        self.live().flat_map(|refund| &refund.parts).filter(|one| one.0 == part).map(|one| one.1).sum()
    }

    /// Somebody asks for a refund: units of lines, some of the carriage, or what it comes to. False: refused.
    pub(crate) fn ask(&mut self, amount: Option<i64>, units: &[(usize, u64)], carriage: i64, cancelled: &[u64]) -> bool {
        if amount.is_some_and(|amount| amount < 1) || carriage < 0 || carriage > (self.shares[0] - self.settled(0)).max(0) {
            return false;
        }
        let mut parts = if carriage > 0 { vec![(0, carriage)] } else { Vec::new() };
        let mut paid_back = Vec::new();
        for &(line, count) in units {
            let (share, ordered) = (self.shares[line + 1], self.ordered[line]);
            let count = count.min((ordered - cancelled[line]).saturating_sub(self.units_refunded(line)));
            if count > 0 {
                let upto = nearest(share, cancelled[line] + self.units_refunded(line) + count, ordered);
                parts.push((line + 1, (upto - nearest(share, cancelled[line], ordered) - self.settled(line + 1)).max(0)));
                paid_back.push((line, count));
            }
        }
        let asked = amount.unwrap_or_else(|| parts.iter().map(|part| part.1).sum());
        if asked < 1 || asked > self.kept() {
            return false;
        }
        let (kept, due) = (self.kept(), self.due(cancelled));
        let mut forgiven = if kept >= due { (asked - (kept - due)).max(0) } else { 0 };
        let first = self.push(asked, parts, None);
        self.refunds[first].units = paid_back;
        for refund in &mut self.refunds[first..] {
            refund.forgiven = refund.amount.min(forgiven);
            forgiven -= refund.forgiven;
        }
        true
    }

    pub(crate) fn end_refund(&mut self, number: u32, state: RefundState) -> bool {
        let Some(refund) = number.checked_sub(1).and_then(|at| self.refunds.get_mut(at as usize)) else { return false };
        if state == RefundState::Requested {
            return true;
        }
        refund.turned |= refund.state != RefundState::Requested && refund.state != state;
        refund.state = state;
        true
    }

    pub(crate) fn check(&self, order: &Order, phase: Phase, cancelled: &[u64]) {
        let refunds: Vec<(i64, RefundState, usize)> =
            order.refunds.iter().map(|refund| (refund.amount.0, refund.state, refund.payment as usize - 1)).collect();
        let by_book: Vec<(i64, RefundState, usize)> =
            self.refunds.iter().map(|refund| (refund.amount, refund.state, refund.purse)).collect();
        assert_eq!(refunds, by_book, "{order:?}");
        let payments: Vec<(&str, i64, i64, i64)> = order
            .payments
            .iter()
            .map(|payment| {
                let amounts = (payment.authorized().0, payment.captured().0, payment.disputed().0);
                (payment.provider_payment_id.as_str(), amounts.0, amounts.1, amounts.2)
            })
            .collect();
        let by_book: Vec<(&str, i64, i64, i64)> = self
            .payments
            .iter()
            .map(|payment| (payment.id.as_str(), payment.authorized(), payment.captured(), payment.disputed()))
            .collect();
        assert_eq!(payments, by_book);
        assert_eq!((order.total.0, order.due().0, order.kept().0), (self.total, self.due(cancelled), self.kept()), "{order:?}");
        self.nothing_lost(order, cancelled);
        assert_eq!(order.payment_status(), self.word(phase, cancelled), "{order:?}");
        let ended = phase == Phase::Cancelled;
        let mut open = order.payments.iter().filter(|payment| payment.authorized() > Money::ZERO);
        assert!(open.all(|payment| payment.void_requested == ended), "{order:?}");
    }

    /// MoneyEndsSomewhere: every captured minor unit is due, on its way back, disputed, or stuck in a refund that failed; no
    /// more has gone than came, but for what providers took back; and no line gets back more than it was worth.
    fn nothing_lost(&self, order: &Order, cancelled: &[u64]) {
        let of = |fits: fn(&Refund) -> bool| -> i64 {
            self.refunds.iter().filter(|refund| fits(refund)).map(|refund| refund.amount).sum()
        };
        let stuck = of(|refund| refund.state == RefundState::Failed);
        assert!(self.kept() <= self.due(cancelled) + stuck, "{order:?}");
        let turned = of(|refund| refund.state == RefundState::Succeeded && refund.turned);
        let failed = self.over(|payment| payment.sum(PaymentState::CaptureFailed).min(payment.sum(PaymentState::Captured)));
        assert!(self.kept() >= -(turned + failed + self.over(Attempt::disputed)), "{order:?}");
        let mut asked: BTreeMap<usize, i64> = BTreeMap::new();
        for (part, amount) in self.live().filter(|refund| !refund.turned).flat_map(|refund| &refund.parts) {
            *asked.entry(*part).or_default() += amount;
        }
        assert!(asked.iter().all(|(part, amount)| *amount <= self.shares[*part]), "{asked:?} of {:?}", self.shares);
        let shares: Vec<Money> = std::iter::once(order.carriage()).chain(order.line_shares()).collect();
        assert_eq!(shares, self.shares.iter().copied().map(Money).collect::<Vec<_>>());
    }

    fn word(&self, phase: Phase, cancelled: &[u64]) -> PaymentStatus {
        let agreed = if phase == Phase::Cancelled {
            self.total
        } else {
            let cut = |(line, units): (usize, &u64)| nearest(self.shares[line + 1], *units, self.ordered[line]);
            self.total - cancelled.iter().enumerate().map(cut).sum::<i64>()
        };
        let (captured, authorized) = (self.over(Attempt::captured), self.over(Attempt::authorized));
        let back: i64 =
            self.refunds.iter().filter(|refund| refund.state == RefundState::Succeeded).map(|refund| refund.amount).sum();
        if captured == 0 && self.total == 0 {
            PaymentStatus::Paid
        } else if captured == 0 && authorized > 0 && authorized >= agreed {
            PaymentStatus::Authorized
        } else if captured == 0 {
            PaymentStatus::Unpaid
        } else if self.over(Attempt::disputed) > 0 {
            PaymentStatus::Disputed
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

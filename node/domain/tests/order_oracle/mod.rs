//! What an order must look like, worked out the long way from lifecycle.md.

mod money;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use ordergrid_domain::command::{OrderAction, OrderRequest};
use ordergrid_domain::order::{
    CancelReason, Effects, FulfilmentState, LineRequest, Order, PaymentState, Phase, Status, StockEffect, Terms, TimerKind,
};
use ordergrid_domain::{Quantity, SkuId, Timestamp};

use money::Ledger;
use units::{Place, Units};

/// What a line comes to.
pub(crate) fn amount(line: &LineRequest) -> i64 {
    (0..line.quantity.0).map(|_| line.unit_price.0).sum::<i64>() - line.discount.0 + line.tax.0
}

/// An order by the book.
pub(crate) struct Oracle {
    phase: Phase,
    reason: Option<CancelReason>,
    units: Units,
    ledger: Ledger,
    fulfilments: Vec<FulfilmentState>,
    deadline: Option<Timestamp>,
    grace_used: bool,
    last_shipment: Option<Timestamp>,
    /// Of a prepaid order, that goods wait for money: `Some(true)` when there is too little, `Some(false)` when it is in doubt.
    hold: Option<bool>,
    prepaid: bool,
    window: Duration,
    /// What the SKUs would hold by the order's effects: units, and whether they are committed.
    stock: BTreeMap<SkuId, (u64, bool)>,
    sold: BTreeMap<SkuId, u64>,
    /// The timers as the order's effects have set them.
    timers: BTreeMap<TimerKind, Timestamp>,
}

impl Oracle {
    pub(crate) fn new(request: &OrderRequest, now: Timestamp) -> Self {
        let ledger = Ledger::new(request);
        let waits = request.terms == Terms::Prepaid && ledger.total > 0;
        Self {
            phase: if waits { Phase::PendingPayment } else { Phase::Confirmed },
            reason: None,
            units: Units::new(request),
            ledger,
            fulfilments: Vec::new(),
            deadline: waits.then(|| now.after(request.payment_window)),
            grace_used: false,
            last_shipment: None,
            hold: None,
            prepaid: request.terms == Terms::Prepaid,
            window: request.payment_window,
            stock: BTreeMap::new(),
            sold: BTreeMap::new(),
            timers: BTreeMap::new(),
        }
    }

    /// Follows a command. False when the book refuses it.
    pub(crate) fn command(&mut self, action: &OrderAction, now: Timestamp) -> bool {
        let taken = match action {
            OrderAction::Pay(told) => {
                told.currency.as_str() == "GBP" && self.pay(told.provider_payment_id.as_str(), told.state, told.amount.0, now)
            }
            OrderAction::Cancel { reason, lines, .. } => self.cancel(*reason, lines),
            OrderAction::Pick { lines, .. } => self.pick(lines),
            OrderAction::Ship { fulfilment, .. } => {
                self.hold.is_none()
                    && self.parcel(fulfilment.number, FulfilmentState::Picking, FulfilmentState::Shipped, Some(now))
            }
            OrderAction::Unpick { fulfilment } => {
                self.parcel(fulfilment.number, FulfilmentState::Picking, FulfilmentState::Cancelled, None)
            }
            OrderAction::Deliver { fulfilment } => {
                self.parcel(fulfilment.number, FulfilmentState::Shipped, FulfilmentState::Delivered, None)
            }
            OrderAction::Complete => self.complete(now),
            OrderAction::Refund(asked) => {
                let left = self.named(&asked.lines, |oracle, line| {
                    let all = oracle.units.ordered(line) - oracle.units.on(line, Place::Cancelled);
                    let before = if asked.amount.is_some() { 0 } else { oracle.ledger.units_refunded(line) };
                    all.saturating_sub(before)
                });
                let amount = asked.amount.map(|amount| amount.0);
                left.is_some_and(|units| self.ledger.ask(amount, &units, asked.carriage.0, &self.cancelled()))
            }
            OrderAction::RefundOutcome { refund, state, .. } => self.ledger.end_refund(refund.number, *state),
        };
        self.settle(now);
        taken
    }

    fn pay(&mut self, id: &str, state: PaymentState, amount: i64, now: Timestamp) -> bool {
        let Some((brought, purse)) = self.ledger.pay(id, state, amount, now) else { return false };
        let surplus = self.ledger.surplus(&self.cancelled());
        self.ledger.give_back(surplus.min(brought), Some(purse));
        true
    }

    fn cancel(&mut self, reason: CancelReason, lines: &[(u32, Quantity)]) -> bool {
        if matches!(reason, CancelReason::Timeout | CancelReason::Shortfall) {
            return false;
        }
        if !matches!(self.phase, Phase::PendingPayment | Phase::Confirmed) {
            return false;
        }
        let free = |oracle: &Self, line| oracle.units.on(line, Place::Held) + oracle.units.on(line, Place::Backordered);
        let Some(mut units) = self.named(lines, free) else { return false };
        if lines.is_empty() {
            units = (0..self.units.lines()).map(|line| (line, free(self, line))).filter(|(_, units)| *units > 0).collect();
        }
        if units.is_empty() {
            return false;
        }
        self.cancel_units(units, reason);
        true
    }

    fn cancel_units(&mut self, units: Vec<(usize, u64)>, reason: CancelReason) {
        let due_before = self.ledger.due(&self.cancelled());
        for (line, count) in units {
            for _ in 0..count {
                let from = if self.units.on(line, Place::Backordered) > 0 { Place::Backordered } else { Place::Held };
                self.units.move_one(line, from, Place::Cancelled);
            }
        }
        if self.units.all(Place::Cancelled) {
            self.end(reason);
        } else {
            let cancelled = self.cancelled();
            let share = due_before - self.ledger.due(&cancelled);
            self.ledger.give_back(self.ledger.surplus(&cancelled).min(share), None);
        }
    }

    fn end(&mut self, reason: CancelReason) {
        self.units.move_all(Place::Held, Place::Cancelled);
        self.phase = Phase::Cancelled;
        self.reason = Some(reason);
        self.deadline = None;
        self.ledger.give_back(self.ledger.surplus(&self.cancelled()), None);
    }

    fn pick(&mut self, lines: &[(u32, Quantity)]) -> bool {
        if self.phase != Phase::Confirmed || self.hold.is_some() {
            return false;
        }
        let held = |oracle: &Self, line| oracle.units.on(line, Place::Held);
        let Some(mut units) = self.named(lines, held) else { return false };
        if lines.is_empty() {
            units = (0..self.units.lines()).map(|line| (line, held(self, line))).filter(|(_, units)| *units > 0).collect();
        }
        if units.is_empty() {
            return false;
        }
        self.fulfilments.push(FulfilmentState::Picking);
        let parcel = self.fulfilments.len() as u32;
        for (line, count) in units {
            for _ in 0..count {
                self.units.move_one(line, Place::Held, Place::Picking(parcel));
            }
        }
        true
    }

    fn parcel(&mut self, number: u32, from: FulfilmentState, to: FulfilmentState, shipped: Option<Timestamp>) -> bool {
        let Some(state) = number.checked_sub(1).and_then(|at| self.fulfilments.get_mut(at as usize)) else { return false };
        if *state != from {
            return false;
        }
        *state = to;
        match to {
            FulfilmentState::Shipped => self.units.move_all(Place::Picking(number), Place::Shipped(number)),
            FulfilmentState::Cancelled => self.units.move_all(Place::Picking(number), Place::Held),
            _ => self.units.move_all(Place::Shipped(number), Place::Delivered),
        }
        self.last_shipment = shipped.or(self.last_shipment);
        true
    }

    fn complete(&mut self, now: Timestamp) -> bool {
        let arrived = self.units.count(|place| matches!(place, Place::Shipped(_))) == 0;
        let run_out = self.completes_at().is_some_and(|at| at <= now);
        let may = self.phase == Phase::Confirmed && self.open() == 0 && (arrived || run_out);
        if may {
            self.phase = Phase::Completed;
        }
        may
    }

    /// A timer fires on both sides.
    pub(crate) fn timer(&mut self, kind: TimerKind, now: Timestamp, order: &mut Order) -> Effects {
        match kind {
            TimerKind::PaymentDeadline if self.deadline.is_some_and(|due| due <= now) => {
                if self.ledger.young_processing(now, Duration::from_secs(120)) && !self.grace_used {
                    self.grace_used = true;
                    self.deadline = Some(now.after(Duration::from_secs(120)));
                } else {
                    self.run_out();
                }
            }
            TimerKind::AutoComplete if self.completes_at().is_some_and(|due| due <= now) => self.phase = Phase::Completed,
            _ => {}
        }
        self.settle(now);
        order.expire(kind, now)
    }

    /// The time to pay is over: parcels that have not left are unpacked, and everything that has not left is given up.
    fn run_out(&mut self) {
        for number in 1..=self.fulfilments.len() as u32 {
            if self.fulfilments[number as usize - 1] == FulfilmentState::Picking {
                self.units.move_all(Place::Picking(number), Place::Held);
                self.fulfilments[number as usize - 1] = FulfilmentState::Cancelled;
            }
        }
        let left = |line| self.units.on(line, Place::Held) + self.units.on(line, Place::Backordered);
        let units = (0..self.units.lines()).map(|line| (line, left(line))).filter(|(_, units)| *units > 0).collect();
        self.cancel_units(units, CancelReason::Timeout);
    }

    /// A SKU takes units away on both sides: from what it holds for this order, before the order hears of it.
    pub(crate) fn shortfall(&mut self, sku: &SkuId, missing: u64, now: Timestamp, order: &mut Order) -> Effects {
        let held = self.stock.get_mut(sku).map_or(0, |(units, _)| {
            let taken = missing.min(*units);
            *units -= taken;
            taken
        });
        if held > 0 && self.phase == Phase::PendingPayment {
            self.end(CancelReason::Shortfall);
        } else if held > 0 {
            let lines: Vec<usize> = self.units.lines_of(sku);
            for number in (1..=self.fulfilments.len() as u32).rev() {
                let short = lines.iter().map(|line| self.units.on(*line, Place::Held)).sum::<u64>() < held;
                if short && lines.iter().any(|line| self.units.on(*line, Place::Picking(number)) > 0) {
                    self.units.move_all(Place::Picking(number), Place::Held);
                    self.fulfilments[number as usize - 1] = FulfilmentState::Cancelled;
                }
            }
            for _ in 0..held {
                let line = lines.iter().rev().find(|line| self.units.on(**line, Place::Held) > 0).expect("held or put back");
                self.units.move_one(*line, Place::Held, Place::Backordered);
            }
        }
        self.settle(now);
        order.shortfall(sku, Quantity(missing), now)
    }

    /// Whatever happened: an order that waits for money and has it is confirmed; goods that wait for money stay, and for
    /// money that is gone they do so for as long as the buyer had at first.
    fn settle(&mut self, now: Timestamp) {
        let covered = self.ledger.covered(&self.cancelled());
        if self.phase == Phase::PendingPayment && covered {
            self.phase = Phase::Confirmed;
            self.deadline = None;
        }
        let waits = self.phase == Phase::Confirmed && self.prepaid && self.open() > 0 && (!covered || self.ledger.in_doubt());
        let hold = waits.then_some(!covered);
        if hold != self.hold && self.hold == Some(true) {
            self.deadline = None;
        }
        if hold != self.hold && hold == Some(true) {
            (self.deadline, self.grace_used) = (Some(now.after(self.window)), false);
        }
        self.hold = hold;
    }

    /// Units per line (from 0) that a command names, or `None` when the book refuses them.
    fn named(&self, lines: &[(u32, Quantity)], left: impl Fn(&Self, usize) -> u64) -> Option<Vec<(usize, u64)>> {
        let mut sums: BTreeMap<usize, u64> = BTreeMap::new();
        for (number, units) in lines {
            let line = (*number as usize).checked_sub(1).filter(|line| *line < self.units.lines())?;
            if units.0 == 0 {
                return None;
            }
            *sums.entry(line).or_default() += units.0;
        }
        sums.into_iter().map(|(line, units)| (units <= left(self, line)).then_some((line, units))).collect()
    }

    fn cancelled(&self) -> Vec<u64> {
        (0..self.units.lines()).map(|line| self.units.on(line, Place::Cancelled)).collect()
    }

    fn open(&self) -> u64 {
        self.units.count(|place| matches!(place, Place::Held | Place::Backordered | Place::Picking(_)))
    }

    fn completes_at(&self) -> Option<Timestamp> {
        let runs = self.phase == Phase::Confirmed && self.open() == 0;
        self.last_shipment.filter(|_| runs).map(|at| at.after(Duration::from_secs(7 * 24 * 3_600)))
    }

    fn status(&self) -> Status {
        let left = self.units.count(|place| matches!(place, Place::Shipped(_) | Place::Delivered));
        let arrived = self.units.count(|place| matches!(place, Place::Delivered));
        match self.phase {
            Phase::Cancelled => Status::Cancelled,
            Phase::Completed => Status::Completed,
            Phase::PendingPayment => Status::PendingPayment,
            Phase::Confirmed if self.hold == Some(true) => Status::OnHold,
            Phase::Confirmed if self.open() == 0 && arrived == left => Status::Delivered,
            Phase::Confirmed if self.open() == 0 => Status::Shipped,
            Phase::Confirmed if left > 0 => Status::PartiallyShipped,
            Phase::Confirmed if self.ledger.covered(&self.cancelled()) => Status::Paid,
            Phase::Confirmed => Status::Confirmed,
        }
    }

    /// Does to stock and timers what a change of the order asks for. A SKU never gives more than it holds.
    pub(crate) fn follow(&mut self, effects: &Effects) {
        let ordered = |items: &[(SkuId, Quantity)]| {
            assert!(items.is_sorted_by(|a, b| a.0 < b.0), "summed per SKU, ordered by SKU: {items:?}");
            assert!(!items.is_empty() && items.iter().all(|(_, units)| units.0 > 0), "nothing for nothing: {items:?}");
        };
        for effect in &effects.stock {
            match effect {
                StockEffect::Keep { committed, items } => {
                    ordered(items);
                    self.stock = items.iter().map(|(sku, units)| (sku.clone(), (units.0, *committed))).collect();
                }
                StockEffect::Commit { skus } => {
                    for sku in skus {
                        let hold = self.stock.get_mut(sku).expect("commit of a hold that exists");
                        assert!(hold.0 > 0 && !hold.1, "commit of what is reserved, once: {sku}");
                        hold.1 = true;
                    }
                }
                StockEffect::Free { items } | StockEffect::Ship { items } => {
                    ordered(items);
                    for (sku, units) in items {
                        let hold = self.stock.get_mut(sku).expect("only what is held");
                        hold.0 = hold.0.checked_sub(units.0).expect("no more than is held");
                        if matches!(effect, StockEffect::Ship { .. }) {
                            assert!(hold.1, "only what is committed leaves the shelf");
                            *self.sold.entry(sku.clone()).or_default() += units.0;
                        }
                    }
                }
            }
        }
        for (kind, due) in &effects.timers {
            match due {
                Some(due) => self.timers.insert(*kind, *due),
                None => self.timers.remove(kind),
            };
        }
    }

    /// The order looks as the book says.
    pub(crate) fn check(&self, order: &Order) {
        assert_eq!((order.phase, order.cancel_reason), (self.phase, self.reason), "{order:?}");
        assert_eq!(order.status(), self.status(), "{order:?}");
        self.units.check(order);
        self.ledger.check(order, self.phase, &self.cancelled());
        let states: Vec<FulfilmentState> = order.fulfilments.iter().map(|fulfilment| fulfilment.state).collect();
        assert_eq!(states, self.fulfilments);
        let timers: BTreeMap<TimerKind, Timestamp> =
            [(TimerKind::PaymentDeadline, self.deadline), (TimerKind::AutoComplete, self.completes_at())]
                .into_iter()
                .filter_map(|(kind, due)| Some((kind, due?)))
                .collect();
        assert_eq!(self.timers, timers, "the timers that effects have set");
        assert_eq!((order.payment_due_at, order.completes_at), (self.deadline, self.completes_at()));
        self.check_stock(order);
    }

    fn check_stock(&self, order: &Order) {
        let kept = self.stock.iter().filter(|(_, (units, _))| *units > 0);
        let kept: Vec<(SkuId, Quantity)> = kept.map(|(sku, (units, _))| (sku.clone(), Quantity(*units))).collect();
        assert_eq!(order.holding(), kept, "AllOrNothing: {order:?}");
        let committed = matches!(self.phase, Phase::Confirmed | Phase::Completed);
        assert!(self.stock.values().all(|(units, is)| *units == 0 || *is == committed), "{:?}", self.stock);
        for line in 0..self.units.lines() {
            let sku = self.units.sku(line);
            let of_sku = self.units.lines_of(sku);
            let left: u64 = of_sku.iter().map(|line| self.units.left(*line)).sum();
            assert_eq!(self.sold.get(sku).copied().unwrap_or_default(), left, "what left the shelf of {sku}");
        }
    }
}

//! The model of an order: phase, units per line, money in and out, two deadlines. Prices have no discounts and no taxes
//! here, so that what is due is a plain sum.

use std::collections::BTreeMap;

use ordergrid_domain::command::{Created, OrderAction, OrderCommand, PaymentTold, Place};
use ordergrid_domain::order::{FulfilmentState, Phase, RefundState, Terms};
use ordergrid_domain::{AttemptId, GroupId, Key, Order, OrderId, Outcome, Rejection, SkuId};

use super::attempt::PaymentModel;
use super::{Applied, AttemptModel, Effect, Mistake, Oracle, RETENTION, demand};
use crate::domain::Violation;
use crate::domain::report::Counts;

const GRACE: u64 = 120_000;
const AUTO_COMPLETE: u64 = 7 * 24 * 3_600_000;

#[derive(Clone, Debug)]
struct LineModel {
    sku: SkuId,
    price: i64,
    held: u64,
    picking: u64,
    shipped: u64,
    delivered: u64,
    cancelled: u64,
}

#[derive(Clone, Debug)]
struct RefundModel {
    amount: i64,
    /// Given up by somebody who asked: it lowers what is due.
    forgiven: i64,
    state: RefundState,
    /// The payment that it goes back to.
    purse: usize,
}

#[derive(Clone, Debug)]
struct Seen {
    body: u64,
    created: Option<Created>,
    at: u64,
}

/// An order.
#[derive(Clone, Debug)]
pub struct OrderModel {
    /// Where it lives.
    pub shard: GroupId,
    attempt: AttemptId,
    phase: Phase,
    lines: Vec<LineModel>,
    parcels: Vec<(FulfilmentState, Vec<u64>)>,
    payments: Vec<PaymentModel>,
    refunds: Vec<RefundModel>,
    pay_by: Option<u64>,
    window: u64,
    prepaid: bool,
    /// Goods wait: for money (true), or for the provider to say what holds.
    hold: Option<bool>,
    grace_used: bool,
    shipped_at: Option<u64>,
    complete_by: Option<u64>,
    seen: BTreeMap<Key, Seen>,
    version: u64,
}

/// What a command does to the model: what it created, and what the SKUs are told.
struct Done {
    created: Option<Created>,
    effects: Vec<Effect>,
    /// A repeated fact: nothing changed.
    nothing: bool,
}

impl Done {
    fn with(created: Option<Created>, effects: Vec<Effect>) -> Option<Self> {
        Some(Self { created, effects, nothing: false })
    }
}

impl OrderModel {
    pub(super) fn new(now: u64, place: &Place, shard: GroupId) -> Self {
        let request = &place.request;
        let line = |line: &ordergrid_domain::order::LineRequest| LineModel {
            sku: line.sku.clone(),
            price: line.unit_price.0,
            held: line.quantity.0,
            picking: 0,
            shipped: 0,
            delivered: 0,
            cancelled: 0,
        };
        let lines: Vec<LineModel> = request.lines.iter().map(line).collect();
        let free = lines.iter().all(|line| line.price == 0);
        let waits = request.terms == Terms::Prepaid && !free;
        Self {
            shard,
            attempt: place.attempt,
            phase: if waits { Phase::PendingPayment } else { Phase::Confirmed },
            lines,
            parcels: Vec::new(),
            payments: Vec::new(),
            refunds: Vec::new(),
            pay_by: waits.then(|| now + request.payment_window.as_millis() as u64),
            window: request.payment_window.as_millis() as u64,
            prepaid: request.terms == Terms::Prepaid,
            hold: None,
            grace_used: false,
            shipped_at: None,
            complete_by: None,
            seen: BTreeMap::new(),
            version: 1,
        }
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.phase == Phase::Confirmed
    }

    pub(super) fn holds_anything(&self) -> bool {
        self.lines.iter().any(|line| line.held + line.picking > 0)
    }

    /// Whether a machine's order looks like this.
    pub(super) fn same(&self, order: &Order) -> Result<(), Violation> {
        let units = |l: &LineModel| [l.held, l.picking, l.shipped, l.delivered, l.cancelled];
        let shown: Vec<[u64; 5]> =
            order.lines.iter().map(|l| [l.held.0, l.picking.0, l.shipped.0, l.delivered.0, l.cancelled.0]).collect();
        let expected: Vec<[u64; 5]> = self.lines.iter().map(units).collect();
        demand!(shown == expected, "order {}: units are {shown:?}, not {expected:?}", order.id);
        let money = (order.captured().0, order.refunded().0, order.due().0);
        let due = if self.phase == Phase::Cancelled { 0 } else { self.due() };
        let expected = (self.captured(), self.refunded(), due);
        demand!(
            money == expected,
            "MoneyConserved: order {}: captured, refunded, due are {money:?}, not {expected:?}",
            order.id
        );
        let state =
            (order.phase, order.version, order.payment_due_at.map(|at| at.as_ms()), order.completes_at.map(|at| at.as_ms()));
        let expected = (self.phase, self.version, self.pay_by, self.complete_by);
        demand!(state == expected, "order {}: phase, version, timers are {state:?}, not {expected:?}", order.id);
        Ok(())
    }

    fn over(&self, amount: impl Fn(&AttemptModel) -> i64) -> i64 {
        self.payments.iter().map(|payment| amount(&payment.attempt)).sum()
    }

    fn captured(&self) -> i64 {
        self.over(AttemptModel::captured)
    }

    fn covered(&self) -> bool {
        self.kept() + self.over(AttemptModel::authorized) >= self.due_now()
    }

    fn live(&self) -> impl Iterator<Item = &RefundModel> {
        self.refunds.iter().filter(|refund| refund.state != RefundState::Failed)
    }

    fn refunded(&self) -> i64 {
        self.live().map(|refund| refund.amount).sum()
    }

    fn due(&self) -> i64 {
        let goods: i64 = self.lines.iter().map(|l| l.price * (l.held + l.picking + l.shipped) as i64).sum();
        (goods - self.live().map(|refund| refund.forgiven).sum::<i64>()).max(0)
    }

    fn kept(&self) -> i64 {
        self.captured() - self.over(AttemptModel::disputed) - self.refunded()
    }

    fn surplus(&self) -> i64 {
        let due = if self.phase == Phase::Cancelled { 0 } else { self.due() };
        (self.kept() - due).max(0)
    }

    /// A refund for each payment that has some of it: the one that is named, then the last one first.
    fn give_back(&mut self, amount: i64, first: Option<usize>) {
        let mut left = amount.max(0);
        for purse in first.into_iter().chain((0..self.payments.len()).rev()) {
            let back: i64 = self.live().filter(|refund| refund.purse == purse).map(|refund| refund.amount).sum();
            let attempt = &self.payments[purse].attempt;
            let amount = (attempt.captured() - attempt.disputed() - back).clamp(0, left);
            if amount > 0 {
                left -= amount;
                self.refunds.push(RefundModel { amount, forgiven: 0, state: RefundState::Requested, purse });
            }
        }
    }

    fn is_open(&self) -> bool {
        self.holds_anything()
    }

    /// After every change: whether its goods have to wait, and when it completes by itself.
    fn wind(&mut self, now: u64) {
        let doubt = self.payments.iter().any(|payment| payment.attempt.in_doubt());
        let stands = self.phase == Phase::Confirmed && self.prepaid && self.is_open();
        let hold = (stands && (!self.covered() || doubt)).then(|| !self.covered());
        if hold != self.hold {
            if self.hold == Some(true) {
                self.pay_by = None;
            }
            if hold == Some(true) {
                (self.pay_by, self.grace_used) = (Some(now + self.window), false);
            }
            self.hold = hold;
        }
        let waits = self.phase == Phase::Confirmed && !self.is_open();
        self.complete_by = self.shipped_at.filter(|_| waits).map(|at| at + AUTO_COMPLETE);
        self.version += 1;
    }

    fn per_sku(&self, units: impl Fn(usize, &LineModel) -> u64) -> Vec<(SkuId, u64)> {
        let mut sums: BTreeMap<SkuId, u64> = BTreeMap::new();
        for (n, line) in self.lines.iter().enumerate() {
            *sums.entry(line.sku.clone()).or_default() += units(n, line);
        }
        sums.into_iter().filter(|(_, units)| *units > 0).collect()
    }

    fn confirm(&mut self, covered_before: bool, effects: &mut Vec<Effect>) {
        if !covered_before && self.covered() && self.phase == Phase::PendingPayment {
            self.phase = Phase::Confirmed;
            self.pay_by = None;
            let skus = self.per_sku(|_, line| line.held).into_iter().map(|(sku, _)| sku).collect();
            effects.push(Effect::Commit(skus));
        }
    }

    /// `None` when the command must be refused.
    fn act(&mut self, id: OrderId, now: u64, action: &OrderAction, mistake: Mistake) -> Option<Done> {
        match action {
            OrderAction::Pay(told) => self.pay(told, now, mistake),
            OrderAction::Cancel { lines, .. } => self.cancel(lines),
            OrderAction::Pick { .. } => {
                let may = self.phase == Phase::Confirmed && self.hold.is_none();
                (may && self.lines.iter().any(|line| line.held > 0)).then_some(())?;
                let units = self.lines.iter_mut().map(|line| {
                    line.picking += line.held;
                    std::mem::take(&mut line.held)
                });
                let units = units.collect();
                self.parcels.push((FulfilmentState::Picking, units));
                let number = self.parcels.len() as u32;
                Done::with(Some(Created::Fulfilment(ordergrid_domain::FulfilmentId { order: id, number })), Vec::new())
            }
            OrderAction::Ship { fulfilment, .. } => {
                self.hold.is_none().then_some(())?;
                let units = self.parcel(fulfilment.number, FulfilmentState::Picking, FulfilmentState::Shipped)?;
                for (line, units) in self.lines.iter_mut().zip(&units) {
                    line.picking -= units;
                    line.shipped += units;
                }
                self.shipped_at = Some(now);
                Done::with(None, vec![Effect::Ship(self.per_sku(|n, _| units[n]))])
            }
            OrderAction::Unpick { fulfilment } => {
                let units = self.parcel(fulfilment.number, FulfilmentState::Picking, FulfilmentState::Cancelled)?;
                for (line, units) in self.lines.iter_mut().zip(&units) {
                    line.picking -= units;
                    line.held += units;
                }
                Done::with(None, Vec::new())
            }
            OrderAction::Deliver { fulfilment } => {
                let units = self.parcel(fulfilment.number, FulfilmentState::Shipped, FulfilmentState::Delivered)?;
                for (line, units) in self.lines.iter_mut().zip(&units) {
                    line.delivered += units;
                }
                Done::with(None, Vec::new())
            }
            OrderAction::Complete => {
                let delivered = self.lines.iter().all(|line| line.delivered == line.shipped);
                let run_out = self.complete_by.is_some_and(|at| at <= now);
                (self.phase == Phase::Confirmed && !self.is_open() && (delivered || run_out)).then_some(())?;
                self.phase = Phase::Completed;
                Done::with(None, Vec::new())
            }
            OrderAction::Refund(asked) => {
                let amount = asked.amount.map_or(0, |amount| amount.0);
                (amount > 0 && amount <= self.kept()).then_some(())?;
                let due = if self.phase == Phase::Cancelled { 0 } else { self.due() };
                let mut forgiven = if self.kept() >= due { (amount - self.surplus()).max(0) } else { 0 };
                let first = self.refunds.len();
                self.give_back(amount, None);
                for refund in &mut self.refunds[first..] {
                    refund.forgiven = refund.amount.min(forgiven);
                    forgiven -= refund.forgiven;
                }
                let number = first as u32 + 1;
                Done::with(Some(Created::Refund(ordergrid_domain::RefundId { order: id, number })), Vec::new())
            }
            OrderAction::RefundOutcome { refund, state, .. } => self.refund_outcome(refund.number, *state),
        }
    }

    fn parcel(&mut self, number: u32, from: FulfilmentState, to: FulfilmentState) -> Option<Vec<u64>> {
        let parcel = self.parcels.get_mut((number as usize).checked_sub(1)?).filter(|parcel| parcel.0 == from)?;
        parcel.0 = to;
        Some(parcel.1.clone())
    }

    fn pay(&mut self, told: &PaymentTold, now: u64, mistake: Mistake) -> Option<Done> {
        let known = self.payments.iter().position(|payment| payment.id == told.provider_payment_id);
        let mut attempt = known.map_or_else(AttemptModel::default, |at| self.payments[at].attempt.clone());
        if !attempt.tell(told.state, told.amount.0)? {
            return Some(Done { created: None, effects: Vec::new(), nothing: true });
        }
        let (covered, kept) = (self.covered(), self.kept());
        match known {
            Some(at) => self.payments[at].attempt = attempt,
            None => self.payments.push(PaymentModel { id: told.provider_payment_id.clone(), at: now, attempt }),
        }
        let mut effects = Vec::new();
        self.confirm(covered, &mut effects);
        if !(self.phase == Phase::Cancelled && mistake == Mistake::LateMoneyKept) {
            let brought = self.kept() - kept;
            self.give_back(self.surplus().min(brought), Some(known.unwrap_or(self.payments.len() - 1)));
        }
        Done::with(known.is_none().then_some(Created::Payment), effects)
    }

    /// The time to pay is over: what has not left is given up. Tells what is free again.
    fn run_out(&mut self) -> Vec<(SkuId, u64)> {
        let (due_before, freed) = (self.due(), self.per_sku(|_, line| line.held + line.picking));
        for parcel in self.parcels.iter_mut().filter(|parcel| parcel.0 == FulfilmentState::Picking) {
            parcel.0 = FulfilmentState::Cancelled;
        }
        for line in &mut self.lines {
            line.cancelled += std::mem::take(&mut line.held) + std::mem::take(&mut line.picking);
        }
        if self.lines.iter().all(|line| line.shipped == 0) {
            self.phase = Phase::Cancelled;
            self.pay_by = None;
            self.give_back(self.surplus(), None);
        } else {
            self.give_back(self.surplus().min(due_before - self.due()), None);
        }
        freed
    }

    fn due_now(&self) -> i64 {
        if self.phase == Phase::Cancelled { 0 } else { self.due() }
    }

    fn cancel(&mut self, lines: &[(u32, ordergrid_domain::Quantity)]) -> Option<Done> {
        matches!(self.phase, Phase::PendingPayment | Phase::Confirmed).then_some(())?;
        let mut units: Vec<u64> = vec![0; self.lines.len()];
        if lines.is_empty() {
            units = self.lines.iter().map(|line| line.held).collect();
        }
        for (number, quantity) in lines {
            *units.get_mut((*number as usize).checked_sub(1)?)? += quantity.0;
        }
        let fits = self.lines.iter().zip(&units).all(|(line, units)| *units <= line.held);
        let sum: u64 = units.iter().sum();
        (fits && sum > 0).then_some(())?;
        let rest: u64 = self.lines.iter().map(|line| line.held + line.picking + line.shipped).sum();
        let covered = self.covered();
        let due_before = self.due();
        let freed = self.per_sku(|n, _| units[n]);
        for (line, units) in self.lines.iter_mut().zip(&units) {
            line.held -= units;
            line.cancelled += units;
        }
        let mut effects = vec![Effect::Free(freed)];
        if sum == rest {
            self.phase = Phase::Cancelled;
            self.pay_by = None;
            self.give_back(self.surplus(), None);
        } else {
            self.confirm(covered, &mut effects);
            self.give_back(self.surplus().min(due_before - self.due()), None);
        }
        Done::with(None, effects)
    }

    fn refund_outcome(&mut self, number: u32, state: RefundState) -> Option<Done> {
        let at = (number as usize).checked_sub(1)?;
        let known = self.refunds.get(at)?.state;
        if known == state {
            return Some(Done { created: None, effects: Vec::new(), nothing: true });
        }
        let covered = self.covered();
        self.refunds[at].state = state;
        let mut effects = Vec::new();
        self.confirm(covered, &mut effects);
        Done::with(None, effects)
    }
}

impl Oracle {
    pub(super) fn order_command(
        &mut self,
        at: Applied,
        now: u64,
        command: &OrderCommand,
        outcome: &Outcome,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        let mistake = self.mistake;
        let Some(model) = self.orders.get_mut(&command.order) else {
            let none = Outcome::Rejected(Rejection::NoSuchOrder(command.order));
            demand!(*outcome == none, "an unknown order was answered with {outcome:?}");
            return Ok(());
        };
        if let Some(seen) = model.seen.get(&command.key).filter(|seen| now <= seen.at + RETENTION) {
            if seen.body != command.body_hash {
                demand!(*outcome == Outcome::Rejected(Rejection::KeyReused), "KeyReused was expected, not {outcome:?}");
                return Ok(());
            }
            let Outcome::Order { created, replayed: true, .. } = outcome else {
                return Err(Violation(format!("a replay was expected, not {outcome:?}")));
            };
            counts.note("command retried");
            return Self::same_created(seen.created, *created);
        }
        let mut next = model.clone();
        let (phase, refunds) = (model.phase, model.refunds.len());
        let Some(done) = next.act(command.order, now, &command.action, mistake) else {
            demand!(
                matches!(outcome, Outcome::Rejected(_)),
                "{:?} must be refused, not {outcome:?}: {model:?}",
                command.action
            );
            self.touched.1.insert(command.order);
            return Ok(());
        };
        let Outcome::Order { order, created, replayed: false, .. } = outcome else {
            return Err(Violation(format!("{:?} must be done, not {outcome:?}: {model:?}", command.action)));
        };
        Self::same_created(done.created, *created)?;
        if !done.nothing {
            next.wind(now);
        }
        let seen = Seen { body: command.body_hash, created: done.created, at: now };
        next.seen.insert(command.key.clone(), seen);
        if matches!(command.action, OrderAction::Pay { .. }) && next.refunds.len() > refunds {
            counts.note(if phase == Phase::Cancelled { "late money refunded" } else { "surplus refunded" });
        }
        next.same(order)?;
        let attempt = next.attempt;
        self.orders.insert(command.order, next);
        for effect in done.effects {
            self.send(at.shard, attempt, effect);
        }
        Ok(())
    }

    /// Which timers are due, in order, and what they do.
    pub(super) fn tick(&mut self, shard: GroupId, now: u64, outcome: &Outcome, counts: &mut Counts) -> Result<(), Violation> {
        let of_shard = self.orders.iter().filter(|(_, order)| order.shard == shard);
        let due = of_shard.flat_map(|(id, order)| {
            let timers = [(order.pay_by, *id, 0), (order.complete_by, *id, 1)];
            timers.into_iter().filter_map(move |(at, id, kind)| Some((at.filter(|at| *at <= now)?, id, kind)))
        });
        let mut due: Vec<(u64, OrderId, u8)> = due.collect();
        due.sort_unstable();
        due.truncate(ordergrid_domain::machine::TICK_LIMIT);
        for (_, id, kind) in &due {
            let order = self.orders.get_mut(id).expect("it was just seen");
            let attempt = order.attempt;
            let mut effects = Vec::new();
            if *kind == 1 {
                counts.note("completed by timer");
                order.phase = Phase::Completed;
            } else if !order.grace_used && order.payments.iter().any(|payment| payment.is_young(now, GRACE)) {
                counts.note("grace given");
                order.grace_used = true;
                order.pay_by = Some(now + GRACE);
            } else {
                counts.note("expired by timer");
                effects.push(Effect::Free(order.run_out()));
            }
            order.wind(now);
            for effect in effects {
                self.send(shard, attempt, effect);
            }
            self.touched.1.insert(*id);
        }
        let Outcome::Ticked { expired, .. } = outcome else {
            return Err(Violation(format!("a tick was answered with {outcome:?}")));
        };
        demand!(*expired as usize >= due.len(), "TimersFire: {} timers are due, {expired} fired", due.len());
        Ok(())
    }
}

//! The laws of a single order, said once as data. `check` asserts the cheap part of them after every change, in production
//! too, and all of them in debug builds; `verify` prints them.

use std::collections::BTreeSet;

use super::{EventKind, FulfilmentState, Line, Order, OrderHold, Phase, Refund, RefundState, Terms};
use crate::law::Law;
use crate::money::{Money, Quantity};

impl Order {
    /// Stops the process when a law is broken.
    pub fn check(&self) {
        assert!(self.lines.iter().all(Line::adds_up), "AllOrNothing: a line does not add up: {self:?}");
        assert!(self.is_every_purse_enough(), "MoneyConserved: refunds above what was captured: {self:?}");
        assert!(self.does_money_end(), "MoneyEndsSomewhere: {:?}: {self:?}", self.money());
        let last = self.events.last().map(|last| last.number as usize);
        assert!(
            last == Some(self.events.len()),
            "EventsGapless: event {last:?} is the last of {}: {self:?}",
            self.events.len()
        );
        debug_assert_eq!(self.violations(), Vec::new(), "broken by {self:?}");
    }

    /// Every law that this order breaks, with what is wrong; none of a sound order.
    #[must_use]
    pub fn violations(&self) -> Vec<(Law, String)> {
        let mut broken = Broken { order: self, found: Vec::new() };
        broken.units();
        broken.phase();
        broken.fulfilments();
        broken.total();
        broken.payments();
        broken.refunds();
        broken.timers();
        broken.events();
        broken.found
    }
}

impl Line {
    fn adds_up(&self) -> bool {
        self.ordered == Quantity(self.cancelled.0 + self.open().0 + self.shipped.0)
            && self.delivered <= self.shipped
            && self.returned <= self.shipped
            && self.ordered > Quantity::ZERO
    }
}

impl Order {
    /// No purse was asked for more than was captured into it. A refund that was told to have failed, and then to have
    /// succeeded, does not count: it may have been asked for again meanwhile.
    fn is_every_purse_enough(&self) -> bool {
        let mut left: Vec<i64> = self.payments.iter().map(|payment| payment.captures().0).collect();
        let asked = self.live_refunds().filter(|refund| !refund.turned);
        for refund in asked {
            let Some(left) = (refund.payment as usize).checked_sub(1).and_then(|at| left.get_mut(at)) else { return false };
            *left -= refund.amount.0;
        }
        left.iter().all(|left| *left >= 0)
    }

    /// What is kept beyond due waits for a refund that has failed, and what is gone beyond what was captured is explained by
    /// facts: a capture that failed, a dispute, a refund that succeeded after all.
    fn does_money_end(&self) -> bool {
        let money = self.money();
        let in_state = |fits: fn(&Refund) -> bool| -> i64 {
            self.refunds.iter().filter(|refund| fits(refund)).map(|refund| refund.amount.0).sum()
        };
        let failed = in_state(|refund| refund.state == RefundState::Failed);
        let turned = in_state(|refund| refund.state == RefundState::Succeeded && refund.turned);
        let taken: i64 = self.payments.iter().map(|payment| payment.capture_failed().0 + payment.disputed().0).sum();
        money.adds_up() && money.surplus.0 <= failed && money.overdrawn.0 <= turned + taken
    }
}

struct Broken<'a> {
    order: &'a Order,
    found: Vec<(Law, String)>,
}

impl Broken<'_> {
    fn unless(&mut self, holds: bool, law: Law, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push((law, what()));
        }
    }

    fn units(&mut self) {
        for (number, line) in (1..).zip(&self.order.lines) {
            self.unless(line.adds_up(), Law::AllOrNothing, || format!("line {number} does not add up: {line:?}"));
        }
    }

    fn phase(&mut self) {
        let order = self.order;
        let (open, shipped) = (order.open_units(), order.shipped_units());
        let started = order.total_of(|line| Quantity(line.picking.0 + line.backordered.0)).0 + shipped.0 > 0;
        let fits = match order.phase {
            Phase::PendingPayment => !started && open > Quantity::ZERO && order.terms == Terms::Prepaid && !order.covered(),
            Phase::Confirmed => open > Quantity::ZERO || shipped > Quantity::ZERO,
            Phase::Completed => open == Quantity::ZERO && shipped > Quantity::ZERO,
            Phase::Cancelled => open == Quantity::ZERO && shipped == Quantity::ZERO,
        };
        self.unless(fits, Law::AllOrNothing, || {
            format!("phase {:?} with {open} units open, {shipped} shipped, due {}", order.phase, order.due())
        });
        let reason_fits = order.cancel_reason.is_some() == (order.phase == Phase::Cancelled);
        self.unless(reason_fits, Law::AllOrNothing, || format!("phase and reason differ: {:?}", order.cancel_reason));
    }

    fn fulfilments(&mut self) {
        let order = self.order;
        // Per line: units in parcels that are being picked, that have left, that have arrived.
        let mut parcels = vec![(0, 0, 0); order.lines.len()];
        for (number, fulfilment) in (1..).zip(&order.fulfilments) {
            self.unless(fulfilment.number == number, Law::EventsGapless, || {
                format!("fulfilment {number} is called {}", fulfilment.number)
            });
            for &(line, Quantity(units)) in &fulfilment.lines {
                let Some(parcel) = parcels.get_mut((line as usize).wrapping_sub(1)) else {
                    self.unless(false, Law::AllOrNothing, || format!("fulfilment {number} names line {line}"));
                    continue;
                };
                match fulfilment.state {
                    FulfilmentState::Picking => parcel.0 += units,
                    FulfilmentState::Shipped => parcel.1 += units,
                    FulfilmentState::Delivered => *parcel = (parcel.0, parcel.1 + units, parcel.2 + units),
                    FulfilmentState::Cancelled => {}
                }
            }
        }
        for (number, (line, parcel)) in (1..).zip(order.lines.iter().zip(parcels)) {
            let on_line = (line.picking.0, line.shipped.0, line.delivered.0);
            self.unless(on_line == parcel, Law::AllOrNothing, || {
                format!("line {number} has {on_line:?} picking, shipped, delivered; its parcels have {parcel:?}")
            });
        }
    }

    fn total(&mut self) {
        let order = self.order;
        let lines: i64 = order.lines.iter().map(|line| line.amount().0).sum();
        let added = Money(lines - order.discount.0 + order.shipping_fee.0);
        self.unless(order.total == added && added >= Money::ZERO, Law::MoneyConserved, || {
            format!("the total is {}, its parts add up to {added}", order.total)
        });
        if order.total == added && added >= Money::ZERO {
            let shared = Money(order.line_shares().iter().map(|share| share.0).sum::<i64>() + order.carriage().0);
            self.unless(shared == added, Law::MoneyConserved, || format!("{added} was shared out as {shared}"));
        }
    }

    fn payments(&mut self) {
        let order = self.order;
        let mut ids = BTreeSet::new();
        for payment in &order.payments {
            let once = ids.insert((&payment.provider, &payment.provider_payment_id));
            self.unless(once, Law::MoneyConserved, || format!("payment {} twice", payment.provider_payment_id));
            let told = payment.facts.iter().all(|fact| fact.amount > Money::ZERO) && !payment.facts.is_empty();
            self.unless(told, Law::MoneyConserved, || format!("facts of nothing: {payment:?}"));
            let given_up = payment.authorized() == Money::ZERO || payment.void_requested;
            self.unless(given_up || order.phase != Phase::Cancelled, Law::MoneyConserved, || {
                format!("cancelled, but payment {} stays authorised", payment.provider_payment_id)
            });
        }
    }

    fn refunds(&mut self) {
        let order = self.order;
        self.unless(order.is_every_purse_enough(), Law::MoneyConserved, || {
            format!("refunds of {} on {} captured", order.refunded(), order.captured())
        });
        self.unless(order.does_money_end(), Law::MoneyEndsSomewhere, || format!("{:?}, {} due", order.money(), order.due()));
        for (number, refund) in (1..).zip(&order.refunds) {
            self.unless(refund.number == number, Law::EventsGapless, || format!("refund {number} is {}", refund.number));
            let lines = refund.lines.iter().all(|(line, amount)| *line as usize <= order.lines.len() && *amount >= Money::ZERO);
            let fits = lines && refund.amount > Money::ZERO && refund.forgiven <= refund.amount;
            self.unless(fits, Law::MoneyConserved, || format!("refund {number} does not add up: {refund:?}"));
            if !lines {
                return;
            }
        }
        let settled = order.settled(order.live_refunds().filter(|refund| !refund.turned));
        let shares = std::iter::once(order.carriage()).chain(order.line_shares());
        for (number, (settled, share)) in settled.into_iter().zip(shares).enumerate() {
            self.unless(settled <= share, Law::MoneyConserved, || format!("{settled} settled of line {number}, worth {share}"));
        }
    }

    fn timers(&mut self) {
        let order = self.order;
        let waits = order.phase == Phase::PendingPayment || order.hold() == Some(OrderHold::NoCover);
        self.unless(order.payment_due_at.is_some() == waits, Law::TimersFire, || {
            format!("phase {:?} with deadline {:?}", order.phase, order.payment_due_at)
        });
        self.unless(order.completes_at == order.completion_time(), Law::TimersFire, || {
            format!("completes at {:?}, should be {:?}", order.completes_at, order.completion_time())
        });
    }

    fn events(&mut self) {
        let order = self.order;
        let mut status = None;
        let mut at = order.created_at;
        for (number, event) in (1..).zip(&order.events) {
            let moves = matches!(event.kind, EventKind::Created | EventKind::StatusChanged);
            let fits = event.number == number
                && event.from == status
                && event.at >= at
                && (event.kind == EventKind::Created) == (number == 1)
                && moves == (event.from != Some(event.to));
            self.unless(fits, Law::EventsGapless, || format!("event {number} does not follow {status:?}: {event:?}"));
            (status, at) = (Some(event.to), event.at);
        }
        self.unless(status == Some(order.status()), Law::EventsGapless, || {
            format!("the timeline ends at {status:?}, the order is {:?}", order.status())
        });
        let told = |of: fn(&EventKind) -> bool| order.events.iter().filter(|event| of(&event.kind)).count();
        let told = (
            told(|kind| matches!(kind, EventKind::FulfilmentCreated(_))),
            told(|kind| matches!(kind, EventKind::RefundRequested(_))),
        );
        let made = (order.fulfilments.len(), order.refunds.len());
        self.unless(told == made, Law::EventsGapless, || format!("{made:?} fulfilments and refunds, {told:?} were told of"));
        self.unless(order.version <= order.events.len() as u64, Law::EventsGapless, || {
            format!("version {} with {} events", order.version, order.events.len())
        });
        self.unless(order.updated_at == at, Law::EventsGapless, || format!("changed at {:?} without an event", at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::testing::{Play, at};
    use crate::order::{CancelReason, Status};

    const ORDER: &str = "A*6@255 B*2@100";
    const PARTLY: &str = "pay p captured 1730; pick 1:4; ship 1; deliver 1; refund 5; pick; refund 6";

    #[test]
    fn sound_orders_break_no_law() {
        for given in ["", PARTLY, "cancel user", "pay p captured 9; @900 deadline", "pay p captured 1730; short A 3"] {
            assert_eq!(Play::new(ORDER, given).order.violations(), [], "{given}");
        }
    }

    /// In production too, where only the cheap part of the laws is looked at.
    #[test]
    #[should_panic(expected = "EventsGapless: event Some(6) is the last of 5")]
    fn a_change_of_an_order_with_a_gap_stops_the_process() {
        let mut order = Play::new(ORDER, "pay p captured 1730; pick; ship 1").order;
        order.events.remove(2);
        order.check();
    }

    #[test]
    #[rustfmt::skip]
    fn a_broken_order_is_told_by_the_law_it_breaks() {
        type Damage = fn(&mut Order);
        let rows: &[(&str, Law, Damage)] = &[
            // given                              law                    damage
            ("",                                  Law::AllOrNothing,     |order| order.lines[0].held.0 -= 1),
            ("",                                  Law::AllOrNothing,     |order| order.lines[1].cancelled.0 += 1),
            ("",                                  Law::AllOrNothing,     |order| order.lines[0].delivered.0 = 1),
            ("",                                  Law::AllOrNothing,     |order| order.lines[0].returned.0 = 1),
            ("",                                  Law::AllOrNothing,     |order| (order.lines[0].held.0, order.lines[0].backordered.0) = (0, 6)),
            ("",                                  Law::AllOrNothing,     |order| (order.lines[0].held.0, order.lines[0].picking.0) = (0, 6)),
            ("",                                  Law::AllOrNothing,     |order| order.cancel_reason = Some(CancelReason::User)),
            ("",                                  Law::AllOrNothing,     |order| order.phase = Phase::Cancelled),
            ("",                                  Law::AllOrNothing,     |order| order.phase = Phase::Completed),
            ("",                                  Law::AllOrNothing,     |order| order.terms = Terms::Invoice),
            ("cancel user",                       Law::AllOrNothing,     |order| order.cancel_reason = None),
            ("cancel user",                       Law::AllOrNothing,     |order| order.phase = Phase::Confirmed),
            ("pay p captured 1730",               Law::AllOrNothing,     |order| order.phase = Phase::PendingPayment),
            (PARTLY,                              Law::AllOrNothing,     |order| order.fulfilments[0].state = FulfilmentState::Cancelled),
            (PARTLY,                              Law::AllOrNothing,     |order| order.fulfilments[0].state = FulfilmentState::Shipped),
            (PARTLY,                              Law::AllOrNothing,     |order| order.fulfilments[1].lines[0].1.0 += 1),
            (PARTLY,                              Law::AllOrNothing,     |order| order.fulfilments[1].lines[0].0 = 9),
            (PARTLY,                              Law::AllOrNothing,     |order| order.fulfilments[1].lines[0].0 = 0),
            (PARTLY,                              Law::EventsGapless,    |order| order.fulfilments[1].number = 3),
            ("",                                  Law::MoneyConserved,   |order| order.total.0 += 1),
            ("",                                  Law::MoneyConserved,   |order| order.lines[0].unit_price.0 += 1),
            ("",                                  Law::MoneyConserved,   |order| order.discount.0 = 9_999),
            ("pay p captured 1730",               Law::MoneyConserved,   |order| order.payments.push(order.payments[0].clone())),
            ("pay p captured 1730",               Law::MoneyConserved,   |order| order.payments[0].facts[0].amount.0 = 0),
            ("pay p captured 1730",               Law::MoneyConserved,   |order| order.payments[0].facts.clear()),
            ("pay p captured 1730",               Law::MoneyEndsSomewhere, |order| order.payments[0].facts[0].amount.0 += 1),
            ("pay p captured 9; pay q captured 9; cancel user", Law::MoneyConserved, |order| order.refunds[0].payment = order.refunds[1].payment),
            ("pay p captured 9; cancel user",     Law::MoneyConserved,   |order| order.refunds[0].payment = 0),
            ("pay p captured 9; cancel user",     Law::MoneyConserved,   |order| order.refunds[0].payment = 2),
            ("pay p authorized 9; cancel user",   Law::MoneyConserved,   |order| order.payments[0].void_requested = false),
            ("pay p captured 9; cancel user",     Law::MoneyEndsSomewhere, |order| order.refunds.clear()),
            ("pay p captured 9; cancel user",     Law::MoneyConserved,   |order| order.refunds[0].amount.0 += 1),
            (PARTLY,                              Law::MoneyConserved,   |order| order.refunds[0].amount.0 = 0),
            (PARTLY,                              Law::MoneyConserved,   |order| order.refunds[0].forgiven.0 += 1),
            (PARTLY,                              Law::MoneyConserved,   |order| order.refunds[0].lines.push((1, Money(1_531)))),
            (PARTLY,                              Law::EventsGapless,    |order| order.refunds.swap(0, 1)),
            ("pay p captured 1730; refund 5; refund-succeeded 1; refund-failed 1; refund 1730; refund-succeeded 1", Law::MoneyConserved, |order| order.refunds[0].turned = false),
            ("pay p authorized 1730; pay p voided 1730", Law::TimersFire, |order| order.payment_due_at = None),
            ("",                                  Law::TimersFire,       |order| order.payment_due_at = None),
            ("cancel user",                       Law::TimersFire,       |order| order.payment_due_at = Some(at(1))),
            (PARTLY,                              Law::TimersFire,       |order| order.completes_at = Some(at(1))),
            ("pay p captured 1730; pick; ship 1", Law::TimersFire,       |order| order.completes_at = None),
            (PARTLY,                              Law::EventsGapless,    |order| drop(order.events.remove(2))),
            (PARTLY,                              Law::EventsGapless,    |order| drop(order.events.pop())),
            (PARTLY,                              Law::EventsGapless,    |order| order.events.swap(1, 2)),
            (PARTLY,                              Law::EventsGapless,    |order| order.events[1].to = Status::Shipped),
            (PARTLY,                              Law::EventsGapless,    |order| order.events[3].at = at(99)),
            (PARTLY,                              Law::EventsGapless,    |order| order.events.clear()),
            (PARTLY,                              Law::EventsGapless,    |order| order.updated_at = at(99)),
            (PARTLY,                              Law::EventsGapless,    |order| order.version = 99),
        ];
        for (row, (given, law, damage)) in rows.iter().enumerate() {
            let mut order = Play::new(ORDER, given).order;
            damage(&mut order);
            let told = order.violations();
            assert!(told.iter().any(|(broken, _)| broken == law), "row {row}: {law} is not among {told:?}");
        }
    }
}

//! T10 to T13: pick, ship, unpick, deliver, complete.

use super::command::Change;
use super::effects::{Effects, StockEffect, TimerKind};
use super::{Event, EventKind, Fulfilment, FulfilmentState, Order, Phase, limits};
use crate::command::Created;
use crate::ids::{FulfilmentId, Text, WarehouseId};
use crate::money::{Money, Quantity};
use crate::rejection::Rejection;
use crate::repair::Scale;
use crate::time::Timestamp;

impl Order {
    /// T10. Refuses, in this order: a phase other than confirmed, an order on hold, another warehouse than the default one,
    /// lines that do not exist or ask for no or too many units, nothing held, a full history.
    pub(super) fn pick(
        &mut self,
        lines: &[(u32, Quantity)],
        warehouse: &WarehouseId,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        self.refuse_unless_confirmed()?;
        self.refuse_on_hold()?;
        if *warehouse != WarehouseId::default() {
            return Err(Rejection::NoSuchWarehouse);
        }
        let units =
            if lines.is_empty() { self.all_units(|line| line.held) } else { self.named_units(lines, |_, line| line.held)? };
        if units.is_empty() {
            return Err(Rejection::NothingLeft);
        }
        self.refuse_full_history()?;

        for (&number, &quantity) in &units {
            let line = self.line_mut(number);
            line.held.0 -= quantity.0;
            line.picking.0 += quantity.0;
        }
        let number = u32::try_from(self.fulfilments.len() + 1).expect("a timeline has far fewer events");
        self.fulfilments.push(Fulfilment {
            number,
            state: FulfilmentState::Picking,
            warehouse: warehouse.clone(),
            lines: units.into_iter().collect(),
            carrier: None,
            tracking: None,
            at: change.now,
        });
        change.tell(EventKind::FulfilmentCreated(number));
        let created = Created::Fulfilment(self.fulfilment_id(number));
        Ok((Some(created), self.finish(change)))
    }

    /// T11. Refuses, in this order: an unknown fulfilment, one that is not being picked, an order on hold.
    pub(super) fn ship(
        &mut self,
        id: FulfilmentId,
        carrier: Option<&Text>,
        tracking: Option<&Text>,
        mut change: Change,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        let at = self.fulfilment_in(id, FulfilmentState::Picking)?;
        self.refuse_on_hold()?;

        let fulfilment = &mut self.fulfilments[at];
        fulfilment.state = FulfilmentState::Shipped;
        fulfilment.carrier = carrier.cloned();
        fulfilment.tracking = tracking.cloned();
        for (number, quantity) in fulfilment.lines.clone() {
            let line = self.line_mut(number);
            line.picking.0 -= quantity.0;
            line.shipped.0 += quantity.0;
        }
        let items = self.skus_of(&self.fulfilments[at].lines);
        change.effects.stock.push(StockEffect::Ship { items });
        change.tell(EventKind::FulfilmentShipped(id.number));
        if self.capture_due() > Money::ZERO {
            change.tell(EventKind::CaptureDue);
        }
        Ok((None, self.finish(change)))
    }

    /// T12. Refuses, in this order: an unknown fulfilment, one that is not being picked.
    pub(super) fn unpick(&mut self, id: FulfilmentId, mut change: Change) -> Result<(Option<Created>, Effects), Rejection> {
        let at = self.fulfilment_in(id, FulfilmentState::Picking)?;

        self.put_back(at, &mut change);
        Ok((None, self.finish(change)))
    }

    /// T13, first half. Refuses, in this order: an unknown fulfilment, one that is not shipped.
    pub(super) fn deliver(&mut self, id: FulfilmentId, mut change: Change) -> Result<(Option<Created>, Effects), Rejection> {
        let at = self.fulfilment_in(id, FulfilmentState::Shipped)?;

        self.fulfilments[at].state = FulfilmentState::Delivered;
        for (number, quantity) in self.fulfilments[at].lines.clone() {
            self.line_mut(number).delivered.0 += quantity.0;
        }
        change.tell(EventKind::FulfilmentDelivered(id.number));
        Ok((None, self.finish(change)))
    }

    /// T13, second half, by hand. Refuses, in this order: a phase other than confirmed, open units, parcels on the way
    /// before the clock has run out.
    pub(super) fn complete(&mut self, mut change: Change, scale: &Scale) -> Result<(Option<Created>, Effects), Rejection> {
        self.refuse_unless_confirmed()?;
        let run_out = scale.due(self, TimerKind::AutoComplete).is_some_and(|at| at <= scale.log(change.now));
        if self.is_open() || !(self.all_delivered() || run_out) {
            return Err(Rejection::StillOpen);
        }

        self.end_completed(&mut change);
        Ok((None, self.finish(change)))
    }

    /// The order is completed.
    pub(super) fn end_completed(&mut self, change: &mut Change) {
        assert!(self.phase == Phase::Confirmed && !self.is_open(), "completing what is open: {self:?}");
        self.phase = Phase::Completed;
        change.tell(EventKind::Completed);
    }

    /// When the order completes by itself: a while after its last shipment, once nothing is open.
    pub(super) fn completion_time(&self) -> Option<Timestamp> {
        if self.phase != Phase::Confirmed || self.is_open() {
            return None;
        }
        let shipment = |event: &&Event| matches!(event.kind, EventKind::FulfilmentShipped(_));
        let last = self.events.iter().rev().find(shipment);
        last.map(|event| event.at.after(limits::AUTO_COMPLETE))
    }

    /// The units of the fulfilment at this position go back from picking to held, and it ends.
    pub(super) fn put_back(&mut self, at: usize, change: &mut Change) {
        let fulfilment = &mut self.fulfilments[at];
        fulfilment.state = FulfilmentState::Cancelled;
        change.tell(EventKind::FulfilmentCancelled(fulfilment.number));
        for (number, quantity) in fulfilment.lines.clone() {
            let line = self.line_mut(number);
            line.picking.0 -= quantity.0;
            line.held.0 += quantity.0;
        }
    }

    /// Position of a fulfilment that must be in `state`.
    fn fulfilment_in(&self, id: FulfilmentId, state: FulfilmentState) -> Result<usize, Rejection> {
        let at = (id.number as usize).checked_sub(1).filter(|_| id.order == self.id);
        let found = at.and_then(|at| Some((at, self.fulfilments.get(at)?)));
        let (at, fulfilment) = found.ok_or(Rejection::NoSuchFulfilment(id))?;
        if fulfilment.state != state {
            return Err(Rejection::WrongFulfilmentState { state: fulfilment.state });
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Created;
    use crate::order::testing::{Play, check_refusals, check_table, units};

    const ORDER: &str = "A*6@255 B*2@100";
    const PAID: &str = "pay p captured 1730";
    const PICKED: &str = "pay p captured 1730; pick";
    const SHIPPED: &str = "pay p captured 1730; pick; ship 1";
    const DELIVERED: &str = "pay p captured 1730; pick; ship 1; deliver 1";
    const COMPLETED: &str = "pay p captured 1730; pick; ship 1; deliver 1; complete";
    const PARTLY: &str = "pay p captured 1730; pick 1:4; ship 1";

    #[test]
    #[rustfmt::skip]
    fn goods_are_picked_shipped_and_delivered() {
        check_table(&[
            // order                given                             when             words                     events                                 effects
            (ORDER,                 PAID,                             "pick",          "Paid Paid",              "fulfilment.created#1",                ""),
            (ORDER,                 PAID,                             "pick 1:2 1:1",  "Paid Paid",              "fulfilment.created#1",                ""),
            (ORDER,                 "pay p captured 1730; pick 1:2",  "pick",          "Paid Paid",              "fulfilment.created#2",                ""),
            ("A*6@5 terms=invoice", "",                               "pick",          "Confirmed Unpaid",       "fulfilment.created#1",                ""),
            (ORDER,                 PICKED,                           "ship 1",        "Shipped Paid",           "fulfilment.shipped#1 status_changed", "ship A*6 B*2; clock +604800"),
            ("A*1@5 B*1@5 A*2@5",   "pay p captured 20; pick",        "ship 1",        "Shipped Paid",           "fulfilment.shipped#1 status_changed", "ship A*3 B*1; clock +604800"),
            (ORDER,                 "pay p captured 1730; pick 1:4",  "ship 1",        "PartiallyShipped Paid",  "fulfilment.shipped#1 status_changed", "ship A*4"),
            (ORDER,                 "pay p authorized 1730; pick",    "ship 1",        "Shipped Authorized",     "fulfilment.shipped#1 payment.capture_due status_changed", "ship A*6 B*2; clock +604800"),
            (ORDER,                 "pay p authorized 1730; pay q captured 1730; pick", "ship 1", "Shipped Paid",     "fulfilment.shipped#1 status_changed", "ship A*6 B*2; clock +604800"),
            (ORDER,                 PICKED,                           "unpick 1",      "Paid Paid",              "fulfilment.cancelled#1",              ""),
            (ORDER,                 "pay p captured 1730; pick; unpick 1", "pick",     "Paid Paid",              "fulfilment.created#2",                ""),
            (ORDER,                 SHIPPED,                          "deliver 1",     "Delivered Paid",         "fulfilment.delivered#1 status_changed", ""),
            (ORDER,                 PARTLY,                           "deliver 1",     "PartiallyShipped Paid",  "fulfilment.delivered#1",              ""),
            (ORDER,                 "pay p captured 1730; pick 1:4; ship 1; pick; ship 2; deliver 1", "deliver 2", "Delivered Paid", "fulfilment.delivered#2 status_changed", ""),
            (ORDER,                 "pay p captured 1730; pick 1:4; ship 1; pick; ship 2", "deliver 2", "Shipped Paid", "fulfilment.delivered#2",      ""),
            (ORDER,                 DELIVERED,                        "complete",      "Completed Paid",         "completed status_changed",            "clock off"),
            (ORDER,                 SHIPPED,                          "@604800 complete", "Completed Paid",      "completed status_changed",            "clock off"),
            (ORDER,                 "pay p captured 1730; pick; ship 1; @604800 clock", "deliver 1", "Completed Paid", "fulfilment.delivered#1",        ""),
            ("A*6@5 terms=invoice", "pick; ship 1; deliver 1",        "complete",      "Completed Unpaid",       "completed status_changed",            "clock off"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn steps_with_goods_are_refused_in_this_order() {
        check_refusals(&[
            // order  given      when                 refusal
            (ORDER,   "",        "pick-at north",     "not possible while the order is PendingPayment"),
            (ORDER,   "cancel user", "pick",          "not possible while the order is Cancelled"),
            (ORDER,   COMPLETED, "pick",              "not possible while the order is Completed"),
            (ORDER,   PICKED,    "pick-at north",     "there is no such warehouse"),
            (ORDER,   PAID,      "pick 1:7 3:1",      "the order has no line 3"),
            (ORDER,   PAID,      "pick 1:7 0:1",      "the order has no line 0"),
            (ORDER,   PAID,      "pick 1:7 2:0",      "line 2 has quantity 0, it must be between 1 and 1000000000"),
            (ORDER,   PAID,      "pick 1:7",          "line 1 has 6 units for this, asked 7"),
            (ORDER,   PAID,      "pick 1:4 1:3",      "line 1 has 6 units for this, asked 7"),
            (ORDER,   "pay p captured 1730; short A 3", "pick 1:4", "line 1 has 3 units for this, asked 4"),
            (ORDER,   PICKED,    "pick",              "nothing is left for this"),
            (ORDER,   SHIPPED,   "pick",              "nothing is left for this"),
            (ORDER,   PAID,      "ship 1",            "there is no fulfilment #-f1"),
            (ORDER,   PICKED,    "ship 2",            "there is no fulfilment #-f2"),
            (ORDER,   PICKED,    "ship 0",            "there is no fulfilment #-f0"),
            (ORDER,   SHIPPED,   "deliver-of-another-order 1", "there is no fulfilment 1-f1"),
            (ORDER,   SHIPPED,   "ship 1",            "not possible while the fulfilment is Shipped"),
            (ORDER,   DELIVERED, "ship 1",            "not possible while the fulfilment is Delivered"),
            (ORDER,   "pay p captured 1730; pick; unpick 1", "ship 1", "not possible while the fulfilment is Cancelled"),
            (ORDER,   SHIPPED,   "unpick 2",          "there is no fulfilment #-f2"),
            (ORDER,   SHIPPED,   "unpick 1",          "not possible while the fulfilment is Shipped"),
            (ORDER,   "pay p captured 1730; pick; unpick 1", "unpick 1", "not possible while the fulfilment is Cancelled"),
            (ORDER,   PICKED,    "deliver 2",         "there is no fulfilment #-f2"),
            (ORDER,   PICKED,    "deliver 1",         "not possible while the fulfilment is Picking"),
            (ORDER,   DELIVERED, "deliver 1",         "not possible while the fulfilment is Delivered"),
            (ORDER,   "",        "complete",          "not possible while the order is PendingPayment"),
            (ORDER,   "cancel user", "complete",      "not possible while the order is Cancelled"),
            (ORDER,   COMPLETED, "complete",          "not possible while the order is Completed"),
            (ORDER,   PAID,      "complete",          "the order still has open units or parcels on the way"),
            (ORDER,   PICKED,    "complete",          "the order still has open units or parcels on the way"),
            (ORDER,   PARTLY,    "@9999999 complete", "the order still has open units or parcels on the way"),
            (ORDER,   SHIPPED,   "@604799 complete",  "the order still has open units or parcels on the way"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn units_move_from_held_to_delivered() {
        let rows = [
            // given                                                     units
            (PAID,                                                       "6 held, 2 held"),
            ("pay p captured 1730; pick 1:4",                            "2 held 4 picking, 2 held"),
            (PICKED,                                                     "6 picking, 2 picking"),
            ("pay p captured 1730; pick 1:4; pick; unpick 1",            "4 held 2 picking, 2 picking"),
            (PARTLY,                                                     "2 held 4 shipped, 2 held"),
            (SHIPPED,                                                    "6 shipped, 2 shipped"),
            (DELIVERED,                                                  "6 shipped 6 delivered, 2 shipped 2 delivered"),
            ("pay p captured 1730; pick 1:4; ship 1; pick; deliver 1",   "2 picking 4 shipped 4 delivered, 2 picking"),
            (COMPLETED,                                                  "6 shipped 6 delivered, 2 shipped 2 delivered"),
        ];
        for (given, expected) in rows {
            assert_eq!(units(&Play::new(ORDER, given).order), expected, "{given}");
        }
    }

    #[test]
    fn a_pick_answers_its_fulfilment_and_a_shipment_keeps_its_carrier() {
        let mut play = Play::new(ORDER, "pay p captured 1730; pick 1:1");
        let (created, _) = play.step("pick 2:2").expect("units are held");
        assert_eq!(created, Some(Created::Fulfilment(play.order.fulfilment_id(2))));
        play.step("ship 2").expect("it is being picked");
        let fulfilment = &play.order.fulfilments[1];
        assert_eq!(fulfilment.carrier.as_ref().map(|text| text.as_str()), Some("RM"));
        assert_eq!(fulfilment.tracking.as_ref().map(|text| text.as_str()), Some("T-1"));
    }
}

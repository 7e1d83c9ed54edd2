//! The one way in and the one way out of every change of an order.
//!
//! Way in: a command looks its refusals up in a fixed order and leaves the order as it is, or begins a [`Change`] and can no
//! longer fail. Way out: [`Order::finish`] derives the timers, writes the events, counts the version and checks the laws.

use super::effects::{Effects, TimerKind};
use super::{Event, EventKind, Operator, Order, OrderHold, Phase, Status, limits};
use crate::command::{Created, OrderAction};
use crate::ids::Text;
use crate::rejection::Rejection;
use crate::repair::Scale;
use crate::time::Timestamp;

impl Order {
    /// Does what is asked. A repeated fact (the same payment or refund outcome again) is done already: no change, the same
    /// version, no effects.
    ///
    /// The caller has looked at the idempotency key and the expected version before.
    ///
    /// # Errors
    /// The first refusal that fits, in the order that each action's own function names. The order is unchanged.
    pub fn command(
        &mut self,
        operator: Operator,
        action: &OrderAction,
        now: Timestamp,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        self.command_in(operator, action, now, &Scale::default())
    }

    /// The same where log time was set back.
    pub(crate) fn command_in(
        &mut self,
        operator: Operator,
        action: &OrderAction,
        now: Timestamp,
        scale: &Scale,
    ) -> Result<(Option<Created>, Effects), Rejection> {
        let change = Change::new(self, operator, now);
        match action {
            OrderAction::Pay(told) => self.pay(told, change),
            OrderAction::Cancel { reason, note, lines } => self.cancel(*reason, note.as_ref(), lines, change),
            OrderAction::Pick { lines, warehouse } => self.pick(lines, warehouse, change),
            OrderAction::Ship { fulfilment, carrier, tracking } => {
                self.ship(*fulfilment, carrier.as_ref(), tracking.as_ref(), change)
            }
            OrderAction::Deliver { fulfilment } => self.deliver(*fulfilment, change),
            OrderAction::Unpick { fulfilment } => self.unpick(*fulfilment, change),
            OrderAction::Complete => self.complete(change, scale),
            OrderAction::Refund(asked) => self.refund(asked, change),
            OrderAction::RefundOutcome { refund, state, occurred_at } => {
                self.refund_outcome(*refund, *state, *occurred_at, change)
            }
        }
    }

    /// Refuses to begin anything new on an order whose timeline is full.
    pub(super) fn refuse_full_history(&self) -> Result<(), Rejection> {
        if self.events.len() >= limits::EVENTS {
            return Err(Rejection::HistoryFull { limit: limits::EVENTS });
        }
        Ok(())
    }

    /// Refuses unless the phase is confirmed.
    pub(super) fn refuse_unless_confirmed(&self) -> Result<(), Rejection> {
        match self.phase {
            Phase::Confirmed => Ok(()),
            phase => Err(Rejection::WrongPhase { phase }),
        }
    }

    /// Refuses while the goods have to stay where they are.
    pub(super) fn refuse_on_hold(&self) -> Result<(), Rejection> {
        self.hold().map_or(Ok(()), |hold| Err(Rejection::OnHold { hold }))
    }

    /// Goods stay, or may leave again, as the money says after a change. Without cover a deadline runs once more.
    fn follow_cover(&mut self, change: &mut Change) {
        let hold = self.hold();
        if hold == change.hold {
            return;
        }
        if change.hold == Some(OrderHold::NoCover) {
            self.payment_due_at = None;
        }
        if hold == Some(OrderHold::NoCover) {
            self.payment_due_at = Some(change.now.after(self.payment_window));
            self.grace_used = false;
        }
        match hold {
            Some(_) => change.tell(EventKind::OnHold),
            None if self.phase == Phase::Confirmed && self.is_open() => change.tell(EventKind::Released),
            None => {}
        }
    }

    /// Closes a change: events, timers, version, laws.
    pub(super) fn finish(&mut self, mut change: Change) -> Effects {
        assert!(
            change.now >= self.updated_at,
            "rule 21: an order changes at {:?}, before its last change: {self:?}",
            change.now
        );
        self.follow_cover(&mut change);
        for kind in std::mem::take(&mut change.told) {
            self.push_event(&change, kind, change.status);
        }
        let status = self.status();
        if status != change.status {
            self.push_event(&change, EventKind::StatusChanged, status);
        }
        self.completes_at = self.completion_time();
        let timers = [
            (TimerKind::PaymentDeadline, change.payment_due_at, self.payment_due_at),
            (TimerKind::AutoComplete, change.completes_at, self.completes_at),
        ];
        let mut effects = change.effects;
        effects.timers.extend(timers.iter().filter(|(_, was, is)| was != is).map(|&(kind, _, is)| (kind, is)));
        self.version += 1;
        self.updated_at = change.now;
        self.check();
        effects
    }

    /// Appends an event under the next number.
    fn push_event(&mut self, change: &Change, kind: EventKind, to: Status) {
        self.events.push(Event {
            number: u32::try_from(self.events.len() + 1).expect("a timeline is limited to far fewer events"),
            at: change.now,
            kind,
            from: Some(change.status),
            to,
            operator: change.operator,
            reason: change.reason.clone(),
        });
    }
}

/// A change under way: who makes it and when, what was before, what has happened so far and what it wants done elsewhere.
pub(super) struct Change {
    pub(super) operator: Operator,
    pub(super) now: Timestamp,
    status: Status,
    hold: Option<OrderHold>,
    payment_due_at: Option<Timestamp>,
    completes_at: Option<Timestamp>,
    /// Stands on every event of the change.
    pub(super) reason: Option<Text>,
    told: Vec<EventKind>,
    pub(super) effects: Effects,
}

impl Change {
    pub(super) fn new(order: &Order, operator: Operator, now: Timestamp) -> Self {
        Self {
            operator,
            now,
            status: order.status(),
            hold: order.hold(),
            payment_due_at: order.payment_due_at,
            completes_at: order.completes_at,
            reason: None,
            told: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// Adds an event. A change of the status word is told by [`Order::finish`] alone, as the last.
    pub(super) fn tell(&mut self, kind: EventKind) {
        self.told.push(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::testing::{Play, check_table, refunds};

    const ORDER: &str = "A*6@255 B*2@100";

    /// An order with as many events as it may have.
    fn full(given: &str) -> Play {
        let mut play = Play::new(ORDER, given);
        let last = play.order.events.last().expect("it was created").clone();
        while play.order.events.len() < limits::EVENTS {
            let number = u32::try_from(play.order.events.len() + 1).expect("small");
            let (from, kind) = (Some(last.to), EventKind::PaymentRecorded);
            play.order.events.push(Event { number, from, kind, ..last.clone() });
        }
        play
    }

    #[test]
    #[rustfmt::skip]
    fn a_full_history_lets_nothing_new_begin_and_everything_end() {
        const FULL: &str = "the order has 10000 events, or one payment has 10000 facts, which is the limit";
        const PICKED: &str = "pay p captured 1730; pick; refund 5";
        let rows = [
            // given                              when                    words or refusal
            ("",                                  "pay p captured 1730",  FULL),
            ("",                                  "cancel user 1:1",      FULL),
            ("pay p captured 1730",               "pick",                 FULL),
            ("pay p captured 1730",               "refund 1",             FULL),
            ("pay p processing 1730",             "pay p captured 1730",  "Paid Paid"),
            ("",                                  "cancel user",          "Cancelled Unpaid"),
            ("",                                  "cancel user 1:6 2:2",  "Cancelled Unpaid"),
            ("",                                  "@900 deadline",        "Cancelled Unpaid"),
            ("pay p captured 1730; pick 1:1",     "cancel user",          "Paid Paid"),
            ("",                                  "short A 1",            "Cancelled Unpaid"),
            (PICKED,                              "ship 1",               "Shipped Paid"),
            (PICKED,                              "unpick 1",             "Paid Paid"),
            (PICKED,                              "refund-succeeded 1",   "Paid PartiallyRefunded"),
            ("pay p captured 1730; pick; ship 1", "deliver 1",            "Delivered Paid"),
            ("pay p captured 1730; pick; ship 1; deliver 1", "complete",  "Completed Paid"),
        ];
        for (given, when, expected) in rows {
            assert_eq!(full(given).told(when)[0], expected, "{given} | {when}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn named_lines_are_looked_at_before_the_history_is() {
        assert_eq!(full("pay p captured 1730").told("pick 1:7")[0], "line 1 has 6 units for this, asked 7");
        assert_eq!(full("pay p captured 1730").told("refund 1731")[0], "at most 1730 can be refunded, asked 1731");
        assert_eq!(full("").told("cancel user 1:7")[0],             "line 1 has 6 units for this, asked 7");
        assert_eq!(full("").told("pay p captured 0")[0],            "an amount is out of range");
    }

    #[test]
    #[rustfmt::skip]
    fn an_order_of_real_life_goes_its_way() {
        check_table(&[
            // A line of 74,215 units, a free one, a code that is no product, and a SKU on two lines.
            ("23166*74215@104 FREE*1@0 BANK*1@1500 23166*2@104", "",                    "pay p captured 7720068", "Paid Paid", "paid status_changed", "commit 23166 BANK FREE; deadline off"),
            ("23166*74215@104 FREE*1@0 BANK*1@1500 23166*2@104", "pay p captured 7720068; pick", "ship 1", "Shipped Paid", "fulfilment.shipped#1 status_changed", "ship 23166*74217 BANK*1 FREE*1; clock +604800"),
            ("23166*74215@104 FREE*1@0 BANK*1@1500 23166*2@104", "pay p captured 7720068", "cancel user", "Cancelled Paid", "cancel_requested cancelled refund.requested#1 status_changed", "free 23166*74217 BANK*1 FREE*1"),
        ]);
    }

    #[test]
    fn an_order_of_705_lines_is_cancelled_line_by_line_without_losing_a_penny() {
        let spec: Vec<String> = (0..705u64).map(|at| format!("S{}*{}@{}", at % 500, at % 7 + 1, at % 11 * 37)).collect();
        let spec = format!("{} discount=1001 shipping=499", spec.join(" "));
        let mut play = Play::new(&spec, "");
        let total = play.order.total;
        play.step(&format!("pay p captured {total}")).expect("it is due");
        for line in 1..=705 {
            play.step(&format!("cancel user {line}:{}", (line - 1) % 7 + 1)).expect("it is held");
        }
        assert_eq!((play.order.phase, play.order.refunded(), play.order.due().0), (Phase::Cancelled, total, 0));
        assert!(!refunds(&play.order).contains(" 0 "), "no refund of nothing");
    }

    #[test]
    fn versions_and_events_count_changes() {
        let mut play = Play::new(ORDER, "");
        let steps = ["pay p captured 1730", "pick 1:2", "ship 1", "refund 5", "deliver 1", "cancel user"];
        for (at, step) in steps.iter().enumerate() {
            play.now += 1;
            play.step(step).expect("every step is allowed");
            assert_eq!(play.order.version, at as u64 + 2, "{step}");
        }
        let numbers: Vec<u32> = play.order.events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=u32::try_from(numbers.len()).expect("few")).collect::<Vec<_>>());
        let mut status = None;
        for event in &play.order.events {
            assert_eq!(event.from, status, "{event:?}");
            status = Some(event.to);
        }
    }
}

//! Log time that ran ahead of the time, and was set back.
//!
//! Entries are stamped with *log time*. Where the clocks of a grid were wrong it may have run away, and a [`Repair`] sets it
//! back. What rows hold is *machine time*: log time and everything that repairs have taken off it. Machine time never goes
//! back, so that the order of what happened stays that of its times, a timer set in the wrong time is due after as long as it
//! was set for, and a repair changes no row, however many there are. A scale says what a machine time is as log time: of
//! moments up to the last right one they are the same, of all later ones it is less by what the repair took off.

mod preview;

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::order::{Order, TimerKind};
use crate::time::Timestamp;

pub use preview::{Deadline, Moved, Preview};

/// A valid-until that is further ahead than this was counted from the log time of a shard that is not repaired yet: longer
/// than any hold is valid.
pub(crate) const LONGEST_VALIDITY: Duration = Duration::from_secs(15 * 60);

/// Sets log time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Repair {
    /// Log time as whoever asks has seen it. Refused if it is another one: a repair that comes twice does nothing the second time.
    pub log: Timestamp,
    /// The time that it is.
    pub right: Timestamp,
    /// Stamps from this one on are wrong, up to `log`; those before it are right.
    pub since: Timestamp,
}

/// A repair that was done, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Repaired {
    /// Machine time of the first wrong stamp.
    pub(crate) since: Timestamp,
    /// Machine time when log time was set back.
    pub(crate) at: Timestamp,
    /// Milliseconds that were taken off.
    pub(crate) by: u64,
}

impl Repaired {
    /// What a repair comes to at a moment of machine time.
    pub(crate) fn new(repair: &Repair, scale: &Scale, at: Timestamp) -> Self {
        let last = scale.0.last().map_or(Timestamp::default(), |last| last.at);
        let since = scale.machine(repair.since).clamp(last, at);
        Self { since, at, by: repair.log.as_ms().saturating_sub(repair.right.as_ms()) }
    }
}

/// How machine time stands to log time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Scale(Vec<Repaired>);

impl Scale {
    /// Takes one more repair; the order of taking does not matter.
    pub(crate) fn add(&mut self, repaired: Repaired) {
        let place = self.0.partition_point(|known| known.at < repaired.at);
        self.0.insert(place, repaired);
    }

    /// Whether log time was never set back, so that both times are one.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// What repairs have taken off what was stamped at a moment.
    fn ahead(&self, moment: Timestamp) -> u64 {
        self.0.iter().filter(|repaired| repaired.since <= moment).map(|repaired| repaired.by).sum()
    }

    /// What they have taken off by now.
    fn ahead_now(&self) -> u64 {
        self.0.iter().map(|repaired| repaired.by).sum()
    }

    /// The log time of a moment at which something was stamped.
    pub(crate) fn log(&self, moment: Timestamp) -> Timestamp {
        less(moment, self.ahead(moment))
    }

    /// The log time of a moment that is not passed, counted from now.
    pub(crate) fn log_from_now(&self, moment: Timestamp) -> Timestamp {
        less(moment, self.ahead_now())
    }

    /// The log time of a deadline that was set at a moment.
    fn log_of_due(&self, set: Timestamp, due: Timestamp) -> Timestamp {
        less(due, self.ahead(set))
    }

    /// Machine time at which log time will be so far, or is.
    pub(crate) fn machine(&self, log: Timestamp) -> Timestamp {
        Timestamp::from_ms(log.as_ms().saturating_add(self.ahead_now()))
    }

    /// Milliseconds of time from one stamped moment to another; zero where that is earlier.
    pub(crate) fn between(&self, earlier: Timestamp, later: Timestamp) -> Duration {
        self.log(later).since(self.log(earlier))
    }

    /// Whether what was set at a moment for a span still counts.
    pub(crate) fn lasts(&self, set: Timestamp, span: Duration, now: Timestamp) -> bool {
        self.is_plain() && now <= set.after(span) || !self.is_plain() && self.log(now) <= self.log(set).after(span)
    }

    /// Whether it also did at every moment until now: in a time that ran away it may have been taken for over.
    pub(crate) fn lasted(&self, set: Timestamp, span: Duration, now: Timestamp) -> bool {
        let then = |repairs: usize| Self(self.0[..repairs].to_vec()).lasts(set, span, self.0[repairs].at);
        self.lasts(set, span, now) && (0..self.0.len()).all(then)
    }

    /// When a timer of an order is due, as log time.
    pub(crate) fn due(&self, order: &Order, kind: TimerKind) -> Option<Timestamp> {
        let due = order.due_at(kind)?;
        Some(order.set_at(kind).map_or(due, |set| self.log_of_due(set, due)))
    }

    /// The valid-until of a hold, as machine time. It is told as log time, and where another shard of the order is not
    /// repaired yet as that shard's.
    pub(crate) fn valid_until(&self, told: Timestamp, now: Timestamp) -> Timestamp {
        let Some(last) = self.0.last() else { return told };
        let machine = self.machine(told);
        let latest = now.after(LONGEST_VALIDITY);
        machine.min(latest.max(less(machine, last.by)))
    }

    /// Whether what an attempt did to a SKU still has its mark, by the valid-until of its holds. In a time that ran away marks
    /// were forgotten early.
    pub(crate) fn is_marked(&self, valid_until: Timestamp, now: Timestamp) -> bool {
        now <= valid_until && self.0.last().is_none_or(|last| last.at.after(LONGEST_VALIDITY) < valid_until)
    }

    /// Has an order tell log times.
    pub(crate) fn tell(&self, order: &mut Order) {
        if self.is_plain() {
            return;
        }
        (order.payment_due_at, order.completes_at) =
            (self.due(order, TimerKind::PaymentDeadline), self.due(order, TimerKind::AutoComplete));
        let times = [&mut order.created_at, &mut order.updated_at].into_iter();
        let payments = order.payments.iter_mut().map(|payment| &mut payment.at);
        let refunds = order.refunds.iter_mut().map(|refund| &mut refund.at);
        let fulfilments = order.fulfilments.iter_mut().map(|fulfilment| &mut fulfilment.at);
        let events = order.events.iter_mut().map(|event| &mut event.at);
        for time in times.chain(payments).chain(refunds).chain(fulfilments).chain(events) {
            *time = self.log(*time);
        }
    }
}

fn less(moment: Timestamp, ms: u64) -> Timestamp {
    Timestamp::from_ms(moment.as_ms().saturating_sub(ms))
}

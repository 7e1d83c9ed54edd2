//! Which rare states a chain went through: seen in the machine before an entry, in the commands, and in their outcomes.
//!
//! What stands before a command is looked at before its whole entry, so a state that an entry makes and meets itself is not
//! counted. Counts show that a run has been somewhere; nothing is judged by them.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_cluster::EntryId;
use ordergrid_domain::command::{Deliver, Hold, OrderAction, OrderCommand, Place};
use ordergrid_domain::machine::HoldView;
use ordergrid_domain::order::{CancelReason, Phase, Status};
use ordergrid_domain::{
    AttemptId, Command, Entry, GroupId, Key, Lookup, Message, Order, Outcome, Rejection, ShardMachine, SkuId, Timestamp, UserId,
};

use super::alone;

/// States that a good number of runs reaches together; named here so that one never reached shows as zero.
pub const RARE: [&str; 31] = [
    "clock behind log time",
    "command repeated under its key",
    "completed by timer",
    "count refused for promised units",
    "entry lost with its leader",
    "expired by timer",
    "expiry lost to pay",
    "gone met a kept hold",
    "hold refused as expired",
    "hold released",
    "hold repeated",
    "key retried across a leader change",
    "key retried",
    "key reused with another body",
    "late money refunded",
    "leader elected",
    "losing attempt released",
    "mailbox redelivered across a leader change",
    "mailbox redelivered",
    "mark",
    "orphan hold asked and freed",
    "pay lost to expiry",
    "place refused out of stock",
    "placed locally",
    "release met nothing",
    "second attempt of a placed key",
    "sold out, then sold again",
    "stale attempt refused",
    "stream gap refused",
    "surplus refunded",
    "tombstone met",
];

/// Counts while a chain is replayed.
#[derive(Debug)]
pub(super) struct Rare {
    counts: BTreeMap<&'static str, u64>,
    keys: BTreeMap<(UserId, Key), u64>,
    delivered: BTreeMap<(GroupId, GroupId), u64>,
    sold_out: BTreeSet<SkuId>,
}

/// What stood before a command.
pub(super) enum Before {
    /// Nothing of interest.
    Any,
    /// Holds of an attempt, as the command names them.
    Holds(Vec<Option<HoldView>>),
    /// The order, and the log time of the entry.
    Order(Option<Box<Order>>, Timestamp),
    /// How far a stream was applied.
    Stream(u64),
    /// Orders cancelled and completed.
    Ended(u64, u64),
}

impl Default for Rare {
    fn default() -> Self {
        let counts = RARE.iter().map(|state| (*state, 0)).collect();
        Self { counts, keys: BTreeMap::new(), delivered: BTreeMap::new(), sold_out: BTreeSet::new() }
    }
}

impl Rare {
    pub(super) fn note(&mut self, state: &'static str) {
        self.add(state, 1);
    }

    pub(super) fn add(&mut self, state: &'static str, times: u64) {
        *self.counts.entry(state).or_default() += times;
    }

    pub(super) fn finish(self) -> BTreeMap<&'static str, u64> {
        self.counts
    }

    /// Looks at what the commands of an entry will meet.
    pub(super) fn before(machine: &ShardMachine, entry: &Entry) -> Vec<Before> {
        let now = machine.time().max(entry.at);
        let look = |command: &Command| match command {
            Command::Hold(hold) => Before::Holds(vec![view(machine, hold.attempt, &hold.sku)]),
            Command::Holds(holds) => {
                Before::Holds(holds.rows.iter().map(|row| view(machine, holds.attempt(row), &row.sku)).collect())
            }
            Command::Release(release) => {
                Before::Holds(release.skus.iter().map(|sku| view(machine, release.attempt, sku)).collect())
            }
            Command::Gone(holds) => Before::Holds(holds.iter().map(|(attempt, sku)| view(machine, *attempt, sku)).collect()),
            Command::Order(command) => Before::Order(order(machine, command), now),
            Command::Deliver(run) => Before::Stream(machine.high(run.from)),
            Command::Tick => ended(machine),
            Command::Place(_) | Command::PlaceLocal(_) | Command::Sku(_) | Command::Trim { .. } | Command::Repair(_) => {
                Before::Any
            }
            Command::Restart(_) | Command::Claims(_) | Command::Agree { .. } => Before::Any,
        };
        entry.commands.iter().map(look).collect()
    }

    /// Counts what an entry did.
    pub(super) fn after(
        &mut self,
        at: EntryId,
        entry: &Entry,
        before: &[Before],
        outcomes: &[Outcome],
        machine: &ShardMachine,
    ) {
        if entry.commands.is_empty() {
            self.note("mark");
        }
        for ((command, before), outcome) in entry.commands.iter().zip(before).zip(outcomes) {
            match (command, before) {
                (Command::Place(place), _) => self.placed(at, place, outcome),
                (Command::PlaceLocal(place), _) => {
                    self.placed(at, place, outcome);
                    if matches!(outcome, Outcome::Placed { replayed: false, .. }) {
                        self.note("placed locally");
                    }
                }
                (Command::Order(command), Before::Order(Some(order), now)) => self.ordered(command, order, *now, outcome),
                (Command::Sku(_), _) => self.stocked(outcome),
                (Command::Hold(hold), Before::Holds(views)) => self.held(hold, views.first().copied().flatten(), outcome),
                (Command::Holds(holds), Before::Holds(views)) => {
                    let Outcome::Holds(results) = outcome else { continue };
                    for ((hold, view), result) in holds.each().zip(views).zip(results) {
                        self.held(&hold, *view, &alone(result));
                    }
                }
                (Command::Release(_), Before::Holds(views)) => views.iter().for_each(|view| self.released(*view)),
                (Command::Gone(_), Before::Holds(views)) => views.iter().for_each(|view| self.gone(*view)),
                (Command::Deliver(run), Before::Stream(high)) => {
                    self.delivered(at, machine.shard(), run, *high, outcome);
                }
                (Command::Tick, Before::Ended(cancelled, completed)) => {
                    let Outcome::Ticked { expired, .. } = outcome else { continue };
                    let Before::Ended(now_cancelled, now_completed) = ended(machine) else { continue };
                    let expired = u64::from(*expired);
                    self.add("expired by timer", expired.min(now_cancelled.saturating_sub(*cancelled)));
                    self.add("completed by timer", expired.min(now_completed.saturating_sub(*completed)));
                }
                _ => {}
            }
        }
    }

    fn placed(&mut self, at: EntryId, place: &Place, outcome: &Outcome) {
        match self.keys.insert((place.request.user.clone(), place.request.key.clone()), at.term) {
            Some(term) if term != at.term => self.note("key retried across a leader change"),
            Some(_) => self.note("key retried"),
            None => {}
        }
        match outcome {
            Outcome::Placed { order, replayed: true } if order.attempt != place.attempt => {
                self.note("second attempt of a placed key");
            }
            Outcome::Rejected(Rejection::KeyReused) => self.note("key reused with another body"),
            Outcome::Rejected(Rejection::StaleAttempt { .. }) => self.note("stale attempt refused"),
            Outcome::Rejected(Rejection::OutOfStock { .. } | Rejection::OutOfStocks(_)) => {
                self.note("place refused out of stock");
            }
            _ => {}
        }
    }

    fn ordered(&mut self, command: &OrderCommand, before: &Order, now: Timestamp, outcome: &Outcome) {
        match outcome {
            Outcome::Order { replayed: true, .. } => self.note("command repeated under its key"),
            Outcome::Order { order, .. } if matches!(command.action, OrderAction::Pay { .. }) => self.paid(before, order, now),
            Outcome::Rejected(Rejection::KeyReused) => self.note("key reused with another body"),
            _ => {}
        }
    }

    fn paid(&mut self, before: &Order, after: &Order, now: Timestamp) {
        let refunded = after.refunds.len() > before.refunds.len();
        match before.phase {
            Phase::PendingPayment if after.phase == Phase::Confirmed && before.payment_due_at.is_some_and(|due| due <= now) => {
                self.note("expiry lost to pay");
            }
            Phase::Cancelled if before.cancel_reason == Some(CancelReason::Timeout) => self.note("pay lost to expiry"),
            _ => {}
        }
        match before.phase {
            Phase::Cancelled if refunded => self.note("late money refunded"),
            _ if refunded => self.note("surplus refunded"),
            _ => {}
        }
    }

    fn stocked(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Sku { replayed: true, .. } => self.note("command repeated under its key"),
            Outcome::Rejected(Rejection::WouldOversell { .. }) => self.note("count refused for promised units"),
            Outcome::Rejected(Rejection::KeyReused) => self.note("key reused with another body"),
            _ => {}
        }
    }

    fn held(&mut self, hold: &Hold, before: Option<HoldView>, outcome: &Outcome) {
        match outcome {
            Outcome::Held { .. } if before.is_some() => self.note("hold repeated"),
            Outcome::Held { .. } if self.sold_out.remove(&hold.sku) => self.note("sold out, then sold again"),
            Outcome::Rejected(Rejection::HoldEnded) if before == Some(HoldView::Ended) => self.note("tombstone met"),
            Outcome::Rejected(Rejection::HoldExpired { .. }) => self.note("hold refused as expired"),
            Outcome::Rejected(Rejection::OutOfStock { .. }) => {
                self.sold_out.insert(hold.sku.clone());
            }
            _ => {}
        }
    }

    fn released(&mut self, before: Option<HoldView>) {
        match before {
            None => self.note("release met nothing"),
            Some(HoldView::Tentative(_)) => self.note("hold released"),
            Some(HoldView::Kept(_) | HoldView::Ended) => {}
        }
    }

    fn gone(&mut self, before: Option<HoldView>) {
        match before {
            Some(HoldView::Tentative(_)) => self.note("orphan hold asked and freed"),
            Some(HoldView::Kept(_)) => self.note("gone met a kept hold"),
            Some(HoldView::Ended) | None => {}
        }
    }

    fn delivered(&mut self, at: EntryId, to: GroupId, run: &Deliver, high: u64, outcome: &Outcome) {
        if matches!(outcome, Outcome::Rejected(Rejection::StreamGap { .. })) {
            self.note("stream gap refused");
            return;
        }
        let last_term = self.delivered.insert((run.from, to), at.term);
        if run.first <= high {
            self.note("mailbox redelivered");
            if last_term.is_some_and(|term| term != at.term) {
                self.note("mailbox redelivered across a leader change");
            }
        }
        for message in fresh(run, high) {
            match message {
                Message::Release(_) => self.note("losing attempt released"),
                Message::Decided(decided) => self.add("losing attempt released", decided.released.len() as u64),
                Message::Keep { .. }
                | Message::Commits(_)
                | Message::Frees(_)
                | Message::Ships(_)
                | Message::Commit { .. }
                | Message::Free { .. }
                | Message::Ship { .. }
                | Message::Claim { .. }
                | Message::Shortfall { .. } => {}
            }
        }
    }
}

/// Messages of a run that were not applied before.
pub(super) fn fresh(run: &Deliver, high: u64) -> impl Iterator<Item = &Message> {
    (run.first..).zip(&run.messages).filter(move |(number, _)| *number > high).map(|(_, message)| message)
}

fn view(machine: &ShardMachine, attempt: AttemptId, sku: &SkuId) -> Option<HoldView> {
    match machine.hold_of(attempt, sku) {
        Lookup::Found(view) => Some(view),
        Lookup::Absent | Lookup::Cold(_) => None,
    }
}

fn order(machine: &ShardMachine, command: &OrderCommand) -> Option<Box<Order>> {
    match machine.order(command.order) {
        Lookup::Found(order) => Some(Box::new(order)),
        Lookup::Absent | Lookup::Cold(_) => None,
    }
}

fn ended(machine: &ShardMachine) -> Before {
    let orders = machine.counters().orders;
    let of = |wanted| orders.iter().find(|(status, _)| *status == wanted).map_or(0, |(_, count)| *count);
    Before::Ended(of(Status::Cancelled), of(Status::Completed))
}

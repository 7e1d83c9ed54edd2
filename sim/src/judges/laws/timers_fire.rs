//! TimersFire, from outside: an unpaid order expires once, not before its deadline, and not long after it.
//!
//! Assumed: a deadline is compared with log times, which are those of the events, exactly; with the harness's clock only
//! within [`Setting::skew`]. A deadline only moves later, so an expiry is not before any deadline ever told. What is still
//! unpaid in the last reads, on a healed grid, must be due by no more than [`Setting::timer_slack`]. Where log time was set back,
//! only what was asked afterwards is looked at: what was told before is of another time.
//!
//! [`Setting::skew`]: crate::judges::evidence::book::Setting::skew
//! [`Setting::timer_slack`]: crate::judges::evidence::book::Setting::timer_slack

use ordergrid_api::wire::{FactTold, Happening, Order, StatusHistory};
use ordergrid_domain::order::{CancelReason, Operator, OrderHold, PaymentState, Phase};
use ordergrid_domain::{Law, Timestamp};

use crate::history::Operation;
use crate::judges::evidence::book::{Book, PlaceCall, Sighting};
use crate::judges::evidence::undated;
use crate::verdict::Violation;

/// Looks at every deadline.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let since = undated::set_back(book.history);
    let counts = |op: &Operation| since.is_none_or(|since| op.began >= since);
    for (id, sightings) in &book.orders {
        let sightings: Vec<_> = sightings.iter().filter(|sighting| counts(sighting.op)).collect();
        // With money there may be a deadline, an end of it, and an earlier one.
        let money = |sighting: &&&Sighting<'_, Order>| sighting.what.payments.iter().any(|one| one.facts.iter().any(brings));
        let due = sightings.iter().filter_map(|sighting| sighting.what.payment_due_at).max();
        let due = due.filter(|_| sightings.iter().filter(money).count() == 0);
        let timelines = book.timelines.get(id).into_iter().flatten().filter(|timeline| counts(timeline.op));
        let fired = timelines.into_iter().find_map(|timeline| twice_or_early(timeline.what, due));
        let early = sightings.iter().find_map(|sighting| early(book, sighting, due));
        let late = sightings.iter().find_map(|sighting| late(book, sighting));
        wrong.extend(fired.or(early).or(late).map(|text| format!("order {id}: {text}")));
    }
    for calls in book.places.values().filter(|calls| calls.iter().all(|call| counts(call.op))) {
        wrong.extend(before_asked(book, calls));
    }
    wrong.into_iter().map(|text| Violation::new(Law::TimersFire, text)).collect()
}

/// The calls of one key got an order that is older than all of them.
fn before_asked(book: &Book<'_>, calls: &[PlaceCall<'_>]) -> Option<String> {
    let asked = book.setting.earliest(calls.iter().map(|call| call.op.began).min()?)?;
    let id = calls.iter().find_map(PlaceCall::id)?;
    let placed = book.orders.get(&id)?.first()?.what.created_at;
    (placed < asked).then(|| format!("order {id} was placed at {placed:?}, and nobody asked for it before {asked:?}"))
}

/// Whether goods may have counted on it.
fn brings(fact: &FactTold) -> bool {
    matches!(fact.status, PaymentState::Authorized | PaymentState::Captured)
}

fn expiry(event: &&Happening) -> bool {
    let by_timer = event.operator == Operator::System && event.event == "order.cancelled";
    by_timer && event.reason.as_ref().is_some_and(|reason| reason.as_str() == CancelReason::Timeout.word())
}

fn twice_or_early(timeline: &StatusHistory, due: Option<Timestamp>) -> Option<String> {
    let expired: Vec<_> = timeline.history.iter().filter(expiry).collect();
    let extended = timeline.history.iter().filter(|event| event.event == "order.deadline_extended").count();
    let waits = 1 + timeline.history.iter().filter(|event| event.event == "order.on_hold").count();
    if expired.len() > 1 || extended > waits {
        return Some(format!("expired {} times, extended {extended} times", expired.len()));
    }
    let (at, due) = (expired.first()?.at, due?);
    (at < due).then(|| format!("expired at {at:?}, before {due:?}"))
}

fn early(book: &Book<'_>, sighting: &Sighting<'_, Order>, due: Option<Timestamp>) -> Option<String> {
    let (order, number) = (sighting.what, sighting.op.number);
    let latest = sighting.op.ended.and_then(|ended| book.setting.latest(ended));
    if let Some(latest) = latest.filter(|latest| order.updated_at > *latest) {
        return Some(format!(
            "operation {number}: changed at {:?}, when no clock showed more than {latest:?}",
            order.updated_at
        ));
    }
    let due = due.filter(|_| order.cancel_reason == Some(CancelReason::Timeout))?;
    if order.updated_at < due {
        return Some(format!("operation {number}: expired at {:?}, before {due:?}", order.updated_at));
    }
    let latest = latest.filter(|latest| *latest < due)?;
    Some(format!("operation {number}: expired when no clock showed more than {latest:?}, before {due:?}"))
}

fn late(book: &Book<'_>, sighting: &Sighting<'_, Order>) -> Option<String> {
    let order = sighting.what;
    let waits = order.phase == Phase::PendingPayment || order.on_hold == Some(OrderHold::NoCover);
    if !waits || !sighting.is_final() {
        return None;
    }
    let Some(due) = order.payment_due_at else { return Some("it waits for money without a deadline".to_owned()) };
    let now = book.setting.earliest_healed(sighting.op.began)?;
    let late = now > due.after(book.setting.timer_slack);
    late.then(|| format!("operation {}: unpaid at {now:?} or later, it was due at {due:?}", sighting.op.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ask, Ending, Said};
    use crate::judges::testing::{EPOCH, Shop};

    fn expired() -> Shop {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255 window=60");
        shop.steps(order, "pay p processing 1530");
        shop.wait(61);
        shop.ask(2, Ask::ReadOrder(order));
        shop.wait(120);
        shop.ask(2, Ask::ReadOrder(order));
        shop.order("u", "k2", "A*6@255 window=60");
        shop.finish();
        shop
    }

    fn timelines(shop: &mut Shop, bend: fn(&mut StatusHistory)) {
        for op in &mut shop.history.operations {
            if let Ending::Done { answer, .. } = &mut op.ending
                && let Said::History(timeline) = &mut **answer
            {
                bend(timeline);
            }
        }
    }

    #[test]
    fn timers_fire_in_time() {
        assert_eq!(expired().judged(judge), Vec::<String>::new());
    }

    #[test]
    fn firing_twice_is_told() {
        let mut shop = expired();
        timelines(&mut shop, |timeline| {
            if let Some(event) = timeline.history.iter().find(expiry).cloned() {
                timeline.history.push(event);
            }
        });
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn firing_early_is_told() {
        let mut shop = expired();
        timelines(&mut shop, |timeline| {
            timeline.history.iter_mut().filter(|event| expiry(&&**event)).for_each(|event| event.at = EPOCH);
        });
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_order_that_does_not_expire_is_told() {
        let mut shop = Shop::with(100);
        shop.order("u", "k", "A*6@255 window=60");
        shop.now = crate::history::SimTime::secs(70);
        shop.finish();
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn expiring_before_any_clock_is_there_is_told() {
        let mut shop = expired();
        let read = |op: &crate::history::Operation| {
            matches!(op.ask, Ask::ReadOrder(_)) && op.began > crate::history::SimTime::secs(100)
        };
        let at = shop.history.operations.iter().position(read).expect("read");
        let op = &mut shop.history.operations[at];
        (op.began, op.ended) = (crate::history::SimTime::secs(50), Some(crate::history::SimTime::secs(51)));
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_order_from_before_it_was_asked_for_is_told() {
        let mut shop = Shop::with(100);
        shop.wait(10);
        let at = shop.place("u", "k", "A*6@255 window=60");
        shop.answer(at).created_at = EPOCH;
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

//! EventsGapless, from outside: a timeline has every number from 1, each event begins where the last one ended, and what was
//! once told stays, with its number.
//!
//! Assumed: `status-history` is the whole list of an order's events. A later version of a timeline has the earlier one as
//! its beginning, whichever nodes answered; versions say which is later, not the order of the calls. Times of events are log
//! times of one shard, which never go back.

use ordergrid_api::wire::{Order, StatusHistory};
use ordergrid_domain::Law;

use crate::judges::evidence::book::{Book, Sighting};
use crate::verdict::Violation;

/// Looks at every timeline.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (id, timelines) in &book.timelines {
        for sighting in timelines {
            wrong.extend(gap(sighting.what).map(|text| format!("operation {}: order {id}: {text}", sighting.op.number)));
        }
        wrong.extend(changed_past(timelines).map(|text| format!("order {id}: {text}")));
        let orders = book.orders.get(id).map_or(&[][..], Vec::as_slice);
        wrong.extend(other_word(timelines, orders).map(|text| format!("order {id}: {text}")));
    }
    wrong.into_iter().map(|text| Violation::new(Law::EventsGapless, text)).collect()
}

fn gap(timeline: &StatusHistory) -> Option<String> {
    let mut before = None;
    for (number, event) in (1u32..).zip(&timeline.history) {
        if event.number != number {
            return Some(format!("event {number} has the number {}", event.number));
        }
        let (from, at) = before.map_or((None, event.at), |(to, at)| (Some(to), at));
        if event.from != from || event.at < at {
            return Some(format!("event {number} does not follow the one before: {event:?}"));
        }
        if (number == 1) != (event.event == "order.created") {
            return Some(format!("event {number} is {}", event.event));
        }
        before = Some((event.to, event.at));
    }
    let last = before.map(|(to, _)| to);
    (last != Some(timeline.status)).then(|| format!("the last event led to {last:?}, the status is {:?}", timeline.status))
}

fn changed_past(timelines: &[Sighting<'_, StatusHistory>]) -> Option<String> {
    let mut by_version: Vec<_> = timelines.iter().collect();
    by_version.sort_by_key(|sighting| (sighting.what.version, sighting.what.history.len()));
    by_version.windows(2).find_map(|pair| {
        let (earlier, later) = (pair[0].what, pair[1].what);
        let same = earlier.version < later.version || earlier.history.len() == later.history.len();
        let kept = later.history.starts_with(&earlier.history);
        (!same || !kept).then(|| {
            let (a, b) = (pair[0].op.number, pair[1].op.number);
            format!("versions {} and {} tell different stories, to operations {a} and {b}", earlier.version, later.version)
        })
    })
}

/// A timeline and an order of one version with two words for the status.
fn other_word(timelines: &[Sighting<'_, StatusHistory>], orders: &[Sighting<'_, Order>]) -> Option<String> {
    timelines.iter().find_map(|timeline| {
        let same = |order: &&Sighting<'_, Order>| order.what.version == timeline.what.version;
        let other = orders.iter().filter(same).find(|order| order.what.status != timeline.what.status)?;
        let (a, b) = (timeline.op.number, other.op.number);
        Some(format!("version {} has two words, told to operations {a} and {b}", other.what.version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ask, Ending, Said};
    use crate::judges::testing::Shop;

    fn told_twice() -> (Shop, usize) {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.ask(1, Ask::ReadHistory(order));
        shop.steps(order, "pay p captured 1530; pick; ship 1");
        let at = shop.ask(1, Ask::ReadHistory(order));
        shop.finish();
        (shop, at)
    }

    #[test]
    fn timelines_grow() {
        let (shop, _) = told_twice();
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_bent_timeline_is_told() {
        let bend: [fn(&mut StatusHistory); 5] = [
            |timeline| drop(timeline.history.remove(2)),
            |timeline| timeline.history.swap(1, 2),
            |timeline| timeline.history[1].number = 7,
            |timeline| drop(timeline.history.pop()),
            |timeline| timeline.history[1].reason = ordergrid_domain::Text::new("why").ok(),
        ];
        for bend in bend {
            let (mut shop, at) = told_twice();
            if let Ending::Done { answer, .. } = &mut shop.history.operations[at].ending
                && let Said::History(timeline) = &mut **answer
            {
                bend(timeline);
            }
            assert!(!shop.judged(judge).is_empty());
        }
    }

    #[test]
    fn two_words_for_one_version_are_told() {
        let (mut shop, _) = told_twice();
        let order = shop.history.operations.iter().rposition(|op| matches!(op.ask, Ask::ReadOrder(_))).expect("read");
        shop.answer(order).status = ordergrid_domain::order::Status::Cancelled;
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

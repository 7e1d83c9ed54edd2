//! ReadsAreCurrent, from outside: what one client was told before another asked, the other is told too, or something newer.
//!
//! Assumed: a call that began strictly after another ended is later; at the same moment either may be first. Versions of an
//! order or SKU grow with every change; an answer of placing is as old as the order and tells nothing about now. A token is
//! an index that the answering replica had applied before it looked, so the answer may be newer than its token, never
//! older. What the answers are held against is in `as_of_index`, what needs no log at all in `linear`.

pub mod as_of_index;

use ordergrid_domain::Law;
use std::collections::BTreeMap;

use ordergrid_api::wire::{Order, Sku};

use super::acknowledged_is_durable::overlooked;
use crate::history::{Ask, Ending, Operation, Said, Seen, SimTime};
use crate::judges::evidence::book::{Book, How, Sighting, ended};
use crate::judges::evidence::grown::unlike;
use crate::judges::evidence::linear::{Finding, findings};
use crate::verdict::Violation;

/// Looks at what was told when.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut wrong = backwards(book);
    wrong.extend(versions(book));
    let known = book.known();
    // What the last reads overlook is lost, which is another law.
    let during = book.history.operations.iter().filter(|op| op.client != crate::judges::evidence::book::FINAL_CLIENT);
    wrong.extend(during.filter_map(|op| overlooked(book, &known, op)));
    wrong.extend(book.history.operations.iter().filter_map(beside_the_question));
    let impossible = findings(book).into_iter().filter(|(_, finding)| *finding == Finding::Impossible);
    wrong.extend(impossible.map(|(what, _)| format!("{what}: no order of the calls gives these answers")));
    wrong.into_iter().map(|text| Violation::new(Law::ReadsAreCurrent, text)).collect()
}

/// Something that only grows, as an answer told it.
struct Told {
    op: u64,
    began: SimTime,
    ended: SimTime,
    value: u64,
    /// It must not be older than what was told before; else it only shows what others must not fall behind.
    current: bool,
}

/// Answers that are older than what was told before their question.
fn backwards(book: &Book<'_>) -> Vec<String> {
    let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    let mut tell = |op: &Operation, what: String, version: u64, token: Option<Seen>, current: bool| {
        let one = |value| Told { op: op.number, began: op.began, ended: ended(op), value, current };
        told.entry(what).or_default().push(one(version));
        if let Some(Seen { group, index }) = token {
            told.entry(format!("the log of shard {group}")).or_default().push(one(index));
        }
    };
    for seen in book.orders.values().flatten() {
        tell(seen.op, format!("order {}", seen.what.id), seen.what.version, seen.token, seen.how != How::Placed);
    }
    for seen in book.timelines.values().flatten() {
        tell(seen.op, format!("order {}", seen.what.order_id), seen.what.version, seen.token, true);
    }
    for seen in book.skus.values().flatten() {
        tell(seen.op, format!("SKU {}", seen.what.id), seen.what.version, seen.token, true);
        tell(seen.op, format!("the index of SKU {}", seen.what.id), seen.what.index, None, true);
    }
    told.into_iter().filter_map(|(what, told)| Some(format!("{what}: {}", fell_behind(told)?))).collect()
}

fn fell_behind(mut told: Vec<Told>) -> Option<String> {
    let mut by_end: Vec<(SimTime, u64, u64)> = told.iter().map(|one| (one.ended, one.value, one.op)).collect();
    by_end.sort_unstable();
    told.sort_by_key(|one| (one.began, one.op));
    let mut before = by_end.into_iter().peekable();
    let (mut highest, mut by) = (0, 0);
    for one in told {
        while let Some((_, value, op)) = before.next_if(|(ended, ..)| *ended < one.began) {
            if value > highest {
                (highest, by) = (value, op);
            }
        }
        if one.current && one.value < highest {
            return Some(format!("operation {} was told {highest}, the later operation {} {}", by, one.op, one.value));
        }
    }
    None
}

/// Versions of an entity that do not fit together.
fn versions(book: &Book<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, sightings) in &book.orders {
        let unlike = |a: &Sighting<'_, Order>, b: &Sighting<'_, Order>| unlike(a.what, b.what);
        wrong.extend(misfit(sightings, |order| order.version, unlike).map(|text| format!("order {id}: {text}")));
    }
    for (id, sightings) in &book.skus {
        wrong.extend(misfit(sightings, |sku| sku.version, unlike_sku).map(|text| format!("SKU {id}: {text}")));
    }
    wrong
}

fn misfit<T>(
    sightings: &[Sighting<'_, T>],
    version: fn(&T) -> u64,
    unlike: impl Fn(&Sighting<'_, T>, &Sighting<'_, T>) -> Option<String>,
) -> Option<String> {
    let mut sorted: Vec<_> = sightings.iter().collect();
    sorted.sort_by_key(|sighting| version(sighting.what));
    sorted.windows(2).find_map(|pair| {
        let why = unlike(pair[0], pair[1])?;
        let told =
            |sighting: &Sighting<'_, T>| format!("version {} told to operation {}", version(sighting.what), sighting.op.number);
        Some(format!("{why}: {} and {}", told(pair[0]), told(pair[1])))
    })
}

fn unlike_sku(a: &Sighting<'_, Sku>, b: &Sighting<'_, Sku>) -> Option<String> {
    let (a, b) = (a.what, b.what);
    if a.version == b.version {
        let same = Sku { index: b.index, replayed_version: b.replayed_version, ..a.clone() } == *b;
        return (!same).then(|| "one version has two contents".to_owned());
    }
    let counted = |sku: &Sku| [sku.stock.received, sku.stock.sold, sku.stock.restocked];
    let shrunk = counted(a).iter().zip(counted(b)).any(|(a, b)| *a > b);
    shrunk.then(|| format!("{:?} became {:?}", a.stock, b.stock))
}

/// An answer about something else than was asked.
fn beside_the_question(op: &Operation) -> Option<String> {
    let Ending::Done { answer, .. } = &op.ending else { return None };
    let fits = match (&op.ask, &**answer) {
        (Ask::ReadOrder(id), Said::Order(order)) => order.id == *id,
        (Ask::ReadHistory(id), Said::History(timeline)) => timeline.order_id == *id,
        (Ask::ReadSku(id) | Ask::PutSku(id, _) | Ask::Receive(_, id, _) | Ask::Adjust(_, id, _), Said::Sku(sku)) => {
            sku.id == *id && sku.index > 0
        }
        (Ask::ReadUser(user), Said::User(page)) => {
            let newest_first = page.orders.windows(2).all(|pair| pair[0].id > pair[1].id);
            newest_first && page.orders.iter().all(|order| order.user_id == *user)
        }
        (ask, said) => match (crate::judges::evidence::book::command_on(ask), said) {
            (Some((id, _)), Said::Order(order)) => order.id == id,
            (Some((id, _)), Said::Fulfilment(changed)) => changed.order.id == id && changed.fulfilment.id.order == id,
            _ => true,
        },
    };
    (!fits).then(|| format!("operation {}: asked {:?}, answered {answer:?}", op.number, op.ask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::{Shop, sku, user};

    fn busy() -> Shop {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.ask(2, Ask::ReadOrder(order));
        shop.steps(order, "pay p captured 1530; pick");
        shop.ask(2, Ask::ReadOrder(order));
        shop.ask(2, Ask::ReadHistory(order));
        shop.place("u", "k", "A*6@255");
        shop.ask(2, Ask::ReadSku(sku("A")));
        shop.receive("A", 5);
        shop.ask(2, Ask::ReadSku(sku("A")));
        shop.ask(2, Ask::ReadUser(user("u")));
        shop.finish();
        shop
    }

    fn find(shop: &Shop, kind: fn(&Ask) -> bool, nth: usize) -> usize {
        let mut those = shop.history.operations.iter().filter(|op| kind(&op.ask)).map(|op| op.number);
        usize::try_from(those.nth(nth).expect("asked")).expect("small")
    }

    #[test]
    fn current_answers_are_right() {
        assert_eq!(busy().judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_stale_read_is_told() {
        let mut shop = busy();
        let reads = |ask: &Ask| matches!(ask, Ask::ReadOrder(_));
        let stale = shop.answer(find(&shop, reads, 0)).clone();
        *shop.answer(find(&shop, reads, 1)) = stale;
        // By its version; and no order of the calls shows the payment before and not after.
        assert_eq!(shop.judged(judge).len(), 2);
    }

    #[test]
    fn a_stale_read_of_a_sku_is_told() {
        let mut shop = busy();
        let reads = |ask: &Ask| matches!(ask, Ask::ReadSku(_));
        let stale = shop.answered_sku(find(&shop, reads, 0)).clone();
        *shop.answered_sku(find(&shop, reads, 1)) = stale;
        assert!(shop.judged(judge).len() >= 2);
    }

    #[test]
    fn at_the_same_time_either_may_be_first() {
        let mut shop = busy();
        let reads = |ask: &Ask| matches!(ask, Ask::ReadOrder(_));
        let (first, second) = (find(&shop, reads, 0), find(&shop, reads, 1));
        let stale = shop.history.operations[first].ending.clone();
        let began = shop.history.operations[first].began;
        let op = &mut shop.history.operations[second];
        (op.began, op.ending) = (began, stale);
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn an_older_token_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadUser(_)), 0);
        if let Ending::Done { token: Some(token), .. } = &mut shop.history.operations[at].ending {
            token.index = 1;
        }
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_order_that_a_list_overlooks_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadUser(_)), 0);
        if let Ending::Done { answer, .. } = &mut shop.history.operations[at].ending
            && let Said::User(page) = &mut **answer
        {
            page.orders.clear();
        }
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_order_that_a_read_overlooks_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadOrder(_)), 1);
        shop.refuse(at, 404, "no_such_order");
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn one_version_with_two_contents_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadOrder(_)), 1);
        shop.answer(at).updated_at = ordergrid_domain::Timestamp::from_ms(1);
        assert_eq!(shop.judged(judge).len(), 1);
    }

    #[test]
    fn an_answer_about_another_order_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadOrder(_)), 0);
        shop.answer(at).id = ordergrid_domain::OrderId(7);
        // And the order that it shows stands on no list.
        assert_eq!(shop.judged(judge).len(), 2);
    }
}

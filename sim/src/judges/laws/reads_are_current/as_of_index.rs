//! ReadsAreCurrent, against the log: every answer is what a machine that never fails came to at that place of the log.
//!
//! Assumed: a command's token is the index that it landed at, so its answer is one of that entry's outcomes, word for word.
//! A read's token is an index that had been applied before the replica was looked at: the answer is the state after some
//! entry, one that was still, or only then, current at the token. An order or SKU that the standard does not know, or an
//! entry that it has no outcomes of, is not judged.

use std::sync::Arc;

use ordergrid_api::wire::{Order, Sku, StatusHistory};
use ordergrid_domain::{self as domain, GroupId, Law, Outcome};

use crate::chronicle::reference::Version;
use crate::history::Ask;
use crate::judges::evidence::book::{Book, How, Sighting};
use crate::judges::evidence::standard::Standard;
use crate::judges::evidence::undated;
use crate::verdict::Violation;

/// Holds every answer against the standard.
#[must_use]
pub fn judge(book: &Book<'_>, standard: &dyn Standard) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let told = Told { undated: undated::set_back(book.history).is_some() };
    for seen in book.orders.values().flatten() {
        let text = match seen.how {
            How::Placed => placed(seen, standard, told),
            How::Changed => changed(seen, standard, told),
            How::Read => read_order(seen, standard, told),
        };
        wrong.extend(text.map(|text| format!("operation {}: {text}: {:?}", seen.op.number, seen.what)));
    }
    for seen in book.timelines.values().flatten() {
        let text = read_timeline(seen, standard, told);
        wrong.extend(text.map(|text| format!("operation {}: {text}: {:?}", seen.op.number, seen.what)));
    }
    for seen in book.skus.values().flatten() {
        let text = match seen.how {
            How::Read => read_sku(seen, standard),
            How::Placed | How::Changed => changed_sku(seen, standard),
        };
        wrong.extend(text.map(|text| format!("operation {}: {text}: {:?}", seen.op.number, seen.what)));
    }
    wrong.into_iter().map(|text| Violation::new(Law::ReadsAreCurrent, text)).collect()
}

/// How answers are told: with their times, unless log time was set back.
#[derive(Clone, Copy)]
struct Told {
    undated: bool,
}

impl Told {
    fn order(self, mut order: Order) -> Order {
        if self.undated {
            undated::order(&mut order);
        }
        order
    }

    fn timeline(self, mut timeline: StatusHistory) -> StatusHistory {
        if self.undated {
            undated::timeline(&mut timeline);
        }
        timeline
    }
}

/// An answer of placing: as the order was placed, and not before it was.
fn placed(seen: &Sighting<'_, Order>, standard: &dyn Standard, told: Told) -> Option<String> {
    let first = standard.order_versions(seen.what.id).first()?;
    let index = seen.token.map_or(u64::MAX, |token| token.index);
    if index < first.index || (!seen.replayed && seen.token.is_some() && index != first.index) {
        return Some(format!("placed at {}, answered as of {index}", first.index));
    }
    (told.order(Order::from(&first.state.as_placed())) != *seen.what).then(|| "not as it was placed".to_owned())
}

/// An answer of a command: one of the outcomes of its entry.
fn changed(seen: &Sighting<'_, Order>, standard: &dyn Standard, told: Told) -> Option<String> {
    let token = seen.token?;
    let outcomes = standard.outcomes(GroupId(token.group), token.index);
    if outcomes.is_empty() {
        return None;
    }
    let fitting = |order: &domain::Order, created, version: u64| {
        // A parcel's answer has its own id, and the order beside it.
        let created = if matches!(seen.op.ask, Ask::Pick(..)) { None } else { created };
        told.order(Order::changed(order, created, seen.replayed.then_some(version))) == *seen.what
    };
    let fits = outcomes.iter().any(|outcome| match outcome {
        Outcome::Order { order, created, replayed, version } => {
            *replayed == seen.replayed && fitting(order, *created, *version)
        }
        _ => false,
    });
    (!fits).then(|| format!("no outcome of entry {} of shard {}", token.index, token.group))
}

fn changed_sku(seen: &Sighting<'_, Sku>, standard: &dyn Standard) -> Option<String> {
    let token = seen.token?;
    let outcomes = standard.outcomes(GroupId(token.group), token.index);
    let fits = outcomes.iter().any(|outcome| match outcome {
        Outcome::Sku { sku, replayed, version, .. } => {
            let replayed_version = replayed.then_some(*version);
            *replayed == seen.replayed && Sku { replayed_version, ..Sku::new(sku, token.index) } == *seen.what
        }
        _ => false,
    });
    (!fits && !outcomes.is_empty()).then(|| format!("no outcome of entry {} of shard {}", token.index, token.group))
}

fn read_order(seen: &Sighting<'_, Order>, standard: &dyn Standard, told: Told) -> Option<String> {
    let versions = standard.order_versions(seen.what.id);
    let token = seen.token.map_or(0, |token| token.index);
    read(versions, token, |state| state.version == seen.what.version, |state| told.order(Order::from(state)) == *seen.what)
}

fn read_timeline(seen: &Sighting<'_, StatusHistory>, standard: &dyn Standard, told: Told) -> Option<String> {
    let versions = standard.order_versions(seen.what.order_id);
    let token = seen.token.map_or(0, |token| token.index);
    read(
        versions,
        token,
        |state| state.version == seen.what.version,
        |state| told.timeline(StatusHistory::from(state)) == *seen.what,
    )
}

fn read_sku(seen: &Sighting<'_, Sku>, standard: &dyn Standard) -> Option<String> {
    let versions = standard.sku_versions(&seen.what.id);
    let token = seen.token.map_or(0, |token| token.index).max(seen.what.index);
    let same = |state: &domain::Sku| Sku::new(state, seen.what.index) == *seen.what;
    read(versions, token, |state| state.version == seen.what.version, same)
}

/// A read as of `token`: the state of its version, which was still current then or became so later.
fn read<T>(versions: &[Version<T>], token: u64, is_version: impl Fn(&T) -> bool, same: impl Fn(&T) -> bool) -> Option<String> {
    if versions.is_empty() {
        return None;
    }
    let state = |version: &Version<T>| Arc::clone(&version.state);
    let Some(at) = versions.iter().position(|version| is_version(&state(version))) else {
        return Some("no entry led to this version".to_owned());
    };
    if let Some(next) = versions.get(at + 1).filter(|next| next.index <= token) {
        return Some(format!("as of {token}, though entry {} had changed it", next.index));
    }
    (!same(&versions[at].state)).then(|| format!("not what entry {} led to", versions[at].index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ending, Seen};
    use crate::judges::testing::{Shop, key, setting, sku, step};

    fn busy() -> Shop {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        shop.ask(2, Ask::ReadOrder(order));
        shop.ask(2, Ask::ReadSku(sku("A")));
        shop.steps(order, "pay p captured 1530; refund 5");
        shop.ask(2, step(key("pick"), order, "pick"));
        shop.ask(2, step(key("pick"), order, "pick"));
        shop.place("u", "k", "A*6@255");
        shop.finish();
        shop
    }

    fn judged(shop: &Shop) -> Vec<String> {
        judge(&Book::new(&shop.history, setting()), shop).iter().map(ToString::to_string).collect()
    }

    fn find(shop: &Shop, kind: fn(&Ask) -> bool) -> usize {
        shop.history.operations.iter().position(|op| kind(&op.ask)).expect("asked")
    }

    #[test]
    fn answers_are_those_of_the_log() {
        assert_eq!(judged(&busy()), Vec::<String>::new());
    }

    #[test]
    fn other_answers_are_told() {
        let kinds: [fn(&Ask) -> bool; 4] = [
            |ask| matches!(ask, Ask::Place(..)),
            |ask| matches!(ask, Ask::ReadOrder(_)),
            |ask| matches!(ask, Ask::Pay(..)),
            |ask| matches!(ask, Ask::Pick(..)),
        ];
        for kind in kinds {
            let mut shop = busy();
            let at = find(&shop, kind);
            shop.answer(at).captured += 1;
            assert_eq!(judged(&shop).len(), 1);
        }
        for kind in [|ask: &Ask| matches!(ask, Ask::ReadSku(_)), |ask: &Ask| matches!(ask, Ask::Receive(..))] {
            let mut shop = busy();
            let at = find(&shop, kind);
            shop.answered_sku(at).stock.received += 1;
            assert_eq!(judged(&shop).len(), 1);
        }
    }

    #[test]
    fn a_read_that_is_older_than_its_token_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::ReadOrder(_)));
        if let Ending::Done { token, .. } = &mut shop.history.operations[at].ending {
            *token = Some(Seen { group: 1, index: 1_000 });
        }
        assert_eq!(judged(&shop).len(), 1);
        // And one that is newer is fine.
        if let Ending::Done { token, .. } = &mut shop.history.operations[at].ending {
            *token = Some(Seen { group: 1, index: 1 });
        }
        assert_eq!(judged(&shop), Vec::<String>::new());
    }

    #[test]
    fn a_place_that_says_another_index_is_told() {
        let mut shop = busy();
        let at = find(&shop, |ask| matches!(ask, Ask::Place(..)));
        if let Ending::Done { token: Some(token), .. } = &mut shop.history.operations[at].ending {
            token.index += 1;
        }
        assert_eq!(judged(&shop).len(), 1);
    }
}

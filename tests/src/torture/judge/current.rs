//! ReadsAreCurrent: what one client was told before another asked, the other is told too, or something newer.
//!
//! Versions of an order and of a SKU grow with every change, and the index in a `Grid-Token` with every entry of its shard:
//! each is an oracle of its own. An answer of placing, and one that is repeated under its key, is as old as what it answers
//! and tells nothing about now; but later answers must not fall behind it.

use std::collections::BTreeMap;

use super::{Evidence, Violation};
use crate::torture::history::{Ask, Attempt, End, Moment, Operation, OrderSeen, What};

const LAW: &str = "ReadsAreCurrent";

/// Something that only grows, as an answer told it.
struct Told {
    began: Moment,
    ended: Moment,
    value: u64,
    /// It must not be older than what was told before its question.
    current: bool,
    node: usize,
}

/// The law.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for operation in &evidence.operations {
        tell(operation, &mut told);
    }
    let mut wrong: Vec<Violation> = told.iter_mut().flat_map(|(what, told)| backwards(what, told)).collect();
    wrong.extend(one_version_one_content(evidence));
    wrong.extend(overlooked(evidence));
    wrong.extend(holds_missed(evidence));
    wrong
}

fn tell(operation: &Operation, told: &mut BTreeMap<String, Vec<Told>>) {
    let Some((attempt, seen)) = operation.done() else { return };
    let reads = matches!(operation.ask, Ask::Order { .. } | Ask::Sku { .. } | Ask::List { .. });
    let current = reads || !(seen.replayed || matches!(operation.ask, Ask::Place { .. }));
    let Attempt { node, began, ended, .. } = *attempt;
    let mut say = |what: String, value| told.entry(what).or_default().push(Told { began, ended, value, current, node });
    if let Some((shard, index)) = seen.token {
        say(format!("the log of shard {shard}"), index);
    }
    match &seen.what {
        What::Order(order) => say(format!("order {}", order.id), order.version),
        What::Sku(sku) => say(sku.id.clone(), sku.version),
        What::List(orders, _) => orders.iter().for_each(|order| say(format!("order {}", order.id), order.version)),
    }
}

/// Answers that are older than what was told before their question.
fn backwards(what: &str, told: &mut [Told]) -> Vec<Violation> {
    told.sort_by_key(|one| one.ended);
    let mut newest = 0;
    // The newest value told up to each end.
    let known: Vec<(Moment, u64)> = told
        .iter()
        .map(|one| {
            newest = newest.max(one.value);
            (one.ended, newest)
        })
        .collect();
    let before = |began: Moment| match known.partition_point(|(ended, _)| *ended < began) {
        0 => 0,
        place => known[place - 1].1,
    };
    let stale = told.iter().filter(|one| one.current && one.value < before(one.began));
    let words = |one: &Told| {
        let Told { began, ended, value, node, .. } = one;
        format!("{what}: node {node} told {value} from {began} to {ended} us, {} had been told before", before(*began))
    };
    stale.map(|one| Violation::new(LAW, words(one))).collect()
}

/// Two answers of one version say the same.
fn one_version_one_content(evidence: &Evidence) -> Vec<Violation> {
    let mut contents: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut see = |id, version, content| {
        if *contents.entry((id, version)).or_insert(content) != content {
            wrong.push(Violation::new(LAW, format!("{id} was told with two contents of version {version}")));
        }
    };
    for (_, order) in super::sightings(evidence) {
        see(&order.id, order.version, order.content);
    }
    for operation in &evidence.operations {
        if let Some((_, seen)) = operation.done()
            && let What::Sku(sku) = &seen.what
        {
            see(&sku.id, sku.version, sku.content);
        }
    }
    wrong
}

/// Orders that had been told of, and that a later answer says are not there.
fn overlooked(evidence: &Evidence) -> Vec<Violation> {
    let mut known: BTreeMap<&str, (Moment, &OrderSeen)> = BTreeMap::new();
    for operation in &evidence.operations {
        if let Some((attempt, _, order)) = operation.order() {
            let first = known.entry(&order.id).or_insert((attempt.ended, order));
            first.0 = first.0.min(attempt.ended);
        }
    }
    let mut of_user: BTreeMap<&str, Vec<(Moment, &str)>> = BTreeMap::new();
    for (since, order) in known.values() {
        of_user.entry(&order.user).or_default().push((*since, &order.id));
    }
    let mut wrong = Vec::new();
    for operation in &evidence.operations {
        let Some(last) = operation.attempts.last() else { continue };
        let missing: Vec<&str> = match (&operation.ask, &last.end) {
            (Ask::Order { order } | Ask::Pay { order, .. } | Ask::Cancel { order }, End::Refused { code, .. })
                if code.contains("not_found") =>
            {
                vec![order]
            }
            (Ask::List { user }, End::Done(seen)) => match &seen.what {
                What::List(orders, false) => of_user
                    .get(user.as_str())
                    .into_iter()
                    .flatten()
                    .filter(|(since, id)| *since < last.began && !orders.iter().any(|order| order.id == *id))
                    .map(|(_, id)| *id)
                    .collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let known = missing.into_iter().filter(|id| known.get(id).is_some_and(|(since, _)| *since < last.began));
        wrong.extend(known.map(|id| {
            let Attempt { node, began, .. } = last;
            Violation::new(LAW, format!("order {id} was not there at {began} us, says node {node} to {:?}", operation.ask))
        }));
    }
    wrong
}

/// Units that an acknowledged order surely holds, and that a read of its SKU does not show.
fn holds_missed(evidence: &Evidence) -> Vec<Violation> {
    let surely = surely_held(evidence);
    let mut wrong = Vec::new();
    for operation in evidence.operations.iter().filter(|op| matches!(op.ask, Ask::Sku { .. })) {
        let Some((attempt, seen)) = operation.done() else { continue };
        let What::Sku(sku) = &seen.what else { continue };
        let holds = surely.get(sku.id.as_str()).into_iter().flat_map(BTreeMap::values);
        let least: u64 = holds.filter(|one| one.from < attempt.began && one.until > attempt.ended).map(|one| one.units).sum();
        if sku.held < least || sku.available + sku.held > sku.on_hand {
            let text = format!(
                "{}: at least {least} units were held at {} us, node {} told {sku:?}",
                sku.id, attempt.began, attempt.node
            );
            wrong.push(Violation::new(LAW, text));
        }
    }
    wrong
}

/// Units of a line that are surely held between two moments.
struct Held {
    from: Moment,
    until: Moment,
    units: u64,
}

/// What is surely held of each SKU, by order and line.
fn surely_held(evidence: &Evidence) -> BTreeMap<&str, BTreeMap<(&str, usize), Held>> {
    let mut freed: BTreeMap<&str, Moment> = BTreeMap::new();
    for operation in &evidence.operations {
        if let (Ask::Cancel { order }, Some(first)) = (&operation.ask, operation.attempts.first()) {
            let since = freed.entry(order).or_insert(first.began);
            *since = first.began.min(*since);
        }
    }
    let mut surely: BTreeMap<&str, BTreeMap<(&str, usize), Held>> = BTreeMap::new();
    for operation in &evidence.operations {
        let Ask::Place { window_s, .. } = operation.ask else { continue };
        let Some((attempt, _, order)) = operation.order() else { continue };
        let until = freed.get(order.id.as_str()).copied().unwrap_or(Moment::MAX);
        // One that may expire holds nothing for sure.
        let until = if window_s < super::super::asker::WINDOW_S { 0 } else { until };
        for (number, (line, _)) in order.lines.iter().enumerate() {
            let of_sku = surely.entry(&line.sku).or_default();
            let held = Held { from: attempt.ended, until, units: line.quantity };
            let one = of_sku.entry((&order.id, number)).or_insert(held);
            one.from = one.from.min(attempt.ended);
        }
    }
    surely
}

//! What must hold of a round, from outside: nothing lost, nothing doubled, nothing stale, refused means nothing.
//!
//! Each judge reads what clients were told and what every node tells in the end; none knows how a node works. What a client
//! does not know counts as both: an outcome that stays open makes an interval of what may be there. Read next: `current`
//! (reads during the round), `stock` (what must add up).

mod current;
mod stock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Ask, Attempt, End, Moment, Operation, OrderSeen, SkuSeen, What};

/// How far a grid's time may be from the clock of this harness: what nodes' clocks may differ (`clock.skew`), and a second.
const CLOCK_SLACK: Moment = 6_000_000;

/// Longest after its deadline that something may still wait to expire, on a healed grid.
const TIMER_SLACK: Moment = 20_000_000;

/// What is told in the end, by one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Every order of every user.
    pub orders: BTreeMap<String, OrderSeen>,
    /// Every SKU.
    pub skus: BTreeMap<String, SkuSeen>,
}

/// Everything the judges know.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients did, late answers included.
    pub operations: Vec<Operation>,
    /// What the grid tells in the end.
    pub grid: NodeView,
    /// When that was.
    pub at: Moment,
    /// What each node's own replicas tell, without asking others.
    pub nodes: BTreeMap<usize, NodeView>,
    /// Units received of each SKU before the load began.
    pub stock: BTreeMap<String, u64>,
}

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in ARCHITECTURE.md.
    pub law: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    pub(super) fn new(law: &'static str, text: impl Into<String>) -> Self {
        Self { law, text: text.into() }
    }
}

/// Every law that was broken.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    wrong.extend(lost(evidence));
    wrong.extend(doubled(evidence));
    wrong.extend(refused(evidence));
    wrong.extend(odd(evidence));
    wrong.extend(expired(evidence));
    wrong.extend(replicas(evidence));
    wrong.extend(stock::judge(evidence));
    wrong.extend(current::judge(evidence));
    wrong
}

/// AcknowledgedIsDurable: everything that was told is there in the end, or what followed from it.
fn lost(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push(Violation::new("AcknowledgedIsDurable", text));
    for operation in &evidence.operations {
        let Some((_, _, told)) = operation.order() else { continue };
        let what = format!("{:?} under {:?}", operation.ask, operation.key);
        let Some(order) = evidence.grid.orders.get(&told.id) else {
            say(format!("order {} is gone, which was told to {what}", told.id));
            continue;
        };
        if order.version < told.version {
            say(format!("order {} has version {}, and {} was told to {what}", told.id, order.version, told.version));
        }
        match (&operation.ask, &operation.key) {
            (Ask::Place { user, lines, .. }, _) => {
                let is: Vec<_> = order.lines.iter().map(|(line, _)| line.clone()).collect();
                if (&order.user, &is) != (user, lines) {
                    say(format!("order {} is of {} with {is:?}: {what}", told.id, order.user));
                }
            }
            (Ask::Pay { amount, .. }, Some(key)) if !order.payments.contains(&(key.clone(), *amount)) => {
                say(format!("order {} does not have the payment: {what}", told.id));
            }
            (Ask::Cancel { .. }, _) if order.phase != "cancelled" => {
                say(format!("order {} is {}: {what}", told.id, order.phase));
            }
            _ => {}
        }
    }
    wrong
}

/// Calls that placed, by key.
fn places(evidence: &Evidence) -> BTreeMap<&str, Vec<&Operation>> {
    let mut places: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &evidence.operations {
        if let (Ask::Place { .. }, Some(key)) = (&operation.ask, &operation.key) {
            places.entry(key).or_default().push(operation);
        }
    }
    places
}

/// OneKeyOneOrder: a key names one order, whenever it is asked; and a payment counts once.
fn doubled(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push(Violation::new("OneKeyOneOrder", text));
    let mut of_key: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for order in evidence.grid.orders.values() {
        of_key.entry(&order.key).or_default().insert(&order.id);
        let payments: BTreeSet<_> = order.payments.iter().map(|(id, _)| id).collect();
        if payments.len() < order.payments.len() {
            say(format!("order {} has a payment twice: {:?}", order.id, order.payments));
        }
    }
    for (key, operations) in places(evidence) {
        for operation in &operations {
            of_key.entry(key).or_default().extend(operation.order().map(|(_, _, order)| order.id.as_str()));
        }
        let known = operations.iter().filter_map(|op| op.order()).map(|(attempt, ..)| attempt.ended).min();
        let last = operations.iter().filter(|op| op.refused()).filter_map(|op| op.attempts.last());
        for refusal in last.filter(|last| known.is_some_and(|known| last.began > known)) {
            say(format!("key {key} was refused after it had placed an order: {:?}", refusal.end));
        }
    }
    for (key, ids) in of_key.iter().filter(|(_, ids)| ids.len() > 1) {
        say(format!("key {key} names the orders {ids:?}"));
    }
    wrong
}

/// RefusedMeansNothing: what every attempt was refused does not exist, nor what nobody asked for.
fn refused(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push(Violation::new("RefusedMeansNothing", text));
    let places = places(evidence);
    let nothing = |operations: &[&Operation]| {
        // Refused for good, after everything else about it was over: nothing may come of it any more.
        let at_last = operations.iter().any(|op| op.late && op.refused());
        at_last || !operations.iter().any(|op| op.may_have_happened())
    };
    for order in evidence.grid.orders.values() {
        match places.get(order.key.as_str()) {
            None => say(format!("nobody asked for order {} under {}", order.id, order.key)),
            Some(operations) if nothing(operations) => {
                let ends: Vec<_> = operations.iter().flat_map(|op| &op.attempts).map(|attempt| &attempt.end).collect();
                say(format!("order {} under {}: {ends:?}", order.id, order.key));
            }
            Some(_) => {}
        }
    }
    let commands = evidence.operations.iter().filter(|op| !op.may_have_happened());
    for operation in commands {
        let (Ask::Pay { order, amount }, Some(key)) = (&operation.ask, &operation.key) else { continue };
        let paid = evidence.grid.orders.get(order).is_some_and(|order| order.payments.contains(&(key.clone(), *amount)));
        if paid {
            say(format!("payment {key} of order {order} was taken: {:?}", operation.attempts));
        }
    }
    wrong
}

/// Three ends: an answer is one of them and says so.
fn odd(evidence: &Evidence) -> Vec<Violation> {
    let attempts = evidence.operations.iter().flat_map(|op| op.attempts.iter().map(move |attempt| (op, attempt)));
    let odd = |(operation, attempt): (&Operation, &Attempt)| match &attempt.end {
        End::Odd(text) => Some(Violation::new("ThreeEnds", format!("{:?} at node {}: {text}", operation.ask, attempt.node))),
        _ => None,
    };
    attempts.filter_map(odd).collect()
}

/// TimersFire: nothing expires before its time, and what is long due has expired.
fn expired(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push(Violation::new("TimersFire", text));
    let mut windows: BTreeMap<&str, (Moment, Moment, Moment)> = BTreeMap::new();
    for operations in places(evidence).values() {
        let placed = operations.iter().find_map(|op| op.order().map(|(_, seen, order)| (op, seen, order)));
        let Some((operation, _, order)) = placed else { continue };
        let Ask::Place { window_s, .. } = operation.ask else { continue };
        let first = operations.iter().flat_map(|op| &op.attempts).map(|attempt| attempt.began).min().unwrap_or_default();
        let known = operation.order().map_or(Moment::MAX, |(attempt, ..)| attempt.ended);
        windows.insert(&order.id, (window_s * 1_000_000, first, known));
    }
    for (when, order) in sightings(evidence) {
        if let Some((window, first, _)) = windows.get(order.id.as_str())
            && order.cancel_reason == "timeout"
            && when + CLOCK_SLACK < first + window
        {
            say(format!(
                "order {} had {window} us to be paid, and had expired {} us after it was asked for",
                order.id,
                when - first
            ));
        }
    }
    for order in evidence.grid.orders.values().filter(|order| order.phase == "pending_payment") {
        if let Some((window, _, known)) = windows.get(order.id.as_str())
            && known.saturating_add(*window) + TIMER_SLACK < evidence.at
        {
            say(format!("order {} had {window} us to be paid, and still waits {} us after", order.id, evidence.at - known));
        }
    }
    wrong
}

/// Every order that anybody saw, and when.
fn sightings(evidence: &Evidence) -> Vec<(Moment, &OrderSeen)> {
    let mut all = Vec::new();
    for operation in &evidence.operations {
        let Some((attempt, seen)) = operation.done() else { continue };
        match &seen.what {
            What::Order(order) => all.push((attempt.ended, &**order)),
            What::List(orders, _) => all.extend(orders.iter().map(|order| (attempt.ended, order))),
            What::Sku(_) => {}
        }
    }
    all.extend(evidence.grid.orders.values().map(|order| (evidence.at, order)));
    all
}

/// ReplicasAgree: every node's own replicas tell the same.
fn replicas(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (node, view) in &evidence.nodes {
        let orders = different(&view.orders, &evidence.grid.orders);
        let skus = different(&view.skus, &evidence.grid.skus);
        for (kind, names) in [("orders", orders), ("SKUs", skus)] {
            if !names.is_empty() {
                let first: Vec<_> = names.iter().take(5).collect();
                let text = format!("node {node} tells {} {kind} otherwise than the grid: {first:?}", names.len());
                wrong.push(Violation::new("ReplicasAgree", text));
            }
        }
    }
    wrong
}

fn different<'a, T: PartialEq>(one: &'a BTreeMap<String, T>, other: &'a BTreeMap<String, T>) -> BTreeSet<&'a String> {
    one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).collect()
}

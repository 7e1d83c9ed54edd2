//! Heals: when the faults have stopped, every call is answered, nothing is in flight any more and every law is proven.
//!
//! Assumed: the calls of the last client are made on a healed grid, with all nodes running, long enough after the last fault
//! for attempts to end and mailboxes to drain. A call that failed is fine if the same call succeeded later. What the proof
//! finds is told under the name of the law that it breaks.

use std::collections::BTreeMap;

use ordergrid_api::wire::{ClusterStatus, LawReport, VerifyReport};
use ordergrid_domain::Law;

use crate::history::{Ending, Operation, Said};
use crate::judges::evidence::book::Book;
use crate::verdict::Violation;

/// Looks at the calls of the last client.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let mut last: BTreeMap<String, &Operation> = BTreeMap::new();
    for op in book.final_calls() {
        last.insert(format!("{:?}", op.ask), op);
    }
    if last.is_empty() {
        return Vec::new();
    }
    let mut wrong: Vec<Violation> =
        last.values().filter_map(|op| unanswered(op)).map(|text| Violation::new(Law::Heals, text)).collect();
    let whole = last_said(book, |said| if let Said::Status(status) = said { Some(&**status) } else { None })
        .is_some_and(|status: &ClusterStatus| status.nodes.iter().all(|node| node.reachable));
    let proof = last_said(book, |said| if let Said::Verify(report) = said { Some(&**report) } else { None });
    match proof {
        None => wrong.push(Violation::new(Law::Heals, "the laws were not proven in the end")),
        Some(report) => wrong.extend(unproven(report, whole)),
    }
    wrong
}

fn last_said<'a, T>(book: &Book<'a>, pick: fn(&'a Said) -> Option<&'a T>) -> Option<&'a T> {
    let said = |op: &'a Operation| if let Ending::Done { answer, .. } = &op.ending { pick(answer) } else { None };
    book.final_calls().filter_map(said).last()
}

fn unanswered(op: &Operation) -> Option<String> {
    let answered = match &op.ending {
        Ending::Done { .. } => true,
        // What is not there is answered; whether it should be is another law.
        Ending::Refused { status, .. } => *status == 404,
        Ending::Unknown(_) | Ending::Abandoned => false,
    };
    (!answered).then(|| format!("operation {}: {:?} was asked of a healed grid: {:?}", op.number, op.ask, op.ending))
}

fn unproven(report: &VerifyReport, whole: bool) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let flying = report.in_flight;
    if flying.tentative_holds + flying.undelivered_messages + flying.running_attempts > 0 {
        wrong.push(Violation::new(Law::Heals, format!("still in flight: {flying:?}")));
    }
    // A replica on a node that does not run cannot be judged, and nothing else is an excuse.
    let excused = |law: &&LawReport| !whole && law.law == Law::ReplicasAgree.name() && law.violations.is_empty();
    for law in report.laws.iter().filter(|law| !law.ok && !excused(law)) {
        let broken = Law::ALL.into_iter().find(|known| known.name() == law.law).unwrap_or(Law::Heals);
        let said = [law.violations.as_slice(), law.unjudged.as_slice()].concat().join("; ");
        wrong.push(Violation::new(broken, format!("the proof of {} says: {said}", law.law)));
    }
    if report.ok != report.laws.iter().all(|law| law.ok) {
        wrong.push(Violation::new(Law::Heals, "the proof says of all laws something else than of each"));
    }
    for shard in &report.shards {
        let mut hashes: Vec<_> = shard.replicas.iter().filter_map(|replica| replica.hash.as_ref()).collect();
        hashes.dedup();
        if hashes.len() > 1 {
            wrong.push(Violation::new(Law::ReplicasAgree, format!("shard {}: {:?}", shard.shard, shard.replicas)));
        }
        if whole && shard.replicas.iter().any(|replica| replica.hash.is_none()) {
            let text = format!("shard {}: a replica does not catch up with {}: {:?}", shard.shard, shard.index, shard.replicas);
            wrong.push(Violation::new(Law::Heals, text));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use ordergrid_api::wire::{ReplicaHash, ShardReport};

    use super::*;
    use crate::history::Ask;
    use crate::judges::testing::Shop;

    fn bent(bend: impl FnOnce(&mut VerifyReport)) -> Vec<String> {
        let mut shop = Shop::with(10);
        shop.order("u", "k", "A*6@255");
        shop.finish();
        let last = shop.history.operations.len() - 1;
        if let Ending::Done { answer, .. } = &mut shop.history.operations[last].ending
            && let Said::Verify(report) = &mut **answer
        {
            bend(report);
        }
        shop.judged(judge)
    }

    fn shard(hashes: [Option<&str>; 2]) -> ShardReport {
        let replica = |hash: Option<&str>| ReplicaHash { node: 1, index: 9, hash: hash.map(str::to_owned) };
        ShardReport { shard: 1, index: 9, replicas: hashes.into_iter().map(replica).collect() }
    }

    #[test]
    fn a_healed_grid_is_right() {
        assert_eq!(bent(|_| ()), Vec::<String>::new());
        assert_eq!(bent(|report| report.shards.push(shard([Some("a"), Some("a")]))), Vec::<String>::new());
    }

    #[test]
    fn what_did_not_heal_is_told() {
        assert_eq!(bent(|report| report.in_flight.tentative_holds = 1).len(), 1);
        assert_eq!(bent(|report| report.ok = false).len(), 1);
        let unjudged = bent(|report| {
            report.ok = false;
            report.laws[1] = LawReport::new("AllOrNothing", Vec::new(), vec!["why".to_owned()]);
        });
        assert!(unjudged.len() == 1 && unjudged[0].starts_with("AllOrNothing"), "{unjudged:?}");
        assert_eq!(bent(|report| report.shards.push(shard([Some("a"), None]))).len(), 1);
        let agree = bent(|report| report.shards.push(shard([Some("a"), Some("b")])));
        assert!(agree[0].starts_with("ReplicasAgree"), "{agree:?}");
        let oversold = bent(|report| {
            report.ok = false;
            report.laws[0].ok = false;
        });
        assert!(oversold.len() == 1 && oversold[0].starts_with("NoOversell"), "{oversold:?}");
    }

    #[test]
    fn silence_is_told_unless_the_same_was_answered_later() {
        let mut shop = Shop::with(10);
        let order = shop.order("u", "k", "A*6@255");
        shop.finish();
        let read = shop.history.operations.iter().position(|op| matches!(op.ask, Ask::ReadOrder(_))).expect("read");
        shop.refuse(read, 503, "no_leader");
        assert_eq!(shop.judged(judge).len(), 1);
        shop.ask(crate::judges::evidence::book::FINAL_CLIENT, Ask::ReadOrder(order));
        assert_eq!(shop.judged(judge), Vec::<String>::new());
    }

    #[test]
    fn a_history_without_a_proof_is_told() {
        let mut shop = Shop::with(10);
        shop.ask(crate::judges::evidence::book::FINAL_CLIENT, Ask::Status);
        assert_eq!(shop.judged(judge).len(), 1);
    }
}

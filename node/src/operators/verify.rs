//! Verifies the laws online: every row of every shard at one index per shard, and every replica's state hash at that index.
//!
//! The hashes are those of a mark (`marks`). The rows are those of a checkpoint on a replica of this node, or on another node
//! if this one has none (`cuts`). The rows of a shard are of one moment, so a violation within them is real. Laws between
//! shards can be checked only if the moments of the shards are consistent: before any row is read, shards that have moved are
//! read again until they are. What cannot be checked is reported as unchecked, and never as a violation or as sound.

mod asked;
pub(crate) mod cuts;
pub(crate) mod marks;
pub(crate) mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared, join_all};
use ordergrid_api::wire::WireText;
use ordergrid_api::wire::cluster::{InFlight, LawReport, VerifyReport};
use ordergrid_api::{Answer, Failure, Refusal, Reply, Token};
use ordergrid_cluster::{NodeId, Shard};
use ordergrid_domain::audit::{Audit, AuditCounts, AuditReport, Moment, PROVEN};
use ordergrid_domain::{GroupId, Law};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::front::grid::NodeGrid;
use crate::telemetry::metrics;
use cuts::Cut;
use marks::Marked;

/// Most attempts to find consistent moments.
const LOOKS: u32 = 30;
/// Pause before the second attempt; it grows by as much before each further attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest wait for a shard's rows to be written, so that a stalled disk does not hold up the verification.
const CUT_WITHIN: Duration = Duration::from_secs(60);

type Proof = BoxFuture<'static, Arc<VerifyReport>>;

/// The running verification, if there is one. Further callers get its result.
#[derive(Default)]
pub(crate) struct Verifier(Mutex<Option<WeakShared<Proof>>>);

/// Verifies the laws, or waits for the running verification. It ends if nobody waits for it any more. What is not done `within` the
/// time that the caller waits is not judged.
pub(crate) async fn verify(grid: &NodeGrid, within: Duration) -> Reply<VerifyReport> {
    let proof = {
        let mut running = grid.verifier.0.lock();
        let joined = running.as_ref().and_then(WeakShared::upgrade).filter(|proof| proof.peek().is_none());
        joined.unwrap_or_else(|| {
            let grid = grid.clone();
            let proof = async move { Arc::new(prove(&grid).await) }.boxed().shared();
            *running = proof.downgrade();
            proof
        })
    };
    // The rest of the time is for the answer. A verification keeps to the node's own limit by itself.
    let patience = if within < grid.limits.verify { within.mul_f64(0.9) } else { within };
    let report = match tokio::time::timeout(patience, proof).await {
        Ok(report) => VerifyReport::clone(&report),
        Err(_) => not_in_time(within),
    };
    Ok(Answer::new(report, Token::default()))
}

/// The report of a verification that the caller cannot wait for.
fn not_in_time(within: Duration) -> VerifyReport {
    let why = format!("the verification takes longer than the {} ms that it was given", within.as_millis());
    let mut report = report(Vec::new(), None, std::slice::from_ref(&why));
    let late = |law: &str| LawReport::new(law, Vec::new(), vec![why.clone()]);
    report.laws.retain(|law| law.law != Law::ReplicasAgree.name());
    report.laws.extend([late(Law::ReplicasAgree.name()), late("StateWhole")]);
    report.ok = false;
    report
}

async fn prove(grid: &NodeGrid) -> VerifyReport {
    // The rest of the time is for the answer.
    let latest = Instant::now() + grid.limits.verify.mul_f64(0.9);
    let marked = join_all(grid.reporter.map.shards.iter().map(|shard| marks::mark(grid, shard))).await;
    let taken = fitting(grid, latest).await;
    let (audit, mut unread) = read(grid, taken, latest).await;
    unread.extend(marked.iter().filter_map(Marked::unconfirmed));
    let stored = stored::state_whole(grid).await;
    let mut report = report(marked, audit.map(Audit::finish), &unread);
    report.ok &= stored.ok;
    report.laws.push(stored);
    report
}

/// Where the rows of a shard can be read.
enum Taken {
    Here(Cut),
    /// Kept on another node under a number.
    There(NodeId, u64, Moment),
}

impl Taken {
    fn moment(&self) -> &Moment {
        match self {
            Self::Here(cut) => &cut.moment,
            Self::There(_, _, moment) => moment,
        }
    }

    /// Whether the shard may have changed since.
    fn moved(&self, grid: &NodeGrid, shard: GroupId) -> bool {
        match self {
            Self::Here(cut) => grid.node.host(shard).is_none_or(|host| host.group().applied() != cut.applied),
            Self::There(..) => true,
        }
    }
}

type AllTaken = BTreeMap<GroupId, Result<Taken, String>>;

/// Takes the rows of every shard at a moment, and again those of shards that have moved, until the moments are consistent.
async fn fitting(grid: &NodeGrid, latest: Instant) -> AllTaken {
    let mut taken = AllTaken::new();
    let mut look = 0;
    loop {
        let stale = |shard: &&Shard| match taken.get(&shard.group) {
            Some(Ok(taken)) => taken.moved(grid, shard.group),
            // Rows that cannot be read now will not become readable within moments.
            Some(Err(_)) => false,
            None => true,
        };
        let stale: Vec<&Shard> = grid.reporter.map.shards.iter().filter(stale).collect();
        let again = stale.iter().map(|shard| async {
            let cut = tokio::time::timeout_at(latest, take(grid, shard)).await;
            (shard.group, cut.unwrap_or_else(|_| Err("its rows were not written in time".to_owned())))
        });
        taken.extend(join_all(again).await);
        look += 1;
        let moments = taken.iter().filter_map(|(shard, taken)| Some((*shard, taken.as_ref().ok()?.moment())));
        let whole = taken.values().all(Result::is_ok);
        if look >= LOOKS || !whole || Moment::torn(&moments.collect()).is_empty() || Instant::now() >= latest {
            return taken;
        }
        tokio::time::sleep(PAUSE * look).await;
    }
}

/// Takes the shard's rows on this node, else on the first node that answers.
async fn take(grid: &NodeGrid, shard: &Shard) -> Result<Taken, String> {
    if let Some(host) = grid.node.host(shard.group) {
        let cut = tokio::time::timeout(CUT_WITHIN, Cut::take(host)).await;
        let cut = cut.map_err(|_| "its rows were not written in time".to_owned())?;
        return cut.map(Taken::Here).map_err(|failed| in_words(Some(failed)));
    }
    let mut last = "no replica could be asked".to_owned();
    for replica in &shard.replicas {
        match grid.cut_on(replica.node, shard.group).await {
            Ok((number, moment)) => return Ok(Taken::There(replica.node, number, moment)),
            Err(why) => last = format!("the replica on node {}: {why}", replica.node),
        }
    }
    Err(last)
}

/// Reads all rows, shard by shard. The second result says why some could not be read.
async fn read(grid: &NodeGrid, taken: AllTaken, latest: Instant) -> (Option<Audit>, Vec<String>) {
    let (mut whole, mut unread) = (None::<Audit>, Vec::new());
    for (shard, taken) in taken {
        let audit = match taken {
            Ok(Taken::Here(cut)) => {
                let audit = tokio::time::timeout_at(latest, cut.audit()).await;
                audit.unwrap_or_else(|_| Err(Failure::refused(Refusal::Overloaded))).map_err(|failed| in_words(Some(failed)))
            }
            Ok(Taken::There(node, number, _)) => {
                let within = latest.saturating_duration_since(Instant::now());
                let audit = grid.audit_on(node, shard, number, within).await;
                audit.map_err(|why| format!("the replica on node {node}: {why}"))
            }
            Err(why) => Err(why),
        };
        match (audit, &mut whole) {
            (Ok(audit), Some(whole)) => whole.merge(audit),
            (Ok(audit), None) => whole = Some(audit),
            (Err(why), _) => unread.push(format!("shard {shard}: its rows were not read: {why}")),
        }
    }
    (whole, unread)
}

fn in_words(failed: Option<Failure>) -> String {
    match failed {
        Some(Failure::Refused { reason, .. }) => reason.to_string(),
        Some(Failure::Unknown { cause }) => cause.to_string(),
        Some(Failure::Rejected(rejection)) => rejection.to_string(),
        None => "no replica could be asked".to_owned(),
    }
}

fn report(marked: Vec<Marked>, found: Option<AuditReport>, unread: &[String]) -> VerifyReport {
    let found = found.unwrap_or_default();
    let mut violations: BTreeMap<Law, Vec<String>> = found.laws.into_iter().collect();
    let judged = PROVEN.into_iter().map(|law| {
        let mut unjudged = unread.to_vec();
        if law == Law::AllOrNothing {
            let torn = found.torn.iter();
            unjudged.extend(torn.map(|(from, to)| format!("the streams between shards {from} and {to} do not fit together")));
        }
        LawReport::new(law.name(), violations.remove(&law).unwrap_or_default(), unjudged)
    });
    let mut laws: Vec<_> = judged.collect();
    laws.push(marks::replicas_agree(&marked));
    VerifyReport {
        ok: laws.iter().all(|law| law.ok),
        shards: marked.into_iter().map(|marked| marked.report).collect(),
        counts: counts(&found.counts),
        laws,
        in_flight: InFlight {
            tentative_holds: found.in_flight.tentative,
            undelivered_messages: found.in_flight.undelivered,
            running_attempts: 0,
        },
    }
}

fn counts(counts: &AuditCounts) -> BTreeMap<String, u64> {
    let plain = [
        ("orders", counts.orders),
        ("keys", counts.keys),
        ("skus", counts.skus),
        ("holds", counts.holds),
        ("timers", counts.timers),
        ("units_on_hand", counts.on_hand),
        ("units_sold", counts.sold),
        ("rows", counts.rows),
    ];
    let money = counts.money.iter().flat_map(|(currency, money)| {
        money.named().map(|(place, amount)| {
            metrics::money(currency.as_str(), place, amount.0);
            (format!("money.{}.{place}", currency.as_str()), amount.0.unsigned_abs())
        })
    });
    let by_status = counts.by_status.iter().map(|(status, count)| (status.write(|word| format!("orders.{word}")), *count));
    plain.into_iter().map(|(name, count)| (name.to_owned(), count)).chain(by_status).chain(money).collect()
}

#[cfg(test)]
mod tests {
    use ordergrid_api::wire::Verdict;
    use ordergrid_api::wire::cluster::{ReplicaHash, ShardReport};

    use super::*;

    fn marked(hashes: [Option<&str>; 3], unjudged: &[&str]) -> Marked {
        let replica = |(node, hash): (u64, Option<&str>)| ReplicaHash { node, index: 7, hash: hash.map(str::to_owned) };
        let replicas = (1..).zip(hashes).map(replica).collect();
        let unjudged = unjudged.iter().map(|why| (*why).to_owned()).collect();
        Marked { report: ShardReport { shard: 1, index: 7, replicas }, unjudged }
    }

    /// A replica that is cut off from the others has rows that can be read, but nobody says whether they are all.
    #[test]
    fn the_rows_of_a_shard_without_a_mark_are_not_confirmed() {
        let mut shard = marked([None; 3], &["no quorum wrote it in time"]);
        assert_eq!(shard.unconfirmed(), None);
        shard.report.index = 0;
        let why = shard.unconfirmed().expect("no quorum has confirmed anything");
        let report = report(vec![shard], found(&[], &[]), &[why]);
        assert_eq!(report.verdict(), Verdict::Unjudged);
        assert_eq!(report.laws.iter().find(|law| law.ok).map(|law| &law.law), None, "{report:?}");
    }

    /// What rows come to that break no law but those given.
    fn found(broken: &[Law], torn: &[(u32, u32)]) -> Option<AuditReport> {
        let text = |law: &Law| if broken.contains(law) { vec!["a text".to_owned()] } else { Vec::new() };
        let torn = torn.iter().map(|(from, to)| (GroupId(*from), GroupId(*to))).collect();
        Some(AuditReport { laws: PROVEN.iter().map(|law| (*law, text(law))).collect(), torn, ..AuditReport::default() })
    }

    #[test]
    fn what_takes_longer_than_it_was_given_is_not_judged() {
        let report = not_in_time(Duration::from_secs(3));
        assert_eq!(report.verdict(), Verdict::Unjudged);
        let told = |law: &LawReport| !law.ok && law.unjudged[0].contains("3000 ms");
        assert!(report.laws.iter().all(told), "{report:?}");
        assert_eq!(report.laws.len(), PROVEN.len() + 2, "every law is told");
    }

    #[test]
    fn what_was_not_judged_is_neither_broken_nor_sound() {
        use Verdict::{Broken, Holds, Unjudged};
        let all = [Some("a"); 3];
        let (away, differ) = ([Some("a"), Some("a"), None], [Some("a"), Some("b"), None]);
        let unread = ["shard 2: its rows were not read: why".to_owned()];
        #[rustfmt::skip]
        let cases = [
            ("all is sound",               marked(all, &[]),          found(&[], &[]),                  &unread[..0], Holds,    None),
            ("a replica is away",          marked(away, &["node 3"]), found(&[], &[]),                  &unread[..0], Unjudged, Some(Law::ReplicasAgree)),
            ("replicas differ",            marked(differ, &["why"]),  found(&[], &[]),                  &unread[..0], Broken,   Some(Law::ReplicasAgree)),
            ("moments do not fit",         marked(all, &[]),          found(&[], &[(1, 2)]),            &unread[..0], Unjudged, Some(Law::AllOrNothing)),
            ("a law is broken",            marked(away, &["node 3"]), found(&[Law::HoldsAddUp], &[]),   &unread[..0], Broken,   Some(Law::HoldsAddUp)),
            ("a shard cannot be read",     marked(all, &[]),          found(&[], &[]),                  &unread,      Unjudged, Some(Law::NoOversell)),
            ("nothing can be read",        marked(all, &[]),          None,                             &unread,      Unjudged, Some(Law::NoOversell)),
        ];
        for (what, marked, found, unread, verdict, law) in cases {
            let report = report(vec![marked], found, unread);
            assert_eq!((report.verdict(), report.ok), (verdict, verdict == Holds), "{what}: {report:?}");
            let told = |law: Law| report.laws.iter().find(|told| told.law == law.name()).expect("every law is told");
            assert!(law.is_none_or(|law| !told(law).ok), "{what}: {report:?}");
            let sound = report.laws.iter().filter(|law| law.ok).count();
            let expected = if unread.is_empty() { 10 } else { 1 };
            assert!(verdict == Holds || sound == expected || what == "a law is broken", "{what}: {sound} sound: {report:?}");
        }
    }
}

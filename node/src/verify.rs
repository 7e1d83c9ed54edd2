//! The proof of the laws, online: every row of every shard at one index per shard, and every replica's state hash there.
//!
//! An entry without commands is the mark: every replica hashes its state when it applies it. The rows are those of a
//! checkpoint taken on a replica of this node, or on another node where this one has none. Shards are looked at one after the
//! other, so what was on its way between them meanwhile shows as in flight; a report that finds a difference while something
//! was in flight is taken again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use ordergrid_api::wire::WireText;
use ordergrid_api::wire::cluster::{InFlight, LawReport, ReplicaHash, ShardReport, VerifyReport};
use ordergrid_api::{Answer, Failure, Refusal, Reply, Token};
use ordergrid_cluster::Shard;
use ordergrid_domain::Law;
use ordergrid_domain::audit::{Audit, AuditCounts};

use crate::grid::NodeGrid;
use crate::peers::{ShardAnswer, ShardCall};
use crate::shard::ShardHost;

/// Bytes of rows read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Looks before a difference counts while something is in flight.
const LOOKS: u32 = 20;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks until the grid is at rest, or often enough.
pub(crate) async fn verify(grid: &NodeGrid) -> Reply<VerifyReport> {
    let mut look = 0;
    loop {
        look += 1;
        let (report, skipped) = look_once(grid).await?;
        let moving = skipped || report.in_flight.tentative_holds + report.in_flight.undelivered_messages > 0;
        if look >= LOOKS || (report.ok && !moving) {
            return Ok(Answer::new(report, Token::default()));
        }
        if !report.ok && !moving && look > 2 {
            return Ok(Answer::new(report, Token::default()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The report, and whether a replica was past a mark before it could hash its state there: a snapshot takes it further.
async fn look_once(grid: &NodeGrid) -> Result<(VerifyReport, bool), Failure> {
    let map = &grid.reporter.map;
    let marks = join_all(map.shards.iter().map(|shard| mark(grid, shard))).await;
    let (mut shards, mut skipped) = (Vec::new(), false);
    for marked in marks {
        let (shard, past) = marked?;
        shards.push(shard);
        skipped |= past;
    }
    let mut audit: Option<Audit> = None;
    for shard in &map.shards {
        let shard = audit_anywhere(grid, shard).await?;
        match &mut audit {
            Some(audit) => audit.merge(shard),
            None => audit = Some(shard),
        }
    }
    let found = audit.map(Audit::finish).unwrap_or_default();
    let mut laws: Vec<_> = found
        .laws
        .into_iter()
        .map(|(law, violations)| LawReport { law: law.to_string(), ok: violations.is_empty(), violations })
        .collect();
    laws.push(replicas_agree(&shards));
    // Moments that do not fit together leave AllOrNothing unjudged: not a proof, so not clean.
    for (source, destination) in &found.torn {
        let law = laws.iter_mut().find(|law| law.law == Law::AllOrNothing.name());
        let law = law.expect("the audit names every law that rows can prove");
        law.ok = false;
        law.violations.push(format!("not judged: the streams between shards {source} and {destination} do not fit together"));
    }
    let report = VerifyReport {
        ok: laws.iter().all(|law| law.ok),
        shards,
        counts: counts(&found.counts),
        laws,
        in_flight: InFlight {
            tentative_holds: found.in_flight.tentative,
            undelivered_messages: found.in_flight.undelivered,
            running_attempts: 0,
        },
    };
    Ok((report, skipped))
}

/// Puts a mark into the shard's log and gathers every replica's hash at it; and whether one answers without a hash.
async fn mark(grid: &NodeGrid, shard: &Shard) -> Result<(ShardReport, bool), Failure> {
    let index = grid.mark(shard.group).await?;
    let asked = shard.replicas.iter().map(|replica| async move {
        let answer = match grid.node.host(shard.group).filter(|_| replica.node == grid.node.id) {
            Some(host) => Some(host.replica.hash_at(index).await),
            None => match grid.node.call(replica.node, ShardCall::HashAt(shard.group, index)).await {
                Some(ShardAnswer::Hash(hash)) => Some(hash),
                _ => None,
            },
        };
        let hash = answer.flatten().map(|hash| format!("{hash:016x}"));
        (ReplicaHash { node: replica.node, index, hash }, answer == Some(None))
    });
    let (replicas, past): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().unzip();
    Ok((ShardReport { shard: shard.group.0, index, replicas }, past.contains(&true)))
}

/// The shard's rows on this node, else on the first node that can be asked.
async fn audit_anywhere(grid: &NodeGrid, shard: &Shard) -> Result<Audit, Failure> {
    if let Some(host) = grid.node.host(shard.group) {
        return audit_shard(host).await;
    }
    let mut last = Failure::refused(Refusal::NotReady);
    for replica in &shard.replicas {
        match grid.audit_of(replica.node, shard.group).await {
            Ok(audit) => return Ok(audit),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Every row of the shard, as of a checkpoint taken now on this node.
pub(crate) async fn audit_shard(host: &ShardHost) -> Result<Audit, Failure> {
    let failed = |_| Failure::refused(Refusal::NotReady);
    host.group.checkpoint().await.map_err(|_| Failure::refused(Refusal::NotReady))?;
    let mut audit = Audit::new(host.shard, host.replica.retention());
    let Some(view) = host.replica.store().view().await.map_err(failed)? else { return Ok(audit) };
    let mut after = None;
    loop {
        let rows = view.next_chunk(after, CHUNK_BYTES).await.map_err(failed)?;
        let Some((last, _)) = rows.last() else { return Ok(audit) };
        after = Some(last.clone());
        for (key, value) in &rows {
            audit.add(key, value);
        }
        tokio::task::yield_now().await;
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
    let by_status = counts.by_status.iter().map(|(status, count)| (status.write(|word| format!("orders.{word}")), *count));
    plain.into_iter().map(|(name, count)| (name.to_owned(), count)).chain(by_status).collect()
}

fn replicas_agree(shards: &[ShardReport]) -> LawReport {
    let violations: Vec<_> = shards
        .iter()
        .filter(|shard| {
            let mut hashes = shard.replicas.iter().filter_map(|replica| replica.hash.as_ref());
            let first = hashes.next();
            hashes.any(|hash| Some(hash) != first)
        })
        .map(|shard| format!("shard {}: the replicas differ at index {}: {:?}", shard.shard, shard.index, shard.replicas))
        .collect();
    LawReport { law: "ReplicasAgree".to_owned(), ok: violations.is_empty(), violations }
}

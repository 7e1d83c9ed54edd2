//! A SKU never frees a hold by itself: its leader asks the order's shard (protocol.md, rules 14 to 16).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::placing::AttemptFate;
use ordergrid_domain::{AttemptId, Command, GroupId, SkuId};

use super::lead::Lead;
use super::{Fates, Question};
use crate::telemetry::metrics;

/// How often a leader looks for holds that have been tentative for too long.
const PAUSE: Duration = Duration::from_secs(1);
/// Most holds asked about at a time.
const BULK: usize = 1_000;

/// Asks about orphaned holds until dropped.
pub(crate) async fn ask(lead: Arc<Lead>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = lead.node.time.now();
        let tentative = lead.replica.machine().asks(now, lead.limits.hold_validity, BULK);
        let mut by_shard: BTreeMap<GroupId, Vec<(AttemptId, Vec<SkuId>)>> = BTreeMap::new();
        for (attempt, skus) in tentative {
            by_shard.entry(lead.node.owner(attempt.slot)).or_default().push((attempt, skus));
        }
        for (shard, holds) in by_shard {
            ask_shard(&lead, shard, holds).await;
        }
    }
}

async fn ask_shard(lead: &Lead, shard: GroupId, holds: Vec<(AttemptId, Vec<SkuId>)>) {
    let attempts = holds.iter().map(|(attempt, _)| *attempt).collect();
    let (applied, agreed) = stream_from(lead, shard);
    let question = Question { from: lead.shard, applied, attempts };
    let Some(Fates { fates, forgotten }) = lead.node.ask(shard, question).await else { return };
    // Rule 20: while this shard lacks what the other one has forgotten, only claims can tell. A stream that was started anew
    // meanwhile has them still under way.
    let (applied, agreed_now) = stream_from(lead, shard);
    if applied < forgotten || agreed_now != agreed {
        return;
    }
    let gone = holds.into_iter().zip(fates).filter(|(_, fate)| *fate == AttemptFate::Gone);
    let gone: Vec<_> = gone.flat_map(|((attempt, skus), _)| skus.into_iter().map(move |sku| (attempt, sku))).collect();
    if !gone.is_empty() {
        metrics::orphans_freed(gone.len());
        // Lost, it is asked about again.
        lead.batcher.ask(Command::Gone(gone)).await.ok();
    }
}

/// What is applied of the stream from a shard, and how often streams to this one were started anew.
fn stream_from(lead: &Lead, shard: GroupId) -> (u64, u64) {
    let machine = lead.replica.machine();
    (machine.high(shard), machine.agreed())
}

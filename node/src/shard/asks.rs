//! A SKU never frees a hold by itself: its leader asks the order's shard (protocol.md, rules 14 to 16).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::placing::AttemptFate;
use ordergrid_domain::{AttemptId, Command, GroupId, SkuId};

use super::lead::Lead;
use crate::metrics;

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
    let Some(fates) = lead.node.ask(shard, attempts).await else { return };
    let gone = holds.into_iter().zip(fates).filter(|(_, fate)| *fate == AttemptFate::Gone);
    let gone: Vec<_> = gone.flat_map(|((attempt, skus), _)| skus.into_iter().map(move |sku| (attempt, sku))).collect();
    if !gone.is_empty() {
        metrics::orphans_freed(gone.len());
        // Lost, it is asked about again.
        lead.batcher.ask(Command::Gone(gone)).await.ok();
    }
}

//! The scrub: reads all stored rows again and again, at a bounded rate, so that damage in rows that nobody reads is found while
//! the other replicas are intact.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ordergrid_cluster::{Row, StateStore};
use ordergrid_domain::{GroupId, stored};

use crate::config::ScrubConfig;
use crate::context::NodeContext;
use crate::recovery::wholeness::Wholeness;
use crate::replicas::MetaRows;
use crate::telemetry::metrics;

/// Bytes of rows read at a time.
const CHUNK: usize = 64 << 10;

/// Scrubs the node's meta group and its shards, one after the other, until dropped.
pub(crate) async fn scrub(node: Arc<NodeContext>, meta: MetaRows, config: ScrubConfig) {
    if config.rate == 0 || config.every.is_zero() {
        return;
    }
    loop {
        let started = tokio::time::Instant::now();
        let mut all = scrub_rows(GroupId::META, meta.store.as_ref(), &meta.whole, config.rate).await;
        for host in node.hosts().filter(|host| host.is_whole()) {
            let seat = host.seat();
            all &= scrub_rows(host.shard, seat.replica.store().as_ref(), &seat.whole, config.rate).await;
        }
        metrics::scrubbed(all && node.hosts().all(|host| host.is_whole()), started.elapsed());
        tokio::time::sleep(config.every).await;
    }
}

/// Reads the rows of a replica. Returns whether all of them were read and are intact.
async fn scrub_rows(group: GroupId, store: &dyn StateStore, whole: &Wholeness, rate: u64) -> bool {
    let mut after = None;
    while whole.is_whole() {
        // The store itself reports damage.
        let Ok(rows) = store.scan(Bytes::new(), after.take(), CHUNK).await else { return false };
        let Some((last, _)) = rows.last() else { return true };
        after = Some(last.clone());
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        if let Some(what) = unreadable(group, &rows) {
            whole.damaged(&what);
            return false;
        }
        metrics::scrubbed_rows(group, rows.len(), bytes);
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
    false
}

/// The first unreadable row. The meta group has few rows, in a format of their own: the checksums of blocks cover them.
fn unreadable(group: GroupId, rows: &[Row]) -> Option<String> {
    let mut rows = rows.iter().filter(|_| group != GroupId::META);
    rows.find_map(|(key, value)| {
        let error = stored::readable(key, value).err()?;
        Some(format!("row {} cannot be read: {error}", key.escape_ascii()))
    })
}

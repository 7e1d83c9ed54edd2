//! Reads everything that is stored again and again, at a bounded rate: damage in rows that nobody asks for is found while
//! the other replicas are whole, not on the day when one of them is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ordergrid_domain::stored;

use crate::config::ScrubConfig;
use crate::context::NodeContext;
use crate::metrics;
use crate::shard::ShardHost;

/// Bytes of rows read at a time.
const CHUNK: usize = 256 << 10;

/// Scrubs the node's shards, one after the other, until dropped.
pub(crate) async fn scrub(node: Arc<NodeContext>, config: ScrubConfig) {
    if config.rate == 0 || config.every.is_zero() {
        return;
    }
    loop {
        let (mut whole, started) = (true, tokio::time::Instant::now());
        for host in node.hosts() {
            whole &= scrub_shard(host, config.rate).await;
        }
        metrics::scrubbed(whole, started.elapsed());
        tokio::time::sleep(config.every).await;
    }
}

/// Reads the rows of a shard's replica; whether all of it was read and is whole.
async fn scrub_shard(host: &ShardHost, rate: u64) -> bool {
    let seat = host.seat();
    let mut after = None;
    while host.is_whole() {
        // Damage is told by the store itself.
        let Ok(rows) = seat.replica.store().scan(Bytes::new(), after.take(), CHUNK).await else { return false };
        let Some((last, _)) = rows.last() else { return true };
        after = Some(last.clone());
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        for (key, value) in &rows {
            if let Err(error) = stored::readable(key, value) {
                seat.whole.damaged(&format!("row {} cannot be read: {error}", key.escape_ascii()));
                return false;
            }
        }
        metrics::scrubbed_rows(host.shard, rows.len(), bytes);
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
    false
}

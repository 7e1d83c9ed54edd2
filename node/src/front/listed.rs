//! Lists of orders, each partly in memory and partly in the store.

use bytes::Bytes;
use ordergrid_cluster::StoreError;
use ordergrid_domain::OrderId;
use ordergrid_domain::rows::listed_order;

use crate::shard::ShardReplica;

/// Bytes of list rows read from the store at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Ids of the orders in a list, newest first, at most `most`: those that memory has (`unlisted`), and those of the store whose rows
/// begin with `start` and come after the row `after`.
///
/// Memory is read first, by the caller: a row that moves to the store meanwhile is then found there, perhaps twice.
pub(super) async fn ids(
    replica: &ShardReplica,
    unlisted: Vec<OrderId>,
    start: Bytes,
    mut after: Option<Bytes>,
    most: usize,
) -> Result<Vec<OrderId>, StoreError> {
    let mut ids = unlisted;
    let row_bytes = start.len() + size_of::<OrderId>() + 1;
    let mut left = most;
    while left > 0 {
        let bytes = left.saturating_mul(row_bytes).min(CHUNK_BYTES);
        let rows = replica.store().scan(start.clone(), after, bytes).await?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        left = left.saturating_sub(rows.len());
        for (key, _) in &rows {
            ids.push(listed_order(key).map_err(|error| replica.unreadable(key, error))?);
        }
    }
    ids.sort_unstable_by(|one, other| other.cmp(one));
    ids.dedup();
    ids.truncate(most);
    Ok(ids)
}

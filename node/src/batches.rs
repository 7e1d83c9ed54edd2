//! What is asked for together: grouped by shard, so that each shard's leader gets its part in one piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use ordergrid_api::grid::OrderChanged;
use ordergrid_api::{Failure, Reply, UnknownCause};
use ordergrid_domain::command::{OrderCommand, OrderRequest};
use ordergrid_domain::{GroupId, Order, Slot};

use crate::grid::{Ask, NodeGrid, Said};

/// One result per order, in the same order.
pub(crate) async fn place_many(grid: &NodeGrid, requests: Vec<OrderRequest>) -> Vec<Reply<Arc<Order>>> {
    let requests = requests.into_iter().map(Arc::new).collect();
    let slot = |request: &Arc<OrderRequest>| request.user.slot();
    by_shard(grid, requests, slot, Ask::PlaceMany, |said| match said {
        Said::PlacedMany(results) => Some(results),
        _ => None,
    })
    .await
}

/// One result per command, in the same order. Commands on one order come into its log in the order in which they stand.
pub(crate) async fn command_orders(grid: &NodeGrid, commands: Vec<OrderCommand>) -> Vec<Reply<OrderChanged>> {
    let slot = |command: &OrderCommand| command.order.slot();
    by_shard(grid, commands, slot, Ask::OrderMany, |said| match said {
        Said::OrderMany(results) => Some(results),
        _ => None,
    })
    .await
}

/// Asks every shard for its part, all at once. Each item stands or falls by itself.
async fn by_shard<T, R>(
    grid: &NodeGrid,
    items: Vec<T>,
    slot: impl Fn(&T) -> Slot,
    ask: impl Fn(Vec<T>) -> Ask,
    answered: impl Fn(Said) -> Option<Vec<Reply<R>>>,
) -> Vec<Reply<R>> {
    let count = items.len();
    let mut parts: BTreeMap<GroupId, (Vec<usize>, Vec<T>)> = BTreeMap::new();
    for (position, item) in items.into_iter().enumerate() {
        let (positions, part) = parts.entry(grid.node.owner(slot(&item))).or_default();
        positions.push(position);
        part.push(item);
    }
    let (ask, answered) = (&ask, &answered);
    let asked = parts.into_values().map(|(positions, part)| async move {
        let count = part.len();
        let same = |failure: &Failure| (0..count).map(|_| Err(failure.clone())).collect();
        let results = match grid.route(ask(part)).await {
            Ok(said) => answered(said).filter(|results| results.len() == count),
            Err(failure) => Some(same(&failure)),
        };
        let results = results.unwrap_or_else(|| same(&Failure::unknown(UnknownCause::ConnectionLost)));
        positions.into_iter().zip(results)
    });
    let mut results: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(position, _)| *position);
    assert_eq!(results.len(), count, "every item of a batch has one result");
    results.into_iter().map(|(_, result)| result).collect()
}

//! A batch of orders: grouped by shard, so that each shard's leader gets its part in one piece.

use std::collections::BTreeMap;

use futures::future::join_all;
use ordergrid_api::{Failure, Reply, UnknownCause};
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::{GroupId, Order};

use crate::grid::{Ask, NodeGrid, Said};

/// One result per request, in their order. Each order stands or falls by itself.
pub(crate) async fn place_many(grid: &NodeGrid, requests: Vec<OrderRequest>) -> Vec<Reply<Box<Order>>> {
    let count = requests.len();
    let mut parts: BTreeMap<GroupId, (Vec<usize>, Vec<OrderRequest>)> = BTreeMap::new();
    for (position, request) in requests.into_iter().enumerate() {
        let (positions, part) = parts.entry(grid.node.owner(request.user.slot())).or_default();
        positions.push(position);
        part.push(request);
    }
    let asked = parts.into_values().map(|(positions, part)| async {
        let count = part.len();
        let results = match grid.route(Ask::PlaceMany(part)).await {
            Ok(Said::PlacedMany(results)) if results.len() == count => results,
            Ok(_) => vec![Err(Failure::unknown(UnknownCause::ConnectionLost)); count],
            Err(failure) => vec![Err(failure); count],
        };
        positions.into_iter().zip(results)
    });
    let mut results: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(position, _)| *position);
    assert_eq!(results.len(), count, "every order of a batch has one result");
    results.into_iter().map(|(_, result)| result).collect()
}

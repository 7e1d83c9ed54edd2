//! Orders by the names that clients gave them. A reference is one of a user, and lies in the user's shard: without a user, every shard
//! is asked. The list of a reference consists of rows in the store, and of newer ones in memory, as that of a user does (`user_orders`).

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::try_join_all;
use ordergrid_api::grid::ReferenceQuery;
use ordergrid_api::{Answer, Failure, ReadOptions, Reply, Token};
use ordergrid_cluster::StoreError;
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::rows::list_of_reference;
use ordergrid_domain::{Order, OrderId, Reference, Rejection};

use crate::front::grid::NodeGrid;
use crate::front::grid::requests::FindOrders;
use crate::front::listed;
use crate::front::reads::unreadable;
use crate::shard::{Lead, ShardReplica};

/// Most orders that are found.
const FOUND: usize = 100;
/// Most ids in the list of a reference that are looked at, newest first: a shop that tries again has one for each try.
const LOOKED: usize = 1_000;
/// Bytes of orders in memory at which no more are found.
const ORDER_BYTES: u64 = 1 << 20;

/// The refusal of an order whose reference was used before, where a reference is good for one order (`orders.reference_reuse`).
///
/// What the machine decides must be the same in every replay of the log, so it gives a reference free whatever is configured, and its
/// leader asks here first. Of two orders that are placed at the same time the machine refuses one, as long as the other lives.
pub(crate) async fn used_before(lead: &Lead, request: &OrderRequest) -> Option<Failure> {
    let reference = request.reference.as_ref().filter(|_| lead.limits.references_once)?;
    let has = lead.replica.look(|machine| machine.referenced(&request.user, reference)).await;
    let has = match has {
        Ok(order) => order?.id,
        Err(error) => return Some(unreadable(&error)),
    };
    // The order and its key are of one entry: asked again under the same key, it is answered again.
    match lead.replica.placed_under(request).await {
        Ok(Some(_)) => None,
        Ok(None) => Some(Rejection::ReferenceTaken(has).into()),
        Err(error) => Some(unreadable(&error)),
    }
}

/// Asks the shard of the user, or all of them.
pub(crate) async fn everywhere(grid: &NodeGrid, query: ReferenceQuery, options: ReadOptions) -> Reply<Vec<Order>> {
    if let Some(shard) = query.user.as_ref().map(|user| grid.node.owner(user.slot())) {
        return grid.current(FindOrders(shard, query), &options).await;
    }
    let asked = grid.node.shards().into_iter().map(|shard| grid.current(FindOrders(shard, query.clone()), &options));
    let mut orders: Vec<Order> = try_join_all(asked).await?.into_iter().flat_map(|found| found.value).collect();
    orders.sort_by_key(|order| std::cmp::Reverse(order.id));
    orders.truncate(FOUND);
    Ok(Answer::new(orders, Token::default()))
}

/// The orders of one shard.
///
/// # Errors
/// The store failed, and the node stops.
pub(crate) async fn find(replica: &ShardReplica, query: &ReferenceQuery) -> Result<Vec<Order>, StoreError> {
    if let Some(user) = &query.user {
        let order = replica.look(|machine| machine.referenced(user, &query.reference)).await?;
        return Ok(order.into_iter().collect());
    }
    let ids = ids(replica, &query.reference).await?;
    let (mut left, mut users, mut found, mut bytes) = (ids.as_slice(), BTreeSet::new(), Vec::new(), 0);
    while !left.is_empty() && found.len() < FOUND && bytes < ORDER_BYTES {
        let run = replica.look(|machine| machine.orders_within(left, ORDER_BYTES)).await?.unwrap_or_default();
        left = &left[run.looked..];
        for order in run.orders {
            // The newest of a user is the one that has the reference, or had it last.
            if users.insert(order.user.clone()) {
                bytes += order.bytes_in_memory();
                found.push(order);
            }
        }
    }
    found.truncate(FOUND);
    Ok(found)
}

/// Ids of the orders in the list of a reference, newest first.
async fn ids(replica: &ShardReplica, reference: &Reference) -> Result<Vec<OrderId>, StoreError> {
    let unlisted = replica.machine().unlisted_by(reference).take(LOOKED).collect();
    let start = Bytes::copy_from_slice(list_of_reference(reference).as_bytes());
    listed::ids(replica, unlisted, start, None, LOOKED).await
}

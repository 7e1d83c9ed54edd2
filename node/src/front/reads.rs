//! Reads of applied state, each with the index at which it is true.

use std::sync::Arc;

use ordergrid_api::grid::{ReferenceQuery, UserOrders, UserOrdersQuery};
use ordergrid_api::{Answer, Failure, Refusal};
use ordergrid_cluster::StoreError;
use ordergrid_domain::{GroupId, Order, OrderId, Rejection, Sku, SkuId};

use crate::shard::{ShardReplica, answer};

/// Reads an order.
pub(crate) async fn order(replica: &ShardReplica, shard: GroupId, id: OrderId) -> Result<Answer<Arc<Order>>, Failure> {
    let token = answer::token(shard, *replica.applied().borrow());
    match replica.look(|machine| machine.order(id)).await {
        Ok(Some(value)) => Ok(Answer::new(Arc::new(value), token)),
        Ok(None) => Err(Failure::Rejected(Rejection::NoSuchOrder(id))),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Reads a SKU.
pub(crate) async fn sku(replica: &ShardReplica, shard: GroupId, id: &SkuId) -> Result<Answer<Box<Sku>>, Failure> {
    let token = answer::token(shard, *replica.applied().borrow());
    match replica.look(|machine| machine.sku(id)).await {
        Ok(Some(value)) => Ok(Answer::new(Box::new(value), token)),
        Ok(None) => Err(Failure::Rejected(Rejection::NoSuchSku(id.clone()))),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Reads a page of a user's orders.
pub(crate) async fn orders(
    replica: &ShardReplica,
    shard: GroupId,
    query: &UserOrdersQuery,
) -> Result<Answer<UserOrders>, Failure> {
    let token = answer::token(shard, *replica.applied().borrow());
    match crate::front::user_orders::page(replica, query).await {
        Ok(value) => Ok(Answer::new(value, token)),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Reads the orders that a query by reference finds.
pub(crate) async fn referenced(
    replica: &ShardReplica,
    shard: GroupId,
    query: &ReferenceQuery,
) -> Result<Answer<Vec<Order>>, Failure> {
    let token = answer::token(shard, *replica.applied().borrow());
    match crate::front::by_reference::find(replica, query).await {
        Ok(value) => Ok(Answer::new(value, token)),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Damaged rows are intact on another node; a failed disk is another kind of error.
pub(crate) fn unreadable(error: &StoreError) -> Failure {
    Failure::refused(if error.is_damage() { Refusal::Damaged } else { Refusal::NotReady })
}

//! Splits a batch by shard and sends each leader its part in one call.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use ordergrid_api::grid::OrderChanged;
use ordergrid_api::{Failure, Reply, UnknownCause};
use ordergrid_domain::command::{OrderCommand, OrderRequest};
use ordergrid_domain::{GroupId, Order, Slot};
use tokio::time::Instant;

use crate::front::grid::requests::{CommandOrders, LeaderRequest, PlaceOrders};
use crate::front::grid::{NodeGrid, REROUTE, lost};

/// Returns one result per order, in the same order. Orders are independent: those that found no leader are retried alone.
pub(crate) async fn place_many(grid: &NodeGrid, requests: Vec<OrderRequest>) -> Vec<Reply<Arc<Order>>> {
    let requests = requests.into_iter().map(Arc::new).collect();
    let batch = Batch {
        grid,
        slot: |request: &Arc<OrderRequest>| request.user.slot(),
        ask: PlaceOrders,
        again: |results: &[Reply<Arc<Order>>]| results.iter().any(is_lost),
    };
    batch.by_shard(requests).await
}

/// Returns one result per command, in the same order. Commands on the same order enter the log in this order: a part is retried
/// only if none of its commands entered a log.
pub(crate) async fn command_orders(grid: &NodeGrid, commands: Vec<OrderCommand>) -> Vec<Reply<OrderChanged>> {
    let batch = Batch {
        grid,
        slot: |command: &OrderCommand| command.order.slot(),
        ask: CommandOrders,
        again: |results: &[Reply<OrderChanged>]| results.iter().all(is_lost),
    };
    batch.by_shard(commands).await
}

fn is_lost<R>(result: &Reply<R>) -> bool {
    result.as_ref().is_err_and(lost)
}

/// How a batch of one kind of item is executed.
struct Batch<'a, T, Q, R> {
    grid: &'a NodeGrid,
    /// The slot of an item.
    slot: fn(&T) -> Slot,
    /// The request with the items of one shard.
    ask: fn(Vec<T>) -> Q,
    /// Whether the items that found no leader are sent again.
    again: fn(&[Reply<R>]) -> bool,
}

impl<T: Clone, Q: LeaderRequest<Response = Vec<Reply<R>>>, R> Batch<'_, T, Q, R> {
    /// Sends every shard its part, all concurrently. Items are independent.
    async fn by_shard(&self, items: Vec<T>) -> Vec<Reply<R>> {
        let count = items.len();
        let mut parts: BTreeMap<GroupId, (Vec<usize>, Vec<T>)> = BTreeMap::new();
        for (position, item) in items.into_iter().enumerate() {
            let (positions, part) = parts.entry(self.grid.node.owner((self.slot)(&item))).or_default();
            positions.push(position);
            part.push(item);
        }
        let asked = parts.into_values().map(|(positions, part)| self.of_shard(positions, part));
        let mut results: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        results.sort_unstable_by_key(|(position, _)| *position);
        assert_eq!(results.len(), count, "every item of a batch has one result");
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Sends one shard its part. Items that found no leader, for example during a leadership transfer, are retried for a while.
    async fn of_shard(&self, positions: Vec<usize>, part: Vec<T>) -> Vec<(usize, Reply<R>)> {
        let until = Instant::now() + self.grid.limits.leader;
        let mut left: Vec<(usize, T)> = positions.into_iter().zip(part).collect();
        let mut done = Vec::with_capacity(left.len());
        loop {
            let results = self.once(left.iter().map(|(_, item)| item.clone()).collect()).await;
            let again = Instant::now() < until && (self.again)(&results);
            let mut lost = Vec::new();
            for ((position, item), result) in left.into_iter().zip(results) {
                if again && is_lost(&result) { lost.push((position, item)) } else { done.push((position, result)) }
            }
            if lost.is_empty() {
                return done;
            }
            left = lost;
            tokio::time::sleep(REROUTE).await;
        }
    }

    async fn once(&self, part: Vec<T>) -> Vec<Reply<R>> {
        let count = part.len();
        let same = |failure: &Failure| (0..count).map(|_| Err(failure.clone())).collect();
        // The parts of the other shards are answered before the caller's own deadline.
        let routed = tokio::time::timeout(self.grid.limits.request * 39 / 40, self.grid.route((self.ask)(part))).await;
        match routed.unwrap_or_else(|_| Err(Failure::unknown(UnknownCause::TimedOut))) {
            Ok(results) if results.len() == count => results,
            // An answer that says less or more than was asked says nothing.
            Ok(_) => same(&Failure::unknown(UnknownCause::Unreadable)),
            Err(failure) => same(&failure),
        }
    }
}

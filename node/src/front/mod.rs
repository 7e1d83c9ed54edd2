//! The grid that HTTP uses before the node is up: only liveness can be answered.
//!
//! A founding waits for other nodes without a time limit, and probes must not wait with it.

pub(crate) mod batches;
pub(crate) mod by_reference;
pub(crate) mod grid;
mod listed;
pub(crate) mod reads;
pub(crate) mod user_orders;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use ordergrid_api::grid::{OrderChanged, ReferenceQuery, SkuChanged, UserOrders, UserOrdersQuery};
use ordergrid_api::wire::cluster::{Check, ClusterStatus, VerifyReport};
use ordergrid_api::wire::{AcceptClock, AskedRepair, ClockRepair, ClusterClock, Reconciliation};
use ordergrid_api::{Failure, Grid, ReadOptions, Refusal, Reply};
use ordergrid_domain::command::{OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::{Order, OrderId, Sku, SkuId};
use parking_lot::Mutex;

use crate::front::grid::NodeGrid;
use crate::operators::report::RenderMetrics;

/// The node as HTTP sees it, from the start of the process.
pub(crate) struct Front {
    node: OnceLock<NodeGrid>,
    render: Option<RenderMetrics>,
    /// The reason for an unusual wait of the start.
    waits: Mutex<Option<String>>,
}

impl Front {
    /// The grid before the node is up.
    pub(crate) fn new(render: Option<RenderMetrics>) -> Arc<Self> {
        Arc::new(Self { node: OnceLock::new(), render, waits: Mutex::default() })
    }

    /// Sets the reason for which the start waits, or clears it.
    pub(crate) fn waits(&self, why: Option<String>) {
        *self.waits.lock() = why;
    }

    /// Passes all further requests to the node.
    pub(crate) fn open(&self, node: NodeGrid) {
        assert!(self.node.set(node).is_ok(), "a node starts once");
    }

    /// Passes a request to the node. Without a node, nothing happens.
    fn ask<'a, T: Send + 'a>(&'a self, ask: impl FnOnce(&'a NodeGrid) -> BoxFuture<'a, Reply<T>>) -> BoxFuture<'a, Reply<T>> {
        match self.node.get() {
            Some(node) => ask(node),
            None => Box::pin(std::future::ready(Err(Failure::refused(Refusal::NotReady)))),
        }
    }

    fn ask_many<'a, T: Send + 'a>(
        &'a self,
        count: usize,
        ask: impl FnOnce(&'a NodeGrid) -> BoxFuture<'a, Vec<Reply<T>>>,
    ) -> BoxFuture<'a, Vec<Reply<T>>> {
        match self.node.get() {
            Some(node) => ask(node),
            None => {
                let refused = (0..count).map(|_| Err(Failure::refused(Refusal::NotReady)));
                Box::pin(std::future::ready(refused.collect()))
            }
        }
    }
}

impl Grid for Front {
    fn place(&self, request: OrderRequest) -> BoxFuture<'_, Reply<Arc<Order>>> {
        self.ask(|node| node.place(request))
    }

    fn place_many(&self, requests: Vec<OrderRequest>) -> BoxFuture<'_, Vec<Reply<Arc<Order>>>> {
        self.ask_many(requests.len(), |node| node.place_many(requests))
    }

    fn order(&self, id: OrderId, options: ReadOptions) -> BoxFuture<'_, Reply<Arc<Order>>> {
        self.ask(|node| node.order(id, options))
    }

    fn orders_of(&self, query: UserOrdersQuery, options: ReadOptions) -> BoxFuture<'_, Reply<UserOrders>> {
        self.ask(|node| node.orders_of(query, options))
    }

    fn orders_by_reference(&self, query: ReferenceQuery, options: ReadOptions) -> BoxFuture<'_, Reply<Vec<Order>>> {
        self.ask(|node| node.orders_by_reference(query, options))
    }

    fn command_order(&self, command: OrderCommand) -> BoxFuture<'_, Reply<OrderChanged>> {
        self.ask(|node| node.command_order(command))
    }

    fn command_orders(&self, commands: Vec<OrderCommand>) -> BoxFuture<'_, Vec<Reply<OrderChanged>>> {
        self.ask_many(commands.len(), |node| node.command_orders(commands))
    }

    fn sku(&self, id: SkuId, options: ReadOptions) -> BoxFuture<'_, Reply<Box<Sku>>> {
        self.ask(|node| node.sku(id, options))
    }

    fn command_sku(&self, command: SkuCommand) -> BoxFuture<'_, Reply<SkuChanged>> {
        self.ask(|node| node.command_sku(command))
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<Check>> {
        match self.node.get() {
            Some(node) => node.readiness(),
            None => {
                let usual = || "it recovers, or waits for the other nodes of a grid that is being founded".to_owned();
                let detail = self.waits.lock().clone().unwrap_or_else(usual);
                Box::pin(std::future::ready(vec![Check { name: "started".to_owned(), ok: false, detail }]))
            }
        }
    }

    fn status(&self) -> BoxFuture<'_, Reply<ClusterStatus>> {
        self.ask(Grid::status)
    }

    fn clocks(&self, accept: Option<AcceptClock>) -> BoxFuture<'_, Reply<ClusterClock>> {
        self.ask(move |node| node.clocks(accept))
    }

    fn repair_clock(&self, asked: AskedRepair) -> BoxFuture<'_, Reply<ClockRepair>> {
        self.ask(move |node| node.repair_clock(asked))
    }

    fn reconcile_streams(&self, dry_run: bool) -> BoxFuture<'_, Reply<Reconciliation>> {
        self.ask(move |node| node.reconcile_streams(dry_run))
    }

    fn verify(&self, within: Duration) -> BoxFuture<'_, Reply<VerifyReport>> {
        self.ask(move |node| node.verify(within))
    }

    fn metrics(&self) -> String {
        self.render.as_ref().map_or_else(String::new, |render| render())
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::{Slot, Timestamp};

    use super::*;

    #[tokio::test]
    async fn a_node_that_is_yet_to_come_refuses_and_says_why() {
        let front = Front::new(Some(Arc::new(|| "figures".to_owned())));
        let refused = Failure::refused(Refusal::NotReady);
        let order = OrderId::new(Timestamp::from_ms(1), Slot::new(7).expect("below 4,096"), 1);
        assert_eq!(front.order(order, ReadOptions::default()).await, Err(refused.clone()));
        assert_eq!(front.status().await, Err(refused));
        assert!(front.command_orders(Vec::new()).await.is_empty());
        let checks = front.readiness().await;
        assert!(checks.iter().any(|check| check.name == "started" && !check.ok), "{checks:?}");
        assert_eq!(front.metrics(), "figures");
    }
}

//! Every request from node to node: what it asks, what it is answered with, and who answers.

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use ordergrid_api::grid::{OrderChanged, ReferenceQuery, SkuChanged, UserOrders, UserOrdersQuery};
use ordergrid_api::wire::{AcceptClock, AskedRepair, NodeClock, ShardRepair};
use ordergrid_api::{Answer, Failure, Refusal};
use ordergrid_domain::audit::{Audit, Moment};
use ordergrid_domain::command::{OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::{Deadline, GroupId, Moved, Order, OrderId, Repair, Sku, SkuId};
use tokio::time::Instant;

use super::request::{Answered, NodeRequest};
use super::{
    GridLimits, NodeGrid, command_order_here, command_orders_here, command_sku_here, mark_here, place_here, place_many_here,
};
use crate::context::NodeContext;
use crate::front::reads;
use crate::operators::repair;
use crate::operators::report::NodeReport;
use crate::operators::streams::{self, Step, Stepped};
use crate::operators::verify::cuts::Cut;
use crate::operators::verify::marks::HashAt;
use crate::operators::verify::stored::{OnDisk, on_disk};
use crate::shard::Leading;

/// A request that the leader of its shard answers, here or on another node.
pub(crate) trait LeaderRequest: NodeRequest + Clone {
    /// Longest time it may take.
    fn patience(limits: &GridLimits) -> Duration {
        limits.request
    }

    /// Does here what was asked at `arrived`.
    fn handle(
        self,
        grid: &NodeGrid,
        leading: &Arc<Leading>,
        arrived: Instant,
    ) -> impl Future<Output = Result<Self::Response, Failure>> + Send;
}

/// A request that the node answers to which it is sent.
pub(crate) trait HereRequest: NodeRequest {
    /// Answers it here.
    fn answer(self, grid: &NodeGrid) -> impl Future<Output = Answered<Self::Response>> + Send;
}

/// Declares requests: what they are, their number and version, the answer, and where they belong.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($($field:ty),*) $tag:literal v $version:literal -> $response:ty, |$this:ident, $node:ident| $shard:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Encode, Decode)]
            pub(crate) struct $name($(pub(crate) $field),*);

            impl NodeRequest for $name {
                const TAG: u16 = $tag;
                const VERSION: u16 = $version;
                type Response = $response;

                fn shard(&self, $node: &NodeContext) -> Option<GroupId> {
                    let $this = self;
                    $shard
                }
            }
        )*
    };
}

requests! {
    /// Place an order.
    PlaceOrder(Arc<OrderRequest>) 1 v 1 -> Answer<Arc<Order>>, |this, node| Some(node.owner(this.0.user.slot()));
    /// Place orders of users of one shard.
    PlaceOrders(Vec<Arc<OrderRequest>>) 2 v 1 -> Vec<Result<Answer<Arc<Order>>, Failure>>,
        |this, node| Some(node.owner(this.0.first()?.user.slot()));
    /// A command on an order.
    CommandOrder(OrderCommand) 3 v 2 -> Answer<OrderChanged>, |this, node| Some(node.owner(this.0.order.slot()));
    /// Commands on orders of one shard.
    CommandOrders(Vec<OrderCommand>) 4 v 2 -> Vec<Result<Answer<OrderChanged>, Failure>>,
        |this, node| Some(node.owner(this.0.first()?.order.slot()));
    /// A command on a SKU.
    CommandSku(SkuCommand) 5 v 2 -> Answer<SkuChanged>, |this, node| Some(node.owner(this.0.sku.slot()));
    /// Read an order.
    ReadOrder(OrderId) 6 v 1 -> Answer<Arc<Order>>, |this, node| Some(node.owner(this.0.slot()));
    /// Read a user's orders.
    ReadOrders(UserOrdersQuery) 7 v 1 -> Answer<UserOrders>, |this, node| Some(node.owner(this.0.user.slot()));
    /// Read a SKU.
    ReadSku(SkuId) 8 v 1 -> Answer<Box<Sku>>, |this, node| Some(node.owner(this.0.slot()));
    /// Put an audit mark into a shard's log; answered with its index.
    MarkShard(GroupId) 9 v 1 -> u64, |this, _node| Some(this.0);
    /// What the node says of itself.
    ReportNode() 10 v 1 -> NodeReport, |_this, _node| None;
    /// What a replica's state was at an audit mark.
    HashMark(GroupId, u64) 11 v 1 -> HashAt, |_this, _node| None;
    /// Hold the rows of a shard as they are now, on any replica: under which number they are held, and as of which moment.
    TakeCut(GroupId) 12 v 1 -> (u64, Box<Moment>), |_this, _node| None;
    /// Look at every row that is held under a number.
    AuditCut(GroupId, u64) 13 v 2 -> Box<Audit>, |_this, _node| None;
    /// The node's clocks, after it was told which is right, if that is said.
    TellClock(Option<AcceptClock>) 14 v 1 -> NodeClock, |_this, _node| None;
    /// Look whether every stored row of a group's replica is whole.
    ReadDisk(GroupId) 15 v 1 -> OnDisk, |_this, _node| None;
    /// Set a shard's log time back.
    RepairShard(GroupId, AskedRepair) 16 v 1 -> ShardRepair, |this, _node| Some(this.0);
    /// Which deadlines that would move, from the rows of whatever replica is there.
    PreviewRepair(GroupId, Repair) 17 v 1 -> Vec<(Deadline, Moved)>, |_this, _node| None;
    /// A step of starting streams of a shard anew.
    StepStream(GroupId, Step) 18 v 1 -> Stepped, |this, _node| Some(this.0);
    /// Find orders of one shard by their reference.
    FindOrders(GroupId, ReferenceQuery) 19 v 1 -> Answer<Vec<Order>>, |this, _node| Some(this.0);
}

impl LeaderRequest for PlaceOrder {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, arrived: Instant) -> Result<Self::Response, Failure> {
        place_here(leading, self.0, arrived).await
    }
}

impl LeaderRequest for PlaceOrders {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, arrived: Instant) -> Result<Self::Response, Failure> {
        let count = self.0.len();
        let placed = place_many_here(leading, self.0, arrived).await;
        Ok(placed.unwrap_or_else(|failure| vec![Err(failure); count]))
    }
}

impl LeaderRequest for CommandOrder {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        command_order_here(leading, self.0).await
    }
}

impl LeaderRequest for CommandOrders {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        command_orders_here(leading, self.0).await
    }
}

impl LeaderRequest for CommandSku {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        command_sku_here(leading, self.0).await
    }
}

impl LeaderRequest for ReadOrder {
    async fn handle(self, grid: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        grid.barrier(leading).await?;
        reads::order(&leading.lead.replica, leading.lead.shard, self.0).await
    }
}

impl LeaderRequest for ReadOrders {
    async fn handle(self, grid: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        grid.barrier(leading).await?;
        reads::orders(&leading.lead.replica, leading.lead.shard, &self.0).await
    }
}

impl LeaderRequest for ReadSku {
    async fn handle(self, grid: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        grid.barrier(leading).await?;
        reads::sku(&leading.lead.replica, leading.lead.shard, &self.0).await
    }
}

impl LeaderRequest for FindOrders {
    async fn handle(self, grid: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        grid.barrier(leading).await?;
        reads::referenced(&leading.lead.replica, leading.lead.shard, &self.1).await
    }
}

impl LeaderRequest for MarkShard {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        mark_here(leading).await
    }
}

impl LeaderRequest for RepairShard {
    async fn handle(self, _: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        repair::here(leading, self.1).await
    }
}

impl LeaderRequest for StepStream {
    /// Some steps read every row of a shard.
    fn patience(limits: &GridLimits) -> Duration {
        limits.verify
    }

    async fn handle(self, grid: &NodeGrid, leading: &Arc<Leading>, _: Instant) -> Result<Self::Response, Failure> {
        streams::here(grid, leading, self.1).await
    }
}

fn answered<T>(result: Result<T, Failure>) -> Answered<T> {
    result.map_or_else(Answered::Failed, Answered::Done)
}

impl HereRequest for ReportNode {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        Answered::Done(grid.reporter.report(&grid.node))
    }
}

impl HereRequest for HashMark {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        let Some(host) = grid.node.host(self.0) else { return Answered::Elsewhere(None) };
        Answered::Done(HashAt::of(&host.replica(), self.1, grid.limits.request / 2).await)
    }
}

impl HereRequest for TakeCut {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        let Some(host) = grid.node.host(self.0) else { return Answered::Elsewhere(None) };
        answered(Cut::take(host).await.map(|cut| {
            let moment = Box::new(cut.moment.clone());
            (grid.cuts.hold(cut), moment)
        }))
    }
}

impl HereRequest for AuditCut {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        match grid.cuts.release(self.0, self.1) {
            Some(cut) => answered(cut.audit().await.map(Box::new)),
            None => Answered::Failed(Failure::refused(Refusal::NotReady)),
        }
    }
}

impl HereRequest for TellClock {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        Answered::Done(grid.clock(self.0).await)
    }
}

impl HereRequest for ReadDisk {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        Answered::Done(on_disk(grid, self.0).await)
    }
}

impl HereRequest for PreviewRepair {
    async fn answer(self, grid: &NodeGrid) -> Answered<Self::Response> {
        let Some(host) = grid.node.host(self.0) else { return Answered::Elsewhere(None) };
        answered(repair::preview(host, self.1).await)
    }
}

//! What nodes ask of each other for their clients, and what they answer.

use std::sync::Arc;

use bincode::{Decode, Encode};
use ordergrid_api::grid::{OrderChanged, SkuChanged, UserOrders, UserOrdersQuery};
use ordergrid_api::wire::{AcceptClock, AskedRepair, NodeClock, ShardRepair};
use ordergrid_api::{Answer, Failure, ReadOptions};
use ordergrid_cluster::NodeId;
use ordergrid_domain::audit::{Audit, Moment};
use ordergrid_domain::command::{OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::{Deadline, GroupId, Moved, Order, OrderId, Repair, Sku, SkuId};

use crate::streams::{Step, Stepped};
use crate::verify::marks::HashAt;
use crate::verify::stored::OnDisk;

/// A request on its way to another node. Forwarded at most once: the receiver answers or refuses.
#[derive(Clone, Encode, Decode)]
pub(crate) enum Ask {
    /// Place an order.
    Place(Arc<OrderRequest>),
    /// Place orders of users of one shard.
    PlaceMany(Vec<Arc<OrderRequest>>),
    /// A command on an order.
    Order(OrderCommand),
    /// Commands on orders of one shard.
    OrderMany(Vec<OrderCommand>),
    /// A command on a SKU.
    Sku(SkuCommand),
    /// Read an order.
    ReadOrder(OrderId, ReadOptions),
    /// Read a user's orders.
    ReadOrders(UserOrdersQuery, ReadOptions),
    /// Read a SKU.
    ReadSku(SkuId, ReadOptions),
    /// Put an audit mark into a shard's log.
    Mark(GroupId),
    /// What the node says of itself.
    Report,
    /// What a replica's state was at an audit mark.
    HashAt(GroupId, u64),
    /// Hold the rows of a shard as they are now, on any replica.
    Cut(GroupId),
    /// Look at every row that was held under a number.
    Audit(GroupId, u64),
    /// The node's clocks, after it was told which is right, if that is said.
    Clock(Option<AcceptClock>),
    /// Look whether every stored row of a shard's replica there is whole.
    OnDisk(GroupId),
    /// Set a shard's log time back.
    Repair(GroupId, AskedRepair),
    /// Which deadlines that would move, from the rows of whatever replica is there.
    Preview(GroupId, Repair),
    /// A step of starting streams of a shard anew.
    Stream(GroupId, Step),
}

/// What a request came to, on its way back.
#[derive(Encode, Decode)]
pub(crate) enum Said {
    /// A place.
    Placed(Answer<Arc<Order>>),
    /// Several places.
    PlacedMany(Vec<Result<Answer<Arc<Order>>, Failure>>),
    /// A command on an order.
    Order(Answer<OrderChanged>),
    /// Several commands on orders.
    OrderMany(Vec<Result<Answer<OrderChanged>, Failure>>),
    /// A command on a SKU.
    Sku(Answer<SkuChanged>),
    /// An order.
    ReadOrder(Answer<Arc<Order>>),
    /// A user's orders.
    ReadOrders(Answer<UserOrders>),
    /// A SKU.
    ReadSku(Answer<Box<Sku>>),
    /// Where the audit mark is.
    Mark(u64),
    /// A node.
    Report(crate::report::NodeReport),
    /// What the state was.
    HashAt(HashAt),
    /// Rows are held under that number, as of that moment.
    Cut(u64, Box<Moment>),
    /// What the rows of a shard come to.
    Audit(Box<Audit>),
    /// Nothing was done: the shard is led elsewhere, by this node if it is known.
    Elsewhere(Option<NodeId>),
    /// The clocks of a node.
    Clock(NodeClock),
    /// What a replica's disk has.
    OnDisk(OnDisk),
    /// What a repair came to.
    Repair(ShardRepair),
    /// Deadlines that would move.
    Preview(Vec<(Deadline, Moved)>),
    /// What the step came to.
    Stream(Stepped),
}

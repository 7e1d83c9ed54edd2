//! What clients asked, and how it ended: the record that the judges read.
//!
//! Clients see the grid as a shop does, through HTTP. An operation ends in one of three ways (done, refused, unknown) or is
//! abandoned by its client, which for a judge is the same as unknown: it may have been done, or may still be.

use std::fmt;
use std::time::Duration;

use ordergrid_api::wire::{
    AdjustStock, AskedRepair, Batch, CancelOrder, ClockRepair, ClusterClock, ClusterStatus, FulfilmentChanged, Order, PayOrder,
    PickOrder, PlaceOrder, PutSku, ReceiveStock, Reconciliation, RefundOrder, RefundOutcome, ShipFulfilment, Sku,
    StatusHistory, UserOrders, VerifyReport,
};
use ordergrid_domain::{FulfilmentId, Key, OrderId, RefundId, SkuId, UserId};

/// Simulated time since the history began, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(pub u64);

impl SimTime {
    /// Seconds after the beginning.
    #[must_use]
    pub fn secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// The time so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0 + u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2))
    }

    /// How long after the beginning.
    #[must_use]
    pub fn since_start(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Shard and index of what was written or read, as `Grid-Token` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The shard's group.
    pub group: u32,
    /// Index in its log.
    pub index: u64,
}

/// One call of one client, from its first byte to its answer. A retry with the same key is another operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Operations in the order in which they began.
    pub number: u64,
    /// Who asked.
    pub client: u32,
    /// The node that was asked, or the first of those.
    pub node: u64,
    /// When it was sent.
    pub began: SimTime,
    /// When it ended, if it did.
    pub ended: Option<SimTime>,
    /// What was asked.
    pub ask: Ask,
    /// How it ended.
    pub ending: Ending,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `POST /v1/orders`
    Place(Key, Box<PlaceOrder>),
    /// `POST /v1/orders/batch`, each order with its key.
    PlaceBatch(Vec<PlaceOrder>),
    /// `POST /v1/orders/{id}/payments`
    Pay(Key, OrderId, PayOrder),
    /// `POST /v1/orders/{id}/cancel`
    Cancel(Key, OrderId, CancelOrder),
    /// `POST /v1/orders/{id}/complete`
    Complete(Key, OrderId),
    /// `POST /v1/orders/{id}/refunds`
    Refund(Key, OrderId, RefundOrder),
    /// `POST /v1/orders/{id}/refunds/{refund}`
    RefundOutcome(Key, RefundId, RefundOutcome),
    /// `POST /v1/orders/{id}/fulfilments`
    Pick(Key, OrderId, PickOrder),
    /// `POST /v1/fulfilments/{id}/ship`
    Ship(Key, FulfilmentId, ShipFulfilment),
    /// `POST /v1/fulfilments/{id}/deliver`
    Deliver(Key, FulfilmentId),
    /// `POST /v1/fulfilments/{id}/cancel`
    Unpick(Key, FulfilmentId),
    /// `PUT /v1/skus/{id}`
    PutSku(SkuId, PutSku),
    /// `POST /v1/skus/{id}/receive`
    Receive(Key, SkuId, ReceiveStock),
    /// `POST /v1/skus/{id}/adjust`
    Adjust(Key, SkuId, AdjustStock),
    /// `GET /v1/orders/{id}`
    ReadOrder(OrderId),
    /// `GET /v1/skus/{id}`
    ReadSku(SkuId),
    /// `GET /v1/orders/{id}/status-history`
    ReadHistory(OrderId),
    /// `GET /v1/users/{id}/orders`, the first page.
    ReadUser(UserId),
    /// `GET` of the cluster's status.
    Status,
    /// The proof of the laws.
    Verify,
    /// An operator says that the machines' clocks are right.
    AcceptWall,
    /// An operator has log time set back.
    RepairClock(AskedRepair),
    /// Streams are started anew, or only looked at.
    Reconcile {
        /// Only to be told.
        dry_run: bool,
    },
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// Done. `replayed`: by an earlier call with the same key.
    Done {
        /// What was answered.
        answer: Box<Said>,
        /// Where it stands in the log.
        token: Option<Seen>,
        /// An earlier call with the same key did it.
        replayed: bool,
    },
    /// Refused: nothing happened because of this call.
    Refused {
        /// HTTP status; 0 when no node could be reached.
        status: u16,
        /// The stable word for the cause.
        code: String,
        /// For people.
        detail: String,
    },
    /// It may have happened, or may happen later.
    Unknown(String),
    /// The client went away before an answer, or the history ended.
    Abandoned,
}

/// What was answered.
#[derive(Clone, Debug)]
pub enum Said {
    /// An order, after a command on it or as read.
    Order(Order),
    /// A parcel and its order.
    Fulfilment(FulfilmentChanged),
    /// The results of a batch.
    Batch(Batch),
    /// A SKU.
    Sku(Sku),
    /// An order's events.
    History(StatusHistory),
    /// A user's orders.
    User(UserOrders),
    /// The cluster.
    Status(Box<ClusterStatus>),
    /// The laws.
    Verify(Box<VerifyReport>),
    /// The clocks.
    Clock(ClusterClock),
    /// What became of log time.
    Repair(ClockRepair),
    /// What became of the streams.
    Reconciled(Reconciliation),
}

/// Everything that clients did in one history.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they began; `operations[n].number == n`.
    pub operations: Vec<Operation>,
}

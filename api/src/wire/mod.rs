//! The JSON format: bodies of requests and answers, shared by the server and the typed client.
//!
//! Wire types are separate from domain types: a change of the domain must not change what clients see. Requests are closed: an
//! unknown field is refused by name. Answers are open: a client also works with a newer server. Read next: `request`
//! (requests), `order` and `sku` (answers), `canonical` (the meaning of an idempotency key).

mod answer;
pub mod canonical;
pub mod clock;
pub mod cluster;
pub mod order;
pub mod problem;
pub mod repair;
pub mod request;
pub mod sku;
pub mod streams;
pub mod text;
mod words;
pub(crate) mod written;

pub(crate) use answer::{created_id, owed};
pub use clock::{AcceptClock, ClusterClock, NodeClock, RightClock};
pub use cluster::{
    Check, ClusterStatus, Health, InFlight, LawReport, NodeStatus, Readiness, ReplicaHash, ReplicaStatus, ShardReport,
    ShardStatus, StoppedStreamStatus, Verdict, VerifyReport,
};
pub use order::{
    Address, Batch, BatchOrder, BatchResult, FactTold, Fulfilment, FulfilmentChanged, Happening, Line, Order, OrderWords, Part,
    Payment, Refund, RefundPart, StatusHistory, UserOrders,
};
pub use problem::{Problem, ShortLine};
pub use repair::{AskedRepair, ClockRepair, Deadlines, RepairState, ShardRepair};
pub use request::{
    AdjustStock, CancelOrder, Command, CommandBatch, CompleteOrder, DeliverFulfilment, LineUnits, PayOrder, PickOrder,
    PlaceBatch, PlaceLine, PlaceOrder, PutSku, ReceiveStock, RefundOrder, RefundOutcome, ShipFulfilment, Unbuilt,
    UnpickFulfilment,
};
pub use sku::{Sku, Stock, WarehouseStock};
pub use streams::{Reconciliation, StreamReport, StreamState, UnitsFound, UnitsOf};
pub use text::WireText;

/// Header with the idempotency key of a POST that moves stock or money.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header of an answer that repeats the answer of an earlier request with the same key.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// Header with the shard and the log index of a write or a read. A read that sends it back sees at least that position.
pub const GRID_TOKEN: &str = "grid-token";
/// Header with the age, in milliseconds, of the answer to a stale read.
pub const GRID_AGE: &str = "grid-age-ms";
/// Header with the request's id in logs and problems.
pub const REQUEST_ID: &str = "x-request-id";
/// Media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Media type of every other answer with a body.
pub const JSON: &str = "application/json";

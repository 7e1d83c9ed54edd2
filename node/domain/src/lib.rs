//! What an order and a SKU are and do.
//!
//! Pure and deterministic: the result of [`ShardMachine::apply`] depends on the state and the entry alone. Nothing here
//! reads a clock, draws a random number, does I/O or logs.
//!
//! Start with [`protocol`] (the rules of placing, which comments cite as "rule 14") and [`order`] (what may happen to an order,
//! cited as "T5"), then [`command`] (what can be asked), [`machine`] (what it does) and [`placing`] (how a leader places an order over several
//! shards).

pub mod audit;
pub mod command;
pub mod encoding;
pub mod ids;
pub mod law;
pub mod machine;
pub mod money;
pub mod order;
pub mod placing;
pub mod protocol;
pub mod reconcile;
pub mod rejection;
pub mod repair;
pub mod rows;
pub mod sku;
pub mod stored;
pub mod time;

pub use audit::{Audit, AuditReport};
pub use command::{Command, Entry, Message, Outcome};
pub use ids::{
    AttemptId, FulfilmentId, GroupId, IdError, Key, OrderId, Provider, ProviderPaymentId, Reference, RefundId, SkuId, Slot,
    Text, UserId, WarehouseId,
};
pub use law::Law;
pub use machine::{Lookup, ShardConfig, ShardMachine, SlotOwners};
pub use money::{Currency, Money, Quantity};
pub use order::Order;
pub use rejection::Rejection;
pub use repair::{Deadline, Moved, Preview, Repair};
pub use rows::RowKey;
pub use sku::Sku;
pub use stored::Stored;
pub use time::Timestamp;

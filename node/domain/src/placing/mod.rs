//! The leader's side of placing an order, without a runtime: protocol.md, rules 3, 4, 6 to 9, 11 to 14.
//!
//! Each machine takes inputs and says what its driver has to carry out: [`LeaderEffect`]s, [`OrdersEffect`]s, a [`Decided`] or
//! a [`HoldDecision`]. [`Leader`] is the front door of one shard and term: it admits requests, keeps the table of running
//! attempts and busy keys, and says what became of attempts. [`Orders`] brings orders whose SKUs live in several shards from
//! their holds to a decision. [`Proposed`] is an order from the proposal of its place to the outcome. [`judge`] is the SKU's
//! side: what memory says about a hold.
//!
//! The node's actors drive them, and so does the simulation of the domain alone. A driver supplies what is not pure: the
//! callers and the way back to the leader ([`Front`]), memory and the lease ([`Memory`]), and the time, as an argument.

mod attempt;
mod effect;
mod holds;
mod leader;
mod memory;
mod orders;
mod orphans;
mod proposed;
mod sku;
#[cfg(test)]
mod tests;

pub use attempt::{Attempt, AttemptOver, Front};
pub use effect::{LeaderEffect, NotPlaced, OrdersEffect, PlaceCall, PlacedOrder};
pub use holds::{Held, HoldResult};
pub use leader::{Leader, LeaderSettings};
pub use memory::Memory;
pub use orders::Orders;
pub use orphans::{AttemptFate, Looked};
pub use proposed::{Decided, NotLanded, Over, Proposed};
pub use sku::{HoldDecision, judge};

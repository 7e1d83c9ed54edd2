//! What a driver of the placing protocol carries out, in the order given, and what clients are answered.

use std::sync::Arc;

use super::attempt::{AttemptOver, Front};
use super::proposed::Proposed;
use crate::command::{Command, Holds, OrderRequest, Release};
use crate::ids::{GroupId, Key, UserId};
use crate::order::Order;
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// One request to place an order, with who waits for its answer.
#[derive(Debug)]
pub struct PlaceCall<C> {
    /// What the client asks.
    pub request: Arc<OrderRequest>,
    /// Who waits.
    pub caller: C,
    /// Count the valid-until of the holds from here, when later than the leader's clock (rule 11).
    pub base: Option<Timestamp>,
    /// Times the attempt may be taken anew after `expired`.
    pub renewals: u8,
}

/// An order that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedOrder {
    /// The order as it was placed.
    pub order: Arc<Order>,
    /// The key had been used with the same body: `order` is the first answer.
    pub replayed: bool,
}

/// Why a client gets no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPlaced {
    /// A final no. Nothing happened.
    Rejected(Rejection),
    /// The shard is not led here any more. Nothing happened.
    NoLeader,
    /// Too much is under way. Nothing happened.
    Overloaded,
    /// Holds were not granted in time. Nothing happened (rule 7).
    HoldTimedOut,
    /// The place was proposed, and nobody knows what became of it (rule 7).
    Unknown,
}

impl From<Rejection> for NotPlaced {
    /// What the protocol says to itself becomes what a client can act on.
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::StaleAttempt { .. } | Rejection::WrongShard => Self::NoLeader,
            Rejection::HoldExpired { .. } | Rejection::HoldEnded => Self::HoldTimedOut,
            final_no => Self::Rejected(final_no),
        }
    }
}

/// What [`Leader`](super::Leader) asks of its driver.
pub enum LeaderEffect<F: Front> {
    /// Answer a caller.
    Answer {
        /// Who waits.
        caller: F::Caller,
        /// What it is told.
        answer: NotPlaced,
    },
    /// Memory says that SKUs fall short, and no attempt was begun. Refuse, unless the key names an order behind a barrier
    /// that begins now (rule 6).
    SoldOut {
        /// What the client asked.
        request: Arc<OrderRequest>,
        /// What falls short.
        rejection: Rejection,
        /// Who waits.
        caller: F::Caller,
    },
    /// The key names an order: tell that order, or refuse another body.
    Replay {
        /// What the client asked.
        request: Arc<OrderRequest>,
        /// Who waits.
        caller: F::Caller,
    },
    /// Load the record of a key, then call [`Leader::key_loaded`](super::Leader::key_loaded).
    LoadKey {
        /// Whose key.
        user: UserId,
        /// Which key.
        key: Key,
    },
    /// Propose a place, then tell the [`Proposed`] its outcome.
    Propose(Command, Proposed<F>),
    /// A key is free: call [`Leader::place`](super::Leader::place) with what has waited for it.
    Again(PlaceCall<F::Caller>),
}

/// What [`Orders`](super::Orders) ask of their driver.
pub enum OrdersEffect<F: Front> {
    /// Ask a shard for holds, then call [`Orders::held`](super::Orders::held).
    Hold {
        /// Which shard.
        shard: GroupId,
        /// For which attempts, and what.
        holds: Holds,
    },
    /// Call [`Orders::ask_again`](super::Orders::ask_again) in a moment.
    AskAgain,
    /// Propose a place, then tell the [`Proposed`] its outcome.
    Propose(Command, Proposed<F>),
    /// Tell a shard to release holds. The release may be lost: its SKUs will ask.
    Release {
        /// Which shard.
        shard: GroupId,
        /// Of which attempt, and what.
        release: Release,
    },
    /// An attempt is over before its place was proposed: call [`Leader::over`](super::Leader::over).
    Over(F, AttemptOver),
    /// Holds came too late: call [`Leader::renew`](super::Leader::renew).
    Renew(F, AttemptOver, PlaceCall<F::Caller>),
    /// SKUs refused. Refuse, unless the key names an order behind a barrier that begins now (rule 6).
    Refuse {
        /// What the client asked.
        request: Arc<OrderRequest>,
        /// What the SKUs said.
        rejection: Rejection,
        /// Who waits.
        caller: F::Caller,
    },
    /// Answer a caller.
    Answer {
        /// Who waits.
        caller: F::Caller,
        /// What it is told.
        answer: NotPlaced,
    },
}

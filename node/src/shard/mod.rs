//! How one shard runs on one node: the replica that applies, and, while this node leads, the actors in front of it.
//!
//! `replica` is the state on every node; `host` watches who leads and starts a `lead` per term; `actor` is that term's
//! front door; `order_actor` and `skus` hold what is in flight; `batcher` packs commands into entries; `mailbox`,
//! `timers` and `asks` are the leader's background work.
//!
//! What a leader decides is in [`ordergrid_domain::placing`]: the actors here convert, call and carry out.

mod actor;
pub(crate) mod answer;
mod asks;
mod batcher;
mod callers;
mod front_door;
mod holds;
mod host;
mod landings;
mod lead;
mod mailbox;
mod order_actor;
mod pace;
mod proposal;
mod refuse;
mod replica;
mod sku_actor;
mod skus;
mod stopped;
mod ticket;
mod timers;

use std::sync::Arc;

use bincode::{Decode, Encode};
use ordergrid_domain::command::{Holds, OrderRequest, Release};
use ordergrid_domain::placing::{AttemptFate, AttemptOver, PlaceCall};
use ordergrid_domain::{AttemptId, GroupId, Key, UserId};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use batcher::{BatchLimits, bytes_of_request};
pub(crate) use callers::{Caller, Deadline, PlaceCaller, Placed};
pub(crate) use holds::{HoldCaller, HoldSink};
pub(crate) use host::{Leading, Seat, ShardHost};
pub(crate) use landings::Landings;
pub(crate) use lead::{Lead, LeadLimits};
pub(crate) use mailbox::compare_ends;
pub(crate) use proposal::{Landed, Proposal, Reply};
pub(crate) use replica::ShardReplica;
pub(crate) use stopped::{Misfit, StoppedStream};

/// What a shard's actor is told.
pub(crate) enum ShardMessage {
    /// Place an order of one of this shard's users.
    Place {
        /// What the client asks.
        request: Arc<OrderRequest>,
        /// Who waits.
        caller: PlaceCaller,
        /// When the request came to this shard.
        asked: Instant,
    },
    /// Place orders of this shard's users that came together.
    PlaceMany {
        /// What the client asks, and who waits for each.
        requests: Vec<(Arc<OrderRequest>, PlaceCaller)>,
        /// When they came to this shard.
        asked: Instant,
    },
    /// Place an order that has waited for its key.
    Again(PlaceCall<PlaceCaller>),
    /// Place an order anew whose holds came too late.
    Renew {
        /// The attempt that is over.
        over: AttemptOver,
        /// What is tried once more.
        call: PlaceCall<PlaceCaller>,
    },
    /// Ask for the holds of the orders that have come since.
    Start,
    /// Hold units of this shard's SKUs.
    Hold {
        /// For which attempts, and what.
        holds: Holds,
        /// Who waits.
        sink: HoldSink,
    },
    /// Attempts can no longer be placed, or have been.
    Over(Vec<AttemptOver>),
    /// The record of a key is in memory, or the knowledge that there is none.
    KeyLoaded {
        /// Whose key.
        user: UserId,
        /// Which key.
        key: Key,
    },
    /// Have shards release what may be held for an attempt (rule 8).
    Release(Vec<(GroupId, Release)>),
    /// A SKU's shard asks what became of attempts (rule 14).
    Ask {
        /// Which.
        attempts: Vec<AttemptId>,
        /// Who waits.
        caller: oneshot::Sender<Vec<AttemptFate>>,
    },
    /// Leadership is about to be handed over: no new attempt begins, and whoever asked hears when none is under way.
    Leave(oneshot::Sender<()>),
    /// It stays after all.
    Stay,
    /// Let entity actors go that have been idle since the last sweep.
    Sweep,
}

/// A question about attempts, with what the asking shard has of the stream that tells of them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Question {
    /// Who asks.
    pub(crate) from: GroupId,
    /// Highest number that it has applied of the stream from the shard that is asked.
    pub(crate) applied: u64,
    /// The attempts.
    pub(crate) attempts: Vec<AttemptId>,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Fates {
    /// One per attempt.
    pub(crate) fates: Vec<AttemptFate>,
    /// Highest number that the shard that was asked has forgotten of its stream. To a shard that has not applied this, the fates
    /// say nothing: the *keep* of an attempt may be among what it lacks (rule 20).
    pub(crate) forgotten: u64,
}

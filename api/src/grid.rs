//! The seam between HTTP and a node: everything the API asks, and everything it can be told.
//!
//! Every request and answer can be encoded, because a node that does not lead a shard sends the whole question to the one
//! that does and hands its whole answer back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use futures::future::BoxFuture;
use ordergrid_domain::command::{Created, OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::order::Status;
use ordergrid_domain::{Order, OrderId, Rejection, Sku, SkuId, UserId};

use crate::wire::WireText;
use crate::wire::clock::{AcceptClock, ClusterClock};
use crate::wire::cluster::{Check, ClusterStatus, VerifyReport};
use crate::wire::repair::{AskedRepair, ClockRepair};
use crate::wire::streams::Reconciliation;

/// What HTTP asks of its node. Any node takes any request.
///
/// The API has checked the form of a request (limits, signs, required fields, and [`OrderRequest::check`]), never its effect. Dropping a future before
/// it is ready, as happens when a client goes away, cancels nothing: the command runs on and its outcome is what a retry
/// with the same key will be told.
pub trait Grid: Send + Sync + 'static {
    /// Places an order, or answers the order that was placed first with the same key and body.
    fn place(&self, request: OrderRequest) -> BoxFuture<'_, Reply<Arc<Order>>>;

    /// Places many, each on its own: exactly as many answers as requests, in their order.
    fn place_many(&self, requests: Vec<OrderRequest>) -> BoxFuture<'_, Vec<Reply<Arc<Order>>>>;

    /// An order as it is now. None: [`Rejection::NoSuchOrder`].
    fn order(&self, id: OrderId, options: ReadOptions) -> BoxFuture<'_, Reply<Arc<Order>>>;

    /// A page of a user's orders, newest first. A user without orders, known or not, has an empty page. Of a page that would
    /// take more than some hundred kilobytes of memory a first run is answered, of one order at least: it has fewer orders
    /// than were asked for and names the one to go on behind.
    fn orders_of(&self, query: UserOrdersQuery, options: ReadOptions) -> BoxFuture<'_, Reply<UserOrders>>;

    /// Does something to an order.
    fn command_order(&self, command: OrderCommand) -> BoxFuture<'_, Reply<OrderChanged>>;

    /// Does many things, each on its own: exactly as many answers as commands, in their order. Of one order, an earlier
    /// command takes effect before a later one.
    fn command_orders(&self, commands: Vec<OrderCommand>) -> BoxFuture<'_, Vec<Reply<OrderChanged>>>;

    /// A SKU as it is now. None: [`Rejection::NoSuchSku`].
    fn sku(&self, id: SkuId, options: ReadOptions) -> BoxFuture<'_, Reply<Box<Sku>>>;

    /// Does something to a SKU.
    fn command_sku(&self, command: SkuCommand) -> BoxFuture<'_, Reply<SkuChanged>>;

    /// Whether this node can take requests, check by check. Needs no quorum and does not wait for one.
    fn readiness(&self) -> BoxFuture<'_, Vec<Check>>;

    /// The cluster as this node sees it; nodes that do not answer are in it as unreachable.
    fn status(&self) -> BoxFuture<'_, Reply<ClusterStatus>>;

    /// The clocks of the nodes, after each that answers was told which is right, if that is said.
    fn clocks(&self, accept: Option<AcceptClock>) -> BoxFuture<'_, Reply<ClusterClock>>;

    /// Sets the log time of shards back where it ran away, one shard after the other.
    fn repair_clock(&self, asked: AskedRepair) -> BoxFuture<'_, Reply<ClockRepair>>;

    /// Starts the streams between shards anew that are stopped; with `dry_run` only tells what does not fit together.
    fn reconcile_streams(&self, dry_run: bool) -> BoxFuture<'_, Reply<Reconciliation>>;

    /// Proves the laws over the whole cluster, at one index per shard.
    fn verify(&self) -> BoxFuture<'_, Reply<VerifyReport>>;

    /// The metrics of this process as Prometheus text. Needs no quorum.
    fn metrics(&self) -> String;
}

/// What a node answers.
pub type Reply<T> = Result<Answer<T>, Failure>;

/// Something done or read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The key had been used with the same body: nothing was done this time.
    pub replayed: bool,
    /// Where it was written, or what a read has seen.
    pub token: Token,
    /// How old the answer to a stale read may be, in milliseconds; `None` for every other answer.
    pub age_ms: Option<u64>,
}

impl<T> Answer<T> {
    /// Something done just now, or read as it is now.
    pub fn new(value: T, token: Token) -> Self {
        Self { value, replayed: false, token, age_ms: None }
    }

    /// The same answer about something else.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), replayed: self.replayed, token: self.token, age_ms: self.age_ms }
    }
}

/// A place in a shard's log. A read that carries it sees at least what was written there, on any node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Token {
    /// The shard's group.
    pub shard: u32,
    /// The index.
    pub index: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.index)
    }
}

impl std::str::FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shard, index) = text.split_once(':').ok_or("must be shard:index")?;
        Ok(Self { shard: u32::read(shard)?, index: u64::read(index)? })
    }
}

/// How current a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReadOptions {
    /// At least this has to be seen. Of another shard than the one read: nothing to wait for.
    pub token: Option<Token>,
    /// Any replica may answer, however far it is behind (but never behind `token`).
    pub stale: bool,
}

/// Which of a user's orders.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UserOrdersQuery {
    /// Whose.
    pub user: UserId,
    /// Only those with this word.
    pub status: Option<Status>,
    /// Which page, from 1; 1 whenever there is a cursor.
    pub page: u32,
    /// Orders per page, 1 to 100.
    pub size: u32,
    /// Only those placed before this one: the last of the page before.
    pub cursor: Option<OrderId>,
}

/// A page of a user's orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UserOrders {
    /// Newest first.
    pub orders: Vec<Order>,
    /// The cursor of the next page, or of the rest of this one: the last order here; `None` when nothing follows.
    pub next: Option<OrderId>,
    /// How many match on all pages, where that is known without reading them: not with a status, nor above 10,000.
    pub total: Option<u64>,
}

/// An order after a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OrderChanged {
    /// The order now.
    pub order: Arc<Order>,
    /// What the command created; the same again when it is replayed.
    pub created: Option<Created>,
}

/// A SKU after a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SkuChanged {
    /// The SKU now.
    pub sku: Box<Sku>,
    /// The row did not exist before.
    pub created: bool,
}

/// Why there is no answer. Says in every case whether something may have happened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Failure {
    /// A final no of the domain: nothing happened.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// The cluster cannot take it now: nothing happened.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// When to try again.
        retry_after: Duration,
    },
    /// It may have happened: ask again with the same key.
    #[error("outcome unknown: {cause}")]
    Unknown {
        /// What went wrong while it was under way.
        cause: UnknownCause,
    },
}

impl Failure {
    /// Refused for now, to be tried again in a second.
    #[must_use]
    pub fn refused(reason: Refusal) -> Self {
        Self::Refused { reason, retry_after: Duration::from_secs(1) }
    }

    /// It was under way when this went wrong.
    #[must_use]
    pub fn unknown(cause: UnknownCause) -> Self {
        Self::Unknown { cause }
    }

    /// Something may have happened.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Why a request was turned away before anything happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// A queue or a limit is full.
    #[error("the cluster is busy")]
    Overloaded,
    /// The shard has no leader that is ready.
    #[error("the shard has no leader at the moment")]
    NoLeader,
    /// This node is starting or stopping.
    #[error("this node is starting or stopping")]
    NotReady,
    /// Clocks are too far apart to promise anything.
    #[error("the clocks of the cluster's nodes are too far apart")]
    ClockSkew,
    /// Stock could not be held in time; what was held is released (protocol.md, rule 7).
    #[error("the stock could not be held in time")]
    HoldTimedOut,
    /// The node that would have to answer cannot be reached, and nothing was sent to it.
    #[error("the node that leads the shard cannot be reached")]
    Unreachable,
    /// The read needs more than this replica has seen in time.
    #[error("this replica has not applied the write of the token yet")]
    TokenAhead,
    /// What this node has stored of the shard is damaged, and no other node is known to have it.
    #[error("the stored rows of the shard are damaged on the node that was asked")]
    Damaged,
    /// The node that would have to answer does not know the request, as one of another version would not.
    #[error("the node that leads the shard does not understand this node")]
    NotUnderstood,
}

/// What went wrong after a request may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, thiserror::Error)]
pub enum UnknownCause {
    /// No answer in time.
    #[error("there was no answer in time")]
    TimedOut,
    /// The leader changed while the command was under way.
    #[error("the shard's leader changed while the command was under way")]
    LeaderChanged,
    /// The connection to the leader broke.
    #[error("the connection to the shard's leader broke")]
    ConnectionLost,
    /// The actor that ran it failed.
    #[error("an internal component failed while executing the command")]
    ActorFailed,
    /// The node stopped.
    #[error("the node stopped while the command was under way")]
    Stopped,
    /// The leader has answered, and its answer cannot be read.
    #[error("the answer of the shard's leader could not be read")]
    Unreadable,
}

#[cfg(test)]
mod tests {
    use bincode::config::standard;
    use ordergrid_domain::Quantity;

    use super::*;

    /// Nodes forward whole answers to each other.
    fn survives<T: Encode + Decode<()> + PartialEq + fmt::Debug>(value: &T) {
        let bytes = bincode::encode_to_vec(value, standard()).expect("it can be encoded");
        let (read, length): (T, usize) = bincode::decode_from_slice(&bytes, standard()).expect("it can be decoded");
        assert_eq!((&read, length), (value, bytes.len()));
    }

    #[test]
    fn questions_and_answers_travel() {
        let sku = SkuId::new("BANK CHARGES").expect("a valid SKU");
        let rejection = Rejection::OutOfStock { sku, asked: Quantity(2), available: Quantity(1) };
        let token = Token { shard: 3, index: u64::MAX };
        let page = UserOrders { orders: Vec::new(), next: Some(OrderId(7)), total: None };
        survives::<Reply<UserOrders>>(&Ok(Answer { age_ms: Some(5), ..Answer::new(page, token) }));
        survives::<Reply<Arc<Order>>>(&Err(rejection.into()));
        survives::<Reply<SkuChanged>>(&Err(Failure::refused(Refusal::ClockSkew)));
        survives::<Vec<Reply<OrderChanged>>>(&vec![Err(Failure::unknown(UnknownCause::Stopped))]);
        survives(&ReadOptions { token: Some(token), stale: true });
        survives(&UserOrdersQuery {
            user: UserId::new("17850").expect("a valid user"),
            status: Some(Status::PartiallyShipped),
            page: 1,
            size: 20,
            cursor: Some(OrderId(9)),
        });
    }

    #[test]
    fn tokens_are_read_as_they_were_written() {
        for token in [Token::default(), Token { shard: u32::MAX, index: u64::MAX }] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }
}

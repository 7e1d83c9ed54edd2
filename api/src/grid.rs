//! The seam between HTTP and a node: every question of the API, and every answer.
//!
//! Questions and answers can be encoded, because a node that does not lead a shard forwards the question to the leader and
//! returns the leader's answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use futures::future::BoxFuture;
use ordergrid_domain::command::{Created, OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::order::Status;
use ordergrid_domain::{Order, OrderId, Reference, Rejection, Sku, SkuId, UserId};

use crate::wire::WireText;
use crate::wire::clock::{AcceptClock, ClusterClock};
use crate::wire::cluster::{Check, ClusterStatus, VerifyReport};
use crate::wire::repair::{AskedRepair, ClockRepair};
use crate::wire::streams::Reconciliation;

/// The operations that HTTP needs from its node. Every node accepts every request.
///
/// The API has validated the form of a request (limits, signs, required fields, and [`OrderRequest::check`]), never its effect.
/// Dropping a future before it is ready, for example when a client disconnects, cancels nothing: the command continues, and a
/// retry with the same key gets its outcome.
pub trait Grid: Send + Sync + 'static {
    /// Places an order. With the key and body of an earlier request, returns that request's order.
    fn place(&self, request: OrderRequest) -> BoxFuture<'_, Reply<Arc<Order>>>;

    /// Places several orders independently: exactly one answer per request, in the same order.
    fn place_many(&self, requests: Vec<OrderRequest>) -> BoxFuture<'_, Vec<Reply<Arc<Order>>>>;

    /// The current order, or [`Rejection::NoSuchOrder`].
    fn order(&self, id: OrderId, options: ReadOptions) -> BoxFuture<'_, Reply<Arc<Order>>>;

    /// A page of a user's orders, newest first. A user without orders, known or not, has an empty page. If the page would take
    /// more than some hundred kilobytes of memory, the answer holds only the first orders of it, at least one, and the cursor
    /// of the rest.
    fn orders_of(&self, query: UserOrdersQuery, options: ReadOptions) -> BoxFuture<'_, Reply<UserOrders>>;

    /// The current orders that a query by reference finds, newest first.
    fn orders_by_reference(&self, query: ReferenceQuery, options: ReadOptions) -> BoxFuture<'_, Reply<Vec<Order>>>;

    /// Executes a command on an order.
    fn command_order(&self, command: OrderCommand) -> BoxFuture<'_, Reply<OrderChanged>>;

    /// Executes several commands independently: exactly one answer per command, in the same order. Commands on the same order
    /// take effect in this order.
    fn command_orders(&self, commands: Vec<OrderCommand>) -> BoxFuture<'_, Vec<Reply<OrderChanged>>>;

    /// The current SKU, or [`Rejection::NoSuchSku`].
    fn sku(&self, id: SkuId, options: ReadOptions) -> BoxFuture<'_, Reply<Box<Sku>>>;

    /// Executes a command on a SKU.
    fn command_sku(&self, command: SkuCommand) -> BoxFuture<'_, Reply<SkuChanged>>;

    /// The readiness checks of this node. Needs no quorum and waits for none.
    fn readiness(&self) -> BoxFuture<'_, Vec<Check>>;

    /// The cluster as this node sees it. Nodes that do not answer are reported as unreachable.
    fn status(&self) -> BoxFuture<'_, Reply<ClusterStatus>>;

    /// The clocks of all nodes. With `accept`, every node that answers first accepts that clock as right.
    fn clocks(&self, accept: Option<AcceptClock>) -> BoxFuture<'_, Reply<ClusterClock>>;

    /// Sets the log time of shards back where it has run ahead, one shard after the other.
    fn repair_clock(&self, asked: AskedRepair) -> BoxFuture<'_, Reply<ClockRepair>>;

    /// Starts the streams between shards anew that are stopped; with `dry_run` only tells what does not fit together.
    fn reconcile_streams(&self, dry_run: bool) -> BoxFuture<'_, Reply<Reconciliation>>;

    /// Verifies the laws over the whole cluster, at one index per shard. What takes longer than `within` is told as not judged.
    fn verify(&self, within: Duration) -> BoxFuture<'_, Reply<VerifyReport>>;

    /// The metrics of this process as Prometheus text. Needs no quorum.
    fn metrics(&self) -> String;
}

/// A node's answer.
pub type Reply<T> = Result<Answer<T>, Failure>;

/// The result of a command or a read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answer<T> {
    /// The result.
    pub value: T,
    /// Whether the key was used before with the same body: nothing was done this time.
    pub replayed: bool,
    /// The log position of the write, or the position that the read has seen.
    pub token: Token,
    /// How old the answer to a stale read may be, in milliseconds; `None` for every other answer.
    pub age_ms: Option<u64>,
}

impl<T> Answer<T> {
    /// The result of a new command or a current read.
    pub fn new(value: T, token: Token) -> Self {
        Self { value, replayed: false, token, age_ms: None }
    }

    /// The same answer with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), replayed: self.replayed, token: self.token, age_ms: self.age_ms }
    }
}

/// A position in a shard's log. A read that carries it sees at least that write, on any node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Token {
    /// The shard.
    pub shard: u32,
    /// The log index.
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

/// The required consistency of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReadOptions {
    /// The read must see at least this position. A token of another shard needs no wait.
    pub token: Option<Token>,
    /// Any replica may answer, however far it is behind (but never behind `token`).
    pub stale: bool,
}

/// A query for a user's orders.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UserOrdersQuery {
    /// The user.
    pub user: UserId,
    /// Only orders with this status.
    pub status: Option<Status>,
    /// The page number, from 1; always 1 with a cursor.
    pub page: u32,
    /// Orders per page, 1 to 100.
    pub size: u32,
    /// Only orders placed before this one, which is the last of the previous page.
    pub cursor: Option<OrderId>,
}

/// A query for the orders that have a reference, or had it last: one for each user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReferenceQuery {
    /// The reference.
    pub reference: Reference,
    /// Only the order of this user.
    pub user: Option<UserId>,
}

/// A page of a user's orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UserOrders {
    /// The orders, newest first.
    pub orders: Vec<Order>,
    /// The cursor of the next page, or of the rest of this one: the last order here. `None` at the end.
    pub next: Option<OrderId>,
    /// Number of matching orders on all pages, if it is known without reading them: not with a status, nor above 10,000.
    pub total: Option<u64>,
}

/// An order after a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OrderChanged {
    /// The order after the command.
    pub order: Arc<Order>,
    /// What the command created. A replay returns it again.
    pub created: Option<Created>,
    /// The version of the order that the command made. A replay returns it again.
    pub version: u64,
}

/// A SKU after a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SkuChanged {
    /// The SKU after the command.
    pub sku: Box<Sku>,
    /// Whether the command created the SKU.
    pub created: bool,
    /// The version of the SKU that the command made. A replay returns it again.
    pub version: u64,
}

/// Why a request failed. Each case says whether the request may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Failure {
    /// The domain rejected the command: nothing happened.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// The cluster cannot execute the request now: nothing happened.
    #[error("refused: {reason}")]
    Refused {
        /// The reason.
        reason: Refusal,
        /// When to retry.
        retry_after: Duration,
    },
    /// The request may have taken effect: retry with the same key.
    #[error("outcome unknown: {cause}")]
    Unknown {
        /// What went wrong while the request was under way.
        cause: UnknownCause,
    },
}

impl Failure {
    /// A refusal that should be retried after a second.
    #[must_use]
    pub fn refused(reason: Refusal) -> Self {
        Self::Refused { reason, retry_after: Duration::from_secs(1) }
    }

    /// An unknown outcome with this cause.
    #[must_use]
    pub fn unknown(cause: UnknownCause) -> Self {
        Self::Unknown { cause }
    }

    /// Whether the request may have taken effect.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Why a request was refused before it took effect.
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
    /// The clocks are too far apart to promise anything.
    #[error("the clocks of the cluster's nodes are too far apart")]
    ClockSkew,
    /// The stock could not be held in time. Holds that were made are released (protocol.md, rule 7).
    #[error("the stock could not be held in time")]
    HoldTimedOut,
    /// The node that must answer is unreachable, and nothing was sent to it.
    #[error("the node that leads the shard cannot be reached")]
    Unreachable,
    /// The read's token is ahead of the shard's log.
    #[error("the token is ahead of the shard's log: no answer has carried it, or the shard has lost entries since")]
    TokenAhead,
    /// The stored rows of the shard are damaged on this node, and no other node is known to have them.
    #[error("the stored rows of the shard are damaged on the node that was asked")]
    Damaged,
    /// The node that would have to answer does not know the request, as one of another version would not.
    #[error("the node that leads the shard does not understand this node")]
    NotUnderstood,
}

/// What went wrong after a request may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, thiserror::Error)]
pub enum UnknownCause {
    /// There was no answer in time.
    #[error("there was no answer in time")]
    TimedOut,
    /// The leader changed while the command was under way.
    #[error("the shard's leader changed while the command was under way")]
    LeaderChanged,
    /// The connection to the leader broke.
    #[error("the connection to the shard's leader broke")]
    ConnectionLost,
    /// The actor that executed the command failed.
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

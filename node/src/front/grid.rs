//! What HTTP asks of this node: every request goes to the leader of its shard, here or one hop away.

pub(crate) mod request;
pub(crate) mod requests;
mod serving;

#[cfg(test)]
mod conformance;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use ordergrid_api::grid::{OrderChanged, ReferenceQuery, SkuChanged, UserOrders, UserOrdersQuery};
use ordergrid_api::wire::cluster::{Check, ClusterStatus, VerifyReport};
use ordergrid_api::wire::{AcceptClock, AskedRepair, ClockRepair, ClusterClock, NodeClock, Reconciliation};
use ordergrid_api::{Answer, Failure, Grid, ReadOptions, Refusal, Reply, Token, UnknownCause};
use ordergrid_cluster::{Mesh, NodeId};
use ordergrid_domain::command::{OrderCommand, OrderRequest, SkuCommand};
use ordergrid_domain::placing::NotLanded;
use ordergrid_domain::{Command, GroupId, Order, OrderId, Outcome, Sku, SkuId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clocks;
use crate::context::{LedAt, NodeContext};
use crate::front::by_reference::used_before;
use crate::front::reads;
use crate::operators::repair;
use crate::operators::streams;
use crate::operators::verify::Verifier;
use crate::operators::verify::cuts::Cuts;
use crate::replicas::MetaRows;
use crate::shard::{
    Caller, Deadline, Landed, Leading, PlaceCaller, Placed, Proposal, Reply as Waiter, ShardHost, ShardMessage, answer,
    bytes_of_request,
};
use crate::telemetry::metrics;

use requests::{CommandOrder, CommandSku, LeaderRequest, PlaceOrder, ReadOrder, ReadOrders, ReadSku, TellClock};

pub(crate) use request::{NodeRequest, RequestError};
pub(crate) use serving::{answer, refused};

/// The mesh service of forwarded requests.
pub(crate) const SERVICE: u8 = 2;
/// What a command on an order takes of the log, roughly.
const BYTES_OF_COMMAND: usize = 192;
/// Pause before the way to a shard without a known leader is looked up again.
pub(crate) const REROUTE: Duration = Duration::from_millis(20);

/// Pause before a leader is asked again that is behind another replica; it doubles.
const BEHIND: Duration = Duration::from_millis(10);

/// Nothing happened, because nobody who leads was reached: worth another look at who does. A replica that finds its rows
/// damaged leads no longer: another one is about to.
pub(crate) fn lost(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { reason: Refusal::NoLeader | Refusal::Unreachable | Refusal::Damaged, .. })
}

/// How long requests may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GridLimits {
    /// A request of another node that has no outcome by then is answered as unknown.
    pub(crate) request: Duration,
    /// A request waits so long for its shard to have a leader.
    pub(crate) leader: Duration,
    /// A node that says nothing of itself for so long is unreachable.
    pub(crate) report: Duration,
    /// Proving the laws may take so long.
    pub(crate) verify: Duration,
}

/// This node as HTTP sees it.
#[derive(Clone)]
pub(crate) struct NodeGrid {
    pub(crate) node: Arc<NodeContext>,
    pub(crate) mesh: Mesh,
    pub(crate) limits: GridLimits,
    pub(crate) reporter: Arc<crate::operators::report::Reporter>,
    /// What is stored here of the meta group.
    pub(crate) meta: MetaRows,
    /// The proof that is under way.
    pub(crate) verifier: Arc<Verifier>,
    /// Rows that other nodes want to read for theirs.
    pub(crate) cuts: Arc<Cuts>,
    /// Requests that were sent to other nodes.
    pub(crate) sent: Arc<AtomicU64>,
}

impl NodeGrid {
    /// Takes a request to its shard's leader, waiting a while for one to be there. Only a request that was refused, so that
    /// nothing happened, is taken anywhere a second time.
    pub(crate) async fn route<R: LeaderRequest>(&self, request: R) -> Result<R::Response, Failure> {
        let Some(shard) = request.shard(&self.node) else { return Err(Failure::refused(Refusal::NoLeader)) };
        let mut asked = Instant::now();
        let patience = asked + self.limits.leader;
        loop {
            let said = match self.node.place(shard) {
                LedAt::Here(leading) => request.clone().handle(self, &leading, asked).await,
                LedAt::There(node) => self.call_leader(shard, node, &request).await,
                LedAt::Nowhere if self.node.is_lost(shard) => return Err(Failure::refused(Refusal::Damaged)),
                LedAt::Nowhere => Err(Failure::refused(Refusal::NoLeader)),
            };
            if !said.as_ref().is_err_and(lost) || Instant::now() >= patience {
                return said;
            }
            tokio::time::sleep(REROUTE).await;
            asked = Instant::now();
        }
    }

    /// The node that is believed to lead; whoever is wrong about a shard without a replica here learns from the answer.
    async fn call_leader<R: LeaderRequest>(&self, shard: GroupId, node: NodeId, request: &R) -> Result<R::Response, Failure> {
        let said = self.call(node, request, R::patience(&self.limits)).await;
        match &said {
            Err(RequestError::Elsewhere(named)) => self.node.elsewhere.not_at(shard, node, *named),
            Err(RequestError::NotSent | RequestError::Lost) => self.node.elsewhere.not_at(shard, node, None),
            _ => {}
        }
        Ok(said?)
    }

    /// One hop. What was not sent was refused; what was sent and not answered is unknown.
    pub(crate) async fn call<R: NodeRequest>(
        &self,
        node: NodeId,
        request: &R,
        within: Duration,
    ) -> Result<R::Response, RequestError> {
        let (number, started) = (self.sent.fetch_add(1, Ordering::Relaxed), Instant::now());
        let came = self.mesh.call(node, SERVICE, request::frame(request, number), within).await;
        metrics::forwarded(started.elapsed().as_secs_f64());
        let said = request::response::<R>(came);
        if let Err(error @ (RequestError::Unreadable | RequestError::NotUnderstood(_))) = &said {
            tracing::warn!(peer = node, operation = R::TAG, version = R::VERSION, number, %error, "request to another node failed");
        }
        said
    }

    /// This node's clocks, as they are to those of its peers now; after it was told which is right, if that is said.
    pub(crate) async fn clock(&self, accept: Option<AcceptClock>) -> NodeClock {
        if accept.is_none() {
            clocks::ask_all(&self.node, &self.mesh).await;
        }
        self.reporter.clock(&self.node, accept)
    }

    /// Another node's clocks.
    pub(crate) async fn clock_of(&self, node: NodeId, accept: Option<AcceptClock>) -> Option<NodeClock> {
        self.call(node, &TellClock(accept), self.limits.request).await.ok()
    }

    /// Whoever led before leads no more: what is applied here is current.
    pub(crate) async fn barrier(&self, leading: &Leading) -> Result<(), Failure> {
        match leading.lead.group.barrier().await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::refused(Refusal::NoLeader)),
        }
    }

    /// A replica here that may be behind, for reads that allow it; it has caught up with the token, if one is given. Not one below
    /// its floor: it may have shown what its log has lost, and without a leader it stays behind that for ever. Such reads go to
    /// the leader, as all others do.
    async fn stale(&self, shard: GroupId, options: &ReadOptions) -> Option<&Arc<ShardHost>> {
        if !options.stale {
            return None;
        }
        let host = self.node.host(shard).filter(|host| host.is_whole() && !host.group().below_floor())?;
        if let Some(token) = options.token.filter(|token| token.shard == shard.0) {
            let group = host.group();
            tokio::time::timeout(self.limits.leader, group.wait_applied(token.index)).await.ok()?.ok()?;
        }
        Some(host)
    }

    /// What the leader answers to a read. Another replica may have applied an entry a moment before it, and given its token: the
    /// leader is asked again for a while. After that, nobody has given the token, or its entry was lost.
    pub(crate) async fn current<T, R>(&self, request: R, options: &ReadOptions) -> Reply<T>
    where
        R: LeaderRequest<Response = Answer<T>>,
    {
        let ends = Instant::now() + self.limits.leader;
        let mut pause = BEHIND;
        loop {
            let read = self.route(request.clone()).await?;
            let behind = |token: Token| token.shard == read.token.shard && token.index > read.token.index;
            if !options.token.is_some_and(behind) {
                return Ok(read);
            }
            if Instant::now() + pause > ends {
                return Err(Failure::refused(Refusal::TokenAhead));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// The answer of a replica that may be behind, with how old it may be: since its last entry, which overstates it on an idle
    /// shard. `None` where its rows are damaged: another replica has them.
    fn aged<T>(&self, host: &ShardHost, read: Reply<T>) -> Option<Reply<T>> {
        if matches!(read, Err(Failure::Refused { reason: Refusal::Damaged, .. })) {
            return None;
        }
        let age = self.node.time.now().since(host.replica().machine().time());
        let age_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        Some(read.map(|read| Answer { age_ms, ..read }))
    }
}

async fn place_here(leading: &Leading, request: Arc<OrderRequest>, asked: Instant) -> Result<Answer<Arc<Order>>, Failure> {
    if let Some(refused) = used_before(&leading.lead, &request).await {
        return Err(refused);
    }
    let (caller, answer) = PlaceCaller::one();
    if leading.actor.send_message(ShardMessage::Place { request, caller, asked }).is_err() {
        return Err(Failure::refused(Refusal::NoLeader));
    }
    outcome(answer).await?
}

/// Orders that came together, but for those whose reference was used before.
async fn place_many_here(leading: &Leading, requests: Vec<Arc<OrderRequest>>, asked: Instant) -> Result<Vec<Placed>, Failure> {
    let (mut good, mut refused) = (Vec::with_capacity(requests.len()), Vec::new());
    for (index, request) in requests.into_iter().enumerate() {
        match used_before(&leading.lead, &request).await {
            None => good.push(request),
            Some(failure) => refused.push((index, failure)),
        }
    }
    let mut answers = place_together(leading, good, asked).await?;
    for (index, failure) in refused {
        answers.insert(index, Err(failure));
    }
    Ok(answers)
}

/// One message and one waiter for orders that came together.
async fn place_together(leading: &Leading, requests: Vec<Arc<OrderRequest>>, asked: Instant) -> Result<Vec<Placed>, Failure> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let lead = &leading.lead;
    let bytes: usize = requests.iter().map(|request| bytes_of_request(request)).sum();
    let admitted = lead.pace.admit(bytes as u64)?;
    let (callers, answers) = PlaceCaller::many(requests.len(), Deadline::within(lead.limits.request));
    let requests = requests.into_iter().zip(callers).collect();
    if leading.actor.send_message(ShardMessage::PlaceMany { requests, asked }).is_err() {
        return Err(Failure::refused(Refusal::NoLeader));
    }
    let answers = answers.wait().await;
    drop(admitted);
    Ok(answers)
}

/// Short cut past an entity actor: a command on one entity needs no step in another shard, so it goes straight to the
/// log, whose order is the entity's order. A hop through an actor would add a spawn and a stop, 2 to 3 us.
async fn command_order_here(leading: &Leading, command: OrderCommand) -> Result<Answer<OrderChanged>, Failure> {
    order_changed(leading.lead.shard, leading.lead.batcher.ask(Command::Order(Box::new(command))).await)
}

/// One waiter for commands that came together.
async fn command_orders_here(
    leading: &Leading,
    commands: Vec<OrderCommand>,
) -> Result<Vec<Result<Answer<OrderChanged>, Failure>>, Failure> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let lead = &leading.lead;
    let admitted = lead.pace.admit((commands.len() * BYTES_OF_COMMAND) as u64)?;
    let (callers, answers) = Caller::many(commands.len(), Deadline::within(lead.limits.request));
    for (command, caller) in commands.into_iter().zip(callers) {
        leading.lead.batcher.propose(Command::Order(Box::new(command)), Waiter::Caller(caller));
    }
    let landed = answers.wait().await;
    drop(admitted);
    Ok(landed.into_iter().map(|landed| order_changed(leading.lead.shard, landed)).collect())
}

fn order_changed(shard: GroupId, landed: Result<Landed, NotLanded>) -> Result<Answer<OrderChanged>, Failure> {
    let landed = landed.map_err(not_landed)?;
    match landed.outcome {
        Outcome::Order { order, created, replayed, version } => {
            let token = answer::token(shard, landed.at.index);
            Ok(Answer { replayed, ..Answer::new(OrderChanged { order, created, version }, token) })
        }
        Outcome::Rejected(rejection) => Err(Failure::Rejected(rejection)),
        other => unreachable!("a command on an order is answered as an order or rejected, not {other:?}"),
    }
}

async fn command_sku_here(leading: &Leading, command: SkuCommand) -> Result<Answer<SkuChanged>, Failure> {
    let landed = leading.lead.batcher.ask(Command::Sku(Box::new(command))).await.map_err(not_landed)?;
    match landed.outcome {
        Outcome::Sku { sku, created, replayed, version } => {
            let token = answer::token(leading.lead.shard, landed.at.index);
            Ok(Answer { replayed, ..Answer::new(SkuChanged { sku, created, version }, token) })
        }
        Outcome::Rejected(rejection) => Err(Failure::Rejected(rejection)),
        other => unreachable!("a command on a SKU is answered as a SKU or rejected, not {other:?}"),
    }
}

/// Waits for an outcome; with its waiter lost, it is unknown.
async fn outcome<T>(answer: oneshot::Receiver<T>) -> Result<T, Failure> {
    answer.await.map_err(|_| Failure::unknown(UnknownCause::LeaderChanged))
}

/// An entry without commands is an audit mark.
async fn mark_here(leading: &Leading) -> Result<u64, Failure> {
    let lead = &leading.lead;
    let mark = Proposal::pack(lead.node.time.now(), Vec::new(), Vec::new(), &mut Vec::new());
    let landed = lead.group.propose(lead.term, mark).await;
    landed.map(|at| at.index).map_err(|_| Failure::refused(Refusal::NoLeader))
}

fn not_landed(why: NotLanded) -> Failure {
    match why {
        NotLanded::NotAppended => Failure::refused(Refusal::NoLeader),
        NotLanded::TooLate => Failure::refused(Refusal::Overloaded),
        NotLanded::Unknown => Failure::unknown(UnknownCause::LeaderChanged),
    }
}

impl Grid for NodeGrid {
    fn place(&self, request: OrderRequest) -> BoxFuture<'_, Reply<Arc<Order>>> {
        Box::pin(self.route(PlaceOrder(Arc::new(request))))
    }

    fn place_many(&self, requests: Vec<OrderRequest>) -> BoxFuture<'_, Vec<Reply<Arc<Order>>>> {
        Box::pin(crate::front::batches::place_many(self, requests))
    }

    fn order(&self, id: OrderId, options: ReadOptions) -> BoxFuture<'_, Reply<Arc<Order>>> {
        Box::pin(async move {
            let shard = self.node.owner(id.slot());
            if let Some(host) = self.stale(shard, &options).await
                && let Some(read) = self.aged(host, reads::order(&host.replica(), shard, id).await)
            {
                return read;
            }
            self.current(ReadOrder(id), &options).await
        })
    }

    fn orders_of(&self, query: UserOrdersQuery, options: ReadOptions) -> BoxFuture<'_, Reply<UserOrders>> {
        Box::pin(async move {
            let shard = self.node.owner(query.user.slot());
            if let Some(host) = self.stale(shard, &options).await
                && let Some(read) = self.aged(host, reads::orders(&host.replica(), shard, &query).await)
            {
                return read;
            }
            self.current(ReadOrders(query), &options).await
        })
    }

    fn orders_by_reference(&self, query: ReferenceQuery, options: ReadOptions) -> BoxFuture<'_, Reply<Vec<Order>>> {
        Box::pin(crate::front::by_reference::everywhere(self, query, options))
    }

    fn command_order(&self, command: OrderCommand) -> BoxFuture<'_, Reply<OrderChanged>> {
        Box::pin(self.route(CommandOrder(command)))
    }

    fn command_orders(&self, commands: Vec<OrderCommand>) -> BoxFuture<'_, Vec<Reply<OrderChanged>>> {
        Box::pin(crate::front::batches::command_orders(self, commands))
    }

    fn sku(&self, id: SkuId, options: ReadOptions) -> BoxFuture<'_, Reply<Box<Sku>>> {
        Box::pin(async move {
            let shard = self.node.owner(id.slot());
            if let Some(host) = self.stale(shard, &options).await
                && let Some(read) = self.aged(host, reads::sku(&host.replica(), shard, &id).await)
            {
                return read;
            }
            self.current(ReadSku(id), &options).await
        })
    }

    fn command_sku(&self, command: SkuCommand) -> BoxFuture<'_, Reply<SkuChanged>> {
        Box::pin(self.route(CommandSku(command)))
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<Check>> {
        Box::pin(std::future::ready(self.reporter.readiness(&self.node)))
    }

    fn status(&self) -> BoxFuture<'_, Reply<ClusterStatus>> {
        Box::pin(crate::operators::report::status(self))
    }

    fn clocks(&self, accept: Option<AcceptClock>) -> BoxFuture<'_, Reply<ClusterClock>> {
        Box::pin(crate::operators::report::clocks(self, accept))
    }

    fn repair_clock(&self, asked: AskedRepair) -> BoxFuture<'_, Reply<ClockRepair>> {
        Box::pin(repair::every_shard(self, asked))
    }

    fn reconcile_streams(&self, dry_run: bool) -> BoxFuture<'_, Reply<Reconciliation>> {
        Box::pin(streams::every_pair(self, dry_run))
    }

    fn verify(&self, within: Duration) -> BoxFuture<'_, Reply<VerifyReport>> {
        Box::pin(crate::operators::verify::verify(self, within))
    }

    fn metrics(&self) -> String {
        self.reporter.metrics()
    }
}

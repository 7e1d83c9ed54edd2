//! The routes of the client: the request of each ([`Call`], to be sent or shown), and a method of [`Client`] for each.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use ordergrid_domain::{FulfilmentId, Key, OrderId, Reference, RefundId, SkuId, UserId};

use super::{Answer, Call, CallError, Client, path_segment};
use crate::routes::Route;
use crate::wire::{
    AcceptClock, AdjustStock, AskedRepair, Batch, CancelOrder, ClockRepair, ClusterClock, ClusterStatus, CommandBatch,
    CompleteOrder, DeliverFulfilment, FulfilmentChanged, Order, PayOrder, PickOrder, PlaceBatch, PlaceOrder, PutSku,
    ReceiveStock, Reconciliation, RefundOrder, RefundOutcome, ShipFulfilment, Sku, StatusHistory, UnpickFulfilment, UserOrders,
    VerifyReport, WireText,
};

type Ended<T> = Result<Answer<T>, CallError>;

/// Builds the requests; nothing is sent.
impl Call {
    /// `POST /v1/orders`.
    #[must_use]
    pub fn place(order: &PlaceOrder, key: &Key) -> Self {
        Self::keyed(Route::Place, &[], key).with_json(order)
    }

    /// `POST /v1/orders/batch`; each order carries its own key.
    #[must_use]
    pub fn place_batch(batch: &PlaceBatch) -> Self {
        Self::of(Route::PlaceBatch, &[]).with_json(batch)
    }

    /// The same for a body that is written down already; `minimal`: answered with ids and statuses.
    pub(super) fn place_written(batch: Bytes, minimal: bool) -> Self {
        Self::asking(Route::PlaceBatch, &[], if minimal { "?return=minimal" } else { "" }).with_body(batch)
    }

    /// `POST /v1/commands/batch`; each command carries its own key.
    #[must_use]
    pub fn command_batch(batch: &CommandBatch) -> Self {
        Self::of(Route::CommandBatch, &[]).with_json(batch)
    }

    /// `GET /v1/orders/{id}`.
    #[must_use]
    pub fn order(id: OrderId) -> Self {
        Self::of(Route::Order, &[&id])
    }

    /// `GET /v1/orders/{id}/status-history`.
    #[must_use]
    pub fn status_history(id: OrderId) -> Self {
        Self::of(Route::StatusHistory, &[&id])
    }

    /// `POST /v1/orders/{id}/payments`.
    #[must_use]
    pub fn pay(id: OrderId, payment: &PayOrder, key: &Key) -> Self {
        Self::keyed(Route::Pay, &[&id], key).with_json(payment)
    }

    /// `POST /v1/orders/{id}/cancel`.
    #[must_use]
    pub fn cancel(id: OrderId, cancel: &CancelOrder, key: &Key) -> Self {
        Self::keyed(Route::Cancel, &[&id], key).with_json(cancel)
    }

    /// `POST /v1/orders/{id}/complete`.
    #[must_use]
    pub fn complete(id: OrderId, key: &Key) -> Self {
        Self::keyed(Route::Complete, &[&id], key).with_json(&CompleteOrder {})
    }

    /// `POST /v1/orders/{id}/refunds`.
    #[must_use]
    pub fn refund(id: OrderId, refund: &RefundOrder, key: &Key) -> Self {
        Self::keyed(Route::Refund, &[&id], key).with_json(refund)
    }

    /// `POST /v1/orders/{id}/fulfilments`.
    #[must_use]
    pub fn pick(id: OrderId, pick: &PickOrder, key: &Key) -> Self {
        Self::keyed(Route::Pick, &[&id], key).with_json(pick)
    }

    /// `POST /v1/fulfilments/{id}/ship`.
    #[must_use]
    pub fn ship(id: FulfilmentId, ship: &ShipFulfilment, key: &Key) -> Self {
        Self::keyed(Route::Ship, &[&id], key).with_json(ship)
    }

    /// `POST /v1/fulfilments/{id}/deliver`.
    #[must_use]
    pub fn deliver(id: FulfilmentId, key: &Key) -> Self {
        Self::keyed(Route::Deliver, &[&id], key).with_json(&DeliverFulfilment {})
    }

    /// `POST /v1/fulfilments/{id}/cancel`.
    #[must_use]
    pub fn unpick(id: FulfilmentId, key: &Key) -> Self {
        Self::keyed(Route::Unpick, &[&id], key).with_json(&UnpickFulfilment {})
    }

    /// `POST /v1/orders/{id}/refunds/{refund}`.
    #[must_use]
    pub fn refund_outcome(id: RefundId, outcome: RefundOutcome, key: &Key) -> Self {
        Self::keyed(Route::RefundOutcome, &[&id.order, &id], key).with_json(&outcome)
    }

    /// `GET /v1/users/{id}/orders`: up to `size` orders, newest first, from `cursor` of the page before.
    #[must_use]
    pub fn user_orders(user: &UserId, size: u32, cursor: Option<&str>) -> Self {
        let after = cursor.map(|cursor| format!("&cursor={}", path_segment(cursor))).unwrap_or_default();
        Self::asking(Route::UserOrders, &[&user.as_str()], &format!("?size={size}{after}"))
    }

    /// `GET /v1/orders?reference=`: the orders that have a reference, or had it last, of all users or of one.
    #[must_use]
    pub fn orders_by_reference(reference: &Reference, user: Option<&UserId>) -> Self {
        let user = user.map(|user| format!("&user_id={}", path_segment(user.as_str()))).unwrap_or_default();
        let reference = path_segment(reference.as_str());
        Self::asking(Route::OrdersByReference, &[], &format!("?reference={reference}{user}"))
    }

    /// `PUT /v1/skus/{id}`.
    #[must_use]
    pub fn put_sku(id: &SkuId, sku: &PutSku) -> Self {
        Self::of(Route::PutSku, &[&id.as_str()]).with_json(sku)
    }

    /// `GET /v1/skus/{id}`.
    #[must_use]
    pub fn sku(id: &SkuId) -> Self {
        Self::of(Route::Sku, &[&id.as_str()])
    }

    /// `POST /v1/skus/{id}/receive`.
    #[must_use]
    pub fn receive(id: &SkuId, receive: &ReceiveStock, key: &Key) -> Self {
        Self::keyed(Route::Receive, &[&id.as_str()], key).with_json(receive)
    }

    /// `POST /v1/skus/{id}/adjust`.
    #[must_use]
    pub fn adjust(id: &SkuId, adjust: &AdjustStock, key: &Key) -> Self {
        Self::keyed(Route::Adjust, &[&id.as_str()], key).with_json(adjust)
    }

    /// `GET /admin/v1/cluster/status`.
    #[must_use]
    pub fn cluster_status() -> Self {
        Self::of(Route::ClusterStatus, &[])
    }

    /// `GET /admin/v1/cluster/clock`.
    #[must_use]
    pub fn cluster_clock() -> Self {
        Self::of(Route::ClusterClock, &[])
    }

    /// `POST /admin/v1/cluster/clock/accept`.
    #[must_use]
    pub fn accept_clock(accept: AcceptClock) -> Self {
        let AcceptClock { right, dry_run } = accept;
        Self::asking(Route::ClockAccept, &[], &format!("?right={}&dry_run={dry_run}", right.word()))
    }

    /// `POST /admin/v1/cluster/clock/repair`.
    #[must_use]
    pub fn repair_clock(asked: AskedRepair) -> Self {
        let since = asked.since.map(|since| since.write(|since| format!("&since={since}"))).unwrap_or_default();
        Self::asking(Route::ClockRepair, &[], &format!("?dry_run={}{since}", asked.dry_run))
    }

    /// `POST /admin/v1/cluster/streams/reconcile`.
    #[must_use]
    pub fn reconcile_streams(dry_run: bool) -> Self {
        Self::asking(Route::Reconcile, &[], &format!("?dry_run={dry_run}"))
    }

    /// `GET /admin/v1/cluster/verify`. What is not judged `within` that time is told as not judged; without it the node decides.
    #[must_use]
    pub fn cluster_verify(within: Option<Duration>) -> Self {
        let within = within.map(|within| format!("?within_ms={}", within.as_millis())).unwrap_or_default();
        Self::asking(Route::ClusterVerify, &[], &within)
    }
}

/// One method per route. Each call ends as done, refused or unknown.
#[expect(clippy::missing_errors_doc, reason = "CallError, everywhere, as `send` describes it")]
impl Client {
    /// Places an order.
    pub async fn place(&self, order: &PlaceOrder, key: &Key) -> Ended<Order> {
        self.ask(&Call::place(order, key)).await
    }

    /// Places many orders; each has its own result.
    pub async fn place_batch(&self, batch: &PlaceBatch) -> Ended<Batch> {
        self.ask(&Call::place_batch(batch)).await
    }

    /// Executes many commands on orders; each has its own result.
    pub async fn command_batch(&self, batch: &CommandBatch) -> Ended<Batch> {
        self.ask(&Call::command_batch(batch)).await
    }

    /// Reads an order.
    pub async fn order(&self, id: OrderId) -> Ended<Order> {
        self.ask(&Call::order(id)).await
    }

    /// Reads the history of an order.
    pub async fn status_history(&self, id: OrderId) -> Ended<StatusHistory> {
        self.ask(&Call::status_history(id)).await
    }

    /// Records a payment attempt.
    pub async fn pay(&self, id: OrderId, payment: &PayOrder, key: &Key) -> Ended<Order> {
        self.ask(&Call::pay(id, payment, key)).await
    }

    /// Cancels units that are not picked.
    pub async fn cancel(&self, id: OrderId, cancel: &CancelOrder, key: &Key) -> Ended<Order> {
        self.ask(&Call::cancel(id, cancel, key)).await
    }

    /// Completes an order.
    pub async fn complete(&self, id: OrderId, key: &Key) -> Ended<Order> {
        self.ask(&Call::complete(id, key)).await
    }

    /// Requests a refund.
    pub async fn refund(&self, id: OrderId, refund: &RefundOrder, key: &Key) -> Ended<Order> {
        self.ask(&Call::refund(id, refund, key)).await
    }

    /// Picks held units, all or a part.
    pub async fn pick(&self, id: OrderId, pick: &PickOrder, key: &Key) -> Ended<FulfilmentChanged> {
        self.ask(&Call::pick(id, pick, key)).await
    }

    /// Ships a fulfilment.
    pub async fn ship(&self, id: FulfilmentId, ship: &ShipFulfilment, key: &Key) -> Ended<Order> {
        self.ask(&Call::ship(id, ship, key)).await
    }

    /// Delivers a fulfilment.
    pub async fn deliver(&self, id: FulfilmentId, key: &Key) -> Ended<Order> {
        self.ask(&Call::deliver(id, key)).await
    }

    /// Cancels a fulfilment that is not shipped.
    pub async fn unpick(&self, id: FulfilmentId, key: &Key) -> Ended<Order> {
        self.ask(&Call::unpick(id, key)).await
    }

    /// Records the outcome of a refund.
    pub async fn refund_outcome(&self, id: RefundId, outcome: RefundOutcome, key: &Key) -> Ended<Order> {
        self.ask(&Call::refund_outcome(id, outcome, key)).await
    }

    /// Reads a user's orders, newest first.
    pub async fn user_orders(&self, user: &UserId, size: u32, cursor: Option<&str>) -> Ended<UserOrders> {
        self.ask(&Call::user_orders(user, size, cursor)).await
    }

    /// Finds the orders that have a reference, or had it last.
    pub async fn orders_by_reference(&self, reference: &Reference, user: Option<&UserId>) -> Ended<UserOrders> {
        self.ask(&Call::orders_by_reference(reference, user)).await
    }

    /// Creates a SKU or changes its row in the catalogue.
    pub async fn put_sku(&self, id: &SkuId, sku: &PutSku) -> Ended<Sku> {
        self.ask(&Call::put_sku(id, sku)).await
    }

    /// Reads a SKU and its stock.
    pub async fn sku(&self, id: &SkuId) -> Ended<Sku> {
        self.ask(&Call::sku(id)).await
    }

    /// Receives stock.
    pub async fn receive(&self, id: &SkuId, receive: &ReceiveStock, key: &Key) -> Ended<Sku> {
        self.ask(&Call::receive(id, receive, key)).await
    }

    /// Adjusts stock.
    pub async fn adjust(&self, id: &SkuId, adjust: &AdjustStock, key: &Key) -> Ended<Sku> {
        self.ask(&Call::adjust(id, adjust, key)).await
    }

    /// Reads the state of the cluster.
    pub async fn cluster_status(&self) -> Ended<ClusterStatus> {
        self.ask(&Call::cluster_status()).await
    }

    /// Verifies the laws.
    pub async fn cluster_verify(&self) -> Ended<VerifyReport> {
        self.ask(&Call::cluster_verify(None)).await
    }

    /// Accepts a clock as right.
    pub async fn accept_clock(&self, accept: AcceptClock) -> Ended<ClusterClock> {
        self.ask(&Call::accept_clock(accept)).await
    }

    /// Sets back log time that has run ahead.
    pub async fn repair_clock(&self, asked: AskedRepair) -> Ended<ClockRepair> {
        self.ask(&Call::repair_clock(asked)).await
    }

    /// Starts the streams between shards anew that are stopped, or only tells what does not fit together.
    pub async fn reconcile_streams(&self, dry_run: bool) -> Ended<Reconciliation> {
        self.ask(&Call::reconcile_streams(dry_run)).await
    }
}

/// Builds requests from the table of routes.
impl Call {
    fn of(route: Route, ids: &[&dyn Display]) -> Self {
        Self::asking(route, ids, "")
    }

    fn keyed(route: Route, ids: &[&dyn Display], key: &Key) -> Self {
        Self::of(route, ids).with_key(header(key))
    }

    /// `query` is empty or begins with a question mark.
    fn asking(route: Route, ids: &[&dyn Display], query: &str) -> Self {
        let entry = route.entry().expect("a call is of a route of the table");
        let mut ids = ids.iter().map(|id| path_segment(&id.to_string()));
        let segment = |template: &str| match template.strip_prefix('{') {
            Some(_) => ids.next().expect("a call names every parameter of its path"),
            None => template.to_owned(),
        };
        let path: Vec<_> = entry.path.split('/').map(segment).collect();
        Self::new(entry.methods[0].clone(), &(path.join("/") + query))
    }
}

/// The header of a key.
///
/// # Panics
/// If the key is not visible ASCII. Keys from requests are checked for that, and keys of this crate are made of such ids.
fn header(key: &Key) -> HeaderValue {
    HeaderValue::from_str(key.as_str()).unwrap_or_else(|_| panic!("`{}` cannot be an idempotency key", key.as_str()))
}

//! The table of routes: each route is defined by one entry. The router, the commands of a batch, the names in metrics, the paths
//! of the typed client and the documented errors are all generated from it.
//!
//! Columns: methods and path; summary; ids in the path; body (optional with `?`); the handler, or for a command the function that
//! checks its body; intended user; why a request may be repeated; the kind of work under which its stages are measured; errors in
//! addition to those of all routes of its kind (see [`RouteEntry::errors`]).

use std::marker::PhantomData;

use axum::http::Method;
use ordergrid_domain::{FulfilmentId, OrderId, RefundId, SkuId, UserId};

use super::entry::{Class, Does, Idempotency, OrderReader, PathId, RequestBody, RouteEntry};
use super::meters::Work;
use super::{batch, commands, operators, orders, skus};
use crate::fault::kinds;
use crate::wire::{
    AdjustStock, CancelOrder, CommandBatch, CompleteOrder, DeliverFulfilment, PayOrder, PickOrder, PlaceBatch, PlaceOrder,
    PutSku, ReceiveStock, RefundOrder, RefundOutcome, ShipFulfilment, UnpickFulfilment,
};
use crate::{body, check};

/// The name of a type. It compiles only if the type exists.
const fn name_of<Body>(_: PhantomData<Body>, name: &'static str) -> &'static str {
    name
}

/// Builds [`Route`] and [`ROUTES`].
macro_rules! routes {
    ($($name:ident: $($method:ident)|+ $path:literal {
        summary: $summary:literal,
        at: $at:ty, body: ($($body:tt)*), does: $does:ident($action:path),
        class: $class:ident, idempotency: $idempotency:ident, work: $work:ident,
        errors: [$($error:ident)*],
    })*) => {
        /// A route, or the reason why a request matches none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Route {
            $(#[doc = concat!("`", $path, "`: ", $summary, ".")] $name,)*
            /// The path is not in the table.
            Nowhere,
            /// The path is in the table, but with another method.
            WrongMethod,
        }

        impl Route {
            /// All routes.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)* Self::Nowhere, Self::WrongMethod];
        }

        /// The routes, in the order of [`Route`].
        pub(super) static ROUTES: &[RouteEntry] = &[$(RouteEntry {
            methods: &[$(Method::$method),+],
            path: $path,
            label: routes!(@label $($method)+, $path),
            summary: $summary,
            params: <$at as PathId>::PARAMS,
            body: routes!(@body $($body)*),
            class: Class::$class,
            idempotency: Idempotency::$idempotency,
            errors: &[$(&kinds::$error),*],
            route: Route::$name,
            work: Work::$work,
            does: routes!(@$does $action, $at, $($body)*),
        }),*];
    };
    (@label $method:ident, $path:literal) => { concat!(stringify!($method), " ", $path) };
    (@label $($method:ident)+, $path:literal) => { $path };
    (@body) => { RequestBody::Nothing };
    (@body $body:ident) => { RequestBody::Required(name_of(PhantomData::<$body>, stringify!($body))) };
    (@body $body:ident ?) => { RequestBody::Optional(name_of(PhantomData::<$body>, stringify!($body))) };
    (@handler $action:path, $at:ty, $($body:tt)*) => {
        Does::Handler(|api, call| Box::pin($action(api, call)))
    };
    (@order_command $check:path, $at:ty, $body:ident) => {
        routes!(@order_reader $at, $check, body::parse::<$body>)
    };
    (@order_command $check:path, $at:ty, $body:ident ?) => {
        routes!(@order_reader $at, $check, body::parse_optional::<$body>)
    };
    (@order_reader $at:ty, $check:path, $parse:expr) => {
        Does::OrderCommand(OrderReader {
            order: commands::order_of::<$at>,
            ask: |segments, bytes, canon| commands::ask(<$at>::from_path(segments)?, $parse(bytes)?, canon, $check),
        })
    };
    (@sku_command $check:path, $at:ty, $body:ident) => {
        Does::SkuCommand(|bytes, canon| skus::ask(body::parse::<$body>(bytes)?, canon, $check))
    };
}

routes! {
    Place: POST "/v1/orders" {
        summary: "place an order, whole or not at all",
        at: (), body: (PlaceOrder), does: handler(orders::place),
        class: Shop, idempotency: Key, work: Place,
        errors: [
            NO_SUCH_SKU OUT_OF_STOCK REFERENCE_TAKEN TOTAL_MISMATCH TOO_MANY_LINES UNSUPPORTED INVALID_LINES
            INVALID_SKU INVALID_QUANTITY INVALID_UNIT_PRICE INVALID_DISCOUNT INVALID_TAX INVALID_AMOUNT
            INVALID_USER_ID INVALID_REFERENCE INVALID_CURRENCY INVALID_SHIPPING_FEE INVALID_TOTAL INVALID_TERMS
            INVALID_PAYMENT_METHOD INVALID_PAYMENT_WINDOW INVALID_SHIP_TO INVALID_METADATA
        ],
    }
    PlaceBatch: POST "/v1/orders/batch" {
        summary: "place up to 1,000 orders, each with its own `idempotency_key` and its own result; `?return=minimal`",
        at: (), body: (PlaceBatch), does: handler(batch::place),
        class: Shop, idempotency: ItemKeys, work: Batch,
        errors: [INVALID_ORDERS TOO_MANY_ORDERS],
    }
    CommandBatch: POST "/v1/commands/batch" {
        summary: "send up to 1,000 commands on orders, each with its `path`, its own `idempotency_key` and its own result",
        at: (), body: (CommandBatch), does: handler(batch::command),
        class: Shop, idempotency: ItemKeys, work: Batch,
        errors: [INVALID_COMMANDS TOO_MANY_COMMANDS NO_SUCH_ROUTE INVALID_PATH INVALID_IF_VERSION],
    }
    OrdersByReference: GET "/v1/orders" {
        summary: "find the orders that have a reference, or had it last: one for each user, or that of `user_id`",
        at: (), body: (), does: handler(orders::by_reference),
        class: Shop, idempotency: Reads, work: Read,
        errors: [INVALID_REFERENCE INVALID_USER_ID INVALID_GRID_TOKEN TOKEN_AHEAD],
    }
    Order: GET "/v1/orders/{id}" {
        summary: "read an order",
        at: OrderId, body: (), does: handler(orders::order),
        class: Shop, idempotency: Reads, work: Read,
        errors: [NO_SUCH_ORDER INVALID_CONSISTENCY INVALID_GRID_TOKEN TOKEN_AHEAD],
    }
    StatusHistory: GET "/v1/orders/{id}/status-history" {
        summary: "read the timeline of an order",
        at: OrderId, body: (), does: handler(orders::status_history),
        class: Shop, idempotency: Reads, work: Read,
        errors: [NO_SUCH_ORDER INVALID_CONSISTENCY INVALID_GRID_TOKEN TOKEN_AHEAD],
    }
    UserOrders: GET "/v1/users/{id}/orders" {
        summary: "list the orders of a user, newest first",
        at: UserId, body: (), does: handler(orders::of_user),
        class: Shop, idempotency: Reads, work: Read,
        errors: [
            INVALID_USER_ID INVALID_STATUS INVALID_PAGE INVALID_SIZE INVALID_CURSOR PAGE_TOO_DEEP INVALID_REFERENCE
            INVALID_CONSISTENCY INVALID_GRID_TOKEN TOKEN_AHEAD
        ],
    }
    Pay: POST "/v1/orders/{id}/payments" {
        summary: "record a fact of a payment, as its provider reports it",
        at: OrderId, body: (PayOrder), does: order_command(check::pay),
        class: Shop, idempotency: Key, work: Command,
        errors: [
            WRONG_CURRENCY WRONG_PAYMENT_STATE INVALID_PROVIDER INVALID_PROVIDER_PAYMENT_ID INVALID_STATUS INVALID_AMOUNT
            INVALID_CURRENCY INVALID_PART INVALID_OCCURRED_AT
        ],
    }
    Cancel: POST "/v1/orders/{id}/cancel" {
        summary: "cancel what is not picked yet, or some units of it",
        at: OrderId, body: (CancelOrder), does: order_command(check::cancel),
        class: Shop, idempotency: Key, work: Command,
        errors: [
            NO_SUCH_LINE NOT_ENOUGH_ON_LINE NOTHING_LEFT TOO_MANY_LINES INVALID_LINES INVALID_LINE
            INVALID_QUANTITY INVALID_REASON INVALID_OPERATOR INVALID_NOTE
        ],
    }
    Complete: POST "/v1/orders/{id}/complete" {
        summary: "complete an order that has nothing open",
        at: OrderId, body: (CompleteOrder?), does: order_command(check::complete),
        class: Shop, idempotency: Key, work: Command,
        errors: [STILL_OPEN],
    }
    Pick: POST "/v1/orders/{id}/fulfilments" {
        summary: "pick what is held, or some units of it, for a parcel",
        at: OrderId, body: (PickOrder?), does: order_command(check::pick),
        class: Shop, idempotency: Key, work: Command,
        errors: [
            NO_SUCH_LINE NOT_ENOUGH_ON_LINE NOTHING_LEFT TOO_MANY_LINES INVALID_LINES INVALID_LINE
            INVALID_QUANTITY NO_SUCH_WAREHOUSE UNSUPPORTED INVALID_WAREHOUSE ON_HOLD
        ],
    }
    Ship: POST "/v1/fulfilments/{id}/ship" {
        summary: "mark a parcel as shipped",
        at: FulfilmentId, body: (ShipFulfilment?), does: order_command(check::ship),
        class: Shop, idempotency: Key, work: Command,
        errors: [NO_SUCH_FULFILMENT WRONG_FULFILMENT_STATE ON_HOLD INVALID_CARRIER INVALID_TRACKING],
    }
    Deliver: POST "/v1/fulfilments/{id}/deliver" {
        summary: "mark a parcel as delivered",
        at: FulfilmentId, body: (DeliverFulfilment?), does: order_command(check::deliver),
        class: Shop, idempotency: Key, work: Command,
        errors: [NO_SUCH_FULFILMENT WRONG_FULFILMENT_STATE],
    }
    Unpick: POST "/v1/fulfilments/{id}/cancel" {
        summary: "put back what was picked for a parcel that has not left",
        at: FulfilmentId, body: (UnpickFulfilment?), does: order_command(check::unpick),
        class: Shop, idempotency: Key, work: Command,
        errors: [NO_SUCH_FULFILMENT WRONG_FULFILMENT_STATE],
    }
    Refund: POST "/v1/orders/{id}/refunds" {
        summary: "request a refund of units, carriage, tax or an amount",
        at: OrderId, body: (RefundOrder), does: order_command(check::refund),
        class: Shop, idempotency: Key, work: Command,
        errors: [
            NO_SUCH_LINE NOT_ENOUGH_ON_LINE NOTHING_LEFT TOO_MANY_LINES INVALID_LINES INVALID_LINE
            INVALID_QUANTITY REFUND_TOO_LARGE NO_SUCH_PAYMENT INVALID_AMOUNT INVALID_CARRIAGE INVALID_TAX
            INVALID_PROVIDER INVALID_PROVIDER_PAYMENT_ID INVALID_REASON
        ],
    }
    RefundOutcome: POST "/v1/orders/{id}/refunds/{refund}" {
        summary: "record how a refund ended",
        at: RefundId, body: (RefundOutcome), does: order_command(check::refund_outcome),
        class: Shop, idempotency: Key, work: Command,
        errors: [NO_SUCH_REFUND INVALID_STATUS INVALID_OCCURRED_AT],
    }
    Sku: GET "/v1/skus/{id}" {
        summary: "read a SKU and its stock",
        at: SkuId, body: (), does: handler(skus::sku),
        class: Shop, idempotency: Reads, work: Read,
        errors: [NO_SUCH_SKU INVALID_SKU INVALID_CONSISTENCY INVALID_GRID_TOKEN TOKEN_AHEAD],
    }
    PutSku: PUT "/v1/skus/{id}" {
        summary: "create a SKU, or change its row in the catalogue",
        at: SkuId, body: (PutSku), does: sku_command(check::put),
        class: Shop, idempotency: Natural, work: Command,
        errors: [INVALID_NAME UNSUPPORTED],
    }
    Receive: POST "/v1/skus/{id}/receive" {
        summary: "receive units of a SKU",
        at: SkuId, body: (ReceiveStock), does: sku_command(check::receive),
        class: Shop, idempotency: Key, work: Command,
        errors: [NO_SUCH_SKU NO_SUCH_WAREHOUSE UNSUPPORTED INVALID_QUANTITY INVALID_WAREHOUSE],
    }
    Adjust: POST "/v1/skus/{id}/adjust" {
        summary: "add units of a SKU that were found, or remove units that were lost",
        at: SkuId, body: (AdjustStock), does: sku_command(check::adjust),
        class: Shop, idempotency: Key, work: Command,
        errors: [
            NO_SUCH_SKU NO_SUCH_WAREHOUSE WOULD_OVERSELL UNSUPPORTED INVALID_DELTA INVALID_QUANTITY
            INVALID_REASON INVALID_WAREHOUSE
        ],
    }
    ClusterStatus: GET "/admin/v1/cluster/status" {
        summary: "read nodes, shards and health",
        at: (), body: (), does: handler(operators::status),
        class: Operator, idempotency: Reads, work: Read,
        errors: [],
    }
    ClusterClock: GET "/admin/v1/cluster/clock" {
        summary: "read the clocks of every node",
        at: (), body: (), does: handler(operators::clock),
        class: Operator, idempotency: Reads, work: Read,
        errors: [],
    }
    ClockAccept: POST "/admin/v1/cluster/clock/accept" {
        summary: "accept a clock as right",
        at: (), body: (), does: handler(operators::accept_clock),
        class: Operator, idempotency: Natural, work: Read,
        errors: [],
    }
    ClockRepair: POST "/admin/v1/cluster/clock/repair" {
        summary: "set back log time that has run ahead",
        at: (), body: (), does: handler(operators::repair_clock),
        class: Operator, idempotency: Natural, work: Read,
        errors: [LOG_TIME_NOT_AHEAD],
    }
    Reconcile: POST "/admin/v1/cluster/streams/reconcile" {
        summary: "start stopped streams between shards anew",
        at: (), body: (), does: handler(operators::reconcile_streams),
        class: Operator, idempotency: Natural, work: Read,
        errors: [],
    }
    ClusterVerify: GET | POST "/admin/v1/cluster/verify" {
        summary: "verify the laws on every row",
        at: (), body: (), does: handler(operators::verify),
        class: Operator, idempotency: Reads, work: Read,
        errors: [],
    }
    Livez: GET "/livez" {
        summary: "check that the process answers",
        at: (), body: (), does: handler(operators::live),
        class: Probe, idempotency: Reads, work: Read,
        errors: [],
    }
    Readyz: GET "/readyz" {
        summary: "check that this node can take requests",
        at: (), body: (), does: handler(operators::ready),
        class: Probe, idempotency: Reads, work: Read,
        errors: [UNKNOWN_PARAMETER INVALID_PARAMETER],
    }
    Metrics: GET "/metrics" {
        summary: "read the metrics in the text format of Prometheus",
        at: (), body: (), does: handler(operators::measures),
        class: Probe, idempotency: Reads, work: Read,
        errors: [],
    }
}

impl Route {
    /// The route's entry; `None` for a request that matches no route.
    pub(crate) fn entry(self) -> Option<&'static RouteEntry> {
        ROUTES.get(self as usize)
    }

    /// The kind of work under which its stages are measured.
    pub(super) fn work(self) -> Work {
        self.entry().map_or(Work::Read, |entry| entry.work)
    }

    /// The route's name in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        let none = if self == Self::WrongMethod { "wrong method" } else { "unknown" };
        self.entry().map_or(none, |entry| entry.label)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_entry_says_what_its_name_and_path_say() {
        let mut labels = BTreeSet::new();
        for (entry, route) in ROUTES.iter().zip(Route::ALL) {
            assert_eq!((entry.route, route.label()), (*route, entry.label));
            assert!(labels.insert(entry.label), "{} is there twice", entry.label);
            assert_eq!(entry.path.matches('{').count(), entry.params.len(), "{}", entry.label);
            let commands = matches!(entry.does, Does::OrderCommand(_) | Does::SkuCommand(_));
            assert_eq!(commands, entry.work as usize == Work::Command as usize, "{}", entry.label);
        }
        assert_eq!(ROUTES.len() + 2, Route::ALL.len(), "all but those for what is no route");
    }

    #[test]
    fn every_post_is_safe_to_send_again() {
        for entry in ROUTES.iter().filter(|entry| entry.methods == [Method::POST]) {
            let moves = entry.class == Class::Shop;
            assert_eq!(moves, matches!(entry.idempotency, Idempotency::Key | Idempotency::ItemKeys), "{}", entry.label);
        }
    }

    /// A code that no route documents is unused or undocumented.
    #[test]
    fn every_known_error_is_documented_once_for_each_route_that_has_it() {
        let mut documented = BTreeSet::from(["no_such_route", "method_not_allowed"]);
        for entry in ROUTES {
            let mut own = BTreeSet::new();
            for kind in entry.errors() {
                assert!(kinds::ALL.contains(&kind), "{} of {}", kind.code, entry.label);
                assert!(own.insert(kind.code), "{} has {} twice", entry.label, kind.code);
            }
            documented.extend(own);
        }
        assert_eq!(documented, kinds::ALL.iter().map(|kind| kind.code).collect());
    }

    /// Method, path and summary of each route that a table of Markdown names; what may stand in a query is its own.
    fn rows(table: &str) -> Vec<(String, &str)> {
        let row = |line| {
            let line: &str = line;
            let (route, summary) = line.trim_matches(['|', ' ']).split_once(" | ").expect("a row has two cells");
            let route: String = route.split('`').map(|part| part.split('?').next().unwrap_or_default()).collect();
            (route, summary)
        };
        table.lines().map(row).collect()
    }

    #[test]
    fn the_readme_has_every_route_and_no_other() {
        let readme = include_str!("../../../README.md");
        let table = readme.split("| Route | What |\n|---|---|\n").nth(1).expect("the readme has a table of routes");
        let found: Vec<_> = rows(table.split("\n\n").next().expect("it ends"));
        let expected: Vec<_> = ROUTES
            .iter()
            .map(|entry| {
                let methods: Vec<_> = entry.methods.iter().map(Method::as_str).collect();
                (format!("{} {}", methods.join(", "), entry.path), entry.summary)
            })
            .collect();
        assert_eq!(found, expected);
    }
}

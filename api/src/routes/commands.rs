//! Commands on an order: each says by its path what is asked of which order, and answers the whole new order.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::command::{Created, OrderAction, OrderCommand};
use ordergrid_domain::order::{Operator, Order};
use ordergrid_domain::{FulfilmentId, Key, OrderId, RefundId};
use percent_encoding::percent_decode_str;

use super::call::Call;
use super::{Api, Ended, reply};
use crate::body;
use crate::check;
use crate::fault::{Fault, kinds};
use crate::grid::OrderChanged;
use crate::metrics::Stage;
use crate::wire::canonical::{Bare, Canon};
use crate::wire::{
    self, CancelOrder, Empty, FulfilmentChanged, PayOrder, PickOrder, RefundOrder, RefundOutcome, ShipFulfilment, WireText,
};

/// What a path asks for.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// `/v1/orders/{id}/payments`
    Pay(OrderId),
    /// `/v1/orders/{id}/cancel`
    Cancel(OrderId),
    /// `/v1/orders/{id}/complete`
    Complete(OrderId),
    /// `/v1/orders/{id}/fulfilments`
    Pick(OrderId),
    /// `/v1/fulfilments/{id}/ship`
    Ship(FulfilmentId),
    /// `/v1/fulfilments/{id}/deliver`
    Deliver(FulfilmentId),
    /// `/v1/fulfilments/{id}/cancel`
    Unpick(FulfilmentId),
    /// `/v1/orders/{id}/refunds`
    Refund(OrderId),
    /// `/v1/orders/{id}/refunds/{refund}`
    RefundOutcome(RefundId),
}

impl Target {
    /// Reads a path. What is no id names nothing that exists.
    pub(super) fn at(path: &str) -> Result<Self, Fault> {
        let nowhere = || Fault::new(&kinds::NO_SUCH_ROUTE, format!("there is no command at {path}"));
        let mut segments = path.strip_prefix("/v1/").ok_or_else(nowhere)?.split('/');
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next()) {
            (Some("orders"), Some(order), Some(verb), refund, None) => match (verb, refund) {
                ("payments", None) => order_at(order).map(Self::Pay),
                ("cancel", None) => order_at(order).map(Self::Cancel),
                ("complete", None) => order_at(order).map(Self::Complete),
                ("fulfilments", None) => order_at(order).map(Self::Pick),
                ("refunds", None) => order_at(order).map(Self::Refund),
                ("refunds", Some(refund)) => refund_at(order, refund).map(Self::RefundOutcome),
                _ => Err(nowhere()),
            },
            (Some("fulfilments"), Some(fulfilment), Some(verb), None, None) => match verb {
                "ship" => fulfilment_at(fulfilment).map(Self::Ship),
                "deliver" => fulfilment_at(fulfilment).map(Self::Deliver),
                "cancel" => fulfilment_at(fulfilment).map(Self::Unpick),
                _ => Err(nowhere()),
            },
            _ => Err(nowhere()),
        }
    }

    /// Reads what is asked for from a body, which may be left out where nothing in it is required.
    pub(super) fn read(self, body: &[u8], canon: &mut Canon) -> Result<Asked, Fault> {
        let merchant = Operator::Merchant;
        match self {
            Self::Pay(order) => {
                let request: PayOrder = body::parse(body)?;
                let hash = canon.hash(&request);
                Ok(Asked::new(order, Operator::Provider, check::pay(request)?, hash))
            }
            Self::Cancel(order) => {
                let request: CancelOrder = body::parse(body)?;
                let hash = canon.hash(&request);
                let (operator, action) = check::cancel(request)?;
                Ok(Asked::new(order, operator, action, hash))
            }
            Self::Complete(order) => {
                let Empty {} = body::parse_optional(body)?;
                Ok(Asked::new(order, merchant, OrderAction::Complete, canon.hash(&Bare::Complete)))
            }
            Self::Pick(order) => {
                let request: PickOrder = body::parse_optional(body)?;
                let hash = canon.hash(&request);
                Ok(Asked::new(order, merchant, check::pick(request)?, hash))
            }
            Self::Ship(fulfilment) => {
                let request: (FulfilmentId, ShipFulfilment) = (fulfilment, body::parse_optional(body)?);
                let hash = canon.hash(&request);
                Ok(Asked::new(fulfilment.order, merchant, check::ship(request.0, request.1), hash))
            }
            Self::Deliver(fulfilment) => {
                let Empty {} = body::parse_optional(body)?;
                let hash = canon.hash(&Bare::Deliver(fulfilment));
                Ok(Asked::new(fulfilment.order, merchant, OrderAction::Deliver { fulfilment }, hash))
            }
            Self::Unpick(fulfilment) => {
                let Empty {} = body::parse_optional(body)?;
                let hash = canon.hash(&Bare::Unpick(fulfilment));
                Ok(Asked::new(fulfilment.order, merchant, OrderAction::Unpick { fulfilment }, hash))
            }
            Self::Refund(order) => {
                let request: RefundOrder = body::parse(body)?;
                let hash = canon.hash(&request);
                Ok(Asked::new(order, merchant, check::refund(request)?, hash))
            }
            Self::RefundOutcome(refund) => {
                let request: RefundOutcome = body::parse(body)?;
                let hash = canon.hash(&(refund, request));
                Ok(Asked::new(refund.order, Operator::Provider, check::refund_outcome(refund, request)?, hash))
            }
        }
    }
}

fn decoded(segment: &str) -> std::borrow::Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// The order that a segment of a path names.
pub(super) fn order_at(segment: &str) -> Result<OrderId, Fault> {
    let given = decoded(segment);
    OrderId::read(&given).map_err(|_| nothing_by(&kinds::NO_SUCH_ORDER, "order", &given))
}

fn fulfilment_at(segment: &str) -> Result<FulfilmentId, Fault> {
    let given = decoded(segment);
    FulfilmentId::read(&given).map_err(|_| nothing_by(&kinds::NO_SUCH_FULFILMENT, "fulfilment", &given))
}

/// A refund, which must be of the order that stands before it.
fn refund_at(order: &str, segment: &str) -> Result<RefundId, Fault> {
    let order = order_at(order)?;
    let given = decoded(segment);
    match RefundId::read(&given) {
        Ok(refund) if refund.order == order => Ok(refund),
        _ => Err(nothing_by(&kinds::NO_SUCH_REFUND, "refund", &given)),
    }
}

fn nothing_by(kind: &'static kinds::Kind, what: &str, given: &str) -> Fault {
    Fault::new(kind, format!("there is no {what} {given}"))
}

/// What is asked of an order.
pub(super) struct Asked {
    order: OrderId,
    operator: Operator,
    action: OrderAction,
    body_hash: u64,
}

impl Asked {
    fn new(order: OrderId, operator: Operator, action: OrderAction, body_hash: u64) -> Self {
        Self { order, operator, action, body_hash }
    }

    /// The command, under its key; with a version, only if the order is still of that version.
    pub(super) fn under(self, key: Key, expect_version: Option<u64>) -> OrderCommand {
        let Self { order, operator, action, body_hash } = self;
        OrderCommand { order, key, body_hash, expect_version, operator, action }
    }
}

/// `POST` at any of the paths. The key is looked at before the body: without one nothing else matters.
pub(super) async fn command(api: Arc<Api>, mut call: Call) -> Ended {
    let target = Target::at(call.head.uri.path())?;
    let key = call.key()?;
    let [] = call.query([])?;
    let bytes = call.body(&api, api.limits.body_bytes).await?;
    let asked = target.read(&bytes, &mut Canon::new())?;
    let command = asked.under(key, call.expected_version()?);
    call.ends(&api, Stage::Parse);
    let answer = api.done(api.grid.command_order(command)).await;
    call.ends(&api, Stage::Grid);
    let answer = answer?;
    let OrderChanged { order, created } = &answer.value;
    let response = match picked(&answer.value) {
        Some(body) => reply::versioned(api.account(), StatusCode::CREATED, &answer, order.version, &body),
        None => reply::changed(api.account(), reply::created_or_ok(created.is_some()), &answer, order, *created),
    };
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// The fulfilment that was created, in its order.
fn picked(changed: &OrderChanged) -> Option<FulfilmentChanged> {
    let order: &Order = &changed.order;
    let Some(Created::Fulfilment(id)) = changed.created else {
        return None;
    };
    let fulfilment = order.fulfilments.iter().find(|fulfilment| fulfilment.number == id.number)?;
    Some(FulfilmentChanged { fulfilment: wire::Fulfilment::of(order, fulfilment), order: order.into() })
}

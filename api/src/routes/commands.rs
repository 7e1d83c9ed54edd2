//! Commands on orders. The path names the command and the order; the answer is the whole changed order.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::command::{Created, OrderAction, OrderCommand};
use ordergrid_domain::order::{Operator, Order};
use ordergrid_domain::{FulfilmentId, Key, OrderId, RefundId};

use super::call::Call;
use super::entry::{Does, OrderReader, PathId, Segments};
use super::table::ROUTES;
use super::{Api, Ended, reply};
use crate::check;
use crate::fault::{Fault, kinds};
use crate::grid::OrderChanged;
use crate::routes::meters::Stage;
use crate::wire::canonical::{Canon, Meaning};
use crate::wire::written::OfCommand;
use crate::wire::{self, FulfilmentChanged};

/// A path of an order command: its route, and the ids in the path, which are valid.
pub(super) struct Target<'a> {
    reader: OrderReader,
    segments: Segments<'a>,
}

impl<'a> Target<'a> {
    /// Finds the order command of a path.
    pub(super) fn at(path: &'a str) -> Result<Self, Fault> {
        let found = ROUTES.iter().find_map(|entry| match entry.does {
            Does::OrderCommand(reader) => Some((reader, Segments::of(entry.path, path)?)),
            _ => None,
        });
        let (reader, segments) =
            found.ok_or_else(|| Fault::new(&kinds::NO_SUCH_ROUTE, format!("no command on an order matches {path}")))?;
        (reader.order)(&segments)?;
        Ok(Self { reader, segments })
    }

    /// Parses the command from a body.
    pub(super) fn read(&self, body: &[u8], canon: &mut Canon) -> Result<OrderAsk, Fault> {
        (self.reader.ask)(&self.segments, body, canon)
    }
}

/// The order that an id in a path refers to or belongs to.
pub(super) trait OfOrder {
    fn order(&self) -> OrderId;
}

impl OfOrder for OrderId {
    fn order(&self) -> OrderId {
        *self
    }
}

impl OfOrder for FulfilmentId {
    fn order(&self) -> OrderId {
        self.order
    }
}

impl OfOrder for RefundId {
    fn order(&self) -> OrderId {
        self.order
    }
}

/// The order in a path.
pub(super) fn order_of<At: PathId + OfOrder>(segments: &Segments<'_>) -> Result<OrderId, Fault> {
    At::from_path(segments).map(|at| at.order())
}

/// Checks a command on the object of a path. The hash is of the request's meaning, before defaults are applied.
pub(super) fn ask<At, Body>(
    at: At,
    body: Body,
    canon: &mut Canon,
    check: fn(At, Body) -> check::CheckedOrderCommand,
) -> Result<OrderAsk, Fault>
where
    At: OfOrder,
    (At, Body): Meaning,
{
    let order = at.order();
    let asked = (at, body);
    let body_hash = canon.hash(&asked);
    let (operator, action) = check(asked.0, asked.1)?;
    Ok(OrderAsk { order, operator, action, body_hash })
}

/// A command on an order, without its key.
pub(super) struct OrderAsk {
    order: OrderId,
    operator: Operator,
    action: OrderAction,
    body_hash: u64,
}

impl OrderAsk {
    /// Adds the key, and optionally the required version of the order.
    pub(super) fn under(self, key: Key, expect_version: Option<u64>) -> OrderCommand {
        let Self { order, operator, action, body_hash } = self;
        OrderCommand { order, key, body_hash, expect_version, operator, action }
    }
}

/// A single command. The key is checked before the body, because a request without a key is refused anyway.
pub(super) async fn command(api: Arc<Api>, mut call: Call, reader: OrderReader) -> Ended {
    (reader.order)(&call.segments())?;
    let key = call.key()?;
    let [] = call.query([])?;
    let bytes = call.body(&api, api.limits.body_bytes).await?;
    let asked = (reader.ask)(&call.segments(), &bytes, &mut Canon::new())?;
    let command = asked.under(key, call.expected_version()?);
    call.ends(&api, Stage::Parse);
    let answer = api.done(api.grid.command_order(command)).await;
    call.ends(&api, Stage::Grid);
    let answer = answer?;
    let replayed_version = answer.replayed.then_some(answer.value.version);
    let OrderChanged { order, created, .. } = &answer.value;
    let response = match picked(&answer.value, replayed_version) {
        Some(body) => reply::versioned(api.account(), StatusCode::CREATED, &answer, order.version, &body),
        None => {
            let of = OfCommand { created: *created, replayed_version };
            reply::changed(api.account(), reply::created_or_ok(created.is_some()), &answer, order, of)
        }
    };
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// The fulfilment that was created, together with its order.
fn picked(changed: &OrderChanged, replayed_version: Option<u64>) -> Option<FulfilmentChanged> {
    let order: &Order = &changed.order;
    let Some(Created::Fulfilment(id)) = changed.created else {
        return None;
    };
    let fulfilment = order.fulfilments.iter().find(|fulfilment| fulfilment.number == id.number)?;
    let fulfilment = wire::Fulfilment::of(order, fulfilment);
    Some(FulfilmentChanged { fulfilment, order: wire::Order::changed(order, None, replayed_version) })
}

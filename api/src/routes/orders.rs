//! Placing one order, and reading orders.

use std::sync::Arc;

use axum::http::StatusCode;
use ordergrid_domain::order::{Order, Status};
use ordergrid_domain::{Key, OrderId, Quantity, Reference, Rejection, SkuId, UserId};

use super::call::Call;
use super::{Api, Ended, pages, reply};
use crate::body;
use crate::check;
use crate::fault::{Fault, kinds};
use crate::grid::{Answer, Failure, ReadOptions, ReferenceQuery, Token, UserOrders, UserOrdersQuery};
use crate::routes::meters::Stage;
use crate::wire::canonical::Canon;
use crate::wire::{self, PlaceLine, PlaceOrder, ShortLine, WireText};

/// `POST /v1/orders`
pub(super) async fn place(api: Arc<Api>, mut call: Call) -> Ended {
    let key = call.key()?;
    refuse_dry_run(&call)?;
    let bytes = call.body(&api, api.limits.body_bytes).await?;
    let order: PlaceOrder = body::parse(&bytes)?;
    if order.idempotency_key.is_some() {
        let fault = Fault::new(&kinds::UNKNOWN_FIELD, "the key of a single order is in the header Idempotency-Key");
        return Err(fault.at("idempotency_key"));
    }
    let only = if let [line] = order.lines.as_slice() { Some(line.clone()) } else { None };
    let order = request(order, key, &mut Canon::new(), api.limits.order_lines)?;
    call.ends(&api, Stage::Parse);
    let answer = api.done(api.grid.place(order)).await;
    call.ends(&api, Stage::Grid);
    let answer = answer.map_err(|failure| of_place(failure, || only.map_or_else(|| lines_of(&bytes), |line| vec![line])))?;
    let response = reply::order(api.account(), StatusCode::CREATED, &answer, &answer.value);
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// Checks one order. The hash is of the request's meaning, before defaults are applied.
pub(super) fn request(
    order: PlaceOrder,
    key: Key,
    canon: &mut Canon,
    most_lines: usize,
) -> Result<ordergrid_domain::command::OrderRequest, Fault> {
    let body_hash = canon.hash(&order);
    check::place(order, key, body_hash, most_lines)
}

fn refuse_dry_run(call: &Call) -> Result<(), Fault> {
    match call.query(["dry_run"])? {
        [None] => Ok(()),
        [Some(value)] if value == "false" => Ok(()),
        [Some(_)] => Err(Fault::new(&kinds::UNSUPPORTED, "dry runs are not supported yet").at("dry_run")),
    }
}

/// Parses the lines of an order once more.
fn lines_of(bytes: &[u8]) -> Vec<PlaceLine> {
    body::parse::<PlaceOrder>(bytes).map(|order| order.lines).unwrap_or_default()
}

/// The fault of an order that was not placed. `sent` returns the order's lines if the fault has to name some. It may parse them
/// again, so that only failed orders pay for this.
pub(super) fn of_place(failure: Failure, sent: impl FnOnce() -> Vec<PlaceLine>) -> Fault {
    let short: Vec<(SkuId, Quantity)> = match &failure {
        Failure::Rejected(Rejection::OutOfStock { sku, available, .. }) => vec![(sku.clone(), *available)],
        Failure::Rejected(Rejection::OutOfStocks(short)) => {
            short.iter().map(|(sku, _, available)| (sku.clone(), *available)).collect()
        }
        Failure::Rejected(Rejection::NoSuchSku(sku)) => {
            let position = sent().iter().position(|line| line.sku == *sku);
            let fault = Fault::from(failure);
            return match position {
                Some(index) => fault.at(format!("lines[{index}].sku")),
                None => fault,
            };
        }
        _ => return failure.into(),
    };
    let lines = short_lines(&sent(), short);
    let fault = Fault::from(failure);
    match lines.first() {
        Some(first) => fault.at(format!("lines[{}].quantity", first.line - 1)).short(lines),
        None => fault,
    }
}

/// Distributes the available units over the lines, in order, and returns the lines that get less than they ask for.
fn short_lines(lines: &[PlaceLine], mut available: Vec<(SkuId, Quantity)>) -> Vec<ShortLine> {
    let mut short = Vec::new();
    for (number, line) in (1..).zip(lines) {
        let Some((_, left)) = available.iter_mut().find(|(sku, _)| *sku == line.sku) else {
            continue;
        };
        let given = left.0.min(line.quantity);
        left.0 -= given;
        if given < line.quantity {
            short.push(ShortLine { line: number, sku: line.sku.clone(), asked: line.quantity, available: given });
        }
    }
    short
}

/// `GET /v1/orders/{id}`
pub(super) async fn order(api: Arc<Api>, mut call: Call) -> Ended {
    let answer = read(&api, &mut call).await?;
    Ok(reply::order(api.account(), StatusCode::OK, &answer, &answer.value))
}

/// `GET /v1/orders/{id}/status-history`
pub(super) async fn status_history(api: Arc<Api>, mut call: Call) -> Ended {
    let answer = read(&api, &mut call).await?;
    let order: &Order = &answer.value;
    Ok(reply::versioned(api.account(), StatusCode::OK, &answer, order.version, &wire::StatusHistory::from(order)))
}

async fn read(api: &Api, call: &mut Call) -> Result<Answer<Arc<Order>>, Fault> {
    let [consistency] = call.query(["consistency"])?;
    let options = call.read_options(consistency.as_deref())?;
    let answer = api.seen(api.grid.order(call.at()?, options)).await?;
    call.ends(api, Stage::Grid);
    Ok(answer)
}

/// Most orders of a page.
const LARGEST_PAGE: u32 = 100;
/// Orders per page by default.
const USUAL_PAGE: u32 = 20;

/// `GET /v1/users/{id}/orders`
pub(super) async fn of_user(api: Arc<Api>, mut call: Call) -> Ended {
    let [reference, status, page, size, cursor, consistency] =
        call.query(["reference", "status", "page", "size", "cursor", "consistency"])?;
    if let Some(reference) = reference {
        if [status, page, size, cursor, consistency].iter().any(Option::is_some) {
            let fault = Fault::new(&kinds::INVALID_REFERENCE, "names one order of a user, and cannot be combined");
            return Err(fault.at("reference"));
        }
        let user = Some(call.at()?);
        return found(&api, call, ReferenceQuery { reference: named(&reference)?, user }).await;
    }
    let options = call.read_options(consistency.as_deref())?;
    let size = number(&kinds::INVALID_SIZE, "size", size, USUAL_PAGE, LARGEST_PAGE)?;
    let paged = page.is_some();
    let page = number(&kinds::INVALID_PAGE, "page", page, 1, u32::MAX)?;
    let cursor = cursor.map(|text| OrderId::read(&text)).transpose();
    let cursor = cursor.map_err(|detail| Fault::new(&kinds::INVALID_CURSOR, detail).at("cursor"))?;
    if paged && cursor.is_some() {
        return Err(Fault::new(&kinds::INVALID_CURSOR, "page and cursor cannot be combined").at("cursor"));
    }
    let status = status.map(|word| Status::read(&word)).transpose();
    let status = status.map_err(|detail| Fault::new(&kinds::INVALID_STATUS, detail).at("status"))?;
    let query = UserOrdersQuery { user: call.at()?, status, page, size, cursor };
    let answer = page_of(&api, query.clone(), options).await?;
    call.ends(&api, Stage::Grid);
    let response = pages::answer(&api, query, options, answer).await?;
    call.ends(&api, Stage::Write);
    Ok(response)
}

/// `GET /v1/orders?reference=&user_id=`
pub(super) async fn by_reference(api: Arc<Api>, call: Call) -> Ended {
    let [reference, user] = call.query(["reference", "user_id"])?;
    let missing = || Fault::new(&kinds::INVALID_REFERENCE, "is required").at("reference");
    let reference = named(&reference.ok_or_else(missing)?)?;
    let user = user.map(|text| UserId::read(&text)).transpose();
    let user = user.map_err(|detail| Fault::new(&kinds::INVALID_USER_ID, detail).at("user_id"))?;
    found(&api, call, ReferenceQuery { reference, user }).await
}

/// A reference that may have been given before identifiers were as strict as they are.
fn named(reference: &str) -> Result<Reference, Fault> {
    Reference::read(reference).map_err(|detail| Fault::new(&kinds::INVALID_REFERENCE, detail).at("reference"))
}

/// The orders of a reference, all of them: there are few.
async fn found(api: &Api, mut call: Call, query: ReferenceQuery) -> Ended {
    let options = call.read_options(None)?;
    let answer = api.seen(api.grid.orders_by_reference(query, options)).await?;
    call.ends(api, Stage::Grid);
    let orders: Vec<wire::Order> = answer.value.iter().map(Into::into).collect();
    let total = Some(orders.len() as u64);
    let body = wire::UserOrders { orders, total, next_cursor: None };
    let mut response = reply::json(api.account(), StatusCode::OK, &body, 4_096);
    // What several shards have answered has no token.
    if answer.token != Token::default() {
        reply::stamp(&mut response, &answer);
    }
    call.ends(api, Stage::Write);
    Ok(response)
}

fn number(kind: &'static kinds::Kind, name: &'static str, given: Option<String>, usual: u32, most: u32) -> Result<u32, Fault> {
    let Some(text) = given else {
        return Ok(usual);
    };
    let wrong = || Fault::new(kind, format!("must be a number from 1 to {most}")).at(name);
    u32::read(&text).ok().filter(|number| (1..=most).contains(number)).ok_or_else(wrong)
}

/// A page, or the error with the cursor of the next page if page numbers may not reach that far. A list that ends before has no
/// such page.
async fn page_of(api: &Api, query: UserOrdersQuery, options: ReadOptions) -> Result<Answer<UserOrders>, Fault> {
    let deepest = (api.limits.page_depth / query.size).max(1);
    if query.page <= deepest {
        return Ok(api.seen(api.grid.orders_of(query, options)).await?);
    }
    let asked = query.page;
    let last = api.seen(api.grid.orders_of(UserOrdersQuery { page: deepest, ..query }, options)).await?;
    let Some(next) = last.value.next else {
        return Ok(last.map(|page| UserOrders { orders: Vec::new(), next: None, total: page.total }));
    };
    let detail = format!("page {asked} is beyond the last, {deepest}: continue with cursor={next}");
    Err(Fault::new(&kinds::PAGE_TOO_DEEP, detail).at("page").go_on_with(next.to_string()))
}

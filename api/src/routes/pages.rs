//! Pages of a user's orders, written as fast as the socket accepts them. The grid returns a run of orders, as many as fit into
//! a bounded amount of memory. The next run is requested when the text of this one has been sent. A page of small orders is a
//! single run and a single text.

use std::sync::Arc;
use std::vec::IntoIter;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures::stream;
use ordergrid_domain::{Order, OrderId};

use super::pieces::{self, PIECES};
use super::{Api, reply};
use crate::account::{Taken, Use};
use crate::fault::Fault;
use crate::grid::{Answer, Failure, ReadOptions, UserOrders, UserOrdersQuery};
use crate::limits::PIECE;
use crate::wire::written::{OfCommand, Writer};

/// Approximate memory of one run: see [`UserOrders`].
const RUN: u64 = 512 << 10;

/// The answer. `first` is the first run of `query`, or the whole page.
pub(super) async fn answer(
    api: &Arc<Api>,
    query: UserOrdersQuery,
    options: ReadOptions,
    first: Answer<UserOrders>,
) -> Result<Response<Body>, Fault> {
    let Answer { value, replayed, token, age_ms } = first;
    let head = Answer { value: (), replayed, token, age_ms };
    let mut page = Page::new(api, query, options, value);
    let text = page.next().await?.unwrap_or_default();
    let body = if page.done {
        pieces::whole(api.account(), text)
    } else {
        page.taken = Some(api.account().take(Use::Answers, PIECES + RUN)?);
        page.weigh();
        let rest = stream::try_unfold(page, async |mut page: Page| {
            let text = page.next().await?;
            Ok::<_, Failure>(text.map(|text| (Bytes::from(text), page)))
        });
        let first = stream::once(async { Ok(Bytes::from(text)) });
        Body::from_stream(futures::StreamExt::chain(first, rest))
    };
    let mut response = reply::with(StatusCode::OK, body);
    reply::stamp(&mut response, &head);
    Ok(response)
}

/// A page that is being written.
struct Page {
    api: Arc<Api>,
    query: UserOrdersQuery,
    options: ReadOptions,
    /// The rest of the run; the first order is being written.
    run: IntoIter<Order>,
    order: Option<Order>,
    line: Option<usize>,
    /// Number of orders that fit on the page after this run.
    room: u32,
    /// The cursor of the next run or page.
    next: Option<OrderId>,
    total: Option<u64>,
    written: bool,
    done: bool,
    taken: Option<Taken>,
}

impl Page {
    fn new(api: &Arc<Api>, query: UserOrdersQuery, options: ReadOptions, first: UserOrders) -> Self {
        let UserOrders { orders, next, total } = first;
        let room = query.size.saturating_sub(u32::try_from(orders.len()).unwrap_or(u32::MAX));
        let api = Arc::clone(api);
        let run = orders.into_iter();
        Self { api, query, options, run, order: None, line: None, room, next, total, written: false, done: false, taken: None }
    }

    /// The cursor of the next run, if the run ended before the page was full and the grid has more.
    fn goes_on(&self) -> Option<OrderId> {
        self.next.filter(|_| self.room > 0)
    }

    /// The next piece of the text; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.done {
            return Ok(None);
        }
        let mut text = Vec::with_capacity(PIECE + PIECE / 4);
        if !self.written && self.order.is_none() {
            Writer(&mut text).raw("{\"orders\":[");
        }
        while text.len() < PIECE && !self.done {
            self.part(&mut text);
            if self.run.len() == 0 && self.order.is_none() {
                match self.goes_on() {
                    Some(_) if !text.is_empty() => break,
                    Some(cursor) => self.fetch(cursor).await?,
                    None => self.end(&mut text),
                }
            }
        }
        Ok(Some(text))
    }

    /// Writes the next part of an order, if the run has one.
    fn part(&mut self, text: &mut Vec<u8>) {
        let begins = self.order.is_none();
        let Some(order) = self.order.take().or_else(|| self.run.next()) else { return };
        let mut json = Writer(text);
        if begins && std::mem::replace(&mut self.written, true) {
            json.raw(",");
        }
        if !json.part(&order, OfCommand::default(), &mut self.line) {
            self.order = Some(order);
        }
    }

    fn end(&mut self, text: &mut Vec<u8>) {
        let mut json = Writer(text);
        json.raw("]");
        if let Some(total) = self.total {
            json.number(",\"total\":", total);
        }
        if let Some(next) = self.next {
            json.value(",\"next_cursor\":", &next.to_string());
        }
        json.raw("}");
        self.done = true;
    }

    /// Requests the run after `cursor`.
    async fn fetch(&mut self, cursor: OrderId) -> Result<(), Failure> {
        let query = UserOrdersQuery { page: 1, size: self.room, cursor: Some(cursor), ..self.query.clone() };
        let run = self.api.seen(self.api.grid.orders_of(query, self.options)).await?.value;
        self.room = self.room.saturating_sub(u32::try_from(run.orders.len()).unwrap_or(u32::MAX));
        (self.run, self.next) = (run.orders.into_iter(), run.next);
        self.weigh();
        Ok(())
    }

    /// Takes memory for the largest order, if it is larger than the memory of a run.
    fn weigh(&mut self) {
        let largest = self.run.as_slice().iter().chain(&self.order).map(Order::bytes_in_memory).max().unwrap_or_default();
        if largest > RUN {
            self.taken = Some(self.api.account().owe(Use::Answers, PIECES + largest));
        }
    }
}

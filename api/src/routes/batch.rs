//! Batches. Every item has its own key and its own result, and no item affects another.

mod commands;
mod orders;

use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use futures::future::BoxFuture;
use ordergrid_domain::command::Created;
use ordergrid_domain::{Key, Order};

use super::call::Call;
use super::pieces::{self, Parts};
use super::{Api, reply};
use crate::account::Taken;
use crate::fault::{Fault, kinds};
use crate::grid::{Answer, Failure, Grid, Refusal, Reply, UnknownCause};
use crate::request_id::RequestId;
use crate::routes::meters::Stage;
use crate::wire::OrderWords;
use crate::wire::written::{OfCommand, Writer};

pub(super) use commands::command;
pub(super) use orders::place;

/// The state of an item of the batch.
enum Item<T> {
    /// The item is faulty or failed.
    Wrong(Fault),
    /// The item waits for its answer.
    Asked,
    /// The item succeeded.
    Done(Answer<T>),
}

/// Whether `?return=minimal` asks for ids and statuses instead of whole orders.
fn wants_minimal(call: &Call) -> Result<bool, Fault> {
    match call.query(["return"])? {
        [None] => Ok(false),
        [Some(word)] if word == "minimal" => Ok(true),
        [Some(word)] if word == "representation" => Ok(false),
        [Some(_)] => Err(Fault::new(&kinds::INVALID_PARAMETER, "must be one of minimal representation").at("return")),
    }
}

/// The limit of items, with the names for error messages.
struct Count {
    one: &'static str,
    field: &'static str,
    none: &'static kinds::Kind,
    many: &'static kinds::Kind,
}

impl Count {
    fn check(&self, count: usize, most: usize) -> Result<(), Fault> {
        let Self { one, field, none, many } = *self;
        match count {
            0 => Err(Fault::new(none, format!("a batch has at least one {one}")).at(field)),
            _ if count > most => Err(Fault::new(many, format!("{count} {field}, the limit is {most}")).at(field)),
            _ => Ok(()),
        }
    }
}

/// The key of an item, which is required.
fn its_own(key: Option<Key>) -> Result<Key, Fault> {
    let missing =
        || Fault::new(&kinds::MISSING_IDEMPOTENCY_KEY, "every item of a batch needs a key of its own").at("idempotency_key");
    key.ok_or_else(missing)
}

/// Separates valid from faulty items; the latter keep their place. The valid ones are to be executed.
fn sort<T, R>(checked: impl Iterator<Item = Result<T, Fault>>) -> (Vec<T>, Vec<Item<R>>) {
    let mut asked = Vec::with_capacity(checked.size_hint().0);
    let items = checked.map(|item| match item {
        Ok(item) => {
            asked.push(item);
            Item::Asked
        }
        Err(fault) => Item::Wrong(fault),
    });
    let items = items.collect();
    (asked, items)
}

/// Waits for the grid's answers. Without an answer in time, every outcome is unknown. The grid then continues, and the memory
/// of the body is released when it has ended.
async fn answered<T: Send + 'static>(
    api: &Api,
    taken: Option<Arc<Taken>>,
    count: usize,
    ask: impl FnOnce(Arc<dyn Grid>) -> BoxFuture<'static, Vec<Reply<T>>>,
) -> Vec<Reply<T>> {
    if count == 0 {
        return Vec::new();
    }
    let asked = ask(Arc::clone(&api.grid));
    let asked = tokio::spawn(async move {
        let answers = asked.await;
        drop(taken);
        answers
    });
    let cause = match tokio::time::timeout(api.limits.grid_patience, asked).await {
        Ok(Ok(answers)) => {
            assert_eq!(answers.len(), count, "the grid gave another number of answers than it was asked for");
            return answers;
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "batch task failed");
            UnknownCause::ActorFailed
        }
        Err(_) => UnknownCause::TimedOut,
    };
    (0..count).map(|_| Err(Failure::unknown(cause))).collect()
}

/// The refusal of the whole batch, if the grid has begun no item because it is overloaded.
fn turned_away<T>(items: &[Item<T>], answers: &[Reply<T>]) -> Option<Fault> {
    let overloaded = |answer: &Reply<T>| matches!(answer, Err(Failure::Refused { reason: Refusal::Overloaded, .. }));
    if answers.is_empty() || answers.len() < items.len() || !answers.iter().all(overloaded) {
        return None;
    }
    let longest = answers.iter().filter_map(|answer| answer.as_ref().err()).max_by_key(|failure| match failure {
        Failure::Refused { retry_after, .. } => *retry_after,
        _ => Duration::ZERO,
    });
    longest.cloned().map(Fault::from)
}

/// Puts the answers into the places of their items. `fault` converts the failure of the item at an index.
fn fill<T>(items: &mut [Item<T>], answers: Vec<Reply<T>>, mut fault: impl FnMut(usize, Failure) -> Fault) {
    let asked = items.iter_mut().enumerate().filter(|(_, item)| matches!(item, Item::Asked));
    for ((index, item), answer) in asked.zip(answers) {
        *item = match answer {
            Ok(answer) => Item::Done(answer),
            Err(failure) => Item::Wrong(fault(index, failure)),
        };
    }
}

/// What the answer contains of a successful item.
struct Told<T> {
    status: fn(&T) -> StatusCode,
    order: fn(&T) -> &Order,
    created: fn(&T) -> Option<Created>,
    /// The version that a command made.
    version: fn(&T) -> Option<u64>,
}

/// The answer to the batch. The memory taken for the body also covers its items.
fn respond<T: Send + Unpin + 'static>(
    api: &Api,
    call: &mut Call,
    items: Vec<Item<T>>,
    minimal: bool,
    told: Told<T>,
) -> Response<Body> {
    count_problems(api, &items);
    let room = items.len() * if minimal { 160 } else { 1_024 };
    let id = call.id.clone();
    let results =
        Results { items: items.into_iter(), begun: false, item: None, line: None, id, minimal, told, _taken: call.taken() };
    let response = reply::with(StatusCode::OK, pieces::in_pieces(api.account(), room, results, None));
    call.ends(api, Stage::Write);
    response
}

/// Results that are being written. Each item is dropped once it is written.
struct Results<T> {
    items: IntoIter<Item<T>>,
    begun: bool,
    /// The order that is being written, and its next line.
    item: Option<Answer<T>>,
    line: Option<usize>,
    id: RequestId,
    minimal: bool,
    told: Told<T>,
    _taken: Option<Arc<Taken>>,
}

impl<T: Send + Unpin + 'static> Parts for Results<T> {
    fn write(&mut self, json: &mut Writer<'_>) -> bool {
        if self.item.is_none() {
            let begin = if std::mem::replace(&mut self.begun, true) { ",{\"status\":" } else { "{\"results\":[{\"status\":" };
            match self.items.next() {
                Some(Item::Done(answer)) => self.begin(json, begin, answer),
                Some(Item::Wrong(fault)) => self.wrong(json, begin, &fault),
                Some(Item::Asked) => unreachable!("everything that was asked has its answer"),
                None => unreachable!("nothing is written behind the last item"),
            }
        }
        if let Some(answer) = &self.item
            && json.part((self.told.order)(&answer.value), OfCommand::default(), &mut self.line)
        {
            json.raw("}");
            self.item = None;
        }
        if self.item.is_some() || self.items.len() > 0 {
            return true;
        }
        json.raw("]}");
        false
    }
}

impl<T> Results<T> {
    /// Writes a successful item up to its order; a small order too.
    fn begin(&mut self, json: &mut Writer<'_>, begin: &str, answer: Answer<T>) {
        json.number(begin, (self.told.status)(&answer.value).as_u16());
        if answer.replayed {
            json.raw(",\"replayed\":true");
            json.replayed((self.told.version)(&answer.value));
        }
        json.number(",\"token\":\"", answer.token.shard);
        json.number(":", answer.token.index);
        json.raw("\"");
        json.created((self.told.created)(&answer.value));
        json.raw(",\"order\":");
        if self.minimal {
            json.value("", &OrderWords::from((self.told.order)(&answer.value)));
            json.raw("}");
        } else {
            self.item = Some(answer);
        }
    }

    fn wrong(&self, json: &mut Writer<'_>, begin: &str, fault: &Fault) {
        json.number(begin, fault.kind().status);
        let problem = fault.body(self.id.as_str());
        if self.minimal {
            json.value(",\"error\":", &problem.minimal())
        } else {
            json.value(",\"error\":", &problem)
        }
        json.raw("}");
    }
}

fn count_problems<T>(api: &Api, items: &[Item<T>]) {
    let faults = items.iter().filter_map(|item| if let Item::Wrong(fault) = item { Some(fault) } else { None });
    let mut unknown = 0;
    for fault in faults {
        api.meters.problem(fault.kind());
        unknown += u32::from(fault.outcome_unknown());
    }
    if unknown > 0 {
        tracing::warn!(unknown, items = items.len(), "batch outcomes unknown");
    }
}

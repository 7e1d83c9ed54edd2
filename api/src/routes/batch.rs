//! Many things asked at once: each has its own key and its own result, and none can spoil another.

mod commands;
mod orders;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use ordergrid_domain::{Key, Order};

use super::call::Call;
use super::{Api, reply};
use crate::fault::{Fault, kinds};
use crate::grid::{Answer, Failure, Reply, UnknownCause};
use crate::metrics::Stage;
use crate::wire::OrderWords;
use crate::wire::written::Writer;

pub(super) use commands::command;
pub(super) use orders::place;

/// What became of one item of the batch.
enum Item<T> {
    /// It could not even be asked, or was not done.
    Wrong(Fault),
    /// It waits for its answer.
    Asked,
    /// It was done.
    Done(Answer<T>),
}

/// `?return=minimal`: ids and words instead of whole orders.
fn wants_minimal(call: &Call) -> Result<bool, Fault> {
    match call.query(["return"])? {
        [None] => Ok(false),
        [Some(word)] if word == "minimal" => Ok(true),
        [Some(word)] if word == "representation" => Ok(false),
        [Some(_)] => Err(Fault::new(&kinds::INVALID_PARAMETER, "must be one of minimal representation").at("return")),
    }
}

/// How many items a batch may have, in the words of its field.
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

/// The order of an item that was done.
fn write_order(json: &mut Writer<'_>, order: &Order, minimal: bool) {
    json.raw(",\"order\":");
    if minimal { json.value("", &OrderWords::from(order)) } else { json.order(order) }
}

/// The key of an item, which must have one.
fn its_own(key: Option<Key>) -> Result<Key, Fault> {
    let missing = || Fault::new(&kinds::MISSING_IDEMPOTENCY_KEY, "every item of a batch has its own").at("idempotency_key");
    key.ok_or_else(missing)
}

/// Keeps the place of the items that are wrong; the others are to be asked.
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

/// Waits for the grid's answers; none in time is an unknown outcome of each.
async fn answered<T>(api: &Api, count: usize, asked: impl Future<Output = Vec<Reply<T>>>) -> Vec<Reply<T>> {
    if count == 0 {
        return Vec::new();
    }
    match tokio::time::timeout(api.limits.grid_patience, asked).await {
        Ok(answers) => {
            assert_eq!(answers.len(), count, "the grid gave another number of answers than it was asked for");
            answers
        }
        Err(_) => (0..count).map(|_| Err(Failure::unknown(UnknownCause::TimedOut))).collect(),
    }
}

/// Puts the answers where their items stand; `fault` says why the item at an index was not done.
fn fill<T>(items: &mut [Item<T>], answers: Vec<Reply<T>>, mut fault: impl FnMut(usize, Failure) -> Fault) {
    let asked = items.iter_mut().enumerate().filter(|(_, item)| matches!(item, Item::Asked));
    for ((index, item), answer) in asked.zip(answers) {
        *item = match answer {
            Ok(answer) => Item::Done(answer),
            Err(failure) => Item::Wrong(fault(index, failure)),
        };
    }
}

/// The answer to the batch; `done` writes what is told of an item beside its status and token.
fn respond<T>(
    api: &Api,
    call: &mut Call,
    items: &[Item<T>],
    minimal: bool,
    status: impl Fn(&T) -> StatusCode,
    done: impl Fn(&mut Writer<'_>, &T),
) -> Response<Body> {
    count_problems(api, items);
    let (id, bytes) = (call.id.clone(), if minimal { 160 } else { 1_024 });
    let response = reply::written(StatusCode::OK, items.len() * bytes, |json| {
        json.raw("{\"results\":[");
        for (index, item) in items.iter().enumerate() {
            let begin = if index == 0 { "{\"status\":" } else { ",{\"status\":" };
            match item {
                Item::Done(answer) => {
                    json.number(begin, status(&answer.value).as_u16());
                    if answer.replayed {
                        json.raw(",\"replayed\":true");
                    }
                    json.number(",\"token\":\"", answer.token.shard);
                    json.number(":", answer.token.index);
                    json.raw("\"");
                    done(json, &answer.value);
                }
                Item::Wrong(fault) => {
                    json.number(begin, fault.kind().status);
                    let problem = fault.body(id.as_str());
                    if minimal { json.value(",\"error\":", &problem.minimal()) } else { json.value(",\"error\":", &problem) }
                }
                Item::Asked => unreachable!("everything that was asked has its answer"),
            }
            json.raw("}");
        }
        json.raw("]}");
    });
    call.ends(api, Stage::Write);
    response
}

fn count_problems<T>(api: &Api, items: &[Item<T>]) {
    let faults = items.iter().filter_map(|item| if let Item::Wrong(fault) = item { Some(fault) } else { None });
    let mut unknown = 0;
    for fault in faults {
        api.meters.problem(fault.kind());
        unknown += u32::from(fault.outcome_unknown());
    }
    if unknown > 0 {
        tracing::warn!(unknown, of = items.len(), "outcomes of a batch are unknown");
    }
}

//! `POST /v1/commands/batch`: many commands on orders.

use std::borrow::Cow;
use std::sync::Arc;

use futures::FutureExt;
use ordergrid_domain::Key;
use ordergrid_domain::command::OrderCommand;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Count, Item, Told, answered, fill, its_own, respond, sort, turned_away, wants_minimal};
use crate::body;
use crate::fault::{Fault, kinds};
use crate::grid::{Grid, OrderChanged};
use crate::routes::call::Call;
use crate::routes::commands::Target;
use crate::routes::meters::Stage;
use crate::routes::{Api, Ended, reply};
use crate::wire::canonical::Canon;
use crate::wire::text;

const COUNT: Count =
    Count { one: "command", field: "commands", none: &kinds::INVALID_COMMANDS, many: &kinds::TOO_MANY_COMMANDS };

/// `POST /v1/commands/batch`
pub(in crate::routes) async fn command(api: Arc<Api>, mut call: Call) -> Ended {
    let minimal = wants_minimal(&call)?;
    let bytes = call.body(&api, api.limits.batch_bytes).await?;
    let commands = read(&bytes)?;
    COUNT.check(commands.len(), api.limits.batch_orders)?;
    let mut canon = Canon::new();
    let checked = commands.into_iter().map(|command| command?.read(&mut canon));
    let (commands, mut items): (Vec<_>, Vec<Item<OrderChanged>>) = sort(checked);
    let count = commands.len();
    call.ends(&api, Stage::Parse);
    let command = |grid: Arc<dyn Grid>| async move { grid.command_orders(commands).await }.boxed();
    let answers = answered(&api, call.taken(), count, command).await;
    call.ends(&api, Stage::Grid);
    if let Some(fault) = turned_away(&items, &answers) {
        return Err(fault);
    }
    fill(&mut items, answers, |_, failure| failure.into());
    let told = Told {
        status: |changed: &OrderChanged| reply::created_or_ok(changed.created.is_some()),
        order: |changed| &changed.order,
        created: |changed| changed.created,
        version: |changed| Some(changed.version),
    };
    Ok(respond(&api, &mut call, items, minimal, told))
}

/// Parses the batch as a whole. If that fails, parses each command separately, so that the valid ones are executed. The bodies
/// of commands depend on their paths and are parsed later.
fn read(bytes: &[u8]) -> Result<Vec<Result<RawCommand<'_>, Fault>>, Fault> {
    if let Ok(batch) = serde_json::from_slice::<body::Strictly<RawCommands<'_>>>(bytes) {
        return Ok(batch.0.commands.into_iter().map(Ok).collect());
    }
    let batch: RawBatch<'_> = body::parse_exactly(bytes)?;
    Ok(batch.commands.into_iter().map(|command| body::parse_exactly(command.get().as_bytes())).collect())
}

/// [`CommandBatch`](crate::wire::CommandBatch) with unparsed bodies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommands<'a> {
    #[serde(borrow)]
    commands: Vec<RawCommand<'a>>,
}

/// [`CommandBatch`](crate::wire::CommandBatch) with unparsed commands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    commands: Vec<&'a RawValue>,
}

/// [`Command`](crate::wire::Command) with an unparsed body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(default, with = "text::option")]
    idempotency_key: Option<Key>,
    #[serde(default)]
    if_version: Option<u64>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

impl RawCommand<'_> {
    fn read(self, canon: &mut Canon) -> Result<OrderCommand, Fault> {
        let target = Target::at(&self.path).map_err(|fault| fault.at("path"))?;
        let key = its_own(self.idempotency_key)?;
        let body = self.body.map_or("", RawValue::get);
        Ok(target.read(body.as_bytes(), canon)?.under(key, self.if_version))
    }
}

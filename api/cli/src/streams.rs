//! `cluster streams reconcile`.

use std::time::Duration;

use clap::{Args, Subcommand};
use ordergrid_api::client::{Call, RetryPolicy};
use ordergrid_api::wire::{Reconciliation, StreamReport, StreamState, UnitsFound};

use super::screen::Paint;
use super::table::{Align, Table};
use crate::context::{Context, Ended, not_done};
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::units;

/// How long it may take unless told otherwise: every row of two shards is read.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// So many orders are told one by one of each kind.
const SHOWN: usize = 10;

/// Verbs about the streams between shards.
#[derive(Clone, Debug, Subcommand)]
pub enum StreamsCommand {
    /// Start stopped streams between shards anew, from what the shards have left
    ///
    /// After an accepted loss the messages between two shards no longer fit together, and are stopped. What orders count on is told
    /// to the shards of their SKUs anew: units held for orders that are lost become free, units that orders count on are held again
    /// as far as there are any, and an order that falls short is cancelled if unpaid, or waits for them. Without --yes it only shows
    /// what does not fit, and exits with 6. With it, exit 6 if a stream was refused, 8 if a shard did not answer; said again, it
    /// begins anew.
    ///
    /// A line of the table is about the orders of shard FROM and the SKUs of shard TO. UNITS MISSING: orders count on them, and
    /// they are not held; they are held again. SURPLUS: they are held for orders that have shipped them or given them up; they
    /// leave the shelf or become free. WITHOUT ORDER: they are held for orders that do not exist; they become free. ORDERS UNKEPT: the number of
    /// orders whose holds the SKUs' shard does not know to be theirs, or to be paid; it is told.
    Reconcile(ReconcileArgs),
}

/// Whether.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReconcileArgs {
    /// Only show what does not fit together; exit 0, or 11 if a shard could not be asked
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Runs `cluster streams …`.
pub(super) async fn verb(command: &StreamsCommand, context: &Context<'_>) -> Ended {
    let StreamsCommand::Reconcile(args) = command;
    let call = Call::reconcile_streams(!args.yes);
    let patience = context.global.timeout.unwrap_or(PATIENCE);
    let policy = RetryPolicy { attempt_timeout: patience, ..RetryPolicy::patient(patience) };
    let Some(answer) = context.ask_under(&call, &policy).await? else { return Ok(Exit::Done) };
    let found = answer.clone().read::<Reconciliation>()?.value;
    context.show(&answer, || table(&found, context.screen.paint()));
    if args.dry_run {
        let asked = !found.any(StreamState::Unknown) && !found.any(StreamState::Refused);
        return Ok(if asked { Exit::Done } else { Exit::Unjudged });
    }
    if found.any(StreamState::Unknown) {
        let failed = VerbFailure::new(Exit::Unknown, "not_answered", "not every shard has answered");
        return Err(failed.with_hint("ask again: a stream that is not finished is begun anew, and is stopped until then"));
    }
    if found.any(StreamState::Refused) {
        let failed = VerbFailure::new(Exit::Unsafe, "not_safe", "not every stream can be started anew now");
        return Err(failed.with_hint("those that were refused stay stopped; ask again once what they say is mended"));
    }
    if args.yes || !found.any(StreamState::Stopped) {
        return Ok(Exit::Done);
    }
    let hint = "nothing has changed; with --yes what orders count on is held again, and what is held for lost orders is free";
    not_done("no stream is started anew without --yes", hint)
}

fn table(found: &Reconciliation, paint: Paint) -> String {
    let mut table = Table::new(&[
        ("FROM", Align::Right),
        ("TO", Align::Right),
        ("STATE", Align::Left),
        ("UNITS MISSING", Align::Right),
        ("SURPLUS", Align::Right),
        ("WITHOUT ORDER", Align::Right),
        ("ORDERS UNKEPT", Align::Right),
    ]);
    for stream in &found.streams {
        let state = match stream.state {
            StreamState::Stopped => "can be started anew",
            StreamState::Reconciled => "started anew",
            StreamState::Sound => "nothing to do",
            StreamState::Refused => "REFUSED",
            StreamState::Unknown => "NOT KNOWN",
        };
        // Nothing is known of shards that were not compared.
        let compared = !matches!(stream.state, StreamState::Refused | StreamState::Unknown);
        let figure = |figure| if compared { units::count(figure) } else { "-".to_owned() };
        let figures = [stream.missing.units, stream.surplus.units, stream.orderless.units, stream.unkept].map(figure);
        let [missing, surplus, orderless, unkept] = figures;
        let (from, to) = (stream.from.to_string(), stream.to.to_string());
        table.row([from, to, state.to_owned(), missing, surplus, orderless, unkept]);
    }
    let mut text = table.text(paint);
    for stream in &found.streams {
        text += &told(stream);
    }
    for (stream, why) in found.streams.iter().filter_map(|stream| Some((stream, stream.why.as_ref()?))) {
        text += &format!("{} from shard {} to shard {}: {why}\n", paint.bad("NOW"), stream.from, stream.to);
    }
    text
}

/// The first orders of each kind, in words.
fn told(stream: &StreamReport) -> String {
    let kinds: [(&UnitsFound, &str); 3] = [
        (&stream.missing, "it counts on them, and they are not held"),
        (&stream.surplus, "they are held, and it has shipped or given them up"),
        (&stream.orderless, "they are held, and the order does not exist"),
    ];
    let mut text = String::new();
    for (found, what) in kinds {
        for of in found.first.iter().take(SHOWN) {
            text += &format!("ORDER {}: {} of {}: {what}\n", of.order, units::count(of.units), of.sku);
        }
        let more = found.count.saturating_sub(SHOWN as u64);
        if more > 0 {
            text += &format!("and {} more: {what}\n", units::count(more));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconciliation_as_people_see_it() {
        let first: Vec<_> =
            (0..10).map(|order| serde_json::json!({"order": order.to_string(), "sku": "B", "units": 2})).collect();
        let found: Reconciliation = serde_json::from_value(serde_json::json!({"dry_run": true, "streams": [
            {"from": "1", "to": "2", "state": "stopped", "why": "why", "unkept": 4,
             "missing": {"count": 1, "units": 1200, "first": [{"order": "77", "sku": "A", "units": 1200}]},
             "orderless": {"count": 1011, "units": 2022, "first": first}},
            {"from": "2", "to": "1", "state": "sound"},
            {"from": "2", "to": "3", "state": "refused", "why": "no leader"},
        ]}))
        .expect("an answer as a node sends it");
        let lost: String =
            (0..10).map(|order| format!("ORDER {order}: 2 of B: they are held, and the order does not exist\n")).collect();
        let expected = format!(
            "\
FROM  TO  STATE                UNITS MISSING  SURPLUS  WITHOUT ORDER  ORDERS UNKEPT
   1   2  can be started anew          1,200        0          2,022              4
   2   1  nothing to do                    0        0              0              0
   2   3  REFUSED                          -        -              -              -
ORDER 77: 1,200 of A: it counts on them, and they are not held
{lost}and 1,001 more: they are held, and the order does not exist
NOW from shard 1 to shard 2: why
NOW from shard 2 to shard 3: no leader
"
        );
        assert_eq!(table(&found, Paint::plain()), expected);
    }
}

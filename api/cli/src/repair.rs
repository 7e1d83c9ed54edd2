//! `cluster clock repair`.

use std::time::Duration;

use clap::Args;
use ordergrid_api::client::{Call, RetryPolicy};
use ordergrid_api::wire::WireText;
use ordergrid_api::wire::{AskedRepair, ClockRepair, Deadlines, RepairState, ShardRepair};
use ordergrid_domain::Timestamp;

use super::screen::Paint;
use super::table::{Align, Table};
use crate::context::{Context, Ended, not_done};
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::units;

/// How long it may take unless told otherwise: what would move is told from every row.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What to repair, and whether.
#[derive(Clone, Debug, Args)]
pub struct RepairArgs {
    /// The first wrong stamp, as 2026-11-20T14:05:06Z; without it every stamp later than the time is wrong
    ///
    /// Needed only where the wrong time went on for longer than it was ahead. What was stamped from then on comes nearer, so
    /// a moment before the clocks were wrong would let things expire too early.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only show which deadlines were set in the wrong time and where they would go; exit 0, or 11 if a shard could not be asked
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    Timestamp::read(text)
}

/// Runs it.
pub(super) async fn verb(args: &RepairArgs, context: &Context<'_>) -> Ended {
    let call = Call::repair_clock(AskedRepair { dry_run: !args.yes, since: args.since });
    let patience = context.global.timeout.unwrap_or(PATIENCE);
    let policy = RetryPolicy { attempt_timeout: patience, ..RetryPolicy::patient(patience) };
    let Some(answer) = context.ask_under(&call, &policy).await? else { return Ok(Exit::Done) };
    let repair = answer.clone().read::<ClockRepair>()?.value;
    context.show(&answer, || table(&repair, context.screen.paint()));
    if args.dry_run {
        let asked = !repair.any(RepairState::Unknown) && !repair.any(RepairState::Refused);
        return Ok(if asked { Exit::Done } else { Exit::Unjudged });
    }
    if repair.any(RepairState::Unknown) {
        let hint = "run it again: a shard that is repaired is not changed twice";
        let failed = VerbFailure::new(Exit::Unknown, "not_answered", "not every shard has answered");
        return Err(failed.with_hint(hint));
    }
    if repair.any(RepairState::Refused) {
        let failed = VerbFailure::new(Exit::Unsafe, "not_safe", "not every shard can be repaired now");
        return Err(failed.with_hint("shards that refused have not changed; run it again once the reported cause is mended"));
    }
    if args.yes || !repair.any(RepairState::Ahead) {
        return Ok(Exit::Done);
    }
    let hint = "nothing has changed; with --yes log time goes back, and the deadlines that move come nearer";
    not_done("log time is not set back without --yes", hint)
}

fn table(repair: &ClockRepair, paint: Paint) -> String {
    let mut shards = Table::new(&[
        ("SHARD", Align::Right),
        ("LOG TIME", Align::Left),
        ("THE TIME", Align::Left),
        ("AHEAD", Align::Left),
        ("STATE", Align::Left),
    ]);
    for shard in &repair.shards {
        let ahead = shard.log.zip(shard.right).filter(|(log, right)| log > right);
        let ahead = ahead.map_or_else(|| "-".to_owned(), |(log, right)| units::span(log.since(right)));
        let state = match shard.state {
            RepairState::Ahead => "can be repaired",
            RepairState::Repaired => "repaired",
            RepairState::Sound => "nothing to do",
            RepairState::Refused => "REFUSED",
            RepairState::Unknown => "NOT KNOWN",
        };
        shards.row([shard.shard.to_string(), units::moment(shard.log), units::moment(shard.right), ahead, state.to_owned()]);
    }
    let mut text = shards.text(paint);
    if repair.shards.iter().any(|shard| !shard.deadlines.is_empty()) {
        text += &deadlines(&repair.shards, paint);
    }
    for (shard, why) in repair.shards.iter().filter_map(|shard| Some((shard.shard, shard.why.as_ref()?))) {
        text += &format!("{} shard {shard}: {why}\n", paint.bad("NOW"));
    }
    text
}

fn deadlines(shards: &[ShardRepair], paint: Paint) -> String {
    let mut table = Table::new(&[
        ("SHARD", Align::Right),
        ("DEADLINE OF", Align::Left),
        ("MOVE", Align::Right),
        ("FIRST", Align::Left),
        ("GOES TO", Align::Left),
        ("LAST", Align::Left),
        ("GOES TO", Align::Left),
        ("STAY", Align::Right),
    ]);
    for (shard, found) in shards.iter().flat_map(|shard| shard.deadlines.iter().map(move |found| (shard.shard, found))) {
        let ends = |at: usize| found.moves.get(at).map_or([None, None], |ends| [Some(ends.from), Some(ends.to)]);
        let [first, first_to] = ends(0).map(units::moment);
        let [last, last_to] = ends(1).map(units::moment);
        let (moved, stay) = (units::count(found.moved), units::count(found.stay));
        table.row([shard.to_string(), of(found), moved, first, first_to, last, last_to, stay]);
    }
    table.text(paint)
}

/// What ends, in words.
fn of(found: &Deadlines) -> String {
    match found.of.as_str() {
        "payment" => "payments",
        "completion" => "completions",
        "order_key" => "keys of orders",
        "command_key" => "keys of commands",
        "hold" => "holds under way",
        // Of a newer server.
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_as_people_see_it() {
        let repair: ClockRepair = serde_json::from_value(serde_json::json!({"dry_run": true, "shards": [
            {"shard": "1", "state": "ahead", "log": "2026-06-09T08:00:00.000Z", "right": "2026-06-01T08:00:00.000Z",
             "since": "2026-06-01T08:00:00.001Z", "deadlines": [{"of": "payment", "moved": 1200, "stay": 3, "moves": [
                {"from": "2026-06-09T08:10:00.000Z", "to": "2026-06-01T08:10:00.000Z"},
                {"from": "2026-06-09T08:15:00.000Z", "to": "2026-06-01T08:15:00.000Z"}]}]},
            {"shard": "2", "state": "sound", "log": "2026-06-01T07:59:59.000Z", "right": "2026-06-01T08:00:00.000Z"},
            {"shard": "3", "state": "refused", "why": "the shard has no leader at the moment"},
        ]}))
        .expect("a repair as a node sends it");
        let expected = "\
SHARD  LOG TIME                  THE TIME                  AHEAD  STATE
    1  2026-06-09T08:00:00.000Z  2026-06-01T08:00:00.000Z  8d 0h  can be repaired
    2  2026-06-01T07:59:59.000Z  2026-06-01T08:00:00.000Z  -      nothing to do
    3  -                         -                         -      REFUSED
SHARD  DEADLINE OF   MOVE  FIRST                     GOES TO                   LAST                      GOES TO                   STAY
    1  payments     1,200  2026-06-09T08:10:00.000Z  2026-06-01T08:10:00.000Z  2026-06-09T08:15:00.000Z  2026-06-01T08:15:00.000Z     3
NOW shard 3: the shard has no leader at the moment
";
        assert_eq!(table(&repair, Paint::plain()), expected);
    }
}

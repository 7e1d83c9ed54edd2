//! `cluster clock status` and `accept`; `repair` is in `repair`.

use clap::{Args, Subcommand, ValueEnum};
use ordergrid_api::client::Call;
use ordergrid_api::wire::WireText;
use ordergrid_api::wire::{AcceptClock, ClusterClock, NodeClock, RightClock};

use super::repair::{self, RepairArgs};
use super::screen::Paint;
use super::table::{Align, Table};
use crate::context::{Context, Ended, not_done};
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::units::{self, moment};

/// Verbs about the clocks.
#[derive(Clone, Debug, Subcommand)]
pub enum ClockCommand {
    /// Show what every node takes for the time; exit 7 if no majority of the nodes answers, 10 if something is wrong with a clock
    Status,
    /// Say which clock is right: ends a question that keeps things from expiring, on every node that answers
    ///
    /// Without --yes it only shows what the time would go on from, and exits with 6; where no node asks there is nothing to say, and
    /// it exits with 0. With it, exit 10 if a node still asks.
    Accept(AcceptArgs),
    /// Set log time back where it ran away: deadlines that were set in the wrong time come nearer by as much
    ///
    /// Each shard's log time goes back to the time of a majority's clocks, one shard after the other; what was set before the
    /// wrong time keeps its deadline, and ids do not repeat. Said again, it goes on where it was interrupted. Without --yes it
    /// only shows what would move, and exits with 6. With it, exit 6 if a shard refused, 8 if one did not answer.
    Repair(RepairArgs),
}

/// Which clock.
#[derive(Clone, Copy, Debug, Args)]
pub struct AcceptArgs {
    /// The right one
    #[arg(value_enum)]
    right: Right,
    /// Only show what would happen; exit 0
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// [`RightClock`] as a word of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Right {
    /// The machines' clocks: time goes on from there
    Wall,
    /// The log's: time goes on from its last entry, whatever the machines' clocks say
    Log,
}

impl From<Right> for RightClock {
    fn from(right: Right) -> Self {
        match right {
            Right::Wall => Self::Wall,
            Right::Log => Self::Log,
        }
    }
}

/// Runs `cluster clock …`.
pub(super) async fn verb(command: &ClockCommand, context: &Context<'_>) -> Ended {
    match command {
        ClockCommand::Status => {
            let Some(clocks) = ask(&Call::cluster_clock(), context).await? else { return Ok(Exit::Done) };
            let right = clocks.nodes.iter().all(|node| node.wrong.is_none());
            Ok(match (quorum(&clocks), right) {
                (false, _) => Exit::Unreachable,
                (true, true) => Exit::Done,
                (true, false) => Exit::AnswerIsNo,
            })
        }
        ClockCommand::Accept(args) => accept(*args, context).await,
        ClockCommand::Repair(args) => repair::verb(args, context).await,
    }
}

async fn accept(args: AcceptArgs, context: &Context<'_>) -> Ended {
    let call = Call::accept_clock(AcceptClock { right: args.right.into(), dry_run: !args.yes });
    let Some(clocks) = ask(&call, context).await? else { return Ok(Exit::Done) };
    // What else may be wrong is shown, and this verb is not about it.
    let asks = clocks.nodes.iter().any(|node| node.reachable && !node.expires);
    if args.yes {
        return Ok(if asks { Exit::AnswerIsNo } else { Exit::Done });
    }
    if !asks {
        context.screen.talk("no node asks which clock is right: there is nothing to accept\n");
        return Ok(Exit::Done);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    not_done("no clock is accepted without --yes", "nothing has changed; with --yes time goes on from there")
}

/// Whether a majority of the nodes answers: without one nothing is stamped, and nothing expires.
fn quorum(clocks: &ClusterClock) -> bool {
    answering(clocks) > clocks.nodes.len() / 2
}

fn answering(clocks: &ClusterClock) -> usize {
    clocks.nodes.iter().filter(|node| node.reachable).count()
}

async fn ask(call: &Call, context: &Context<'_>) -> Result<Option<ClusterClock>, VerbFailure> {
    let Some(answer) = context.ask(call).await? else { return Ok(None) };
    let clocks = answer.clone().read::<ClusterClock>()?.value;
    context.show(&answer, || table(&clocks, context.screen.paint()));
    Ok(Some(clocks))
}

fn table(clocks: &ClusterClock, paint: Paint) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("WALL CLOCK", Align::Left),
        ("GRID TIME", Align::Left),
        ("LOG TIME", Align::Left),
        ("EXPIRES", Align::Left),
    ]);
    for node in &clocks.nodes {
        let expires = if !node.reachable {
            "-"
        } else if node.expires && quorum(clocks) {
            "yes"
        } else {
            "NO"
        };
        let log = if node.reachable && node.log.is_none() { "none yet".to_owned() } else { moment(node.log) };
        table.row([node.name.clone(), moment(node.wall), moment(node.grid), log, expires.to_owned()]);
    }
    let mut text = table.text(paint);
    for node in clocks.nodes.iter().filter(|node| !node.reachable) {
        text += &format!("{} {} does not answer\n", paint.bad("NOW"), node.name);
    }
    if !quorum(clocks) {
        let (answer, of) = (answering(clocks), clocks.nodes.len());
        text += &format!("{} {answer} of {of} nodes answer, which is no majority: nothing expires\n", paint.bad("NOW"));
    }
    for (node, wrong) in clocks.nodes.iter().filter_map(|node| Some((node, node.wrong.as_ref()?))) {
        text += &format!("{} {}: {wrong}\n", paint.bad("NOW"), node.name);
    }
    for node in &clocks.nodes {
        text += &becomes(node).map_or_else(String::new, |becomes| format!("THEN {}: {becomes}\n", node.name));
    }
    text
}

/// What would come of accepting a clock, in words.
fn becomes(node: &NodeClock) -> Option<String> {
    let then = node.becomes?;
    let what = match node.log {
        Some(log) if then > log => {
            let span = units::span(then.since(log));
            format!(
                "{span} after the log: what is due until then expires, and keys that are older than their time are forgotten"
            )
        }
        Some(log) if then < log => {
            let span = units::span(log.since(then));
            format!("{span} before the log: nothing expires until that is reached, or `cluster clock repair` sets it back")
        }
        Some(_) => "where the log stands".to_owned(),
        None => "and there is no log time yet".to_owned(),
    };
    Some(format!("time goes on from {}, {what}", then.write(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_as_people_see_them() {
        let clocks: ClusterClock = serde_json::from_value(serde_json::json!({"nodes": [
            {"id": "1", "name": "n1", "reachable": true, "wall": "2026-06-01T08:00:00.000Z", "grid": "2026-05-01T00:00:05.000Z",
             "log": "2026-05-01T00:00:00.000Z", "expires": false, "wrong": "clock_skew: nothing expires",
             "becomes": "2026-06-01T08:00:00.000Z"},
            {"id": "2", "name": "n2", "reachable": false, "expires": false},
            {"id": "3", "name": "n3", "reachable": true, "wall": "2026-06-01T08:00:00.000Z", "grid": "2026-06-01T08:00:00.000Z",
             "expires": true, "becomes": "2026-06-01T08:00:00.000Z"},
        ]}))
        .expect("clocks as a node sends them");
        let expected = "\
NODE  WALL CLOCK                GRID TIME                 LOG TIME                  EXPIRES
n1    2026-06-01T08:00:00.000Z  2026-05-01T00:00:05.000Z  2026-05-01T00:00:00.000Z  NO
n2    -                         -                         -                         -
n3    2026-06-01T08:00:00.000Z  2026-06-01T08:00:00.000Z  none yet                  yes
NOW n2 does not answer
NOW n1: clock_skew: nothing expires
THEN n1: time goes on from 2026-06-01T08:00:00.000Z, 31d 8h after the log: what is due until then expires, \
and keys that are older than their time are forgotten
THEN n3: time goes on from 2026-06-01T08:00:00.000Z, and there is no log time yet
";
        assert_eq!(table(&clocks, Paint::plain()), expected);
        let alone = ClusterClock { nodes: clocks.nodes.into_iter().skip(1).collect() };
        let text = table(&alone, Paint::plain());
        assert!(text.contains("  NO\nNOW n2 does not answer\nNOW 1 of 2 nodes answer, which is no majority"), "{text}");
    }
}

//! `cluster clock …`.

use clap::Subcommand;
use ordergrid_domain::Timestamp;

use super::screen::Paint;
use super::table::{Align, Table};
use super::{Context, Ended, Exit};
use crate::client::Call;
use crate::wire::text::WireText;
use crate::wire::{ClusterClock, RightClock};

/// Verbs about the clocks.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ClockCommand {
    /// Show what every node takes for the time; exit 10 if something is wrong with a clock
    Status,
    /// Say which clock is right: ends a question that keeps things from expiring, on every node that answers
    Accept {
        /// The right one
        #[arg(value_enum)]
        right: RightClock,
    },
}

/// Runs `cluster clock …`.
pub(super) async fn verb(command: ClockCommand, context: &Context<'_>) -> Ended {
    let call = match command {
        ClockCommand::Status => Call::cluster_clock(),
        ClockCommand::Accept { right } => Call::accept_clock(right),
    };
    let Some(answer) = context.ask(&call).await? else { return Ok(Exit::Done) };
    let clocks = answer.clone().read::<ClusterClock>()?.value;
    context.show(&answer, || table(&clocks, context.screen.paint()));
    let right = clocks.nodes.iter().all(|node| node.wrong.is_none());
    Ok(if right { Exit::Done } else { Exit::AnswerIsNo })
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
        let time = |time: &Option<Timestamp>| time.as_ref().map_or_else(|| "-".to_owned(), |time| time.write(str::to_owned));
        let expires = if !node.reachable {
            "-"
        } else if node.expires {
            "yes"
        } else {
            "NO"
        };
        table.row([node.name.clone(), time(&node.wall), time(&node.grid), time(&node.log), expires.to_owned()]);
    }
    let mut text = table.text(paint);
    for node in clocks.nodes.iter().filter(|node| !node.reachable) {
        text += &format!("{} {} does not answer\n", paint.bad("NOW"), node.name);
    }
    for (node, wrong) in clocks.nodes.iter().filter_map(|node| Some((node, node.wrong.as_ref()?))) {
        text += &format!("{} {}: {wrong}\n", paint.bad("NOW"), node.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_as_people_see_them() {
        let clocks: ClusterClock = serde_json::from_value(serde_json::json!({"nodes": [
            {"id": "1", "name": "n1", "reachable": true, "wall": "2026-06-01T08:00:00.000Z", "grid": "2026-05-01T00:00:05.000Z",
             "log": "2026-05-01T00:00:00.000Z", "expires": false, "wrong": "clock_skew: nothing expires"},
            {"id": "2", "name": "n2", "reachable": false, "expires": false},
        ]}))
        .expect("clocks as a node sends them");
        let expected = "\
NODE  WALL CLOCK                GRID TIME                 LOG TIME                  EXPIRES
n1    2026-06-01T08:00:00.000Z  2026-05-01T00:00:05.000Z  2026-05-01T00:00:00.000Z  NO
n2    -                         -                         -                         -
NOW n2 does not answer
NOW n1: clock_skew: nothing expires
";
        assert_eq!(table(&clocks, Paint::plain()), expected);
    }
}

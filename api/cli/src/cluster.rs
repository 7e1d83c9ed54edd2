//! `cluster status` and `cluster verify`; `clock` has a module of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Subcommand;
use ordergrid_api::client::{Call, RetryPolicy};
use ordergrid_api::wire::{Check, ClusterStatus, Health, LawReport, NodeStatus, Verdict, VerifyReport};

use super::screen::Paint;
use super::table::{Align, Table};
use crate::context::{Context, Ended};
use crate::exit::Exit;
use crate::units;

/// Attempts at a proof: a node that cannot be reached is given up after a quarter of a minute, however long a proof may take.
const ATTEMPTS: u32 = 12;
/// How long a verification may take unless told otherwise; a node itself gives up after as long.
const VERIFY_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Verbs about the cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show nodes, shards and health; exit 7 if a shard has no quorum, 10 if a stream between shards is stopped
    ///
    /// A grid that is DEGRADED because a node is down serves everything, and ends with 0.
    Status,
    /// Show the nodes' clocks, accept one as right, and set back a log time that ran ahead
    #[command(subcommand)]
    Clock(super::clock::ClockCommand),
    /// Start streams between shards anew that are stopped since an accepted loss
    #[command(subcommand)]
    Streams(super::streams::StreamsCommand),
    /// Prove the laws of stock, order and money on the running grid; exit 10 if one is broken, 11 if one could not be judged
    ///
    /// What is not judged within --timeout counts as not judged. Without it the limit is 30 minutes.
    Verify,
}

/// Runs `cluster …`.
pub(super) async fn verb(command: &ClusterCommand, context: &Context<'_>) -> Ended {
    match command {
        ClusterCommand::Status => {
            let Some(answer) = context.ask(&Call::cluster_status()).await? else { return Ok(Exit::Done) };
            let status = answer.clone().read::<ClusterStatus>()?.value;
            context.show(&answer, || status_table(&status, context.screen.paint()));
            Ok(match status.health {
                Health::Unavailable => Exit::Unreachable,
                Health::Healthy | Health::Degraded if status.stopped_streams.is_empty() => Exit::Done,
                Health::Healthy | Health::Degraded => Exit::AnswerIsNo,
            })
        }
        ClusterCommand::Clock(command) => super::clock::verb(command, context).await,
        ClusterCommand::Streams(command) => super::streams::verb(command, context).await,
        ClusterCommand::Verify => {
            // Every row is looked at: one attempt may take as long as the whole call.
            let patience = context.global.timeout.unwrap_or(VERIFY_PATIENCE);
            let policy = RetryPolicy { attempts: ATTEMPTS, attempt_timeout: patience, ..RetryPolicy::patient(patience) };
            let Some(answer) = context.ask_under(&Call::cluster_verify(context.global.timeout), &policy).await? else {
                return Ok(Exit::Done);
            };
            let report = answer.clone().read::<VerifyReport>()?.value;
            context.show(&answer, || verify_table(&report, context.screen.paint()));
            Ok(verdict(&report))
        }
    }
}

fn verdict(report: &VerifyReport) -> Exit {
    match report.verdict() {
        Verdict::Holds => Exit::Done,
        Verdict::Broken => Exit::AnswerIsNo,
        Verdict::Unjudged => Exit::Unjudged,
    }
}

fn counted(number: usize, one: &str) -> String {
    format!("{} {one}{}", units::count(number as u64), if number == 1 { "" } else { "s" })
}

fn status_table(status: &ClusterStatus, paint: Paint) -> String {
    let zones: BTreeSet<_> = status.nodes.iter().map(|node| &node.zone).collect();
    // The meta group has no slots, and nobody counts it when asked for the number of shards.
    let shards = status.shards.iter().filter(|shard| shard.first_slot.is_some()).count();
    let health = match status.health {
        Health::Healthy => paint.good("HEALTHY"),
        Health::Degraded => paint.doubtful("DEGRADED"),
        Health::Unavailable => paint.bad("UNAVAILABLE"),
    };
    let rate = status.orders_per_s.map(|rate| format!("   orders {}/s", units::count(rate))).unwrap_or_default();
    let mut text = format!(
        "{}  {health}  {}  {}  {}  v{}{rate}\n",
        paint.bold(&format!("CLUSTER {}", status.cluster)),
        counted(zones.len(), "zone"),
        counted(status.nodes.len(), "node"),
        counted(shards, "shard"),
        status.version,
    );
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("ZONE", Align::Left),
        ("STATE", Align::Left),
        ("LEADERS", Align::Right),
        ("REPLICAS", Align::Right),
        ("DISK", Align::Right),
        ("LAG", Align::Right),
        ("UPTIME", Align::Right),
    ]);
    for node in &status.nodes {
        table.row(node_row(node));
    }
    text += &table.text(paint);
    for shard in status.shards.iter().filter(|shard| shard.leader.is_none()) {
        text += &format!("{} shard {} has no leader that a quorum answers\n", paint.bad("NOW"), shard.shard);
    }
    for node in &status.nodes {
        for check in &node.failing {
            text += &format!("{} {} {}\n", paint.bad("NOW"), node.name, failing(check));
        }
    }
    for (node, clock) in status.nodes.iter().filter_map(|node| Some((node, node.clock.as_ref()?))) {
        if node.failing.iter().all(|check| check.detail != *clock) {
            text += &format!("{} {} {clock}\n", paint.bad("NOW"), node.name);
        }
    }
    for stream in &status.stopped_streams {
        text += &format!("{} {}\n", paint.bad("NOW"), stream.words());
    }
    for node in status.nodes.iter().filter(|node| !node.reachable) {
        text += &format!("{} {} does not answer at {}\n", paint.bad("NOW"), node.name, node.http);
    }
    text
}

fn failing(check: &Check) -> String {
    let Check { name, detail, .. } = check;
    if detail.is_empty() { format!("fails {name}") } else { format!("fails {name}: {detail}") }
}

fn node_row(node: &NodeStatus) -> [String; 8] {
    let known = |figure: Option<u64>, shown: fn(u64) -> String| figure.map_or_else(|| "-".to_owned(), shown);
    [
        node.name.clone(),
        node.zone.clone(),
        node.state.clone(),
        known(node.reachable.then_some(u64::from(node.leaders)), units::count),
        known(node.reachable.then_some(u64::from(node.replicas)), units::count),
        known(node.disk_bytes, units::size),
        known(node.lag, units::count),
        known(node.uptime_seconds, units::age),
    ]
}

fn verify_table(report: &VerifyReport, paint: Paint) -> String {
    let verdict = match report.verdict() {
        Verdict::Holds => paint.good("EVERY LAW HOLDS"),
        Verdict::Broken => paint.bad("BROKEN"),
        Verdict::Unjudged => paint.doubtful("NOT JUDGED"),
    };
    let mut text = format!("{verdict}  {} at one index each\n", counted(report.shards.len(), "shard"));
    let mut laws = Table::new(&[("LAW", Align::Left), ("HOLDS", Align::Left), ("VIOLATIONS", Align::Right)]);
    for law in &report.laws {
        let holds = match (law.violations.is_empty(), law.ok) {
            (false, _) => "NO",
            (true, true) => "yes",
            (true, false) => "not judged",
        };
        laws.row([law.law.clone(), holds.to_owned(), units::count(law.violations.len() as u64)]);
    }
    text += &laws.text(paint);
    let mut counts = Table::new(&[("COUNT", Align::Left), ("", Align::Right)]);
    for (name, number) in &report.counts {
        counts.row([name.clone(), units::count(*number)]);
    }
    let under_way = &report.in_flight;
    for (name, number) in [
        ("under way: tentative holds", under_way.tentative_holds),
        ("under way: undelivered messages", under_way.undelivered_messages),
        ("under way: running attempts", under_way.running_attempts),
    ] {
        counts.row([name.to_owned(), units::count(number)]);
    }
    text += &counts.text(paint);
    for law in &report.laws {
        for violation in &law.violations {
            text += &format!("{} {}: {violation}\n", paint.bad("VIOLATION"), law.law);
        }
    }
    for (why, laws) in unjudged(&report.laws) {
        text += &format!("{} {}: {why}\n", paint.doubtful("NOT JUDGED"), laws.join(", "));
    }
    text
}

/// Why something was not judged, each reason once, with the laws that it keeps from being judged.
fn unjudged(laws: &[LawReport]) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (law, why) in laws.iter().flat_map(|law| law.unjudged.iter().map(|why| (law.law.as_str(), why.as_str()))) {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, laws)) => laws.push(law),
            None => reasons.push((why, vec![law])),
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatus {
        serde_json::from_value(serde_json::json!({
            "cluster": "shop-eu", "cluster_id": "c1", "version": "1.4.0", "health": "degraded", "orders_per_s": 2214,
            "nodes": [
                {"id": "1", "name": "n1", "zone": "a", "http": "http://h1:1", "state": "not_ready", "reachable": true,
                 "failing": [{"name": "shards_led", "ok": false, "detail": "no leader is heard of for shards 1"}],
                 "leaders": 16, "replicas": 48, "lag": 0, "disk_bytes": 210_000_000_000_u64, "uptime_seconds": 1_036_800},
                {"id": "2", "name": "n2", "zone": "b", "http": "http://h2:1", "state": "unreachable", "reachable": false,
                 "leaders": 0, "replicas": 48},
                {"id": "3", "name": "n3", "zone": "b", "http": "http://h3:1", "state": "clock_skew", "reachable": true,
                 "leaders": 0, "replicas": 48, "clock": "clock_skew: the wall clock is 8d 0h ahead of grid time"},
            ],
            "shards": [
                {"shard": "0", "leader": "1", "term": 1, "replicas": []},
                {"shard": "1", "first_slot": 0, "last_slot": 4095, "term": 1, "replicas": []},
            ],
            "stopped_streams": [{"from": "1", "to": "2", "since": "2026-06-01T08:00:00.000Z", "why": "why"}],
        }))
        .expect("a status as a node sends it")
    }

    #[test]
    fn a_status_as_people_see_it() {
        let expected = "\
CLUSTER shop-eu  DEGRADED  2 zones  3 nodes  1 shard  v1.4.0   orders 2,214/s
NODE  ZONE  STATE        LEADERS  REPLICAS    DISK  LAG  UPTIME
n1    a     not_ready         16        48  210 GB    0     12d
n2    b     unreachable        -         -       -    -       -
n3    b     clock_skew         0        48       -    -       -
NOW shard 1 has no leader that a quorum answers
NOW n1 fails shards_led: no leader is heard of for shards 1
NOW n3 clock_skew: the wall clock is 8d 0h ahead of grid time
NOW the stream from shard 1 to shard 2 is stopped since 2026-06-01T08:00:00.000Z: why; what it has to say of units is not done \
until `ordergrid cluster streams reconcile` starts it anew
NOW n2 does not answer at http://h2:1
";
        assert_eq!(status_table(&status(), Paint::plain()), expected);
    }

    #[test]
    fn a_verification_as_people_see_it() {
        let report: VerifyReport = serde_json::from_value(serde_json::json!({
            "ok": false, "shards": [], "counts": {"orders": 15829, "skus": 3841},
            "laws": [
                {"law": "NoOversell", "ok": true, "violations": []},
                {"law": "HoldsAddUp", "ok": false, "violations": ["sku 85123A: reserved 3, its holds 2"]},
                {"law": "EventsGapless", "ok": false, "violations": [], "unjudged": ["shard 2: unread"]},
                {"law": "Heals", "ok": false, "violations": [], "unjudged": ["shard 2: unread", "shard 3: unread"]},
                {"law": "ReplicasAgree", "ok": false, "violations": [], "unjudged": ["shard 1: no mark: why"]},
            ],
            "in_flight": {"tentative_holds": 1, "undelivered_messages": 0, "running_attempts": 0},
        }))
        .expect("a report as a node sends it");
        let expected = "\
BROKEN  0 shards at one index each
LAW            HOLDS       VIOLATIONS
NoOversell     yes                  0
HoldsAddUp     NO                   1
EventsGapless  not judged           0
Heals          not judged           0
ReplicasAgree  not judged           0
COUNT
orders                           15,829
skus                              3,841
under way: tentative holds            1
under way: undelivered messages       0
under way: running attempts           0
VIOLATION HoldsAddUp: sku 85123A: reserved 3, its holds 2
NOT JUDGED EventsGapless, Heals: shard 2: unread
NOT JUDGED Heals: shard 3: unread
NOT JUDGED ReplicasAgree: shard 1: no mark: why
";
        assert_eq!(verify_table(&report, Paint::plain()), expected);
        assert_eq!(verdict(&report), Exit::AnswerIsNo);
        let laws = report.laws.iter().filter(|law| law.violations.is_empty()).cloned().collect();
        let report = VerifyReport { laws, ..report };
        assert!(verify_table(&report, Paint::plain()).starts_with("NOT JUDGED  0 shards"));
        assert_eq!(verdict(&report), Exit::Unjudged);
    }
}

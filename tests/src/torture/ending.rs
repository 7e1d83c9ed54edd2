//! The end of a round: what the grid and each of its nodes tell once nothing is under way any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::asker::Asker;
use super::history::{order_seen, sku_seen};
use super::judge::{NodeView, Violation};
use super::load::{sku_name, user_name};
use super::plan::Plan;

/// Longest a healed grid may take to come to rest, and its replicas to be level.
const REST: Duration = Duration::from_secs(30);

/// Longest one read may take.
const READ: Duration = Duration::from_secs(5);

/// Longest the proof of the laws may take.
const VERIFY: Duration = Duration::from_secs(25);

/// Has the laws proven, again and again until nothing is under way; what does not hold even then.
pub(super) async fn prove(asker: &mut Asker, nodes: &[usize], whole: bool) -> Vec<Violation> {
    let since = Instant::now();
    let mut last = None;
    for turn in 0.. {
        let report = asker.read(nodes[turn % nodes.len()], "/admin/v1/cluster/verify", VERIFY).await;
        let rests = report.as_ref().is_some_and(|report| rests(report, whole));
        last = report.or(last);
        if rests {
            return Vec::new();
        }
        if since.elapsed() > REST {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let Some(report) = last else { return vec![Violation::new("Heals", "the laws cannot be proven: no node answers")] };
    let mut wrong: Vec<Violation> = broken(&report).map(|text| Violation::new("verify", text)).collect();
    if wrong.is_empty() {
        wrong.push(Violation::new("Heals", format!("it does not come to rest: {report}")));
    }
    wrong
}

/// Nothing is broken and nothing is under way. With a node missing not every law can be judged, which is not broken.
fn rests(report: &Value, whole: bool) -> bool {
    let still = report["in_flight"].as_object().is_some_and(|counts| counts.values().all(|count| count == 0));
    let holds = if whole { report["ok"] == true } else { broken(report).next().is_none() };
    holds && still
}

/// The laws that were seen broken, in words.
fn broken(report: &Value) -> impl Iterator<Item = String> {
    let laws = report["laws"].as_array().into_iter().flatten();
    laws.filter(|law| law["ok"] == false && law["violations"].as_array().is_some_and(|all| !all.is_empty()))
        .map(|law| format!("{} {}", law["law"], law["violations"]))
}

/// What the grid tells through one node, and what each node's own replicas tell; again until they agree, or for a while.
pub(super) async fn look(asker: &mut Asker, plan: &Plan, nodes: &[usize]) -> Option<(NodeView, BTreeMap<usize, NodeView>)> {
    let since = Instant::now();
    let mut last = None;
    while since.elapsed() < REST {
        let Some(grid) = view(asker, plan, nodes[0], "strong").await else { continue };
        let mut views = BTreeMap::new();
        for node in nodes {
            // A node that cannot tell what it has is asked again.
            let Some(view) = view(asker, plan, *node, "stale").await else { break };
            views.insert(*node, view);
        }
        let level = views.len() == nodes.len() && views.values().all(|view| *view == grid);
        last = Some((grid, views));
        if level {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    last
}

async fn view(asker: &mut Asker, plan: &Plan, node: usize, consistency: &str) -> Option<NodeView> {
    let mut view = NodeView::default();
    for number in 0..plan.users {
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/users/{}/orders?size=100&consistency={consistency}{cursor}", user_name(number));
            let page = asker.read(node, &path, READ).await?;
            for order in page["orders"].as_array()? {
                let order = order_seen(order)?;
                view.orders.insert(order.id.clone(), order);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    for number in 0..plan.stock.len() {
        let path = format!("/v1/skus/{}?consistency={consistency}", sku_name(number));
        let sku = sku_seen(&asker.read(node, &path, READ).await?)?;
        view.skus.insert(sku.id.clone(), sku);
    }
    Some(view)
}

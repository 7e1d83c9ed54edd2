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

/// What is told in the end.
pub(super) struct Views {
    /// By the grid, through one node.
    pub(super) grid: NodeView,
    /// By each node's own replicas.
    pub(super) nodes: BTreeMap<usize, NodeView>,
    /// Why a node tells nothing.
    pub(super) silent: Vec<String>,
}

/// Reads everything everywhere, again until all agree, or for a while.
///
/// # Errors
/// What could not be read at last.
pub(super) async fn look(asker: &mut Asker, plan: &Plan, nodes: &[usize]) -> Result<Views, String> {
    let since = Instant::now();
    let mut last = Err("nothing was read".to_owned());
    while since.elapsed() < REST || last.is_err() && since.elapsed() < 2 * REST {
        let grid = match view(asker, plan, nodes[0], "strong").await {
            Ok(grid) => grid,
            Err(why) => {
                last = last.map_err(|_| why);
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let mut views = Views { grid, nodes: BTreeMap::new(), silent: Vec::new() };
        for node in nodes {
            match view(asker, plan, *node, "stale").await {
                Ok(view) => drop(views.nodes.insert(*node, view)),
                Err(why) => views.silent.push(why),
            }
        }
        let level = views.silent.is_empty() && views.nodes.values().all(|view| *view == views.grid);
        last = Ok(views);
        if level {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    last
}

/// Everything that a node tells.
///
/// # Errors
/// The first thing that it does not.
async fn view(asker: &mut Asker, plan: &Plan, node: usize, consistency: &str) -> Result<NodeView, String> {
    let mut view = NodeView::default();
    for number in 0..plan.users {
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/users/{}/orders?size=100&consistency={consistency}{cursor}", user_name(number));
            let page = read(asker, node, &path).await?;
            let orders = page["orders"].as_array().and_then(|orders| orders.iter().map(order_seen).collect::<Option<Vec<_>>>());
            let orders = orders.ok_or_else(|| format!("node {node} answers {path} with {page}"))?;
            view.orders.extend(orders.into_iter().map(|order| (order.id.clone(), order)));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    for number in 0..plan.stock.len() {
        let path = format!("/v1/skus/{}?consistency={consistency}", sku_name(number));
        let sku =
            sku_seen(&read(asker, node, &path).await?).ok_or_else(|| format!("node {node} answers {path} with no SKU"))?;
        view.skus.insert(sku.id.clone(), sku);
    }
    Ok(view)
}

async fn read(asker: &mut Asker, node: usize, path: &str) -> Result<Value, String> {
    match asker.read(node, path, READ).await {
        Some(value) => Ok(value),
        None => Err(format!("node {node} does not answer {path}: {}", asker.send_for_text(node, path).await)),
    }
}

//! One round: start, load, strikes, healing, and the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::asker::Asker;
use super::cluster::Ended;
use super::ending;
use super::field::Field;
use super::history::{End, Moment, Operation};
use super::judge::{Evidence, Violation, judge};
use super::load::{self, Load, sku_name};
use super::network::Network;
use super::outage::{Outage, outage};
use super::plan::{Kind, Plan};
use super::site::Site;

/// Longest a grid may take until it serves: in the beginning, and after everything was mended.
const READY: Duration = Duration::from_secs(60);

/// How long the load goes on after the last strike, and how long after a strike its outage is counted at most.
const AFTER: Duration = Duration::from_millis(1_500);

/// How a round went.
#[derive(Clone, Debug)]
pub struct Round {
    /// Its seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// What was done, in words, and how long clients had no answer.
    pub strikes: Vec<(Kind, String, Outage)>,
    /// Operations of clients, by how they ended: done, refused, refused for now, unknown.
    pub ends: [usize; 4],
    /// Orders in the end.
    pub orders: usize,
    /// How long the grid took to be ready once everything was mended.
    pub ready_ms: u64,
    /// Nodes that refuse to serve what was damaged, and other things worth knowing.
    pub notes: Vec<String>,
    /// Laws that were broken.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub took: Duration,
}

/// Plays a round in `folder`, which must exist and stays as the nodes leave it.
///
/// # Errors
/// If the harness fails; a law that is broken is no error.
pub fn play(plan: &Plan, folder: &Path, site: &Site, network: Option<&Network>) -> Result<Round> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut field = Field::prepare(plan, folder, site, network)?;
    let endpoints = field.endpoints();
    let nodes: Vec<usize> = (1..=plan.nodes).collect();
    nodes.iter().try_for_each(|node| field.cluster.start(*node))?;
    let mut asker = Asker::new(&endpoints, started);
    let unready = runtime.block_on(ready_or_gone(&mut field, &mut asker, &nodes))?;
    ensure!(unready.is_empty(), "the grid does not begin: nodes {unready:?} are not ready; {:?}", field.ended);
    runtime.block_on(load::stock_up(plan, &endpoints, started))?;

    let load = {
        let _inside = runtime.enter();
        Load::begin(plan, &endpoints, started)
    };
    let struck = strikes(plan, &mut field, network, &runtime, &mut asker);
    let mut operations = runtime.block_on(load.end())?;
    let struck = struck?;
    let strikes = outages(struck, &operations, asker.now());

    let mut notes = Vec::new();
    let mended = Instant::now();
    let (serving, mut violations) = heal(&mut field, network, &runtime, &mut asker, &mut notes)?;
    let ready_ms = u64::try_from(mended.elapsed().as_millis()).context("a round is short")?;
    let mut evidence = Evidence::default();
    if violations.is_empty() {
        let late = runtime.block_on(load::ask_again(&operations, &serving, &mut asker));
        operations.extend(late);
        violations.extend(runtime.block_on(ending::prove(&mut asker, &serving, serving.len() == nodes.len())));
        evidence.operations = operations;
        evidence.stock = (0..).map(sku_name).zip(plan.stock.iter().copied()).collect();
        violations.extend(runtime.block_on(conclude(&mut evidence, &mut asker, plan, &serving)));
    } else {
        evidence.operations = operations;
    }
    field.look()?;
    violations.extend(ended_by_themselves(&field));
    notes.extend(field.ended.iter().map(|Ended { node, words }| format!("node {node} ended: {words}")));
    field.end()?;
    let round = Round {
        seed: plan.seed,
        nodes: plan.nodes,
        strikes,
        ends: ends(&evidence.operations),
        orders: evidence.grid.orders.len(),
        ready_ms,
        notes,
        violations,
        took: started.elapsed(),
    };
    if !round.violations.is_empty() {
        fs::write(folder.join("history.txt"), format!("{plan:#?}\n{:#?}", evidence.operations))?;
        fs::write(folder.join("round.json"), round.json().to_string())?;
    }
    Ok(round)
}

/// Strikes one after the other: what it was, and from when to when.
fn strikes(
    plan: &Plan,
    field: &mut Field,
    network: Option<&Network>,
    runtime: &Runtime,
    asker: &mut Asker,
) -> Result<Vec<(Kind, String, Moment)>> {
    let mut struck = Vec::new();
    for strike in &plan.strikes {
        std::thread::sleep(Duration::from_millis(strike.wait_ms));
        let leader = runtime.block_on(leader(asker, plan.nodes));
        let began = asker.now();
        let words = field.strike(strike, network, leader).with_context(|| format!("{strike:?}"))?;
        struck.push((strike.kind, words, began));
    }
    std::thread::sleep(AFTER);
    Ok(struck)
}

/// A strike's outage is counted until the next begins.
fn outages(struck: Vec<(Kind, String, Moment)>, operations: &[Operation], end: Moment) -> Vec<(Kind, String, Outage)> {
    let next: Vec<Moment> = struck.iter().skip(1).map(|(.., began)| *began).chain([end]).collect();
    let counted = struck.into_iter().zip(next);
    counted.map(|((kind, words, from), to)| (kind, words, outage(operations, from, to))).collect()
}

/// The node that leads most shards, as far as somebody says.
async fn leader(asker: &mut Asker, nodes: usize) -> Option<usize> {
    for node in 1..=nodes {
        let Some(status) = asker.read(node, "/admin/v1/cluster/status", Duration::from_millis(500)).await else { continue };
        let all = status["nodes"].as_array()?;
        let first = all.iter().max_by_key(|one| one["leaders"].as_u64().unwrap_or_default())?;
        return first["id"].as_str()?.parse().ok();
    }
    None
}

/// Mends everything and waits until every node serves. Those that refuse because of what was damaged may stay out, as long
/// as a majority serves: no grid can be asked for more than to say so.
fn heal(
    field: &mut Field,
    network: Option<&Network>,
    runtime: &Runtime,
    asker: &mut Asker,
    notes: &mut Vec<String>,
) -> Result<(Vec<usize>, Vec<Violation>)> {
    let nodes = field.cluster.nodes();
    field.heal(network)?;
    let mut unready = runtime.block_on(ready_or_gone(field, asker, &nodes))?;
    for node in unready.clone() {
        if !field.cluster.running(node) && field.restore(node)? {
            notes.push(format!("node {node} refused what was damaged; it was put back"));
            field.heal(None)?;
        }
    }
    if !unready.is_empty() {
        unready = runtime.block_on(ready_or_gone(field, asker, &unready))?;
    }
    let out: BTreeSet<usize> = unready.iter().copied().collect();
    let mut violations = Vec::new();
    for node in &out {
        let verbose = runtime.block_on(asker.send_for_text(*node, "/readyz?verbose"));
        let words = format!("node {node} is not ready after {READY:?}, everything being mended: {verbose}");
        if field.cluster.running(*node) || !field.excused.contains(node) {
            violations.push(Violation::new("Heals", words));
        } else {
            notes.push(format!("node {node} stays out"));
        }
    }
    let serving: Vec<usize> = nodes.iter().copied().filter(|node| !out.contains(node)).collect();
    if serving.len() <= nodes.len() / 2 && violations.is_empty() {
        violations.push(Violation::new("Heals", format!("only {serving:?} serve")));
    }
    Ok((serving, violations))
}

/// Waits until the nodes are ready; those that are not in time. One that has ended is not waited for.
async fn ready_or_gone(field: &mut Field, asker: &mut Asker, nodes: &[usize]) -> Result<Vec<usize>> {
    let since = Instant::now();
    let mut left = nodes.to_vec();
    loop {
        field.look()?;
        let mut unready = Vec::new();
        for node in left {
            if asker.read(node, "/readyz", Duration::from_secs(1)).await.is_none() {
                unready.push(node);
            }
        }
        left = unready;
        if left.iter().all(|node| !field.cluster.running(*node)) || since.elapsed() > READY {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads everything in the end, and judges.
async fn conclude(evidence: &mut Evidence, asker: &mut Asker, plan: &Plan, serving: &[usize]) -> Vec<Violation> {
    let views = match ending::look(asker, plan, serving).await {
        Ok(views) => views,
        Err(why) => return vec![Violation::new("Heals", format!("what the grid has cannot be read: {why}"))],
    };
    evidence.at = asker.now();
    (evidence.grid, evidence.nodes) = (views.grid, views.nodes);
    let mut violations = judge(evidence);
    violations.extend(views.silent.into_iter().map(|why| Violation::new("Heals", why)));
    violations
}

/// NodesGoOn: a node ends by itself only if its disk was hurt.
fn ended_by_themselves(field: &Field) -> Vec<Violation> {
    let unexcused = field.ended.iter().filter(|ended| !field.excused.contains(&ended.node));
    unexcused.map(|Ended { node, words }| Violation::new("NodesGoOn", format!("node {node} ended: {words}"))).collect()
}

fn ends(operations: &[Operation]) -> [usize; 4] {
    let mut ends = [0; 4];
    for operation in operations {
        let place = match operation.attempts.last().map(|last| &last.end) {
            Some(End::Done(_)) => 0,
            Some(End::Refused { retryable: false, .. }) => 1,
            _ if !operation.may_have_happened() => 2,
            _ => 3,
        };
        ends[place] += 1;
    }
    ends
}

impl Round {
    /// For the report.
    #[must_use]
    pub fn json(&self) -> Value {
        let strikes: Vec<Value> = self
            .strikes
            .iter()
            .map(|(kind, words, outage)| json!({"kind": kind.name(), "what": words, "outage": outage.json()}))
            .collect();
        let violations: Vec<Value> = self.violations.iter().map(|one| json!({"law": one.law, "text": one.text})).collect();
        let [done, refused, later, unknown] = self.ends;
        json!({
            "seed": self.seed, "nodes": self.nodes, "strikes": strikes, "orders": self.orders, "ready_ms": self.ready_ms,
            "operations": {"done": done, "refused": refused, "refused_for_now": later, "unknown": unknown},
            "notes": self.notes, "violations": violations, "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

//! Logs when the node becomes ready and when it stops being ready: one event per check that changes, and gauges.
//!
//! `report` defines the checks ([`Reporter::readiness`]). A check that is added there is also reported here, by `/readyz` and
//! by `cluster status`. An event is logged when a check changes, not while it fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::wire::cluster::Check;
use ordergrid_domain::GroupId;
use tokio::time::Instant;

use crate::context::NodeContext;
use crate::operators::report::Reporter;
use crate::telemetry::metrics;

/// Evaluates the checks every `pause` until dropped. A starting node has `grace` to become ready.
pub(crate) async fn watch(node: Arc<NodeContext>, reporter: Arc<Reporter>, pause: Duration, grace: Duration) {
    let grace = Instant::now() + grace;
    metrics::refusals_begin();
    let mut told = Told::new(node.id);
    loop {
        let checks = reporter.readiness(&node);
        told.gauges(&checks, &reporter.led(&node));
        // A starting node has not lost readiness, and a stopping node has already reported it.
        if Instant::now() >= grace || checks.iter().all(|check| check.ok) {
            told.begun = true;
        }
        if told.begun && !node.draining() {
            told.lines(&checks);
        }
        tokio::time::sleep(pause).await;
    }
}

/// The last reported state, so that only changes are reported.
struct Told {
    node: u64,
    ready: Option<bool>,
    /// Result of each check, by name.
    checks: BTreeMap<String, bool>,
    /// By group: whether it has a working leader, and whether this node leads it.
    groups: BTreeMap<GroupId, (bool, bool)>,
    /// Logged result of each check, by name.
    lines: BTreeMap<String, bool>,
    /// Whether the node was ready once, or its grace period is over.
    begun: bool,
}

impl Told {
    fn new(node: u64) -> Self {
        let (checks, groups, lines) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { node, ready: None, checks, groups, lines, begun: false }
    }

    fn gauges(&mut self, checks: &[Check], groups: &[(GroupId, bool, bool)]) {
        let ready = checks.iter().all(|check| check.ok);
        if self.ready.replace(ready) != Some(ready) {
            metrics::ready(self.node, ready);
        }
        for Check { name, ok, .. } in checks {
            if self.checks.get(name) != Some(ok) {
                metrics::check(self.node, name, *ok);
                self.checks.insert(name.clone(), *ok);
            }
        }
        for (group, led, here) in groups {
            if self.groups.insert(*group, (*led, *here)) != Some((*led, *here)) {
                metrics::led(self.node, *group, *led, *here);
            }
        }
    }

    /// Logs the checks that have changed.
    fn lines(&mut self, checks: &[Check]) {
        for Check { name, ok, detail } in checks {
            let before = self.lines.insert(name.clone(), *ok).unwrap_or(true);
            match (before, ok) {
                (true, false) => tracing::warn!(node = self.node, check = name, error = detail, "readiness check failed"),
                (false, true) => tracing::info!(node = self.node, check = name, "readiness check passes again"),
                _ => {}
            }
        }
    }
}

//! Tells when the node turns ready and when it no longer is: a line for each check that changes, and gauges.
//!
//! What is checked is `report`'s ([`Reporter::readiness`]); a check that is added there is told here, by `/readyz` and by
//! `cluster status` alike. A line is written when a check changes, not as long as it fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::wire::cluster::Check;
use ordergrid_domain::GroupId;
use tokio::time::Instant;

use crate::context::NodeContext;
use crate::metrics;
use crate::report::Reporter;

/// Looks at the node every `pause` until dropped. A node that starts has `grace` to become ready.
pub(crate) async fn watch(node: Arc<NodeContext>, reporter: Arc<Reporter>, pause: Duration, grace: Duration) {
    let grace = Instant::now() + grace;
    metrics::refusals_begin();
    let mut told = Told::new(node.id);
    loop {
        let checks = reporter.readiness(&node);
        told.gauges(&checks, &reporter.led(&node));
        // A node that starts has not turned unready, and one that is being stopped has said so.
        if Instant::now() >= grace || checks.iter().all(|check| check.ok) {
            told.begun = true;
        }
        if told.begun && !node.draining() {
            told.lines(&checks);
        }
        tokio::time::sleep(pause).await;
    }
}

/// What was told last, so that only changes are told.
struct Told {
    node: u64,
    ready: Option<bool>,
    /// By the name of the check.
    checks: BTreeMap<String, bool>,
    /// By group: it is led by a leader that works, and by this node.
    groups: BTreeMap<GroupId, (bool, bool)>,
    /// By the name of the check, in lines.
    lines: BTreeMap<String, bool>,
    /// The node was ready once, or has had its time.
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

    /// Says what changed.
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

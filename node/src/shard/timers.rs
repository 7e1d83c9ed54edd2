//! The leader proposes a tick when something is due; only a tick expires anything (placing.md, rule 22).

use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::{Command, Outcome};

use super::lead::Lead;

/// Shortest pause between two ticks that leave nothing due: what a deadline may be late by on an idle shard.
const PAUSE: Duration = Duration::from_millis(100);

/// Ticks until dropped.
pub(crate) async fn tick(lead: Arc<Lead>) {
    loop {
        let now = lead.node.clock.now();
        if lead.replica.due().is_some_and(|due| due <= now) {
            let ticked = lead.batcher.ask(Command::Tick).await;
            if matches!(ticked, Ok(landed) if matches!(landed.outcome, Outcome::Ticked { more: true, .. })) {
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

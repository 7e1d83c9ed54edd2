//! The leader proposes a tick when something is due; only a tick expires anything (protocol.md, rule 22). It proposes none
//! while an operator is to say which clock is right (rule 21), and one from time to time without any need.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::{Command, Outcome, Timestamp};

use super::lead::Lead;

/// Shortest pause between two ticks that leave nothing due: what a deadline may be late by on an idle shard.
const PAUSE: Duration = Duration::from_millis(100);

/// Log time of a shard that nobody asks anything is never older than this: a start compares the wall clock with it.
const KEPT_CURRENT: Duration = Duration::from_secs(60 * 60);

/// Ticks until dropped.
pub(crate) async fn tick(lead: Arc<Lead>) {
    loop {
        let now = lead.node.time.now();
        let due = lead.replica.due().is_some_and(|due| due <= now);
        let log_time = lead.replica.log_time();
        let old = log_time > Timestamp::default() && now.since(log_time) > KEPT_CURRENT;
        if lead.node.time.may_tick() && (due || old) {
            let ticked = lead.batcher.ask(Command::Tick).await;
            if matches!(ticked, Ok(landed) if matches!(landed.outcome, Outcome::Ticked { more: true, .. })) {
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

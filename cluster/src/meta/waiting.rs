//! What the log says while a founding waits for other nodes.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::NodeId;

/// A founding that waits logs the missing nodes after this time, and again after each `SILENCE`.
const FIRST_WORD: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(30);

/// Logs from time to time which nodes a founding waits for.
#[derive(Default)]
pub(super) struct Waiting {
    due: Option<Instant>,
}

impl Waiting {
    /// Logs it if it is time to.
    pub(super) fn tell(&mut self, node: NodeId, why: &str) {
        let now = Instant::now();
        // Nodes that are started together answer within this time.
        if now < *self.due.get_or_insert(now + FIRST_WORD) {
            return;
        }
        self.due = Some(now + SILENCE);
        tracing::warn!(node, error = why, "waiting for the other nodes of the cluster");
    }
}

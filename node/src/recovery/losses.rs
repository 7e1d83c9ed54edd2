//! Lost log entries: how a start that they forbid names them, and losses that an operator has accepted: written down while the node is stopped, and told to the shards that have lost entries.
//!
//! A shard cannot know itself that it has lost entries: what is left of its log looks whole. Its streams would go on with numbers that
//! were used before, and their messages would be taken for old ones. So it is written down which shards went on without what they
//! had, and once such a shard is led its streams to all others are restarted: they are stopped then, and told to be, until an
//! operator has them started anew (`streams`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_domain::GroupId;
use ordergrid_storage::{Engine, NodeRecords, RecordError};

use crate::front::grid::NodeGrid;
use crate::front::grid::requests::StepStream;
use crate::operators::streams::Step;
use crate::recovery::aside::named;

/// Log entries of a shard that are lost, and of which no other replica is known to have a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntries {
    /// The shard.
    pub shard: GroupId,
    /// The last entry that is left, in the log or in the state.
    pub found: Option<u64>,
    /// The last entry that there was.
    pub vouched: u64,
}

/// All that a start has found to be lost, in words.
pub(crate) struct InWords<'a>(pub(crate) &'a [LostEntries]);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, LostEntries { shard, found, vouched }) in self.0.iter().enumerate() {
            let (comma, from) = (if nth == 0 { "" } else { ", " }, found.map_or(0, |found| found + 1));
            write!(f, "{comma}{} {from} to {vouched}", named(*shard))?;
        }
        Ok(())
    }
}

/// Pause before a shard is told again that was not reached.
const AGAIN: Duration = Duration::from_millis(200);

/// The record of the log database that says that a shard goes on without entries that it had.
#[must_use]
pub fn loss_record(shard: GroupId) -> String {
    format!("loss-accepted/{shard}")
}

/// Writes down that a shard goes on without entries that it had.
///
/// # Errors
/// If the disk fails.
pub(crate) async fn note(log: &Arc<dyn Engine>, group: GroupId) -> Result<(), RecordError> {
    NodeRecords::new(Arc::clone(log)).put(&loss_record(group), &[]).await
}

/// Stops the streams of the shards that are noted, each once it is led, and forgets the notes.
pub(crate) async fn tell(grid: NodeGrid, log: Arc<dyn Engine>) {
    let records = NodeRecords::new(log);
    for shard in grid.node.shards() {
        match records.get(&loss_record(shard)).await {
            Ok(Some(_)) => {}
            Ok(None) => continue,
            Err(error) => return grid.node.fail(format!("what was accepted as lost cannot be read: {error}")),
        }
        let others: Vec<_> = grid.node.shards().into_iter().filter(|other| *other != shard).map(|other| (other, 0)).collect();
        if !others.is_empty() {
            while let Err(failure) = grid.route(StepStream(shard, Step::Restart(others.clone()))).await {
                tracing::info!(%shard, error = ?failure, "accepted loss not recorded by the shard yet");
                tokio::time::sleep(AGAIN).await;
            }
            tracing::warn!(%shard, effect = "its streams to all other shards are stopped", "accepted loss of entries recorded");
        }
        if let Err(error) = records.remove(&loss_record(shard)).await {
            return grid.node.fail(format!("what was accepted as lost cannot be forgotten: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_that_has_lost_entries_is_named_with_them() {
        let lost = |shard, found, vouched| LostEntries { shard: GroupId(shard), found, vouched };
        let lost = [lost(0, None, 7), lost(2, Some(170), 175)];
        assert_eq!(InWords(&lost).to_string(), "the meta group 0 to 7, shard 2 171 to 175");
    }
}

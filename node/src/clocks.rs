//! Whether the nodes' clocks agree: holds are valid for seconds, so a clock that is far off makes a node unready
//! (placing.md, rule 21).

use std::sync::Arc;
use std::time::Duration;

use crate::context::NodeContext;
use crate::peers::{ShardAnswer, ShardCall};
use crate::report::Reporter;

/// Pause between two rounds of asking.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks every peer for its time, again and again, until dropped.
pub(crate) async fn compare(node: Arc<NodeContext>, reporter: Arc<Reporter>) {
    loop {
        let mut worst = None;
        for peer in reporter.members.iter().map(|member| member.id).filter(|peer| *peer != node.id) {
            if let Some(skew) = skew(&node, peer).await {
                worst = worst.max(Some((skew, peer)));
            }
        }
        let worst = worst.map(|(skew, peer)| (peer, skew));
        if let Some((peer, skew)) = worst.filter(|(_, skew)| *skew > reporter.skew_limit) {
            tracing::error!(node.id = node.id, peer, skew_ms = skew.as_millis(), "the clocks of two nodes disagree");
        }
        *reporter.skew.write() = worst;
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far a peer's clock is off at the least, whatever the answer took.
async fn skew(node: &NodeContext, peer: u64) -> Option<Duration> {
    let before = node.clock.now();
    let Some(ShardAnswer::Clock(theirs)) = node.call(peer, ShardCall::Clock).await else { return None };
    let after = node.clock.now();
    Some(before.since(theirs).max(theirs.since(after)))
}

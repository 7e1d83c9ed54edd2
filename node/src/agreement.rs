//! Whether the nodes go on saying the same where they must: a peer that did not answer while this node started may have
//! been started otherwise.

use std::sync::Arc;
use std::time::Duration;

use ordergrid_cluster::{Agreement, Mesh, asked};

use crate::context::NodeContext;
use crate::operators::report::Reporter;
use crate::telemetry::metrics;

/// Pause between two rounds of asking.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What peers say otherwise, in words, by peer.
pub(crate) type Otherwise = std::collections::BTreeMap<u64, String>;

/// Asks every peer again and again, until dropped.
pub(crate) async fn compare(node: Arc<NodeContext>, mesh: Mesh, reporter: Arc<Reporter>, says: Agreement) {
    let peers: Vec<u64> = reporter.members.iter().map(|member| member.id).filter(|peer| *peer != node.id).collect();
    loop {
        for peer in &peers {
            // What was heard last stays for as long as the peer is silent.
            let Some(theirs) = asked(&mesh, *peer, PATIENCE).await else { continue };
            let told = says.refuses(&theirs).map(|differing| differing.told("here", &format!("on node {peer}")));
            take(&reporter, *peer, told);
        }
        metrics::settings_differ(reporter.otherwise.read().len());
        tokio::time::sleep(PAUSE).await;
    }
}

fn take(reporter: &Reporter, peer: u64, told: Option<String>) {
    let mut otherwise = reporter.otherwise.write();
    if otherwise.get(&peer) == told.as_ref() {
        return;
    }
    match told {
        Some(told) => {
            tracing::error!(
                peer,
                error = told,
                advice = "stop all nodes, make their configurations agree, and start them again",
                "configuration differs from a peer"
            );
            otherwise.insert(peer, told);
        }
        None => drop(otherwise.remove(&peer)),
    }
}

/// Whether this node is the one that was started otherwise: more than half of its peers say so.
pub(crate) fn is_odd_one(otherwise: &Otherwise, members: usize) -> bool {
    2 * otherwise.len() > members.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_most_peers_contradict_is_odd() {
        // members, peers that say otherwise, odd
        for (members, differing, odd) in
            [(1, 0, false), (3, 0, false), (3, 1, false), (3, 2, true), (5, 2, false), (5, 3, true)]
        {
            let otherwise = (0..differing).map(|peer| (peer, String::new())).collect();
            assert_eq!(is_odd_one(&otherwise, members), odd, "{differing} of {members}");
        }
    }
}

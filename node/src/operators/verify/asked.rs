//! What the proof asks of other nodes.

use std::time::Duration;

use ordergrid_api::Failure;
use ordergrid_cluster::NodeId;
use ordergrid_domain::GroupId;
use ordergrid_domain::audit::{Audit, Moment};

use super::in_words;
use super::marks::HashAt;
use super::stored::OnDisk;
use crate::front::grid::NodeGrid;
use crate::front::grid::request::RequestError;
use crate::front::grid::requests::{AuditCut, HashMark, MarkShard, ReadDisk, ReportNode, TakeCut};
use crate::operators::report::NodeReport;

/// Longest wait for another node to have read all that one of its replicas has stored.
const READ_ALL: Duration = Duration::from_secs(600);

impl NodeGrid {
    /// Puts an audit mark into a shard's log: the index at which every replica hashes its state.
    pub(crate) async fn mark(&self, shard: GroupId) -> Result<u64, Failure> {
        self.route(MarkShard(shard)).await
    }

    /// What another node's replica was at an audit mark.
    pub(crate) async fn hash_at(&self, node: NodeId, shard: GroupId, index: u64) -> Result<HashAt, String> {
        self.call(node, &HashMark(shard, index), self.limits.request).await.map_err(not_said)
    }

    /// Another node's report.
    pub(crate) async fn report_of(&self, node: NodeId) -> Option<NodeReport> {
        self.call(node, &ReportNode(), self.limits.report).await.ok()
    }

    /// What another node's disk has of a group.
    pub(crate) async fn on_disk_of(&self, node: NodeId, group: GroupId) -> OnDisk {
        // Reading all of a replica takes longer than a request may.
        self.call(node, &ReadDisk(group), READ_ALL).await.unwrap_or(OnDisk::Unjudged)
    }

    /// Has the rows of a shard held on another node as they are now: under which number, and as of which moment.
    pub(crate) async fn cut_on(&self, node: NodeId, shard: GroupId) -> Result<(u64, Moment), String> {
        let (number, moment) = self.call(node, &TakeCut(shard), super::CUT_WITHIN).await.map_err(not_said)?;
        Ok((number, *moment))
    }

    /// What the rows come to that another node holds.
    pub(crate) async fn audit_on(&self, node: NodeId, shard: GroupId, cut: u64, within: Duration) -> Result<Audit, String> {
        Ok(*self.call(node, &AuditCut(shard, cut), within).await.map_err(not_said)?)
    }
}

/// Why a node that was asked about its own replica has said nothing. Whether it leads the shard is not the point.
fn not_said(error: RequestError) -> String {
    match error {
        RequestError::Failed(failure) => in_words(Some(failure)),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_api::Refusal;

    use super::*;

    #[test]
    fn a_node_that_is_away_is_not_called_the_one_that_leads() {
        for (error, told) in [
            (RequestError::NotSent, "the node cannot be reached"),
            (RequestError::Lost, "no answer came"),
            (RequestError::Failed(Failure::refused(Refusal::NotReady)), "this node is starting or stopping"),
        ] {
            assert_eq!(not_said(error), told);
        }
    }
}

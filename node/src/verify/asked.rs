//! What the proof asks of other nodes, and what this node answers them.

use std::time::Duration;

use ordergrid_api::{Failure, Refusal};
use ordergrid_cluster::NodeId;
use ordergrid_domain::GroupId;
use ordergrid_domain::audit::{Audit, Moment};

use super::cuts::Cut;
use super::marks::HashAt;
use super::stored::{OnDisk, on_disk};
use crate::grid::{Ask, NodeGrid, SERVICE, Said};
use crate::peers::{decode, encode};
use crate::repair;
use crate::report::NodeReport;

/// Longest wait for another node to have read all that one of its replicas has stored.
const READ_ALL: Duration = Duration::from_secs(600);

impl NodeGrid {
    /// Answers what another node asks for a proof or a report, of whatever replica is here.
    pub(crate) async fn proves(&self, ask: &Ask) -> Option<Result<Said, Failure>> {
        let shard = match ask {
            Ask::Report => return Some(Ok(Said::Report(self.reporter.report(&self.node)))),
            Ask::OnDisk(group) => return Some(Ok(Said::OnDisk(on_disk(self, *group).await))),
            Ask::HashAt(shard, _) | Ask::Cut(shard) | Ask::Audit(shard, _) | Ask::Preview(shard, _) => *shard,
            _ => return None,
        };
        let Some(host) = self.node.host(shard) else { return Some(Ok(Said::Elsewhere(None))) };
        Some(match ask {
            Ask::HashAt(_, index) => Ok(Said::HashAt(HashAt::of(&host.replica(), *index, self.limits.request / 2).await)),
            Ask::Cut(_) => Cut::take(host).await.map(|cut| {
                let moment = Box::new(cut.moment.clone());
                Said::Cut(self.cuts.hold(cut), moment)
            }),
            Ask::Audit(_, number) => match self.cuts.release(shard, *number) {
                Some(cut) => cut.audit().await.map(|audit| Said::Audit(Box::new(audit))),
                None => Err(Failure::refused(Refusal::NotReady)),
            },
            Ask::Preview(_, change) => repair::preview(host, *change).await.map(Said::Preview),
            _ => unreachable!("what asks for no proof was left out above"),
        })
    }

    /// Puts an audit mark into a shard's log: the index at which every replica hashes its state.
    pub(crate) async fn mark(&self, shard: GroupId) -> Result<u64, Failure> {
        match self.route(Ask::Mark(shard)).await? {
            Said::Mark(index) => Ok(index),
            _ => Err(Failure::refused(Refusal::NoLeader)),
        }
    }

    /// What another node's replica was at an audit mark.
    pub(crate) async fn hash_at(&self, node: NodeId, shard: GroupId, index: u64) -> Result<HashAt, Failure> {
        match self.forward(node, &Ask::HashAt(shard, index)).await? {
            Said::HashAt(hash) => Ok(hash),
            _ => Err(Failure::refused(Refusal::NotReady)),
        }
    }

    /// Another node's report.
    pub(crate) async fn report_of(&self, node: NodeId) -> Option<NodeReport> {
        let asked = tokio::time::timeout(self.limits.report, self.forward(node, &Ask::Report)).await;
        match asked {
            Ok(Ok(Said::Report(report))) => Some(report),
            _ => None,
        }
    }

    /// What another node's disk has of a group.
    pub(crate) async fn on_disk_of(&self, node: NodeId, group: GroupId) -> OnDisk {
        // Reading all of a replica takes longer than a request may.
        let answered = self.mesh.call(node, SERVICE, encode(&Ask::OnDisk(group)), READ_ALL).await;
        match answered.ok().and_then(|body| decode::<Result<Said, Failure>>(&body)) {
            Some(Ok(Said::OnDisk(found))) => found,
            _ => OnDisk::Unjudged,
        }
    }

    /// Has the rows of a shard held on another node as they are now: under which number, and as of which moment.
    pub(crate) async fn cut_on(&self, node: NodeId, shard: GroupId) -> Result<(u64, Moment), Failure> {
        match self.forward_within(node, &Ask::Cut(shard), super::CUT_WITHIN).await? {
            Said::Cut(number, moment) => Ok((number, *moment)),
            _ => Err(Failure::refused(Refusal::NotReady)),
        }
    }

    /// What the rows come to that another node holds.
    pub(crate) async fn audit_on(&self, node: NodeId, shard: GroupId, cut: u64, within: Duration) -> Result<Audit, Failure> {
        match self.forward_within(node, &Ask::Audit(shard, cut), within).await? {
            Said::Audit(audit) => Ok(*audit),
            _ => Err(Failure::refused(Refusal::NotReady)),
        }
    }
}

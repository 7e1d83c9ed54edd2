//! How a cluster comes to be: every named node starts with an empty disk, they agree on an identity, and only when each
//! of them has it on disk does any group start.
//!
//! | This disk | What the peers say | What happens |
//! |---|---|---|
//! | empty | not all answered | wait |
//! | empty | somebody is established | refuse: this disk was lost, and its replicas have voted |
//! | empty | somebody is bootstrapping | take over that identity |
//! | empty | all empty | the lowest node draws an identity, the others wait |
//! | bootstrapping | somebody is established | established |
//! | bootstrapping | all bootstrapping or more | established |
//! | bootstrapping | otherwise | wait |
//! | established | not asked | go on |
//!
//! A node becomes established only when all have the identity on disk, so "empty" beside "established" always means a
//! lost disk. A crash anywhere leaves one of these rows.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;

use super::spec::{ClusterSpec, SpecError};
use crate::ids::{ClusterId, NodeId};
use crate::mesh::Mesh;

/// Longest wait for a peer's answer, and the pause before asking again.
const PROBE: Duration = Duration::from_millis(1_000);
const PAUSE: Duration = Duration::from_millis(50);

/// Where a node keeps who it is: one small record beside its databases.
pub trait IdentityStore: Send + Sync {
    /// What was saved last, or `None` on an empty disk.
    fn load(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;

    /// Replaces the record; durable on return.
    fn save(&self, record: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

/// Why a node does not take part.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The description contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The description has no such node.
    #[error("node {0} is not among the nodes of the cluster")]
    NotNamed(NodeId),
    /// The disk is another node's.
    #[error("this disk belongs to node {on_disk}, not to node {configured}")]
    OtherNode {
        /// Whose disk it is.
        on_disk: NodeId,
        /// Who this should be.
        configured: NodeId,
    },
    /// The disk is another cluster's.
    #[error("this disk belongs to the cluster {on_disk}, not to {configured}")]
    OtherName {
        /// Whose disk it is.
        on_disk: String,
        /// What the configuration says.
        configured: String,
    },
    /// This disk is empty although the cluster exists: it was lost or replaced, and replicas must never return empty.
    #[error(
        "this disk is empty, but node {peer} says that cluster {cluster} is established: a node that has lost its disk \
         must not come back under its old id"
    )]
    DiskLost {
        /// Who says so.
        peer: NodeId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// A peer was given another description of the cluster.
    #[error("node {peer} was started with another description of the cluster")]
    OtherSpec {
        /// Which peer.
        peer: NodeId,
    },
    /// Named disks belong to different clusters.
    #[error("node {peer} belongs to cluster {theirs}, others to {ours}")]
    TwoClusters {
        /// Which peer.
        peer: NodeId,
        /// Its cluster.
        theirs: ClusterId,
        /// The other one.
        ours: ClusterId,
    },
    /// The record of this disk cannot be read.
    #[error("the identity on this disk cannot be read: {0}")]
    Record(String),
    /// The disk failed.
    #[error("cannot keep the identity: {0}")]
    Disk(#[from] io::Error),
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum Stage {
    Empty,
    Bootstrapping(ClusterId),
    Established(ClusterId),
}

impl Stage {
    fn cluster(self) -> Option<ClusterId> {
        match self {
            Self::Empty => None,
            Self::Bootstrapping(cluster) | Self::Established(cluster) => Some(cluster),
        }
    }
}

#[derive(Encode, Decode)]
enum Record {
    V1 { node: NodeId, name: String, stage: Stage },
}

/// What a node tells those who probe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Report {
    stage: Stage,
    fingerprint: u64,
}

/// What to do next.
#[derive(Debug)]
enum Step {
    Wait,
    Draw,
    Adopt(ClusterId),
    Establish(ClusterId),
    Refuse(BootstrapError),
}

/// Brings a node to the point where its groups may start.
pub struct Bootstrapper {
    /// The cluster, the same on every node.
    pub spec: ClusterSpec,
    /// This node.
    pub node: NodeId,
    /// How to reach the others; listens already.
    pub mesh: Mesh,
    /// Where the identity is kept.
    pub store: Arc<dyn IdentityStore>,
    /// Drawn at random; becomes the cluster's identity if this node is the one to draw it.
    pub fresh: ClusterId,
}

impl Bootstrapper {
    /// Waits until every named node has the same identity on disk and returns it. The mesh knows its peers and its
    /// cluster then. On a disk that has been through this, it returns at once. Cancelled, it can be begun again.
    ///
    /// # Errors
    /// [`BootstrapError`]: the node must not start.
    pub async fn run(self) -> Result<ClusterId, BootstrapError> {
        self.spec.validate()?;
        if self.spec.node(self.node).is_none() {
            return Err(BootstrapError::NotNamed(self.node));
        }
        let stage = watch::Sender::new(self.load().await?);
        self.mesh.set_peers(self.spec.nodes.iter().map(|node| (node.id, node.mesh_addr.clone())));
        self.answer_probes(stage.subscribe());
        loop {
            let current = *stage.borrow();
            if let Stage::Established(cluster) = current {
                self.mesh.set_cluster(cluster);
                return Ok(cluster);
            }
            let reports = self.probe().await;
            let next = match decide(current, self.node, self.spec.fingerprint(), &reports) {
                Step::Wait => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Step::Refuse(refusal) => return Err(refusal),
                Step::Draw => Stage::Bootstrapping(self.fresh),
                Step::Adopt(cluster) => Stage::Bootstrapping(cluster),
                Step::Establish(cluster) => Stage::Established(cluster),
            };
            self.save(next).await?;
            // Told to others only once it is on disk.
            stage.send_replace(next);
            tracing::info!(node = self.node, ?next, "bootstrapping");
        }
    }

    async fn load(&self) -> Result<Stage, BootstrapError> {
        let Some(record) = self.store.load().await? else {
            return Ok(Stage::Empty);
        };
        let Record::V1 { node, name, stage } = super::decode(&record).map_err(BootstrapError::Record)?;
        if node != self.node {
            return Err(BootstrapError::OtherNode { on_disk: node, configured: self.node });
        }
        if name != self.spec.name {
            return Err(BootstrapError::OtherName { on_disk: name, configured: self.spec.name.clone() });
        }
        Ok(stage)
    }

    async fn save(&self, stage: Stage) -> Result<(), BootstrapError> {
        let record = Record::V1 { node: self.node, name: self.spec.name.clone(), stage };
        Ok(self.store.save(super::encode(record)).await?)
    }

    fn answer_probes(&self, stage: watch::Receiver<Stage>) {
        let fingerprint = self.spec.fingerprint();
        self.mesh.serve_probe(Arc::new(move |_, _| {
            let report = Report { stage: *stage.borrow(), fingerprint };
            std::future::ready(super::encode(report)).boxed()
        }));
    }

    /// What each peer says; `None` if it does not answer.
    async fn probe(&self) -> BTreeMap<NodeId, Option<Report>> {
        let peers = self.spec.nodes.iter().map(|node| node.id).filter(|id| *id != self.node);
        let asked = peers.map(|peer| async move {
            let answer = self.mesh.probe(peer, &[], PROBE).await.ok();
            (peer, answer.and_then(|report| super::decode(&report).ok()))
        });
        join_all(asked).await.into_iter().collect()
    }
}

/// The table at the top of this file.
fn decide(mine: Stage, me: NodeId, fingerprint: u64, reports: &BTreeMap<NodeId, Option<Report>>) -> Step {
    let answered: Vec<(NodeId, Report)> =
        reports.iter().filter_map(|(peer, report)| report.map(|report| (*peer, report))).collect();
    let all_answered = answered.len() == reports.len();
    let established = answered.iter().find_map(|(peer, report)| match report.stage {
        Stage::Established(cluster) => Some((*peer, cluster)),
        _ => None,
    });
    if let (Stage::Empty, Some((peer, cluster))) = (mine, established) {
        return Step::Refuse(BootstrapError::DiskLost { peer, cluster });
    }
    if let Some((peer, _)) = answered.iter().find(|(_, report)| report.fingerprint != fingerprint) {
        return Step::Refuse(BootstrapError::OtherSpec { peer: *peer });
    }
    let mut known = mine.cluster();
    for (peer, report) in &answered {
        match (known, report.stage.cluster()) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Step::Refuse(BootstrapError::TwoClusters { peer: *peer, theirs, ours });
            }
            (None, theirs) => known = theirs,
            _ => {}
        }
    }
    match (mine, known) {
        (Stage::Empty, Some(cluster)) if all_answered => Step::Adopt(cluster),
        (Stage::Empty, None) if all_answered && reports.keys().all(|peer| me < *peer) => Step::Draw,
        (Stage::Bootstrapping(cluster), _) => {
            let all_have_it = all_answered && answered.iter().all(|(_, report)| report.stage != Stage::Empty);
            if established.is_some() || all_have_it { Step::Establish(cluster) } else { Step::Wait }
        }
        (Stage::Established(cluster), _) => Step::Establish(cluster),
        (Stage::Empty, _) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClusterId = ClusterId(1);
    const B: ClusterId = ClusterId(2);

    fn step(mine: Stage, me: NodeId, theirs: [Option<Stage>; 2]) -> String {
        let peers = (1..=3).filter(|node| *node != me);
        let reports =
            peers.zip(theirs).map(|(peer, stage)| (peer, stage.map(|stage| Report { stage, fingerprint: 7 }))).collect();
        match decide(mine, me, 7, &reports) {
            Step::Wait => "wait".into(),
            Step::Draw => "draw".into(),
            Step::Adopt(cluster) => format!("adopt {}", cluster.0),
            Step::Establish(cluster) => format!("establish {}", cluster.0),
            Step::Refuse(BootstrapError::DiskLost { peer, .. }) => format!("lost, says {peer}"),
            Step::Refuse(BootstrapError::TwoClusters { peer, .. }) => format!("two clusters, {peer}"),
            Step::Refuse(other) => other.to_string(),
        }
    }

    #[test]
    fn the_rules_of_bootstrapping() {
        use Stage::{Bootstrapping as Boot, Empty, Established as Est};
        let (none, empty) = (None, Some(Empty));
        let (boot_a, boot_b, est_a) = (Some(Boot(A)), Some(Boot(B)), Some(Est(A)));
        #[rustfmt::skip]
        let cases = [
            // mine    me  the others           what happens
            (Empty,    1, [none,   none  ], "wait"),
            (Empty,    1, [empty,  none  ], "wait"),
            (Empty,    1, [empty,  empty ], "draw"),
            (Empty,    2, [empty,  empty ], "wait"),
            (Empty,    3, [empty,  empty ], "wait"),
            (Empty,    3, [boot_a, none  ], "wait"),
            (Empty,    3, [boot_a, empty ], "adopt 1"),
            (Empty,    1, [boot_a, empty ], "adopt 1"),
            (Empty,    3, [boot_a, boot_b], "two clusters, 2"),
            (Empty,    3, [est_a,  none  ], "lost, says 1"),
            (Empty,    3, [boot_a, est_a ], "lost, says 2"),
            (Boot(A),  1, [none,   none  ], "wait"),
            (Boot(A),  1, [boot_a, none  ], "wait"),
            (Boot(A),  1, [boot_a, empty ], "wait"),
            (Boot(A),  1, [boot_a, boot_a], "establish 1"),
            (Boot(A),  1, [est_a,  none  ], "establish 1"),
            (Boot(A),  1, [boot_b, none  ], "two clusters, 2"),
            (Est(A),   1, [none,   none  ], "establish 1"),
        ];
        for (mine, me, others, expected) in cases {
            assert_eq!(step(mine, me, others), expected, "node {me}, {mine:?} among {others:?}");
        }
    }

    #[test]
    fn a_node_alone_founds_at_once() {
        let alone = BTreeMap::new();
        assert!(matches!(decide(Stage::Empty, 5, 7, &alone), Step::Draw));
        assert!(matches!(decide(Stage::Bootstrapping(A), 5, 7, &alone), Step::Establish(A)));
    }

    #[test]
    fn another_description_is_refused() {
        let reports = BTreeMap::from([(2, Some(Report { stage: Stage::Empty, fingerprint: 8 }))]);
        let refused = decide(Stage::Empty, 1, 7, &reports);
        assert!(matches!(refused, Step::Refuse(BootstrapError::OtherSpec { peer: 2 })), "{refused:?}");
    }

    #[test]
    fn records_and_reports_have_the_bytes_of_version_1() {
        let record = Record::V1 { node: 3, name: "shop".into(), stage: Stage::Bootstrapping(ClusterId(5)) };
        assert_eq!(&*super::super::encode(record), b"\x00\x03\x04shop\x01\x05");
        let report = Report { stage: Stage::Established(ClusterId(5)), fingerprint: 9 };
        assert_eq!(&*super::super::encode(report), b"\x02\x05\x09");
    }
}

//! How a cluster is founded: every named node starts with an empty disk, the nodes agree on an identity, and groups start only
//! when every node has the identity on disk.
//!
//! | This disk | What the peers say | What happens |
//! |---|---|---|
//! | empty | not all answered | wait |
//! | empty | somebody is established | refuse: this disk was lost, and its replicas have voted |
//! | forgotten | somebody is established | established |
//! | forgotten | otherwise | as empty |
//! | empty | somebody is bootstrapping | take over that identity |
//! | empty | all empty | the lowest node draws an identity, the others wait |
//! | bootstrapping | somebody is established | established |
//! | bootstrapping | all bootstrapping or more | established |
//! | bootstrapping | otherwise | wait |
//! | established | the same settings, or nothing | go on |
//!
//! A node becomes established only when all nodes have the identity on disk, so "empty" next to "established" always means a
//! lost disk. A crash at any moment leaves one of these rows. A disk is *forgotten* if its log database could not be read, was
//! put aside, and was created anew. Such a disk is known to have been one of the cluster's, and its replicas know that they
//! have made promises (see `recall`).
//!
//! Every disk also stores the description that the cluster was founded with, because the description determines where data
//! lies. An established node refuses a configuration that describes another cluster, and one that contradicts a peer that
//! answers (see `agreement`). Disks of earlier versions lack the description. It is then read from the meta group's rows on the
//! same disk, or, if these are only in the log, from the meta group once it runs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;

use super::agreement::{Agreement, Differences};
use super::spec::{ClusterSpec, SpecError};
use super::waiting::Waiting;
use crate::ids::{ClusterId, NodeId};
use crate::mesh::Mesh;

/// Longest wait for a peer's answer, and the pause before the next probe.
const PROBE: Duration = Duration::from_millis(1_000);
const PAUSE: Duration = Duration::from_millis(50);
/// Longest time for which a node that needs no answer waits for one before it starts.
const GREETING: Duration = Duration::from_millis(300);

/// Body of a probe that requests a [`FullReport`]. Earlier versions ignore the body and answer with a [`Report`].
pub(super) const FULL: &[u8] = &[2];

/// Stores a node's identity: one small record next to its databases.
pub trait IdentityStore: Send + Sync {
    /// The record that was saved last; `None` on an empty disk.
    fn load(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;

    /// Replaces the record. It is durable on return.
    fn save(&self, record: Bytes) -> BoxFuture<'_, io::Result<()>>;

    /// The identity and the founding description of the cluster, from the meta group's last checkpoint on this disk; `None` if
    /// there is none. Read only if the record is lost, or of a version without the description.
    fn founding(&self) -> BoxFuture<'_, io::Result<Option<(ClusterId, ClusterSpec)>>>;

    /// Whether there was a record that was lost with the log database.
    fn forgotten(&self) -> BoxFuture<'_, io::Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }
}

/// Why a node must not start.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The description contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The description does not name this node.
    #[error("node {0} is not among the nodes of the cluster")]
    NotNamed(NodeId),
    /// The disk belongs to another node.
    #[error("this disk belongs to node {on_disk}, not to node {configured}")]
    OtherNode {
        /// The node of the disk.
        on_disk: NodeId,
        /// The node of the configuration.
        configured: NodeId,
    },
    /// The disk belongs to another cluster.
    #[error("this disk belongs to the cluster {on_disk}, not to {configured}")]
    OtherName {
        /// The cluster of the disk.
        on_disk: String,
        /// The cluster of the configuration.
        configured: String,
    },
    /// The disk is empty although the cluster exists: it was lost or replaced. A replica must never return with an empty disk.
    #[error(
        "this disk is empty, but node {peer} says that cluster {cluster} is established: a node that has lost its disk \
         must not come back under its old id"
    )]
    DiskLost {
        /// The peer that reports the cluster.
        peer: NodeId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// A peer has another description of the cluster.
    #[error("node {peer} was started with another description of the cluster")]
    OtherSpec {
        /// The peer.
        peer: NodeId,
    },
    /// The cluster on this disk was founded with another description.
    #[error(
        "the configuration does not match the cluster on this disk: {}; {}",
        .0.told("in the configuration", "as founded"),
        .0.remedy()
    )]
    NotAsFounded(Differences),
    /// A peer has another value of a setting that must be the same on every node.
    #[error(
        "settings that must be the same on every node differ: {}; stop all nodes, make these settings agree, and start them again",
        .differences.told("here", &format!("on node {peer}"))
    )]
    OtherSettings {
        /// The peer.
        peer: NodeId,
        /// The settings that differ.
        differences: Differences,
    },
    /// The disks of the named nodes belong to different clusters.
    #[error("node {peer} belongs to cluster {theirs}, others to {ours}")]
    TwoClusters {
        /// The peer with the other cluster.
        peer: NodeId,
        /// Its cluster.
        theirs: ClusterId,
        /// The cluster of the other peers.
        ours: ClusterId,
    },
    /// The record of this disk cannot be read.
    #[error("the identity on this disk cannot be read: {0}")]
    Record(String),
    /// The disk failed.
    #[error("cannot store the identity: {0}")]
    Disk(#[from] io::Error),
}

/// A node's progress through bootstrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum FoundingStage {
    Empty,
    Bootstrapping(ClusterId),
    Established(ClusterId),
}

impl FoundingStage {
    fn cluster(self) -> Option<ClusterId> {
        match self {
            Self::Empty => None,
            Self::Bootstrapping(cluster) | Self::Established(cluster) => Some(cluster),
        }
    }
}

#[derive(Encode, Decode)]
enum Record {
    V1 {
        node: NodeId,
        name: String,
        stage: FoundingStage,
    },
    /// With the description that the cluster was founded with.
    V2 {
        node: NodeId,
        stage: FoundingStage,
        spec: ClusterSpec,
    },
}

/// The identity that a disk holds.
struct Loaded {
    stage: FoundingStage,
    /// The description that the cluster was founded with, if the disk holds it.
    founding: Option<ClusterSpec>,
    /// Whether the record contains the description.
    recorded: bool,
    /// Whether there was a record that was lost.
    forgotten: bool,
}

/// The cluster of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// Whether the founding description is known and matches the configuration. If not, nothing on this disk had the
    /// description: the meta group must be asked before a shard starts, see [`record_founding`].
    pub proven: bool,
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Report {
    stage: FoundingStage,
    fingerprint: u64,
}

/// Like [`Report`], with the settings that must be the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FullReport {
    stage: FoundingStage,
    fingerprint: u64,
    pub(super) says: Agreement,
}

impl FullReport {
    fn read(bytes: &[u8]) -> Option<Self> {
        let full = super::decode(bytes).ok();
        full.or_else(|| {
            let Report { stage, fingerprint } = super::decode(bytes).ok()?;
            Some(Self { stage, fingerprint, says: Agreement::default() })
        })
    }
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

/// Runs a node's bootstrap, up to the point where its groups may start.
pub struct Bootstrapper {
    /// The description of the cluster, the same on every node.
    pub spec: ClusterSpec,
    /// Whether names, zones and addresses of nodes may differ from those at the founding.
    pub moved: bool,
    /// Other settings that must be the same on every node.
    pub settings: Agreement,
    /// This node's id.
    pub node: NodeId,
    /// The mesh to the other nodes, which already listens.
    pub mesh: Mesh,
    /// The store of the identity.
    pub store: Arc<dyn IdentityStore>,
    /// A random identity. It becomes the cluster's if this node draws the identity.
    pub fresh: ClusterId,
    /// Is told in words what a founding waits for, each time that it has asked the other nodes.
    pub waits: Box<dyn Fn(String) + Send + Sync>,
}

impl Bootstrapper {
    /// Waits until every named node has the same identity on disk, and returns it. The mesh then has its peers and its cluster.
    /// On an established disk it returns at once, unless the configuration, or a peer that answers, contradicts the founding
    /// description. If it is cancelled, it can be run again.
    ///
    /// # Errors
    /// [`BootstrapError`]: the node must not start.
    pub async fn run(self) -> Result<Founded, BootstrapError> {
        self.spec.validate()?;
        if self.spec.node(self.node).is_none() {
            return Err(BootstrapError::NotNamed(self.node));
        }
        let loaded = self.load().await?;
        if let Some(founding) = &loaded.founding {
            as_founded(&self.spec, founding, self.moved)?;
        }
        let stage = watch::Sender::new(loaded.stage);
        self.mesh.set_peers(self.spec.nodes.iter().map(|node| (node.id, node.mesh_addr.clone())));
        self.answer_probes(stage.subscribe());
        if let FoundingStage::Established(cluster) = loaded.stage {
            return self.go_on(&loaded, cluster).await;
        }
        let cluster = self.found(&stage, loaded.forgotten).await?;
        self.mesh.set_cluster(cluster);
        Ok(Founded { cluster, proven: true })
    }

    /// The path of a node that was established before.
    async fn go_on(&self, loaded: &Loaded, cluster: ClusterId) -> Result<Founded, BootstrapError> {
        self.mesh.set_cluster(cluster);
        for (peer, report) in self.probe(GREETING).await {
            let differences = report.and_then(|report| self.says().refuses(&report.says));
            if let Some(differences) = differences {
                return Err(BootstrapError::OtherSettings { peer, differences });
            }
        }
        let proven = loaded.founding.is_some();
        if let Some(founding) = loaded.founding.as_ref().filter(|_| !loaded.recorded) {
            self.save(loaded.stage, founding).await?;
        }
        Ok(Founded { cluster, proven })
    }

    /// Runs the table at the top of this file, step by step.
    async fn found(&self, stage: &watch::Sender<FoundingStage>, forgotten: bool) -> Result<ClusterId, BootstrapError> {
        let says = self.says();
        let mut waiting = Waiting::default();
        loop {
            let current = *stage.borrow();
            if let FoundingStage::Established(cluster) = current {
                return Ok(cluster);
            }
            let reports = self.probe(PROBE).await;
            let next = match decide(current, forgotten, self.node, self.spec.fingerprint(), &says, &reports) {
                Step::Wait => {
                    let why = self.waits_for(&reports);
                    waiting.tell(self.node, &why);
                    (self.waits)(why);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Step::Refuse(refusal) => return Err(refusal),
                Step::Draw => FoundingStage::Bootstrapping(self.fresh),
                Step::Adopt(cluster) => FoundingStage::Bootstrapping(cluster),
                Step::Establish(cluster) => FoundingStage::Established(cluster),
            };
            self.save(next, &self.spec).await?;
            // Reported to peers only once it is on disk.
            stage.send_replace(next);
            tracing::info!(node = self.node, stage = ?next, "bootstrap stage reached");
        }
    }

    /// What a founding waits for.
    fn waits_for(&self, reports: &Reports) -> String {
        let silent = self.spec.nodes.iter().filter(|node| reports.get(&node.id).is_some_and(Option::is_none));
        let silent: Vec<_> = silent.map(|node| format!("{} at {}", node.name, node.mesh_addr)).collect();
        if silent.is_empty() {
            return "the other nodes are writing down the identity of the new cluster".to_owned();
        }
        format!("a cluster is founded once every node of it has been started, and no answer came from {}", silent.join(", "))
    }

    /// This node's values of the settings that must be the same on every node.
    fn says(&self) -> Agreement {
        self.spec.agreement(self.moved).with(self.settings.clone())
    }

    async fn load(&self) -> Result<Loaded, BootstrapError> {
        let Some(record) = self.store.load().await? else { return self.without_record().await };
        let (node, name, stage, spec) = match super::decode(&record).map_err(BootstrapError::Record)? {
            Record::V1 { node, name, stage } => (node, name, stage, None),
            Record::V2 { node, stage, spec } => (node, spec.name.clone(), stage, Some(spec)),
        };
        if node != self.node {
            return Err(BootstrapError::OtherNode { on_disk: node, configured: self.node });
        }
        if name != self.spec.name {
            return Err(BootstrapError::OtherName { on_disk: name, configured: self.spec.name.clone() });
        }
        let recorded = spec.is_some();
        // Nothing is founded until every node has the identity on disk. Until then a mistake in the description can be
        // corrected.
        let founding = match (stage, spec) {
            (FoundingStage::Established(_), None) => self.store.founding().await?.map(|(_, spec)| spec),
            (FoundingStage::Established(_), spec) => spec,
            _ => None,
        };
        Ok(Loaded { stage, founding, recorded, forgotten: false })
    }

    /// A disk without a record. If it has lost its record, the rows of the meta group know the cluster, if they were ever
    /// stored.
    async fn without_record(&self) -> Result<Loaded, BootstrapError> {
        let forgotten = self.store.forgotten().await?;
        let founding = if forgotten { self.store.founding().await? } else { None };
        Ok(match founding {
            Some((cluster, spec)) => {
                Loaded { stage: FoundingStage::Established(cluster), founding: Some(spec), recorded: false, forgotten }
            }
            None => Loaded { stage: FoundingStage::Empty, founding: None, recorded: false, forgotten },
        })
    }

    async fn save(&self, stage: FoundingStage, spec: &ClusterSpec) -> Result<(), BootstrapError> {
        let record = Record::V2 { node: self.node, stage, spec: spec.clone() };
        Ok(self.store.save(super::encode(record)).await?)
    }

    fn answer_probes(&self, stage: watch::Receiver<FoundingStage>) {
        let (fingerprint, says) = (self.spec.fingerprint(), self.says());
        self.mesh.serve_probe(Arc::new(move |_, asked| {
            let stage = *stage.borrow();
            let answer = if &*asked == FULL {
                super::encode(FullReport { stage, fingerprint, says: says.clone() })
            } else {
                super::encode(Report { stage, fingerprint })
            };
            std::future::ready(answer).boxed()
        }));
    }

    /// The report of each peer; `None` if the peer does not answer.
    async fn probe(&self, patience: Duration) -> Reports {
        let peers = self.spec.nodes.iter().map(|node| node.id).filter(|id| *id != self.node);
        let asked = peers.map(|peer| async move {
            let answer = self.mesh.probe(peer, FULL, patience).await;
            if let Err(error) = &answer {
                tracing::debug!(node = self.node, peer, %error, "peer does not answer a probe");
            }
            (peer, answer.ok().and_then(|report| FullReport::read(&report)))
        });
        join_all(asked).await.into_iter().collect()
    }
}

/// The report of each peer.
type Reports = BTreeMap<NodeId, Option<FullReport>>;

/// Refuses a configuration that describes another cluster than the one that was founded.
fn as_founded(configured: &ClusterSpec, founding: &ClusterSpec, moved: bool) -> Result<(), BootstrapError> {
    let refused = configured.agreement(moved).refuses(&founding.agreement(moved));
    refused.map_or(Ok(()), |differences| Err(BootstrapError::NotAsFounded(differences)))
}

/// Compares the meta group's founding description with the configuration, and stores it with the identity. For disks of earlier
/// versions whose founding is not [`proven`](Founded::proven).
///
/// # Errors
/// If they differ, or the disk fails: the node must not start.
pub async fn record_founding(
    store: &dyn IdentityStore,
    node: NodeId,
    cluster: ClusterId,
    configured: &ClusterSpec,
    founding: ClusterSpec,
    moved: bool,
) -> Result<(), BootstrapError> {
    as_founded(configured, &founding, moved)?;
    let record = Record::V2 { node, stage: FoundingStage::Established(cluster), spec: founding };
    Ok(store.save(super::encode(record)).await?)
}

/// Decides the next step: the table at the top of this file.
fn decide(mine: FoundingStage, forgotten: bool, me: NodeId, fingerprint: u64, says: &Agreement, reports: &Reports) -> Step {
    let answered: Vec<(NodeId, &FullReport)> =
        reports.iter().filter_map(|(peer, report)| Some((*peer, report.as_ref()?))).collect();
    let all_answered = answered.len() == reports.len();
    let established = answered.iter().find_map(|(peer, report)| match report.stage {
        FoundingStage::Established(cluster) => Some((*peer, cluster)),
        _ => None,
    });
    if let (FoundingStage::Empty, false, Some((peer, cluster))) = (mine, forgotten, established) {
        return Step::Refuse(BootstrapError::DiskLost { peer, cluster });
    }
    for (peer, report) in &answered {
        if let Some(differences) = says.refuses(&report.says) {
            return Step::Refuse(BootstrapError::OtherSettings { peer: *peer, differences });
        }
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
        (FoundingStage::Empty, Some(cluster)) if established.is_some() => Step::Establish(cluster),
        (FoundingStage::Empty, Some(cluster)) if all_answered => Step::Adopt(cluster),
        (FoundingStage::Empty, None) if all_answered && reports.keys().all(|peer| me < *peer) => Step::Draw,
        (FoundingStage::Bootstrapping(cluster), _) => {
            let all_have_it = all_answered && answered.iter().all(|(_, report)| report.stage != FoundingStage::Empty);
            if established.is_some() || all_have_it { Step::Establish(cluster) } else { Step::Wait }
        }
        (FoundingStage::Established(cluster), _) => Step::Establish(cluster),
        (FoundingStage::Empty, _) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClusterId = ClusterId(1);
    const B: ClusterId = ClusterId(2);

    fn report(stage: FoundingStage, fingerprint: u64) -> FullReport {
        FullReport { stage, fingerprint, says: Agreement::default() }
    }

    fn step(mine: FoundingStage, forgotten: bool, me: NodeId, theirs: [Option<FoundingStage>; 2]) -> String {
        let peers = (1..=3).filter(|node| *node != me);
        let reports = peers.zip(theirs).map(|(peer, stage)| (peer, stage.map(|stage| report(stage, 7)))).collect();
        match decide(mine, forgotten, me, 7, &Agreement::default(), &reports) {
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
        use FoundingStage::{Bootstrapping as Boot, Empty, Established as Est};
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
            assert_eq!(step(mine, false, me, others), expected, "node {me}, {mine:?} among {others:?}");
        }
        #[rustfmt::skip]
        let forgotten = [
            (3, [none,  none  ], "wait"),
            (3, [est_a, none  ], "establish 1"),
            (3, [boot_a, est_a], "establish 1"),
            (3, [est_a, boot_b], "two clusters, 2"),
            (3, [boot_a, empty], "adopt 1"),
        ];
        for (me, others, expected) in forgotten {
            assert_eq!(step(Empty, true, me, others), expected, "node {me}, which has forgotten, among {others:?}");
        }
    }

    #[test]
    fn a_node_alone_founds_at_once() {
        let alone = BTreeMap::new();
        let says = Agreement::default();
        assert!(matches!(decide(FoundingStage::Empty, false, 5, 7, &says, &alone), Step::Draw));
        assert!(matches!(decide(FoundingStage::Bootstrapping(A), false, 5, 7, &says, &alone), Step::Establish(A)));
    }

    #[test]
    fn another_description_is_refused_and_what_is_other_named() {
        let says = Agreement::default().and("bootstrap.shards", 4);
        let refused = |report| match decide(FoundingStage::Empty, false, 1, 7, &says, &BTreeMap::from([(2, Some(report))])) {
            Step::Refuse(refusal) => refusal.to_string(),
            step => format!("{step:?}"),
        };
        let other = FullReport { says: Agreement::default().and("bootstrap.shards", 5), ..report(FoundingStage::Empty, 8) };
        let named = refused(other);
        assert!(named.contains(": bootstrap.shards is 4 here and 5 on node 2; stop all nodes"), "{named}");
        // A peer of an earlier version only shows that something differs.
        assert_eq!(refused(report(FoundingStage::Empty, 8)), "node 2 was started with another description of the cluster");
    }

    #[test]
    fn records_and_reports_keep_their_bytes() {
        let stage = FoundingStage::Bootstrapping(ClusterId(5));
        let record = Record::V1 { node: 3, name: "shop".into(), stage };
        assert_eq!(&*super::super::encode(record), b"\x00\x03\x04shop\x01\x05");
        let spec = crate::meta::spec::tests::spec(1, 4);
        let record = Record::V2 { node: 3, stage, spec };
        let expected = b"\x01\x03\x01\x05\x04shop\x01\x01\x02n1\x01a\x06mesh-1\x06http-1\x04";
        assert_eq!(&*super::super::encode(record), expected);
        let short = Report { stage: FoundingStage::Established(ClusterId(5)), fingerprint: 9 };
        assert_eq!(&*super::super::encode(short), b"\x02\x05\x09");
        let full = FullReport { says: Agreement::default().and("a", 1), ..report(short.stage, 9) };
        assert_eq!(&*super::super::encode(&full), b"\x02\x05\x09\x01\x01a\x011");
        assert_eq!(FullReport::read(&super::super::encode(short)), Some(report(short.stage, 9)));
        assert_eq!(FullReport::read(&super::super::encode(&full)), Some(full));
    }
}

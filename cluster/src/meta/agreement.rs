//! What every node must say alike, key by key as an operator types it, and the words for where two of them differ.
//!
//! A grid is founded with a description, and its data lies where that description says: one that is changed later does not
//! move what is stored, it only loses it from sight. Some settings are promises between nodes: a follower that waits less
//! than its leader trusts its lease lets a stale read through. Both are texts here, so that nodes of different versions can
//! compare what both of them know.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};

use super::bootstrap::{FULL, FullReport};
use super::spec::ClusterSpec;
use crate::ids::NodeId;
use crate::mesh::Mesh;

/// What a node says where all must say the same: `raft.election_max` is `1s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Agreement(BTreeMap<String, String>);

/// A key about which two do not say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key of the configuration.
    pub key: String,
    /// What is said here.
    pub here: String,
    /// What is said there.
    pub there: String,
}

/// Every difference between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl Differences {
    /// In words, with where each value stands: `raft.election_max is 1s here and 2s on node 3`.
    #[must_use]
    pub fn told(&self, here: &str, there: &str) -> String {
        let one = |found: &Difference| format!("{} is {} {here} and {} {there}", found.key, found.here, found.there);
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// What helps where a configuration is not as the cluster was founded. Only names, zones and addresses of nodes may change.
    pub(super) fn remedy(&self) -> &'static str {
        let of_a_node = |found: &Difference| found.key.starts_with(OF_A_NODE);
        if self.0.iter().all(of_a_node) {
            "set bootstrap.moved = true on every node if its nodes were renamed or have moved, else put back what it was founded with"
        } else {
            "put back what it was founded with: with anything else its data would not be found"
        }
    }
}

/// With what a key begins that is said of one node.
const OF_A_NODE: &str = "bootstrap.nodes ";

impl Agreement {
    /// One more thing that must be said alike.
    #[must_use]
    pub fn and(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.0.insert(key.into(), value.to_string());
        self
    }

    /// Everything that either says.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Where `there` does not say the same. What only one of them knows is left out: it is of another version.
    #[must_use]
    pub fn differences(&self, there: &Self) -> Differences {
        let both = self.0.iter().filter_map(|(key, here)| Some((key, here, there.0.get(key)?)));
        let differing = both.filter(|(_, here, there)| here != there);
        let named =
            differing.map(|(key, here, there)| Difference { key: key.clone(), here: here.clone(), there: there.clone() });
        Differences(named.collect())
    }

    /// As [`differences`](Self::differences), `None` where there are none.
    #[must_use]
    pub fn refuses(&self, there: &Self) -> Option<Differences> {
        Some(self.differences(there)).filter(|differences| !differences.0.is_empty())
    }
}

impl ClusterSpec {
    /// What founds a cluster, key by key. Names, zones and addresses of nodes are left out where they may have `moved`.
    #[must_use]
    pub fn agreement(&self, moved: bool) -> Agreement {
        let mut ids: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        let ids: Vec<_> = ids.iter().map(NodeId::to_string).collect();
        let founding = Agreement::default()
            .and("cluster.name", &self.name)
            .and("bootstrap.shards", self.shards)
            .and("bootstrap.nodes", ids.join(","));
        self.nodes.iter().filter(|_| !moved).fold(founding, |founding, node| {
            let key = |name| format!("{OF_A_NODE}{} {name}", node.id);
            founding
                .and(key("name"), &node.name)
                .and(key("zone"), &node.zone)
                .and(key("mesh"), &node.mesh_addr)
                .and(key("http"), &node.http_addr)
        })
    }
}

/// What `peer` says where all must say the same; `None` if it does not answer, or is of a version that does not say.
pub async fn asked(mesh: &Mesh, peer: NodeId, patience: Duration) -> Option<Agreement> {
    let answer = match mesh.probe(peer, FULL, patience).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(peer, %error, "peer does not answer a probe");
            return None;
        }
    };
    let report = super::decode::<FullReport>(&answer);
    report.inspect_err(|error| tracing::debug!(peer, %error, "peer report undecodable")).ok().map(|report| report.says)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::spec::tests::spec;

    type Change = fn(&mut ClusterSpec);

    #[test]
    fn every_key_of_a_founding_is_compared_and_named() {
        let change = |change: Change| {
            let mut other = spec(3, 4);
            change(&mut other);
            spec(3, 4).agreement(false).differences(&other.agreement(false)).told("here", "there")
        };
        #[rustfmt::skip]
        let cases: [(Change, &str); 8] = [
            (|_| (),                                            ""),
            (|spec| spec.nodes.reverse(),                       ""),
            (|spec| spec.shards = 16,                           "bootstrap.shards is 4 here and 16 there"),
            (|spec| spec.name = "mall".into(),                  "cluster.name is shop here and mall there"),
            (|spec| drop(spec.nodes.pop()),                     "bootstrap.nodes is 1,2,3 here and 1,2 there"),
            (|spec| spec.nodes[1].name = "b".into(),            "bootstrap.nodes 2 name is n2 here and b there"),
            (|spec| spec.nodes[1].zone = "b".into(),            "bootstrap.nodes 2 zone is a here and b there"),
            (|spec| spec.nodes[2].mesh_addr = "elsewhere".into(),
                                                                "bootstrap.nodes 3 mesh is mesh-3 here and elsewhere there"),
        ];
        for (nth, (other, expected)) in cases.into_iter().enumerate() {
            assert_eq!(change(other), expected, "case {nth}");
        }
        let mut moved = spec(3, 4);
        moved.nodes[0].http_addr = "elsewhere".into();
        assert_eq!(spec(3, 4).agreement(true).refuses(&moved.agreement(true)), None, "nodes may have moved");
    }

    #[test]
    fn what_only_one_version_knows_is_not_compared() {
        let old = Agreement::default().and("raft.heartbeat", "200ms");
        let new = old.clone().and("raft.patience", "1s");
        assert_eq!((old.refuses(&new), new.refuses(&old)), (None, None));
    }

    #[test]
    fn agreements_have_the_bytes_of_version_1() {
        let says = Agreement::default().and("b", 2).and("a", "x");
        assert_eq!(&*super::super::encode(says), b"\x02\x01a\x01x\x01b\x012");
    }
}

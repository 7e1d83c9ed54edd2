//! The settings that must be the same on every node, key by key as an operator types them, and the messages about differences.
//!
//! A cluster is founded with a description, and the description determines where its data lies. Changing it later does not move
//! stored data; the data is only no longer found. Other settings are promises between nodes: if a follower's election timeout
//! is shorter than its leader assumes, the leader may serve a stale read under its lease. Settings are compared as texts, so
//! that nodes of different versions can compare the keys that both know.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};

use super::bootstrap::{FULL, FullReport};
use super::spec::ClusterSpec;
use crate::ids::NodeId;
use crate::mesh::Mesh;

/// A node's values of the settings that must be the same on every node, by key: `raft.election_max` is `1s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Agreement(BTreeMap<String, String>);

/// A key with two different values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The configuration key.
    pub key: String,
    /// The value on this side.
    pub here: String,
    /// The value on the other side.
    pub there: String,
}

/// All keys in which two agreements differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl Differences {
    /// The differences in words, with the side of each value: `raft.election_max is 1s here and 2s on node 3`.
    #[must_use]
    pub fn told(&self, here: &str, there: &str) -> String {
        let one = |found: &Difference| format!("{} is {} {here} and {} {there}", found.key, found.here, found.there);
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// The remedy if a configuration does not match the one that the cluster was founded with. Only names, zones and addresses
    /// of nodes may change.
    pub(super) fn remedy(&self) -> &'static str {
        let of_a_node = |found: &Difference| found.key.starts_with(OF_A_NODE);
        if self.0.iter().all(of_a_node) {
            "if nodes were renamed or moved, set bootstrap.moved = true on every node; otherwise restore the original values"
        } else {
            "restore the original values: with any others the cluster's data would not be found"
        }
    }
}

/// Prefix of the keys that describe one node.
const OF_A_NODE: &str = "bootstrap.nodes ";

impl Agreement {
    /// Adds a key.
    #[must_use]
    pub fn and(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.0.insert(key.into(), value.to_string());
        self
    }

    /// Adds all keys of `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The keys for which `there` has another value. A key that only one side knows is left out: the other side runs another
    /// version.
    #[must_use]
    pub fn differences(&self, there: &Self) -> Differences {
        let both = self.0.iter().filter_map(|(key, here)| Some((key, here, there.0.get(key)?)));
        let differing = both.filter(|(_, here, there)| here != there);
        let named =
            differing.map(|(key, here, there)| Difference { key: key.clone(), here: here.clone(), there: there.clone() });
        Differences(named.collect())
    }

    /// Like [`differences`](Self::differences), but `None` if there are none.
    #[must_use]
    pub fn refuses(&self, there: &Self) -> Option<Differences> {
        Some(self.differences(there)).filter(|differences| !differences.0.is_empty())
    }
}

impl ClusterSpec {
    /// The description of a cluster, key by key. Names, zones and addresses of nodes are left out if nodes may have `moved`.
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

/// The agreement of `peer`; `None` if the peer does not answer or runs a version without agreements.
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

//! Checks that the replicas of a shard agree. A mark is an entry without commands; every replica hashes its state when it
//! applies the mark.

use std::time::Duration;

use bincode::{Decode, Encode};
use futures::future::join_all;
use ordergrid_api::wire::cluster::{LawReport, ReplicaHash, ShardReport};
use ordergrid_cluster::Shard;
use ordergrid_domain::{GroupId, Law};

use super::in_words;
use crate::front::grid::NodeGrid;
use crate::shard::ShardReplica;

/// Most marks written until a replica that has missed all of them counts as unchecked.
const MARKS: u32 = 5;
/// Pause between two marks.
const PAUSE: Duration = Duration::from_millis(250);

/// A replica's answer about its state at a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum HashAt {
    /// The hash.
    Hash(u64),
    /// The replica was past the mark before it could hash, because of a snapshot.
    Passed,
    /// The replica has not applied the mark in time; its applied index.
    Behind(u64),
}

impl HashAt {
    /// Waits for the replica to apply the mark.
    pub(crate) async fn of(replica: &ShardReplica, index: u64, within: Duration) -> Self {
        match tokio::time::timeout(within, replica.hash_at(index)).await {
            Ok(Some(hash)) => Self::Hash(hash),
            Ok(None) => Self::Passed,
            Err(_) => Self::Behind(*replica.applied().borrow()),
        }
    }
}

/// The answers of a shard's replicas.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) report: ShardReport,
    /// Why a replica, or all of them, could not be checked.
    pub(super) unjudged: Vec<String>,
}

impl Marked {
    /// Why the shard's rows prove nothing, although they can be read: without a mark, no quorum has confirmed that the replica
    /// whose rows are read has all of them.
    pub(super) fn unconfirmed(&self) -> Option<String> {
        let shard = self.report.shard;
        (self.report.index == 0).then(|| format!("shard {shard}: no quorum confirms that the rows which were read are all"))
    }
}

/// Writes a mark to a shard's log and collects every replica's hash at it. Writes another mark if a replica has missed it.
pub(super) async fn mark(grid: &NodeGrid, shard: &Shard) -> Marked {
    let mut marks = 0;
    loop {
        marks += 1;
        let (marked, passed) = mark_once(grid, shard).await;
        if !passed || marks >= MARKS {
            return marked;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The second result says whether a replica was past the mark.
async fn mark_once(grid: &NodeGrid, shard: &Shard) -> (Marked, bool) {
    let mut report = ShardReport { shard: shard.group.0, index: 0, replicas: Vec::new() };
    let index = match tokio::time::timeout(grid.limits.request, grid.mark(shard.group)).await {
        Ok(Ok(index)) => index,
        wrong => {
            let why = wrong.map_or_else(|_| "no quorum wrote it in time".to_owned(), |failed| in_words(failed.err()));
            return (Marked { report, unjudged: vec![format!("shard {}: no mark: {why}", shard.group)] }, false);
        }
    };
    let asked = shard.replicas.iter().map(|replica| hash_at(grid, replica.node, shard.group, index));
    let said = join_all(asked).await;
    let (mut unjudged, mut passed) = (Vec::new(), false);
    for (replica, said) in shard.replicas.iter().zip(said) {
        passed |= said == Ok(HashAt::Passed);
        let (hash, why) = match said {
            Ok(HashAt::Hash(hash)) => (Some(format!("{hash:016x}")), None),
            Ok(HashAt::Passed) => (None, Some(format!("it was past index {index} before it could hash its state"))),
            Ok(HashAt::Behind(applied)) => (None, Some(format!("it is at index {applied} of {index}"))),
            Err(why) => (None, Some(why)),
        };
        let node = replica.node;
        unjudged.extend(why.map(|why| format!("shard {}, the replica on node {node}: {why}", shard.group)));
        report.replicas.push(ReplicaHash { node, index, hash });
    }
    report.index = index;
    (Marked { report, unjudged }, passed)
}

async fn hash_at(grid: &NodeGrid, node: u64, shard: GroupId, index: u64) -> Result<HashAt, String> {
    match grid.node.host(shard).filter(|_| node == grid.node.id) {
        Some(host) => Ok(HashAt::of(&host.replica(), index, grid.limits.request).await),
        None => grid.hash_at(node, shard, index).await,
    }
}

/// The report of the law, from the answers of all replicas.
pub(super) fn replicas_agree(marked: &[Marked]) -> LawReport {
    let differ = |shard: &ShardReport| {
        let mut hashes = shard.replicas.iter().filter_map(|replica| replica.hash.as_ref());
        let first = hashes.next();
        hashes.any(|hash| Some(hash) != first)
    };
    let shards = marked.iter().map(|marked| &marked.report).filter(|shard| differ(shard));
    let violations = shards
        .map(|shard| format!("shard {}: the replicas differ at index {}: {:?}", shard.shard, shard.index, shard.replicas));
    let unjudged = marked.iter().flat_map(|marked| marked.unjudged.iter().cloned());
    LawReport::new(Law::ReplicasAgree.name(), violations.collect(), unjudged.collect())
}

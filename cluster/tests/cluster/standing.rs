//! Replicas that stand although their leader goes on: they say so, are given new streams, and are given up in the end.

use std::time::Duration;

use ordergrid_cluster::{GroupConfig, NodeId};

use crate::support::{Cluster, within};

const STALL: Duration = Duration::from_secs(5);

/// What a replica waits for that never comes.
#[derive(Clone, Copy, Debug)]
enum Hangs {
    /// Its machine, with an entry.
    Machine,
    /// Its log, with entries to append: consensus itself.
    Log,
}

impl Hangs {
    fn set(self, cluster: &Cluster, node: NodeId, hangs: bool) {
        match self {
            Self::Machine => cluster.machine(node).stall(hangs),
            Self::Log => cluster.nodes[&node].log.stall(hangs),
        }
    }
}

/// Three nodes of which a follower stands, and its leader has gone on by some entries. Answers leader and follower, and how
/// often the one had connected to the other.
async fn one_stands(hangs: Hangs) -> (Cluster, NodeId, NodeId, u64) {
    let config = GroupConfig { stall: STALL, ..GroupConfig::default() };
    let cluster = Cluster::start(3, config).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    let follower = if leader == 3 { 2 } else { 3 };
    let first = cluster.propose(leader, term, "a=1").await.expect("it leads");
    cluster.all_applied(first.index).await;
    assert_eq!((cluster.group(follower).lag(), cluster.group(follower).stands()), (0, None));
    let connections = cluster.connections(leader, follower);
    hangs.set(&cluster, follower, true);
    let mut last = first.index;
    for n in 0..7 {
        last = cluster.propose(leader, term, &format!("b={n}")).await.expect("two are a majority").index;
    }
    // It is told, with the next heartbeat at the latest.
    cluster.until(|cluster| cluster.group(follower).lag() == last - first.index).await;
    assert_eq!(cluster.group(follower).stands(), None, "not for long yet");
    cluster.until(|cluster| cluster.group(follower).stands().is_some()).await;
    (cluster, leader, follower, connections)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_is_given_new_streams_and_then_given_up_in_words() {
    for hangs in [Hangs::Machine, Hangs::Log] {
        let (cluster, leader, follower, connections) = one_stands(hangs).await;
        cluster.until(|cluster| cluster.connections(leader, follower) > connections).await;
        let group = cluster.group(follower);
        let why = within(group.stopped()).await.expect("it does not go on");
        assert!(why.contains("has not followed its leader for 2") && why.contains("7 entries behind"), "{hangs:?}: {why}");
        assert!(group.stands() >= Some(4 * STALL), "{hangs:?}: {:?}", group.stands());
        assert_eq!(group.lag(), 7, "{hangs:?}");
        assert!(cluster.group(leader).led(), "the others go on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_goes_on_in_time_is_not_given_up() {
    for hangs in [Hangs::Machine, Hangs::Log] {
        let (cluster, leader, follower, connections) = one_stands(hangs).await;
        cluster.until(|cluster| cluster.connections(leader, follower) > connections).await;
        hangs.set(&cluster, follower, false);
        cluster.until(|cluster| cluster.group(follower).lag() == 0 && cluster.group(follower).stands().is_none()).await;
        let given_up = tokio::time::timeout(10 * STALL, cluster.group(follower).stopped()).await;
        assert!(given_up.is_err(), "{hangs:?}: {given_up:?}");
        let (leader, term) = cluster.leader(&[1, 2, 3]).await;
        let last = cluster.propose(leader, term, "c=1").await.unwrap();
        cluster.all_applied(last.index).await;
    }
}

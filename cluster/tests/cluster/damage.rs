//! Replicas whose logs have lost entries that were acknowledged, and those that meet them.

use std::time::Duration;

use ordergrid_cluster::{GroupConfig, LogId, Recalled, recall};

use crate::support::{Cluster, within};

/// Three nodes of which the third has missed what the first two committed last, and the second has lost it. All are stopped.
/// Answers the last index that is committed, and what node 2 vouched for.
async fn second_loses_what_third_never_had() -> (Cluster, u64, LogId) {
    let mut cluster = Cluster::start(3, GroupConfig::default()).await;
    let (leader, term) = cluster.leader(&[1]).await;
    let common = cluster.propose(leader, term, "a=1").await.expect("it leads").index;
    cluster.all_applied(common).await;
    cluster.stop_node(3).await;
    let mut last = common;
    for n in 0..5 {
        last = cluster.propose(leader, term, &format!("b={n}")).await.expect("it leads").index;
    }
    cluster.all_applied(last).await;
    within(cluster.group(1).checkpoint()).await.expect("the group runs");
    cluster.stop_node(1).await;
    cluster.stop_node(2).await;
    let vouched = cluster.nodes[&2].log.lose_after(common);
    (cluster, last, vouched)
}

#[tokio::test(start_paused = true)]
async fn a_replica_alone_refuses_to_start_below_its_floor() {
    let mut cluster = Cluster::start(1, GroupConfig::default()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let kept = cluster.propose(1, term, "a=1").await.unwrap().index;
    cluster.propose(1, term, "b=1").await.unwrap();
    cluster.stop_node(1).await;
    let vouched = cluster.nodes[&1].log.lose_after(kept);
    cluster.nodes[&1].log.stand_below(vouched);
    let refused = cluster.try_start_node(1).await.expect_err("what is missing was acknowledged").to_string();
    let words = format!("the last entry found is {kept}, and it vouched for all up to {}", kept + 1);
    assert!(refused.contains(&words), "{refused}");
}

/// As if nobody had noticed: the two that know nothing of the last entries lead, and go on.
#[tokio::test(start_paused = true)]
async fn a_replica_that_applied_what_its_leader_never_had_stops() {
    let (mut cluster, last, _) = second_loses_what_third_never_had().await;
    cluster.start_node(2).await;
    cluster.start_node(3).await;
    let (leader, term) = cluster.leader(&[2, 3]).await;
    for n in 0..10 {
        cluster.propose(leader, term, &format!("z={n}")).await.unwrap();
    }
    cluster.start_node(1).await;
    let why = within(cluster.group(1).stopped()).await.expect("it does not go on");
    assert!(why.contains(&format!(".{last} and all before it are applied here")), "{why}");
    assert_eq!(cluster.machine(1).get("z"), None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_below_its_floor_helps_nobody_to_lead_and_is_refilled() {
    let (mut cluster, last, vouched) = second_loses_what_third_never_had().await;
    cluster.nodes[&2].log.stand_below(vouched);
    let floor = cluster.nodes[&2].log.floor();
    cluster.start_node(2).await;
    cluster.start_node(3).await;
    // Together they are a majority, and none of the two has what was acknowledged last.
    let nobody = tokio::time::timeout(Duration::from_secs(60), cluster.leader(&[2, 3])).await;
    assert!(nobody.is_err(), "node {} leads", nobody.unwrap().0);
    assert!(cluster.group(2).below_floor() && cluster.group(2).status().vouched.is_some(), "it says so meanwhile");

    cluster.start_node(1).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    assert_eq!(leader, 1, "nobody else has all that was acknowledged");
    cluster.all_applied(last).await;
    assert_eq!(*floor.borrow(), None);
    assert!(!cluster.group(2).below_floor());
    assert_eq!(cluster.machine(2).get("b"), Some("4".into()));

    // Without the one that has refilled it nothing goes on unless it votes again.
    let newest = cluster.propose(leader, term, "c=1").await.unwrap().index;
    cluster.all_applied(newest).await;
    cluster.stop_node(1).await;
    let (leader, term) = cluster.leader(&[2, 3]).await;
    let newest = cluster.propose(leader, term, "d=1").await.unwrap().index;
    cluster.all_applied(newest).await;
    // And it stands: the other one is asked for nothing but its vote.
    within(cluster.group(leader).transfer(5 - leader)).await.unwrap();
    cluster.leader(&[5 - leader]).await;
}

/// Its rows come from another replica, and are of a term that its log has never heard of.
#[tokio::test(start_paused = true)]
async fn a_replica_that_is_filled_above_its_votes_term_stands_and_is_elected() {
    let mut cluster = Cluster::start(3, GroupConfig::default()).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    let common = cluster.propose(leader, term, "a=1").await.unwrap().index;
    cluster.all_applied(common).await;
    let away = if leader == 3 { 2 } else { 3 };
    let other = 6 - leader - away;
    cluster.stop_node(away).await;
    // Two terms later.
    for to in [other, leader] {
        let from = leader + other - to;
        within(cluster.group(from).transfer(to)).await.unwrap();
    }
    let (_, newer) = cluster.leader(&[leader]).await;
    assert!(newer > term + 1, "the scene: {newer} is not far above {term}");
    let last = cluster.propose(leader, newer, "b=2").await.unwrap().index;
    cluster.all_applied(last).await;
    within(cluster.group(leader).checkpoint()).await.unwrap();
    cluster.nodes[&away].store.fill_from(&cluster.nodes[&leader].store);
    // Nobody tells it of that term, and nobody else stands.
    cluster.stop_node(leader).await;
    cluster.stop_node(other).await;
    cluster.start_node(other).await;
    cluster.group(other).stand(false);
    cluster.start_node(away).await;
    cluster.until(|cluster| cluster.group(away).leadership().borrow().ready_here).await;
    assert_eq!(cluster.machine(away).get("b"), Some("2".into()));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_may_not_take_part_yet_is_not_there_for_its_peers() {
    let mut cluster = Cluster::start(3, GroupConfig::default()).await;
    let (leader, term) = cluster.leader(&[1]).await;
    let last = cluster.propose(leader, term, "a=1").await.unwrap().index;
    cluster.all_applied(last).await;
    let promised = cluster.group(2).promised().await.expect("it takes part");
    assert_eq!((promised.vote.leader_id.term, promised.last.map(|last| last.index)), (term, Some(last)));
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    cluster.nodes[&3].admission.send_replace(false);
    cluster.start_node(2).await;
    cluster.start_node(3).await;
    let nobody = tokio::time::timeout(Duration::from_secs(60), cluster.leader(&[2, 3])).await;
    assert!(nobody.is_err(), "node {} leads", nobody.unwrap().0);
    assert_eq!(cluster.group(3).promised().await, None);
    cluster.nodes[&3].admission.send_replace(true);
    let (leader, term) = cluster.leader(&[2, 3]).await;
    let last = cluster.propose(leader, term, "b=1").await.unwrap().index;
    cluster.all_applied(last).await;
}

/// The log of node 2 is lost whole: what the others say of themselves is a vote that it does not go below, and a floor.
#[tokio::test(start_paused = true)]
async fn what_all_others_say_holds_a_replica_that_has_forgotten_what_it_promised() {
    let mut cluster = Cluster::start(3, GroupConfig::default()).await;
    let (leader, term) = cluster.leader(&[1]).await;
    let mut last = 0;
    for n in 0..5 {
        last = cluster.propose(leader, term, &format!("a={n}")).await.expect("it leads").index;
    }
    cluster.all_applied(last).await;
    cluster.stop_node(2).await;
    let mut others = Vec::new();
    for node in [1, 3] {
        others.push(Recalled::Knows(within(cluster.group(node).promised()).await.expect("the group runs")));
    }
    let promised = recall(102, &others).expect("both of them know");
    assert_eq!((promised.vote.leader_id.term, promised.vote.committed), (term, true), "who leads goes on");
    assert_eq!(promised.last.map(|last| last.index), Some(last));
    cluster.nodes[&2].log.begin_anew(&promised);
    let floor = cluster.nodes[&2].log.floor();
    cluster.start_node(2).await;
    let newest = cluster.propose(leader, term, "b=1").await.expect("it leads still").index;
    cluster.all_applied(newest).await;
    assert_eq!((*floor.borrow(), cluster.machine(2).get("a")), (None, Some("4".into())));
    // It counts again.
    cluster.stop_node(1).await;
    let (leader, term) = cluster.leader(&[2, 3]).await;
    let newest = cluster.propose(leader, term, "c=1").await.expect("it leads").index;
    cluster.all_applied(newest).await;
}

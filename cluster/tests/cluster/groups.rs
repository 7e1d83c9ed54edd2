//! Groups of one and three replicas: proposing, failing over, reading, checkpoints, snapshots, restarts.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use ordergrid_cluster::{
    BalancerConfig, BarrierError, GroupConfig, Placement, ProposeError, Role, Router, Shard, ShardMap, TransferError, balance,
};

use crate::support::{Cluster, GROUP, packed, within};

fn config() -> GroupConfig {
    GroupConfig::default()
}

#[tokio::test(start_paused = true)]
async fn one_node_leads_at_once_and_applies_in_order() {
    let cluster = Cluster::start(1, config()).await;
    let (leader, term) = cluster.leader(&[1]).await;
    assert_eq!(leader, 1);
    let group = cluster.group(1);
    // Called in order, awaited all together.
    let calls: Vec<_> = (0..200).map(|n| group.propose(term, packed(&format!("k{n}={n}")))).collect();
    let ids: Vec<u64> = within(join_all(calls)).await.into_iter().map(|id| id.unwrap().index).collect();
    assert!(ids.is_sorted_by(|one, next| one + 1 == *next), "{ids:?}");
    let expected: Vec<String> = (0..200).map(|n| format!("k{n}={n}")).collect();
    assert_eq!(cluster.machine(1).applied(), expected);
    assert!(group.has_lease());
    assert_eq!(group.barrier().await, Ok(*ids.last().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_single_node_needs_no_timer_to_commit() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let before = tokio::time::Instant::now();
    for n in 0..100 {
        cluster.propose(1, term, &format!("k={n}")).await.unwrap();
    }
    // Time stands still unless somebody sleeps and nobody else can go on.
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn three_nodes_need_no_timer_to_commit() {
    let cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "warm=up").await.unwrap();
    let before = tokio::time::Instant::now();
    for n in 0..100 {
        cluster.propose(1, term, &format!("k={n}")).await.unwrap();
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_proposal_is_appended_all_the_same() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    drop(cluster.group(1).propose(term, packed("a=1")));
    cluster.propose(1, term, "b=2").await.unwrap();
    assert_eq!(cluster.machine(1).applied(), ["a=1", "b=2"]);
}

#[tokio::test(start_paused = true)]
async fn past_the_queue_proposals_are_refused_and_not_appended() {
    let cluster = Cluster::start(1, GroupConfig { proposals_queued: 8, ..config() }).await;
    let (_, term) = cluster.leader(&[1]).await;
    let group = cluster.group(1);
    let calls: Vec<_> = (0..50).map(|n| group.propose(term, packed(&format!("k{n}={n}")))).collect();
    let outcomes = within(join_all(calls)).await;
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let busy = outcomes.iter().filter(|outcome| **outcome == Err(ProposeError::Busy)).count();
    assert_eq!((taken + busy, taken), (50, cluster.machine(1).applied().len()));
    assert!(taken > 0 && busy > 0, "{taken} taken, {busy} refused");
}

#[tokio::test(start_paused = true)]
async fn three_nodes_apply_the_same_and_the_preferred_one_leads() {
    let cluster = Cluster::start(3, config()).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    assert_eq!(leader, 1);
    let mut last = 0;
    for n in 0..50 {
        last = cluster.propose(1, term, &format!("k{n}={n}")).await.unwrap().index;
    }
    cluster.all_applied(last).await;
    for id in [2, 3] {
        assert_eq!(cluster.machine(id).values(), cluster.machine(1).values());
        let seen = cluster.sees(id, |now| now.leader == Some(1)).await;
        assert!(!seen.ready_here);
        assert!(matches!(cluster.propose(id, term, "x=1").await, Err(ProposeError::NotLeader { leader: Some(1) })));
        assert_eq!(within(cluster.group(id).barrier()).await, Err(BarrierError::NotLeader { leader: Some(1) }));
        assert!(!cluster.group(id).has_lease());
    }
    let status = cluster.group(1).status();
    assert_eq!((status.role, status.leader, status.members.len()), (Role::Leader, Some(1), 3));
    assert_eq!(status.last_log, last);
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_stops_another_takes_over_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    cluster.stop_node(1).await;
    let (leader, newer) = cluster.leader(&[2, 3]).await;
    assert!(newer > term);
    assert_eq!(cluster.machine(leader).get("a"), Some("1".into()));
    cluster.propose(leader, newer, "b=2").await.unwrap();
    cluster.start_node(1).await;
    let last = cluster.propose(leader, newer, "c=3").await.unwrap().index;
    cluster.all_applied(last).await;
    assert_eq!(cluster.machine(1).values(), cluster.machine(leader).values());
}

#[tokio::test(start_paused = true)]
async fn a_proposal_of_an_old_term_is_refused() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let refused = cluster.propose(1, term - 1, "a=1").await.unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some(1) });
    assert!(!refused.outcome_unknown());
    assert!(cluster.machine(1).applied().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_loses_its_lease_and_its_proposals_are_refused_or_unknown() {
    let cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    within(cluster.group(1).barrier()).await.unwrap();
    cluster.isolate(1, true);
    let lost = tokio::spawn(cluster.group(1).propose(term, packed("lost=1")));
    let (leader, newer) = cluster.leader(&[2, 3]).await;
    // Whoever leads now may answer; the old leader must not, by lease or otherwise.
    assert!(!cluster.group(1).has_lease());
    cluster.propose(leader, newer, "a=2").await.unwrap();
    assert_eq!(within(cluster.group(1).barrier()).await, Err(BarrierError::NoQuorum));
    assert_eq!(cluster.propose(1, term, "late=1").await, Err(ProposeError::NotReady));
    cluster.isolate(1, false);
    let outcome = within(lost).await.unwrap();
    assert_eq!(outcome, Err(ProposeError::Unknown));
    let last = cluster.propose(leader, newer, "b=1").await.unwrap().index;
    cluster.all_applied(last).await;
    assert_eq!(cluster.machine(1).get("a"), Some("2".into()));
    assert_eq!(cluster.machine(1).get("late"), None);
    assert!(matches!(cluster.propose(1, term, "x=1").await, Err(ProposeError::NotLeader { .. })));
}

#[tokio::test(start_paused = true)]
async fn barriers_by_quorum_are_shared_and_see_every_write() {
    // No lease at all: every barrier asks.
    let config = GroupConfig { lease_margin: Duration::from_millis(999), ..config() };
    let cluster = Cluster::start(3, config).await;
    let (_, term) = cluster.leader(&[1]).await;
    let last = cluster.propose(1, term, "a=1").await.unwrap().index;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!cluster.group(1).has_lease());
    let group = cluster.group(1);
    let answers = within(join_all((0..100).map(|_| group.barrier()))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|index| *index >= last)), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_to_a_voter_that_answers() {
    let cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    assert_eq!(within(cluster.group(2).transfer(3)).await, Err(TransferError::NotLeader));
    assert_eq!(within(cluster.group(1).transfer(9)).await, Err(TransferError::NotVoter(9)));
    cluster.isolate(3, true);
    assert_eq!(within(cluster.group(1).transfer(3)).await, Err(TransferError::Unreachable(3)));
    cluster.propose(1, term, "still=leading").await.unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(within(cluster.group(1).transfer(2)).await, Ok(()));
    let (leader, newer) = cluster.leader(&[2]).await;
    assert_eq!(leader, 2);
    assert!(before.elapsed() < Duration::from_millis(600), "an election would have taken longer");
    cluster.propose(2, newer, "b=2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_from_the_checkpoint_and_the_log() {
    let mut cluster = Cluster::start(1, GroupConfig { entries_kept: 0, ..config() }).await;
    let (_, term) = cluster.leader(&[1]).await;
    for n in 0..10 {
        cluster.propose(1, term, &format!("old{n}={n}")).await.unwrap();
    }
    within(cluster.group(1).checkpoint()).await.unwrap();
    let checkpoint = cluster.group(1).status().checkpoint;
    for n in 0..3 {
        cluster.propose(1, term, &format!("new{n}={n}")).await.unwrap();
    }
    let before = cluster.machine(1).values();
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    assert_eq!(cluster.group(1).status().checkpoint, checkpoint);
    let (_, newer) = cluster.leader(&[1]).await;
    assert!(newer > term);
    assert_eq!(cluster.machine(1).values(), before);
    assert_eq!(cluster.machine(1).applied(), ["new0=0", "new1=1", "new2=2"], "only the tail is applied again");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_purged_below_a_checkpoint_only() {
    let cluster = Cluster::start(1, GroupConfig { entries_kept: 2, ..config() }).await;
    let (_, term) = cluster.leader(&[1]).await;
    for n in 0..20 {
        cluster.propose(1, term, &format!("k={n}")).await.unwrap();
    }
    let log = cluster.nodes[&1].log.clone();
    assert_eq!(log.indexes()[0], 0, "nothing is purged without a checkpoint");
    within(cluster.group(1).checkpoint()).await.unwrap();
    let covered = cluster.group(1).status().checkpoint;
    cluster.propose(1, term, "k=last").await.unwrap();
    assert_eq!(log.indexes()[0], covered - 1, "two entries below the checkpoint are kept");
}

#[tokio::test(start_paused = true)]
async fn checkpoints_happen_by_time_and_by_size() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let last = cluster.propose(1, term, "a=1").await.unwrap().index;
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(cluster.group(1).status().checkpoint, last, "by time");

    let cluster = Cluster::start(1, GroupConfig { checkpoint_bytes: 1_000, ..config() }).await;
    let (_, term) = cluster.leader(&[1]).await;
    for n in 0..200 {
        cluster.propose(1, term, &format!("key{n}=0123456789")).await.unwrap();
    }
    assert!(cluster.group(1).status().checkpoint > 0, "by size");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_full_waits_for_the_checkpoint_that_makes_room() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.machine(1).bound(10);
    cluster.nodes[&1].store.stall(true);
    cluster.propose(1, term, "k0=0").await.unwrap();
    let group = cluster.group(1).clone();
    let checkpoint = tokio::spawn(async move { group.checkpoint().await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut calls = join_all((1..100).map(|n| cluster.group(1).propose(term, packed(&format!("k{n}={n}"))))).boxed();
    let minute = tokio::time::timeout(Duration::from_secs(60), &mut calls).await;
    assert!(minute.is_err() && cluster.machine(1).applied().len() == 11, "{:?}", cluster.machine(1).applied());
    cluster.nodes[&1].store.stall(false);
    assert!(within(calls).await.iter().all(Result::is_ok));
    within(checkpoint).await.expect("no panic").unwrap();
    assert_eq!(cluster.machine(1).applied().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fell_behind_the_log_gets_a_snapshot() {
    let config = GroupConfig { entries_kept: 0, snapshot_chunk: 64, ..config() };
    let mut cluster = Cluster::start(3, config).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    cluster.stop_node(3).await;
    for n in 0..100 {
        cluster.propose(1, term, &format!("k{n}={n}")).await.unwrap();
    }
    within(cluster.group(1).checkpoint()).await.unwrap();
    let last = cluster.propose(1, term, "after=checkpoint").await.unwrap().index;
    // Purging waits for the attempt to reach node 3 that is under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(cluster.nodes[&1].log.indexes()[0] > 50, "the log is purged");
    cluster.start_node(3).await;
    cluster.all_applied(last).await;
    assert_eq!(cluster.machine(3).values(), cluster.machine(1).values());
    assert!(cluster.machine(3).applied().len() < 50, "most of it came as rows");
    // And it survives as that replica's own checkpoint.
    cluster.stop_node(3).await;
    cluster.start_node(3).await;
    assert_eq!(cluster.machine(3).get("k50"), Some("50".into()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_voter_is_held_back() {
    let mut cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    cluster.stop_node(3).await;
    let before = tokio::time::Instant::now();
    cluster.start_node(3).await;
    cluster.sees(3, |now| now.leader == Some(1)).await;
    assert!(before.elapsed() >= Duration::from_secs(1), "it listened to nobody for the length of a lease");
}

#[tokio::test(start_paused = true)]
async fn when_all_stop_and_start_again_nothing_is_lost() {
    let mut cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let last = cluster.propose(1, term, "a=1").await.unwrap().index;
    cluster.all_applied(last).await;
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id).await;
    }
    let (leader, newer) = cluster.leader(&[1, 2, 3]).await;
    assert!(newer > term);
    assert_eq!(cluster.machine(leader).get("a"), Some("1".into()));
    cluster.propose(leader, newer, "b=2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replica_under_another_id_takes_no_part() {
    let mut cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    cluster.stop_node(3).await;
    cluster.start_replica(3, 999).await;
    let last = cluster.propose(1, term, "b=2").await.unwrap().index;
    within(cluster.group(2).wait_applied(last)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.machine(3).get("b"), None, "frames for replica 103 are refused");
    assert!(cluster.group(1).has_lease());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_fails_ends_its_group_and_says_why() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    let outcome = cluster.propose(1, term, "break").await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    let why = within(cluster.group(1).stopped()).await.expect("it failed");
    assert!(why.contains("no key"), "{why}");
    assert!(cluster.propose(1, term, "b=1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_balancer_brings_leadership_home() {
    let mut cluster = Cluster::start(3, config()).await;
    cluster.leader(&[1]).await;
    cluster.stop_node(1).await;
    cluster.leader(&[2, 3]).await;
    cluster.start_node(1).await;
    let mut balancers = tokio::task::JoinSet::new();
    let paused = tokio::sync::watch::Sender::new(true);
    for id in 1..=3 {
        let router = Router::new(id, Arc::new(one_shard()));
        router.add(cluster.group(id).clone());
        balancers.spawn(balance(router, id, BalancerConfig::default(), paused.subscribe()));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!cluster.group(1).leadership().borrow().ready_here, "a paused balancer moves nothing");
    paused.send_replace(false);
    cluster.leader(&[1]).await;
}

/// The map of a cluster of three nodes whose only shard prefers node 1.
fn one_shard() -> ShardMap {
    let replicas = (1..=3).map(|node| Placement { replica: 100 + node, node }).collect();
    let shard = Shard { group: GROUP, first: 0, last: 4_095, replicas };
    ShardMap { epoch: 1, meta: Vec::new(), shards: vec![shard] }
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_handle_stops() {
    let mut cluster = Cluster::start(3, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    cluster.propose(1, term, "a=1").await.unwrap();
    let running = cluster.nodes.get_mut(&1).unwrap().running.take().unwrap();
    let machine = Arc::downgrade(&running.machine);
    drop(running);
    cluster.leader(&[2, 3]).await;
    assert!(machine.upgrade().is_none(), "nothing keeps it alive");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_group_answers_that_it_stopped() {
    let cluster = Cluster::start(1, config()).await;
    let (_, term) = cluster.leader(&[1]).await;
    let group = cluster.group(1).clone();
    group.shutdown().await;
    assert_eq!(within(group.stopped()).await, None);
    within(group.propose(term, packed("a=1"))).await.expect_err("it is stopped");
    within(group.barrier()).await.expect_err("it is stopped");
    within(group.wait_applied(1_000)).await.expect_err("it is stopped");
    assert!(!group.has_lease());
    assert_eq!(group.status().role, Role::Stopped);
}

/// Every running node and whether it tells that the group is led, each tenth of a second for `time`.
async fn told(cluster: &Cluster, time: Duration) -> Vec<bool> {
    let mut told = Vec::new();
    for _ in 0..time.as_millis() / 100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let running = cluster.nodes.values().filter(|node| node.running.is_some());
        told.extend(running.map(|node| cluster.group(node.id).status().led));
    }
    told
}

#[tokio::test(start_paused = true)]
async fn within_two_election_timeouts_everybody_tells_that_the_quorum_is_gone() {
    for (size, gone) in [(3, vec![2, 3]), (3, vec![1, 3]), (5, vec![3, 4, 5])] {
        let mut cluster = Cluster::start(size, config()).await;
        cluster.leader(&[1]).await;
        let whole = told(&cluster, Duration::from_secs(10)).await;
        assert!(whole[whole.len() / 2..].iter().all(|led| *led), "{size} nodes: {whole:?}");
        for node in &gone {
            cluster.stop_node(*node).await;
        }
        // With 100 ms for a heartbeat that was under way.
        tokio::time::sleep(2 * config().election_max + Duration::from_millis(100)).await;
        // Long enough for a leader without a quorum to show itself several times.
        let lost = told(&cluster, Duration::from_secs(20)).await;
        assert!(lost.iter().all(|led| !led), "{size} nodes without {gone:?}: {lost:?}");
        cluster.start_node(gone[0]).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let back = told(&cluster, Duration::from_secs(10)).await;
        assert!(back.iter().all(|led| *led), "{size} nodes, {} is back: {back:?}", gone[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_with_two_leaders_is_ended_and_every_replica_goes_on() {
    let mut cluster = Cluster::start(3, config()).await;
    let (first, term) = cluster.leader(&[1, 2, 3]).await;
    let last = cluster.propose(first, term, "a=1").await.unwrap();
    cluster.all_applied(last.index).await;
    // Another node is elected by the third.
    cluster.stop_node(first).await;
    let others: Vec<_> = (1..=3).filter(|node| *node != first).collect();
    let before = others.iter().map(|node| (*node, cluster.nodes[node].log.copy())).collect::<Vec<_>>();
    let (second, of_second) = cluster.leader(&others).await;
    let (voter, older) = before.iter().find(|(node, _)| *node != second).expect("there are two");
    let voter = *voter;
    // The voter's disk is replaced by a copy from before, and it votes once more in the same term.
    cluster.stop_node(second).await;
    cluster.stop_node(voter).await;
    cluster.nodes[&voter].log.go_back_to(older);
    cluster.start_node(voter).await;
    cluster.start_node(first).await;
    let (third, of_third) = cluster.leader(&[voter, first]).await;
    assert_eq!(of_third, of_second, "the scene: two leaders of one term");
    cluster.propose(third, of_third, "b=2").await.unwrap();
    cluster.start_node(second).await;
    cluster.sees(second, |now| now.term > of_second && now.leader.is_some()).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    let last = cluster.propose(leader, term, "c=3").await.unwrap();
    cluster.all_applied(last.index).await;
    assert_eq!(cluster.group(second).lag(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_leases_every_read_asks_a_quorum() {
    let cluster = Cluster::start(3, GroupConfig { leases: false, ..config() }).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    let last = cluster.propose(leader, term, "a=1").await.unwrap();
    assert!(!cluster.group(leader).has_lease());
    assert_eq!(within(cluster.group(leader).barrier()).await, Ok(last.index));
    cluster.isolate(leader, true);
    // At once, long before a lease would have ended.
    assert_eq!(within(cluster.group(leader).barrier()).await, Err(BarrierError::NoQuorum));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stood_still_has_no_lease_until_a_quorum_answers_again() {
    let cluster = Cluster::start(3, config()).await;
    let (leader, term) = cluster.leader(&[1, 2, 3]).await;
    let last = cluster.propose(leader, term, "a=1").await.unwrap();
    let group = cluster.group(leader);
    assert!(group.has_lease());
    cluster.nodes[&leader].clocks.suspend(Duration::from_secs(3));
    assert!(!group.has_lease());
    assert_eq!(within(group.barrier()).await, Ok(last.index), "a quorum says that it still leads");
    // What was sent in the very moment of the leap does not count.
    tokio::time::advance(config().heartbeat).await;
    within(group.barrier()).await.unwrap();
    assert!(group.has_lease());
    cluster.isolate(leader, true);
    cluster.nodes[&leader].clocks.suspend(Duration::from_secs(3));
    // At once, long before a lease would have ended.
    assert_eq!(within(group.barrier()).await, Err(BarrierError::NoQuorum));
}

//! The mesh: who may talk, what is refused, what is known of a call that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use ordergrid_cluster::{CallError, ClusterId, Mesh, MeshConfig, NodeId, Service};

use crate::support::net::Wires;
use crate::support::{CLUSTER, addr, mesh, within};

const ECHO: u8 = 1;
const SILENT: u8 = 2;
const SECOND: Duration = Duration::from_secs(1);

fn echo() -> Service {
    Arc::new(|from: NodeId, body: Bytes| async move { [format!("{from}:").as_bytes(), &body[..]].concat().into() }.boxed())
}

async fn pair(wires: &Wires, second: Option<ClusterId>, config: MeshConfig) -> (Mesh, Mesh) {
    let one = mesh(wires, 1, Some(CLUSTER), config.clone()).await;
    let two = mesh(wires, 2, second, config).await;
    for mesh in [&one, &two] {
        mesh.set_peers([(1, addr(1)), (2, addr(2))]);
        mesh.serve(ECHO, echo());
        mesh.serve(SILENT, Arc::new(|_, _| std::future::pending().boxed()));
    }
    (one, two)
}

fn call(mesh: &Mesh, to: NodeId, body: &str) -> impl Future<Output = Result<Bytes, CallError>> + use<> {
    mesh.call(to, ECHO, Bytes::copy_from_slice(body.as_bytes()), SECOND)
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_in_both_directions_and_at_home() {
    let (one, two) = pair(&Wires::default(), Some(CLUSTER), MeshConfig::default()).await;
    assert_eq!(call(&one, 2, "hi").await.unwrap(), "1:hi");
    assert_eq!(call(&two, 1, "ho").await.unwrap(), "2:ho");
    assert_eq!(call(&one, 1, "me").await.unwrap(), "1:me");
    assert!(one.reaches(2, SECOND).await && one.reaches(1, SECOND).await);
    let many = join_all((0..1_000).map(|n| call(&one, 2, &n.to_string()))).await;
    assert!(many.into_iter().zip(0..).all(|(answer, n)| answer.unwrap() == format!("1:{n}")));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_have_happened_is_not_sent() {
    let (one, two) = pair(&Wires::default(), Some(CLUSTER), MeshConfig::default()).await;
    let not_sent = |answer: Result<Bytes, CallError>| match answer {
        Err(CallError::NotSent(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(not_sent(call(&one, 9, "x").await), "node 9 is not known");
    let unserved = one.call(2, 77, Bytes::new(), SECOND).await;
    assert_eq!(not_sent(unserved), "the other node has no such service");
    two.shutdown();
    drop(two);
    // The connection was up: what is sent before its end is noticed may be unknown, then nothing is sent any more.
    call(&one, 2, "x").await.expect_err("nobody there");
    assert!(not_sent(call(&one, 2, "x").await).contains("unreachable"));
    assert!(!one.reaches(2, SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_unknown() {
    let wires = Wires::default();
    let (one, _two) = pair(&wires, Some(CLUSTER), MeshConfig::default()).await;
    assert_eq!(one.call(2, SILENT, Bytes::new(), SECOND).await, Err(CallError::Unknown));
    // The rest of the lane is not held up, and a cut in the middle of a call is unknown too.
    assert_eq!(call(&one, 2, "on").await.unwrap(), "1:on");
    let waiting = tokio::spawn(one.call(2, SILENT, Bytes::new(), 60 * SECOND));
    tokio::time::sleep(SECOND).await;
    wires.isolate(&addr(2), &[&addr(1)], true);
    assert_eq!(within(waiting).await.unwrap(), Err(CallError::Unknown));
    wires.isolate(&addr(2), &[&addr(1)], false);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(call(&one, 2, "back").await.unwrap(), "1:back");
}

#[tokio::test(start_paused = true)]
async fn nodes_of_another_cluster_are_refused() {
    for second in [Some(ClusterId(1)), None] {
        let (one, two) = pair(&Wires::default(), second, MeshConfig::default()).await;
        for answer in [call(&one, 2, "x").await, call(&two, 1, "x").await] {
            assert!(matches!(answer, Err(CallError::NotSent(_))), "{second:?}: {answer:?}");
        }
        // A node that learns where it belongs is let in, over connections made anew.
        if second.is_none() {
            two.set_cluster(CLUSTER);
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(call(&one, 2, "x").await.unwrap(), "1:x");
            assert_eq!(call(&two, 1, "x").await.unwrap(), "2:x");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_who_was_called_is_refused() {
    let wires = Wires::default();
    let (one, _two) = pair(&wires, Some(CLUSTER), MeshConfig::default()).await;
    one.set_peers([(3, addr(2))]);
    let Err(CallError::NotSent(why)) = call(&one, 3, "x").await else { panic!("it was sent") };
    assert!(why.contains("node 2 lives there"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn frames_past_the_limit_are_refused_on_both_sides() {
    let wires = Wires::default();
    let small = MeshConfig { frame_limit: 1_000, ..MeshConfig::default() };
    let one = mesh(&wires, 1, Some(CLUSTER), MeshConfig::default()).await;
    let two = mesh(&wires, 2, Some(CLUSTER), small.clone()).await;
    for mesh in [&one, &two] {
        mesh.set_peers([(1, addr(1)), (2, addr(2))]);
        mesh.serve(ECHO, echo());
    }
    let large = "x".repeat(2_000);
    assert!(matches!(call(&two, 1, &large).await, Err(CallError::NotSent(_))), "the sender knows its own limit");
    // The receiver closes the connection, so the sender cannot know.
    assert_eq!(call(&one, 2, &large).await, Err(CallError::Unknown));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(call(&one, 2, "small").await.unwrap(), "1:small");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let config = MeshConfig { calls_queued: 4, ..MeshConfig::default() };
    let (one, _two) = pair(&Wires::default(), Some(CLUSTER), config).await;
    let answers = join_all((0..50).map(|n| call(&one, 2, &n.to_string()))).await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(CallError::NotSent(_)))).count();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4);
    assert_eq!(refused, 46);
}

#[tokio::test(start_paused = true)]
async fn handling_is_bounded_per_connection() {
    let config = MeshConfig { calls_handled: 3, ..MeshConfig::default() };
    let (one, two) = pair(&Wires::default(), Some(CLUSTER), config).await;
    let started = Arc::new(AtomicUsize::new(0));
    let counted = started.clone();
    two.serve(
        SILENT,
        Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending().boxed()
        }),
    );
    let calls = join_all((0..10).map(|_| one.call(2, SILENT, Bytes::new(), SECOND))).await;
    assert!(calls.iter().all(|answer| *answer == Err(CallError::Unknown)));
    assert_eq!(started.load(Ordering::Relaxed), 3);
}

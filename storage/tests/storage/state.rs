//! A replica's rows through checkpoints, installs and crashes.

use std::sync::Arc;

use bytes::Bytes;
use ordergrid_storage::{
    ChangedRows, Engine, EngineError, Fault, KeyRange, MemEngine, RowSink, ScanLimit, StateError, StateRows,
};

use crate::disks::{Disk, Gated, RocksDisk};

async fn open(disk: &dyn Disk, replica: u64) -> StateRows {
    StateRows::open(disk.open(), replica).await.expect("the disk works and is not damaged")
}

/// Rows of a checkpoint, as text.
struct Changed(Vec<(String, Option<String>)>);

impl ChangedRows for Changed {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, String::len)).sum()
    }

    fn show(self, to: RowSink<'_>) {
        for (key, value) in &self.0 {
            to(key.as_bytes(), value.as_ref().map(String::as_bytes));
        }
    }
}

/// `a=1` is a row, `a` removes one.
fn changed(changes: &[&str]) -> Changed {
    let row = |change: &&str| match change.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => ((*change).to_owned(), None),
    };
    Changed(changes.iter().map(row).collect())
}

async fn checkpoint(state: &StateRows, meta: &'static str, changes: &[&str]) {
    state.checkpoint(meta.into(), changed(changes)).await.expect("the disk works");
}

async fn install(state: &StateRows, meta: &'static str, changes: &[&str]) {
    let mut install = state.install().await;
    for (key, value) in changed(changes).0 {
        let value = value.expect("an install has no removals");
        install.put(vec![(key.into(), value.into())]).await.expect("the disk works");
    }
    install.commit(meta.into()).await.expect("the disk works");
}

/// Meta, then rows, such as `m1: a=1 b=1`.
async fn seen(state: &StateRows) -> String {
    let rows = state.scan(Bytes::new(), None, usize::MAX).await.expect("the disk works");
    text(state.meta(), &rows)
}

fn text(meta: Option<Bytes>, rows: &[(Bytes, Bytes)]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let rows: Vec<_> = rows.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
    format!("{}: {}", meta.map_or("none".to_owned(), |meta| text(&meta)), rows.join(" "))
}

fn disks() -> [Box<dyn Disk>; 2] {
    [Box::new(MemEngine::new()), Box::new(RocksDisk::state())]
}

#[tokio::test]
async fn a_checkpoint_is_durable_on_return_and_replicas_are_apart() {
    for disk in disks() {
        {
            let one = open(disk.as_ref(), 1).await;
            assert_eq!(seen(&one).await, "none: ");
            checkpoint(&one, "m1", &["a=1", "b=1", "c=1"]).await;
            checkpoint(&one, "m2", &["a=2", "b", "x"]).await;
        }
        disk.stop();
        let (one, other) = {
            let engine = disk.open();
            let one = StateRows::open(engine.clone(), 1).await.expect("the disk works");
            (one, StateRows::open(engine, 2).await.expect("the disk works"))
        };
        assert_eq!(seen(&one).await, "m2: a=2 c=1");
        assert_eq!(seen(&other).await, "none: ");
        let keys = ["c", "b", "a"].map(Bytes::from).to_vec();
        assert_eq!(one.get_many(keys).await.expect("the disk works"), [Some("1".into()), None, Some("2".into())]);
    }
}

#[tokio::test]
async fn scanning_by_prefix_goes_on_where_it_ended() {
    let disk = MemEngine::new();
    let state = open(&disk, 1).await;
    checkpoint(&state, "m", &["a1=1", "a2=1", "a3=1", "b1=1", "b\u{7f}=1", "c=1"]).await;
    #[rustfmt::skip]
    let table: [(&'static str, Option<&'static str>, usize, &str); 7] = [
        // prefix, after,       bytes,      rows
        ("a",      None,        usize::MAX, "m: a1=1 a2=1 a3=1"),
        ("a",      Some("a1"),  usize::MAX, "m: a2=1 a3=1"),
        ("a",      Some("a3"),  usize::MAX, "m: "),
        ("b",      Some("a"),   usize::MAX, "m: b1=1 b\u{7f}=1"),
        ("b",      Some("b1"),  1,          "m: b\u{7f}=1"),
        ("",       Some("b2"),  usize::MAX, "m: b\u{7f}=1 c=1"),
        ("d",      None,        usize::MAX, "m: "),
    ];
    for (prefix, after, bytes, expected) in table {
        let rows = state.scan(prefix.into(), after.map(Bytes::from), bytes).await.expect("the disk works");
        assert_eq!(text(state.meta(), &rows), expected, "{prefix} {after:?} {bytes}");
    }
}

#[tokio::test]
async fn a_view_is_of_one_checkpoint() {
    for disk in disks() {
        let state = open(disk.as_ref(), 1).await;
        assert!(state.view().await.expect("the disk works").is_none());
        checkpoint(&state, "m1", &["a=1", "b=1", "c=1"]).await;
        let view = state.view().await.expect("the disk works").expect("a checkpoint");
        checkpoint(&state, "m2", &["a=2", "c"]).await;
        install(&state, "m3", &["z=3"]).await;

        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let chunk = view.next_chunk(after, 1).await.expect("the disk works");
            let Some((last, _)) = chunk.last() else { break };
            after = Some(last.clone());
            all.extend(chunk);
        }
        assert_eq!(text(Some(view.meta()), &all), "m1: a=1 b=1 c=1");
        assert_eq!(seen(&state).await, "m3: z=3");
    }
}

#[tokio::test]
async fn an_install_replaces_everything_and_leaves_no_trace_of_it() {
    for disk in disks() {
        let state = open(disk.as_ref(), 1).await;
        checkpoint(&state, "m1", &["a=1", "b=1"]).await;
        let mut abandoned = state.install().await;
        abandoned.put(vec![("x".into(), "9".into())]).await.expect("the disk works");
        drop(abandoned);
        let mut second = state.install().await;
        second.put(vec![("b".into(), "2".into()), ("c".into(), "2".into())]).await.expect("the disk works");
        assert_eq!(seen(&state).await, "m1: a=1 b=1", "an install shows before its commit");
        checkpoint(&state, "m1b", &["a=3"]).await;
        second.commit("m2".into()).await.expect("the disk works");
        assert_eq!(seen(&state).await, "m2: b=2 c=2");
        checkpoint(&state, "m3", &["c", "d=3"]).await;
        drop(state);
        disk.stop();

        let state = open(disk.as_ref(), 1).await;
        assert_eq!(seen(&state).await, "m3: b=2 d=3");
        drop(state);
        let left = disk.open().scan(KeyRange::all(), ScanLimit::rows(99)).await.expect("the disk works");
        assert_eq!(left.len(), 3, "the head and two rows: {left:?}");
    }
}

/// Whatever a crash during an install leaves is all of the old or all of the new.
#[tokio::test]
async fn a_crash_during_an_install_leaves_one_or_the_other() {
    let mut outcomes = std::collections::BTreeSet::new();
    for writes in 0..8 {
        for seed in 0..8 {
            let disk = MemEngine::new();
            let state = open(&disk, 1).await;
            checkpoint(&state, "old", &["a=1", "b=1"]).await;
            disk.fail_write(writes, Fault::NotSynced);
            let done = async {
                let mut install = state.install().await;
                install.put(vec![("b".into(), "2".into())]).await?;
                install.put(vec![("c".into(), "2".into())]).await?;
                install.commit("new".into()).await
            };
            let done = done.await.is_ok();
            disk.crash_keeping_some(seed);
            let found = seen(&open(&disk, 1).await).await;
            assert!(["old: a=1 b=1", "new: b=2 c=2"].contains(&found.as_str()), "after {writes} writes: {found}");
            assert!(!done || found.starts_with("new"), "a finished install was lost");
            outcomes.insert((done, found));
        }
    }
    assert_eq!(outcomes.len(), 3, "old or new unfinished, and new finished: {outcomes:?}");
}

#[tokio::test]
async fn a_crash_during_a_checkpoint_leaves_one_or_the_other() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..16 {
        let disk = MemEngine::new();
        let state = open(&disk, 1).await;
        checkpoint(&state, "m1", &["a=1", "b=1"]).await;
        disk.fail_write(0, Fault::NotSynced);
        let failed = state.checkpoint("m2".into(), changed(&["a=2", "b"])).await;
        assert!(matches!(failed, Err(StateError::Engine(EngineError::Disk(_)))));
        assert_eq!(state.meta(), Some("m1".into()), "a failed checkpoint is not the last one");
        disk.crash_keeping_some(seed);
        outcomes.insert(seen(&open(&disk, 1).await).await);
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["m1: a=1 b=1", "m2: a=2"]);
}

#[tokio::test]
async fn the_first_of_two_installs_to_commit_last_is_refused() {
    let disk = MemEngine::new();
    let state = open(&disk, 1).await;
    let (early, late) = (state.install().await, state.install().await);
    late.commit("late".into()).await.expect("the disk works");
    assert_eq!(early.commit("early".into()).await, Err(StateError::Overtaken));
    assert_eq!(seen(&state).await, "late: ");
}

/// The future of a change was dropped after its write had been queued: memory does not know which state the disk has.
#[tokio::test]
async fn nothing_is_built_on_an_abandoned_change() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::above(disk.open());
    let state = StateRows::open(engine, 1).await.expect("the disk works");
    gate.add_permits(1);
    checkpoint(&state, "m1", &["a=1"]).await;
    {
        let dropped = std::pin::pin!(state.checkpoint("m2".into(), changed(&["a=2"])));
        assert!(futures::poll!(dropped).is_pending());
    }
    gate.add_permits(9);
    assert_eq!(state.checkpoint("m3".into(), changed(&["a=3"])).await, Err(StateError::Abandoned));
    assert_eq!(state.install().await.commit("m4".into()).await, Err(StateError::Abandoned));
    assert_eq!(seen(&open(&disk, 1).await).await, "m1: a=1");
}

#[tokio::test]
async fn a_damaged_head_is_refused() {
    let disk = MemEngine::new();
    checkpoint(&open(&disk, 1).await, "m1", &["a=1"]).await;
    let engine: Arc<dyn Engine> = disk.open();
    let (key, value) = engine.scan(KeyRange::all(), ScanLimit::rows(1)).await.expect("the disk works").remove(0);
    let mut batch = ordergrid_storage::Batch::new();
    batch.put(&key, &value[..value.len() - 1]);
    engine.write(batch, ordergrid_storage::Durability::Synced).await.expect("the disk works");
    assert!(matches!(StateRows::open(engine, 1).await, Err(StateError::Head { replica: 1, .. })));
}

#[tokio::test]
async fn a_destroyed_replica_leaves_nothing_and_its_neighbours_everything() {
    let disk = MemEngine::new();
    for replica in 1..4 {
        checkpoint(&open(&disk, replica).await, "m", &["a=1"]).await;
    }
    StateRows::destroy(disk.open().as_ref(), 2).await.expect("the disk works");
    disk.crash();
    for (replica, expected) in [(1, "m: a=1"), (2, "none: "), (3, "m: a=1")] {
        assert_eq!(seen(&open(&disk, replica).await).await, expected, "{replica}");
    }
}

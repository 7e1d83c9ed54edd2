//! What a log keeps in memory for those who wait, and what may not follow it.

use std::io;

use futures::{FutureExt, StreamExt};
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use ordergrid_storage::{LogLimits, MemEngine};

use crate::disks::{Disk, Gated};
use crate::log::{durable, text};
use crate::raft::{AWAITED, TestConfig, entry, store_within, writer_on};

/// Whoever waits for an entry goes with it: it must not come back from the disk without them.
#[tokio::test]
async fn what_is_awaited_stays_in_memory_until_it_is_applied() {
    let disk = MemEngine::new();
    let (engine, gate) = Gated::scans_above(disk.open(), 1);
    let mut log = store_within(&writer_on(engine), 1, LogLimits { tail_bytes: 0, read_bytes: 100 }).await;
    for index in 0..6 {
        let (done, flushed) = TestConfig::oneshot();
        let text = if index < 2 { "" } else { AWAITED };
        log.append([entry(1, index, text)], IOFlushed::signal(done)).await.expect("the log works");
        durable(flushed).await;
    }
    let mut reader = log.get_log_reader().await;
    // A read of the disk would wait at the gate.
    let replicated = reader.try_get_log_entries(2..6).now_or_never().expect("in memory").expect("no holes");
    assert_eq!(text(&replicated), "1/2 1/3 1/4 1/5");
    assert!(
        reader.try_get_log_entries(1..6).now_or_never().is_none(),
        "nobody waits for the first ones: they are on the disk alone"
    );
    let mut applying = reader.clone();
    let applied: Vec<_> = applying.entries_stream(2..4).await.collect().now_or_never().expect("in memory");
    assert_eq!(applied.len(), 2);
    assert!(reader.try_get_log_entries(2..6).now_or_never().is_none(), "what was applied has gone");
    assert!(reader.try_get_log_entries(4..6).now_or_never().is_some(), "what was not has not");
    drop(gate);
}

#[tokio::test]
async fn an_entry_of_an_earlier_term_does_not_follow() {
    let disk = MemEngine::new();
    let mut log = store_within(&writer_on(disk.open()), 1, LogLimits::default()).await;
    let (done, flushed) = TestConfig::oneshot();
    log.append([entry(2, 0, ""), entry(2, 1, "")], IOFlushed::signal(done)).await.expect("the log works");
    durable(flushed).await;
    for refused in [vec![entry(1, 2, "")], vec![entry(3, 2, ""), entry(2, 3, "")]] {
        let error = log.append(refused, IOFlushed::noop()).await.expect_err("its term is over");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("is older than"), "{error}");
    }
}

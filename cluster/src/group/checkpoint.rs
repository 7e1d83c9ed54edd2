//! When checkpoints are written: by time, by dirty bytes, or on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;

use super::handle::Handle;
use super::peer::Raft;
use super::{Stopped, closed};
use crate::applier::Shared;
use crate::ids::ReplicaId;

/// How long a checkpoint may take before it is asked for once more.
const TRIGGER_AGAIN: Duration = Duration::from_millis(500);

/// The first checkpoints of groups that start together are spread over so many parts of the interval.
const SPREAD: u32 = 16;

/// The replicas of a group reach a number of dirty bytes with the same entry. So that they do not all write a checkpoint then,
/// and on one machine take its processors together, some begin with a little less.
pub(super) fn dirty_limit(most: u64, replica: ReplicaId) -> u64 {
    most - most / 8 * (replica % 3)
}

/// Writes checkpoints until the replica stops.
pub(super) async fn keep<RT: AsyncRuntime + Send + Sync>(handle: std::sync::Weak<Handle<RT>>) {
    let Some(started) = handle.upgrade() else {
        return;
    };
    let (shared, every) = (started.shared.clone(), started.config.checkpoint_every);
    let mut closing = started.closing.subscribe();
    // Groups that start together do not write their checkpoints together.
    let mut pause = every * (1 + started.group.0 % SPREAD) / SPREAD;
    drop(started);
    loop {
        tokio::select! {
            biased;
            () = closed(&mut closing) => return,
            () = shared.dirty.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = every;
        let Some(handle) = handle.upgrade() else {
            return;
        };
        if handle.checkpoint_now().await.is_err() {
            return;
        }
    }
}

impl<RT: AsyncRuntime + Send + Sync> Handle<RT> {
    /// Writes checkpoints until one covers what is applied by now.
    pub(super) async fn checkpoint_now(&self) -> Result<(), Stopped> {
        let wanted = self.shared.applied_next();
        let mut durable = self.shared.durable();
        let mut closing = self.closing.subscribe();
        loop {
            if *durable.borrow_and_update() >= wanted {
                return Ok(());
            }
            self.raft.trigger().snapshot().await.map_err(|_| Stopped)?;
            // A trigger that meets a running checkpoint is dropped, also in the moment between its being durable and
            // openraft's knowing; so it is repeated.
            tokio::select! {
                biased;
                () = tokio::time::sleep(TRIGGER_AGAIN) => {}
                () = closed(&mut closing) => return Err(Stopped),
                changed = durable.changed() => changed.map_err(|_| Stopped)?,
                () = self.failed() => return Err(Stopped),
            }
        }
    }

    /// Resolves when consensus has failed.
    async fn failed(&self) {
        use super::Group;
        self.stopped().await;
    }
}

/// Lets a checkpoint wait until the log is durable up to what the checkpoint says is applied. Apply may run ahead of
/// the local log on a follower; a checkpoint that did so across a crash could meet another entry in the same place.
pub(super) fn gate_on_log<RT: AsyncRuntime + Send + Sync>(raft: &Raft<RT>, shared: &Shared, durable_before: u64) {
    // One past the last index that was in the log when the replica started: durable by definition.
    let durable_next = Arc::new(AtomicU64::new(durable_before));
    // Not the replica's handle: what is kept here must not keep the replica alive.
    let progress = raft.watch_log_progress();
    *shared.log_durable.lock() = Some(Arc::new(move |last| {
        let mut flushed = progress.clone();
        let durable_next = durable_next.clone();
        Box::pin(async move {
            if last.index < durable_next.load(Ordering::Acquire) {
                return;
            }
            let reached = flushed.wait_until(|point| {
                point.as_ref().is_some_and(|point| {
                    point.last_log_id.as_ref() >= Some(&last) || point.vote.leader_id.term > last.leader_id.term
                })
            });
            // An error means that consensus has stopped; then this checkpoint does not matter any more.
            if reached.await.is_ok() {
                durable_next.fetch_max(last.index + 1, Ordering::AcqRel);
            }
        })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_replicas_call_for_checkpoints_at_three_times() {
        let mib = |replica| dirty_limit(64 << 20, replica) >> 20;
        assert_eq!([1, 2, 3, 4].map(mib), [56, 48, 64, 56]);
    }
}

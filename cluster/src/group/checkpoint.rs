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

/// Time after which a checkpoint that has not ended is triggered again.
const TRIGGER_AGAIN: Duration = Duration::from_millis(500);

/// Number of parts of the interval over which the first checkpoints of groups are spread.
const SPREAD: u32 = 16;

/// Number of dirty bytes at which this replica writes a checkpoint. All replicas of a group reach a number of dirty bytes with
/// the same entry, so some get a slightly lower limit: otherwise all of them would write at the same time, and compete for the
/// processors if they share a machine.
pub(super) fn dirty_limit(most: u64, replica: ReplicaId) -> u64 {
    most - most / 8 * (replica % 3)
}

/// Writes periodic checkpoints until the replica stops.
pub(super) async fn keep<RT: AsyncRuntime + Send + Sync>(handle: std::sync::Weak<Handle<RT>>) {
    let Some(started) = handle.upgrade() else {
        return;
    };
    let (shared, every) = (started.shared.clone(), started.config.checkpoint_every);
    let mut closing = started.closing.subscribe();
    // Groups that start together write their first checkpoints at different times.
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
    /// Writes checkpoints until one covers everything that is applied now.
    pub(super) async fn checkpoint_now(&self) -> Result<(), Stopped> {
        let wanted = self.shared.applied_next();
        let mut durable = self.shared.durable();
        let mut closing = self.closing.subscribe();
        loop {
            if *durable.borrow_and_update() >= wanted {
                return Ok(());
            }
            self.raft.trigger().snapshot().await.map_err(|_| Stopped)?;
            // openraft drops a trigger while a checkpoint runs, and also between the moment a checkpoint is durable and the
            // moment openraft knows it. So the trigger is repeated.
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

/// Delays a checkpoint until the log is durable up to the last entry that the checkpoint covers. A follower may apply an entry
/// before its own log has stored it. If such a checkpoint survived a crash and the entry did not, another entry could take its
/// index.
pub(super) fn gate_on_log<RT: AsyncRuntime + Send + Sync>(raft: &Raft<RT>, shared: &Shared, durable_before: u64) {
    // One past the last index that was in the log when the replica started. These entries are durable.
    let durable_next = Arc::new(AtomicU64::new(durable_before));
    // No handle of the replica is captured: it would keep the replica alive.
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
            // An error means that consensus has stopped. This checkpoint is of no use then.
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

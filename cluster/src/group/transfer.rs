//! Leadership transfer, with the checks that openraft leaves out.
//!
//! openraft's transfer cannot be cancelled: the leader stops serving at once, and if the target does not take over, the group
//! waits for an election. So the target must be a voter, must answer, and must have caught up while this node refuses new
//! proposals. Before that, work that would end with the leadership may finish. At the end this node applies everything in the
//! log, so that callers get their outcomes.

use std::sync::atomic::Ordering;

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;

use super::handle::Handle;
use super::{Group, Member, TransferError};
use crate::ids::NodeId;

/// Resets the flags when the transfer ends, however it ends.
struct Leaving<'a, RT: AsyncRuntime + Send + Sync>(&'a Handle<RT>);

impl<RT: AsyncRuntime + Send + Sync> Drop for Leaving<'_, RT> {
    fn drop(&mut self) {
        self.0.transferring.store(false, Ordering::Release);
        self.0.leaving.store(false, Ordering::Release);
        self.0.shared.machine().resume();
    }
}

impl<RT: AsyncRuntime + Send + Sync> Handle<RT> {
    pub(super) async fn hand_over(&self, to: NodeId) -> Result<(), TransferError> {
        let term = self.leading().ok_or(TransferError::NotLeader)?;
        if to == self.mesh.node() {
            return Ok(());
        }
        let target = self.voter_on(to)?;
        if self.leaving.swap(true, Ordering::AcqRel) {
            return Err(TransferError::UnderWay);
        }
        let _lowered = Leaving(self);
        let deadline = self.config.transfer_deadline;
        if !self.mesh.reaches(to, deadline).await {
            return Err(TransferError::Unreachable(to));
        }
        // Work that takes longer ends with an unknown outcome; its caller asks again.
        tokio::time::timeout(deadline, self.shared.machine().quiesce()).await.ok();
        self.transferring.store(true, Ordering::Release);
        let caught_up = async {
            let next = self.caught_up(target.replica, term).await?;
            self.applied_at_least(next).await.map_err(|_| TransferError::Stopped)
        };
        match tokio::time::timeout(deadline, caught_up).await {
            Ok(caught_up) => caught_up?,
            Err(_) => return Err(TransferError::Behind(to)),
        }
        tracing::info!(shard = %self.group, term, peer = to, "leadership transfer started");
        self.raft.trigger().transfer_leader(target.replica).await.map_err(|_| TransferError::Stopped)?;
        let mut leadership = self.leadership.clone();
        let taken = leadership.wait_for(|now| now.term > term && now.leader.is_some());
        match tokio::time::timeout(deadline, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut),
        }
    }

    /// The term this node leads and serves.
    fn leading(&self) -> Option<u64> {
        let now = *self.leadership.borrow();
        now.ready_here.then_some(now.term)
    }

    fn voter_on(&self, node: NodeId) -> Result<Member, TransferError> {
        let members = self.status().members;
        members.into_iter().find(|member| member.node == node && member.voter).ok_or(TransferError::NotVoter(node))
    }

    /// Waits until the target holds everything in the log, which no longer grows; returns the index after its last entry.
    async fn caught_up(&self, target: u64, term: u64) -> Result<u64, TransferError> {
        let mut data = self.raft.data_metrics();
        loop {
            if self.leading() != Some(term) {
                return Err(TransferError::NotLeader);
            }
            {
                let data = data.borrow_and_update();
                let matched = data.replication.as_ref().and_then(|known| known.get(&target).copied()).flatten();
                if matched.is_some() && matched == data.last_log {
                    return Ok(matched.map_or(0, |matched| matched.index + 1));
                }
            }
            data.changed().await.map_err(|_| TransferError::Stopped)?;
        }
    }
}

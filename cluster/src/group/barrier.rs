//! Read barriers by quorum: many callers share one round of heartbeats.
//!
//! A caller needs a round that begins after its call. While a round runs, callers gather for the next one, so at most
//! one is under way and every caller waits for at most two.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{AsyncRuntime, LinearizerOption};
use tokio::sync::oneshot;

use super::BarrierError;
use super::handle::Handle;

type Waiting = oneshot::Sender<Result<u64, BarrierError>>;

/// Callers of the next round.
#[derive(Default)]
pub(crate) struct Barriers {
    running: bool,
    next: Vec<Waiting>,
}

impl<RT: AsyncRuntime + Send + Sync> Handle<RT> {
    pub(super) async fn by_quorum(self: Arc<Self>) -> Result<u64, BarrierError> {
        let (sender, answer) = oneshot::channel();
        let idle = {
            let mut barriers = self.barriers.lock();
            barriers.next.push(sender);
            !std::mem::replace(&mut barriers.running, true)
        };
        if idle {
            // A separate task: callers may leave while the rounds go on for the others. Spawned on tokio, because callers may
            // run outside `RT`.
            tokio::spawn(self.clone().rounds());
        }
        answer.await.unwrap_or(Err(BarrierError::Stopped))
    }

    async fn rounds(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut barriers = self.barriers.lock();
                if barriers.next.is_empty() {
                    barriers.running = false;
                    return;
                }
                std::mem::take(&mut barriers.next)
            };
            let round = tokio::time::timeout(self.config.barrier_deadline, self.round()).await;
            let answer = round.unwrap_or(Err(BarrierError::NoQuorum));
            self.shared.meters.barrier(waiting.len(), false);
            for caller in waiting {
                // The receiver is gone if the caller has left.
                caller.send(answer.clone()).ok();
            }
        }
    }

    async fn round(&self) -> Result<u64, BarrierError> {
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(self.config.barrier_deadline);
        let read = match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => linearizer.read_log_id().index(),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                return Err(BarrierError::NotLeader { leader: forward.leader_node.map(|host| host.0) });
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                return Err(BarrierError::NoQuorum);
            }
            Err(RaftError::Fatal(_)) => return Err(BarrierError::Stopped),
        };
        self.applied_at_least(read + 1).await.map_err(|_| BarrierError::Stopped)?;
        Ok(read)
    }
}

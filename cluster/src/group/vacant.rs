//! The stand-in for a replica that cannot run: it leads nothing, answers nothing, and waits to be replaced.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_domain::GroupId;
use tokio::sync::watch;

use super::{BarrierError, Group, GroupRef, GroupStatus, Leadership, Promised, ProposeError, Role, Stopped, TransferError};
use crate::ids::{EntryId, NodeId, ReplicaId};
use crate::packed::Packed;

struct Vacant {
    group: GroupId,
    replica: ReplicaId,
    leadership: watch::Sender<Leadership>,
}

/// A handle on a replica of `group` that does not run. It refuses every call, and does not stop by itself.
#[must_use]
pub fn vacant(group: GroupId, replica: ReplicaId) -> GroupRef {
    Arc::new(Vacant { group, replica, leadership: watch::Sender::new(Leadership::default()) })
}

fn said<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    std::future::ready(answer).boxed()
}

impl Group for Vacant {
    fn id(&self) -> GroupId {
        self.group
    }

    fn replica(&self) -> ReplicaId {
        self.replica
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn led(&self) -> bool {
        false
    }

    fn propose(&self, _term: u64, _entry: Arc<Packed>) -> BoxFuture<'static, Result<EntryId, ProposeError>> {
        said(Err(ProposeError::NotLeader { leader: None }))
    }

    fn barrier(&self) -> BoxFuture<'_, Result<u64, BarrierError>> {
        said(Err(BarrierError::Stopped))
    }

    fn has_lease(&self) -> bool {
        false
    }

    fn applied(&self) -> u64 {
        0
    }

    fn lag(&self) -> u64 {
        0
    }

    fn below_floor(&self) -> bool {
        false
    }

    fn stands(&self) -> Option<Duration> {
        None
    }

    fn promised(&self) -> BoxFuture<'_, Option<Promised>> {
        said(None)
    }

    fn wait_applied(&self, _index: u64) -> BoxFuture<'_, Result<(), Stopped>> {
        said(Err(Stopped))
    }

    fn transfer(&self, _to: NodeId) -> BoxFuture<'_, Result<(), TransferError>> {
        said(Err(TransferError::NotLeader))
    }

    fn stand(&self, _stand: bool) {}

    fn checkpoint(&self) -> BoxFuture<'_, Result<(), Stopped>> {
        said(Err(Stopped))
    }

    fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.group,
            replica: self.replica,
            role: Role::Stopped,
            term: 0,
            leader: None,
            last_log: 0,
            committed: 0,
            applied: 0,
            checkpoint: 0,
            purged: 0,
            vouched: None,
            led: false,
            members: Vec::new(),
        }
    }

    fn stopped(&self) -> BoxFuture<'static, Option<String>> {
        std::future::pending().boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        said(())
    }
}

//! Which node serves a slot: this one, another one, or none at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ordergrid_domain::{GroupId, Slot};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::group::{Group, GroupRef, Leadership, TransferError};
use crate::ids::NodeId;
use crate::meta::{Shard, ShardMap};

/// The destination of a request for a slot.
#[derive(Clone)]
pub enum Route {
    /// This node leads the shard and may serve.
    Local {
        /// The group.
        group: GroupRef,
        /// The term that fences every proposal of the request.
        term: u64,
    },
    /// Another node leads, as far as is known. It may refuse the request, but never forwards it again.
    Remote {
        /// The group.
        group: GroupId,
        /// The node.
        node: NodeId,
    },
    /// No leader is known, or this node is about to lead. Try again after a moment.
    NoLeader {
        /// The group.
        group: GroupId,
    },
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { group, term } => write!(f, "Local({} in term {term})", group.id()),
            Self::Remote { group, node } => write!(f, "Remote({group} on node {node})"),
            Self::NoLeader { group } => write!(f, "NoLeader({group})"),
        }
    }
}

/// Routes by the shard map and by the leaders that the local replicas know.
pub struct Router {
    node: NodeId,
    state: RwLock<State>,
}

struct State {
    map: Arc<ShardMap>,
    groups: BTreeMap<GroupId, Local>,
    /// The last known leader of each group without a replica on this node.
    hints: BTreeMap<GroupId, NodeId>,
    /// Nodes that should not lead at the moment.
    avoided: BTreeSet<NodeId>,
}

struct Local {
    group: GroupRef,
    leadership: watch::Receiver<Leadership>,
}

impl Router {
    /// A router of `node` with `map`.
    #[must_use]
    pub fn new(node: NodeId, map: Arc<ShardMap>) -> Arc<Self> {
        let state = State { map, groups: BTreeMap::new(), hints: BTreeMap::new(), avoided: BTreeSet::new() };
        Arc::new(Self { node, state: RwLock::new(state) })
    }

    /// Uses `map` from now on, unless it is older than the current map.
    pub fn set_map(&self, map: Arc<ShardMap>) {
        let mut state = self.state.write();
        if map.epoch > state.map.epoch {
            state.map = map;
        }
    }

    /// The current shard map.
    #[must_use]
    pub fn map(&self) -> Arc<ShardMap> {
        self.state.read().map.clone()
    }

    /// Adds a local replica.
    pub fn add(&self, group: GroupRef) {
        let leadership = group.leadership();
        self.state.write().groups.insert(group.id(), Local { group, leadership });
    }

    /// Removes a local replica.
    pub fn remove(&self, group: GroupId) {
        self.state.write().groups.remove(&group);
    }

    /// The local replica of `group`.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<GroupRef> {
        self.state.read().groups.get(&group).map(|local| local.group.clone())
    }

    /// All local replicas, sorted by group.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupRef> {
        self.state.read().groups.values().map(|local| local.group.clone()).collect()
    }

    /// The node that serves `slot`.
    #[must_use]
    pub fn route(&self, slot: Slot) -> Route {
        let state = self.state.read();
        let shard = state.map.shard_of(slot);
        self.find(&state, shard.group, Some(shard))
    }

    /// The node that serves `group`.
    #[must_use]
    pub fn route_group(&self, group: GroupId) -> Route {
        let state = self.state.read();
        self.find(&state, group, state.map.shard(group))
    }

    /// Records the leader of a group without a replica on this node, as an answer reported it.
    pub fn learn(&self, group: GroupId, node: NodeId) {
        self.state.write().hints.insert(group, node);
    }

    /// Avoids transferring leadership to these nodes from now on, unless there is no other.
    pub fn avoid(&self, nodes: BTreeSet<NodeId>) {
        self.state.write().avoided = nodes;
    }

    /// Whether leadership should not be transferred to a node at the moment.
    pub(crate) fn avoids(&self, node: NodeId) -> bool {
        self.state.read().avoided.contains(&node)
    }

    fn find(&self, state: &State, group: GroupId, shard: Option<&Shard>) -> Route {
        if let Some(local) = state.groups.get(&group) {
            let now = *local.leadership.borrow();
            return match now.leader {
                _ if now.ready_here => Route::Local { group: local.group.clone(), term: now.term },
                Some(node) if node != self.node => Route::Remote { group, node },
                _ => Route::NoLeader { group },
            };
        }
        let hint = state.hints.get(&group).copied().or_else(|| shard.and_then(Shard::preferred));
        match hint {
            Some(node) if node != self.node => Route::Remote { group, node },
            _ => Route::NoLeader { group },
        }
    }

    /// Transfers every leadership to the peer that has caught up best, all at once, for a clean stop. Leaderships that are not
    /// transferred within `deadline` are left to elections.
    pub async fn hand_over_all(&self, deadline: Duration) {
        let handing_over = self.groups().into_iter().map(|group| async move {
            if let Err(error) = self.hand_over(&*group).await {
                tracing::info!(node = self.node, shard = %group.id(), %error, "leadership transfer failed");
            }
        });
        if tokio::time::timeout(deadline, join_all(handing_over)).await.is_err() {
            tracing::warn!(node = self.node, "leadership transfers timed out");
        }
    }

    async fn hand_over(&self, group: &dyn Group) -> Result<(), TransferError> {
        let status = group.status();
        if status.leader != Some(self.node) {
            return Ok(());
        }
        let mut others: Vec<_> = status.members.iter().filter(|member| member.voter && member.node != self.node).collect();
        others.sort_by_key(|member| (self.avoids(member.node), std::cmp::Reverse(member.matched)));
        let mut last = Ok(());
        for other in others {
            last = group.transfer(other.node).await;
            if last.is_ok() {
                return Ok(());
            }
        }
        last
    }
}

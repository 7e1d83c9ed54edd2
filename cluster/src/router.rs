//! Who serves a slot: this node, another one, or nobody at the moment.

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

/// Where a request for a slot goes.
#[derive(Clone)]
pub enum Route {
    /// This node leads the shard and may serve.
    Local {
        /// The group.
        group: GroupRef,
        /// The term that every proposal of the request is fenced with.
        term: u64,
    },
    /// Another node leads, as far as is known; it may turn the request away, but never forwards it again.
    Remote {
        /// The group.
        group: GroupId,
        /// The node.
        node: NodeId,
    },
    /// No leader is known, or this node is about to lead: try again after a moment.
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

/// Routes by the shard map and by what the local replicas know of their leaders.
pub struct Router {
    node: NodeId,
    state: RwLock<State>,
}

struct State {
    map: Arc<ShardMap>,
    groups: BTreeMap<GroupId, Local>,
    /// For groups without a replica here: who last served.
    hints: BTreeMap<GroupId, NodeId>,
    /// Nodes that should not lead at the moment.
    avoided: BTreeSet<NodeId>,
}

struct Local {
    group: GroupRef,
    leadership: watch::Receiver<Leadership>,
}

impl Router {
    /// Routes for `node` by `map`.
    #[must_use]
    pub fn new(node: NodeId, map: Arc<ShardMap>) -> Arc<Self> {
        let state = State { map, groups: BTreeMap::new(), hints: BTreeMap::new(), avoided: BTreeSet::new() };
        Arc::new(Self { node, state: RwLock::new(state) })
    }

    /// Goes on with `map`, unless a newer one is known already.
    pub fn set_map(&self, map: Arc<ShardMap>) {
        let mut state = self.state.write();
        if map.epoch > state.map.epoch {
            state.map = map;
        }
    }

    /// The shard map in use.
    #[must_use]
    pub fn map(&self) -> Arc<ShardMap> {
        self.state.read().map.clone()
    }

    /// Adds a local replica.
    pub fn add(&self, group: GroupRef) {
        let leadership = group.leadership();
        self.state.write().groups.insert(group.id(), Local { group, leadership });
    }

    /// Forgets a local replica.
    pub fn remove(&self, group: GroupId) {
        self.state.write().groups.remove(&group);
    }

    /// The local replica of `group`.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<GroupRef> {
        self.state.read().groups.get(&group).map(|local| local.group.clone())
    }

    /// All local replicas in order of their groups.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupRef> {
        self.state.read().groups.values().map(|local| local.group.clone()).collect()
    }

    /// Who serves `slot`.
    #[must_use]
    pub fn route(&self, slot: Slot) -> Route {
        let state = self.state.read();
        let shard = state.map.shard_of(slot);
        self.find(&state, shard.group, Some(shard))
    }

    /// Who serves `group`.
    #[must_use]
    pub fn route_group(&self, group: GroupId) -> Route {
        let state = self.state.read();
        self.find(&state, group, state.map.shard(group))
    }

    /// Remembers who serves a group that has no replica here: an answer said so.
    pub fn learn(&self, group: GroupId, node: NodeId) {
        self.state.write().hints.insert(group, node);
    }

    /// From now on nothing is handed over to these nodes, unless there is nobody else.
    pub fn avoid(&self, nodes: BTreeSet<NodeId>) {
        self.state.write().avoided = nodes;
    }

    /// Whether a node should not lead at the moment.
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

    /// Hands every leadership over to the peer that has caught up best, all at once, for a clean stop. What cannot be
    /// handed over within `deadline` is left to an election.
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

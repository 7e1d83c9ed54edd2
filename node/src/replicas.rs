//! The replicas of a node, opened from its disk: the meta group's, and one of every shard that the map puts here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use openraft::impls::TokioRuntime;
use ordergrid_cluster::{
    ClusterId, ClusterSpec, GroupParts, GroupRef, Machine, Mesh, MetaMachine, MetaView, NodeId, Placement, ShardMap,
    StateStore, found_meta, record_founding, start_group,
};
use ordergrid_domain::GroupId;
use ordergrid_domain::machine::ShardConfig;
use ordergrid_storage::LogWriter;

use crate::config::NodeConfig;
use crate::glue;
use crate::node::{StartError, identity, moved, owners};
use crate::platform::Platform;
use crate::shard::ShardReplica;

/// What every replica of this node is made from.
pub(crate) struct Replicas<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) platform: &'a Platform,
    pub(crate) mesh: &'a Mesh,
    pub(crate) writer: &'a LogWriter,
    /// How many there are.
    pub(crate) replicas: usize,
}

impl Replicas<'_> {
    /// The meta group, and the work of founding it.
    pub(crate) async fn meta(
        &self,
        spec: &ClusterSpec,
        map: &ShardMap,
        cluster: ClusterId,
    ) -> Result<(GroupRef, BoxFuture<'static, Option<Arc<MetaView>>>), StartError> {
        let lowest = map.meta.first().map(|placement| placement.node);
        let replica = own(&map.meta, self.config.id).ok_or_else(|| missing(GroupId::META))?;
        let store = self.store(GroupId::META, replica).await?;
        let machine = MetaMachine::new(Arc::clone(&store));
        let preferred = lowest == Some(self.config.id);
        let group = self.group(GroupId::META, &map.meta, preferred, machine.clone(), store).await?;
        let founding = found_meta(Arc::clone(&group), machine, spec.clone(), cluster);
        Ok((group, Box::pin(founding)))
    }

    /// What the cluster was founded with is not on this disk, which an earlier version wrote: the meta group knows it.
    pub(crate) async fn prove(
        &self,
        spec: &ClusterSpec,
        cluster: ClusterId,
        view: Option<Arc<MetaView>>,
    ) -> Result<(), StartError> {
        let reason = || "it has stopped before it knew what the cluster was founded with".to_owned();
        let view = view.ok_or_else(|| StartError::Group { group: GroupId::META, reason: reason() })?;
        let (store, id) = (identity(self.platform), self.config.id);
        Ok(record_founding(&store, id, cluster, spec, view.founding(), moved(self.config)).await?)
    }

    /// Every shard that has a replica here.
    pub(crate) async fn shards(&self, map: &ShardMap) -> Result<Shards, StartError> {
        let owners = owners(map);
        let here = map.shards.iter().filter(|shard| shard.replica_on(self.config.id).is_some());
        let budget = self.config.row_memory(here.clone().count());
        let started = here.map(|shard| {
            let owners = owners.clone();
            async move {
                let replica = own(&shard.replicas, self.config.id).ok_or_else(|| missing(shard.group))?;
                let store = self.store(shard.group, replica).await?;
                let settings = ShardConfig::new(shard.group, owners);
                let machine = Arc::new(ShardReplica::new(settings, Arc::clone(&store), budget));
                let preferred = shard.preferred() == Some(self.config.id);
                let group = self.group(shard.group, &shard.replicas, preferred, machine.clone(), store).await?;
                Ok((shard.group, (group, machine)))
            }
        });
        join_all(started).await.into_iter().collect()
    }

    async fn store(&self, group: GroupId, replica: u64) -> Result<Arc<dyn StateStore>, StartError> {
        let opened = glue::state_store(Arc::clone(&self.platform.state_engine), replica).await;
        opened.map_err(|reason| StartError::Group { group, reason: reason.to_string() })
    }

    async fn group(
        &self,
        group: GroupId,
        replicas: &[Placement],
        preferred: bool,
        machine: Arc<dyn Machine>,
        store: Arc<dyn StateStore>,
    ) -> Result<GroupRef, StartError> {
        let failed = |reason: String| StartError::Group { group, reason };
        let replica = own(replicas, self.config.id).ok_or_else(|| missing(group))?;
        let log = glue::log_store(self.writer, replica, self.config).await.map_err(|error| failed(error.to_string()))?;
        let parts = GroupParts {
            group,
            replica,
            founders: replicas.iter().map(|placement| (placement.replica, placement.node)).collect(),
            preferred,
            config: self.config.grouping(self.replicas),
            machine,
            store,
            mesh: self.mesh.clone(),
            vouched: log.floor(),
        };
        start_group::<TokioRuntime, _>(parts, log).await.map_err(|error| failed(error.to_string()))
    }
}

/// The shards of a node: each with its group and what it applies to.
pub(crate) type Shards = BTreeMap<GroupId, (GroupRef, Arc<ShardReplica>)>;

fn own(replicas: &[Placement], node: NodeId) -> Option<u64> {
    replicas.iter().find(|placement| placement.node == node).map(|placement| placement.replica)
}

fn missing(group: GroupId) -> StartError {
    StartError::Group { group, reason: "the map has no replica of it on this node".to_owned() }
}

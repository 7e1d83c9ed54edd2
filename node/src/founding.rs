//! Which cluster this node belongs to, before any of its groups starts.

use std::sync::Arc;

use ordergrid_cluster::{Bootstrapper, ClusterId, ClusterSpec, Founded, Mesh, MetaView, record_founding};
use ordergrid_domain::GroupId;

use crate::adapters::Identity;
use crate::config::NodeConfig;
use crate::front::Front;
use crate::node::StartError;
use crate::platform::Platform;

/// Brings the node to the point where its groups may start; what that waits for is told meanwhile.
pub(crate) async fn bootstrap(
    config: &NodeConfig,
    platform: &Platform,
    spec: &ClusterSpec,
    mesh: &Mesh,
    front: &Arc<Front>,
) -> Result<Founded, StartError> {
    let waits = Arc::clone(front);
    let fresh = u128::from(platform.entropy.next_u64()) << 64 | u128::from(platform.entropy.next_u64());
    let bootstrapper = Bootstrapper {
        spec: spec.clone(),
        moved: moved(config),
        settings: config.agreement(),
        node: config.id,
        mesh: mesh.clone(),
        store: Arc::new(identity(config, platform)),
        fresh: ClusterId(fresh),
        waits: Box::new(move |why| waits.waits(Some(why))),
    };
    let founded = bootstrapper.run().await?;
    front.waits(None);
    Ok(founded)
}

/// What the cluster was founded with is not on this disk, which an earlier version wrote: the meta group knows it.
pub(crate) async fn prove(
    config: &NodeConfig,
    platform: &Platform,
    spec: &ClusterSpec,
    cluster: ClusterId,
    view: Option<Arc<MetaView>>,
) -> Result<(), StartError> {
    let reason = || "it has stopped before it knew what the cluster was founded with".to_owned();
    let view = view.ok_or_else(|| StartError::Group { group: GroupId::META, reason: reason() })?;
    Ok(record_founding(&identity(config, platform), config.id, cluster, spec, view.founding(), moved(config)).await?)
}

fn identity(config: &NodeConfig, platform: &Platform) -> Identity {
    Identity::new(config.id, Arc::clone(&platform.log_engine), Arc::clone(&platform.state_engine))
}

/// Names, zones and addresses of nodes may differ from those at the founding.
pub(crate) fn moved(config: &NodeConfig) -> bool {
    config.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.moved)
}

//! Watches the meta group while the node runs.

use std::sync::Arc;

use ordergrid_cluster::{ClusterId, ClusterSpec, GroupRef, MetaView};

use crate::context::NodeContext;
use crate::recovery::mend;
use crate::recovery::wholeness::Wholeness;
use crate::replicas::Replicas;

/// Checks that the meta group has the same cluster as this disk. If not, the disk holds data of two clusters.
pub(crate) async fn watch_founding(
    context: Arc<NodeContext>,
    founding: impl Future<Output = Option<Arc<MetaView>>>,
    spec: ClusterSpec,
    cluster: ClusterId,
) {
    // The answer is missing only if the group stops.
    let Some(view) = founding.await else { return };
    // The addresses of nodes may have changed since.
    let differences = spec.agreement(true).differences(&view.founding().agreement(true));
    let mut told = Vec::new();
    if view.cluster != cluster {
        told.push(format!("the meta group is of cluster {}, this disk of {cluster}", view.cluster));
    }
    if !differences.0.is_empty() {
        told.push(differences.told("on this disk", "in the meta group"));
    }
    if !told.is_empty() {
        context.fail(told.join("; "));
    }
}

/// A group that stops by itself has lost its disk or its machine: the process must end. Shards watch their own.
/// The meta group's rows are few, and the node needs them from the start on: damaged, they are filled anew by the next one.
pub(crate) async fn watch(context: Arc<NodeContext>, replicas: Arc<Replicas>, meta: GroupRef, whole: Arc<Wholeness>) {
    let reason = tokio::select! {
        biased;
        what = whole.found() => return mend::meta(&context, &replicas, &what).await,
        reason = meta.stopped() => reason,
    };
    if !context.stopping() {
        context.fail(format!("group {} has stopped: {}", meta.id(), reason.unwrap_or_else(|| "no reason given".to_owned())));
    }
}

//! Converts parts of the configuration into the settings of the components.

use ordergrid_api::{Account, Linger, ServeConfig};
use ordergrid_cluster::{Agreement, GroupConfig, MeshConfig};

use super::{NodeConfig, Size, Span};
use crate::platform::descriptors;

/// Smaller checkpoints would be mostly overhead.
const LEAST_CHECKPOINT: u64 = 1 << 20;

impl NodeConfig {
    /// The memory account of all requests to this node.
    #[must_use]
    pub fn account(&self) -> Account {
        Account::new(self.limits.requests)
    }

    /// Settings of the HTTP server. `request_id_prefix` is drawn at random once per start.
    #[must_use]
    pub fn serving(&self, request_id_prefix: u64, account: Account) -> ServeConfig {
        let limits = &self.limits;
        ServeConfig {
            limits: ordergrid_api::Limits {
                body_bytes: limits.order_body,
                batch_bytes: limits.batch_body,
                batch_orders: limits.batch_orders,
                order_lines: limits.order_lines,
                account,
                body_patience: limits.body_wait,
                grid_patience: limits.request,
                verify_patience: limits.verify,
                page_depth: limits.page_depth,
            },
            request_id_prefix,
            connections: limits.connections,
            idle: limits.connection_idle,
            headers: limits.header_wait,
            // The other half is for leadership transfers.
            finish: self.stop_within / 2,
            linger: Linger { time: limits.linger, bytes: limits.linger_bytes },
            streams: limits.connection_streams,
        }
    }

    /// Bytes of rows that each of `replicas` may keep in memory.
    #[must_use]
    pub fn row_memory(&self, replicas: usize) -> u64 {
        self.rows / replicas.max(1) as u64
    }

    /// Raft settings of each of `replicas`.
    #[must_use]
    pub fn grouping(&self, replicas: usize) -> GroupConfig {
        let checkpoint_bytes = self.group.checkpoint_bytes / replicas.max(1) as u64;
        GroupConfig { checkpoint_bytes: checkpoint_bytes.max(LEAST_CHECKPOINT), ..self.group.clone() }
    }

    /// Settings of the mesh.
    #[must_use]
    pub fn meshing(&self) -> MeshConfig {
        let limits = &self.limits;
        let connections = descriptors::mesh_connections(self.peers());
        MeshConfig { frame_limit: limits.frame, calls_queued: limits.mesh_queue, connections, ..MeshConfig::default() }
    }

    /// Number of other nodes in the cluster.
    pub(crate) fn peers(&self) -> usize {
        self.bootstrap.as_ref().map_or(0, |bootstrap| bootstrap.nodes.len().saturating_sub(1))
    }

    /// The settings that must be the same on every node while the grid runs, as an operator types them. A leader trusts its
    /// lease for as long as its peers promise not to vote; a peer's messages must fit; both sides check the limits of clocks
    /// and holds. Every other key may differ between nodes, and none affects the outcome of an entry.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let (group, limits) = (&self.group, &self.limits);
        Agreement::default()
            .and("raft.heartbeat", Span(group.heartbeat))
            .and("raft.election_min", Span(group.election_min))
            .and("raft.election_max", Span(group.election_max))
            .and("raft.lease_margin", Span(group.lease_margin))
            .and("orders.hold_valid", Span(self.hold_valid))
            .and("orders.reference_reuse", if self.references_once { "never" } else { "after_end" })
            .and("clock.skew", Span(self.clock_skew))
            .and("clock.leap", Span(self.clock_leap))
            .and("limits.frame", Size(limits.frame as u64))
    }
}

//! The parts of the configuration in the words of those who are given them.

use ordergrid_api::{Account, Linger, ServeConfig};
use ordergrid_cluster::{Agreement, GroupConfig, MeshConfig};

use super::{NodeConfig, Size, Span};
use crate::descriptors;

/// Smaller checkpoints would be all overhead.
const LEAST_CHECKPOINT: u64 = 1 << 20;

impl NodeConfig {
    /// The memory that all requests to this node share.
    #[must_use]
    pub fn account(&self) -> Account {
        Account::new(self.limits.requests)
    }

    /// What the HTTP server needs. `request_id_prefix` is drawn at random once per start.
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
            // The other half is for handing leaderships over.
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

    /// How each of `replicas` agrees with its peers and reaches the disk.
    #[must_use]
    pub fn grouping(&self, replicas: usize) -> GroupConfig {
        let checkpoint_bytes = self.group.checkpoint_bytes / replicas.max(1) as u64;
        GroupConfig { checkpoint_bytes: checkpoint_bytes.max(LEAST_CHECKPOINT), ..self.group.clone() }
    }

    /// What the mesh needs.
    #[must_use]
    pub fn meshing(&self) -> MeshConfig {
        let limits = &self.limits;
        let connections = descriptors::mesh_connections(self.peers());
        MeshConfig { frame_limit: limits.frame, calls_queued: limits.mesh_queue, connections, ..MeshConfig::default() }
    }

    /// How many other nodes the cluster has.
    pub(crate) fn peers(&self) -> usize {
        self.bootstrap.as_ref().map_or(0, |bootstrap| bootstrap.nodes.len().saturating_sub(1))
    }

    /// The settings that must be the same on every node for as long as the grid runs, as an operator types them. A leader
    /// trusts its lease for as long as the others promise not to vote; a peer's messages must fit; what clocks and holds are
    /// allowed is judged by both sides. Every other key is a node's own affair, and none decides what an entry comes to.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let (group, limits) = (&self.group, &self.limits);
        Agreement::default()
            .and("raft.heartbeat", Span(group.heartbeat))
            .and("raft.election_min", Span(group.election_min))
            .and("raft.election_max", Span(group.election_max))
            .and("raft.lease_margin", Span(group.lease_margin))
            .and("orders.hold_valid", Span(self.hold_valid))
            .and("clock.skew", Span(self.clock_skew))
            .and("clock.leap", Span(self.clock_leap))
            .and("limits.frame", Size(limits.frame as u64))
    }
}

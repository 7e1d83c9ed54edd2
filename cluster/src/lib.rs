//! The cluster: which entries are applied, in which order, who leads, and where replicas live.
//!
//! A node starts a [`Mesh`], runs a [`Bootstrapper`], starts a [`Group`] per replica with [`start_group`], and routes with a
//! [`Router`]. It provides a [`Transport`], a [`WireCodec`], and for each replica a log (openraft's `RaftLogStorage` over
//! [`RaftTypes`], encoded with `encoding`), a [`StateStore`] and a [`Machine`].
//!
//! | Module | Decides |
//! |---|---|
//! | `group` | what a replica does: propose, read, lead, checkpoint, transfer leadership |
//! | `applier` | how a machine and its rows become openraft's state machine |
//! | `mesh` | how nodes communicate: lanes, frames, identities, deadlines |
//! | `group::network`, `wire` | how consensus communicates over the mesh |
//! | `meta` | what a cluster is and how it is founded |
//! | `router`, `balancer` | who serves a slot, and who should |
//! | `grid`, `encoding`, `runtime` | openraft's type parameters, and their byte formats |

mod applier;
mod balancer;
mod config_error;
pub mod encoding;
mod group;
mod ids;
mod machine;
mod mesh;
mod meta;
pub mod metrics;
mod packed;
mod raft_types;
mod router;
mod runtime;
mod state;
mod wire;

pub use applier::{Applier, CheckpointBuilder, SnapshotData};
pub use balancer::{BalancerConfig, balance};
pub use config_error::ConfigError;
pub use encoding::DecodeError;
pub use group::{
    Admission, BarrierError, Clocks, Group, GroupConfig, GroupParts, GroupRef, GroupStatus, Leadership, Member, Promised,
    ProposeError, Recalled, Role, StartError, Stopped, TooFew, TransferError, Vouched, at_once, recall, start_group, vacant,
    whole,
};
pub use ids::{ClusterId, EntryId, NodeId, ReplicaId};
pub use machine::{DirtyRows, Machine, MachineError};
pub use mesh::{CallError, Listener, Mesh, MeshConfig, Service, Stream, Transport, WireCodec};
pub use meta::{
    Agreement, BootstrapError, Bootstrapper, ClusterSpec, Difference, Differences, Founded, IdentityStore, MetaMachine,
    MetaView, NodeSpec, Placement, Shard, ShardMap, SpecError, asked, found_meta, founding_of, record_founding,
};
pub use packed::{Packed, Payload};
pub use raft_types::{
    CommittedLeaderId, EntryBody, Host, LeaderId, LogId, Membership, RaftEntry, RaftTypes, SnapshotMeta, StoredMembership, Vote,
};
pub use router::{Route, Router};
pub use runtime::Prompt;
pub use state::{Install, Row, StateStore, StateView, StoreError};

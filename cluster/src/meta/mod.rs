//! The cluster's own state: who its nodes are and where the shards live.
//!
//! `spec` says what the operator asks for and derives the first shard map from it, `bootstrap` agrees on it and keeps on
//! each disk what was agreed, `agreement` says where two nodes differ, `machine` keeps it replicated in group 0.

mod agreement;
mod bootstrap;
mod machine;
mod map;
mod spec;

pub use agreement::{Agreement, Difference, Differences, asked};
pub use bootstrap::{BootstrapError, Bootstrapper, Founded, IdentityStore, record_founding};
pub use machine::{MetaMachine, MetaView, found_meta, founding_of};
pub use map::{Placement, Shard, ShardMap};
pub use spec::{ClusterSpec, NodeSpec, SpecError};

/// bincode of everything in this module. The limit is on decoded memory: far above any real cluster.
const BINCODE: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<{ 64 << 20 }>,
> = bincode::config::standard().with_limit::<{ 64 << 20 }>();

fn encode(value: impl bincode::Encode) -> bytes::Bytes {
    bincode::encode_to_vec(value, BINCODE).expect("values of memory can be encoded").into()
}

/// Decodes a value that fills `bytes`.
fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    match bincode::decode_from_slice(bytes, BINCODE) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok((_, read)) => Err(format!("{} bytes too many", bytes.len() - read)),
        Err(broken) => Err(broken.to_string()),
    }
}

//! The cluster's own state: its nodes and its shard map.
//!
//! `spec` has the operator's description and derives the first shard map from it. `bootstrap` agrees on the description and
//! stores it on each disk. `agreement` compares the settings of two nodes. `machine` replicates the state in group 0.

mod agreement;
mod bootstrap;
mod machine;
mod map;
mod spec;
mod waiting;

pub use agreement::{Agreement, Difference, Differences, asked};
pub use bootstrap::{BootstrapError, Bootstrapper, Founded, IdentityStore, record_founding};
pub use machine::{MetaMachine, MetaView, found_meta, founding_of};
pub use map::{Placement, Shard, ShardMap};
pub use spec::{ClusterSpec, NodeSpec, SpecError};

/// The bincode configuration of this module. The limit on decoded memory is far above any real cluster.
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

//! What the leader's replica knows at once, without the log.

use std::ops::Deref;

use crate::ids::{Key, UserId};
use crate::machine::{Lookup, PlacedKey, ShardMachine};

/// The state of the leader's replica as it is in memory, and the lease.
pub trait Memory {
    /// The state, unless it is being changed at this moment.
    fn machine_at_rest(&self) -> Option<impl Deref<Target = ShardMachine>>;

    /// The state, after the change that is being made.
    fn machine(&self) -> impl Deref<Target = ShardMachine>;

    /// What a key names: cold only if the store may have its record.
    fn key_record(&self, machine: &ShardMachine, user: &UserId, key: &Key) -> Lookup<PlacedKey>;

    /// No other leader can be at work. Held after a look at the state, the lease was held at the look (rule 12).
    fn has_lease(&self) -> bool;
}

//! What the committed chains come to on machines that never fail: the standard that answers are held against.
//!
//! One pass over each chain. Outcomes are kept for every command; states of those orders and SKUs that are watched, after
//! every entry that changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordergrid_domain::{GroupId, Order, OrderId, Outcome, Sku, SkuId};

/// Orders and SKUs whose states are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Orders.
    pub orders: BTreeSet<OrderId>,
    /// SKUs.
    pub skus: BTreeSet<SkuId>,
}

/// A state, and since when. It lasts until the entry of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<T> {
    /// The entry after which it was so.
    pub index: u64,
    /// The state.
    pub state: Arc<T>,
}

/// What the chains come to.
#[derive(Debug, Default)]
pub struct Reference {
    outcomes: BTreeMap<GroupId, BTreeMap<u64, Vec<Outcome>>>,
    orders: BTreeMap<OrderId, Vec<Version<Order>>>,
    skus: BTreeMap<SkuId, Vec<Version<Sku>>>,
    hashes: BTreeMap<(GroupId, u64), u64>,
    states: BTreeMap<&'static str, u64>,
}

impl Reference {
    /// What the commands of an entry came to, in their order; nothing for an entry without commands.
    #[must_use]
    pub fn outcomes(&self, group: GroupId, index: u64) -> &[Outcome] {
        self.outcomes.get(&group).and_then(|group| group.get(&index)).map_or(&[], Vec::as_slice)
    }

    /// Every state of a watched order, oldest first.
    #[must_use]
    pub fn order_versions(&self, id: OrderId) -> &[Version<Order>] {
        self.orders.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Every state of a watched SKU, oldest first.
    #[must_use]
    pub fn sku_versions(&self, id: &SkuId) -> &[Version<Sku>] {
        self.skus.get(id).map_or(&[], Vec::as_slice)
    }

    /// A watched order after the entry at `index` of its shard.
    #[must_use]
    pub fn order_after(&self, id: OrderId, index: u64) -> Option<&Order> {
        after(self.order_versions(id), index)
    }

    /// A watched SKU after the entry at `index` of its shard.
    #[must_use]
    pub fn sku_after(&self, id: &SkuId, index: u64) -> Option<&Sku> {
        after(self.sku_versions(id), index)
    }

    /// The state hash at a mark, which is an entry without commands.
    #[must_use]
    pub fn hash_at(&self, group: GroupId, index: u64) -> Option<u64> {
        self.hashes.get(&(group, index)).copied()
    }

    /// How often each rare state was met.
    #[must_use]
    pub fn states(&self) -> &BTreeMap<&'static str, u64> {
        &self.states
    }
}

fn after<T>(versions: &[Version<T>], index: u64) -> Option<&T> {
    let later = versions.partition_point(|version| version.index <= index);
    Some(&*versions[..later].last()?.state)
}

//! What answers are held against: what the committed logs come to on a machine that never fails.

use std::collections::BTreeMap;

use ordergrid_domain::{self as domain, GroupId, OrderId, Outcome, SkuId};

use crate::chronicle::Reference;
use crate::chronicle::reference::Version;

/// What the committed logs come to.
pub trait Standard {
    /// What the commands of an entry came to.
    fn outcomes(&self, group: GroupId, index: u64) -> &[Outcome];

    /// Every state of an order after an entry that changed it, oldest first.
    fn order_versions(&self, id: OrderId) -> &[Version<domain::Order>];

    /// Every state of a SKU after an entry that changed it, oldest first.
    fn sku_versions(&self, id: &SkuId) -> &[Version<domain::Sku>];

    /// How many units the commands of each entry asked a SKU for.
    fn asked(&self, id: &SkuId) -> Option<&BTreeMap<u64, u64>>;
}

impl Standard for Reference {
    fn outcomes(&self, group: GroupId, index: u64) -> &[Outcome] {
        Reference::outcomes(self, group, index)
    }

    fn order_versions(&self, id: OrderId) -> &[Version<domain::Order>] {
        Reference::order_versions(self, id)
    }

    fn sku_versions(&self, id: &SkuId) -> &[Version<domain::Sku>] {
        Reference::sku_versions(self, id)
    }

    fn asked(&self, id: &SkuId) -> Option<&BTreeMap<u64, u64>> {
        Reference::asked(self, id)
    }
}

//! A SKU: its catalogue row and its stock, in buckets per warehouse.

pub mod stock;

use bincode::{Decode, Encode};

use crate::ids::{SkuId, Text, WarehouseId};
use crate::money::Quantity;

/// The stock of one SKU in one warehouse. `available = on_hand - unavailable - reserved - committed`, never below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Buckets {
    /// Physically there.
    pub on_hand: Quantity,
    /// There, but not for sale.
    pub unavailable: Quantity,
    /// Held for unpaid orders, tentative holds included.
    pub reserved: Quantity,
    /// Held for confirmed orders.
    pub committed: Quantity,
    /// Promised beyond stock.
    pub backordered: Quantity,
    /// Ever shipped.
    pub sold: Quantity,
    /// Ever received.
    pub received: Quantity,
    /// Ever put back after a return.
    pub restocked: Quantity,
    /// Sum of all adjustments.
    pub adjusted: i64,
}

impl Buckets {
    /// What a new hold may take.
    #[must_use]
    pub fn available(&self) -> Quantity {
        let promised = self.unavailable.0 + self.reserved.0 + self.committed.0;
        assert!(promised <= self.on_hand.0, "NoOversell: promised more than is on hand: {self:?}");
        Quantity(self.on_hand.0 - promised)
    }
}

/// A SKU, decoded. Its holds are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sku {
    /// Its id.
    pub id: SkuId,
    /// Its name in the catalogue.
    pub name: Text,
    /// Counts changes of the catalogue row and of stock, from 1.
    pub version: u64,
    /// Stock per warehouse, ordered by warehouse.
    pub stock: Vec<(WarehouseId, Buckets)>,
}

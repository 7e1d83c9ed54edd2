//! A SKU as clients see it: all buckets at one version and index.

use ordergrid_domain::sku::Buckets;
use ordergrid_domain::{SkuId, Text, WarehouseId};
use serde::{Deserialize, Serialize};

use super::text;

/// A SKU and its stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    /// Its id.
    #[serde(with = "text")]
    pub id: SkuId,
    /// The SKU's name in the catalogue.
    #[serde(with = "text")]
    pub name: Text,
    /// Version of the row and its stock: counts changes from 1; for `If-Match`.
    pub version: u64,
    /// Log index of the shard at which these values were read.
    pub index: u64,
    /// Sum over the warehouses.
    pub stock: Stock,
    /// Stock per warehouse, sorted by name.
    pub warehouses: Vec<WarehouseStock>,
    /// Only where a command is answered that was done before: the version that it made then. All else is as of now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_version: Option<u64>,
}

/// The buckets. `available = on_hand - unavailable - reserved - committed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Units that are physically there.
    pub on_hand: u64,
    /// Units that are there and not for sale.
    pub unavailable: u64,
    /// Units held for unpaid orders.
    pub reserved: u64,
    /// Units held for confirmed orders.
    pub committed: u64,
    /// Units that a new order may take.
    pub available: u64,
    /// Units promised beyond stock.
    pub backordered: u64,
    /// All units ever shipped.
    pub sold: u64,
    /// All units ever received.
    pub received: u64,
    /// All units ever put back after a return.
    pub restocked: u64,
    /// Sum of all adjustments.
    pub adjusted: i64,
}

impl From<&Buckets> for Stock {
    fn from(buckets: &Buckets) -> Self {
        Self {
            on_hand: buckets.on_hand.0,
            unavailable: buckets.unavailable.0,
            reserved: buckets.reserved.0,
            committed: buckets.committed.0,
            available: buckets.available().0,
            backordered: buckets.backordered.0,
            sold: buckets.sold.0,
            received: buckets.received.0,
            restocked: buckets.restocked.0,
            adjusted: buckets.adjusted,
        }
    }
}

impl Stock {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            on_hand: self.on_hand + other.on_hand,
            unavailable: self.unavailable + other.unavailable,
            reserved: self.reserved + other.reserved,
            committed: self.committed + other.committed,
            available: self.available + other.available,
            backordered: self.backordered + other.backordered,
            sold: self.sold + other.sold,
            received: self.received + other.received,
            restocked: self.restocked + other.restocked,
            adjusted: self.adjusted + other.adjusted,
        }
    }
}

/// The stock in one warehouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarehouseStock {
    /// The warehouse.
    #[serde(with = "text")]
    pub warehouse: WarehouseId,
    /// The stock.
    #[serde(flatten)]
    pub stock: Stock,
}

impl Sku {
    /// The SKU as it was at `index` of its shard.
    #[must_use]
    pub fn new(sku: &ordergrid_domain::Sku, index: u64) -> Self {
        let warehouses: Vec<_> = sku
            .stock
            .iter()
            .map(|(warehouse, buckets)| WarehouseStock { warehouse: warehouse.clone(), stock: buckets.into() })
            .collect();
        Self {
            id: sku.id.clone(),
            name: sku.name.clone(),
            version: sku.version,
            index,
            stock: warehouses.iter().fold(Stock::default(), |sum, one| sum.plus(one.stock)),
            warehouses,
            replayed_version: None,
        }
    }
}

//! Starting the streams between shards anew: what is answered.

use bincode::{Decode, Encode};
use ordergrid_domain::{OrderId, Quantity, SkuId};
use serde::{Deserialize, Serialize};

use super::text;

/// Answer of `POST /admin/v1/cluster/streams/reconcile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Reconciliation {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The streams from one shard to another, by their ids.
    pub streams: Vec<StreamReport>,
}

impl Reconciliation {
    /// Whether any stream stands so.
    #[must_use]
    pub fn any(&self, state: StreamState) -> bool {
        self.streams.iter().any(|stream| stream.state == state)
    }
}

/// What became of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct StreamReport {
    /// The shard that sends: orders of it count on units of the other one.
    #[serde(with = "text")]
    pub from: u32,
    /// The shard that it sends to.
    #[serde(with = "text")]
    pub to: u32,
    /// How it stands.
    pub state: StreamState,
    /// Why it is stopped, or why nothing was done, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Units that orders count on and that are not held for them: they are held again as far as there are any, and are a shortfall
    /// else.
    #[serde(default, skip_serializing_if = "UnitsFound::is_none")]
    pub missing: UnitsFound,
    /// Units that are held for orders which have shipped them or given them up: they leave the stock, or are free again.
    #[serde(default, skip_serializing_if = "UnitsFound::is_none")]
    pub surplus: UnitsFound,
    /// Units that are held for orders which do not exist: they are free again.
    #[serde(default, skip_serializing_if = "UnitsFound::is_none")]
    pub orderless: UnitsFound,
    /// Orders whose units are held, and are not known to be theirs, or to be paid.
    #[serde(default)]
    pub unkept: u64,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// It is stopped, or the one that goes the other way is: both can be started anew.
    Stopped,
    /// It was started anew now.
    Reconciled,
    /// Its ends fit together: there is nothing to do.
    Sound,
    /// Refused: it is as before, or stopped.
    Refused,
    /// A shard did not answer, so that it is not known what has happened; asking again begins anew.
    Unknown,
}

/// Units that do not fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct UnitsFound {
    /// Pairs of an order and a SKU.
    pub count: u64,
    /// Their units.
    pub units: u64,
    /// The first 100 pairs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<UnitsOf>,
}

/// Units of a SKU, for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct UnitsOf {
    /// The order.
    #[serde(with = "text")]
    pub order: OrderId,
    /// The SKU.
    #[serde(with = "text")]
    pub sku: SkuId,
    /// How many.
    pub units: u64,
}

impl UnitsFound {
    /// So many are told one by one.
    const FIRST: usize = 100;

    /// Of what was found.
    #[must_use]
    pub fn of(found: &[(OrderId, SkuId, Quantity)]) -> Self {
        let told =
            |(order, sku, units): &(OrderId, SkuId, Quantity)| UnitsOf { order: *order, sku: sku.clone(), units: units.0 };
        Self {
            count: found.len() as u64,
            units: found.iter().map(|(_, _, units)| units.0).sum(),
            first: found.iter().take(Self::FIRST).map(told).collect(),
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.count == 0
    }
}

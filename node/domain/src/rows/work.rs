//! Rows that are worked on decoded: SKUs, and orders from the first command on them to the next checkpoint.

use ordergrid_rows::{Decoded, Kind};

use super::kinds::OrderRow;
use crate::encoding::encode;
use crate::sku::Sku;

/// The rows of a shard that may be cold.
pub(crate) type Rows = ordergrid_rows::RowTable<Work>;
/// One of them.
pub(crate) type Value = ordergrid_rows::Value<Work>;

/// What a decoded SKU costs, roughly; its stock is one or two warehouses.
const SKU_BYTES: u64 = 320;
/// How many times as much memory a decoded order takes as its bytes, at the least.
const ORDER_TO_BYTES: u64 = 3;

/// A row that is worked on.
#[derive(Debug)]
pub(crate) enum Work {
    /// Needed again soon.
    Sku(Box<Sku>),
    /// Decoded by the first command on it.
    Order(Box<OrderRow>),
}

impl Decoded for Work {
    #[inline]
    fn encode<'a>(&self, room: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Sku(sku) => encode(room, sku.as_ref()),
            Self::Order(row) => encode(room, row.as_ref()),
        }
    }

    fn bytes_in_memory(&self) -> u64 {
        match self {
            Self::Sku(_) => SKU_BYTES,
            Self::Order(row) => row.order.bytes_in_memory() + 128 * row.keys.len() as u64,
        }
    }

    fn stored_bytes(&self, in_memory: u64) -> u64 {
        match self {
            Self::Sku(_) => in_memory,
            Self::Order(_) => in_memory / ORDER_TO_BYTES,
        }
    }

    /// The commands on an order are over, most likely; a SKU is needed again.
    fn rests(&self) -> bool {
        matches!(self, Self::Order(_))
    }

    fn glance(&self) -> u64 {
        match self {
            Self::Sku(sku) => sku.version,
            Self::Order(row) => row.order.version,
        }
    }
}

macro_rules! kind {
    ($kind:ty, $variant:ident) => {
        impl Kind<Work> for $kind {
            fn wrap(kind: Box<Self>) -> Work {
                Work::$variant(kind)
            }

            fn unwrap(decoded: Work) -> Option<Box<Self>> {
                if let Work::$variant(kind) = decoded { Some(kind) } else { None }
            }

            fn of(decoded: &Work) -> Option<&Self> {
                if let Work::$variant(kind) = decoded { Some(kind) } else { None }
            }

            fn of_mut(decoded: &mut Work) -> Option<&mut Self> {
                if let Work::$variant(kind) = decoded { Some(kind) } else { None }
            }
        }
    };
}

kind!(Sku, Sku);
kind!(OrderRow, Order);

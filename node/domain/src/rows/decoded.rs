//! Rows that are worked on decoded: SKUs, and orders from the first command on them to the next checkpoint.

use super::RowKey;
use super::kinds::OrderRow;
use super::maps::Place;
use super::row_table::{RowTable, SKU_BYTES, Value, size};
use crate::encoding::read_row;
use crate::sku::Sku;

/// Where a SKU is: good until a row is added or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SkuAt(Place);

impl RowTable {
    /// A SKU, decoded and kept decoded: it will be needed again.
    pub(crate) fn sku(&mut self, key: &RowKey) -> Option<&Sku> {
        self.find_sku(key).map(|(_, sku)| sku)
    }

    /// A SKU, to be changed.
    pub(crate) fn sku_mut(&mut self, key: &RowKey) -> Option<&mut Sku> {
        let place = self.place(key)?;
        self.sku_at(place, true)
    }

    /// A SKU, and where it is.
    pub(crate) fn find_sku(&mut self, key: &RowKey) -> Option<(SkuAt, &Sku)> {
        let place = self.place(key)?;
        self.sku_at(place, false).map(|sku| (SkuAt(place), &*sku))
    }

    /// A SKU that was found, to be changed.
    pub(crate) fn found_sku_mut(&mut self, at: SkuAt) -> &mut Sku {
        self.sku_at(at.0, true).expect("a SKU was found here")
    }

    fn sku_at(&mut self, place: Place, change: bool) -> Option<&mut Sku> {
        if change {
            self.before_change(place);
        }
        let row = self.maps.at_mut(place);
        if let Value::Bytes(bytes) = &row.value {
            self.resident_bytes = self.resident_bytes + SKU_BYTES - bytes.len() as u64;
            row.value = Value::Sku(Box::new(read_row(bytes).expect("a stored SKU decodes")));
        }
        let Value::Sku(sku) = &mut row.value else { return None };
        let next = self.freeze.next();
        if change && std::mem::replace(&mut row.changed, next) != next {
            self.dirty_bytes += row.key.as_bytes().len() as u64 + SKU_BYTES;
            self.dirty.push(row.key.hash());
        }
        Some(sku)
    }

    /// An order, for apply: decoded and kept decoded, since a command on it is likely to follow.
    pub(crate) fn order(&mut self, key: &RowKey) -> Option<&OrderRow> {
        let place = self.place(key)?;
        self.decoded(place)
    }

    /// An order that may be cold, before apply; kept decoded for it.
    pub(crate) fn order_if_here(&mut self, key: &RowKey) -> Option<&OrderRow> {
        let place = self.maps.find(key).ok()?;
        self.decoded(place)
    }

    fn decoded(&mut self, place: Place) -> Option<&OrderRow> {
        let row = self.maps.at_mut(place);
        if let Value::Bytes(bytes) = &row.value {
            let order = Value::Order(Box::new(read_row(bytes).expect("a stored order decodes")));
            self.resident_bytes = self.resident_bytes + size(&order) - bytes.len() as u64;
            row.value = order;
        }
        if let Value::Order(order) = &row.value { Some(order) } else { None }
    }

    /// Takes an order out, for apply. It must be put back before anything else looks at its row: by [`RowTable::put`] when
    /// it has changed, else by [`RowTable::give_back`].
    pub(crate) fn take_order(&mut self, key: &RowKey) -> Option<Box<OrderRow>> {
        let place = self.place(key)?;
        self.before_change(place);
        let value = std::mem::replace(&mut self.maps.at_mut(place).value, Value::Gone);
        self.resident_bytes -= size(&value);
        match value {
            Value::Gone => None,
            Value::Bytes(bytes) => Some(Box::new(read_row(&bytes).expect("a stored order decodes"))),
            Value::Order(order) => Some(order),
            Value::Sku(_) => panic!("row {key:?} is a SKU"),
        }
    }

    /// Puts back an order that was taken and has not changed.
    pub(crate) fn give_back(&mut self, key: &RowKey, order: Box<OrderRow>) {
        let place = self.maps.find(key).expect("what was taken has its place");
        let value = Value::Order(order);
        self.resident_bytes += size(&value);
        self.maps.at_mut(place).value = value;
    }
}

/// What a decoded order costs in memory, roughly.
pub(super) fn order_bytes(row: &OrderRow) -> u64 {
    row.order.bytes_in_memory() + 128 * row.keys.len() as u64
}

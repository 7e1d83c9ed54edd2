//! What can be done to the stock of a SKU. Refuse, then change, then check; who holds what is rows of its own
//! (`machine`), here are the buckets alone.

use super::{Buckets, Sku};
use crate::ids::{SkuId, Text, WarehouseId};
use crate::law::Law;
use crate::money::Quantity;
use crate::rejection::Rejection;

/// Most units of one SKU in one warehouse: far above any real shelf, and far from where sums could overflow.
pub const STOCK_LIMIT: Quantity = Quantity(1_000_000_000_000_000);
/// Most units that one attempt may hold of one SKU: a thousand lines of the largest quantity.
pub const HOLD_LIMIT: Quantity = Quantity(1_000_000_000_000);

impl Sku {
    /// A catalogue row without stock.
    #[must_use]
    pub fn new(id: SkuId, name: Text) -> Self {
        Self { id, name, version: 1, stock: vec![(WarehouseId::default(), Buckets::default())] }
    }

    /// What new holds may take, over all warehouses.
    #[must_use]
    pub fn available(&self) -> Quantity {
        Quantity(self.stock.iter().map(|(_, buckets)| buckets.available().0).sum())
    }

    /// Renames it; says whether anything changed.
    pub(crate) fn rename(&mut self, name: &Text) -> bool {
        let changed = self.name != *name;
        if changed {
            self.name = name.clone();
            self.version += 1;
        }
        changed
    }

    /// Goods arrived.
    pub(crate) fn receive(&mut self, warehouse: &WarehouseId, quantity: Quantity) -> Result<(), Rejection> {
        if quantity == Quantity::ZERO || quantity > Quantity::LIMIT {
            return Err(Rejection::QuantityOutOfRange(quantity));
        }
        let buckets = self.buckets_mut(warehouse).ok_or(Rejection::NoSuchWarehouse)?;
        if buckets.on_hand.0 + quantity.0 > STOCK_LIMIT.0 || buckets.received.0.checked_add(quantity.0).is_none() {
            return Err(Rejection::QuantityOutOfRange(quantity));
        }
        buckets.on_hand.0 += quantity.0;
        buckets.received.0 += quantity.0;
        self.changed();
        Ok(())
    }

    /// Goods were found or lost. Units that are promised are never taken.
    pub(crate) fn adjust(&mut self, warehouse: &WarehouseId, delta: i64) -> Result<(), Rejection> {
        let units = Quantity(delta.unsigned_abs());
        if units == Quantity::ZERO || units > Quantity::LIMIT {
            return Err(Rejection::QuantityOutOfRange(units));
        }
        let buckets = self.buckets_mut(warehouse).ok_or(Rejection::NoSuchWarehouse)?;
        let adjusted = buckets.adjusted.checked_add(delta).ok_or(Rejection::QuantityOutOfRange(units))?;
        if delta > 0 && buckets.on_hand.0 + units.0 > STOCK_LIMIT.0 {
            return Err(Rejection::QuantityOutOfRange(units));
        }
        if delta < 0 && units > buckets.available() {
            return Err(Rejection::WouldOversell { asked: units, available: buckets.available() });
        }
        buckets.adjusted = adjusted;
        if delta > 0 {
            buckets.on_hand.0 += units.0;
        } else {
            buckets.on_hand.0 -= units.0;
        }
        self.changed();
        Ok(())
    }

    /// The warehouse that can give all of `quantity`.
    pub(crate) fn source(&self, quantity: Quantity) -> Result<WarehouseId, Rejection> {
        if quantity == Quantity::ZERO || quantity > HOLD_LIMIT {
            return Err(Rejection::QuantityOutOfRange(quantity));
        }
        let source = self.stock.iter().find(|(_, buckets)| buckets.available() >= quantity);
        source.map(|(warehouse, _)| warehouse.clone()).ok_or_else(|| Rejection::OutOfStock {
            sku: self.id.clone(),
            asked: quantity,
            available: self.available(),
        })
    }

    /// The most units that one warehouse can give, the one that is named if one is.
    pub(crate) fn most_free(&self, named: Option<&WarehouseId>) -> Option<(WarehouseId, Quantity)> {
        let meant = self.stock.iter().filter(|(warehouse, _)| named.is_none_or(|named| named == warehouse));
        meant.map(|(warehouse, buckets)| (warehouse.clone(), buckets.available())).max_by_key(|(_, free)| *free)
    }

    /// Takes units that [`Sku::source`] or [`Sku::most_free`] found.
    pub(crate) fn take(&mut self, warehouse: &WarehouseId, quantity: Quantity, committed: bool) {
        let buckets = self.known_mut(warehouse);
        *held(buckets, committed) += quantity.0;
        self.changed();
    }

    /// Gives units of a hold back.
    pub(crate) fn give_back(&mut self, warehouse: &WarehouseId, quantity: Quantity, committed: bool) {
        let buckets = self.known_mut(warehouse);
        lower(held(buckets, committed), quantity);
        self.changed();
    }

    /// Reserved units become committed.
    pub(crate) fn commit(&mut self, warehouse: &WarehouseId, quantity: Quantity) {
        let buckets = self.known_mut(warehouse);
        lower(&mut buckets.reserved.0, quantity);
        buckets.committed.0 += quantity.0;
        self.changed();
    }

    /// Does what holds of this SKU come to, as one change.
    pub(crate) fn settle(&mut self, sums: &mut BucketSums) {
        for (warehouse, moved) in sums.0.drain(..) {
            let buckets = self.known_mut(&warehouse);
            lower(&mut buckets.reserved.0, Quantity(moved.committed));
            buckets.committed.0 += moved.committed;
            for (committed, freed, shipped) in
                [(false, moved.freed[0], moved.shipped[0]), (true, moved.freed[1], moved.shipped[1])]
            {
                lower(held(buckets, committed), Quantity(freed + shipped));
                lower(&mut buckets.on_hand.0, Quantity(shipped));
                buckets.sold.0 += shipped;
            }
            buckets.sold.0 = buckets.sold.0.saturating_add(moved.uncounted);
            buckets.adjusted = buckets.adjusted.saturating_add_unsigned(moved.uncounted);
        }
        self.changed();
    }

    /// The laws of stock that a SKU's row can show by itself, as data.
    #[must_use]
    pub fn violations(&self) -> Vec<(Law, String)> {
        let mut violations = Vec::new();
        for (warehouse, b) in &self.stock {
            let promised = i128::from(b.unavailable.0) + i128::from(b.reserved.0) + i128::from(b.committed.0);
            if promised > i128::from(b.on_hand.0) {
                violations.push((Law::NoOversell, format!("{} in {warehouse}: promised more than is on hand: {b:?}", self.id)));
            }
            let moved = i128::from(b.received.0) + i128::from(b.restocked.0) + i128::from(b.adjusted) - i128::from(b.sold.0);
            if moved != i128::from(b.on_hand.0) {
                violations.push((Law::HoldsAddUp, format!("{} in {warehouse}: movements make {moved}: {b:?}", self.id)));
            }
        }
        violations
    }

    /// Panics when a law is broken: wrong is worse than down.
    pub fn check(&self) {
        for (_, b) in &self.stock {
            assert!(
                b.unavailable.0 + b.reserved.0 + b.committed.0 <= b.on_hand.0,
                "NoOversell: promised more than is on hand: {self:?}"
            );
        }
        debug_assert_eq!(self.violations(), Vec::new(), "a law of stock is broken: {self:?}");
    }

    fn changed(&mut self) {
        self.version += 1;
        self.check();
    }

    fn buckets_mut(&mut self, warehouse: &WarehouseId) -> Option<&mut Buckets> {
        self.stock.iter_mut().find(|(id, _)| id == warehouse).map(|(_, buckets)| buckets)
    }

    fn known_mut(&mut self, warehouse: &WarehouseId) -> &mut Buckets {
        self.buckets_mut(warehouse).expect("a hold names a warehouse that exists")
    }
}

/// What changes of many holds of one SKU come to, so that its buckets change once for all of them.
#[derive(Debug, Default)]
pub(crate) struct BucketSums(Vec<(WarehouseId, UnitsMoved)>);

/// Units in one warehouse; of two numbers the second one is of committed units.
#[derive(Debug, Default)]
struct UnitsMoved {
    committed: u64,
    freed: [u64; 2],
    shipped: [u64; 2],
    uncounted: u64,
}

impl BucketSums {
    fn at(&mut self, warehouse: &WarehouseId) -> &mut UnitsMoved {
        let index = self.0.iter().position(|(known, _)| known == warehouse).unwrap_or_else(|| {
            self.0.push((warehouse.clone(), UnitsMoved::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// Whether nothing moves.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reserved units become committed.
    pub(crate) fn commit(&mut self, warehouse: &WarehouseId, quantity: Quantity) {
        self.at(warehouse).committed += quantity.0;
    }

    /// Units of a hold are given back.
    pub(crate) fn free(&mut self, warehouse: &WarehouseId, quantity: Quantity, committed: bool) {
        self.at(warehouse).freed[usize::from(committed)] += quantity.0;
    }

    /// Held units left the shelf.
    pub(crate) fn ship(&mut self, warehouse: &WarehouseId, quantity: Quantity, committed: bool) {
        self.at(warehouse).shipped[usize::from(committed)] += quantity.0;
    }

    /// Units left the shelf whose hold was taken by a count that no longer found them (rule 19): sold, and the count
    /// is put right by as much; what is on hand does not change.
    pub(crate) fn ship_uncounted(&mut self, warehouse: &WarehouseId, quantity: Quantity) {
        let uncounted = &mut self.at(warehouse).uncounted;
        *uncounted = uncounted.saturating_add(quantity.0);
    }
}

fn held(buckets: &mut Buckets, committed: bool) -> &mut u64 {
    if committed { &mut buckets.committed.0 } else { &mut buckets.reserved.0 }
}

fn lower(bucket: &mut u64, quantity: Quantity) {
    assert!(*bucket >= quantity.0, "HoldsAddUp: {quantity} units leave a bucket of {bucket}");
    *bucket -= quantity.0;
}

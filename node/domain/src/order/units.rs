//! Counting units: what is open on a line or an order, sums per SKU, and the check of the lines that a command names.

use std::collections::BTreeMap;

use super::{Line, Order};
use crate::ids::SkuId;
use crate::money::Quantity;
use crate::rejection::Rejection;

impl Line {
    /// Units that are neither cancelled nor shipped: backordered, held or being picked.
    #[must_use]
    pub fn open(&self) -> Quantity {
        Quantity(self.backordered.0 + self.held.0 + self.picking.0)
    }

    /// Units that stock is held for: held or being picked.
    #[must_use]
    pub fn holding(&self) -> Quantity {
        Quantity(self.held.0 + self.picking.0)
    }

    /// Units that a cancel may still take: backordered or held.
    #[must_use]
    pub fn cancellable(&self) -> Quantity {
        Quantity(self.backordered.0 + self.held.0)
    }
}

impl Order {
    /// Units that are neither cancelled nor shipped, over all lines.
    #[must_use]
    pub fn open_units(&self) -> Quantity {
        self.total_of(Line::open)
    }

    /// Units that have left, over all lines.
    #[must_use]
    pub fn shipped_units(&self) -> Quantity {
        self.total_of(|line| line.shipped)
    }

    /// Units that the SKUs must hold for this order (law AllOrNothing), summed per SKU, ordered by SKU, none zero.
    /// Reserved while the phase is pending payment, committed afterwards.
    #[must_use]
    pub fn holding(&self) -> Vec<(SkuId, Quantity)> {
        per_sku(self.lines.iter().map(|line| (&line.sku, line.holding())))
    }

    pub(super) fn total_of(&self, units: impl Fn(&Line) -> Quantity) -> Quantity {
        Quantity(self.lines.iter().map(|line| units(line).0).sum())
    }

    pub(super) fn line_mut(&mut self, number: u32) -> &mut Line {
        &mut self.lines[number as usize - 1]
    }

    /// The units that a command names per line, summed per line and ordered by line.
    ///
    /// Refuses first what is malformed, in the order given, then what is too much, in the order of lines.
    pub(super) fn named_units(
        &self,
        lines: &[(u32, Quantity)],
        available: impl Fn(u32, &Line) -> Quantity,
    ) -> Result<BTreeMap<u32, Quantity>, Rejection> {
        let mut named = BTreeMap::new();
        for &(line, quantity) in lines {
            if line == 0 || line as usize > self.lines.len() {
                return Err(Rejection::NoSuchLine(line));
            }
            if quantity == Quantity::ZERO || quantity > Quantity::LIMIT {
                return Err(Rejection::LineQuantityOutOfRange { line, quantity });
            }
            let sum: &mut Quantity = named.entry(line).or_default();
            sum.0 = sum.0.saturating_add(quantity.0);
        }
        for (&line, &asked) in &named {
            let available = available(line, &self.lines[line as usize - 1]);
            if asked > available {
                return Err(Rejection::NotEnoughOnLine { line, asked, available });
            }
        }
        Ok(named)
    }

    /// Units of every line that has any, ordered by line.
    pub(super) fn all_units(&self, units: impl Fn(&Line) -> Quantity) -> BTreeMap<u32, Quantity> {
        let numbered = (1..).zip(&self.lines).map(|(number, line)| (number, units(line)));
        numbered.filter(|&(_, quantity)| quantity != Quantity::ZERO).collect()
    }

    /// Units per line as units per SKU.
    pub(super) fn skus_of(&self, units: &[(u32, Quantity)]) -> Vec<(SkuId, Quantity)> {
        per_sku(units.iter().map(|&(line, quantity)| (&self.lines[line as usize - 1].sku, quantity)))
    }
}

/// Sums per SKU, ordered by SKU, leaving out what is zero.
pub(super) fn per_sku<'a>(units: impl Iterator<Item = (&'a SkuId, Quantity)>) -> Vec<(SkuId, Quantity)> {
    let mut items: Vec<(&SkuId, Quantity)> = units.filter(|(_, quantity)| *quantity != Quantity::ZERO).collect();
    items.sort_unstable_by_key(|&(sku, _)| sku);
    items.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1.0 += later.1.0;
        }
        same
    });
    items.into_iter().map(|(sku, quantity)| (sku.clone(), quantity)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::testing::{Play, sku};

    #[test]
    #[rustfmt::skip]
    fn orders_hold_what_is_neither_cancelled_backordered_nor_gone() {
        type Row = (&'static str, &'static [(&'static str, u64)], u64);
        let rows: &[Row] = &[
            // given                                            holding               open
            ("",                                                &[("A", 8), ("B", 1)], 9),
            ("cancel user 1:6",                                 &[("A", 2), ("B", 1)], 3),
            ("cancel user",                                     &[],                   0),
            ("pay p captured 31; pick 1:3",                     &[("A", 8), ("B", 1)], 9),
            ("pay p captured 31; pick 1:3 2:1; ship 1",         &[("A", 5)],           5),
            ("pay p captured 31; short A 3",                    &[("A", 5), ("B", 1)], 9),
            ("pay p captured 31; pick; ship 1",                 &[],                   0),
        ];
        for (given, holding, open) in rows {
            let order = Play::new("A*6@3 B*1@7 A*2@3", given).order;
            let expected: Vec<(SkuId, Quantity)> = holding.iter().map(|(id, units)| (sku(id), Quantity(*units))).collect();
            assert_eq!((order.holding(), order.open_units().0), (expected, *open), "{given}");
        }
    }

    #[test]
    fn sums_per_sku_keep_order_and_leave_out_nothing() {
        let (a, b, c) = (sku("a"), sku("B"), sku("c"));
        let units = [(&c, 1), (&a, 2), (&b, 0), (&a, 3), (&c, 4), (&a, 0)].map(|(id, units)| (id, Quantity(units)));
        assert_eq!(per_sku(units.into_iter()), [(a.clone(), Quantity(5)), (c.clone(), Quantity(5))]);
    }
}

//! Stock of an order that lives with all its SKUs: what it holds is in its own row and changes with it, without a message
//! or another row.

use super::ShardMachine;
use super::place::UnitsFound;
use super::stock::{commit_held, free_held, ship_held};
use crate::ids::SkuId;
use crate::money::Quantity;
use crate::order::{Order, StockEffect};
use crate::rows::kinds::{Held, LocalHold};
use crate::sku::Sku;
use crate::sku::stock::BucketSums;

impl ShardMachine {
    /// Takes the units that were found, as if they had been held and kept. No row has been added or removed since.
    pub(super) fn take_local_holds(&mut self, order: &Order, found: &[UnitsFound], stock: &[StockEffect]) -> Vec<LocalHold> {
        let committed = stock.iter().any(|effect| matches!(effect, StockEffect::Keep { committed: true, .. }));
        self.meta.counts.holds += found.len() as u64;
        let hold = |unit: &UnitsFound| {
            let sku = self.rows.at_mut::<Sku>(unit.at);
            sku.take(&unit.warehouse, unit.quantity, committed);
            let line = (1..).zip(&order.lines).find(|(_, line)| line.sku == unit.sku).map(|(number, _)| number);
            let held = Held { quantity: unit.quantity, committed, warehouse: unit.warehouse.clone() };
            LocalHold { line: line.expect("what was found is what the lines ask for"), held }
        };
        found.iter().map(hold).collect()
    }

    /// Does what a change of the order wants done to its stock.
    pub(super) fn change_local_holds(&mut self, order: &Order, holds: &mut Vec<LocalHold>, effects: Vec<StockEffect>) {
        let mut sums = BucketSums::default();
        for effect in effects {
            match effect {
                StockEffect::Keep { .. } => unreachable!("an order keeps units once, when it is placed"),
                StockEffect::Commit { skus } => {
                    for sku in &skus {
                        if let Some(held) = held(order, holds, sku).filter(|held| !held.committed) {
                            commit_held(&mut sums, held);
                            self.settle(sku, &mut sums);
                        }
                    }
                }
                StockEffect::Free { items } => {
                    for (sku, quantity) in &items {
                        if let Some(held) = held(order, holds, sku) {
                            free_held(&mut sums, held, *quantity);
                            self.settle(sku, &mut sums);
                        }
                    }
                }
                StockEffect::Ship { items } => {
                    for (sku, quantity) in &items {
                        ship_held(&mut sums, held(order, holds, sku), *quantity);
                        self.settle(sku, &mut sums);
                    }
                }
            }
        }
        let before = holds.len();
        holds.retain(|hold| hold.held.quantity > Quantity::ZERO);
        Self::uncount(&mut self.meta.counts.holds, (before - holds.len()) as u64, "holds");
    }
}

fn held<'a>(order: &Order, holds: &'a mut [LocalHold], sku: &SkuId) -> Option<&'a mut Held> {
    let hold = holds.iter_mut().find(|hold| order.lines[hold.line as usize - 1].sku == *sku);
    hold.map(|hold| &mut hold.held)
}

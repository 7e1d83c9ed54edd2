//! Has the processor fetch what an entry needs before it is applied. Apply spends much of its time waiting for memory, for one
//! row after the other; rows that are read right after each other are waited for together. Results do not depend on it.

use super::ShardMachine;
use crate::command::{Command, Entry, OrderAction};
use crate::rows::keys;
use crate::rows::kinds::OrderRow;

impl ShardMachine {
    /// Has the processor fetch the rows that most entries need: keys, orders and SKUs.
    pub(super) fn warm_cache(&mut self, entry: &Entry) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        for command in &entry.commands {
            match command {
                Command::Order(command) => hashes.push(keys::order(command.order).hash()),
                Command::PlaceLocal(place) => {
                    hashes.push(keys::placed(&place.request.user, &place.request.key).hash());
                    hashes.extend(place.request.lines.iter().map(|line| keys::sku(&line.sku).hash()));
                }
                Command::Hold(hold) => hashes.push(keys::sku(&hold.sku).hash()),
                Command::Holds(holds) => hashes.extend(holds.rows.iter().map(|row| keys::sku(&row.sku).hash())),
                _ => {}
            }
        }
        self.rows.warm_cache(&hashes);
        // Now that the orders are at hand: the SKUs whose units their commands move. Where rows may be cold, all orders are read
        // once more before they are applied.
        hashes.clear();
        let any_cold = self.rows.any_cold();
        for command in &entry.commands {
            let Command::Order(command) = command else { continue };
            let moves =
                matches!(command.action, OrderAction::Pay { .. } | OrderAction::Cancel { .. } | OrderAction::Ship { .. });
            if (moves || any_cold)
                && let Some(row) = self.rows.get_if_here::<OrderRow>(&keys::order(command.order))
                && moves
            {
                hashes.extend(row.order.lines.iter().map(|line| keys::sku(&line.sku).hash()));
            }
        }
        self.rows.warm_cache(&hashes);
        self.hashes = hashes;
    }
}

//! Has the processor fetch what an entry needs before it is applied. Apply spends much of its time waiting for memory, for one
//! row after the other; rows that are read right after each other are waited for together. Results do not depend on it.

use super::ShardMachine;
use crate::command::{Command, Entry, OrderAction};
use crate::rows::keys;
use crate::rows::row_table::{Found, Value};

impl ShardMachine {
    /// Goes near the rows that most entries need: keys, orders and SKUs.
    pub(super) fn approach(&mut self, entry: &Entry) {
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
                _ => {}
            }
        }
        self.rows.approach(&hashes);
        // Now that the orders are near: the SKUs whose units their commands move.
        hashes.clear();
        for command in &entry.commands {
            if let Command::Order(command) = command
                && matches!(command.action, OrderAction::Pay { .. } | OrderAction::Cancel { .. } | OrderAction::Ship { .. })
                && let Found::Here(Value::Order(row)) = self.rows.find(&keys::order(command.order))
            {
                hashes.extend(row.order.lines.iter().map(|line| keys::sku(&line.sku).hash()));
            }
        }
        self.rows.approach(&hashes);
        self.hashes = hashes;
    }
}

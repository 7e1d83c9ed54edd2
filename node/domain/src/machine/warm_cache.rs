//! Has the processor fetch what an entry needs before it is applied. Apply spends much of its time waiting for memory, for one
//! row after the other; rows that are read right after each other are waited for together. Results do not depend on it.

use super::ShardMachine;
use crate::command::{Command, Entry, Message, OrderAction};
use crate::rows::keys;
use crate::rows::kinds::OrderRow;

impl ShardMachine {
    /// Has the processor fetch the rows that most entries need: keys, orders, SKUs and holds.
    pub(super) fn warm_cache(&mut self, entry: &Entry) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        for command in &entry.commands {
            match command {
                Command::Order(command) => hashes.push(keys::order(command.order).hash()),
                Command::Place(place) => hashes.push(keys::placed(&place.request.user, &place.request.key).hash()),
                Command::PlaceLocal(place) => {
                    hashes.push(keys::placed(&place.request.user, &place.request.key).hash());
                    hashes.extend(place.request.lines.iter().map(|line| keys::sku(&line.sku).hash()));
                }
                Command::Hold(hold) => hashes.push(keys::sku(&hold.sku).hash()),
                Command::Deliver(run) => run.messages.iter().for_each(|message| add_holds(message, &mut hashes)),
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

/// The holds that a list changes, or where those belong that it keeps, and the SKUs whose units move.
fn add_holds(message: &Message, hashes: &mut Vec<u64>) {
    match message {
        Message::Decided(decided) => {
            let mut items = decided.items.iter();
            for kept in &decided.kept {
                let own = items.by_ref().take(kept.items as usize);
                hashes.extend(own.map(|(sku, _)| keys::hold(kept.attempt, sku).hash()));
            }
        }
        Message::Commits(holds) => {
            hashes.extend(holds.iter().flat_map(|(sku, attempt)| [keys::hold(*attempt, sku).hash(), keys::sku(sku).hash()]));
        }
        Message::Frees(parts) | Message::Ships(parts) => {
            hashes.extend(parts.iter().flat_map(|it| [keys::hold(it.attempt, &it.sku).hash(), keys::sku(&it.sku).hash()]));
        }
        _ => {}
    }
}

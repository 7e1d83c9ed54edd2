//! What a change of an order wants done elsewhere: in the stock of SKUs (through the mailbox), and to its timers.

use bincode::{Decode, Encode};

use crate::ids::SkuId;
use crate::money::Quantity;
use crate::time::Timestamp;

/// What a change of an order wants done elsewhere. Empty when nothing changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be told to SKUs, in this order.
    pub stock: Vec<StockEffect>,
    /// Timers to set, or to clear when `None`.
    pub timers: Vec<(TimerKind, Option<Timestamp>)>,
}

impl Effects {
    /// Nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stock.is_empty() && self.timers.is_empty()
    }
}

/// What SKUs are told about the holds of the order's attempt. Items are summed per SKU, ordered by SKU, never zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StockEffect {
    /// These holds belong to the order now.
    Keep {
        /// Already confirmed: committed instead of reserved.
        committed: bool,
        /// Units per SKU.
        items: Vec<(SkuId, Quantity)>,
    },
    /// Confirmed: whatever these SKUs hold for the order is committed.
    Commit {
        /// Every SKU that holds units for the order.
        skus: Vec<SkuId>,
    },
    /// These units are free again.
    Free {
        /// Units per SKU.
        items: Vec<(SkuId, Quantity)>,
    },
    /// These units left the shelf.
    Ship {
        /// Units per SKU.
        items: Vec<(SkuId, Quantity)>,
    },
}

/// The timers an order can have, at most one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum TimerKind {
    /// [`Order::payment_due_at`](super::Order::payment_due_at).
    PaymentDeadline,
    /// [`Order::completes_at`](super::Order::completes_at).
    AutoComplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_empty_only_without_stock_and_timers() {
        let timers = Effects { timers: vec![(TimerKind::AutoComplete, None)], ..Effects::default() };
        let stock = Effects { stock: vec![StockEffect::Commit { skus: Vec::new() }], ..Effects::default() };
        assert!(Effects::default().is_empty());
        assert!(!timers.is_empty() && !stock.is_empty());
    }
}

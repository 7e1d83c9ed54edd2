//! What one shard tells another.

use bincode::{Decode, Encode};

use super::Release;
use crate::ids::{AttemptId, OrderId, SkuId};
use crate::money::Quantity;
use crate::reconcile::Claimed;

/// What one shard tells another, exactly once and in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Order to SKU: the attempt's holds belong to this order now.
    Keep {
        /// Whose holds.
        attempt: AttemptId,
        /// The order they belong to.
        order: OrderId,
        /// Already confirmed: keep as committed instead of reserved.
        committed: bool,
        /// SKUs of the destination, with the quantity the order counts on.
        items: Vec<(SkuId, Quantity)>,
    },
    /// Order to SKU: paid, reserved becomes committed.
    Commit {
        /// Whose holds.
        attempt: AttemptId,
        /// SKUs of the destination.
        skus: Vec<SkuId>,
    },
    /// Order to SKU: these units are free again (kept holds; rule 15).
    Free {
        /// Whose holds.
        attempt: AttemptId,
        /// Units per SKU.
        items: Vec<(SkuId, Quantity)>,
    },
    /// Order to SKU: an attempt that lost to an earlier one of the same key gives its tentative holds up (rule 5).
    Release(Release),
    /// Order to SKU: these units left the shelf.
    Ship {
        /// Whose holds.
        attempt: AttemptId,
        /// Units per SKU.
        items: Vec<(SkuId, Quantity)>,
    },
    /// SKU to order: a hold that the order counts on is missing or smaller (rule 18).
    Shortfall {
        /// Which order.
        order: OrderId,
        /// Of which SKU.
        sku: SkuId,
        /// Units missing.
        missing: Quantity,
    },
    /// Order to SKU: what the order counts on, whatever the messages before have come to (rule 20).
    Claim {
        /// Whose holds.
        attempt: AttemptId,
        /// The order they belong to.
        order: OrderId,
        /// The order is confirmed.
        committed: bool,
        /// SKUs of the destination.
        items: Vec<Claimed>,
    },
    /// Order to SKU: what the attempts that one entry has decided came to.
    Decided(KeptList),
    /// Order to SKU: [`Message::Commit`] for the orders that one entry has confirmed, by SKU.
    Commits(Vec<(SkuId, AttemptId)>),
    /// Order to SKU: [`Message::Free`] for the orders that one entry has changed, by SKU.
    Frees(Vec<HeldPart>),
    /// Order to SKU: [`Message::Ship`] for the orders that one entry has changed, by SKU.
    Ships(Vec<HeldPart>),
}

/// Attempts that one entry has decided: orders now, or losers. One message instead of one for each attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct KeptList {
    /// Attempts that are orders now: their holds belong to these.
    pub kept: Vec<KeptAttempt>,
    /// SKUs of the destination, with the quantity that an order counts on: those of the first attempt first.
    pub items: Vec<(SkuId, Quantity)>,
    /// Attempts that lost to earlier ones of their keys, and give their tentative holds up (rule 5).
    pub released: Vec<Release>,
}

/// An attempt that is an order now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeptAttempt {
    /// Whose holds.
    pub attempt: AttemptId,
    /// The order they belong to.
    pub order: OrderId,
    /// Already confirmed: keep as committed instead of reserved.
    pub committed: bool,
    /// How many of the items are its own.
    pub items: u32,
}

/// Units of one SKU that an attempt holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HeldPart {
    /// Which SKU.
    pub sku: SkuId,
    /// Whose hold.
    pub attempt: AttemptId,
    /// How many.
    pub quantity: Quantity,
}

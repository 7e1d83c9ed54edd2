//! Starting a stream between two shards anew, after one of them has lost entries (protocol.md, rule 20).
//!
//! A stream stops for good when its two ends do not fit together: what was under way, and what its messages have done, is no longer
//! known. It can be told anew from what is left. The source *restarts* the stream: it drops what was under way, and counts on from
//! a number that its destination has never seen, so that nothing passes. Then it *claims*: for every order that the destination
//! holds other units for than the order counts on, it queues what the order counts on, behind which the messages of later changes
//! follow. Last the destination *agrees* to go on from that number.
//!
//! Both directions between two shards are started anew together: a shortfall that was under way one way is found out again by the
//! claims that go the other way. [`HoldScan`] and [`ClaimScan`] find what is to be claimed from the rows of both shards.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use ordergrid_rows::TableKey;

use crate::encoding::{BytesError, read_row};
use crate::ids::{AttemptId, GroupId, OrderId, SkuId};
use crate::machine::SlotOwners;
use crate::money::Quantity;
use crate::order::{Order, Phase};
use crate::rows::keys::{self, MarkKey};
use crate::rows::kinds::{HoldRow, Mark, OrderRow};
use crate::rows::{HOLD, MARK, ORDER};
use crate::time::Timestamp;

/// Starts streams of a shard anew.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Restart {
    /// The destinations, and the highest number that each has applied as far as is known.
    pub streams: Vec<(GroupId, u64)>,
}

/// What orders of a shard count on at another one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claims {
    /// The shard of the SKUs.
    pub to: GroupId,
    /// Orders that were made from this time on are left out: the restarted stream has their messages from the first one on.
    pub before: Timestamp,
    /// The orders.
    pub orders: Vec<ClaimOf>,
}

/// An order, or what holds are said to belong to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClaimOf {
    /// Its id.
    pub order: OrderId,
    /// The attempt of its holds.
    pub attempt: AttemptId,
    /// SKUs that are held for the attempt; what the order itself counts on need not be named.
    pub skus: Vec<SkuId>,
}

/// What an order counts on of one SKU, as its shard is told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claimed {
    /// Which SKU.
    pub sku: SkuId,
    /// Units that the order counts on.
    pub counted: Quantity,
    /// Units that it has shipped.
    pub shipped: Quantity,
}

/// Units that a shard holds for an attempt of another one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HeldUnits {
    /// For which attempt.
    pub attempt: AttemptId,
    /// Of which SKU.
    pub sku: SkuId,
    /// For which order; none while the hold is tentative.
    pub order: Option<OrderId>,
    /// How many.
    pub quantity: Quantity,
    /// Committed, else reserved.
    pub committed: bool,
}

/// Finds what a shard holds for the attempts of another one. Takes every row of one moment.
#[derive(Debug)]
pub struct HoldScan {
    owners: SlotOwners,
    of: GroupId,
    held: Vec<HeldUnits>,
}

impl HoldScan {
    /// For attempts of the shard `of`.
    #[must_use]
    pub fn new(owners: SlotOwners, of: GroupId) -> Self {
        Self { owners, of, held: Vec::new() }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        match key.first().copied().ok_or(BytesError::Key)? {
            MARK => {
                let MarkKey { attempt, sku } = MarkKey::parse(key)?;
                if let Mark::Tentative { quantity, .. } = read_row(value)? {
                    self.hold(HeldUnits { attempt, sku, order: None, quantity, committed: false });
                }
            }
            HOLD => {
                let (attempt, sku) = keys::hold_parts(key)?;
                let HoldRow { order, held } = read_row(value)?;
                let (quantity, committed) = (held.quantity, held.committed);
                self.hold(HeldUnits { attempt, sku, order: Some(order), quantity, committed });
            }
            _ => {}
        }
        Ok(())
    }

    fn hold(&mut self, held: HeldUnits) {
        if self.owners.owner(held.attempt.slot) == Some(self.of) {
            self.held.push(held);
        }
    }

    /// What was found, in the order of rows.
    #[must_use]
    pub fn finish(self) -> Vec<HeldUnits> {
        self.held
    }
}

/// What does not fit together between two shards, in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Mismatch {
    /// Units that orders count on and that are not held for them: (order, SKU, units).
    pub missing: Vec<(OrderId, SkuId, Quantity)>,
    /// Units that are held for orders that do not count on them: they were shipped or given up.
    pub surplus: Vec<(OrderId, SkuId, Quantity)>,
    /// Units that are held for orders that do not exist.
    pub orderless: Vec<(OrderId, SkuId, Quantity)>,
    /// Orders whose holds have to be kept or committed.
    pub unkept: u64,
}

/// Finds what is to be claimed. Takes every row of one moment of the orders' shard, not earlier than its restart.
#[derive(Debug)]
pub struct ClaimScan {
    owners: SlotOwners,
    to: GroupId,
    /// When the stream was restarted: orders made from `before` on are left out, those not changed since `at` need no claim if
    /// what is held is what they count on. `None`: the stream is not restarted yet, and is only looked at.
    restarted: Option<(Timestamp, Timestamp)>,
    held: BTreeMap<AttemptId, Vec<HeldUnits>>,
    claims: Vec<ClaimOf>,
    mismatch: Mismatch,
}

impl ClaimScan {
    /// For orders that count on SKUs of the shard `to`, which holds `held`. `restarted` is what [`Outcome::Restarted`] has told.
    ///
    /// [`Outcome::Restarted`]: crate::command::Outcome::Restarted
    #[must_use]
    pub fn new(owners: SlotOwners, to: GroupId, held: Vec<HeldUnits>, restarted: Option<(Timestamp, Timestamp)>) -> Self {
        let mut by_attempt: BTreeMap<AttemptId, Vec<HeldUnits>> = BTreeMap::new();
        for units in held {
            by_attempt.entry(units.attempt).or_default().push(units);
        }
        Self { owners, to, restarted, held: by_attempt, claims: Vec::new(), mismatch: Mismatch::default() }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        if key.first() == Some(&ORDER) {
            let row: OrderRow = read_row(value)?;
            if row.local_holds.is_none() {
                self.order(&row.order);
            }
        }
        Ok(())
    }

    fn order(&mut self, order: &Order) {
        let held = self.held.remove(&order.attempt).unwrap_or_default();
        let (before, at) = self.restarted.unzip();
        if before.is_some_and(|before| order.id.made_at() >= before) {
            return;
        }
        let committed = order.phase != Phase::PendingPayment;
        let mut unclear = at.is_some_and(|at| order.updated_at >= at);
        let mut unkept = false;
        let claimed = counted(order, |sku| self.owners.owner(sku.slot()) == Some(self.to));
        for claimed in &claimed {
            let units = held.iter().find(|units| units.sku == claimed.sku);
            let there = units.map_or(0, |units| units.quantity.0);
            let entry = |units: u64| (order.id, claimed.sku.clone(), Quantity(units));
            match there.cmp(&claimed.counted.0) {
                std::cmp::Ordering::Less => self.mismatch.missing.push(entry(claimed.counted.0 - there)),
                std::cmp::Ordering::Greater => self.mismatch.surplus.push(entry(there - claimed.counted.0)),
                std::cmp::Ordering::Equal => {}
            }
            unclear |= there != claimed.counted.0;
            unkept |= units.is_some_and(|units| units.order.is_none() || (committed && !units.committed));
        }
        self.mismatch.unkept += u64::from(unkept);
        if unclear || unkept {
            let skus = held.into_iter().map(|units| units.sku).collect();
            self.claims.push(ClaimOf { order: order.id, attempt: order.attempt, skus });
        }
    }

    /// What is to be claimed, and what does not fit together. Tentative holds of unknown attempts are no part of it: their shard
    /// asks (rule 14).
    #[must_use]
    pub fn finish(mut self) -> (Vec<ClaimOf>, Mismatch) {
        for (attempt, held) in self.held {
            let Some(order) = held.iter().find_map(|units| units.order) else { continue };
            let kept: Vec<_> = held.into_iter().filter(|units| units.order.is_some()).collect();
            let lost = kept.iter().map(|units| (order, units.sku.clone(), units.quantity));
            self.mismatch.orderless.extend(lost);
            self.claims.push(ClaimOf { order, attempt, skus: kept.into_iter().map(|units| units.sku).collect() });
        }
        (self.claims, self.mismatch)
    }
}

/// What an order counts on and has shipped, by SKU, of those that are meant.
pub(crate) fn counted(order: &Order, is_meant: impl Fn(&SkuId) -> bool) -> Vec<Claimed> {
    let mut by_sku: BTreeMap<&SkuId, (u64, u64)> = BTreeMap::new();
    for line in order.lines.iter().filter(|line| is_meant(&line.sku)) {
        let (counted, shipped) = by_sku.entry(&line.sku).or_default();
        *counted += line.holding().0;
        *shipped += line.shipped.0;
    }
    let claimed = |(sku, (counted, shipped)): (&SkuId, _)| Claimed {
        sku: sku.clone(),
        counted: Quantity(counted),
        shipped: Quantity(shipped),
    };
    by_sku.into_iter().map(claimed).collect()
}

//! What may be asked of the leader after a barrier, and of any replica that may be stale. Reads change nothing; a row
//! that may be in the store alone is answered with its key: load it, admit it, ask again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ShardMachine;
use crate::encoding::read_row;
use crate::ids::{AttemptId, Key, OrderId, Reference, SkuId, Text, UserId};
use crate::money::Quantity;
use crate::order::Order;
use crate::rows::keys::{self, MarkKey};
use crate::rows::kinds::{HoldRow, Mark, OrderRow, PlacedRow, ReferenceRow};
use crate::rows::work::{Value, Work};
use crate::rows::{RowKey, list_of, list_of_reference, listed_order};
use crate::sku::Sku;
use crate::time::Timestamp;

pub use ordergrid_rows::Lookup;

/// What a key of a user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedKey {
    /// The order.
    pub order: OrderId,
    /// Hash of the body that placed it.
    pub body_hash: u64,
}

/// What a SKU can give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// Units that a new hold may take, over all warehouses.
    pub available: Quantity,
    /// Its name in the catalogue.
    pub name: Text,
    /// Its version.
    pub version: u64,
}

/// Orders that were read together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Those that exist.
    pub orders: Vec<Order>,
    /// How many of the ids that were given have been looked at.
    pub looked: usize,
}

/// Cold orders of a run that are loaded at once.
const COLD_AT_ONCE: usize = 32;

/// What an attempt has at a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldView {
    /// Granted, its *keep* has not arrived.
    Tentative(Quantity),
    /// Belongs to an order: what is left of it.
    Kept(Quantity),
    /// Ended here: a tombstone (rule 10).
    Ended,
}

impl ShardMachine {
    /// An order as it stands.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Lookup<Order> {
        let key = keys::order(id);
        match self.rows.find(&key) {
            Lookup::Found(Value::Decoded(Work::Order(row))) => Lookup::Found(self.telling(row.order.as_ref().clone())),
            Lookup::Found(Value::Bytes(bytes)) => {
                let row: OrderRow = read_row(bytes).expect("a stored order decodes");
                Lookup::Found(self.telling(Arc::unwrap_or_clone(row.order)))
            }
            Lookup::Found(_) | Lookup::Absent => Lookup::Absent,
            Lookup::Cold(()) => Lookup::Cold(vec![key]),
        }
    }

    /// The order that has a reference of a user, or had it last, as it stands.
    #[must_use]
    pub fn referenced(&self, user: &UserId, reference: &Reference) -> Lookup<Order> {
        let row = self.look(keys::reference(user, reference), |bytes| {
            read_row::<ReferenceRow>(bytes).expect("a stored reference decodes").order
        });
        match row {
            Lookup::Found(order) => self.order(order),
            Lookup::Absent => Lookup::Absent,
            Lookup::Cold(keys) => Lookup::Cold(keys),
        }
    }

    /// Orders of all users that had a reference, newest first, that the store may not have yet, as [`ShardMachine::unlisted`] has
    /// those of a user.
    pub fn unlisted_by(&self, reference: &Reference) -> impl Iterator<Item = OrderId> {
        self.lists.of(list_of_reference(reference)).map(|key| listed_order(key).expect("a key written here reads"))
    }

    /// A SKU as it stands.
    #[must_use]
    pub fn sku(&self, id: &SkuId) -> Lookup<Sku> {
        self.look_at_sku(id, Sku::clone)
    }

    /// What a SKU can give (rules 9 and 12: look at [`ShardMachine::may_know`] first).
    #[must_use]
    pub fn available(&self, id: &SkuId) -> Lookup<Available> {
        let answer = |sku: &Sku| Available { available: sku.available(), name: sku.name.clone(), version: sku.version };
        self.look_at_sku(id, answer)
    }

    /// Units that a new hold of a SKU may take (rules 9 and 12: look at [`ShardMachine::may_know`] first).
    #[must_use]
    pub fn available_units(&self, id: &SkuId) -> Lookup<Quantity> {
        self.look_at_sku(id, Sku::available)
    }

    fn look_at_sku<T>(&self, id: &SkuId, read: impl FnOnce(&Sku) -> T) -> Lookup<T> {
        let key = keys::sku(id);
        match self.rows.find(&key) {
            Lookup::Found(Value::Decoded(Work::Sku(sku))) => Lookup::Found(read(sku)),
            Lookup::Found(Value::Bytes(bytes)) => Lookup::Found(read(&read_row(bytes).expect("a stored SKU decodes"))),
            Lookup::Found(_) | Lookup::Absent => Lookup::Absent,
            Lookup::Cold(()) => Lookup::Cold(vec![key]),
        }
    }

    /// What an attempt has at a SKU (rule 9), unless its order lives with all its SKUs. A kept hold may be cold.
    #[must_use]
    pub fn hold_of(&self, attempt: AttemptId, sku: &SkuId) -> Lookup<HoldView> {
        match self.marks.get(&MarkKey::new(attempt, sku)) {
            Some(Mark::Tentative { quantity, .. }) => Lookup::Found(HoldView::Tentative(*quantity)),
            Some(Mark::Kept { quantity, .. }) => Lookup::Found(HoldView::Kept(*quantity)),
            Some(Mark::Ended { .. }) => Lookup::Found(HoldView::Ended),
            None => {
                let kept = self.look(keys::hold(attempt, sku), |bytes| {
                    HoldView::Kept(read_row::<HoldRow>(bytes).expect("a stored hold decodes").held.quantity)
                });
                if kept == Lookup::Absent && self.was_kept(attempt) { Lookup::Found(HoldView::Ended) } else { kept }
            }
        }
    }

    /// Rule 9 from memory, whatever is cold: false when the attempt has certainly never been at this SKU, so that sold out
    /// may be answered without the log; true when only the log can tell.
    #[must_use]
    pub fn may_know(&self, attempt: AttemptId, sku: &SkuId, valid_until: Timestamp) -> bool {
        // What an attempt did here is known until log time has passed its valid-until.
        let (scale, now) = (self.scale(), self.meta.time);
        !scale.is_marked(scale.valid_until(valid_until, now), now)
            || self.marks.get(&MarkKey::new(attempt, sku)).is_some()
            || self.was_kept(attempt)
    }

    /// What a key of a user names, for early answers and for rule 6. Records past their retention are absent.
    #[must_use]
    pub fn key_record(&self, user: &UserId, key: &Key) -> Lookup<PlacedKey> {
        let record = self
            .look(keys::placed(user, key), |bytes| read_row::<PlacedRow>(bytes).expect("a stored idempotency record decodes"));
        match record {
            Lookup::Found(row) if self.remembered(row.at) => {
                Lookup::Found(PlacedKey { order: row.order, body_hash: row.body_hash })
            }
            Lookup::Found(_) | Lookup::Absent => Lookup::Absent,
            Lookup::Cold(keys) => Lookup::Cold(keys),
        }
    }

    /// Rule 14: attempts with holds that have been tentative for `after` at `now`, oldest first, `limit` holds at most.
    #[must_use]
    pub fn asks(&self, now: Timestamp, after: Duration, limit: usize) -> Vec<(AttemptId, Vec<SkuId>)> {
        let (now, mut asks) = (self.scale().machine(now), BTreeMap::<AttemptId, Vec<SkuId>>::new());
        let is_old = |granted_at: Timestamp| granted_at.after(after) <= now;
        if !self.marks.index().oldest().is_some_and(is_old) {
            return Vec::new();
        }
        let old = self.marks.iter().filter_map(|(key, mark)| match mark {
            Mark::Tentative { granted_at, .. } if is_old(*granted_at) => Some((*granted_at, key)),
            _ => None,
        });
        let mut old: Vec<_> = old.collect();
        old.sort_unstable();
        for (_, MarkKey { attempt, sku }) in old.into_iter().take(limit) {
            asks.entry(*attempt).or_default().push(sku.clone());
        }
        asks.into_iter().collect()
    }

    /// The orders of a user that the store may not list yet, newest first. The others are rows of the store: from
    /// [`list_of`] on. Look here first: what leaves meanwhile is found there.
    pub fn unlisted(&self, user: &UserId) -> impl Iterator<Item = OrderId> {
        self.lists.of(list_of(user)).map(|key| listed_order(key).expect("a key written here reads"))
    }

    /// Orders as they stand, those left out that do not exist.
    #[must_use]
    pub fn orders(&self, ids: &[OrderId]) -> Lookup<Vec<Order>> {
        self.orders_within(ids, u64::MAX).map(|run| run.orders)
    }

    /// The first of these orders, as they stand: at least one, and no more than take `bytes` in memory together. Behind some
    /// that are in memory it does not wait for those that are not: loading them might drive the first ones out.
    #[must_use]
    pub fn orders_within(&self, ids: &[OrderId], bytes: u64) -> Lookup<Run> {
        let (mut run, mut cold, mut taken) = (Run::default(), Vec::new(), 0);
        let at_once = if bytes == u64::MAX { usize::MAX } else { COLD_AT_ONCE };
        for id in ids {
            match self.order(*id) {
                Lookup::Found(order) => {
                    taken += order.bytes_in_memory();
                    run.orders.push(order);
                }
                Lookup::Absent => {}
                Lookup::Cold(_) if run.looked > 0 && at_once != usize::MAX && cold.is_empty() => break,
                Lookup::Cold(keys) => cold.extend(keys),
            }
            run.looked += 1;
            if taken >= bytes || cold.len() >= at_once {
                break;
            }
        }
        if cold.is_empty() { Lookup::Found(run) } else { Lookup::Cold(cold) }
    }

    fn look<T>(&self, key: RowKey, read: impl FnOnce(&[u8]) -> T) -> Lookup<T> {
        match self.rows.find(&key) {
            Lookup::Found(Value::Bytes(bytes)) => Lookup::Found(read(bytes)),
            Lookup::Found(_) | Lookup::Absent => Lookup::Absent,
            Lookup::Cold(()) => Lookup::Cold(vec![key]),
        }
    }
}

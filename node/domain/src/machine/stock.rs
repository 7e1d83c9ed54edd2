//! Commands on SKUs, and holds: granted by command, kept, committed, freed and shipped by message (rules 8 to 15, 18, 19).
//!
//! A tentative hold is a mark; a kept one is a row that may go cold. Both are keyed by attempt and SKU (rule 9); which attempts were
//! kept lately is known beside them (`kept`). Units of an order that lives with all its SKUs are in its own row instead
//! (`local_holds`).

use super::ShardMachine;
use super::kept::KeptNow;
use crate::command::{Hold, HoldAsked, Holds, Outcome, Release, SkuAction, SkuCommand};
use crate::encoding::{read_row, row_bytes};
use crate::ids::{AttemptId, OrderId, SkuId, Text, WarehouseId};
use crate::money::Quantity;
use crate::rejection::Rejection;
use crate::rows::RowKey;
use crate::rows::keys::{self, MarkKey};
use crate::rows::kinds::{Held, HoldRow, Mark, SkuKeyRow};
use crate::sku::Sku;
use crate::sku::stock::BucketSums;
use crate::time::Timestamp;

impl ShardMachine {
    /// Refusals in this order: the wrong shard, no such SKU, the key, the version, then the stock's own.
    pub(super) fn sku_command(&mut self, command: &SkuCommand) -> Result<Outcome, Rejection> {
        self.own(command.sku.slot())?;
        let key = keys::sku(&command.sku);
        let name = match &command.action {
            SkuAction::Put { name } | SkuAction::Create { name } => Some(name),
            SkuAction::Receive { .. } | SkuAction::Adjust { .. } => None,
        };
        let Some(sku) = self.rows.get::<Sku>(&key) else {
            let name = name.ok_or_else(|| Rejection::NoSuchSku(command.sku.clone()))?;
            return self.create_sku(command, key, Sku::new(command.sku.clone(), name.clone()));
        };
        let (version, again) = (sku.version, sku.clone());
        let record = command.key.as_ref().map(|client| keys::sku_key(&command.sku, client));
        if let Some(first) = record.as_ref().and_then(|record| self.sku_key_row(record)) {
            if first.body_hash != command.body_hash {
                return Err(Rejection::KeyReused);
            }
            return Ok(Outcome::Sku { sku: Box::new(again), created: false, replayed: true, version: first.version });
        }
        if let Some(expected) = command.expect_version.filter(|expected| *expected != version) {
            return Err(Rejection::StaleVersion { expected, actual: version });
        }
        // On a copy, so that a refusal leaves the row as it was, clean and unencoded.
        let mut changed = again;
        let renamed = match &command.action {
            SkuAction::Create { .. } => return Err(Rejection::StaleVersion { expected: 0, actual: version }),
            SkuAction::Put { name } => changed.rename(name),
            SkuAction::Receive { warehouse, quantity } => changed.receive(warehouse, *quantity).map(|()| true)?,
            SkuAction::Adjust { warehouse, delta, .. } => changed.adjust(warehouse, *delta).map(|()| true)?,
        };
        if renamed {
            *self.rows.get_mut::<Sku>(&key).expect("the SKU was just read") = changed.clone();
        }
        let version = changed.version;
        self.remember_sku_key(record, command.body_hash, version);
        Ok(Outcome::Sku { sku: Box::new(changed), created: false, replayed: false, version })
    }

    fn create_sku(&mut self, command: &SkuCommand, key: RowKey, sku: Sku) -> Result<Outcome, Rejection> {
        if let Some(expected) = command.expect_version {
            return Err(Rejection::StaleVersion { expected, actual: 0 });
        }
        let record = command.key.as_ref().map(|client| keys::sku_key(&command.sku, client));
        let version = sku.version;
        self.remember_sku_key(record, command.body_hash, version);
        self.rows.put_decoded(key, Box::new(sku.clone()));
        self.meta.counts.skus += 1;
        Ok(Outcome::Sku { sku: Box::new(sku), created: true, replayed: false, version })
    }

    fn sku_key_row(&mut self, key: &RowKey) -> Option<SkuKeyRow> {
        let bytes = self.rows.bytes(key)?;
        let row: SkuKeyRow = read_row(bytes).expect("a stored idempotency record decodes");
        self.remembered(row.at).then_some(row)
    }

    fn remember_sku_key(&mut self, key: Option<RowKey>, body_hash: u64, version: u64) {
        if let Some(key) = key {
            let row = SkuKeyRow { body_hash, version, at: self.meta.time };
            self.rows.put_bytes(key, row_bytes(&mut self.scratch, &row));
        }
    }

    /// One hold by itself.
    pub(super) fn hold(&mut self, hold: &Hold) -> Result<Outcome, Rejection> {
        let Hold { attempt, sku, quantity, valid_until } = hold;
        self.hold_units(*attempt, sku, *quantity, *valid_until).map(|name| Outcome::Held { name })
    }

    /// Holds that were asked for together, each as if it were alone.
    pub(super) fn holds(&mut self, holds: &Holds) -> Outcome {
        let one = |row: &HoldAsked| self.hold_units(holds.attempt(row), &row.sku, row.quantity, holds.valid_until);
        Outcome::Holds(holds.rows.iter().map(one).collect())
    }

    /// Refusals in this order: the wrong shard, what the attempt did here before, too late, no such SKU, not enough. Gives the
    /// SKU's name.
    fn hold_units(&mut self, attempt: AttemptId, sku: &SkuId, quantity: Quantity, until: Timestamp) -> Result<Text, Rejection> {
        self.own(sku.slot())?;
        let valid_until = self.scale().valid_until(until, self.meta.time);
        let key = keys::sku(sku);
        if let Some(before) = self.held_before(attempt, sku, valid_until) {
            // Rule 9: the same again is granted already; another quantity, or an ended one, never.
            if before != Some(quantity) {
                return Err(Rejection::HoldEnded);
            }
            let row = self.rows.get::<Sku>(&key).expect("units of a SKU that exists are held");
            return Ok(row.name.clone());
        }
        if self.meta.time > valid_until {
            return Err(Rejection::HoldExpired { valid_until: until, now: self.time() }); // rule 11
        }
        let (at, row) = self.rows.get_at::<Sku>(&key).ok_or_else(|| Rejection::NoSuchSku(sku.clone()))?;
        let (warehouse, name) = (row.source(quantity)?, row.name.clone());
        self.rows.at_mut::<Sku>(at).take(&warehouse, quantity, false);
        let mark = Mark::Tentative { quantity, warehouse, granted_at: self.meta.time, valid_until };
        self.marks.put(MarkKey::new(attempt, sku), mark);
        Ok(name)
    }

    /// What the attempt has here: `None` nothing, `Some(None)` no use for units any more, else the quantity it asked for. An attempt
    /// that was kept is an order already: who repeats a hold of it has no use for the answer.
    fn held_before(&mut self, attempt: AttemptId, sku: &SkuId, valid_until: Timestamp) -> Option<Option<Quantity>> {
        match self.marks.get(&MarkKey::new(attempt, sku)) {
            Some(Mark::Tentative { quantity, .. }) => Some(Some(*quantity)),
            Some(Mark::Kept { .. } | Mark::Ended { .. }) => Some(None),
            None if self.was_kept(attempt) => Some(None),
            // All of these are known until the valid-until: only later can there be a hold beside them.
            None if !self.scale().is_marked(valid_until, self.meta.time) => self.hold_row(attempt, sku).map(|_| None),
            None => None,
        }
    }

    /// Rules 8, 10 and 15: ends tentative holds, and leaves tombstones for those that may still be on their way.
    pub(super) fn release(&mut self, release: &Release) -> Result<Outcome, Rejection> {
        for sku in &release.skus {
            self.own(sku.slot())?;
        }
        self.released(release);
        Ok(Outcome::Done)
    }

    pub(super) fn released(&mut self, release: &Release) {
        let valid_until = self.scale().valid_until(release.valid_until, self.meta.time);
        for sku in &release.skus {
            self.end_tentative(release.attempt, sku, Some(valid_until));
        }
    }

    /// Rule 14: the order shard knows nothing of these attempts, and never will.
    pub(super) fn gone(&mut self, holds: &[(AttemptId, SkuId)]) -> Result<Outcome, Rejection> {
        for (_, sku) in holds {
            self.own(sku.slot())?;
        }
        for (attempt, sku) in holds {
            self.end_tentative(*attempt, sku, None);
        }
        Ok(Outcome::Done)
    }

    fn end_tentative(&mut self, attempt: AttemptId, sku: &SkuId, valid_until: Option<Timestamp>) {
        match self.marks.get(&MarkKey::new(attempt, sku)).cloned() {
            Some(Mark::Tentative { quantity, warehouse, valid_until: held_until, .. }) => {
                let row = self.rows.get_mut::<Sku>(&keys::sku(sku)).expect("units of a SKU that exists are held");
                row.give_back(&warehouse, quantity, false);
                self.tombstone(attempt, sku, valid_until.map_or(held_until, |until| until.max(held_until)));
            }
            Some(Mark::Kept { .. }) => {} // rule 15
            Some(Mark::Ended { valid_until: before }) => {
                if let Some(later) = valid_until.filter(|until| *until > before) {
                    self.tombstone(attempt, sku, later);
                }
            }
            None => {
                if let Some(until) = valid_until.filter(|_| !self.was_kept(attempt)) {
                    self.tombstone(attempt, sku, until);
                }
            }
        }
    }

    /// Rule 10: remembers until log time has passed `valid_until` that the attempt has ended here; after that age refuses it.
    fn tombstone(&mut self, attempt: AttemptId, sku: &SkuId, valid_until: Timestamp) {
        self.mark_until(attempt, sku, Mark::Ended { valid_until }, valid_until);
    }

    pub(super) fn mark_until(&mut self, attempt: AttemptId, sku: &SkuId, mark: Mark, valid_until: Timestamp) {
        if self.meta.time > valid_until {
            self.marks.remove(&MarkKey::new(attempt, sku));
        } else {
            self.marks.put(MarkKey::new(attempt, sku), mark);
        }
    }

    /// Forgets marks that log time has passed, at most `limit`.
    pub(super) fn drop_marks(&mut self, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit
            && let Some((_, attempt, sku)) = self.marks.index().ending.first().filter(|mark| mark.0 < self.meta.time)
        {
            let key = MarkKey::new(*attempt, sku);
            self.marks.remove(&key);
            dropped += 1;
        }
        dropped + self.drop_kept(limit - dropped)
    }

    /// Rule 18: returns the units that the order counts on and that are not there.
    pub(super) fn keep(
        &mut self,
        now: &mut KeptNow,
        attempt: AttemptId,
        order: OrderId,
        committed: bool,
        sku: &SkuId,
        wanted: Quantity,
    ) -> Quantity {
        let key = MarkKey::new(attempt, sku);
        let (quantity, warehouse, valid_until) = match self.marks.remove(&key) {
            Some(Mark::Tentative { quantity, warehouse, valid_until, .. }) => (quantity, warehouse, valid_until),
            other => {
                other.into_iter().for_each(|mark| self.marks.put(key.clone(), mark));
                // Nothing to keep, unless it was kept before.
                let kept = self.hold_row(attempt, sku).filter(|row| row.order == order);
                return Quantity(wanted.0.saturating_sub(kept.map_or(0, |row| row.held.quantity.0)));
            }
        };
        let kept = quantity.min(wanted);
        if committed || quantity > kept {
            let row = self.rows.get_mut::<Sku>(&keys::sku(sku)).expect("units of a SKU that exists are held");
            if committed && kept > Quantity::ZERO {
                row.commit(&warehouse, kept);
            }
            if quantity > kept {
                row.give_back(&warehouse, Quantity(quantity.0 - kept.0), false);
            }
        }
        now.add(attempt, valid_until);
        if kept > Quantity::ZERO {
            let hold = HoldRow { order, held: Held { quantity: kept, committed, warehouse } };
            // A tentative hold has no row yet: no look at the store is needed.
            self.put_hold(attempt, sku, &hold);
            self.meta.counts.holds += 1;
        }
        Quantity(wanted.0 - kept.0)
    }

    /// The order is confirmed. A hold that a count took meanwhile has been told of already.
    pub(super) fn commit(&mut self, sums: &mut BucketSums, attempt: AttemptId, sku: &SkuId) {
        let Some(mut hold) = self.hold_row(attempt, sku).filter(|hold| !hold.held.committed) else { return };
        commit_held(sums, &mut hold.held);
        self.put_hold(attempt, sku, &hold);
    }

    /// Units of a kept hold are free again.
    pub(super) fn free(&mut self, sums: &mut BucketSums, attempt: AttemptId, sku: &SkuId, quantity: Quantity) {
        let Some(mut hold) = self.hold_row(attempt, sku) else { return };
        free_held(sums, &mut hold.held, quantity);
        self.put_shrunk(attempt, sku, &hold);
    }

    /// Units of a kept hold left the shelf; those that a count has taken left it before the count (rule 19).
    pub(super) fn ship(&mut self, sums: &mut BucketSums, attempt: AttemptId, sku: &SkuId, quantity: Quantity) {
        let mut hold = self.hold_row(attempt, sku);
        ship_held(sums, hold.as_mut().map(|hold| &mut hold.held), quantity);
        if let Some(hold) = hold {
            self.put_shrunk(attempt, sku, &hold);
        }
    }

    /// Does to a SKU what its holds come to. One that does not exist has none: there is nothing to do (rule 18).
    pub(super) fn settle(&mut self, sku: &SkuId, sums: &mut BucketSums) {
        if sums.is_empty() {
            return;
        }
        match self.rows.get_mut::<Sku>(&keys::sku(sku)) {
            Some(row) => row.settle(sums),
            None => *sums = BucketSums::default(),
        }
    }

    /// Writes a hold that has lost units; the last one leaves a tombstone (rule 10).
    pub(super) fn put_shrunk(&mut self, attempt: AttemptId, sku: &SkuId, hold: &HoldRow) {
        if hold.held.quantity > Quantity::ZERO {
            self.put_hold(attempt, sku, hold);
            return;
        }
        self.rows.remove(keys::hold(attempt, sku));
        Self::uncount(&mut self.meta.counts.holds, 1, "holds");
        if let Some(Mark::Kept { valid_until, .. }) = self.marks.get(&MarkKey::new(attempt, sku)) {
            self.tombstone(attempt, sku, *valid_until);
        }
    }

    pub(super) fn hold_row(&mut self, attempt: AttemptId, sku: &SkuId) -> Option<HoldRow> {
        let bytes = self.rows.bytes(&keys::hold(attempt, sku))?;
        Some(read_row(bytes).expect("a stored hold decodes"))
    }

    pub(super) fn put_hold(&mut self, attempt: AttemptId, sku: &SkuId, hold: &HoldRow) {
        let bytes = row_bytes(&mut self.scratch, hold);
        self.rows.put_bytes(keys::hold(attempt, sku), bytes);
    }
}

pub(super) fn commit_held(sums: &mut BucketSums, held: &mut Held) {
    sums.commit(&held.warehouse, held.quantity);
    held.committed = true;
}

pub(super) fn free_held(sums: &mut BucketSums, held: &mut Held, quantity: Quantity) {
    let freed = quantity.min(held.quantity);
    sums.free(&held.warehouse, freed, held.committed);
    held.quantity.0 -= freed.0;
}

pub(super) fn ship_held(sums: &mut BucketSums, held: Option<&mut Held>, quantity: Quantity) {
    let shipped = quantity.min(held.as_ref().map_or(Quantity::ZERO, |held| held.quantity));
    let uncounted = Quantity(quantity.0 - shipped.0);
    if uncounted > Quantity::ZERO {
        let warehouse = held.as_ref().map_or_else(WarehouseId::default, |held| held.warehouse.clone());
        sums.ship_uncounted(&warehouse, uncounted);
    }
    if let Some(held) = held {
        sums.ship(&held.warehouse, shipped, held.committed);
        held.quantity.0 -= shipped.0;
    }
}

//! The model of a SKU: one number on the shelf, and who holds how much of it.

use std::collections::BTreeMap;

use ordergrid_domain::command::{Hold, SkuAction, SkuCommand};
use ordergrid_domain::{AttemptId, Key, Lookup, OrderId, Outcome, Quantity, Rejection, ShardMachine, SkuId};

use super::{Effect, Mistake, Oracle, OrderModel, RETENTION, demand};
use crate::domain::Violation;
use crate::domain::report::Counts;

/// Units that an attempt holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    units: u64,
    /// What was asked for at first.
    asked: u64,
    valid_until: u64,
    order: Option<OrderId>,
    committed: bool,
}

/// A SKU.
#[derive(Clone, Debug, Default)]
pub struct SkuModel {
    shelf: u64,
    sold: u64,
    holds: BTreeMap<AttemptId, Held>,
    /// Attempts that ended here, and until when that must be remembered.
    ended: BTreeMap<AttemptId, u64>,
    keys: BTreeMap<Key, (u64, u64)>,
}

impl SkuModel {
    fn free(&self) -> u64 {
        self.shelf - self.holds.values().map(|held| held.units).sum::<u64>()
    }

    pub(super) fn take(&mut self, attempt: AttemptId, units: u64, valid_until: u64) {
        self.holds.insert(attempt, Held { units, asked: units, valid_until, order: None, committed: false });
    }

    /// Ends what no order has kept.
    pub(super) fn release(&mut self, attempt: AttemptId, until: Option<u64>) {
        match self.holds.get(&attempt) {
            Some(held) if held.order.is_none() => {
                let until = until.unwrap_or_default().max(held.valid_until);
                self.holds.remove(&attempt);
                self.ended.insert(attempt, until);
            }
            Some(_) => {}
            None => {
                if let Some(until) = until {
                    let known = self.ended.entry(attempt).or_default();
                    *known = (*known).max(until);
                }
            }
        }
    }

    fn lower(&mut self, attempt: AttemptId, units: u64) {
        let held = self.holds.get_mut(&attempt).expect("the model frees and ships what it holds");
        held.units -= units;
        if held.units == 0 {
            let until = held.valid_until;
            self.holds.remove(&attempt);
            self.ended.insert(attempt, until);
        }
    }

    /// Holds of which no living order knows.
    pub(super) fn holds_without_order<'a>(
        &'a self,
        orders: &'a BTreeMap<OrderId, OrderModel>,
    ) -> impl Iterator<Item = AttemptId> + 'a {
        let stray = |held: &Held| held.order.is_none_or(|order| !orders[&order].holds_anything());
        self.holds.iter().filter(move |(_, held)| stray(held)).map(|(attempt, _)| *attempt)
    }
}

impl Oracle {
    pub(super) fn sku_of(&mut self, sku: &SkuId) -> &mut SkuModel {
        self.skus.entry(sku.clone()).or_default()
    }

    /// Why a local order cannot be held, if so.
    pub(super) fn short(&self, wanted: &[(SkuId, u64)]) -> Option<Rejection> {
        let short = wanted.iter().map(|(sku, units)| (sku.clone(), Quantity(*units), Quantity(self.skus[sku].free())));
        let mut short: Vec<_> = short.filter(|(_, asked, free)| asked > free).collect();
        if short.len() > 1 {
            return Some(Rejection::OutOfStocks(short));
        }
        short.pop().map(|(sku, asked, available)| Rejection::OutOfStock { sku, asked, available })
    }

    pub(super) fn hold(&mut self, now: u64, hold: &Hold, outcome: &Outcome, counts: &mut Counts) -> Result<(), Violation> {
        let (attempt, until, asked) = (hold.attempt, hold.valid_until.as_ms(), hold.quantity.0);
        let sku = self.sku_of(&hold.sku);
        let refused =
            |outcome: &Outcome| matches!(outcome, Outcome::Rejected(Rejection::HoldEnded | Rejection::HoldExpired { .. }));
        if let Some(held) = sku.holds.get(&attempt) {
            counts.note("hold repeated");
            // What is an order already takes nothing more, whatever of it is asked again.
            let again = matches!(outcome, Outcome::Held { .. }) && held.asked == asked && held.order.is_none();
            let late = (held.order.is_some() || now > until) && refused(outcome);
            demand!(again || late, "a repeated hold was answered with {outcome:?}");
        } else if let Some(ended) = sku.ended.get(&attempt) {
            counts.note("tombstone met");
            let kept = *outcome == Outcome::Rejected(Rejection::HoldEnded);
            demand!(kept || (now > *ended && refused(outcome)), "an ended attempt was answered with {outcome:?}");
        } else if now > until {
            counts.note("hold refused as expired");
            let expired = matches!(outcome, Outcome::Rejected(Rejection::HoldExpired { .. }));
            demand!(expired, "a hold that came too late was answered with {outcome:?}");
        } else if sku.free() < asked {
            counts.note("refused out of stock");
            let available = Quantity(sku.free());
            let none = Rejection::OutOfStock { sku: hold.sku.clone(), asked: hold.quantity, available };
            demand!(*outcome == Outcome::Rejected(none.clone()), "{none:?} was expected, not {outcome:?}");
        } else {
            demand!(matches!(outcome, Outcome::Held { .. }), "a hold that fits was answered with {outcome:?}");
            sku.take(attempt, asked, until);
        }
        self.touch(&hold.sku);
        Ok(())
    }

    /// What a message, or an order of the same shard, does to stock.
    pub(super) fn follow(&mut self, attempt: AttemptId, effect: &Effect) {
        self.touched.0.extend(effect.skus().into_iter().cloned());
        match effect {
            Effect::Keep(order, committed, items) => {
                for (sku, units) in items {
                    let held = self.sku_of(sku).holds.get_mut(&attempt).expect("only what is held is placed");
                    assert!(held.units == *units && held.order.is_none(), "a hold is kept once, and whole");
                    (held.order, held.committed) = (Some(*order), *committed);
                }
            }
            Effect::Commit(skus) => {
                for sku in skus {
                    self.sku_of(sku).holds.get_mut(&attempt).expect("only what is held is committed").committed = true;
                }
            }
            Effect::Free(items) => {
                for (sku, units) in items {
                    if self.mistake != Mistake::CancelKeepsUnits {
                        self.sku_of(sku).lower(attempt, *units);
                    }
                }
            }
            Effect::Ship(items) => {
                for (sku, units) in items {
                    let sku = self.sku_of(sku);
                    sku.lower(attempt, *units);
                    sku.shelf -= units;
                    sku.sold += units;
                }
            }
            Effect::Release(skus, until) => {
                for sku in skus {
                    self.sku_of(sku).release(attempt, Some(*until));
                }
            }
        }
    }

    pub(super) fn sku_command(&mut self, now: u64, command: &SkuCommand, outcome: &Outcome) -> Result<(), Violation> {
        let sku = self.sku_of(&command.sku);
        let seen = command.key.as_ref().and_then(|key| sku.keys.get(key)).filter(|(_, at)| now <= at + RETENTION);
        if let Some((body, at)) = seen {
            let replay = matches!(outcome, Outcome::Sku { replayed: true, .. });
            let reused = *outcome == Outcome::Rejected(Rejection::KeyReused);
            demand!(if *body == command.body_hash { replay } else { reused }, "key of {at} was answered with {outcome:?}");
            return Ok(());
        }
        let delta = match &command.action {
            SkuAction::Put { .. } | SkuAction::Create { .. } => 0,
            SkuAction::Receive { quantity, .. } => quantity.0 as i64,
            SkuAction::Adjust { delta, .. } => *delta,
        };
        let free = sku.free();
        if delta < 0 && delta.unsigned_abs() > free {
            let short = Rejection::WouldOversell { asked: Quantity(delta.unsigned_abs()), available: Quantity(free) };
            demand!(*outcome == Outcome::Rejected(short.clone()), "{short:?} was expected, not {outcome:?}");
        } else {
            demand!(matches!(outcome, Outcome::Sku { replayed: false, .. }), "{command:?} was answered with {outcome:?}");
            sku.shelf = sku.shelf.checked_add_signed(delta).expect("free units are on the shelf");
            if let Some(key) = &command.key {
                sku.keys.insert(key.clone(), (command.body_hash, now));
            }
        }
        self.touch(&command.sku);
        Ok(())
    }

    /// The buckets that a machine shows must be the sums of the model's holds.
    pub(super) fn same_stock(&self, id: &SkuId, machine: &ShardMachine) -> Result<(), Violation> {
        let Lookup::Found(sku) = machine.sku(id) else {
            return Err(Violation(format!("SKU {id} is not there")));
        };
        let model = &self.skus[id];
        let sum =
            |committed| model.holds.values().filter(|held| held.committed == committed).map(|held| held.units).sum::<u64>();
        let expected = [model.shelf, sum(false), sum(true), model.sold];
        let buckets = sku.stock[0].1;
        let shown = [buckets.on_hand.0, buckets.reserved.0, buckets.committed.0, buckets.sold.0];
        demand!(shown == expected, "{id}: on hand, reserved, committed, sold are {shown:?}, not {expected:?}");
        Ok(())
    }
}

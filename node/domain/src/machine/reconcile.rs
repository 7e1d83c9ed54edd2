//! Starting a stream anew (rule 20): the source's restart and claims, and the destination's consent. What a claim does to a hold is
//! here as well.

use super::kept::KeptNow;
use super::stock::{commit_held, free_held, ship_held};
use super::{ShardMachine, Stream};
use crate::command::{Message, Outcome};
use crate::ids::{AttemptId, GroupId, OrderId, SkuId};
use crate::money::Quantity;
use crate::reconcile::{ClaimOf, Claimed, Claims, Restart, counted};
use crate::rejection::Rejection;
use crate::repair::LONGEST_VALIDITY;
use crate::rows::keys::{self, From, MarkKey, OutboxKey, To};
use crate::rows::kinds::{Held, HoldRow, Mark, OrderRow, StreamIn, StreamOut};
use crate::sku::Sku;
use crate::sku::stock::BucketSums;
use crate::time::Timestamp;

/// Numbers of a stream that one term may use: those of a later term lie above all of them.
const TERM: u64 = 1 << 32;
/// No stream counts so far: whoever says so is wrong.
const LAST: u64 = 1 << 63;

impl ShardMachine {
    /// Drops what is under way, and counts on above every number that the destination may have seen: above its own word, and above
    /// all of earlier terms, of which some may be lost here. Ids of orders are told from those of before.
    pub(super) fn restart(&mut self, restart: &Restart) -> Result<Outcome, Rejection> {
        if restart.streams.iter().any(|(to, _)| *to == self.config.shard) {
            return Err(Rejection::WrongShard);
        }
        if let Some((to, applied)) = restart.streams.iter().find(|(_, applied)| *applied > LAST) {
            return Err(Rejection::StreamGap { first: *applied, next: self.stream_out(*to).next });
        }
        self.tell_gathered(); // what this entry has told before is under way, too
        let mut streams = Vec::with_capacity(restart.streams.len());
        for (to, applied) in &restart.streams {
            let before = self.stream_out(*to);
            for number in before.trimmed + 1..before.next {
                let message = self.outbox.remove(&OutboxKey { to: *to, number }).expect("what is not trimmed is in the outbox");
                self.forget_sent(&message);
            }
            let trimmed = before.next.max(applied + 1).max(self.meta.position.term.saturating_mul(TERM).min(LAST)) + 1;
            self.streams_out.put(To(*to), StreamOut { next: trimmed + 1, trimmed });
            streams.push((*to, trimmed));
        }
        let now = self.scale().log_from_now(self.meta.time);
        let before = Timestamp::from_ms(self.meta.part_ids(now) + OrderId::EPOCH_MS);
        Ok(Outcome::Restarted { streams, before, at: self.meta.time })
    }

    /// Goes on with a stream above a number; what it has not seen of it up to there is dropped, and is claimed instead.
    pub(super) fn agree(&mut self, from: GroupId, high: u64) -> Result<Outcome, Rejection> {
        if from == self.config.shard {
            return Err(Rejection::WrongShard);
        }
        let known = self.high(from);
        if high < known || high > LAST {
            return Err(Rejection::StreamGap { first: high, next: known + 1 });
        }
        self.streams_in.put(From(from), StreamIn { high });
        self.agreed += 1;
        Ok(Outcome::Delivered { high })
    }

    /// Queues what orders count on now.
    pub(super) fn claims(&mut self, claims: &Claims) -> Result<Outcome, Rejection> {
        if claims.to == self.config.shard {
            return Err(Rejection::WrongShard);
        }
        self.tell_gathered(); // a claim is of an order as it is now: what changed it before is told before
        for claim in claims.orders.iter().filter(|claim| claim.order.made_at() < claims.before) {
            let (committed, items) = self.claimed(claims.to, claim);
            if !items.is_empty() {
                let (attempt, order) = (claim.attempt, claim.order);
                self.post(claims.to, Message::Claim { attempt, order, committed, items });
            }
        }
        Ok(Outcome::Done)
    }

    /// What an order counts on, nothing if there is no such order; of every SKU that is named besides, nothing.
    fn claimed(&mut self, to: GroupId, claim: &ClaimOf) -> (bool, Vec<Claimed>) {
        let owners = self.config.owners.clone();
        let row = self.rows.get::<OrderRow>(&keys::order(claim.order));
        let row = row.filter(|row| row.order.attempt == claim.attempt && row.local_holds.is_none());
        let (committed, mut items) = match row {
            Some(row) => {
                let committed = row.order.phase != crate::order::Phase::PendingPayment;
                (committed, counted(&row.order, |sku| owners.owner(sku.slot()) == Some(to)))
            }
            None => (false, Vec::new()),
        };
        for sku in &claim.skus {
            if items.iter().all(|item| item.sku != *sku) {
                items.push(Claimed { sku: sku.clone(), counted: Quantity::ZERO, shipped: Quantity::ZERO });
            }
        }
        (committed, items)
    }

    /// Has a hold be what its order counts on; returns the units that are not there.
    ///
    /// What is held beyond that was shipped or given up, and this shard has lost which. As many units as the order has shipped are
    /// taken to have left the shelf: what has left is never promised again, and a count finds what has not.
    pub(super) fn claim(&mut self, attempt: AttemptId, order: OrderId, committed: bool, claimed: &Claimed) -> Quantity {
        let sku = &claimed.sku;
        if let Some(Mark::Tentative { quantity, .. }) = self.marks.get(&MarkKey::new(attempt, sku)) {
            let (quantity, mut now) = (*quantity, KeptNow::default());
            self.keep(&mut now, attempt, order, committed, sku, quantity);
            self.remember_kept(now);
        }
        let known = self.hold_row(attempt, sku);
        let is_new = known.is_none();
        let none = || Held { quantity: Quantity::ZERO, committed, warehouse: crate::ids::WarehouseId::default() };
        let mut hold = known.unwrap_or_else(|| HoldRow { order, held: none() });
        let mut sums = BucketSums::default();
        if committed && !hold.held.committed {
            commit_held(&mut sums, &mut hold.held);
        }
        let surplus = hold.held.quantity.0.saturating_sub(claimed.counted.0);
        let left = surplus.min(claimed.shipped.0);
        if surplus > 0 {
            ship_held(&mut sums, Some(&mut hold.held), Quantity(left));
            free_held(&mut sums, &mut hold.held, Quantity(surplus - left));
        }
        self.settle(sku, &mut sums);
        let wanted = Quantity(claimed.counted.0.saturating_sub(hold.held.quantity.0));
        let missing = self.take_again(sku, &mut hold.held, wanted);
        if !is_new {
            self.put_shrunk(attempt, sku, &hold);
        } else if hold.held.quantity > Quantity::ZERO {
            self.put_hold(attempt, sku, &hold);
            self.meta.counts.holds += 1;
            if self.marks.get(&MarkKey::new(attempt, sku)).is_none() && !self.was_kept(attempt) {
                // The hold itself may still be on its way (rule 9), and nobody knows until when it is valid.
                let until = self.meta.time.after(LONGEST_VALIDITY);
                let mark = Mark::Kept { quantity: hold.held.quantity, valid_until: until };
                self.mark_until(attempt, sku, mark, until);
            }
        }
        missing
    }

    /// Takes units for a hold that has lost them, as many as are free; returns how many are not.
    fn take_again(&mut self, sku: &SkuId, held: &mut Held, wanted: Quantity) -> Quantity {
        let Some(row) = self.rows.get_mut::<Sku>(&keys::sku(sku)).filter(|_| wanted > Quantity::ZERO) else { return wanted };
        let found = if held.quantity > Quantity::ZERO { Some(&held.warehouse) } else { None };
        let Some((warehouse, free)) = row.most_free(found) else { return wanted };
        let taken = Quantity(wanted.0.min(free.0));
        if taken > Quantity::ZERO {
            row.take(&warehouse, taken, held.committed);
            held.quantity.0 += taken.0;
            held.warehouse = warehouse;
        }
        Quantity(wanted.0 - taken.0)
    }

    /// How often this replica has seen a stream to this shard started anew since its process began: an answer that was asked for
    /// before says nothing any more.
    #[must_use]
    pub fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Where the stream to another shard stands.
    #[must_use]
    pub fn stream(&self, to: GroupId) -> Stream {
        let StreamOut { next, trimmed } = self.stream_out(to);
        Stream { to, next, trimmed }
    }
}

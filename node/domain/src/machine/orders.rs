//! Commands on orders, and the timers of orders: look up, refuse, change, then see to the effects.

use std::sync::Arc;

use super::{ShardMachine, TICK_LIMIT};
use crate::command::{Created, OrderCommand, Outcome};
use crate::encoding::row_bytes;
use crate::ids::{OrderId, SkuId};
use crate::money::Quantity;
use crate::order::Status;
use crate::order::{Effects, TimerKind};
use crate::rejection::Rejection;
use crate::rows::RowKey;
use crate::rows::keys::{self, TimerKey};
use crate::rows::kinds::{OrderKey, OrderRow};
use crate::time::Timestamp;

/// Every status, in the order in which their orders are counted.
pub(crate) const STATUSES: [Status; 9] = [
    Status::Cancelled,
    Status::Completed,
    Status::PendingPayment,
    Status::Delivered,
    Status::Shipped,
    Status::PartiallyShipped,
    Status::Paid,
    Status::Confirmed,
    Status::OnHold,
];

impl ShardMachine {
    /// Refusals in this order: the wrong shard, no such order, the key, the version, then the order's own.
    pub(super) fn order_command(&mut self, command: &OrderCommand) -> Result<Outcome, Rejection> {
        self.own(command.order.slot())?;
        let key = keys::order(command.order);
        let mut row = self.rows.take::<OrderRow>(&key).ok_or(Rejection::NoSuchOrder(command.order))?;
        let before = row.order.status();
        match self.change_order(&mut row, command) {
            Ok(Changed::Now { created, effects }) => {
                let (order, version) = (Arc::clone(&row.order), row.order.version);
                self.commit_change(key, row, before, effects);
                Ok(Outcome::Order { order, created, replayed: false, version })
            }
            Ok(Changed::Before { created, version }) => {
                let order = Arc::clone(&row.order);
                self.rows.give_back(&key, row);
                Ok(Outcome::Order { order, created, replayed: true, version })
            }
            Err(rejection) => {
                self.rows.give_back(&key, row);
                Err(rejection)
            }
        }
    }

    /// Does to an order what a command asks, unless it did so before; a refusal leaves the order as it is.
    fn change_order(&self, row: &mut OrderRow, command: &OrderCommand) -> Result<Changed, Rejection> {
        if let Some(first) = row.keys.iter().find(|seen| seen.key == command.key && self.remembered(seen.at)) {
            if first.body_hash != command.body_hash {
                return Err(Rejection::KeyReused);
            }
            return Ok(Changed::Before { created: first.created, version: first.version });
        }
        if let Some(expected) = command.expect_version.filter(|expected| *expected != row.order.version) {
            return Err(Rejection::StaleVersion { expected, actual: row.order.version });
        }
        let order = Arc::make_mut(&mut row.order);
        let (created, effects) = order.command_in(command.operator, &command.action, self.meta.time, self.scale())?;
        row.keys.retain(|seen| self.remembered(seen.at) && seen.key != command.key);
        row.keys.push(OrderKey {
            key: command.key.clone(),
            body_hash: command.body_hash,
            created,
            version: row.order.version,
            at: self.meta.time,
        });
        Ok(Changed::Now { created, effects })
    }

    /// Rule 22: expires what is due, at most [`TICK_LIMIT`] items, orders before tombstones.
    pub(super) fn tick(&mut self) -> Outcome {
        let mut expired = 0;
        while expired < TICK_LIMIT {
            let Some(TimerKey { order, kind, .. }) = self.due_timer() else { break };
            self.expire(order, kind);
            self.receive_local();
            expired += 1;
        }
        expired += self.drop_marks(TICK_LIMIT - expired);
        let more = self.due_timer().is_some() || self.due_mark().is_some_and(|due| due <= self.meta.time);
        Outcome::Ticked { expired: expired as u32, more }
    }

    fn due_timer(&self) -> Option<TimerKey> {
        self.timers.due(self.meta.time, self.meta.counts.timers)
    }

    fn expire(&mut self, id: OrderId, kind: TimerKind) {
        let key = keys::order(id);
        let mut row = self.rows.take::<OrderRow>(&key).expect("a timer belongs to an order that exists");
        self.set_timers(&mut row, &[(kind, None)]); // TimersFire: once
        if let Some(later) = self.due_later(&row.order, kind) {
            self.set_timers(&mut row, &[(kind, Some(later))]);
            self.rows.put_decoded(key, row);
            return;
        }
        let before = row.order.status();
        let effects = Arc::make_mut(&mut row.order).expire_in(kind, self.meta.time, self.scale());
        self.commit_change(key, row, before, effects);
    }

    /// Rule 18, the order's side: units that it counts on are not there.
    pub(super) fn shortfall(&mut self, order: OrderId, sku: &SkuId, missing: Quantity) {
        let key = keys::order(order);
        let Some(mut row) = self.rows.take::<OrderRow>(&key) else { return };
        let before = row.order.status();
        let effects = Arc::make_mut(&mut row.order).shortfall(sku, missing, self.meta.time);
        self.commit_change(key, row, before, effects);
    }

    /// Writes a changed order and sees to what the change wants done.
    fn commit_change(&mut self, key: RowKey, mut row: Box<OrderRow>, before: Status, effects: Effects) {
        self.set_timers(&mut row, &effects.timers);
        match &mut row.local_holds {
            Some(holds) => self.change_local_holds(&row.order, holds, effects.stock),
            None => self.post_stock(row.order.attempt, row.order.id, effects.stock),
        }
        Self::uncount(&mut self.meta.counts.orders[index_of(before)], 1, "orders");
        self.meta.counts.orders[index_of(row.order.status())] += 1;
        self.rows.put_decoded(key, row);
    }

    /// Writes a new order's row. It is left at rest: most orders wait long for their first command, and what an order
    /// allocates is cheap only if it is freed at once.
    pub(super) fn put_new(&mut self, row: &OrderRow) {
        self.meta.counts.orders[index_of(row.order.status())] += 1;
        let bytes = row_bytes(&mut self.scratch, row);
        self.rows.put_bytes(keys::order(row.order.id), bytes);
    }

    /// Moves timers, in the order's row and in the table alike.
    pub(super) fn set_timers(&mut self, row: &mut OrderRow, timers: &[(TimerKind, Option<Timestamp>)]) {
        for (kind, when) in timers {
            if let Some(index) = row.timers.iter().position(|(running, _)| running == kind) {
                let (_, due) = row.timers.remove(index);
                self.timers.remove(TimerKey { due, order: row.order.id, kind: *kind });
                Self::uncount(&mut self.meta.counts.timers, 1, "timers");
            }
            if let Some(due) = when {
                row.timers.push((*kind, *due));
                self.timers.put(TimerKey { due: *due, order: row.order.id, kind: *kind });
                self.meta.counts.timers += 1;
            }
        }
    }
}

/// What a command came to.
enum Changed {
    /// It was done.
    Now { created: Option<Created>, effects: Effects },
    /// It had been done, under the same key.
    Before { created: Option<Created>, version: u64 },
}

fn index_of(status: Status) -> usize {
    STATUSES.iter().position(|known| *known == status).expect("every status is in the list")
}

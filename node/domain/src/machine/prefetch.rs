//! Which rows an entry will touch, so that they are in memory before it is applied. Names too many rather than too few:
//! a row that is named and does not exist costs a look, one that is not named stops the process.

use std::sync::Arc;

use super::{ShardMachine, TICK_LIMIT};
use crate::command::{Command, Deliver, Entry, Message, Place};
use crate::encoding::read_row;
use crate::ids::{AttemptId, OrderId, SkuId};
use crate::order::Order;
use crate::rows::keys;
use crate::rows::kinds::{Mark, PlacedRow};
use crate::rows::table::{Found, Value};
use crate::rows::timers::TimerScan;
use crate::rows::{RowKey, SKU};
use crate::time::Timestamp;

/// Collects the cold rows among those that are needed.
struct Needs<'a> {
    machine: &'a mut ShardMachine,
    /// Whether the store may have a row under a key: no is certain.
    may_have: &'a dyn Fn(&[u8]) -> bool,
    /// Machine time once the entry is applied.
    now: Timestamp,
    /// Log time may be set back by the entry: whether a hold in it comes too late is not known before.
    repairs: bool,
    /// The entry may end a tentative hold before it is kept.
    may_end: bool,
    /// Some SKU may be cold.
    skus_cold: bool,
    cold: Vec<RowKey>,
    /// Those that the store certainly does not have.
    absent: Vec<RowKey>,
}

impl ShardMachine {
    /// Timers that have to be read from the store before `entry` is applied, because its ticks may reach them. Read some
    /// rows, give them to [`ShardMachine::admit_timers`] and ask again: when none is missing, ask for other rows with
    /// [`ShardMachine::missing`].
    #[must_use]
    pub fn missing_timers(&self, entry: &Entry) -> Option<TimerScan> {
        // Each timer that fires or is cleared may clear another one of its order; and one must be left to tell that more
        // are due, as on a replica that has all of them.
        let wanted = reach(entry).map_or(0, |reach| 2 * reach + 1);
        self.timers.missing(self.time_at(entry), self.meta.counts.timers, wanted)
    }

    /// Rows that applying `entry` touches and that may be in the store alone. Load them, [`ShardMachine::admit`] them and
    /// ask again: what is loaded may name more. Apply once nothing is missing. `may_have` looks at what the store keeps
    /// in memory; its no is certain, and such a row, mostly that of a new key, is not missing.
    #[must_use]
    pub fn missing(&mut self, entry: &Entry, may_have: &dyn Fn(&[u8]) -> bool) -> Vec<RowKey> {
        self.rows.know_skus(self.meta.counts.skus);
        self.approach(entry);
        if !self.rows.any_cold() {
            return Vec::new();
        }
        let now = self.time_at(entry);
        let may_end = entry.commands.iter().any(may_end);
        let skus_cold = self.rows.may_be_cold(SKU);
        let repairs = entry.commands.iter().any(|command| matches!(command, Command::Repair(_)));
        let (cold, absent) = (Vec::new(), Vec::new());
        let mut needs = Needs { machine: self, may_have, now, repairs, may_end, skus_cold, cold, absent };
        for command in &entry.commands {
            needs.command(command);
        }
        needs.timers(entry);
        let Needs { mut cold, absent, .. } = needs;
        let epoch = self.load_epoch();
        for key in absent {
            self.admit(key, None, epoch);
        }
        cold.sort_unstable();
        cold.dedup();
        cold
    }
}

fn may_end(command: &Command) -> bool {
    match command {
        Command::Release(_) | Command::Gone(_) => true,
        Command::Deliver(run) => run.messages.iter().any(|message| matches!(message, Message::Release(_))),
        _ => false,
    }
}

impl Needs<'_> {
    fn need(&mut self, key: RowKey) {
        if self.machine.rows.is_cold(&key) {
            self.load(key);
        }
    }

    /// A row that is cold.
    fn load(&mut self, key: RowKey) {
        let known = if (self.may_have)(key.as_bytes()) { &mut self.cold } else { &mut self.absent };
        known.push(key);
    }

    fn sku(&mut self, sku: &SkuId) {
        if self.skus_cold {
            self.need(keys::sku(sku));
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Place(place) => {
                self.place(place);
                for line in &place.request.lines {
                    if self.is_local(&line.sku) {
                        self.kept(place.attempt, &line.sku);
                    }
                }
            }
            Command::PlaceLocal(place) => {
                self.place(place);
                for line in &place.request.lines {
                    self.sku(&line.sku);
                }
            }
            Command::Order(command) => self.order(command.order),
            Command::Sku(command) => {
                self.sku(&command.sku);
                if let Some(key) = &command.key {
                    self.need(keys::sku_key(&command.sku, key));
                }
            }
            Command::Hold(hold) => {
                self.sku(&hold.sku);
                let (scale, now) = (&self.machine.scale, self.now);
                if self.repairs || !scale.is_marked(scale.valid_until(hold.valid_until, now), now) {
                    self.need(keys::hold(hold.attempt, &hold.sku));
                }
            }
            Command::Release(release) => release.skus.iter().for_each(|sku| self.ended(release.attempt, sku)),
            Command::Gone(holds) => holds.iter().for_each(|(attempt, sku)| self.ended(*attempt, sku)),
            Command::Deliver(run) => self.run(run),
            Command::Claims(claims) => claims.orders.iter().for_each(|claim| self.need(keys::order(claim.order))),
            Command::Trim { .. } | Command::Tick | Command::Repair(_) | Command::Restart(_) | Command::Agree { .. } => {}
        }
    }

    fn place(&mut self, place: &Place) {
        let request = &place.request;
        let placed = keys::placed(&request.user, &request.key);
        match self.machine.rows.find(&placed) {
            Found::Here(Value::Bytes(bytes)) => {
                let first: PlacedRow = read_row(bytes).expect("a stored idempotency record decodes");
                self.need(keys::order(first.order));
            }
            Found::Here(_) | Found::Absent => {}
            Found::Cold => self.load(placed),
        }
        if let Some(reference) = &request.reference {
            self.need(keys::reference(&request.user, reference));
        }
    }

    /// An order, and what its changes may do to SKUs of this shard.
    fn order(&mut self, id: OrderId) {
        let key = keys::order(id);
        match self.machine.rows.find_order(&key) {
            Found::Here(row) if row.own.is_some() && !self.skus_cold => {}
            Found::Here(row) => {
                let (order, own) = (Arc::clone(&row.order), row.own.is_some());
                self.stock_of(&order, own);
            }
            Found::Absent => {}
            Found::Cold => self.load(key),
        }
    }

    /// The rows of this shard in which the stock of an order is; its `own` one, if it has its holds itself.
    fn stock_of(&mut self, order: &Order, own: bool) {
        for line in &order.lines {
            if own {
                self.sku(&line.sku);
            } else if self.is_local(&line.sku) {
                self.held(order.attempt, &line.sku);
            }
        }
    }

    fn run(&mut self, run: &Deliver) {
        let high = self.machine.high(run.from);
        for (_, message) in (run.first..).zip(&run.messages).filter(|(number, _)| *number > high) {
            match message {
                Message::Keep { attempt, order, items, .. } => {
                    items.iter().for_each(|(sku, _)| self.kept(*attempt, sku));
                    self.short(*order);
                }
                Message::Commit { attempt, skus } => skus.iter().for_each(|sku| self.held(*attempt, sku)),
                Message::Free { attempt, items } | Message::Ship { attempt, items } => {
                    items.iter().for_each(|(sku, _)| self.held(*attempt, sku));
                }
                Message::Release(release) => release.skus.iter().for_each(|sku| self.ended(release.attempt, sku)),
                Message::Shortfall { order, .. } => self.order(*order),
                Message::Claim { attempt, order, items, .. } => {
                    items.iter().for_each(|item| self.held(*attempt, &item.sku));
                    self.short(*order);
                }
            }
        }
    }

    /// An order that may fall short, if it is of this shard.
    fn short(&mut self, order: OrderId) {
        if self.machine.owner(order.slot()) == Some(self.machine.config.shard) {
            self.order(order);
        }
    }

    /// A hold that is kept: a tentative one has no row of its own, unless the entry ends it first.
    fn kept(&mut self, attempt: AttemptId, sku: &SkuId) {
        self.sku(sku);
        let mark = self.machine.marks.get(&(attempt, sku.clone()));
        if self.may_end || !matches!(mark, Some(Mark::Tentative { .. })) {
            self.need(keys::hold(attempt, sku));
        }
    }

    /// A kept hold that changes.
    fn held(&mut self, attempt: AttemptId, sku: &SkuId) {
        self.sku(sku);
        self.need(keys::hold(attempt, sku));
    }

    /// A tentative hold that ends.
    fn ended(&mut self, attempt: AttemptId, sku: &SkuId) {
        let mark = self.machine.marks.get(&(attempt, sku.clone()));
        if matches!(mark, Some(Mark::Tentative { .. })) {
            self.sku(sku);
        }
    }

    fn is_local(&self, sku: &SkuId) -> bool {
        self.machine.owner(sku.slot()) == Some(self.machine.config.shard)
    }

    /// The orders of timers that the entry's ticks may reach. A timer that commands before a tick set is of an order that
    /// was loaded for them.
    fn timers(&mut self, entry: &Entry) {
        let Some(reach) = reach(entry) else { return };
        let timers = self.machine.timers.iter().take_while(|timer| timer.0 <= self.now).take(reach);
        let due: Vec<OrderId> = timers.map(|timer| timer.1).collect();
        due.into_iter().for_each(|order| self.order(order));
    }
}

/// How many timers an entry's ticks may reach, if it has any. Commands before a tick can clear timers, two each, and so
/// bring later ones within its limit.
fn reach(entry: &Entry) -> Option<usize> {
    let ticks = entry.commands.iter().filter(|command| matches!(command, Command::Tick)).count();
    let cleared = || entry.commands.iter().map(most_cleared).sum::<usize>();
    (ticks > 0).then(|| ticks * TICK_LIMIT + cleared())
}

fn most_cleared(command: &Command) -> usize {
    match command {
        Command::Order(_) => 2,
        Command::Deliver(run) => 2 * run.messages.len(),
        Command::Place(place) | Command::PlaceLocal(place) => 2 * place.request.lines.len(),
        _ => 0,
    }
}

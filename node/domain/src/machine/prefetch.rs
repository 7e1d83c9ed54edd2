//! Which rows an entry will touch, so that they are in memory before it is applied. Names too many rather than too few:
//! a row that is named and does not exist costs a look, one that is not named stops the process.

use ordergrid_rows::Lookup;

use super::{ShardMachine, TICK_LIMIT};
use crate::command::{Command, Deliver, Entry, KeptList, Message, Place};
use crate::encoding::read_row;
use crate::ids::{AttemptId, OrderId, SkuId};
use crate::rows::keys::{self, MarkKey, TimerKey};
use crate::rows::kinds::{Mark, OrderRow, PlacedRow, ReferenceRow};
use crate::rows::work::{Value, Work};
use crate::rows::{RowKey, SKU};
use crate::time::Timestamp;

/// A read of timers from the store that is due. Good until another checkpoint is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerScan(pub(super) ordergrid_rows::TimerScan<TimerKey>);

impl TimerScan {
    /// The rows that are wanted are those of the table of timers whose keys are greater than this, in their order: as many
    /// as fit.
    #[must_use]
    pub fn after(&self) -> Vec<u8> {
        self.0.after()
    }
}

/// Rows that an entry touches and that are not in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MissingRows {
    /// The store may have these: load them, [`ShardMachine::admit`] them and ask again.
    pub cold: Vec<RowKey>,
    /// The store certainly does not have these: [`ShardMachine::admit_absent`].
    pub absent: Vec<RowKey>,
}

/// Collects the rows that are needed and not in memory.
struct Needs<'a> {
    machine: &'a ShardMachine,
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
    missing: MissingRows,
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
        self.timers.missing(self.time_at(entry), self.meta.counts.timers, wanted).map(TimerScan)
    }

    /// Prepares memory for `entry`: call it before [`ShardMachine::missing`]. Has the processor fetch the rows that most entries
    /// need, and decodes the orders that both looking for what is missing and apply read. Changes speed, never results.
    pub fn warm(&mut self, entry: &Entry) {
        self.rows.know_count(SKU, self.meta.counts.skus);
        self.warm_cache(entry);
        if !self.rows.any_cold() {
            return;
        }
        let told = entry.commands.iter().flat_map(|command| match command {
            Command::Deliver(run) => run.messages.as_slice(),
            _ => &[],
        });
        for message in told {
            if let Message::Shortfall { order, .. } = message {
                self.rows.get_if_here::<OrderRow>(&keys::order(*order));
            }
        }
        for order in self.due_orders(entry) {
            self.rows.get_if_here::<OrderRow>(&keys::order(order));
        }
    }

    /// Rows that applying `entry` touches and that are not in memory. What is loaded may name more: apply once no row is cold
    /// and those that are absent have been admitted. `may_have` looks at what the store keeps in memory; its no is certain,
    /// and such a row, mostly that of a new key, is absent.
    #[must_use]
    pub fn missing(&self, entry: &Entry, may_have: &dyn Fn(&[u8]) -> bool) -> MissingRows {
        if !self.rows.any_cold() {
            return MissingRows::default();
        }
        let mut needs = Needs {
            machine: self,
            may_have,
            now: self.time_at(entry),
            repairs: entry.commands.iter().any(|command| matches!(command, Command::Repair(_))),
            may_end: entry.commands.iter().any(may_end),
            skus_cold: self.rows.may_be_cold(SKU),
            missing: MissingRows::default(),
        };
        for command in &entry.commands {
            needs.command(command);
        }
        for order in self.due_orders(entry) {
            needs.order(order);
        }
        let mut missing = needs.missing;
        missing.cold.sort_unstable();
        missing.cold.dedup();
        missing
    }

    /// Takes it that the store has no such rows, as [`ShardMachine::missing`] said without anything having changed since.
    pub fn admit_absent(&mut self, absent: Vec<RowKey>) {
        let epoch = self.load_epoch();
        for key in absent {
            self.admit(key, None, epoch);
        }
    }

    /// The orders of timers that the entry's ticks may reach. A timer that commands before a tick set is of an order that
    /// was loaded for them.
    fn due_orders(&self, entry: &Entry) -> Vec<OrderId> {
        let Some(reach) = reach(entry) else { return Vec::new() };
        let now = self.time_at(entry);
        let timers = self.timers.iter().take_while(|timer| timer.due <= now).take(reach);
        timers.map(|timer| timer.order).collect()
    }
}

fn may_end(command: &Command) -> bool {
    match command {
        Command::Release(_) | Command::Gone(_) => true,
        Command::Deliver(run) => run.messages.iter().any(|message| match message {
            Message::Release(_) => true,
            Message::Decided(decided) => !decided.released.is_empty(),
            _ => false,
        }),
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
        let missing = &mut self.missing;
        let keys = if (self.may_have)(key.as_bytes()) { &mut missing.cold } else { &mut missing.absent };
        keys.push(key);
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
            Command::Hold(hold) => self.hold(hold.attempt, &hold.sku, hold.valid_until),
            Command::Holds(holds) => {
                holds.rows.iter().for_each(|row| self.hold(holds.attempt(row), &row.sku, holds.valid_until));
            }
            Command::Release(release) => release.skus.iter().for_each(|sku| self.ended(release.attempt, sku)),
            Command::Gone(holds) => holds.iter().for_each(|(attempt, sku)| self.ended(*attempt, sku)),
            Command::Deliver(run) => self.run(run),
            Command::Claims(claims) => claims.orders.iter().for_each(|claim| self.need(keys::order(claim.order))),
            Command::Trim { .. } | Command::Tick | Command::Repair(_) | Command::Restart(_) | Command::Agree { .. } => {}
        }
    }

    fn hold(&mut self, attempt: AttemptId, sku: &SkuId, valid_until: Timestamp) {
        self.sku(sku);
        let (scale, now) = (self.machine.scale(), self.now);
        if self.repairs || !scale.is_marked(scale.valid_until(valid_until, now), now) {
            self.need(keys::hold(attempt, sku));
        }
    }

    fn place(&mut self, place: &Place) {
        let request = &place.request;
        let placed = keys::placed(&request.user, &request.key);
        match self.machine.rows.find(&placed) {
            Lookup::Found(Value::Bytes(bytes)) => {
                let first: PlacedRow = read_row(bytes).expect("a stored idempotency record decodes");
                self.need(keys::order(first.order));
            }
            Lookup::Found(_) | Lookup::Absent => {}
            Lookup::Cold(()) => self.load(placed),
        }
        let Some(reference) = &request.reference else { return };
        let reference = keys::reference(&request.user, reference);
        match self.machine.rows.find(&reference) {
            Lookup::Found(Value::Bytes(bytes)) => {
                // Whether the reference is free again, that order says.
                let row: ReferenceRow = read_row(bytes).expect("a stored reference decodes");
                self.need(keys::order(row.order));
            }
            Lookup::Found(_) | Lookup::Absent => {}
            Lookup::Cold(()) => self.load(reference),
        }
    }

    /// An order, and what its changes may do to SKUs of this shard.
    fn order(&mut self, id: OrderId) {
        let key = keys::order(id);
        match self.machine.rows.find(&key) {
            Lookup::Found(Value::Decoded(Work::Order(row))) => self.stock_of(row),
            Lookup::Found(Value::Bytes(bytes)) => {
                self.stock_of(&read_row::<OrderRow>(bytes).expect("a stored order decodes"));
            }
            Lookup::Found(_) | Lookup::Absent => {}
            Lookup::Cold(()) => self.load(key),
        }
    }

    /// The rows of this shard in which the stock of an order is.
    fn stock_of(&mut self, row: &OrderRow) {
        let local = row.local_holds.is_some();
        if local && !self.skus_cold {
            return;
        }
        for line in &row.order.lines {
            if local {
                self.sku(&line.sku);
            } else if self.is_local(&line.sku) {
                self.held(row.order.attempt, &line.sku);
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
                Message::Decided(decided) => self.decided(decided),
                Message::Commits(holds) => holds.iter().for_each(|(sku, attempt)| self.held(*attempt, sku)),
                Message::Frees(parts) | Message::Ships(parts) => {
                    parts.iter().for_each(|part| self.held(part.attempt, &part.sku));
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

    fn decided(&mut self, decided: &KeptList) {
        let mut items = decided.items.iter();
        for kept in &decided.kept {
            items.by_ref().take(kept.items as usize).for_each(|(sku, _)| self.kept(kept.attempt, sku));
            self.short(kept.order);
        }
        for release in &decided.released {
            release.skus.iter().for_each(|sku| self.ended(release.attempt, sku));
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
        let mark = self.machine.marks.get(&MarkKey::new(attempt, sku));
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
        let mark = self.machine.marks.get(&MarkKey::new(attempt, sku));
        if matches!(mark, Some(Mark::Tentative { .. })) {
            self.sku(sku);
        }
    }

    fn is_local(&self, sku: &SkuId) -> bool {
        self.machine.owner(sku.slot()) == Some(self.machine.config.shard)
    }
}

/// How many timers an entry's ticks may reach, if it has any. Commands before a tick can clear timers, two each, and so
/// bring later ones within its limit.
fn reach(entry: &Entry) -> Option<usize> {
    let ticks = entry.commands.iter().filter(|command| matches!(command, Command::Tick)).count();
    let cleared = || entry.commands.iter().map(most_cleared).sum::<usize>();
    (ticks > 0).then(|| ticks * TICK_LIMIT + cleared())
}

/// An order has two timers; a message is about one order, a list about as many as it names.
fn most_cleared_by(message: &Message) -> usize {
    match message {
        Message::Decided(decided) => 2 * decided.kept.len(),
        _ => 2,
    }
}

fn most_cleared(command: &Command) -> usize {
    match command {
        Command::Order(_) => 2,
        Command::Deliver(run) => run.messages.iter().map(most_cleared_by).sum(),
        Command::Place(place) | Command::PlaceLocal(place) => 2 * place.request.lines.len(),
        _ => 0,
    }
}

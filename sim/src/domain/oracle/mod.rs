//! An independent model of the grid: what every command must answer, what every order and every SKU must be. It keeps
//! plain maps, knows nothing of rows, logs or budgets, and was written from lifecycle and protocol, not from the domain.

mod attempt;
mod orders;
mod stock;

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_domain::command::{Created, Place};
use ordergrid_domain::{
    Command, GroupId, Key, Lookup, Message, OrderId, Outcome, Rejection, ShardMachine, SkuId, SlotOwners, Timestamp, UserId,
};

use crate::chronicle::alone;
use crate::domain::Violation;
use crate::domain::report::Counts;
pub use attempt::AttemptModel;
pub use orders::OrderModel;
pub use stock::SkuModel;

/// How long a key is remembered, in milliseconds.
const RETENTION: u64 = 7 * 24 * 3_600_000;

/// Deliberate mistakes of the oracle: a check that never fails proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mistake {
    /// None.
    #[default]
    None,
    /// It believes that a cancelled order keeps its units.
    CancelKeepsUnits,
    /// It believes that a key may place twice.
    KeyPlacesTwice,
    /// It believes that late money is kept.
    LateMoneyKept,
}

/// What an order tells a SKU's shard.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Keep(OrderId, bool, Vec<(SkuId, u64)>),
    Commit(Vec<SkuId>),
    Free(Vec<(SkuId, u64)>),
    Ship(Vec<(SkuId, u64)>),
    Release(Vec<SkuId>, u64),
}

/// A stream as the model sees it: all messages that were ever sent, and how many of them were applied.
#[derive(Clone, Debug, Default)]
struct Stream {
    sent: Vec<Vec<(ordergrid_domain::AttemptId, Effect)>>,
    applied: usize,
    /// What the entry tells, until it is over: in one message what decides attempts, in one each what commits, frees and ships.
    telling: [Vec<(ordergrid_domain::AttemptId, Effect)>; 4],
}

/// What a key names.
#[derive(Clone, Copy, Debug)]
struct Placed {
    order: OrderId,
    body: u64,
    at: u64,
}

/// The model.
#[derive(Debug)]
pub struct Oracle {
    owners: SlotOwners,
    /// Log time per shard, in milliseconds.
    times: BTreeMap<GroupId, u64>,
    streams: BTreeMap<(GroupId, GroupId), Stream>,
    /// Every SKU.
    pub skus: BTreeMap<SkuId, SkuModel>,
    /// Every order.
    pub orders: BTreeMap<OrderId, OrderModel>,
    placed: BTreeMap<(UserId, Key), Placed>,
    mistake: Mistake,
    /// What the entry being judged has touched, to be compared once it is over.
    touched: (BTreeSet<SkuId>, BTreeSet<OrderId>),
}

/// Where a command was applied.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// The shard.
    pub shard: GroupId,
    /// Term of the entry.
    pub term: u64,
    /// Stamp of the entry.
    pub stamp: Timestamp,
}

macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(Violation(format!($($why)+)));
        }
    };
}
pub(crate) use demand;

impl Oracle {
    /// An empty grid.
    #[must_use]
    pub fn new(owners: SlotOwners, mistake: Mistake) -> Self {
        Self {
            owners,
            times: BTreeMap::new(),
            streams: BTreeMap::new(),
            skus: BTreeMap::new(),
            orders: BTreeMap::new(),
            placed: BTreeMap::new(),
            mistake,
            touched: (BTreeSet::new(), BTreeSet::new()),
        }
    }

    /// An entry is applied: log time takes the later of what it was and the stamp.
    pub fn advance(&mut self, at: Applied) {
        let time = self.times.entry(at.shard).or_default();
        *time = (*time).max(at.stamp.as_ms());
    }

    /// Judges the answer of one command of an entry, and follows it.
    ///
    /// # Errors
    /// The answer is not what the model expects.
    pub fn judge(&mut self, at: Applied, command: &Command, outcome: &Outcome, counts: &mut Counts) -> Result<(), Violation> {
        let now = self.times[&at.shard];
        match command {
            Command::Place(place) => self.place(at, now, place, false, outcome, counts),
            Command::PlaceLocal(place) => self.place(at, now, place, true, outcome, counts),
            Command::Order(command) => self.order_command(at, now, command, outcome, counts),
            Command::Sku(command) => self.sku_command(now, command, outcome),
            Command::Hold(hold) => self.hold(now, hold, outcome, counts),
            Command::Holds(holds) => {
                let Outcome::Holds(results) = outcome else {
                    return Err(Violation(format!("holds were answered with {outcome:?}")));
                };
                demand!(results.len() == holds.rows.len(), "{} holds have {} answers", holds.rows.len(), results.len());
                holds.each().zip(results).try_for_each(|(hold, result)| self.hold(now, &hold, &alone(result), counts))
            }
            Command::Release(release) => {
                for sku in &release.skus {
                    self.sku_of(sku).release(release.attempt, Some(release.valid_until.as_ms()));
                    self.touch(sku);
                }
                demand!(*outcome == Outcome::Done, "a release was answered with {outcome:?}");
                Ok(())
            }
            Command::Gone(holds) => {
                for (attempt, sku) in holds {
                    self.sku_of(sku).release(*attempt, None);
                    self.touch(sku);
                }
                demand!(*outcome == Outcome::Done, "gone was answered with {outcome:?}");
                Ok(())
            }
            Command::Deliver(run) => self.deliver(at.shard, run, outcome, counts),
            Command::Trim { .. } => {
                demand!(*outcome == Outcome::Done, "a trim was answered with {outcome:?}");
                Ok(())
            }
            Command::Tick => self.tick(at.shard, now, outcome, counts),
            Command::Repair(repair) => {
                demand!(false, "nobody sets log time back here: {repair:?}");
                Ok(())
            }
            Command::Restart(_) | Command::Claims(_) | Command::Agree { .. } => {
                demand!(false, "nobody starts a stream anew here: {command:?}");
                Ok(())
            }
        }
    }

    fn place(
        &mut self,
        at: Applied,
        now: u64,
        place: &Place,
        local: bool,
        outcome: &Outcome,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        let request = &place.request;
        if place.attempt.term != at.term {
            counts.note("stale attempt refused");
            let stale = Outcome::Rejected(Rejection::StaleAttempt { attempt: place.attempt.term, entry: at.term });
            demand!(*outcome == stale, "a stale attempt was answered with {outcome:?}");
            return Ok(());
        }
        let name = (request.user.clone(), request.key.clone());
        let known = self.placed.get(&name).copied().filter(|first| now <= first.at + RETENTION);
        if let Some(first) = known.filter(|_| self.mistake != Mistake::KeyPlacesTwice) {
            if first.body != request.body_hash {
                counts.note("key reused with another body");
                demand!(*outcome == Outcome::Rejected(Rejection::KeyReused), "KeyReused was expected, not {outcome:?}");
                return Ok(());
            }
            let same = matches!(outcome, Outcome::Placed { order, replayed: true } if order.id == first.order);
            demand!(same, "OneKeyOneOrder: {name:?} names {}, the answer was {outcome:?}", first.order);
            counts.note("second attempt of a placed key");
            let wanted = request.wanted().into_iter().map(|(sku, _)| sku).collect();
            self.send(at.shard, place.attempt, Effect::Release(wanted, now + 20_000));
            return Ok(());
        }
        let wanted: Vec<(SkuId, u64)> = request.wanted().into_iter().map(|(sku, units)| (sku, units.0)).collect();
        if local && let Some(rejection) = self.short(&wanted) {
            counts.note("refused out of stock");
            demand!(*outcome == Outcome::Rejected(rejection.clone()), "{rejection:?} was expected, not {outcome:?}");
            return Ok(());
        }
        let Outcome::Placed { order, replayed: false } = outcome else {
            return Err(Violation(format!("a new order was expected for {name:?}, not {outcome:?}")));
        };
        demand!(order.id.slot() == request.user.slot(), "order {} is not in its user's slot", order.id);
        let model = OrderModel::new(now, place, at.shard);
        let committed = model.is_confirmed();
        model.same(order)?;
        demand!(self.orders.insert(order.id, model).is_none(), "order id {} was made twice", order.id);
        self.placed.insert(name, Placed { order: order.id, body: request.body_hash, at: now });
        counts.note("placed");
        if local {
            counts.note("placed locally");
            for (sku, units) in &wanted {
                self.sku_of(sku).take(place.attempt, *units, 0);
            }
        }
        self.send(at.shard, place.attempt, Effect::Keep(order.id, committed, wanted));
        Ok(())
    }

    /// Splits an effect by the shards of its SKUs: local ones happen at once, others join the stream.
    fn send(&mut self, from: GroupId, attempt: ordergrid_domain::AttemptId, effect: Effect) {
        let owners = self.owners.clone();
        let home = |sku: &SkuId| owners.owner(sku.slot()).expect("every slot is owned");
        let mut split: BTreeMap<GroupId, Effect> = BTreeMap::new();
        let mut join = |to: GroupId, empty: Effect, add: &dyn Fn(&mut Effect)| add(split.entry(to).or_insert(empty));
        match &effect {
            Effect::Keep(order, committed, items) => {
                for item in items {
                    join(home(&item.0), Effect::Keep(*order, *committed, Vec::new()), &|effect| {
                        if let Effect::Keep(_, _, items) = effect {
                            items.push(item.clone())
                        }
                    });
                }
            }
            Effect::Free(items) | Effect::Ship(items) => {
                let empty =
                    || if matches!(effect, Effect::Free(_)) { Effect::Free(Vec::new()) } else { Effect::Ship(Vec::new()) };
                for item in items {
                    join(home(&item.0), empty(), &|effect| {
                        if let Effect::Free(items) | Effect::Ship(items) = effect {
                            items.push(item.clone())
                        }
                    });
                }
            }
            Effect::Commit(skus) => {
                for sku in skus {
                    join(home(sku), Effect::Commit(Vec::new()), &|effect| {
                        if let Effect::Commit(skus) = effect {
                            skus.push(sku.clone())
                        }
                    });
                }
            }
            Effect::Release(skus, until) => {
                for sku in skus {
                    join(home(sku), Effect::Release(Vec::new(), *until), &|effect| {
                        if let Effect::Release(skus, _) = effect {
                            skus.push(sku.clone())
                        }
                    });
                }
            }
        }
        for (to, effect) in split {
            if to == from {
                self.follow(attempt, &effect);
            } else {
                let kind = match effect {
                    Effect::Keep(..) | Effect::Release(..) => 0,
                    Effect::Commit(_) => 1,
                    Effect::Free(_) => 2,
                    Effect::Ship(_) => 3,
                };
                self.streams.entry((from, to)).or_default().telling[kind].push((attempt, effect));
            }
        }
    }

    fn deliver(
        &mut self,
        shard: GroupId,
        run: &ordergrid_domain::command::Deliver,
        outcome: &Outcome,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        let none = run.messages.iter().any(|message| matches!(message, Message::Shortfall { .. }));
        demand!(!none, "AllOrNothing: a shortfall without a count: {run:?}");
        let stream = self.streams.entry((run.from, shard)).or_default();
        if run.first > stream.applied as u64 + 1 {
            counts.note("mailbox gap refused");
            let gap = Rejection::StreamGap { first: run.first, next: stream.applied as u64 + 1 };
            demand!(*outcome == Outcome::Rejected(gap.clone()), "{gap:?} was expected, not {outcome:?}");
            return Ok(());
        }
        let end = run.first as usize - 1 + run.messages.len();
        if (run.first as usize) <= stream.applied {
            counts.note("mailbox redelivered");
        }
        let high = stream.applied.max(end);
        demand!(high <= stream.sent.len(), "the stream {} -> {shard} has messages that nobody sent", run.from);
        let new = stream.sent[stream.applied..high].to_vec();
        stream.applied = high;
        demand!(*outcome == Outcome::Delivered { high: high as u64 }, "high {high} was expected, not {outcome:?}");
        for (attempt, effect) in new.into_iter().flatten() {
            self.follow(attempt, &effect);
        }
        Ok(())
    }

    /// Notes what has to be compared at the end of the entry.
    fn touch(&mut self, sku: &SkuId) {
        self.touched.0.insert(sku.clone());
    }

    /// The entry of a shard is over: compares what it has touched.
    ///
    /// # Errors
    /// What `machine` holds is not what the model expects.
    pub fn compare(&mut self, machine: &ShardMachine) -> Result<(), Violation> {
        for (_, stream) in self.streams.iter_mut().filter(|((from, _), _)| *from == machine.shard()) {
            stream.sent.extend(std::mem::take(&mut stream.telling).into_iter().filter(|message| !message.is_empty()));
        }
        let (skus, orders) = std::mem::take(&mut self.touched);
        for sku in skus {
            self.same_stock(&sku, machine)?;
        }
        for order in orders {
            self.same_order(order, machine)?;
        }
        Ok(())
    }

    /// The order as a machine shows it must be the model's.
    fn same_order(&self, id: OrderId, machine: &ShardMachine) -> Result<(), Violation> {
        match machine.order(id) {
            Lookup::Found(order) => self.orders[&id].same(&order),
            other => Err(Violation(format!("order {id} is {other:?}"))),
        }
    }

    /// Everything, once nothing is under way.
    ///
    /// # Errors
    /// What differs.
    pub fn judge_all(&self, machines: &BTreeMap<GroupId, &ShardMachine>) -> Result<(), Violation> {
        for (id, order) in &self.orders {
            self.same_order(*id, machines[&order.shard])?;
        }
        for sku in self.skus.keys() {
            let home = self.owners.owner(sku.slot()).expect("every slot is owned");
            self.same_stock(sku, machines[&home])?;
        }
        for ((user, key), first) in &self.placed {
            let home = self.owners.owner(user.slot()).expect("every slot is owned");
            if self.times[&home] <= first.at + RETENTION {
                let named = matches!(machines[&home].key_record(user, key), Lookup::Found(found) if found.order == first.order);
                demand!(named, "OneKeyOneOrder: key {key} of {user} does not name order {}", first.order);
            }
        }
        let waiting: usize = self.streams.values().map(|stream| stream.sent.len() - stream.applied).sum();
        demand!(waiting == 0, "Heals: {waiting} messages were never applied");
        for (sku, model) in &self.skus {
            let stray: Vec<_> = model.holds_without_order(&self.orders).collect();
            demand!(stray.is_empty(), "Heals: {sku} is held by {stray:?}, which belong to no order");
        }
        Ok(())
    }

    /// Whether what a replay says it created is what the first answer said.
    fn same_created(first: Option<Created>, now: Option<Created>) -> Result<(), Violation> {
        demand!(first == now, "a replay created {now:?}, the first answer {first:?}");
        Ok(())
    }
}

impl Effect {
    fn skus(&self) -> Vec<&SkuId> {
        match self {
            Self::Keep(_, _, items) | Self::Free(items) | Self::Ship(items) => items.iter().map(|item| &item.0).collect(),
            Self::Commit(skus) | Self::Release(skus, _) => skus.iter().collect(),
        }
    }
}

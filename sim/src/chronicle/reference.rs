//! What the committed chains come to on machines that never fail: the standard that answers are held against.
//!
//! One pass over each chain. Outcomes are kept for every command; states of those orders and SKUs that are watched, after
//! every entry that changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordergrid_cluster::ShardMap;
use ordergrid_domain::command::Position;
use ordergrid_domain::{
    Command, Entry, GroupId, Lookup, Message, Order, OrderId, Outcome, ShardConfig, ShardMachine, Sku, SkuId, Slot, SlotOwners,
    Timestamp,
};

use super::promises::Promises;
use super::rare::Rare;
use super::{Body, ChainEntry, Chronicle};
use crate::history::{Ending, History, Said};
use crate::verdict::{Property, Violation};

/// Orders and SKUs whose states are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Orders.
    pub orders: BTreeSet<OrderId>,
    /// SKUs.
    pub skus: BTreeSet<SkuId>,
}

impl Watched {
    /// Every order and SKU that clients were told of.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let mut watched = Self::default();
        for operation in &history.operations {
            let Ending::Done { answer, .. } = &operation.ending else { continue };
            match &**answer {
                Said::Order(order) => drop(watched.orders.insert(order.id)),
                Said::Fulfilment(changed) => drop(watched.orders.insert(changed.order.id)),
                Said::Batch(batch) => {
                    let orders = batch.results.iter().filter_map(|result| result.order.as_ref());
                    watched.orders.extend(orders.map(|order| order.id()));
                }
                Said::Sku(sku) => drop(watched.skus.insert(sku.id.clone())),
                Said::User(user) => watched.orders.extend(user.orders.iter().map(|order| order.id)),
                Said::History(_)
                | Said::Status(_)
                | Said::Verify(_)
                | Said::Clock(_)
                | Said::Repair(_)
                | Said::Reconciled(_) => {}
            }
        }
        watched
    }
}

/// A state, and since when. It lasts until the entry of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<T> {
    /// The entry after which it was so.
    pub index: u64,
    /// The state.
    pub state: Arc<T>,
}

/// What the chains come to.
#[derive(Debug, Default)]
pub struct Reference {
    machines: BTreeMap<GroupId, ShardMachine>,
    outcomes: BTreeMap<GroupId, BTreeMap<u64, Vec<Outcome>>>,
    orders: BTreeMap<OrderId, Vec<Version<Order>>>,
    skus: BTreeMap<SkuId, Vec<Version<Sku>>>,
    /// Units that the commands of one entry asked a watched SKU for, whatever they came to.
    asked: BTreeMap<SkuId, BTreeMap<u64, u64>>,
    hashes: BTreeMap<(GroupId, u64), u64>,
    states: BTreeMap<&'static str, u64>,
}

impl Reference {
    /// Runs every chain, on a fresh machine each. To be called when the chains are whole.
    ///
    /// # Errors
    /// A chain cannot be run: it has a hole, or holds what is no entry. Or it shows what no chain may show.
    pub fn replay(chronicle: &Chronicle, map: &ShardMap, watched: &Watched) -> Result<Self, Violation> {
        let owners = owners(map);
        let mut reference = Self::default();
        let mut rare = Rare::default();
        for shard in &map.shards {
            let machine = ShardMachine::new(ShardConfig::new(shard.group, owners.clone()));
            let run = Run {
                machine,
                owners: &owners,
                watched,
                due: BTreeSet::new(),
                promises: Promises::default(),
                reference: &mut reference,
                rare: &mut rare,
            };
            run.chain(&chronicle.chain(shard.group))?;
            let commands = |logged: &Arc<super::Logged>| matches!(logged.body(shard.group), Ok(Body::Commands(_)));
            let lost = chronicle.not_committed(shard.group).iter().filter(|logged| commands(logged)).count();
            rare.add("entry lost with its leader", lost as u64);
        }
        reference.states = rare.finish();
        Ok(reference)
    }

    /// The machine of a shard as it is after the whole chain.
    #[must_use]
    pub fn machine(&self, group: GroupId) -> Option<&ShardMachine> {
        self.machines.get(&group)
    }

    /// What the commands of an entry came to, in their order; nothing for an entry without commands.
    #[must_use]
    pub fn outcomes(&self, group: GroupId, index: u64) -> &[Outcome] {
        self.outcomes.get(&group).and_then(|group| group.get(&index)).map_or(&[], Vec::as_slice)
    }

    /// Every state of a watched order, oldest first.
    #[must_use]
    pub fn order_versions(&self, id: OrderId) -> &[Version<Order>] {
        self.orders.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Every state of a watched SKU, oldest first.
    #[must_use]
    pub fn sku_versions(&self, id: &SkuId) -> &[Version<Sku>] {
        self.skus.get(id).map_or(&[], Vec::as_slice)
    }

    /// How many units the commands of each entry asked a watched SKU for: between two of them it may have had so many less
    /// than before the entry, though after it they were free again.
    #[must_use]
    pub fn asked(&self, id: &SkuId) -> Option<&BTreeMap<u64, u64>> {
        self.asked.get(id)
    }

    /// A watched order after the entry at `index` of its shard.
    #[must_use]
    pub fn order_after(&self, id: OrderId, index: u64) -> Option<&Order> {
        after(self.order_versions(id), index)
    }

    /// A watched SKU after the entry at `index` of its shard.
    #[must_use]
    pub fn sku_after(&self, id: &SkuId, index: u64) -> Option<&Sku> {
        after(self.sku_versions(id), index)
    }

    /// The state hash at a mark, which is an entry without commands.
    #[must_use]
    pub fn hash_at(&self, group: GroupId, index: u64) -> Option<u64> {
        self.hashes.get(&(group, index)).copied()
    }

    /// How often each rare state was met.
    #[must_use]
    pub fn states(&self) -> &BTreeMap<&'static str, u64> {
        &self.states
    }
}

fn after<T>(versions: &[Version<T>], index: u64) -> Option<&T> {
    let later = versions.partition_point(|version| version.index <= index);
    Some(&*versions[..later].last()?.state)
}

/// The same as a node makes of its map.
fn owners(map: &ShardMap) -> SlotOwners {
    let slot = |number| Slot::new(number).expect("a shard map names slots below 4,096");
    let ranges: Vec<_> = map.shards.iter().map(|shard| (shard.group, slot(shard.first), slot(shard.last))).collect();
    SlotOwners::from_ranges(&ranges)
}

/// One shard's chain being run.
struct Run<'a> {
    machine: ShardMachine,
    owners: &'a SlotOwners,
    watched: &'a Watched,
    /// When a timer of a watched order may change it.
    due: BTreeSet<(Timestamp, OrderId)>,
    promises: Promises,
    reference: &'a mut Reference,
    rare: &'a mut Rare,
}

/// Entities that an entry may have changed.
#[derive(Default)]
struct Touched {
    orders: BTreeSet<OrderId>,
    skus: BTreeSet<SkuId>,
}

impl Touched {
    fn order(&mut self, order: &Order) {
        self.orders.insert(order.id);
        self.skus.extend(order.lines.iter().map(|line| line.sku.clone()));
    }
}

impl Run<'_> {
    fn chain(mut self, chain: &[ChainEntry]) -> Result<(), Violation> {
        for (expected, entry) in (0..).zip(chain) {
            if entry.id.index != expected {
                return Err(broken(entry, &format!("entry {expected} is known to nobody")));
            }
            match entry.body().map_err(|error| broken(entry, &error))? {
                Body::Blank => self.rare.note("leader elected"),
                Body::Commands(commands) => self.entry(entry, &commands)?,
                Body::Membership(_) | Body::Meta(_) => {}
            }
        }
        self.reference.machines.insert(self.machine.shard(), self.machine);
        Ok(())
    }

    fn entry(&mut self, at: &ChainEntry, entry: &Entry) -> Result<(), Violation> {
        if entry.at < self.machine.time() {
            self.rare.note("clock behind log time");
        }
        let before = Rare::before(&self.machine, entry);
        let outcomes = self.machine.apply(Position { term: at.id.term, index: at.id.index }, entry);
        self.rare.after(at.id, entry, &before, &outcomes, &self.machine);
        self.promises.look((at.group, at.id), self.machine.time(), entry, &before, &outcomes)?;
        if entry.commands.is_empty() {
            self.reference.hashes.insert((at.group, at.id.index), self.machine.state_hash());
        }
        let mut touched = Touched::default();
        for (command, outcome) in entry.commands.iter().zip(&outcomes) {
            self.touch(command, outcome, &mut touched);
            self.ask(command, at.id.index);
        }
        if entry.commands.iter().any(|command| matches!(command, Command::Repair(_))) {
            self.look_at_timers();
        }
        touched.orders.iter().for_each(|order| self.look_at_order(*order, at.id.index));
        touched.skus.iter().for_each(|sku| self.look_at_sku(sku, at.id.index));
        if !outcomes.is_empty() {
            self.reference.outcomes.entry(at.group).or_default().insert(at.id.index, outcomes);
        }
        Ok(())
    }

    fn ask(&mut self, command: &Command, index: u64) {
        let asked: Vec<(&SkuId, u64)> = match command {
            Command::Hold(hold) => vec![(&hold.sku, hold.quantity.0)],
            Command::Holds(holds) => holds.rows.iter().map(|row| (&row.sku, row.quantity.0)).collect(),
            Command::PlaceLocal(place) => place.request.lines.iter().map(|line| (&line.sku, line.quantity.0)).collect(),
            _ => Vec::new(),
        };
        for (sku, units) in asked.into_iter().filter(|(sku, _)| self.watched.skus.contains(*sku)) {
            *self.reference.asked.entry(sku.clone()).or_default().entry(index).or_default() += units;
        }
    }

    fn touch(&self, command: &Command, outcome: &Outcome, touched: &mut Touched) {
        match outcome {
            Outcome::Placed { order, .. } => touched.order(order),
            Outcome::Order { order, .. } => touched.order(order),
            Outcome::Ticked { expired: 1.., .. } => {
                // An order that is not watched may have freed units of a SKU that is.
                touched.skus.extend(self.watched.skus.iter().cloned());
                let due = self.due.iter().take_while(|(due, _)| *due <= self.machine.time());
                touched.orders.extend(due.map(|(_, order)| *order));
            }
            _ => {}
        }
        match command {
            Command::Place(place) | Command::PlaceLocal(place) => {
                touched.skus.extend(place.request.lines.iter().map(|line| line.sku.clone()));
            }
            Command::Sku(command) => drop(touched.skus.insert(command.sku.clone())),
            Command::Hold(hold) => drop(touched.skus.insert(hold.sku.clone())),
            Command::Holds(holds) => touched.skus.extend(holds.rows.iter().map(|row| row.sku.clone())),
            Command::Release(release) => touched.skus.extend(release.skus.iter().cloned()),
            Command::Gone(holds) => touched.skus.extend(holds.iter().map(|(_, sku)| sku.clone())),
            Command::Deliver(run) => run.messages.iter().for_each(|message| self.touch_by(message, touched)),
            // It changes no row, though orders tell other times from then on.
            Command::Order(_) | Command::Trim { .. } | Command::Tick | Command::Repair(_) => {}
            Command::Restart(_) | Command::Claims(_) | Command::Agree { .. } => {}
        }
    }

    fn touch_by(&self, message: &Message, touched: &mut Touched) {
        match message {
            Message::Keep { items, .. } | Message::Free { items, .. } | Message::Ship { items, .. } => {
                touched.skus.extend(items.iter().map(|(sku, _)| sku.clone()));
            }
            Message::Decided(decided) => {
                touched.skus.extend(decided.items.iter().map(|(sku, _)| sku.clone()));
                touched.skus.extend(decided.released.iter().flat_map(|release| &release.skus).cloned());
            }
            Message::Commits(holds) => touched.skus.extend(holds.iter().map(|(sku, _)| sku.clone())),
            Message::Frees(parts) | Message::Ships(parts) => touched.skus.extend(parts.iter().map(|part| part.sku.clone())),
            Message::Claim { items, .. } => touched.skus.extend(items.iter().map(|item| item.sku.clone())),
            Message::Commit { skus, .. } => touched.skus.extend(skus.iter().cloned()),
            Message::Release(release) => touched.skus.extend(release.skus.iter().cloned()),
            Message::Shortfall { order, .. } => {
                touched.orders.insert(*order);
                // The order may have ended, and freed what it held here.
                if let Lookup::Found(order) = self.machine.order(*order) {
                    touched.skus.extend(order.lines.into_iter().map(|line| line.sku));
                }
            }
        }
    }

    fn look_at_order(&mut self, id: OrderId, index: u64) {
        if !self.watched.orders.contains(&id) {
            return;
        }
        let Lookup::Found(order) = self.machine.order(id) else { return };
        let versions = self.reference.orders.entry(id).or_default();
        // Where log time was set back, an order that has not changed tells other times.
        let set_back = self.machine.repairs() > 0;
        if versions.last().is_some_and(|last| *last.state == order || set_back && last.state.version == order.version) {
            return;
        }
        if let Some(last) = versions.last() {
            for due in timers(&last.state) {
                self.due.remove(&(due, id));
            }
        }
        self.due.extend(timers(&order).map(|due| (due, id)));
        versions.push(Version { index, state: Arc::new(order) });
    }

    /// Log time was set back: timers are due at other times.
    fn look_at_timers(&mut self) {
        let Self { machine, watched, .. } = self;
        let found = watched.orders.iter().filter_map(|id| match machine.order(*id) {
            Lookup::Found(order) => Some(order),
            _ => None,
        });
        self.due = found.flat_map(|order| timers(&order).map(move |due| (due, order.id)).collect::<Vec<_>>()).collect();
    }

    fn look_at_sku(&mut self, id: &SkuId, index: u64) {
        if !self.watched.skus.contains(id) || self.owners.owner(id.slot()) != Some(self.machine.shard()) {
            return;
        }
        let Lookup::Found(sku) = self.machine.sku(id) else { return };
        let versions = self.reference.skus.entry(id.clone()).or_default();
        if versions.last().is_none_or(|last| *last.state != sku) {
            versions.push(Version { index, state: Arc::new(sku) });
        }
    }
}

fn timers(order: &Order) -> impl Iterator<Item = Timestamp> + use<> {
    order.payment_due_at.into_iter().chain(order.completes_at)
}

fn broken(at: &ChainEntry, what: &str) -> Violation {
    Violation::new(Property::CommittedNeverChanges, format!("group {}, entry {}: {what}", at.group, at.id))
}

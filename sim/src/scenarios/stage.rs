//! Where a script is played: the grid of a history, with the script's hands on everything.
//!
//! A script that does not reach the scene it was written for has failed as a harness. What it expects of the product and
//! does not see is a violation, like what a judge objects to.

use std::time::Duration;

use ordergrid_api::wire::{Order, PlaceLine, PlaceOrder, PutSku, ReceiveStock, Sku, Unbuilt};
use ordergrid_cluster::Role;
use ordergrid_domain::order::Terms;
use ordergrid_domain::{Command, Currency, GroupId, Key, Law, Outcome, SkuId, Slot, Text, UserId};

use super::look::{self, Found};
use super::setup::{SKUS, USERS};
use crate::disk::{Database, ReadTime, SyncTime};
use crate::grid::Down;
use crate::history::{Ask, Ending, Said, SimTime};
use crate::judges::evidence::book::FINAL_CLIENT;
use crate::plan::Plan;
use crate::run::{HEALED_WITHIN, Stop, World};
use crate::trace;
use crate::verdict::{Property, Violation};

/// Longest wait for a scene.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// A result of a script's step.
pub(super) type Played<T = ()> = Result<T, Stop>;

/// Something that was asked: every question of a script is a client of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call(u32);

/// The grid, and what a script does with it.
pub(super) struct Stage<'a> {
    pub(super) world: &'a mut World,
    plan: &'a Plan,
    asked: u32,
    concluded: bool,
}

/// Milliseconds.
pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Nothing wrong, or a violation in these words.
pub(super) fn expect(holds: bool, text: impl FnOnce() -> String) -> Played {
    if holds { Ok(()) } else { Err(Violation::new(Property::Scenario, text()).into()) }
}

/// The scene is not the one that the script is about.
pub(super) fn scene(reached: bool, what: &str) -> Played {
    if reached { Ok(()) } else { Err(Stop::Harness(format!("the scene was not reached: {what}"))) }
}

impl<'a> Stage<'a> {
    /// The grid is up, and every shard is led by its own node.
    pub(super) fn new(world: &'a mut World, plan: &'a Plan) -> Played<Self> {
        world.boot()?;
        let mut stage = Self { world, plan, asked: 0, concluded: false };
        for shard in stage.world.map.shards.clone() {
            let Some(home) = shard.preferred() else { continue };
            stage.hand_over(shard.group, home)?;
        }
        Ok(stage)
    }

    /// The time.
    pub(super) fn now(&self) -> SimTime {
        self.world.grid.now()
    }

    /// Time passes.
    pub(super) fn pass(&mut self, time: Duration) -> Played {
        let end = self.now().after(time);
        self.world.pass_until(end)
    }

    /// Time passes until a scene is reached, tick by tick.
    pub(super) fn until(&mut self, what: &str, within: Duration, reached: impl Fn(&Self) -> bool) -> Played {
        let latest = self.now().after(within);
        trace::note(format_args!("script waits until {what}"));
        loop {
            self.world.chronicle.told(&self.world.grid.statuses());
            if reached(self) {
                return Ok(());
            }
            if self.now() >= latest {
                return Err(Stop::Harness(format!("the scene was not reached: {what}; {}", self.world.state())));
            }
            self.world.step()?;
        }
    }

    /// Time passes until the grid has recovered from something, as it must within the time that healing may take.
    pub(super) fn healed(&mut self, what: &str, reached: impl Fn(&Self) -> bool) -> Played {
        match self.until(what, HEALED_WITHIN, reached) {
            Err(Stop::Harness(text)) => {
                Err(Violation::new(Law::Heals, text.replace("the scene was not reached", "not in 120 s")).into())
            }
            other => other,
        }
    }

    /// The faults end, the grid heals, everything is read, the judges look.
    pub(super) fn conclude(&mut self) -> Played {
        trace::note(format_args!("script ends"));
        self.world.grid.net.set_frames((0, 0, 0));
        for node in self.nodes() {
            self.world.grid.driver.pause(node, false);
            self.world.grid.driver.suspend(node, false);
            self.world.grid.nodes[&node].disk.heal();
        }
        self.world.striking = self.world.striking.over(self.plan, self.now());
        self.world.striking.calm(&mut self.world.grid);
        for node in self.nodes() {
            if !self.world.grid.is_on(node) {
                self.start(node)?;
            }
        }
        self.world.calm_since = self.now();
        self.world.until("clients wait", HEALED_WITHIN, |world| world.clients.idle())?;
        self.concluded = true;
        self.world.conclude(self.plan)
    }

    /// Whether the judges have looked.
    pub(super) fn is_concluded(&self) -> bool {
        self.concluded
    }

    pub(super) fn nodes(&self) -> Vec<u64> {
        self.world.grid.nodes.keys().copied().collect()
    }
}

/// Who buys what.
impl Stage<'_> {
    /// The `nth` user whose orders are this shard's.
    pub(super) fn user(&self, shard: GroupId, nth: usize) -> UserId {
        let users = (0..USERS).map(|number| self.plan.mix.user(number));
        let mut here = users.filter(|user| self.owner(user.slot()) == shard);
        here.nth(nth).expect("every shard of a scenario has several users")
    }

    /// The buyer of this number, wherever his orders are.
    pub(super) fn buyer(&self, number: u64) -> UserId {
        self.plan.mix.user(number)
    }

    /// The `nth` SKU of this shard.
    pub(super) fn sku(&self, shard: GroupId, nth: usize) -> SkuId {
        let skus = (0..SKUS).map(|number| self.plan.mix.sku(number));
        let mut here = skus.filter(|sku| self.owner(sku.slot()) == shard);
        here.nth(nth).expect("every shard of a scenario has several SKUs")
    }

    fn owner(&self, slot: Slot) -> GroupId {
        self.world.map.shard_of(slot).group
    }

    /// Puts SKUs on sale.
    pub(super) fn stock(&mut self, of: &[(&SkuId, u64)]) -> Played {
        let mut asks = Vec::new();
        for (sku, units) in of {
            let name = Text::new(format!("name of {sku}")).map_err(|error| Stop::Harness(error.to_string()))?;
            let put =
                PutSku { name, backorder_limit: Unbuilt::Unset, purchase_limit: Unbuilt::Unset, safety_stock: Unbuilt::Unset };
            asks.push(Ask::PutSku((*sku).clone(), put));
            asks.push(self.receipt(sku, *units));
        }
        self.world.clients.insist(&mut self.world.grid, 0, asks);
        self.until("the shelves are filled", SOON, |stage| stage.world.clients.idle())
    }

    /// Goods arrive.
    pub(super) fn receipt(&self, sku: &SkuId, quantity: u64) -> Ask {
        Ask::Receive(self.key(), sku.clone(), ReceiveStock { quantity, warehouse: None })
    }

    /// A key that was not used before.
    pub(super) fn key(&self) -> Key {
        self.world.clients.record.key()
    }

    /// An order on invoice, which no timer ends.
    pub(super) fn order(&self, user: &UserId, lines: &[(&SkuId, u64)]) -> PlaceOrder {
        let line = |(sku, quantity): &(&SkuId, u64)| PlaceLine {
            sku: (*sku).clone(),
            quantity: *quantity,
            unit_price: 100,
            discount: 0,
            tax: 0,
        };
        let lines = lines.iter().map(line).collect();
        let mut order = PlaceOrder::new(user.clone(), Currency::new("GBP").expect("a currency"), lines);
        order.terms = Terms::Invoice;
        order
    }

    /// Asks one thing once, through one node.
    pub(super) fn ask(&mut self, node: u64, ask: Ask) -> Call {
        self.asked += 1;
        self.world.clients.ask(&mut self.world.grid, self.asked, node, ask);
        Call(self.asked)
    }

    /// Places an order under a key.
    pub(super) fn place(&mut self, node: u64, key: &Key, order: &PlaceOrder) -> Call {
        self.ask(node, Ask::Place(key.clone(), Box::new(order.clone())))
    }

    /// How a call ended, if it has.
    pub(super) fn ending(&self, call: Call) -> Option<(SimTime, Ending)> {
        let known = self.world.clients.record.known();
        let of_call = known.history.operations.iter().rev().find(|operation| operation.client == call.0)?;
        Some((of_call.ended?, of_call.ending.clone()))
    }

    /// Waits for the end of a call.
    pub(super) fn end_of(&mut self, call: Call) -> Played<Ending> {
        self.until("a client is answered", 2 * SOON, |stage| stage.ending(call).is_some())?;
        Ok(self.ending(call).expect("it was just seen").1)
    }

    /// The order that a call must be answered with, and whether an earlier call had placed it.
    pub(super) fn order_of(&mut self, call: Call) -> Played<(Order, bool)> {
        match self.end_of(call)? {
            Ending::Done { answer, replayed, .. } => match *answer {
                Said::Order(order) => Ok((order, replayed)),
                Said::Fulfilment(changed) => Ok((changed.order, replayed)),
                other => Err(Stop::Harness(format!("no order was asked for: {other:?}"))),
            },
            other => Err(Violation::new(Property::Scenario, format!("not done: {other:?}")).into()),
        }
    }

    /// Asks again and again, through every node in turn, until it is done.
    pub(super) fn order_after_all(&mut self, ask: &Ask) -> Played<(Order, bool)> {
        for turn in 0..200_u64 {
            let node = 1 + turn % self.plan.shape.nodes;
            if self.world.grid.is_on(node) {
                let call = self.ask(node, ask.clone());
                let ending = self.end_of(call)?;
                if crate::clients::settled(&ending) {
                    return self.order_of(call);
                }
            }
            self.pass(ms(50))?;
        }
        Err(Violation::new(Property::Scenario, format!("asked 200 times, never answered: {ask:?}")).into())
    }

    /// The status and code with which a call must be refused.
    pub(super) fn refusal_of(&mut self, call: Call) -> Played<(u16, String)> {
        match self.end_of(call)? {
            Ending::Refused { status, code, .. } => Ok((status, code)),
            other => Err(Violation::new(Property::Scenario, format!("not refused: {other:?}")).into()),
        }
    }

    /// The call must end open: it may have happened.
    pub(super) fn unknown(&mut self, call: Call) -> Played {
        let ending = self.end_of(call)?;
        expect(matches!(ending, Ending::Unknown(_)), || format!("the outcome is open, but the client was told {ending:?}"))
    }

    /// The stock of a SKU as read in the end: on hand, committed, available.
    pub(super) fn final_stock(&self, sku: &SkuId) -> Played<Sku> {
        let known = self.world.clients.record.known();
        let last = known.history.operations.iter().rev().find_map(|operation| match (&operation.ask, &operation.ending) {
            (Ask::ReadSku(of), Ending::Done { answer, .. }) if of == sku && operation.client == FINAL_CLIENT => Some(answer),
            _ => None,
        });
        match last.map(|said| &**said) {
            Some(Said::Sku(sku)) => Ok(sku.clone()),
            _ => Err(Stop::Harness(format!("{sku} was not read in the end"))),
        }
    }

    /// What must be left of a SKU in the end: units on hand, committed, and free.
    pub(super) fn expect_stock(&self, sku: &SkuId, on_hand: u64, committed: u64, available: u64) -> Played {
        let stock = self.final_stock(sku)?.stock;
        let seen = (stock.on_hand, stock.committed, stock.available);
        expect(seen == (on_hand, committed, available), || {
            format!("{sku} has {seen:?} on hand, committed and free, not {:?}", (on_hand, committed, available))
        })
    }

    /// What the committed commands of a group came to; after the judges have looked.
    pub(super) fn outcomes(&self, group: GroupId) -> Vec<(Command, Outcome)> {
        let reference = self.world.reference.as_ref();
        reference.map(|reference| look::outcomes(&self.world.chronicle, reference, group)).unwrap_or_default()
    }

    /// A rare state that must have been met, or else the script has missed its scene.
    pub(super) fn met(&self, state: &str) -> Played {
        let reference = self.world.reference.as_ref();
        let times = reference.and_then(|reference| reference.states().get(state)).copied().unwrap_or_default();
        scene(times > 0, state)
    }

    /// What the product counted of this.
    pub(super) fn counted(&self, name: &str) -> u64 {
        crate::coverage::counted().iter().filter(|(counter, _)| counter.contains(name)).map(|(_, times)| times).sum()
    }
}

/// What the logs say.
impl Stage<'_> {
    /// Commands in the log of a node's replica, durable or not.
    pub(super) fn written(&self, node: u64, group: GroupId) -> Vec<Found> {
        look::commands(self.world.chronicle.log(node, group), group)
    }

    /// Commands in it that no power loss can take away.
    pub(super) fn durable(&self, node: u64, group: GroupId) -> Vec<Found> {
        look::commands(self.world.chronicle.durable_log(node, group), group)
    }

    /// Commands that are committed.
    pub(super) fn committed(&self, group: GroupId) -> Vec<Found> {
        look::committed(&self.world.chronicle, group)
    }

    /// The highest term that any node knows of a group.
    pub(super) fn term(&self, group: GroupId) -> u64 {
        let statuses = self.world.grid.statuses();
        statuses.into_values().flatten().filter(|status| status.group == group).map(|status| status.term).max().unwrap_or(0)
    }

    /// Who leads a group and says so itself, in the highest term.
    pub(super) fn leader(&self, group: GroupId) -> Option<u64> {
        let term = self.term(group);
        let statuses = self.world.grid.statuses();
        let leads = |node: &u64| {
            let of_group = statuses[node].iter().find(|status| status.group == group);
            of_group.is_some_and(|status| status.role == Role::Leader && status.term == term && status.leader == Some(*node))
        };
        statuses.keys().copied().find(leads)
    }
}

/// What goes wrong, and right again.
impl Stage<'_> {
    /// The power of a node is lost.
    pub(super) fn cut_power(&mut self, node: u64) {
        self.world.grid.down(node, Down::PowerLost);
    }

    /// kill -9.
    pub(super) fn kill(&mut self, node: u64) {
        self.world.grid.down(node, Down::Killed);
    }

    /// A node is switched on.
    pub(super) fn start(&mut self, node: u64) -> Played {
        self.world
            .grid
            .start(node)
            .map_err(|error| Violation::new(Property::Scenario, format!("node {node} cannot be started: {error:#}")).into())
    }

    /// Every node that is on knows a leader for every shard.
    pub(super) fn ready(&mut self) -> Played {
        self.until("every node is ready", Duration::from_secs(60), |stage| stage.world.all_ready())
    }

    /// A process stands still, or goes on.
    pub(super) fn pause(&mut self, node: u64, paused: bool) {
        trace::note(format_args!("script: node {node} paused: {paused}"));
        self.world.grid.driver.pause(node, paused);
    }

    /// A machine stands still together with its monotonic clock, or goes on.
    pub(super) fn suspend(&mut self, node: u64, suspended: bool) {
        trace::note(format_args!("script: node {node} suspended: {suspended}"));
        self.world.grid.driver.suspend(node, suspended);
    }

    /// Cuts or mends the link from one host to another.
    pub(super) fn cut(&mut self, from: u64, to: u64, cut: bool) {
        trace::note(format_args!("script: link {from} to {to} cut: {cut}"));
        self.world.grid.net.set_link(from, to, |link| link.cut = cut);
    }

    /// Cuts a node off from the other nodes, or lets it back. Clients reach it all the same.
    pub(super) fn isolate(&mut self, node: u64, cut: bool) {
        for other in self.nodes().into_iter().filter(|other| *other != node) {
            self.cut(node, other, cut);
            self.cut(other, node, cut);
        }
    }

    /// Every packet from one host to another takes so long.
    pub(super) fn delay(&mut self, from: u64, to: u64, time: Duration) {
        trace::note(format_args!("script: link {from} to {to} takes {time:?}"));
        self.world.grid.net.set_link(from, to, |link| (link.fastest, link.slowest) = (time, time));
    }

    /// Syncs of a node's database take so long from now on.
    pub(super) fn slow_sync(&mut self, node: u64, database: Database, time: Duration) {
        self.world.grid.nodes[&node].disk.set_sync_time(database, SyncTime::Fixed(time));
    }

    /// No sync of these nodes' logs ends within this time.
    pub(super) fn stall_logs(&mut self, nodes: &[u64], time: Duration) {
        let until = self.now().after(time);
        for node in nodes {
            self.world.grid.nodes[node].disk.stall_syncs(Database::Log, until);
        }
    }

    /// Batches of a node's state, and how many of them are durable.
    pub(super) fn state_batches(&self, node: u64) -> (u64, u64) {
        self.world.grid.nodes[&node].disk.batches(Database::State)
    }

    /// Looks at rows of a node's state take so long from now on.
    pub(super) fn slow_reads(&mut self, node: u64, time: ReadTime) {
        self.world.grid.nodes[&node].disk.set_read_time(Database::State, time);
    }

    /// What each replica of a node has applied, and what its last durable checkpoint covers.
    pub(super) fn checkpoints(&self, node: u64) -> Vec<(u64, u64)> {
        let groups = self.world.grid.nodes[&node].running().map(|running| running.groups());
        let status = groups.into_iter().flatten().map(|group| group.status());
        status.map(|status| (status.applied, status.checkpoint)).collect()
    }

    /// Every replica of a node writes a checkpoint; this does not wait for it.
    pub(super) fn checkpoint(&mut self, node: u64) {
        let Some(running) = self.world.grid.nodes[&node].running() else { return };
        self.world.grid.driver.spawn(node, async move {
            for group in running.groups() {
                // Whether it was written is seen from outside.
                group.checkpoint().await.ok();
            }
        });
    }

    /// Asks a group's leader to hand over, without waiting for it.
    pub(super) fn transfer(&mut self, group: GroupId, to: u64) {
        let Some(leader) = self.leader(group).filter(|leader| *leader != to) else { return };
        let Some(running) = self.world.grid.nodes[&leader].running() else { return };
        let Some(led) = running.groups().into_iter().find(|led| led.id() == group) else { return };
        self.world.grid.driver.spawn(leader, async move {
            // The script sees who leads.
            led.transfer(to).await.ok();
        });
    }

    /// A group is led by this node, and serves.
    pub(super) fn hand_over(&mut self, group: GroupId, to: u64) -> Played {
        for _ in 0..30 {
            if self.leader(group) == Some(to) {
                return self.until("the new leader serves", SOON, |stage| stage.serves(group, to));
            }
            self.transfer(group, to);
            self.pass(ms(500))?;
        }
        Err(Stop::Harness(format!("node {to} does not come to lead group {group}: {}", self.world.state())))
    }

    /// The leader has applied everything that it has, its first entry included.
    fn serves(&self, group: GroupId, node: u64) -> bool {
        let statuses = self.world.grid.statuses();
        let of_group = statuses.get(&node).and_then(|groups| groups.iter().find(|status| status.group == group));
        of_group.is_some_and(|status| status.applied == status.last_log && status.leader == Some(node))
    }

    /// Waits until somebody other than `before` leads a group.
    pub(super) fn another_leads(&mut self, group: GroupId, before: u64) -> Played<u64> {
        self.until("another node leads", SOON, |stage| stage.leader(group).is_some_and(|leader| leader != before))?;
        Ok(self.leader(group).expect("it was just seen"))
    }
}

//! Several shards whose orders all cross: the units of an order lie in other shards than its user, some or all of them.

use std::time::Duration;

use ordergrid_domain::command::{Hold, OrderAction, OrderCommand, PaymentTold, Place, Position};
use ordergrid_domain::order::{Operator, PaymentState};
use ordergrid_domain::{
    AttemptId, Command, Entry, GroupId, Order, Outcome, ProviderPaymentId, ShardConfig, ShardMachine, SkuId, SlotOwners,
    Timestamp, UserId,
};

use super::{COMMANDS, SKUS, key, request, sku, stock};

/// Users that orders are drawn from.
const USERS: u64 = 100_000;

/// Shards with goods and users.
pub(crate) struct Market {
    shards: Vec<ShardMachine>,
    owners: SlotOwners,
    index: u64,
    orders: u64,
    now: Timestamp,
}

impl Market {
    /// So many shards, which own as many slots each.
    pub(crate) fn new(shards: u32) -> Self {
        let groups: Vec<GroupId> = (1..=shards).map(GroupId).collect();
        let owners = SlotOwners::even(&groups);
        let machine = |group: &GroupId| ShardMachine::new(ShardConfig::new(*group, owners.clone()));
        let machines = groups.iter().map(machine).collect();
        let now = Timestamp::from_ms(1_767_225_600_000);
        let mut market = Self { shards: machines, owners, index: 0, orders: 0, now };
        let mut commands = market.nothing();
        for n in 0..SKUS {
            commands[market.home(&sku(n))].extend(stock(n));
        }
        market.apply(commands);
        market
    }

    /// A hundred orders of so many lines, from their holds to the end of their messages; tells the orders.
    pub(crate) fn cross(&mut self, lines: u64) -> Vec<Order> {
        // Marks live ten seconds: so they come and go as fast as each other.
        self.now = self.now.after(Duration::from_secs(1));
        let (mut holds, mut places) = (self.nothing(), self.nothing());
        for _ in 0..COMMANDS {
            let (home, place) = self.place(lines);
            for (sku, quantity) in place.request.wanted() {
                let (attempt, valid_until) = (place.attempt, self.now.after(Duration::from_secs(10)));
                holds[self.home(&sku)].push(Command::Hold(Hold { attempt, sku, quantity, valid_until }));
            }
            places[home].push(Command::Place(Box::new(place)));
        }
        self.apply(holds);
        let placed = self.apply(places).into_iter().map(|outcome| match outcome {
            Outcome::Placed { order, .. } => order.as_ref().clone(),
            other => panic!("there is enough of everything: {other:?}"),
        });
        let placed = placed.collect();
        self.settle();
        placed
    }

    /// A hundred orders of so many lines, placed and paid.
    pub(crate) fn pay(&mut self, lines: u64) -> usize {
        let mut commands = self.nothing();
        for order in self.cross(lines) {
            let id = ProviderPaymentId::new(format!("pi-{}", order.id)).expect("short");
            let told = PaymentTold::new(id, PaymentState::Captured, order.total, order.currency);
            let action = OrderAction::Pay(told);
            let (home, key) = (self.owner(order.attempt), key(order.id.0));
            let (order, operator) = (order.id, Operator::Merchant);
            let command = OrderCommand { order, key, body_hash: 1, expect_version: None, operator, action };
            commands[home].push(Command::Order(Box::new(command)));
        }
        let done = self.apply(commands).len();
        self.settle();
        done
    }

    /// A checkpoint of every shard; tells the number of rows.
    pub(crate) fn checkpoint(&mut self) -> usize {
        let mut rows = 0;
        for shard in &mut self.shards {
            shard.checkpoint_at_once(&mut |_, _| rows += 1);
            shard.checkpoint_durable();
            shard.evict_timers(usize::MAX);
        }
        rows
    }

    /// Delivers and trims what is under way, and lets time do its work.
    fn settle(&mut self) {
        let (mut runs, mut trims) = (self.nothing(), self.nothing());
        for from in &self.shards {
            for stream in from.streams().filter(|stream| stream.pending() > 0) {
                let (to, high) = (stream.to, stream.next - 1);
                let run = from.outbox(to, stream.trimmed + 1, usize::MAX, usize::MAX).expect("nothing was restored");
                runs[to.0 as usize - 1].extend(run.map(Command::Deliver));
                trims[from.shard().0 as usize - 1].push(Command::Trim { to, high });
            }
        }
        runs.iter_mut().for_each(|commands| commands.push(Command::Tick));
        self.apply(runs);
        self.apply(trims);
    }

    /// One entry for every shard.
    fn apply(&mut self, commands: Vec<Vec<Command>>) -> Vec<Outcome> {
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        let mut outcomes = Vec::new();
        for (shard, commands) in self.shards.iter_mut().zip(commands) {
            let entry = Entry { at: self.now, commands };
            shard.warm(&entry);
            outcomes.extend(shard.apply(at, &entry));
        }
        outcomes
    }

    fn nothing(&self) -> Vec<Vec<Command>> {
        self.shards.iter().map(|_| Vec::new()).collect()
    }

    /// An order whose first line is of another shard than its user.
    fn place(&mut self, lines: u64) -> (usize, Place) {
        self.orders += 1;
        let n = self.orders;
        let user = UserId::new(format!("user-{}", n % USERS)).expect("short");
        let group = self.owners.owner(user.slot()).expect("every slot is owned");
        let home = group.0 as usize - 1;
        let attempt = AttemptId { slot: user.slot(), group, term: 1, counter: n };
        let first = (0..).map(|n| n % SKUS).skip((n * 7 % SKUS) as usize).find(|n| self.home(&sku(*n)) != home);
        let first = first.expect("every shard has goods");
        let request = request(n, user, (0..lines).map(|line| sku((first + line * 331) % SKUS)));
        (home, Place { attempt, request: request.into(), names: Vec::new() })
    }

    fn home(&self, sku: &SkuId) -> usize {
        self.owners.owner(sku.slot()).expect("every slot is owned").0 as usize - 1
    }

    fn owner(&self, attempt: AttemptId) -> usize {
        attempt.group.0 as usize - 1
    }
}

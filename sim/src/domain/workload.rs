//! What is drawn: the size of a grid, what clients want, what fails, and when. And how it ends: faults stop, and everything
//! that is under way is brought to its end.

use std::time::Duration;

use ordergrid_domain::command::{OrderAction, OrderCommand, OrderRequest, PaymentTold, RefundAsked, SkuAction, SkuCommand};
use ordergrid_domain::order::{CancelReason, LineRequest, Operator, PaymentState, RefundState, Terms};
use ordergrid_domain::{
    Command, Currency, FulfilmentId, Key, Law, Lookup, Money, OrderId, ProviderPaymentId, Quantity, RefundId, SkuId, Text,
    WarehouseId,
};

use crate::dice::Dice;
use crate::domain::Violation;
use crate::domain::oracle::Mistake;
use crate::domain::world::{Back, Client, Knows, Letter, World};

/// What a provider tells, mostly that it has the money.
const TOLD: [PaymentState; 16] = [
    PaymentState::Captured,
    PaymentState::Captured,
    PaymentState::Captured,
    PaymentState::Captured,
    PaymentState::Captured,
    PaymentState::Captured,
    PaymentState::Processing,
    PaymentState::Processing,
    PaymentState::Authorized,
    PaymentState::Authorized,
    PaymentState::Failed,
    PaymentState::Voided,
    PaymentState::Expired,
    PaymentState::CaptureFailed,
    PaymentState::Disputed,
    PaymentState::DisputeWon,
];

/// What was drawn for one history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Chance starts here.
    pub seed: u64,
    /// Shards, 1 to 5.
    pub shards: u32,
    /// SKUs.
    pub skus: usize,
    /// Users.
    pub users: usize,
    /// Steps until faults stop.
    pub steps: usize,
    /// Letters lost, in percent.
    pub lost: u64,
    /// Letters that come twice, in percent.
    pub doubled: u64,
    /// Steps that disturb a store, in percent.
    pub disturbed: u64,
    /// Units of each SKU at first, at most.
    pub stock: u64,
    /// Leaders have a lease, so that they answer "sold out" from memory.
    pub lease: bool,
    /// What the oracle gets wrong on purpose.
    pub mistake: Mistake,
    /// Which rule the leaders break on purpose.
    pub mutant: Mutant,
}

/// Rules of placing that leaders can be made to break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// Rule 14: *gone* is answered about attempts that still run.
    GoneWhileRunning,
    /// Rules 14 and 16: *gone* is answered about attempts that were placed.
    GoneWhilePlaced,
    /// Rule 7: holds are released when the outcome of a place is not known.
    ReleaseWhenUnknown,
    /// Rule 17: a stream is trimmed by what was sent, not by what was applied.
    TrimsUnapplied,
    /// Rule 14: nobody asks.
    NeverAsks,
}

impl Plan {
    /// What a seed stands for.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        Self {
            seed,
            shards: 1 + dice.below(5) as u32,
            skus: 1 + dice.index(8),
            users: 1 + dice.index(6),
            steps: 200 + dice.index(1_000),
            lost: *dice.pick(&[0, 2, 10, 25]),
            doubled: *dice.pick(&[0, 5, 20]),
            disturbed: *dice.pick(&[0, 3, 10]),
            stock: *dice.pick(&[3, 20, 1_000]),
            lease: dice.percent(70),
            mistake: Mistake::None,
            mutant: Mutant::None,
        }
    }
}

impl World {
    /// The history itself.
    ///
    /// # Errors
    /// A violation.
    pub fn live(&mut self) -> Result<(), Violation> {
        for sku in self.skus.clone() {
            let home = self.home(sku.slot());
            let units = 1 + self.dice.below(self.plan.stock);
            let name = Text::new(format!("name of {sku}")).expect("a valid text");
            self.apply(home, vec![sku_command(&sku, None, SkuAction::Put { name }), receive(&sku, "first", units)])?;
        }
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.now += *self.dice.pick(&[0, 1, 1, 5, 50, 400]);
        let shard = self.dice.index(self.shards.len());
        if self.dice.percent(self.plan.disturbed) {
            self.disturb(shard)?;
        }
        let back = Back { shard, term: self.shards[shard].term };
        if self.dice.percent(50) {
            self.start_all(back)?;
            self.ask_again(back)?;
        }
        match self.dice.below(100) {
            0..=9 => self.new_client(),
            10..=54 => self.carry_letter(),
            55..=62 => self.retry(),
            63..=76 => self.command_on_order(),
            77..=87 => {
                let to = self.dice.index(self.shards.len());
                self.send_run(shard, to);
                Ok(())
            }
            88 => self.trouble_leader(shard),
            89 => self.command_on_sku(),
            90 => self.trouble_leader(shard),
            91 if self.dice.percent(50) => self.hand_over(shard),
            91 => self.depose(shard),
            92..=93 => {
                self.ask_about_holds(shard);
                Ok(())
            }
            94..=96 => self.apply(shard, vec![Command::Tick]).map(drop),
            97 => {
                self.shards[shard].skew = self.dice.below(4_000) as i64 - 2_000;
                Ok(())
            }
            98 if self.dice.percent(60) => {
                self.now += *self.dice.pick(&[1_000, 5_000, 11_000, 60_000, 200_000]);
                Ok(())
            }
            98 => self.carry_letter(),
            _ if self.dice.percent(60) => self.carry_letter(),
            _ => {
                let rarely = self.dice.percent(20);
                self.now += if rarely { 8 * 24 * 3_600_000 } else { 901_000 };
                self.apply(shard, vec![Command::Tick]).map(drop)
            }
        }
    }

    /// Something happens to what a leader has under way, deposed or not.
    fn trouble_leader(&mut self, shard: usize) -> Result<(), Violation> {
        let leaders = self.leaders(shard);
        let back = *self.dice.pick(&leaders);
        if self.dice.percent(10) {
            return self.lose_orders(back);
        }
        let which = self.dice.index(64);
        self.time_out(back, which)
    }

    fn new_client(&mut self) -> Result<(), Violation> {
        let reuse = self.dice.percent(15) && !self.clients.is_empty();
        let mut request = self.draw_request();
        if reuse {
            // The same key again: by a second client with the same body, or with another.
            let other = self.dice.index(self.clients.len());
            let other = self.clients[other].request.clone();
            (request.user, request.key) = (other.user.clone(), other.key.clone());
            request.body_hash = other.body_hash + 1;
            if self.dice.percent(60) {
                request = other;
            }
        }
        self.clients.push(Client { request, knows: Knows::Nothing, tries: 0 });
        self.ask_to_place(self.clients.len() - 1)
    }

    fn draw_request(&mut self) -> OrderRequest {
        let lines = (0..1 + self.dice.index(3)).map(|_| LineRequest {
            sku: self.dice.pick(&self.skus).clone(),
            quantity: Quantity(1 + self.dice.below(4)),
            unit_price: Money(self.dice.below(4) as i64 * 25),
            discount: Money::ZERO,
            tax: Money::ZERO,
        });
        let lines = lines.collect();
        let terms = if self.dice.percent(80) { Terms::Prepaid } else { Terms::Invoice };
        OrderRequest {
            user: self.dice.pick(&self.users).clone(),
            key: Key::new(format!("key-{}", self.clients.len())).expect("a valid key"),
            body_hash: self.clients.len() as u64 * 10,
            reference: None,
            currency: currency(),
            lines,
            discount: Money::ZERO,
            shipping_fee: Money::ZERO,
            total: None,
            terms,
            payment_method: None,
            payment_window: Duration::from_secs(900),
            ship_to: None,
            metadata: Vec::new(),
        }
    }

    /// Some letter arrives, is lost, or arrives and stays to come again.
    ///
    /// # Errors
    /// A violation.
    pub fn carry_letter(&mut self) -> Result<(), Violation> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let which = self.dice.index(self.letters.len());
        let letter = self.letters.swap_remove(which);
        if self.faulty && self.dice.percent(self.plan.lost) {
            self.counts.note("letter lost");
            return Ok(());
        }
        if self.faulty && self.dice.percent(self.plan.doubled) {
            self.counts.note("letter doubled");
            self.letters.push(letter.clone());
        }
        self.hear(letter)
    }

    fn hear(&mut self, letter: Letter) -> Result<(), Violation> {
        match letter {
            Letter::Hold(back, call, shard, request) => self.hear_hold(back, call, shard, request),
            Letter::Held(back, call, results) => self.hear_held(back, call, results),
            Letter::Release(shard, release) => self.hear_release(shard, release),
            Letter::Ask(question) => {
                self.hear_ask(question);
                Ok(())
            }
            Letter::Barrier(back, looked, question) => {
                self.hear_barrier(back, looked, question);
                Ok(())
            }
            Letter::Gone(to, attempt, skus) => self.hear_gone(to, attempt, skus),
            Letter::Run(to, run) => self.hear_run(to, run),
            Letter::Applied(from, to, high) => self.apply(from, vec![Command::Trim { to, high }]).map(drop),
        }
    }

    /// A client that does not know asks again, with its key.
    fn retry(&mut self) -> Result<(), Violation> {
        let waiting: Vec<usize> = (0..self.clients.len()).filter(|n| self.clients[*n].knows == Knows::Nothing).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let client = *self.dice.pick(&waiting);
        self.ask_to_place(client)
    }

    fn command_on_order(&mut self) -> Result<(), Violation> {
        let orders: Vec<OrderId> = self.oracle.orders.keys().copied().collect();
        if orders.is_empty() {
            return Ok(());
        }
        // Mostly one of the newest: older ones have ended.
        let newest = orders.len().saturating_sub(12);
        let order = if self.dice.percent(80) {
            orders[newest + self.dice.index(orders.len() - newest)]
        } else {
            *self.dice.pick(&orders)
        };
        let home = self.home(order.slot());
        let action = self.draw_action(home, order);
        let fresh = self.dice.percent(85);
        let number = if fresh { 1_000 + self.dice.below(1_000_000) } else { self.dice.below(4) };
        // A key that comes again mostly comes with another body.
        let body_hash = if fresh { 1 } else { self.dice.below(2) };
        let command = OrderCommand {
            order,
            key: Key::new(format!("c-{number}")).expect("a valid key"),
            body_hash,
            expect_version: None,
            operator: Operator::Merchant,
            action,
        };
        self.apply(home, vec![Command::Order(Box::new(command))]).map(drop)
    }

    fn draw_action(&mut self, home: usize, id: OrderId) -> OrderAction {
        let Lookup::Found(order) = self.shards[home].plain.order(id) else { unreachable!("the oracle knows it") };
        let number = 1 + self.dice.below(order.fulfilments.len().max(1) as u64) as u32;
        let fulfilment = FulfilmentId { order: id, number };
        let refund = RefundId { order: id, number: 1 + self.dice.below(order.refunds.len().max(1) as u64) as u32 };
        match self.dice.below(20) {
            0..=4 => {
                let id = ProviderPaymentId::new(format!("pi_{}", self.dice.below(3))).expect("a valid id");
                let whole = order.total.0.max(1);
                let amount = *self.dice.pick(&[whole, whole, whole, (whole / 2).max(1), whole + 1]);
                OrderAction::Pay(PaymentTold::new(id, *self.dice.pick(&TOLD), Money(amount), currency()))
            }
            5 => OrderAction::Cancel { reason: CancelReason::User, note: None, lines: Vec::new() },
            6 => {
                let line = 1 + self.dice.below(order.lines.len() as u64) as u32;
                OrderAction::Cancel { reason: CancelReason::Merchant, note: None, lines: vec![(line, Quantity(1))] }
            }
            7..=9 => OrderAction::Pick { lines: Vec::new(), warehouse: WarehouseId::default() },
            10..=12 => OrderAction::Ship { fulfilment, carrier: None, tracking: None },
            13..=14 => OrderAction::Deliver { fulfilment },
            15 => OrderAction::Unpick { fulfilment },
            16 => OrderAction::Complete,
            17 => {
                let amount = Some(Money(1 + self.dice.below(60) as i64));
                OrderAction::Refund(RefundAsked { amount, ..RefundAsked::default() })
            }
            _ => {
                let state = *self.dice.pick(&[RefundState::Succeeded, RefundState::Succeeded, RefundState::Failed]);
                OrderAction::RefundOutcome { refund, state, occurred_at: None }
            }
        }
    }

    fn command_on_sku(&mut self) -> Result<(), Violation> {
        let sku = self.dice.pick(&self.skus).clone();
        let home = self.home(sku.slot());
        let key = format!("s-{}", self.dice.below(200));
        let units = 1 + self.dice.below(9);
        let command = if self.dice.percent(50) {
            receive(&sku, &key, units)
        } else {
            let action = SkuAction::Adjust { warehouse: WarehouseId::default(), delta: -(units as i64), reason: None };
            sku_command(&sku, Some(&key), action)
        };
        self.apply(home, vec![command]).map(drop)
    }

    /// Faults stop. Whatever runs ends, clients ask until they know, SKUs ask, streams drain, tombstones and deadlines pass.
    ///
    /// # Errors
    /// A violation, or something that does not end.
    pub fn heal(&mut self) -> Result<(), Violation> {
        self.faulty = false;
        for it in &mut self.shards {
            it.skew = 0;
        }
        for round in 0..400 {
            for shard in 0..self.shards.len() {
                self.calm(shard)?;
                for to in 0..self.shards.len() {
                    self.send_run(shard, to);
                }
                self.ask_about_holds(shard);
                self.apply(shard, vec![Command::Tick])?;
            }
            if round % 3 == 0 {
                for client in 0..self.clients.len() {
                    if self.clients[client].knows == Knows::Nothing {
                        self.ask_to_place(client)?;
                        while !self.letters.is_empty() {
                            self.carry_letter()?;
                        }
                    }
                }
            }
            self.now += 11_000;
            if self.is_quiet() {
                return Ok(());
            }
        }
        let unknown = |client: &&Client| matches!(client.knows, Knows::Nothing | Knows::Running);
        let clients: Vec<_> = self.clients.iter().filter(unknown).collect();
        let counters: Vec<_> = self.shards.iter().map(|it| it.plain.counters()).collect();
        let busy: Vec<_> = self.shards.iter().map(|it| &it.leader).filter(|leading| !leading.is_idle()).collect();
        let (heals, letters) = (Law::Heals, &self.letters);
        Err(Violation(format!(
            "{heals}: still not quiet: {counters:?}, clients {clients:?}, leaders {busy:?}, letters {letters:?}"
        )))
    }

    fn is_quiet(&self) -> bool {
        let still = |it: &crate::domain::world::Shard| {
            let counters = it.plain.counters();
            counters.tentative == 0 && counters.undelivered == 0 && counters.marks == 0 && it.leader.is_idle()
        };
        let known = |client: &Client| !matches!(client.knows, Knows::Nothing | Knows::Running);
        self.letters.is_empty() && self.shards.iter().all(still) && self.clients.iter().all(known)
    }
}

fn currency() -> Currency {
    Currency::new("GBP").expect("three capital letters")
}

fn sku_command(sku: &SkuId, key: Option<&str>, action: SkuAction) -> Command {
    let key = key.map(|key| Key::new(key).expect("a valid key"));
    Command::Sku(Box::new(SkuCommand { sku: sku.clone(), key, body_hash: 1, expect_version: None, action }))
}

fn receive(sku: &SkuId, key: &str, units: u64) -> Command {
    sku_command(sku, Some(key), SkuAction::Receive { warehouse: WarehouseId::default(), quantity: Quantity(units) })
}

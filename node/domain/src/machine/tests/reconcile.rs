//! Starting streams anew after one of two shards, or both, have lost entries: a prefix of its log is what is left.

use proptest::prelude::*;

use super::*;
use crate::audit::{Audit, AuditReport};
use crate::command::Message;
use crate::ids::FulfilmentId;
use crate::order::Phase;
use crate::reconcile::{ClaimScan, Claims, HoldScan, Mismatch, Restart};

const PATIENCE: Duration = Duration::from_secs(10);

/// Two shards with a SKU and a user each: orders of the one hold units of the other.
struct Pair {
    shards: [Shard; 2],
    skus: [SkuId; 2],
    users: [UserId; 2],
    orders: Vec<(usize, OrderId)>,
    keys: u64,
}

impl Pair {
    fn new(units: u64) -> Self {
        let mut shards = [Shard::of(1, 2), Shard::of(2, 2)];
        let skus = [0, 1].map(|at| shards[at].stocked(0, units));
        let users = [0, 1].map(|at| user_of(&shards[at].machine, 0));
        Self { shards, skus, users, orders: Vec::new(), keys: 0 }
    }

    fn group(&self, at: usize) -> GroupId {
        self.shards[at].machine.shard()
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("k{}", self.keys)
    }

    /// An order of the user of shard `at` for units of the other shard, if they are granted.
    fn order(&mut self, at: usize, units: u64, terms: Terms) -> Option<OrderId> {
        let (user, sku, name) = (self.users[at].clone(), self.skus[1 - at].clone(), self.key());
        let attempt = self.shards[at].attempt(&user);
        let valid_until = self.shards[1 - at].now.after(PATIENCE);
        let held = self.shards[1 - at].one(hold(attempt, &sku, units, valid_until));
        if !matches!(held, Outcome::Held { .. }) {
            return None;
        }
        let request = OrderRequest { terms, ..request(&user, &name, &[(&sku, units)]) };
        let place = Place { attempt, request: request.into(), names: Vec::new() };
        let order = placed(self.shards[at].one(Command::Place(Box::new(place))));
        self.orders.push((at, order.id));
        Some(order.id)
    }

    fn act(&mut self, at: usize, order: OrderId, action: OrderAction) {
        let name = self.key();
        self.shards[at].one(act(order, &name, action));
    }

    fn settle(&mut self) {
        let [a, b] = &mut self.shards;
        settle(a, b);
    }

    fn carry(&mut self, at: usize) {
        let [a, b] = &mut self.shards;
        if at == 0 {
            carry(a, b)
        } else {
            carry(b, a)
        };
    }

    /// All that a shard has applied behind its first entries is lost; a later term goes on, as a loss that was accepted has it.
    fn roll_back(&mut self, at: usize, entries: usize) {
        let shard = &mut self.shards[at];
        shard.machine = ShardMachine::new(shard.machine.config.clone());
        shard.log.truncate(entries);
        for (position, entry) in &shard.log {
            shard.machine.apply(*position, entry);
        }
        shard.term += 1;
        self.restart(at, 0);
    }

    fn restart(&mut self, at: usize, applied: u64) -> (u64, Timestamp, Timestamp) {
        let streams = vec![(self.group(1 - at), applied)];
        match self.shards[at].one(Command::Restart(Restart { streams })) {
            Outcome::Restarted { streams, before, at } => (streams[0].1, before, at),
            other => panic!("expected a restart, got {other:?}"),
        }
    }

    fn agree(&mut self, at: usize, high: u64) {
        let from = self.group(1 - at);
        assert_eq!(self.shards[at].one(Command::Agree { from, high }), Outcome::Delivered { high });
    }

    /// What orders of shard `at` are to claim at the other one.
    fn scan(&self, at: usize, restarted: Option<(Timestamp, Timestamp)>) -> (Vec<crate::reconcile::ClaimOf>, Mismatch) {
        let owners = self.shards[at].machine.config.owners.clone();
        let mut holds = HoldScan::new(owners.clone(), self.group(at));
        self.shards[1 - at].machine.rows().iter().for_each(|(key, value)| holds.add(key, value).unwrap());
        let mut claims = ClaimScan::new(owners, self.group(1 - at), holds.finish(), restarted);
        self.shards[at].machine.rows().iter().for_each(|(key, value)| claims.add(key, value).unwrap());
        claims.finish()
    }

    /// As the leaders do it; `meanwhile` goes on between the restart and the claims, and between these and the consent.
    fn reconcile(&mut self, mut meanwhile: impl FnMut(&mut Self)) -> [Mismatch; 2] {
        let restarted = [0, 1].map(|at| {
            let applied = self.shards[1 - at].machine.high(self.group(at));
            self.restart(at, applied)
        });
        for at in [0, 1] {
            self.agree(at, restarted[1 - at].0 - 1);
        }
        meanwhile(self);
        let mismatches = [0, 1].map(|at| {
            let (_, before, when) = restarted[at];
            let (orders, mismatch) = self.scan(at, Some((before, when)));
            let claims = Claims { to: self.group(1 - at), before, orders };
            assert_eq!(self.shards[at].one(Command::Claims(claims)), Outcome::Done);
            mismatch
        });
        meanwhile(self);
        for at in [0, 1] {
            self.agree(at, restarted[1 - at].0);
        }
        mismatches
    }

    fn audit(&self) -> AuditReport {
        let mut audits = self.shards.iter().map(|shard| {
            let mut audit = Audit::of(shard.machine.shard());
            shard.machine.rows().iter().for_each(|(key, value)| audit.add(key, value));
            audit
        });
        let mut whole = audits.next().unwrap();
        audits.for_each(|audit| whole.merge(audit));
        whole.finish()
    }

    /// Frees what nobody has placed, as the shards of SKUs ask for it.
    fn ask(&mut self) {
        for at in [0, 1] {
            let asked = self.shards[at].machine.asks(self.shards[at].now.after(PATIENCE), PATIENCE, 1_000);
            let other = &self.shards[1 - at].machine;
            let gone = asked.into_iter().filter(|(attempt, _)| other.placed(*attempt).is_none());
            let gone: Vec<_> = gone.flat_map(|(attempt, skus)| skus.into_iter().map(move |sku| (attempt, sku))).collect();
            self.shards[at].one(Command::Gone(gone));
        }
    }

    /// Everything has gone its way, and every law holds.
    fn check_whole(&mut self) {
        self.settle();
        self.ask();
        self.settle();
        self.shards.iter().for_each(|shard| shard.machine.check());
        let report = self.audit();
        assert_eq!(report.violations().collect::<Vec<_>>(), []);
        assert_eq!((report.torn.clone(), report.in_flight.undelivered, report.in_flight.tentative), (Vec::new(), 0, 0));
    }

    fn buckets(&self, at: usize) -> [u64; 4] {
        self.shards[at].buckets(&self.skus[at])
    }

    fn phase(&self, at: usize, order: OrderId) -> Phase {
        self.shards[at].order(order).phase
    }
}

#[test]
fn units_of_orders_that_a_shard_has_lost_are_free_again() {
    let mut pair = Pair::new(10);
    let stays = pair.order(0, 1, Terms::Prepaid).unwrap();
    pair.settle();
    let copy = pair.shards[0].log.len();
    pair.order(0, 3, Terms::Invoice).unwrap();
    pair.settle();
    pair.order(0, 2, Terms::Prepaid).unwrap(); // its keep is not told
    pair.roll_back(0, copy);
    assert_eq!(pair.buckets(1), [10, 3, 3, 0]);
    assert_eq!(pair.audit().torn, [(GroupId(1), GroupId(2))], "the proof cannot be made meanwhile");
    let [lost, _] = pair.reconcile(|_| {});
    assert_eq!((lost.orderless.len(), lost.orderless[0].2, lost.missing.len()), (1, Quantity(3), 0));
    pair.check_whole();
    assert_eq!((pair.buckets(1), pair.phase(0, stays)), ([10, 1, 0, 0], Phase::PendingPayment));
}

#[test]
fn units_that_a_shard_has_lost_the_holds_of_are_held_again() {
    let mut pair = Pair::new(10);
    let tentative = pair.order(0, 1, Terms::Invoice).unwrap();
    let copy = pair.shards[1].log.len();
    pair.settle();
    let unpaid = pair.order(0, 2, Terms::Prepaid).unwrap();
    let paid = pair.order(0, 3, Terms::Invoice).unwrap();
    pair.settle();
    pair.roll_back(1, copy);
    assert_eq!(pair.buckets(1), [10, 1, 0, 0]);
    let (_, told) = pair.scan(0, None);
    let [lost, _] = pair.reconcile(|_| {});
    assert_eq!(told, lost, "a look tells the same and changes nothing");
    assert_eq!((lost.missing.len(), lost.unkept), (2, 1));
    pair.check_whole();
    assert_eq!(pair.buckets(1), [10, 2, 4, 0]);
    for (order, phase) in [(tentative, Phase::Confirmed), (unpaid, Phase::PendingPayment), (paid, Phase::Confirmed)] {
        assert_eq!(pair.phase(0, order), phase);
    }
}

#[test]
fn units_that_were_sold_again_meanwhile_are_not_promised_twice() {
    let mut pair = Pair::new(5);
    let copy = pair.shards[1].log.len();
    let unpaid = pair.order(0, 2, Terms::Prepaid).unwrap();
    let owed = pair.order(0, 2, Terms::Invoice).unwrap();
    pair.settle();
    pair.roll_back(1, copy);
    let sku = pair.skus[1].clone();
    let local = pair.shards[1].ordered("local", &[(&sku, 4)]);
    pair.reconcile(|_| {});
    pair.check_whole();
    let line = pair.shards[0].order(owed).lines[0].clone();
    assert_eq!((pair.phase(0, unpaid), line.held, line.backordered), (Phase::Cancelled, Quantity(1), Quantity(1)));
    assert_eq!((pair.phase(1, local.id), pair.buckets(1)), (Phase::PendingPayment, [5, 4, 1, 0]));
}

#[test]
fn what_left_the_shelf_is_not_promised_again() {
    let mut pair = Pair::new(10);
    let order = pair.order(0, 4, Terms::Invoice).unwrap();
    pair.settle();
    let copy = pair.shards[1].log.len();
    let fulfilment = FulfilmentId { order, number: 1 };
    pair.act(0, order, OrderAction::Pick { lines: vec![(1, Quantity(3))], warehouse: WarehouseId::default() });
    pair.act(0, order, OrderAction::Ship { fulfilment, carrier: None, tracking: None });
    pair.act(0, order, OrderAction::Cancel { reason: CancelReason::User, note: None, lines: Vec::new() });
    pair.settle();
    pair.roll_back(1, copy);
    pair.reconcile(|_| {});
    pair.check_whole();
    assert_eq!(pair.buckets(1), [7, 0, 0, 3]);
}

#[test]
fn nothing_passes_between_a_restart_and_the_consent_and_a_late_run_is_not_applied() {
    let mut pair = Pair::new(10);
    pair.order(0, 1, Terms::Prepaid).unwrap();
    let late = run_between(&pair.shards[0], &pair.shards[1]).unwrap();
    let (high, before, when) = pair.restart(0, 0);
    assert_eq!(pair.shards[0].machine.counters().undelivered, 0);
    pair.order(0, 2, Terms::Prepaid).unwrap();
    let run = pair.shards[0].machine.outbox(GroupId(2), high + 1, 10, usize::MAX).unwrap().unwrap();
    let gap = Rejection::StreamGap { first: high + 1, next: 1 };
    check_refused(&mut pair.shards[1], "it was not agreed", Command::Deliver(run.clone()), gap);
    pair.agree(1, high - 1);
    let gap = Rejection::StreamGap { first: high + 1, next: high };
    check_refused(&mut pair.shards[1], "claims are not told yet", Command::Deliver(run), gap);
    assert_eq!(pair.shards[1].one(Command::Deliver(late)), Outcome::Delivered { high: high - 1 });
    assert_eq!(pair.shards[1].machine.counters().tentative, 2, "the late run was dropped");
    let (orders, _) = pair.scan(0, Some((before, when)));
    assert_eq!(orders.len(), 1, "the second order's keep is in the stream itself");
    pair.shards[0].one(Command::Claims(Claims { to: GroupId(2), before, orders }));
    pair.agree(1, high);
    let old = Rejection::StreamGap { first: high - 1, next: high + 1 };
    check_refused(&mut pair.shards[1], "an older consent", Command::Agree { from: GroupId(1), high: high - 1 }, old);
    pair.check_whole();
    assert_eq!(pair.buckets(1), [10, 3, 0, 0]);
    for command in [
        Command::Agree { from: GroupId(1), high: 1 },
        Command::Restart(Restart { streams: vec![(GroupId(1), 0)] }),
        Command::Claims(Claims { to: GroupId(1), before, orders: Vec::new() }),
    ] {
        check_refused(&mut pair.shards[0], "with itself", command, Rejection::WrongShard);
    }
}

#[test]
fn an_attempt_that_is_claimed_counts_as_placed_until_that_is_told() {
    let mut pair = Pair::new(10);
    let order = pair.order(0, 1, Terms::Prepaid).unwrap();
    let attempt = pair.shards[0].order(order).attempt;
    let copy = pair.shards[1].log.len();
    pair.settle();
    pair.roll_back(1, copy);
    assert_eq!(pair.shards[0].machine.placed(attempt), None, "its keep was told");
    pair.reconcile(|_| {});
    assert_eq!(pair.shards[0].machine.placed(attempt), Some(order), "rules 14 and 16");
    pair.check_whole();
    assert_eq!(pair.shards[0].machine.placed(attempt), None);
}

#[test]
fn a_restart_counts_above_whatever_an_earlier_term_has_sent() {
    let mut pair = Pair::new(10);
    let (first, ..) = pair.restart(0, 0);
    let (again, ..) = pair.restart(0, first + 7);
    assert!(again > first + 8);
    pair.shards[0].term += 1;
    let (later, ..) = pair.restart(0, 0);
    assert!(later > 2 << 32 && again < 2 << 32, "{again} {later}");
}

/// One drawn step: what to do and three numbers to choose with.
type Step = [u16; 4];

fn play(pair: &mut Pair, [what, a, b, c]: Step) {
    let at = usize::from(a % 2);
    let order = (!pair.orders.is_empty()).then(|| pair.orders[usize::from(b) % pair.orders.len().max(1)]);
    let units = u64::from(c % 3 + 1);
    match (what % 10, order) {
        (0..=2, _) => {
            let terms = if c % 2 == 0 { Terms::Prepaid } else { Terms::Invoice };
            pair.order(at, units, terms);
        }
        (3, Some((at, order))) => pair.act(at, order, pay(Money(100 * units as i64))),
        (4, Some((at, order))) => {
            let lines = if c % 2 == 0 { Vec::new() } else { vec![(1, Quantity(1))] };
            pair.act(at, order, OrderAction::Cancel { reason: CancelReason::User, note: None, lines });
        }
        (5, Some((at, order))) => {
            let lines = vec![(1, Quantity(units))];
            pair.act(at, order, OrderAction::Pick { lines, warehouse: WarehouseId::default() });
        }
        (6, Some((at, order))) => {
            let fulfilment = FulfilmentId { order, number: u32::from(c % 2) + 1 };
            pair.act(at, order, OrderAction::Ship { fulfilment, carrier: None, tracking: None });
        }
        (7, _) => {
            let now = pair.shards[at].now.after(Duration::from_millis(u64::from(c)));
            pair.shards.iter_mut().for_each(|shard| shard.now = now.max(shard.now));
        }
        (8, _) => pair.carry(at),
        (9, _) => pair.settle(),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is lost of two shards, and whatever goes on meanwhile: the laws hold afterwards.
    #[test]
    fn whatever_is_lost_the_laws_hold_afterwards(
        before in prop::collection::vec(any::<Step>(), 0..25),
        lost in prop::collection::vec(any::<Step>(), 0..25),
        meanwhile in prop::collection::vec(any::<Step>(), 0..8),
        which in 1_u8..4,
    ) {
        let mut pair = Pair::new(12);
        before.into_iter().for_each(|step| play(&mut pair, step));
        let copies = [0, 1].map(|at| pair.shards[at].log.len());
        let known = pair.orders.clone();
        lost.into_iter().for_each(|step| play(&mut pair, step));
        for at in (0..2).filter(|at| which & (1 << at) != 0) {
            pair.roll_back(at, copies[at]);
            pair.orders.retain(|order| order.0 != at || known.contains(order));
        }
        // The streams are not carried meanwhile: they are stopped.
        let steps: Vec<_> = meanwhile.into_iter().filter(|step| step[0] % 10 < 8).collect();
        pair.reconcile(|pair| steps.iter().for_each(|step| play(pair, *step)));
        pair.check_whole();
    }
}

#[test]
fn a_claim_that_meets_nothing_is_a_shortfall() {
    let (mut pair, unknown) = (Pair::new(1), SkuId::new("unknown").unwrap());
    let attempt = AttemptId { slot: pair.users[0].slot(), group: GroupId(1), term: 1, counter: 99 };
    let order = OrderId::new(at(0), pair.users[0].slot(), 3);
    let claimed = |sku: &SkuId| crate::reconcile::Claimed { sku: sku.clone(), counted: Quantity(2), shipped: Quantity(9) };
    let items = vec![claimed(&pair.skus[1]), claimed(&unknown)];
    let claim = Message::Claim { attempt, order, committed: true, items };
    let run = Deliver { from: GroupId(1), first: 1, messages: vec![claim] };
    pair.shards[1].one(Command::Deliver(run));
    assert_eq!(pair.buckets(1), [1, 0, 1, 0], "what is there is taken");
    let missing: Vec<_> = run_between(&pair.shards[1], &pair.shards[0]).unwrap().messages;
    let short = |sku: &SkuId, missing| Message::Shortfall { order, sku: sku.clone(), missing: Quantity(missing) };
    assert_eq!(missing, [short(&pair.skus[1], 1), short(&unknown, 2)], "rule 18");
    pair.shards[1].machine.check();
}

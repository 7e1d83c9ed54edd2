//! Random histories of one order against an oracle that knows lifecycle.md and shares no code with the order: it moves units
//! one by one, adds money up from a plain ledger, and keeps the stock and the timers that the order's effects speak of.
//! After every step the order must look as the oracle says; a refused step must have changed nothing.

mod order_oracle;

use std::collections::BTreeSet;
use std::time::Duration;

use bincode::config::standard;
use ordergrid_domain::command::{OrderAction, OrderRequest, PaymentTold, RefundAsked};
use ordergrid_domain::order::{
    CancelReason, Effects, LineRequest, Operator, Order, PaymentState, RefundState, Terms, TimerKind,
};
use ordergrid_domain::{
    AttemptId, Currency, FulfilmentId, GroupId, Key, Money, OrderId, ProviderPaymentId, Quantity, RefundId, SkuId, Timestamp,
    UserId, WarehouseId,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use order_oracle::Oracle;

/// What somebody tries. Numbers are taken as they are, so that many tries are nonsense.
#[derive(Clone, Debug)]
enum Try {
    Pay { id: u8, state: PaymentState, amount: Amount, euros: bool },
    Cancel { reason: CancelReason, lines: Vec<(u32, u64)> },
    Pick { lines: Vec<(u32, u64)> },
    Ship(u32),
    Unpick(u32),
    Deliver(u32),
    Complete,
    RefundAmount(Amount),
    RefundLines { lines: Vec<(u32, u64)>, carriage: i64, amount: Option<i64> },
    RefundEnds { number: u32, state: RefundState },
    Deadline,
    Clock,
    Shortfall { sku: usize, missing: u64 },
}

/// An amount, in terms of the order as it is when the step comes.
#[derive(Clone, Copy, Debug)]
enum Amount {
    /// What is due.
    Due,
    /// What the payment of that id was known with.
    Known,
    /// Just this.
    Plain(i64),
}

const SKUS: [&str; 3] = ["A", "BANK CHARGES", "c"];
const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn sku(at: usize) -> SkuId {
    SkuId::new(SKUS[at]).expect("valid")
}

fn a_line() -> impl Strategy<Value = LineRequest> {
    let price = prop::sample::select(vec![0, 1, 7, 100, 255]);
    (0..SKUS.len(), 1..6u64, price, 0..4i64, 0..9i64).prop_map(|(id, quantity, unit_price, off, tax)| LineRequest {
        sku: sku(id),
        quantity: Quantity(quantity),
        unit_price: Money(unit_price),
        discount: Money(off.min(unit_price * quantity as i64)),
        tax: Money(tax / 3),
    })
}

fn a_request() -> impl Strategy<Value = OrderRequest> {
    let terms = prop_oneof![5 => Just(Terms::Prepaid), 1 => Just(Terms::OnDelivery), 1 => Just(Terms::Invoice)];
    (prop::collection::vec(a_line(), 1..5), 0..200i64, 0..60i64, terms).prop_map(|(lines, off, shipping_fee, terms)| {
        let sum: i64 = lines.iter().map(order_oracle::amount).sum();
        OrderRequest {
            user: UserId::new("17850").expect("valid"),
            key: Key::new("k").expect("valid"),
            body_hash: 0,
            reference: None,
            currency: Currency::new("GBP").expect("valid"),
            lines,
            discount: Money((off - 100).clamp(0, sum)),
            shipping_fee: Money((shipping_fee - 20).max(0)),
            total: None,
            terms,
            payment_method: None,
            payment_window: Duration::from_secs(900),
            ship_to: None,
            metadata: Vec::new(),
        }
    })
}

fn some_lines() -> impl Strategy<Value = Vec<(u32, u64)>> {
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec((1..4u32, 1..3u64), 1..3), 1 => prop::collection::vec((0..7u32, 0..8u64), 1..4)]
}

fn an_amount() -> impl Strategy<Value = Amount> {
    prop_oneof![4 => Just(Amount::Due), 3 => Just(Amount::Known), 3 => (-1..600i64).prop_map(Amount::Plain)]
}

fn a_try() -> impl Strategy<Value = Try> {
    use PaymentState::{
        Authorized, CaptureFailed, Captured, DisputeLost, DisputeWon, Disputed, Expired, Failed, Processing, Voided,
    };
    let state = prop_oneof![
        18 => Just(Captured),
        9 => Just(Authorized),
        6 => Just(Processing),
        3 => Just(Failed),
        3 => Just(Voided),
        1 => Just(Expired),
        1 => Just(CaptureFailed),
        2 => Just(Disputed),
        1 => Just(DisputeWon),
        1 => Just(DisputeLost),
    ];
    let reason = prop::sample::select(vec![
        CancelReason::User,
        CancelReason::User,
        CancelReason::Merchant,
        CancelReason::Risk,
        CancelReason::Timeout,
        CancelReason::Shortfall,
    ]);
    let outcome =
        prop::sample::select(vec![RefundState::Requested, RefundState::Succeeded, RefundState::Failed, RefundState::Failed]);
    prop_oneof![
        12 => (0..4u8, state, an_amount(), prop::bool::weighted(0.05))
            .prop_map(|(id, state, amount, euros)| Try::Pay { id, state, amount, euros }),
        4 => (reason, some_lines()).prop_map(|(reason, lines)| Try::Cancel { reason, lines }),
        10 => some_lines().prop_map(|lines| Try::Pick { lines }),
        10 => (0..5u32).prop_map(Try::Ship),
        3 => (0..5u32).prop_map(Try::Unpick),
        6 => (0..5u32).prop_map(Try::Deliver),
        3 => Just(Try::Complete),
        3 => an_amount().prop_map(Try::RefundAmount),
        4 => (some_lines(), prop_oneof![3 => Just(0), 1 => -1..30i64], prop::option::weighted(0.3, -1..300i64))
            .prop_map(|(lines, carriage, amount)| Try::RefundLines { lines, carriage, amount }),
        6 => (0..5u32, outcome).prop_map(|(number, state)| Try::RefundEnds { number, state }),
        2 => Just(Try::Deadline),
        2 => Just(Try::Clock),
        2 => (0..SKUS.len(), 0..5u64).prop_map(|(sku, missing)| Try::Shortfall { sku, missing }),
    ]
}

fn a_history() -> impl Strategy<Value = Vec<(u64, Try)>> {
    let wait = prop_oneof![10 => Just(0u64), 5 => 1..60u64, 2 => Just(119), 2 => Just(780), 1 => Just(900), 1 => Just(604_800)];
    prop::collection::vec((wait, a_try()), 1..40)
}

fn place(request: &OrderRequest) -> (Order, Effects) {
    request.check().expect("requests are made so that they add up");
    let slot = request.user.slot();
    let attempt = AttemptId { slot, group: GroupId(1), term: 1, counter: 1 };
    Order::place(OrderId::new(START, slot, 3), attempt, request, &[], START)
}

/// What is tried, as it is asked of this order.
fn action(order: &Order, what: &Try) -> Option<(Operator, OrderAction)> {
    let fulfilment = |number| FulfilmentId { order: order.id, number };
    let units = |lines: &[(u32, u64)]| lines.iter().map(|&(line, units)| (line, Quantity(units))).collect();
    let asked = match what {
        Try::Pay { id, state, amount, euros } => {
            let provider_payment_id = ProviderPaymentId::new(format!("pi_{id}")).expect("valid");
            let known = order.payments.iter().find(|payment| payment.provider_payment_id == provider_payment_id);
            let amount = match amount {
                Amount::Due => order.due(),
                Amount::Known => known.map_or(order.total, ordergrid_domain::order::Payment::amount),
                Amount::Plain(amount) => Money(*amount),
            };
            let currency = if *euros { Currency::new("EUR").expect("valid") } else { order.currency };
            (Operator::Provider, OrderAction::Pay(PaymentTold::new(provider_payment_id, *state, amount, currency)))
        }
        Try::Cancel { reason, lines } => {
            (Operator::User, OrderAction::Cancel { reason: *reason, note: None, lines: units(lines) })
        }
        Try::Pick { lines } => {
            (Operator::Merchant, OrderAction::Pick { lines: units(lines), warehouse: WarehouseId::default() })
        }
        Try::Ship(number) => {
            (Operator::Merchant, OrderAction::Ship { fulfilment: fulfilment(*number), carrier: None, tracking: None })
        }
        Try::Unpick(number) => (Operator::Merchant, OrderAction::Unpick { fulfilment: fulfilment(*number) }),
        Try::Deliver(number) => (Operator::Merchant, OrderAction::Deliver { fulfilment: fulfilment(*number) }),
        Try::Complete => (Operator::Merchant, OrderAction::Complete),
        Try::RefundAmount(amount) => {
            let amount = match amount {
                Amount::Due => order.due(),
                Amount::Known => order.kept(),
                Amount::Plain(amount) => Money(*amount),
            };
            (Operator::Merchant, OrderAction::Refund(RefundAsked { amount: Some(amount), ..RefundAsked::default() }))
        }
        Try::RefundLines { lines, carriage, amount } => {
            let (amount, carriage) = (amount.map(Money), Money(*carriage));
            let asked = RefundAsked { amount, lines: units(lines), carriage, ..RefundAsked::default() };
            (Operator::Merchant, OrderAction::Refund(asked))
        }
        Try::RefundEnds { number, state } => {
            let refund = RefundId { order: order.id, number: *number };
            (Operator::Provider, OrderAction::RefundOutcome { refund, state: *state, occurred_at: None })
        }
        Try::Deadline | Try::Clock | Try::Shortfall { .. } => return None,
    };
    Some(asked)
}

/// An order beside its oracle.
struct Trial {
    order: Order,
    oracle: Oracle,
    placed: Order,
}

impl Trial {
    fn new(request: &OrderRequest) -> Self {
        let (order, effects) = place(request);
        let mut oracle = Oracle::new(request, START);
        oracle.follow(&effects);
        oracle.check(&order);
        Self { placed: order.clone(), order, oracle }
    }

    /// Does a step on both sides and compares them. Says whether the order took it.
    fn step(&mut self, now: Timestamp, what: &Try) -> bool {
        let before = self.order.clone();
        let taken = match action(&self.order, what) {
            Some((operator, action)) => {
                let expected = self.oracle.command(&action, now);
                let told = self.order.command(operator, &action, now);
                assert_eq!(told.is_ok(), expected, "the oracle says otherwise: {action:?} was answered {told:?} by {before:?}");
                match told {
                    Ok((_, effects)) => {
                        self.oracle.follow(&effects);
                        self.change(&before, &effects);
                        true
                    }
                    Err(_) => {
                        assert_eq!(self.order, before, "refused means unchanged: {action:?}");
                        false
                    }
                }
            }
            None => {
                let effects = match what {
                    Try::Deadline => self.oracle.timer(TimerKind::PaymentDeadline, now, &mut self.order),
                    Try::Clock => self.oracle.timer(TimerKind::AutoComplete, now, &mut self.order),
                    Try::Shortfall { sku: at, missing } => self.oracle.shortfall(&sku(*at), *missing, now, &mut self.order),
                    other => unreachable!("{other:?} is a command"),
                };
                self.oracle.follow(&effects);
                self.change(&before, &effects);
                true
            }
        };
        self.oracle.check(&self.order);
        assert_eq!(self.order.violations(), [], "after {what:?}");
        assert_eq!(self.order.as_placed(), self.placed, "the first answer stays");
        taken
    }

    /// What holds for every change, whatever it was: a version, events that only grow, a time.
    fn change(&self, before: &Order, effects: &Effects) {
        let (order, old) = (&self.order, before.events.len());
        assert_eq!(order.events[..old], before.events, "the past never changes");
        if order == before {
            assert!(effects.stock.is_empty(), "effects without a change: {effects:?}");
            return;
        }
        assert_eq!(order.version, before.version + 1, "one version per change");
        assert!(order.events.len() > old, "a change without an event: {order:?}");
        assert!(order.events[old..].iter().all(|event| event.at == order.updated_at));
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(20_261_120), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    /// And whatever it came to reads back from its bytes.
    #[test]
    fn an_order_does_what_lifecycle_says(request in a_request(), history in a_history()) {
        let mut trial = Trial::new(&request);
        let mut now = START;
        for (wait, what) in &history {
            now = now.after(Duration::from_secs(*wait));
            trial.step(now, what);
        }
        let bytes = bincode::encode_to_vec(&trial.order, standard()).expect("an order encodes");
        let (read, length): (Order, usize) = bincode::decode_from_slice(&bytes, standard()).expect("an order decodes");
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(read, trial.order);
    }

    /// Whatever happened, an order that ends by cancelling gives everything back: units and money.
    #[test]
    fn cancelling_gives_everything_back(request in a_request(), history in a_history()) {
        let mut trial = Trial::new(&request);
        for (_, what) in &history {
            trial.step(START, what);
        }
        let cancel = Try::Cancel { reason: CancelReason::Merchant, lines: Vec::new() };
        if trial.step(START, &cancel) && trial.order.cancel_reason.is_some() {
            prop_assert_eq!(trial.order.holding(), []);
            prop_assert_eq!(trial.order.due(), Money::ZERO);
            let given_back = trial.order.refunds.iter().all(|refund| refund.state != RefundState::Failed);
            prop_assert!(!given_back || trial.order.kept() <= Money::ZERO);
        }
    }

    /// However an order is cancelled bit by bit, the shares of the bits add up to what was paid.
    #[test]
    fn shares_of_parts_add_up(request in a_request(), bits in prop::collection::vec((1..5u32, 1..4u64), 0..30)) {
        let mut trial = Trial::new(&request);
        let paid = Try::Pay { id: 0, state: PaymentState::Captured, amount: Amount::Due, euros: false };
        trial.step(START, &paid);
        for bit in bits {
            trial.step(START, &Try::Cancel { reason: CancelReason::User, lines: vec![bit] });
        }
        trial.step(START, &Try::Cancel { reason: CancelReason::User, lines: Vec::new() });
        prop_assert_eq!(trial.order.refunded(), trial.order.captured());
        let whole: i64 = trial.order.refunds.iter().map(|refund| refund.amount.0).sum();
        prop_assert_eq!(Money(whole), if trial.order.payments.is_empty() { Money::ZERO } else { trial.order.total });
    }
}

/// The histories above are worth something only if they get about.
#[test]
fn histories_reach_every_word_and_every_step_both_ways() {
    let mut runner = TestRunner::new(config(1));
    let (mut statuses, mut payments, mut steps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..300 {
        let tree = (a_request(), a_history()).new_tree(&mut runner).expect("nothing is filtered");
        let (request, history) = tree.current();
        let mut trial = Trial::new(&request);
        let mut now = START;
        for (wait, what) in &history {
            now = now.after(Duration::from_secs(*wait));
            let before = trial.order.version;
            trial.step(now, what);
            statuses.insert(trial.order.status());
            payments.insert(trial.order.payment_status());
            steps.insert((kind(what), trial.order.version > before));
        }
    }
    assert_eq!((statuses.len(), payments.len()), (9, 7), "{statuses:?} {payments:?}");
    assert_eq!(steps.len(), 2 * 13, "{steps:?}");
}

fn kind(what: &Try) -> String {
    let words = format!("{what:?}");
    words.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default().to_owned()
}

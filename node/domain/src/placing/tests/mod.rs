//! Tests of the placing protocol, named after its rules. Here is what they share: a leader of shard 1 of 3, a memory, and effects
//! as text.
//!
//! SKUs are named by shard and number: `1a` and `1b` live in shard 1, `2a` and `2b` in shard 2. Attempts are named by their
//! counter, callers by the number of their request.

mod leader;
mod orders;
mod proposed;
mod sku;

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::command::{Command, OrderRequest, Release};
use crate::ids::{AttemptId, GroupId, Key, SkuId, UserId};
use crate::machine::tests::{Shard, at, key, request, sku_of, text, user_of};
use crate::machine::{Lookup, PlacedKey, ShardMachine, SlotOwners};
use crate::money::Quantity;
use crate::rejection::Rejection;

const TERM: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(2);

/// The way back to a leader, and the attempts that were lost on it.
#[derive(Clone, Default)]
struct Door(Rc<RefCell<Vec<AttemptOver>>>);

impl Front for Door {
    type Caller = usize;

    fn lost(&self, over: AttemptOver) {
        self.0.borrow_mut().push(over);
    }
}

/// What a leader knows of its shard.
struct Known {
    shard: Shard,
    at_rest: bool,
    cold: bool,
    lease: bool,
}

impl Memory for Known {
    fn machine_at_rest(&self) -> Option<impl Deref<Target = ShardMachine>> {
        self.at_rest.then_some(&self.shard.machine)
    }

    fn machine(&self) -> impl Deref<Target = ShardMachine> {
        &self.shard.machine
    }

    fn key_record(&self, machine: &ShardMachine, user: &UserId, key: &Key) -> Lookup<PlacedKey> {
        if self.cold { Lookup::Cold(Vec::new()) } else { machine.key_record(user, key) }
    }

    fn has_lease(&self) -> bool {
        self.lease
    }
}

/// A leader and what it works with.
struct Stage {
    leader: Leader<Door>,
    door: Door,
    known: Known,
    calls: usize,
}

fn settings(term: u64) -> LeaderSettings {
    let owners = SlotOwners::even(&[1, 2, 3].map(GroupId));
    let (shard, hold_validity) = (GroupId(1), Duration::from_secs(10));
    LeaderSettings { shard, term, owners, running: 3, waiting_per_key: 2, renewals: 2, hold_validity }
}

impl Stage {
    /// SKU `1a` has 5 units, `1b` one.
    fn new() -> Self {
        let mut shard = Shard::of(1, 3);
        shard.stocked(0, 5);
        shard.stocked(1, 1);
        let door = Door::default();
        let known = Known { shard, at_rest: true, cold: false, lease: true };
        Self { leader: Leader::new(settings(TERM), door.clone()), door, known, calls: 0 }
    }

    /// The next request, of the first user of shard 1: `1a*2 2a*1`.
    fn request(&self, key: &str, lines: &str) -> OrderRequest {
        let lines: Vec<_> = lines.split_whitespace().map(|line| line.split_once('*').unwrap()).collect();
        let lines: Vec<_> = lines.into_iter().map(|(name, units)| (sku(name), units.parse().unwrap())).collect();
        let lines: Vec<_> = lines.iter().map(|(sku, units)| (sku, *units)).collect();
        request(&user_of(&self.known.shard.machine, 0), key, &lines)
    }

    /// A client asks for an order.
    fn ask(&mut self, key: &str, lines: &str) -> Vec<LeaderEffect<Door>> {
        let call = self.leader.call(self.request(key, lines).into(), self.calls);
        self.calls += 1;
        self.place(call)
    }

    fn place(&mut self, call: PlaceCall<usize>) -> Vec<LeaderEffect<Door>> {
        let mut effects = Vec::new();
        self.leader.place(call, &self.known, at(0), &mut effects);
        effects
    }

    /// Starts what has begun, and says what it asks for.
    fn start(&mut self) -> (Orders<Door>, Vec<OrdersEffect<Door>>) {
        let mut effects = Vec::new();
        let orders = Orders::start(self.leader.take_starting(), PATIENCE, &mut effects);
        (orders, effects)
    }

    /// A client asks for an order of SKUs of other shards.
    fn orders(&mut self, key: &str, lines: &str) -> Orders<Door> {
        assert_eq!(told(self.ask(key, lines)), "");
        self.start().0
    }

    /// A client asks for an order, and its place is proposed.
    fn proposed(&mut self, key: &str) -> Proposed<Door> {
        let mut orders = self.orders(key, "1a*1 2a*1");
        let counter = orders.attempts().next().unwrap().counter;
        let mut effects = Vec::new();
        orders.held([held(counter, 1, "granted"), held(counter, 2, "granted")], &mut effects);
        match effects.pop() {
            Some(OrdersEffect::Propose(Command::Place(_), proposed)) => proposed,
            _ => panic!("every hold is granted"),
        }
    }

    fn over(&mut self, over: AttemptOver) -> String {
        let mut effects = Vec::new();
        self.leader.over(over, &mut effects);
        told(effects)
    }

    /// Tells the leader of attempts that were lost.
    fn lost(&mut self) -> String {
        let lost = std::mem::take(&mut *self.door.0.borrow_mut());
        lost.into_iter().map(|over| self.over(over)).collect()
    }

    /// A key is busy: the next request waits for it.
    fn is_busy(&mut self, key: &str) -> bool {
        let before = self.leader.running();
        let nothing = self.ask(key, "1a*1 2a*1").is_empty();
        nothing && self.leader.running() == before
    }
}

fn sku(name: &str) -> SkuId {
    let (shard, letter) = (name[..1].parse().unwrap(), name.as_bytes()[1]);
    sku_of(&Shard::of(shard, 3).machine, usize::from(letter - b'a'))
}

fn name_of(id: &SkuId) -> String {
    let names = ["1a", "1b", "2a", "2b", "3a", "3b"];
    (*names.iter().find(|name| sku(name) == *id).expect("a SKU of the tests")).to_owned()
}

fn attempt(counter: u64) -> AttemptId {
    let user = user_of(&Shard::of(1, 3).machine, 0);
    AttemptId { slot: user.slot(), group: GroupId(1), term: TERM, counter }
}

fn short(name: &str) -> Rejection {
    Rejection::OutOfStock { sku: sku(name), asked: Quantity(2), available: Quantity(1) }
}

fn late(ms: u64) -> Rejection {
    Rejection::HoldExpired { valid_until: at(0), now: at(ms) }
}

/// One result: `granted`, `unknown`, `no-leader`, `overloaded`, `ended`, `late 9000`, `short 2a`, `no-sku 2a`.
fn result(words: &str) -> HoldResult {
    match words.split_whitespace().collect::<Vec<_>>()[..] {
        ["granted"] => HoldResult::Granted(text("lamp")),
        ["unknown"] => HoldResult::Unknown,
        ["no-leader"] => HoldResult::NoLeader,
        ["overloaded"] => HoldResult::Overloaded,
        ["ended"] => HoldResult::Refused(Rejection::HoldEnded),
        ["late", ms] => HoldResult::Refused(late(ms.parse().unwrap())),
        ["short", name] => HoldResult::Refused(short(name)),
        ["no-sku", name] => HoldResult::Refused(Rejection::NoSuchSku(sku(name))),
        _ => panic!("{words:?} is no result"),
    }
}

/// Results with commas between.
fn results(words: &str) -> Vec<HoldResult> {
    words.split(',').map(str::trim).filter(|words| !words.is_empty()).map(result).collect()
}

fn held(counter: u64, shard: u32, words: &str) -> Held {
    Held { shard: GroupId(shard), results: results(words).into_iter().map(|result| (counter, result)).collect() }
}

fn shown(rejection: &Rejection) -> String {
    match rejection {
        Rejection::OutOfStock { sku, .. } => format!("short {}", name_of(sku)),
        Rejection::OutOfStocks(several) => {
            format!("short {}", several.iter().map(|(sku, ..)| name_of(sku)).collect::<Vec<_>>().join("+"))
        }
        Rejection::NoSuchSku(sku) => format!("no-sku {}", name_of(sku)),
        other => format!("{other:?}"),
    }
}

fn released(shard: GroupId, release: &Release) -> String {
    let skus = release.skus.iter().map(name_of).collect::<Vec<_>>().join("+");
    assert_eq!(release.valid_until, at(10_000), "a release carries the valid-until of its holds (rule 10)");
    format!("release {}: {} {skus}", shard.0, release.attempt.counter)
}

fn proposes(command: &Command) -> String {
    match command {
        Command::Place(place) => format!("place {}", place.attempt.counter),
        Command::PlaceLocal(place) => format!("place-local {}", place.attempt.counter),
        other => panic!("a leader does not propose {other:?}"),
    }
}

/// Effects of a leader, with semicolons between.
fn told(effects: Vec<LeaderEffect<Door>>) -> String {
    let show = |effect: LeaderEffect<Door>| match effect {
        LeaderEffect::Answer { caller, answer } => format!("answer {caller} {answer:?}"),
        LeaderEffect::SoldOut { rejection, caller, .. } => format!("look-and-refuse {caller} {}", shown(&rejection)),
        LeaderEffect::Replay { caller, .. } => format!("replay {caller}"),
        LeaderEffect::LoadKey { key, .. } => format!("load {key}"),
        LeaderEffect::Propose(command, _) => proposes(&command),
        LeaderEffect::Again(call) => format!("again {}", call.caller),
    };
    effects.into_iter().map(show).collect::<Vec<_>>().join("; ")
}

/// Effects of orders, with semicolons between.
fn asked(effects: Vec<OrdersEffect<Door>>) -> String {
    let show = |effect: OrdersEffect<Door>| match effect {
        OrdersEffect::Hold { shard, holds } => {
            assert_eq!(holds.valid_until, at(10_000));
            assert!(holds.each().all(|hold| hold.attempt == attempt(hold.attempt.counter)), "{holds:?}");
            let attempts = holds.rows.chunk_by(|row, next| row.counter == next.counter).map(|rows| {
                let items: Vec<_> = rows.iter().map(|row| format!("{}*{}", name_of(&row.sku), row.quantity.0)).collect();
                format!("{} {}", rows[0].counter, items.join("+"))
            });
            format!("hold {}: {}", shard.0, attempts.collect::<Vec<_>>().join(", "))
        }
        OrdersEffect::AskAgain => "ask-again".to_owned(),
        OrdersEffect::Propose(command, _) => proposes(&command),
        OrdersEffect::Release { shard, release } => released(shard, &release),
        OrdersEffect::Over(_, over) => format!("over {}", over.attempt.counter),
        OrdersEffect::Renew(_, over, call) => {
            let base = call.base.map(|base| base.since(at(0)).as_millis());
            format!("renew {}: {} from {base:?}, {} left", over.attempt.counter, call.caller, call.renewals)
        }
        OrdersEffect::Refuse { rejection, caller, .. } => format!("look-and-refuse {caller} {}", shown(&rejection)),
        OrdersEffect::Answer { caller, answer } => format!("answer {caller} {answer:?}"),
    };
    effects.into_iter().map(show).collect::<Vec<_>>().join("; ")
}

//! Drives the product's own leaders (`ordergrid_domain::placing`): carries out what they say, over a network that loses and a
//! log whose answers may not be heard. A deposed leader goes on answering what it began, and can no longer place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use ordergrid_domain::command::{Holds, OrderRequest};
use ordergrid_domain::machine::{HOLD_VALIDITY, PlacedKey};
use ordergrid_domain::placing::{
    AttemptOver, Decided, Front, Held, HoldResult, Leader, LeaderEffect, LeaderSettings, Memory, NotLanded, NotPlaced, Orders,
    OrdersEffect, Over, PlaceCall, Proposed,
};
use ordergrid_domain::{Command, GroupId, Key, Lookup, OrderId, Rejection, ShardMachine, SlotOwners, Timestamp, UserId};

use crate::domain::Violation;
use crate::domain::workload::Mutant;
use crate::domain::world::{Back, Knows, Letter, World};

/// How long shards that cannot be reached are asked for holds again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Callers that were dropped without an answer: which client, and which of its tries.
pub type Unanswered = Rc<RefCell<Vec<(usize, u32)>>>;

/// A client that waits for the answer to one of its tries.
#[derive(Debug)]
pub struct Caller {
    client: usize,
    tries: u32,
    told: bool,
    unanswered: Unanswered,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.told {
            self.unanswered.borrow_mut().push((self.client, self.tries));
        }
    }
}

/// The way back to a leader: attempts that were lost on the way.
#[derive(Clone, Debug, Default)]
pub struct Door(Rc<RefCell<Vec<AttemptOver>>>);

impl Door {
    /// Attempts that were lost since the last look.
    pub(super) fn lost(&self) -> Vec<AttemptOver> {
        std::mem::take(&mut *self.0.borrow_mut())
    }
}

impl Front for Door {
    type Caller = Caller;

    fn lost(&self, over: AttemptOver) {
        self.0.borrow_mut().push(over);
    }
}

/// A leader of one term, with the orders that wait for holds.
pub struct Leading {
    /// Its term.
    pub term: u64,
    pub(super) leader: Leader<Door>,
    pub(super) door: Door,
    pub(super) working: Vec<Working>,
    /// Keys whose records are being loaded.
    loading: Vec<(UserId, Key)>,
}

/// Orders that came together.
pub(super) struct Working {
    pub(super) orders: Orders<Door>,
    /// When they began, in milliseconds.
    pub(super) since: u64,
    /// They want to ask shards again.
    pub(super) again: bool,
    /// Calls for holds without an answer, by number: of which shard, and for each hold the number of its attempt.
    pub(super) awaited: BTreeMap<u64, (GroupId, Vec<u64>)>,
}

/// What a leader knows of its shard without the log.
struct Known<'a> {
    machine: &'a ShardMachine,
    /// It sees nothing that came just before.
    early: bool,
    /// The store may have the record of the key.
    cold: bool,
    lease: bool,
}

impl Memory for Known<'_> {
    fn machine_at_rest(&self) -> Option<impl Deref<Target = ShardMachine>> {
        self.early.then_some(self.machine)
    }

    fn machine(&self) -> impl Deref<Target = ShardMachine> {
        self.machine
    }

    fn key_record(&self, machine: &ShardMachine, user: &UserId, key: &Key) -> Lookup<PlacedKey> {
        match (self.early, self.cold) {
            (false, _) => Lookup::Absent,
            (true, true) => Lookup::Cold(Vec::new()),
            (true, false) => machine.key_record(user, key),
        }
    }

    fn has_lease(&self) -> bool {
        self.lease
    }
}

impl fmt::Debug for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (term, running, loading) = (self.term, self.leader.running(), &self.loading);
        write!(f, "term {term}: {running} run, {loading:?} load")?;
        for Working { orders, since, again, awaited } in &self.working {
            let attempts: Vec<_> = orders.attempts().collect();
            write!(f, ", {attempts:?} since {since}, again: {again}, awaited: {awaited:?}")?;
        }
        Ok(())
    }
}

impl Leading {
    /// A new leader: nothing runs.
    #[must_use]
    pub fn new(shard: GroupId, term: u64, owners: SlotOwners) -> Self {
        let settings = LeaderSettings {
            shard,
            term,
            owners,
            running: 1_000,
            waiting_per_key: 8,
            renewals: 2,
            hold_validity: HOLD_VALIDITY,
        };
        let door = Door::default();
        Self { term, leader: Leader::new(settings, door.clone()), door, working: Vec::new(), loading: Vec::new() }
    }

    /// The leader itself.
    #[must_use]
    pub fn leader(&self) -> &Leader<Door> {
        &self.leader
    }

    /// Nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.leader.running() == 0 && self.working.is_empty() && self.loading.is_empty()
    }
}

impl World {
    /// A client asks the leader of its shard.
    ///
    /// # Errors
    /// A violation.
    pub fn ask_to_place(&mut self, client: usize) -> Result<(), Violation> {
        let asking = &mut self.clients[client];
        asking.tries += 1;
        asking.knows = Knows::Running;
        let (request, tries) = (asking.request.clone(), asking.tries);
        if tries > 1 {
            self.counts.note("key retried");
        }
        let shard = self.home(request.user.slot());
        let caller = Caller { client, tries, told: false, unanswered: Rc::clone(&self.unanswered) };
        let leading = &self.shards[shard].leader;
        let (back, call) = (Back { shard, term: leading.term }, leading.leader.call(request.into(), caller));
        self.place(back, call)?;
        // What comes meanwhile may come along.
        if self.faulty && self.dice.percent(30) { Ok(()) } else { self.start_all(back) }
    }

    fn place(&mut self, back: Back, call: PlaceCall<Caller>) -> Result<(), Violation> {
        self.lead(back, |leader, known, now, effects| leader.place(call, known, now, effects))
    }

    /// Tells a leader something, with what it knows at the time, and carries out what it says.
    fn lead(
        &mut self,
        back: Back,
        input: impl FnOnce(&mut Leader<Door>, &Known<'_>, Timestamp, &mut Vec<LeaderEffect<Door>>),
    ) -> Result<(), Violation> {
        let early = !self.faulty || self.dice.percent(60);
        let cold = self.faulty && self.dice.percent(5);
        let (now, lease) = (self.clock(back.shard), self.plan.lease && !self.is_deposed(back));
        let it = &mut self.shards[back.shard];
        let Some(leading) = find(&mut it.leader, &mut it.deposed, back.term) else { return Ok(()) };
        let mut effects = Vec::new();
        input(&mut leading.leader, &Known { machine: &it.plain, early, cold, lease }, now, &mut effects);
        if effects.is_empty() && !leading.leader.has_starting() {
            self.counts.note("key waited for");
        }
        self.carry_out(back, effects)?;
        // Without faults nothing lies about.
        if self.faulty { Ok(()) } else { self.start_all(back) }
    }

    fn carry_out(&mut self, back: Back, effects: Vec<LeaderEffect<Door>>) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                LeaderEffect::Answer { caller, answer } => self.tell(caller, Err(answer)),
                LeaderEffect::SoldOut { request, rejection, caller } => self.refuse(back, &request, rejection, caller),
                LeaderEffect::Replay { request, caller } => self.refuse(back, &request, Rejection::HoldEnded, caller),
                LeaderEffect::LoadKey { user, key } => {
                    self.counts.note("key loaded");
                    self.find(back).expect("it was just heard").loading.push((user, key));
                }
                LeaderEffect::Propose(command, proposed) => self.propose(back, command, proposed)?,
                LeaderEffect::Again(call) => self.place(back, call)?,
            }
        }
        self.take_note();
        self.go_if_quiet(back)
    }

    /// Rule 6: before a refusal, look the key up again. A deposed leader gets no barrier.
    fn refuse(&mut self, back: Back, request: &OrderRequest, rejection: Rejection, caller: Caller) {
        let first = self.shards[back.shard].plain.key_record(&request.user, &request.key);
        let answer = match first {
            _ if self.is_deposed(back) => Err(NotPlaced::NoLeader),
            Lookup::Found(first) if first.body_hash == request.body_hash => Ok(first.order),
            Lookup::Found(_) => Err(Rejection::KeyReused.into()),
            _ => Err(rejection.into()),
        };
        self.tell(caller, answer);
    }

    /// Starts what has begun at a leader: orders that need other shards, and records of keys that are there by now.
    ///
    /// # Errors
    /// A violation.
    pub fn start_all(&mut self, back: Back) -> Result<(), Violation> {
        let since = self.now;
        let Some(leading) = self.find(back) else { return Ok(()) };
        let mut effects = Vec::new();
        for (user, key) in std::mem::take(&mut leading.loading) {
            leading.leader.key_loaded(&user, &key, &mut effects);
        }
        let (attempts, mut asks) = (leading.leader.take_starting(), Vec::new());
        if !attempts.is_empty() {
            let orders = Orders::start(attempts, PATIENCE, &mut asks);
            leading.working.push(Working { orders, since, again: false, awaited: BTreeMap::new() });
            let at = leading.working.len() - 1;
            self.carry_out_for_orders(back, at, asks)?;
        }
        self.carry_out(back, effects)
    }

    /// Carries out what some orders of a leader say.
    pub(super) fn carry_out_for_orders(
        &mut self,
        back: Back,
        at: usize,
        effects: Vec<OrdersEffect<Door>>,
    ) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                OrdersEffect::Hold { shard, holds } => self.ask_for_holds(back, at, shard, holds),
                OrdersEffect::AskAgain => self.find(back).expect("it asks").working[at].again = true,
                OrdersEffect::Propose(command, proposed) => self.propose(back, command, proposed)?,
                OrdersEffect::Release { shard, release } => self.letters.push(Letter::Release(shard, release)),
                OrdersEffect::Over(_, over) => self.over(back, over)?,
                OrdersEffect::Renew(_, over, call) => {
                    self.counts.note("attempt taken anew");
                    self.lead(back, |leader, known, now, effects| leader.renew(over, call, known, now, effects))?;
                }
                OrdersEffect::Refuse { request, rejection, caller } => self.refuse(back, &request, rejection, caller),
                OrdersEffect::Answer { caller, answer } => self.tell(caller, Err(answer)),
            }
        }
        self.take_note();
        Ok(())
    }

    /// Asks a shard for holds. Attempts that have to wait there are answered apart: as if they were asked for apart.
    fn ask_for_holds(&mut self, back: Back, at: usize, shard: GroupId, holds: Holds) {
        let several = holds.rows.first().map(|row| row.counter) != holds.rows.last().map(|row| row.counter);
        if several {
            self.counts.note("holds of several orders asked for together");
        }
        let apart = several && self.faulty && self.dice.percent(20);
        let parts: Vec<Holds> = if apart {
            let attempts = holds.rows.chunk_by(|row, next| row.counter == next.counter);
            attempts.map(|rows| Holds { rows: rows.to_vec(), ..holds.clone() }).collect()
        } else {
            vec![holds]
        };
        for holds in parts {
            self.calls += 1;
            let (call, attempts) = (self.calls, holds.rows.iter().map(|row| row.counter).collect());
            self.find(back).expect("it asks").working[at].awaited.insert(call, (shard, attempts));
            self.letters.push(Letter::Hold(back, call, shard, holds));
        }
    }

    /// The order's leader, deposed or not, hears what became of holds. A call is answered once.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_held(&mut self, back: Back, call: u64, results: Vec<HoldResult>) -> Result<(), Violation> {
        let Some(leading) = self.find(back) else { return Ok(()) };
        let asking = leading.working.iter_mut().enumerate().find(|(_, working)| working.awaited.contains_key(&call));
        let Some((at, working)) = asking else { return Ok(()) };
        let (shard, attempts) = working.awaited.remove(&call).expect("it was just found");
        let mut effects = Vec::new();
        let results = attempts.into_iter().zip(results).collect();
        working.orders.held([Held { shard, results }], &mut effects);
        self.carry_out_for_orders(back, at, effects)?;
        self.sweep(back);
        Ok(())
    }

    /// Orders that are decided go.
    pub(super) fn sweep(&mut self, back: Back) {
        if let Some(leading) = self.find(back) {
            leading.working.retain(|working| !working.orders.is_empty());
        }
    }

    /// A place goes to the log. One of a deposed leader is fenced with its term, and mostly not appended at all.
    fn propose(&mut self, back: Back, command: Command, proposed: Proposed<Door>) -> Result<(), Violation> {
        let deposed = self.is_deposed(back);
        if deposed && !self.dice.percent(30) {
            self.counts.note("place lost with its leader");
            let why = *self.dice.pick(&[NotLanded::NotAppended, NotLanded::Unknown]);
            return self.not_landed(back, proposed, why);
        }
        let outcome = self.apply(back.shard, vec![command])?.pop();
        if !deposed && self.faulty && self.dice.percent(5) {
            // The leader loses its term before it hears.
            self.counts.note("place applied unheard");
            self.depose(back.shard)?;
            let wrong = self.plan.mutant == Mutant::ReleaseWhenUnknown;
            return self.not_landed(back, proposed, if wrong { NotLanded::NotAppended } else { NotLanded::Unknown });
        }
        let Decided { caller, answer, over } = proposed.landed(outcome.expect("a command has an outcome"));
        self.settle(back, over)?;
        self.tell(caller, answer.map(|placed| placed.order.id));
        Ok(())
    }

    fn not_landed(&mut self, back: Back, proposed: Proposed<Door>, why: NotLanded) -> Result<(), Violation> {
        let Decided { caller, answer, over } = proposed.not_landed(why);
        self.settle(back, over)?;
        self.tell(caller, Err(answer));
        Ok(())
    }

    fn settle(&mut self, back: Back, over: Option<Over<Door>>) -> Result<(), Violation> {
        let Some(Over { over, releases, .. }) = over else { return Ok(()) };
        self.letters.extend(releases.into_iter().map(|(shard, release)| Letter::Release(shard, release)));
        self.over(back, over)
    }

    /// An attempt is over.
    pub(super) fn over(&mut self, back: Back, over: AttemptOver) -> Result<(), Violation> {
        let mut effects = Vec::new();
        if let Some(leading) = self.find(back) {
            leading.leader.over(over, &mut effects);
        }
        self.carry_out(back, effects)
    }

    /// A client hears of one of its tries, unless it has begun another one. The answer may be lost.
    fn tell(&mut self, mut caller: Caller, answer: Result<OrderId, NotPlaced>) {
        caller.told = true;
        if self.clients[caller.client].tries != caller.tries {
            return;
        }
        self.clients[caller.client].knows = match answer {
            Ok(_) if self.faulty && self.dice.percent(10) => {
                self.counts.note("answer of a place lost");
                Knows::Nothing
            }
            Ok(order) => Knows::Placed(order),
            Err(NotPlaced::Rejected(_)) => Knows::Refused,
            Err(NotPlaced::NoLeader | NotPlaced::Overloaded | NotPlaced::HoldTimedOut | NotPlaced::Unknown) => Knows::Nothing,
        };
    }

    /// Clients whose callers were dropped know nothing.
    pub fn take_note(&mut self) {
        for (client, tries) in std::mem::take(&mut *self.unanswered.borrow_mut()) {
            let client = &mut self.clients[client];
            if client.tries == tries && client.knows == Knows::Running {
                client.knows = Knows::Nothing;
            }
        }
    }

    fn is_deposed(&self, back: Back) -> bool {
        self.shards[back.shard].term != back.term
    }

    /// The leader of a term, if it still acts.
    pub(super) fn find(&mut self, back: Back) -> Option<&mut Leading> {
        let it = &mut self.shards[back.shard];
        find(&mut it.leader, &mut it.deposed, back.term)
    }
}

fn find<'a>(leader: &'a mut Leading, deposed: &'a mut [Leading], term: u64) -> Option<&'a mut Leading> {
    std::iter::once(leader).chain(deposed).find(|leader| leader.term == term)
}

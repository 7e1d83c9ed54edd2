//! The front door of a shard for one term: which attempts run, which keys are busy, who waits for them.
//!
//! What it knows cannot be rebuilt. A driver that loses it gives the term up (rule 3).

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::attempt::{AskState, Attempt, AttemptOver, Front, Running, ShardHolds};
use super::effect::{LeaderEffect, NotPlaced, PlaceCall};
use super::memory::Memory;
use super::orphans::Looked;
use super::proposed::{MayHold, Proposed};
use crate::command::{Command, OrderRequest, Place};
use crate::ids::{AttemptId, GroupId, Key, SkuId, Slot, UserId};
use crate::machine::{Lookup, ShardMachine, SlotOwners};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// What one term of one shard is led with.
#[derive(Clone, Debug)]
pub struct LeaderSettings {
    /// Which shard.
    pub shard: GroupId,
    /// Which term: part of every attempt (rule 2).
    pub term: u64,
    /// Which shard owns which slot. Every slot has an owner.
    pub owners: SlotOwners,
    /// Attempts that may run.
    pub running: usize,
    /// Requests that may wait for one idempotency key.
    pub waiting_per_key: usize,
    /// Times an attempt is taken anew after `expired`.
    pub renewals: u8,
    /// How long a hold is valid.
    pub hold_validity: Duration,
}

/// The leader of one shard in one term.
pub struct Leader<F: Front> {
    settings: LeaderSettings,
    front: F,
    next_attempt: u64,
    /// Keys with an attempt that runs (rule 4), or with a record that is being loaded. A running attempt is an entry here, so
    /// that it and its key cannot part.
    busy: BTreeMap<BusyKey, Busy<F>>,
    /// How many attempts run.
    running: usize,
    /// Attempts that need other shards and have not asked for their holds yet. Those that come together share a driver.
    starting: Vec<Attempt<F>>,
    /// When the first of them began: their holds are valid from then on, so that they can be asked for together.
    starting_since: Option<Timestamp>,
    /// Leadership is about to be handed over: no attempt begins.
    leaving: bool,
}

/// A key of a user. The hash of the key decides the order of most, so that few long names are compared.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BusyKey {
    hash: u64,
    user: UserId,
    key: Key,
}

/// Why a key is busy, and who waits for it.
struct Busy<F: Front> {
    /// The number of the attempt that runs; `None` while the key's record is loaded.
    attempt: Option<u64>,
    waiting: Vec<PlaceCall<F::Caller>>,
}

impl BusyKey {
    fn new(user: UserId, key: Key) -> Self {
        Self { hash: xxh3_64(key.as_str().as_bytes()), user, key }
    }
}

impl<F: Front> Leader<F> {
    /// A new term: nothing runs. `front` leads back to this leader.
    #[must_use]
    pub fn new(settings: LeaderSettings, front: F) -> Self {
        let (busy, starting, starting_since) = (BTreeMap::new(), Vec::new(), None);
        Self { settings, front, next_attempt: 1, busy, running: 0, starting, starting_since, leaving: false }
    }

    /// A request to place an order as a client sends it.
    #[must_use]
    pub fn call(&self, request: Arc<OrderRequest>, caller: F::Caller) -> PlaceCall<F::Caller> {
        PlaceCall { request, caller, base: None, renewals: self.settings.renewals }
    }

    /// Places an order of one of this shard's users, or refuses, or lets it wait for its key. `now` is the leader's clock.
    pub fn place(
        &mut self,
        call: PlaceCall<F::Caller>,
        memory: &impl Memory,
        now: Timestamp,
        effects: &mut Vec<LeaderEffect<F>>,
    ) {
        let mut refuse = |caller, answer| effects.push(LeaderEffect::Answer { caller, answer });
        if self.leaving {
            return refuse(call.caller, NotPlaced::NoLeader);
        }
        let (user, key) = (&call.request.user, &call.request.key);
        let free = match self.busy.entry(BusyKey::new(user.clone(), key.clone())) {
            Entry::Occupied(busy) if busy.get().waiting.len() >= self.settings.waiting_per_key => {
                return refuse(call.caller, NotPlaced::Overloaded);
            }
            Entry::Occupied(mut busy) => return busy.get_mut().waiting.push(call),
            Entry::Vacant(free) => free,
        };
        if self.running >= self.settings.running {
            return refuse(call.caller, NotPlaced::Overloaded);
        }
        let local = self.settings.is_local(&call.request);
        match look_ahead(memory, &call.request, local) {
            // Nothing is asked of anybody, so no attempt begins and the key stays free.
            Ahead::SoldOut(rejection) => {
                let PlaceCall { request, caller, .. } = call;
                effects.push(LeaderEffect::SoldOut { request, rejection, caller });
            }
            Ahead::Used => effects.push(LeaderEffect::Replay { request: call.request, caller: call.caller }),
            Ahead::UsedPerhaps => {
                effects.push(LeaderEffect::LoadKey { user: user.clone(), key: key.clone() });
                free.insert(Busy { attempt: None, waiting: vec![call] });
            }
            Ahead::Unknown => {
                free.insert(Busy { attempt: Some(self.next_attempt), waiting: Vec::new() });
                self.begin(call, local, now, effects);
            }
        }
    }

    /// Begins the attempt for which a key was just made busy.
    fn begin(&mut self, call: PlaceCall<F::Caller>, local: bool, now: Timestamp, effects: &mut Vec<LeaderEffect<F>>) {
        let PlaceCall { request, caller, base, renewals } = call;
        let attempt = self.settings.attempt(request.user.slot(), self.next_attempt);
        self.next_attempt += 1;
        self.running += 1;
        let running = Running::new(attempt, request.user.clone(), request.key.clone(), self.front.clone());
        let from = if local { now } else { *self.starting_since.get_or_insert(now) };
        let valid_until = base.map_or(from, |base| base.max(from)).after(self.settings.hold_validity);
        if local {
            effects.push(place_local(request, running, caller, valid_until));
        } else {
            let wanted = self.settings.wanted(&request);
            self.starting.push(Attempt { request, running, caller, wanted, valid_until, renewals });
        }
    }

    /// Attempts wait for [`Self::take_starting`].
    #[must_use]
    pub fn has_starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Attempts that have begun since and need holds of other shards, for [`Orders::start`](super::Orders::start).
    #[must_use]
    pub fn take_starting(&mut self) -> Vec<Attempt<F>> {
        self.starting_since = None;
        std::mem::take(&mut self.starting)
    }

    /// An attempt is over and its key free: whoever waits for the key tries again, in the order of asking.
    pub fn over(&mut self, over: AttemptOver, effects: &mut Vec<LeaderEffect<F>>) {
        let waiting = self.free(BusyKey::new(over.user, over.key), Some(over.attempt.counter));
        effects.extend(waiting.into_iter().map(LeaderEffect::Again));
    }

    /// Holds of an attempt came too late: it is over, and the same is tried once more before whoever waits for the key
    /// (rule 11). Behind them it could be overtaken without end, where each of them is too late in turn.
    pub fn renew(
        &mut self,
        over: AttemptOver,
        call: PlaceCall<F::Caller>,
        memory: &impl Memory,
        now: Timestamp,
        effects: &mut Vec<LeaderEffect<F>>,
    ) {
        let waiting = self.free(BusyKey::new(over.user, over.key), Some(over.attempt.counter));
        self.place(call, memory, now, effects);
        effects.extend(waiting.into_iter().map(LeaderEffect::Again));
    }

    /// The record of a key is in memory, or the knowledge that there is none.
    pub fn key_loaded(&mut self, user: &UserId, key: &Key, effects: &mut Vec<LeaderEffect<F>>) {
        let waiting = self.free(BusyKey::new(user.clone(), key.clone()), None);
        effects.extend(waiting.into_iter().map(LeaderEffect::Again));
    }

    fn free(&mut self, key: BusyKey, attempt: Option<u64>) -> Vec<PlaceCall<F::Caller>> {
        match self.busy.entry(key) {
            Entry::Occupied(busy) if busy.get().attempt == attempt => {
                self.running -= usize::from(attempt.is_some());
                busy.remove().waiting
            }
            Entry::Occupied(_) | Entry::Vacant(_) => Vec::new(),
        }
    }

    /// Leadership is about to be handed over. Whoever asks for an order meanwhile is sent on to the next leader; attempts are
    /// let come to their end, which only this term can give them.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// It stays after all.
    pub fn stay(&mut self) {
        self.leaving = false;
    }

    /// It is leaving, no attempt runs, and no key is being looked up.
    #[must_use]
    pub fn may_leave(&self) -> bool {
        self.leaving && self.busy.is_empty()
    }

    /// How many attempts run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Rule 14: the running table first. What became of attempts is said behind a barrier, by [`Looked::fates`].
    #[must_use]
    pub fn look(&self, attempts: Vec<AttemptId>) -> Looked {
        let running: BTreeSet<u64> = self.busy.values().filter_map(|busy| busy.attempt).collect();
        let runs = |attempt: &AttemptId| match attempt.term.cmp(&self.settings.term) {
            Ordering::Greater => true,
            Ordering::Equal => attempt.group == self.settings.shard && running.contains(&attempt.counter),
            Ordering::Less => false,
        };
        Looked(attempts.into_iter().map(|attempt| (runs(&attempt), attempt)).collect())
    }
}

impl LeaderSettings {
    fn attempt(&self, slot: Slot, counter: u64) -> AttemptId {
        AttemptId { slot, group: self.shard, term: self.term, counter }
    }

    fn owner(&self, sku: &SkuId) -> GroupId {
        self.owners.owner(sku.slot()).expect("the shard map of a cluster that runs covers every slot")
    }

    /// Rule 13: hold and place share one entry only if every SKU lives in this shard.
    fn is_local(&self, request: &OrderRequest) -> bool {
        request.lines.iter().all(|line| self.owner(&line.sku) == self.shard)
    }

    fn wanted(&self, request: &OrderRequest) -> Vec<ShardHolds> {
        let mut wanted: Vec<ShardHolds> = Vec::new();
        for (sku, quantity) in request.wanted() {
            let shard = self.owner(&sku);
            match wanted.iter_mut().find(|holds| holds.shard == shard) {
                Some(holds) => holds.items.push((sku, quantity)),
                None => {
                    let items = vec![(sku, quantity)];
                    wanted.push(ShardHolds { shard, items, state: AskState::Awaited, unheard: false });
                }
            }
        }
        wanted.sort_unstable_by_key(|holds| holds.shard);
        wanted
    }
}

/// What memory says of an order before the log is asked.
enum Ahead {
    /// SKUs of this shard fall short.
    SoldOut(Rejection),
    /// The key names an order.
    Used,
    /// The store may have a record of the key.
    UsedPerhaps,
    /// Nothing: the order has to be tried.
    Unknown,
}

/// Looks at the SKUs of an order if all live in this shard, then at its key. Nothing of a local order while the state is being
/// changed: apply decides everything of it and holds the machine for milliseconds, so that a look, which saves an order from the
/// log, is not worth the wait.
fn look_ahead(memory: &impl Memory, request: &OrderRequest, local: bool) -> Ahead {
    let used = |machine: &ShardMachine| memory.key_record(machine, &request.user, &request.key);
    let (short, used) = if local {
        let Some(machine) = memory.machine_at_rest() else { return Ahead::Unknown };
        let short = short_of(&machine, request);
        // What is sold out needs no look at its key here: that comes behind a barrier.
        let used = if short.is_some() { Lookup::Absent } else { used(&machine) };
        (short, used)
    } else {
        (None, used(&memory.machine()))
    };
    if let Some(rejection) = short
        && memory.has_lease()
    {
        // Rule 12: only what is short needs the lease; held after the look, it was held at the look.
        return Ahead::SoldOut(rejection);
    }
    match used {
        Lookup::Found(_) => Ahead::Used,
        Lookup::Cold(_) => Ahead::UsedPerhaps,
        Lookup::Absent => Ahead::Unknown,
    }
}

fn short_of(machine: &ShardMachine, request: &OrderRequest) -> Option<Rejection> {
    let short = |sku: &SkuId, asked| match machine.available_units(sku) {
        Lookup::Found(available) if available < asked => Some((sku.clone(), asked, available)),
        _ => None,
    };
    Rejection::short_of(match &request.lines[..] {
        // Most orders have one line: no list is made for them.
        [line] => short(&line.sku, line.quantity).into_iter().collect(),
        _ => request.wanted().iter().filter_map(|(sku, asked)| short(sku, *asked)).collect(),
    })
}

/// Hold and place in one entry (rule 13). Nothing is asked of any other entry, so there is nothing to release.
fn place_local<F: Front>(
    request: Arc<OrderRequest>,
    running: Running<F>,
    caller: F::Caller,
    valid_until: Timestamp,
) -> LeaderEffect<F> {
    let place = Place { attempt: running.attempt(), request, names: Vec::new() };
    let held = MayHold { shards: Vec::new(), valid_until };
    LeaderEffect::Propose(Command::PlaceLocal(Box::new(place)), Proposed::new(running, held, caller))
}

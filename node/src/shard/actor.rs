//! The front door of a led shard, for one term: which attempts run, which keys are busy, which entity actors live.
//!
//! Never restarted within a term: what it knows cannot be rebuilt, so losing it costs the node its leadership (rule 3).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ::metrics::Counter;
use foldhash::fast::RandomState;
use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::{OrderRequest, Place, Release};
use ordergrid_domain::machine::{Lookup, PlacedKey};
use ordergrid_domain::{AttemptId, Command, GroupId, Key, Quantity, Rejection, SkuId, Timestamp, UserId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::callers::PlaceCaller;
use super::landings::Ended;
use super::lead::Lead;
use super::order_actor::{OrderActor, Placing};
use super::proposal::Reply;
use super::skus::Skus;
use super::ticket::{Asked, PlaceTicket, Running};
use super::{ShardMessage, Verdict, answer, refuse};
use crate::metrics;

/// The behaviour; everything that changes is in [`ShardState`].
pub(crate) struct ShardActor;

/// A SKU, how many units of it are asked for, and how many there are.
type Short = (SkuId, Quantity, Quantity);

/// A place that waits for its key.
struct Waiting {
    request: Arc<OrderRequest>,
    caller: PlaceCaller,
}

/// What one term of one shard has in flight.
pub(crate) struct ShardState {
    lead: Arc<Lead>,
    next_attempt: u64,
    running: HashSet<u64, RandomState>,
    busy: HashMap<(UserId, Key), VecDeque<Waiting>, RandomState>,
    /// Orders that came together and need other shards: they share an actor.
    starting: Vec<Placing>,
    skus: Skus,
    leaving: Option<Leaving>,
    admission: metrics::Admission,
    sold_out: Counter,
}

/// Leadership is about to be handed over. Whoever asks for an order meanwhile is sent on to the next leader; an attempt is
/// let come to its end, which only this term can give it.
struct Leaving {
    /// Who waits for the last attempt to end.
    waits: Option<oneshot::Sender<()>>,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = Arc<Lead>;

    async fn pre_start(&self, _myself: ActorRef<ShardMessage>, lead: Arc<Lead>) -> Result<ShardState, ActorProcessingErr> {
        let skus = Skus::new(Arc::clone(&lead));
        let (running, busy) = (HashSet::default(), HashMap::default());
        let (admission, sold_out) = (metrics::Admission::new(), metrics::sold_out_from_memory());
        Ok(ShardState { lead, next_attempt: 1, running, busy, starting: Vec::new(), skus, leaving: None, admission, sold_out })
    }

    async fn post_stop(&self, _myself: ActorRef<ShardMessage>, state: &mut ShardState) -> Result<(), ActorProcessingErr> {
        state.skus.stop();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Place { request, caller, base, renewals, asked } => {
                let first = state.starting.is_empty();
                state.place(&myself, request, caller, base, renewals);
                state.admission.took(asked);
                if first && !state.starting.is_empty() {
                    // What is in the mailbox by now comes along.
                    myself.send_message(ShardMessage::Start).ok();
                }
            }
            ShardMessage::PlaceMany { requests, asked } => {
                let renewals = state.lead.limits.renewals;
                for (request, caller) in requests {
                    state.place(&myself, request, caller, None, renewals);
                }
                state.admission.took(Some(asked));
                state.start_all().await?;
            }
            ShardMessage::Start => state.start_all().await?,
            ShardMessage::Hold { requests } => state.skus.hold(requests).await?,
            ShardMessage::Ended(ended) => state.ended(&myself, ended),
            ShardMessage::GiveUp { attempt, asked } => state.give_up(attempt, asked),
            ShardMessage::Ask { attempts, caller } => state.ask(attempts, caller),
            ShardMessage::Leave(waits) => {
                state.leaving = Some(Leaving { waits: Some(waits) });
                state.tell_if_quiet();
            }
            ShardMessage::Stay => state.leaving = None,
            ShardMessage::Sweep => state.skus.sweep(),
        }
        Ok(())
    }
}

impl ShardState {
    fn place(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        request: Arc<OrderRequest>,
        caller: PlaceCaller,
        base: Option<Timestamp>,
        renewals: u8,
    ) {
        if self.leaving.is_some() {
            caller.send(Err(Failure::refused(Refusal::NoLeader)));
            return;
        }
        let slot = (request.user.clone(), request.key.clone());
        if let Some(waiting) = self.busy.get_mut(&slot) {
            if waiting.len() < self.lead.limits.waiting_per_key {
                waiting.push_back(Waiting { request, caller });
            } else {
                metrics::admission_refused();
                caller.send(Err(Failure::refused(Refusal::Overloaded)));
            }
            return;
        }
        if self.running.len() >= self.lead.limits.running_per_shard {
            metrics::admission_refused();
            caller.send(Err(Failure::refused(Refusal::Overloaded)));
            return;
        }
        let local = self.is_local(&request);
        let (short, used) = self.look_ahead(&request, local);
        if let Some(rejection) = short.and_then(|short| self.sold_out(short)) {
            // Nothing is asked of anybody, so no attempt begins and the key stays free.
            self.sold_out.increment(1);
            refuse::sold_out(&self.lead, request, rejection, caller);
            return;
        }
        if !matches!(used, Lookup::Absent) {
            // Used before, or possibly so: the record may have to be loaded, which this actor does not wait for.
            if self.look_key_up(myself, &request, matches!(used, Lookup::Cold(_))) {
                self.busy.insert(slot, VecDeque::from([Waiting { request, caller }]));
                return;
            }
            self.replay(request, caller);
            return;
        }
        self.busy.insert(slot, VecDeque::new());
        let (running, valid_until) = self.run(myself, &request, base);
        if local {
            self.place_local(request, running, caller, valid_until);
        } else {
            let (lead, wanted) = (Arc::clone(&self.lead), self.wanted(&request));
            self.starting.push(Placing { lead, request, running, caller, wanted, valid_until, renewals });
        }
    }

    /// A cold key is loaded while it counts as busy; then everybody who waits for it tries again.
    fn look_key_up(&self, myself: &ActorRef<ShardMessage>, request: &OrderRequest, cold: bool) -> bool {
        if cold {
            let (replica, shard) = (Arc::clone(&self.lead.replica), myself.clone());
            let (user, key) = (request.user.clone(), request.key.clone());
            let attempt = self.attempt(&user, 0);
            tokio::spawn(async move {
                // A store that fails stops the node; those who wait are told then.
                if replica.load_key(&user, &key).await.is_ok() {
                    shard.send_message(ShardMessage::Ended(vec![Ended { attempt, user, key }])).ok();
                }
            });
        }
        cold
    }

    /// The key names an order: the first answer, or a refusal for another body.
    fn replay(&self, request: Arc<OrderRequest>, caller: PlaceCaller) {
        let replica = Arc::clone(&self.lead.replica);
        tokio::spawn(async move {
            let said = match replica.placed_under(&request).await {
                Ok(Some(first)) => first.map_err(answer::refused_place),
                // The record ran out between the two looks, or the store failed.
                Ok(None) | Err(_) => Err(Failure::refused(Refusal::NotReady)),
            };
            caller.send(said);
        });
    }

    /// Begins an attempt; tells until when its holds are valid.
    fn run(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        request: &OrderRequest,
        base: Option<Timestamp>,
    ) -> (Running, Timestamp) {
        let attempt = self.attempt(&request.user, self.next_attempt);
        self.next_attempt += 1;
        self.running.insert(attempt.counter);
        let (user, key) = (request.user.clone(), request.key.clone());
        let now = self.lead.node.time.now();
        let valid_until = base.map_or(now, |base| base.max(now)).after(self.lead.limits.hold_validity);
        (Running { attempt, user, key, shard: myself.clone(), undecided: false }, valid_until)
    }

    async fn start_all(&mut self) -> Result<(), ActorProcessingErr> {
        let starting = std::mem::take(&mut self.starting);
        if !starting.is_empty() {
            Actor::spawn(None, OrderActor, starting).await?;
        }
        Ok(())
    }

    fn attempt(&self, user: &UserId, counter: u64) -> AttemptId {
        AttemptId { slot: user.slot(), group: self.lead.shard, term: self.lead.term, counter }
    }

    fn wanted(&self, request: &OrderRequest) -> BTreeMap<GroupId, Vec<(SkuId, Quantity)>> {
        let mut wanted: BTreeMap<GroupId, Vec<_>> = BTreeMap::new();
        for (sku, quantity) in request.wanted() {
            wanted.entry(self.lead.node.owner(sku.slot())).or_default().push((sku, quantity));
        }
        wanted
    }

    fn is_local(&self, request: &OrderRequest) -> bool {
        request.lines.iter().all(|line| self.lead.node.owner(line.sku.slot()) == self.lead.shard)
    }

    /// Hold and place in one entry (rule 13).
    fn place_local(&self, request: Arc<OrderRequest>, mut running: Running, caller: PlaceCaller, valid_until: Timestamp) {
        running.undecided = true;
        let place = Place { attempt: running.attempt, request, names: Vec::new() };
        // Nothing was asked of any other entry, so there is nothing to release.
        let asked = Asked { skus: Vec::new(), valid_until };
        let ticket = PlaceTicket { running, asked, caller };
        self.lead.batcher.propose(Command::PlaceLocal(Box::new(place)), Reply::Place(ticket));
    }

    /// What memory knows of an order before the log is asked: SKUs of this shard alone that fall short, and what its key
    /// names. Nothing of a local order while the state is being changed: apply decides everything of it and holds the
    /// machine for milliseconds, so that a look, which saves an order from the log, is not worth the wait.
    fn look_ahead(&self, request: &OrderRequest, local: bool) -> (Option<Vec<Short>>, Lookup<PlacedKey>) {
        let replica = &self.lead.replica;
        let machine = if local { replica.machine_at_rest() } else { Some(replica.machine()) };
        let Some(machine) = machine else { return (None, Lookup::Absent) };
        let short = |(sku, asked)| match machine.available_units(&sku) {
            Lookup::Found(available) if available < asked => Some((sku, asked, available)),
            _ => None,
        };
        let short = local.then(|| request.wanted().into_iter().filter_map(short).collect::<Vec<_>>());
        let short = short.filter(|short| !short.is_empty());
        // What is sold out needs no look at its key here: that comes behind a barrier.
        let used = if short.is_some() { Lookup::Absent } else { replica.key_record(&machine, &request.user, &request.key) };
        (short, used)
    }

    /// Sold out is answered from memory under the lease (rule 12). Only what is short needs the lease; held after the look,
    /// it was held at the look.
    fn sold_out(&self, short: Vec<Short>) -> Option<Rejection> {
        if !self.lead.group.has_lease() {
            return None;
        }
        Some(match <[_; 1]>::try_from(short) {
            Ok([(sku, asked, available)]) => Rejection::OutOfStock { sku, asked, available },
            Err(several) => Rejection::OutOfStocks(several),
        })
    }

    /// Attempts are over and their keys free: whoever waits for a key tries again, in the order of asking.
    fn ended(&mut self, myself: &ActorRef<ShardMessage>, ended: Vec<Ended>) {
        let renewals = self.lead.limits.renewals;
        for Ended { attempt, user, key } in ended {
            self.running.remove(&attempt.counter);
            for Waiting { request, caller } in self.busy.remove(&(user, key)).unwrap_or_default() {
                let again = ShardMessage::Place { request, caller, base: None, renewals, asked: None };
                myself.send_message(again).ok();
            }
        }
        self.tell_if_quiet();
    }

    /// A key is busy for as long as its attempt runs, and while it is looked up.
    fn tell_if_quiet(&mut self) {
        if self.busy.is_empty()
            && let Some(waits) = self.leaving.as_mut().and_then(|leaving| leaving.waits.take())
        {
            // A hand-over that has given up waiting goes on, or back, without.
            waits.send(()).ok();
        }
    }

    fn give_up(&self, attempt: AttemptId, asked: Asked) {
        for (shard, skus) in asked.skus {
            let release = Release { attempt, skus, valid_until: asked.valid_until };
            self.lead.node.release(shard, release);
        }
    }

    /// Rule 14: the running table first, then a barrier, then what is placed.
    fn ask(&self, attempts: Vec<AttemptId>, caller: oneshot::Sender<Vec<Verdict>>) {
        let (term, shard) = (self.lead.term, self.lead.shard);
        let runs = |attempt: &AttemptId| {
            attempt.term > term || (attempt.term == term && attempt.group == shard && self.running.contains(&attempt.counter))
        };
        let known: Vec<_> = attempts.into_iter().map(|attempt| (runs(&attempt), attempt)).collect();
        let lead = Arc::clone(&self.lead);
        tokio::spawn(async move {
            if lead.group.barrier().await.is_err() {
                // No answer is always safe: the SKU asks again.
                return;
            }
            let machine = lead.replica.machine();
            let verdicts = known
                .into_iter()
                .map(|(runs, attempt)| if runs || machine.placed(attempt).is_some() { Verdict::Later } else { Verdict::Gone });
            caller.send(verdicts.collect()).ok();
        });
    }
}

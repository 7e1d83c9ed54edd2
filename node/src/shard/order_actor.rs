//! One actor for the orders of a shard that came together and whose SKUs live in several shards: it asks for every hold
//! in parallel, and then places or gives up, each order by itself (protocol.md, rules 6 to 8, 11, 13).
//!
//! It holds no durable truth. Lost before the place was proposed, its attempts end and the SKUs ask; afterwards the
//! ticket inside the entry answers in its stead.
//!
//! A hold whose shard has no leader just now, or whose answer was lost with a leader that went, is asked for again for a
//! while: the same attempt asks for the same units, so a hold that was granted unheard is found again (rule 9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::{OrderRequest, Place};
use ordergrid_domain::{AttemptId, Command, GroupId, Quantity, Rejection, SkuId, Text, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::callers::PlaceCaller;
use super::holds::{HoldCaller, HoldRequest, HoldResult, HoldSink};
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Asked, PlaceTicket, Running};
use super::{ShardMessage, refuse};

/// Pause before a shard that lost its leader is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// What an actor of orders is told.
pub(crate) enum OrderMessage {
    /// Shards have answered.
    Held(Vec<Held>),
    /// Ask those again that had no leader.
    Again,
}

/// A shard's answer to all holds that it was asked for by an attempt.
pub(crate) struct Held {
    /// For which attempt.
    pub(crate) attempt: AttemptId,
    /// Which shard.
    pub(crate) shard: GroupId,
    /// One result per item asked, in the order asked.
    pub(crate) results: Vec<HoldResult>,
}

/// Everything that placing an order starts with.
pub(crate) struct Placing {
    pub(crate) lead: Arc<Lead>,
    pub(crate) request: Arc<OrderRequest>,
    pub(crate) running: Running,
    pub(crate) caller: PlaceCaller,
    /// What to hold where.
    pub(crate) wanted: BTreeMap<GroupId, Vec<(SkuId, Quantity)>>,
    pub(crate) valid_until: Timestamp,
    /// Times the attempt may be taken anew after `expired`.
    pub(crate) renewals: u8,
}

/// The behaviour; everything that changes is in [`Orders`].
pub(crate) struct OrderActor;

/// Orders being placed.
pub(crate) struct Orders {
    /// By the number of their attempt.
    orders: BTreeMap<u64, OrderState>,
    /// Until when shards are asked again.
    until: Instant,
    /// They will be, in a moment.
    again: bool,
}

/// An order being placed.
struct OrderState {
    placing: Placing,
    waiting: usize,
    names: BTreeMap<SkuId, Text>,
    refusals: Vec<HoldResult>,
    /// What is held or may be, by shard (rule 8). A SKU that refused holds nothing, and is spared the log entry.
    held: Vec<(GroupId, Vec<SkuId>)>,
    /// Shards to ask again, with what they said.
    lost: BTreeMap<GroupId, Vec<HoldResult>>,
    /// Shards of which an answer was lost: whatever they say later, something may be held there.
    unheard: BTreeSet<GroupId>,
}

impl Actor for OrderActor {
    type Msg = OrderMessage;
    type State = Orders;
    type Arguments = Vec<Placing>;

    async fn pre_start(&self, myself: ActorRef<OrderMessage>, placings: Vec<Placing>) -> Result<Orders, ActorProcessingErr> {
        let patience = placings.first().map_or(Duration::ZERO, |placing| placing.lead.limits.hold_patience);
        let mut asking = Asking::new(&myself);
        for placing in &placings {
            for (&shard, items) in &placing.wanted {
                asking.add(placing, shard, items);
            }
        }
        asking.send();
        let of = |placing: Placing| (placing.running.attempt.counter, OrderState::new(placing));
        let orders = placings.into_iter().map(of).collect();
        Ok(Orders { orders, until: Instant::now() + patience, again: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<OrderMessage>,
        message: OrderMessage,
        orders: &mut Orders,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OrderMessage::Held(held) => orders.held(held),
            OrderMessage::Again => orders.ask_again(&myself),
        }
        if orders.orders.is_empty() {
            myself.stop(None);
        } else if !orders.again && orders.orders.values().any(|order| !order.lost.is_empty()) {
            orders.again = true;
            myself.send_after(AGAIN, || OrderMessage::Again);
        }
        Ok(())
    }
}

/// Questions to shards, gathered by shard.
struct Asking<'a> {
    myself: &'a ActorRef<OrderMessage>,
    lead: Option<Arc<Lead>>,
    asked: BTreeMap<GroupId, Vec<(HoldRequest, HoldSink)>>,
}

impl<'a> Asking<'a> {
    fn new(myself: &'a ActorRef<OrderMessage>) -> Self {
        Self { myself, lead: None, asked: BTreeMap::new() }
    }

    fn add(&mut self, placing: &Placing, shard: GroupId, items: &[(SkuId, Quantity)]) {
        let (attempt, valid_until) = (placing.running.attempt, placing.valid_until);
        let request = HoldRequest { attempt, valid_until, items: items.to_vec() };
        let sink = HoldSink::new(items.len(), HoldCaller::Orders(self.myself.clone(), shard, attempt));
        self.asked.entry(shard).or_default().push((request, sink));
        self.lead.get_or_insert_with(|| Arc::clone(&placing.lead));
    }

    fn send(self) {
        if let Some(lead) = self.lead {
            for (shard, requests) in self.asked {
                lead.node.hold(shard, requests);
            }
        }
    }
}

impl Orders {
    fn held(&mut self, held: Vec<Held>) {
        for Held { attempt, shard, results } in held {
            let Some(order) = self.orders.get_mut(&attempt.counter) else { continue };
            order.heard(shard, results);
            self.decide_if_all_have_answered(attempt.counter);
        }
    }

    /// Asks shards that had no leader once more; past the time, or when the order cannot be placed anyway, what they said
    /// stands.
    fn ask_again(&mut self, myself: &ActorRef<OrderMessage>) {
        self.again = false;
        let late = Instant::now() >= self.until;
        let mut asking = Asking::new(myself);
        for order in self.orders.values_mut() {
            let ends = late || !order.refusals.is_empty();
            for (shard, results) in std::mem::take(&mut order.lost) {
                if ends {
                    order.settle(shard, results);
                } else if let Some(items) = order.placing.wanted.get(&shard) {
                    asking.add(&order.placing, shard, items);
                }
            }
        }
        asking.send();
        for counter in self.orders.keys().copied().collect::<Vec<_>>() {
            self.decide_if_all_have_answered(counter);
        }
    }

    fn decide_if_all_have_answered(&mut self, counter: u64) {
        if self.orders.get(&counter).is_some_and(|order| order.waiting == 0)
            && let Some(order) = self.orders.remove(&counter)
        {
            order.decide();
        }
    }
}

impl OrderState {
    fn new(placing: Placing) -> Self {
        let waiting = placing.wanted.len();
        let (names, lost, unheard) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { placing, waiting, names, refusals: Vec::new(), held: Vec::new(), lost, unheard }
    }

    /// A shard has answered, or could not.
    fn heard(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        if results.contains(&HoldResult::Unknown) {
            self.unheard.insert(shard);
        }
        if is_lost(&results) {
            self.lost.insert(shard, results);
        } else {
            self.settle(shard, results);
        }
    }

    /// What a shard said stands.
    fn settle(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        let Some(items) = self.placing.wanted.get(&shard) else { return };
        self.waiting -= 1;
        let unheard = self.unheard.contains(&shard);
        let mut held = Vec::new();
        for ((sku, _), result) in items.iter().zip(results) {
            let may_be = match &result {
                HoldResult::Granted(_) | HoldResult::Unknown => true,
                // What was asked first may yet arrive.
                HoldResult::NoLeader | HoldResult::Overloaded | HoldResult::Refused(_) => unheard,
            };
            if may_be {
                held.push(sku.clone());
            }
            match result {
                HoldResult::Granted(name) => drop(self.names.insert(sku.clone(), name)),
                other => self.refusals.push(other),
            }
        }
        if !held.is_empty() {
            self.held.push((shard, held));
        }
    }

    fn decide(self) {
        let Self { placing, names, refusals, held, .. } = self;
        let asked = Asked { skus: held, valid_until: placing.valid_until };
        if refusals.is_empty() {
            place(placing, asked, &names);
            return;
        }
        if !asked.skus.is_empty() {
            let give_up = ShardMessage::GiveUp { attempt: placing.running.attempt, asked };
            // Without a shard's actor the SKUs will ask.
            placing.running.shard.send_message(give_up).ok();
        }
        if let (Some(now), true) = (expired(&refusals), placing.renewals > 0) {
            renew(placing, now);
            return;
        }
        match final_no(&refusals) {
            Some(rejection) => refuse::after_barrier(placing.lead, placing.request, rejection, placing.caller),
            None => {
                let overloaded = refusals.iter().any(|result| matches!(result, HoldResult::Overloaded));
                let why = if overloaded { Refusal::Overloaded } else { Refusal::HoldTimedOut };
                // Rule 7: no place was proposed, so this is a refusal.
                placing.caller.send(Err(Failure::refused(why)));
            }
        }
    }
}

/// The commit point. From here on the ticket answers.
fn place(placing: Placing, asked: Asked, names: &BTreeMap<SkuId, Text>) {
    let Placing { lead, request, mut running, caller, .. } = placing;
    let names = request.lines.iter().map(|line| names[&line.sku].clone()).collect();
    running.undecided = true;
    let place = Place { attempt: running.attempt, request, names };
    let ticket = PlaceTicket { running, asked, caller };
    lead.batcher.propose(Command::Place(Box::new(place)), Reply::Place(ticket));
}

/// Rule 11: an expired hold is asked for anew, with a valid-until counted from the SKU's own log time.
fn renew(placing: Placing, now: Timestamp) {
    let Placing { lead, request, running, caller, renewals, .. } = placing;
    let shard = running.shard.clone();
    // The old attempt ends, and its key becomes free, before the new one is asked for.
    drop(running);
    let base = now.max(lead.node.time.now());
    // A shard's actor that is gone drops the caller, who is told so.
    shard.send_message(ShardMessage::Place { request, caller, base: Some(base), renewals: renewals - 1, asked: None }).ok();
}

/// Whether a shard is worth asking again: nobody there refused, and somebody could not be reached.
fn is_lost(results: &[HoldResult]) -> bool {
    let lost = |result: &HoldResult| matches!(result, HoldResult::NoLeader | HoldResult::Unknown);
    let answered = |result: &HoldResult| matches!(result, HoldResult::Granted(_)) || lost(result);
    results.iter().any(lost) && results.iter().all(answered)
}

fn expired(refusals: &[HoldResult]) -> Option<Timestamp> {
    let times = refusals.iter().filter_map(|result| match result {
        HoldResult::Refused(Rejection::HoldExpired { now, .. }) => Some(*now),
        _ => None,
    });
    times.max()
}

/// The one refusal to tell, if the SKUs gave any: unknown SKUs before stock, stock before the rest.
fn final_no(refusals: &[HoldResult]) -> Option<Rejection> {
    let mut out_of_stock = Vec::new();
    let mut other = None;
    for result in refusals {
        match result {
            HoldResult::Refused(rejection @ Rejection::NoSuchSku(_)) => return Some(rejection.clone()),
            HoldResult::Refused(Rejection::OutOfStock { sku, asked, available }) => {
                out_of_stock.push((sku.clone(), *asked, *available));
            }
            HoldResult::Refused(Rejection::HoldExpired { .. } | Rejection::HoldEnded) => {}
            HoldResult::Refused(rejection) => other = Some(rejection.clone()),
            _ => {}
        }
    }
    match out_of_stock.len() {
        0 => other,
        1 => out_of_stock.pop().map(|(sku, asked, available)| Rejection::OutOfStock { sku, asked, available }),
        _ => Some(Rejection::OutOfStocks(out_of_stock)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(name: &str) -> SkuId {
        SkuId::new(name).unwrap()
    }

    fn short(name: &str) -> HoldResult {
        let (asked, available) = (Quantity(2), Quantity(1));
        HoldResult::Refused(Rejection::OutOfStock { sku: sku(name), asked, available })
    }

    fn late(now_ms: u64) -> HoldResult {
        let now = Timestamp::from_ms(now_ms);
        HoldResult::Refused(Rejection::HoldExpired { valid_until: Timestamp::from_ms(1), now })
    }

    #[test]
    fn the_refusal_told_is_the_one_a_client_can_act_on() {
        let unknown_sku = || HoldResult::Refused(Rejection::NoSuchSku(sku("X")));
        let several = Rejection::OutOfStocks(vec![(sku("A"), Quantity(2), Quantity(1)), (sku("B"), Quantity(2), Quantity(1))]);
        let HoldResult::Refused(one) = short("A") else { unreachable!("it is refused") };
        #[rustfmt::skip]
        let cases = [
            (vec![short("A")],                                Some(one.clone())),
            (vec![short("A"), short("B")],                    Some(several)),
            (vec![short("A"), unknown_sku()],                 Some(Rejection::NoSuchSku(sku("X")))),
            (vec![HoldResult::Unknown, short("A")],           Some(one)),
            (vec![HoldResult::Unknown],                       None),
            (vec![HoldResult::NoLeader, HoldResult::Overloaded], None),
            (vec![late(5)],                                   None),
            (vec![HoldResult::Refused(Rejection::HoldEnded)], None),
        ];
        for (refusals, expected) in cases {
            assert_eq!(final_no(&refusals), expected, "{refusals:?}");
        }
    }

    #[test]
    fn only_who_could_not_be_reached_is_asked_again() {
        let granted = || HoldResult::Granted(Text::new("lamp").unwrap());
        #[rustfmt::skip]
        let cases = [
            (vec![granted()],                                 false),
            (vec![HoldResult::NoLeader],                      true),
            (vec![HoldResult::Unknown, granted()],            true),
            (vec![HoldResult::NoLeader, short("A")],          false),
            (vec![HoldResult::Overloaded],                    false),
            (vec![HoldResult::NoLeader, HoldResult::Overloaded], false),
        ];
        for (results, again) in cases {
            assert_eq!(is_lost(&results), again, "{results:?}");
        }
    }

    #[test]
    fn an_expired_hold_is_counted_anew_from_the_latest_log_time() {
        assert_eq!(expired(&[late(5), short("A"), late(9)]), Some(Timestamp::from_ms(9)));
        assert_eq!(expired(&[short("A"), HoldResult::Unknown]), None);
    }
}

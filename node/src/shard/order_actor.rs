//! One actor for the orders of a shard that came together and whose SKUs live in several shards: it asks for every hold
//! in parallel, and then places or gives up, each order by itself (placing.md, rules 6 to 8, 11, 13).
//!
//! It holds no durable truth. Lost before the place was proposed, its attempts end and the SKUs ask; afterwards the
//! ticket inside the entry answers in its stead.

use std::collections::BTreeMap;
use std::sync::Arc;

use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::{OrderRequest, Place};
use ordergrid_domain::{AttemptId, Command, GroupId, Quantity, Rejection, SkuId, Text, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::callers::PlaceCaller;
use super::holds::{HoldCaller, HoldRequest, HoldResult, HoldSink};
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Asked, PlaceTicket, Running};
use super::{ShardMessage, refuse};

/// What an actor of orders is told.
pub(crate) enum OrderMessage {
    /// Shards have answered.
    Held(Vec<Held>),
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

/// Orders being placed, by the number of their attempt.
pub(crate) struct Orders(BTreeMap<u64, OrderState>);

/// An order being placed.
struct OrderState {
    placing: Placing,
    waiting: usize,
    names: BTreeMap<SkuId, Text>,
    refusals: Vec<HoldResult>,
    /// What is held or may be, by shard (rule 8). A SKU that refused holds nothing, and is spared the log entry.
    held: Vec<(GroupId, Vec<SkuId>)>,
}

impl Actor for OrderActor {
    type Msg = OrderMessage;
    type State = Orders;
    type Arguments = Vec<Placing>;

    async fn pre_start(&self, myself: ActorRef<OrderMessage>, placings: Vec<Placing>) -> Result<Orders, ActorProcessingErr> {
        let mut asked: BTreeMap<GroupId, Vec<(HoldRequest, HoldSink)>> = BTreeMap::new();
        for Placing { running, wanted, valid_until, .. } in &placings {
            for (&shard, items) in wanted {
                let attempt = running.attempt;
                let request = HoldRequest { attempt, valid_until: *valid_until, items: items.clone() };
                let sink = HoldSink::new(items.len(), HoldCaller::Orders(myself.clone(), shard, attempt));
                asked.entry(shard).or_default().push((request, sink));
            }
        }
        if let Some(placing) = placings.first() {
            for (shard, requests) in asked {
                placing.lead.node.hold(shard, requests);
            }
        }
        Ok(Orders(placings.into_iter().map(|placing| (placing.running.attempt.counter, OrderState::new(placing))).collect()))
    }

    async fn handle(
        &self,
        myself: ActorRef<OrderMessage>,
        message: OrderMessage,
        Orders(orders): &mut Orders,
    ) -> Result<(), ActorProcessingErr> {
        let OrderMessage::Held(held) = message;
        for Held { attempt, shard, results } in held {
            let Some(order) = orders.get_mut(&attempt.counter) else { continue };
            order.held(shard, results);
            if order.waiting == 0
                && let Some(order) = orders.remove(&attempt.counter)
            {
                order.decide();
            }
        }
        if orders.is_empty() {
            myself.stop(None);
        }
        Ok(())
    }
}

impl OrderState {
    fn new(placing: Placing) -> Self {
        let waiting = placing.wanted.len();
        Self { placing, waiting, names: BTreeMap::new(), refusals: Vec::new(), held: Vec::new() }
    }

    fn held(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        let Some(items) = self.placing.wanted.get(&shard) else { return };
        self.waiting -= 1;
        let mut held = Vec::new();
        for ((sku, _), result) in items.iter().zip(results) {
            if matches!(result, HoldResult::Granted(_) | HoldResult::Unknown) {
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
    let base = now.max(lead.node.clock.now());
    // A shard's actor that is gone drops the caller, who is told so.
    shard.send_message(ShardMessage::Place { request, caller, base: Some(base), renewals: renewals - 1, asked: None }).ok();
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
    fn an_expired_hold_is_counted_anew_from_the_latest_log_time() {
        assert_eq!(expired(&[late(5), short("A"), late(9)]), Some(Timestamp::from_ms(9)));
        assert_eq!(expired(&[short("A"), HoldResult::Unknown]), None);
    }
}

//! One actor per order being placed whose SKUs live in several shards: it asks for every hold in parallel, and then
//! places or gives up (placing.md, rules 6 to 8, 11, 13).
//!
//! It holds no durable truth. Lost before the place was proposed, its attempt ends and the SKUs ask; afterwards the
//! ticket inside the entry answers in its stead.

use std::collections::BTreeMap;
use std::sync::Arc;

use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::command::{OrderRequest, Place};
use ordergrid_domain::{Command, GroupId, Order, Quantity, Rejection, SkuId, Text, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::holds::{HoldCaller, HoldRequest, HoldResult, HoldSink};
use super::lead::Lead;
use super::proposal::Reply;
use super::ticket::{Asked, PlaceTicket, Running};
use super::{AnswerTo, ShardMessage, refuse};

/// What an order's actor is told.
pub(crate) enum OrderMessage {
    /// A shard has answered all its holds.
    Held {
        /// Which shard.
        shard: GroupId,
        /// One result per item asked, in the order asked.
        results: Vec<HoldResult>,
    },
}

/// Everything an order's actor starts with.
pub(crate) struct Placing {
    pub(crate) lead: Arc<Lead>,
    pub(crate) request: OrderRequest,
    pub(crate) running: Running,
    pub(crate) caller: AnswerTo<Box<Order>>,
    /// What to hold where.
    pub(crate) wanted: BTreeMap<GroupId, Vec<(SkuId, Quantity)>>,
    pub(crate) valid_until: Timestamp,
    /// Times the attempt may be taken anew after `expired`.
    pub(crate) renewals: u8,
}

/// The behaviour; everything that changes is in [`OrderState`].
pub(crate) struct OrderActor;

/// An order being placed.
pub(crate) struct OrderState {
    placing: Option<Placing>,
    waiting: usize,
    names: BTreeMap<SkuId, Text>,
    refusals: Vec<HoldResult>,
    /// What is held or may be, by shard (rule 8). A SKU that refused holds nothing, and is spared the log entry.
    held: Vec<(GroupId, Vec<SkuId>)>,
}

impl Actor for OrderActor {
    type Msg = OrderMessage;
    type State = OrderState;
    type Arguments = Placing;

    async fn pre_start(&self, myself: ActorRef<OrderMessage>, placing: Placing) -> Result<OrderState, ActorProcessingErr> {
        for (&shard, items) in &placing.wanted {
            let request =
                HoldRequest { attempt: placing.running.attempt, valid_until: placing.valid_until, items: items.clone() };
            let sink = HoldSink::new(items.len(), HoldCaller::Order(myself.clone(), shard));
            placing.lead.node.hold(shard, request, sink);
        }
        let waiting = placing.wanted.len();
        Ok(OrderState { placing: Some(placing), waiting, names: BTreeMap::new(), refusals: Vec::new(), held: Vec::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<OrderMessage>,
        message: OrderMessage,
        state: &mut OrderState,
    ) -> Result<(), ActorProcessingErr> {
        let OrderMessage::Held { shard, results } = message;
        state.held(shard, results);
        if state.waiting == 0 {
            if let Some(placing) = state.placing.take() {
                state.decide(placing);
            }
            myself.stop(None);
        }
        Ok(())
    }
}

impl OrderState {
    fn held(&mut self, shard: GroupId, results: Vec<HoldResult>) {
        let Some(placing) = &self.placing else { return };
        let Some(items) = placing.wanted.get(&shard) else { return };
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

    fn decide(&mut self, placing: Placing) {
        let asked = Asked { skus: std::mem::take(&mut self.held), valid_until: placing.valid_until };
        if self.refusals.is_empty() {
            place(placing, asked, &self.names);
            return;
        }
        if !asked.skus.is_empty() {
            let give_up = ShardMessage::GiveUp { attempt: placing.running.attempt, asked };
            // Without a shard's actor the SKUs will ask.
            placing.running.shard.send_message(give_up).ok();
        }
        if let (Some(now), true) = (expired(&self.refusals), placing.renewals > 0) {
            renew(placing, now);
            return;
        }
        match final_no(&self.refusals) {
            Some(rejection) => refuse::after_barrier(placing.lead, placing.request, rejection, placing.caller),
            None => {
                let overloaded = self.refusals.iter().any(|result| matches!(result, HoldResult::Overloaded));
                let why = if overloaded { Refusal::Overloaded } else { Refusal::HoldTimedOut };
                // Rule 7: no place was proposed, so this is a refusal.
                placing.caller.send(Err(Failure::refused(why))).ok();
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
    shard
        .send_message(ShardMessage::Place { request: Box::new(request), caller, base: Some(base), renewals: renewals - 1 })
        .ok();
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

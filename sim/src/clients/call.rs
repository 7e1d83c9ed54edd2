//! One operation against one node, as the record has it.

use ordergrid_api::client::{Answer, CallError, Client};
use ordergrid_api::wire::{
    AcceptClock, Batch, BatchOrder, BatchResult, Command, CommandBatch, DeliverFulfilment, Order, PlaceBatch, RightClock,
};

use crate::history::{Ask, Ending, Said, Seen};

/// Asks and waits for the end.
pub(super) async fn perform(client: &Client, ask: &Ask) -> Ending {
    if let Some(command) = in_a_batch(ask) {
        return end_of_one(client.command_batch(&CommandBatch { commands: vec![command] }).await);
    }
    match ask {
        Ask::Place(key, order) => end(client.place(order, key).await, Said::Order),
        Ask::PlaceBatch(orders) => end(client.place_batch(&PlaceBatch { orders: orders.clone() }).await, Said::Batch),
        Ask::Pay(key, order, payment) => end(client.pay(*order, payment, key).await, Said::Order),
        Ask::Cancel(key, order, cancel) => end(client.cancel(*order, cancel, key).await, Said::Order),
        Ask::Complete(key, order) => end(client.complete(*order, key).await, Said::Order),
        Ask::Refund(key, order, refund) => end(client.refund(*order, refund, key).await, Said::Order),
        Ask::RefundOutcome(key, refund, outcome) => end(client.refund_outcome(*refund, *outcome, key).await, Said::Order),
        Ask::Pick(key, order, pick) => end(client.pick(*order, pick, key).await, Said::Fulfilment),
        Ask::Ship(key, parcel, ship) => end(client.ship(*parcel, ship, key).await, Said::Order),
        Ask::Deliver(key, parcel) => end(client.deliver(*parcel, key).await, Said::Order),
        Ask::Unpick(key, parcel) => end(client.unpick(*parcel, key).await, Said::Order),
        Ask::PutSku(sku, put) => end(client.put_sku(sku, put).await, Said::Sku),
        Ask::Receive(key, sku, receive) => end(client.receive(sku, receive, key).await, Said::Sku),
        Ask::Adjust(key, sku, adjust) => end(client.adjust(sku, adjust, key).await, Said::Sku),
        Ask::ReadOrder(order) => end(client.order(*order).await, Said::Order),
        Ask::ReadSku(sku) => end(client.sku(sku).await, Said::Sku),
        Ask::ReadHistory(order) => end(client.status_history(*order).await, Said::History),
        Ask::ReadUser(user) => end(client.user_orders(user, 100, None).await, Said::User),
        Ask::Status => end(client.cluster_status().await, |status| Said::Status(Box::new(status))),
        Ask::AcceptWall => {
            let accept = AcceptClock { right: RightClock::Wall, dry_run: false };
            end(client.accept_clock(accept).await, Said::Clock)
        }
        Ask::RepairClock(asked) => end(client.repair_clock(*asked).await, Said::Repair),
        Ask::Reconcile { dry_run } => end(client.reconcile_streams(*dry_run).await, Said::Reconciled),
        Ask::Verify => end(client.cluster_verify().await, |report| Said::Verify(Box::new(report))),
    }
}

/// Some commands, by their keys, travel in a batch of one: to the judges it is all the same.
fn in_a_batch(ask: &Ask) -> Option<Command> {
    let (key, path, body) = match ask {
        Ask::Pay(key, order, payment) => (key, format!("/v1/orders/{order}/payments"), serde_json::to_value(payment)),
        Ask::Cancel(key, order, cancel) => (key, format!("/v1/orders/{order}/cancel"), serde_json::to_value(cancel)),
        Ask::Ship(key, parcel, ship) => (key, format!("/v1/fulfilments/{parcel}/ship"), serde_json::to_value(ship)),
        Ask::Deliver(key, parcel) => {
            (key, format!("/v1/fulfilments/{parcel}/deliver"), serde_json::to_value(DeliverFulfilment {}))
        }
        _ => return None,
    };
    let chosen = key.as_str().bytes().fold(0_u8, u8::wrapping_add).is_multiple_of(3);
    let body = Some(body.expect("requests are JSON"));
    chosen.then(|| Command { path, idempotency_key: key.clone(), if_version: None, body })
}

/// How the only command of a batch ended.
fn end_of_one(result: Result<Answer<Batch>, CallError>) -> Ending {
    let answer = match result {
        Ok(answer) => answer,
        failed => return end(failed, Said::Batch),
    };
    let [result] = <[BatchResult; 1]>::try_from(answer.value.results).expect("one command has one result");
    match (result.order, result.error) {
        (Some(BatchOrder::Whole(order)), None) => {
            let order = Order { created: result.created, replayed_version: result.replayed_version, ..*order };
            let token = result.token.as_deref().and_then(seen);
            Ending::Done { answer: Box::new(Said::Order(order)), token, replayed: result.replayed }
        }
        (None, Some(problem)) if problem.outcome == "refused" => {
            Ending::Refused { status: result.status, code: problem.code, detail: problem.detail }
        }
        (None, Some(problem)) => Ending::Unknown(problem.code),
        both => panic!("a result is a whole order or an error, not {both:?}"),
    }
}

fn end<T>(result: Result<Answer<T>, CallError>, said: impl FnOnce(T) -> Said) -> Ending {
    match result {
        Ok(answer) => {
            let token = answer.token.and_then(|token| seen(token.to_str().ok()?));
            Ending::Done { answer: Box::new(said(answer.value)), token, replayed: answer.replayed }
        }
        Err(CallError::Refused(refusal)) => {
            Ending::Refused { status: refusal.status, code: refusal.code.clone(), detail: refusal.detail.clone() }
        }
        Err(error @ CallError::Unreachable(_)) => {
            Ending::Refused { status: 0, code: error.code().to_owned(), detail: error.to_string() }
        }
        Err(error) => Ending::Unknown(error.to_string()),
    }
}

/// A token, `shard:index`.
fn seen(token: &str) -> Option<Seen> {
    let (group, index) = token.split_once(':')?;
    Some(Seen { group: group.parse().ok()?, index: index.parse().ok()? })
}

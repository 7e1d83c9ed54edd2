//! The last look before a 409: somebody else may have placed the order under the same key meanwhile (rule 6).

use std::sync::Arc;

use futures::FutureExt;
use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::Rejection;
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::machine::{Lookup, ShardMachine};

use super::answer;
use super::callers::PlaceCaller;
use super::lead::Lead;

/// Answers "sold out" on the spot where the lease is barrier enough and memory knows that the key names nothing.
pub(crate) fn sold_out(lead: &Arc<Lead>, request: Arc<OrderRequest>, rejection: Rejection, caller: PlaceCaller) {
    let passed = matches!(lead.group.barrier().now_or_never(), Some(Ok(_)));
    let is_new =
        |machine: &ShardMachine| matches!(lead.replica.key_record(machine, &request.user, &request.key), Lookup::Absent);
    if passed && lead.replica.machine_at_rest().is_some_and(|machine| is_new(&machine)) {
        caller.send(Err(answer::refused_place(rejection)));
        return;
    }
    after_barrier(Arc::clone(lead), request, rejection, caller);
}

/// Answers `rejection` unless, as of a barrier that begins now, the key names an order.
pub(crate) fn after_barrier(lead: Arc<Lead>, request: Arc<OrderRequest>, rejection: Rejection, caller: PlaceCaller) {
    tokio::spawn(async move {
        let said = match lead.group.barrier().await {
            Err(_) => Err(Failure::refused(Refusal::NoLeader)),
            Ok(_) => match lead.replica.placed_under(&request).await {
                Ok(None) => Err(answer::refused_place(rejection)),
                Ok(Some(first)) => first.map_err(answer::refused_place),
                Err(_) => Err(Failure::refused(Refusal::NotReady)),
            },
        };
        caller.send(said);
    });
}

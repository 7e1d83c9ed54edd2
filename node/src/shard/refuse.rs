//! The last look before a 409: somebody else may have placed the order under the same key meanwhile (rule 6).

use std::sync::Arc;

use ordergrid_api::{Failure, Refusal};
use ordergrid_domain::Rejection;
use ordergrid_domain::command::OrderRequest;

use super::answer;
use super::callers::PlaceCaller;
use super::lead::Lead;

/// Answers `rejection` unless, as of a barrier that begins now, the key names an order.
pub(crate) fn after_barrier(lead: Arc<Lead>, request: OrderRequest, rejection: Rejection, caller: PlaceCaller) {
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
